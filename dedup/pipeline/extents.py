"""Whether two files share their blocks on the disk, as `FIEMAP` tells.

Promises: yes only where the file system names the same blocks for the whole of both; no wherever it says less.
Does not: compare contents, or change anything.
"""

from __future__ import annotations

import fcntl
import os
import struct

_FIEMAP = 0xC020660B
_HEAD = struct.Struct("=QQLLLL")
_EXTENT = struct.Struct("=QQQ16xL12x")
_AT_ONCE = 256
_LAST = 0x1
_UNTOLD = 0x2 | 0x4 | 0x8 | 0x100 | 0x200
"""Place unknown, not written yet, compressed or encrypted, inside a block of something else: no proof of anything."""


def share_blocks(one: str, other: str) -> bool:
    """Whether two files of the same bytes lie in the same blocks."""
    try:
        runs = _runs(one)
        return bool(runs) and runs == _runs(other)
    except OSError:
        return False


def _runs(path: str) -> list[tuple[int, int, int]]:
    """Where a file lies: (offset in the file, offset on the disk, length), neighbours joined; empty if not told."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        runs: list[tuple[int, int, int]] = []
        start = 0
        while True:
            buffer = bytearray(_HEAD.size + _AT_ONCE * _EXTENT.size)
            _HEAD.pack_into(buffer, 0, start, 2**64 - 1 - start, 0, 0, _AT_ONCE, 0)
            fcntl.ioctl(descriptor, _FIEMAP, buffer)
            count = _HEAD.unpack_from(buffer)[3]
            if not count:
                return runs
            for number in range(count):
                offset, place, length, flags = _EXTENT.unpack_from(buffer, _HEAD.size + number * _EXTENT.size)
                if flags & _UNTOLD or not place:
                    return []
                if runs and (runs[-1][0] + runs[-1][2], runs[-1][1] + runs[-1][2]) == (offset, place):
                    offset, place, length = runs[-1][0], runs[-1][1], runs[-1][2] + length
                    runs.pop()
                runs.append((offset, place, length))
                if flags & _LAST:
                    return runs
            start = runs[-1][0] + runs[-1][2]
    finally:
        os.close(descriptor)
