"""`apply_plan`: each operation in the order that loses nothing, whatever happens in between.

Look and read, write the intention down, act in one step, look at what came out, look that the keeper is still there by
name, wait for the disk, write down the end. What does not hold is taken back; there is no second way of doing it.

Promises: a name is never absent where the file system can exchange two; nothing is overwritten, copied or deleted; a
photo goes only while its keeper is there, read in full in the same moment.
Does not: choose what to do, or compare pictures (`confirm` is handed in).
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from dedup.apply import syscalls
from dedup.apply.files import AGAIN, Held, Holder, Refused, Stopped
from dedup.apply.moves import (
    Stranded,
    drop_link,
    exchange_back,
    give_back,
    identity_of,
    put_away,
    quarantine_name,
)
from dedup.apply.places import Folder, Places, Spot, Unreachable
from dedup.errors import Unsafe
from dedup.journal import BEGUN, Entry, Journal, Move, intent_record, run_record
from dedup.records import Act, Ending, Operation, Outcome, Plain, Plan, PlannedFile, Relation

BATCH = 64
"""Operations for which folders are waited for together; their ends are written after that."""
_SHARE_BYTES = 16 << 20
"""What file systems take in one call at most."""

Confirm = Callable[[int, int, Operation], str]
"""Given open descriptors of duplicate and keeper: empty if the relation still holds, else why not."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the caller lends."""

    confirm: Confirm
    progress: Callable[[str, int, int | None], None] = lambda _stage, _done, _total: None
    stopping: Callable[[], bool] = lambda: False
    """Asked between steps: whether to finish what is at hand and stop."""


@dataclass(slots=True)
class _Checked:
    """The files of one operation, open and verified."""

    op: Operation
    dup: Held
    keep: Held
    others: list[Held]
    """Companions that go."""
    twins: list[Held]
    """Files that stay for them."""

    @property
    def goes(self) -> list[Held]:
        return [self.dup, *self.others]

    @property
    def stays(self) -> list[Held]:
        return [self.keep, *self.twins]


@dataclass(slots=True)
class _Ended:
    """An operation whose end is not written down yet."""

    outcome: Outcome
    record: Plain
    folders: list[Folder] = field(default_factory=list)
    undo: Callable[[], None] | None = None
    """Takes it back, if a folder cannot be brought to the disk."""


def apply_plan(plan: Plan, journal: Journal, protected: Sequence[bytes], hooks: Hooks) -> Iterator[Outcome]:
    """Carry out a plan.

    Parameters
    ----------
    journal
        Open for writing, nothing unfinished in it.
    protected
        Folders in which nothing may change, besides those that the plan names.

    Yields
    ------
    Outcome
        In the order of the operations, each once its end is on the disk. Fewer than operations if `hooks.stopping`
        said so.

    Raises
    ------
    Busy
        If another run holds one of the roots.
    Unsafe
        If the journal cannot be written, or something could not be taken back; a person must look.
    """
    with Places(plan.roots, same_mount=True) as places:
        yield from _Run(plan, journal, places, hooks).carry_out([*plan.protected, *protected])


def digest_of(plan: Plan) -> str:
    """What the journal knows a plan by."""
    return hashlib.sha256(repr((plan.created, plan.roots, plan.operations)).encode()).hexdigest()


