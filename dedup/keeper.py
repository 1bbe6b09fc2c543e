"""Which photo of a group to keep, and why, in words.

Promises: a total order that depends on nothing but the photos and the evidence (never on the order they come in, nor on
ids); each rule stands alone in `RULES`, strongest first, with the sentence that is shown when it decides.
Does not: open a file, measure, or act. It ranks by what earlier stages found: resolution counts only as far as it
carries detail, a border is not detail, and a later save is not better for being finer.
"""

from __future__ import annotations

import heapq
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dedup.records import Inspection, Match, Photo, PictureInfo, Relation

DETAIL_STEP = 0.88
"""Share of the pixels from which two pictures count as equally detailed (6 % of the side): estimates of the effective
resolution scatter by 3 to 4 % on re-encoded copies, and the smallest resize that people use takes 25 % of the side."""

NATIVE_STEP = 0.66
"""Share of the pixels from which a picture of equal detail counts as the enlarged one: it holds nothing more; a third
or more of its pixels are made up. A soft original and its slightly smaller copy are not told apart by this."""

BELIEVED_GAIN = 1.5
"""Effective pixels of the later picture over the earlier one's up to which evidence of time is believed; the estimate
of an enlarged picture is good to a tenth of the side, and a true gain of detail means that the evidence misleads."""

EXTENT_STEP = 0.985
"""Share of the area from which two frames count as showing the same; alignments are good to half a per cent of it."""

RECORD_STEPS = (8, 20)
"""EXIF tags from which a file counts as having some and a full camera record. Cameras and phones write 25 to 60;
programs that re-save write none to seven (orientation, size, resolution, software, date)."""

QUALITY_CAP = 80
"""Below this JPEG quality a picture counts as poorer even without evidence of its generation; above it, a finer
re-save of a coarser original is as likely as the reverse, so that quality says nothing about which one came first."""

GREYSCALE_LEVELS = 3
"""Largest spread between the channels of a cell of a greyscale picture's colour grid; compression adds up to 2."""

# fmt: off
RAW_EXTENSIONS = frozenset((
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".kdc", ".mef", ".mos",
    ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
))
# fmt: on
SIDECAR_EXTENSIONS = frozenset((".xmp", ".aae", ".pp3", ".thm", ".dop"))
_MOVIE_EXTENSIONS = frozenset((".mov", ".mp4"))
_LIVE_EXTENSIONS = frozenset((".heic", ".heif", ".jpg", ".jpeg"))
_RAW_PARTNERS = frozenset((".jpg", ".jpeg", ".heic", ".heif", ".hif"))


@dataclass(frozen=True, slots=True)
class KeeperFacts:
    """What the rules know beyond the photos themselves; made by `gather_facts`. Keys are content digests or paths."""

    protect: tuple[bytes, ...] = ()
    """Folders (bytes, with a final slash) in which nothing is ever proposed for removal."""
    prefer: tuple[bytes, ...] = ()
    """Folders whose photos are kept first, most preferred first."""
    damage: Mapping[bytes, str] = field(default_factory=dict)
    effective_scale: Mapping[bytes, float] = field(default_factory=dict)
    detail_px: Mapping[bytes, float] = field(default_factory=dict)
    """Effective pixels of the same content, levelled within a family so that equal detail is equal here."""
    stored_px: Mapping[bytes, float] = field(default_factory=dict)
    """Stored pixels of the same content, levelled within a family, more coarsely."""
    generation: Mapping[bytes, int] = field(default_factory=dict)
    """Saves or edits since the earliest known picture of the family: 0 for an original, or nothing known."""
    extent: Mapping[bytes, float] = field(default_factory=dict)
    """How much of the scene the frame shows without borders, relative within a family, levelled."""
    units: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """As `find_units`."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One reason to keep a photo."""

    name: str
    rank: Callable[[Photo, KeeperFacts], float | bytes]
    """Smaller is better."""
    sentence: Callable[[Photo, Sequence[Photo], KeeperFacts], str]
    """Why the first photo is kept rather than the others, all of which lost by this rule."""


def keeper_key(photo: Photo, facts: KeeperFacts) -> tuple[float | bytes, ...]:
    """Sort key: the best photo to keep comes first.

    Total: two photos at different paths never tie, since the last rule is the path itself.
    """
    return tuple(rule.rank(photo, facts) for rule in RULES)


