"""Reports: nothing is lost on the way to JSON and back, nothing in a name does anything, and every line fits."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dedup.cluster import make_groups
from dedup.errors import UsageError
from dedup.records import (
    IndexQuality,
    Match,
    Photo,
    Reason,
    Relation,
    Report,
    ScanSummary,
    Skipped,
)
from dedup.report import from_json, to_csv, to_fdupes, to_json, to_text
from dedup.report.html import write_html
from dedup.report.pictures import (
    LARGEST_PX,
    MOST_PHOTOS,
    SMALLEST_PX,
    Comparison,
    DrawnPictures,
    draw_difference,
    draw_pictures,
    plan_pictures,
)
from dedup.report.text import columns, size_words
from tests.drawn import draw_change, draw_match, draw_photo

EDITED = Relation.EDITED
SUMMARY = ScanSummary(
    ("/photos",),
    12,
    10,
    9,
    8,
    7,
    1.25,
    IndexQuality(20, 3, 8, 8, ""),
    "0.1.0",
    "recipe",
    "2024-05-06T07:08:09Z",
)
NASTY = "/photos/</script><img src=x onerror=alert(1)>&\"'\n\x1b[31m\udcff\u202e.jpg"


def _report(photos: list[Photo], matches: list[Match] | None = None, **more: Any) -> Report:
    result = make_groups(
        {photo.id: photo for photo in photos},
        matches or [],
        lambda photo: photo.id,
        reasons=lambda keeper, others: (f"it is number {keeper.id}", f"{len(others)} others are not"),
        unit_files=lambda photo: (photo.file.path + ".xmp",) if photo.id == 1 else (),
    )
    return replace(Report(SUMMARY, result.groups, result.similar, (), result.hubs), **more)


def _family() -> Report:
    keeper = draw_photo(
        1, "/photos/2019/IMG_1.jpg", "A", capture_time="2019-01-02T03:04:05", keywords=("sea", "dog")
    )
    same = draw_photo(2, "/photos/copy/IMG_1.jpg", "A")
    linked = draw_photo(3, "/photos/link.jpg", "A", inode=1, size_bytes=5)
    small = draw_photo(
        4, "/photos/small.jpg", width_px=800, height_px=600, size_bytes=200_000, damage="ends early"
    )
    crop = draw_photo(5, "/photos/crop.jpg")
    crop2 = draw_photo(6, "/photos/crop2.jpg")
    burst = draw_photo(7, "/photos/burst.jpg")
    lost = draw_photo(8, "/photos/lost.jpg")
    changes = (draw_change("cropped", "cropped to 90 %", amount=0.9, box=(0.05, 0.05, 0.95, 0.95)),)
    matches = [
        draw_match(keeper, small, sentence="the same picture, half the size"),
        draw_match(keeper, crop, EDITED, sentence="an edited version: cropped to 90 %", changes=changes),
        draw_match(keeper, crop2, EDITED, changes=changes),
        draw_match(crop, crop2, sentence="the same picture, saved again"),
        draw_match(keeper, burst, Relation.SIMILAR, sentence="the same scene, another moment"),
        draw_match(small, lost, sentence="the same picture"),
    ]
    skipped = (
        Skipped("/photos/a.dng", "decode", Reason.MISSING_EXTRA, "install photo-dedup[raw]", 9, 8),
        Skipped("/photos/\udcfe.jpg", "decode", Reason.DAMAGED, "ends early"),
    )
    photos = [keeper, same, linked, small, crop, crop2, burst, lost]
    return _report(photos, matches, skipped=skipped, hubs=("/photos/blank.png",))


# JSON.


def test_the_json_holds_what_a_program_needs() -> None:
    data = to_json(_family())
    assert json.loads(json.dumps(data)) == data
    assert data["schema"] == 1
    assert data["summary"]["index"]["recall"] == 1.0
    assert data["summary"]["members"] == {"same-bytes": 2, "same-pixels": 0, "same-picture": 1, "edited": 2}
    (group,) = data["groups"]
    keeper, members = group["keeper"], {os.path.basename(row["path"]): row for row in group["members"]}
    assert keeper["path"] == "/photos/2019/IMG_1.jpg"
    assert keeper["reasons"] == ["it is number 1", "5 others are not"]
    assert keeper["unit_files"] == [{"path": "/photos/2019/IMG_1.jpg.xmp"}]
    assert keeper["metadata"] == {"capture_time": "2019-01-02T03:04:05", "keywords": ["sea", "dog"]}
    assert members["link.jpg"]["hard_link"] is True
    assert members["small.jpg"]["reason"] == "the same picture, half the size"
    assert members["crop.jpg"]["changes"][0]["box"] == [0.05, 0.05, 0.95, 0.95]
    assert (members["crop.jpg"]["copy_of"], members["crop.jpg"]["copy_relation"]) == (None, None)
    assert members["crop2.jpg"]["copy_of"] == "/photos/crop.jpg"
    assert members["crop2.jpg"]["copy_relation"] == "same-picture"
    assert [row["path"] for row in group["also_like"]] == ["/photos/lost.jpg"]
    assert group["freed_bytes"] == 1_200_000
    assert [row["right"]["path"] for row in data["similar"]] == ["/photos/burst.jpg"]
    assert data["skipped"][0]["reason"] == "missing extra"


def test_a_name_that_is_no_text_keeps_its_bytes_in_json() -> None:
    data = to_json(_family())
    row = data["skipped"][1]
    assert row["path"] == "/photos/\ufffd.jpg"
    assert base64.b64decode(row["path_bytes"]) == b"/photos/\xfe.jpg"
    assert "path_bytes" not in data["skipped"][0]
    # Every JSON reader takes it: no lone surrogates.
    json.dumps(data, ensure_ascii=False).encode("utf-8")


def test_a_report_is_read_back_with_all_that_json_says() -> None:
    report = _family()
    again = from_json(json.loads(json.dumps(to_json(report))))
    assert to_json(again) == to_json(report)
    assert again.groups[0].keeper.file.path == report.groups[0].keeper.file.path
    assert again.groups[0].members[0].match.changes == report.groups[0].members[0].match.changes
    assert again.skipped == report.skipped
    # What is shown from it is the same, too.
    assert to_text(again, 90) == to_text(report, 90)
    assert to_csv(again) == to_csv(report)
    assert to_fdupes(again) == to_fdupes(report)


@pytest.mark.parametrize("data", [{}, {"schema": 2}, {"schema": 1}, {"schema": 1, "groups": 3}])
def test_what_is_no_report_of_this_schema_is_refused_with_a_sentence(data: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"report"):
        from_json(data)


_NAMES = st.text(st.characters(exclude_characters="\0/"), min_size=1, max_size=12).map(
    lambda text: os.fsdecode(text.encode("utf-8", "surrogatepass"))
)
_BYTE_NAMES = st.binary(min_size=1, max_size=8).filter(lambda b: not set(b) & {0, 47}).map(os.fsdecode)


@st.composite
def _reports(draw: st.DrawFn) -> Report:
    names = draw(st.lists(st.one_of(_NAMES, _BYTE_NAMES), min_size=2, max_size=6, unique=True))
    contents = draw(st.lists(st.integers(1, 4), min_size=len(names), max_size=len(names)))
    photos = [
        draw_photo(
            number, f"/photos/{name}", f"content {content}", caption=draw(_NAMES).replace("\udcff", "")
        )
        for number, (name, content) in enumerate(zip(names, contents, strict=True), 1)
    ]
    relations = st.sampled_from([Relation.SAME_PIXELS, Relation.SAME_PICTURE, EDITED, Relation.SIMILAR])
    matches = [
        draw_match(
            photos[0],
            photo,
            draw(relations),
            rms_levels=draw(st.floats(0, 255)),
            correlation=draw(st.floats(-1, 1)),
            alignment=tuple(draw(st.lists(st.floats(-2, 2), min_size=6, max_size=6))),
            worst_tile_box=draw(st.sampled_from([None, (0.1, 0.123456, 1 / 3, 1.0)])),
            sentence=draw(st.text(max_size=30)),
        )
        for photo in photos[1:]
    ]
    return _report(photos, matches)


@settings(deadline=None, max_examples=150)
@given(report=_reports())
def test_json_is_the_same_after_the_way_there_and_back(report: Report) -> None:
    data = to_json(report)
    again = from_json(json.loads(json.dumps(data)))
    assert to_json(again) == data
    assert [member.photo.file.path_bytes for group in again.groups for member in group.members] == [
        member.photo.file.path_bytes for group in report.groups for member in group.members
    ]


# CSV and fdupes.


def test_csv_has_one_row_for_each_photo_of_a_group_and_the_kept_one_first() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(_family()))))
    assert [row["role"] for row in rows] == ["keep", "duplicate", "look", "look", "duplicate", "duplicate"]
    assert {row["kept"] for row in rows} == {"/photos/2019/IMG_1.jpg"}
    assert rows[3]["copy_of"] == "/photos/crop.jpg"
    assert rows[4]["hard_link"] == "yes"
    assert (rows[5]["relation"], rows[5]["width_px"], rows[5]["rms_levels"]) == (
        "same-picture",
        "800",
        "1.500",
    )


def test_csv_keeps_odd_names_and_starts_no_formula() -> None:
    odd = draw_photo(2, '/photos/a,"b"\n\udcff.jpg', "A")
    report = _report([draw_photo(1, content="A"), odd])
    (group,) = report.groups
    report = replace(report, groups=(replace(group, keeper_reasons=("=HYPERLINK(1)",)),))
    rows = list(csv.DictReader(io.StringIO(to_csv(report))))
    assert rows[1]["path"] == odd.file.path
    assert rows[0]["reason"] == "'=HYPERLINK(1)"


@settings(deadline=None, max_examples=60)
@given(report=_reports())
def test_csv_reads_back_by_any_reader(report: Report) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(report), newline="")))
    assert len(rows) == sum(1 + len(group.members) for group in report.groups)
    assert not any(None in row for row in rows)


def test_fdupes_lists_only_what_may_go_in_bulk_and_the_kept_one_first() -> None:
    lines = to_fdupes(_family()).split("\n")
    assert lines == [
        "/photos/2019/IMG_1.jpg",
        "/photos/copy/IMG_1.jpg",
        "/photos/link.jpg",
        "/photos/small.jpg",
        "",
        "",
    ]
    edited_only = _report([draw_photo(1), draw_photo(2)], [draw_match(draw_photo(1), draw_photo(2), EDITED)])
    assert to_fdupes(edited_only) == ""


def test_fdupes_with_nul_survives_names_with_newlines() -> None:
    report = _report([draw_photo(1, "/p/a\nb.jpg", "A"), draw_photo(2, "/p/c\n\nd.jpg", "A")])
    assert to_fdupes(report, zero=True).split("\0") == ["/p/a\nb.jpg", "/p/c\n\nd.jpg", "", ""]


# Text.

GOLDEN = """\
below /photos/

