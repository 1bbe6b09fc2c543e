"""The calls that `os` does not have: exchange of two names, rename without overwriting, opening beneath a folder,
leases, and the sharing of blocks that the kernel compares itself.

Promises: one call each, relative to an open folder, and `OSError` as `os` raises it; what a system or a file system
lacks is `ENOSYS`, `EINVAL` or their like, never a weaker call in its place. Does not: decide what to fall back to.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import signal
import stat
import struct
import sys
from collections.abc import Callable
from contextlib import suppress

FILE_FLAGS = (
    os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
)
FOLDER_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_DIRECTORY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)
)

NOT_THERE = frozenset((errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOTTY))
"""What a system or file system answers to a call that it does not know."""

_LINUX_NOREPLACE, _LINUX_EXCHANGE = 1, 2
_MAC_SWAP, _MAC_EXCL = 2, 4
_RENAMEAT2 = {"x86_64": 316, "aarch64": 276, "riscv64": 276, "ppc64le": 357, "s390x": 347}
_OPENAT2 = 437
"""The same number everywhere but on Alpha."""
_RESOLVE = 0x04 | 0x02 | 0x08
"""RESOLVE_NO_SYMLINKS, RESOLVE_NO_MAGICLINKS, RESOLVE_BENEATH."""
_FIDEDUPERANGE = 0xC0189436
_RANGE = struct.Struct("=QQHHIqQQiI")
"""`struct file_dedupe_range` with one `file_dedupe_range_info`."""
RANGE_DIFFERS = 1
"""Status of a range whose bytes are not the same."""

_libc = ctypes.CDLL(None, use_errno=True)


def _call(function: Callable[..., int], *arguments: object) -> int:
    """A C function that says -1 and errno; begun again when a signal came in between."""
    while True:
        ctypes.set_errno(0)
        result = int(function(*arguments))
        if result >= 0:
            return result
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


def _rename(source: tuple[int, bytes], target: tuple[int, bytes], linux: int, mac: int) -> None:
    function: Callable[..., int]
    if hasattr(_libc, "renameatx_np"):
        function, flags = _libc.renameatx_np, mac
    elif hasattr(_libc, "renameat2"):
        function, flags = _libc.renameat2, linux
    elif sys.platform.startswith("linux") and platform.machine() in _RENAMEAT2:
        # A C library without the call; the kernel has it.
        number = ctypes.c_long(_RENAMEAT2[platform.machine()])
        function, flags = (lambda *rest: int(_libc.syscall(number, *rest))), linux
    else:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    _call(
        function,
        ctypes.c_int(source[0]),
        ctypes.c_char_p(source[1]),
        ctypes.c_int(target[0]),
        ctypes.c_char_p(target[1]),
        ctypes.c_uint(flags),
    )


def rename_to_free(source: tuple[int, bytes], target: tuple[int, bytes]) -> None:
    """Rename, unless there is something at the target.

    Parameters
    ----------
    source, target
        Open folder, and a name in it.

    Raises
    ------
    FileExistsError
        If the target exists; nothing has happened.
    OSError
        With one of `NOT_THERE` where this cannot be done at all.
    """
    _rename(source, target, _LINUX_NOREPLACE, _MAC_EXCL)


def exchange(one: tuple[int, bytes], other: tuple[int, bytes]) -> None:
    """Let two names swap what they name, in one step: neither is absent for a moment."""
    _rename(one, other, _LINUX_EXCHANGE, _MAC_SWAP)


_beneath_works = sys.platform.startswith("linux")


def open_beneath(folder: int, path: bytes, flags: int) -> int:
    """Open what lies below an open folder, over no symbolic link and never outside.

    Where `openat2` is missing or gives up, component by component with O_NOFOLLOW.
    """
    global _beneath_works
    parts = path.split(b"/") if path else []
    if b".." in parts or b"." in parts or b"" in parts or b"\0" in path:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), os.fsdecode(path))
    if not parts:
        return os.open(b".", flags, dir_fd=folder)
    if _beneath_works:
        try:
            return _openat2(folder, path, flags)
        except OSError as error:
            # EPERM and EACCES may be a container that forbids the call by its number; EAGAIN a rename meanwhile.
            if error.errno in (errno.ENOSYS, errno.E2BIG):
                _beneath_works = False
            elif error.errno not in (errno.EAGAIN, errno.ENAMETOOLONG, errno.EPERM):
                raise OSError(error.errno, error.strerror, os.fsdecode(path)) from error
    return _walk(folder, parts, flags)


def _openat2(folder: int, path: bytes, flags: int) -> int:
    how = struct.pack("=QQQ", flags, 0, _RESOLVE)
    return _call(
        _libc.syscall,
        ctypes.c_long(_OPENAT2),
        ctypes.c_int(folder),
        ctypes.c_char_p(path),
        ctypes.c_char_p(how),
        ctypes.c_size_t(len(how)),
    )


def _walk(folder: int, parts: list[bytes], flags: int) -> int:
    here = os.dup(folder)
    try:
        for part in parts[:-1]:
            deeper = os.open(part, FOLDER_FLAGS, dir_fd=here)
            os.close(here)
            here = deeper
        return os.open(parts[-1], flags | getattr(os, "O_NOFOLLOW", 0), dir_fd=here)
    finally:
        os.close(here)


def link_open_file(file: int, source: tuple[int, bytes], target: tuple[int, bytes]) -> None:
    """Give an open file one more name; fails if the target exists.

    By its descriptor where /proc shows it, so that the new name can only be of the file that was read. Elsewhere by
    `source`, its folder and name; the caller looks at the inode afterwards in any case.
    """
    by_descriptor = f"/proc/self/fd/{file}"
    if os.path.exists(by_descriptor):
        # With `dst_dir_fd` Python calls linkat; without, link(2), which does not follow this link.
        os.link(by_descriptor, target[1], dst_dir_fd=target[0], follow_symlinks=True)
    else:
        os.link(source[1], target[1], src_dir_fd=source[0], dst_dir_fd=target[0], follow_symlinks=False)


def look_at(folder: int, name: bytes) -> os.stat_result | None:
    """What a name stands for, without following it; None if there is nothing."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


