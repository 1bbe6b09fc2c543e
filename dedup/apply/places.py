"""Where acting happens: roots, folders and names by descriptor, what each file system can do, and who may act there.

Promises: no path is followed over a symbolic link or out of its root; nothing is written but `.dedup` in roots that
hold something to act on, and only once their lock is held; what a file system can do is found by trying it there.
Does not: move a photo.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from dedup.apply import own, syscalls
from dedup.apply.own import OWN, QUARANTINE, Root, Unreachable, identity_of
from dedup.errors import Unsafe, UsageError
from dedup.records import PlanRoot

_OPEN_FOLDERS = 128
"""Folders held open at a time; half of what macOS lets a process open by default."""
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
            return identity_of(os.fstat(again)) == self.identity
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
                    own.tidy(root)
        for root in self.roots.values():
            for fd in root.locks:
                os.close(fd)
            if root.locks:
                # On FUSE a file that is removed while it is open stays under a hidden name until it is closed.
                with suppress(OSError):
                    own.remove_own(root)
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
            self._folders[key] = Folder(place, path, fd, identity_of(os.fstat(fd)))
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
                self._protected.add(identity_of(os.stat(path)))
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
        if any(path == safe or path.startswith(safe.rstrip(b"/") + b"/") for safe in self._protected_paths):
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
                    identity = identity_of(os.fstat(here))
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
                root.locks.append(own.lock_root(root))
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
                        tokens.enter_context(own.probing(self.roots[number]))
                        ready.append(self.roots[number])
                    except Unreachable as why:
                        self.trouble[number] = why
                    except OSError as error:
                        self.trouble[number] = _cannot_write(self.roots[number], error)
            self._find_aliases(ready, onlookers)

    def _find_aliases(self, ready: Sequence[Root], onlookers: Iterable[bytes]) -> None:
        for root in ready:
            for other in self.roots.values():
                if other is not root and own.sees(other.fd, root):
                    self.aliases.add(frozenset((root.number, other.number)))
        for path in onlookers:
            with suppress(OSError):
                fd = os.open(path, syscalls.FOLDER_FLAGS & ~getattr(os, "O_NOFOLLOW", 0))
                try:
                    for root in ready:
                        if own.sees(fd, root):
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
                own.make_folder(here.fd, part)
                here.sync()
            here = self.folder(root.number, below)
            if here.identity[0] != root.device:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), os.fsdecode(below))
        return here


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


def put_times_back(folders: Sequence[tuple[Folder, int]]) -> None:
    """Give folders the time they had before."""
    for folder, mtime_ns in folders:
        with suppress(OSError):  # a folder of somebody else's
            os.utime(folder.fd, ns=(os.fstat(folder.fd).st_atime_ns, mtime_ns))
