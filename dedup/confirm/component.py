"""A component of candidate pairs confirmed: the best photo first, everything near it against it.

Promises: a member is measured against the photo that would be kept, never against a neighbour of a neighbour; each
photo is decoded once while memory lasts; the result depends on the order of the job alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from dedup.confirm.loading import CannotLoad, Loader
from dedup.confirm.pair import PairMeasurer
from dedup.records import CandidatePair, Inspection, Match, Photo, Relation, Skipped, Source
from dedup.records.placing import (
    WHOLE,
    candidate_placement,
    chain_placements,
    derive_pair,
    placement_of,
    turn_placement,
)
from dedup.settings import MAX_PIXELS


@dataclass(frozen=True, slots=True)
class ComponentJob:
    """Photos with the candidate pairs among them."""

    photos: tuple[Photo, ...]
    """In keeper order, best first."""
    pairs: tuple[CandidatePair, ...]
    max_pixels: int = MAX_PIXELS
    """Larger pictures are not decoded."""
    chosen: frozenset[int] = frozenset()
    """Photos that a person chose to keep: others are held against them, and not against what they were made from."""


@dataclass(frozen=True, slots=True)
class ComponentResult:
    """What came of a job. In a match the presumptive keeper is the left one: the photo that stands first in the
    order, or the one that it was made from, where the pixels tell."""

    matches: tuple[Match, ...]
    inspections: tuple[Inspection, ...]
    """One for every photo that was decoded in full."""
    skipped: tuple[Skipped, ...]


class _Walk:
    """What is settled so far while a component is gone through."""

    def __init__(
        self,
        measurer: PairMeasurer,
        photos: Mapping[int, Photo],
        hypotheses: Mapping[tuple[int, int], list[CandidatePair]],
        near: Mapping[int, set[int]],
        job: ComponentJob,
    ) -> None:
        self.measurer = measurer
        self.photos = photos
        self.hypotheses = hypotheses
        self.near = near
        self.rank = {photo.id: at for at, photo in enumerate(job.photos)}
        self.chosen = job.chosen
        self.matches: list[Match] = []
        self.settled: set[int] = set()
        self.through: dict[int, Match] = {}
        """The match by which the hub came to a photo that no candidate pair joins to it."""
        self._known: dict[tuple[int, int], Match | None] = {}

    def around(self, first: Photo) -> None:
        """Settle everything that is a copy or an edited version of one photo, or of the one it was made from."""
        hub = self._origin(first)
        self.settled.add(hub.id)
        self.through = {}
        asked = {hub.id}
        members: list[int] = []
        unlike: list[int] = []
        waiting = self._ordered(self.near[hub.id] - self.settled)
        while waiting:
            other = waiting.pop(0)
            if other in asked:
                continue
            asked.add(other)
            match = self._measure(hub, self.photos[other])
            if hub.id in self.measurer.loader.failed:
                return
            if match is None or match.relation is Relation.SIMILAR:
                unlike.append(other)
                continue
            self.settled.add(other)
            members.append(other)
            found = self.near[other] - self.settled - asked - set(waiting)
            self.through.update((further, match) for further in found)
            waiting += self._ordered(found)
        self._ask_members(hub, unlike, members)

    def _ask_members(self, hub: Photo, unlike: Iterable[int], members: Collection[int]) -> None:
        """Hold what is not like the hub against the best member that it may be like, if the hub has a border: borders
        around two versions may hide from one another what both share with a third."""
        if hub.fingerprint.trim == WHOLE:
            return
        for other in unlike:
            nearest = next(iter(self._ordered(self.near[other] & set(members))), None)
            if nearest is not None:
                self._measure(self.photos[nearest], self.photos[other])

    def _origin(self, first: Photo) -> Photo:
        """The photo that `first` was made from, as far as copies of the same frame tell; `first` itself if none
        does."""
        hub, seen = first, {first.id}
        while hub.id not in self.chosen:
            earlier = None
            for other in self._ordered(self.near[hub.id] - self.settled - seen):
                if not self.measurer.is_promising_copy(hub, self.photos[other]):
                    continue
                match = self._measure(hub, self.photos[other])
                if match is not None and match.direction == "right-first" and _is_whole(match):
                    earlier = self.photos[other]
                    break
            if earlier is None:
                return hub
            seen.add(earlier.id)
            hub = earlier
        return hub

    def _ordered(self, ids: set[int]) -> list[int]:
        return sorted(ids, key=self.rank.__getitem__)

    def _measure(self, hub: Photo, other: Photo) -> Match | None:
        if (hub.id, other.id) in self._known:
            return self._known[hub.id, other.id]
        key = (min(hub.id, other.id), max(hub.id, other.id))
        proposed = self.hypotheses.get(key) or self._derive(hub, other)
        try:
            match = self.measurer.measure(hub, other, proposed)
        except CannotLoad:
            return None
        self._known[hub.id, other.id] = match
        if match is not None:
            self.matches.append(match)
        return match

    def _derive(self, hub: Photo, other: Photo) -> list[CandidatePair]:
        """Hypotheses for a pair that is no candidate: by the way that led from the one to the other."""
        match = self.through.get(other.id)
        if match is None or hub.id not in (match.left, match.right):
            return [CandidatePair(min(hub.id, other.id), max(hub.id, other.id), Source.DERIVED, 64)]
        first, middle = placement_of(match), match.right
        if match.left != hub.id:
            first, middle = turn_placement(first), match.left
        derived = []
        for pair in self.hypotheses[min(middle, other.id), max(middle, other.id)]:
            then = candidate_placement(pair)
            if pair.left != middle:
                then = turn_placement(then)
            derived.append(derive_pair(hub, other, chain_placements(first, then)))
        return derived


def _is_whole(match: Match) -> bool:
    """Whether it is a copy, or one that was only turned."""
    return match.relation.is_safe or {change.kind for change in match.changes} <= _KEEPS_PICTURE


_KEEPS_PICTURE = {"turned", "mirrored", "resized", "recompressed", "metadata", "profile", "depth"}


def confirm_component(job: ComponentJob) -> ComponentResult:
    """Measure the pairs of a component, as many as a grouping needs.

    The first photo of the order (or the one it was made from) is held against all that have a candidate pair with
    it, and then with what turned out to be a copy or an edited version of it; these are settled. What is left goes
    on in the same way.
    """
    loader = Loader(job.max_pixels)
    measurer = PairMeasurer(loader)
    hypotheses: dict[tuple[int, int], list[CandidatePair]] = defaultdict(list)
    near: dict[int, set[int]] = defaultdict(set)
    for pair in job.pairs:
        hypotheses[pair.left, pair.right].append(pair)
        near[pair.left].add(pair.right)
        near[pair.right].add(pair.left)
    photos = {photo.id: photo for photo in job.photos}
    walk = _Walk(measurer, photos, hypotheses, near, job)
    for photo in job.photos:
        if photo.id not in walk.settled and photo.id not in loader.failed:
            walk.around(photo)
    matches = walk.matches
    inspections = tuple(
        Inspection(photo, damage, round(measurer.enlarged.get(photo, 1.0), 4))
        for photo, damage in sorted(loader.damage.items())
    )
    return ComponentResult(
        tuple(matches), inspections, tuple(loader.failed[key] for key in sorted(loader.failed))
    )
