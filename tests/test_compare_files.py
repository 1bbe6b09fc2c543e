"""`compare` on files: the verdict of a scan in a sentence, exit codes, switches, drawings, and hostile inputs."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dedup import pipeline
from dedup.cli.comparing import part_words, to_json, to_lines, value_words
from dedup.compare import KINDS
from dedup.errors import UnreadableInput, UsageError
from dedup.pipeline import compare_files
from dedup.records import Asked, Comparison, Measure, Preparation, Relation
from dedup.settings import Settings
from tests.desk import Desk
from tests.pictures import cropped, encode, jpeg, real_photo, scaled, text_page, wide_profile


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def put(path: Path, content: bytes | Image.Image) -> str:
    path.write_bytes(content if isinstance(content, bytes) else encode(content))
    return str(path)


def verdict(a: str, b: str, **asked: Any) -> Comparison:
    return compare_files(a, b, Asked(**{"names": (), **asked}))


# ---- verdicts ------------------------------------------------------------------------------------------------------


def test_verdicts_name_a_and_b_and_say_what_was_done(folder: Path) -> None:
    image = real_photo("coffee", 600)
    a = put(folder / "a.jpg", jpeg(image, 92))
    shutil.copy(a, folder / "copy.jpg")
    half = put(folder / "half.jpg", jpeg(scaled(image, 0.5), 75))
    cut = put(folder / "cut.jpg", jpeg(cropped(image, 0.1, 0.1, 0.95, 0.95), 90))
    other = put(folder / "other.jpg", jpeg(real_photo("chelsea", 600), 90))
    for b, words, relation, same in (
        (str(folder / "copy.jpg"), "the same file", Relation.SAME_BYTES, True),
        (half, "the same picture: B is A at half the size, saved again at about", Relation.SAME_PICTURE, True),
        (cut, "an edited version: B is A, cropped to 72 %", Relation.EDITED, False),
        (other, "different pictures", "different", False),
    ):  # fmt: skip
        found = verdict(a, b)
        assert found.verdict.startswith(words), found.verdict
        assert (found.relation, found.is_same) == (relation, same)
    assert verdict(half, a).verdict.startswith("the same picture: A is B at half the size")


def test_pixels_without_metadata_are_the_same_pixels(folder: Path) -> None:
    image = real_photo("rocket", 300)
    a = put(folder / "a.png", encode(image))
    b = put(folder / "b.tif", encode(image, "TIFF"))
    found = verdict(a, b)
    assert found.relation == Relation.SAME_PIXELS and found.is_same
    assert found.verdict.startswith("the same pixels")


def test_strict_accepts_the_same_bytes_only(folder: Path) -> None:
    image = real_photo("rocket", 300)
    a, b = put(folder / "a.png", encode(image)), put(folder / "b.tif", encode(image, "TIFF"))
    shutil.copy(a, folder / "c.png")
    assert not verdict(a, b, strict=True).is_same
    assert "--strict" in verdict(a, b, strict=True).verdict
    assert verdict(a, str(folder / "c.png"), strict=True).is_same


def test_screenshots_may_not_differ_in_one_word(folder: Path) -> None:
    page = text_page(size=(520, 520), type_px=14)
    a = put(folder / "a.png", page)
    assert verdict(a, put(folder / "again.jpg", jpeg(page, 95)), screenshot=True).is_same
    assert not verdict(a, put(folder / "word.png", text_page("other")), screenshot=True).is_same
    grey = np.asarray(page).copy()
    grey[200:208, 400:412] = 235  # a pale mark, which a strongly compressed copy could hide
    found = verdict(a, put(folder / "pale.png", Image.fromarray(grey)), screenshot=True)
    assert not found.is_same
    half = verdict(a, put(folder / "half.png", scaled(page, 0.5)), screenshot=True)
    assert not half.is_same
    photo = put(folder / "photo.png", real_photo("coffee", 400))
    half = verdict(photo, put(folder / "small.png", scaled(real_photo("coffee", 400), 0.5)), screenshot=True)
    assert not half.is_same and "sizes differ" in half.verdict


@pytest.mark.parametrize("quality", (30, 50, 75, 92, 95))  # all of 30 to 95 on more photos: tests/truth
@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "rocket"])
def test_a_jpeg_and_its_pillow_re_save_are_the_same_picture(folder: Path, name: str, quality: int) -> None:
    """The case of the second thread, where the histograms of the two were 58.98 apart."""
    a = put(folder / "a.jpg", jpeg(real_photo(name, 512), 92))
    b = put(folder / "b.jpg", jpeg(Image.open(a), quality))
    assert verdict(a, b).is_same, verdict(a, b).verdict


def test_another_photo_is_never_the_same(folder: Path) -> None:
    names = ("astronaut", "coffee", "chelsea", "rocket")
    files = [
        put(folder / f"{name}.jpg", jpeg(real_photo(name, 512).resize((512, 384)), 75)) for name in names
    ]
    for at, a in enumerate(files):
        for b in files[at + 1 :]:
            assert verdict(a, b).relation == "different"


def test_a_damaged_picture_is_named(folder: Path) -> None:
    content = jpeg(real_photo("coffee", 400), 90)
    a = put(folder / "a.jpg", content)
    middle = len(content) // 2
    b = put(folder / "b.jpg", content[:middle] + bytes(40) + content[middle + 40 :])
    assert "B is damaged" in verdict(a, b).verdict


def test_a_lost_profile_is_named(folder: Path) -> None:
    image = real_photo("coffee", 400)
    a = put(folder / "a.png", encode(image, icc_profile=wide_profile()))
    b = put(folder / "b.png", encode(image))
    assert "profile lost" in verdict(a, b).verdict


def test_the_verdict_is_that_of_a_scan(folder: Path) -> None:
    image = real_photo("coffee", 480)
    brighter = Image.fromarray(np.minimum(np.asarray(image).astype(int) + 40, 255).astype(np.uint8))
    pairs = {
        "saved": (jpeg(image, 92), jpeg(image, 40)),
        "small": (jpeg(image, 92), jpeg(scaled(image, 0.4), 85)),
        "cut": (jpeg(image, 92), jpeg(cropped(image, 0, 0.1, 0.9, 1), 85)),
        "turned": (jpeg(image, 92), jpeg(image.transpose(Image.Transpose.ROTATE_180), 85)),
        "bright": (jpeg(image, 92), jpeg(brighter, 85)),
        "other": (jpeg(image, 92), jpeg(real_photo("chelsea", 480), 85)),
        "page": (encode(text_page()), encode(text_page("other"))),
    }
    for name, (first, second) in pairs.items():
        (folder / name).mkdir()
        a, b = put(folder / name / "a.jpg", first), put(folder / name / "b.jpg", second)
        report = pipeline.scan_library([str(folder / name)], Settings(db=str(folder / f"{name}.db"), jobs=1))
        found = {match.relation for group in report.groups for match in (group.members[0].match,)}
        found |= {pair.match.relation for pair in report.similar}
        assert verdict(a, b).relation == (found.pop() if found else "different"), name


# ---- measures ------------------------------------------------------------------------------------------------------


def test_every_measure_works_on_files_of_every_kind(folder: Path) -> None:
    image = real_photo("coffee", 320)
    clear = image.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(image.size))
    deep = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    files = [
        put(folder / "a.jpg", jpeg(image, 90)),
        put(folder / "grey.jpg", jpeg(image.convert("L"), 90)),
        put(folder / "clear.png", encode(clear)),
        put(folder / "deep.png", encode(deep)),
        put(folder / "few.gif", encode(image, "GIF")),
        put(folder / "ink.jpg", jpeg(image.convert("CMYK"), 90)),
        put(folder / "small.webp", encode(scaled(image, 0.5), "WEBP")),
        put(folder / "dot.png", encode(Image.new("RGB", (1, 1), "red"))),
        put(folder / "flat.png", encode(Image.new("RGB", (320, 213), "red"))),
    ]
    for b in files[1:]:
        found = compare_files(files[0], b)
        assert [measure.name for measure in found.measures] == list(KINDS)
        for measure in found.measures:
            assert measure.value is not None or measure.note, (b, measure.name)
        json.dumps(to_json(found), allow_nan=False)
        assert all(line.isprintable() for line in to_lines(found))


@pytest.mark.parametrize("kind", ["photo.jpg", "flat.png", "dot.png", "clear.png", "deep.png", "few.gif"])
def test_a_file_against_itself_gives_exact_zeros(folder: Path, kind: str) -> None:
    image = real_photo("coffee", 320)
    clear = image.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(image.size))
    content = {
        "photo.jpg": jpeg(image, 90),
        "flat.png": encode(Image.new("RGB", (320, 213), "red")),
        "dot.png": encode(Image.new("RGB", (1, 1), "red")),
        "clear.png": encode(clear),
        "deep.png": encode(Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 251)),
        "few.gif": encode(image, "GIF"),
    }[kind]
    a, b = put(folder / kind, content), put(folder / f"copy of {kind}", content)
    found = compare_files(a, b)
    assert found.is_same
    for measure in found.measures:
        if measure.name in ("digest", "same-pixels", "shape"):
            assert measure.value is True, measure
        elif measure.name == "ssim":
            assert measure.value == 1 or "smaller" in measure.note
        elif measure.name in ("psnr", "shot", "resave"):
            assert measure.value in (None, 0), measure
        else:
            assert measure.value == 0, measure


def test_alignment_brings_a_crop_back(folder: Path) -> None:
    image = real_photo("coffee", 600)
    a = put(folder / "a.png", image)
    b = put(folder / "b.png", cropped(image, 0.1, 0.15, 0.9, 0.95))

    def rms(**asked: Any) -> Measure:
        return compare_files(a, b, Asked(("rms",), Preparation(**asked))).measure("rms")

    assert rms().value is None
    squashed, laid = rms(resize=True).value, rms(align=True, crop_to_overlap=True).value
    assert squashed is not None and laid is not None
    assert laid < 3 < 20 < squashed


def test_a_turned_picture_is_aligned(folder: Path) -> None:
    image = real_photo("coffee", 600)
    a = put(folder / "a.png", image)
    b = put(folder / "b.png", image.transpose(Image.Transpose.ROTATE_90))
    found = compare_files(a, b, Asked(("rms",), Preparation(align=True)))
    assert found.relation == Relation.EDITED
    assert found.measure("rms").value == 0


def test_what_was_done_before_measuring_is_told(folder: Path) -> None:
    image = real_photo("coffee", 300)
    a, b = put(folder / "a.png", image), put(folder / "b.jpg", jpeg(scaled(image, 0.5)))
    found = compare_files(
        a, b, Asked(("rms",), Preparation(resize=True, grey="luma", denoise="median", normalise="percentile"))
    )
    told = "; ".join(found.preparation)
    for word in ("150 x", "luma", "median", "1st and 99th percentile"):
        assert word in told
    assert compare_files(a, b, Asked(("rms",))).preparation == ()


def test_an_unknown_measure_is_named_with_what_helps(folder: Path) -> None:
    a = put(folder / "a.png", real_photo("coffee", 100))
    with pytest.raises(UsageError, match="no measure 'rsm'"):
        compare_files(a, a, Asked(("rsm",)))


TECHNIQUES: dict[int, tuple[str, ...]] = {
    1: ("l1", "rms"), 2: ("colours", "vector"), 3: ("shape",), 4: ("phase",), 5: ("exposure",), 6: ("rms", "rms-lab"),
    7: ("sobel", "prewitt"), 8: ("noise",), 9: ("l1",), 10: ("l0",), 14: ("flow",), 15: ("kl", "chi2", "emd"),
    16: ("kl", "js"), 17: ("shot",), 18: ("digest",), 19: ("bytes",), 20: ("hist-rms",), 21: ("sad",), 22: ("rms",),
    23: ("box", "same-pixels"), 25: ("whiten",), 26: ("canonical", "resave"),
}  # fmt: skip
SWITCHES = {
    3: "--resize", 4: "--align", 5: "--normalise", 8: "--denoise", 11: "--grey", 12: "--min-max", 24: "--diff",
    26: "--canonical", 27: "--strict", 29: "--screenshot",
}  # fmt: skip
"""What the two threads name, by number, as measures and as switches; 13 is `sequence --background`, 28 is `check`."""


def test_each_technique_of_the_two_threads_has_its_measure_or_switch() -> None:
    from dedup.cli import program

    options = {word for parameter in program.commands["compare"].params for word in parameter.opts}
    assert set(SWITCHES.values()) <= options
    assert {name for names in TECHNIQUES.values() for name in names} <= set(KINDS)
    assert {*TECHNIQUES, *SWITCHES, 13, 28} == set(range(1, 30))
    assert "--background" in {
        word for parameter in program.commands["sequence"].params for word in parameter.opts
    }


@pytest.mark.parametrize("number", sorted(TECHNIQUES))
def test_each_technique_tells_a_save_from_another_photo(folder: Path, number: int) -> None:
    image = real_photo("coffee", 320)
    a, b = put(folder / "a.jpg", jpeg(image, 92)), put(folder / "b.jpg", jpeg(image, 50))
    other = put(folder / "c.jpg", jpeg(real_photo("chelsea", 320).resize(image.size), 85))
    for name in TECHNIQUES[number]:
        near, far = (compare_files(a, path, Asked((name,))).measure(name) for path in (b, other))
        if name in ("digest", "same-pixels", "shape"):
            assert near.value is far.value is (name == "shape")
        elif name in ("shot", "bytes", "noise", "phase", "box"):
            assert near.value is not None or near.note
        elif far.value is not None:
            assert near.value is not None and float(near.value) < float(far.value), name


# ---- explain -------------------------------------------------------------------------------------------------------


def stops(found: Comparison) -> set[str]:
    return {hurdle.stage for hurdle in found.hurdles if not hurdle.passed}


def test_explain_names_the_stage_that_keeps_a_pair_apart_and_by_how_much(folder: Path) -> None:
    image = real_photo("coffee", 600)
    a = put(folder / "a.jpg", jpeg(image, 92))
    copy = verdict(a, put(folder / "copy.jpg", jpeg(image, 60)), explain=True)
    assert stops(copy) == {"bytes"}
    cut = verdict(a, put(folder / "cut.jpg", jpeg(cropped(image, 0.1, 0, 1, 1), 92)), explain=True)
    assert "confirm: frame" in stops(cut) and "cluster" not in stops(cut)
    marked = image.copy()
    marked.paste((255, 0, 0), (40, 40, 120, 80))
    edit = verdict(a, put(folder / "marked.jpg", jpeg(marked, 92)), explain=True)
    tile = next(hurdle for hurdle in edit.hurdles if hurdle.stage == "confirm: worst tile")
    assert not tile.passed and tile.measured is not None and tile.limit is not None
    assert tile.measured > tile.limit == 60
    other = verdict(a, put(folder / "other.jpg", jpeg(real_photo("chelsea", 600))), explain=True)
    assert {"index: hash", "index: window", "cluster"} <= stops(other)
    shutil.copy(a, folder / "same.jpg")
    assert stops(verdict(a, str(folder / "same.jpg"), explain=True)) == set()


def test_explain_works_on_flat_pictures(folder: Path) -> None:
    a = put(folder / "a.png", Image.new("RGB", (300, 200), (200, 30, 30)))
    b = put(folder / "b.png", Image.new("RGB", (300, 200), (30, 30, 200)))
    found = verdict(a, b, explain=True)
    assert "fingerprint" in stops(found) and found.relation == "different"


# ---- hostile inputs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"no picture", b"\xff\xd8\xff\xe0 broken", bytes(4000)])
def test_what_is_no_picture_is_named(folder: Path, content: bytes) -> None:
    a = put(folder / "a.png", real_photo("coffee", 100))
    b = put(folder / "bad.jpg", content)
    for pair in ((a, b), (b, a), (b, b)):
        with pytest.raises(UnreadableInput, match=r"bad\.jpg"):
            verdict(*pair)


def test_folders_pipes_and_nothing_at_all_are_named(folder: Path) -> None:
    a = put(folder / "a.png", real_photo("coffee", 100))
    os.mkfifo(folder / "pipe")
    for name, words in (("", "folder"), ("pipe", "no regular file"), ("none.jpg", "cannot be read")):
        with pytest.raises(UnreadableInput, match=words):
            verdict(a, str(folder / name))


def test_a_bomb_is_refused_by_its_header(folder: Path) -> None:
    a = put(folder / "a.png", real_photo("coffee", 100))
    b = put(folder / "bomb.png", encode(Image.new("1", (9000, 9000))))
    with pytest.raises(UnreadableInput, match="bomb"):
        compare_files(a, b, Asked(), Settings(max_pixels=1_000_000))


def test_links_are_followed_since_a_person_named_them(folder: Path) -> None:
    a = put(folder / "a.png", real_photo("coffee", 100))
    os.symlink(a, folder / "link.png")
    assert verdict(a, str(folder / "link.png")).relation == Relation.SAME_BYTES


# ---- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    image = real_photo("coffee", 400)
    put(made.photos / "a.jpg", jpeg(image, 92))
    put(made.photos / "b.jpg", jpeg(image, 60))
    put(made.photos / "other.jpg", jpeg(real_photo("chelsea", 400), 90))
    return made


A, B, OTHER = "Pictures/a.jpg", "Pictures/b.jpg", "Pictures/other.jpg"


def test_the_verdict_comes_first_and_decides_the_exit_code(desk: Desk) -> None:
    out, _ = desk.type("compare", A, B)
    assert out.startswith("the same picture: B is A, saved again at about quality 60\n")
    for name, kind in KINDS.items():
        assert f"\n{name} " in out, name
        assert " ".join(kind.meaning.split()[:5]) in " ".join(out.split())
    out, _ = desk.type("compare", "--verdict", A, OTHER, code=1)
    assert out.startswith("different pictures") and "rms" not in out
    desk.type("compare", A, "Pictures/none.jpg", code=3)
    desk.type("compare", A, code=2)
    desk.type("compare", "--method", "nonsense", A, B, code=2)
    desk.type("compare", "--verdict", "--method", "rms", A, B, code=2)
    desk.type("compare", "--normalise", "--min-max", A, B, code=2)


def test_json_has_verdict_relation_and_measures_by_name(desk: Desk) -> None:
    out, _ = desk.type("compare", "--json", "--method", "rms,psnr", "--method", "hashes", A, A)
    found = json.loads(out)
    assert found["relation"] == "same-bytes" and found["same"] is True
    assert found["measures"]["rms"]["value"] == 0 and found["measures"]["rms"]["unit"] == "levels"
    assert found["measures"]["psnr"]["value"] is None and "infinite" in found["measures"]["psnr"]["note"]
    assert found["measures"]["phash"]["unit"] == "bits" and "ssim" not in found["measures"]
    out, _ = desk.type("compare", "--list", "--json")
    assert set(json.loads(out)["measures"]) == set(KINDS)
    assert "kl " in desk.type("compare", "--list")[0]


def test_a_difference_is_drawn_and_never_over_a_photo(desk: Desk) -> None:
    desk.type("compare", A, B, "--verdict", "--diff", "d.png")
    first = (desk.home / "d.png").read_bytes()
    with Image.open(io.BytesIO(first)) as picture:
        assert picture.size == (2 * 400 + 3 * 8, 2 * (267 + 22) + 3 * 8)
    desk.type(
        "compare", A, OTHER, "--verdict", "--diff", "d.png", code=1
    )  # sizes differ, and an own file goes
    assert (desk.home / "d.png").read_bytes() != first
    before = {path: path.read_bytes() for path in desk.photos.iterdir()}
    for place in (A, B, OTHER, "Pictures", "none/d.png"):
        desk.type("compare", A, B, "--diff", place, code=2)
    assert {path: path.read_bytes() for path in desk.photos.iterdir()} == before
    os.symlink(desk.photos / "other.jpg", desk.home / "link.png")
    desk.type("compare", A, B, "--diff", "link.png", code=2)
    assert (desk.photos / "other.jpg").read_bytes() == before[desk.photos / "other.jpg"]


def test_what_was_drawn_shows_where(desk: Desk) -> None:
    image = real_photo("coffee", 400)
    marked = image.copy()
    marked.paste((0, 255, 0), (100, 50, 140, 90))
    put(desk.photos / "marked.png", marked)
    put(desk.photos / "plain.png", image)
    desk.type("compare", "Pictures/plain.png", "Pictures/marked.png", "--verdict", "--diff", "d.png", code=1)
    sheet = np.asarray(Image.open(desk.home / "d.png").convert("RGB")).astype(int)
    x, y = 8, 8 + 22 + 267 + 8 + 22  # the amplified difference
    panel = sheet[y : y + 267, x : x + 400]
    inside = panel[50:90, 100:140].max(axis=2)
    assert inside.mean() > 150
    panel[50:90, 100:140] = 0
    assert panel.max() == 0


def test_names_with_control_characters_stay_on_their_line(desk: Desk) -> None:
    name = "Pictures/odd\x1b[2J\n.jpg"
    shutil.copy(desk.home / A, desk.home / name)
    out, _ = desk.type("compare", "--method", "rms", A, name)
    assert "\x1b" not in out and out.splitlines()[3].startswith("B  ")
    raw = os.fsencode(desk.home) + b"/Pictures/\xff.jpg"
    shutil.copy(os.fsencode(desk.home / A), raw)
    desk.type("compare", "--json", "--method", "rms", A, b"Pictures/\xff.jpg")


def test_nothing_is_written_but_what_was_asked_for(desk: Desk) -> None:
    before = set(desk.home.rglob("*"))
    desk.type("compare", A, B)
    assert set(desk.home.rglob("*")) == before


# ---- words ---------------------------------------------------------------------------------------------------------


def test_values_in_words() -> None:
    def words(value: Any, unit: str = "", note: str = "") -> str:
        return value_words(Measure("x", value, unit, "", "", (), note))

    assert words(True) == "yes" and words(False) == "no"
    assert words(0.0312, "share") == "3.12 %"
    assert words(1.98342, "levels") == "1.983 levels"
    assert words(None, "dB", "infinite: nothing differs") == "infinite: nothing differs"
    assert part_words(2040731.0) == "2,040,731" and part_words("a" * 64) == "a" * 12 + "..."


def test_a_picture_place_is_checked_before_the_work(folder: Path) -> None:
    put(folder / "photo.png", real_photo("coffee", 100))
    with pytest.raises(UsageError, match="no earlier dedup drew"):
        pipeline.write_picture(b"x", str(folder / "photo.png"))
    with pytest.raises(UsageError, match="nothing can be written"):
        pipeline.write_picture(b"x", str(folder / "none" / "d.png"))
    assert [path.name for path in folder.iterdir()] == ["photo.png"]
