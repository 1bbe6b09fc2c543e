"""The program is killed on entry to each call that changes something; then `recover`, the judge, and an exact undo."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count

from tests.safety.checker import judge_act, judge_purge, judge_undone, names_absent, not_done, show
from tests.safety.field import HARDLINK, QUARANTINE, REFLINK, Field, Setback, Tally, apply
from tests.safety.grounds import Fuse, Ground
from tests.safety.program import Program, Run, Word, kill_at
from tests.safety.tracer import MUTATING, OPENS, Call


@dataclass(frozen=True, slots=True)
class Scenario:
    """A command in which something goes wrong, and how it is judged afterwards."""

    name: str
    selection: Sequence[str]
    after: Callable[[Field], None] | None
    """What went before the command."""
    words: Callable[[Field], Sequence[Word]]
    purges: bool = False
    pictures: bool = True
    """Whether there are pairs that are compared as pictures: worker processes make a run ten times as long."""

    def on(self, ground: Ground, program: Program, pairs: int) -> Field:
        """A field for it."""
        return Field(ground, program, self.selection, pairs=pairs, pictures=self.pictures, after=self.after)


def apply_words(place: Field) -> Sequence[Word]:
    return "apply", place.plan, "--yes"


def undo_words(place: Field) -> Sequence[Word]:
    return "undo", "1"


def purge_words(place: Field) -> Sequence[Word]:
    return "purge", "1", "--count", str(len(place.start.quarantine))


SCENARIOS = (
    Scenario("apply hardlink", HARDLINK, None, apply_words),
    Scenario("apply quarantine", QUARANTINE, None, apply_words),
    Scenario("undo hardlink", HARDLINK, apply, undo_words),
    Scenario("undo quarantine", QUARANTINE, apply, undo_words),
    Scenario("purge hardlink", HARDLINK, apply, purge_words, purges=True),
    Scenario("purge quarantine", QUARANTINE, apply, purge_words, purges=True),
)

REFLINKS = (
    Scenario("apply reflink", REFLINK, None, apply_words),
    Scenario("undo reflink", REFLINK, apply, undo_words),
)
"""Where the file system has them."""


def rehearse(
    place: Field, scenario: Scenario, calls: Iterable[str] = MUTATING | OPENS, *, all_opens: bool = False
) -> list[Call]:
    """The command without any fault: it must do what it is for; the calls that it makes.

    Raises
    ------
    Setback
        If it does not: then nothing that follows would prove anything.
    """
    run, seen = place.program.calls_of(
        *scenario.words(place), within=place.within, calls=calls, all_opens=all_opens
    )
    now = place.look()
    if scenario.purges:
        left = len(now.quarantine)
    elif scenario.name.startswith("undo"):
        left = len(judge_undone(place.before, now))
    else:
        left = len(not_done(place.before, now, place.planned))
    if run.code != 0 or left or not place.planned:
        raise Setback(f"{scenario.name} without any fault ended with {run.code}, {left} not done: {run.said}")
    return seen


def choose(total: int, most: int, rng: random.Random) -> list[int]:
    """1 to `total`, or `most` of them: the beginning, the end, a stretch in the middle, and others at random."""
    if total <= most:
        return list(range(1, total + 1))
    part, middle = most // 4, total // 2
    chosen = {*range(1, part + 1), *range(total - part + 1, total + 1), *range(middle, middle + part)}
    rest = sorted(set(range(1, total + 1)) - chosen)
    return sorted(chosen | set(rng.sample(rest, max(0, most - len(chosen)))))


def kill_at_each_call(
    ground: Ground, program: Program, scenario: Scenario, *, pairs: int, most: int, rng: random.Random
) -> Tally:
    """One run for each call (or `most` of them), killed there."""
    tally = Tally(f"kill: {scenario.name}, {ground.name}")
    place = scenario.on(ground, program, pairs)
    calls = rehearse(place, scenario)
    tally.notes[f"items: {len(place.planned)}, calls"] = len(calls)
    for number in choose(len(calls), most, rng):
        place.fresh()
        visitor = kill_at(number)
        run = program.run_stopped(*scenario.words(place), within=place.within, visitor=visitor)
        if visitor.reached is None:
            tally.note("call not reached")
            continue
        tally.points += 1
        where = f"{tally.name}, call {visitor.reached}"
        if not scenario.purges:
            now = place.look()
            tally.blame(
                where + ", at once", judge_act(place.before, now, place.planned, unfinished=True), run
            )
            if not isinstance(ground, Fuse):  # the one that cannot exchange two names
                tally.blame(where + ", at once", names_absent(place.before, now, place.planned), run)
        judge_aftermath(tally, place, scenario, where, number)
    return tally


def judge_aftermath(tally: Tally, place: Field, scenario: Scenario, where: str, number: int = 0) -> None:
    """Recover, judge, then finish or take back, and judge again."""
    recovery = place.program.run("recover")
    if recovery.code != 0:
        tally.blame(where, [f"recover ended with {recovery.code}"], recovery)
    if scenario.purges:
        _judge_purge(tally, place, scenario, where, number)
        return
    tally.blame(where + ", recovered", judge_act(place.before, place.look(), place.planned), recovery)
    undo = place.program.run("undo", "1")
    tally.blame(where + ", undone", judge_undone(place.before, place.look()), undo)


def _judge_purge(tally: Tally, place: Field, scenario: Scenario, where: str, number: int) -> None:
    now = place.look()
    tally.blame(where + ", recovered", judge_purge(place.start, now, place.planned))
    if number % 2:
        purge = place.program.run("purge", "1", "--count", str(len(now.quarantine)))
        now = place.look()
        tally.blame(where + ", purged again", judge_purge(place.start, now, place.planned), purge)
        if now.quarantine:
            tally.blame(
                where, [f"{len(now.quarantine)} files are still in quarantine after a second purge"], purge
            )
    else:
        undo = place.program.run("undo", "1")
        # What was purged and is no equal of its keeper does not come back; everything else does.
        gone = {one.dup for one in place.planned if not one.same_bytes}
        faults = judge_act(place.before, place.look(), place.planned)
        faults = [fault for fault in faults if fault.startswith(("I1", "I2", "I8", "I9"))]
        faults = [fault for fault in faults if not any(show(dup) in fault for dup in gone)]
        tally.blame(where + ", undone", faults, undo)


def kill_recover(
    ground: Ground, program: Program, scenario: Scenario, *, pairs: int, most: int, rng: random.Random
) -> Tally:
    """`recover` itself is killed at each of its calls, after a kill at each call of one item and of the beginning."""
    tally = Tally(f"kill: recover after {scenario.name}, {ground.name}")
    place = scenario.on(ground, program, pairs)
    calls = rehearse(place, scenario)
    cycle = len(calls) // max(1, len(place.planned)) + 3
    middle = len(calls) // 2
    for first in (*range(1, 25), *range(middle, middle + 2 * cycle)):
        for second in count(1):
            if tally.points >= most:
                return tally
            place.fresh()
            program.run_stopped(*scenario.words(place), within=place.within, visitor=kill_at(first))
            visitor = kill_at(second)
            program.run_stopped("recover", within=place.within, visitor=visitor)
            if visitor.reached is None:
                break
            tally.points += 1
            where = f"{tally.name}, call {calls[first - 1]}, then {visitor.reached}"
            if not scenario.purges:
                now = place.look()
                tally.blame(where + ", at once", judge_act(place.before, now, place.planned, unfinished=True))
            if rng.random() < 0.3:  # and once more
                program.run_stopped("recover", within=place.within, visitor=kill_at(rng.randint(1, 8)))
            judge_aftermath(tally, place, scenario, where, second)
    return tally


def calls_by_name(calls: Sequence[Call]) -> dict[str, int]:
    found: dict[str, int] = {}
    for call in calls:
        found[call.name] = found.get(call.name, 0) + 1
    return found


def said_nothing_of_a_fault(run: Run) -> list[str]:
    """A sentence if the program ended by a fault of its own."""
    if "this is a fault in dedup" in run.err or "Traceback" in run.err:
        return ["it ended by a fault of its own"]
    return []