class _Run:
    """One run of one plan."""

    def __init__(self, plan: Plan, journal: Journal, places: Places, hooks: Hooks) -> None:
        self.plan = plan
        self.journal = journal
        self.places = places
        self.hooks = hooks
        self.holder = Holder(places, hooks.stopping)
        self.number = 0
        self.waiting: list[_Ended] = []

    # --- around it ------------------------------------------------------------------------------------------------

    def carry_out(self, protected: Sequence[bytes]) -> Iterator[Outcome]:
        """All operations."""
        acting = sorted({op.dup.root for op in self.plan.operations})
        if not acting:
            return
        self.places.protect(protected)
        self.places.leave_protected(acting)
        self.places.take(acting)
        self.places.probe(acting, protected)
        self._begin(acting)
        total = len(self.plan.operations)
        try:
            for number, op in enumerate(self.plan.operations):
                if self.hooks.stopping():
                    break
                self.hooks.progress("apply", number, total)
                try:
                    self._one(op)
                except Stopped:
                    break
                if len(self.waiting) >= BATCH or self.places.is_crowded:
                    yield from self._settle()
            yield from self._settle()
            self.hooks.progress("apply", total, total)
        except BaseException:
            # What is complete gets its end, whatever came in between.
            with suppress(Exception):
                list(self._settle())
            raise
        if self.number:
            self.journal.end()

    def _begin(self, acting: Sequence[int]) -> None:
        reachable = [number for number in acting if number not in self.places.trouble]
        if not reachable:
            return
        number = 1 + max(
            [max(self.journal.runs, default=0), *(self.places.last_run(root) for root in reachable)]
        )
        from dedup import __version__

        self.number = number
        self.journal.append(run_record(number, __version__, digest_of(self.plan), self.plan.roots))
        for root in reachable:
            try:
                self.places.make_run_folder(root, number)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    path = os.fsdecode(self.plan.roots[root].path)
                    self.journal.end()
                    raise Unsafe(f"{path}: there is no space left; nothing was changed") from error
                self.places.trouble[root] = Unreachable(
                    f"no quarantine folder can be made in {os.fsdecode(self.plan.roots[root].path)} ({error.strerror})"
                )
        self.places.forget_folders()

    # --- one operation --------------------------------------------------------------------------------------------

    def _one(self, op: Operation) -> None:
        try:
            with ExitStack() as held:
                self._act(self._look_and_read(op, held))
        except Refused as why:
            self._end(op, why.why, why.remedy)
        except Unreachable as why:
            self._end(op, why.why, why.remedy)
        except OSError as error:
            self._end(op, *_words_of(error))

    def _end(self, op: Operation, why: str, remedy: str) -> None:
        """An operation that did not come to its intent."""
        self.waiting.append(_Ended(self._outcome(op, Ending.REFUSED, why, remedy), {}))

    def _outcome(self, op: Operation, ending: Ending, why: str = "", remedy: str = "") -> Outcome:
        done = ending is Ending.DONE
        return Outcome(
            op.id,
            os.fsdecode(self.plan.path_of(op.dup)),
            os.fsdecode(self.plan.path_of(op.keep)),
            ending,
            why,
            remedy,
            op.frees_bytes if done and op.act is Act.REFLINK else 0,
            op.frees_bytes if done and op.act is not Act.REFLINK else 0,
        )

    # --- look and read --------------------------------------------------------------------------------------------

    def _look_and_read(self, op: Operation, held: ExitStack) -> _Checked:
        """Everything that is checked before the intention is written down."""
        self._check_places(op)
        keep_path = os.fsdecode(self.plan.path_of(op.keep))
        keep = self.holder.hold(op.keep, f"the photo that is kept, {keep_path},", held)
        dup = self.holder.hold(op.dup, "", held)
        others, twins = [], []
        for companion in op.companions:
            path = os.fsdecode(self.plan.path_of(companion.file))
            others.append(self.holder.hold(companion.file, f"{path}, which goes with it,", held))
            if companion.twin is not None:
                path = os.fsdecode(self.plan.path_of(companion.twin))
                twins.append(self.holder.hold(companion.twin, f"{path}, which is kept,", held))
        checked = _Checked(op, dup, keep, others, twins)
        going = [one.identity for one in checked.goes]
        if len(set(going)) < len(going) or set(going) & {one.identity for one in checked.stays}:
            raise Refused("it is the same file as the one that is kept, under another name", AGAIN)
        self._check_protection(checked)
        self._read(checked)
        for one in (*checked.goes, *checked.stays):
            self.holder.check(one)
        if op.act is Act.HARDLINK:
            _check_metadata(op, dup.planned, keep.planned)
        for one in (*checked.goes, *checked.stays):
            if one.lease is not None and not one.lease.release():
                raise one.refuse(
                    "was opened for writing by another program", "close that program, then try again"
                )
        return checked

    def _check_places(self, op: Operation) -> None:
        files = [op.dup, op.keep, *(one.file for one in op.companions)]
        files += [one.twin for one in op.companions if one.twin is not None]
        for file in files:
            if file.root in self.places.trouble:
                raise self.places.trouble[file.root]
            if file.root != op.dup.root and frozenset((file.root, op.dup.root)) in self.places.aliases:
                one, other = (os.fsdecode(self.plan.roots[n].path) for n in (op.dup.root, file.root))
                raise Refused(
                    f"{one} and {other} are one folder under two names", "name only one of them to scan"
                )
        if op.relation is Relation.SIMILAR or (op.relation is Relation.EDITED and not op.decided):
            raise Refused(f"{op.relation} is nothing to act on without a person's decision", "")
        if op.act is not Act.QUARANTINE and op.relation is not Relation.SAME_BYTES:
            raise Refused("only files with the same bytes are linked", "use --action quarantine")

    def _check_protection(self, checked: _Checked) -> None:
        for one in checked.goes:
            if self.places.is_protected(one.spot.folder):
                raise one.refuse("lies in a protected folder", "")
        if checked.op.act is Act.HARDLINK and self.places.is_protected(checked.keep.spot.folder):
            raise Refused(
                "the photo that is kept lies in a protected folder, and a change of the link would change it",
                "use --action quarantine or reflink",
            )

    def _read(self, checked: _Checked) -> None:
        """Read all of it: bytes against bytes, or digests and then the pictures."""
        op, dup, keep = checked.op, checked.dup, checked.keep
        if op.relation is Relation.SAME_BYTES:
            self.holder.read_same(dup, keep)
        else:
            self.holder.read_planned(keep)
            self.holder.read_planned(dup)
            why = self.hooks.confirm(dup.fd, keep.fd, op)
            if why:
                raise Refused(why, AGAIN)
        for one in (*checked.others, *checked.twins):
            self.holder.read_planned(one)

    # --- act ------------------------------------------------------------------------------------------------------

    def _act(self, checked: _Checked) -> None:
        op = checked.op
        places = [self._place(op, number, one) for number, one in enumerate(checked.goes)]
        entry = Entry(
            run=self.number,
            id=op.id,
            act=op.act,
            relation=op.relation,
            decided=op.decided,
            keep=op.keep,
            moves=tuple(
                Move(one.planned, _below(place), os.fstat(one.spot.folder.fd).st_mtime_ns)
                for one, place in zip(checked.goes, places, strict=True)
            ),
            twins=tuple(companion.twin for companion in op.companions),
            frees_bytes=op.frees_bytes,
            state=BEGUN,
            since=0.0,
        )
        self.journal.append(intent_record(entry))
        folders = [one.spot.folder for one in checked.goes] + [place.folder for place in places if place]
        try:
            match op.act:
                case Act.QUARANTINE:
                    self._move_away(checked, [place for place in places if place is not None])
                case Act.HARDLINK:
                    assert places[0] is not None
                    self._link(checked, places[0])
                case Act.REFLINK:
                    self._share(checked)
        except Stranded:
            where = ", ".join(os.fsdecode(place.path) for place in places if place is not None)
            words = f"was replaced by another program while this ran; what was there before is {where}"
            record = {"kind": "done", "note": words}
            remedy = f"dedup undo {self.number} gives it back beside the new one"
            self._wait_for(entry, record, folders, self._outcome(op, Ending.REFUSED, words, remedy))
        except Refused as why:
            self._wait_for(
                entry, {"kind": "abort"}, folders, self._outcome(op, Ending.REFUSED, why.why, why.remedy)
            )
        except OSError as error:
            self._wait_for(
                entry, {"kind": "abort"}, folders, self._outcome(op, Ending.REFUSED, *_words_of(error))
            )
        else:
            after = [os.fstat(one.spot.folder.fd).st_mtime_ns for one in checked.goes]
            self._wait_for(entry, {"kind": "done", "folders": after}, folders, self._outcome(op, Ending.DONE))
            self.waiting[-1].undo = self._taking_back(checked, places)
        finally:
            for one in (*checked.goes, *checked.stays):
                self.holder.note(one)

    def _place(self, op: Operation, number: int, one: Held) -> Spot | None:
        """The place in quarantine; None where nothing moves."""
        if op.act is Act.REFLINK:
            return None
        root = self.places.roots[one.planned.root]
        folder = self.places.folder(root.number, b".dedup/quarantine/%d" % self.number)
        return folder.spot(quarantine_name(root, op.id, number))

    def _wait_for(self, entry: Entry, record: Plain, folders: Sequence[Folder], outcome: Outcome) -> None:
        record = {**record, "run": entry.run, "op": entry.id}
        self.waiting.append(_Ended(outcome, record, list(folders)))

    def _move_away(self, checked: _Checked, places: Sequence[Spot]) -> None:
        """Quarantine: all files of the operation, or none."""
        moved: list[tuple[Spot, Spot]] = []
        try:
            for one, place in zip(checked.goes, places, strict=True):
                self._look_once_more(one, place)
                put_away(one.spot, place)
                moved.append((place, one.spot))
                self._look_at_what_came_out(one, place)
            self._look_for_keepers(checked)
        except (Refused, OSError):
            _all_back(moved)
            raise

    def _link(self, checked: _Checked, place: Spot) -> None:
        """Hard link: the name comes to mean the keeper, and the duplicate comes to lie in quarantine, in one step."""
        dup, keep = checked.dup, checked.keep
        root = dup.spot.folder.root
        if not root.links:
            raise Refused("this file system has no hard links", "use --action quarantine")
        if not root.exchanges:
            self._link_after_moving(checked, place)
            return
        self._look_once_more(dup, place)
        syscalls.link_open_file(keep.fd, keep.spot.at, place.at)
        try:
            if identity_of(place.look()) != keep.identity:
                raise keep.refuse("was replaced while this ran")
            self._look_once_more(dup, None)
            syscalls.exchange(place.at, dup.spot.at)
            self._look_at_what_came_out(dup, place)
            if identity_of(dup.spot.look()) != keep.identity:
                raise dup.refuse("was replaced while this ran")
            self._look_for_keepers(checked)
        except (Refused, OSError):
            _taken_back(place, dup.spot, keep.identity)
            raise

    def _link_after_moving(self, checked: _Checked, place: Spot) -> None:
        """Hard link without an exchange: the name is absent for a moment, and `recover` knows."""
        dup, keep = checked.dup, checked.keep
        self._look_once_more(dup, place)
        put_away(dup.spot, place)
        try:
            self._look_at_what_came_out(dup, place)
            self._look_for_keepers(checked)
            syscalls.link_open_file(keep.fd, keep.spot.at, dup.spot.at)
            if identity_of(dup.spot.look()) != keep.identity:
                raise dup.refuse("was replaced while this ran")
            self._look_for_keepers(checked)
        except FileExistsError as error:
            raise Stranded from error
        except (Refused, OSError):
            _moved_back(place, dup.spot, keep.identity)
            raise

    def _share(self, checked: _Checked) -> None:
        """Reflink: the kernel compares and shares under its own lock; no name changes and nothing moves."""
        dup, keep, size = checked.dup, checked.keep, checked.dup.planned.size_bytes
        at = 0
        while at < size:
            try:
                shared, status = syscalls.share_range(keep.fd, dup.fd, at, min(_SHARE_BYTES, size - at))
            except OSError as error:
                if error.errno in (*syscalls.NOT_THERE, errno.EXDEV):
                    raise Refused(
                        "this file system cannot share blocks between files",
                        "use --action quarantine, or hardlink",
                    ) from error
                raise
            if status == syscalls.RANGE_DIFFERS or shared <= 0:
                raise dup.refuse("does not hold the same bytes any more")
            at += shared
        if self._digest(dup) != dup.planned.digest:
            raise dup.refuse("changed while this ran")

    # --- looking --------------------------------------------------------------------------------------------------

    def _look_once_more(self, one: Held, place: Spot | None) -> None:
        """Right before a name changes: it is the file that was read, where it was, and its new place is free."""
        self.holder.check(one)
        if identity_of(one.spot.look()) != one.identity or not one.spot.folder.is_in_place():
            raise one.refuse("was replaced while this ran")
        if place is not None and place.look() is not None:
            raise Refused(f"there is a file at {os.fsdecode(place.path)} already", "look there first")

    def _look_at_what_came_out(self, one: Held, place: Spot) -> None:
        """What lies in quarantine is the file that was read, to the last byte, and nobody is writing to it."""
        found, planned = place.look(), one.planned
        if found is None or identity_of(found) != one.identity:
            raise one.refuse("was replaced while this ran")
        if (found.st_size, found.st_mtime_ns) != (planned.size_bytes, planned.mtime_ns):
            raise one.refuse("changed while this ran")
        lease = syscalls.Lease(one.fd)
        same = not lease.writer and self._digest(one) == planned.digest
        if not lease.release() or not same:
            raise one.refuse("changed while this ran")

    def _digest(self, one: Held) -> bytes:
        """Read again after the act: from here on a wish to stop has to wait."""
        return Holder(self.places, lambda: False).digest(one.fd, one.planned.size_bytes)

    def _look_for_keepers(self, checked: _Checked) -> None:
        """What stays is still there by name, the very files that were read.

        An alias of the duplicate would be gone by now, or bear the time of our move.
        """
        for one in checked.stays:
            file, now = one.planned, os.fstat(one.fd)
            try:
                fd = syscalls.open_beneath(self.places.roots[file.root].fd, file.path, syscalls.FILE_FLAGS)
            except OSError as error:
                raise one.refuse(
                    "is gone once the duplicate is moved: they may be one file under two paths", AGAIN
                ) from error
            try:
                found = os.fstat(fd)
            finally:
                os.close(fd)
            linked = checked.op.act is Act.HARDLINK
            if (
                identity_of(found) != one.identity
                or (found.st_size, found.st_mtime_ns) != (file.size_bytes, file.mtime_ns)
                or found.st_ctime_ns != (now if linked else one.seen).st_ctime_ns
            ):
                raise one.refuse("changed while this ran")

    # --- the end --------------------------------------------------------------------------------------------------

    def _taking_back(self, checked: _Checked, places: Sequence[Spot | None]) -> Callable[[], None]:
        """What undoes a complete operation, without its open files."""
        pairs = [
            (place, one.spot) for place, one in zip(places, checked.goes, strict=True) if place is not None
        ]
        keep, act = checked.keep.identity, checked.op.act

        def take_back() -> None:
            if act is Act.HARDLINK:
                if pairs[0][1].folder.root.exchanges:
                    _taken_back(*pairs[0], keep)
                else:
                    _moved_back(*pairs[0], keep)
            else:
                _all_back(pairs)

        return take_back

    def _settle(self) -> Iterator[Outcome]:
        """Bring the folders of a batch to the disk, then write its ends down."""
        batch, self.waiting = self.waiting, []
        trouble: dict[int, str] = {}
        failed: Unsafe | None = None
        for folder in {id(folder): folder for ended in batch for folder in ended.folders}.values():
            trouble[id(folder)] = _sync(folder)
        for ended in batch:
            why = next((trouble[id(folder)] for folder in ended.folders if trouble[id(folder)]), "")
            if not why:
                continue
            try:
                if ended.undo is not None:
                    ended.undo()
                    ended.record = {**ended.record, "kind": "abort"}
                ended.outcome = _refused(ended.outcome, f"the disk could not be waited for ({why})")
            except Unsafe as error:
                failed, ended.record = error, {}
            # Without the disk's word there is no end; `recover` will look again.
            if any(_sync(folder) for folder in ended.folders):
                ended.record = {}
        records = [ended.record for ended in batch if ended.record]
        if records:
            self.journal.append(*records)
        self.places.forget_folders()
        if failed is not None:
            raise failed
        for ended in batch:
            yield ended.outcome


