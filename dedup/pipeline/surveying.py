"""Files looked at for a plan: what each one is now, whether it is still what was scanned, and what goes with it.

Promises: reads only; a photo whose size and time are as they were counts as unchanged only if its change time, device
and inode are, too, or if its bytes still have the digest. Does not: believe a name; a file below a folder that has
become a link is out of reach.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Sequence

from dedup.keeper import SIDECAR_EXTENSIONS, find_units
from dedup.pipeline.extents import share_blocks
from dedup.pipeline.places import Progress
from dedup.plan.checks import relative_fault
from dedup.records import (
    UNTOLD,
    Cause,
    Photo,
    PhotoFile,
    PlannedFile,
    PlanRoot,
    Sight,
    xattrs_digest,
)

_NOTES = {
    b"user.xdg.tags": "tags",
    b"user.xdg.comment": "a comment",
    b"user.baloo.rating": "a rating",
    b"com.apple.metadata:_kMDItemUserTags": "tags",
    b"com.apple.metadata:kMDItemFinderComment": "a comment",
}
"""Extended attributes that a person filled in with a file manager."""

_BLOCK = 1 << 20
_STEP = 1000
"""Files between two calls of `progress`."""


class Survey:
    """The library as it is now, each folder listed once and each file looked at once."""

    def __init__(self, roots: Iterable[str], protected: Iterable[str], progress: Progress) -> None:
        """`roots`: folders or single photos that were scanned; those that are not there are left aside."""
        self._progress = progress
        self.roots = _open_roots(roots)
        self.protected = tuple(sorted({os.fsencode(_plain(folder)) for folder in protected}))
        self._protected_inodes = {
            (status.st_dev, status.st_ino)
            for folder in self.protected
            if (status := _status(folder)) is not None
        }
        self._folders: dict[bytes, _Folder] = {}
        self._sights: dict[str, Sight] = {}

    # --- what a plan asks -----------------------------------------------------------------------------------------

    def look(self, photo: Photo) -> Sight:
        """A photo of the catalogue, if it is still what was scanned."""
        path = photo.file.path
        if path not in self._sights:
            self._sights[path] = self._look(photo)
            if not len(self._sights) % _STEP:
                self._progress("plan", len(self._sights), None)
        return self._sights[path]

    def read(self, path: str) -> Sight:
        """Any other file, read for its digest."""
        if path not in self._sights:
            self._sights[path] = self._read(path, None)
        return self._sights[path]

    def unit(self, path: str) -> tuple[str, ...]:
        """Files that go where this one goes, and what goes with those; sorted."""
        folder = self._folder(os.path.dirname(path))
        found, waiting = {path}, [path]
        while waiting:
            for other in folder.units.get(waiting.pop(), ()):
                if other not in found:
                    found.add(other)
                    waiting.append(other)
        return tuple(sorted(found - {path}, key=os.fsencode))

    def owners(self, path: str) -> tuple[str, ...]:
        """Photos that a sidecar or partner belongs to; sorted."""
        return tuple(sorted(self._folder(os.path.dirname(path)).owners.get(path, ()), key=os.fsencode))

    def is_sidecar(self, path: str) -> bool:
        """Whether it only says something about a picture, rather than being one."""
        return os.path.splitext(path)[1].casefold() in SIDECAR_EXTENSIONS

    def share_blocks(self, one: Photo, other: Photo) -> bool:
        """Whether the two lie in the same blocks already."""
        return share_blocks(one.file.path, other.file.path)

    # --- files ----------------------------------------------------------------------------------------------------

    def _look(self, photo: Photo) -> Sight:
        sight = self._read(photo.file.path, photo)
        if sight.file is not None and sight.file.digest != photo.digest:
            return _changed()
        return sight

    def _read(self, path: str, photo: Photo | None) -> Sight:
        """A file with its digest: the photo's own where nothing speaks against it, else from its bytes."""
        name = os.fsencode(path)
        root = self._root_of(name)
        if root is None:
            return Sight(
                None,
                cause=Cause.PLACE,
                why="it lies below none of the folders that were scanned",
                remedy="scan its folder",
            )
        folder = self._folder(os.path.dirname(path))
        if folder.trouble:
            return Sight(None, cause=Cause.PLACE, why=folder.trouble)
        relative = os.path.relpath(name, self.roots[root].path)
        if why := relative_fault(relative):
            return Sight(None, cause=Cause.PLACE, why=why)
        try:
            status = os.lstat(name)
            if not stat.S_ISREG(status.st_mode):
                return _changed()
            if photo is not None and not _is_as_scanned(status, photo.file):
                return _changed()
            if status.st_dev != self.roots[root].device:
                return Sight(
                    None,
                    cause=Cause.PLACE,
                    why="it lies on another disk than the folder that was scanned",
                    remedy="scan that disk's own folder",
                )
            if not os.access(name, os.R_OK):
                return Sight(None, cause=Cause.PLACE, why="it cannot be read")
            attributes = _attributes(name)
            known = photo is not None and _is_same_inode(status, photo.file)
            digest = photo.digest if photo is not None and known else _digest(name)
            after = os.lstat(name)
        except FileNotFoundError:
            return Sight(None, cause=Cause.CHANGED, why="it is gone", remedy="scan again")
        except OSError as error:
            return Sight(None, cause=Cause.PLACE, why=f"it cannot be looked at ({error.strerror})")
        if _signature(after) != _signature(status):
            return _changed()
        file = PlannedFile(
            root=root,
            path=relative,
            device=status.st_dev,
            inode=status.st_ino,
            size_bytes=status.st_size,
            mtime_ns=status.st_mtime_ns,
            ctime_ns=status.st_ctime_ns,
            link_count=status.st_nlink,
            mode=status.st_mode,
            uid=status.st_uid,
            gid=status.st_gid,
            xattrs=xattrs_digest(attributes),
            digest=digest,
        )
        notes = tuple(
            (words, attributes[key]) for key, words in sorted(_NOTES.items()) if attributes.get(key)
        )
        return Sight(file, protected=folder.protected or self._is_protected(name), notes=notes)

    def _root_of(self, path: bytes) -> int | None:
        """The deepest root that holds the path."""
        holding = [
            (len(root.path), number)
            for number, root in enumerate(self.roots)
            if path.startswith(root.path.rstrip(b"/") + b"/")
        ]
        return max(holding)[1] if holding else None

    def _is_protected(self, path: bytes) -> bool:
        """Whether a folder that is protected, or the file itself if one named it, holds the path by name."""
        return any(path == folder or path.startswith(folder.rstrip(b"/") + b"/") for folder in self.protected)

    # --- folders --------------------------------------------------------------------------------------------------

    def _folder(self, path: str) -> _Folder:
        name = os.fsencode(path)
        if name not in self._folders:
            self._folders[name] = self._list(name)
        return self._folders[name]

    def _list(self, path: bytes) -> _Folder:
        try:
            with os.scandir(path) as entries:
                files = [os.fsdecode(entry.path) for entry in entries if entry.is_file(follow_symlinks=False)]
        except OSError as error:
            return _Folder({}, f"its folder cannot be listed ({error.strerror})", False)
        root = self._root_of(path + b"/")
        real = os.path.realpath(path)
        if root is not None:
            below = os.path.relpath(path, self.roots[root].path)
            if real != os.path.normpath(os.path.join(os.path.realpath(self.roots[root].path), below)):
                return _Folder({}, "a folder above it has become a link", False)
        return _Folder(find_units(files), "", self._is_below_protected(real))

    def _is_below_protected(self, real: bytes) -> bool:
        """Whether this folder or one above it is a protected one, whatever its name: by a link, or a second mount."""
        while self._protected_inodes:
            status = _status(real)
            if status is None or (status.st_dev, status.st_ino) in self._protected_inodes:
                return True
            if real == b"/":
                break
            real = os.path.dirname(real)
        return False


