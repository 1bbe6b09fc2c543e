"""After a crash: every way in which an operation can stand half done, and what becomes of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dedup.apply import moves, own, places, syscalls
from dedup.errors import Busy
from dedup.journal import ABORTED, BEGUN, DONE, PURGED, Entry, Journal, Move, intent_record, run_record
from dedup.records import Act, Ending
from tests.acted import BYTES, Acted

BOTH_ACTS = pytest.mark.parametrize("act", [Act.QUARANTINE, Act.HARDLINK])
PLACE = ".dedup/quarantine/1/1"


@pytest.fixture
def library(tmp_path: Path) -> Acted:
    made = Acted(tmp_path)
    made.write("keep.jpg", age_s=2000)
    made.write("in/dup.jpg")
    os.utime(made.path("in"), ns=(10**18, 10**18 + 7))
    return made


def begin(library: Acted, act: Act, *along: tuple[str, str]) -> None:
    """An intention in the journal, and nothing done yet."""
    keep = library.seen("keep.jpg")
    names = ["in/dup.jpg", *(name for name, _ in along)]
    entry = Entry(
        run=1,
        id=1,
        act=act,
        relation=BYTES,
        decided=False,
        keep=keep,
        moves=tuple(
            Move(
                library.seen(name),
                b".dedup/quarantine/1/1" + (b".%d" % number if number else b""),
                library.path("in").stat().st_mtime_ns,
            )
            for number, name in enumerate(names)
        ),
        twins=tuple(library.seen(twin) for _, twin in along),
        frees_bytes=1024,
        state=BEGUN,
        since=0.0,
    )
    with library.journal() as journal:
        journal.append(run_record(1, "1", "p", library.plan().roots))
        journal.append(intent_record(entry))
    was = library.root.stat()
    (library.root / PLACE).parent.mkdir(parents=True)
    os.utime(library.root, ns=(was.st_atime_ns, was.st_mtime_ns))


def exchange(one: Path, other: Path) -> None:
    folders = [os.open(path.parent, os.O_RDONLY) for path in (one, other)]
    syscalls.exchange((folders[0], os.fsencode(one.name)), (folders[1], os.fsencode(other.name)))
    for folder in folders:
        os.close(folder)


def ending(library: Acted) -> Ending:
    (outcome,) = library.recover()
    return outcome.ending


@BOTH_ACTS
def test_nothing_had_happened(library: Acted, act: Act) -> None:
    was = library.look()
    begin(library, act)
    assert ending(library) is Ending.UNDONE
    assert library.look() == was
    assert library.states() == {(1, 1): ABORTED}
    assert not (library.root / ".dedup").exists()


def test_the_duplicate_had_moved(library: Acted) -> None:
    was = library.look()
    begin(library, Act.QUARANTINE)
    library.path("in/dup.jpg").rename(library.root / PLACE)
    assert ending(library) is Ending.UNDONE
    assert library.look() == was


def test_a_part_of_the_unit_had_moved(library: Acted) -> None:
    library.write("in/dup.xmp", b"stars")
    library.write("keep.xmp", b"stars")
    os.utime(library.path("in"), ns=(10**18, 10**18 + 7))
    was = library.look()
    begin(library, Act.QUARANTINE, ("in/dup.xmp", "keep.xmp"))
    library.path("in/dup.jpg").rename(library.root / PLACE)
    assert ending(library) is Ending.UNDONE
    assert library.look() == was


def test_the_link_had_been_made_but_not_exchanged(library: Acted) -> None:
    was = library.look()
    begin(library, Act.HARDLINK)
    os.link(library.path("keep.jpg"), library.root / PLACE)
    assert ending(library) is Ending.UNDONE
    assert library.look() == was


def test_the_exchange_had_happened(library: Acted) -> None:
    begin(library, Act.HARDLINK)
    os.link(library.path("keep.jpg"), library.root / PLACE)
    exchange(library.root / PLACE, library.path("in/dup.jpg"))
    was = library.look()
    assert ending(library) is Ending.DONE
    assert library.look() == was
    assert library.states() == {(1, 1): DONE}
    library.undo()
    assert library.path("keep.jpg").stat().st_nlink == 1


def test_an_edit_in_the_moment_of_the_crash_goes_back_into_the_library(library: Acted) -> None:
    begin(library, Act.HARDLINK)
    os.link(library.path("keep.jpg"), library.root / PLACE)
    exchange(library.root / PLACE, library.path("in/dup.jpg"))
    (library.root / PLACE).write_bytes(b"edited")
    assert ending(library) is Ending.UNDONE
    assert library.path("in/dup.jpg").read_bytes() == b"edited"
    assert library.path("keep.jpg").stat().st_nlink == 1


def test_without_an_exchange_the_name_was_absent(library: Acted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "_can_exchange", lambda *_: False)
    was = library.look()
    begin(library, Act.HARDLINK)
    library.path("in/dup.jpg").rename(library.root / PLACE)
    assert ending(library) is Ending.UNDONE
    assert library.look() == was


def test_without_an_exchange_an_edit_in_the_moment_of_the_crash_goes_back(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "_can_exchange", lambda *_: False)
    begin(library, Act.HARDLINK)
    library.path("in/dup.jpg").rename(library.root / PLACE)
    os.link(library.path("keep.jpg"), library.path("in/dup.jpg"))
    (library.root / PLACE).write_bytes(b"edited")
    assert ending(library) is Ending.UNDONE
    assert library.path("in/dup.jpg").read_bytes() == b"edited"


@BOTH_ACTS
def test_it_was_on_its_way_back_by_a_link(library: Acted, act: Act, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no rename refuses to overwrite, giving back is a link and then the end of the other name."""
    monkeypatch.setattr(own, "_can_keep", lambda *_: False)
    was = library.look()
    begin(library, act)
    os.link(library.path("in/dup.jpg"), library.root / PLACE)
    assert ending(library) is Ending.UNDONE
    now = library.look()
    assert now[str(library.path("in/dup.jpg"))] == was[str(library.path("in/dup.jpg"))]
    assert library.quarantined() == {}


