"""What there is before the program begins: a torn journal, a damaged catalogue, a full disk, what cannot change."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.safety.checker import Snapshot, judge_act, judge_undone, not_done
from tests.safety.field import HARDLINK, QUARANTINE, Field, Tally
from tests.safety.grounds import MS_BIND, MS_RDONLY, MS_REMOUNT, Ext4, Ground, Tmpfs, mount, unmount
from tests.safety.kills import said_nothing_of_a_fault
from tests.safety.plans import read_planned
from tests.safety.program import Program, Run
from tests.safety.tracer import MUTATING, OPENS, Call, Kill, Verdict, memory

SHORT = 4
"""Pairs in the library on which a journal is torn at every byte."""


# --- the journal ------------------------------------------------------------------------------------------------------


class StopAtRecord:
    """Kills the program when it is about to write the n-th piece of the journal, and keeps the piece."""

    def __init__(self, number: int, journal: Path) -> None:
        self.number = number
        self.journal = str(journal)
        self.count = 0
        self.piece = b""

    def __call__(self, call: Call) -> Verdict:
        if call.name not in ("write", "pwrite64") or call.paths[0] != self.journal:
            return None
        self.count += 1
        if self.count < self.number:
            return None
        self.piece = memory(call.pid, call.arguments[1], call.arguments[2])
        return Kill()


def journal_of(place: Field) -> Path:
    """The one file that an apply leaves in the program's own folder besides locks."""
    found = [path for path in place.library.state.rglob("*") if path.is_file() and path.stat().st_size]
    journals = [path for path in found if path.name.startswith("journal")]
    return (journals or found)[0]


def tear_journal(
    ground: Ground,
    program: Program,
    *,
    most: int,
    rng: random.Random,
    words: str = "apply",
    pairs: int = SHORT,
) -> Tally:
    """The journal ends within each piece, at every byte (or `most` of them); then `recover` and undo."""
    tally = Tally(f"journal torn in {words}, {ground.name}")
    after = _apply if words == "undo" else None
    place = Field(ground, program, HARDLINK, pairs=pairs, others=False, after=after)
    command = ("undo", "1") if words == "undo" else ("apply", place.plan, "--yes")
    place.must(*command)
    journal = journal_of(place)
    pieces = []
    for number in range(1, 10_000):
        place.fresh()
        stop = StopAtRecord(number, journal)
        program.run_stopped(*command, within=place.within, visitor=stop, calls=MUTATING | OPENS)
        if not stop.piece:
            break
        pieces.append(stop.piece)
    everywhere = [(number, cut) for number, piece in enumerate(pieces) for cut in range(len(piece) + 1)]
    tally.notes["bytes of the journal"] = len(everywhere)
    chosen = everywhere if len(everywhere) <= most else sorted(rng.sample(everywhere, most))
    reached, stopped, piece = -1, b"", b""
    for number, cut in chosen:
        if number == reached and isinstance(ground, Ext4):
            ground.load(stopped)
        else:
            place.fresh()
            stop = StopAtRecord(number + 1, journal)
            program.run_stopped(*command, within=place.within, visitor=stop, calls=MUTATING | OPENS)
            reached, piece = number, stop.piece
            if isinstance(ground, Ext4):
                stopped = ground.save()
        with open(journal, "ab") as stream:
            stream.write(piece[:cut])
        tally.points += 1
        where = f"{tally.name}, piece {number + 1}, byte {cut}"
        recovery = program.run("recover")
        if recovery.code != 0:
            tally.blame(where, [f"recover ended with {recovery.code}"], recovery)
        tally.blame(where, judge_act(place.before, place.look(), place.planned), recovery)
        undo = program.run("undo", "1")
        tally.blame(where + ", undone", judge_undone(place.before, place.look()), undo)
    return tally


def _apply(place: Field) -> None:
    place.must("apply", place.plan, "--yes")


