"""How the files of an operation stand now, as against what the journal says of them.

Promises: a file is known by its inode on the disk of its root, whichever number that disk bears today.
Does not: change anything.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from dedup.apply.own import Unreachable
from dedup.apply.places import Places, Spot
from dedup.journal import Entry, Move
from dedup.records import Act, PlannedFile

_TICK_NS = 20_000_000
"""A file and the folder that it left bear the time of the same move; kernels round each by up to 10 ms."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One file of an operation, where it was and where it went."""

    move: Move
    name: Spot | None
    """None if its folder is gone."""
    place: Spot | None
    """None if the quarantine folder is gone, or nothing moves."""
    at_name: os.stat_result | None
    at_place: os.stat_result | None

    @property
    def path(self) -> str:
        """Where it was, for words."""
        return os.fsdecode(self.move.file.path) if self.name is None else os.fsdecode(self.name.path)

    @property
    def place_path(self) -> str:
        """Where it went, for words."""
        return os.fsdecode(self.move.quarantine) if self.place is None else os.fsdecode(self.place.path)


def stand(places: Places, entry: Entry) -> list[Standing]:
    """How each file of an operation stands.

    Raises
    ------
    Unreachable
        If a root is.
    OSError
        If a folder cannot be looked into.
    """
    if entry.act is Act.HARDLINK and entry.keep.root in places.trouble:
        # Without the disk of the keeper nothing tells its link from a stranger's file.
        raise places.trouble[entry.keep.root]
    found = []
    for move in entry.moves:
        name = _spot(places, move.file.root, move.file.path)
        place = _spot(places, move.file.root, move.quarantine) if move.quarantine else None
        at_name = None if name is None else name.look()
        at_place = None if place is None else place.look()
        found.append(Standing(move, name, place, at_name, at_place))
    return found


def _spot(places: Places, root: int, path: bytes) -> Spot | None:
    try:
        return places.spot(root, path)
    except FileNotFoundError:
        return None


def is_file(places: Places, found: os.stat_result | None, file: PlannedFile) -> bool:
    """Whether what was found is a file of the journal: the same inode, on the disk of its root.

    Raises
    ------
    Unreachable
        If its root is, so that nothing tells.
    """
    if found is None or found.st_ino != file.inode:
        return False
    if file.root in places.trouble:
        raise places.trouble[file.root]
    root = places.roots[file.root]
    # Mounting a disk again may number it anew; the root is known by its inode.
    device = root.device if file.device == root.place.device else file.device
    return found.st_dev == device


def is_time_ours(folder_ns: int, after_ns: int, moved: os.stat_result | None) -> bool:
    """Whether the last change of a folder was our move of a file out of it or into it.

    Parameters
    ----------
    after_ns
        The folder's time right after we moved the file out; 0 if that was not noted.
    moved
        The file that was moved last, whose time of change is that of the move; None to go by `after_ns` alone.
    """
    return folder_ns == after_ns or (moved is not None and abs(folder_ns - moved.st_ctime_ns) < _TICK_NS)


def gone_from_quarantine(standings: Sequence[Standing]) -> list[int]:
    """Files that went to quarantine and are not there now, by place in the operation."""
    return [
        number
        for number, one in enumerate(standings)
        if one.move.quarantine and (one.place is None or one.place.look() is None)
    ]


def left_of(places: Places, entry: Entry) -> list[list[int]]:
    """What our calls changed about the files that are still what they were; see `Entry.left`."""
    left = []
    for file in (entry.keep, *(move.file for move in entry.moves)):
        with suppress(OSError, Unreachable):
            found = places.spot(file.root, file.path).look()
            same = is_file(places, found, file)
            if (
                found is not None
                and same
                and (found.st_size, found.st_mtime_ns) == (file.size_bytes, file.mtime_ns)
            ):
                left.append([found.st_dev, found.st_ino, found.st_ctime_ns, found.st_nlink])
    return left
