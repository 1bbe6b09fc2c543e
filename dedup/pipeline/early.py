"""A file looked at and given to a worker before anything else is imported: half of the time of one `dedup check`.

Promises: imports nothing but the engine; what is read is the file that was looked at. Does not: wait.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from functools import partial

from dedup.engine import Failure, Later, Limits, ProcessEngine, open_engine
from dedup.records import Photo, PhotoFile, Reason, Skipped
from dedup.settings import Settings


@dataclass(frozen=True, slots=True)
class Early:
    """A file that a worker is reading."""

    file: PhotoFile
    engine: ProcessEngine
    photo: Later[Photo | Skipped | Failure]


def open_workers(settings: Settings) -> ProcessEngine:
    """The engine for pictures that are checked."""
    limits = Limits(settings.memory_limit_bytes, settings.decode_timeout_s, settings.decode_timeout_s)
    return open_engine(settings.jobs, limits)


def start_reading(name: str, settings: Settings) -> Early | None:
    """Have a worker read a file; None if there is nothing to be read."""
    file = look_at_file(name)
    if isinstance(file, Skipped):
        return None
    engine = open_workers(settings)
    # Forked now, while this process is small and has no thread.
    engine.dismiss(engine.hire())

    def read() -> Photo | Skipped | Failure:
        ((_, photo),) = engine.map(partial(read_upload, max_pixels=settings.max_pixels), [file])
        return photo

    return Early(file, engine, Later(read))


def read_upload(file: PhotoFile, max_pixels: int) -> Photo | Skipped:
    """In a worker: `fingerprint_photo`, imported there."""
    from dedup.fingerprint import fingerprint_photo

    return fingerprint_photo(file, max_pixels)


def look_at_file(path: str) -> PhotoFile | Skipped:
    """A file that was named, without opening it: what is no regular file is never opened."""
    try:
        # By its real name, since nobody opens a link later.
        path = os.path.realpath(path)
        status = os.lstat(path)
    except (OSError, ValueError) as error:
        words = (getattr(error, "strerror", None) or str(error)).lower()
        return Skipped(path, "crawl", Reason.UNREADABLE, words)
    if not stat.S_ISREG(status.st_mode):
        return Skipped(path, "crawl", Reason.SPECIAL_FILE, "it is no regular file")
    if not status.st_size:
        return Skipped(path, "crawl", Reason.EMPTY, "there is nothing in it", 0, status.st_mtime_ns)
    return PhotoFile(
        path,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_dev,
        status.st_ino,
        status.st_nlink,
    )
