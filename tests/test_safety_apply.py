"""Acting: each guard of one operation, with what happens between two steps played by the test."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dedup.apply import Hooks, moves, own, places, steps, syscalls
from dedup.apply.act import BATCH
from dedup.apply.files import Holder
from dedup.errors import Busy, Unsafe
from dedup.journal import ABORTED, BEGUN, DONE, Journal
from dedup.keeper import find_units
from dedup.records import Act, Ending, Operation, Outcome, Relation
from tests.acted import BYTES, EDITED, PICTURE, PIXELS, Acted, never, no_progress, says_yes

BOTH_ACTS = pytest.mark.parametrize("act", [Act.QUARANTINE, Act.HARDLINK])


@pytest.fixture
def library(tmp_path: Path) -> Acted:
    """A photo, a copy of it in a folder, and one that has nothing to do with them."""
    made = Acted(tmp_path)
    made.write("keep.jpg", age_s=2000)
    made.write("in/dup.jpg")
    made.write("other.jpg", b"another picture")
    return made


def only(outcomes: list[Outcome]) -> Outcome:
    assert len(outcomes) == 1
    return outcomes[0]


def refused(outcomes: list[Outcome], words: str) -> None:
    outcome = only(outcomes)
    assert outcome.ending is Ending.REFUSED
    assert words in outcome.reason


def before(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, deed: Callable[[], object]) -> None:
    """Do something right before the first call of a function, as another program might."""
    done: list[bool] = []
    real = getattr(module, name)

    def call(*words: Any, **more: Any) -> Any:
        if not done:
            done.append(True)
            deed()
        return real(*words, **more)

    monkeypatch.setattr(module, name, call)


def after(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, deed: Callable[[], object]) -> None:
    """The same right after it."""
    done: list[bool] = []
    real = getattr(module, name)

    def call(*words: Any, **more: Any) -> Any:
        result = real(*words, **more)
        if not done:
            done.append(True)
            deed()
        return result

    monkeypatch.setattr(module, name, call)


def edit_quietly(path: Path, content: bytes) -> None:
    """Rewrite a file in place and put size and time back."""
    status = path.stat()
    assert len(content) == status.st_size
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def edited(path: Path) -> bytes:
    return bytes(byte ^ 1 for byte in path.read_bytes())


def save_over(path: Path, content: bytes) -> None:
    """As an editor saves: a new file is moved over the old one."""
    fresh = path.with_name("fresh.tmp")
    fresh.write_bytes(content)
    fresh.replace(path)


# --- what should happen ----------------------------------------------------------------------------------------------


def test_quarantine_moves_the_very_file_and_leaves_everything_else(library: Acted) -> None:
    was = library.look()
    inode = library.path("in/dup.jpg").stat().st_ino
    outcome = only(library.apply(library.operation("in/dup.jpg", "keep.jpg")))
    assert (outcome.ending, outcome.freed_now_bytes) == (Ending.DONE, 0)
    assert outcome.freed_after_purge_bytes == 1024
    moved = library.root / ".dedup/quarantine/1/1"
    assert moved.stat().st_ino == inode
    now = library.look()
    assert set(was) - set(now) == {str(library.path("in/dup.jpg"))}
    assert all(now[name] == was[name] for name in now if not os.path.isdir(name))
    assert library.states() == {(1, 1): DONE}


def test_a_hard_link_shares_the_inode_of_the_keeper_and_the_old_file_lies_in_quarantine(
    library: Acted,
) -> None:
    inode = library.path("in/dup.jpg").stat().st_ino
    assert (
        only(library.apply(library.operation("in/dup.jpg", "keep.jpg", Act.HARDLINK))).ending is Ending.DONE
    )
    dup, keep = library.path("in/dup.jpg").stat(), library.path("keep.jpg").stat()
    assert (dup.st_ino, dup.st_nlink) == (keep.st_ino, 2)
    assert (library.root / ".dedup/quarantine/1/1").stat().st_ino == inode
    assert sorted(os.listdir(library.path("in/dup.jpg").parent)) == ["dup.jpg"]


def test_the_name_is_never_absent_while_it_becomes_a_link(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []

    def counted(name: str) -> Callable[..., Any]:
        real = getattr(syscalls, name)

        def call(*words: Any) -> Any:
            called.append(name)
            return real(*words)

        return call

    for name in ("exchange", "rename_to_free"):
        monkeypatch.setattr(syscalls, name, counted(name))
    library.apply(library.operation("in/dup.jpg", "keep.jpg", Act.HARDLINK))
    probed = 2  # the probe exchanges once, and renames to a free name and back and to one that is taken
    assert called.count("exchange") == probed
    assert called.count("rename_to_free") == 3


def test_the_quarantine_is_private(library: Acted) -> None:
    library.apply(library.operation("in/dup.jpg", "keep.jpg"))
    for folder in (".dedup", ".dedup/quarantine", ".dedup/quarantine/1"):
        assert stat.S_IMODE((library.root / folder).stat().st_mode) == 0o700


def test_the_folder_of_our_own_does_not_change_the_time_of_the_root(library: Acted) -> None:
    was = library.root.stat().st_mtime_ns
    library.apply(library.operation("in/dup.jpg", "keep.jpg"))
    assert library.root.stat().st_mtime_ns == was


def test_several_duplicates_of_one_keeper_become_links_of_it(library: Acted) -> None:
    for number in range(3):
        library.write(f"in/more{number}.jpg")
    names = ["in/dup.jpg", *(f"in/more{number}.jpg" for number in range(3))]
    operations = [
        library.operation(name, "keep.jpg", Act.HARDLINK, id=number) for number, name in enumerate(names, 1)
    ]
    assert [outcome.ending for outcome in library.apply(*operations)] == [Ending.DONE] * 4
    assert library.path("keep.jpg").stat().st_nlink == 5


def test_all_names_of_a_linked_duplicate_go(library: Acted) -> None:
    os.link(library.path("in/dup.jpg"), library.path("in/again.jpg"))
    operations = [
        library.operation(name, "keep.jpg", Act.HARDLINK, id=number)
        for number, name in enumerate(("in/dup.jpg", "in/again.jpg"), 1)
    ]
    assert [outcome.ending for outcome in library.apply(*operations)] == [Ending.DONE] * 2
    assert library.path("keep.jpg").stat().st_nlink == 3


def test_companions_go_with_it(library: Acted) -> None:
    library.write("in/dup.xmp", b"stars")
    library.write("keep.xmp", b"stars")
    operation = library.operation("in/dup.jpg", "keep.jpg", along=[("in/dup.xmp", "keep.xmp")])
    assert only(library.apply(operation)).ending is Ending.DONE
    assert sorted(library.quarantined()) == [".dedup/quarantine/1/1", ".dedup/quarantine/1/1.1"]
    assert os.listdir(library.path("in/dup.jpg").parent) == []


def test_folders_are_waited_for_once_a_batch_and_ends_come_after(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = BATCH + 6
    for number in range(count):
        library.write(f"many/{number}.jpg")
    operations = [library.operation(f"many/{n}.jpg", "keep.jpg", id=n + 1) for n in range(count)]
    folder = library.path("many/0.jpg").parent.stat().st_ino
    told: list[str] = []
    real_sync, real_append = os.fsync, Journal.append

    def sync(fd: int) -> None:
        if os.fstat(fd).st_ino == folder:
            told.append("folder")
        real_sync(fd)

    def append(journal: Journal, *records: Any) -> None:
        real_append(journal, *records)
        told.extend(record["kind"] for record in records)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Journal, "append", append)
    library.apply(*operations)
    assert told.count("folder") == 2
    assert told[:1] == ["journal"]
    acts = [word for word in told if word in ("intent", "done", "folder")]
    assert (
        acts
        == ["intent"] * BATCH + ["folder"] + ["done"] * BATCH + ["intent"] * 6 + ["folder"] + ["done"] * 6
    )


def test_the_intention_is_on_the_disk_before_anything_moves(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[tuple[int, int], str]] = []
    before(monkeypatch, steps, "put_away", lambda: seen.append(library.states()))
    library.apply(library.operation("in/dup.jpg", "keep.jpg"))
    assert seen == [{(1, 1): BEGUN}]


@BOTH_ACTS
def test_if_the_intention_cannot_be_written_nothing_happens(
    library: Acted, monkeypatch: pytest.MonkeyPatch, act: Act
) -> None:
    was, real = library.look(), Journal.append

    def fails(journal: Journal, *records: Any) -> None:
        if records[0]["kind"] == "intent":
            raise Unsafe("no space")
        real(journal, *records)

    operation = library.operation("in/dup.jpg", "keep.jpg", act)
    monkeypatch.setattr(Journal, "append", fails)
    with pytest.raises(Unsafe):
        library.apply(operation)
    assert library.look() == was


def test_the_same_plan_again_does_nothing_more(library: Acted) -> None:
    plan = library.plan(library.operation("in/dup.jpg", "keep.jpg"))
    library.carry_out(plan)
    was = library.look()
    again = only(library.carry_out(plan))
    assert (again.ending, again.reason) == (Ending.DONE, "done before, by run 1")
    assert library.look() == was
    assert set(library.states()) == {(1, 1)}


@BOTH_ACTS
def test_after_an_undo_the_same_plan_can_be_applied_again(library: Acted, act: Act) -> None:
    plan = library.plan(library.operation("in/dup.jpg", "keep.jpg", act))
    library.carry_out(plan)
    library.undo()
    assert only(library.carry_out(plan)).ending is Ending.DONE


def test_runs_are_numbered_beyond_what_lies_in_quarantine_already(library: Acted) -> None:
    (library.root / ".dedup/quarantine/41").mkdir(parents=True)
    library.apply(library.operation("in/dup.jpg", "keep.jpg"))
    assert list(library.quarantined()) == [".dedup/quarantine/42/1"]


def test_where_nothing_was_done_no_trace_is_left(library: Acted) -> None:
    operation = library.operation("in/dup.jpg", "keep.jpg")
    library.path("in/dup.jpg").write_bytes(b"other")
    was = library.look()
    refused(library.apply(operation), "changed since the plan")
    assert library.look() == was
    assert not (library.root / ".dedup").exists()


# --- files that are not what was planned ------------------------------------------------------------------------------


@BOTH_ACTS
@pytest.mark.parametrize("which", ["in/dup.jpg", "keep.jpg"])
@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"longer than before" * 99),
        lambda path: os.utime(path, ns=(1, 1)),
        lambda path: edit_quietly(path, edited(path)),
        lambda path: path.chmod(0o600),
        lambda path: save_over(path, path.read_bytes()),
        lambda path: path.unlink(),
        lambda path: os.link(path, path.with_name("second.jpg")),
    ],
    ids=["content", "time", "quietly", "mode", "another file", "gone", "linked"],
)
def test_a_file_that_changed_since_the_plan_is_left_alone(
    library: Acted, act: Act, which: str, change: Callable[[Path], object]
) -> None:
    operation = library.operation("in/dup.jpg", "keep.jpg", act)
    change(library.path(which))
    was = library.look()
    assert only(library.apply(operation)).ending is Ending.REFUSED
    assert library.look() == was
    assert library.states() in ({}, {(1, 1): ABORTED})


@pytest.mark.parametrize("which", ["in/dup.jpg", "keep.jpg"])
def test_attributes_are_compared_with_the_plan(library: Acted, which: str) -> None:
    """As if their change had not moved the time of change."""
    operation = library.operation("in/dup.jpg", "keep.jpg")
    part = "dup" if which == "in/dup.jpg" else "keep"
    operation = replace(operation, **{part: replace(getattr(operation, part), xattrs=b"x" * 32)})
    refused(library.apply(operation), "attributes")


@pytest.mark.parametrize("relation", [BYTES, PIXELS])
@pytest.mark.parametrize("part", ["dup", "keep"])
def test_the_digest_of_the_plan_is_held_against_the_bytes(
    library: Acted, relation: Relation, part: str
) -> None:
    operation = library.operation("in/dup.jpg", "keep.jpg", relation=relation)
    wrong = replace(operation, **{part: replace(getattr(operation, part), digest=b"0" * 32)})
    refused(library.apply(wrong), "the bytes that were planned for")
    assert library.path("in/dup.jpg").exists()


@BOTH_ACTS
def test_same_bytes_are_compared_byte_for_byte_whatever_the_digests_say(library: Acted, act: Act) -> None:
    library.write("in/liar.jpg", b"THE same picture" * 64)
    operation = library.operation("in/liar.jpg", "keep.jpg", act)
    operation = replace(operation, dup=replace(operation.dup, digest=operation.keep.digest))
    refused(library.apply(operation), "same bytes")
    assert library.path("in/liar.jpg").exists()


def test_a_longer_file_does_not_hold_the_same_bytes(library: Acted) -> None:
    library.write("in/longer.jpg", b"the same picture" * 65)
    operation = library.operation("in/longer.jpg", "keep.jpg")
    operation = replace(operation, dup=replace(operation.dup, digest=operation.keep.digest))
    refused(library.apply(operation), "same bytes")


@BOTH_ACTS
def test_two_names_of_one_file_are_not_a_pair(library: Acted, act: Act) -> None:
    os.link(library.path("keep.jpg"), library.path("in/link.jpg"))
    refused(library.apply(library.operation("in/link.jpg", "keep.jpg", act)), "the same file")
    assert library.path("in/link.jpg").exists()


def test_a_file_that_is_open_for_writing_elsewhere_is_left_alone(library: Acted) -> None:
    operation = library.operation("in/dup.jpg", "keep.jpg")
    with library.path("in/dup.jpg").open("r+b"):
        refused(library.apply(operation), "written to by another program")
    assert library.states() == {}
    assert only(library.apply(operation)).ending is Ending.DONE


def test_a_writer_that_comes_while_it_is_read_is_noticed(library: Acted) -> None:
    def opens(_dup: int, _keep: int, _operation: Operation) -> str:
        # Without waiting: the lease makes the opener wait until it is released.
        with pytest.raises(BlockingIOError):
            os.open(library.path("in/dup.jpg"), os.O_WRONLY | os.O_NONBLOCK)
        return ""

    operation = library.operation("in/dup.jpg", "keep.jpg", relation=PIXELS)
    refused(library.apply(operation, confirm=opens), "opened for writing")


def test_a_change_while_it_is_read_is_noticed(library: Acted) -> None:
    def touches(_dup: int, _keep: int, _operation: Operation) -> str:
        os.utime(library.path("keep.jpg"), ns=(5, 5))
        return ""

    operation = library.operation("in/dup.jpg", "keep.jpg", relation=PIXELS)
    refused(library.apply(operation, confirm=touches), "changed")
    assert library.path("in/dup.jpg").exists()
    assert library.states() == {}


def test_what_is_no_plain_file_any_more_is_refused_before_it_is_opened(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To open a device, or the other end of a pipe, may be a deed of its own."""
    operation = library.operation("in/dup.jpg", "keep.jpg")
    library.path("in/dup.jpg").unlink()
    os.mkfifo(library.path("in/dup.jpg"))
    opened: list[Any] = []
    real = os.open

    def note(path: Any, *words: Any, **more: Any) -> int:
        opened.append(path)
        return real(path, *words, **more)

    monkeypatch.setattr(os, "open", note)
    refused(library.apply(operation), "no longer a plain file")
    assert b"keep.jpg" in opened
    assert b"dup.jpg" not in opened


