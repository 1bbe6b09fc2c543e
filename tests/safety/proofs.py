"""What strace says: who only looks changes nothing; and cold runs, killed by strace, fare as the warm ones do."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from pathlib import Path

from tests.safety.checker import judge_act, judge_undone
from tests.safety.field import HARDLINK, QUARANTINE, Field, Tally
from tests.safety.grounds import Ground
from tests.safety.kills import SCENARIOS, Scenario, judge_aftermath
from tests.safety.program import Program
from tests.safety.tracer import MUTATING, OPENS

_LINE = re.compile(r"^\d+\s+(\w+)\((.*)")
_WRITES = re.compile(r"O_(WRONLY|RDWR|CREAT|TRUNC|APPEND)")


def mutating_lines(trace: str, roots: tuple[Path, ...]) -> list[str]:
    """Lines of a strace in which something below one of the roots is changed."""
    found = []
    for line in trace.splitlines():
        match = _LINE.match(line)
        if match is None or not any(str(root) in line for root in roots):
            continue
        name, rest = match.groups()
        if name in OPENS and name != "creat" and not _WRITES.search(rest):
            continue
        if name == "ioctl" and "TCGETS" in rest:  # Python asks of each file whether it is a terminal
            continue
        found.append(line)
    return found


def only_look(
    ground: Ground, program: Program, desk: Path, *, pairs: int = 12, briefly: bool = False
) -> Tally:
    """scan, report, plan, a dry apply and their like make no changing call below the roots.

    `briefly`: each command in one of its forms.
    """
    tally = Tally(f"who only looks changes nothing, {ground.name}")
    if shutil.which("strace") is None:
        tally.skipped.append("strace is not installed")
        return tally
    place = Field(ground, program, QUARANTINE, pairs=pairs)
    library, trace = place.library, desk / "trace"
    library.catalogue.unlink()
    commands: tuple[tuple[str | Path, ...], ...] = (
        ("scan", *library.roots),
        ("report", "--html", library.home / "report.html"),
        ("plan", "-o", library.plan("another")),
        ("apply", "--all"),
        ("undo", "--list"),
        ("recover",),
        ("stats",),
        ("doctor",),
    )
    if not briefly:
        commands += (
            ("scan", *library.roots),
            ("report",),
            ("report", "--json"),
            ("plan", "--simple"),
            ("plan", "--show", place.plan),
            ("apply", place.plan),
            ("apply", "--all", "--action", "hardlink", "--only", "same-bytes"),
        )
    calls = ",".join(
        f"?{name}" for name in sorted(MUTATING | OPENS)
    )  # with ? for those that a strace does not know
    known = subprocess.run(["strace", "--help"], check=False, capture_output=True, text=True).stdout
    quickly = ["--seccomp-bpf"] if "--seccomp-bpf" in known else []  # stops at no other call
    for words in commands:
        run = program.run_cold(
            *words,
            before=(
                "strace",
                "-f",
                *quickly,
                "-qq",
                "-y",
                "-s",
                "0",
                "-e",
                f"trace={calls}",
                "-o",
                str(trace),
            ),
        )
        tally.points += 1
        text = trace.read_bytes().decode("utf-8", "replace")
        where = f"{tally.name}: {' '.join(map(str, words[:2]))}"
        tally.note(f"{words[0]}: exit {run.code}")
        if not text:
            tally.blame(where, ["strace saw nothing"], run)
        tally.blame(where, mutating_lines(text, library.roots))
        now = place.look()
        tally.blame(where, judge_undone(place.before, now))
        if now.debris or any((root / ".dedup").exists() for root in library.roots):
            tally.blame(where, ["it left something of its own among the photos"])
    return tally


def kill_cold(ground: Ground, program: Program, *, most: int, rng: random.Random) -> Tally:
    """`python -m dedup` under `strace -e inject=...:signal=KILL`, from a cold start."""
    tally = Tally(f"kill by strace, cold, {ground.name}")
    if shutil.which("strace") is None:
        tally.skipped.append("strace is not installed")
        return tally
    names = ("renameat2", "linkat", "unlinkat", "fsync", "mkdirat")
    for scenario in SCENARIOS:
        place = Field(ground, program, scenario.selection, pairs=12, after=scenario.after)
        for _ in range(most // len(SCENARIOS)):
            _kill_one(tally, place, scenario, rng.choice(names), rng.randint(1, 14))
    return tally


def _kill_one(tally: Tally, place: Field, scenario: Scenario, name: str, number: int) -> None:
    place.fresh()
    inject = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject={name}:signal=KILL:when={number}")
    run = place.program.run_cold(*scenario.words(place), before=(*inject, "-e", f"trace={name}"))
    if run.code not in (137, -9):
        tally.note(f"{name} was not called so often")
        return
    tally.points += 1
    where = f"{tally.name}, {scenario.name}, {name} number {number}"
    if not scenario.purges:
        tally.blame(
            where + ", at once", judge_act(place.before, place.look(), place.planned, unfinished=True), run
        )
    judge_aftermath(tally, place, scenario, where, number)


def again_and_again(ground: Ground, program: Program, *, pairs: int = 40) -> Tally:
    """After an apply, a second scan, plan and apply find nothing to do."""
    tally = Tally(f"a second time, {ground.name}")
    for selection in (HARDLINK, QUARANTINE):
        place = Field(ground, program, selection, pairs=pairs)
        place.must("apply", place.plan, "--yes")
        done = place.look()
        tally.points += 1
        where = f"{tally.name}, {' '.join(selection) or 'quarantine'}"
        scan = place.must("scan", *place.library.roots)
        run = program.run("apply", *(selection or ("--all",)), "--yes")
        tally.note(f"apply: exit {run.code}")
        tally.blame(where, judge_undone(done, place.look()), run)
        if run.code != 0:
            tally.blame(where, [f"exit code {run.code}"], run)
        again = program.run("apply", place.plan, "--yes")
        tally.note(f"the old plan once more: exit {again.code}")
        tally.blame(where + ", the old plan", judge_undone(done, place.look()), scan)
        undo = program.run("undo", "1")
        tally.blame(where + ", undone", judge_undone(place.before, place.look()), undo)
    return tally
