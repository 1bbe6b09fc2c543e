"""The grouping stage: measured pairs to groups, one connected component at a time.

Promises: only components that something happened to are grouped again; their groups are the same as if everything were;
what a grouping wants measured is measured before it counts. Does not: hold more than one component's photos.

Ids: within a component a file's id is its place in the order of (digest, path), for the reason given in `matching`.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dedup.catalogue import Catalogue, PackedGroup, PackedPair, pack_group, pack_pair
from dedup.cluster import make_groups
from dedup.keeper import KeeperFacts, gather_facts, keeper_key, keeper_reasons
from dedup.pipeline.components import Components, Edge, Numbers, as_edges, split_components
from dedup.pipeline.matching import Columns, Confirmer, Contents, Wanted
from dedup.pipeline.places import Progress, absolute_folder
from dedup.records import (
    Decision,
    DuplicateGroup,
    GroupingResult,
    Inspection,
    Match,
    Photo,
    Relation,
    Verdict,
)
from dedup.settings import Settings

MOST_ROUNDS = 50
"""Rounds of grouping and measuring what it wants; real libraries need two or three. After that groups stand as they
are, which is right but may be smaller than they could be."""


@dataclass(slots=True)
class Grouped:
    """Groups ready to be stored, and all files whose earlier groups they replace."""

    groups: list[PackedGroup]
    similar: list[PackedPair]
    hubs: list[int]
    files: set[int]


@dataclass(frozen=True, slots=True)
class Preferences:
    """What decides between keepers beside the photos."""

    protect: tuple[str, ...]
    prefer: tuple[str, ...]
    units: Mapping[str, tuple[str, ...]]
    chosen: Mapping[bytes, tuple[int, str]]
    """As `KeeperFacts.chosen`."""
    parted: Mapping[bytes, frozenset[bytes]]
    """Contents that are never in one group, both ways; a content parted from itself has files that are all wanted."""

    def order(self, photos: Sequence[Photo]) -> list[Photo]:
        """Photos best first, before anything is measured."""
        facts = self.facts(photos, (), {})
        return sorted(photos, key=lambda photo: keeper_key(photo, facts))

    def facts(
        self, photos: Iterable[Photo], matches: Iterable[Match], inspections: Mapping[int, Inspection]
    ) -> KeeperFacts:
        """What the rules for keepers need."""
        facts = gather_facts(
            photos, matches, inspections, protect=self.protect, prefer=self.prefer, units=self.units
        )
        return replace(facts, chosen=self.chosen)


class Grouper:
    """Groups the photos of one scope."""

    def __init__(
        self,
        catalogue: Catalogue,
        confirmer: Confirmer,
        carriers: Columns,
        preferences: Preferences,
    ) -> None:
        """`carriers`: all files within the scope, as contents and files."""
        self.catalogue = catalogue
        self.confirmer = confirmer
        self.contents: Contents = confirmer.contents
        self.preferences = preferences
        self._several = self.contents.further(carriers)
        self._low = self._high = np.empty(0, np.int64)
        """Pairs that were measured and are nothing, in the order of the lower ones."""

    def files_of(self, content: int) -> list[int]:
        """All files of a content within the scope."""
        return self._several.get(content) or [self.contents.file(content)]

    def unlike(self, content: int) -> list[int]:
        """Higher contents that this one was measured against and has nothing to do with."""
        start, end = bisect_left(self._low.data, content), bisect_right(self._low.data, content)
        found: list[int] = self._high[start:end].tolist()
        return found

    def run(self, touched: set[int] | None, progress: Progress) -> Grouped:
        """Group all components that hold a touched content, or all of them.

        Parameters
        ----------
        touched
            Contents to which something happened; None for all. What measuring changes is added.
        """
        result = Grouped([], [], [], set())
        finished = array("q")
        """Contents whose groups are in `result`."""
        for last in range(MOST_ROUNDS, -1, -1):
            components = self._components(touched, finished)
            progress("group", 0, len(components))
            wanted: list[Wanted] = []
            for number, (members, edges) in enumerate(components, start=1):
                component = _Component(self, members, edges)
                asks = component.wants() if last else []
                if asks:
                    wanted.extend(asks)
                else:
                    component.pack(result)
                    finished.extend(members)
                progress("group", number, len(components))
            if not wanted:
                return result
            if not self.confirmer.confirm_wanted(wanted):
                # Nothing of it can be measured (a file is not there): the groups stand without.
                for members, edges in self._components(touched, finished):
                    _Component(self, members, edges).pack(result)
                return result
        return result

    def _components(self, touched: set[int] | None, finished: array[int]) -> _Chosen:
        """The components that are to be grouped, in the order of their smallest keys."""
        low, high, _, kind = (np.asarray(column, dtype=np.int64) for column in self.catalogue.match_columns())
        here = self.contents.are_here(low) & self.contents.are_here(high)
        unlike = here & (kind == 0)
        order = np.lexsort((high[unlike], low[unlike]))
        self._low, self._high = low[unlike][order], high[unlike][order]
        like = here & (kind > 0)
        # A content with several files is a group by itself.
        several = np.fromiter(self._several, np.int64, len(self._several))
        parts = split_components(
            as_edges(
                np.repeat([0, 1], [int(like.sum()), len(several)]),
                np.concatenate([low[like], several]),
                np.concatenate([high[like], several]),
            )
        )
        if not len(parts):
            return _Chosen(parts, np.empty(0, np.int64))
        starts = parts.starts[:-1]
        chosen = ~_any_of(parts.nodes, np.array(finished, dtype=np.int64), starts)
        if touched is not None:
            chosen &= _any_of(parts.nodes, np.fromiter(touched, np.int64, len(touched)), starts)
        smallest = np.minimum.reduceat(self.contents.keys(parts.nodes), starts)
        numbers = np.flatnonzero(chosen)
        return _Chosen(parts, numbers[np.argsort(smallest[numbers])])


def _any_of(nodes: Numbers, sought: Numbers, starts: Numbers) -> NDArray[np.bool_]:
    """For each component whether one of its nodes is sought."""
    return np.logical_or.reduceat(np.isin(nodes, sought), starts)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Some of the components, each put together when its turn comes."""

    parts: Components
    numbers: Numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[tuple[list[int], list[Edge]]]:
        for number in self.numbers.tolist():
            yield self.parts.members(number), self.parts.inside(number)


