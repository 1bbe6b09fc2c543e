"""Groups and a disk in memory, for tests of planning."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dedup.plan import plan_operations
from dedup.plan.checks import check_plan
from dedup.records import (
    Cause,
    Decision,
    DuplicateGroup,
    LeftOut,
    Match,
    Member,
    Operation,
    Photo,
    Plan,
    PlannedFile,
    PlanRoot,
    Relation,
    Selection,
    Sight,
    Verdict,
)
from tests.drawn import draw_match

EVERYTHING = Selection()
ROOTS = (PlanRoot(b"/photos", 1, 1000), PlanRoot(b"/other", 2, 2000))


def member(keeper: Photo, photo: Photo, relation: Relation | None = None, **changes: Any) -> Member:
    """Same bytes if the contents are, else a copy, or what `relation` says."""
    same = Relation.SAME_BYTES if keeper.digest == photo.digest else Relation.SAME_PICTURE
    found = Member(photo, draw_match(keeper, photo, relation or same), (), None, None, False)
    return replace(found, **changes)


def copy_of(keeper: Photo, head: Photo, photo: Photo, relation: Relation | None = None) -> Member:
    """An edited version that copies another member."""
    same = Relation.SAME_BYTES if head.digest == photo.digest else Relation.SAME_PICTURE
    match: Match = draw_match(head, photo, relation or same)
    return member(keeper, photo, Relation.EDITED, copy_of=head.id, copy_match=match)


def group(keeper: Photo, *members: Member | Photo, **changes: Any) -> DuplicateGroup:
    """A group; photos become members."""
    made = tuple(entry if isinstance(entry, Member) else member(keeper, entry) for entry in members)
    found = DuplicateGroup(f"{keeper.id:012x}", keeper, ("it is older",), (), made, (), 0)
    return replace(found, **changes)


class Shelf:
    """A disk in memory: photos are there as drawn, with whatever else is put beside them."""

    def __init__(self, *photos: Photo) -> None:
        self.files: dict[str, Sight] = {photo.file.path: Sight(file_of(photo)) for photo in photos}
        self.units: dict[str, tuple[str, ...]] = {}
        self.shared: set[tuple[str, str]] = set()

    def change(self, path: str, **changes: Any) -> None:
        """Fields of the file, or of the sight of it."""
        sight = self.files[path]
        assert sight.file is not None
        own = {name: changes.pop(name) for name in list(changes) if name in ("protected", "notes")}
        self.files[path] = replace(sight, file=replace(sight.file, **changes), **own)

    def lose(self, path: str, cause: Cause = Cause.CHANGED) -> None:
        self.files[path] = Sight(None, cause=cause, why="it is gone", remedy="scan again")

    def put_beside(self, photo: Photo, name: str, content: bytes, inode: int, **changes: Any) -> str:
        """A sidecar or partner in the folder of a photo, and in its unit."""
        path = os.path.join(os.path.dirname(photo.file.path), name)
        base = file_of(photo)
        folder = os.path.dirname(base.path)
        file = replace(
            base,
            path=os.path.join(folder, os.fsencode(name)),
            inode=inode,
            size_bytes=len(content),
            digest=content.ljust(32, b"\0"),
        )
        self.files[path] = Sight(replace(file, **changes))
        self.units[photo.file.path] = tuple(sorted({*self.units.get(photo.file.path, ()), path}))
        return path

    def look(self, photo: Photo) -> Sight:
        return self.files[photo.file.path]

    def read(self, path: str) -> Sight:
        return self.files[path]

    def unit(self, path: str) -> tuple[str, ...]:
        return self.units.get(path, ())

    def owners(self, path: str) -> tuple[str, ...]:
        return tuple(sorted(photo for photo, others in self.units.items() if path in others))

    def is_sidecar(self, path: str) -> bool:
        return path.endswith((".xmp", ".aae"))

    def share_blocks(self, one: Photo, other: Photo) -> bool:
        return (one.file.path, other.file.path) in self.shared


def file_of(photo: Photo) -> PlannedFile:
    """A photo as it lies on the disk, below one of `ROOTS`."""
    path = photo.file.path_bytes
    root = next(number for number, root in enumerate(ROOTS) if path.startswith(root.path + b"/"))
    return PlannedFile(
        root=root,
        path=path.removeprefix(ROOTS[root].path + b"/"),
        device=ROOTS[root].device,
        inode=photo.file.inode,
        size_bytes=photo.file.size_bytes,
        mtime_ns=photo.file.mtime_ns,
        ctime_ns=photo.file.ctime_ns,
        link_count=photo.file.link_count,
        mode=stat.S_IFREG | 0o644,
        uid=1000,
        gid=1000,
        xattrs=b"",
        digest=photo.digest,
    )


class Planning:
    """A plan made from groups, with what it says of each file at hand."""

    def __init__(
        self,
        groups: Iterable[DuplicateGroup],
        selection: Selection = EVERYTHING,
        decisions: Sequence[Decision] = (),
        damage: Mapping[bytes, str] | None = None,
        disk: Shelf | None = None,
    ) -> None:
        groups = list(groups)
        photos = {photo.file.path: photo for found in groups for photo in photos_of(found)}
        operations, left_out = plan_operations(
            groups, selection, decisions, damage or {}, disk or Shelf(*photos.values())
        )
        self.operations: tuple[Operation, ...] = operations
        self.left_out: tuple[LeftOut, ...] = left_out
        self.plan = Plan("1", "2024-01-01T00:00:00+00:00", ROOTS, (), operations, left_out)
        check_plan(self.plan)

    @property
    def gone(self) -> dict[str, str]:
        """Path of each duplicate to that of its keeper."""
        return {self.path(found.dup): self.path(found.keep) for found in self.operations}

    @property
    def with_them(self) -> dict[str, str | None]:
        """Path of each companion to that of its twin."""
        return {
            self.path(companion.file): None if companion.twin is None else self.path(companion.twin)
            for found in self.operations
            for companion in found.companions
        }

    @property
    def stays(self) -> dict[str, Cause]:
        """Path of what is left alone to its cause."""
        causes: dict[str, list[Cause]] = defaultdict(list)
        for entry in self.left_out:
            causes[entry.path].append(entry.cause)
        assert all(len(found) == 1 for found in causes.values())
        return {path: found[0] for path, found in causes.items()}

    def path(self, file: PlannedFile) -> str:
        return os.fsdecode(self.plan.path_of(file))


def photos_of(found: DuplicateGroup) -> list[Photo]:
    return [found.keeper, *(entry.photo for entry in found.members)]


def decision(verdict: Verdict, left: Photo, right: Photo | None = None, **changes: Any) -> Decision:
    digests = (left.digest, right.digest if right else b"")
    if verdict.is_mutual:
        digests = (min(digests), max(digests))
    return replace(Decision(verdict, *digests, "2024-01-01T00:00:00+00:00"), **changes)
