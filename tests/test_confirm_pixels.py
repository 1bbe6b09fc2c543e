"""One frame, pixel against pixel: the measures against plain definitions of them, and the sizes that are one frame."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from dedup.confirm.pixels import (
    PixelDifference,
    Pixels,
    is_same_frame,
    measure_difference,
    measure_grain,
    resize_to,
)
from tests.pictures import decoded, jpeg, night_frame, real_photo

Floats = NDArray[np.float64]
FEW = settings(max_examples=40)


@st.composite
def pairs(draw: st.DrawFn, least: int = 1, most: int = 90) -> tuple[Pixels, Pixels]:
    """Two pictures of one shape: unrelated, near each other, or equal but for one place."""
    height, width = draw(st.integers(least, most)), draw(st.integers(least, most))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    first = random.integers(0, 256, (height, width, 3), np.uint8)
    kind = draw(st.sampled_from(["unrelated", "near", "place", "black and white"]))
    if kind == "unrelated":
        return first, random.integers(0, 256, first.shape, np.uint8)
    if kind == "black and white":
        return np.zeros_like(first), np.full_like(first, 255)
    second = first.copy()
    if kind == "near":
        noise = random.integers(-9, 10, first.shape)
        return first, (first + noise).clip(0, 255).astype(np.uint8)
    second[random.integers(0, height), random.integers(0, width), random.integers(0, 3)] ^= 128
    return first, second


def plain_rms(a: Pixels, b: Pixels) -> float:
    return float(np.sqrt(np.mean(np.square(a.astype(np.float64) - b.astype(np.float64)))))


def plain_worst_tile(gap: Floats, side: int) -> float:
    """Largest Euclidean length of the mean of a tile of (height, width, 3); the last ones lie flush with the edge."""
    height, width = gap.shape[:2]
    down, across = min(side, height), min(side, width)
    return max(
        float(np.linalg.norm(gap[y : y + down, x : x + across].mean(axis=(0, 1))))
        for y in {*range(0, height - down + 1, side), height - down}
        for x in {*range(0, width - across + 1, side), width - across}
    )


@FEW
@given(pairs())
def test_the_rms_is_that_of_its_definition(pair: tuple[Pixels, Pixels]) -> None:
    assert measure_difference(*pair).rms_levels == pytest.approx(plain_rms(*pair), rel=1e-4, abs=1e-6)


@FEW
@given(pairs())
def test_the_worst_tile_is_that_of_its_definition(pair: tuple[Pixels, Pixels]) -> None:
    gap = np.abs(pair[0].astype(np.float64) - pair[1])
    found = measure_difference(*pair).worst_tile_levels
    assert found == pytest.approx(plain_worst_tile(gap, 8), rel=1e-4, abs=1e-4)


@FEW
@given(pairs())
def test_the_shift_of_colour_is_that_of_its_definition(pair: tuple[Pixels, Pixels]) -> None:
    gap = pair[0].astype(np.float64) - pair[1]
    found = measure_difference(*pair).colour_shift_levels
    assert found == pytest.approx(plain_worst_tile(gap, 16), rel=1e-4, abs=1e-3)


@settings(max_examples=10, phases=[Phase.generate])
@given(st.integers(1025, 2048), st.integers(16, 50), st.booleans(), st.integers(0, 2**32 - 1))
def test_a_large_picture_is_compared_reduced_as_well(
    longer: int, shorter: int, upright: bool, seed: int
) -> None:
    compare_reduced(longer, shorter, upright, seed)


@pytest.mark.parametrize("longer", [2500, 4900])
def test_no_row_falls_between_two_bands(longer: int) -> None:
    compare_reduced(longer, 40, True, 1)


def compare_reduced(longer: int, shorter: int, upright: bool, seed: int) -> None:
    """The reduction comes out of the bands of the same pass."""
    random = np.random.default_rng(seed)
    shape = (longer, shorter, 3) if upright else (shorter, longer, 3)
    a, b = (random.integers(0, 256, shape, np.uint8) for _ in range(2))
    found = measure_difference(a, b)
    assert found.rms_levels == pytest.approx(plain_rms(a, b), rel=1e-4)
    gap = a.astype(np.float64) - b
    factor = -(-longer // 1024)
    cut = gap[: shape[0] // factor * factor, : shape[1] // factor * factor]
    reduced = cut.reshape(shape[0] // factor, factor, shape[1] // factor, factor, 3).mean(axis=(1, 3))
    expected = max(plain_worst_tile(np.abs(gap), 8), plain_worst_tile(np.abs(reduced), 8))
    assert found.worst_tile_levels == pytest.approx(expected, rel=1e-4)
    large = max(16, min(reduced.shape[:2]) // 24)
    assert found.colour_shift_levels == pytest.approx(plain_worst_tile(reduced, large), rel=1e-3, abs=1e-3)


@FEW
@given(pairs())
def test_the_difference_is_zero_for_equal_pixels_and_for_these_alone(pair: tuple[Pixels, Pixels]) -> None:
    a, b = pair
    assert (measure_difference(a, b).rms_levels == 0.0) == np.array_equal(a, b)
    same = measure_difference(a, a.copy())
    assert (same.rms_levels, same.worst_tile_levels, same.colour_shift_levels) == (0.0, 0.0, 0.0)
    assert (same.changed_detail, same.changed_detail_box) == (0.0, None)


@FEW
@given(pairs())
def test_the_difference_is_the_same_from_both_sides(pair: tuple[Pixels, Pixels]) -> None:
    a, b = pair
    there, back = measure_difference(a, b), measure_difference(b, a)
    for name in (
        "rms_levels",
        "worst_tile_levels",
        "worst_tile_box",
        "busy_tile_levels",
        "colour_shift_levels",
        "size_px",
    ):
        assert getattr(there, name) == getattr(back, name), name
    assert there.changed_detail == pytest.approx(back.changed_detail, rel=1e-5)


def levels(found: PixelDifference) -> tuple[float, ...]:
    return (found.worst_tile_levels, found.busy_tile_levels, found.colour_shift_levels)


@FEW
@given(pairs())
def test_the_difference_stays_within_the_scale(pair: tuple[Pixels, Pixels]) -> None:
    found = measure_difference(*pair)
    assert 0.0 <= found.rms_levels <= 255.0 + 1e-4
    assert all(0.0 <= value <= 255.0 * 3**0.5 + 1e-3 for value in levels(found))
    assert 0.0 <= found.changed_detail <= 4.0
    x0, y0, x1, y1 = found.worst_tile_box
    assert 0.0 <= x0 < x1 <= 1.0 and 0.0 <= y0 < y1 <= 1.0


def test_black_against_white_is_the_end_of_the_scale() -> None:
    black, white = np.zeros((40, 60, 3), np.uint8), np.full((40, 60, 3), 255, np.uint8)
    found = measure_difference(black, white)
    assert found.rms_levels == 255.0
    assert found.worst_tile_levels == pytest.approx(255 * 3**0.5)


@FEW
@given(pairs(), st.integers(0, 7))
def test_a_turn_of_both_changes_no_rms(pair: tuple[Pixels, Pixels], quarter: int) -> None:
    a, b = (np.ascontiguousarray(np.rot90(pixels, quarter)) for pixels in pair)
    assert measure_difference(a, b).rms_levels == pytest.approx(
        measure_difference(*pair).rms_levels, rel=1e-5
    )


@FEW
@given(pairs(least=24), st.data())
def test_the_worst_box_is_where_the_change_is(pair: tuple[Pixels, Pixels], data: st.DataObject) -> None:
    base = pair[0]
    height, width = base.shape[:2]
    y = data.draw(st.integers(0, height // 8 - 1)) * 8
    x = data.draw(st.integers(0, width // 8 - 1)) * 8
    changed = base.copy()
    changed[y : y + 8, x : x + 8] = 255 - changed[y : y + 8, x : x + 8]
    box = measure_difference(base, changed).worst_tile_box
    assert box == pytest.approx((x / width, y / height, (x + 8) / width, (y + 8) / height))


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        measure_difference(np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4, 3), np.uint8))


def test_transparency_counts_as_a_channel_and_as_black_against_white() -> None:
    grey = np.full((32, 32, 3), 128, np.uint8)
    clear, solid = np.zeros((32, 32), np.uint8), np.full((32, 32), 255, np.uint8)
    hole = solid.copy()
    hole[8:16, 16:24] = 0
    assert measure_difference(grey, grey, (solid, solid)).rms_levels == 0.0
    assert measure_difference(grey, grey, (clear, solid)).rms_levels == pytest.approx(255 / 2)
    found = measure_difference(grey, grey, (solid, hole))
    assert found.worst_tile_levels == pytest.approx(255 * 3**0.5)
    assert found.worst_tile_box == (0.5, 0.25, 0.75, 0.5)


def test_another_letter_in_its_place_is_changed_detail() -> None:
    page = np.full((64, 64, 3), 255, np.uint8)
    first, second = page.copy(), page.copy()
    first[24:34, 28:31] = 0
    second[28:31, 24:34] = 0
    assert measure_difference(first, second).changed_detail > 0.95
    assert measure_difference(first, first // 2 + 100).changed_detail < 0.95


# --- sizes ------------------------------------------------------------------------------------------------------------


@given(st.integers(200, 6000), st.integers(200, 6000), st.integers(100, 1000))
def test_a_whole_resize_is_one_frame_however_it_was_rounded(width: int, height: int, longer: int) -> None:
    for rounded in (math.floor, math.ceil):
        if width >= height:
            small = (longer, rounded(height * longer / width))
        else:
            small = (rounded(width * longer / height), longer)
        assert is_same_frame((width, height), small)
        assert is_same_frame(small, (width, height))


@given(st.integers(300, 6000), st.integers(300, 6000), st.floats(0.7, 0.98))
def test_a_crop_of_one_side_is_another_frame(width: int, height: int, left_over: float) -> None:
    kept = round(width * left_over)
    assert not is_same_frame((width, height), (kept, height))


def test_a_resize_to_its_own_size_is_the_picture_itself() -> None:
    pixels = np.zeros((10, 20, 3), np.uint8)
    assert resize_to(pixels, (20, 10)) is pixels


@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_a_whole_factor_is_averaged(factor: int, tall: int, wide: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (tall * factor, wide * factor, 3), np.uint8)
    means = pixels.astype(np.float64).reshape(tall, factor, wide, factor, 3).mean(axis=(1, 3))
    assert np.abs(resize_to(pixels, (wide, tall)) - means).max() < 0.7


# --- grain ------------------------------------------------------------------------------------------------------------


def as_pixels(image: Image.Image) -> Pixels:
    return np.asarray(image.convert("RGB"))


def test_grain_tells_a_copy_of_noise_from_other_noise() -> None:
    frame = night_frame(1)
    copied, strength = measure_grain(as_pixels(frame), as_pixels(decoded(jpeg(frame, 75))))
    other, _ = measure_grain(as_pixels(frame), as_pixels(night_frame(2)))
    assert copied > 0.25 and strength > 0.4
    assert abs(other) < 0.03


def test_grain_is_the_same_from_both_sides_and_whole_for_itself() -> None:
    a, b = as_pixels(night_frame(1)), as_pixels(night_frame(2))
    assert measure_grain(a, b) == pytest.approx(measure_grain(b, a))
    assert measure_grain(a, a)[0] == pytest.approx(1.0)


def test_a_solid_colour_has_no_grain() -> None:
    solid = np.full((40, 50, 3), 90, np.uint8)
    assert measure_grain(solid, solid) == (0.0, 0.0)
    correlation, strength = measure_grain(solid, as_pixels(real_photo("chelsea", 50).resize((50, 40))))
    assert correlation == 0.0
    assert strength > 1.0


@pytest.mark.parametrize("side", ["bottom", "right"])
def test_what_is_stamped_along_an_edge_is_seen(side: str) -> None:
    """The rows and columns that are left where tiles do not come out even."""
    plain = np.full((223, 319, 3), 190, np.uint8)
    stamped = plain.copy()
    if side == "bottom":
        stamped[211:221, 200:300] = (255, 150, 30)
    else:
        stamped[100:200, 307:317] = (255, 150, 30)
    found = measure_difference(plain, stamped)
    assert found.colour_shift_levels > 60
    assert found.worst_tile_levels > 120
