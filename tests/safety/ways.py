"""One file reached by two ways: nothing of it may be lost, whatever is scanned, and whatever a plan says.

Every photo here exists once. So nothing may happen to any of them: neither when both ways are scanned and all is
applied that the program finds, nor with a forged plan in which one way is the duplicate and the other the keeper.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.safety.checker import Snapshot, judge_act, take_snapshot
from tests.safety.field import Tally
from tests.safety.grounds import MS_BIND, Ext4, Ground, mount, unmount
from tests.safety.kills import said_nothing_of_a_fault
from tests.safety.library import as_jpeg, draw_photo
from tests.safety.plans import file_row, forge
from tests.safety.program import Program, Run

PHOTOS = ("one.jpg", "two.jpg", "deep/three.jpg", "deep/er/four.jpg")


@dataclass(frozen=True, slots=True)
class Doubled:
    """A folder of photos, and how each of them is reached a second time."""

    real: Path
    """Where the photos truly lie."""
    scanned: tuple[Path, ...]
    """What is scanned."""
    roots: tuple[Path, ...]
    """Roots for a forged plan."""
    pairs: tuple[tuple[tuple[int, str], tuple[int, str]], ...]
    """Root and name of the two ways to one file."""
    apart: bool = False
    """Whether the second way keeps a file of its own once it is changed, so that it may go."""
    inner: tuple[Path, ...] = ()
    """Folders among the photos that are roots as well, under whatever name."""


Way = Callable[["Desk"], Doubled]


class NotHere(Exception):
    """What a way needs is missing on this machine."""


class Desk:
    """A folder to work in, an ext4 below it, and what must be taken down again."""

    def __init__(self, ground: Ground, stack: ExitStack) -> None:
        self.ground = ground
        self.stack = stack
        self.home = ground.home / "ways"
        shutil.rmtree(self.home, ignore_errors=True)
        self.real = self.draw(self.home / "real")

    def draw(self, folder: Path) -> Path:
        for number, name in enumerate(PHOTOS):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(as_jpeg(draw_photo(7_000 + number)))
        return folder

    def folder(self, name: str) -> Path:
        path = self.home / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def bind(self, source: Path, target: Path) -> Path:
        mount(str(source), target, "", MS_BIND)
        self.stack.callback(unmount, target)
        return target

    def run(self, *words: str) -> None:
        if shutil.which(words[0]) is None:
            raise NotHere(f"{words[0]} is not installed")
        done = subprocess.run(words, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise NotHere(f"{words[0]}: {done.stderr.strip() or done.stdout.strip()}")

    def bindfs(self, source: Path, target: Path) -> Path:
        self.run("bindfs", str(source), str(target))
        self.stack.callback(unmount, target)
        return target


def two_roots(real: Path, other: Path) -> Doubled:
    return Doubled(real, (real, other), (real, other), tuple(((0, name), (1, name)) for name in PHOTOS))


def bind_mount(desk: Desk) -> Doubled:
    return two_roots(desk.real, desk.bind(desk.real, desk.folder("bound")))


def fuse(desk: Desk) -> Doubled:
    return two_roots(desk.real, desk.bindfs(desk.real, desk.folder("fuse")))


def second_mount(desk: Desk) -> Doubled:
    there = desk.folder("second")
    if not isinstance(desk.ground, Ext4):
        raise NotHere("the ground is no disk that can be mounted twice")
    try:
        mount(desk.ground.device, there, desk.ground.kind)
    except OSError as error:
        raise NotHere(str(error)) from error
    desk.stack.callback(unmount, there)
    return two_roots(desk.real, there / "ways" / "real")


def _overlay(desk: Desk, lower: Path, upper: Path) -> Path:
    there, work = desk.folder("merged"), desk.folder("work")
    try:
        mount("overlay", there, "overlay", 0, f"lowerdir={lower},upperdir={upper},workdir={work}")
    except OSError as error:
        raise NotHere(str(error)) from error
    desk.stack.callback(unmount, there)
    return there


def overlay_above(desk: Desk) -> Doubled:
    return replace(two_roots(desk.real, _overlay(desk, desk.real, desk.folder("upper"))), apart=True)


def overlay_upper(desk: Desk) -> Doubled:
    return two_roots(desk.real, _overlay(desk, desk.folder("lower"), desk.real))


def symlinked_root(desk: Desk) -> Doubled:
    there = desk.home / "link"
    there.symlink_to(desk.real)
    return two_roots(desk.real, there)


def symlinks_inside(desk: Desk) -> Doubled:
    (desk.real / "again").symlink_to("deep")
    (desk.real / "again.jpg").symlink_to("one.jpg")
    pairs = (((0, "one.jpg"), (0, "again.jpg")), ((0, "deep/three.jpg"), (0, "again/three.jpg")))
    return Doubled(desk.real, (desk.real,), (desk.real,), pairs)


def nested_roots(desk: Desk) -> Doubled:
    inner = desk.real / "deep"
    pairs = (((0, "deep/three.jpg"), (1, "three.jpg")), ((0, "deep/er/four.jpg"), (1, "er/four.jpg")))
    return Doubled(desk.real, (desk.real, inner), (desk.real, inner), pairs, inner=(inner,))


def hard_links(desk: Desk) -> Doubled:
    os.link(desk.real / "one.jpg", desk.real / "one again.jpg")
    os.link(desk.real / "two.jpg", desk.real / "deep" / "two again.jpg")
    pairs = (((0, "one.jpg"), (0, "one again.jpg")), ((0, "two.jpg"), (0, "deep/two again.jpg")))
    return Doubled(desk.real, (desk.real,), (desk.real,), pairs)


def folded_case(desk: Desk) -> Doubled:
    if shutil.which("lowntfs-3g") is None or shutil.which("mkfs.ntfs") is None:
        raise NotHere("ntfs-3g is not installed")
    image, there = desk.home / "ntfs.img", desk.folder("ntfs")
    with open(image, "wb") as stream:
        stream.truncate(4 << 20)
    desk.run("mkfs.ntfs", "-F", "-q", str(image))
    desk.run("lowntfs-3g", "-o", "ignore_case", str(image), str(there))
    desk.stack.callback(unmount, there)
    real = desk.draw(there / "photos")
    pairs = tuple(((0, name), (1, name.upper())) for name in PHOTOS)
    return Doubled(real, (real, there / "PHOTOS"), (real, there / "PHOTOS"), pairs)


def folded_case_in_one_root(desk: Desk) -> Doubled:
    doubled = folded_case(desk)
    pairs = tuple(((0, name), (0, name.upper())) for name in PHOTOS)
    return Doubled(doubled.real, (doubled.real,), (doubled.real,), pairs)


def bind_inside(desk: Desk) -> Doubled:
    (desk.real / "again").mkdir()
    desk.bind(desk.real / "deep", desk.real / "again")
    pairs = (
        ((0, "deep/three.jpg"), (0, "again/three.jpg")),
        ((0, "deep/er/four.jpg"), (0, "again/er/four.jpg")),
    )
    return Doubled(desk.real, (desk.real,), (desk.real,), pairs)


def file_bound_over_another(desk: Desk) -> Doubled:
    (desk.real / "one again.jpg").touch()
    desk.bind(desk.real / "one.jpg", desk.real / "one again.jpg")
    return Doubled(desk.real, (desk.real,), (desk.real,), (((0, "one.jpg"), (0, "one again.jpg")),))


def fuse_inside(desk: Desk) -> Doubled:
    (desk.real / "again").mkdir()
    desk.bindfs(desk.real / "deep", desk.real / "again")
    pairs = (
        ((0, "deep/three.jpg"), (0, "again/three.jpg")),
        ((0, "deep/er/four.jpg"), (0, "again/er/four.jpg")),
    )
    return Doubled(desk.real, (desk.real,), (desk.real,), pairs)


def fuse_of_a_part(desk: Desk) -> Doubled:
    there = desk.bindfs(desk.real / "deep", desk.folder("part"))
    pairs = (((0, "deep/three.jpg"), (1, "three.jpg")), ((0, "deep/er/four.jpg"), (1, "er/four.jpg")))
    return Doubled(desk.real, (desk.real, there), (desk.real, there), pairs, inner=(desk.real / "deep",))


def through_proc(desk: Desk) -> Doubled:
    return two_roots(desk.real, Path(f"/proc/{os.getpid()}/root{desk.real}"))


def spelled_twice(desk: Desk) -> Doubled:
    other = Path(f"{desk.home}/real/../real/deep/..")
    return two_roots(desk.real, other)


WAYS: dict[str, Way] = {
    "bind mount": bind_mount,
    "FUSE view (bindfs)": fuse,
    "second mount of the disk": second_mount,
    "overlay over it": overlay_above,
    "overlay that writes to it": overlay_upper,
    "symlink to the root": symlinked_root,
    "symlinks inside": symlinks_inside,
    "nested roots": nested_roots,
    "hard links": hard_links,
    "folded case, two roots": folded_case,
    "folded case, one root": folded_case_in_one_root,
    "bind mount inside the root": bind_inside,
    "one file bound over another": file_bound_over_another,
    "FUSE view inside the root": fuse_inside,
    "FUSE view of a part": fuse_of_a_part,
    "/proc/PID/root": through_proc,
    "the same path spelled otherwise": spelled_twice,
}
ACTS = ("quarantine", "hardlink")


def reach_twice(ground: Ground, program: Program, pattern: Path, way: str) -> Tally:
    """One way, by scanning and by forged plans in both directions, with either act."""
    tally = Tally(f"one file by two ways: {way}")
    for act in ACTS:
        try:
            with _made(ground, program, way) as doubled:
                _scan_and_apply(tally, program, doubled, act)
            for turn in (False, True):
                with _made(ground, program, way) as doubled:
                    _apply_forged(tally, program, doubled, pattern, act, turn=turn)
        except NotHere as why:
            tally.skipped.append(str(why))
            break
    return tally


@contextmanager
def _made(ground: Ground, program: Program, way: str) -> Iterator[Doubled]:
    with ExitStack() as stack:
        desk = Desk(ground, stack)
        stack.callback(shutil.rmtree, desk.home / "state", ignore_errors=True)
        doubled = WAYS[way](desk)
        program.live_at(desk.home / "state", desk.home / "state" / "catalogue.db")
        yield doubled


def _scan_and_apply(tally: Tally, program: Program, doubled: Doubled, act: str) -> None:
    before = _look(doubled)
    only = ("--only", "same-bytes") if act == "hardlink" else ("--all",)
    runs = [program.run("scan", *doubled.scanned), program.run("apply", *only, "--action", act, "--yes")]
    _judge(tally, doubled, before, runs, f"{tally.name}, scanned, {act}")
    _judge(tally, doubled, before, [program.run("undo")], f"{tally.name}, scanned, {act}, undone")


def _apply_forged(
    tally: Tally, program: Program, doubled: Doubled, pattern: Path, act: str, *, turn: bool
) -> None:
    before = _look(doubled)
    plan = doubled.real.parent / "forged.plan"
    pairs = []
    for one, other in doubled.pairs:
        dup, keep = (other, one) if turn else (one, other)
        pairs.append((file_row(doubled.roots, *dup), file_row(doubled.roots, *keep)))
    forge(plan, pattern, doubled.roots, pairs, act)
    run = program.run("apply", plan, "--yes")
    where = f"{tally.name}, forged, {act}, {'second' if turn else 'first'} way removed"
    if run.code == 0 and not (turn and doubled.apart):
        tally.blame(where, ["exit code 0, though nothing could be done"], run)
    _judge(tally, doubled, before, [run], where)
    plan.unlink()
    _judge(tally, doubled, before, [program.run("recover"), program.run("undo")], where + ", undone")


def _look(doubled: Doubled) -> Snapshot:
    return take_snapshot(map(os.fsencode, (doubled.real, *doubled.inner)))


def _judge(tally: Tally, doubled: Doubled, before: Snapshot, runs: list[Run], where: str) -> None:
    tally.points += 1
    for run in runs:
        tally.blame(where, said_nothing_of_a_fault(run), run)
        tally.note(f"{run.words[0]}: exit {run.code}")
    tally.blame(where, judge_act(before, _look(doubled), ()), runs[-1])
