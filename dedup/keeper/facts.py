"""What the rules need to know beyond the photos themselves, out of measured pairs: detail and generation.

Promises: the same facts whatever the order of photos and matches. Does not: rank; each fact is levelled so that what
cannot be told apart is equal.
"""

from __future__ import annotations

import heapq
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dedup.records import Inspection, Match, Photo, Relation

DETAIL_STEP = 0.88
"""Share of the pixels from which two pictures count as equally detailed (6 % of the side): estimates of the effective
resolution scatter by 3 to 4 % on re-encoded copies, and the smallest resize that people use takes 25 % of the side."""

NATIVE_STEP = 0.66
"""Share of the pixels from which a picture of equal detail counts as the enlarged one: it holds nothing more; a third
or more of its pixels are made up. A soft original and its slightly smaller copy are not told apart by this."""

BELIEVED_GAIN = 1.5
"""Effective pixels of the later picture over the earlier one's up to which evidence of time is believed; the estimate
of an enlarged picture is good to a tenth of the side, and a true gain of detail means that the evidence misleads."""

COARSE_QUALITY, COARSE_GAP = 50, 30
"""JPEG quality up to which a source leaves traces that no later save of the same size hides, and how much finer that
later save must be."""

GREYSCALE_LEVELS = 3
"""How far a cell of the colour grid of a greyscale (or evenly tinted) picture is from its tint; compression adds 2."""


@dataclass(frozen=True, slots=True)
class KeeperFacts:
    """What the rules know beyond the photos themselves; made by `gather_facts`. Keys are content digests or paths."""

    protect: tuple[bytes, ...] = ()
    """Folders (bytes, with a final slash) in which nothing is ever proposed for removal."""
    prefer: tuple[bytes, ...] = ()
    """Folders whose photos are kept first, most preferred first."""
    chosen: Mapping[bytes, tuple[int, str]] = field(default_factory=dict)
    """Contents that a person chose to keep: the place of the choice among all choices, and the path pointed at.
    Not known from photos and matches: whoever holds the decisions puts them in."""
    damage: Mapping[bytes, str] = field(default_factory=dict)
    effective_scale: Mapping[bytes, float] = field(default_factory=dict)
    detail_px: Mapping[bytes, float] = field(default_factory=dict)
    """Effective pixels of the same content, levelled within a family so that equal detail is equal here."""
    stored_px: Mapping[bytes, float] = field(default_factory=dict)
    """Stored pixels of the same content, levelled within a family, more coarsely."""
    generation: Mapping[bytes, int] = field(default_factory=dict)
    """Saves or edits since the earliest known picture of the family: 0 for an original, or nothing known."""
    copies: Mapping[bytes, int] = field(default_factory=dict)
    """Files of the same content and of its proven copies, itself included; of families with several versions."""
    units: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """As `find_units`."""


def gather_facts(
    photos: Iterable[Photo],
    matches: Iterable[Match] = (),
    inspections: Mapping[int, Inspection] | None = None,
    *,
    protect: Sequence[str] = (),
    prefer: Sequence[str] = (),
    units: Mapping[str, tuple[str, ...]] | None = None,
) -> KeeperFacts:
    """Turn measurements into what the rules need.

    Parameters
    ----------
    photos
        All photos that may stand in a group; files of equal content share what is known about either.
    matches
        Measured so far; without any, photos are ranked by what their headers and fingerprints say.
    inspections
        By photo id, as far as known.
    protect, prefer
        Absolute folders.
    units
        As `find_units`.

    Notes
    -----
    Evidence of direction is a set of arrows between contents; contradicting arrows cancel each other, and an arrow from
    a picture to one that truly holds more detail is not believed: nothing gains detail by being saved again.
    """
    by_id = {photo.id: photo for photo in sorted(photos, key=lambda photo: photo.file.path_bytes)}
    contents: dict[bytes, Photo] = {}
    for photo in by_id.values():
        contents.setdefault(photo.digest, photo)
    files = Counter(photo.digest for photo in by_id.values())
    damage: dict[bytes, str] = {}
    scale: dict[bytes, float] = {}
    for found in (inspections or {}).values():
        if (seen := by_id.get(found.photo_id)) is not None:
            scale[seen.digest] = found.effective_scale
            if found.damage:
                damage[seen.digest] = found.damage
    family = _Family(contents, scale)
    for match in matches:
        left, right = by_id.get(match.left), by_id.get(match.right)
        if left and right and left.digest != right.digest and match.relation is not Relation.SIMILAR:
            family.add(left.digest, right.digest, match)
    family.weigh()
    return KeeperFacts(
        protect=_folders(protect),
        prefer=_folders(prefer),
        damage=damage,
        effective_scale=scale,
        detail_px=family.detail_px,
        stored_px=family.stored_px,
        generation=family.generation,
        copies=family.count_copies(files),
        units=units or {},
    )


