"""What a scan does when something changed: the stages in order, each fed from the catalogue and storing into it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
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
class _Result:
    """The groups of one scope, ready to be stored."""

    scope: int
    seen: set[int]
    grouped: Grouped
    is_whole: bool
    """Whether they replace all earlier groups of the scope."""


class Work:
    """One scan that has something to do."""

    def __init__(self, catalogue: Catalogue, settings: Settings, progress: Progress) -> None:
        self.catalogue = catalogue
        self.settings = settings
        self.progress = progress
        self.attempt = attempt_text(settings)
        self.decoded = 0
        self.confirmed = 0

    def run(
        self,
        roots: Sequence[str],
        sighting: Sighting,
        last: ScanRecord | None,
        same_ground: bool,
        began: float,
    ) -> ScanOutcome:
        """Everything after the crawl.

        Parameters
        ----------
        same_ground
            Whether roots, settings and program are those of the last scan, so that only files may differ.
        began
            `time.monotonic()` when the scan began.
        """
        catalogue = self.catalogue
        catalogue.check(thorough=False)
        self._take_over(sighting)
        known = {row[_PATH]: row for row in catalogue.known_files()}
        seen = {known[file.path][_ID] for file in sighting.fresh}.union(sighting.seen_ids)
        with open_engine(self.settings.jobs, self._limits()) as engine:
            touched = self._read(engine, known, seen, sighting)
            if catalogue.forget_matches_except(CONFIRM_RECIPE):
                same_ground = False
            found = search_pairs(catalogue, self.settings, self.progress)
            results, late = self._match(engine, seen, touched if same_ground else None)
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
        return ScanOutcome(summary, self._finish(summary, results, late, seen))

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
                self.catalogue.set_passed_over(sighting.passed_over)

    def _read(
        self, engine: Engine, known: dict[str, KnownFile], seen: set[int], sighting: Sighting
    ) -> set[int]:
        """Read what has to be read; the contents to which something happened."""
        catalogue = self.catalogue
        touched = {row[_CONTENT] for row in (*sighting.gone, *sighting.replaced)}
        touched |= {known[file.path][_CONTENT] for file in sighting.touched}
        # What was away the last time, or is away now.
        differing = catalogue.scope_files(LAST_ROOTS) ^ seen
        touched |= {row[_CONTENT] for row in known.values() if row[_ID] in differing}
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
        touched.discard(0)
        # Whoever was tied to a content that went is on its own now.
        present = {row[_CONTENT] for row in now if row[_ID] in seen}
        for low, high, _, relation in catalogue.match_ends():
            if relation and (
                (low in touched and low not in present) or (high in touched and high not in present)
            ):
                touched.update((low, high))
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

    def _match(
        self, engine: Engine, seen: set[int], touched: set[int] | None
    ) -> tuple[list[_Result], list[Skipped]]:
        """Confirm and group what lies below the roots, then all that is known if that is more."""
        catalogue = self.catalogue
        rows = [row for row in catalogue.known_files() if row[_STATE] == FileState.PHOTO]
        others = (skipped.path for skipped in catalogue.passed_over())
        units = find_units([*(row[_PATH] for row in rows), *others])
        keys = {content: key for content, key, _ in catalogue.contents_by_digest(RECIPE)}
        scopes = [(LAST_ROOTS, seen)]
        everything = {row[_ID] for row in rows}
        if not everything <= seen:
            scopes.append((EVERYTHING, everything))
        results: list[_Result] = []
        late: list[Skipped] = []
        for scope, ids in scopes:
            carriers = [row for row in rows if row[_ID] in ids]
            contents = Contents(keys, _first_files(carriers), self.settings.max_pixels)
            preferences = preferences_of(self.settings, units)
            confirmer = Confirmer(catalogue, engine, contents, preferences.order, self.progress)
            confirmer.confirm_candidates()
            grouper = Grouper(
                catalogue, confirmer, [(row[_CONTENT], row[_ID]) for row in carriers], preferences
            )
            # The wider scope is seldom asked for, and then whole: no book is kept of what changed in it.
            part = touched if scope == LAST_ROOTS else None
            grouped = grouper.run(None if part is None else part | confirmer.changed, self.progress)
            results.append(_Result(scope, {row[_ID] for row in carriers}, grouped, part is None))
            self.confirmed += confirmer.measured
            if scope == LAST_ROOTS:
                late = list(confirmer.late.values())
        return results, late

    def _finish(
        self, summary: ScanSummary, results: Iterable[_Result], late: Sequence[Skipped], seen: set[int]
    ) -> Tally:
        """Replace the result of the last scan by this one's, all at once."""
        catalogue = self.catalogue
        passing = any(is_passing(why) for _, _, why in catalogue.failures())
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
        plain["wider"] = False
        with catalogue.all_or_nothing():
            for result in results:
                self._store(result)
                plain["wider"] |= result.scope == EVERYTHING
            if not plain["wider"]:
                catalogue.clear_result(EVERYTHING)
            tally = make_tally(catalogue, read_skipped(catalogue, plain))
            plain["tally"] = tally_to_plain(tally)
            catalogue.put_scan(basis, plain)
            catalogue.pack_files()
        return tally

    def _store(self, result: _Result) -> None:
        catalogue, scope, grouped = self.catalogue, result.scope, result.grouped
        before = catalogue.scope_files(scope)
        catalogue.clear_result(scope, None if result.is_whole else grouped.files | (before - result.seen))
        for group in grouped.groups:
            catalogue.put_group(scope, group)
        for pair in grouped.similar:
            catalogue.put_similar(scope, pair)
        for hub in grouped.hubs:
            catalogue.put_hub(scope, hub)
        kept = set() if result.is_whole else before & result.seen - grouped.files
        catalogue.put_scope_files(scope, result.seen - kept)


def _by_path(file: PhotoFile) -> bytes:
    return file.path_bytes


def _first_files(rows: Iterable[KnownFile]) -> dict[int, int]:
    """Content to the file that stands for it: the first by path."""
    first: dict[int, tuple[bytes, int]] = {}
    for row in rows:
        content = row[_CONTENT]
        entry = (os.fsencode(row[_PATH]), row[_ID])
        if content not in first or entry < first[content]:
            first[content] = entry
    return {content: file for content, (_, file) in first.items()}


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
