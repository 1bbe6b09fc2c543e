"""Signals at each call, a reader that goes away, and two runs at once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from tests.safety.checker import judge_act, judge_purge, judge_undone, not_done
from tests.safety.field import HARDLINK, QUARANTINE, Field, Tally
from tests.safety.grounds import Ground
from tests.safety.kills import Scenario, choose, rehearse, said_nothing_of_a_fault
from tests.safety.program import PROJECT, At, Program, Run
from tests.safety.tracer import Call, Send, Verdict

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGPIPE: 0}
"""And the exit code of a run that one of them ends; a broken pipe alone ends nothing."""


def send_signals(
    ground: Ground, program: Program, scenario: Scenario, *, pairs: int, most: int, rng: random.Random
) -> Tally:
    """Each signal at each call (or `most` in all): the item at hand is finished or taken back, without `recover`."""
    tally = Tally(f"signals: {scenario.name}, {ground.name}")
    place = scenario.on(ground, program, pairs)
    calls = rehearse(place, scenario)
    for number, code in SIGNALS.items():
        for at in choose(len(calls), most // len(SIGNALS), rng):
            place.fresh()
            visitor = At(at, Send(number))
            run = program.run_stopped(*scenario.words(place), within=place.within, visitor=visitor)
            if visitor.reached is None:
                tally.note("call not reached")
                continue
            tally.points += 1
            where = f"{tally.name}, {number.name} at call {visitor.reached}"
            tally.note(f"{number.name}: exit {run.code}")
            tally.blame(where, said_nothing_of_a_fault(run), run)
            if run.code not in (0, code):
                tally.blame(where, [f"exit code {run.code}, not {code}"], run)
            now = place.look()
            if scenario.purges:
                tally.blame(where, judge_purge(place.start, now, place.planned), run)
                continue
            tally.blame(where, judge_act(place.before, now, place.planned), run)
            if (
                scenario.name.startswith("apply")
                and run.code == 0
                and not_done(place.before, now, place.planned)
            ):
                tally.blame(where, ["exit code 0, and items were not done"], run)
            undo = program.run("undo", "1")
            tally.blame(where + ", undone", judge_undone(place.before, place.look()), undo)
    return tally


def lose_the_reader(ground: Ground, program: Program) -> Tally:
    """Whoever reads the output goes away, at once or after some lines; nothing may stop in the middle of an item."""
    tally = Tally(f"the reader goes away, {ground.name}")
    for selection in (HARDLINK, QUARANTINE):
        place = Field(ground, program, selection, pairs=12)
        for options in ((), ("--json",), ("-v",)):
            for lines in (0, 1, 5, 20):
                place.fresh()
                command = [sys.executable, "-m", program.name, "apply", str(place.plan), "--yes", *options]
                with subprocess.Popen(
                    command, cwd=PROJECT, env=program.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
                ) as running:
                    assert running.stdout is not None
                    for _ in range(lines):
                        running.stdout.readline()
                    running.stdout.close()
                    code = running.wait(60)
                tally.points += 1
                tally.note(f"exit {code}")
                if code not in (0, 141):
                    tally.blame(
                        tally.name, [f"exit code {code}, {' '.join(command[-3:])}, after {lines} lines"]
                    )
                where = f"{tally.name}, {' '.join(options)}, after {lines} lines"
                tally.blame(where, judge_act(place.before, place.look(), place.planned))
                undo = program.run("undo", "1")
                tally.blame(where + ", undone", judge_undone(place.before, place.look()), undo)
    return tally


# --- two at once ------------------------------------------------------------------------------------------------------


class Second(At):
    """Runs another command to its end while the first one stands at its n-th call."""

    def __init__(self, number: int, other: Program, words: tuple[str | Path, ...]) -> None:
        super().__init__(number, None)
        self.other = other
        self.words = words
        self.run: Run | None = None

    def __call__(self, call: Call) -> Verdict:
        super().__call__(call)
        if self.reached is call:
            self.run = self.other.run(*self.words)
        return None


def run_two(
    ground: Ground, program: Program, other: Program, scenario: Scenario, *, most: int, rng: random.Random
) -> Tally:
    """A second command while the first one stands at a call: it waits for nothing, changes nothing, and says so."""
    tally = Tally(f"two at once: {scenario.name}, {ground.name}")
    place = scenario.on(ground, program, 12)
    other.env = dict(program.env)
    calls = rehearse(place, scenario)
    locked = next(
        (
            n
            for n, call in enumerate(calls, 1)
            if call.name in ("rename", "renameat2", "link", "linkat", "unlinkat")
        ),
        1,
    )
    seconds: tuple[tuple[str | Path, ...], ...] = (
        ("apply", place.plan, "--yes"),
        ("undo", "1"),
        ("recover",),
        ("purge", "1", "--count", "12"),
        ("scan", *place.library.roots),
        ("plan", "-o", place.library.plan("second")),
        ("report",),
    )
    for turn in range(most):
        words = seconds[turn % len(seconds)]
        at = rng.randint(1, len(calls)) if turn % 4 == 3 else rng.randint(locked, len(calls))
        place.fresh()
        visitor = Second(at, other, words)
        run = program.run_stopped(*scenario.words(place), within=place.within, visitor=visitor)
        if visitor.run is None:
            tally.note("call not reached")
            continue
        tally.points += 1
        second = visitor.run
        where = f"{tally.name}, {words[0]} at call {visitor.reached}"
        tally.note(f"{words[0]}: exit {second.code}, the first one {run.code}")
        for one in (run, second):
            tally.blame(where, said_nothing_of_a_fault(one), one)
        # A purge that counts other files than there are has looked, and wants no lock.
        allowed = (2, 4) if words[0] == "purge" else (4,)
        if words[0] in ("apply", "undo", "recover", "purge") and at >= locked and second.code not in allowed:
            tally.blame(where, [f"the second one was not held off: exit {second.code}"], second)
        now = place.look()
        if scenario.purges:
            tally.blame(where, judge_purge(place.start, now, place.planned), run)
            continue
        tally.blame(where, judge_act(place.before, now, place.planned), run)
        undo = program.run("undo", "1")
        tally.blame(where + ", undone", judge_undone(place.before, place.look()), undo)
    return tally


def race_two(ground: Ground, program: Program, *, most: int) -> Tally:
    """Two cold runs of the same plan, let loose together: one does it, the other is held off."""
    tally = Tally(f"two at once, let loose: {ground.name}")
    place = Field(ground, program, HARDLINK, pairs=12)
    for _ in range(most):
        place.fresh()
        command = [sys.executable, "-m", program.name, "apply", os.fspath(place.plan), "--yes"]
        both = [
            subprocess.Popen(
                command, cwd=PROJECT, env=program.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            for _ in range(2)
        ]
        codes = sorted(one.wait(60) for one in both)
        tally.points += 1
        tally.note(f"exits {codes}")
        # One after the other is in order, too: then the second finds nothing left to do.
        if not set(codes) <= {0, 3, 4}:
            tally.blame(tally.name, [f"exit codes {codes}"])
        tally.blame(tally.name, judge_act(place.before, place.look(), place.planned))
        undo = program.run("undo", "1")
        tally.blame(tally.name + ", undone", judge_undone(place.before, place.look()), undo)
    return tally