class _Component:
    """One component: its photos under local ids, what was measured, and the groups that follow."""

    def __init__(self, grouper: Grouper, members: Collection[int], edges: Iterable[Edge]) -> None:
        self.grouper = grouper
        catalogue = grouper.catalogue
        content_of = {file: content for content in members for file in grouper.files_of(content)}
        found = [photo for _, photo in catalogue.photos_of_files(list(content_of), grey=False)]
        found.sort(key=lambda photo: (photo.digest, photo.file.path_bytes))
        self.file_at = {place: photo.id for place, photo in enumerate(found, start=1)}
        self.photos = {place: replace(photo, id=place) for place, photo in enumerate(found, start=1)}
        self.first_at: dict[int, int] = {}
        """The first local id of each content."""
        self.content_at: dict[int, int] = {}
        for place, file in self.file_at.items():
            self.content_at[place] = content_of[file]
            self.first_at.setdefault(content_of[file], place)
        first_at = self.first_at
        pairs = sorted({(low, high) for _, low, high in edges if low != high})
        self.matches = [
            replace(match, left=first_at[match.left], right=first_at[match.right])
            for match in catalogue.matches(pairs)
        ]
        self.facts = self._gather()
        # What was measured and is nothing, and what reads the same from both sides, is not asked for again.
        plain = (Relation.SAME_PIXELS, Relation.SIMILAR)
        asked = {
            (first_at[low], first_at[high])
            for low in members
            for high in grouper.unlike(low)
            if high in first_at
        }
        asked |= {(m.left, m.right) for m in self.matches if m.relation in plain}
        self.asked = asked | {(right, left) for left, right in asked}
        self.result = self._group()

    def _gather(self) -> KeeperFacts:
        preferences = self.grouper.preferences
        inspections = {
            self.first_at[content]: replace(entry, photo_id=self.first_at[content])
            for content, entry in self.grouper.catalogue.inspections_of(self.first_at).items()
        }
        return preferences.facts(self.photos.values(), self.matches, inspections)

    def _group(self) -> GroupingResult:
        """One result, or several joined: what people parted is grouped apart."""
        waiting = self._wanted_apart(list(self.photos.values()))
        results = []
        while waiting:
            photos = waiting.pop()
            result = self._group_some(photos)
            aside = {digest for group in result.groups for digest in self._parted_in(group)}
            if aside:
                waiting.append([photo for photo in photos if photo.digest in aside])
                waiting.append([photo for photo in photos if photo.digest not in aside])
            else:
                results.append(result)
        return results[0] if len(results) == 1 else _joined(results)

    def _wanted_apart(self, photos: list[Photo]) -> list[list[Photo]]:
        """The photos, but of a content that is parted from itself only the first file: the others are no duplicates."""
        parted = self.grouper.preferences.parted
        first: dict[bytes, Photo] = {}
        for photo in photos:
            first.setdefault(photo.digest, photo)
        return [
            [
                photo
                for photo in photos
                if photo is first[photo.digest] or photo.digest not in parted.get(photo.digest, ())
            ]
        ]

    def _parted_in(self, group: DuplicateGroup) -> set[bytes]:
        """Contents of a group that must leave it, so that no two remain that people parted; the keeper stays."""
        parted = self.grouper.preferences.parted
        stay, leave = {group.keeper.digest}, set()
        members = sorted(
            (member.photo for member in group.members), key=lambda photo: keeper_key(photo, self.facts)
        )
        for photo in members:
            if photo.digest in stay or photo.digest in leave:
                continue
            if stay.isdisjoint(parted.get(photo.digest, ())):
                stay.add(photo.digest)
            else:
                leave.add(photo.digest)
        return leave

    def _group_some(self, photos: Sequence[Photo]) -> GroupingResult:
        facts = self.facts
        preferences = self.grouper.preferences
        digest_of = {photo.id: photo.digest for photo in photos}
        matches = [
            match
            for match in self.matches
            if match.left in digest_of
            and match.right in digest_of
            and digest_of[match.left] not in preferences.parted.get(digest_of[match.right], ())
        ]
        ids_of: dict[bytes, list[int]] = defaultdict(list)
        for photo in photos:
            ids_of[photo.digest].append(photo.id)
        apart = {
            (one, other)
            for digest, ids in ids_of.items()
            for theirs in preferences.parted.get(digest, ())
            for one in ids
            for other in ids_of.get(theirs, ())
        }
        return make_groups(
            {photo.id: photo for photo in photos},
            matches,
            lambda photo: keeper_key(photo, facts),
            reasons=lambda keeper, others: keeper_reasons(keeper, others, facts),
            unit_files=lambda photo: preferences.units.get(photo.file.path, ()),
            asked=self.asked | apart,
        )

    def wants(self) -> list[Wanted]:
        """What this component wants measured, by keys of contents."""
        key = self.grouper.contents.key
        wanted = []
        for pair, keeper in zip(self.result.wanted, self.result.wanted_keepers, strict=True):
            left, right = (key(self.content_at[end]) for end in (pair.left, pair.right))
            first = key(self.content_at[keeper])
            wanted.append(Wanted(replace(pair, left=left, right=right), first))
        return [want for want in wanted if self.grouper.confirmer.can_measure(want)]

    def pack(self, result: Grouped) -> None:
        """Add the groups to `result`, by file ids."""
        file_of = self.file_at.__getitem__
        result.groups += [pack_group(group, file_of) for group in self.result.groups]
        result.similar += [pack_pair(pair.match, file_of) for pair in self.result.similar]
        by_path = {photo.file.path: self.file_at[place] for place, photo in self.photos.items()}
        result.hubs += [by_path[path] for path in self.result.hubs]
        result.files.update(self.file_at.values())


