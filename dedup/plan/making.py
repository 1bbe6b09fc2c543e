"""Groups and decisions to operations: which duplicate goes, for which keeper, and why any other one stays.

Promises: the same groups, decisions and files give the same operations, whatever their order; whatever is kept for one
duplicate never goes for another, by name or by inode; what is not planned is named with its cause.
Does not: touch a file; all it knows of the disk comes through `Disk`.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from dedup.plan.checks import Inode, going, is_inside, staying
from dedup.plan.losses import link_losses, metadata_losses, note_losses
from dedup.plan.verdicts import Verdicts
from dedup.records import (
    Act,
    Cause,
    Companion,
    Decision,
    DuplicateGroup,
    LeftOut,
    Match,
    Member,
    Operation,
    Photo,
    PlannedFile,
    Relation,
    Selection,
    Sight,
)


class Disk(Protocol):
    """What a plan asks about files; answers are of one moment."""

    def look(self, photo: Photo) -> Sight:
        """A photo of the catalogue, if it is still what was scanned."""

    def read(self, path: str) -> Sight:
        """Any other file, read for its digest."""

    def unit(self, path: str) -> tuple[str, ...]:
        """Files that go where this one goes, by what lies there now; sorted."""

    def owners(self, path: str) -> tuple[str, ...]:
        """Photos that a sidecar or partner belongs to; sorted."""

    def is_sidecar(self, path: str) -> bool:
        """Whether it only says something about a picture, rather than being one."""

    def share_blocks(self, one: Photo, other: Photo) -> bool:
        """Whether the two lie in the same blocks already."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """A duplicate and the file that it would go for."""

    group: DuplicateGroup
    dup: Photo
    keep: Photo
    match: Match
    decided: bool

    @property
    def why(self) -> tuple[str, ...]:
        if self.keep.file.path == self.group.keeper.file.path:
            return self.group.keeper_reasons
        return ("it stands first among the copies of this edited version",)


class _Stays(Exception):
    """Why a duplicate is not planned."""

    def __init__(self, cause: Cause, why: str, remedy: str = "", losses: tuple[str, ...] = ()) -> None:
        super().__init__(why)
        self.cause = cause
        self.why = why
        self.remedy = remedy
        self.losses = losses


def plan_operations(
    groups: Iterable[DuplicateGroup],
    selection: Selection,
    decisions: Iterable[Decision],
    damage: Mapping[bytes, str],
    disk: Disk,
) -> tuple[tuple[Operation, ...], tuple[LeftOut, ...]]:
    """What would be done, and what is left alone.

    Parameters
    ----------
    groups
        As the last scan left them, in any order.
    decisions
        In the order in which they were given.
    damage
        By content: what a full decode found beyond `PictureInfo.damage`.
    disk
        Answers about the files as they are now.

    Returns
    -------
    operations
        Numbered from 1, by the keepers' paths and then by the duplicates'.
    left_out
        In the same order; duplicates that the selection does not name are not in it.
    """
    maker = _Maker(selection, Verdicts(decisions), damage, disk)
    pairs = [pair for group in sorted(groups, key=_by_keeper) for pair in maker.pairs(group)]
    # What people decided comes first, so that it is not crossed by what the rules found.
    for pair in sorted(pairs, key=lambda pair: not pair.decided):
        maker.consider(pair)
    return maker.result()


def _by_keeper(group: DuplicateGroup) -> bytes:
    return group.keeper.file.path_bytes


class _Maker:
    def __init__(
        self, selection: Selection, verdicts: Verdicts, damage: Mapping[bytes, str], disk: Disk
    ) -> None:
        self.selection = selection
        self.verdicts = verdicts
        self.damage = damage
        self.disk = disk
        self.within = tuple(os.fsencode(folder) for folder in selection.within)
        self.operations: list[tuple[_Pair, Operation]] = []
        self.left_out: list[LeftOut] = []
        self._gone: dict[tuple[int, bytes], str] = {}
        """Files that go, by place, with the duplicate that they go with."""
        self._gone_inodes: set[Inode] = set()
        self._kept_inodes: set[Inode] = set()

    # --- which pairs ----------------------------------------------------------------------------------------------

    def pairs(self, group: DuplicateGroup) -> Iterable[_Pair]:
        """The pairs of a group that the selection is about."""
        chosen = self.selection.groups
        if chosen and not any(group.id.startswith(start) for start in chosen):
            return
        heads = {member.photo.id: member.photo for member in group.members}
        for member in sorted(group.members, key=lambda member: member.photo.file.path_bytes):
            path = member.photo.file.path_bytes
            if self.within and not any(is_inside(path, folder) for folder in self.within):
                continue
            pair = self._pair(group, member, heads)
            if not self.selection.only or pair.match.relation in self.selection.only:
                yield pair

    def _pair(self, group: DuplicateGroup, member: Member, heads: Mapping[int, Photo]) -> _Pair:
        keeper, dup = group.keeper, member.photo
        if self.verdicts.may_go(keeper.digest, dup.digest):
            return _Pair(group, dup, keeper, member.match, True)
        if member.match.relation.is_safe or member.copy_of is None or member.copy_match is None:
            return _Pair(group, dup, keeper, member.match, False)
        head = heads[member.copy_of]
        decided = self.verdicts.may_go(head.digest, dup.digest)
        if decided or member.copy_match.relation.is_safe:
            return _Pair(group, dup, head, member.copy_match, decided)
        return _Pair(group, dup, keeper, member.match, False)

    # --- whether one is planned -----------------------------------------------------------------------------------

    def consider(self, pair: _Pair) -> None:
        """Plan a pair, or note why not."""
        try:
            self._check_decisions(pair)
            self._check_relation(pair)
            self._check_soundness(pair)
            operation = self._operation(pair)
            self._check_others(operation)
        except _Stays as stays:
            self._leave(pair, stays)
            return
        self.operations.append((pair, operation))
        for file in going(operation):
            self._gone[file.root, file.path] = pair.dup.file.path
            self._gone_inodes.add((file.device, file.inode))
        for file in staying(operation):
            self._kept_inodes.add((file.device, file.inode))

    def _leave(self, pair: _Pair, stays: _Stays) -> None:
        self.left_out.append(
            LeftOut(
                path=pair.dup.file.path,
                keep=pair.keep.file.path,
                group=pair.group.id,
                relation=pair.match.relation,
                cause=stays.cause,
                why=stays.why,
                remedy=stays.remedy,
                losses=stays.losses,
            )
        )

    def _check_decisions(self, pair: _Pair) -> None:
        dup, keep = pair.dup.digest, pair.keep.digest
        if self.verdicts.are_parted(keep, dup):
            raise _Stays(Cause.KEPT_BOTH, "you keep both", "dedup ignore --forget takes that back")
        if self.verdicts.is_wanted(dup) and dup != keep:
            raise _Stays(Cause.KEPT_BOTH, "you keep it beside another photo")
        if self.verdicts.is_later(keep, dup):
            raise _Stays(Cause.LATER, "you put this pair off")
        if self.verdicts.is_turned(keep, dup):
            raise _Stays(
                Cause.KEEPER_GOES,
                f"you decided the opposite, that {os.path.basename(pair.keep.file.path)} may go for it",
                "choose it as the one to keep, and scan again",
            )
        place = self.verdicts.chosen_place(dup)
        if place is not None and (dup != keep or place == pair.dup.file.path):
            raise _Stays(
                Cause.KEEPER_GOES,
                "you chose it as the one to keep",
                "scan again: the others are then compared with it",
            )

    def _check_relation(self, pair: _Pair) -> None:
        relation = pair.match.relation
        if not relation.is_safe and not (relation is Relation.EDITED and pair.decided):
            raise _Stays(
                Cause.EDITED,
                pair.match.sentence,
                "look at it; it goes only if you decide about this very pair",
            )
        if self.selection.act is not Act.QUARANTINE and relation is not Relation.SAME_BYTES:
            raise _Stays(
                Cause.ACT,
                f"not the same bytes, so a {self.selection.act} would lose this file",
                "plan it with --action quarantine",
            )

    def _check_soundness(self, pair: _Pair) -> None:
        if damage := pair.keep.info.damage or self.damage.get(pair.keep.digest, ""):
            raise _Stays(
                Cause.DAMAGED,
                f"the photo it would go for is damaged ({damage})",
                "keep both, or find a sound copy",
            )

    def _operation(self, pair: _Pair) -> Operation:
        dup, keep = self.disk.look(pair.dup), self.disk.look(pair.keep)
        ours, theirs = _found(dup), _found(keep)
        if dup.protected:
            raise _Stays(Cause.PROTECTED, "it lies in a protected folder")
        if (ours.device, ours.inode) == (theirs.device, theirs.inode):
            raise _Stays(Cause.LINKED, "it is the same file as the one that is kept, under another name")
        if self.selection.act is Act.REFLINK and self.disk.share_blocks(pair.dup, pair.keep):
            raise _Stays(Cause.LINKED, "it shares its blocks with the kept photo already")
        if (pair.match.relation is Relation.SAME_BYTES) != (
            (ours.digest, ours.size_bytes) == (theirs.digest, theirs.size_bytes)
        ):
            raise _Stays(Cause.CHANGED, "it is not what was compared", "scan again")
        act = self.selection.act
        if act is not Act.QUARANTINE and ours.device != theirs.device:
            raise _Stays(
                Cause.PLACE, "it lies on another disk than the kept photo", "plan it with --action quarantine"
            )
        companions: tuple[Companion, ...] = ()
        if act is Act.QUARANTINE:
            companions, losses = self._companions(pair)
            losses = (*metadata_losses(pair.dup, pair.keep), *note_losses(dup, keep), *losses)
        else:
            losses = link_losses(ours, theirs) if act is Act.HARDLINK else ()
        if losses and not (pair.decided or self.selection.accept_metadata_loss):
            raise _Stays(
                Cause.METADATA,
                "the kept photo lacks what this one says",
                "copy it over, or plan with --accept-metadata-loss",
                losses,
            )
        return Operation(
            id=0,
            group=pair.group.id,
            act=act,
            relation=pair.match.relation,
            dup=ours,
            keep=theirs,
            companions=companions,
            sentence=pair.match.sentence,
            why=pair.why,
            losses=losses,
            decided=pair.decided,
            figures=pair.match.figures,
            frees_bytes=0,
        )

    # --- units ----------------------------------------------------------------------------------------------------

    def _companions(self, pair: _Pair) -> tuple[tuple[Companion, ...], tuple[str, ...]]:
        """What goes with the duplicate, and what of it the keeper has no equal of."""
        disk, dup, keep = self.disk, pair.dup.file.path, pair.keep.file.path
        beside = disk.unit(keep)
        if dup in beside or keep in disk.unit(dup):
            raise _Stays(Cause.UNIT, f"it and {os.path.basename(keep)} belong together")
        # A sidecar of both, as with x.jpg and x.png, stays with the kept one.
        leaving = [path for path in disk.unit(dup) if path not in beside]
        companions, losses = [], []
        for path in leaving:
            name = os.path.basename(path)
            for owner in disk.owners(path):
                if owner != dup and owner not in leaving:
                    raise _Stays(
                        Cause.UNIT,
                        f"{name} goes with it, and belongs to {os.path.basename(owner)} as well",
                        "give one of the two another name",
                    )
            file = _found(disk.read(path))
            rivals = [other for other in beside if _ending(other) == _ending(path)]
            twin = self._twin(file, rivals)
            if twin is None and not disk.is_sidecar(path):
                raise _Stays(
                    Cause.UNIT,
                    f"{name} belongs to it, and beside the kept photo there is none with the same bytes",
                    f"decide about {name} first",
                )
            if twin is None:
                losses.append(f"sidecar {name}" + (", which differs from the keeper's" if rivals else ""))
            companions.append(Companion(file, twin))
        return tuple(companions), tuple(losses)

    def _twin(self, file: PlannedFile, rivals: Sequence[str]) -> PlannedFile | None:
        for path in rivals:
            found = self.disk.read(path).file
            if found is None or (found.digest, found.size_bytes) != (file.digest, file.size_bytes):
                continue
            if (found.device, found.inode) == (file.device, file.inode):
                raise _Stays(
                    Cause.UNIT,
                    f"{os.path.basename(path)} is one file beside both photos",
                    "give one of the two photos another place",
                )
            return found
        return None

    # --- what the other operations need ---------------------------------------------------------------------------

    def _check_others(self, operation: Operation) -> None:
        for file in going(operation):
            name = os.path.basename(os.fsdecode(file.path))
            place = (file.root, file.path)
            if place in self._gone:
                raise _Stays(Cause.UNIT, f"{name} goes with {os.path.basename(self._gone[place])}")
            if (file.device, file.inode) in self._kept_inodes:
                raise _Stays(
                    Cause.KEEPER_GOES,
                    f"{name} is kept for another duplicate",
                    "apply this plan, then scan and plan again",
                )
        for file in staying(operation):
            if (file.device, file.inode) in self._gone_inodes:
                raise _Stays(
                    Cause.KEEPER_GOES,
                    f"{os.path.basename(os.fsdecode(file.path))}, which it would go for, goes as well",
                    "decide about this pair, or apply this plan, then scan and plan again",
                )

    # --- the whole ------------------------------------------------------------------------------------------------

    def result(self) -> tuple[tuple[Operation, ...], tuple[LeftOut, ...]]:
        """All that was considered, in order and numbered."""
        if self.selection.act is Act.HARDLINK:
            self._leave_split_sets()
        if self.selection.act is Act.REFLINK:
            self._leave_second_names()
        planned = sorted(self.operations, key=lambda found: _places(found[0].keep, found[0].dup))
        operations = _with_bytes([operation for _, operation in planned], self.selection.act)
        # What goes as somebody's companion is not left alone.
        going_places = {pair.dup.file.path for pair, _ in planned} | {
            os.fsdecode(path) for path in self._companion_paths(planned)
        }
        left_out = [entry for entry in self.left_out if entry.path not in going_places]
        left_out.sort(key=lambda entry: (os.fsencode(entry.keep), os.fsencode(entry.path)))
        return operations, tuple(left_out)

    def _companion_paths(self, planned: Sequence[tuple[_Pair, Operation]]) -> Iterable[bytes]:
        for pair, operation in planned:
            folder = os.path.dirname(pair.dup.file.path_bytes)
            for companion in operation.companions:
                yield os.path.join(folder, os.path.basename(companion.file.path))

    def _leave_split_sets(self) -> None:
        """Keep only link sets of which every name is planned, for one keeper: a part of one gains nothing."""
        sets: dict[Inode, list[tuple[_Pair, Operation]]] = defaultdict(list)
        for pair, operation in self.operations:
            sets[operation.dup.device, operation.dup.inode].append((pair, operation))
        self.operations = []
        for found in sets.values():
            links = found[0][1].dup.link_count
            if len(found) == links and len({(op.keep.root, op.keep.path) for _, op in found}) == 1:
                self.operations += found
                continue
            for pair, _ in found:
                why = "it has further names that are not planned; linking only some would split them and free nothing"
                self._leave(pair, _Stays(Cause.LINKED, why))

    def _leave_second_names(self) -> None:
        """Blocks are shared once per inode, whatever its names."""
        seen: set[Inode] = set()
        planned, self.operations = self.operations, []
        for pair, operation in sorted(planned, key=lambda found: found[0].dup.file.path_bytes):
            inode = (operation.dup.device, operation.dup.inode)
            if inode in seen:
                self._leave(
                    pair, _Stays(Cause.LINKED, "another of its names is planned, which does for both")
                )
            else:
                seen.add(inode)
                self.operations.append((pair, operation))


def _found(sight: Sight) -> PlannedFile:
    if sight.file is None:
        assert sight.cause is not None
        raise _Stays(sight.cause, sight.why, sight.remedy)
    return sight.file


def _places(keep: Photo, dup: Photo) -> tuple[bytes, bytes]:
    return keep.file.path_bytes, dup.file.path_bytes


def _ending(path: str) -> str:
    return os.path.splitext(path)[1].casefold()


def _with_bytes(operations: Sequence[Operation], act: Act) -> tuple[Operation, ...]:
    """Numbered, and with the bytes that come back: those of a file with several names when the last one goes."""
    names: Counter[Inode] = Counter()
    numbered = []
    for number, operation in enumerate(operations, start=1):
        freed = 0
        for file in going(operation):
            names[file.device, file.inode] += 1
            if act is Act.REFLINK or names[file.device, file.inode] == file.link_count:
                freed += file.size_bytes
        numbered.append(replace(operation, id=number, frees_bytes=freed))
    return tuple(numbered)