def spoil_journal(ground: Ext4, program: Program, *, most: int, rng: random.Random) -> Tally:
    """A complete journal loses its end, gets other bits, or is gone: nothing may be lost by what is done then."""
    tally = Tally(f"journal spoilt, {ground.name}")
    place = Field(ground, program, QUARANTINE, pairs=SHORT, after=_apply)
    journal = journal_of(place)
    for turn in range(most):
        place.fresh()
        whole = bytearray(journal.read_bytes())
        kind = ("cut short", "one bit", "a stretch of zeros", "gone", "emptied", "a line twice")[turn % 6]
        at = rng.randrange(len(whole))
        if kind == "cut short":
            journal.write_bytes(whole[:at])
        elif kind == "one bit":
            whole[at] ^= 1 << rng.randrange(8)
            journal.write_bytes(whole)
        elif kind == "a stretch of zeros":
            whole[at : at + 512] = bytes(len(whole[at : at + 512]))
            journal.write_bytes(whole)
        elif kind == "gone":
            journal.unlink()
        elif kind == "emptied":
            journal.write_bytes(b"")
        else:
            lines = bytes(whole).splitlines(keepends=True)
            journal.write_bytes(b"".join(lines) + rng.choice(lines))
        tally.points += 1
        count = str(len(place.start.quarantine))
        for words in (
            ("recover",),
            ("purge", "1", "--count", count),
            ("undo", "1"),
            ("apply", str(place.plan), "--yes"),
        ):
            run = program.run(*words)
            where = f"{tally.name}, {kind} at byte {at}, then {words[0]}"
            tally.note(f"{kind}: {words[0]} exit {run.code}")
            tally.blame(where, said_nothing_of_a_fault(run), run)
            tally.blame(where, _contents_and_keepers(place, place.look(), purged=words[0] != "recover"), run)
    return tally


def _contents_and_keepers(place: Field, now: Snapshot, *, purged: bool) -> list[str]:
    """Faults that count whatever was purged: bytes that have no equal, keepers, folders, what lies outside."""
    others = (
        {place.before.names[one.dup].content for one in place.planned if not one.same_bytes}
        if purged
        else set()
    )
    others |= {
        place.before.names[path].content
        for one in place.planned
        for path in one.along
        if purged and not one.same_bytes
    }
    lost = place.before.contents - now.contents - others
    faults = [f"I1: {len(lost)} contents are nowhere"] if lost else []
    wanted = ("I2", "I4", "I5", "I8", "I9")
    return faults + [
        fault for fault in judge_act(place.before, now, place.planned) if fault.startswith(wanted)
    ]


# --- the catalogue ----------------------------------------------------------------------------------------------------


def damage_catalogue(ground: Ext4, program: Program, *, most: int, rng: random.Random) -> Tally:
    """The catalogue gets other bits, or is cut short; a plan made of it may be none, but never one that loses."""
    tally = Tally(f"damaged catalogue, {ground.name}")
    place = Field(ground, program, QUARANTINE, pairs=12)
    catalogue = place.library.catalogue
    for turn in range(most):
        place.fresh()
        content = bytearray(catalogue.read_bytes())
        if turn % 5 == 4:
            content = content[: rng.randrange(len(content))]
        else:
            for _ in range(rng.choice((1, 1, 8, 64))):
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        for rest in place.library.home.glob("catalogue.db-*"):
            rest.unlink()
        catalogue.write_bytes(content)
        tally.points += 1
        where = f"{tally.name}, turn {turn}"
        other = place.library.plan("other")
        plan = program.run("plan", "-o", other)
        tally.note(f"plan: exit {plan.code}")
        tally.blame(where, said_nothing_of_a_fault(plan), plan)
        planned = place.planned
        if turn % 2 and other.exists():
            planned = read_planned(other)
        run = program.run("apply", other if planned is not place.planned else place.plan, "--yes")
        tally.note(f"apply: exit {run.code}")
        tally.blame(where, said_nothing_of_a_fault(run), run)
        tally.blame(where, judge_act(place.before, place.look(), planned), run)
        if planned is place.planned and run.code != 0:
            tally.blame(where, ["a plan that was made before did not work without the catalogue"], run)
        undo = program.run("undo")
        tally.blame(where + ", undone", judge_undone(place.before, place.look()), undo)
    return tally


# --- full disks -------------------------------------------------------------------------------------------------------


