"""A part of the fault campaign that takes less than a minute; all of it is `make faults`.

The program is driven from outside, as a whole: killed, made to fail, interrupted, and worked against at its system
calls; what was lost is said by a judge that knows nothing of it.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("stops at system calls are written for Linux", allow_module_level=True)

from tests.safety import checker, company, edits, errors, kills, proofs, states, tracer, ways
from tests.safety.field import HARDLINK, Field, Tally
from tests.safety.grounds import Folder
from tests.safety.program import At, Program, kill_at
from tests.safety.tracer import Call, Fail, Shorten, Verdict

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(tracer.unavailable()), reason=tracer.unavailable() or "-"),
]

QUICK = tuple(replace(one, pictures=False) for one in kills.SCENARIOS)
APPLY, MOVE, UNDO, UNDO_MOVE, PURGE, PURGE_MOVED = QUICK
by_name = pytest.mark.parametrize("scenario", QUICK, ids=lambda one: one.name)


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    with Program() as warm:
        yield warm


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    """In memory if there is room: thousands of waits for the disk are what would take long here."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else tmp_path_factory.mktemp("ground")
    with tempfile.TemporaryDirectory(dir=place) as desk:
        made = Folder(Path(desk))
        yield made
        made.close()


def clean(tally: Tally, points: int) -> None:
    assert tally.faults == []
    assert tally.points >= points


@by_name
def test_a_kill_at_any_call_loses_nothing(ground: Folder, program: Program, scenario: kills.Scenario) -> None:
    clean(kills.kill_at_each_call(ground, program, scenario, pairs=3, most=8, rng=random.Random(1)), 8)


def test_a_kill_between_pictures_loses_nothing(ground: Folder, program: Program) -> None:
    clean(
        kills.kill_at_each_call(ground, program, kills.SCENARIOS[1], pairs=1, most=6, rng=random.Random(1)), 6
    )


@pytest.mark.parametrize("scenario", (APPLY, UNDO), ids=lambda one: one.name)
def test_a_kill_in_recover_loses_nothing(ground: Folder, program: Program, scenario: kills.Scenario) -> None:
    clean(kills.kill_recover(ground, program, scenario, pairs=3, most=9, rng=random.Random(1)), 9)


@by_name
def test_an_error_at_any_call_is_said_and_loses_nothing(
    ground: Folder, program: Program, scenario: kills.Scenario
) -> None:
    clean(errors.fail_calls(ground, program, scenario, pairs=3, most=10, rng=random.Random(1)), 8)


@pytest.mark.parametrize("scenario", (APPLY, MOVE, UNDO), ids=lambda one: one.name)
def test_a_signal_at_any_call_leaves_nothing_half_done(
    ground: Folder, program: Program, scenario: kills.Scenario
) -> None:
    clean(company.send_signals(ground, program, scenario, pairs=3, most=8, rng=random.Random(1)), 6)


@pytest.mark.parametrize("scenario", (APPLY, MOVE, UNDO), ids=lambda one: one.name)
def test_what_others_do_meanwhile_is_not_lost(
    ground: Folder, program: Program, scenario: kills.Scenario
) -> None:
    clean(edits.edit_during(ground, program, scenario, pairs=4, most=9, rng=random.Random(1)), 7)


def test_a_second_run_is_held_off(ground: Folder, program: Program) -> None:
    with Program() as other:
        clean(company.run_two(ground, program, other, APPLY, most=5, rng=random.Random(1)), 5)


WITHOUT_ROOT = (
    "symlink to the root",
    "symlinks inside",
    "nested roots",
    "hard links",
    "/proc/PID/root",
    "the same path spelled otherwise",
)


@pytest.mark.parametrize("way", WITHOUT_ROOT)
def test_one_file_by_two_ways_stays(ground: Folder, program: Program, tmp_path: Path, way: str) -> None:
    pattern = tmp_path / "pattern"
    shutil.copy(Field(ground, program, HARDLINK, pairs=2, others=False).plan, pattern)
    clean(ways.reach_twice(ground, program, pattern, way), 12)


def test_a_journal_torn_anywhere_is_read_to_its_last_whole_line(ground: Folder, program: Program) -> None:
    clean(states.tear_journal(ground, program, most=12, rng=random.Random(1), pairs=2), 12)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_who_only_looks_changes_nothing(ground: Folder, program: Program, tmp_path: Path) -> None:
    clean(proofs.only_look(ground, program, tmp_path, pairs=3, briefly=True), 8)


def test_a_second_time_there_is_nothing_to_do(ground: Folder, program: Program) -> None:
    clean(proofs.again_and_again(ground, program, pairs=3), 2)


# --- what the campaign once found -------------------------------------------------------------------------------------


class FailAfter:
    """One errno at the first look at a name in quarantine that follows a call of some kind."""

    def __init__(self, call: str, place: str) -> None:
        self.call, self.place = call, place
        self.armed = self.done = False

    def __call__(self, call: Call) -> Verdict:
        if self.armed and not self.done and call.name == "newfstatat" and call.paths[0].endswith(self.place):
            self.done = True
            return Fail(errno.EIO)
        self.armed = self.armed or (
            call.name == self.call and any(".dedup/quarantine" in p for p in call.paths)
        )
        return None