def _joined(results: Sequence[GroupingResult]) -> GroupingResult:
    """Results of parts that have no photo in common, as one."""
    groups = [group for result in results for group in result.groups]
    similar = [pair for result in results for pair in result.similar]
    return GroupingResult(
        groups=tuple(sorted(groups, key=lambda group: group.keeper.file.path_bytes)),
        similar=tuple(
            sorted(similar, key=lambda pair: (pair.left.file.path_bytes, pair.right.file.path_bytes))
        ),
        hubs=tuple(sorted((hub for result in results for hub in result.hubs), key=os.fsencode)),
        wanted=tuple(pair for result in results for pair in result.wanted),
        wanted_keepers=tuple(keeper for result in results for keeper in result.wanted_keepers),
    )


def preferences_of(
    settings: Settings, units: Mapping[str, tuple[str, ...]], decisions: Iterable[Decision]
) -> Preferences:
    """The preferences that settings and decisions mean, with absolute folders."""
    chosen: dict[bytes, tuple[int, str]] = {}
    parted: dict[bytes, set[bytes]] = defaultdict(set)
    for number, decision in enumerate(decisions):
        if decision.verdict is Verdict.KEEP:
            chosen[decision.left] = (number, decision.place)
        elif decision.verdict.parts:
            parted[decision.left].add(decision.right)
            parted[decision.right].add(decision.left)
    return Preferences(
        chosen=chosen,
        parted={digest: frozenset(others) for digest, others in parted.items()},
        protect=tuple(absolute_folder(folder) for folder in settings.protect),
        prefer=tuple(absolute_folder(folder) for folder in settings.prefer),
        units=units,
    )
