"""Taking back: exactly what was there, never over what came since, and no less when it is asked twice."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from dedup.apply import moves, places, syscalls, undo
from dedup.errors import Busy
from dedup.journal import DONE, UNDOING, UNDONE, Journal
from dedup.records import Act, Ending, Operation
from tests.acted import Acted, never, no_progress

BOTH_ACTS = pytest.mark.parametrize("act", [Act.QUARANTINE, Act.HARDLINK])


class Killed(BaseException):
    """As a kill: nothing that would put things right runs after it."""


@pytest.fixture
def library(tmp_path: Path) -> Acted:
    made = Acted(tmp_path)
    made.write("keep.jpg", age_s=2000)
    for number in range(3):
        dup = made.write(f"in/dup{number}.jpg", age_s=100 * number)
        dup.chmod(0o640 + number)
    made.write("in/other.jpg", b"another picture")
    os.link(made.path("in/dup2.jpg"), made.path("in/linked.jpg"))
    os.utime(made.path("in"), ns=(10**18, 10**18 + 7))
    os.utime(made.root, ns=(10**18, 10**18 + 9))
    return made


def operations(library: Acted, act: Act) -> list[Operation]:
    names = ["in/dup0.jpg", "in/dup1.jpg", "in/dup2.jpg", "in/linked.jpg"]
    return [
        library.operation(name, "keep.jpg", act, id=number, losses=("its mode",))
        for number, name in enumerate(names, 1)
    ]


@BOTH_ACTS
def test_undo_brings_back_names_bytes_modes_times_inodes_and_link_sets(library: Acted, act: Act) -> None:
    was = library.look()
    library.apply(*operations(library, act))
    assert library.look() != was
    assert [outcome.ending for outcome in library.undo()] == [Ending.UNDONE] * 4
    assert library.look() == was
    assert not (library.root / ".dedup").exists()
    assert set(library.states().values()) == {UNDONE}


@BOTH_ACTS
def test_undo_twice_does_nothing_more(library: Acted, act: Act) -> None:
    library.apply(*operations(library, act))
    library.undo()
    was = library.look()
    assert library.undo() == []
    assert library.look() == was


def test_a_folder_that_somebody_changed_since_keeps_its_time(library: Acted) -> None:
    library.apply(*operations(library, Act.QUARANTINE))
    library.write("in/new.jpg", b"new")
    library.undo()
    assert library.path("in").stat().st_mtime_ns > 10**18 + 10**17


@BOTH_ACTS
def test_attributes_come_back(library: Acted, act: Act) -> None:
    try:
        os.setxattr(library.path("in/dup0.jpg"), b"user.note", b"mine")
    except OSError:
        pytest.skip("no extended attributes here")
    was = library.look()
    library.apply(*operations(library, act))
    library.undo()
    assert library.look() == was


@BOTH_ACTS
@pytest.mark.parametrize("content", [b"newer", b"the same picture" * 64], ids=["other", "same"])
def test_a_new_file_at_the_old_name_stays_and_the_old_one_comes_beside_it(
    library: Acted, act: Act, content: bytes
) -> None:
    dup = library.path("in/dup0.jpg")
    old = dup.read_bytes()
    library.apply(operations(library, act)[0])
    dup.unlink(missing_ok=True)
    dup.write_bytes(content)
    inode = dup.stat().st_ino
    (outcome,) = library.undo()
    assert outcome.ending is Ending.UNDONE
    assert "dup0 (restored).jpg" in outcome.reason
    assert (dup.read_bytes(), dup.stat().st_ino) == (content, inode)
    assert (dup.parent / "dup0 (restored).jpg").read_bytes() == old


def test_a_second_one_beside_it_is_numbered(library: Acted) -> None:
    dup = library.path("in/dup0.jpg")
    library.apply(operations(library, Act.QUARANTINE)[0])
    for name in ("dup0.jpg", "dup0 (restored).jpg"):
        (dup.parent / name).write_bytes(b"newer")
    library.undo()
    assert (dup.parent / "dup0 (restored 2).jpg").exists()
    assert (dup.parent / "dup0 (restored).jpg").read_bytes() == b"newer"


def test_a_name_too_long_for_a_mark_is_shortened(library: Acted) -> None:
    name = "n" * 251 + ".jpg"
    library.write(f"in/{name}")
    library.apply(library.operation(f"in/{name}", "keep.jpg"))
    library.path(f"in/{name}").write_bytes(b"newer")
    library.undo()
    assert sum("(restored)" in found for found in os.listdir(library.path("in"))) == 1


def test_a_link_that_was_edited_since_keeps_the_edit(library: Acted) -> None:
    """Both names show it, keeper and link: nothing of it may go."""
    dup = library.path("in/dup0.jpg")
    old = dup.read_bytes()
    library.apply(operations(library, Act.HARDLINK)[0])
    dup.write_bytes(b"edited through the link")
    library.undo()
    assert dup.read_bytes() == b"edited through the link"
    assert (dup.parent / "dup0 (restored).jpg").read_bytes() == old


def test_a_link_that_is_the_last_name_of_the_keeper_is_not_unlinked(library: Acted) -> None:
    dup = library.path("in/dup0.jpg")
    library.apply(operations(library, Act.HARDLINK)[0])
    inode = dup.stat().st_ino
    library.path("keep.jpg").unlink()
    library.undo()
    assert dup.stat().st_ino == inode
    assert (dup.parent / "dup0 (restored).jpg").exists()


def test_what_was_written_to_in_quarantine_comes_back_as_it_is(library: Acted) -> None:
    library.apply(operations(library, Act.QUARANTINE)[0])
    (library.root / ".dedup/quarantine/1/1").write_bytes(b"written by a program that had it open")
    library.undo()
    assert library.path("in/dup0.jpg").read_bytes() == b"written by a program that had it open"


def test_a_folder_that_is_gone_is_named_and_nothing_is_lost(library: Acted) -> None:
    library.write("away/dup.jpg")
    library.apply(library.operation("away/dup.jpg", "keep.jpg"))
    library.path("away").rmdir()
    (outcome,) = library.undo()
    assert outcome.ending is Ending.REFUSED
    assert "away is gone" in outcome.reason
    assert library.quarantined()
    library.path("away").mkdir()
    assert library.undo()[0].ending is Ending.UNDONE
    assert library.path("away/dup.jpg").exists()


def test_what_somebody_took_out_of_quarantine_is_said_to_be_gone(library: Acted) -> None:
    library.apply(operations(library, Act.QUARANTINE)[0])
    (library.root / ".dedup/quarantine/1/1").unlink()
    (outcome,) = library.undo()
    assert outcome.ending is Ending.REFUSED
    assert "neither in quarantine nor in its place" in outcome.reason
    assert library.states() == {(1, 1): DONE}


@BOTH_ACTS
def test_a_disk_with_another_number_today_is_still_the_same(
    library: Acted, act: Act, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a reboot: the journal knows other device numbers than the system gives now."""
    was = library.look()
    library.apply(*operations(library, act))
    real = Journal._take_one

    def renumbered(journal: Journal, record: dict[str, Any]) -> None:
        def other(part: Any) -> Any:
            if isinstance(part, dict):
                return {key: value + 7 if key == "device" else other(value) for key, value in part.items()}
            return [other(one) for one in part] if isinstance(part, list) else part

        real(journal, other(record))

    monkeypatch.setattr(Journal, "_take_one", renumbered)
    assert [outcome.ending for outcome in library.undo()] == [Ending.UNDONE] * 4
    assert library.look() == was


