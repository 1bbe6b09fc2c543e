"""`dedup plan` and `dedup ignore` as people type them, on real files; nothing among the photos changes."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import click
import pytest
from PIL import Image

from dedup import pipeline
from dedup.cli import program
from dedup.errors import DedupError, Unsafe, UsageError
from dedup.pipeline.deciding import _whole_id
from dedup.records import Plan
from tests.desk import Desk, draw
from tests.drawn import draw_photo
from tests.planned import group

ODD = b"wood \xff\x1b[2J\n.png"


def tagged(image: Image.Image, path: Path) -> None:
    """A JPEG with a capture date."""
    tags = Image.Exif()
    tags[0x0132] = "2019:07:04 12:41:07"
    tags.get_ifd(0x8769)[0x9003] = "2019:07:04 12:41:07"
    image.save(path, quality=80, exif=tags)


@pytest.fixture(scope="module")
def scanned_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo with a byte copy, a small copy and a dated small copy; one with an edited version; one with an odd name;
    a RAW and a JPEG beside each other in two folders."""
    home = tmp_path_factory.mktemp("home")
    desk = Desk(home)
    for name in ("a", "b"):
        (desk.photos / name).mkdir()
    a, b = desk.photos / "a", desk.photos / "b"
    draw(1).save(a / "sea.jpg", quality=92)
    shutil.copy(a / "sea.jpg", b / "sea again.jpg")
    small = draw(1).resize((240, 180), Image.Resampling.LANCZOS)
    small.save(b / "sea small.jpg", quality=80)
    tagged(small, b / "sea dated.jpg")
    draw(2).save(a / "wood.png")
    shutil.copy(os.fsencode(a / "wood.png"), os.fsencode(b) + b"/" + ODD)
    draw(3).save(a / "hill.jpg", quality=92)
    draw(3).crop((0, 0, 450, 338)).save(b / "hill cut.jpg", quality=92)
    desk.type("scan", "Pictures")
    os.mkfifo(home / "pipe")
    return home


@pytest.fixture
def desk(scanned_home: Path) -> Desk:
    """The home that was scanned once for all tests; they look and leave it as it is."""
    return Desk(scanned_home)


@pytest.fixture
def own(scanned_home: Path, tmp_path: Path) -> Desk:
    """A home of its own, scanned."""
    shutil.copytree(scanned_home / "Pictures", tmp_path / "Pictures", symlinks=True)
    made = Desk(tmp_path)
    made.type("scan", "Pictures")
    return made


def snapshot(folder: Path) -> dict[bytes, tuple[int, ...]]:
    """Everything that a changing call would change, of every file and folder."""
    found: dict[bytes, tuple[int, ...]] = {}
    for place, folders, files in os.walk(os.fsencode(folder)):
        for name in (b".", *folders, *files):
            status = os.lstat(os.path.join(place, name))
            found[os.path.join(place, name)] = (
                status.st_ino,
                status.st_mode,
                status.st_nlink,
                status.st_size,
                status.st_mtime_ns,
                status.st_ctime_ns,
            )
    return found


def simple(desk: Desk, *words: str) -> dict[str, str | None]:
    """Name of what goes to name of what is kept for it."""
    out, _ = desk.type("plan", "--simple", *words)
    rows = [json.loads(line) for line in out.splitlines()]
    assert all(set(row) - {"dup_bytes", "keep_bytes"} == {"op", "dup", "keep"} for row in rows)
    return {os.path.basename(row["dup"]): row["keep"] and os.path.basename(row["keep"]) for row in rows}


SAFE = {"sea again.jpg": "sea.jpg", "sea small.jpg": "sea.jpg", ODD.decode("utf-8", "replace"): "wood.png"}

# ---- plan ----------------------------------------------------------------------------------------------------------


def test_a_plan_says_what_happens_to_which_file_and_why_and_does_nothing(desk: Desk) -> None:
    before = snapshot(desk.photos)
    out, err = desk.type("plan")
    assert f"below {desk.photos}/" in out
    assert "keep        a/sea.jpg\n" in out
    assert "kept because it is the largest" in out
    assert "quarantine  b/sea again.jpg  same bytes, " in out
    assert "the same picture, half the size, saved again at about quality 80" in out
    assert "b/wood \\xff\\x1b[2J\\x0a.png" in out
    assert "b/sea dated.jpg" in out
    assert "capture date 2019-07-04T12:41:07" in out
    assert "--accept-metadata-loss" in out
    assert "1 edited: look at them; each goes only by a decision about that very pair" in out
    assert "hill cut.jpg" not in out
    assert out.splitlines()[-2].startswith("3 files move to quarantine for 2 keepers; ")
    assert out.splitlines()[-2].endswith("come back after dedup purge; nothing was done yet")
    assert out.splitlines()[-1] == "2 duplicates left alone: 1 edited, 1 metadata would be lost"
    assert err == ""
    assert snapshot(desk.photos) == before


