"""A component of candidate pairs confirmed: the best photo first, everything near it against it.

Promises: a member is measured against the photo that would be kept, never against a neighbour of a neighbour; each
photo is decoded once while memory lasts; the result depends on the order of the job alone.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from dedup.confirm.loading import CannotLoad, Loader
from dedup.confirm.pair import PairMeasurer
from dedup.records import CandidatePair, Inspection, Match, Photo, Relation, Skipped, Source


@dataclass(frozen=True, slots=True)
class ComponentJob:
    """Photos with the candidate pairs among them."""

    photos: tuple[Photo, ...]
    """In keeper order, best first."""
    pairs: tuple[CandidatePair, ...]


@dataclass(frozen=True, slots=True)
class ComponentResult:
    """What came of a job. In a match the photo that stands first in the order is the left one."""

    matches: tuple[Match, ...]
    inspections: tuple[Inspection, ...]
    """One for every photo that was decoded in full."""
    skipped: tuple[Skipped, ...]


def confirm_component(job: ComponentJob) -> ComponentResult:
    """Measure the pairs of a component, as many as a grouping needs.

    The first photo of the order is held against all that have a candidate pair with it, and then with what turned out to be
    a copy or an edited version of it; these are settled. What is left goes on in the same way.
    """
    loader = Loader()
    measurer = PairMeasurer(loader)
    rank = {photo.id: at for at, photo in enumerate(job.photos)}
    hypotheses: dict[tuple[int, int], list[CandidatePair]] = defaultdict(list)
    near: dict[int, set[int]] = defaultdict(set)
    for pair in job.pairs:
        hypotheses[pair.left, pair.right].append(pair)
        near[pair.left].add(pair.right)
        near[pair.right].add(pair.left)
    photos = {photo.id: photo for photo in job.photos}
    matches: list[Match] = []
    settled: set[int] = set()
    for hub in job.photos:
        if hub.id in settled or hub.id in loader.failed:
            continue
        settled.add(hub.id)
        asked = {hub.id}
        waiting = sorted(near[hub.id] - settled, key=rank.__getitem__)
        while waiting:
            other = photos[waiting.pop(0)]
            if other.id in asked:
                continue
            asked.add(other.id)
            key = (min(hub.id, other.id), max(hub.id, other.id))
            proposed = hypotheses.get(key) or [CandidatePair(*key, Source.DERIVED, 64)]
            try:
                match = measurer.measure(hub, other, proposed)
            except CannotLoad:
                if hub.id in loader.failed:
                    break
                continue
            if match is None:
                continue
            matches.append(match)
            if match.relation is Relation.SIMILAR:
                continue
            settled.add(other.id)
            further = near[other.id] - settled - asked
            waiting += sorted(further - set(waiting), key=rank.__getitem__)
    inspections = tuple(
        Inspection(photo, damage, round(measurer.enlarged.get(photo, 1.0), 4))
        for photo, damage in sorted(loader.damage.items())
    )
    return ComponentResult(
        tuple(matches), inspections, tuple(loader.failed[key] for key in sorted(loader.failed))
    )