def keeper_reasons(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> tuple[str, ...]:
    """The sentences of the rules that decided between the keeper and each of the others, strongest first.

    A rule is named once, with all the photos it decided against. Photos that rank *before* the keeper (which a
    person chose against our order) contribute nothing.
    """
    lost: dict[int, list[Photo]] = defaultdict(list)
    own = keeper_key(keeper, facts)
    for other in sorted(others, key=lambda photo: photo.file.path_bytes):
        theirs = keeper_key(other, facts)
        decided = next(
            (i for i, pair in enumerate(zip(own, theirs, strict=True)) if pair[0] != pair[1]), None
        )
        if decided is not None and own < theirs:
            lost[decided].append(other)
    return tuple(RULES[i].sentence(keeper, lost[i], facts) for i in sorted(lost))


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
        extent=family.extent,
        units=units or {},
    )


def find_units(paths: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Files that belong together and must move together or not at all.

    A photo's unit: its sidecars (`x.jpg.xmp`, `x.xmp`, `.aae`, `.pp3`, `.thm`), the RAW beside its JPEG or HEIC of the
    same stem and the reverse, and the movie beside a Live Photo.

    Parameters
    ----------
    paths
        All files of the folders, photos or not; names compare without regard to case, within one folder.

    Returns
    -------
    dict
        From photo path to the sorted paths of the other files; photos that stand alone are left out. Names are
        evidence of belonging together only, never of likeness.
    """
    by_stem: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for path in set(paths):
        folder, name = os.path.split(path)
        stem, extension = os.path.splitext(name.casefold())
        by_stem[folder, stem].append((extension, path))
        if extension in SIDECAR_EXTENSIONS and (inner := os.path.splitext(stem))[1]:
            by_stem[folder, inner[0]].append((inner[1] + extension, path))
    units: dict[str, tuple[str, ...]] = {}
    for family in by_stem.values():
        if len(family) < 2:
            continue
        for extension, path in family:
            if extension in SIDECAR_EXTENSIONS or extension in _MOVIE_EXTENSIONS or extension.count(".") > 1:
                continue
            partners = {other for kind, other in family if other != path and _goes_with(extension, kind)}
            if partners:
                units[path] = tuple(sorted(partners, key=os.fsencode))
    return units


def _goes_with(photo: str, other: str) -> bool:
    """Whether a file with extension `other` belongs to a photo with extension `photo` of the same stem."""
    if other in SIDECAR_EXTENSIONS:
        return True
    if other.count(".") == 2:
        return other.rpartition(".")[0] == photo
    if other in _MOVIE_EXTENSIONS:
        return photo in _LIVE_EXTENSIONS
    return (photo in RAW_EXTENSIONS and other in _RAW_PARTNERS) or (
        photo in _RAW_PARTNERS and other in RAW_EXTENSIONS
    )


class _Family:
    """Detail, generation and extent of contents that matches tie together."""

    def __init__(self, contents: Mapping[bytes, Photo], scale: Mapping[bytes, float]) -> None:
        self._contents = contents
        self._scale = scale
        self._links: dict[bytes, dict[bytes, Match]] = defaultdict(dict)
        self._turned: set[tuple[bytes, bytes]] = set()
        self._arrows: set[tuple[bytes, bytes]] = set()
        self.detail_px: dict[bytes, float] = {}
        self.stored_px: dict[bytes, float] = {}
        self.generation: dict[bytes, int] = {}
        self.extent: dict[bytes, float] = {}

    def add(self, left: bytes, right: bytes, match: Match) -> None:
        known = self._links[left].get(right)
        if known is None or _match_key(match) < _match_key(known):
            self._links[left][right] = self._links[right][left] = match
            self._turned.discard((left, right))
            self._turned.add((right, left))
        if match.direction == "left-first":
            self._arrows.add((left, right))
        elif match.direction == "right-first":
            self._arrows.add((right, left))

    def weigh(self) -> None:
        """Fill the three results, one connected family at a time."""
        self._arrows = {arrow for arrow in self._arrows if arrow[::-1] not in self._arrows}
        out_of: dict[bytes, list[bytes]] = defaultdict(list)
        for earlier, later in self._arrows:
            out_of[earlier].append(later)
        seen: set[bytes] = set()
        for digest in self._contents:
            if digest not in seen and digest in self._links:
                side, area = self._measure_from(digest)
                seen.update(side)
                self._weigh_family(side, area, {name: out_of[name] for name in side if name in out_of})

    def _measure_from(self, start: bytes) -> tuple[dict[bytes, float], dict[bytes, float]]:
        """Side length of the same content, and extent of the frame, of each member relative to `start`, as logarithms.

        Along the most reliable links: proven copies before edited versions, fewer steps before more.
        """
        side, area = {}, {}
        queue: list[tuple[int, bytes, bytes, float, float]] = [(0, b"", start, 0.0, 0.0)]
        while queue:
            cost, _, digest, log_side, log_area = heapq.heappop(queue)
            if digest in side:
                continue
            side[digest], area[digest] = log_side, log_area
            for other, match in self._links[digest].items():
                if other in side:
                    continue
                sign = -1.0 if (digest, other) in self._turned else 1.0
                step = sign * math.log(max(match.figures.size_ratio, 1e-3))
                grown = (
                    0.0 if match.relation.is_safe else sign * self._extent_step(digest, other, match, sign)
                )
                price = cost + (1 if match.relation.is_safe else 8)
                path = self._contents[other].file.path_bytes
                heapq.heappush(queue, (price, path, other, log_side + step, log_area + grown))
        return side, area

    def _extent_step(self, digest: bytes, other: bytes, match: Match, sign: float) -> float:
        """Logarithm of how much more of the scene the right picture shows than the left, borders apart."""
        left, right = (digest, other) if sign > 0 else (other, digest)
        a, b, _, d, e, _ = match.figures.alignment
        frames = max(abs(a * e - b * d), 1e-3)
        # One frame for both: what the trimming of a dark or plain edge finds in either is chance.
        if abs(math.log(frames)) < -math.log(EXTENT_STEP):
            return 0.0
        shown = _trimmed_share(self._contents[right]) / _trimmed_share(self._contents[left])
        return math.log(shown) - math.log(frames)

    def _weigh_family(
        self, side: Mapping[bytes, float], area: Mapping[bytes, float], out_of: Mapping[bytes, list[bytes]]
    ) -> None:
        """Order one family by time, then level its detail and its extent."""
        pixels = {name: _content_pixels(self._contents[name]) for name in side}
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
        self.extent.update(
            _levelled({name: math.exp(log_area) for name, log_area in area.items()}, EXTENT_STEP)
        )

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


def _trimmed_share(photo: Photo) -> float:
    x0, y0, x1, y1 = photo.fingerprint.trim
    return max((x1 - x0) * (y1 - y0), 0.05)


def _content_pixels(photo: Photo) -> float:
    """Pixels without uniform borders: a frame does not make a picture bigger."""
    return photo.info.pixels * _trimmed_share(photo)


def _folders(folders: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(os.fsencode(folder).rstrip(b"/") + b"/" for folder in folders)


# The rules. Each rank is small for the better photo.


def _rank_damage(photo: Photo, facts: KeeperFacts) -> float:
    return bool(_damage(photo, facts))


def _damage(photo: Photo, facts: KeeperFacts) -> str:
    return facts.damage.get(photo.digest, "") or photo.info.damage


def _rank_folder(photo: Photo, facts: KeeperFacts) -> float:
    path = photo.file.path_bytes
    if any(path.startswith(folder) for folder in facts.protect):
        return -1
    places = (place for place, folder in enumerate(facts.prefer) if path.startswith(folder))
    return next(places, len(facts.prefer))


def _rank_detail(photo: Photo, facts: KeeperFacts) -> float:
    known = facts.detail_px.get(photo.digest)
    if known is not None:
        return -known
    # Not measured yet: in steps, since trimming a dark edge is good to a few per cent only.
    pixels = _content_pixels(photo) * facts.effective_scale.get(photo.digest, 1.0) ** 2
    return -(DETAIL_STEP ** -round(-math.log(max(pixels, 1.0)) / math.log(DETAIL_STEP)))


def _rank_generation(photo: Photo, facts: KeeperFacts) -> float:
    return facts.generation.get(photo.digest, 0)


def _rank_extent(photo: Photo, facts: KeeperFacts) -> float:
    return -facts.extent.get(photo.digest, 1.0)


def _rank_colour(photo: Photo, facts: KeeperFacts) -> float:  # noqa: ARG001 - all ranks are called alike
    grid = photo.fingerprint.colour
    cells = zip(grid[0::3], grid[1::3], grid[2::3], strict=True)
    return max((max(cell) - min(cell) for cell in cells), default=0) <= GREYSCALE_LEVELS


def _rank_whole(photo: Photo, facts: KeeperFacts) -> float:  # noqa: ARG001
    return -(2 * photo.info.frames + photo.info.has_alpha)


def _rank_record(photo: Photo, facts: KeeperFacts) -> float:  # noqa: ARG001
    return -sum(photo.info.metadata.exif_tags >= step for step in RECORD_STEPS)


def _rank_native(photo: Photo, facts: KeeperFacts) -> float:
    return facts.stored_px.get(photo.digest, 0)


def _rank_container(photo: Photo, facts: KeeperFacts) -> float:
    info = photo.info
    if info.format == "RAW":
        return 0
    if any(
        os.path.splitext(other)[1].lower() in RAW_EXTENSIONS for other in facts.units.get(photo.file.path, ())
    ):
        return 1
    return _container(info)


def _container(info: PictureInfo) -> float:
    """What cameras write comes first; what the web makes of pictures comes last."""
    if info.format in ("HEIF", "HEIC"):
        return 2
    if info.format in ("WEBP", "AVIF"):
        return 4 if info.lossless else 8
    if info.format == "GIF":
        return 7
    if info.lossless:
        return 3
    return 5 if info.format in ("JPEG", "MPO") else 6


def _rank_compression(photo: Photo, facts: KeeperFacts) -> float:
    quality = photo.info.quality
    if not quality:
        return -100
    return -quality if facts.generation.get(photo.digest, 0) else -(min(quality, QUALITY_CAP) // 10)


def _rank_depth(photo: Photo, facts: KeeperFacts) -> float:  # noqa: ARG001
    return -photo.info.bits


def _rank_metadata(photo: Photo, facts: KeeperFacts) -> float:
    """A count, which follows the order of supersets: whoever has all that another has, and more, counts higher."""
    held = _held(photo, facts)
    return -(len(held) + len(photo.info.metadata.keywords) / 1000)


def _held(photo: Photo, facts: KeeperFacts) -> list[str]:
    """What a person would miss, in words."""
    metadata = photo.info.metadata
    sidecars = any(
        os.path.splitext(p)[1].lower() in SIDECAR_EXTENSIONS for p in facts.units.get(photo.file.path, ())
    )
    # A profile of another colour space on a file without any record of a camera is what a conversion leaves behind.
    at_home = "srgb" in photo.info.icc_name.lower().replace(" ", "") or bool(
        metadata.camera or metadata.capture_time
    )
    named = {
        "GPS": metadata.gps,
        "the capture date": metadata.capture_time,
        "the camera": metadata.camera,
        "a rating": metadata.rating,
        "keywords": metadata.keywords,
        "a caption": metadata.caption,
        "a sidecar": sidecars,
        "a colour profile": photo.info.icc_digest and at_home,
    }
    return [words for words, value in named.items() if value]


def _rank_links(photo: Photo, facts: KeeperFacts) -> float:  # noqa: ARG001
    return -photo.file.link_count


def _rank_age(photo: Photo, facts: KeeperFacts) -> float:  # noqa: ARG001
    return photo.file.mtime_ns


def _rank_length(photo: Photo, facts: KeeperFacts) -> float:  # noqa: ARG001
    return len(photo.file.path_bytes)


def _rank_path(photo: Photo, facts: KeeperFacts) -> bytes:  # noqa: ARG001
    return photo.file.path_bytes


# The sentences. They are read after "kept because".


def _who(others: Sequence[Photo]) -> str:
    if len(others) == 1:
        return os.path.basename(others[0].file.path)
    return f"{len(others)} others"


def _is(others: Sequence[Photo], singular: str = "is", plural: str = "are") -> str:
    return f"{_who(others)} {singular if len(others) == 1 else plural}"


def _say_damage(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:  # noqa: ARG001
    cause = f" ({_damage(others[0], facts)})" if len(others) == 1 else ""
    return f"it is sound; {_is(others)} damaged{cause}"


def _say_folder(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:  # noqa: ARG001
    path = keeper.file.path_bytes
    if any(path.startswith(folder) for folder in facts.protect):
        return "it lies in a protected folder"
    return "it lies in a folder you prefer"


def _say_detail(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:
    size = f"{keeper.info.width_px} x {keeper.info.height_px}"
    if all(other.info.pixels < DETAIL_STEP * keeper.info.pixels for other in others):
        return f"it is the largest, {size}; {_is(others)} smaller"
    if any(facts.effective_scale.get(other.digest, 1.0) < 0.9 for other in others):
        return f"it holds the most detail; {_is(others, 'was', 'were')} blurred or enlarged"
    return f"it holds the most detail at {size}; a border or an enlargement does not count"


def _say_generation(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:  # noqa: ARG001
    return f"it came first; {_is(others, 'was', 'were')} saved or edited later"


def _say_extent(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:  # noqa: ARG001
    return f"it shows more of the scene than {_who(others)}"


def _say_colour(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:  # noqa: ARG001
    return f"it is in colour; {_is(others)} not"


def _say_whole(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:  # noqa: ARG001
    if any(keeper.info.frames > other.info.frames for other in others):
        return f"it has all {keeper.info.frames} frames; {_is(others, 'has', 'have')} fewer"
    return f"it keeps its transparency; {_is(others, 'has', 'have')} none"


def _say_record(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:  # noqa: ARG001
    most = max(other.info.metadata.exif_tags for other in others)
    own = keeper.info.metadata.exif_tags
    return f"it carries the camera's full record ({own} tags; {_is(others, 'has', 'have')} {most})"


def _say_native(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:  # noqa: ARG001
    return f"it holds all the detail there is; {_is(others, 'was', 'were')} enlarged"


def _say_container(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:
    if keeper.info.format != "RAW" and _rank_container(keeper, facts) == 1:
        return "its RAW lies beside it"
    names = sorted({other.info.format for other in others})
    return f"it is {_article(keeper.info.format)}, nearer to the original than {' or '.join(names)}"


def _article(name: str) -> str:
    return f"{'an' if name in ('HEIF', 'HEIC', 'AVIF', 'MPO', 'RAW') and name[0] in 'AM' else 'a'} {name}"


def _say_compression(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:  # noqa: ARG001
    own = f" (about quality {keeper.info.quality})" if keeper.info.quality else ""
    return f"it is less compressed{own} than {_who(others)}"


def _say_depth(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:  # noqa: ARG001
    most = max(other.info.bits for other in others)
    return f"it has {keeper.info.bits} bits per sample; {_is(others, 'has', 'have')} {most}"


def _say_metadata(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:
    theirs = set.intersection(*(set(_held(other, facts)) for other in others))
    more = [words for words in _held(keeper, facts) if words not in theirs]
    if not more:
        return f"it carries more metadata than {_who(others)}"
    listed = more[0] if len(more) == 1 else f"{', '.join(more[:-1])} and {more[-1]}"
    return f"it has {listed}; {_is(others, 'lacks', 'lack')} {'that' if len(more) == 1 else 'some of that'}"


def _say_links(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:  # noqa: ARG001
    return f"{keeper.file.link_count} names already share it"


def _say_age(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:  # noqa: ARG001
    day = datetime.fromtimestamp(keeper.file.mtime_ns / 1e9, UTC).date().isoformat()
    return f"it is older ({day}) than {_who(others)}"


def _say_length(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:  # noqa: ARG001
    return f"its path is shorter than that of {_who(others)}"


def _say_path(keeper: Photo, others: Sequence[Photo], facts: KeeperFacts) -> str:  # noqa: ARG001
    return f"nothing sets it apart from {_who(others)}; its path comes first"


RULES: tuple[Rule, ...] = (
    Rule("undamaged", _rank_damage, _say_damage),
    Rule("folder", _rank_folder, _say_folder),
    Rule("detail", _rank_detail, _say_detail),
    Rule("generation", _rank_generation, _say_generation),
    Rule("extent", _rank_extent, _say_extent),
    Rule("colour", _rank_colour, _say_colour),
    Rule("whole", _rank_whole, _say_whole),
    Rule("camera record", _rank_record, _say_record),
    Rule("native size", _rank_native, _say_native),
    Rule("container", _rank_container, _say_container),
    Rule("compression", _rank_compression, _say_compression),
    Rule("depth", _rank_depth, _say_depth),
    Rule("metadata", _rank_metadata, _say_metadata),
    Rule("hard links", _rank_links, _say_links),
    Rule("age", _rank_age, _say_age),
    Rule("path length", _rank_length, _say_length),
    Rule("path", _rank_path, _say_path),
)
"""Strongest first. Detail before generation: a shrunken original is no original any more. Colour, frames and
extent after generation, because they only matter where the evidence is silent."""
