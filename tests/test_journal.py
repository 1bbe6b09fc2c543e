"""The journal knows first: durable lines, a torn end that never was, and damage that stops everything."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from dedup.errors import Busy, Unsafe
from dedup.journal import (
    ABORTED,
    BEGUN,
    DONE,
    UNDONE,
    UNFINISHED,
    Entry,
    Journal,
    Move,
    intent_record,
    is_unfinished,
    run_record,
    state_folder,
)
from dedup.records import Act, PlannedFile, PlanRoot, Relation

FILE = PlannedFile(0, b"a/odd \xff\n name.jpg", 1, 2, 3, 4, 5, 1, 0o100644, 0, 0, b"", b"d" * 32)


def an_entry(number: int = 1, run: int = 1) -> Entry:
    move = Move(FILE, b".dedup/quarantine/1/%d" % number, 77)
    return Entry(run, number, Act.QUARANTINE, Relation.SAME_BYTES, False, FILE, (move,), (), 100, BEGUN, 0.0)


def written(folder: Path, *records: dict[str, Any]) -> Path:
    """A journal with one run, and each record in a line of its own."""
    with Journal.open(str(folder), write=True) as journal:
        journal.append(run_record(1, "1.0", "p", [PlanRoot(b"/photos\xfe", 1, 2)]))
        for record in records:
            journal.append(record)
    return folder / "journal"


def states(folder: Path) -> dict[int, str]:
    with Journal.open(str(folder), write=False) as journal:
        return {entry.id: entry.state for run in journal.runs.values() for entry in run.entries.values()}


def test_what_was_written_is_read_back_with_odd_names(tmp_path: Path) -> None:
    written(tmp_path, intent_record(an_entry()))
    with Journal.open(str(tmp_path), write=False) as journal:
        run = journal.runs[1]
        assert run.roots == (PlanRoot(b"/photos\xfe", 1, 2),)
        found = run.entries[1]
        assert found.moves == an_entry().moves
        assert (found.keep, found.act, found.frees_bytes, found.state) == (FILE, Act.QUARANTINE, 100, BEGUN)


def test_an_end_changes_the_state(tmp_path: Path) -> None:
    done = {"kind": "done", "run": 1, "op": 1, "folders": [99], "left": [[1, 2, 3, 4]]}
    written(tmp_path, intent_record(an_entry()), done)
    with Journal.open(str(tmp_path), write=False) as journal:
        entry = journal.runs[1].entries[1]
        assert (entry.state, entry.moves[0].folder_after_ns, entry.left) == (DONE, 99, ((1, 2, 3, 4),))
        assert journal.unfinished() == []


def test_unfinished_operations_come_newest_first(tmp_path: Path) -> None:
    written(tmp_path, *(intent_record(an_entry(n)) for n in (1, 2, 3)), {"kind": "abort", "run": 1, "op": 2})
    with Journal.open(str(tmp_path), write=False) as journal:
        assert [entry.id for entry in journal.unfinished()] == [3, 1]
        assert states(tmp_path) == {1: BEGUN, 2: ABORTED, 3: BEGUN}
        assert {BEGUN} <= UNFINISHED


def test_every_append_is_on_the_disk_when_it_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fsync

    def note(fd: int) -> None:
        synced.append(os.fstat(fd).st_size)
        real(fd)

    monkeypatch.setattr(os, "fsync", note)
    with Journal.open(str(tmp_path), write=True) as journal:
        journal.append(run_record(1, "1.0", "p", []))
        assert synced[-1] == os.path.getsize(journal.path)


def test_a_new_journal_makes_its_folder_durable_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[int, int]] = []
    real = os.fsync

    def note(fd: int) -> None:
        status = os.fstat(fd)
        synced.append((status.st_dev, status.st_ino))
        real(fd)

    monkeypatch.setattr(os, "fsync", note)
    Journal.open(str(tmp_path / "new"), write=True).close()
    for folder in (tmp_path / "new", tmp_path):
        assert (folder.stat().st_dev, folder.stat().st_ino) in synced


def test_torn_at_any_byte_of_the_last_line_it_has_not_begun(tmp_path: Path) -> None:
    path = written(tmp_path, intent_record(an_entry(1)), intent_record(an_entry(2)))
    whole = path.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    for at in range(start, len(whole)):
        path.write_bytes(whole[:at])
        assert states(tmp_path) == {1: BEGUN}
        if at - start in (0, 1) or at == len(whole) - 1 or at % 23 == 0:  # a durable line takes its time
            with Journal.open(str(tmp_path), write=True) as journal:
                journal.append({"kind": "abort", "run": 1, "op": 1})
            assert states(tmp_path) == {1: ABORTED}


def test_a_last_line_with_a_wrong_byte_has_not_begun(tmp_path: Path) -> None:
    path = written(tmp_path, intent_record(an_entry(1)), intent_record(an_entry(2)))
    whole = path.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    for at in range(start, len(whole) - 1, 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert states(tmp_path) == {1: BEGUN}


def test_damage_anywhere_before_the_last_line_stops_everything(tmp_path: Path) -> None:
    path = written(tmp_path, *(intent_record(an_entry(n)) for n in (1, 2, 3)))
    whole = path.read_bytes()
    last = whole[:-1].rindex(b"\n") + 1
    for at in range(0, last - 1, 11):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        for write in (True, False):
            with pytest.raises(Unsafe, match="damaged"):
                Journal.open(str(tmp_path), write=write)


def test_a_line_that_was_taken_out_of_the_middle_is_missed(tmp_path: Path) -> None:
    path = written(tmp_path, *(intent_record(an_entry(n)) for n in (1, 2, 3)))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2] + lines[3:]))
    with pytest.raises(Unsafe, match="damaged"):
        Journal.open(str(tmp_path), write=False)


def test_a_line_of_a_record_that_makes_no_sense_stops_everything(tmp_path: Path) -> None:
    with suppress(Unsafe):
        written(tmp_path, {"kind": "done", "run": 9, "op": 1})
    with pytest.raises(Unsafe, match="makes no sense"):
        Journal.open(str(tmp_path), write=False)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    with suppress(Unsafe):
        written(tmp_path, {"kind": "journal", "format": 2})
    with pytest.raises(Unsafe, match="newer"):
        Journal.open(str(tmp_path), write=True)


def test_a_second_writer_is_held_off_until_the_first_is_over(tmp_path: Path) -> None:
    with Journal.open(str(tmp_path), write=True), pytest.raises(Busy):
        Journal.open(str(tmp_path), write=True)
    Journal.open(str(tmp_path), write=True).close()


def test_a_reader_is_never_held_off(tmp_path: Path) -> None:
    with Journal.open(str(tmp_path), write=True) as journal:
        journal.append(run_record(1, "1.0", "p", []))
        with Journal.open(str(tmp_path), write=False) as reader:
            assert set(reader.runs) == {1}


def test_without_a_journal_there_are_no_runs_and_none_is_made(tmp_path: Path) -> None:
    with Journal.open(str(tmp_path / "none"), write=False) as journal:
        assert journal.runs == {}
    assert not (tmp_path / "none").exists()


def test_a_write_that_fails_leaves_no_torn_line_and_nothing_more_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal.open(str(tmp_path), write=True) as journal:
        journal.append(run_record(1, "1.0", "p", []))
        size, real = os.path.getsize(journal.path), os.write

        def half(fd: int, data: bytes) -> int:
            real(fd, bytes(data)[:10])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "write", half)
        with pytest.raises(Unsafe, match="No space left"):
            journal.append(intent_record(an_entry()))
        monkeypatch.setattr(os, "write", real)
        assert os.path.getsize(journal.path) == size
        with pytest.raises(Unsafe):
            journal.append(intent_record(an_entry()))
    assert states(tmp_path) == {}


def test_a_short_write_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    with Journal.open(str(tmp_path), write=True) as journal:
        journal.append(run_record(1, "1.0", "p", []))
        monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:7]))
        journal.append(intent_record(an_entry()))
    assert states(tmp_path) == {1: BEGUN}


def test_a_sync_that_fails_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal.open(str(tmp_path), write=True) as journal:
        journal.append(run_record(1, "1.0", "p", []))

        def fails(_fd: int) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "fsync", fails)
        with pytest.raises(Unsafe, match="Input/output error"):
            journal.append(intent_record(an_entry()))


def test_a_journal_that_is_deleted_meanwhile_is_noticed(tmp_path: Path) -> None:
    with Journal.open(str(tmp_path), write=True) as journal:
        os.unlink(journal.path)
        with pytest.raises(Unsafe, match="deleted"):
            journal.append(run_record(1, "1.0", "p", []))


def test_too_little_space_for_all_operations_is_said_before_the_first(tmp_path: Path) -> None:
    with Journal.open(str(tmp_path), write=True) as journal:
        journal.check_space(1000)
        with pytest.raises(Unsafe, match="no space"):
            journal.check_space(1 << 50)


def test_the_last_line_tells_whether_something_is_open(tmp_path: Path) -> None:
    assert not is_unfinished(str(tmp_path))
    written(tmp_path, {"kind": "end", "open": 0})
    assert not is_unfinished(str(tmp_path))
    with Journal.open(str(tmp_path), write=True) as journal:
        journal.append(intent_record(an_entry()))
        # Somebody is at work in this moment: that is no crash.
        assert not is_unfinished(str(tmp_path))
    assert is_unfinished(str(tmp_path))
    with Journal.open(str(tmp_path), write=True) as journal:
        journal.append({"kind": "abort", "run": 1, "op": 1})
        journal.end()
    assert not is_unfinished(str(tmp_path))


def test_a_torn_last_line_counts_as_open(tmp_path: Path) -> None:
    path = written(tmp_path, {"kind": "end", "open": 0})
    path.write_bytes(path.read_bytes()[:-5])
    assert is_unfinished(str(tmp_path))


def test_what_was_purged_in_part_is_known(tmp_path: Path) -> None:
    entry = an_entry()
    entry = Entry(
        1, 1, entry.act, entry.relation, False, FILE, (entry.moves[0], entry.moves[0]), (None,), 5, BEGUN, 0.0
    )
    written(tmp_path, intent_record(entry), {"kind": "kept", "run": 1, "op": 1, "gone": [0]})
    with Journal.open(str(tmp_path), write=False) as journal:
        found = journal.runs[1].entries[1]
        assert [bool(move.quarantine) for move in found.moves] == [False, True]


def test_the_state_folder_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DEDUP_STATE", str(tmp_path / "x"))
    assert state_folder() == str(tmp_path / "x")
    monkeypatch.delenv("DEDUP_STATE")
    assert state_folder().endswith("dedup")


def test_each_line_is_plain_json_behind_its_check(tmp_path: Path) -> None:
    path = written(tmp_path, intent_record(an_entry()))
    for line in path.read_text("ascii").splitlines():
        assert len(line.split(" ", 1)[0]) == 16
        assert isinstance(json.loads(line.split(" ", 1)[1]), list)
    assert UNDONE not in states(tmp_path).values()