def fill_up(ground: Ext4, desk: Path, program: Program) -> Tally:
    """No space, no inodes: where the journal lies, where the photos lie, in both acts and in undo."""
    tally = Tally("full disk")
    for selection, words in (
        (HARDLINK, "apply"),
        (QUARANTINE, "apply"),
        (HARDLINK, "undo"),
        (QUARANTINE, "undo"),
    ):
        place = Field(ground, program, selection, pairs=12, after=_apply if words == "undo" else None)
        command = ("undo", "1") if words == "undo" else ("apply", place.plan, "--yes")
        for free in (0, 1, 2, 4, 8, 16, 64):  # kilobytes
            for full in ("photos", "journal", "inodes of the journal"):
                place.fresh()
                place.here()
                where = f"full disk: {words} {selection}, {full}, {free} kB free"
                small: Tmpfs | None = None
                if full == "photos":
                    _fill(ground.home, free)
                else:
                    options = f"size={32 + free}k" if full == "journal" else f"size=1m,nr_inodes={2 + free}"
                    small = Tmpfs(desk, "small", options)
                    try:
                        shutil.copytree(place.library.state, small.home / "state", dirs_exist_ok=True)
                    except OSError:  # the journal of the apply does not even fit
                        tally.note("no room for the journal that is there")
                        small.close()
                        continue
                    if full == "journal":
                        _fill(small.home, free)
                    program.live_at(small.home / "state", place.library.catalogue)
                run = program.run(*command)
                tally.points += 1
                tally.note(f"{full}: {words} exit {run.code}")
                now = place.look()
                tally.blame(where, said_nothing_of_a_fault(run), run)
                tally.blame(where, judge_act(place.before, now, place.planned, unfinished=True), run)
                if words == "apply" and run.code == 0 and not_done(place.before, now, place.planned):
                    tally.blame(where, ["exit code 0, and items were not done"], run)
                # Space comes back; then everything must come in order again.
                for filler in (ground.home / "filler", *(() if small is None else (small.home / "filler",))):
                    filler.unlink(missing_ok=True)
                if small is not None:
                    mount("tmpfs", small.home, "tmpfs", MS_REMOUNT, "size=8m,nr_inodes=1000")
                recovery = program.run("recover")
                tally.blame(
                    where + ", recovered", judge_act(place.before, place.look(), place.planned), recovery
                )
                if recovery.code != 0:
                    tally.blame(where, [f"recover ended with {recovery.code}"], recovery)
                undo = program.run("undo", "1")
                tally.blame(where + ", undone", judge_undone(place.before, place.look()), undo)
                if small is not None:
                    small.close()
        place.here()
    return tally


