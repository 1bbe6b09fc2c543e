"""Where acting happens: roots, folders and names by descriptor, what each file system can do, and who may act there.

Promises: no path is followed over a symbolic link or out of its root; nothing is written but `.dedup` in roots that
hold something to act on, and only once their lock is held; what a file system can do is found by trying it there.
Does not: move a photo.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

from dedup.apply import syscalls
from dedup.errors import Busy, Unsafe, UsageError
from dedup.records import PlanRoot

OWN = b".dedup"
QUARANTINE = OWN + b"/quarantine"
PROBE = OWN + b"/probe"

_OPEN_FOLDERS = 128
"""Folders held open at a time; half of what macOS lets a process open by default."""
_TOKEN = re.compile(r"[0-9a-f]{24}(\.[23])?")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NEEDS = (os.open, os.stat, os.link, os.rename, os.unlink, os.mkdir, os.rmdir)


class NotPlain(OSError):
    """What was a file is a folder, a link, a pipe or a device now."""


@dataclass(slots=True)
class Folder:
    """An open folder below a root."""

    root: Root
    path: bytes
    """Below the root; empty for the root itself."""
    fd: int
    identity: tuple[int, int]

    def spot(self, name: bytes) -> Spot:
        """A name in it."""
        return Spot(self, name)

    def is_in_place(self) -> bool:
        """Whether its path still leads to it, over no link."""
        try:
            again = syscalls.open_beneath(self.root.fd, self.path, syscalls.FOLDER_FLAGS)
        except OSError:
            return False
        try:
            return _identity(os.fstat(again)) == self.identity
        finally:
            os.close(again)

    def sync(self) -> None:
        """Wait until its names are on the disk."""
        try:
            os.fsync(self.fd)
        except OSError as error:
            if error.errno not in syscalls.NOT_THERE:
                raise
            os.sync()  # a file system that cannot wait for one folder waits for everything


@dataclass(frozen=True, slots=True)
class Spot:
    """A name in an open folder."""

    folder: Folder
    name: bytes

    @property
    def at(self) -> tuple[int, bytes]:
        """As the calls take it."""
        return self.folder.fd, self.name

    @property
    def path(self) -> bytes:
        """Absolute, for words."""
        return os.path.join(self.folder.root.place.path, self.folder.path, self.name)

    def look(self) -> os.stat_result | None:
        """What the name stands for, without following it; None if there is nothing."""
        return syscalls.look_at(self.folder.fd, self.name)

    def open(self) -> int:
        """Open a plain file for reading; what is no plain file is refused before it is opened, and after.

        Raises
        ------
        OSError
            `FileNotFoundError` if there is nothing; `NotPlain` if it is no plain file.
        """
        found = os.stat(self.name, dir_fd=self.folder.fd, follow_symlinks=False)
        if syscalls.is_regular(found):
            fd = os.open(self.name, syscalls.FILE_FLAGS, dir_fd=self.folder.fd)
            if syscalls.is_regular(os.fstat(fd)):
                return fd
            os.close(fd)
        raise NotPlain(errno.EINVAL, "is no longer a plain file", os.fsdecode(self.path))


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


class Places:
    """The roots of a plan or a run, open until `close`."""

    def __init__(self, roots: Sequence[PlanRoot], *, same_mount: bool) -> None:
        """Open the roots; with `same_mount` the device must be the one that was noted, too."""
        if not all(call in os.supports_dir_fd for call in _NEEDS):
            raise UsageError(
                "this system has no calls that change a folder without going by its path, "
                "and without them no photo is touched"
            )
        self.trouble: dict[int, Unreachable] = {}
        """Roots that cannot be reached or acted in, and why."""
        self.roots: dict[int, Root] = {}
        self.aliases: set[frozenset[int]] = set()
        """Pairs of roots that are one folder."""
        self._folders: dict[tuple[int, bytes], Folder] = {}
        self._above: dict[tuple[int, int], frozenset[tuple[int, int]]] = {}
        self._protected: set[tuple[int, int]] = set()
        self._protected_paths: tuple[bytes, ...] = ()
        for number, place in enumerate(roots):
            try:
                self.roots[number] = _open_root(number, place, same_mount)
            except Unreachable as why:
                self.trouble[number] = why
            except OSError as error:
                words = f"{os.fsdecode(place.path)} cannot be looked at ({error.strerror})"
                self.trouble[number] = Unreachable(words, "look at the disk, then try again")

    def close(self) -> None:
        """Let go of everything, locks included; a root in whose quarantine nothing lies is left without a trace."""
        self.forget_folders()
        for root in self.roots.values():
            if root.locks:
                with suppress(OSError):
                    _tidy(root)
        for root in self.roots.values():
            for fd in root.locks:
                os.close(fd)
            if root.locks:
                # On FUSE a file that is removed while it is open stays under a hidden name until it is closed.
                with suppress(OSError):
                    _remove_own(root)
            os.close(root.fd)
        self.roots.clear()

    def __enter__(self) -> Places:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # --- folders --------------------------------------------------------------------------------------------------

    def folder(self, root: int, path: bytes) -> Folder:
        """A folder below a root, opened over no symbolic link.

        Raises
        ------
        Unreachable
            If its root is.
        OSError
        """
        if root in self.trouble:
            raise self.trouble[root]
        key = root, path
        if key not in self._folders:
            if len(self._folders) >= _OPEN_FOLDERS:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), os.fsdecode(path))
            place = self.roots[root]
            fd = syscalls.open_beneath(place.fd, path, syscalls.FOLDER_FLAGS)
            self._folders[key] = Folder(place, path, fd, _identity(os.fstat(fd)))
        return self._folders[key]

    def spot(self, root: int, path: bytes) -> Spot:
        """A file below a root."""
        above, _, name = path.rpartition(b"/")
        return self.folder(root, above).spot(name)

    def forget_folders(self) -> None:
        """Close the folders that are open; call it between batches."""
        for folder in self._folders.values():
            os.close(folder.fd)
        self._folders.clear()

    @property
    def is_crowded(self) -> bool:
        """Whether so many folders are open that a batch should end."""
        return len(self._folders) > _OPEN_FOLDERS // 2

    # --- protection -----------------------------------------------------------------------------------------------

    def protect(self, folders: Iterable[bytes]) -> None:
        """Take note of folders in which nothing may change, by what they are and not only by their names."""
        paths = []
        for path in folders:
            paths.append(path.rstrip(b"/") or b"/")
            with suppress(OSError):
                self._protected.add(_identity(os.stat(path)))
        self._protected_paths = tuple(paths)

    def leave_protected(self, numbers: Iterable[int]) -> None:
        """Note roots that are protected, or lie in a folder that is, before anything is written into them."""
        for number in numbers:
            if number not in self.trouble and self.is_protected(self.folder(number, b"")):
                words = f"{os.fsdecode(self.roots[number].place.path)} is protected"
                self.trouble[number] = Unreachable(words, "nothing in it is changed")

    def is_protected(
        self, folder: Folder, name: bytes = b"", identity: tuple[int, int] | None = None
    ) -> bool:
        """Whether a folder is a protected one or lies in one; or the file of this name and identity in it is."""
        if identity in self._protected:
            return True
        path = os.path.join(folder.root.place.path, folder.path, name).rstrip(b"/")
        if any(path == own or path.startswith(own.rstrip(b"/") + b"/") for own in self._protected_paths):
            return True
        return bool(self._protected) and not self._protected.isdisjoint(self._folders_above(folder))

    def _folders_above(self, folder: Folder) -> frozenset[tuple[int, int]]:
        if folder.identity not in self._above:
            seen = [folder.identity]
            here = os.dup(folder.fd)
            try:
                while True:
                    # Upward there is exactly one way, and no link on it.
                    higher = os.open(b"..", syscalls.FOLDER_FLAGS, dir_fd=here)
                    os.close(here)
                    here = higher
                    identity = _identity(os.fstat(here))
                    if identity == seen[-1]:
                        break
                    seen.append(identity)
            finally:
                os.close(here)
            self._above[folder.identity] = frozenset(seen)
        return self._above[folder.identity]

    # --- making ready ---------------------------------------------------------------------------------------------

    def take(self, numbers: Iterable[int]) -> None:
        """Lock roots for acting: their `.dedup/lock`, held until `close`.

        A root that cannot be written to is noted in `trouble`.

        Raises
        ------
        Busy
            If another run holds one of them; nothing else has happened then.
        Unsafe
            If there is no space left.
        """
        for number in sorted(set(numbers)):
            if number in self.trouble:
                continue
            root = self.roots[number]
            try:
                root.locks.append(_lock_root(root))
            except Unreachable as why:
                self.trouble[number] = why
            except OSError as error:
                self.trouble[number] = _cannot_write(root, error)

    def probe(self, numbers: Iterable[int], onlookers: Iterable[bytes]) -> None:
        """Find out what the file systems of locked roots can do, and which roots are one folder.

        Parameters
        ----------
        onlookers
            Folders that must not be changed: a root that turns out to be one of them is in `trouble` from then on.
        """
        with ExitStack() as tokens:
            ready = []
            for number in sorted(set(numbers)):
                if number not in self.trouble:
                    try:
                        tokens.enter_context(_probing(self.roots[number]))
                        ready.append(self.roots[number])
                    except Unreachable as why:
                        self.trouble[number] = why
                    except OSError as error:
                        self.trouble[number] = _cannot_write(self.roots[number], error)
            self._find_aliases(ready, onlookers)

    def _find_aliases(self, ready: Sequence[Root], onlookers: Iterable[bytes]) -> None:
        for root in ready:
            for other in self.roots.values():
                if other is not root and (
                    _identity(os.fstat(other.fd)) == _identity(os.fstat(root.fd)) or _sees(other.fd, root)
                ):
                    self.aliases.add(frozenset((root.number, other.number)))
        for path in onlookers:
            with suppress(OSError):
                fd = os.open(path, syscalls.FOLDER_FLAGS & ~getattr(os, "O_NOFOLLOW", 0))
                try:
                    for root in ready:
                        if _sees(fd, root):
                            words = f"is the protected folder {os.fsdecode(path)} under another name"
                            self.trouble[root.number] = Unreachable(words, "nothing in it is changed")
                finally:
                    os.close(fd)

    def make_run_folder(self, number: int, run: int) -> Folder:
        """The folder for what one run takes out of a root, made and on the disk.

        Raises
        ------
        OSError
            EEXIST if there is one of this number already.
        """
        root = self.roots[number]
        above = self._own_folder(root, QUARANTINE)
        name = str(run).encode("ascii")
        os.mkdir(name, 0o700, dir_fd=above.fd)
        above.sync()
        return self.folder(number, QUARANTINE + b"/" + name)

    def remove_empty(self, folders: Iterable[bytes]) -> None:
        """Remove folders of runs, given below their roots, in which nothing lies any more."""
        self.forget_folders()
        for folder in set(folders):
            for number in self.roots:
                above, _, name = folder.rpartition(b"/")
                with suppress(OSError, Unreachable):
                    os.rmdir(name, dir_fd=self.folder(number, above).fd)
        self.forget_folders()

    def last_run(self, number: int) -> int:
        """The highest number of a run whose folder is in a root; 0 without one."""
        try:
            folder = self._own_folder(self.roots[number], QUARANTINE)
            return max((int(name) for name in os.listdir(folder.fd) if name.isdecimal()), default=0)
        except OSError:
            return 0

    def _own_folder(self, root: Root, path: bytes) -> Folder:
        """One of our folders in a root, made if it is missing."""
        here = self.folder(root.number, b"")
        for part in path.split(b"/"):
            below = here.path + b"/" + part if here.path else part
            if syscalls.look_at(here.fd, part) is None:
                _make_folder(here.fd, part)
                here.sync()
            here = self.folder(root.number, below)
            if here.identity[0] != root.device:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), os.fsdecode(below))
        return here


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _open_root(number: int, place: PlanRoot, same_mount: bool) -> Root:
    try:
        # The root itself may be reached over a link, as the user wrote it; what it is was noted.
        fd = os.open(place.path, syscalls.FOLDER_FLAGS & ~getattr(os, "O_NOFOLLOW", 0))
    except OSError as error:
        raise Unreachable(
            f"{os.fsdecode(place.path)} cannot be opened ({error.strerror})",
            "connect the disk, then try again",
        ) from error
    try:
        found = os.fstat(fd)
    except OSError:
        os.close(fd)
        raise
    if found.st_ino != place.inode or (same_mount and found.st_dev != place.device):
        os.close(fd)
        raise Unreachable(
            f"{os.fsdecode(place.path)} is another folder than it was",
            "connect the same disk in the same place, or scan and plan again",
        )
    return Root(number, place, fd, found.st_dev)


def _cannot_write(root: Root, error: OSError) -> Unreachable:
    path = os.fsdecode(root.place.path)
    if error.errno in _FULL:
        raise Unsafe(f"{path}: there is no space left for {os.fsdecode(OWN)}; nothing was changed") from error
    return Unreachable(
        f"nothing can be written into {path} ({error.strerror})", "make it writable, then try again"
    )


def _make_folder(above: int, name: bytes) -> None:
    """Make one of our folders so that the folder around it looks as if nobody had been there."""
    before = os.fstat(above)
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=above)
    with suppress(OSError):  # another user's folder: its time stays the new one
        os.utime(above, ns=(before.st_atime_ns, before.st_mtime_ns))


def _lock_root(root: Root) -> int:
    """Open and lock `.dedup/lock`, made if it is missing.

    Whoever finds nothing in quarantine at its end removes the lock and its folder, so a lock counts only while its name
    still leads to it.
    """
    while True:
        if syscalls.look_at(root.fd, OWN) is None:
            _make_folder(root.fd, OWN)
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
        return _identity(os.fstat(fd)) == _identity(os.fstat(file))
    finally:
        os.close(fd)


def _tidy(root: Root) -> None:
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
    _remove_own(root)


def _remove_own(root: Root) -> None:
    """Remove `.dedup` if it is empty, and leave the time of the root as it was."""
    before = os.fstat(root.fd)
    os.rmdir(OWN, dir_fd=root.fd)
    os.utime(root.fd, ns=(before.st_atime_ns, before.st_mtime_ns))


@contextmanager
def _probing(root: Root) -> Iterator[None]:
    """Try what acting needs on files of our own, one of which stays to be seen from elsewhere until the end."""
    for path in (OWN, PROBE):
        above, _, name = path.rpartition(b"/")
        folder = syscalls.open_beneath(root.fd, above, syscalls.FOLDER_FLAGS)
        try:
            if syscalls.look_at(folder, name) is None:
                _make_folder(folder, name)
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


def _sees(folder: int, root: Root) -> bool:
    """Whether the token of a root can be seen from another folder's own `.dedup`."""
    try:
        os.close(syscalls.open_beneath(folder, PROBE + b"/" + root.token, syscalls.FILE_FLAGS))
    except OSError:
        return False
    return True


def put_times_back(folders: Sequence[tuple[Folder, int]]) -> None:
    """Give folders the time they had before."""
    for folder, mtime_ns in folders:
        with suppress(OSError):  # a folder of somebody else's
            os.utime(folder.fd, ns=(os.fstat(folder.fd).st_atime_ns, mtime_ns))