class _Family:
    """Detail and generation of contents that matches tie together."""

    def __init__(self, contents: Mapping[bytes, Photo], scale: Mapping[bytes, float]) -> None:
        self._contents = contents
        self._scale = scale
        self._links: dict[bytes, dict[bytes, Match]] = defaultdict(dict)
        self._turned: set[tuple[bytes, bytes]] = set()
        self._arrows: set[tuple[bytes, bytes]] = set()
        self.detail_px: dict[bytes, float] = {}
        self.stored_px: dict[bytes, float] = {}
        self.generation: dict[bytes, int] = {}

    def add(self, left: bytes, right: bytes, match: Match) -> None:
        known = self._links[left].get(right)
        if known is None or _match_key(match) < _match_key(known):
            self._links[left][right] = self._links[right][left] = match
            self._turned.discard((left, right))
            self._turned.add((right, left))
        arrow = self._arrow(left, right, match)
        if arrow is not None:
            self._arrows.add(arrow)

    def _arrow(self, left: bytes, right: bytes, match: Match) -> tuple[bytes, bytes] | None:
        """From the earlier to the later picture, where a pair tells."""
        a, b = self._contents[left], self._contents[right]
        if match.direction != "unknown":
            earlier, later = (left, right) if match.direction == "left-first" else (right, left)
            # A place in colour, pasted into a greyscale picture, does not make that one a greyscale version of it.
            toned = any(change.kind == "greyscale" for change in match.changes)
            return None if toned and is_greyscale(self._contents[earlier]) else (earlier, later)
        if (
            match.relation.is_safe
            and a.info.lossless != b.info.lossless
            and "GIF" not in (a.info.format, b.info.format)
        ):
            # No trace of the lossy one's compression was found in the lossless one.
            return (left, right) if a.info.lossless else (right, left)
        if match.relation.is_safe and a.info.pixels == b.info.pixels and a.info.quality and b.info.quality:
            # So coarse a source leaves traces that cannot be overlooked, and none were found.
            coarser, finer = sorted((left, right), key=lambda name: self._contents[name].info.quality)
            low, high = self._contents[coarser].info.quality, self._contents[finer].info.quality
            if low <= COARSE_QUALITY and high >= low + COARSE_GAP:
                return (finer, coarser)
        return None

    def weigh(self) -> None:
        """Fill the three results, one connected family at a time."""
        self._arrows = {arrow for arrow in self._arrows if arrow[::-1] not in self._arrows}
        out_of: dict[bytes, list[bytes]] = defaultdict(list)
        for earlier, later in sorted(self._arrows):
            out_of[earlier].append(later)
        seen: set[bytes] = set()
        for digest in self._contents:
            if digest not in seen and digest in self._links:
                side = self._measure_from(digest)
                seen.update(side)
                self._weigh_family(side, {name: out_of[name] for name in side if name in out_of})

    def count_copies(self, files: Mapping[bytes, int]) -> dict[bytes, int]:
        """Files of each version: of all contents that proven copies tie together."""
        found: dict[bytes, int] = {}
        for start in self._links:
            if start in found:
                continue
            version, queue = {start}, [start]
            while queue:
                for other, match in self._links[queue.pop()].items():
                    if match.relation.is_safe and other not in version:
                        version.add(other)
                        queue.append(other)
            found.update(dict.fromkeys(version, sum(files[digest] for digest in version)))
        return found

    def _measure_from(self, start: bytes) -> dict[bytes, float]:
        """Logarithm of the side length of the same content in each member, relative to `start`.

        Along the most reliable links: proven copies before edited versions, fewer steps before more.
        """
        side: dict[bytes, float] = {}
        queue: list[tuple[int, bytes, bytes, float]] = [(0, b"", start, 0.0)]
        while queue:
            cost, _, digest, log_side = heapq.heappop(queue)
            if digest in side:
                continue
            side[digest] = log_side
            for other, match in self._links[digest].items():
                if other in side:
                    continue
                step = math.log(max(match.figures.size_ratio, 1e-3))
                if (digest, other) in self._turned:
                    step = -step
                price = cost + (1 if match.relation.is_safe else 8)
                path = self._contents[other].file.path_bytes
                heapq.heappush(queue, (price, path, other, log_side + step))
        return side

    def _weigh_family(self, side: Mapping[bytes, float], out_of: Mapping[bytes, list[bytes]]) -> None:
        """Order one family by time, then level its detail."""
        pixels = {name: content_pixels(self._contents[name]) for name in side}
        anchor = max(side, key=lambda name: (pixels[name], self._contents[name].file.path_bytes))
        unit = pixels[anchor] / math.exp(2 * side[anchor])
        stored = {name: unit * math.exp(2 * log_side) for name, log_side in side.items()}
        effective = {name: px * self._scale.get(name, 1.0) ** 2 for name, px in stored.items()}
        believed: dict[bytes, list[bytes]] = {}
        for earlier, laters in out_of.items():
            believed[earlier] = [
                later
                for later in laters
                # Same stored size: what looks like more detail in the later one is noise or sharpening.
                if stored[earlier] >= DETAIL_STEP * stored[later]
                or effective[later] <= BELIEVED_GAIN * effective[earlier]
            ]
        order = self._in_time(side, believed)
        for name in order:
            self.generation.setdefault(name, 0)
            for later in believed.get(name, ()):
                if order[later] > order[name]:
                    self.generation[later] = max(self.generation.get(later, 0), self.generation[name] + 1)
                    effective[later] = min(effective[later], effective[name])
        self.detail_px.update(_levelled(effective, DETAIL_STEP))
        self.stored_px.update(_levelled(stored, NATIVE_STEP))

    def _in_time(self, names: Iterable[bytes], out_of: Mapping[bytes, list[bytes]]) -> dict[bytes, int]:
        """Place of each in an order that follows the arrows; a circle of arrows is cut at its first path."""
        waiting = dict.fromkeys(names, 0)
        for laters in out_of.values():
            for later in laters:
                waiting[later] += 1
        key = {name: self._contents[name].file.path_bytes for name in waiting}
        ready = [(key[name], name) for name, count in waiting.items() if count == 0]
        heapq.heapify(ready)
        order: dict[bytes, int] = {}
        while len(order) < len(waiting):
            if not ready:
                heapq.heappush(ready, min((key[name], name) for name in waiting if name not in order))
            _, name = heapq.heappop(ready)
            if name in order:
                continue
            order[name] = len(order)
            for later in out_of.get(name, ()):
                waiting[later] -= 1
                if waiting[later] == 0:
                    heapq.heappush(ready, (key[later], later))
        return order


