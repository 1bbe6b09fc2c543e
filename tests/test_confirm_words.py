"""What was done, in words: frames, sizes, files and whole sentences from the numbers alone."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup.confirm.alignment import IDENTITY, WHOLE, Map, compose_maps, invert_map, window_map
from dedup.confirm.finish import Finish
from dedup.confirm.likeness import Likeness, Place, Toning
from dedup.confirm.pixels import PixelDifference
from dedup.confirm.relation import relation_of_edit
from dedup.confirm.words import (
    compose_sentence,
    detail_changes,
    file_changes,
    finish_changes,
    frame_changes,
    missing_metadata,
    outlier_change,
    place_changes,
    resave_changes,
    resize_changes,
    size_ratio,
    tone_changes,
    turn_change,
)
from dedup.records import Change, Relation
from tests.drawn import draw_photo
from tests.pictures import Box

SIZE = (1600, 1200)


def said(changes: list[Change]) -> list[str]:
    return [change.words for change in changes]


# --- frames and sizes -------------------------------------------------------------------------------------------------


def test_the_same_frame_needs_no_words() -> None:
    assert frame_changes(IDENTITY, SIZE, SIZE) == []


CUTS = {
    "cropped to 81 %": (0.05, 0.05, 0.95, 0.95),
    "cropped to 80 % (left)": (0.2, 0.0, 1.0, 1.0),
    "cropped to 80 % (bottom)": (0.0, 0.0, 1.0, 0.8),
    "cropped to 72 % (left and top)": (0.1, 0.2, 1.0, 1.0),
    "cropped to 64 % (left and top and bottom)": (0.2, 0.1, 1.0, 0.9),
}


@pytest.mark.parametrize("words", CUTS)
def test_a_crop_says_how_much_is_left_and_where_it_was_cut(words: str) -> None:
    x0, y0, x1, y1 = CUTS[words]
    right = (round(1600 * (x1 - x0)), round(1200 * (y1 - y0)))
    assert said(frame_changes(window_map(CUTS[words], WHOLE), SIZE, right)) == [words]


BARS: dict[str, tuple[Box, tuple[int, int]]] = {
    "with a border": ((0.1, 0.1, 0.9, 0.9), (2000, 1500)),
    "with bars of 10 % above and below": ((0.0, 0.1, 1.0, 0.9), (1600, 1500)),
    "with bars of 25 % at the sides": ((0.25, 0.0, 0.75, 1.0), (3200, 1200)),
    "with a bar (bottom)": ((0.0, 0.0, 1.0, 0.8), (1600, 1500)),
}


@pytest.mark.parametrize("words", BARS)
def test_a_border_says_on_which_sides_it_is(words: str) -> None:
    shown, size = BARS[words]
    assert said(frame_changes(window_map(WHOLE, shown), SIZE, size)) == [words]


def test_cut_here_and_extended_there_says_both() -> None:
    moved = window_map((0.1, 0.0, 1.0, 1.0), (0.0, 0.0, 0.9, 1.0))
    assert said(frame_changes(moved, SIZE, SIZE)) == ["cropped (left) and extended (right)"]


def tilt(degrees: float, zoom: float = 1.0) -> Map:
    """The map of a picture turned about its middle by a hand on the camera, in fractions of a 4:3 frame."""
    angle = math.radians(degrees)
    turning = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) * zoom
    pixels = np.diag(SIZE).astype(float)
    linear = np.linalg.inv(pixels) @ turning @ pixels
    middle = np.array([[0.5], [0.5]])
    return np.hstack([linear, middle - linear @ middle])


@given(st.floats(-6, 6).filter(lambda degrees: abs(degrees) > 0.4))
def test_a_tilt_is_measured_in_degrees_of_the_picture_not_of_its_fractions(degrees: float) -> None:
    change = next(change for change in frame_changes(tilt(degrees), SIZE, SIZE) if change.kind == "tilted")
    assert change.amount == pytest.approx(abs(degrees), abs=0.01)
    back = next(
        change for change in frame_changes(invert_map(tilt(degrees)), SIZE, SIZE) if change.kind == "tilted"
    )
    assert {change.words.rsplit(" ", 1)[1], back.words.rsplit(" ", 1)[1]} == {"left", "right"}


def test_a_tilted_crop_says_both() -> None:
    matrix = compose_maps(window_map((0.1, 0.1, 0.9, 0.9), WHOLE), tilt(2))
    kinds = [change.kind for change in frame_changes(matrix, SIZE, (1280, 960))]
    assert kinds == ["tilted", "cropped"]


@given(st.floats(0.2, 4), st.floats(0.3, 1))
def test_the_ratio_of_sizes_is_that_of_the_same_content(across: float, share: float) -> None:
    window = (0.0, 0.0, share, share)
    right = (1600 * across * window[2], 1200 * across * window[3])
    ratio = size_ratio(window_map(window, WHOLE), SIZE, (round(right[0]), round(right[1])))
    assert ratio == pytest.approx(across, rel=0.02)


RATIOS = {
    1.0: [],
    0.995: [],
    0.5: ["half the size"],
    0.25: ["a quarter of the size"],
    1 / 3: ["a third of the size"],
    2.0: ["twice the size"],
    0.8: ["80 % of the size"],
    1.5: ["150 % of the size"],
}


@pytest.mark.parametrize("ratio", RATIOS)
def test_a_ratio_of_sizes_in_words(ratio: float) -> None:
    assert said(resize_changes(ratio)) == RATIOS[ratio]


def test_a_picture_that_was_not_turned_needs_no_words() -> None:
    assert turn_change(1) is None
    assert all(turn_change(orientation) for orientation in range(2, 9))


# --- tone and places --------------------------------------------------------------------------------------------------

PLAIN = Toning(0.0, 1.0, 1.0, 1.0, 0.0, 0.0)


ALIKE = Likeness(
    covered_left=1.0,
    covered_right=1.0,
    detail_correlation=0.95,
    median_disagreement=0.05,
    high_disagreement=0.1,
    detail_ratio=1.0,
    telling_cells=100,
    agreeing_cells=100,
    shift_px=0.0,
    rms_levels=2.0,
    mean_levels=1.0,
    median_levels=1.0,
    places=(),
    changed_share=0.0,
    plain_share=0.1,
    toning=PLAIN,
    size_px=(512, 384),
)


TONES: dict[str, tuple[Toning, dict[str, Any]]] = {
    "brighter": (Toning(15.0, 1.15, 1.15, 1.15, 0.0, 0.0), {}),
    "darker": (Toning(-15.0, 0.85, 0.85, 0.85, 0.0, 0.0), {}),
    "more contrast": (Toning(0.0, 1.0, 1.3, 1.3, 0.0, 0.0), {}),
    "less contrast": (Toning(0.0, 1.0, 0.7, 0.7, 0.0, 0.0), {}),
    "stronger colours": (Toning(0.0, 1.0, 1.0, 1.5, 0.0, 0.0), {}),
    "paler colours": (Toning(0.0, 1.0, 1.0, 0.6, 0.0, 0.0), {}),
    "in greyscale": (Toning(0.0, 1.0, 1.0, 0.0, -20.0, 0.0), {}),
    "warmer": (Toning(0.0, 1.0, 1.0, 1.0, 9.0, 0.0), {}),
    "cooler": (Toning(0.0, 1.0, 1.0, 1.0, -9.0, 0.0), {}),
    "darker towards the corners": (Toning(0.0, 1.0, 1.0, 1.0, 0.0, -0.4), {}),
    "brighter towards the corners": (Toning(0.0, 1.0, 1.0, 1.0, 0.0, 0.4), {}),
}

DETAIL: dict[str, dict[str, float]] = {
    "softer": {"detail_ratio": 0.5},
    "sharper": {"detail_ratio": 1.6},
    "noisier": {"detail_ratio": 1.6, "high_disagreement": 0.5, "detail_correlation": 0.7},
}


@pytest.mark.parametrize("words", DETAIL)
def test_what_became_of_the_detail_of_a_moved_frame_has_one_word(words: str) -> None:
    assert said(detail_changes(replace(ALIKE, **DETAIL[words]))) == [words]  # type: ignore[arg-type]
    assert detail_changes(ALIKE) == []


FINISHES: dict[str, tuple[Finish, dict[str, Any]]] = {
    "slightly blurred": (Finish(0.7, 0.5, -9.0), {"quality": 92}),
    "blurred": (Finish(0.1, 0.5, -90.0), {"quality": 92}),
    "sharpened": (Finish(1.9, 2.0, 90.0), {"quality": 92}),
    "with noise of 5 levels": (Finish(1.0, 4.6, 20.0), {"quality": 90}),
}


@pytest.mark.parametrize("words", FINISHES)
def test_blur_sharpening_and_noise_of_a_kept_frame_have_one_word(words: str) -> None:
    finish, file = FINISHES[words]
    assert said(finish_changes(finish, draw_photo(1, **file).info)) == [words]


@pytest.mark.parametrize(
    ("finish", "contrast", "file"),
    [
        (Finish(0.9, 0.5, 0.0), 1.0, {"quality": 92}),
        (Finish(0.7, 0.5, -9.0), 1.0, {"quality": 30}),
        (Finish(0.7, 0.5, -9.0), 1.0, {"format": "WEBP", "quality": 0}),
        (Finish(0.72, 0.5, -60.0), 0.75, {"quality": 92}),
        (Finish(1.35, 0.5, 60.0), 1.3, {"quality": 92}),
        (Finish(1.0, 4.6, 20.0), 1.0, {"quality": 80}),
        (Finish(1.0, 4.6, 1.0), 1.0, {"quality": 92}),
        (Finish(1.2, 4.6, 20.0), 1.0, {"quality": 92}),
        (Finish(1.0, 2.5, 20.0), 1.0, {"quality": 98}),
    ],
    ids=[
        "detail kept",
        "taken by a coarse save",
        "perhaps taken by a save",
        "less contrast",
        "more contrast",
        "errors of a coarse save",
        "in places only",
        "sharper",
        "weak",
    ],
)
def test_what_tone_and_compression_do_to_detail_is_not_told_as_blur_or_noise(
    finish: Finish, contrast: float, file: dict[str, Any]
) -> None:
    assert finish_changes(finish, draw_photo(1, **file).info, contrast) == []


def test_one_tile_far_beyond_the_others_is_told() -> None:
    difference = PixelDifference(2.0, 30.0, (0.9, 0.9, 0.92, 0.92), 3.0, 5.0, 0.9, None, 50.0, (800, 600))
    told = outlier_change(difference)
    assert told is not None
    assert told.words == "something small changed at the bottom right"
    assert outlier_change(replace(difference, busy_tile_levels=9.0)) is None


def test_a_copy_of_about_the_same_quality_was_saved_again_all_the_same() -> None:
    assert said(resave_changes(draw_photo(1, quality=95))) == ["saved again at about quality 95"]
    assert resave_changes(draw_photo(1, format="PNG", quality=0)) == []


@pytest.mark.parametrize("words", TONES)
def test_a_change_of_tone_has_one_word(words: str) -> None:
    toning, figures = TONES[words]
    assert said(tone_changes(replace(ALIKE, toning=toning, **figures))) == [words]


def test_no_change_of_tone_needs_no_words() -> None:
    assert tone_changes(ALIKE) == []


def test_a_place_says_where_it_is_and_how_large() -> None:
    corner = Place((0.05, 0.05, 0.15, 0.15), 0.008, 40.0)
    middle = Place((0.4, 0.4, 0.6, 0.6), 0.12, 40.0)
    side = Place((0.8, 0.4, 0.9, 0.6), 0.02, 40.0)
    assert said(place_changes(replace(ALIKE, places=(middle, side, corner)))) == [
        "something changed in the middle, 12 % of the picture",
        "something changed on the right, 2.0 % of the picture",
        "something changed at the top left, 0.8 % of the picture",
    ]
    assert [change.box for change in place_changes(replace(ALIKE, places=(middle, side, corner)))] == [
        middle.box,
        side.box,
        corner.box,
    ]


def test_no_more_than_three_places_are_told() -> None:
    places = tuple(Place((n / 10, 0.0, n / 10 + 0.05, 0.05), 0.01, 40.0) for n in range(6))
    assert len(place_changes(replace(ALIKE, places=places))) == 3


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_file_is_told_by_its_container_quality_depth_and_profile() -> None:
    jpeg = draw_photo(1, quality=92)
    assert said(file_changes(jpeg, draw_photo(2, quality=75))) == ["saved again at about quality 75"]
    assert said(file_changes(jpeg, draw_photo(2, quality=98))) == ["saved again at about quality 98"]
    assert said(file_changes(jpeg, draw_photo(2, quality=91))) == []
    png = draw_photo(3, format="PNG", quality=0, lossless=True)
    assert said(file_changes(jpeg, png)) == ["as PNG"]
    assert said(file_changes(png, jpeg)) == ["as JPEG of about quality 92"]
    assert said(file_changes(draw_photo(4, bits=16), draw_photo(5, bits=8))) == ["8 instead of 16 bits"]
    assert said(file_changes(draw_photo(6, icc_digest="ab"), draw_photo(7))) == ["colour profile lost"]
    profiled = draw_photo(6, icc_digest="ab", icc_name="Adobe  RGB (1998)")
    assert said(file_changes(draw_photo(7), profiled)) == ["with the colour profile Adobe RGB (1998)"]
    assert said(file_changes(profiled, draw_photo(8, icc_digest="cd"))) == ["with a colour profile"]
    assert said(file_changes(profiled, profiled)) == []


def test_what_only_the_keeper_says_is_missing_in_the_other() -> None:
    full = draw_photo(
        1,
        gps="48.1, 11.5",
        capture_time="2019-07-04T12:41:07",
        rating="5",
        keywords=("sea",),
        caption="The sea",
    )
    bare = draw_photo(2)
    assert missing_metadata(full, bare) == ["GPS", "capture time", "rating", "keywords", "caption"]
    assert missing_metadata(bare, full) == missing_metadata(full, full) == []


# --- sentences --------------------------------------------------------------------------------------------------------

HALF = Change("resized", "half the size")
SAVED = Change("recompressed", "saved again at about quality 75")
GPS = Change("metadata", "GPS missing")


def test_a_sentence_begins_with_the_relation_and_ends_with_what_is_missing() -> None:
    assert compose_sentence(Relation.SAME_PICTURE, [HALF, GPS, SAVED]) == (
        "the same picture, half the size, saved again at about quality 75; GPS missing"
    )
    assert compose_sentence(Relation.SAME_PIXELS, [GPS]) == "the same pixels; GPS missing"
    assert compose_sentence(Relation.SAME_BYTES, []) == "the same bytes"
    assert compose_sentence(Relation.EDITED, [Change("cropped", "cropped to 80 %"), HALF]) == (
        "an edited version: cropped to 80 %, half the size"
    )
    assert compose_sentence(Relation.EDITED, []) == "an edited version"


def test_another_moment_is_not_described_as_an_edit() -> None:
    assert compose_sentence(Relation.SIMILAR, [HALF, SAVED]) == "the same scene, another moment"


def test_what_registers_poorly_is_no_edit_however_well_one_edge_agrees() -> None:
    assert relation_of_edit(ALIKE, 0.8, same_frame=False) is Relation.EDITED
    assert relation_of_edit(ALIKE, 0.4, same_frame=False) is Relation.SIMILAR


def test_a_small_shift_of_what_agrees_everywhere_is_a_tone_and_elsewhere_another_view() -> None:
    shifted = replace(ALIKE, shift_px=1.2, detail_correlation=0.96)
    assert relation_of_edit(shifted, 0.9, same_frame=True) is Relation.EDITED
    for other in (
        replace(shifted, shift_px=1.6),
        replace(shifted, detail_correlation=0.9),
        replace(shifted, agreeing_cells=97),
    ):
        assert relation_of_edit(other, 0.9, same_frame=True) is Relation.SIMILAR
    assert relation_of_edit(shifted, 0.9, same_frame=False) is Relation.SIMILAR
