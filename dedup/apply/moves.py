"""How one name changes: into quarantine, back again, exchanged for a link, and the end of a link too many.

Promises: nothing is ever overwritten; nothing is ever copied; what is unlinked is one of several names of its inode,
looked at right before. Does not: know why.
"""

from __future__ import annotations

import errno
import os
import secrets

from dedup.apply import syscalls
from dedup.apply.own import Root
from dedup.apply.places import Spot
from dedup.errors import Unsafe

Identity = tuple[int, int]

_TRIES = 3
"""How often an exchange is taken back if somebody keeps replacing the file meanwhile."""


class Stranded(Exception):
    """What was moved cannot go back, because somebody put another file in its place; it stays in quarantine."""


def identity_of(found: os.stat_result | None) -> Identity | None:
    """Device and inode; None for nothing."""
    return None if found is None else (found.st_dev, found.st_ino)


def quarantine_name(root: Root, operation: int, number: int) -> bytes:
    """The name in quarantine of a file of an operation."""
    name = str(operation) if number == 0 else f"{operation}.{number}"
    # Without a rename that refuses to overwrite, the name is one that nobody can know.
    return (name if root.keeps else f"{name}-{secrets.token_hex(12)}").encode("ascii")


def put_away(name: Spot, place: Spot) -> None:
    """Move a file into the quarantine folder, which is ours alone."""
    if name.folder.root.keeps:
        syscalls.rename_to_free(name.at, place.at)
        return
    if place.look() is not None:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fsdecode(place.path))
    os.rename(name.name, place.name, src_dir_fd=name.folder.fd, dst_dir_fd=place.folder.fd)


def put_back(place: Spot, name: Spot) -> None:
    """Move a file out of quarantine to a name that must be free.

    Raises
    ------
    FileExistsError
        If it is not; nothing has happened.
    """
    if name.folder.root.keeps:
        syscalls.rename_to_free(place.at, name.at)
        return
    fd = place.open()
    try:
        file = identity_of(os.fstat(fd))
        if identity_of(name.look()) != file:  # else it was linked before, by whom a kill or an error stopped
            syscalls.link_open_file(fd, place.at, name.at)
        if identity_of(name.look()) != file:
            raise Unsafe(
                f"{os.fsdecode(name.path)}: this should be a link to {os.fsdecode(place.path)} and is not"
            )
    finally:
        os.close(fd)
    if not drop_link(place, file, other=name):
        raise Unsafe(f"{os.fsdecode(place.path)}: this should be a second name of {os.fsdecode(name.path)}")


def drop_link(place: Spot, expected: Identity | None, other: Spot | None = None) -> bool:
    """Unlink a name whose inode has another one; False, and nothing done, if it has none or is not the expected.

    `other` is another name of it, if one is known: behind a FUSE mount the number of links is told of each name by
    itself, and may be that of a second ago.
    """
    fd = place.open()
    try:
        found = os.fstat(fd)
        if identity_of(found) != expected or identity_of(place.look()) != expected:
            return False
        if found.st_nlink < 2:
            beside = None if other is None else other.look()
            if beside is None or identity_of(beside) != expected or beside.st_nlink < 2:
                return False
        os.unlink(place.name, dir_fd=place.folder.fd)
    finally:
        os.close(fd)
    return True


def give_back(place: Spot, name: Spot) -> None:
    """Take a move into quarantine back.

    Raises
    ------
    Stranded
        If there is another file at the name now.
    """
    if place.look() is None:
        return
    try:
        put_back(place, name)
    except FileExistsError as error:
        raise Stranded from error


def exchange_back(place: Spot, name: Spot, keep: Identity) -> None:
    """Take an exchange back, looking at what is where before each step, and drop the link that is left.

    Raises
    ------
    Stranded
        If the name holds a file that somebody put there meanwhile.
    Unsafe
        If the link that is left is the last name of its inode.
    """
    for _ in range(_TRIES):
        there = identity_of(place.look())
        if there is None:
            return
        if there == keep:
            # As it was before the exchange, which never happened or was taken back.
            if not drop_link(place, keep):
                raise Unsafe(
                    f"{os.fsdecode(place.path)}: the last name of a photo whose other names went while this ran; "
                    "move it where it belongs"
                )
            return
        here = identity_of(name.look())
        if here == keep:
            syscalls.exchange(place.at, name.at)
        elif here is None:
            give_back(place, name)
        else:
            break
    raise Stranded