def _match_key(match: Match) -> tuple[int, tuple[float, ...]]:
    """Strongest relation first, then by figures, so that the choice among several measurements is always the same."""
    figures = match.figures
    return (
        list(Relation).index(match.relation),
        (figures.rms_levels, -figures.correlation, figures.size_ratio),
    )


def _levelled(values: Mapping[bytes, float], step: float) -> dict[bytes, float]:
    """Values with those that lie within `step` of the best of their level set equal to it."""
    levelled: dict[bytes, float] = {}
    top = 0.0
    for name in sorted(values, key=lambda name: (-values[name], name)):
        if not levelled or values[name] < step * top:
            top = values[name]
        levelled[name] = top
    return levelled


def is_greyscale(photo: Photo) -> bool:
    """Whether most of a picture has no colour of its own, by its colour grid: greyscale, or tints of one colour."""
    import numpy as np

    cells = np.frombuffer(photo.fingerprint.colour, np.uint8).reshape(-1, 3).astype(np.float64)
    if not len(cells):
        return False
    luma = cells.mean(axis=1)
    centred = luma - luma.mean()
    chroma = cells - luma[:, None]
    chroma -= chroma.mean(axis=0)
    slope = (chroma * centred[:, None]).sum(axis=0) / max(float((centred * centred).sum()), 1e-6)
    rest = np.abs(chroma - slope * centred[:, None]).max(axis=1)
    return float(np.median(rest)) <= GREYSCALE_LEVELS


def _trimmed_share(photo: Photo) -> float:
    x0, y0, x1, y1 = photo.fingerprint.trim
    return max((x1 - x0) * (y1 - y0), 0.05)


def content_pixels(photo: Photo) -> float:
    """Pixels without uniform borders: a frame does not make a picture bigger."""
    return photo.info.pixels * _trimmed_share(photo)


def _folders(folders: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(os.fsencode(folder).rstrip(b"/") + b"/" for folder in folders)
