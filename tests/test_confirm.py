"""A component confirmed: who is held against whom, what is told of files that cannot be read, and which came first."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from dedup.confirm import ComponentJob, confirm_component, loading
from dedup.decode import FullPicture
from dedup.records import CandidatePair, Match, Photo, PhotoFile, Reason, Relation, Source
from tests.pictures import (
    Content,
    Shelf,
    as_floats,
    as_image,
    candidate,
    confirm,
    confirm_two,
    cropped,
    decoded,
    encode,
    jpeg,
    night_frame,
    real_photo,
    relation,
    scaled,
    with_id,
)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


CAT = real_photo("chelsea", 340)
COFFEE = real_photo("coffee", 340)


def test_nothing_comes_of_nothing() -> None:
    found = confirm_component(ComponentJob((), ()))
    assert (found.matches, found.inspections, found.skipped) == ((), (), ())


def test_photos_without_a_pair_are_not_even_opened(shelf: Shelf) -> None:
    photos = (shelf.put(CAT), shelf.put(CAT))
    found = confirm_component(ComponentJob(photos, ()))
    assert (found.matches, found.inspections, found.skipped) == ((), (), ())


def test_each_member_is_held_against_the_first_and_not_against_its_neighbour(shelf: Shelf) -> None:
    source = jpeg(CAT, 95)
    photos = [shelf.put(source), *(shelf.put(jpeg(CAT, quality)) for quality in (80, 60, 40))]
    chain = [candidate(one, two) for one, two in itertools.pairwise(photos)]
    found = confirm(photos, chain)
    assert [(match.left, match.right) for match in found.matches] == [(1, 2), (1, 3), (1, 4)]
    assert {match.relation for match in found.matches} == {Relation.SAME_PICTURE}


def test_what_borders_hide_from_one_another_is_found_through_what_has_none(shelf: Shelf) -> None:
    """In the dark a black border has no edge, and the white one outshines all that both show."""
    dark = as_image(as_floats(CAT) * 0.25)
    white, black = ImageOps.expand(dark, 16, "white"), ImageOps.expand(dark, 34, "black")
    photos = [shelf.put(white), shelf.put(black), shelf.put(dark)]
    assert confirm(photos[:2]).matches == ()
    found = confirm(photos)
    assert [(match.left, match.right, match.relation) for match in found.matches] == [
        (1, 3, Relation.EDITED),
        (3, 2, Relation.EDITED),
    ]


def test_the_way_to_a_photo_says_where_to_look_for_it(shelf: Shelf) -> None:
    """By its hashes alone, nobody would find the corner of the mirror image in the picture."""
    mirrored = ImageOps.mirror(COFFEE)
    photos = [shelf.put(COFFEE), shelf.put(mirrored), shelf.put(cropped(mirrored, 0.45, 0.45, 1, 1))]
    window = CandidatePair(2, 3, Source.WINDOW, 2, 0, (0.45, 0.45, 1.0, 1.0), (0.0, 0.0, 1.0, 1.0))
    unguided = CandidatePair(1, 3, Source.DERIVED, 64)
    assert [match.relation for match in confirm((photos[0], photos[2]), [unguided]).matches] != [
        Relation.EDITED
    ]
    found = confirm(photos, [candidate(photos[0], photos[1]), window])
    assert [(match.left, match.right, match.relation) for match in found.matches] == [
        (1, 2, Relation.EDITED),
        (1, 3, Relation.EDITED),
    ]


def test_a_neighbour_of_another_scene_is_not_followed(shelf: Shelf) -> None:
    cat, coffee, half = shelf.put(CAT), shelf.put(COFFEE), shelf.put(scaled(COFFEE, 0.5))
    found = confirm((cat, coffee, half), [candidate(cat, coffee), candidate(coffee, half)])
    assert [(match.left, match.right) for match in found.matches] == [(2, 3)]


def test_what_a_first_photo_leaves_over_goes_on_with_the_next_one(shelf: Shelf) -> None:
    cats = [shelf.put(CAT), shelf.put(jpeg(CAT, 70))]
    cups = [shelf.put(COFFEE), shelf.put(jpeg(COFFEE, 70))]
    found = confirm([*cats, *cups])
    assert [(match.left, match.right) for match in found.matches] == [(1, 2), (3, 4)]


def test_the_source_of_a_match_is_the_strongest_that_proposed_it(shelf: Shelf) -> None:
    one, two = shelf.put(CAT), shelf.put(jpeg(CAT, 70))
    pairs = [CandidatePair(1, 2, source, 4) for source in (Source.NEIGHBOUR, Source.WINDOW, Source.HASH)]
    assert confirm((one, two), pairs).matches[0].source is Source.HASH


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each path was decoded in full."""
    found: Counter[str] = Counter()
    read = loading.read_photo

    def counted(file: PhotoFile, max_pixels: int) -> FullPicture:
        found[file.path] += 1
        return read(file, max_pixels)

    monkeypatch.setattr(loading, "read_photo", counted)
    return found


