"""`python -m tests.safety`, or `make faults`: the fault campaign, as root on Linux.

    python -m tests.safety                        everything, about half an hour
    python -m tests.safety kill errors            parts; --list names them
    python -m tests.safety --scale 0.1 --seed 7   a tenth of the points, other ones

Ends with 0 if nothing was lost and nothing was done wrongly, else with 1; what was skipped is said with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.safety import company, cuts, edits, errors, grounds, kills, later, proofs, states, tracer, ways
from tests.safety.field import HARDLINK, Field, Setback, Tally
from tests.safety.grounds import Btrfs, Ext4, Fuse, Ground, Tmpfs, Xfs, let_go, mount
from tests.safety.program import Program

SHOWN = 20
"""Faults of a part that are printed; all go to --results."""


@dataclass(slots=True)
class Campaign:
    """What all parts share."""

    desk: Path
    program: Program
    scale: float
    seed: int
    pairs: int

    def some(self, number: int) -> int:
        return max(4, round(number * self.scale))

    def rng(self, name: str) -> random.Random:
        return random.Random(self.seed * 1_000_003 + zlib.crc32(name.encode()))

    def ground(self, kind: type[Ext4] | type[Tmpfs], stack: ExitStack) -> Ground:
        made = kind(self.desk)
        stack.callback(made.close)
        return made


Part = Callable[[Campaign], Iterator[Tally]]
BOTH: tuple[type[Ext4] | type[Tmpfs], ...] = (Ext4, Tmpfs)


def kill(c: Campaign) -> Iterator[Tally]:
    for kind in BOTH:
        for scenario in kills.SCENARIOS:
            with ExitStack() as stack:
                ground, rng = c.ground(kind, stack), c.rng(f"{kind} {scenario.name}")
                yield kills.kill_at_each_call(
                    ground, c.program, scenario, pairs=c.pairs, most=c.some(600), rng=rng
                )


def kill_recover(c: Campaign) -> Iterator[Tally]:
    for kind in BOTH:
        for scenario in kills.SCENARIOS:
            with ExitStack() as stack:
                ground, rng = c.ground(kind, stack), c.rng(f"recover {kind} {scenario.name}")
                yield kills.kill_recover(
                    ground, c.program, scenario, pairs=c.pairs, most=c.some(150), rng=rng
                )


def inject(c: Campaign) -> Iterator[Tally]:
    for kind in BOTH:
        for scenario in kills.SCENARIOS:
            most = c.some(600 if kind is Ext4 else 200)
            with ExitStack() as stack:
                ground, rng = c.ground(kind, stack), c.rng(f"errors {kind} {scenario.name}")
                # A dozen items have calls of every kind, and a run of them takes a third of the time.
                yield errors.fail_calls(
                    ground, c.program, scenario, pairs=min(12, c.pairs), most=most, rng=rng
                )


def cut(c: Campaign) -> Iterator[Tally]:
    for scenario in kills.SCENARIOS:
        with ExitStack() as stack:
            ground = Ext4(c.desk)
            stack.callback(ground.close)
            rng = c.rng(f"cut {scenario.name}")
            yield cuts.cut_power(ground, c.program, scenario, pairs=c.pairs, most=c.some(60), rng=rng)
    for scenario in kills.SCENARIOS[:2]:
        with ExitStack() as stack:
            ground, elsewhere = Ext4(c.desk), Tmpfs(c.desk, "elsewhere")
            stack.callback(ground.close)
            stack.callback(elsewhere.close)
            rng = c.rng(f"cut apart {scenario.name}")
            yield cuts.cut_power(
                ground, c.program, scenario, pairs=c.pairs, most=c.some(40), rng=rng, elsewhere=elsewhere
            )


def edit(c: Campaign) -> Iterator[Tally]:
    for kind in BOTH:
        for scenario in kills.SCENARIOS[:4]:
            with ExitStack() as stack:
                ground, rng = c.ground(kind, stack), c.rng(f"edit {kind} {scenario.name}")
                yield edits.edit_during(ground, c.program, scenario, pairs=12, most=c.some(200), rng=rng)


def twice(c: Campaign) -> Iterator[Tally]:
    with ExitStack() as stack:
        ground = Ext4(c.desk, megabytes=24)
        stack.callback(ground.close)
        pattern = Field(ground, c.program, HARDLINK, pairs=4, others=False).plan
        for way in ways.WAYS:
            yield ways.reach_twice(ground, c.program, pattern, way)


def signals(c: Campaign) -> Iterator[Tally]:
    for scenario in kills.SCENARIOS:
        with ExitStack() as stack:
            ground, rng = c.ground(Ext4, stack), c.rng(f"signals {scenario.name}")
            yield company.send_signals(ground, c.program, scenario, pairs=12, most=c.some(400), rng=rng)
    with ExitStack() as stack:
        yield company.lose_the_reader(c.ground(Ext4, stack), c.program)


def together(c: Campaign) -> Iterator[Tally]:
    with Program(c.program.name) as other:
        for scenario in kills.SCENARIOS:
            with ExitStack() as stack:
                ground, rng = c.ground(Ext4, stack), c.rng(f"two {scenario.name}")
                yield company.run_two(ground, c.program, other, scenario, most=c.some(56), rng=rng)
    with ExitStack() as stack:
        yield company.race_two(c.ground(Ext4, stack), c.program, most=c.some(20))


def journal(c: Campaign) -> Iterator[Tally]:
    for words in ("apply", "undo"):
        with ExitStack() as stack:
            ground = Ext4(c.desk, megabytes=6)
            stack.callback(ground.close)
            rng = c.rng(f"torn {words}")
            yield states.tear_journal(ground, c.program, most=c.some(20_000), rng=rng, words=words)
    with ExitStack() as stack:
        ground = Ext4(c.desk)
        stack.callback(ground.close)
        yield states.spoil_journal(ground, c.program, most=c.some(300), rng=c.rng("spoilt"))


def catalogue(c: Campaign) -> Iterator[Tally]:
    with ExitStack() as stack:
        ground = Ext4(c.desk)
        stack.callback(ground.close)
        yield states.damage_catalogue(ground, c.program, most=c.some(1000), rng=c.rng("catalogue"))


def disk(c: Campaign) -> Iterator[Tally]:
    runs: tuple[Callable[[Ext4], Tally], ...] = (
        lambda g: states.fill_up(g, c.desk, c.program),
        lambda g: states.cannot_change(g, c.program),
    )
    for run in runs:
        with ExitStack() as stack:
            ground = Ext4(c.desk)
            stack.callback(ground.close)
            yield run(ground)
    with ExitStack() as stack:
        ground = Ext4(c.desk)
        stack.callback(ground.close)
        yield states.across_a_bind_mount(ground, c.program)
    with ExitStack() as stack:
        ground = Ext4(c.desk, megabytes=48)
        stack.callback(ground.close)
        yield states.too_many_links(ground, c.program)


def elsewhere(c: Campaign) -> Iterator[Tally]:
    for kind, tool, scenarios in (
        (Fuse, "bindfs", kills.SCENARIOS),
        (Xfs, "mkfs.xfs", (*kills.REFLINKS, *kills.SCENARIOS[:2])),
        (Btrfs, "mkfs.btrfs", (*kills.REFLINKS, *kills.SCENARIOS[:2])),
    ):
        if shutil.which(tool) is None:
            yield Tally(f"on {kind.__name__}", skipped=[f"{tool} is not installed"])
            continue
        for scenario in scenarios:
            rng, pairs = c.rng(f"{kind} {scenario.name}"), 8
            with ExitStack() as stack:
                ground = c.ground(kind, stack)
                yield kills.kill_at_each_call(
                    ground, c.program, scenario, pairs=pairs, most=c.some(60), rng=rng
                )
            with ExitStack() as stack:
                ground = c.ground(kind, stack)
                yield errors.fail_calls(ground, c.program, scenario, pairs=pairs, most=c.some(60), rng=rng)
            if scenario.after is None:
                with ExitStack() as stack:
                    ground = c.ground(kind, stack)
                    yield edits.edit_during(
                        ground, c.program, scenario, pairs=pairs, most=c.some(60), rng=rng
                    )


def between(c: Campaign) -> Iterator[Tally]:
    for run in (later.trouble_in_between, later.purge_after_a_later_run, later.turn_the_clock):
        with ExitStack() as stack:
            yield run(c.ground(Ext4, stack), c.program)


def strace(c: Campaign) -> Iterator[Tally]:
    for kind in BOTH:
        with ExitStack() as stack:
            yield proofs.only_look(c.ground(kind, stack), c.program, c.desk)
    with ExitStack() as stack:
        yield proofs.kill_cold(c.ground(Ext4, stack), c.program, most=c.some(60), rng=c.rng("cold"))


def again(c: Campaign) -> Iterator[Tally]:
    for kind in BOTH:
        with ExitStack() as stack:
            yield proofs.again_and_again(c.ground(kind, stack), c.program)


PARTS: dict[str, tuple[Part, str]] = {
    "kill": (kill, "kill -9 on entry to each changing call of apply, undo and purge, ext4 and tmpfs"),
    "recover": (kill_recover, "the same within recover, after such a kill"),
    "errors": (inject, "each errno of the matrix at calls of every kind, once and for ever"),
    "cuts": (cut, "power cuts on ext4, with the journal on the same disk and on another"),
    "edits": (edit, "edits in place, replacements, symlink swaps and moves during the act and the undo"),
    "ways": (twice, "one file reached by two ways, scanned and by forged plans"),
    "signals": (signals, "INT, TERM, HUP and PIPE at each call; a reader that goes away"),
    "together": (together, "two runs at once"),
    "journal": (journal, "the journal torn at every byte, flipped, cut, gone"),
    "catalogue": (catalogue, "the catalogue damaged"),
    "disk": (disk, "full disks, read-only and immutable files, strangers, too many links, bind mounts"),
    "elsewhere": (elsewhere, "kills, errors and edits on bindfs (no exchange), xfs and btrfs (reflinks)"),
    "between": (between, "edits, losses, other runs and wrong clocks between an apply and its undo or purge"),
    "strace": (strace, "strace sees no change by who only looks; cold runs killed by strace"),
    "again": (again, "a second scan, plan and apply find nothing to do"),
}


def unavailable() -> str:
    """Why the campaign cannot run here; empty if it can."""
    return tracer.unavailable() or grounds.unavailable()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.safety", description="The fault campaign.")
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help="default: all")
    parser.add_argument("--list", action="store_true", help="name the parts")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the points (default 1.0)")
    parser.add_argument("--seed", type=int, default=1, help="which of them, where not all are tried")
    parser.add_argument("--pairs", type=int, default=40, help="duplicates in the library (default 40)")
    parser.add_argument("--results", type=Path, help="write everything found as JSON lines")
    chosen = parser.parse_args()
    if chosen.list:
        for name, (_, words) in PARTS.items():
            print(f"{name:10} {words}")
        return 0
    why = unavailable()
    if why:
        print(f"skipped: all of it: {why}")
        return 0
    signal.signal(
        signal.SIGTERM, lambda number, _: sys.exit(128 + number)
    )  # and everything is taken down again
    grounds.enter_private_mounts()
    total, faults = 0, 0
    with tempfile.TemporaryDirectory(prefix="safety-") as folder, Program() as program:
        desk = Path(folder)
        mount("tmpfs", desk, "tmpfs", 0, "size=2g")
        campaign = Campaign(desk, program, chosen.scale, chosen.seed, chosen.pairs)
        try:
            for name in chosen.part or PARTS:
                for tally in run_part(campaign, name):
                    total += tally.points
                    faults += bool(tally.faults)
                    report(tally, chosen.results)
        finally:
            let_go(desk)
    print(f"{total:,} points, {faults} parts with faults" if faults else f"{total:,} points, nothing lost")
    return 1 if faults else 0


def run_part(campaign: Campaign, name: str) -> Iterator[Tally]:
    """The tallies of one part; a start that cannot be made is a fault of its own."""
    began = time.monotonic()
    try:
        for tally in PARTS[name][0](campaign):
            tally.seconds = time.monotonic() - began
            yield tally
            began = time.monotonic()
    except Setback as why:
        yield Tally(name, faults=[f"{name}: {why}"])


def report(tally: Tally, results: Path | None) -> None:
    """A line for the part, then what was wrong, skipped and of note."""
    verdict = "nothing lost" if not tally.faults else f"{len(tally.faults)} FAULTS"
    print(f"{tally.name}: {tally.points:,} points, {verdict}, {tally.seconds:.0f} s")
    for words in tally.faults[:SHOWN]:
        print(f"    {words}")
    for words in tally.skipped:
        print(f"    skipped: {words}")
    for words, times in sorted(tally.notes.items()):
        print(f"    {words}: {times:,}")
    sys.stdout.flush()
    if results:
        with open(results, "a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(json.dumps(asdict(tally)) + os.linesep)


if __name__ == "__main__":
    sys.exit(main())
