"""Files of our own that a user gives a name to: written whole or not at all, and never over anything else.

Promises: what stands under the name is replaced only if it is a file of the same kind (or empty); a photo, a pipe, a
device or a folder is not. Does not: know what is in them.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import BinaryIO

_HEAD_BYTES = 64


class NoFile(OSError):
    """A folder, a pipe or a device stands where a file should."""


def open_file(path: str) -> BinaryIO:
    """Open a regular file for reading, without waiting should it be a pipe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NoFile(errno.EINVAL, "this is no file")
    return open(descriptor, "rb")


def replace_file(path: str, lines: Iterable[bytes], is_ours: Callable[[bytes], bool]) -> bool:
    """Write a file beside its place, make it durable, and move it there.

    Parameters
    ----------
    is_ours
        Whether a file that begins with these bytes may be replaced.

    Returns
    -------
    bool
        False, and nothing was written, if something stands there that is not ours.

    Raises
    ------
    OSError
        If it cannot be written; nothing is left behind.
    """
    path = os.path.realpath(path)
    with suppress(FileNotFoundError):
        try:
            with open_file(path) as file:
                head = file.read(_HEAD_BYTES)
        except NoFile:
            return False
        if head and not is_ours(head):
            return False
    descriptor, temporary = tempfile.mkstemp(prefix=".dedup-", suffix=".part", dir=os.path.dirname(path))
    try:
        with open(descriptor, "wb") as out:
            out.writelines(lines)
            out.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return True