def test_a_plan_is_the_same_each_time(desk: Desk, tmp_path: Path) -> None:
    assert desk.type("plan")[0] == desk.type("plan")[0]
    for name in ("one", "two"):
        desk.type("plan", "-o", str(tmp_path / name))
    one, two = ((tmp_path / name).read_bytes().splitlines() for name in ("one", "two"))
    assert one[1:] == two[1:]


def test_what_is_selected_is_planned(desk: Desk) -> None:
    assert simple(desk) == SAFE
    again = {"sea again.jpg": "sea.jpg", ODD.decode("utf-8", "replace"): "wood.png"}
    assert simple(desk, "--only", "same-bytes") == again
    assert simple(desk, "--only", "same-bytes", "--only", "same-picture") == SAFE
    assert simple(desk, "--within", "Pictures/b") == SAFE
    assert simple(desk, "--within", "Pictures/a") == {}
    assert simple(desk, "--protect", "Pictures/b") == {}
    assert simple(desk, "--accept-metadata-loss") == {**SAFE, "sea dated.jpg": "sea.jpg"}
    assert simple(desk, "--action", "hardlink") == again
    found = json.loads(desk.type("report", "--json")[0])["groups"]
    wood = next(row["id"] for row in found if "wood" in row["keeper"]["path"])
    assert list(simple(desk, "--group", wood[:7]).values()) == ["wood.png"]


def test_what_may_not_be_linked_is_named_with_the_reason(desk: Desk) -> None:
    out, _ = desk.type("plan", "--action", "hardlink")
    assert "2 not the same bytes: only the same bytes may be linked" in out
    assert "hardlink    b/sea again.jpg" in out
    assert "2 files become hard links for 2 keepers" in out
    out, _ = desk.type("plan", "--action", "reflink")
    assert "share the blocks of their keepers" in out
    assert "after dedup purge" not in out


def test_a_plan_file_is_written_and_shown_again(desk: Desk, tmp_path: Path) -> None:
    text = desk.type("plan")[0]
    out, err = desk.type("plan", "-o", str(tmp_path / "my plan"))
    assert out == "\n".join(text.splitlines()[-2:]) + "\n"
    assert f"dedup apply '{tmp_path}/my plan' --yes" in err
    before = snapshot(tmp_path)
    assert desk.type("plan", "--show", str(tmp_path / "my plan"))[0] == text
    for form in ("--simple", "--json"):
        shown = desk.type("plan", "--show", str(tmp_path / "my plan"), form)[0]
        made = desk.type("plan", form)[0]
        assert [line for line in shown.splitlines() if "created" not in line] == [
            line for line in made.splitlines() if "created" not in line
        ]
    assert snapshot(tmp_path) == before
    # A plan may be replaced by another.
    desk.type("plan", "--only", "same-bytes", "-o", str(tmp_path / "my plan"), "--simple")
    assert len(pipeline.load_plan(str(tmp_path / "my plan")).operations) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["my plan"]


def test_json_has_a_schema_and_names_every_file(desk: Desk) -> None:
    found = json.loads(desk.type("plan", "--json")[0])
    assert found["schema"] == 1
    assert found["summary"]["operations"] == len(found["operations"]) == 3
    assert found["summary"]["left_out"] == {"edited": 1, "metadata would be lost": 1}
    odd = next(row for row in found["operations"] if "path_bytes" in row)
    assert base64.b64decode(odd["path_bytes"]).endswith(ODD)
    assert {row["cause"] for row in found["left_out"]} == {"edited", "metadata would be lost"}
    assert {row["relation"] for row in found["operations"]} == {"same-bytes", "same-picture"}


