"""The power fails on entry to a call: the file system is shut down without its log, mounted again, and recovered."""

from __future__ import annotations

import random
from pathlib import Path

from tests.safety.checker import judge_act, names_absent, not_done
from tests.safety.field import Field, Tally
from tests.safety.grounds import Ext4, Tmpfs
from tests.safety.kills import Scenario, choose, judge_aftermath
from tests.safety.program import At, Program
from tests.safety.tracer import MUTATING, OPENS, Call, Kill, Verdict


class CutAt(At):
    """Cuts the power at the n-th call, and with it ends the process."""

    def __init__(self, number: int, ground: Ext4) -> None:
        super().__init__(number, Kill())
        self.ground = ground

    def __call__(self, call: Call) -> Verdict:
        verdict = super().__call__(call)
        if verdict is not None:
            self.ground.cut_power()
        return verdict


def cut_power(
    ground: Ext4,
    program: Program,
    scenario: Scenario,
    *,
    pairs: int,
    most: int,
    rng: random.Random,
    elsewhere: Tmpfs | None = None,
) -> Tally:
    """A cut at each call, or at `most` of them, and one after the end of a run that said it was done.

    Parameters
    ----------
    elsewhere
        Where the program keeps its journal, if not on the disk that loses its power: then the journal knows more than
        the disk does.
    """
    where_to = ", journal on another disk" if elsewhere else ""
    tally = Tally(f"power cut: {scenario.name}, {ground.name}{where_to}")
    place = scenario.on(ground, program, pairs)
    if elsewhere:
        _keep_state(place, elsewhere)
    _, calls = program.calls_of(*scenario.words(place), within=_within(place, elsewhere))
    tally.notes[f"items: {len(place.planned)}, calls"] = len(calls)
    for number in [*choose(len(calls), most - 1, rng), len(calls) + 1]:
        place.fresh()
        if elsewhere:
            elsewhere.fresh()
        visitor = CutAt(number, ground)
        run = program.run_stopped(
            *scenario.words(place), within=_within(place, elsewhere), visitor=visitor, calls=MUTATING | OPENS
        )
        if visitor.reached is None:
            ground.cut_power()
        ground.restart()
        tally.points += 1
        where = f"{tally.name}, call {visitor.reached or 'none: after the end'}"
        now = place.look()
        if not scenario.purges:
            tally.blame(
                where + ", at once", judge_act(place.before, now, place.planned, unfinished=True), run
            )
            tally.blame(where + ", at once", names_absent(place.before, now, place.planned), run)
        if (
            visitor.reached is None
            and scenario.name.startswith("apply")
            and not_done(place.before, now, place.planned)
        ):
            tally.blame(where, ["it said that all was done, and the disk did not know"], run)
        judge_aftermath(tally, place, scenario, where, number)
    return tally


def _keep_state(place: Field, elsewhere: Tmpfs) -> None:
    state = elsewhere.home / "state"
    place.program.live_at(state, place.library.catalogue)
    if place.after is not None:
        place.ground.fresh()
        raise ValueError("a journal on another disk is tried with apply alone")
    state.mkdir(exist_ok=True)
    elsewhere.seal()


def _within(place: Field, elsewhere: Tmpfs | None) -> tuple[Path, ...]:
    return (*place.within, elsewhere.home) if elsewhere else place.within
