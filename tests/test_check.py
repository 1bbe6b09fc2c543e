"""`dedup check`: what it says of a picture, what it moves, and what it does not do."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dedup import Answer, Checked, Relation, Settings, UsageError, scan_library
from dedup.apply import syscalls
from dedup.catalogue import Catalogue
from dedup.pipeline import CheckChoice, answer_to_json, check_pictures
from dedup.records import Reason, Report
from tests.desk import Desk
from tests.pictures import as_floats, as_image, cropped, encode, jpeg, night_frame, real_photo, scaled


@dataclass(frozen=True)
class Home:
    """A scanned library of four photos and a folder of others."""

    folder: Path

    @property
    def photos(self) -> Path:
        return self.folder / "Pictures"

    @property
    def card(self) -> Path:
        return self.folder / "card"

    @property
    def settings(self) -> Settings:
        return Settings(db=str(self.folder / "photos.db"), jobs=1)

    def put(self, name: str, content: bytes) -> Path:
        path = self.card / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def check(self, *paths: Path, **choice: object) -> list[Checked]:
        asked = CheckChoice(**choice)  # type: ignore[arg-type]
        return list(check_pictures([str(path) for path in paths], self.settings, asked))

    def one(self, path: Path, **choice: object) -> Checked:
        (answer,) = self.check(path, **choice)
        return answer


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("home"))
    (home.photos / "old").mkdir(parents=True)
    home.card.mkdir()
    (home.photos / "cat.jpg").write_bytes(jpeg(real_photo("chelsea")))
    (home.photos / "old" / "coffee.jpg").write_bytes(jpeg(scaled(real_photo("coffee"), 0.6), 80))
    (home.photos / "rocket.png").write_bytes(encode(real_photo("rocket")))
    (home.photos / "night.jpg").write_bytes(jpeg(night_frame(1), 95))
    scan_library([home.photos], home.settings)
    return home


@pytest.fixture
def home(scanned: Home, tmp_path: Path) -> Home:
    """A copy of it, to be spoilt; times and names as they were, since the catalogue knows them by these."""
    with Catalogue.open(scanned.settings.db, write=False) as catalogue:
        assert catalogue.counts()["photos"] == 4
    fresh = Home(tmp_path)
    shutil.copytree(scanned.photos, fresh.photos)
    fresh.card.mkdir()
    scan_library([fresh.photos], fresh.settings)
    return fresh


# ---- answers -------------------------------------------------------------------------------------------------------


def test_the_same_bytes_are_there(scanned: Home) -> None:
    answer = scanned.one(scanned.put("a.jpg", (scanned.photos / "cat.jpg").read_bytes()))
    assert answer.answer is Answer.THERE
    assert [(found.path, found.relation) for found in answer.likenesses] == [
        (str(scanned.photos / "cat.jpg"), Relation.SAME_BYTES)
    ]


@pytest.mark.parametrize("quality", [30, 50, 75, 90, 95])
def test_a_picture_that_was_saved_again_is_there(quality: int, scanned: Home) -> None:
    original = Image.open(scanned.photos / "cat.jpg")
    answer = scanned.one(scanned.put(f"q{quality}.jpg", jpeg(original, quality)))
    assert answer.answer is Answer.THERE
    assert answer.best is not None
    assert answer.best.path == str(scanned.photos / "cat.jpg")
    assert answer.best.relation is Relation.SAME_PICTURE
    assert answer.best.library_first


def test_the_same_pixels_in_another_container_are_there(scanned: Home) -> None:
    original = Image.open(scanned.photos / "rocket.png")
    answer = scanned.one(scanned.put("rocket.tif", encode(original, "TIFF")))
    assert answer.answer is Answer.THERE
    assert answer.best is not None
    assert answer.best.relation is Relation.SAME_PIXELS


def test_a_larger_original_is_there_and_the_sentence_is_about_the_librarys(scanned: Home) -> None:
    small = scanned.photos / "old" / "coffee.jpg"
    answer = scanned.one(scanned.put("original.jpg", jpeg(real_photo("coffee"), 95)))
    assert answer.answer is Answer.THERE
    assert answer.best is not None
    assert answer.best.path == str(small)
    assert not answer.best.library_first
    assert "the size" in answer.best.sentence


def test_an_edited_version_is_new_and_says_of_what(scanned: Home) -> None:
    part = cropped(real_photo("chelsea"), 0.08, 0.06, 0.95, 0.97)
    answer = scanned.one(scanned.put("part.jpg", jpeg(part)))
    assert answer.answer is Answer.EDITED
    assert answer.best is not None
    assert answer.best.path == str(scanned.photos / "cat.jpg")
    assert "cropped" in answer.best.sentence


@pytest.mark.parametrize("turn", [Image.Transpose.ROTATE_90, Image.Transpose.FLIP_LEFT_RIGHT])
def test_a_turned_picture_is_found(turn: Image.Transpose, scanned: Home) -> None:
    answer = scanned.one(scanned.put(f"{turn.name}.jpg", jpeg(real_photo("coffee").transpose(turn))))
    assert answer.answer is Answer.EDITED


def test_a_flat_picture_is_found_by_its_noise(scanned: Home) -> None:
    assert scanned.one(scanned.put("n1.jpg", jpeg(night_frame(1), 90))).answer is Answer.THERE
    assert scanned.one(scanned.put("n2.jpg", jpeg(night_frame(2), 90))).answer is Answer.NEW


def test_another_photo_is_new(scanned: Home) -> None:
    answer = scanned.one(scanned.put("face.jpg", jpeg(real_photo("astronaut"))))
    assert answer == replace(Checked(answer.name, Answer.NEW), digest=answer.digest)


def test_many_answers_are_those_of_one_by_one(scanned: Home, tmp_path: Path) -> None:
    paths = []
    for number, content in enumerate(
        [
            jpeg(real_photo("chelsea"), 60),
            jpeg(real_photo("astronaut")),
            b"no",
            (scanned.photos / "rocket.png").read_bytes(),
        ]
    ):
        paths.append(tmp_path / f"{number}.jpg")
        paths[-1].write_bytes(content)
    together = scanned.check(*paths)
    assert together == [scanned.one(path) for path in paths]
    assert [answer.answer for answer in together] == [
        Answer.THERE,
        Answer.NEW,
        Answer.UNREADABLE,
        Answer.THERE,
    ]


def test_all_goes_on_after_the_first_copy(home: Home) -> None:
    original = Image.open(home.photos / "cat.jpg")
    (home.photos / "again.jpg").write_bytes(jpeg(original, 70))
    scan_library([home.photos], home.settings)
    path = home.put("a.jpg", jpeg(original, 50))
    assert len(home.one(path).likenesses) == 1
    found = home.one(path, to_the_end=True).likenesses
    assert {os.path.basename(likeness.path) for likeness in found} == {"cat.jpg", "again.jpg"}
    same = home.put("same.jpg", (home.photos / "cat.jpg").read_bytes())
    found = home.one(same, to_the_end=True).likenesses
    assert found[0].relation is Relation.SAME_BYTES
    assert len(found) == 2


# ---- the same answer as a scan -------------------------------------------------------------------------------------


def answer_of(report: Report, path: str) -> Answer:
    """What a report says about one of its files, in the words of `check`."""
    for group in report.groups:
        if group.keeper.file.path == path:
            safe = any(member.match.relation.is_safe for member in group.members)
            return Answer.THERE if safe else Answer.EDITED
        for member in group.members:
            if member.photo.file.path == path:
                copies = [member.match, member.copy_match]
                copies += [other.copy_match for other in group.members if other.copy_of == member.photo.id]
                safe = any(match is not None and match.relation.is_safe for match in copies)
                return Answer.THERE if safe else Answer.EDITED
    if any(skipped.path == path and skipped.reason.is_trouble for skipped in report.skipped):
        return Answer.UNREADABLE
    return Answer.NEW


def noisy(image: Image.Image, levels: float) -> Image.Image:
    chance = np.random.default_rng(2)
    return as_image(as_floats(image) + chance.normal(0, levels, (image.height, image.width, 3)))


def test_a_scan_that_includes_the_picture_says_the_same(tmp_path: Path) -> None:
    original = real_photo("chelsea")
    home = Home(tmp_path)
    home.photos.mkdir()
    home.card.mkdir()
    (home.photos / "cat.jpg").write_bytes(jpeg(original, 95))
    (home.photos / "half.jpg").write_bytes(jpeg(scaled(original, 0.5), 85))
    (home.photos / "part.jpg").write_bytes(jpeg(cropped(original, 0.1, 0.1, 0.95, 0.95), 92))
    (home.photos / "coffee.jpg").write_bytes(jpeg(real_photo("coffee")))
    scan_library([home.photos], home.settings)
    asked = {
        "quality 10": jpeg(original, 10),
        "quality 60": jpeg(original, 60),
        "noise": jpeg(noisy(original, 18), 90),
        "a third": jpeg(scaled(original, 0.33), 85),
        "the part again": jpeg(cropped(original, 0.1, 0.1, 0.95, 0.95), 60),
        "another part": jpeg(cropped(original, 0.0, 0.05, 0.9, 0.9), 90),
        "mirrored": jpeg(original.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
        "larger": encode(scaled(original, 1.5)),
        "another": jpeg(real_photo("astronaut")),
    }
    for name, content in asked.items():
        said = home.one(home.put("asked", content)).answer
        inside = home.photos / "asked"
        inside.write_bytes(content)
        report = scan_library([home.photos], home.settings)
        assert said is answer_of(report, str(inside)), name
        inside.unlink()
        scan_library([home.photos], home.settings)


# ---- what cannot be read -------------------------------------------------------------------------------------------


def test_what_is_no_picture_is_an_answer_with_a_reason(scanned: Home, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "cut.png").write_bytes(encode(real_photo("coffee"))[:3000])
    reasons = {
        "pipe.jpg": Reason.SPECIAL_FILE,
        "empty.jpg": Reason.EMPTY,
        "text.jpg": Reason.NOT_A_PHOTO,
        "cut.png": Reason.DAMAGED,
        "missing.jpg": Reason.UNREADABLE,
        "nul\0.jpg": Reason.UNREADABLE,
    }
    for name, reason in reasons.items():
        answer = scanned.one(tmp_path / name)
        assert answer.answer is Answer.UNREADABLE, name
        assert answer.skipped is not None
        assert answer.skipped.reason is reason, name


def test_a_bomb_is_refused_by_its_header(scanned: Home, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.png"
    Image.new("1", (30000, 30000)).save(bomb)
    answer = scanned.one(bomb)
    assert answer.skipped is not None
    assert answer.skipped.reason is Reason.TOO_LARGE


def test_a_named_link_is_what_it_leads_to(scanned: Home, tmp_path: Path) -> None:
    os.symlink(scanned.photos / "cat.jpg", tmp_path / "link.jpg")
    assert scanned.one(tmp_path / "link.jpg").answer is Answer.THERE


# ---- a library that has changed ------------------------------------------------------------------------------------


def test_a_photo_that_is_gone_proves_nothing(home: Home) -> None:
    path = home.put("a.jpg", (home.photos / "cat.jpg").read_bytes())
    again = home.put("b.jpg", jpeg(Image.open(home.photos / "cat.jpg"), 70))
    (home.photos / "cat.jpg").unlink()
    answer = home.one(path)
    assert answer.answer is Answer.NEW
    assert any("changed or gone" in note for note in answer.notes)
    answer = home.one(again)
    assert answer.answer is Answer.NEW
    assert any("changed or gone" in note for note in answer.notes)


def test_a_photo_that_was_written_to_proves_nothing(home: Home) -> None:
    path = home.put("a.jpg", (home.photos / "cat.jpg").read_bytes())
    (home.photos / "cat.jpg").write_bytes(jpeg(real_photo("astronaut")))
    assert home.one(path).answer is Answer.NEW


def test_a_second_copy_in_the_library_stands_in_for_one_that_is_gone(home: Home) -> None:
    shutil.copy2(home.photos / "cat.jpg", home.photos / "zat.jpg")
    scan_library([home.photos], home.settings)
    again = home.put("b.jpg", jpeg(Image.open(home.photos / "cat.jpg"), 70))
    (home.photos / "cat.jpg").unlink()
    answer = home.one(again)
    assert answer.answer is Answer.THERE
    assert answer.best is not None
    assert answer.best.path == str(home.photos / "zat.jpg")


def test_an_answer_follows_the_next_scan(home: Home) -> None:
    path = home.put("face.jpg", jpeg(real_photo("astronaut"), 70))
    assert home.one(path).answer is Answer.NEW
    (home.photos / "face.jpg").write_bytes(jpeg(real_photo("astronaut"), 95))
    scan_library([home.photos], home.settings)
    assert home.one(path).answer is Answer.THERE
    (home.photos / "face.jpg").unlink()
    scan_library([home.photos], home.settings)
    assert home.one(path).answer is Answer.NEW


@pytest.mark.parametrize("spoilt", ["note", "snapshot", "snapshot cut", "folder", "annoy"])
def test_what_makes_it_quick_may_be_deleted_or_damaged(spoilt: str, home: Home) -> None:
    path = home.put("a.jpg", jpeg(Image.open(home.photos / "cat.jpg"), 70))
    assert home.one(path).answer is Answer.THERE
    folder = Path(home.settings.db + ".index")
    (snapshot,) = folder.glob("check-*.bin")
    match spoilt:
        case "note":
            (folder / "check.json").write_text("{")
        case "snapshot":
            snapshot.unlink()
        case "snapshot cut":
            snapshot.write_bytes(snapshot.read_bytes()[:-4096])
        case "folder":
            shutil.rmtree(folder)
        case "annoy":
            for file in folder.glob("neighbours-*"):
                file.unlink()
    assert home.one(path).answer is Answer.THERE
    assert len(list(folder.glob("check-*.bin"))) == 1


def test_the_snapshot_is_made_once(home: Home) -> None:
    path = home.put("a.jpg", jpeg(Image.open(home.photos / "cat.jpg"), 70))
    home.one(path)
    (snapshot,) = Path(home.settings.db + ".index").glob("check-*.bin")
    stamp = os.stat(snapshot).st_ino, os.stat(snapshot.with_name("check.json")).st_mtime_ns
    home.one(path)
    home.one(path)
    assert stamp == (os.stat(snapshot).st_ino, os.stat(snapshot.with_name("check.json")).st_mtime_ns)


def test_a_check_changes_neither_the_catalogue_nor_the_photos(home: Home) -> None:
    def state() -> dict[str, tuple[int, bytes]]:
        return {
            str(path): (path.stat().st_mtime_ns, path.read_bytes())
            for path in [Path(home.settings.db), *home.photos.rglob("*.*"), *home.card.rglob("*.*")]
        }

    home.put("a.jpg", jpeg(real_photo("chelsea"), 70))
    home.put("b.jpg", jpeg(real_photo("astronaut"), 70))
    before = state()
    home.check(home.card)
    assert state() == before


def test_only_photos_below_the_folder_count(scanned: Home, tmp_path: Path) -> None:
    cat = tmp_path / "cat.jpg"
    cat.write_bytes((scanned.photos / "cat.jpg").read_bytes())
    again = tmp_path / "again.jpg"
    again.write_bytes(jpeg(Image.open(scanned.photos / "cat.jpg"), 70))
    old = (str(scanned.photos / "old"),)
    assert scanned.one(cat).answer is Answer.THERE
    assert scanned.one(cat, folders=old).answer is Answer.NEW
    assert scanned.one(again, folders=old).answer is Answer.NEW
    assert scanned.one(again, folders=(str(scanned.photos),)).answer is Answer.THERE
    with pytest.raises(UsageError, match="knows no photo there"):
        scanned.one(cat, folders=(str(tmp_path),))


def test_without_a_catalogue_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="dedup scan"):
        list(check_pictures(["x.jpg"], Settings(db=str(tmp_path / "none.db"))))


def test_a_catalogue_that_nobody_may_write_beside_answers_all_the_same(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dedup.pipeline import known

    path = home.put("a.jpg", jpeg(Image.open(home.photos / "cat.jpg"), 70))
    folder = Path(home.settings.db + ".index")
    real = known.Known._build

    def build(self: known.Known, place: Path) -> Path | None:
        return None if place == folder else real(self, place)

    monkeypatch.setattr(known.Known, "_build", build)
    assert home.one(path).answer is Answer.THERE
    assert not list(folder.glob("check-*.bin"))


# ---- folders and moving --------------------------------------------------------------------------------------------


def test_of_a_folder_each_photo_has_an_answer_in_order(home: Home) -> None:
    home.put("2.jpg", jpeg(real_photo("astronaut")))
    home.put("1.jpg", (home.photos / "cat.jpg").read_bytes())
    home.put("notes.txt", b"words")
    home.put("deep/3.jpg", b"\xff\xd8\xff nothing")
    answers = home.check(home.card)
    assert [(Path(answer.name).name, answer.answer) for answer in answers] == [
        ("1.jpg", Answer.THERE),
        ("2.jpg", Answer.NEW),
        ("3.jpg", Answer.UNREADABLE),
    ]


def test_new_ones_are_moved_and_nothing_else(home: Home) -> None:
    home.put("DCIM/100/IMG_1.jpg", jpeg(real_photo("astronaut")))
    home.put("DCIM/101/IMG_1.jpg", jpeg(night_frame(7)))
    home.put("DCIM/100/IMG_2.jpg", (home.photos / "cat.jpg").read_bytes())
    home.put("DCIM/100/IMG_3.jpg", jpeg(cropped(real_photo("chelsea"), 0.08, 0.06, 0.95, 0.97)))
    home.put("DCIM/100/bad.jpg", b"\xff\xd8\xff nothing")
    home.put("DCIM/readme.txt", b"words")
    target = home.folder / "import"
    answers = home.check(home.card, move_new_to=str(target))
    moved = {str(path.relative_to(target)) for path in target.rglob("*.*")}
    assert moved == {"DCIM/100/IMG_1.jpg", "DCIM/101/IMG_1.jpg", "DCIM/100/IMG_3.jpg"}
    left = {str(path.relative_to(home.card)) for path in home.card.rglob("*.*")}
    assert left == {"DCIM/100/IMG_2.jpg", "DCIM/100/bad.jpg", "DCIM/readme.txt"}
    assert {answer.moved_to for answer in answers if answer.moved_to} == {
        str(target / path) for path in moved
    }


def test_a_picture_that_is_twice_on_the_card_is_moved_once(home: Home) -> None:
    for name in ("a.jpg", "b.jpg"):
        home.put(name, jpeg(real_photo("astronaut")))
    first, second = home.check(home.card, move_new_to=str(home.folder / "import"))
    assert (first.answer, second.answer) == (Answer.NEW, Answer.THERE)
    assert os.listdir(home.folder / "import") == ["a.jpg"]
    assert (home.card / "b.jpg").exists()


def test_nothing_is_overwritten_by_a_move(home: Home) -> None:
    target = home.folder / "import"
    target.mkdir()
    (target / "a.jpg").write_bytes(b"mine")
    (answer,) = home.check(home.put("a.jpg", jpeg(real_photo("astronaut"))), move_new_to=str(target))
    assert answer.moved_to == str(target / "a-2.jpg")
    assert (target / "a.jpg").read_bytes() == b"mine"


def test_what_was_moved_before_is_not_moved_again(home: Home) -> None:
    home.put("a.jpg", jpeg(real_photo("astronaut")))
    target = home.card / "new"
    home.check(home.card, move_new_to=str(target))
    assert home.check(home.card, move_new_to=str(target)) == []
    assert os.listdir(target) == ["a.jpg"]


def test_a_protected_folder_keeps_its_files(home: Home) -> None:
    path = home.put("a.jpg", jpeg(real_photo("astronaut")))
    settings = replace(home.settings, protect=(str(home.card),))
    choice = CheckChoice(move_new_to=str(home.folder / "import"))
    (answer,) = check_pictures([str(path)], settings, choice)
    assert answer.moved_to == ""
    assert any("protected" in note for note in answer.notes)
    assert path.exists()


def test_a_move_that_fails_says_why(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "no")

    monkeypatch.setattr(syscalls, "rename_to_free", refuse)
    path = home.put("a.jpg", jpeg(real_photo("astronaut")))
    answer = home.one(path, move_new_to=str(home.folder / "import"))
    assert any("not moved" in note for note in answer.notes)
    assert path.exists()


# ---- JSON ----------------------------------------------------------------------------------------------------------


def test_an_answer_reads_back_from_json(scanned: Home, tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/\xff.jpg"
    Path(os.fsdecode(odd)).write_bytes(jpeg(real_photo("chelsea"), 70))
    answer = scanned.one(Path(os.fsdecode(odd)))
    plain = json.loads(json.dumps(answer_to_json(answer)))
    assert plain["schema"] == 1
    assert plain["answer"] == "there"
    assert plain["file_bytes"]
    assert plain["matches"][0]["relation"] == "same-picture"
    assert plain["matches"][0]["figures"]["rms_levels"] > 0
    assert len(plain["sha256"]) == 64


# ---- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    desk = Desk(tmp_path_factory.mktemp("desk"))
    (desk.photos / "cat.jpg").write_bytes(jpeg(real_photo("chelsea")))
    (desk.home / "again.jpg").write_bytes(jpeg(real_photo("chelsea"), 70))
    (desk.home / "face.jpg").write_bytes(jpeg(real_photo("astronaut")))
    (desk.home / "bad.jpg").write_bytes(b"\xff\xd8\xff nothing")
    desk.type("scan", "Pictures")
    return desk


def test_the_exit_code_is_the_answer(desk: Desk) -> None:
    out, _ = desk.type("check", "again.jpg", code=1)
    assert out.startswith("again.jpg: there, ")
    assert "Pictures/cat.jpg; this one is the same picture, saved again at about quality 70" in out
    assert desk.type("check", "face.jpg", code=0) == ("face.jpg: new\n", "")
    out, _ = desk.type("check", "bad.jpg", code=3)
    assert out.startswith("bad.jpg: not read: damaged")
    out, err = desk.type("check", "bad.jpg", "again.jpg", "face.jpg", code=3)
    assert "1 there, 1 new, 1 not read" in err
    desk.type("check", "missing.jpg", code=3)
    desk.type("check", code=2)


def test_stdin_is_checked(desk: Desk) -> None:
    for name, code in (("again.jpg", 1), ("face.jpg", 0), ("bad.jpg", 3)):
        with open(desk.home / name, "rb") as stdin, desk.start("check", "-", stdin=stdin) as process:
            out, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        assert out.startswith(b"-: ")
    desk.type("check", "-", "--move-new-to", "x", code=2)


def test_json_is_a_line_for_each_file(desk: Desk) -> None:
    out, _ = desk.type("check", "--json", "again.jpg", "face.jpg", code=1)
    assert [json.loads(line)["answer"] for line in io.StringIO(out)] == ["there", "new"]


def test_the_same_bytes_are_told_without_loading_what_compares(desk: Desk) -> None:
    shutil.copy(desk.photos / "cat.jpg", desk.home / "same.jpg")
    code = (
        "import sys; from dedup.cli import program; program.main(['check', 'same.jpg'], standalone_mode=False);"
        "print(sorted({'numpy', 'scipy', 'PIL', 'annoy'} & {name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=desk.home,
        env=desk.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
