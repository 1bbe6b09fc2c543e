"""`apply`, `undo`, `recover` and `purge` as people type them, on real photos."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from dedup import pipeline
from dedup.catalogue import Catalogue
from dedup.journal import Journal
from dedup.records import Selection
from dedup.settings import Settings
from tests.desk import Desk, draw


@pytest.fixture(scope="module")
def planned_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo with a byte copy of an odd name, a copy as PNG, a small copy and a cropped one."""
    home = tmp_path_factory.mktemp("home")
    desk = Desk(home)
    (desk.photos / "b").mkdir()
    draw(1).save(desk.photos / "sea.jpg", quality=92)
    os.utime(desk.photos / "sea.jpg", (1e9, 1e9))
    odd = os.fsencode(desk.photos / "b") + b"/sea \xff\x1b[2J\n.jpg"
    shutil.copy(desk.photos / "sea.jpg", os.fsdecode(odd))
    with Image.open(desk.photos / "sea.jpg") as sea:
        sea.save(desk.photos / "b" / "sea.png")
    draw(1).resize((240, 180), Image.Resampling.LANCZOS).save(desk.photos / "b" / "sea small.jpg", quality=80)
    draw(1).crop((0, 0, 450, 338)).save(desk.photos / "b" / "sea cut.jpg", quality=92)
    return home


@pytest.fixture
def desk(planned_home: Path, tmp_path: Path) -> Desk:
    """The home as it was planned for: inodes and times of change are in the plan, so it is scanned anew."""
    shutil.copytree(planned_home / "Pictures", tmp_path / "Pictures")
    # As `dedup scan` and `dedup plan` do, without starting Python twice for each test.
    settings = Settings(db=str(tmp_path / ".local/share/dedup/catalogue.db"), jobs=1)
    pipeline.scan_folders([tmp_path / "Pictures"], settings)
    pipeline.save_plan(pipeline.make_plan(Selection(), settings), str(tmp_path / "all.plan"))
    return Desk(tmp_path)


def names(desk: Desk) -> list[str]:
    found = subprocess.run(
        ["find", ".", "-not", "-path", "*/.dedup*"], check=True, cwd=desk.photos, capture_output=True
    )
    return sorted(found.stdout.decode("utf-8", "replace").split("\n"))


def test_without_yes_the_plan_is_shown_with_the_command_that_does_it(desk: Desk) -> None:
    was = names(desk)
    out, _ = desk.type("apply", "all.plan")
    assert "3 files move to quarantine" in out
    assert out.endswith("to do it: dedup apply all.plan --yes\n")
    assert names(desk) == was
    assert not (desk.photos / ".dedup").exists()


def test_a_call_that_names_nothing_says_what_to_name(desk: Desk) -> None:
    for more in ((), ("--yes",), ("--action", "hardlink", "--yes")):
        _, err = desk.type("apply", *more, code=2)
        assert "--only RELATION" in err
        assert "--all on purpose" in err


def test_a_plan_and_a_selection_do_not_go_together(desk: Desk) -> None:
    for more in (("--all",), ("--only", "same-bytes"), ("--action", "hardlink")):
        desk.type("apply", "all.plan", *more, "--yes", code=2)


def test_apply_undo_and_purge_say_what_they_did(desk: Desk) -> None:
    was = names(desk)
    out, _ = desk.type("apply", "all.plan", "--yes")
    assert out.startswith("3 moved to quarantine; 0 bytes free now, ")
    assert out.endswith(" after dedup purge 1; dedup undo 1 takes it back\n")
    assert len(names(desk)) == len(was) - 3 - 1  # one of the names holds a newline
    out, _ = desk.type("undo", "--list")
    assert "3 done" in out
    assert "in quarantine" in out
    out, _ = desk.type("undo")
    assert out == "run 1: 3 taken back\n"
    assert names(desk) == was
    out, _ = desk.type("apply", "all.plan", "--yes")
    assert "dedup undo 2" in out
    out, _ = desk.type("purge", "2", "--count", "3")
    assert out.startswith("3 purged, ")
    assert out.endswith(" free now\n")
    assert not (desk.photos / ".dedup").exists()
    _, err = desk.type("undo", "2", code=2)
    assert "gone for good" in err
    # A second time there is nothing to do.
    desk.type("-q", "scan", "Pictures")
    out, _ = desk.type("apply", "--all", "--yes")
    assert out == "nothing to do\n"


def test_what_is_refused_is_named_with_the_reason_and_ends_with_three(desk: Desk) -> None:
    (desk.photos / "b" / "sea.png").write_bytes(b"edited")
    out, _ = desk.type("apply", "all.plan", "--yes", code=3)
    lines = out.splitlines()
    assert lines[0].startswith("refused  ")
    assert "sea.png: changed since the plan was made; scan and plan again" in lines[0]
    assert "2 moved to quarantine, 1 refused (sea.png changed since the plan was made)" in lines[1]