EVERYTHING = tracer.MUTATING | tracer.OPENS | tracer.READING


def test_an_error_right_after_our_own_link_leaves_no_link(ground: Folder, program: Program) -> None:
    place = APPLY.on(ground, program, 3)
    fail = FailAfter("linkat", "/quarantine/1/1")
    words = kills.apply_words(place)
    run = program.run_stopped(*words, within=place.within, visitor=fail, calls=EVERYTHING)
    now = place.look()
    assert fail.done
    assert run.code == 3
    assert checker.judge_act(place.before, now, place.planned) == []
    assert len(now.quarantine) == len(place.planned) - 1


def test_a_unit_of_which_half_came_back_is_finished_by_recover(ground: Folder, program: Program) -> None:
    place = UNDO_MOVE.on(ground, program, 1)
    number, unit = next((n, one) for n, one in enumerate(place.planned, 1) if one.along)
    fail = FailAfter("renameat2", f"/quarantine/1/{number}")

    def visitor(call: Call) -> Verdict:
        if call.name == "renameat2" and not call.paths[0].endswith(f"/{number}.1"):
            return None
        return fail(call)

    run = program.run_stopped("undo", "1", within=place.within, visitor=visitor, calls=EVERYTHING)
    assert fail.done
    assert run.code == 3
    assert unit.dup not in place.look().names
    assert program.run("recover").code == 0
    assert checker.judge_undone(place.before, place.look()) == []


def test_a_keeper_that_is_replaced_before_the_exchange_blocks_nothing_for_ever(
    ground: Folder, program: Program
) -> None:
    place = APPLY.on(ground, program, 3)
    somebody = edits.Somebody(place, 0, place.planned[0], edits.replace_keep)

    def visitor(call: Call) -> Verdict:
        if call.name == "renameat2" and call.paths[0].endswith("/quarantine/1/1") and not somebody.over:
            somebody.begin()
        return None

    words = kills.apply_words(place)
    assert program.run_stopped(*words, within=place.within, visitor=visitor).code == 5
    assert somebody.did_it
    assert program.run("recover").code == 5
    assert program.run("recover").code == 0
    assert program.run("apply", place.plan, "--yes").code == 3
    assert checker.judge_act(place.before, place.look(), place.planned, somebody.meanwhile) == []


# --- the instruments themselves ---------------------------------------------------------------------------------------

PROBE = """
import os, sys
def main():
    there = sys.argv[1]
    for number in range(5):
        try:
            with open(f"{there}/{number}", "wb", buffering=0) as stream:
                stream.write(b"0123456789")
        except OSError as error:
            print(error.errno)
    if os.fork() == 0:
        os.mkdir(f"{there}/child")
        os._exit(0)
    os.wait()
    return 7
"""


@pytest.fixture
def probe(tmp_path: Path) -> Iterator[Program]:
    package = tmp_path / "path" / "probe_program"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "cli.py").write_text(PROBE)
    with Program("probe_program", extra_path=tmp_path / "path") as warm:
        yield warm


@pytest.fixture
def there(tmp_path: Path) -> Path:
    made = tmp_path / "there"
    made.mkdir()
    return made


def test_the_tracer_counts_every_call_and_those_of_children(probe: Program, there: Path) -> None:
    run, calls = probe.calls_of(str(there), within=[there])
    names = [call.name for call in calls if call.name != "ioctl"]
    assert run.code == 7
    assert names == ["openat", "write"] * 5 + ["mkdir"]
    assert calls[-1].paths == (str(there / "child"),)


def test_a_kill_comes_before_the_call(probe: Program, there: Path) -> None:
    run = probe.run_stopped(str(there), within=[there], visitor=kill_at(1))
    assert run.code == -9
    assert not list(there.iterdir())


def test_an_error_comes_in_place_of_the_call(probe: Program, there: Path) -> None:
    run = probe.run_stopped(str(there), within=[there], visitor=At(1, Fail(errno.EDQUOT)))
    assert run.code == 7
    assert run.out.split() == [str(errno.EDQUOT)]
    assert sorted(path.name for path in there.iterdir()) == ["1", "2", "3", "4", "child"]


def test_a_call_can_be_cut_short(probe: Program, there: Path) -> None:
    def shorten(call: Call) -> Verdict:
        return Shorten(3) if call.name == "write" else None

    probe.run_stopped(str(there), within=[there], visitor=shorten)
    assert (there / "0").read_bytes() == b"012"


def test_a_program_that_loses_is_seen_to_lose(tmp_path: Path, ground: Folder, program: Program) -> None:
    place = Field(ground, program, HARDLINK, pairs=3, others=False)

    def spoil(call: Call) -> Verdict:
        if call.name == "renameat2":  # as if the program itself deleted the keeper here
            for one in place.planned:
                Path(one.keep.decode()).unlink(missing_ok=True)
        return None

    program.run_stopped(*kills.apply_words(place), within=place.within, visitor=spoil)
    tally = Tally("spoilt")
    kills.judge_aftermath(tally, place, APPLY, "spoilt")
    assert any("I8" in fault for fault in tally.faults)