def test_another_inode_than_the_planned_one_is_another_file(library: Acted) -> None:
    """As if everything else that a file system says of it were the same."""
    operation = library.operation("in/dup.jpg", "keep.jpg")
    for part in ("dup", "keep"):
        planned = getattr(operation, part)
        for change in ({"inode": planned.inode + 1}, {"device": planned.device + 1}):
            wrong = replace(operation, **{part: replace(planned, **change)})
            refused(library.apply(wrong), "another file than when the plan was made")


def test_a_link_in_the_place_of_the_file_is_refused(library: Acted, tmp_path: Path) -> None:
    operation = library.operation("in/dup.jpg", "keep.jpg")
    outside = tmp_path / "outside.jpg"
    library.path("in/dup.jpg").rename(outside)
    library.path("in/dup.jpg").symlink_to(outside)
    assert only(library.apply(operation)).ending is Ending.REFUSED
    assert outside.exists()


@pytest.mark.parametrize("walks", [False, True], ids=["openat2", "walk"])
def test_a_link_in_the_place_of_a_folder_is_refused(
    library: Acted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, walks: bool
) -> None:
    monkeypatch.setattr(syscalls, "_beneath_works", not walks)
    library.write("high/deep/dup.jpg")
    for name, folder in (("in/dup.jpg", "in"), ("high/deep/dup.jpg", "high")):
        operation = library.operation(name, "keep.jpg")
        outside = tmp_path / f"outside {folder}"
        library.path(folder).rename(outside)
        library.path(folder).symlink_to(outside)
        refused(library.apply(operation), "symbolic link")
        assert list(outside.rglob("dup.jpg"))


