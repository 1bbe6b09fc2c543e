"""What a scan does when something changed: the stages in order, each fed from the catalogue and storing into it."""

from __future__ import annotations

import os
import time
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from dedup import __version__
from dedup.catalogue import Catalogue, FileState, KnownFile, ScanRecord, file_of_row
from dedup.confirm import CONFIRM_RECIPE
from dedup.engine import Engine, Limits, open_engine
from dedup.fingerprint import RECIPE
from dedup.keeper import find_units
from dedup.pipeline.grouping import Grouped, Grouper, preferences_of
from dedup.pipeline.looking import Sighting, seen_mark
from dedup.pipeline.matching import Confirmer, Contents, search_pairs
from dedup.pipeline.places import Progress, program_stamp
from dedup.pipeline.reading import attempt_text, is_passing, read_photos
from dedup.pipeline.results import (
    EVERYTHING,
    LAST_ROOTS,
    deciding_settings,
    make_tally,
    read_skipped,
    rules_hold,
    summary_to_plain,
    tally_to_plain,
)
from dedup.records import IndexQuality, PhotoFile, ScanOutcome, ScanSummary, Skipped, Tally
from dedup.settings import Settings

_PATH: Final = 0
_STATE: Final = 7
_ID: Final = 8
_CONTENT: Final = 9

NO_QUALITY = IndexQuality(0, 0, 0, 0, "")


class _Ids:
    """A set of ids as one column: of a million, 8 MB instead of 100."""

    def __init__(self, ids: Iterable[int]) -> None:
        self.column = np.unique(np.fromiter(ids, np.int64))
        self._sorted = self.column.data

    def __contains__(self, number: int) -> bool:
        at = bisect_left(self._sorted, number)
        return at < len(self._sorted) and self._sorted[at] == number

    def __iter__(self) -> Iterator[int]:
        return iter(self._sorted)


@dataclass(frozen=True, slots=True)
class _Plan:
    """The photos of one scope, and the stored scope whose groups still hold where nothing happened."""

    scope: int
    contents: array[int]
    files: array[int]
    """Of each photo its content and its file."""
    before: int | None
    """None if everything is grouped anew."""


@dataclass(frozen=True, slots=True)
class _Result:
    """The groups of one scope, ready to be stored."""

    plan: _Plan
    grouped: Grouped
    late: list[Skipped]
    """Photos that could not be read this time, and may be next time."""