class Refusal(tuple[int, str]):
    """Exit code and message; equal to a code and a part of the message."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, tuple) and self[0] == other[0] and other[1] in self[1]

    __hash__ = None  # type: ignore[assignment]


def refusal(desk: Desk, monkeypatch: pytest.MonkeyPatch, *words: str) -> Refusal:
    """What a command is refused with, in this process: a new one for each would take a minute."""
    monkeypatch.chdir(desk.home)
    for name in [name for name in os.environ if name.startswith(("DEDUP_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(desk.home))
    with pytest.raises((DedupError, click.ClickException)) as caught:
        program.main(list(words), standalone_mode=False)
    error: Any = caught.value
    return Refusal(
        (error.exit_code, error.format_message() if isinstance(error, click.ClickException) else str(error))
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "similar"], "never acted on"),
        (["--only", "alike"], "alike"),
        (["--group", "zzz"], "no group begins with 'zzz'"),
        (["--group", ""], "no group begins with ''"),
        (["--within", "nowhere"], "no such folder"),
        (["--action", "delete"], "delete"),
        (["--simple", "--json"], "one form at a time"),
        (["--show", "nowhere.plan"], "cannot be read"),
        (["--show", "Pictures"], "no file"),
        (["--show", "x.plan", "--only", "same-bytes"], "goes with no --only"),
        (["--show", "x.plan", "-o", "y.plan"], "goes with no --output"),
        (["--show", "x.plan", "--accept-metadata-loss"], "--accept-metadata-loss"),
        (["-o", "Pictures"], "folder"),
        (["-o", "nowhere/x.plan"], "no folder"),
        (["-o", "pipe"], "no file"),
        (["-o", "Pictures/a/sea.jpg"], "is a photo"),
        (["-o", ".local/share/dedup/catalogue.db"], "no plan"),
        (["--decisions", "nowhere.json"], "cannot be read"),
        (["--db", "nowhere.db"], "dedup scan"),
    ],
)
def test_words_that_make_no_sense_are_refused(
    desk: Desk,
    words: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = snapshot(desk.photos)
    assert refusal(desk, monkeypatch, "plan", *words) == (2, said)
    assert capsys.readouterr().out == ""
    assert snapshot(desk.photos) == before
    assert stat.S_ISFIFO(os.stat(desk.home / "pipe").st_mode)


def test_a_plan_that_was_touched_is_refused_with_exit_5(desk: Desk, tmp_path: Path) -> None:
    desk.type("plan", "-o", str(tmp_path / "p"))
    (tmp_path / "p").write_bytes((tmp_path / "p").read_bytes().replace(b"same-picture", b"same-pixels", 1))
    out, err = desk.type("plan", "--show", str(tmp_path / "p"), code=5)
    assert (out, "no plan to act on" in err) == ("", True)


def test_two_groups_that_begin_alike_must_be_told_apart() -> None:
    groups = [group(draw_photo(number), draw_photo(number + 2), id=f"ab{number}") for number in (1, 2)]
    with pytest.raises(UsageError, match=r"2 groups begin with 'ab': ab1, ab2; say more"):
        _whole_id("ab", groups)
    assert _whole_id("ab2", groups) == "ab2"


def test_a_photo_that_changed_after_the_scan_is_left_alone_and_named(own: Desk) -> None:
    draw(9).save(own.photos / "b" / "sea again.jpg")
    (own.photos / "b" / "sea small.jpg").unlink()
    out, _ = own.type("plan")
    assert "2 changed since the scan" in out
    assert "it was changed after the scan; scan again" in out
    assert "it is gone; scan again" in out
    assert simple(own) == {ODD.decode("utf-8", "replace"): "wood.png"}


def test_sidecars_are_looked_for_when_the_plan_is_made(own: Desk) -> None:
    (own.photos / "b" / "sea again.xmp").write_text("stars")
    out, _ = own.type("plan", "--only", "same-bytes")
    assert "sidecar sea again.xmp" in out
    assert simple(own, "--only", "same-bytes", "--accept-metadata-loss")["sea again.xmp"] is None
    shutil.copy(own.photos / "b" / "sea again.xmp", own.photos / "a" / "sea.xmp")
    assert simple(own, "--only", "same-bytes")["sea again.xmp"] == "sea.xmp"


def test_all_roots_reach_what_earlier_scans_found(own: Desk) -> None:
    (own.home / "Other").mkdir()
    draw(7).save(own.home / "Other" / "x.png")
    shutil.copy(own.home / "Other" / "x.png", own.home / "Other" / "y.png")
    own.type("scan", "Other")
    assert simple(own) == {"y.png": "x.png"}
    assert simple(own, "--all-roots") == {**SAFE, "y.png": "x.png"}


def test_a_plan_is_made_while_another_run_holds_the_catalogue(own: Desk) -> None:
    lock = own.home / ".local/share/dedup/catalogue.db.lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert simple(own) == SAFE
        own.type("ignore", "Pictures/a/sea.jpg", "Pictures/a/wood.png", code=4)


def test_nothing_to_do_is_said(own: Desk) -> None:
    for path in (own.photos / "b").iterdir():
        path.unlink()
    own.type("scan", "Pictures")
    assert own.type("plan")[0] == "nothing to do\n"


# ---- saving --------------------------------------------------------------------------------------------------------

EMPTY = Plan("1", "now", (), (), (), ())


def test_a_plan_replaces_a_plan_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_bytes(b"")
    pipeline.save_plan(EMPTY, str(path))
    pipeline.save_plan(EMPTY, str(path))
    (tmp_path / "link").symlink_to(path)
    pipeline.save_plan(EMPTY, str(tmp_path / "link"))
    assert (tmp_path / "link").is_symlink()
    for content in (b"\xff\xd8 a photo", b"{}", b'{"kind":"another"}'):
        path.write_bytes(content)
        with pytest.raises(UsageError, match="no plan"):
            pipeline.save_plan(EMPTY, str(path))
        assert path.read_bytes() == content
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError):
        pipeline.save_plan(EMPTY, str(tmp_path / "pipe"))
    assert {path.name for path in tmp_path.iterdir()} == {"p", "link", "pipe"}


def test_a_plan_that_cannot_be_written_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left"):
        pipeline.save_plan(EMPTY, str(tmp_path / "p"))
    assert list(tmp_path.iterdir()) == []


def test_a_plan_is_read_from_a_file_only(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="no file"):
        pipeline.load_plan(str(tmp_path / "pipe"))
    (tmp_path / "photo").write_bytes(b"\xff\xd8\n")
    with pytest.raises(Unsafe):
        pipeline.load_plan(str(tmp_path / "photo"))


# ---- ignore --------------------------------------------------------------------------------------------------------


def test_photos_that_are_no_duplicates_are_parted_and_joined_again(own: Desk) -> None:
    words = ("Pictures/a/sea.jpg", "Pictures/b/sea small.jpg", "Pictures/b/sea dated.jpg")
    out, _ = own.type("ignore", *words)
    assert out == "3 pairs: no duplicates of each other; 3 new\n"
    assert simple(own) == {name: kept for name, kept in SAFE.items() if name != "sea small.jpg"}
    assert "sea small.jpg" not in own.type("report")[0]
    assert own.type("ignore", *words)[0].endswith("; 0 new\n")
    assert own.type("ignore", "--forget", *words)[0] == "3 pairs: 3 taken back\n"
    assert simple(own) == SAFE


def test_all_of_a_group_can_be_kept(own: Desk) -> None:
    found = json.loads(own.type("report", "--json")[0])["groups"]
    wood = next(row["id"] for row in found if "wood" in row["keeper"]["path"])
    assert own.type("ignore", "--group", wood, "--keep-both")[0] == "1 pair: all of them stay; 1 new\n"
    assert simple(own) == {name: kept for name, kept in SAFE.items() if "wood" not in name}


def test_decisions_are_listed_and_taken_elsewhere(own: Desk, tmp_path: Path) -> None:
    assert own.type("ignore", "--list")[0] == "no decisions\n"
    own.type("ignore", "Pictures/a/sea.jpg", "Pictures/b/sea small.jpg")
    assert "are no duplicates" in own.type("ignore", "--list")[0]
    file = str(tmp_path / "d.json")
    own.type("ignore", "-o", file)
    assert own.type("ignore", "--json")[0] == Path(file).read_text()
    own.type("--db", "other.db", "scan", "Pictures")
    assert simple(own, "--db", "other.db") == SAFE
    assert "sea small.jpg" not in simple(own, "--db", "other.db", "--decisions", file)
    assert "sea small.jpg" not in simple(own, "--db", "other.db")


def test_an_edited_version_goes_by_a_decision_about_that_pair(own: Desk, tmp_path: Path) -> None:
    row = {
        "verdict": "remove",
        "left_path": str(own.photos / "a" / "hill.jpg"),
        "right_path": str(own.photos / "b" / "hill cut.jpg"),
    }
    (tmp_path / "d.json").write_text(json.dumps({"schema": 1, "decisions": [row]}))
    out, err = own.type("plan", "--only", "edited", "--decisions", str(tmp_path / "d.json"))
    assert "1 decisions read, 1 of them new" in err
    assert "quarantine  b/hill cut.jpg  edited, " in out
    assert simple(own, "--only", "edited") == {"hill cut.jpg": "hill.jpg"}


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        ([], "two photos or more", 2),
        (["Pictures/a/sea.jpg"], "two photos or more", 2),
        (["Pictures/a/sea.jpg", "nowhere.jpg"], "cannot be read", 3),
        (["--group", "zzz"], "no group begins", 2),
        (["--list", "Pictures/a/sea.jpg"], "not both", 2),
        (["-o", "Pictures/a/sea.jpg"], "is a photo", 2),
        (["-o", ".local/share/dedup/catalogue.db"], "no decisions", 2),
    ],
)
def test_ignoring_nothing_is_refused(
    desk: Desk, words: list[str], said: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(desk.photos)
    assert refusal(desk, monkeypatch, "ignore", *words) == (code, said)
    assert snapshot(desk.photos) == before
