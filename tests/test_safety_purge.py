"""Purge: the only thing that destroys, and everything that keeps it from doing so."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from dedup.apply import places
from dedup.errors import Busy, Unsafe, UsageError
from dedup.journal import DONE, PURGED
from dedup.pipeline import acting
from dedup.records import Act, Ending, Outcome, Relation
from tests.acted import EDITED, PICTURE, PIXELS, Acted

DAY_S = 86400.0


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Acted:
    made = Acted(tmp_path)
    monkeypatch.setenv("DEDUP_STATE", str(made.state))
    made.write("keep.jpg", age_s=2000)
    made.write("in/dup.jpg")
    return made


def applied(library: Acted, act: Act = Act.QUARANTINE, relation: Relation = Relation.SAME_BYTES) -> None:
    library.apply(library.operation("in/dup.jpg", "keep.jpg", act, relation=relation, decided=True))


def purge(count: int = 1, *runs: int, older_than_s: float = 0.0) -> list[Outcome]:
    watch = acting.Watch()
    acting.purge_quarantine(acting.PurgeChoice(runs, older_than_s), count, watch)
    return watch.outcomes


def refused(library: Acted, words: str, *runs: int) -> None:
    (outcome,) = purge(1, *runs)
    assert outcome.ending is Ending.REFUSED
    assert words in outcome.reason
    assert len(library.quarantined()) == 1
    assert set(library.states().values()) == {DONE}


@pytest.mark.parametrize("act", [Act.QUARANTINE, Act.HARDLINK])
def test_what_is_purged_is_gone_and_its_space_is_free(library: Acted, act: Act) -> None:
    applied(library, act)
    keep = library.path("keep.jpg").read_bytes()
    (outcome,) = purge(1, 1)
    assert (outcome.ending, outcome.freed_now_bytes) == (Ending.PURGED, 1024)
    assert not (library.root / ".dedup").exists()
    assert library.path("keep.jpg").read_bytes() == keep
    assert library.path("in/dup.jpg").exists() == (act is Act.HARDLINK)
    assert library.states() == {(1, 1): PURGED}


def test_what_was_purged_cannot_be_taken_back(library: Acted) -> None:
    applied(library)
    purge(1, 1)
    with pytest.raises(UsageError, match="gone for good"):
        acting.undo_run(1, acting.Watch())


def test_a_keeper_that_is_gone_keeps_the_quarantined_file(library: Acted) -> None:
    applied(library)
    library.path("keep.jpg").unlink()
    refused(library, "cannot be read", 1)


def test_a_keeper_that_was_edited_keeps_the_quarantined_file(library: Acted) -> None:
    applied(library)
    keep = library.path("keep.jpg")
    status = keep.stat()
    with keep.open("r+b") as file:
        file.write(b"T")
    os.utime(keep, ns=(status.st_atime_ns, status.st_mtime_ns))
    refused(library, "has changed", 1)


def test_a_keeper_that_has_become_a_link_to_elsewhere_does_not_count(library: Acted, tmp_path: Path) -> None:
    applied(library)
    library.path("keep.jpg").rename(tmp_path / "elsewhere.jpg")
    library.path("keep.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    refused(library, "no longer a plain file", 1)


def test_a_file_that_was_written_to_in_quarantine_stays_for_good(library: Acted) -> None:
    applied(library)
    place = library.root / ".dedup/quarantine/1/1"
    status = place.stat()
    with place.open("r+b") as file:
        file.write(b"T")
    os.utime(place, ns=(status.st_atime_ns, status.st_mtime_ns))
    refused(library, "somebody wrote to it", 1)
    (outcome,) = library.undo()
    assert outcome.ending is Ending.UNDONE


def test_a_twin_that_is_gone_keeps_the_unit(library: Acted) -> None:
    library.write("in/dup.xmp", b"stars")
    library.write("keep.xmp", b"stars")
    library.apply(library.operation("in/dup.jpg", "keep.jpg", along=[("in/dup.xmp", "keep.xmp")]))
    library.path("keep.xmp").unlink()
    (outcome,) = purge(2, 1)
    assert outcome.ending is Ending.REFUSED
    assert len(library.quarantined()) == 2


def test_the_number_of_files_must_be_said(library: Acted) -> None:
    applied(library)
    for count in (0, 2, 100):
        with pytest.raises(UsageError, match=r"1 files, not"):
            purge(count, 1)
    assert len(library.quarantined()) == 1


def test_companions_are_counted(library: Acted) -> None:
    library.write("in/dup.xmp", b"stars")
    library.apply(library.operation("in/dup.jpg", "keep.jpg", along=[("in/dup.xmp", None)]))
    assert acting.survey_purge(acting.PurgeChoice((1,))).files == 2
    assert [outcome.ending for outcome in purge(2, 1)] == [Ending.PURGED]


def test_by_age_only_what_is_old_enough_goes(library: Acted) -> None:
    applied(library)
    assert acting.survey_purge(acting.PurgeChoice()).files == 0
    assert purge(0, older_than_s=30 * DAY_S) == []
    assert len(library.quarantined()) == 1
    assert [outcome.ending for outcome in purge(1, older_than_s=0.0)] == [Ending.PURGED]


@pytest.mark.parametrize("relation", [PICTURE, EDITED])
def test_by_age_alone_no_picture_goes_that_is_nowhere_else(library: Acted, relation: Relation) -> None:
    applied(library, relation=relation)
    listed = acting.survey_purge(acting.PurgeChoice(older_than_s=0.0))
    assert (listed.files, listed.kept_by_age) == (0, 1)
    assert purge(0, older_than_s=0.0) == []
    assert [outcome.ending for outcome in purge(1, 1)] == [Ending.PURGED]


def test_the_same_pixels_go_by_age(library: Acted) -> None:
    applied(library, relation=PIXELS)
    assert [outcome.ending for outcome in purge(1, older_than_s=0.0)] == [Ending.PURGED]


def test_a_clock_that_has_gone_back_stops_every_purge(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    applied(library)
    now = time.time() - DAY_S
    monkeypatch.setattr(time, "time", lambda: now)
    with pytest.raises(Unsafe, match="clock"):
        acting.survey_purge(acting.PurgeChoice((1,)))
    with pytest.raises(Unsafe, match="clock"):
        purge(1, 1)
    assert len(library.quarantined()) == 1


def test_an_unknown_run_is_named(library: Acted) -> None:
    with pytest.raises(UsageError, match="no run 9"):
        purge(1, 9)


def test_what_was_undone_is_not_purged(library: Acted) -> None:
    applied(library)
    library.undo()
    assert purge(0, 1) == []
    assert library.path("in/dup.jpg").exists()


def test_a_root_that_is_locked_is_not_purged(library: Acted) -> None:
    applied(library)
    with places.Places(library.plan().roots, same_mount=True) as other:
        other.take([0])
        with pytest.raises(Busy):
            purge(1, 1)
    assert len(library.quarantined()) == 1


def test_shared_blocks_leave_nothing_to_purge(library: Acted, monkeypatch: pytest.MonkeyPatch) -> None:
    from dedup.apply import syscalls

    monkeypatch.setattr(syscalls, "share_range", lambda _k, _d, _at, length: (length, 0))
    applied(library, Act.REFLINK)
    assert acting.survey_purge(acting.PurgeChoice((1,))).files == 0


def test_the_intention_is_on_the_disk_before_the_file_goes(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    applied(library)
    seen: list[object] = []
    real = os.unlink

    def unlink(path: object, **more: object) -> None:
        if path == b"1":
            seen.append(library.states()[1, 1])
        real(path, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "unlink", unlink)
    purge(1, 1)
    assert seen == ["purging"]


def test_another_file_at_the_place_in_the_last_moment_stays(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    applied(library)
    place = library.root / ".dedup/quarantine/1/1"
    from dedup.journal import Journal

    real = Journal.append

    def append(journal: Journal, *records: dict[str, object]) -> None:
        real(journal, *records)
        if records[0]["kind"] == "purge":
            place.rename(place.with_name("moved"))
            place.write_bytes(b"new")

    monkeypatch.setattr(Journal, "append", append)
    (outcome,) = purge(1, 1)
    assert outcome.ending is Ending.REFUSED
    assert place.read_bytes() == b"new"