class Work:
    """One scan that has something to do."""

    def __init__(self, catalogue: Catalogue, settings: Settings, progress: Progress) -> None:
        self.catalogue = catalogue
        self.settings = settings
        self.progress = progress
        self.attempt = attempt_text(settings)
        self.decoded = 0
        self.confirmed = 0
        self.changed: set[int] = set()
        """Contents about which measuring found something new."""

    def run(
        self,
        roots: Sequence[str],
        sighting: Sighting,
        last: ScanRecord | None,
        began: float,
    ) -> ScanOutcome:
        """Everything after the crawl; `began` is `time.monotonic()` when the scan began."""
        catalogue = self.catalogue
        catalogue.check(thorough=False)
        self._take_over(sighting)
        fresh = {file.path for file in sighting.fresh}
        ids = array("q", (row[_ID] for row in catalogue.each_file() if row[_PATH] in fresh) if fresh else ())
        ids.extend(sighting.seen_ids)
        seen = _Ids(ids)
        del fresh, ids
        # Only what changed is grouped again, as long as what decides about groups did not.
        earlier = last if last is not None and rules_hold(last, self.settings) else None
        with open_engine(self.settings.jobs, self._limits()) as engine:
            touched = self._read(engine, seen, sighting) | catalogue.unsettled_contents()
            if catalogue.forget_matches_except(CONFIRM_RECIPE):
                earlier = None
            found = search_pairs(catalogue, self.settings, self.progress)
            plans = self._plan_scopes(roots, seen, earlier)
            results = [self._match(engine, plan, touched) for plan in plans]
        if found is not None:
            quality, candidates = found
        else:
            quality, candidates = (last.summary["index"] if last else NO_QUALITY), 0
            quality = quality if isinstance(quality, IndexQuality) else IndexQuality(**quality)
        summary = ScanSummary(
            roots=tuple(roots),
            files=sighting.files,
            photos=sum(
                1 for row in catalogue.each_file() if row[_STATE] == FileState.PHOTO and row[_ID] in seen
            ),
            read=self.decoded,
            candidates=candidates,
            confirmed=self.confirmed,
            seconds=round(time.monotonic() - began, 3),
            index=quality,
            version=__version__,
            recipe=RECIPE,
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        return ScanOutcome(summary, self._finish(summary, results, seen))

    # --- files ----------------------------------------------------------------------------------------------------

    def _limits(self) -> Limits:
        settings = self.settings
        return Limits(settings.memory_limit_bytes, settings.decode_timeout_s, settings.decode_timeout_s)

    def _take_over(self, sighting: Sighting) -> None:
        """Bring the catalogue's files in line with what was seen.

        From here until the end the stored result is that of files that have changed since: groups that hold one of them
        go at once, and a scan that does not come to its end leaves a mark, so that the next one groups everything.
        """
        stale = [row[_ID] for row in (*sighting.gone, *sighting.replaced)]
        with self.catalogue.all_or_nothing():
            for scope in (LAST_ROOTS, EVERYTHING):
                self.catalogue.clear_result(scope, stale)
            self.catalogue.mark_unfinished()
            self.catalogue.forget_files(row[_ID] for row in sighting.gone)
            # In order of path, so that ids of a first scan do not depend on the order of folders in it.
            self.catalogue.put_files(sorted(sighting.fresh, key=_by_path))
            self.catalogue.touch_files(sighting.touched)
            if sighting.passed_over != sighting.passed_over_before:
                self.catalogue.set_passed_over([*sighting.passed_over_elsewhere, *sighting.passed_over])

    def _read(self, engine: Engine, seen: _Ids, sighting: Sighting) -> set[int]:
        """Read what has to be read; the contents to which something happened."""
        catalogue = self.catalogue
        touched = {row[_CONTENT] for row in (*sighting.gone, *sighting.replaced)}
        paths = {file.path for file in sighting.touched}
        if paths:
            touched |= {row[_CONTENT] for row in catalogue.each_file() if row[_PATH] in paths}
        waiting = self._waiting(seen)
        if waiting:
            reading = read_photos(catalogue, engine, waiting, self.settings, self.progress)
            self.decoded = reading.decoded
            touched |= reading.changed_contents
        catalogue.note_orphans()
        catalogue.forget_orphans()
        catalogue.commit()
        ids = set(waiting.values())
        if ids:
            touched |= {row[_CONTENT] for row in catalogue.each_file() if row[_ID] in ids}
        stems = _stems_that_changed(sighting)
        if stems:
            touched |= {row[_CONTENT] for row in catalogue.each_file() if _stem(row[_PATH]) in stems}
        return touched

    def _waiting(self, seen: _Ids) -> dict[PhotoFile, int]:
        """Files to be read, with their ids, in order of path."""
        retry = {
            number
            for number, attempt, why in self.catalogue.failures()
            if number in seen and (attempt != self.attempt or is_passing(why))
        }
        stale = set(self.catalogue.stale_contents(RECIPE))
        maybe = [
            row
            for row in self.catalogue.each_file()
            if (row[_STATE] == FileState.PENDING or row[_ID] in retry or row[_CONTENT] in stale)
            and row[_ID] in seen
        ]
        waiting: dict[PhotoFile, int] = {}
        for row in sorted(maybe, key=_by_name):
            if row[_STATE] == FileState.PENDING or row[_ID] in retry or row[_CONTENT] in stale:
                stale.discard(row[_CONTENT])
                waiting[file_of_row(row)] = row[_ID]
        return waiting

    # --- pairs and groups -----------------------------------------------------------------------------------------

    def _plan_scopes(self, roots: Sequence[str], seen: _Ids, earlier: ScanRecord | None) -> list[_Plan]:
        """What lies below the roots, and then all that is known if that is more."""
        here, everything = self._photos(seen), self._photos(None)
        same_roots = earlier is not None and earlier.basis["roots"] == list(roots)
        plans = [_Plan(LAST_ROOTS, *here, LAST_ROOTS if same_roots else None)]
        if len(here[0]) < len(everything[0]):
            before = None
            if earlier is not None and earlier.summary["wider"]:
                before = EVERYTHING
            elif earlier is not None and not same_roots:
                # The roots of the last scan were all there was: its result becomes that of everything.
                before = LAST_ROOTS
            plans.append(_Plan(EVERYTHING, *everything, before))
        return plans

    def _photos(self, among: _Ids | None) -> tuple[array[int], array[int]]:
        """Contents and files of all photos, or of those among some files."""
        contents, files = array("q"), array("q")
        for row in self.catalogue.each_file():
            if row[_STATE] == FileState.PHOTO and (among is None or row[_ID] in among):
                contents.append(row[_CONTENT])
                files.append(row[_ID])
        return contents, files

    def _match(self, engine: Engine, plan: _Plan, touched: set[int]) -> _Result:
        """Confirm and group the photos of one scope."""
        catalogue = self.catalogue
        files = _Ids(plan.files)
        inside = (row for row in catalogue.each_file() if row[_ID] in files)
        first = _first_files(plan, inside)
        paths = (row[_PATH] for row in catalogue.each_file() if row[_ID] in files)
        units = _units_by_folder(paths, (skipped.path for skipped in catalogue.passed_over()))
        contents = Contents(catalogue.contents_in_columns(RECIPE)[:2], first, self.settings.max_pixels)
        preferences = preferences_of(self.settings, units, catalogue.decisions())
        confirmer = Confirmer(
            catalogue, engine, contents, preferences.order, preferences.chosen, self.progress
        )
        confirmer.confirm_candidates()
        part = None
        if plan.before is not None:
            part = self._touched_in(plan, touched) | self.changed | confirmer.changed
        grouped = Grouper(catalogue, confirmer, (plan.contents, plan.files), preferences).run(
            part, self.progress
        )
        self.confirmed += confirmer.measured
        self.changed |= confirmer.changed
        return _Result(plan, grouped, list(confirmer.late.values()))

    def _touched_in(self, plan: _Plan, touched: set[int]) -> set[int]:
        """Contents of a scope whose groups may differ from those of the earlier result."""
        assert plan.before is not None
        # What was away the last time, or is away now.
        before = np.asarray(self.catalogue.scope_column(plan.before), dtype=np.int64)
        differing = set(np.setxor1d(before, np.asarray(plan.files, dtype=np.int64)).tolist())
        found = set(touched)
        if differing:
            found |= {row[_CONTENT] for row in self.catalogue.each_file() if row[_ID] in differing}
        # Whoever was tied to a content that went is on its own now.
        gone = np.setdiff1d(np.fromiter(found, np.int64), np.asarray(plan.contents, dtype=np.int64))
        if len(gone):
            low, high, _, kind = (
                np.asarray(column, dtype=np.int64) for column in self.catalogue.match_columns()
            )
            tied = (kind > 0) & (np.isin(low, gone) | np.isin(high, gone))
            found.update(low[tied].tolist(), high[tied].tolist())
        return found

    def _finish(self, summary: ScanSummary, results: Sequence[_Result], seen: _Ids) -> Tally:
        """Replace the result of the last scan by this one's, all at once."""
        catalogue = self.catalogue
        late = results[0].late
        passing = any(is_passing(why) for number, _, why in catalogue.failures() if number in seen)
        basis: dict[str, Any] = {
            "roots": list(summary.roots),
            "settings": deciding_settings(self.settings),
            "stamp": program_stamp(),
            "seen": seen_mark(seen),
            "unsettled": bool(late) or passing,
            "unfinished": False,
        }
        plain = summary_to_plain(summary)
        plain["late"] = [[skipped.path, skipped.reason, skipped.detail] for skipped in late]
        plain["wider"] = len(results) > 1
        with catalogue.all_or_nothing():
            # The wider one first, since it may take over what the other one is about to replace.
            for result in reversed(results):
                self._store(result)
            if not plain["wider"]:
                catalogue.clear_result(EVERYTHING)
            tally = make_tally(catalogue, read_skipped(catalogue, LAST_ROOTS, plain))
            plain["tally"] = tally_to_plain(tally)
            catalogue.put_scan(basis, plain)
            catalogue.put_roots(summary.roots)
            catalogue.settle()
            catalogue.pack_files()
        return tally

    # --- without a look at the disk -------------------------------------------------------------------------------

    def regroup(self, last: ScanRecord) -> None:
        """Group anew what people decided about since, in the results that the last scan left; the rest stands."""
        catalogue = self.catalogue
        touched = catalogue.unsettled_contents()
        scopes = (LAST_ROOTS, EVERYTHING) if last.summary["wider"] else (LAST_ROOTS,)
        results = []
        with open_engine(self.settings.jobs, self._limits()) as engine:
            for scope in scopes:
                photos = self._photos(_Ids(catalogue.scope_column(scope)))
                results.append(self._match(engine, _Plan(scope, *photos, scope), touched))
        late = [[skipped.path, skipped.reason, skipped.detail] for skipped in results[0].late]
        plain = {**last.summary, "late": [*last.summary["late"], *late]}
        with catalogue.all_or_nothing():
            for result in reversed(results):
                self._store(result)
            plain["tally"] = tally_to_plain(make_tally(catalogue, read_skipped(catalogue, LAST_ROOTS, plain)))
            catalogue.put_scan({**last.basis, "unsettled": last.basis["unsettled"] or bool(late)}, plain)
            catalogue.settle()

    def _store(self, result: _Result) -> None:
        catalogue, plan, grouped = self.catalogue, result.plan, result.grouped
        scope, new = plan.scope, np.unique(np.asarray(plan.files, dtype=np.int64))
        if plan.before is None:
            catalogue.clear_result(scope)
        else:
            if plan.before != scope:
                catalogue.move_result(plan.before, scope)
            before = np.asarray(catalogue.scope_column(scope), dtype=np.int64)
            changed = np.fromiter(grouped.files, np.int64, len(grouped.files))
            catalogue.clear_result(scope, {*grouped.files, *np.setdiff1d(before, new).tolist()})
            new = np.setdiff1d(new, np.setdiff1d(before, changed))
        for group in grouped.groups:
            catalogue.put_group(scope, group)
        for pair in grouped.similar:
            catalogue.put_similar(scope, pair)
        for hub in grouped.hubs:
            catalogue.put_hub(scope, hub)
        catalogue.put_scope_files(scope, new.tolist())


def _by_path(file: PhotoFile) -> bytes:
    return file.path_bytes


def _by_name(row: KnownFile) -> bytes:
    return os.fsencode(row[_PATH])


def _units_by_folder(*sources: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """`find_units`, folder by folder: what it holds to tell a million names apart is as much as a search needs."""
    names: dict[str, list[str]] = defaultdict(list)
    for paths in sources:
        for path in paths:
            folder, slash, name = path.rpartition("/")
            names[folder + slash].append(name)
    units: dict[str, tuple[str, ...]] = {}
    for folder in sorted(names):
        units |= find_units(folder + name for name in names.pop(folder))
    return units


def _first_files(plan: _Plan, rows: Iterable[KnownFile]) -> tuple[array[int], array[int]]:
    """Contents, and the file that stands for each: the first by path. `rows`: looked at only if some have several."""
    contents, files = (np.asarray(column, dtype=np.int64) for column in (plan.contents, plan.files))
    names, at, counts = np.unique(contents, return_index=True, return_counts=True)
    first = files[at]
    several = set(names[counts > 1].tolist())
    best: dict[int, tuple[bytes, int]] = {}
    for row in rows if several else ():
        if row[_CONTENT] in several:
            found = (os.fsencode(row[_PATH]), row[_ID])
            best[row[_CONTENT]] = min(best.get(row[_CONTENT], found), found)
    if best:
        where = np.searchsorted(names, np.fromiter(best, np.int64, len(best)))
        first[where] = [file for _, file in best.values()]
    return array("q", names.tobytes()), array("q", first.tobytes())


def _stems_that_changed(sighting: Sighting) -> set[tuple[str, str]]:
    """Folder and stem of every file that came or went, photos or not: their neighbours' units may have changed."""
    paths = {skipped.path for skipped in sighting.passed_over}
    paths ^= {skipped.path for skipped in sighting.passed_over_before}
    paths.update(file.path for file in sighting.fresh)
    paths.update(row[_PATH] for row in sighting.gone)
    return {_stem(path) for path in paths}


def _stem(path: str) -> tuple[str, str]:
    """Folder, and the name up to its first dot without regard to case: coarser than a unit, never finer."""
    folder, name = os.path.split(path)
    return folder, name.partition(".")[0].casefold()
