"""`scan_library`: crawl, read, search, confirm and group, as much of it as the changes since the last scan ask for.

Promises: what was found before is not found again; a scan that is interrupted at any time leaves a consistent
catalogue, and the next one goes on where it stopped; if nothing changed, the result of the last scan stands and none
of the heavy stages is even imported.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from dedup.catalogue import Catalogue
from dedup.errors import UsageError
from dedup.pipeline.looking import look
from dedup.pipeline.places import Progress, absolute_folder, catalogue_path
from dedup.pipeline.results import (
    LAST_ROOTS,
    read_report,
    rules_hold,
    summary_from_plain,
    summary_to_plain,
    tally_from_plain,
)
from dedup.records import DuplicateGroup, Report, ScanOutcome
from dedup.settings import Settings


def say_nothing(stage: str, done: int, total: int | None) -> None:
    """Progress that nobody wants to see."""


def scan_library(
    roots: Sequence[str | os.PathLike[str]],
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> Report:
    """Find the duplicates among the photos below some folders.

    Parameters
    ----------
    roots
        Folders, or single photos.
    settings
        Where the catalogue is, what to leave out, which folders come first.
    progress
        Called as `progress(stage, done, total)`; stages are crawl, hash, search, confirm and group.

    Returns
    -------
    Report
        What `load_report` gives from now on.

    Raises
    ------
    UsageError
        If no folder is given, or none of them exists.
    Busy
        If another run holds the catalogue.
    Unsafe
        If the catalogue cannot be believed or written, or a stage fails.
    """
    settings = settings or Settings()
    with Catalogue.open(catalogue_path(settings), write=True) as catalogue:
        _scan(catalogue, roots, settings, progress or say_nothing)
        return read_report(catalogue, LAST_ROOTS)


def find_duplicates(
    *folders: str | os.PathLike[str], settings: Settings | None = None, progress: Progress | None = None
) -> tuple[DuplicateGroup, ...]:
    """The duplicate groups among the photos below some folders.

    `scan_library` for once: without a `db` in the settings, what was found is not kept for the next time.

    Examples
    --------
    >>> for group in find_duplicates("/home/me/Pictures"):  # doctest: +SKIP
    ...     print(group.keeper.file.path, [member.match.sentence for member in group.members])
    """
    settings = settings or Settings()
    if settings.db:
        return scan_library(folders, settings, progress).groups
    with tempfile.TemporaryDirectory(prefix="dedup-") as place:
        once = replace(settings, db=os.path.join(place, "catalogue.db"))
        return scan_library(folders, once, progress).groups


def scan_folders(
    roots: Sequence[str | os.PathLike[str]],
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> ScanOutcome:
    """`scan_library` without loading what it found, for callers that want the numbers only.

    On 100,000 photos of which none changed, loading the groups would take longer than everything else.
    """
    settings = settings or Settings()
    with Catalogue.open(catalogue_path(settings), write=True) as catalogue:
        return _scan(catalogue, roots, settings, progress or say_nothing)


def absolute_roots(roots: Sequence[str | os.PathLike[str]]) -> tuple[str, ...]:
    """The roots as the crawl names them, sorted, each once.

    Raises
    ------
    UsageError
        If there is none, or none of them exists.
    """
    if isinstance(roots, str | bytes) or not roots:
        raise UsageError("name the folders to scan, as a list")
    found = {absolute_folder(os.fspath(root)) for root in roots}
    if not any(os.path.exists(path) for path in found):
        raise UsageError(f"{min(found)}: there is no such folder; name one that exists")
    return tuple(sorted(found, key=os.fsencode))


def _scan(
    catalogue: Catalogue, given: Sequence[str | os.PathLike[str]], settings: Settings, progress: Progress
) -> ScanOutcome:
    began = time.monotonic()
    roots = absolute_roots(given)
    last = catalogue.last_scan()
    sighting = look(catalogue, roots, settings, progress)
    if (
        last is not None
        and last.basis["roots"] == list(roots)
        and not last.basis["unsettled"]
        and rules_hold(last, settings)
        and sighting.is_quiet(last.basis["seen"])
        and not catalogue.unsettled_contents()
    ):
        summary = replace(
            summary_from_plain(last.summary),
            read=0,
            candidates=0,
            confirmed=0,
            seconds=round(time.monotonic() - began, 3),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        catalogue.put_scan(last.basis, last.summary | summary_to_plain(summary))
        return ScanOutcome(summary, tally_from_plain(last.summary["tally"]))
    from dedup.pipeline.work import Work

    return Work(catalogue, settings, progress).run(roots, sighting, last, began)