def _sync(folder: Folder) -> str:
    """Why a folder could not be brought to the disk; empty if it was."""
    try:
        folder.sync()
    except OSError as error:
        return error.strerror or "the disk fails"
    return ""


def _refused(outcome: Outcome, why: str) -> Outcome:
    remedy = "look at the disk, then try again"
    return Outcome(outcome.operation, outcome.path, outcome.keep, Ending.REFUSED, why, remedy)


def _below(place: Spot | None) -> bytes:
    """Path of a place below its root; empty for none."""
    return b"" if place is None else place.folder.path + b"/" + place.name


def _all_back(moved: Sequence[tuple[Spot, Spot]]) -> None:
    stranded = False
    for place, name in reversed(moved):
        try:
            give_back(place, name)
        except Stranded:
            stranded = True
        except OSError as error:
            raise _cannot_take_back(place, name, error) from error
    if stranded:
        raise Stranded


def _taken_back(place: Spot, name: Spot, keep: tuple[int, int]) -> None:
    try:
        exchange_back(place, name, keep)
    except OSError as error:
        raise _cannot_take_back(place, name, error) from error


def _moved_back(place: Spot, name: Spot, keep: tuple[int, int]) -> None:
    """Take a link without an exchange back: our link first, if it is there and not the last name of the keeper."""
    try:
        if identity_of(name.look()) == keep:
            drop_link(name, keep)
        give_back(place, name)
    except OSError as error:
        raise _cannot_take_back(place, name, error) from error


