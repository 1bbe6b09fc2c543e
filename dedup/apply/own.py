"""Our own folder in a root: made, locked, tried out and removed so that the root looks as if nobody had been there.

Promises: what is written and removed here is ours alone: `.dedup`, its lock, empty files with names that nobody else
gives, and the empty folders of runs. Does not: touch what lies in quarantine.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from dedup.apply import syscalls
from dedup.errors import Busy
from dedup.records import PlanRoot

OWN = b".dedup"
QUARANTINE = OWN + b"/quarantine"
PROBE = OWN + b"/probe"

_TOKEN = re.compile(r"[0-9a-f]{24}(\.[23])?")


@dataclass(slots=True)
class Root:
    """A root, open, and what was found out about it."""

    number: int
    place: PlanRoot
    fd: int
    device: int
    """Now; the one that was noted may be of an earlier mount."""
    exchanges: bool = False
    keeps: bool = False
    """Whether a rename that must not overwrite is possible."""
    links: bool = False
    token: bytes = b""
    locks: list[int] = field(default_factory=list)


class Unreachable(Exception):
    """A root in which nothing can be done now, with the reason and the remedy."""

    def __init__(self, why: str, remedy: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.remedy = remedy


def lock_root(root: Root) -> int:
    """Open and lock `.dedup/lock`, made if it is missing.

    Whoever finds nothing in quarantine at its end removes the lock and its folder, so a lock counts only while its name
    still leads to it.
    """
    while True:
        if syscalls.look_at(root.fd, OWN) is None:
            make_folder(root.fd, OWN)
            os.fsync(root.fd)
        own = os.open(OWN, syscalls.FOLDER_FLAGS, dir_fd=root.fd)
        try:
            if os.fstat(own).st_dev != root.device:
                raise Unreachable(f"{os.fsdecode(os.path.join(root.place.path, OWN))} is another disk")
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = os.open(b"lock", flags, 0o600, dir_fd=own)
        except FileNotFoundError:
            continue  # the folder was removed in this moment
        finally:
            os.close(own)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _leads_to(root.fd, OWN + b"/lock", fd):
                return fd
        except BlockingIOError as error:
            os.close(fd)
            path = os.fsdecode(root.place.path)
            raise Busy(f"{path}: another run is changing photos there; wait until it is finished") from error
        except OSError:
            os.close(fd)
            raise
        os.close(fd)


def _leads_to(folder: int, path: bytes, file: int) -> bool:
    """Whether a path below a folder is that of an open file."""
    try:
        fd = syscalls.open_beneath(folder, path, syscalls.FILE_FLAGS)
    except FileNotFoundError:
        return False
    try:
        return identity_of(os.fstat(fd)) == identity_of(os.fstat(file))
    finally:
        os.close(fd)


def tidy(root: Root) -> None:
    """Remove `.dedup` from a root that we hold, if there is nothing in it but the lock."""
    own = os.open(OWN, syscalls.FOLDER_FLAGS, dir_fd=root.fd)
    try:
        with suppress(FileNotFoundError):
            os.rmdir(b"quarantine", dir_fd=own)
        if os.listdir(own) != ["lock"]:
            return
        os.unlink(b"lock", dir_fd=own)
    finally:
        os.close(own)
    remove_own(root)


def remove_own(root: Root) -> None:
    """Remove `.dedup` if it is empty, and leave the time of the root as it was."""
    before = os.fstat(root.fd)
    os.rmdir(OWN, dir_fd=root.fd)
    os.utime(root.fd, ns=(before.st_atime_ns, before.st_mtime_ns))


def make_folder(above: int, name: bytes) -> None:
    """Make one of our folders so that the folder around it looks as if nobody had been there."""
    before = os.fstat(above)
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=above)
    with suppress(OSError):  # another user's folder: its time stays the new one
        os.utime(above, ns=(before.st_atime_ns, before.st_mtime_ns))


@contextmanager
def probing(root: Root) -> Iterator[None]:
    """Try what acting needs on files of our own, one of which stays to be seen from elsewhere until the end."""
    for path in (OWN, PROBE):
        above, _, name = path.rpartition(b"/")
        folder = syscalls.open_beneath(root.fd, above, syscalls.FOLDER_FLAGS)
        try:
            if syscalls.look_at(folder, name) is None:
                make_folder(folder, name)
        finally:
            os.close(folder)
    folder = syscalls.open_beneath(root.fd, PROBE, syscalls.FOLDER_FLAGS)
    _sweep(folder)
    root.token = secrets.token_hex(12).encode("ascii")
    one, two = root.token, root.token + b".2"
    made: list[bytes] = []
    try:
        for name in (one, two):
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder))
            made.append(name)
        root.exchanges = _can_exchange(folder, one, two)
        root.keeps = _can_keep(folder, one, two)
        root.links = _can_link(folder, one, made)
        with suppress_missing():
            os.fsync(folder)
        if not root.keeps and not root.links:
            raise Unreachable(
                f"the file system of {os.fsdecode(root.place.path)} can neither rename without overwriting nor make "
                "hard links, so that a photo could not be given back safely",
            )
        yield
    finally:
        for name in {*made, one + b".3"}:
            with suppress(OSError):
                os.unlink(name, dir_fd=folder)
        os.close(folder)
        with suppress(OSError):
            own = syscalls.open_beneath(root.fd, OWN, syscalls.FOLDER_FLAGS)
            try:
                os.rmdir(b"probe", dir_fd=own)
            finally:
                os.close(own)


def _sweep(folder: int) -> None:
    """Remove what a probe that was killed left: empty files of our own naming. The lock is ours."""
    for name in os.listdir(folder):
        found = syscalls.look_at(folder, os.fsencode(name))
        if found is not None and _TOKEN.fullmatch(name) and syscalls.is_regular(found) and not found.st_size:
            os.unlink(name, dir_fd=folder)


@contextmanager
def suppress_missing() -> Iterator[None]:
    """Let pass what a file system says of a call that it does not know."""
    try:
        yield
    except OSError as error:
        if error.errno not in syscalls.NOT_THERE:
            raise


def _can_exchange(folder: int, one: bytes, two: bytes) -> bool:
    before = os.stat(one, dir_fd=folder).st_ino, os.stat(two, dir_fd=folder).st_ino
    try:
        syscalls.exchange((folder, one), (folder, two))
    except OSError as error:
        if error.errno in syscalls.NOT_THERE:
            return False
        raise
    return (os.stat(two, dir_fd=folder).st_ino, os.stat(one, dir_fd=folder).st_ino) == before


def _can_keep(folder: int, one: bytes, two: bytes) -> bool:
    """Both ways: the kernel itself refuses a name that is taken, and only a free one comes before the file system."""
    free = one + b".3"
    try:
        syscalls.rename_to_free((folder, two), (folder, free))
        syscalls.rename_to_free((folder, free), (folder, two))
        syscalls.rename_to_free((folder, one), (folder, two))
    except FileExistsError:
        return True
    except OSError as error:
        if error.errno in syscalls.NOT_THERE:
            return False
        raise
    return False  # it overwrote: a file system that does not know what it was asked


def _can_link(folder: int, one: bytes, made: list[bytes]) -> bool:
    name = one + b".3"
    try:
        os.link(one, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno in (*syscalls.NOT_THERE, errno.EPERM, errno.EMLINK):
            return False
        raise
    made.append(name)
    found = os.stat(name, dir_fd=folder)
    return found.st_nlink >= 2 and found.st_ino == os.stat(one, dir_fd=folder).st_ino


def sees(folder: int, root: Root) -> bool:
    """Whether the token of a root can be seen from another folder's own `.dedup`."""
    try:
        os.close(syscalls.open_beneath(folder, PROBE + b"/" + root.token, syscalls.FILE_FLAGS))
    except OSError:
        return False
    return True


def identity_of(found: os.stat_result) -> tuple[int, int]:
    """Device and inode."""
    return found.st_dev, found.st_ino