def _fill(folder: Path, free_kilobytes: int) -> None:
    """Leave so many kilobytes free."""
    with open(folder / "filler", "wb", buffering=0) as stream:
        size = 1 << 20
        while size >= 512:
            try:
                stream.write(bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                size //= 2
        os.fsync(stream.fileno())
        left = max(0, stream.tell() - free_kilobytes * 1024)
        stream.truncate(left)
        os.fsync(stream.fileno())


# --- files that cannot change -----------------------------------------------------------------------------------------


@contextmanager
def _read_only(place: Field) -> Iterator[bool]:
    folder = place.library.roots[1]
    mount(str(folder), folder, "", MS_BIND)
    mount("none", folder, "", MS_BIND | MS_REMOUNT | MS_RDONLY)
    try:
        yield True
    finally:
        unmount(folder)


@contextmanager
def _flag(place: Field, flag: str, which: Callable[[Field], list[bytes]]) -> Iterator[bool]:
    paths = which(place)
    done = subprocess.run(["chattr", f"+{flag}", "--", *paths], check=False, capture_output=True)
    try:
        yield done.returncode == 0
    finally:
        subprocess.run(["chattr", f"-{flag}", "--", *paths], check=False, capture_output=True)


@contextmanager
def _stranger(place: Field) -> Iterator[bool]:
    """The one who runs it owns nothing here but the place of the journal."""
    for folder in (place.library.state, place.library.home):
        os.chmod(folder, 0o777)
    os.chmod(place.plan, 0o644)
    place.program.user = 65534
    try:
        yield True
    finally:
        place.program.user = 0


@contextmanager
def _folders_only(place: Field) -> Iterator[bool]:
    """The one who runs it may change every folder, and owns no photo (`protected_hardlinks` then forbids links)."""
    for root in place.library.roots:
        for folder in (root, *(path for path in root.rglob("*") if path.is_dir() and not path.is_symlink())):
            os.chmod(folder, 0o777)
    place.before = place.look()
    with _stranger(place) as possible:
        yield possible


def some_dups(place: Field) -> list[bytes]:
    return [one.dup for one in place.planned[::3]]


def some_keeps(place: Field) -> list[bytes]:
    return sorted({one.keep for one in place.planned[::3]})


def folders_of_dups(place: Field) -> list[bytes]:
    return sorted({os.path.dirname(one.dup) for one in place.planned[::3]})


def cannot_change(ground: Ext4, program: Program) -> Tally:
    """Read-only mounts, immutable and append-only files, other people's photos: refused, said, and the rest is done."""
    tally = Tally("files that cannot change")
    cases: dict[str, Callable[[Field], object]] = {
        "a read-only root": _read_only,
        "immutable duplicates": lambda place: _flag(place, "i", some_dups),
        "immutable keepers": lambda place: _flag(place, "i", some_keeps),
        "immutable folders": lambda place: _flag(place, "i", folders_of_dups),
        "append-only duplicates": lambda place: _flag(place, "a", some_dups),
        "append-only folders": lambda place: _flag(place, "a", folders_of_dups),
        "somebody else's photos": _stranger,
        "somebody else's photos in open folders": _folders_only,
    }
    # Same bytes only: who is a stranger may not even start the workers that compare pictures.
    for selection in (HARDLINK, ("--only", "same-bytes")):
        place = Field(ground, program, selection, pairs=16)
        for name, case in cases.items():
            place.fresh()
            original = place.before
            where = f"cannot change: {name}, {' '.join(selection) or 'quarantine'}"
            with case(place) as possible:  # type: ignore[attr-defined]
                if not possible:
                    tally.skipped.append(f"{name}: chattr is not possible here")
                    continue
                tally.points += 1
                run = program.run("apply", place.plan, "--yes")
                now = place.look()
                left = len(not_done(place.before, now, place.planned))
                tally.note(f"{name}: exit {run.code}, {left} of {len(place.planned)} left")
                _judge_refusal(tally, where, place, now, run, left)
                undo = program.run("undo", "1")
                tally.blame(where + ", undone", judge_undone(place.before, place.look()), undo)
            place.before = original
    return tally


def _judge_refusal(tally: Tally, where: str, place: Field, now: Snapshot, run: Run, left: int) -> None:
    tally.blame(where, said_nothing_of_a_fault(run), run)
    tally.blame(where, judge_act(place.before, now, place.planned), run)
    if left and run.code == 0:
        tally.blame(where, ["exit code 0, and items were not done"], run)


def too_many_links(ground: Ext4, program: Program) -> Tally:
    """A keeper that has as many names as ext4 gives a file: refused, and no other keeper taken in silence."""
    tally = Tally("too many links")
    place = Field(ground, program, HARDLINK, pairs=6, others=False)
    keep = os.fsdecode(place.planned[0].keep)
    many = place.library.home / "many"
    many.mkdir()
    try:
        for number in range(70_000):
            os.link(keep, many / str(number))
    except OSError as error:
        if error.errno != errno.EMLINK:
            raise
    place.must("plan", *place.selection, "-o", place.plan)
    place.planned, place.before = read_planned(place.plan), place.look()
    run = program.run("apply", place.plan, "--yes")
    tally.points += 1
    now = place.look()
    tally.note(
        f"exit {run.code}, {len(not_done(place.before, now, place.planned))} of {len(place.planned)} left"
    )
    _judge_refusal(tally, tally.name, place, now, run, len(not_done(place.before, now, place.planned)))
    undo = program.run("undo", "1")
    tally.blame("too many links, undone", judge_undone(place.before, place.look()), undo)
    return tally


def across_a_bind_mount(ground: Ext4, program: Program) -> Tally:
    """A folder of the root is a bind mount of the same file system: links and renames fail though the device is one."""
    tally = Tally("bind mount inside the root")
    for selection in (HARDLINK, QUARANTINE):
        place = Field(ground, program, selection, pairs=12)
        where = f"{tally.name}, {' '.join(selection) or 'quarantine'}"
        for folder in ("backup/phone", "photos/2019"):
            place.fresh()
            inner = place.library.home / folder
            mount(str(inner), inner, "", MS_BIND)
            try:
                run = program.run("apply", place.plan, "--yes")
                tally.points += 1
                now = place.look()
                left = len(not_done(place.before, now, place.planned))
                tally.note(f"{folder}: exit {run.code}, {left} of {len(place.planned)} left")
                _judge_refusal(tally, where, place, now, run, left)
                undo = program.run("undo", "1")
                tally.blame(where + ", undone", judge_undone(place.before, place.look()), undo)
            finally:
                unmount(inner)
    return tally
