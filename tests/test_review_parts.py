"""The parts of a review by themselves: what is said and read back, the list, the pictures of odd formats."""

from __future__ import annotations

import io
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dedup.errors import UsageError
from dedup.pipeline import Judgement, Mark, photos_of
from dedup.pipeline.judging import (
    check_judgement,
    from_decisions,
    state_of,
    state_of_contents,
    to_decisions,
    version_of,
    with_same_bytes,
)
from dedup.records import Decision, DuplicateGroup, PhotoFile, Relation, Verdict
from dedup.report.sights import Look, SightJob, View, draw_sight, open_below
from dedup.review.keys import KEYS
from dedup.review.plain import Ids, metadata_table
from tests import planned
from tests.drawn import draw_photo
from tests.pictures import exif_orientation, real_photo

NOW = "2026-01-01T00:00:00+00:00"


@st.composite
def judged(draw: st.DrawFn) -> tuple[DuplicateGroup, Judgement]:
    """A group of up to seven files, some with the same bytes, and anything that may be said about it."""
    contents = draw(st.lists(st.integers(1, 4), min_size=2, max_size=7))
    photos = [
        replace(draw_photo(at + 1, f"/photos/{at}.jpg"), digest=bytes([content]) * 32)
        for at, content in enumerate(contents)
    ]
    members = [
        planned.member(
            photos[0], photo, Relation.SAME_BYTES if photo.digest == photos[0].digest else Relation.EDITED
        )
        for photo in photos[1:]
    ]
    group = planned.group(photos[0], *members)
    keep = draw(st.none() | st.sampled_from([photo.id for photo in photos]))
    keeper = keep or photos[0].id
    marks = {
        photo.id: mark
        for photo in photos
        if photo.id != keeper and (mark := draw(st.none() | st.sampled_from(list(Mark)))) is not None
    }
    return group, with_same_bytes(group, Judgement(keep, marks))


@settings(max_examples=80, deadline=None)
@given(judged())
def test_what_is_said_is_what_is_read_back(said: tuple[DuplicateGroup, Judgement]) -> None:
    group, judgement = said
    decisions = to_decisions(group, judgement, NOW)
    found = from_decisions(group, decisions)
    # A photo that is no duplicate is parted from all of the group, so what else was said of those pairs gives way.
    apart = {p.digest for p in photos_of(group) if judgement.marks.get(p.id) is Mark.APART}
    for photo in photos_of(group):
        wanted = judgement.marks.get(photo.id)
        assert found.marks.get(photo.id) == wanted or apart or wanted is None
    assert to_decisions(group, found, NOW) == decisions or apart
    assert version_of(decisions) == version_of(reversed(decisions))


@settings(max_examples=80, deadline=None)
@given(judged())
def test_the_state_from_digests_alone_is_the_state_of_the_group(
    said: tuple[DuplicateGroup, Judgement],
) -> None:
    group, judgement = said
    decisions = to_decisions(group, judgement, NOW)
    kept = {found.left: found.place for found in decisions if found.verdict is Verdict.KEEP}
    pairs = {frozenset((d.left, d.right)): d for d in decisions if d.verdict is not Verdict.KEEP}
    copies = Counter(photo.digest for photo in photos_of(group))
    light = state_of_contents(group.keeper.digest, copies, kept, pairs)
    assert light == state_of(group, from_decisions(group, decisions))


def test_the_place_that_was_chosen_counts_and_its_content_wherever_it_lies() -> None:
    one, two = (replace(draw_photo(at, f"/photos/{at}.jpg"), digest=b"x" * 32) for at in (1, 2))
    group = planned.group(one, two)
    at_its_place = Decision(Verdict.KEEP, b"x" * 32, b"", NOW, "/photos/2.jpg")
    assert from_decisions(group, [at_its_place]).keep == 2
    moved = replace(at_its_place, place="/elsewhere/2.jpg")
    assert from_decisions(group, [moved]).keep == 1


def test_the_kept_photo_cannot_go() -> None:
    one, two = draw_photo(1, "/1.jpg"), draw_photo(2, "/2.jpg")
    group = planned.group(one, two)
    for judgement in (
        Judgement(None, {1: Mark.GOES, 2: Mark.GOES}),
        Judgement(2, {1: Mark.GOES, 2: Mark.GOES}),
        Judgement(9, {}),
        Judgement(None, {9: Mark.GOES}),
    ):
        with pytest.raises(UsageError):
            check_judgement(group, judgement, {})
    with pytest.raises(UsageError, match="damaged"):
        check_judgement(group, Judgement(None, {2: Mark.GOES}), {one.digest: "cut short"})


# --- pictures ---------------------------------------------------------------------------------------------------------