def test_photos_whose_greys_have_nothing_in_common_are_not_decoded(shelf: Shelf, reads: Counter[str]) -> None:
    assert shelf.ask(CAT, COFFEE) is None
    assert not reads


def test_each_photo_is_decoded_once(shelf: Shelf, reads: Counter[str]) -> None:
    contents: list[Content] = [
        CAT,
        jpeg(CAT, 80),
        scaled(CAT, 0.5),
        cropped(CAT, 0.1, 0.1, 1, 1),
        COFFEE,
        jpeg(COFFEE, 50),
    ]
    photos = [shelf.put(content) for content in contents]
    found = confirm(photos)
    assert len(found.matches) >= 4
    assert set(reads.values()) == {1}
    assert [inspection.photo_id for inspection in found.inspections] == sorted(
        photo.id for photo in photos if reads[photo.file.path]
    )


def test_memory_stays_within_the_budget_and_nothing_is_lost_by_it(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "BUDGET_BYTES", 1)
    photos = [shelf.put(jpeg(CAT, quality)) for quality in (95, 80, 60, 40)]
    assert [(match.left, match.right) for match in confirm(photos).matches] == [(1, 2), (1, 3), (1, 4)]


# --- files that are not what they were --------------------------------------------------------------------------------


def damage(photo: Photo, what: str) -> None:
    path = Path(photo.file.path)
    if what == "gone":
        path.unlink()
    elif what == "a link":
        path.rename(path.with_suffix(".moved"))
        path.symlink_to(path.with_suffix(".moved"))
    elif what == "touched":
        os.utime(path, ns=(0, photo.file.mtime_ns + 1))
    elif what == "grown":
        path.write_bytes(path.read_bytes() + b"\0")
        os.utime(path, ns=(0, photo.file.mtime_ns))
    elif what == "a folder":
        path.unlink()
        path.mkdir()
    elif what == "a pipe":
        path.unlink()
        os.mkfifo(path)


TROUBLES = {
    "gone": Reason.UNREADABLE,
    "a link": Reason.UNREADABLE,
    "touched": Reason.CHANGED,
    "grown": Reason.CHANGED,
    "a folder": Reason.CHANGED,
    "a pipe": Reason.CHANGED,
}


@pytest.mark.parametrize("what", TROUBLES)
@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_file_that_is_not_what_it_was_is_named_and_the_others_go_on(
    shelf: Shelf, what: str, which: int
) -> None:
    photos = [shelf.put(jpeg(CAT, quality)) for quality in (95, 80, 60)]
    damage(photos[which], what)
    found = confirm(photos)
    assert len(found.skipped) == 1
    skipped = found.skipped[0]
    assert (skipped.path, skipped.stage, skipped.reason) == (
        photos[which].file.path,
        "confirm",
        TROUBLES[what],
    )
    assert skipped.detail
    others = [photo.id for photo in photos if photo is not photos[which]]
    assert [(match.left, match.right) for match in found.matches] == [tuple(others)]
    assert photos[which].id not in {inspection.photo_id for inspection in found.inspections}