1. keep          2019/IMG_1.jpg                         1600 x 1200 JPEG, 1.0 MB
                 kept because it is number 1; 5 others are not
                 with IMG_1.jpg.xmp
   same bytes    copy/IMG_1.jpg                         1600 x 1200 JPEG, 1.0 MB
   edited        crop.jpg                               1600 x 1200 JPEG, 1.0 MB
                 an edited version: cropped to 90 %
   edited        crop2.jpg                              1600 x 1200 JPEG, 1.0 MB
                 edited of 1 and 6
                 same picture as crop.jpg
   hard link     link.jpg                              1600 x 1200 JPEG, 5 bytes
                 the same file, already a hard link to it
   same picture  small.jpg  damaged                       800 x 600 JPEG, 200 kB
                 the same picture, half the size
                 also like it: lost.jpg - the same picture (not confirmed
                 against the kept photo)
   frees 1.2 MB

1 group: 2 same bytes, 1 same picture, 2 edited; 1.2 MB would come back (1 file
already shared by a hard link, which gives nothing back); look at the edited
ones first
blank.png resembles many photos that differ among themselves; it was left out of
the groups
1 pair of the same scene but no copies: dedup report --similar
not examined: 1 missing extra, 1 damaged; dedup report --skipped lists them
dedup 0.1.0, 2024-05-06T07:08:09Z: 10 photos among 12 files; 20 pairs within the
hash radius found exactly, 3 more by annoy, which finds 100.0 % of a sample of 8
of these
next: dedup report --html duplicates.html   to look at them side by side
"""


def test_the_text_report_is_as_it_was() -> None:
    assert to_text(_family(), 80) == GOLDEN


def test_without_duplicates_the_text_says_so() -> None:
    text = to_text(_report([draw_photo(1)]), 80)
    assert text.startswith("no duplicates\n")
    assert "next:" not in text


def test_similar_pairs_are_listed_only_if_asked_for() -> None:
    assert "burst.jpg" not in to_text(_family(), 80)
    assert "burst.jpg" in to_text(_family(), 80, similar=True)


def test_colour_is_only_added_never_meant() -> None:
    plain, coloured = to_text(_family(), 100), to_text(_family(), 100, True)
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == plain
    assert coloured != plain


def test_with_several_roots_names_are_whole() -> None:
    report = _family()
    report = replace(report, summary=replace(report.summary, roots=("/photos", "/more")))
    assert "keep          /photos/2019/IMG_1.jpg" in to_text(report, 120)


@pytest.mark.parametrize("width", [30, 40, 60, 72, 80, 100, 200])
def test_no_line_is_wider_than_the_terminal_unless_one_word_is(width: int) -> None:
    wide = "/photos/" + "写真" * 8 + ".jpg"
    report = _family()
    photos = [draw_photo(1, wide, "W"), draw_photo(2, "/photos/x.jpg", "W")]
    report = replace(report, groups=(*report.groups, *_report(photos).groups))
    for line in to_text(report, width).splitlines():
        assert columns(line) <= max(width, 40) or line.startswith("next: ") or " " not in line.strip()


@settings(deadline=None, max_examples=60)
@given(report=_reports(), width=st.integers(20, 200), colour=st.booleans())
def test_nothing_in_a_name_reaches_the_terminal_as_a_command(
    report: Report, width: int, colour: bool
) -> None:
    text = to_text(report, width, colour, similar=True)
    assert all(line.isprintable() for line in re.sub(r"\x1b\[(0|1|2|1;32|3[1-6])m", "", text).split("\n"))


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (99_949, "99.9 kB"), (99_950, "100 kB"),
     (999_499, "999 kB"), (999_500, "1.0 MB"), (3_900_000_000, "3.9 GB"), (10**15, "1000 TB")],
)  # fmt: skip
def test_sizes_are_said_as_disks_are_sold(size: int, words: str) -> None:
    assert size_words(size) == words


# HTML.


def _html(report: Report, drawn: list[DrawnPictures] | None = None) -> str:
    out = io.StringIO()
    write_html(report, out, drawn or [])
    return out.getvalue()


def _data(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_the_page_is_one_file_that_asks_for_nothing() -> None:
    page = _html(_family())
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy and policy[1].startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy[1] and "http" not in policy[1]
    for kind, tag in (("style", "style"), ("script", "script")):
        inline = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert inline
        digest = base64.b64encode(hashlib.sha256(inline[1].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy[1]
    assert not re.search(r"\son\w+=|\sstyle=|javascript:", page.replace(json.dumps(_data(page)), ""))


def test_markup_in_a_name_stays_a_name() -> None:
    photos = [draw_photo(1, NASTY, "A"), draw_photo(2, "/photos/x.jpg", "A"), draw_photo(3, "/photos/y.jpg")]
    match = draw_match(photos[0], photos[2], EDITED, sentence="<b>bold</b> & </script>")
    skipped = (Skipped(NASTY, "decode", Reason.DAMAGED, "<i>"),)
    report = _report(photos, [match], skipped=skipped, hubs=(NASTY,))
    report = replace(report, summary=replace(report.summary, roots=("/photos", NASTY), recipe=NASTY))
    page = _html(report)
    assert page.count("<script") == page.count("</script>") == 2
    assert "<img" not in page and "<b>bold" not in page
    keep = _data(page)["groups"][0]["keep"]
    assert keep["name"] == r"""/photos/</script><img src=x onerror=alert(1)>&"'\x0a\x1b[31m\xff\u202e.jpg"""
    assert keep["url"].startswith("file:///photos/%3C/script%3E%3Cimg%20src%3Dx")
    assert keep["url"].endswith("%0A%1B%5B31m%FF%E2%80%AE.jpg")