class _Folder:
    """A folder as it is now."""

    def __init__(self, units: dict[str, tuple[str, ...]], trouble: str, protected: bool) -> None:
        self.units = units
        self.trouble = trouble
        self.protected = protected
        self.owners: dict[str, list[str]] = defaultdict(list)
        for photo, others in units.items():
            for other in others:
                self.owners[other].append(photo)


def _plain(path: str) -> str:
    """Without a final slash and double ones, which the names of files never have."""
    return os.path.normpath(path) if path.strip("/") else "/"


def _open_roots(paths: Iterable[str]) -> tuple[PlanRoot, ...]:
    """The folders that can be reached, each once; of two names of one folder the first counts."""
    roots: list[PlanRoot] = []
    seen: set[tuple[int, int]] = set()
    for given in sorted({os.fsencode(_plain(path)) for path in paths}):
        path, status = given, _status(given)
        if status is not None and not stat.S_ISDIR(status.st_mode):
            path = os.path.dirname(given)
            status = _status(path)
        if status is None or (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        roots.append(PlanRoot(path, status.st_dev, status.st_ino))
    return tuple(sorted(roots, key=lambda root: root.path))


def _status(path: bytes) -> os.stat_result | None:
    """`os.stat`; None for what is not there or cannot be reached."""
    try:
        return os.stat(path)
    except OSError:
        return None


def _is_as_scanned(status: os.stat_result, file: PhotoFile) -> bool:
    return (status.st_size, status.st_mtime_ns) == (file.size_bytes, file.mtime_ns)


def _is_same_inode(status: os.stat_result, file: PhotoFile) -> bool:
    return (status.st_ctime_ns, status.st_dev, status.st_ino) == (file.ctime_ns, file.device, file.inode)


def _signature(status: os.stat_result) -> Sequence[int]:
    return (
        status.st_dev,
        status.st_ino,
        status.st_mode,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_nlink,
    )


def _changed() -> Sight:
    return Sight(None, cause=Cause.CHANGED, why="it was changed after the scan", remedy="scan again")


def _attributes(path: bytes) -> dict[bytes, bytes]:
    """Extended attributes by name; none where the system or the file system has none."""
    if not hasattr(os, "listxattr"):
        return {}
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENOSYS):
            return {}
        raise
    return {
        os.fsencode(name): os.getxattr(path, name, follow_symlinks=False)
        for name in names
        if not os.fsencode(name).startswith(UNTOLD)
    }


def _digest(path: bytes) -> bytes:
    digest = hashlib.sha256()
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FileNotFoundError
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.digest()