def drawn(path: Path, width: int, height: int, side_px: int = 320) -> Image.Image:
    status = path.stat()
    file = PhotoFile(str(path), status.st_size, status.st_mtime_ns, 0, 0, 0, 1)
    sight = draw_sight(
        SightJob(Look.PHOTO, View(file, os.fsencode(path.parent), width, height), None, None, side_px, 10**8)
    )
    assert sight.content, sight.why
    image = Image.open(io.BytesIO(sight.content))
    image.load()
    return image


def far(one: Image.Image, other: Image.Image) -> float:
    a, b = (np.asarray(image.convert("RGB").resize((64, 48)), np.float32) for image in (one, other))
    return float(np.abs(a - b).mean())


@pytest.mark.parametrize(
    "kind", ["jpeg", "cmyk", "sixteen bits", "palette", "webp", "tiff", "heic", "turned"]
)
def test_each_format_shows_as_it_is(tmp_path: Path, kind: str) -> None:
    image = real_photo("chelsea", 400)
    path = tmp_path / "photo.bin"
    truth = image
    if kind == "jpeg":
        image.save(path, "JPEG", quality=95)
    elif kind == "cmyk":
        image.convert("CMYK").save(path, "TIFF")
    elif kind == "sixteen bits":
        truth = image.convert("L")
        Image.fromarray(np.asarray(truth).astype(np.uint16) * 257).save(path, "PNG")
    elif kind == "palette":
        image.quantize(200).save(path, "PNG")
    elif kind == "webp":
        image.save(path, "WEBP", quality=95)
    elif kind == "tiff":
        image.save(path, "TIFF")
    elif kind == "heic":
        heif = pytest.importorskip("pillow_heif")
        heif.from_pillow(image).save(str(path), quality=95)
    else:
        image.transpose(Image.Transpose.ROTATE_90).save(path, "JPEG", quality=95, exif=exif_orientation(6))
    shown = drawn(path, *image.size)
    assert shown.size[0] > shown.size[1], "upright"
    assert far(shown, truth) < 8


def test_what_is_transparent_stays_transparent(tmp_path: Path) -> None:
    image = real_photo("coffee", 400).convert("RGBA")
    alpha = Image.new("L", image.size, 255)
    alpha.paste(0, (0, 0, image.width // 2, image.height))
    image.putalpha(alpha)
    image.save(tmp_path / "a.png")
    shown = drawn(tmp_path / "a.png", *image.size)
    assert shown.mode == "RGBA"
    seen = np.asarray(shown.getchannel("A"))
    assert seen[:, : shown.width // 3].max() < 30 and seen[:, 2 * shown.width // 3 :].min() > 225
    right = (shown.width // 2 + 10, 0, shown.width, shown.height)
    whole = image.convert("RGB").resize(shown.size)
    assert far(shown.convert("RGB").crop(right), whole.crop(right)) < 8, "with the colours that it has"


def test_a_picture_is_never_larger_than_asked(tmp_path: Path) -> None:
    real_photo("chelsea", 400).save(tmp_path / "a.jpg")
    assert max(drawn(tmp_path / "a.jpg", 400, 266, 100).size) == 100


@pytest.mark.parametrize("name", ["../a", "b/../../a", "/etc/passwd", "", "b//a", "./a"])
def test_nothing_outside_the_root_is_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "a").write_text("secret")
    with pytest.raises(OSError, match=r".*"):
        open_below(os.fsencode(tmp_path / "root"), os.fsencode(f"{tmp_path}/root/{name}"))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        open_below(os.fsencode(tmp_path), os.fsencode(tmp_path / "pipe"))


# --- what is shown ----------------------------------------------------------------------------------------------------


def test_a_higher_quality_is_never_called_better() -> None:
    one = draw_photo(1, "/1.jpg")
    two = replace(one, id=2, info=replace(one.info, quality=one.info.quality - 5, width_px=10))
    rows = {row["name"]: row for row in metadata_table([one, two], {})}
    assert rows["JPEG quality"]["differs"] and rows["JPEG quality"]["better"] == []
    assert rows["Picture"]["better"] == [0]
    assert not rows["Format"]["differs"]


def test_no_key_means_two_things() -> None:
    names = [name for key in KEYS for name in key.keys]
    assert len(names) == len(set(names))
    actions = (Path(__file__).parent.parent / "dedup/review/static/main.js").read_text("utf-8")
    for key in KEYS:
        known = (f"  {key.action}:", f"  {key.action},", f'"{key.action}"')
        assert any(name in actions for name in known), f"nothing does {key.action}"


def test_names_given_out_are_random_and_hold() -> None:
    one, other = Ids(), Ids()
    assert one.name("file", 7) == one.name("file", 7) != one.name("group", 7)
    assert one.name("file", 7) != other.name("file", 7)
    assert one.number("file", one.name("file", 7)) == 7
    assert one.number("group", one.name("file", 7)) is None
