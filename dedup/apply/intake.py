"""New pictures moved into a folder, from a camera's card for example: the part of `check` that changes folders.

Promises: nothing is ever overwritten, in no folder and under no name; what is moved is the very file that was checked;
across disks the copy is on the disk, and was read back, before the original goes; whatever fails, the original stays.
Does not: decide what is new, or write the journal: a move is one rename, and a copy leaves the original until it is
whole.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Self

from dedup.apply import syscalls
from dedup.apply.files import words_of
from dedup.errors import UsageError
from dedup.records import PhotoFile

CHUNK_BYTES = 1 << 20
MOST_NAMES = 10_000
"""Names tried for one picture: `IMG_0001.jpg`, `IMG_0001-2.jpg` and so on. Cameras begin anew after 9,999."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What came of one move."""

    path: str
    """Where the picture is now; empty if nothing was moved."""
    trouble: str = ""
    """Why nothing was moved, or why the original is still there beside its copy."""


class Intake:
    """A folder that takes new pictures. Use as a context manager."""

    def __init__(self, folder: str) -> None:
        """Opens the folder, made if it is missing.

        Raises
        ------
        UsageError
            If it cannot be made or opened.
        """
        self.folder = os.path.abspath(os.path.expanduser(folder))
        try:
            os.makedirs(self.folder, exist_ok=True)
            self._fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(f"{folder}: new pictures cannot be moved there ({error.strerror})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._fd)

    def holds(self, path: str) -> bool:
        """Whether a file lies in this folder already, by whatever name."""
        real = os.path.realpath(self.folder)
        return os.path.realpath(path).startswith(real.rstrip("/") + "/")

    def take(self, file: PhotoFile, relative: str) -> Moved:
        """Move a file to a free name.

        Parameters
        ----------
        file
            As it was checked; anything else is refused.
        relative
            Where it should be below the folder; a number is added to its name if that is taken.
        """
        with ExitStack() as held:
            try:
                return self._take(file, os.fsencode(relative), held)
            except _Refused as error:
                return Moved("", str(error))
            except OSError as error:
                return Moved("", ": ".join(words_of(error)))

    def _take(self, file: PhotoFile, relative: bytes, held: ExitStack) -> Moved:
        parts = [part for part in relative.split(b"/") if part not in (b"", b".")]
        if not parts or b".." in parts:
            raise _Refused("it has no name below the folder")
        folder, name = os.path.split(file.path_bytes)
        source = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        held.callback(os.close, source)
        fd = os.open(name, syscalls.FILE_FLAGS, dir_fd=source)
        held.callback(os.close, fd)
        _expect(file, fd, source, name)
        target = self._open_folder(parts[:-1], held)
        for wanted in _names(parts[-1]):
            try:
                syscalls.rename_to_free((source, name), (target, wanted))
            except FileExistsError:
                continue
            except OSError as error:
                if error.errno != errno.EXDEV and error.errno not in syscalls.NOT_THERE:
                    raise
                return self._copy(file, (source, name, fd), target, parts)
            if _identity(syscalls.look_at(target, wanted)) != _identity(os.fstat(fd)):
                # Somebody swapped the file in the last moment: what was moved is another one, and goes back.
                syscalls.rename_to_free((target, wanted), (source, name))
                raise _Refused("it was replaced while it was moved")
            return Moved(self._path(parts, wanted))
        raise _Refused("too many files have its name there")

    def _open_folder(self, parts: list[bytes], held: ExitStack) -> int:
        """The folder below ours, made where it is missing, over no symbolic link."""
        here = self._fd
        for part in parts:
            with suppress(FileExistsError):
                os.mkdir(part, dir_fd=here)
            here = os.open(part, syscalls.FOLDER_FLAGS, dir_fd=here)
            held.callback(os.close, here)
        return here

    def _path(self, parts: list[bytes], name: bytes) -> str:
        return os.fsdecode(os.path.join(os.fsencode(self.folder), *parts[:-1], name))

    # --- another disk -------------------------------------------------------------------------------------------------

    def _copy(
        self, file: PhotoFile, source: tuple[int, bytes, int], target: int, parts: list[bytes]
    ) -> Moved:
        folder, name, fd = source
        temporary = f".dedup-{secrets.token_hex(12)}.part".encode("ascii")
        copy = os.open(
            temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666, dir_fd=target
        )
        try:
            try:
                digest = _pour(fd, copy)
                _expect(file, fd, folder, name)
                with suppress(OSError):  # what a file manager noted; not every file system takes it
                    for key, value in syscalls.read_xattrs(fd).items():
                        os.setxattr(copy, key, value)
                found = os.fstat(fd)
                os.utime(copy, ns=(found.st_atime_ns, found.st_mtime_ns))
                os.fsync(copy)
                if _digest(copy) != digest:
                    raise _Refused("the copy does not hold the same bytes; look at the disk")
            finally:
                os.close(copy)
            wanted = _place(target, temporary, parts[-1])
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=target)
            raise
        os.fsync(target)
        path = self._path(parts, wanted)
        try:
            _expect(file, fd, folder, name)
            os.unlink(name, dir_fd=folder)
        except (_Refused, OSError) as error:
            words = str(error) if isinstance(error, _Refused) else ": ".join(words_of(error))
            return Moved(path, f"it was copied, and the original left where it is ({words})")
        return Moved(path)


class _Refused(Exception):
    """Why a file was not moved."""


def _expect(file: PhotoFile, fd: int, folder: int, name: bytes) -> None:
    """Refuse a file that is not what was checked, or whose name stands for another one by now."""
    found = os.fstat(fd)
    now = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_dev, found.st_ino)
    was = (file.size_bytes, file.mtime_ns, file.ctime_ns, file.device, file.inode)
    if not stat.S_ISREG(found.st_mode) or now != was:
        raise _Refused("it was changed after it was checked")
    if _identity(syscalls.look_at(folder, name)) != _identity(found):
        raise _Refused("it was replaced after it was checked")


def _identity(found: os.stat_result | None) -> tuple[int, int] | None:
    return None if found is None else (found.st_dev, found.st_ino)


def _names(name: bytes) -> Iterator[bytes]:
    """The name, and with a number before its extension."""
    yield name
    stem, extension = os.path.splitext(name)
    for number in range(2, MOST_NAMES):
        yield stem + f"-{number}".encode("ascii") + extension


def _place(folder: int, temporary: bytes, name: bytes) -> bytes:
    """Give a whole copy its name, the first that is free."""
    for wanted in _names(name):
        try:
            syscalls.rename_to_free((folder, temporary), (folder, wanted))
            return wanted
        except FileExistsError:
            continue
        except OSError as error:
            if error.errno not in syscalls.NOT_THERE:
                raise
        try:
            os.link(temporary, wanted, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            continue
        os.unlink(temporary, dir_fd=folder)
        return wanted
    raise _Refused("too many files have its name there")


def _pour(source: int, target: int) -> bytes:
    """Copy an open file from its beginning; the sha256 of what was read."""
    digest, at = hashlib.sha256(), 0
    while block := os.pread(source, CHUNK_BYTES, at):
        digest.update(block)
        at += len(block)
        view = memoryview(block)
        while view:
            view = view[os.write(target, view) :]
    return digest.digest()


def _digest(fd: int) -> bytes:
    digest, at = hashlib.sha256(), 0
    while block := os.pread(fd, CHUNK_BYTES, at):
        digest.update(block)
        at += len(block)
    return digest.digest()