@settings(deadline=None, max_examples=60)
@given(report=_reports())
def test_the_data_of_the_page_is_json_whatever_the_names(report: Report) -> None:
    page = _html(report)
    assert page.count("<script") == 2
    data = _data(page)
    assert len(data["groups"]) == len(report.groups)
    page.encode("utf-8")


def test_the_page_shows_totals_and_where_they_come_from() -> None:
    page = _html(_family())
    for words in (
        "1.2 MB",
        "would come back",
        "proven copies",
        "2024-05-06 07:08 UTC",
        "already shared by hard links",
    ):
        assert words in page
    assert "No duplicates" in _html(_report([draw_photo(1)]))


def test_the_safe_members_stand_first_on_the_page() -> None:
    (group,) = _data(_html(_family()))["groups"]
    relations = [member["rel"] for member in group["members"]]
    assert relations == ["same-bytes", "same-bytes", "same-picture", "edited", "edited"]


# Pictures.


def _draw(
    path: Path, size: tuple[int, int] = (400, 300), box: tuple[int, int, int, int] | None = None
) -> None:
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    pixels = np.stack([x * 255 / size[0], y * 255 / size[1], 128 + 60 * np.sin(x / 9)], axis=2).astype(
        np.uint8
    )
    image = Image.fromarray(pixels)
    if box:
        image.paste((255, 255, 255), box)
    image.save(path, quality=92)


