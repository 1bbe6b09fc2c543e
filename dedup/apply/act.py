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

from dedup.apply.files import Held, Holder, Refused, Stopped, words_of
from dedup.apply.moves import Stranded, quarantine_name
from dedup.apply.own import QUARANTINE, Unreachable
from dedup.apply.places import Folder, Places, Spot, put_times_back
from dedup.apply.standing import is_time_ours
from dedup.apply.steps import Checked, Hooks, Steps
from dedup.errors import Unsafe
from dedup.journal import BEGUN, DONE, PURGED, Entry, Journal, Move, intent_record, run_record
from dedup.records import Act, Ending, Operation, Outcome, Plain, Plan

BATCH = 64
"""Operations for which folders are waited for together; their ends are written after that."""


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
    digest = hashlib.sha256(repr((plan.created, plan.roots)).encode())
    for operation in plan.operations:
        digest.update(repr(operation).encode())
    return digest.hexdigest()


class _Run:
    """One run of one plan."""

    def __init__(self, plan: Plan, journal: Journal, places: Places, hooks: Hooks) -> None:
        self.plan = plan
        self.journal = journal
        self.places = places
        self.hooks = hooks
        self.digest = digest_of(plan)
        self.holder = Holder(places)
        self.steps = Steps(plan, places, self.holder, hooks)
        self.number = 0
        self.waiting: list[_Ended] = []

    # --- around it ------------------------------------------------------------------------------------------------

    def carry_out(self, protected: Sequence[bytes]) -> Iterator[Outcome]:
        """All operations."""
        done = self._done_before()
        acting = sorted({op.dup.root for op in self.plan.operations if op.id not in done})
        self.journal.check_space(len(self.plan.operations))
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
                if op.id in done:
                    self._end(op, Ending.DONE, f"done before, by run {done[op.id]}")
                    continue
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
            self.places.remove_empty([self._folder])
            self.journal.end()

    @property
    def _folder(self) -> bytes:
        """Where this run puts what it takes away, below each root."""
        return QUARANTINE + b"/%d" % self.number

    def _done_before(self) -> dict[int, int]:
        """Operations that an earlier run of this very plan did, with its number, and what that left of its files."""
        done: dict[int, int] = {}
        for run in self.journal.runs.values():
            if run.plan == self.digest:
                for entry in run.entries.values():
                    self.holder.take_over(entry.left)
                    if entry.state in (DONE, PURGED) and not entry.note:
                        done[entry.id] = run.number
        return done

    def _begin(self, acting: Sequence[int]) -> None:
        reachable = [number for number in acting if number not in self.places.trouble]
        if not reachable:
            return
        number = 1 + max(
            [max(self.journal.runs, default=0), *(self.places.last_run(root) for root in reachable)]
        )
        from dedup import __version__

        self.number = number
        self.journal.append(run_record(number, __version__, self.digest, self.plan.roots))
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
                self._act(self.steps.look_and_read(op, held))
        except Refused as why:
            self._end(op, Ending.REFUSED, why.why, why.remedy)
        except Unreachable as why:
            self._end(op, Ending.REFUSED, why.why, why.remedy)
        except OSError as error:
            self._end(op, Ending.REFUSED, *words_of(error))

    def _end(self, op: Operation, ending: Ending, why: str, remedy: str = "") -> None:
        """An operation that did not come to its intent."""
        self.waiting.append(_Ended(self._outcome(op, ending, why, remedy), {}))

    def _outcome(self, op: Operation, ending: Ending, why: str = "", remedy: str = "") -> Outcome:
        done = ending is Ending.DONE and not why
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

    # --- act ------------------------------------------------------------------------------------------------------

    def _act(self, checked: Checked) -> None:
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
                    self.steps.move_away(checked, [place for place in places if place is not None])
                case Act.HARDLINK:
                    assert places[0] is not None
                    self.steps.link(checked, places[0])
                case Act.REFLINK:
                    self.steps.share(checked)
        except Stranded:
            where = ", ".join(os.fsdecode(place.path) for place in places if place is not None)
            words = f"was replaced by another program while this ran; what was there before is {where}"
            remedy = f"dedup undo {self.number} gives it back beside the new one"
            ended = _Ended(
                self._outcome(op, Ending.REFUSED, words, remedy), {"kind": "done", "note": words}, folders
            )
        except (Refused, OSError) as error:
            why = (error.why, error.remedy) if isinstance(error, Refused) else words_of(error)
            with suppress(OSError):
                put_times_back(_touched(checked, entry))
            ended = _Ended(self._outcome(op, Ending.REFUSED, *why), {"kind": "abort"}, folders)
        else:
            ended = _Ended(
                self._outcome(op, Ending.DONE),
                {"kind": "done", **_times_after(checked)},
                folders,
                self.steps.taking_back(checked, places),
            )
        with suppress(OSError):
            for one in (*checked.goes, *checked.stays):
                self.holder.note(one)
        left = self.holder.left((*checked.goes, *checked.stays))
        ended.record = {**ended.record, "run": entry.run, "op": entry.id, "left": left}
        self.waiting.append(ended)

    def _place(self, op: Operation, number: int, one: Held) -> Spot | None:
        """The place in quarantine; None where nothing moves."""
        if op.act is Act.REFLINK:
            return None
        root = self.places.roots[one.planned.root]
        folder = self.places.folder(root.number, self._folder)
        return folder.spot(quarantine_name(root, op.id, number))

    # --- the end --------------------------------------------------------------------------------------------------

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


def _times_after(checked: Checked) -> Plain:
    """The times of the folders after the act; without them an undo leaves the folders' times alone."""
    with suppress(OSError):
        return {"folders": [os.fstat(one.spot.folder.fd).st_mtime_ns for one in checked.goes]}
    return {}


def _touched(checked: Checked, entry: Entry) -> list[tuple[Folder, int]]:
    """Folders whose last change was that a file of ours went and came back, with the time they had before."""
    return [
        (one.spot.folder, move.folder_mtime_ns)
        for one, move in zip(checked.goes, entry.moves, strict=True)
        if is_time_ours(os.fstat(one.spot.folder.fd).st_mtime_ns, 0, os.fstat(one.fd))
    ]