@BOTH_ACTS
@pytest.mark.parametrize(
    "mess",
    [
        lambda library: library.path("in/dup.jpg").write_bytes(b"newer"),
        lambda library: library.path("in/dup.jpg").mkdir(),
    ],
    ids=["another file", "a folder"],
)
def test_what_cannot_be_told_is_left_and_named_with_both_paths(
    library: Acted, act: Act, mess: Callable[[Acted], object]
) -> None:
    begin(library, act)
    library.path("in/dup.jpg").rename(library.root / PLACE)
    mess(library)
    was = library.look()
    for _ in range(2):
        (outcome,) = library.recover()
        assert outcome.ending is Ending.REFUSED
        assert str(library.path("in/dup.jpg")) in outcome.reason
        assert PLACE in outcome.reason
        assert library.look() == was
        assert library.quarantined()
        assert library.states() == {(1, 1): BEGUN}


@BOTH_ACTS
@pytest.mark.parametrize("absent", [False, True])
def test_a_strange_file_in_quarantine_is_left(library: Acted, act: Act, absent: bool) -> None:
    begin(library, act)
    (library.root / PLACE).write_bytes(b"strange")
    if absent:
        library.path("in/dup.jpg").rename(library.home / "taken away.jpg")
    was = library.look()
    assert ending(library) is Ending.REFUSED
    assert library.look() == was
    assert (library.root / PLACE).read_bytes() == b"strange"


def test_a_unit_of_which_one_name_is_taken_stays_as_a_whole(library: Acted) -> None:
    library.write("in/dup.xmp", b"stars")
    library.write("keep.xmp", b"stars")
    begin(library, Act.QUARANTINE, ("in/dup.xmp", "keep.xmp"))
    library.path("in/dup.jpg").rename(library.root / PLACE)
    library.path("in/dup.xmp").rename(library.root / f"{PLACE}.1")
    library.write("in/dup.xmp", b"newer")
    was = library.look()
    assert ending(library) is Ending.REFUSED
    assert library.look() == was
    assert len(library.quarantined()) == 2


@BOTH_ACTS
def test_a_photo_that_is_nowhere_is_named(library: Acted, act: Act) -> None:
    begin(library, act)
    library.path("in/dup.jpg").unlink()
    assert ending(library) is Ending.REFUSED


def test_a_link_that_is_the_last_name_of_the_keeper_stays(library: Acted) -> None:
    begin(library, Act.HARDLINK)
    library.path("keep.jpg").rename(library.root / PLACE)
    assert ending(library) is Ending.REFUSED
    assert (library.root / PLACE).exists()


