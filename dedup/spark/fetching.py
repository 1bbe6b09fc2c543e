"""Pictures brought to where they are read: objects fetched once, files of a mounted folder taken as they are.

Promises: what is given to a stage is a `PhotoFile` that the stage can open; what it says about it comes back under
the name that was listed; an object that is not the one that was listed is `CHANGED`. Does not: keep anything when it
is closed.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, Self, TypeVar, cast

from dedup.confirm import ComponentJob, ComponentResult
from dedup.engine import Engine, Failure
from dedup.pipeline import is_address
from dedup.records import Photo, PhotoFile, Reason, Skipped

T = TypeVar("T")
R = TypeVar("R")


class Fetcher:
    """A temporary folder for objects. Use as a context manager."""

    def __init__(self) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="dedup-fetch-", ignore_cleanup_errors=True)
        self._held: dict[str, PhotoFile] = {}
        self.fetched = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._place.cleanup()

    def bring(self, file: PhotoFile, digest: bytes = b"") -> PhotoFile | Skipped:
        """The file as it can be opened here.

        Parameters
        ----------
        file
            As it was listed, maybe on another machine: its device and inode mean nothing here, and are those of here
            afterwards.
        digest
            What an object must have, if it was read before.
        """
        if not is_address(file.path):
            return _as_here(file)
        if file.path in self._held:
            return self._held[file.path]
        target = os.path.join(self._place.name, f"{len(self._held)}-{os.path.basename(file.path)[-100:]}")
        try:
            import fsspec

            fs, path = fsspec.core.url_to_fs(file.path)
            fs.get_file(path, target)
        except FileNotFoundError:
            return _skipped(file, Reason.CHANGED, "it is not there any more")
        except Exception as error:  # noqa: BLE001 - every store has errors of its own
            with suppress(OSError):
                os.unlink(target)
            return _skipped(file, Reason.UNREADABLE, f"cannot be fetched ({_brief(error)})")
        self.fetched += 1
        status = os.stat(target)
        if status.st_size != file.size_bytes or (digest and _digest(target) != digest):
            os.unlink(target)
            return _skipped(file, Reason.CHANGED, "another object than the one that was listed")
        self._held[file.path] = _file_at(target, status)
        return self._held[file.path]

    def drop(self, file: PhotoFile) -> None:
        """Let go of an object that is not needed any more."""
        held = self._held.pop(file.path, None)
        if held is not None:
            with suppress(OSError):
                os.unlink(held.path)


def head_of(file: PhotoFile, count: int) -> bytes:
    """The first bytes of an object."""
    import fsspec

    fs, path = fsspec.core.url_to_fs(file.path)
    return bytes(fs.cat_file(path, start=0, end=min(count, file.size_bytes)))


def _as_here(file: PhotoFile) -> PhotoFile:
    """A file of a mounted folder with its numbers on this machine; as it is if it changed, which its reader notices."""
    try:
        status = os.lstat(file.path_bytes)
    except OSError:
        return file
    if (status.st_size, status.st_mtime_ns) != (file.size_bytes, file.mtime_ns):
        return file
    return replace(file, device=status.st_dev, inode=status.st_ino)


def _file_at(path: str, status: os.stat_result) -> PhotoFile:
    return PhotoFile(
        path,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_dev,
        status.st_ino,
        status.st_nlink,
    )


def _digest(path: str) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _skipped(file: PhotoFile, reason: Reason, detail: str) -> Skipped:
    return Skipped(file.path, "fingerprint", reason, detail, file.size_bytes, file.mtime_ns)


def _brief(error: Exception) -> str:
    lines = str(error).splitlines()
    return (lines[0] if lines else type(error).__name__)[:160]


class FetchingEngine:
    """An engine for confirmation: brings the pictures of each job here before the job goes to a worker."""

    def __init__(self, engine: Engine, fetcher: Fetcher) -> None:
        self._engine = engine
        self._fetcher = fetcher

    def map(
        self,
        function: Callable[[T], R],
        items: Iterable[T],
        *,
        weight: Callable[[T], float] | None = None,
        patience: Callable[[T], float] | None = None,
    ) -> Iterator[tuple[T, R | Failure]]:
        """See `Engine.map`; items are jobs of confirmation."""
        out: dict[int, tuple[Any, T, dict[str, PhotoFile | Skipped]]] = {}

        def brought() -> Iterator[T]:
            for item in items:
                here, told = self._bring(cast("ComponentJob", item))
                out[id(here)] = (here, item, told)
                yield cast("T", here)

        for here, answer in self._engine.map(function, brought(), weight=weight, patience=patience):
            _, item, told = out.pop(id(here))
            if isinstance(answer, ComponentResult):
                renamed = replace(answer, skipped=tuple(_told(s, told) for s in answer.skipped))
                yield item, cast("R", renamed)
            else:
                yield item, answer

    def _bring(self, job: ComponentJob) -> tuple[ComponentJob, dict[str, PhotoFile | Skipped]]:
        """The job with files that can be opened here; and, by the path that a worker sees, what it stands for."""
        told: dict[str, PhotoFile | Skipped] = {}
        photos: list[Photo] = []
        for photo in job.photos:
            here = self._fetcher.bring(photo.file, photo.digest)
            if isinstance(here, Skipped):
                told[photo.file.path] = replace(here, stage="confirm")
                here = photo.file  # which its reader does not find
            else:
                told[here.path] = photo.file
            photos.append(replace(photo, file=here))
        return replace(job, photos=tuple(photos)), told

    def close(self) -> None:
        """End the workers."""
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _told(skipped: Skipped, told: dict[str, PhotoFile | Skipped]) -> Skipped:
    found = told.get(skipped.path)
    if isinstance(found, Skipped):
        return found
    if found is None:
        return skipped
    return replace(skipped, path=found.path, size_bytes=found.size_bytes, mtime_ns=found.mtime_ns)