def test_a_root_that_is_another_folder_today_is_not_touched(library: Acted) -> None:
    library.apply(*operations(library, Act.QUARANTINE))
    library.root.rename(library.home / "real")
    library.root.mkdir()
    outcomes = library.undo()
    assert {outcome.ending for outcome in outcomes} == {Ending.REFUSED}
    assert "another folder" in outcomes[0].reason
    assert list(library.root.iterdir()) == []


def test_without_the_disk_of_the_keeper_a_link_is_not_taken_for_a_stranger(tmp_path: Path) -> None:
    library = Acted(tmp_path, ("photos", "masters"))
    library.write("0:dup.jpg")
    library.write("1:keep.jpg")
    library.apply(library.operation("0:dup.jpg", "1:keep.jpg", Act.HARDLINK))
    library.roots[1].rename(tmp_path / "away")
    was = library.look()
    assert [outcome.ending for outcome in library.undo()] == [Ending.REFUSED]
    assert library.look() == was
    (tmp_path / "away").rename(library.roots[1])
    assert [outcome.ending for outcome in library.undo()] == [Ending.UNDONE]
    assert library.path("0:dup.jpg").stat().st_nlink == 1


@BOTH_ACTS
@pytest.mark.parametrize("at", range(1, 8))
def test_killed_within_an_undo_the_next_one_ends_it_exactly(
    library: Acted, act: Act, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    was = library.look()
    library.apply(*operations(library, act))
    count = [0]

    def counted(real: Any) -> Any:
        def call(*words: Any, **more: Any) -> Any:
            count[0] += 1
            if count[0] == at:
                raise Killed
            return real(*words, **more)

        return call

    with monkeypatch.context() as patched:
        patched.setattr(undo, "put_back", counted(moves.put_back))
        patched.setattr(undo, "drop_link", counted(moves.drop_link))
        patched.setattr(undo, "put_times_back", counted(places.put_times_back))
        real_exchange = syscalls.exchange

        def exchange(one: Any, other: Any) -> None:
            if b"probe" in os.fsencode(os.readlink(f"/proc/self/fd/{one[0]}")):
                return real_exchange(one, other)
            return counted(real_exchange)(one, other)  # type: ignore[no-any-return]

        patched.setattr(syscalls, "exchange", exchange)
        patched.setattr(undo, "settle", lambda *_: iter(()))  # nothing is written down after a kill
        try:
            library.undo()
        except Killed:
            assert UNDOING in library.states().values()
    library.recover()
    library.undo()
    assert library.look() == was


def test_an_exchange_is_not_repeated_blindly(library: Acted) -> None:
    """Killed between the exchange and the end of the link: done again, it would undo the undo."""
    was = library.look()
    library.apply(operations(library, Act.HARDLINK)[0])
    with library.journal() as journal:
        journal.append({"kind": "undo", "run": 1, "op": 1})
    place, dup = library.root / ".dedup/quarantine/1/1", library.path("in/dup0.jpg")
    folders = [os.open(path.parent, os.O_RDONLY) for path in (place, dup)]
    syscalls.exchange((folders[0], b"1"), (folders[1], b"dup0.jpg"))
    for _ in range(2):
        library.recover()
        now = library.look()
        assert now[str(dup)] == was[str(dup)]
        assert library.path("keep.jpg").stat().st_nlink == 1


def test_a_file_that_is_saved_over_during_the_undo_stays(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    dup = library.path("in/dup0.jpg")
    library.apply(operations(library, Act.HARDLINK)[0])
    real = syscalls.exchange

    def exchange(one: Any, other: Any) -> None:
        if b"probe" not in os.fsencode(os.readlink(f"/proc/self/fd/{one[0]}")):
            monkeypatch.setattr(syscalls, "exchange", real)
            fresh = dup.with_name("fresh")
            fresh.write_bytes(b"newer")
            fresh.replace(dup)
        real(one, other)

    monkeypatch.setattr(syscalls, "exchange", exchange)
    (outcome,) = library.undo()
    assert outcome.ending is Ending.REFUSED
    assert dup.read_bytes() == b"newer"
    assert library.states() == {(1, 1): DONE}


def test_an_undo_locks_the_root(library: Acted) -> None:
    library.apply(*operations(library, Act.QUARANTINE))
    with places.Places(library.plan().roots, same_mount=True) as other:
        other.take([0])
        with pytest.raises(Busy):
            library.undo()


def test_an_undo_stops_between_two_operations(library: Acted) -> None:
    library.apply(*operations(library, Act.QUARANTINE))
    asked: list[int] = []

    def stopping() -> bool:
        asked.append(1)
        return len(asked) > 2

    with library.journal() as journal:
        found = list(undo.undo_run(journal, journal.runs[1], no_progress, stopping))
    assert [outcome.operation for outcome in found] == [4, 3]
    with library.journal() as journal:
        assert len(list(undo.undo_run(journal, journal.runs[1], no_progress, never))) == 2
