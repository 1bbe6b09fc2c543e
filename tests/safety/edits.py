"""Somebody works on the same photos meanwhile: edits, replaces, swaps, deletes, at any call of a run."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from tests.safety.checker import Meanwhile, Planned, Snapshot, judge_act, judge_undone
from tests.safety.field import Field, Tally
from tests.safety.grounds import Ground
from tests.safety.kills import Scenario, rehearse, said_nothing_of_a_fault
from tests.safety.program import Program
from tests.safety.tracer import MUTATING, OPENS, READING, Call, Verdict

Edit = Callable[["Scene"], set[bytes]]
"""Does something and says which names it touched."""


@dataclass(slots=True)
class Scene:
    """Where an edit happens."""

    place: Field
    one: Planned
    number: int

    @property
    def new_bytes(self) -> bytes:
        return f"edited by hand, {self.number}".encode()

    def check(self) -> None:
        """People edit photos in the library, not what a swapped folder shows of the outside."""
        for path in (self.one.dup, self.one.keep):
            if os.path.realpath(os.path.dirname(path)) != os.path.dirname(path):
                raise FileNotFoundError("its folder is a symlink by now")

    def aside(self, path: bytes) -> bytes:
        return path + b".aside"


def rewrite(path: bytes, content: bytes) -> set[bytes]:
    """In place, with size and time put back: the edit that no look at a name can see."""
    found = os.stat(path, follow_symlinks=False)
    with _opened(path) as stream:
        stream.write(content[: found.st_size].ljust(min(found.st_size, 64), b"."))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    same = {
        other
        for root in (os.path.dirname(path),)
        for other in _siblings(root)
        if os.path.samestat(os.lstat(other), os.lstat(path))
    }
    return {path} | same


def _opened(path: bytes, flags: int = 0) -> BinaryIO:
    """For writing, at once or not at all: whoever holds a lease on it makes an editor wait."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | flags), "r+b")


def _siblings(folder: bytes) -> list[bytes]:
    return [entry.path for entry in os.scandir(folder)]


def edit_dup(scene: Scene) -> set[bytes]:
    return rewrite(scene.one.dup, scene.new_bytes)


def edit_keep(scene: Scene) -> set[bytes]:
    return rewrite(scene.one.keep, scene.new_bytes)


def append_to_dup(scene: Scene) -> set[bytes]:
    with _opened(scene.one.dup) as stream:
        stream.seek(0, os.SEEK_END)
        stream.write(scene.new_bytes)
    return {scene.one.dup}


def _replace(path: bytes, content: bytes) -> set[bytes]:
    """As editors save: a new file over the name."""
    other = os.path.join(os.path.dirname(path), b"saving")
    with open(other, "xb") as stream:
        stream.write(content)
    os.replace(other, path)
    return {path}


def replace_dup(scene: Scene) -> set[bytes]:
    return _replace(scene.one.dup, scene.new_bytes)


def replace_keep(scene: Scene) -> set[bytes]:
    return _replace(scene.one.keep, scene.new_bytes)


def _to_symlink(path: bytes, target: bytes) -> set[bytes]:
    os.rename(path, path + b".aside")
    os.symlink(target, path)
    return {path, path + b".aside"}


def symlink_dup_outside(scene: Scene) -> set[bytes]:
    return _to_symlink(scene.one.dup, os.fsencode(scene.place.library.outside / "precious.jpg"))


def symlink_keep_outside(scene: Scene) -> set[bytes]:
    return _to_symlink(scene.one.keep, os.fsencode(scene.place.library.outside / "precious.jpg"))


def symlink_dup_to_keep(scene: Scene) -> set[bytes]:
    return _to_symlink(scene.one.dup, scene.one.keep)


def _folder_outside(scene: Scene, path: bytes) -> set[bytes]:
    """The folder becomes a symlink to one outside, in which a file of that name lies."""
    folder, root = (
        os.path.dirname(path),
        next(r for r in scene.place.before.roots if path.startswith(r + b"/")),
    )
    if folder == root:
        raise FileNotFoundError("the root itself is held open")
    return _to_symlink(folder, os.fsencode(scene.place.library.outside / "decoy"))


def swap_folder_of_dup(scene: Scene) -> set[bytes]:
    return _folder_outside(scene, scene.one.dup)


def swap_folder_of_keep(scene: Scene) -> set[bytes]:
    return _folder_outside(scene, scene.one.keep)


def delete_keep(scene: Scene) -> set[bytes]:
    os.unlink(scene.one.keep)
    return {scene.one.keep}


