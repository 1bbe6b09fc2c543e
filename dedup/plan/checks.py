"""What must hold in every plan, whoever made it: checked before one is written, and again when one is read.

Promises: a plan that passes removes no file that another line keeps, removes none twice, keeps every keeper under one
description, stays inside its roots and out of protected folders, links nothing but same bytes, and acts on an edited
version only where a person decided. Does not: look at a file; whether it still is as planned is seen by whoever acts.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator

from dedup.records import Act, Operation, Plan, PlannedFile, Relation

OWN_FOLDER = b".dedup"
"""Ours: locks and quarantine; never planned upon."""

Inode = tuple[int, int]


class Fault(ValueError):
    """What is wrong with a plan; `whole` if not with the line that was just read."""

    def __init__(self, why: str, whole: bool = False) -> None:
        super().__init__(why)
        self.whole = whole


def root_fault(path: bytes) -> str:
    """What is wrong with the path of a root; empty if nothing is."""
    if not path.startswith(b"/") or b"\0" in path:
        return "it is no absolute path"
    if path != b"/" and any(part in (b"", b".", b"..") for part in path[1:].split(b"/")):
        return "it is no plain path"
    return ""


def relative_fault(path: bytes) -> str:
    """What is wrong with a path below a root; empty if nothing is."""
    parts = path.split(b"/")
    if b"\0" in path or any(part in (b"", b".", b"..") for part in parts):
        return "it is no path below a root"
    if OWN_FOLDER in parts:
        return "it lies in a folder of dedup's own"
    return ""


def check_plan(plan: Plan) -> None:
    """Raise `Fault` unless the plan holds together."""
    try:
        _check_places(plan)
        for place, operation in enumerate(plan.operations, start=1):
            try:
                _check_operation(plan, operation, place)
            except Fault as fault:
                raise Fault(f"operation {operation.id}: {fault}") from fault
        _check_together(plan)
    except Fault as fault:
        raise Fault(str(fault), whole=True) from fault


def _check_places(plan: Plan) -> None:
    for path in (*(root.path for root in plan.roots), *plan.protected):
        if why := root_fault(path):
            raise Fault(f"root {path!r}: {why}")
    if len({root.path for root in plan.roots}) < len(plan.roots):
        raise Fault("a root stands there twice")
    if len({(root.device, root.inode) for root in plan.roots}) < len(plan.roots):
        raise Fault("two roots are one folder")


def going(operation: Operation) -> Iterator[PlannedFile]:
    """The files that an operation takes from their places, or whose names become links."""
    yield operation.dup
    for companion in operation.companions:
        yield companion.file


def staying(operation: Operation) -> Iterator[PlannedFile]:
    """The files that must stay as they are for an operation to be safe."""
    yield operation.keep
    for companion in operation.companions:
        if companion.twin is not None:
            yield companion.twin


def _check_operation(plan: Plan, operation: Operation, place: int) -> None:
    dup, keep = operation.dup, operation.keep
    if operation.id != place:
        raise Fault("the numbers do not run from 1 to the end")
    for file in (*going(operation), *staying(operation)):
        _check_file(plan, file)
    for file in going(operation):
        path = plan.path_of(file)
        if any(is_inside(path, folder) for folder in plan.protected):
            raise Fault(f"{os.fsdecode(path)!r} lies in a protected folder")
        if file.device != plan.roots[file.root].device:
            raise Fault(f"{os.fsdecode(path)!r} lies on another disk than its root")
    same_bytes = dup.digest == keep.digest and dup.size_bytes == keep.size_bytes
    if same_bytes != (operation.relation is Relation.SAME_BYTES):
        raise Fault("the digests and the relation contradict each other")
    if operation.relation is Relation.SIMILAR:
        raise Fault("similar photos are never acted on")
    if operation.relation is Relation.EDITED and not operation.decided:
        raise Fault("nobody decided about this edited version")
    if operation.relation is not Relation.SAME_BYTES and not _was_compared(operation):
        raise Fault("the pixels were never compared")
    if operation.act is not Act.QUARANTINE:
        if operation.relation is not Relation.SAME_BYTES:
            raise Fault("only the same bytes may share their space")
        if operation.companions:
            raise Fault("links leave every name where it is, sidecars too")
        if dup.device != keep.device:
            raise Fault("the two lie on different disks")
    for companion in operation.companions:
        twin = companion.twin
        if twin is None and not (operation.losses or operation.decided):
            raise Fault("a sidecar would go that nobody gave up")
        if twin is not None and (twin.digest, twin.size_bytes) != (
            companion.file.digest,
            companion.file.size_bytes,
        ):
            raise Fault("a companion and its twin differ")
    if operation.frees_bytes > sum(file.size_bytes for file in going(operation)):
        raise Fault("it frees more than there is")


def _was_compared(operation: Operation) -> bool:
    figures = operation.figures
    return figures.rms_levels >= 0.0 and min(figures.compared_px) > 0


def _check_file(plan: Plan, file: PlannedFile) -> None:
    if file.root >= len(plan.roots):
        raise Fault("a root is missing")
    if why := relative_fault(file.path):
        raise Fault(why)
    if not stat.S_ISREG(file.mode):
        raise Fault(f"{os.fsdecode(file.path)!r} is no regular file")
    if len(file.digest) != 32:
        raise Fault("a digest is missing")


def is_inside(path: bytes, folder: bytes) -> bool:
    """Whether a path is a folder or lies below it, by name."""
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


def _check_together(plan: Plan) -> None:
    """Across all operations: by name, and by inode for files that have two names."""
    described: dict[bytes, PlannedFile] = {}
    named: dict[Inode, bytes] = {}
    gone: set[bytes] = set()
    gone_names: Counter[Inode] = Counter()
    links: dict[Inode, int] = {}
    kept: set[bytes] = set()
    kept_inodes: set[Inode] = set()
    for operation in plan.operations:
        for file in (*going(operation), *staying(operation)):
            path = plan.path_of(file)
            known = described.setdefault(path, file)
            if known is not file and known != file:
                raise Fault(f"{os.fsdecode(path)!r} is described in two ways")
            inode = (file.device, file.inode)
            other = described[named.setdefault(inode, path)]
            if (other.digest, other.link_count) != (file.digest, file.link_count):
                raise Fault(
                    f"{os.fsdecode(path)!r} shares an inode with a file that is described in another way"
                )
        for file in staying(operation):
            kept.add(plan.path_of(file))
            kept_inodes.add((file.device, file.inode))
        for file in going(operation):
            path = plan.path_of(file)
            if path in gone:
                raise Fault(f"{os.fsdecode(path)!r} goes twice")
            gone.add(path)
            inode = (file.device, file.inode)
            gone_names[inode] += 1
            links[inode] = file.link_count
    if both := gone & kept:
        raise Fault(f"{os.fsdecode(min(both))!r} is kept for one file and goes for another")
    if gone_names.keys() & kept_inodes:
        raise Fault("a file goes that is kept under another name")
    if any(count > links[inode] for inode, count in gone_names.items()):
        raise Fault("a file with one name goes under two")
    # A link set that is split gains nothing, and breaks what someone made.
    split = {
        (operation.dup.device, operation.dup.inode)
        for operation in plan.operations
        if operation.act is Act.HARDLINK
    }
    if any(gone_names[inode] < links[inode] for inode in split):
        raise Fault("hard links would be split from names that are not in the plan")