def _photo_at(number: int, path: Path, **changes: Any) -> Photo:
    status = path.stat()
    with Image.open(path) as image:
        size = {"width_px": image.width, "height_px": image.height}
    facts = {"size_bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
    return draw_photo(number, str(path), **{**size, **facts, **changes})


def _opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def test_thumbnails_and_difference_pictures_are_drawn_for_each_content_once(tmp_path: Path) -> None:
    for name, box in (("a.jpg", None), ("b.jpg", (40, 30, 120, 90))):
        _draw(tmp_path / name, box=box)
    shutil.copy2(tmp_path / "a.jpg", tmp_path / "c.jpg")
    a, b = _photo_at(1, tmp_path / "a.jpg", content="A"), _photo_at(2, tmp_path / "b.jpg")
    c = _photo_at(3, tmp_path / "c.jpg", content="A")
    report = _report([a, b, c], [draw_match(a, b, EDITED)])
    (job,) = plan_pictures(report)
    assert (len(job.sights), len(job.comparisons), job.side_px) == (2, 1, LARGEST_PX)
    drawn = draw_pictures(job)
    assert [_opened(picture).size for picture in drawn.sights] == [(320, 240), (320, 240)]
    glow = np.asarray(_opened(drawn.comparisons[0]).convert("RGB"), dtype=int)
    warmth = glow[..., 0] - glow[..., 2]
    # The white box lies at a tenth to three tenths of both sides.
    assert warmth[40:64, 48:88].mean() > 120
    assert warmth[120:, 160:].mean() < 12
    page = _html(report, [drawn])
    group = _data(page)["groups"][0]
    assert (group["keep"]["pic"], [(m["pic"], m["diff"]) for m in group["members"]]) == (0, [(0, -1), (1, 0)])
    portion = re.search(r'class="pictures" data-keys="g0">(.*?)</script>', page)
    assert portion
    assert base64.b64decode(json.loads(portion[1])["g0"][0][1]) == drawn.sights[1]


def test_a_difference_picture_follows_the_alignment() -> None:
    left = Image.fromarray(np.tile(np.arange(200, dtype=np.uint8)[:, None, None], (1, 300, 3)))
    turned = left.transpose(Image.Transpose.ROTATE_90)
    # Turned by 90 clockwise (index 5) it is the left one again, the middle half of it cut out.
    cut = turned.crop((50, 75, 150, 225))
    half = (2.0, 0.0, -0.5, 0.0, 2.0, -0.5)
    drawn = draw_difference(left, cut, Comparison(0, 1, 5, half), 320)
    assert drawn is not None
    pixels = np.asarray(drawn, dtype=int)
    assert drawn.size == left.size
    blue, inside = pixels[:40], pixels[60:140, 90:210]
    assert (blue[..., 2] - blue[..., 0]).min() > 40
    assert np.ptp(inside, axis=2).max() < 20
    assert draw_difference(left, cut, Comparison(0, 1, 0, (0.0,) * 6), 320) is None


def test_a_small_copy_is_compared_at_its_own_resolution() -> None:
    noise = np.random.default_rng(5).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    left = Image.fromarray(noise)
    small = left.resize((40, 30), Image.Resampling.LANCZOS)
    same = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    drawn = draw_difference(left, small, Comparison(0, 1, 0, same), 320)
    assert drawn is not None
    pixels = np.asarray(drawn, dtype=int)
    assert (pixels[..., 0] - pixels[..., 2]).mean() < 12


def test_a_photo_that_is_gone_changed_or_broken_leaves_its_place_empty(tmp_path: Path) -> None:
    for name in "abcd":
        _draw(tmp_path / f"{name}.jpg")
    (tmp_path / "d.jpg").write_bytes(b"\xff\xd8\xff no picture")
    photos = [
        _photo_at(number, tmp_path / f"{name}.jpg") if name != "d" else None
        for number, name in enumerate("abcd", 1)
    ]
    status = (tmp_path / "d.jpg").stat()
    broken = draw_photo(4, str(tmp_path / "d.jpg"), size_bytes=status.st_size, mtime_ns=status.st_mtime_ns)
    a, b, c = (photo for photo in photos if photo is not None)
    (tmp_path / "b.jpg").unlink()
    (tmp_path / "c.jpg").write_bytes(b"other")
    report = _report([a, b, c, broken], [draw_match(a, other, EDITED) for other in (b, c, broken)])
    drawn = draw_pictures(plan_pictures(report)[0])
    assert [bool(picture) for picture in drawn.sights] == [True, False, False, False]
    assert drawn.comparisons == (b"", b"", b"")


def test_neither_a_link_nor_a_fifo_in_the_place_of_a_photo_is_opened(tmp_path: Path) -> None:
    _draw(tmp_path / "a.jpg")
    a = _photo_at(1, tmp_path / "a.jpg", content="A")
    (tmp_path / "a.jpg").rename(tmp_path / "real.jpg")
    (tmp_path / "a.jpg").symlink_to(tmp_path / "real.jpg")
    os.mkfifo(tmp_path / "b.jpg")
    b = draw_photo(2, str(tmp_path / "b.jpg"), size_bytes=0, mtime_ns=(tmp_path / "b.jpg").stat().st_mtime_ns)
    report = _report([a, b], [draw_match(a, b, EDITED)])
    assert draw_pictures(plan_pictures(report)[0]).sights == (b"", b"")


def test_large_reports_have_smaller_pictures_and_large_groups_not_all_of_them() -> None:
    photos = [draw_photo(number) for number in range(1, 60)]
    many = _report(photos, [draw_match(photos[0], other, EDITED) for other in photos[1:]])
    (job,) = plan_pictures(many)
    assert (len(job.sights), len(job.comparisons)) == (MOST_PHOTOS, MOST_PHOTOS - 1)
    members = _data(_html(many))["groups"][0]["members"]
    assert len(members) == 58
    assert [member["pic"] for member in members].count(-1) == 58 - MOST_PHOTOS + 1
    library = replace(many, groups=many.groups * 1000)
    assert plan_pictures(library)[0].side_px == SMALLEST_PX


@pytest.mark.slow
def test_a_browser_shows_the_groups_and_runs_nothing_from_a_name(tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium; on Debian: apt-get install chromium")
    _draw(tmp_path / "a.jpg")
    _draw(tmp_path / "b.jpg", box=(40, 30, 120, 90))
    a, b = _photo_at(1, tmp_path / "a.jpg"), _photo_at(2, tmp_path / "b.jpg")
    nasty = [draw_photo(3, NASTY, "N"), draw_photo(4, "/photos/n.jpg", "N")]
    report = _report([a, b, *nasty], [draw_match(a, b, EDITED)])
    with (tmp_path / "report.html").open("w", encoding="utf-8") as out:
        write_html(report, out, [draw_pictures(job) for job in plan_pictures(report)])
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000", "--dump-dom",
        (tmp_path / "report.html").as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    page = done.stdout.decode()
    body = page[page.index("<main") : page.index("</main>")]
    assert body.count('<section class="group"') == 2
    assert body.count('<img alt="') == 3
    assert body.count("<img") == 3 and "onerror" not in re.sub(r">[^<]*<|\"[^\"]*\"", "><", body)
    assert "&lt;/script&gt;" in body or "script&gt;&lt;img src=x" in body