def delete_dup(scene: Scene) -> set[bytes]:
    os.unlink(scene.one.dup)
    return {scene.one.dup}


def move_dup_away(scene: Scene) -> set[bytes]:
    os.rename(scene.one.dup, scene.aside(scene.one.dup))
    return {scene.one.dup, scene.aside(scene.one.dup)}


def swap_dup_and_keep(scene: Scene) -> set[bytes]:
    dup, keep = scene.one.dup, scene.one.keep
    os.rename(dup, scene.aside(dup))
    os.rename(keep, dup)
    os.rename(scene.aside(dup), keep)
    return {dup, keep}


def put_a_file_where_dup_was(scene: Scene) -> set[bytes]:
    if os.path.lexists(scene.one.dup):
        return set()
    Path(os.fsdecode(scene.one.dup)).write_bytes(scene.new_bytes)
    return {scene.one.dup}


EDITS: tuple[Edit, ...] = (
    edit_dup,
    edit_keep,
    append_to_dup,
    replace_dup,
    replace_keep,
    symlink_dup_outside,
    symlink_keep_outside,
    symlink_dup_to_keep,
    swap_folder_of_dup,
    swap_folder_of_keep,
    delete_keep,
    delete_dup,
    move_dup_away,
    swap_dup_and_keep,
    put_a_file_where_dup_was,
)


class Somebody:
    """Does one edit when the n-th call is about to happen, and notes what of it is not the program's doing."""

    def __init__(self, place: Field, number: int, one: Planned, edit: Edit) -> None:
        self.scene = Scene(place, one, number)
        self.number = number
        self.edit = edit
        self.count = 0
        self.meanwhile = Meanwhile()
        self.reached: Call | None = None
        self.did_it = False
        self.over = False
        self.waited = False

    def __call__(self, call: Call) -> Verdict:
        self.count += 1
        if self.count == self.number:
            self.reached = call
        if self.count >= self.number and not self.over:
            self.begin()
        return None

    def begin(self) -> None:
        """Do it, or wait for a lease to end."""
        before = self.scene.place.look()
        try:
            self.scene.check()
            self.meanwhile.touched |= self.edit(self.scene)
        except BlockingIOError:
            self.waited = True
            return
        except OSError:  # what is not there any more cannot be edited
            self.over = True
            return
        self.over, self.did_it = True, bool(self.meanwhile.touched)
        if self.did_it:
            self._note(before, self.scene.place.look())

    def finish(self) -> None:
        """The run is over, and with it every lease."""
        if self.waited and not self.over:
            self.begin()

    def _note(self, before: Snapshot, after: Snapshot) -> None:
        self.meanwhile.added |= after.contents - before.contents
        self.meanwhile.gone |= before.contents - after.contents
        # An edit in place shows under every name of the file.
        for path, thing in after.names.items():
            old = before.names.get(path)
            if thing.kind == "file" and (old is None or old.content != thing.content):
                self.meanwhile.touched.add(path)


class TwoPeople(Somebody):
    """One edit at the n-th call, and another one a little later: while the first one is taken back, perhaps."""

    def __init__(self, first: Somebody, later: int, edit: Edit) -> None:
        super().__init__(first.scene.place, first.number, first.scene.one, first.edit)
        self.first = first
        self.second = Somebody(first.scene.place, first.number + later, first.scene.one, edit)
        self.second.scene.number += later
        self.meanwhile = self.second.meanwhile = first.meanwhile

    def __call__(self, call: Call) -> Verdict:
        self.first(call)
        self.second(call)
        self.reached = self.first.reached
        return None

    def finish(self) -> None:
        """Let both end."""
        for one in (self.first, self.second):
            one.finish()
        self.did_it = self.first.did_it or self.second.did_it
        self.waited = self.first.waited or self.second.waited


class LateWriter(Somebody):
    """Opens a file for writing at one call and writes at a later one, when it may have been moved."""

    def __init__(self, place: Field, number: int, one: Planned, later: int) -> None:
        super().__init__(place, number, one, edit_dup)
        self.later = number + later
        self._stream: int | None = None

    def __call__(self, call: Call) -> Verdict:
        self.count += 1
        if self.count == self.number:
            self.reached = call
        if self.number <= self.count < self.later and self._stream is None:
            with suppress(OSError):
                self.scene.check()
                self._stream = os.open(self.scene.one.dup, os.O_WRONLY | os.O_NONBLOCK)
        if self.count == self.later and self._stream is not None:
            self.finish()
        return None

    def finish(self) -> None:
        """Write, if that has not happened."""
        if self._stream is None:
            return
        before = self.scene.place.look()
        os.write(self._stream, self.scene.new_bytes)
        os.close(self._stream)
        self._stream, self.did_it = None, True
        self.meanwhile.touched.add(self.scene.one.dup)
        self._note(before, self.scene.place.look())