def test_json_names_every_operation_and_its_bytes(desk: Desk) -> None:
    out, _ = desk.type("apply", "all.plan", "--yes", "--json")
    told = json.loads(out)
    assert (told["schema"], told["run"], told["counts"]) == (1, 1, {"done": 3})
    assert [outcome["operation"] for outcome in told["outcomes"]] == [1, 2, 3]
    assert sum("path_bytes" in outcome for outcome in told["outcomes"]) == 1
    assert told["freed_after_purge_bytes"] == sum(o["freed_after_purge_bytes"] for o in told["outcomes"]) > 0
    told = json.loads(desk.type("undo", "--list", "--json")[0])
    assert told["runs"][0]["counts"] == {"done": 3}
    told = json.loads(desk.type("undo", "--json")[0])
    assert told["counts"] == {"undone": 3}
    assert json.loads(desk.type("recover", "--json")[0])["recovered"] == []


def test_a_selection_is_planned_and_done_at_once(desk: Desk) -> None:
    out, _ = desk.type("apply", "--only", "same-bytes", "--action", "hardlink")
    assert out.endswith("to do it: dedup apply --only same-bytes --action hardlink --yes\n")
    out, _ = desk.type("apply", "--only", "same-bytes", "--action", "hardlink", "--yes")
    assert out.startswith("1 linked; 0 bytes free now")
    assert (desk.photos / "sea.jpg").stat().st_nlink == 2


def test_what_is_protected_now_is_left_alone_whatever_the_plan_says(desk: Desk) -> None:
    was = names(desk)
    out, _ = desk.type("apply", "all.plan", "--protect", "Pictures/b", "--yes", code=3)
    assert out.count("lies in a protected folder") == 3
    (desk.home / ".dedup.toml").write_text('protect = ["Pictures/b"]\n')
    desk.type("apply", "all.plan", "--yes", code=3)
    assert names(desk) == was


def test_pictures_are_compared_again_before_they_go(desk: Desk) -> None:
    """A plan that says of two pictures what is not so: the bytes are as planned, the pictures are not the same."""
    from tests.safety.plans import file_row, read_rows, write_rows

    draw(9).save(desk.photos / "other.jpg", quality=92)
    head, *body = read_rows(desk.home / "all.plan")
    row = next(row for row in body if row.get("relation") == "same-picture")
    keep = file_row([desk.photos], 0, "other.jpg")
    write_rows(desk.home / "lying.plan", [head, {**row, "id": 1, "keep": keep}])
    out, _ = desk.type("apply", "lying.plan", "--yes", code=3)
    assert "compared again" in out
    assert (desk.photos / "b" / "sea small.jpg").exists()


def test_a_torn_plan_is_refused_as_a_whole(desk: Desk) -> None:
    plan = desk.home / "all.plan"
    plan.write_bytes(plan.read_bytes()[:-20])
    desk.type("apply", "all.plan", "--yes", code=5)
    assert not (desk.photos / ".dedup").exists()


def test_two_runs_at_once_are_one_and_a_refusal(desk: Desk) -> None:
    state = desk.home / ".local/share/dedup"
    with Journal.open(str(state), write=True):
        for words in (("apply", "all.plan", "--yes"), ("undo",), ("recover",), ("purge", "--count", "0")):
            if words[0] != "purge":
                desk.type(*words, code=4)
        desk.type("undo", "--list")
        desk.type("report")


