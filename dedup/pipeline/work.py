"""What a scan does when something changed: the stages in order, each fed from the catalogue and storing into it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final

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


@dataclass(frozen=True, slots=True)
class _Plan:
    """The photos of one scope, and the stored scope whose groups still hold where nothing happened."""

    scope: int
    rows: list[KnownFile]
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
        known = {row[_PATH]: row for row in catalogue.known_files()}
        seen = {known[file.path][_ID] for file in sighting.fresh}.union(sighting.seen_ids)
        # Only what changed is grouped again, as long as what decides about groups did not.
        earlier = last if last is not None and rules_hold(last, self.settings) else None
        with open_engine(self.settings.jobs, self._limits()) as engine:
            touched = self._read(engine, known, seen, sighting) | catalogue.unsettled_contents()
            known.clear()  # half a gigabyte of a million files, while the search needs as much for itself
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
                1 for row in catalogue.known_files() if row[_ID] in seen and row[_STATE] == FileState.PHOTO
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

    def _read(
        self, engine: Engine, known: dict[str, KnownFile], seen: set[int], sighting: Sighting
    ) -> set[int]:
        """Read what has to be read; the contents to which something happened."""
        catalogue = self.catalogue
        touched = {row[_CONTENT] for row in (*sighting.gone, *sighting.replaced)}
        touched |= {known[file.path][_CONTENT] for file in sighting.touched}
        waiting = self._waiting(known, seen)
        if waiting:
            reading = read_photos(catalogue, engine, waiting, self.settings, self.progress)
            self.decoded = reading.decoded
            touched |= reading.changed_contents
        catalogue.note_orphans()
        catalogue.forget_orphans()
        catalogue.commit()
        now = catalogue.known_files()
        ids = set(waiting.values())
        touched |= {row[_CONTENT] for row in now if row[_ID] in ids}
        stems = _stems_that_changed(sighting)
        if stems:
            touched |= {row[_CONTENT] for row in now if _stem(row[_PATH]) in stems}
        return touched

    def _waiting(self, known: dict[str, KnownFile], seen: set[int]) -> dict[PhotoFile, int]:
        """Files to be read, with their ids, in order of path."""
        retry = {
            number
            for number, attempt, why in self.catalogue.failures()
            if number in seen and (attempt != self.attempt or is_passing(why))
        }
        stale = set(self.catalogue.stale_contents(RECIPE))
        waiting: dict[PhotoFile, int] = {}
        for path in sorted(known, key=os.fsencode):
            row = known[path]
            if row[_ID] not in seen:
                continue
            if row[_STATE] == FileState.PENDING or row[_ID] in retry or row[_CONTENT] in stale:
                stale.discard(row[_CONTENT])
                waiting[file_of_row(row)] = row[_ID]
        return waiting

    # --- pairs and groups -----------------------------------------------------------------------------------------

    def _plan_scopes(self, roots: Sequence[str], seen: set[int], earlier: ScanRecord | None) -> list[_Plan]:
        """What lies below the roots, and then all that is known if that is more."""
        rows = [row for row in self.catalogue.known_files() if row[_STATE] == FileState.PHOTO]
        here = [row for row in rows if row[_ID] in seen]
        same_roots = earlier is not None and earlier.basis["roots"] == list(roots)
        plans = [_Plan(LAST_ROOTS, here, LAST_ROOTS if same_roots else None)]
        if len(here) < len(rows):
            before = None
            if earlier is not None and earlier.summary["wider"]:
                before = EVERYTHING
            elif earlier is not None and not same_roots:
                # The roots of the last scan were all there was: its result becomes that of everything.
                before = LAST_ROOTS
            plans.append(_Plan(EVERYTHING, rows, before))
        return plans

    def _match(self, engine: Engine, plan: _Plan, touched: set[int]) -> _Result:
        """Confirm and group the photos of one scope."""
        catalogue = self.catalogue
        rows = plan.rows
        units = _units_by_folder(
            [*(row[_PATH] for row in rows), *(skipped.path for skipped in catalogue.passed_over())]
        )
        keys = {content: key for content, key, _ in catalogue.contents_by_digest(RECIPE)}
        contents = Contents(keys, _first_files(rows), self.settings.max_pixels)
        preferences = preferences_of(self.settings, units, catalogue.decisions())
        confirmer = Confirmer(
            catalogue, engine, contents, preferences.order, preferences.chosen, self.progress
        )
        confirmer.confirm_candidates()
        carriers = [(row[_CONTENT], row[_ID]) for row in rows]
        part = None
        if plan.before is not None:
            part = self._touched_in(plan, touched) | self.changed | confirmer.changed
        grouped = Grouper(catalogue, confirmer, carriers, preferences).run(part, self.progress)
        self.confirmed += confirmer.measured
        self.changed |= confirmer.changed
        return _Result(plan, grouped, list(confirmer.late.values()))

    def _touched_in(self, plan: _Plan, touched: set[int]) -> set[int]:
        """Contents of a scope whose groups may differ from those of the earlier result."""
        assert plan.before is not None
        # What was away the last time, or is away now.
        differing = self.catalogue.scope_files(plan.before) ^ {row[_ID] for row in plan.rows}
        found = touched | {row[_CONTENT] for row in self.catalogue.known_files() if row[_ID] in differing}
        # Whoever was tied to a content that went is on its own now.
        gone = found - {row[_CONTENT] for row in plan.rows}
        for low, high, _, relation in self.catalogue.match_ends():
            if relation and (low in gone or high in gone):
                found.update((low, high))
        return found

    def _finish(self, summary: ScanSummary, results: Sequence[_Result], seen: set[int]) -> Tally:
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
        photos = [row for row in catalogue.known_files() if row[_STATE] == FileState.PHOTO]
        scopes = (LAST_ROOTS, EVERYTHING) if last.summary["wider"] else (LAST_ROOTS,)
        results = []
        with open_engine(self.settings.jobs, self._limits()) as engine:
            for scope in scopes:
                covered = catalogue.scope_files(scope)
                rows = [row for row in photos if row[_ID] in covered]
                results.append(self._match(engine, _Plan(scope, rows, scope), touched))
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
        scope, now = plan.scope, {row[_ID] for row in plan.rows}
        if plan.before is None:
            catalogue.clear_result(scope)
            kept: set[int] = set()
        else:
            if plan.before != scope:
                catalogue.move_result(plan.before, scope)
            before = catalogue.scope_files(scope)
            catalogue.clear_result(scope, grouped.files | (before - now))
            kept = before & now - grouped.files
        for group in grouped.groups:
            catalogue.put_group(scope, group)
        for pair in grouped.similar:
            catalogue.put_similar(scope, pair)
        for hub in grouped.hubs:
            catalogue.put_hub(scope, hub)
        catalogue.put_scope_files(scope, now - kept)


def _by_path(file: PhotoFile) -> bytes:
    return file.path_bytes


def _units_by_folder(paths: list[str]) -> dict[str, tuple[str, ...]]:
    """`find_units`, folder by folder: what it holds to tell a million names apart is as much as a search needs."""
    paths.sort(key=_folder_of)
    units: dict[str, tuple[str, ...]] = {}
    for _, inside in groupby(paths, key=_folder_of):
        units |= find_units(inside)
    return units


def _folder_of(path: str) -> str:
    return path.rpartition("/")[0]


def _first_files(rows: Iterable[KnownFile]) -> dict[int, int]:
    """Content to the file that stands for it: the first by path."""
    first: dict[int, KnownFile] = {}
    for row in rows:
        before = first.setdefault(row[_CONTENT], row)
        if before is not row and os.fsencode(row[_PATH]) < os.fsencode(before[_PATH]):
            first[row[_CONTENT]] = row
    return {content: row[_ID] for content, row in first.items()}


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
