"""The grouping stage: measured pairs to groups, one connected component at a time.

Promises: only components that something happened to are grouped again; their groups are the same as if everything were;
what a grouping wants measured is measured before it counts. Does not: hold more than one component's photos.

Ids: within a component a file's id is its place in the order of (digest, path), for the reason given in `matching`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from dedup.catalogue import Catalogue, PackedGroup, PackedPair, pack_group, pack_pair
from dedup.cluster import make_groups
from dedup.keeper import KeeperFacts, gather_facts, keeper_key, keeper_reasons
from dedup.pipeline.components import Edge, split_components
from dedup.pipeline.matching import Confirmer, Contents, Wanted
from dedup.pipeline.places import Progress, absolute_folder
from dedup.records import GroupingResult, Inspection, Photo, Relation
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

    def order(self, photos: Sequence[Photo]) -> list[Photo]:
        """Photos best first, before anything is measured."""
        facts = gather_facts(photos, protect=self.protect, prefer=self.prefer, units=self.units)
        return sorted(photos, key=lambda photo: keeper_key(photo, facts))


class Grouper:
    """Groups the photos of one scope."""

    def __init__(
        self,
        catalogue: Catalogue,
        confirmer: Confirmer,
        carriers: Iterable[tuple[int, int]],
        preferences: Preferences,
    ) -> None:
        self.catalogue = catalogue
        self.confirmer = confirmer
        self.contents: Contents = confirmer.contents
        self.preferences = preferences
        self.files_of: dict[int, list[int]] = defaultdict(list)
        """Files by content, all within the scope."""
        for content, file in carriers:
            if content in self.contents.files:
                self.files_of[content].append(file)
        self.inspections = catalogue.inspections()
        self.unlike = self._unlike_pairs()

    def run(self, touched: set[int] | None, progress: Progress) -> Grouped:
        """Group all components that hold a touched content, or all of them.

        Parameters
        ----------
        touched
            Contents to which something happened; None for all. What measuring changes is added.
        """
        result = Grouped([], [], [], set())
        finished: set[int] = set()
        """Contents whose groups are in `result`."""
        for last in range(MOST_ROUNDS, -1, -1):
            components = self._components(touched, finished)
            progress("group", 0, len(components))
            wanted: list[Wanted] = []
            self.inspections = self.catalogue.inspections()
            self.unlike = self._unlike_pairs()
            for number, (members, edges) in enumerate(components, start=1):
                component = _Component(self, members, edges)
                asks = component.wants() if last else []
                if asks:
                    wanted.extend(asks)
                else:
                    component.pack(result)
                    finished.update(members)
                progress("group", number, len(components))
            if not wanted:
                return result
            if not self.confirmer.confirm_wanted(wanted):
                # Nothing of it can be measured (a file is not there): the groups stand without.
                for members, edges in self._components(touched, finished):
                    _Component(self, members, edges).pack(result)
                return result
        return result

    def _components(self, touched: set[int] | None, finished: set[int]) -> list[tuple[list[int], list[Edge]]]:
        edges: list[Edge] = [
            (0, low, high)
            for low, high, _, relation in self.catalogue.match_ends()
            if relation and low in self.files_of and high in self.files_of
        ]
        # A content with several files is a group by itself.
        edges += [(1, content, content) for content, files in self.files_of.items() if len(files) > 1]
        key = self.contents.key
        found = [
            part
            for part in split_components(edges)
            if (touched is None or not touched.isdisjoint(part[0])) and finished.isdisjoint(part[0])
        ]
        return sorted(found, key=lambda part: min(key(content) for content in part[0]))

    def _unlike_pairs(self) -> dict[int, list[int]]:
        unlike: dict[int, list[int]] = defaultdict(list)
        for low, high, _, relation in self.catalogue.match_ends():
            if not relation and low in self.files_of and high in self.files_of:
                unlike[low].append(high)
        return unlike


class _Component:
    """One component: its photos under local ids, what was measured, and the groups that follow."""

    def __init__(self, grouper: Grouper, members: Collection[int], edges: Iterable[Edge]) -> None:
        self.grouper = grouper
        catalogue = grouper.catalogue
        content_of = {file: content for content in members for file in grouper.files_of[content]}
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
            for high in grouper.unlike[low]
            if high in first_at
        }
        asked |= {(m.left, m.right) for m in self.matches if m.relation in plain}
        self.asked = asked | {(right, left) for left, right in asked}
        self.result = self._group()

    def _gather(self) -> KeeperFacts:
        preferences = self.grouper.preferences
        inspections: dict[int, Inspection] = {}
        for content, place in self.first_at.items():
            entry = self.grouper.inspections.get(content)
            if entry is not None:
                inspections[place] = replace(entry[0], photo_id=place)
        return gather_facts(
            self.photos.values(),
            self.matches,
            inspections,
            protect=preferences.protect,
            prefer=preferences.prefer,
            units=preferences.units,
        )

    def _group(self) -> GroupingResult:
        facts = self.facts
        units = self.grouper.preferences.units
        return make_groups(
            self.photos,
            self.matches,
            lambda photo: keeper_key(photo, facts),
            reasons=lambda keeper, others: keeper_reasons(keeper, others, facts),
            unit_files=lambda photo: units.get(photo.file.path, ()),
            asked=self.asked,
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


def preferences_of(settings: Settings, units: Mapping[str, tuple[str, ...]]) -> Preferences:
    """The preferences that the settings mean, with absolute folders."""
    return Preferences(
        protect=tuple(absolute_folder(folder) for folder in settings.protect),
        prefer=tuple(absolute_folder(folder) for folder in settings.prefer),
        units=units,
    )