def test_a_name_that_is_taken_while_it_goes_back_is_not_overwritten(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(library, Act.QUARANTINE)
    library.path("in/dup.jpg").rename(library.root / PLACE)
    real = syscalls.rename_to_free

    def taken(source: tuple[int, bytes], target: tuple[int, bytes]) -> None:
        if target[1] == b"dup.jpg":
            library.path("in/dup.jpg").write_bytes(b"newer")
        real(source, target)

    monkeypatch.setattr(syscalls, "rename_to_free", taken)
    assert ending(library) is Ending.REFUSED
    assert library.path("in/dup.jpg").read_bytes() == b"newer"
    assert (library.root / PLACE).exists()


@BOTH_ACTS
def test_recover_twice_does_nothing_more(library: Acted, act: Act) -> None:
    begin(library, act)
    library.recover()
    was = library.look()
    assert library.recover() == []
    assert library.look() == was


def test_a_reflink_leaves_nothing_to_be_brought_to_an_end(library: Acted) -> None:
    begin(library, Act.REFLINK)
    assert ending(library) is Ending.UNDONE


def test_a_purge_that_was_complete_is_written_down(library: Acted) -> None:
    library.apply(library.operation("in/dup.jpg", "keep.jpg"))
    with library.journal() as journal:
        journal.append({"kind": "purge", "run": 1, "op": 1})
    (library.root / PLACE).unlink()
    assert ending(library) is Ending.PURGED
    assert library.states() == {(1, 1): PURGED}


def test_a_purge_that_had_not_begun_keeps_the_file(library: Acted) -> None:
    library.apply(library.operation("in/dup.jpg", "keep.jpg"))
    with library.journal() as journal:
        journal.append({"kind": "purge", "run": 1, "op": 1})
    assert ending(library) is Ending.DONE
    assert library.states() == {(1, 1): DONE}
    library.undo()
    assert library.path("in/dup.jpg").exists()


def test_a_unit_that_was_purged_in_part_gives_back_the_rest(library: Acted) -> None:
    library.write("in/dup.xmp", b"stars")
    library.apply(library.operation("in/dup.jpg", "keep.jpg", along=[("in/dup.xmp", None)]))
    with library.journal() as journal:
        journal.append({"kind": "purge", "run": 1, "op": 1})
    (library.root / PLACE).unlink()
    assert ending(library) is Ending.DONE
    (outcome,) = library.undo()
    assert outcome.ending is Ending.UNDONE
    assert "purged" in outcome.reason
    assert library.path("in/dup.xmp").exists()


def test_a_root_that_is_not_there_waits(library: Acted) -> None:
    begin(library, Act.QUARANTINE)
    library.path("in/dup.jpg").rename(library.root / PLACE)
    library.root.rename(library.home / "away")
    assert ending(library) is Ending.REFUSED
    (library.home / "away").rename(library.root)
    assert ending(library) is Ending.UNDONE


def test_a_root_that_is_locked_waits(library: Acted) -> None:
    begin(library, Act.QUARANTINE)
    with places.Places(library.plan().roots, same_mount=True) as other:
        other.take([0])
        with pytest.raises(Busy):
            library.recover()


def test_the_last_name_of_an_inode_is_never_unlinked(library: Acted) -> None:
    with places.Places(library.plan().roots, same_mount=True) as found:
        spot = found.spot(0, b"in/dup.jpg")
        identity = moves.identity_of(spot.look())
        assert not moves.drop_link(spot, identity)
        os.link(library.path("in/dup.jpg"), library.path("in/second.jpg"))
        assert not moves.drop_link(spot, (1, 1))
        assert moves.drop_link(spot, identity)
    assert library.path("in/second.jpg").exists()


def test_what_a_killed_probe_left_is_removed_and_nothing_else(library: Acted) -> None:
    probe = library.root / ".dedup/probe"
    probe.mkdir(parents=True)
    (probe / ("ab" * 12)).write_bytes(b"")
    (probe / ("cd" * 12)).write_bytes(b"not empty")
    (probe / "mine.jpg").write_bytes(b"")
    library.apply(library.operation("in/dup.jpg", "keep.jpg"))
    assert sorted(os.listdir(probe)) == ["cd" * 12, "mine.jpg"]


def test_the_journal_ends_at_rest(library: Acted) -> None:
    begin(library, Act.QUARANTINE)
    library.recover()
    with Journal.open(str(library.state), write=False) as journal:
        assert journal.unfinished() == []