def test_a_file_that_does_not_decode_in_full_is_named(shelf: Shelf) -> None:
    sound = shelf.put(CAT)
    content = encode(CAT)
    path = shelf.folder / "torn.png"
    path.write_bytes(content)
    whole = shelf.take(path, 2)
    # The same size and time with other bytes in the middle: a failing disk.
    at = len(content) // 3
    path.write_bytes(content[:at] + bytes(2000) + content[at + 2000 :])
    os.utime(path, ns=(whole.file.mtime_ns, whole.file.mtime_ns))
    found = confirm((sound, whole))
    assert not found.matches or not found.matches[0].relation.is_safe
    told = [skipped.reason for skipped in found.skipped] + [item.damage for item in found.inspections]
    assert any(told), "torn data were taken for a sound picture without a word"


def test_damage_that_the_fast_look_could_not_see_is_told_by_the_inspection(shelf: Shelf) -> None:
    whole = encode(CAT)
    sound, torn = shelf.put(whole), shelf.put(whole[:-12])
    found = confirm((sound, torn))
    told = {item.photo_id: item.damage for item in found.inspections}
    assert told == {1: "", 2: "cut off: the end marker is missing"}


# --- which came first -------------------------------------------------------------------------------------------------


FIRST = jpeg(CAT, 75)
SECOND = jpeg(decoded(FIRST), 95)


def test_a_fine_copy_of_a_coarse_original_is_the_later_one(shelf: Shelf) -> None:
    match = shelf.ask(FIRST, SECOND)
    assert match
    assert (relation(match), match.direction) == (Relation.SAME_PICTURE, "left-first")
    assert "saved again at about quality 95" in match.sentence


def test_the_original_takes_the_place_of_its_fine_copy(shelf: Shelf) -> None:
    fine, original, third = shelf.put(SECOND), shelf.put(FIRST), shelf.put(jpeg(decoded(FIRST), 60))
    found = confirm((fine, original, third))
    assert found.matches[0].direction == "right-first"
    assert {(match.left, match.right) for match in found.matches[1:]} == {(2, 1), (2, 3)}
    assert [match.direction for match in found.matches if (match.left, match.right) == (2, 1)] == [
        "left-first"
    ]


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP"])
def test_a_jpeg_came_before_its_lossless_copy(shelf: Shelf, format: str) -> None:
    copy = encode(decoded(FIRST), format)
    there, back = shelf.ask(FIRST, copy), shelf.ask(copy, FIRST)
    assert there and back
    assert (there.relation, there.direction) == (Relation.SAME_PIXELS, "left-first")
    assert (back.relation, back.direction) == (Relation.SAME_PIXELS, "right-first")
    assert there.sentence == f"the same pixels, as {format}"


@pytest.mark.parametrize("quality", [90, 60, 30])
def test_a_lossless_original_came_before_the_jpeg_made_of_it(shelf: Shelf, quality: int) -> None:
    match = shelf.ask(CAT, jpeg(CAT, quality))
    assert match and match.direction == "left-first"
    back = shelf.ask(jpeg(CAT, quality), CAT)
    assert back and back.direction == "right-first"


def test_a_larger_original_came_before_its_small_copy(shelf: Shelf) -> None:
    small = jpeg(scaled(CAT, 0.5), 90)
    there, back = shelf.ask(jpeg(CAT, 90), small), shelf.ask(small, jpeg(CAT, 90))
    assert there and back
    assert (there.direction, back.direction) == ("left-first", "right-first")
    assert there.figures.size_ratio == pytest.approx(0.5, abs=0.005)
    assert back.figures.size_ratio == pytest.approx(2.0, abs=0.02)


@pytest.mark.parametrize(("quality", "factor"), [(75, 2.0), (60, 3.0), (60, 1.5)])
def test_an_enlarged_copy_is_known_by_what_it_was_enlarged_from(
    shelf: Shelf, quality: int, factor: float
) -> None:
    original = jpeg(CAT, quality)
    larger, smaller = shelf.put(encode(scaled(decoded(original), factor))), shelf.put(original)
    found = confirm((larger, smaller))
    assert found.matches[0].direction == "right-first"
    scales = {item.photo_id: item.effective_scale for item in found.inspections}
    assert scales == {larger.id: pytest.approx(1 / factor, abs=0.01), smaller.id: 1.0}