# --- leases --------------------------------------------------------------------------------------------------------


class Lease:
    """A read lease on an open file, where there are leases: one guard of several, so none is no fault."""

    def __init__(self, file: int) -> None:
        """Take it; `writer` then says whether somebody has the file open for writing now."""
        self._file = file
        self._held = False
        self.writer = False
        if not hasattr(fcntl, "F_SETLEASE"):
            return
        try:
            # A lease that is broken sends SIGIO, which ends a process that does not expect it. SIGURG is ignored.
            fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            self._held = True
        except OSError as error:
            self.writer = error.errno in (errno.EAGAIN, errno.EBUSY)

    def release(self) -> bool:
        """Let it go; False if somebody has asked to write since it was taken."""
        if not self._held:
            return True
        self._held = False
        with suppress(OSError):
            quiet = fcntl.fcntl(self._file, fcntl.F_GETLEASE) == fcntl.F_RDLCK
            fcntl.fcntl(self._file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            return bool(quiet)
        return False


# --- sharing blocks ------------------------------------------------------------------------------------------------


def share_range(keep: int, dup: int, offset: int, length_bytes: int) -> tuple[int, int]:
    """Let `dup` share the blocks of `keep` in one range, if the kernel finds the bytes the same (FIDEDUPERANGE).

    Returns
    -------
    tuple
        Bytes that are shared now, and the status: 0, or `RANGE_DIFFERS`.
    """
    if not sys.platform.startswith("linux"):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    request = bytearray(_RANGE.pack(offset, length_bytes, 1, 0, 0, dup, offset, 0, 0, 0))
    fcntl.ioctl(keep, _FIDEDUPERANGE, request)
    *_, shared, status, _ = _RANGE.unpack(request)
    if status < 0:
        raise OSError(-status, os.strerror(-status))
    return int(shared), int(status)


# --- attributes ----------------------------------------------------------------------------------------------------


def read_xattrs(file: int) -> dict[bytes, bytes]:
    """Extended attributes of an open file, ACLs among them; empty where there are none to be had."""
    if not hasattr(os, "listxattr"):
        return {}
    try:
        return {os.fsencode(name): os.getxattr(file, name) for name in os.listxattr(file)}
    except OSError as error:
        if error.errno in NOT_THERE:
            return {}
        raise


def is_regular(found: os.stat_result) -> bool:
    """Whether it is a plain file."""
    return stat.S_ISREG(found.st_mode)
