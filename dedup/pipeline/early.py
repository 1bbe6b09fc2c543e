"""A file looked at and given to a worker before anything else is imported: half of the time of one `dedup check`.

Promises: imports nothing but the engine; what is read is the file that was looked at. Does not: wait.
"""

from __future__ import annotations

import os
import stat
import sys
import threading
import time
from dataclasses import dataclass
from functools import partial
from importlib import import_module

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
    """In a worker: `fingerprint_photo`, and then the imports of what this worker is likely to be asked next."""
    from dedup.fingerprint import fingerprint_photo

    photo = fingerprint_photo(file, max_pixels)
    if "dedup.confirm.pair" not in sys.modules:
        threading.Thread(target=_import_confirmation, daemon=True).start()
    return photo


def _import_confirmation() -> None:
    time.sleep(_AFTER_THE_ANSWER_S)
    import_module("dedup.confirm.pair")


_AFTER_THE_ANSWER_S = 0.002
"""Time for the picture to be on its way: an import would hold it up. While the parent searches, the worker is idle."""


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
