"""The looking stage: the crawl against the catalogue, and what came, went, changed or moved.

Promises: a file whose size and time are as they were is not opened; a file that is gone is forgotten only where its
folder could be listed and its root is there at all. Does not: read a photo, or write to the catalogue
before the crawl is over.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from dedup.catalogue import Catalogue, FileState, KnownFile, file_of_row
from dedup.crawl import find_photos
from dedup.pipeline.places import Progress, below
from dedup.records import PhotoFile, Reason, Skipped
from dedup.settings import Settings

_STEP = 1000
"""Files between two calls of `progress`."""

_SIZE: Final = 1
_MTIME: Final = 2
_STATE: Final = 7
_ID: Final = 8


@dataclass(frozen=True, slots=True)
class Sighting:
    """What the crawl found, compared with the catalogue."""

    files: int
    """Everything that was found, photos or not."""
    seen_ids: list[int]
    """Ids of the known files that are still there, changed ones among them."""
    fresh: list[PhotoFile]
    """New files, and known paths with another size or time."""
    touched: list[PhotoFile]
    """Same size and time, but another change time, device, inode or link count."""
    gone: list[KnownFile]
    pending_ids: list[int]
    """Known files that an earlier run did not come to."""
    replaced: list[KnownFile]
    """Known files that now have another size or time, as they were."""
    passed_over: list[Skipped]
    passed_over_before: list[Skipped]
    passed_over_elsewhere: list[Skipped]
    """What earlier crawls of other roots passed over."""

    def is_quiet(self, seen_before: str) -> bool:
        """Whether everything is as it was at the last scan, which saw the files of `seen_before`."""
        changes = self.fresh or self.touched or self.gone or self.pending_ids
        return (
            not changes
            and self.passed_over == self.passed_over_before
            and seen_mark(self.seen_ids) == seen_before
        )


def seen_mark(file_ids: Iterable[int]) -> str:
    """A digest of which files were seen: known files below a root that was away are there again without being new."""
    return hashlib.sha256(array("q", sorted(file_ids)).tobytes()).hexdigest()[:16]


def look(catalogue: Catalogue, roots: Sequence[str], settings: Settings, progress: Progress) -> Sighting:
    """Crawl the roots and compare what is there with what is known."""
    known = {row[0]: row for row in catalogue.known_files()}
    is_here = below(roots)
    before: list[Skipped] = []
    elsewhere: list[Skipped] = []
    for skipped in catalogue.passed_over():
        (before if is_here(skipped.path) else elsewhere).append(skipped)
    others = {
        skipped.path: (skipped.size_bytes, skipped.mtime_ns)
        for skipped in before
        if skipped.reason in (Reason.NOT_A_PHOTO, Reason.DAMAGED)
    }
    find_row, find_other = known.get, others.get

    def what_it_was(path: str, size_bytes: int, mtime_ns: int) -> str:
        row = find_row(path)
        if row is not None:
            return "photo" if row[_SIZE] == size_bytes and row[_MTIME] == mtime_ns else ""
        other = find_other(path)
        return "other" if other is not None and other == (size_bytes, mtime_ns) else ""

    unchanged_ids: list[int] = []
    note, forget, photo = unchanged_ids.append, known.__delitem__, int(FileState.PHOTO)
    count = 0

    def is_unchanged(path: str, status: os.stat_result) -> bool:
        """Whether a file is in all respects the photo that it was; then it is noted here, and heard of no more."""
        row = find_row(path)
        if row is None or row[_SIZE:_ID] != (
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
            status.st_dev,
            status.st_ino,
            status.st_nlink,
            photo,
        ):
            return False
        note(row[_ID])
        forget(path)
        if not len(unchanged_ids) % _STEP:
            progress("crawl", count + len(unchanged_ids), None)
        return True

    seen_ids: list[int] = []
    fresh: list[PhotoFile] = []
    touched: list[PhotoFile] = []
    pending_ids: list[int] = []
    replaced: list[KnownFile] = []
    passed_over: list[Skipped] = []
    for found in find_photos(roots, settings, what_it_was, is_unchanged):
        count += 1
        if not count % _STEP:
            progress("crawl", count + len(unchanged_ids), None)
        if isinstance(found, Skipped):
            passed_over.append(found)
            continue
        row = known.pop(found.path, None)
        if row is None:
            fresh.append(found)
            continue
        seen_ids.append(row[_ID])
        if row[_SIZE] != found.size_bytes or row[_MTIME] != found.mtime_ns:
            fresh.append(found)
            replaced.append(row)
            continue
        # Compared as a file, since a network disk's inode may fill all 64 bits, which the row shows as negative.
        if file_of_row(row) != found:
            touched.append(found)
        if row[_STATE] == FileState.PENDING:
            pending_ids.append(row[_ID])
    count += len(unchanged_ids)
    progress("crawl", count, count)
    return Sighting(
        files=count,
        seen_ids=unchanged_ids + seen_ids,
        fresh=fresh,
        touched=touched,
        gone=_gone(known, roots, passed_over),
        pending_ids=pending_ids,
        replaced=replaced,
        passed_over=passed_over,
        passed_over_before=before,
        passed_over_elsewhere=elsewhere,
    )


def _gone(
    unseen: dict[str, KnownFile], roots: Sequence[str], passed_over: Sequence[Skipped]
) -> list[KnownFile]:
    """Known files that the crawl would have seen if they were still there."""
    if not unseen:
        return []
    present = tuple(_as_prefix(root) for root in roots if _is_there(root))
    blind = {
        skipped.path
        for skipped in passed_over
        if skipped.reason in (Reason.UNREADABLE, Reason.OTHER_FILE_SYSTEM)
    }
    blind_folders = tuple(_as_prefix(path) for path in blind)
    return [
        row
        for path, row in unseen.items()
        if path.startswith(present)
        and path not in blind
        and not (blind_folders and path.startswith(blind_folders))
    ]


def _as_prefix(path: str) -> str:
    return path if path.endswith("/") else path + "/"


def _is_there(root: str) -> bool:
    """Whether a root is there: an empty folder may be the mount point of a disk that is not plugged in."""
    try:
        with os.scandir(root) as entries:
            return next(entries, None) is not None
    except NotADirectoryError:
        return True
    except OSError:
        return False