def _cannot_take_back(place: Spot, name: Spot, error: OSError) -> Unsafe:
    return Unsafe(
        f"{os.fsdecode(name.path)} could not be put back ({error.strerror}); look at this name and at "
        f"{os.fsdecode(place.path)}, then run `dedup recover`"
    )


def _check_metadata(op: Operation, dup: PlannedFile, keep: PlannedFile) -> None:
    """A link takes over the keeper's mode, owner and attributes: only where they are the same, or a person said so."""
    if op.losses:
        return
    for what, one, other in (
        ("permissions", dup.mode, keep.mode),
        ("owner", (dup.uid, dup.gid), (keep.uid, keep.gid)),
        ("attributes", dup.xattrs, keep.xattrs),
    ):
        if one != other:
            raise Refused(
                f"its {what} differ from those of the photo that is kept, and a link would lose them",
                "--accept-metadata-loss, or --action reflink or quarantine",
            )


_WORDS = {
    errno.EXDEV: (
        "its place and the quarantine are on different disks",
        "scan the inner disk as a folder of its own",
    ),
    errno.EMLINK: (
        "the photo that is kept has as many links as the file system allows",
        "use --action quarantine",
    ),
    errno.EROFS: ("the disk is read-only", "make it writable, then try again"),
    errno.EACCES: ("you may not change it", "run as its owner"),
    errno.EPERM: ("you may not change it", "it may be immutable, or belong to somebody else"),
    errno.ENOSPC: ("there is no space left on the disk", "free some space, then try again"),
    errno.EDQUOT: ("your quota is used up", "free some space, then try again"),
    errno.ELOOP: ("there is a symbolic link in its path", AGAIN),
    errno.ENOTDIR: ("there is a symbolic link in its path, or no folder", AGAIN),
    errno.ENOENT: ("it is no longer there", AGAIN),
    errno.EINVAL: ("is no longer a plain file", AGAIN),
}


def _words_of(error: OSError) -> tuple[str, str]:
    """Reason and remedy for what the system said."""
    if error.errno in _WORDS:
        return _WORDS[error.errno]
    return f"the system refused it ({error.strerror or error})", "look at the disk, then try again"