def test_a_scan_and_an_apply_hold_each_other_off(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = desk.home / ".local/share/dedup/catalogue.db"
    with Catalogue.open(str(catalogue), write=True):
        desk.type("apply", "all.plan", "--yes", code=4)
    assert not (desk.photos / ".dedup").exists()
    monkeypatch.setenv("DEDUP_STATE", str(desk.home / "state"))
    seen: list[int] = []

    def meanwhile(stage: str, done: int, _total: int | None) -> None:
        if (stage, done) == ("apply", 1):
            desk.type("scan", "Pictures", code=4)
            seen.append(done)

    watch = pipeline.Watch(meanwhile)
    pipeline.apply_plan(pipeline.load_plan(str(desk.home / "all.plan")), Settings(db=str(catalogue)), watch)
    assert seen == [1]
    assert len(watch.outcomes) == 3


def test_apply_needs_no_catalogue(desk: Desk) -> None:
    for name in ("catalogue.db", "catalogue.db-wal", "catalogue.db-shm"):
        (desk.home / ".local/share/dedup" / name).unlink(missing_ok=True)
    out, _ = desk.type("apply", "all.plan", "--yes")
    assert out.startswith("3 moved to quarantine")


def crash(desk: Desk) -> None:
    """Leave an operation half done: its file in quarantine, and no end in the journal."""
    desk.type("apply", "all.plan", "--yes")
    journal = desk.home / ".local/share/dedup/journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    done = next(number for number, line in enumerate(lines) if b'"kind":"done"' in line)
    journal.write_bytes(b"".join(lines[:done]))


def test_after_a_crash_every_command_says_so_and_recover_mends_it(desk: Desk) -> None:
    was = names(desk)
    crash(desk)
    for words in (("report",), ("stats",), ("plan",)):
        _, err = desk.type(*words)
        assert "`dedup recover`" in err
    out, err = desk.type("recover")
    assert "3 taken back" in err
    assert out == ""
    assert names(desk) == was
    assert desk.type("recover")[0] == "nothing was left half done\n"
    assert "recover" not in desk.type("stats")[1]


def test_apply_mends_first_what_a_crash_left(desk: Desk) -> None:
    crash(desk)
    out, err = desk.type("apply", "all.plan", "--yes")
    assert "3 taken back" in err
    assert out.startswith("3 moved to quarantine")


def test_what_cannot_be_told_after_a_crash_ends_with_five_and_both_paths(desk: Desk) -> None:
    crash(desk)
    (desk.photos / "b" / "sea.png").write_bytes(b"newer")
    _, err = desk.type("recover", code=5)
    assert str(desk.photos / "b" / "sea.png") in err
    assert ".dedup/quarantine/1/" in err
    desk.type("apply", "all.plan", "--yes", code=5)


def test_a_damaged_journal_stops_everything_that_acts(desk: Desk) -> None:
    desk.type("apply", "all.plan", "--yes")
    journal = desk.home / ".local/share/dedup/journal"
    data = bytearray(journal.read_bytes())
    data[40] ^= 1
    journal.write_bytes(data)
    was = names(desk)
    for words in (("apply", "all.plan", "--yes"), ("undo",), ("recover",), ("purge",), ("undo", "--list")):
        desk.type(*words, code=5)
    assert names(desk) == was


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_waits_for_the_file_at_hand(desk: Desk, number: signal.Signals) -> None:
    """Sent again and again from the start: whenever it comes, nothing is left half done."""
    was = names(desk)
    with desk.start("apply", "all.plan", "--yes") as process:
        while process.poll() is None:
            if (desk.photos / ".dedup").exists():
                process.send_signal(number)
            time.sleep(0.002)
        _, err = process.communicate()
    assert process.returncode in (0, 128 + number), err
    assert desk.type("recover")[0] == "nothing was left half done\n"
    if (desk.photos / ".dedup").exists():
        desk.type("undo")
    assert names(desk) == was


def test_the_exit_code_is_the_interruption_even_if_items_were_done(desk: Desk) -> None:
    with desk.start("apply", "all.plan", "--yes") as process:
        while process.poll() is None and not list(desk.photos.glob(".dedup/quarantine/1/1")):
            time.sleep(0.001)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate()
    assert process.returncode == 143
    assert b"not begun" in out or b"3 moved" in out


def test_a_purge_asks_for_the_number_on_a_terminal(desk: Desk) -> None:
    desk.type("apply", "all.plan", "--yes")
    for typed, code in ((b"2\n", 2), (b"3\n", 0)):
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-m", "dedup", "purge", "1"],
            cwd=desk.home,
            env=desk.environment,
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            os.close(theirs)
            os.write(ours, typed)
            _, err = process.communicate(timeout=60)
        os.close(ours)
        assert process.returncode == code, err
        assert b"3 files" in err
    assert not (desk.photos / ".dedup").exists()


def test_without_a_terminal_a_purge_needs_the_number(desk: Desk) -> None:
    desk.type("apply", "all.plan", "--yes")
    with desk.start("purge", "1", stdin=subprocess.DEVNULL) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert b"--count 3" in err
    desk.type("purge", "1", "--count", "2", code=2)
    desk.type("purge", "1", "--older-than", "3d", code=2)
    desk.type("purge", "--older-than", "soon", code=2)
    assert desk.type("purge")[0] == "nothing to purge\n"
    out, said = desk.type("purge", "--older-than", "0s", "--count", "2")
    assert "1 file whose pixels are nowhere else stays" in said
    assert out.startswith("2 purged")


def test_a_reader_that_is_gone_changes_nothing(desk: Desk) -> None:
    with desk.start("apply", "all.plan", "--yes", stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(60) in (0, 141)
    assert desk.type("undo")[0] == "run 1: 3 taken back\n"