@BOTH_ACTS
def test_a_file_that_is_saved_over_before_the_act_is_not_even_moved(
    library: Acted, monkeypatch: pytest.MonkeyPatch, act: Act
) -> None:
    """What need not be taken back cannot fail to be."""
    dup = library.path("in/dup.jpg")
    operation = library.operation("in/dup.jpg", "keep.jpg", act)
    real, moved = Journal.append, []

    def append(journal: Journal, *records: Any) -> None:
        real(journal, *records)
        if records[0]["kind"] == "intent":
            save_over(dup, b"newer")
            # As on file systems where the time of change says nothing of it.
            monkeypatch.setattr(Holder, "check", lambda *_: None)
            # From here on every change of a name is one too many; the probe is over.
            for module, name in ((steps, "put_away"), (syscalls, "exchange")):
                monkeypatch.setattr(module, name, lambda *words: moved.append(words))

    monkeypatch.setattr(Journal, "append", append)
    refused(library.apply(operation), "replaced while this ran")
    assert moved == []
    assert dup.read_bytes() == b"newer"


def test_a_folder_that_is_swapped_in_the_last_moment_is_noticed(
    library: Acted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()

    def swap() -> None:
        library.path("in").rename(tmp_path / "aside")
        library.path("in").symlink_to(outside)

    operation = library.operation("in/dup.jpg", "keep.jpg")
    real = Journal.append

    def append(journal: Journal, *records: Any) -> None:
        real(journal, *records)
        if records[0]["kind"] == "intent":
            swap()

    monkeypatch.setattr(Journal, "append", append)
    refused(library.apply(operation), "replaced while this ran")
    assert (tmp_path / "aside/dup.jpg").exists()
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(
    "path", [b"../x.jpg", b"in/../keep.jpg", b"./keep.jpg", b"in//dup.jpg", b"/etc/passwd"]
)
def test_a_path_that_leaves_its_folder_is_never_opened(library: Acted, path: bytes) -> None:
    fd = os.open(library.root, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Invalid argument"):
            syscalls.open_beneath(fd, path, syscalls.FILE_FLAGS)
    finally:
        os.close(fd)


def test_paths_longer_than_the_system_takes_at_once_work(library: Acted) -> None:
    parts: list[str] = []
    here = os.open(library.root, os.O_RDONLY)
    for number in range(25):
        name = f"{number:02d}" + "n" * 200
        os.mkdir(name, dir_fd=here)
        deeper = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here, parts = deeper, [*parts, name]
    os.close(here)
    fd = syscalls.open_beneath(
        os.open(library.root, os.O_RDONLY), "/".join(parts).encode(), syscalls.FOLDER_FLAGS
    )
    assert stat.S_ISDIR(os.fstat(fd).st_mode)
    os.close(fd)


# --- relations and acts ----------------------------------------------------------------------------------------------


def test_pictures_are_confirmed_again_on_the_very_descriptors(library: Acted) -> None:
    seen: list[tuple[int, int]] = []

    def confirm(dup: int, keep: int, _operation: Operation) -> str:
        seen.append((os.fstat(dup).st_ino, os.fstat(keep).st_ino))
        return ""

    library.write("in/small.jpg", b"smaller")
    operation = library.operation("in/small.jpg", "keep.jpg", relation=PICTURE)
    expected = (library.path("in/small.jpg").stat().st_ino, library.path("keep.jpg").stat().st_ino)
    assert only(library.apply(operation, confirm=confirm)).ending is Ending.DONE
    assert seen == [expected]


@pytest.mark.parametrize("relation", [PIXELS, PICTURE, EDITED])
def test_what_is_not_confirmed_again_stays(library: Acted, relation: Relation) -> None:
    library.write("in/small.jpg", b"smaller")
    operation = library.operation("in/small.jpg", "keep.jpg", relation=relation, decided=True)
    refused(library.apply(operation, confirm=lambda *_: "it is not the same"), "it is not the same")
    assert library.path("in/small.jpg").exists()


@pytest.mark.parametrize("relation", [EDITED, Relation.SIMILAR])
def test_edited_and_similar_are_never_acted_on_unasked(library: Acted, relation: Relation) -> None:
    decided = relation is Relation.SIMILAR
    operation = library.operation("in/dup.jpg", "keep.jpg", relation=relation, decided=decided)
    refused(library.apply(operation), "decision")


@pytest.mark.parametrize("act", [Act.HARDLINK, Act.REFLINK])
@pytest.mark.parametrize("relation", [PIXELS, PICTURE, EDITED])
def test_only_the_same_bytes_are_linked(library: Acted, act: Act, relation: Relation) -> None:
    operation = library.operation("in/dup.jpg", "keep.jpg", act, relation=relation, decided=True)
    refused(library.apply(operation), "same bytes")
    assert library.path("in/dup.jpg").stat().st_nlink == 1


@pytest.mark.parametrize("what", ["permissions", "owner", "attributes"])
def test_a_link_that_would_lose_metadata_needs_a_word(library: Acted, what: str) -> None:
    dup = library.path("in/dup.jpg")
    if what == "permissions":
        dup.chmod(0o640)
    elif what == "owner":
        if os.geteuid() != 0:
            pytest.skip("only root gives files away")
        os.chown(dup, 1234, 1234)
    else:
        try:
            os.setxattr(dup, b"user.note", b"mine")
        except OSError:
            pytest.skip("no extended attributes here")
    operation = library.operation("in/dup.jpg", "keep.jpg", Act.HARDLINK)
    refused(library.apply(operation), what)
    was = library.look()
    assert only(library.apply(replace(operation, losses=("its mode",)))).ending is Ending.DONE
    library.undo(2)
    assert library.look() == was


def test_another_time_never_stands_in_the_way_of_a_link(library: Acted) -> None:
    os.utime(library.path("in/dup.jpg"), ns=(7, 7))
    was = library.look()
    operation = library.operation("in/dup.jpg", "keep.jpg", Act.HARDLINK)
    assert only(library.apply(operation)).ending is Ending.DONE
    library.undo()
    assert library.look() == was


# --- somebody changes files during the act ----------------------------------------------------------------------------


def moment(act: Act) -> tuple[Any, str]:
    """The call that changes the name."""
    return (steps, "put_away") if act is Act.QUARANTINE else (syscalls, "exchange")


def real_moment(monkeypatch: pytest.MonkeyPatch, act: Act, deed: Callable[[], object], *, late: bool) -> None:
    """Before or after the call that changes the name, but not at the probe's."""
    module, name = moment(act)
    real = getattr(module, name)

    def call(one: Any, other: Any) -> None:
        probing = act is Act.HARDLINK and b"in" not in os.readlink(
            f"/proc/self/fd/{other[0]}"
        ).encode().split(b"/")
        if not probing:
            monkeypatch.setattr(module, name, real)
            if not late:
                deed()
        real(one, other)
        if not probing and late:
            deed()

    monkeypatch.setattr(module, name, call)


@BOTH_ACTS
@pytest.mark.parametrize("late", [False, True], ids=["right before", "right after"])
def test_an_edit_in_place_with_time_and_size_put_back_survives(
    library: Acted, monkeypatch: pytest.MonkeyPatch, act: Act, late: bool
) -> None:
    dup = library.path("in/dup.jpg")
    content = edited(dup)
    status = dup.stat()
    place = library.root / ".dedup/quarantine/1/1"

    def edit() -> None:
        edit_quietly(place if late else dup, content)

    operation = library.operation("in/dup.jpg", "keep.jpg", act)
    real_moment(monkeypatch, act, edit, late=late)
    assert only(library.apply(operation)).ending is Ending.REFUSED
    assert dup.read_bytes() == content
    assert dup.stat().st_ino == status.st_ino
    assert library.quarantined() == {}


@BOTH_ACTS
def test_a_file_that_is_saved_over_right_before_goes_back(
    library: Acted, monkeypatch: pytest.MonkeyPatch, act: Act
) -> None:
    dup = library.path("in/dup.jpg")
    operation = library.operation("in/dup.jpg", "keep.jpg", act)
    real_moment(monkeypatch, act, lambda: save_over(dup, b"newer"), late=False)
    refused(library.apply(operation), "replaced while this ran")
    assert dup.read_bytes() == b"newer"
    assert library.path("keep.jpg").stat().st_nlink == 1
    assert library.quarantined() == {}


def test_a_link_that_is_saved_over_right_after_is_not_taken_away(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    dup = library.path("in/dup.jpg")
    content = dup.read_bytes()
    operation = library.operation("in/dup.jpg", "keep.jpg", Act.HARDLINK)
    real_moment(monkeypatch, Act.HARDLINK, lambda: save_over(dup, b"newer"), late=True)
    outcome = only(library.apply(operation))
    assert outcome.ending is Ending.REFUSED
    assert dup.read_bytes() == b"newer"
    assert list(library.quarantined().values()) == [content]
    # What was there before can be had beside it.
    library.undo()
    assert (dup.parent / "dup (restored).jpg").read_bytes() == content
    assert dup.read_bytes() == b"newer"


def test_a_new_file_at_the_old_name_is_not_overwritten_by_taking_back(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    dup, keep = library.path("in/dup.jpg"), library.path("keep.jpg")
    content = dup.read_bytes()

    def meanwhile() -> None:
        dup.write_bytes(b"newer")
        keep.unlink()

    operation = library.operation("in/dup.jpg", "keep.jpg")
    real_moment(monkeypatch, Act.QUARANTINE, meanwhile, late=True)
    outcome = only(library.apply(operation))
    assert "replaced" in outcome.reason
    assert dup.read_bytes() == b"newer"
    assert list(library.quarantined().values()) == [content]


@BOTH_ACTS
@pytest.mark.parametrize(
    "deed",
    [
        lambda keep: keep.unlink(),
        lambda keep: save_over(keep, b"x"),
        lambda keep: edit_quietly(keep, edited(keep)),
    ],
    ids=["gone", "replaced", "edited quietly"],
)
def test_a_keeper_that_is_not_there_by_name_afterwards_brings_the_duplicate_back(
    library: Acted, monkeypatch: pytest.MonkeyPatch, act: Act, deed: Callable[[Path], object]
) -> None:
    dup = library.path("in/dup.jpg")
    content, inode = dup.read_bytes(), dup.stat().st_ino
    operation = library.operation("in/dup.jpg", "keep.jpg", act)
    real_moment(monkeypatch, act, lambda: deed(library.path("keep.jpg")), late=True)
    try:
        assert only(library.apply(operation)).ending is Ending.REFUSED
    except Unsafe:
        # The link was the last name of the keeper: that one is left for a person, as is its content.
        assert act is Act.HARDLINK
        assert set(library.quarantined().values()) == {content}
    assert dup.read_bytes() == content
    assert dup.stat().st_ino == inode


def test_a_keeper_that_is_edited_quietly_at_the_very_end_is_noticed(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes are not read again for pictures that are alike; its time of change tells."""
    operation = library.operation("in/dup.jpg", "keep.jpg", relation=PIXELS)
    keep = library.path("keep.jpg")
    before(monkeypatch, steps.Steps, "_look_for_keepers", lambda: edit_quietly(keep, edited(keep)))
    refused(library.apply(operation), "changed while this ran")
    assert library.path("in/dup.jpg").exists()


class Timeless:
    """What `fstat` says where the time of change says nothing."""

    st_ctime_ns = 0

    def __init__(self, status: os.stat_result) -> None:
        self._status = status

    def __getattr__(self, name: str) -> Any:
        return getattr(self._status, name)


def test_a_keeper_that_is_replaced_by_its_like_is_another_file(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.link(library.path("keep.jpg"), library.path("spare.jpg"))
    operation = library.operation("in/dup.jpg", "keep.jpg", Act.HARDLINK)
    keep, real = library.path("keep.jpg"), os.fstat

    def replaced() -> None:
        status, content = keep.stat(), keep.read_bytes()
        keep.unlink()
        keep.write_bytes(content)
        os.utime(keep, ns=(status.st_atime_ns, status.st_mtime_ns))
        monkeypatch.setattr(os, "fstat", lambda fd: Timeless(real(fd)))

    before(monkeypatch, steps.Steps, "_look_for_keepers", replaced)
    refused(library.apply(operation), "changed while this ran")
    assert library.path("in/dup.jpg").stat().st_nlink == 1


def test_the_link_is_looked_at_before_it_takes_the_name(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system that links something else than the file that was read."""

    def links_another(_file: int, _source: Any, target: tuple[int, bytes]) -> None:
        os.link(library.path("other.jpg"), target[1], dst_dir_fd=target[0])

    operation = library.operation("in/dup.jpg", "keep.jpg", Act.HARDLINK)
    monkeypatch.setattr(syscalls, "link_open_file", links_another)
    was = library.look()
    refused(library.apply(operation), "replaced while this ran")
    assert library.look() == was
    assert library.quarantined() == {}


def test_a_twin_that_vanishes_brings_everything_back(library: Acted, monkeypatch: pytest.MonkeyPatch) -> None:
    library.write("in/dup.xmp", b"stars")
    twin = library.write("keep.xmp", b"stars")
    operation = library.operation("in/dup.jpg", "keep.jpg", along=[("in/dup.xmp", "keep.xmp")])
    real_moment(monkeypatch, Act.QUARANTINE, twin.unlink, late=True)
    assert only(library.apply(operation)).ending is Ending.REFUSED
    assert sorted(os.listdir(library.path("in/dup.jpg").parent)) == ["dup.jpg", "dup.xmp"]


@pytest.mark.parametrize("which", ["in/dup.xmp", "keep.xmp"])
def test_a_companion_that_changed_keeps_the_photo_too(library: Acted, which: str) -> None:
    library.write("in/dup.xmp", b"stars")
    library.write("keep.xmp", b"stars")
    operation = library.operation("in/dup.jpg", "keep.jpg", along=[("in/dup.xmp", "keep.xmp")])
    edit_quietly(library.path(which), b"STARS")
    refused(library.apply(operation), "changed")
    assert library.path("in/dup.jpg").exists()


def test_a_sidecar_that_came_since_the_plan_keeps_the_photo(library: Acted) -> None:
    library.write("in/dup.xmp", b"stars")
    library.write("in/keep.jpg")
    hooks = Hooks(says_yes, no_progress, never, find_units)
    operations = {
        "without it": library.operation("in/dup.jpg", "keep.jpg"),
        "with it": library.operation("in/dup.jpg", "keep.jpg", along=[("in/dup.xmp", None)]),
    }
    refused(library.carry_out(library.plan(operations["without it"]), hooks), "dup.xmp belongs with it")
    library.write("in/dup.jpg.xmp", b"more")
    refused(library.carry_out(library.plan(operations["with it"]), hooks), "dup.jpg.xmp belongs with it")
    library.path("in/dup.jpg.xmp").unlink()
    assert only(library.carry_out(library.plan(operations["with it"]), hooks)).ending is Ending.DONE


def test_a_sidecar_of_both_stays_with_the_kept_one(library: Acted) -> None:
    library.write("in/one.jpg")
    library.write("in/one.png")
    library.write("in/one.xmp", b"of both")
    hooks = Hooks(says_yes, no_progress, never, find_units)
    operation = library.operation("in/one.png", "in/one.jpg")
    assert only(library.carry_out(library.plan(operation), hooks)).ending is Ending.DONE
    assert library.path("in/one.xmp").exists()


def test_a_link_leaves_every_name_so_that_partners_do_not_matter(library: Acted) -> None:
    library.write("in/dup.xmp", b"stars")
    hooks = Hooks(says_yes, no_progress, never, find_units)
    operation = library.operation("in/dup.jpg", "keep.jpg", Act.HARDLINK)
    assert only(library.carry_out(library.plan(operation), hooks)).ending is Ending.DONE


@pytest.mark.parametrize("part", ["file", "twin"])
def test_the_digests_of_companions_are_held_against_their_bytes(library: Acted, part: str) -> None:
    library.write("in/dup.xmp", b"stars")
    library.write("keep.xmp", b"stars")
    operation = library.operation("in/dup.jpg", "keep.jpg", along=[("in/dup.xmp", "keep.xmp")])
    (companion,) = operation.companions
    wrong = replace(companion, **{part: replace(getattr(companion, part), digest=b"0" * 32)})
    refused(library.apply(replace(operation, companions=(wrong,))), "the bytes that were planned for")


def test_if_a_companion_cannot_go_the_photo_comes_back(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.write("in/dup.xmp", b"stars")
    was = library.look()
    operation = library.operation("in/dup.jpg", "keep.jpg", along=[("in/dup.xmp", None)])
    real, calls = moves.put_away, []

    def fails_once(name: Any, place: Any) -> None:
        calls.append(name)
        if len(calls) == 2:
            raise OSError(errno.EIO, "Input/output error")
        real(name, place)

    monkeypatch.setattr(steps, "put_away", fails_once)
    refused(library.apply(operation), "Input/output error")
    assert library.look() == was
    assert library.states() == {(1, 1): ABORTED}


def test_a_place_in_quarantine_that_is_taken_is_not_overwritten(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = library.operation("in/dup.jpg", "keep.jpg")
    place = library.root / ".dedup/quarantine/1/1"
    after(monkeypatch, places.Places, "make_run_folder", lambda: place.write_bytes(b"mine"))
    refused(library.apply(operation), "already")
    assert place.read_bytes() == b"mine"
    assert library.path("in/dup.jpg").exists()


# --- the disk ---------------------------------------------------------------------------------------------------------


@BOTH_ACTS
@pytest.mark.parametrize("number", [errno.EXDEV, errno.EIO, errno.EACCES, errno.ENOSPC, errno.EMLINK])
def test_what_the_system_refuses_is_refused_and_the_rest_goes_on(
    library: Acted, monkeypatch: pytest.MonkeyPatch, act: Act, number: int
) -> None:
    library.write("in/two.jpg")
    was = library.look()
    operations = [
        library.operation(f"in/{name}.jpg", "keep.jpg", act, id=n) for n, name in ((1, "dup"), (2, "two"))
    ]
    name = "put_away" if act is Act.QUARANTINE else "link_open_file"
    module: Any = steps if act is Act.QUARANTINE else syscalls
    real, calls = getattr(module, name), []

    def fails_once(*words: Any) -> None:
        calls.append(words)
        if len(calls) == 1:
            raise OSError(number, os.strerror(number))
        real(*words)

    monkeypatch.setattr(module, name, fails_once)
    outcomes = library.apply(*operations)
    assert [outcome.ending for outcome in outcomes] == [Ending.REFUSED, Ending.DONE]
    assert library.look()[str(library.path("in/dup.jpg"))] == was[str(library.path("in/dup.jpg"))]
    assert library.states() == {(1, 1): ABORTED, (1, 2): DONE}


@BOTH_ACTS
def test_a_folder_that_cannot_be_brought_to_the_disk_takes_it_back(
    library: Acted, monkeypatch: pytest.MonkeyPatch, act: Act
) -> None:
    was = library.look()
    failed: list[int] = []
    folder, real = library.path("in").stat().st_ino, os.fsync

    def fails_once(fd: int) -> None:
        if os.fstat(fd).st_ino == folder and not failed:
            failed.append(fd)
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    operation = library.operation("in/dup.jpg", "keep.jpg", act)
    monkeypatch.setattr(os, "fsync", fails_once)
    refused(library.apply(operation), "could not be waited for")
    now = library.look()
    assert now[str(library.path("in/dup.jpg"))] == was[str(library.path("in/dup.jpg"))]
    assert library.states() == {(1, 1): ABORTED}


def test_without_the_word_of_the_disk_there_is_no_end(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, real = library.path("in").stat().st_ino, os.fsync

    def fails(fd: int) -> None:
        if os.fstat(fd).st_ino == folder:
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    operation = library.operation("in/dup.jpg", "keep.jpg")
    monkeypatch.setattr(os, "fsync", fails)
    assert only(library.apply(operation)).ending is Ending.REFUSED
    assert library.states() == {(1, 1): BEGUN}


def test_a_taking_back_that_fails_is_loud_and_names_both_places(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    operation = library.operation("in/dup.jpg", "keep.jpg")
    real_moment(monkeypatch, Act.QUARANTINE, library.path("keep.jpg").unlink, late=True)
    monkeypatch.setattr(steps, "give_back", fails)
    with pytest.raises(Unsafe) as loud:
        library.apply(operation)
    assert str(library.path("in/dup.jpg")) in str(loud.value)
    assert ".dedup/quarantine/1/1" in str(loud.value)
    assert library.states() == {(1, 1): BEGUN}


def test_a_root_that_cannot_be_written_is_refused_before_the_first_act(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    operation = library.operation("in/dup.jpg", "keep.jpg")
    monkeypatch.setattr(own, "lock_root", fails)
    refused(library.apply(operation), "nothing can be written")
    assert library.states() == {}


def test_no_space_for_our_own_folder_stops_everything(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    operation = library.operation("in/dup.jpg", "keep.jpg")
    monkeypatch.setattr(own, "lock_root", fails)
    with pytest.raises(Unsafe, match="no space"):
        library.apply(operation)


# --- file systems that can do less ------------------------------------------------------------------------------------


def test_without_an_exchange_the_file_moves_first_and_the_link_refuses_to_overwrite(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "_can_exchange", lambda *_: False)
    was = library.look()
    assert (
        only(library.apply(library.operation("in/dup.jpg", "keep.jpg", Act.HARDLINK))).ending is Ending.DONE
    )
    assert library.path("in/dup.jpg").stat().st_ino == library.path("keep.jpg").stat().st_ino
    library.undo()
    assert library.look() == was


def test_without_an_exchange_a_new_file_at_the_name_is_not_overwritten(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "_can_exchange", lambda *_: False)
    dup = library.path("in/dup.jpg")
    content = dup.read_bytes()
    operation = library.operation("in/dup.jpg", "keep.jpg", Act.HARDLINK)
    before(monkeypatch, syscalls, "link_open_file", lambda: dup.write_bytes(b"newer"))
    assert only(library.apply(operation)).ending is Ending.REFUSED
    assert dup.read_bytes() == b"newer"
    assert list(library.quarantined().values()) == [content]


def test_without_an_exchange_a_keeper_that_goes_brings_the_duplicate_back(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "_can_exchange", lambda *_: False)
    dup = library.path("in/dup.jpg")
    inode = dup.stat().st_ino
    os.link(library.path("keep.jpg"), library.path("spare.jpg"))
    operation = library.operation("in/dup.jpg", "keep.jpg", Act.HARDLINK)
    after(monkeypatch, syscalls, "link_open_file", library.path("keep.jpg").unlink)
    assert only(library.apply(operation)).ending is Ending.REFUSED
    assert dup.stat().st_ino == inode


@BOTH_ACTS
def test_without_a_rename_that_keeps_the_name_in_quarantine_is_one_nobody_knows(
    library: Acted, monkeypatch: pytest.MonkeyPatch, act: Act
) -> None:
    monkeypatch.setattr(own, "_can_keep", lambda *_: False)
    was = library.look()
    assert only(library.apply(library.operation("in/dup.jpg", "keep.jpg", act))).ending is Ending.DONE
    (name,) = library.quarantined()
    assert len(os.path.basename(name)) > 20
    library.undo()
    assert library.look() == was


def test_without_a_rename_that_keeps_nothing_is_overwritten_on_the_way_back(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "_can_keep", lambda *_: False)
    dup = library.path("in/dup.jpg")
    content = dup.read_bytes()
    library.apply(library.operation("in/dup.jpg", "keep.jpg"))
    dup.write_bytes(b"newer")
    library.undo()
    assert dup.read_bytes() == b"newer"
    assert (dup.parent / "dup (restored).jpg").read_bytes() == content


def test_without_hard_links_nothing_else_is_done_in_their_place(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "_can_link", lambda *_: False)
    was = library.look()
    refused(library.apply(library.operation("in/dup.jpg", "keep.jpg", Act.HARDLINK)), "no hard links")
    assert library.look() == was
    assert only(library.apply(library.operation("in/dup.jpg", "keep.jpg"))).ending is Ending.DONE


def test_where_nothing_could_be_given_back_nothing_is_taken(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "_can_link", lambda *_: False)
    monkeypatch.setattr(own, "_can_keep", lambda *_: False)
    refused(library.apply(library.operation("in/dup.jpg", "keep.jpg")), "neither rename without overwriting")


def test_blocks_are_not_shared_by_anything_but_the_kernel(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: Any) -> tuple[int, int]:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    was = library.look()
    monkeypatch.setattr(syscalls, "share_range", unknown)
    refused(library.apply(library.operation("in/dup.jpg", "keep.jpg", Act.REFLINK)), "cannot share blocks")
    assert library.look() == was


def test_a_range_that_differs_is_believed(library: Acted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls, "share_range", lambda *_: (0, syscalls.RANGE_DIFFERS))
    refused(library.apply(library.operation("in/dup.jpg", "keep.jpg", Act.REFLINK)), "same bytes")


def test_shared_blocks_leave_every_name_and_free_space_at_once(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    def shares(_keep: int, _dup: int, offset: int, length_bytes: int) -> tuple[int, int]:
        asked.append((offset, length_bytes))
        return min(length_bytes, 1000), 0

    was = library.look()
    monkeypatch.setattr(syscalls, "share_range", shares)
    outcome = only(library.apply(library.operation("in/dup.jpg", "keep.jpg", Act.REFLINK)))
    assert (outcome.ending, outcome.freed_now_bytes, outcome.freed_after_purge_bytes) == (
        Ending.DONE,
        1024,
        0,
    )
    assert asked == [(0, 1024), (1000, 24)]
    assert library.look() == was
    assert only(library.undo()).ending is Ending.UNDONE
    assert library.look() == was


# --- who may act where ------------------------------------------------------------------------------------------------


@BOTH_ACTS
@pytest.mark.parametrize("folder", ["in", ".", "in/dup.jpg"])
def test_protected_places_are_left_alone(library: Acted, act: Act, folder: str) -> None:
    operation = library.operation("in/dup.jpg", "keep.jpg", act)
    was = library.look()
    outcome = only(library.apply(operation, protect=[library.root / folder]))
    assert "protected" in outcome.reason
    assert library.look() == was
    assert not (library.root / ".dedup").exists()


def test_a_protected_root_is_never_written_to(library: Acted, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    operation, real = library.operation("in/dup.jpg", "keep.jpg"), os.mkdir

    def note(path: Any, *words: Any, **more: Any) -> None:
        made.append(path)
        real(path, *words, **more)

    monkeypatch.setattr(os, "mkdir", note)
    refused(library.apply(operation, protect=[library.root]), "protected")
    assert b".dedup" not in made


def test_a_protected_folder_is_known_by_its_path_even_if_it_cannot_be_looked_at(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, real = os.fsencode(library.path("in")), os.stat

    def refuses(path: Any, *words: Any, **more: Any) -> os.stat_result:
        if path == folder:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *words, **more)

    operation = library.operation("in/dup.jpg", "keep.jpg")
    monkeypatch.setattr(os, "stat", refuses)
    refused(library.apply(operation, protect=[library.path("in")]), "protected")


def test_a_protected_folder_is_known_under_another_name(library: Acted, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    other.symlink_to(library.path("in"))
    refused(library.apply(library.operation("in/dup.jpg", "keep.jpg"), protect=[other]), "protected")


def test_what_a_plan_protects_is_protected(library: Acted) -> None:
    library.protected = (os.fsencode(library.path("in")),)
    refused(library.apply(library.operation("in/dup.jpg", "keep.jpg")), "protected")


def test_no_link_ties_a_name_to_a_protected_photo(library: Acted) -> None:
    library.write("safe/keep.jpg")
    safe = library.path("safe")
    refused(
        library.apply(library.operation("in/dup.jpg", "safe/keep.jpg", Act.HARDLINK), protect=[safe]),
        "protected",
    )
    operation = library.operation("in/dup.jpg", "safe/keep.jpg")
    assert only(library.apply(operation, protect=[safe])).ending is Ending.DONE


def test_a_root_that_only_holds_keepers_is_never_written_to(tmp_path: Path) -> None:
    library = Acted(tmp_path, ("photos", "masters"))
    library.write("0:dup.jpg")
    library.write("1:keep.jpg")
    was = os.stat(library.roots[1])
    assert only(library.apply(library.operation("0:dup.jpg", "1:keep.jpg"))).ending is Ending.DONE
    now = os.stat(library.roots[1])
    assert (was.st_mtime_ns, was.st_ctime_ns) == (now.st_mtime_ns, now.st_ctime_ns)
    assert os.listdir(library.roots[1]) == ["keep.jpg"]


@BOTH_ACTS
def test_two_roots_that_are_one_folder_are_no_two_places(tmp_path: Path, act: Act) -> None:
    library = Acted(tmp_path)
    library.write("keep.jpg")
    library.write("dup.jpg")
    alias = tmp_path / "alias"
    alias.symlink_to(library.root)
    library.roots.append(alias)
    was = library.look()
    refused(library.apply(library.operation("0:dup.jpg", "1:keep.jpg", act)), "one folder under two names")
    assert library.look() == was


def test_the_token_of_a_probe_tells_that_two_roots_are_one(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind a second mount with another number: the folders' own identity says nothing."""
    other = library.home / "other"
    other.mkdir()
    library.roots.append(other)
    library.write("1:keep.jpg")
    monkeypatch.setattr(own, "sees", lambda fd, root: os.fstat(fd).st_ino == os.stat(other).st_ino)
    refused(library.apply(library.operation("0:in/dup.jpg", "1:keep.jpg")), "one folder under two names")
    # The same pair within one of the two is no cross pair.
    assert only(library.apply(library.operation("0:in/dup.jpg", "0:keep.jpg"))).ending is Ending.DONE


def test_a_root_that_shows_a_protected_folder_is_left_alone(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    safe = library.home / "safe"
    safe.mkdir()
    monkeypatch.setattr(own, "sees", lambda *_: True)
    refused(library.apply(library.operation("in/dup.jpg", "keep.jpg"), protect=[safe]), "protected folder")


def test_another_mount_of_the_root_is_refused(library: Acted) -> None:
    plan = library.plan(library.operation("in/dup.jpg", "keep.jpg"))
    moved = replace(plan, roots=(replace(plan.roots[0], device=plan.roots[0].device + 1),))
    refused(library.carry_out(moved), "another folder than it was")


def test_a_root_that_is_not_there_is_said_to_be_so(library: Acted) -> None:
    plan = library.plan(library.operation("in/dup.jpg", "keep.jpg"))
    library.root.rename(library.home / "gone")
    refused(library.carry_out(plan), "cannot be opened")


def test_the_lock_of_a_root_is_held_during_the_act(library: Acted) -> None:
    held: list[bool] = []

    def confirm(_dup: int, _keep: int, _operation: Operation) -> str:
        with pytest.raises(Busy), places.Places(library.plan().roots, same_mount=True) as other:
            other.take([0])
        with pytest.raises(Busy):
            library.journal()
        held.append(True)
        return ""

    operation = library.operation("in/dup.jpg", "keep.jpg", relation=PIXELS)
    assert only(library.apply(operation, confirm=confirm)).ending is Ending.DONE
    assert held == [True]


def test_a_root_that_is_locked_stops_everything_before_the_first_act(library: Acted) -> None:
    operation = library.operation("in/dup.jpg", "keep.jpg")
    was = library.look()
    with places.Places(library.plan().roots, same_mount=True) as other:
        other.take([0])
        with pytest.raises(Busy):
            library.apply(operation)
    assert library.look() == was
    assert library.states() == {}


def test_a_lock_whose_file_was_removed_meanwhile_does_not_count(
    library: Acted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever had it has tidied up between our opening it and our locking it."""
    folder = library.root / ".dedup"
    done: list[bool] = []
    real = fcntl.flock

    def flock(fd: int, how: int) -> None:
        if not done and folder.exists() and "lock" in os.readlink(f"/proc/self/fd/{fd}"):
            done.append(True)
            (folder / "lock").unlink()
            folder.rmdir()
        real(fd, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with places.Places(library.plan().roots, same_mount=True) as mine:
        mine.take([0])
        with pytest.raises(Busy), places.Places(library.plan().roots, same_mount=True) as other:
            other.take([0])
    assert done == [True]


# --- stopping ---------------------------------------------------------------------------------------------------------


def test_a_wish_to_stop_is_heard_between_operations(library: Acted) -> None:
    library.write("in/two.jpg")
    operations = [
        library.operation(f"in/{name}.jpg", "keep.jpg", id=n) for n, name in ((1, "dup"), (2, "two"))
    ]
    done: list[int] = []
    hooks = Hooks(says_yes, lambda _stage, at, _total: done.append(at), lambda: len(done) > 1)
    outcomes = library.carry_out(library.plan(*operations), hooks)
    assert [outcome.ending for outcome in outcomes] == [Ending.DONE]
    assert library.path("in/two.jpg").exists()
    assert library.states() == {(1, 1): DONE}


def test_a_wish_to_stop_while_files_are_read_leaves_them_alone(library: Acted) -> None:
    asked: list[int] = []

    def stopping() -> bool:
        asked.append(1)
        return len(asked) > 1

    was = library.look()
    operation = library.operation("in/dup.jpg", "keep.jpg")
    assert library.apply(operation, stopping=stopping) == []
    assert library.look() == was


@BOTH_ACTS
def test_a_wish_to_stop_during_the_act_waits_for_its_end(
    library: Acted, monkeypatch: pytest.MonkeyPatch, act: Act
) -> None:
    stop: list[bool] = []
    operation = library.operation("in/dup.jpg", "keep.jpg", act)
    real_moment(monkeypatch, act, lambda: stop.append(True), late=False)
    outcomes = library.apply(operation, stopping=lambda: bool(stop))
    assert [outcome.ending for outcome in outcomes] == [Ending.DONE]
    assert library.states() == {(1, 1): DONE}


def test_an_exception_from_elsewhere_leaves_what_is_complete_with_its_end(library: Acted) -> None:
    library.write("in/two.jpg")

    def breaks(_dup: int, _keep: int, _operation: Operation) -> str:
        raise RuntimeError("a fault")

    operations = [
        library.operation("in/dup.jpg", "keep.jpg"),
        library.operation("in/two.jpg", "keep.jpg", id=2, relation=PIXELS),
    ]
    with pytest.raises(RuntimeError):
        library.carry_out(library.plan(*operations), Hooks(breaks, no_progress, never))
    assert library.states() == {(1, 1): DONE}
