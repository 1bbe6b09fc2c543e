"""Calls fail, once or for ever; whatever fails, the exit code says so and nothing is lost."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator

from tests.safety.checker import Snapshot, judge_act, judge_purge, not_done
from tests.safety.field import Field, Tally
from tests.safety.grounds import Ground
from tests.safety.kills import Scenario, choose, judge_aftermath, rehearse, said_nothing_of_a_fault
from tests.safety.program import Program, fail_at
from tests.safety.tracer import MUTATING, OPENS, READING, Call

ANYWHERE = (errno.EIO, errno.EACCES, errno.EPERM, errno.EROFS, errno.EDQUOT, errno.EINTR, errno.ENOSPC)
"""The errors of the fault matrix."""
NAMES = ("rename", "renameat", "renameat2", "link", "linkat")
ONLY_AT = {
    errno.EMLINK: NAMES,
    errno.EXDEV: NAMES,
    errno.EINVAL: ("renameat2", "fsync", "ioctl"),
    errno.ENOSYS: ("renameat2", "openat2"),
    errno.EOPNOTSUPP: ("link", "linkat", "renameat2", "ioctl"),
    errno.EAGAIN: ("flock", "fcntl", "openat2"),
    errno.EMFILE: ("openat", "openat2"),
    errno.ENOMEM: ("openat", "openat2", "newfstatat", "read"),
}


def errors_for(call: Call) -> Iterator[tuple[int, bool]]:
    """Each error that makes sense at this call, once and for ever."""
    for code in ANYWHERE:
        yield code, False
        # EINTR for ever is no error but a machine that never answers: every library calls again.
        if code != errno.EINTR:
            yield code, True
    for code, names in ONLY_AT.items():
        if call.name in names:
            yield code, False
            yield code, True


def fail_calls(
    ground: Ground, program: Program, scenario: Scenario, *, pairs: int, most: int, rng: random.Random
) -> Tally:
    """Errors at calls, `most` of them in all, spread over all kinds of call."""
    tally = Tally(f"errors: {scenario.name}, {ground.name}")
    place = scenario.on(ground, program, pairs)
    kinds = MUTATING | OPENS | READING
    calls = rehearse(place, scenario, kinds, all_opens=True)
    tally.notes[f"items: {len(place.planned)}, calls"] = len(calls)
    points = [(number, code, ever) for number, call in enumerate(calls, 1) for code, ever in errors_for(call)]
    tally.notes["errors that could be injected"] = len(points)
    for point in _spread(points, calls, most, rng):
        number, code, ever = point
        place.fresh()
        visitor = fail_at(number, code, for_ever=ever)
        run = program.run_stopped(*scenario.words(place), within=place.within, visitor=visitor, calls=kinds)
        if visitor.reached is None:
            tally.note("call not reached")
            continue
        tally.points += 1
        kind = f"{errno.errorcode[code]}{' for ever' if ever else ''}"
        where = f"{tally.name}, {kind} at call {visitor.reached}"
        tally.blame(where, said_nothing_of_a_fault(run), run)
        if run.code < 0:
            tally.blame(where, [f"it ended by signal {-run.code}"], run)
        now = place.look()
        failed = _failed(place, scenario, now)
        how_many = "all" if not failed else "all but one" if failed == 1 else "fewer"
        tally.note(f"exit {run.code}, {how_many} done")
        if failed and run.code == 0:
            tally.blame(where, [f"exit code 0, and {failed} items were not done"], run)
        if scenario.purges:
            tally.blame(where + ", at once", judge_purge(place.start, now, place.planned), run)
        else:
            tally.blame(
                where + ", at once", judge_act(place.before, now, place.planned, unfinished=True), run
            )
        judge_aftermath(tally, place, scenario, where, number)
    return tally


def _failed(place: Field, scenario: Scenario, now: Snapshot) -> int:
    """How many items were not done, by what is on the disk."""
    if scenario.purges:
        return len(now.quarantine)
    if scenario.name.startswith("undo"):
        acted_on = {path for one in place.planned for path in (one.dup, *one.along)}
        return sum(now.names.get(path) != place.before.names[path] for path in acted_on)
    return len(not_done(place.before, now, place.planned))


def _spread(
    points: list[tuple[int, int, bool]], calls: list[Call], most: int, rng: random.Random
) -> list[tuple[int, int, bool]]:
    """All points, or so many of each kind (call, kind of place, error) as there is room for."""
    if len(points) <= most:
        return points
    chosen = set(choose(len(calls), len(calls) // 3 + 1, rng))
    kinds: dict[tuple[str, str, int, bool], list[tuple[int, int, bool]]] = {}
    for point in points:
        call = calls[point[0] - 1]
        about = (
            os.path.basename(call.paths[-1])[:4] if ".dedup" in call.paths[-1] else call.paths[-1].count("/")
        )
        kinds.setdefault((call.name, str(about), point[1], point[2]), []).append(point)
    for members in kinds.values():
        rng.shuffle(members)
        members.sort(key=lambda point: point[0] not in chosen)
    picked: list[tuple[int, int, bool]] = []
    order = list(kinds.values())
    rng.shuffle(order)
    while len(picked) < most:
        for members in order:
            if members and len(picked) < most:
                picked.append(members.pop(0))
    return sorted(picked)