def test_two_savings_at_one_quality_leave_it_open(shelf: Shelf) -> None:
    """Each has the other's traces."""
    match = shelf.ask(FIRST, jpeg(decoded(FIRST), 75))
    assert match and match.direction == "unknown"


def test_two_copies_without_a_trace_leave_it_open(shelf: Shelf) -> None:
    match = shelf.ask(jpeg(CAT, 85), encode(CAT, "WEBP", quality=85))
    assert match and match.direction == "unknown"


def test_a_deeper_picture_came_before_its_flatter_copy(shelf: Shelf) -> None:
    grey = CAT.convert("L")
    deep = encode(Image.fromarray(np.asarray(grey).astype(np.uint16) * 257))
    there, back = shelf.ask(deep, grey), shelf.ask(grey, deep)
    assert there and back
    assert (there.direction, back.direction) == ("left-first", "right-first")


# --- the same answer whoever asks -------------------------------------------------------------------------------------


def plain(found: list[Match], names: dict[int, str]) -> list[tuple[object, ...]]:
    return [
        (
            names[match.left],
            names[match.right],
            match.relation,
            match.sentence,
            match.figures,
            match.direction,
        )
        for match in found
    ]


def test_the_result_does_not_depend_on_ids(shelf: Shelf) -> None:
    turned = CAT.rotate(90, expand=True)
    contents: dict[str, Content] = {
        "first": CAT,
        "saved": jpeg(CAT, 70),
        "turned": turned,
        "crop": cropped(CAT, 0, 0.1, 0.9, 1),
        "cup": COFFEE,
    }
    taken = {name: shelf.put(content, name) for name, content in contents.items()}
    results = []
    for ids in ((1, 2, 3, 4, 5), (50, 40, 30, 20, 10), (3, 9, 1, 7, 2)):
        photos = [with_id(photo, id) for photo, id in zip(taken.values(), ids, strict=True)]
        names = dict(zip(ids, contents, strict=True))
        results.append(plain(list(confirm(photos).matches), names))
    assert len(results[0]) == 3
    assert results[0] == results[1] == results[2]


def test_the_same_job_gives_the_same_result(shelf: Shelf) -> None:
    photos = [shelf.put(CAT), shelf.put(jpeg(CAT, 40)), shelf.put(cropped(CAT, 0.1, 0, 1, 1))]
    pairs = [candidate(one, two) for one, two in itertools.combinations(photos, 2)]
    assert confirm(photos, pairs) == confirm(photos, reversed(pairs))


PAIRS: dict[str, tuple[Content, Content]] = {
    "saved again": (CAT, jpeg(CAT, 40)),
    "half": (CAT, scaled(CAT, 0.5)),
    "equal": (CAT, encode(CAT, "TIFF")),
    "noise": (night_frame(1), jpeg(night_frame(1), 80)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_figures_of_a_copy_are_the_same_from_both_sides(shelf: Shelf, name: str) -> None:
    one, two = PAIRS[name]
    a, b = shelf.put(one), shelf.put(two)
    there, back = confirm_two(a, b), confirm_two(b, a)
    assert there and back
    assert there.relation is back.relation
    first, second = there.figures, back.figures
    assert first.rms_levels == second.rms_levels
    assert first.worst_tile_levels == second.worst_tile_levels
    assert first.worst_tile_box == second.worst_tile_box
    assert first.compared_px == second.compared_px
    assert first.phash64_bits == second.phash64_bits
    assert first.size_ratio * second.size_ratio == pytest.approx(1.0, abs=1e-4)
    assert {there.direction, back.direction} in ({"left-first", "right-first"}, {"unknown"})


def test_a_match_says_at_which_size_the_pixels_were_compared(shelf: Shelf) -> None:
    match = shelf.ask(CAT, scaled(CAT, 0.5))
    assert match and match.figures.compared_px == (CAT.width // 2, CAT.height // 2)


def test_one_changed_pixel_is_no_longer_the_same_pixels(shelf: Shelf) -> None:
    pixels = np.asarray(CAT).copy()
    pixels[100, 100, 1] ^= 1
    match = shelf.ask(CAT, as_image(pixels))
    assert match and match.relation is Relation.SAME_PICTURE
    assert 0 < match.figures.rms_levels < 0.01
