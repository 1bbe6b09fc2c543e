"""Files held open while they are acted on: whether they are still what the plan says, and hold the same bytes.

Promises: a file that differs in anything from what was planned is refused, our own links and moves of this run apart;
bytes are read from the very descriptor that was checked. Does not: change anything.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from dedup.apply import syscalls
from dedup.apply.places import NotPlain, Places, Spot
from dedup.records import PlannedFile, xattrs_digest

CHUNK_BYTES = 256 << 10
"""Two of these stay in a processor's cache."""

_AHEAD_BYTES = 32 << 20
"""What is read ahead of a file at most, so that a film does not push everything else out of memory."""

AGAIN = "scan and plan again"


class Refused(Exception):
    """An operation that is not done, or was taken back: why, and what a person can do."""

    def __init__(self, why: str, remedy: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.remedy = remedy


class Stopped(Exception):
    """A signal has asked to stop, and nothing has been done yet."""


@dataclass(slots=True)
class Held:
    """A planned file, open."""

    planned: PlannedFile
    spot: Spot
    fd: int
    who: str
    """Its name in sentences; empty for the duplicate itself."""
    seen: os.stat_result
    lease: syscalls.Lease | None = None

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode."""
        return self.seen.st_dev, self.seen.st_ino

    def refuse(self, what: str, remedy: str = AGAIN) -> Refused:
        """What to raise about this file."""
        return Refused(f"{self.who} {what}".strip(), remedy)


class Holder:
    """Opens and checks the files of one operation, and knows what this run itself did to inodes before."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._ours: dict[tuple[int, int], tuple[int, int]] = {}

    def hold(self, file: PlannedFile, who: str, held: ExitStack) -> Held:
        """Open a file and check that it is as planned.

        Raises
        ------
        Refused
        OSError
            If it cannot be opened.
        """
        try:
            spot = self._places.spot(file.root, file.path)
            fd = spot.open()
        except FileNotFoundError as error:
            raise Refused(f"{who} is no longer there".strip(), AGAIN) from error
        held.callback(os.close, fd)
        one = Held(file, spot, fd, who, os.fstat(fd))
        self.check(one)
        if xattrs_digest(syscalls.read_xattrs(fd)) != file.xattrs:
            raise one.refuse("changed since the plan was made (its attributes)")
        lease = syscalls.Lease(fd)
        held.callback(lease.release)
        if lease.writer:
            raise one.refuse("is being written to by another program", "close that program, then try again")
        one.lease = lease
        return one

    def check(self, held: Held) -> None:
        """Whether an open file is as planned, in everything that `fstat` says."""
        planned, found = held.planned, os.fstat(held.fd)
        if (found.st_dev, found.st_ino) != (planned.device, planned.inode):
            raise held.refuse("is another file than when the plan was made")
        ctime_ns, link_count = self._ours.get(held.identity, (planned.ctime_ns, planned.link_count))
        now = (
            found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_nlink, found.st_mode, found.st_uid,
            found.st_gid,
        )  # fmt: skip
        if now != (
            planned.size_bytes, planned.mtime_ns, ctime_ns, link_count, planned.mode, planned.uid, planned.gid,
        ):  # fmt: skip
            raise held.refuse("changed since the plan was made")

    def take_over(self, left: Iterable[tuple[int, int, int, int]]) -> None:
        """What an earlier run of the same plan did to inodes: device, inode, time of change, number of links."""
        for device, inode, ctime_ns, link_count in left:
            self._ours[device, inode] = ctime_ns, link_count

    def left(self, held: Iterable[Held]) -> list[list[int]]:
        """What there is to take over about some files."""
        return [[*one.identity, *self._ours[one.identity]] for one in held if one.identity in self._ours]

    def note(self, held: Held) -> None:
        """Remember what our own act did to an inode, if its bytes and times are still what they were."""
        found = os.fstat(held.fd)
        planned = held.planned
        if (found.st_size, found.st_mtime_ns) == (planned.size_bytes, planned.mtime_ns):
            self._ours[held.identity] = found.st_ctime_ns, found.st_nlink


class Reader:
    """Reads open files from beginning to end."""

    def __init__(self, stopping: Callable[[], bool]) -> None:
        """`stopping` ends a reading with `Stopped`; after an act it must not."""
        self._stopping = stopping
        self._one, self._other = bytearray(CHUNK_BYTES), bytearray(CHUNK_BYTES)

    def digest(self, fd: int, size_bytes: int) -> bytes:
        """sha256 of an open file; empty if it has more than so many bytes."""
        _announce(fd, size_bytes)
        digest, view, at = hashlib.sha256(), memoryview(self._one), 0
        while True:
            if self._stopping():
                raise Stopped
            count = os.preadv(fd, [view], at)
            if not count:
                return digest.digest()
            digest.update(view[:count])
            at += count
            if at > size_bytes:  # it grows while it is read
                return b""

    def check_planned(self, held: Held) -> None:
        """Read a file to the end and check its digest."""
        if self.digest(held.fd, held.planned.size_bytes) != held.planned.digest:
            raise held.refuse("does not hold the bytes that were planned for")

    def check_same(self, dup: Held, keep: Held, *, hashed: bool = True) -> None:
        """Read two files to the end and check that they hold the same bytes, and of the planned digest.

        Not `hashed`, it says that the two are the same now, not that they are what was planned for.
        """
        digest, size = hashlib.sha256(), keep.planned.size_bytes
        if dup.planned.size_bytes != size:
            raise dup.refuse(f"does not hold the same bytes as {keep.who}")
        one, other, at = self._one, self._other, 0
        _announce(keep.fd, size)
        _announce(dup.fd, size)
        while at < size:
            if self._stopping():
                raise Stopped
            want = min(CHUNK_BYTES, size - at)
            if want < CHUNK_BYTES:
                one, other = bytearray(want), bytearray(want)
            mine, theirs = _fill(keep.fd, one, at, want), _fill(dup.fd, other, at, want)
            if mine != want or theirs != want or one != other:
                raise dup.refuse(f"does not hold the same bytes as {keep.who}")
            if hashed:
                digest.update(one)
            at += want
        if hashed and not digest.digest() == keep.planned.digest == dup.planned.digest:
            raise keep.refuse("does not hold the bytes that were planned for")


def _announce(fd: int, size_bytes: int) -> None:
    """Have the system read ahead, one whole file before the next: by turns they are seeks on a spinning disk."""
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(fd, 0, min(size_bytes, _AHEAD_BYTES), os.POSIX_FADV_WILLNEED)


def _fill(fd: int, buffer: bytearray, at: int, want: int) -> int:
    """Read exactly `want` bytes from a position, fewer only at the end of the file."""
    view, have = memoryview(buffer), 0
    while have < want:
        count = os.preadv(fd, [view[have:want]], at + have)
        if not count:
            break
        have += count
    return have


_WORDS = {
    errno.EXDEV: (
        "its place and the quarantine are on different disks",
        "scan the inner disk as a folder of its own",
    ),
    errno.EMLINK: (
        "the photo that is kept has as many links as the file system allows",
        "use --action quarantine",
    ),
    errno.EROFS: ("the disk is read-only", "make it writable, then try again"),
    errno.EACCES: ("you may not change it", "run as its owner"),
    errno.EPERM: ("you may not change it", "it may be immutable, or belong to somebody else"),
    errno.ENOSPC: ("there is no space left on the disk", "free some space, then try again"),
    errno.EDQUOT: ("your quota is used up", "free some space, then try again"),
    errno.ELOOP: ("there is a symbolic link in its path", AGAIN),
    errno.ENOTDIR: ("there is a symbolic link in its path, or no folder", AGAIN),
    errno.ENOENT: ("it is no longer there", AGAIN),
}


def words_of(error: OSError) -> tuple[str, str]:
    """Reason and remedy for what the system said."""
    if isinstance(error, NotPlain):
        return str(error.strerror), AGAIN
    if error.errno in _WORDS:
        return _WORDS[error.errno]
    return f"the system refused it ({error.strerror or error})", "look at the disk, then try again"