def edit_during(
    ground: Ground, program: Program, scenario: Scenario, *, pairs: int, most: int, rng: random.Random
) -> Tally:
    """`most` runs, each with an edit (or two) of the item at hand (now and then of another) at one call."""
    tally = Tally(f"edits: {scenario.name}, {ground.name}")
    place = scenario.on(ground, program, pairs)
    kinds = MUTATING | OPENS | READING
    calls = rehearse(place, scenario, kinds, all_opens=True)
    at_hand = _items_of(calls, place.planned)
    places = [number for number in range(1, len(calls) + 1) if at_hand[number - 1] is not None]
    for turn in range(2 * most):
        if tally.points >= most:
            break
        number = places[rng.randrange(len(places))] if turn % 3 else _near_a_change(calls, places, rng)
        one = at_hand[number - 1] if rng.random() < 0.9 else rng.choice(place.planned)
        assert one is not None
        place.fresh()
        one = next(again for again in place.planned if again.dup == one.dup)
        kind = turn % (len(EDITS) + 1)
        who: Somebody
        if kind == len(EDITS):
            who, what = LateWriter(place, number, one, rng.randint(1, 30)), "late_writer"
        else:
            who, what = Somebody(place, number, one, EDITS[kind]), EDITS[kind].__name__
        if turn % 4 == 3:
            then = rng.choice(EDITS)
            who, what = TwoPeople(who, rng.randint(1, 25), then), f"{what} and {then.__name__}"
        run = program.run_stopped(*scenario.words(place), within=place.within, visitor=who, calls=kinds)
        who.finish()
        if not who.did_it:
            tally.note("nothing was left to edit")
            continue
        tally.points += 1
        if who.waited:
            tally.note("the editor had to wait for a lease")
        where = f"{tally.name}, {what} at call {who.reached}"
        tally.blame(where, said_nothing_of_a_fault(run), run)
        tally.note(f"exit {run.code}")
        tally.blame(where, _judge(place, who.meanwhile), run)
        recovery = program.run("recover")
        tally.note(f"recover: exit {recovery.code}")
        tally.blame(where + ", recovered", _judge(place, who.meanwhile), recovery)
        undo = program.run("undo", "1")
        tally.blame(where + ", undone", _judge(place, who.meanwhile), undo)
        if undo.code == 5:
            tally.note("undo waits for a person")
        else:
            tally.blame(
                where + ", undone",
                judge_undone(place.before, place.look(), _around(place, who.meanwhile)),
                undo,
            )
    return tally


def _judge(place: Field, meanwhile: Meanwhile) -> list[str]:
    """As after any apply; what cannot go back to its name comes back beside it."""
    now = place.look()
    beside = {path for path in now.names if b" (restored" in path}
    return judge_act(place.before, now, place.planned, replace(meanwhile, touched=meanwhile.touched | beside))


def _around(place: Field, meanwhile: Meanwhile) -> Meanwhile:
    """The names that may be otherwise after an undo: those of every item that has to do with the edit."""
    touched = {path for path in place.look().names if b" (restored" in path} | meanwhile.touched
    edited = [one for one in place.planned if any(map(meanwhile.excuses, (one.dup, one.keep, *one.along)))]
    keeps = {one.keep for one in edited}
    for one in place.planned:
        if one.keep in keeps or one in edited:
            touched |= {one.dup, one.keep, *one.along}
    return replace(meanwhile, touched=touched)


def _items_of(calls: list[Call], planned: tuple[Planned, ...]) -> list[Planned | None]:
    """For each call the item that is being acted on, as far as its paths, or those before it, say."""
    by_name = {os.fsdecode(path): one for one in planned for path in (one.dup, one.keep)}
    found: list[Planned | None] = []
    last: Planned | None = None
    for call in calls:
        last = next((by_name[path] for path in call.paths if path in by_name), last)
        found.append(last)
    return found


def _near_a_change(calls: list[Call], places: list[int], rng: random.Random) -> int:
    """A call that renames or links, or one next to it."""
    changes = [number for number in places if calls[number - 1].name.startswith(("rename", "link"))]
    return (
        min(places[-1], max(places[0], rng.choice(changes) + rng.randint(-2, 2)))
        if changes
        else rng.choice(places)
    )
