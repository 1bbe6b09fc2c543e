"""Candidate search over a small library of real photographs and what people do to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dedup.index import FingerprintTable, by_hash, by_window, find_candidates, search
from dedup.records import Source
from dedup.settings import Settings
from tests.shelf import CUT, NAMES, SAVED, Shelf, only_pair, picture, retouched, saved_again


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", SAVED)
def test_a_copy_saved_again_or_toned_is_found_by_its_hash(name: str, what: str) -> None:
    pair = only_pair(picture(name), SAVED[what](picture(name)))
    assert (pair.left, pair.right, pair.source, pair.orientation) == (10, 20, Source.HASH, 0)
    assert pair.distance_bits <= Settings().hash_radius_bits


TURNS = (
    Image.Transpose.FLIP_LEFT_RIGHT,
    Image.Transpose.ROTATE_180,
    Image.Transpose.FLIP_TOP_BOTTOM,
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
)


@pytest.mark.parametrize("orientation", range(1, 8))
@pytest.mark.parametrize("name", ("astronaut", "coffee", "rocket"))
def test_a_turned_copy_is_found_with_the_orientation_that_turns_the_right_one_back(
    name: str, orientation: int
) -> None:
    shown = picture(name)
    stored = saved_again(shown, 80)
    # The right one under its orientation shows the left one, so the left one is the right one transposed.
    pair = only_pair(shown.transpose(TURNS[orientation - 1]), stored)
    assert (pair.source, pair.orientation) == (Source.HASH, orientation)
    inverse = {5: 7, 7: 5}.get(orientation, orientation)
    assert only_pair(stored, shown.transpose(TURNS[orientation - 1])).orientation == inverse


@pytest.mark.parametrize("name", [name for name in NAMES if name != "clock"])
@pytest.mark.parametrize("what", CUT)
def test_a_cut_tilted_or_framed_copy_is_found_from_either_side(name: str, what: str) -> None:
    original, copy = picture(name), CUT[what](picture(name))
    there, back = only_pair(original, copy), only_pair(copy, original)
    assert there.source in (Source.HASH, Source.WINDOW)
    assert (there.left_window, there.right_window) == (back.right_window, back.left_window)


def test_random_crops_to_half_the_area_and_of_other_proportions_are_found_from_either_side() -> None:
    random = np.random.default_rng(5)
    found = asked = 0
    for name in ("astronaut", "chelsea", "coffee", "camera", "coins"):
        image = picture(name)
        for _ in range(8):
            area, proportion = random.uniform(0.5, 0.6), random.uniform(0.75, 1.33)
            wide = min(1.0, (area * proportion) ** 0.5)
            high = min(1.0, area / wide)
            x, y = random.uniform(0, 1 - wide), random.uniform(0, 1 - high)
            window = (x, y, x + wide, y + high)
            copy = image.crop([round(part * side) for part, side in zip(window, image.size * 2, strict=True)])  # type: ignore[arg-type]
            asked += 1
            there, back = list(Shelf([image, copy]).search()), list(Shelf([copy, image]).search())
            assert len(there) == len(back)
            if there and there[0].source is Source.WINDOW:
                assert (there[0].left_window, there[0].right_window) == (
                    back[0].right_window,
                    back[0].left_window,
                )
                found += np.abs(np.array(there[0].left_window) - window).max() < 0.12
    assert found >= 0.8 * asked


def test_libraries_beyond_a_size_are_not_asked_for_deep_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    image = picture("coffee")
    copy = image.crop((64, 80, 480, 360))
    assert list(Shelf([image, copy]).search())
    monkeypatch.setattr(by_window, "DEEP_PHOTOS", 1)
    assert not [pair for pair in Shelf([image, copy]).search() if pair.source is Source.WINDOW]


@pytest.mark.parametrize("what", ("crop 20 %", "crop 30 %"))
def test_the_window_of_a_crop_is_where_it_was_cut(what: str) -> None:
    side, across, down = {"crop 20 %": (0.8**0.5, 0.6, 0.1), "crop 30 %": (0.7**0.5, 0.1, 0.8)}[what]
    pair = only_pair(picture("astronaut"), CUT[what](picture("astronaut")))
    x, y = (1 - side) * across, (1 - side) * down
    assert pair.source is Source.WINDOW
    assert pair.left_window == pytest.approx((x, y, x + side, y + side), abs=0.05)
    assert pair.right_window == (0.0, 0.0, 1.0, 1.0)


def test_the_window_of_a_letterboxed_copy_is_what_remains_without_bars() -> None:
    pair = only_pair(picture("coffee"), CUT["letterbox"](picture("coffee")))
    assert pair.right_window == pytest.approx((0.0, 1 / 12, 1.0, 11 / 12), abs=0.01)
    assert pair.left_window == (0.0, 0.0, 1.0, 1.0)


def test_retouched_copies_that_no_hash_finds_are_found_by_their_neighbours() -> None:
    sources = []
    for name in ("astronaut", "coffee", "immunohistochemistry"):
        for other in ("page", "clock", "chelsea"):
            shelf = Shelf([picture(name), retouched(picture(name), picture(other)), picture("coins")])
            pairs = list(shelf.search())
            assert [(pair.left, pair.right) for pair in pairs] == [(10, 20)], (name, other)
            sources.append(pairs[0].source)
            if sources[-1] is Source.NEIGHBOUR:
                without = find_candidates(shelf.table, shelf.greys, Settings(neighbours=False))
                assert list(without) == []
                assert without.quality.fallback == "switched off"
    assert Source.NEIGHBOUR in sources


def test_different_photos_are_no_candidates() -> None:
    assert list(Shelf(picture(name) for name in NAMES if name != "chelsea").search()) == []


# ---- the stream as a whole


def small_library() -> list[Image.Image]:
    shown = [picture(name) for name in NAMES]
    shown += [SAVED["quality 30"](picture("coffee")), picture("coffee").transpose(TURNS[4])]
    shown += [CUT[what](picture("astronaut")) for what in ("crop 20 %", "tilt 3", "phone")]
    shown += [retouched(picture("rocket"), picture("coins")), SAVED["grey"](picture("rocket"))]
    shown += [
        Image.new("RGB", (300, 200), (30, 60, 90)),
        saved_again(Image.new("RGB", (300, 200), (31, 60, 90)), 70),
    ]
    return shown


def test_each_pair_comes_once_with_the_smaller_id_left_and_in_the_same_order_every_time() -> None:
    runs = [list(Shelf(small_library()).search()) for _ in range(2)]
    assert runs[0] == runs[1]
    ends = [(pair.left, pair.right) for pair in runs[0]]
    assert len(ends) == len(set(ends)) >= 9
    assert all(left < right for left, right in ends)


def test_ids_in_any_order_give_the_same_pairs() -> None:
    shelf = Shelf(small_library())
    backwards = FingerprintTable(
        *(getattr(shelf.table, name)[::-1].copy() for name in FingerprintTable.__slots__)
    )
    ends = {(pair.left, pair.right) for pair in shelf.search()}
    assert {(p.left, p.right) for p in find_candidates(backwards, shelf.greys, Settings())} == ends


@pytest.mark.parametrize("new", ([0], [9, 10], [11, 12, 13], [14], [17], list(range(9, 18))))
@pytest.mark.parametrize("keep_files", (False, True))
def test_a_search_of_the_new_gives_the_pairs_of_a_full_search_that_have_a_new_one(
    new: list[int], keep_files: bool, tmp_path: Path
) -> None:
    shelf = Shelf(small_library())
    folder = tmp_path / "index" if keep_files else None
    if folder:
        old = np.setdiff1d(np.arange(len(shelf.table)), new)
        list(find_candidates(shelf.table.take(old), shelf.greys, Settings(), None, folder))
    ids = {10 * (row + 1) for row in new}
    expected = [pair for pair in shelf.search() if pair.left in ids or pair.right in ids]
    found = list(shelf.search(new, folder))
    assert sorted(found, key=repr) == sorted(expected, key=repr)


def test_nothing_new_means_no_work(tmp_path: Path) -> None:
    shelf = Shelf(small_library())
    assert list(shelf.search([], tmp_path)) == []
    assert shelf.fetched == 0
    assert list(tmp_path.iterdir()) == []


def test_files_of_an_earlier_search_spare_the_greys_of_old_photos(tmp_path: Path) -> None:
    shelf = Shelf(small_library())
    list(shelf.search(folder=tmp_path))
    assert {path.suffix for path in tmp_path.iterdir()} == {".bin", ".ann", ".npy"}
    shelf.fetched = 0
    list(shelf.search([9], tmp_path))
    assert shelf.fetched <= 12  # those of the new photo and of its candidates


def test_damaged_or_foreign_files_of_an_earlier_search_are_passed_over(tmp_path: Path) -> None:
    shelf = Shelf(small_library())
    expected = list(shelf.search(folder=tmp_path))
    for path in tmp_path.iterdir():
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 0x55
        path.write_bytes(content[: len(content) // 2] if path.suffix != ".ann" else content)
    assert list(shelf.search(folder=tmp_path)) == expected


def test_a_folder_that_cannot_be_written_costs_nothing_but_speed(tmp_path: Path) -> None:
    in_the_way = tmp_path / "index"
    in_the_way.write_text("a file where the folder should be")
    shelf = Shelf(small_library())
    assert list(shelf.search(folder=in_the_way)) == list(Shelf(small_library()).search())


def test_quality_counts_exact_pairs_and_what_annoy_finds_of_them() -> None:
    stream = Shelf(small_library()).search()
    pairs = list(stream)
    quality = stream.quality
    assert quality.exact_pairs == sum(pair.source is Source.HASH for pair in pairs) > 0
    assert quality.neighbour_pairs == sum(pair.source is Source.NEIGHBOUR for pair in pairs)
    assert quality.fallback == ""
    assert quality.sampled_pairs > 0
    assert quality.recall >= 0.8


def test_a_family_of_near_identical_pictures_comes_out_whole_and_a_crowd_is_thinned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(1)
    pixels = np.asarray(picture("coffee")).astype(np.int16)
    family = [
        Image.fromarray((pixels + random.integers(-3, 4, pixels.shape)).clip(0, 255).astype(np.uint8))
        for _ in range(40)
    ]
    shelf = Shelf(family)
    assert len(list(shelf.search())) == 40 * 39 // 2
    monkeypatch.setattr(by_hash, "MOST_TWINS", 5)
    ends = [(pair.left, pair.right) for pair in shelf.search()]
    assert len(ends) <= 5 * 39
    joined = {10}
    while grown := {id_ for ends_ in ends for id_ in ends_ if joined & set(ends_)} - joined:
        joined |= grown
    assert len(joined) == 40


@pytest.mark.parametrize("new", (None, [3], [0], [9], [10]))
def test_many_equal_fingerprints_are_one_node_that_searches_for_all(
    new: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "FEW_TWINS", 4)
    shelf = Shelf(
        [picture("coffee")] * 5
        + [Image.new("RGB", (90, 60), "navy")] * 5
        + [SAVED["grey"](picture("coffee"))]
    )
    ends = {(pair.left, pair.right): pair.source for pair in shelf.search(new)}
    coffee = {(10, 10 * n): Source.HASH for n in range(2, 6)}
    navy = {(60, 10 * n): Source.FLAT for n in range(7, 11)}
    every = {**coffee, **navy, (10, 110): Source.HASH}
    ids = None if new is None else {10 * (row + 1) for row in new}
    assert ends == {pair: source for pair, source in every.items() if ids is None or ids & set(pair)}


def test_no_photos_and_one_photo_have_no_pairs() -> None:
    for images in ([], [picture("page")]):
        stream = Shelf(images).search()
        assert list(stream) == []
        assert stream.quality.recall == 1.0
