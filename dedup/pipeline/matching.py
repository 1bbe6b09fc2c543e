"""The matching stage: search candidate pairs, then have them measured, component by component.

Promises: every pair of contents that the index proposes is measured once per recipe, or spared because one of the two
was confirmed against a better photo that is still around; results are stored as they come; a component that breaks
its worker costs one photo, not the run. Does not: judge a pair, or form groups.

Ids: within this stage a photo's id is a key made of its digest, so that nothing depends on the order in which files
were found or read. The catalogue's ids stay inside this module.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dedup.catalogue import Catalogue
from dedup.engine import Engine, Failure
from dedup.errors import CatalogueInDoubt, InternalFault
from dedup.pipeline.components import Numbers, as_edges
from dedup.pipeline.places import Progress, program_stamp
from dedup.pipeline.planning import JOB_PHOTOS, Job, Pair, as_pair, find_roots, plan_jobs, plan_round
from dedup.pipeline.reading import is_passing
from dedup.records import CandidatePair, IndexQuality, Photo, Relation, Skipped, Source
from dedup.settings import Settings

if TYPE_CHECKING:
    from dedup.confirm import ComponentJob, ComponentResult

MOST_ROUNDS = 1000
"""Rounds over what is left; each settles at least one pair. A guard against turning for ever, never reached."""

Order = Callable[[Sequence[Photo]], list[Photo]]
"""Photos best first, by the rules for keepers."""


Columns = tuple[Sequence[int], Sequence[int]]
"""Two columns of 64-bit numbers."""


class Contents:
    """The contents that may be read in this run, by catalogue id and by key: columns, since a million of them in
    dictionaries take 300 MB."""

    def __init__(self, keys: Columns, files: Columns, max_pixels: int) -> None:
        """`keys`: contents and their keys; `files`: contents and the files that stand for them, those without a key
        being left out; larger ones are not decoded. Each content once."""
        self.max_pixels = max_pixels
        known, names = _ascending(keys)
        ids, stand = _ascending(files)
        here = _places(known, ids)
        found = here >= 0
        self._ids, self._files, self._keys = ids[found], stand[found], names[here[found]]
        order = np.argsort(self._keys)
        ordered = self._keys[order]
        if (ordered[1:] == ordered[:-1]).any():
            raise InternalFault("two photos have digests that begin alike, which does not happen")
        self._sorted_keys, self._by_key = ordered, self._ids[order]

    def __contains__(self, content: int) -> bool:
        at = bisect_left(self._ids.data, content)
        return at < len(self._ids) and self._ids.item(at) == content

    def _at(self, content: int) -> int:
        at = bisect_left(self._ids.data, content)
        if at == len(self._ids) or self._ids.item(at) != content:
            raise KeyError(content)
        return at

    def file(self, content: int) -> int:
        """The file that stands for it."""
        return self._files.item(self._at(content))

    def key(self, content: int) -> int:
        """The id of its photo in jobs."""
        return self._keys.item(self._at(content))

    def keys(self, contents: Numbers) -> Numbers:
        """`key` of each."""
        return self._keys[_places(self._ids, contents)]

    def content(self, key: int) -> int:
        """The content whose photo has this id in jobs."""
        at = bisect_left(self._sorted_keys.data, key)
        if at == len(self._ids) or self._sorted_keys.item(at) != key:
            raise KeyError(key)
        return self._by_key.item(at)

    def are_here(self, contents: Numbers) -> NDArray[np.bool_]:
        """For each whether it is one of these."""
        return _places(self._ids, contents) >= 0

    def further(self, carriers: Columns) -> dict[int, list[int]]:
        """Of contents with several files, by content: all of them, the one that stands for it first."""
        contents, files = (np.asarray(column, dtype=np.int64) for column in carriers)
        at = _places(self._ids, contents)
        others = (at >= 0) & (self._files[at] != files) if len(self._ids) else np.zeros(len(at), dtype=bool)
        found: dict[int, list[int]] = {}
        for content, file in zip(contents[others].tolist(), files[others].tolist(), strict=True):
            found.setdefault(content, [self.file(content)]).append(file)
        return found

    def photos(self, catalogue: Catalogue, contents: Collection[int], *, grey: bool) -> list[Photo]:
        """Their photos with keys for ids."""
        by_file = {self.file(content): content for content in contents}
        return [
            replace(photo, id=self.key(by_file[file]))
            for file, photo in catalogue.photos_of_files(list(by_file), grey=grey)
        ]


def _ascending(columns: Columns) -> tuple[Numbers, Numbers]:
    """Both columns in the order of the first."""
    first, second = (np.asarray(column, dtype=np.int64) for column in columns)
    order = np.argsort(first, kind="stable")
    return first[order], second[order]


def _places(ascending: Numbers, values: Numbers) -> Numbers:
    """Where each value stands, minus one for those that do not."""
    if not len(ascending):
        return np.full(len(values), -1)
    at = np.searchsorted(ascending, values).clip(max=len(ascending) - 1)
    return np.where(ascending[at] == values, at, -1)


def search_recipe(settings: Settings) -> str:
    """What decides which pairs are proposed.

    Any change of our own code searches again: that takes seconds, and pairs that were measured are not measured again.
    """
    from dedup.fingerprint import RECIPE

    neighbours = "with" if settings.neighbours else "without"
    return f"search {program_stamp()}; radius {settings.hash_radius_bits}; {neighbours} neighbours; {RECIPE}"


def search_pairs(
    catalogue: Catalogue, settings: Settings, progress: Progress
) -> tuple[IndexQuality, int] | None:
    """Search candidate pairs with contents that were not searched yet.

    Returns
    -------
    quality, pairs
        How well the index did and how many pairs it proposed; None if there was nothing new to search.
    """
    from dedup.fingerprint import RECIPE

    recipe = search_recipe(settings)
    number = catalogue.recipe_id(recipe)
    contents, keys, searched = catalogue.contents_in_columns(RECIPE)
    if searched.count(number) == len(searched):
        return None
    from dedup.index import find_candidates, table_from_rows

    new = np.frombuffer(searched, dtype=np.int64) != number
    progress("search", 0, None)

    def content_of(key: int) -> int:
        # Keys ascend, as digests do. Two dictionaries of a million would take half of what the fingerprints take.
        return contents[bisect_left(keys, key)]

    try:
        table = table_from_rows(keys, catalogue.fingerprint_columns(RECIPE))
    except ValueError as error:
        raise CatalogueInDoubt(
            f"{catalogue.path}: fingerprints do not read back ({error}); move it away and scan again"
        ) from error

    def greys(ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        blobs = catalogue.greys([content_of(key) for key in ids.tolist()])
        return np.frombuffer(b"".join(blobs), dtype=np.uint8).reshape(-1, 64, 64)

    folder = Path(catalogue.path + ".index")
    folder.mkdir(mode=0o700, exist_ok=True)
    asked = None if new.all() else new
    search = find_candidates(table, greys, settings, asked, folder)
    count = 0

    def pairs() -> Iterator[CandidatePair]:
        nonlocal count
        for pair in search:
            count += 1
            if not count % 1000:
                progress("search", count, None)
            yield replace(pair, left=content_of(pair.left), right=content_of(pair.right))

    with catalogue.all_or_nothing():
        catalogue.forget_candidates_of(recipe)
        catalogue.put_candidates(pairs())
        catalogue.mark_indexed((contents[at] for at in np.flatnonzero(new).tolist()), recipe)
    progress("search", count, count)
    return search.quality, count


@dataclass(frozen=True, slots=True)
class Wanted:
    """A pair (of keys) that the grouping wants measured, and which of the two is to be the left one."""

    pair: CandidatePair
    first: int


@dataclass(frozen=True, slots=True)
class _Job:
    """Contents and candidate rows (or ready pairs) that go to a worker together."""

    contents: tuple[int, ...]
    rowids: tuple[int, ...] = ()
    pairs: tuple[CandidatePair, ...] = ()
    """Ready pairs by content ids, not in the catalogue."""
    ordered: bool = False
    """Whether `contents` is in keeper order already."""


class Confirmer:
    """Has pairs measured, within one scope."""

    def __init__(
        self,
        catalogue: Catalogue,
        engine: Engine,
        contents: Contents,
        order: Order,
        chosen: Collection[bytes],
        progress: Progress,
    ) -> None:
        """`chosen`: digests of contents that a person chose to keep."""
        from dedup.confirm import CONFIRM_RECIPE

        self.catalogue = catalogue
        self.engine = engine
        self.contents = contents
        self.order = order
        self.chosen = frozenset(chosen)
        self.progress = progress
        self.recipe = CONFIRM_RECIPE
        self.measured = 0
        self.changed: set[int] = set()
        """Contents about which something new is known."""
        self.late: dict[int, Skipped] = {}
        """Contents that could not be read this time, and may be next time."""
        self._wanted: set[tuple[Pair, int]] = set()
        self._unconfirmable = catalogue.unconfirmable_contents()

    # --- what is to do --------------------------------------------------------------------------------------------

    def confirm_candidates(self) -> None:
        """Measure what the index proposed, until nothing is left that has to be."""
        for _ in range(MOST_ROUNDS):
            edges = self._next_round()
            if not len(edges):
                return
            count, jobs = plan_jobs(edges, self._in_order)
            self._run((self._as_job(job) for job in jobs), count)
        raise InternalFault("confirmation does not come to an end, which is a fault in dedup")

    def _next_round(self) -> Numbers:
        here = self.contents.are_here
        blocked = np.array(sorted({*self._unconfirmable, *self.late}), dtype=np.int64)
        rowids, left, right, hub = (_column(values) for values in self.catalogue.candidate_columns())
        open_ends = here(left) & here(right) & ~np.isin(left, blocked) & ~np.isin(right, blocked)
        waiting = open_ends & (~here(hub) | np.isin(hub, blocked))
        rows = as_edges(rowids[waiting], left[waiting], right[waiting])
        if not len(rows):
            return rows
        del rowids, left, right, hub, open_ends, waiting
        low, high, turned, kind = (_column(values) for values in self.catalogue.match_columns())
        better, other = np.where(turned, high, low), np.where(turned, low, high)
        bonds = (kind == 2) & here(low) & here(high) & ~np.isin(better, blocked)
        roots = find_roots(zip(better[bonds].tolist(), other[bonds].tolist(), strict=True))
        found = plan_round(rows, roots, np.stack([low, high], axis=1))
        self.catalogue.spare_rows((rowid, by) for rowid, by in found.spared.tolist())
        self.catalogue.commit_if_due()
        return found.edges

    def _as_job(self, job: Job) -> _Job:
        contents, edges = job
        key = self.contents.key
        pairs = []
        for rowid, one, other in edges:
            if rowid < 0:
                left, right = sorted((one, other), key=key)
                pairs.append(CandidatePair(left, right, Source.DERIVED, 64))
        return _Job(contents, tuple(rowid for rowid, _, _ in edges if rowid >= 0), tuple(pairs))

    def _in_order(self, contents: Collection[int]) -> list[int]:
        photos = self.contents.photos(self.catalogue, contents, grey=False)
        return [self.contents.content(photo.id) for photo in self.order(photos)]

    def confirm_wanted(self, wanted: Iterable[Wanted]) -> int:
        """Measure pairs that the grouping asks for, unless that was done the right way round; how many it did."""
        stars: dict[int, list[CandidatePair]] = defaultdict(list)
        for want in wanted:
            left = self.contents.content(want.pair.left)
            right = self.contents.content(want.pair.right)
            first = self.contents.content(want.first)
            pair = as_pair(left, right)
            # Once each: confirmation may put the other one on the left, where the pixels tell which came first.
            if (
                (pair, first) in self._wanted
                or self.catalogue.left_of(*pair) in (first, 0)
                or not self.can_measure(want)
            ):
                continue
            self._wanted.add((pair, first))
            stars[first].append(replace(want.pair, left=left, right=right))
        jobs = []
        for first, pairs in stars.items():
            for start in range(0, len(pairs), JOB_PHOTOS):
                part = tuple(pairs[start : start + JOB_PHOTOS])
                others = (pair.right if pair.left == first else pair.left for pair in part)
                jobs.append(_Job((first, *dict.fromkeys(others)), pairs=part, ordered=True))
        count = sum(len(job.pairs) for job in jobs)
        if jobs:
            self._run(jobs, count)
        return count

    def can_measure(self, want: Wanted) -> bool:
        """Whether both photos could be read so far."""
        ends = (self.contents.content(want.pair.left), self.contents.content(want.pair.right))
        return not any(self._is_blocked(content) for content in ends)

    def _is_blocked(self, content: int) -> bool:
        return content in self._unconfirmable or content in self.late

    # --- measuring ------------------------------------------------------------------------------------------------

    def _run(self, jobs: Iterable[_Job], pairs: int) -> None:
        from dedup.confirm import confirm_component

        done = 0
        self.progress("confirm", 0, pairs)

        def made() -> Iterator[ComponentJob]:
            for job in jobs:
                yield self._make(job)

        batch: Iterable[ComponentJob] = made()
        while True:
            again: list[ComponentJob] = []
            for job, answer in self.engine.map(confirm_component, batch, patience=_patience):
                if not isinstance(answer, Failure):
                    self._store(job, answer)
                elif len(job.pairs) == 1:
                    self._break(job, answer)
                else:
                    again.extend(_singles(job))
                done += len(job.pairs)
                self.catalogue.commit_if_due()
                self.progress("confirm", min(done, pairs), pairs)
            if not again:
                break
            batch = again
        self.catalogue.commit()
        self.progress("confirm", pairs, pairs)

    def _make(self, job: _Job) -> ComponentJob:
        from dedup.confirm import ComponentJob

        photos = self.contents.photos(self.catalogue, job.contents, grey=True)
        if not job.ordered:
            photos = self.order(photos)
        key = self.contents.key
        pairs = [
            replace(pair, left=key(pair.left), right=key(pair.right))
            for pair in (*job.pairs, *self.catalogue.candidates(job.rowids))
        ]
        turned = [pair for pair in pairs if pair.left > pair.right]
        if turned:
            raise InternalFault(f"{self.catalogue.path}: a candidate pair stands the wrong way round")
        pairs.sort(key=lambda pair: (pair.left, pair.right, pair.source, pair.orientation))
        chosen = frozenset(photo.id for photo in photos if photo.digest in self.chosen)
        return ComponentJob(tuple(photos), tuple(pairs), self.contents.max_pixels, chosen)

    def _store(self, job: ComponentJob, answer: ComponentResult) -> None:
        content_at = self.contents.content
        rank = {photo.id: at for at, photo in enumerate(job.photos)}
        id_of = {photo.file.path: photo.id for photo in job.photos}
        unread = {id_of[skipped.path] for skipped in answer.skipped}
        hub_of: dict[int, int] = {}
        """The best photo that each one was confirmed against."""
        near: dict[int, set[int]] = defaultdict(set)
        measured = set()
        for match in answer.matches:
            measured.add((min(match.left, match.right), max(match.left, match.right)))
            content_ids = replace(match, left=content_at(match.left), right=content_at(match.right))
            self.catalogue.put_match(content_ids, self.recipe)
            self.changed.update((content_ids.left, content_ids.right))
            if match.relation is not Relation.SIMILAR:
                near[match.left].add(match.right)
                near[match.right].add(match.left)
        for photo, others in near.items():
            best = min(others, key=rank.__getitem__)
            if rank[best] < rank[photo]:
                hub_of[photo] = best
        for pair in job.pairs:
            if (pair.left, pair.right) in measured or pair.left in unread or pair.right in unread:
                continue
            left, right = content_at(pair.left), content_at(pair.right)
            spared = [
                hub
                for hub in (hub_of.get(pair.left), hub_of.get(pair.right))
                if hub is not None and hub not in (pair.left, pair.right)
            ]
            if spared:
                self.catalogue.spare(left, right, content_at(min(spared, key=rank.__getitem__)))
            else:
                self.catalogue.put_unlike(left, right, self.recipe)
        self.measured += len(measured)
        for inspection in answer.inspections:
            content = content_at(inspection.photo_id)
            self.catalogue.put_inspection(replace(inspection, photo_id=content), self.recipe)
            self.changed.add(content)
        for skipped in answer.skipped:
            self._put_aside(content_at(id_of[skipped.path]), skipped)

    def _put_aside(self, content: int, skipped: Skipped) -> None:
        self.changed.add(content)
        if is_passing(skipped):
            self.late[content] = skipped
        else:
            self._unconfirmable.add(content)
            self.catalogue.put_unconfirmable(content, skipped, self.recipe)

    def _break(self, job: ComponentJob, failure: Failure) -> None:
        """A single pair broke its worker: the larger of the two is set aside, since size is what breaks workers."""
        worst = max(job.photos, key=lambda photo: (photo.info.pixels, photo.file.size_bytes, photo.digest))
        skipped = Skipped(
            worst.file.path,
            "confirm",
            failure.reason,
            failure.detail,
            worst.file.size_bytes,
            worst.file.mtime_ns,
        )
        self._put_aside(self.contents.content(worst.id), skipped)


def _column(values: array[int]) -> Numbers:
    return np.asarray(values, dtype=np.int64)


def _patience(job: ComponentJob) -> float:
    """Factor on the time limit of one photo: every photo decoded, every pair aligned and compared."""
    return 2.0 * len(job.photos) + len(job.pairs)


def _singles(job: ComponentJob) -> list[ComponentJob]:
    """A job that broke its worker, as single pairs; so the one that did it is found."""
    singles = []
    for pair in job.pairs:
        ends = (pair.left, pair.right)
        photos = tuple(photo for photo in job.photos if photo.id in ends)
        singles.append(replace(job, photos=photos, pairs=(pair,)))
    return singles
