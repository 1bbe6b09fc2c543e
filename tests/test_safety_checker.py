"""The judge sees each kind of loss: what he calls faultless is ruined in one way after the other."""

from __future__ import annotations

import ast
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.safety import checker
from tests.safety.checker import Meanwhile, Planned, Snapshot, judge_act, judge_purge, judge_undone

XATTRS = hasattr(os, "setxattr")
pytestmark = pytest.mark.skipif(not XATTRS, reason="extended attributes are looked at as Linux has them")


class Shelf:
    """Two roots with three pairs, a link set, a unit, a stranger, and a quarantine as the program makes it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.roots = (home / "a", home / "b")
        self.outside = home / "outside"
        for folder in (*self.roots, self.outside, self.roots[0] / "empty"):
            folder.mkdir()
        for name in ("one", "two", "three"):
            for root in self.roots:
                (root / f"{name}.jpg").write_bytes(name.encode() * 100)
                os.utime(root / f"{name}.jpg", ns=(10**18, 10**18 + len(name)))
        for root in self.roots:
            (root / "three.xmp").write_bytes(b"sidecar")
        (self.roots[0] / "stranger.jpg").write_bytes(b"alone")
        (self.roots[0] / "linked.jpg").write_bytes(b"linked")
        os.link(self.roots[0] / "linked.jpg", self.roots[0] / "linked too.jpg")
        (self.outside / "precious.jpg").write_bytes(b"precious")
        self.before = self.look()

    def look(self) -> Snapshot:
        return checker.take_snapshot(map(os.fsencode, self.roots), [os.fsencode(self.outside)])

    def at(self, name: str) -> bytes:
        return os.fsencode(self.home / name)

    @property
    def linked(self) -> tuple[Planned, ...]:
        return tuple(
            Planned(self.at(f"b/{n}.jpg"), self.at(f"a/{n}.jpg"), "hardlink") for n in ("one", "two")
        )

    @property
    def moved(self) -> tuple[Planned, ...]:
        return (
            Planned(self.at("b/one.jpg"), self.at("a/one.jpg")),
            Planned(self.at("b/two.jpg"), self.at("a/two.jpg")),
            Planned(self.at("b/three.jpg"), self.at("a/three.jpg"), along=(self.at("b/three.xmp"),)),
        )

    def laid_away(self, number: int) -> Path:
        folder = self.roots[1] / ".dedup" / "quarantine" / "1"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / str(number)

    def link(self) -> None:
        """What `apply` does for links."""
        for number, one in enumerate(self.linked):
            dup, keep = Path(os.fsdecode(one.dup)), Path(os.fsdecode(one.keep))
            os.rename(dup, self.laid_away(number))
            os.link(keep, dup)

    def move(self) -> None:
        """What `apply` does for quarantine."""
        names = [name for one in self.moved for name in (one.dup, *one.along)]
        for number, name in enumerate(names):
            os.rename(name, self.laid_away(number))

    def undo(self) -> None:
        """What `undo` does for either."""
        names = [one.dup for one in self.linked]
        if not os.path.exists(names[0]):
            names = [name for one in self.moved for name in (one.dup, *one.along)]
        for number, name in enumerate(names):
            os.replace(self.laid_away(number), name)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def rewrite(path: Path, content: bytes) -> None:
    """Other bytes in the same file, with size and time as they were."""
    found = path.stat()
    path.write_bytes(content[: found.st_size].ljust(found.st_size, b"."))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def copy_over(path: Path) -> None:
    """The same bytes, mode and time in another file."""
    other = path.with_name("other")
    shutil.copy2(path, other)
    os.replace(other, path)


# --- what is in order -------------------------------------------------------------------------------------------------


def test_nothing_done_is_in_order(shelf: Shelf) -> None:
    assert judge_act(shelf.before, shelf.look(), shelf.moved) == []
    assert judge_undone(shelf.before, shelf.look()) == []
    assert len(checker.not_done(shelf.before, shelf.look(), shelf.moved)) == 3


def test_a_plan_carried_out_is_in_order(shelf: Shelf) -> None:
    shelf.move()
    assert judge_act(shelf.before, shelf.look(), shelf.moved) == []
    assert checker.not_done(shelf.before, shelf.look(), shelf.moved) == []
    shelf.undo()
    assert judge_undone(shelf.before, shelf.look()) == []


def test_links_as_planned_are_in_order(shelf: Shelf) -> None:
    shelf.link()
    assert judge_act(shelf.before, shelf.look(), shelf.linked) == []
    assert checker.not_done(shelf.before, shelf.look(), shelf.linked) == []
    shelf.undo()
    assert judge_undone(shelf.before, shelf.look()) == []


def test_a_purge_of_what_has_a_keeper_is_in_order(shelf: Shelf) -> None:
    shelf.move()
    moved = shelf.look()
    for number in range(3):
        shelf.laid_away(number).unlink()
    assert judge_purge(moved, shelf.look(), shelf.moved) == []


# --- what is not ------------------------------------------------------------------------------------------------------


def drop(*names: bytes | Path) -> None:
    for name in names:
        os.unlink(name)


def link_instead(target: bytes, name: bytes) -> None:
    os.unlink(name)
    os.link(target, name)


def symlink_instead(target: bytes, name: bytes) -> None:
    os.unlink(name)
    os.symlink(target, name)


def edit_and_drop(edited: Path, name: Path) -> None:
    edited.write_bytes(b"edited")
    name.unlink()


AFTER_AN_ACT: dict[str, tuple[str, Callable[[Shelf], object]]] = {
    "a keeper and its copy are gone": ("I1", lambda s: drop(s.at("a/one.jpg"), s.laid_away(0))),
    "a stranger is deleted": ("I1", lambda s: os.unlink(s.at("a/stranger.jpg"))),
    "a stranger is emptied": ("I1", lambda s: open(s.at("a/stranger.jpg"), "w").close()),
    "one byte of a stranger is another": ("I1", lambda s: rewrite(s.home / "a/stranger.jpg", b"alonE")),
    "what lies outside is deleted": ("I2", lambda s: os.unlink(s.at("outside/precious.jpg"))),
    "what lies outside is touched": ("I2", lambda s: os.utime(s.at("outside/precious.jpg"))),
    "something new lies outside": ("I2", lambda s: (s.home / "outside" / "new").touch()),
    "a planned file is in no quarantine": ("I3", lambda s: s.laid_away(0).unlink()),
    "a planned file lies there with other bytes": ("I3", lambda s: rewrite(s.laid_away(0), b"other")),
    "a planned file was copied, not moved": ("I3", lambda s: copy_over(s.laid_away(0))),
    "a planned file lost its mode": ("I3", lambda s: s.laid_away(0).chmod(0o600)),
    "a planned file lost its time": ("I3", lambda s: os.utime(s.laid_away(0))),
    "a name that was not planned is in quarantine": (
        "I3",
        lambda s: os.rename(s.at("a/stranger.jpg"), s.laid_away(9)),
    ),
    "a photo went without its sidecar": ("went without", lambda s: os.rename(s.laid_away(3), s.at("b/three.xmp"))),
    "a planned name holds other bytes": ("I4", lambda s: (s.home / "b/one.jpg").write_bytes(b"other")),
    "a name was replaced by a symlink": ("I4", lambda s: symlink_instead(b"linked.jpg", s.at("a/linked too.jpg"))),
    "a temporary name was left": ("I5", lambda s: os.link(s.at("a/one.jpg"), s.at("b/.dedup-1"))),
    "a new name appeared": ("I5", lambda s: os.link(s.at("a/one.jpg"), s.at("b/new.jpg"))),
    "a stranger was linked": ("I6", lambda s: link_instead(s.at("a/stranger.jpg"), s.at("a/linked too.jpg"))),
    "a link set was parted": ("I6", lambda s: copy_over(s.home / "a/linked too.jpg")),
    "a stranger is another file": ("I7", lambda s: copy_over(s.home / "a/stranger.jpg")),
    "a stranger has another mode": ("I7", lambda s: os.chmod(s.at("a/stranger.jpg"), 0o600)),
    "a stranger has another time": ("I7", lambda s: os.utime(s.at("a/stranger.jpg"))),
    "a stranger has an attribute more": ("I7", lambda s: os.setxattr(s.at("a/stranger.jpg"), "user.x", b"1")),
    "a folder has another mode": ("I7", lambda s: os.chmod(s.at("a/empty"), 0o700)),
    "a keeper is gone": ("I8", lambda s: os.unlink(s.at("a/one.jpg"))),
    "a keeper holds other bytes": ("I8", lambda s: rewrite(s.home / "a/one.jpg", b"other")),
    "a folder was removed": ("I9", lambda s: os.rmdir(s.at("a/empty"))),
}  # fmt: skip


@pytest.mark.parametrize("case", AFTER_AN_ACT)
def test_the_judge_sees_that(shelf: Shelf, case: str) -> None:
    word, ruin = AFTER_AN_ACT[case]
    shelf.move()
    ruin(shelf)
    assert any(word in fault for fault in judge_act(shelf.before, shelf.look(), shelf.moved))


AFTER_LINKS: dict[str, tuple[str, Callable[[Shelf], object]]] = {
    "a name to be linked is absent": ("I3", lambda s: drop(s.at("b/one.jpg"), s.laid_away(0))),
    "the old file is not in quarantine": ("I3", lambda s: s.laid_away(0).unlink()),
    "a name is a copy, not a link": ("I6", lambda s: copy_over(s.home / "b/one.jpg")),
    "two pairs became one": ("I4", lambda s: link_instead(s.at("a/two.jpg"), s.at("b/one.jpg"))),
    "a third name came to a link": ("I6", lambda s: link_instead(s.at("a/one.jpg"), s.at("b/three.jpg"))),
}


@pytest.mark.parametrize("case", AFTER_LINKS)
def test_the_judge_sees_that_after_links(shelf: Shelf, case: str) -> None:
    word, ruin = AFTER_LINKS[case]
    shelf.link()
    ruin(shelf)
    assert any(word in fault for fault in judge_act(shelf.before, shelf.look(), shelf.linked))


AFTER_AN_UNDO: dict[str, Callable[[Shelf], object]] = {
    "a name did not come back": lambda s: os.unlink(s.at("b/one.jpg")),
    "the bytes are others": lambda s: rewrite(s.home / "b/one.jpg", b"other"),
    "the file is another": lambda s: copy_over(s.home / "b/one.jpg"),
    "the mode is another": lambda s: os.chmod(s.at("b/one.jpg"), 0o600),
    "the time is another": lambda s: os.utime(s.at("b/one.jpg"), ns=(10**18, 10**18 + 4)),
    "an attribute came to it": lambda s: os.setxattr(s.at("b/one.jpg"), "user.x", b"1"),
    "a link was left": lambda s: os.link(s.at("b/one.jpg"), s.laid_away(7)),
    "a link set was parted": lambda s: copy_over(s.home / "a/linked too.jpg"),
    "a file stayed in quarantine": lambda s: shutil.copy2(s.home / "b/one.jpg", s.laid_away(7)),
    "a temporary name stayed": lambda s: (s.home / "b/.dedup-1").touch(),
}


@pytest.mark.parametrize("case", AFTER_AN_UNDO)
@pytest.mark.parametrize("how", ("move", "link"))
def test_the_judge_sees_that_after_an_undo(shelf: Shelf, how: str, case: str) -> None:
    getattr(shelf, how)()
    shelf.undo()
    assert judge_undone(shelf.before, shelf.look()) == []
    AFTER_AN_UNDO[case](shelf)
    assert judge_undone(shelf.before, shelf.look())


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_the_judge_sees_another_owner(shelf: Shelf) -> None:
    os.chown(shelf.at("a/stranger.jpg"), 1234, 1234)
    assert any("owner" in fault for fault in judge_act(shelf.before, shelf.look(), shelf.moved))
    assert any("owner" in fault for fault in judge_undone(shelf.before, shelf.look()))


AFTER_A_PURGE: dict[str, tuple[str, Callable[[Shelf], object]]] = {
    "the keeper is gone with it": ("I1", lambda s: drop(s.at("a/one.jpg"), s.laid_away(0))),
    "the keeper was another": ("I1", lambda s: edit_and_drop(s.home / "a/one.jpg", s.laid_away(0))),
    "a name in the library is gone": ("I3", lambda s: os.unlink(s.at("a/stranger.jpg"))),
    "a file in quarantine was written to": ("I1", lambda s: rewrite(s.laid_away(0), b"other")),
    "something outside is gone": ("I2", lambda s: os.unlink(s.at("outside/precious.jpg"))),
}


@pytest.mark.parametrize("case", AFTER_A_PURGE)
def test_the_judge_sees_that_after_a_purge(shelf: Shelf, case: str) -> None:
    word, ruin = AFTER_A_PURGE[case]
    shelf.move()
    moved = shelf.look()
    ruin(shelf)
    assert any(word in fault for fault in judge_purge(moved, shelf.look(), shelf.moved))


# --- a program that died, and people who work meanwhile -----------------------------------------------------------


def test_a_temporary_name_is_excused_until_recovery_ran(shelf: Shelf) -> None:
    os.link(shelf.at("a/one.jpg"), shelf.at("b/.dedup-1"))
    assert judge_act(shelf.before, shelf.look(), shelf.linked, unfinished=True) == []
    assert judge_act(shelf.before, shelf.look(), shelf.linked)


def test_a_name_that_is_absent_between_two_calls_is_seen(shelf: Shelf) -> None:
    os.rename(shelf.at("b/one.jpg"), shelf.laid_away(0))
    assert judge_act(shelf.before, shelf.look(), shelf.linked, unfinished=True) == []
    assert checker.names_absent(shelf.before, shelf.look(), shelf.linked)


def test_an_edit_by_somebody_else_is_not_laid_to_the_programs_charge_but_must_survive(shelf: Shelf) -> None:
    (shelf.home / "b/one.jpg").write_bytes(b"edited")
    edited = shelf.look()
    meanwhile = Meanwhile({shelf.at("b/one.jpg")}, added=edited.contents - shelf.before.contents)
    assert judge_act(shelf.before, edited, shelf.moved, meanwhile) == []
    (shelf.home / "b/one.jpg").write_bytes(b"one" * 100)
    assert any("I1" in fault for fault in judge_act(shelf.before, shelf.look(), shelf.moved, meanwhile))


def test_the_judge_knows_nothing_of_the_program() -> None:
    tree = ast.parse(Path(checker.__file__).read_text("utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not [name for name in names if name.split(".")[0] in ("dedup", "tests")]
