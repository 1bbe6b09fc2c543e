"""Registration: maps that compose, orientations that form a group, and known maps found again."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from dedup.confirm import alignment
from dedup.confirm.alignment import (
    IDENTITY,
    WHOLE,
    Map,
    align,
    compose_maps,
    correlation,
    coverage,
    find_starts,
    invert_map,
    warp,
    window_map,
)
from dedup.confirm.evidence import combine, stored_orientation, turn
from dedup.confirm.pair import INVERSE, orientation_map
from tests.pictures import (
    Box,
    as_floats,
    as_image,
    cropped,
    ellipse_paste,
    exif_orientation,
    real_photo,
    scaled,
)

ORIENTATIONS = range(1, 9)
PROBE = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


@st.composite
def windows(draw: st.DrawFn) -> Box:
    x0, y0 = draw(st.floats(0, 0.5)), draw(st.floats(0, 0.5))
    return (x0, y0, x0 + draw(st.floats(0.2, 0.5)), y0 + draw(st.floats(0.2, 0.5)))


def apply(matrix: Map, x: float, y: float) -> tuple[float, float]:
    u, v = matrix @ np.array([x, y, 1.0])
    return float(u), float(v)


# --- maps -------------------------------------------------------------------------------------------------------------


@given(windows(), windows())
def test_a_window_map_carries_corner_to_corner(left: Box, right: Box) -> None:
    matrix = window_map(left, right)
    assert apply(matrix, left[0], left[1]) == pytest.approx((right[0], right[1]))
    assert apply(matrix, left[2], left[3]) == pytest.approx((right[2], right[3]))
    assert apply(matrix, left[0], left[3]) == pytest.approx((right[0], right[3]))


@given(windows(), windows())
def test_the_inverse_leads_back(left: Box, right: Box) -> None:
    assert invert_map(window_map(left, right)) == pytest.approx(window_map(right, left), abs=1e-9)
    there = window_map(left, right)
    assert compose_maps(there, invert_map(there)) == pytest.approx(IDENTITY, abs=1e-9)
    assert compose_maps(invert_map(there), there) == pytest.approx(IDENTITY, abs=1e-9)


@given(windows(), windows(), windows())
def test_windows_compose(first: Box, second: Box, third: Box) -> None:
    composed = compose_maps(window_map(first, second), window_map(second, third))
    assert composed == pytest.approx(window_map(first, third), abs=1e-9)


maps = st.lists(st.floats(-0.3, 0.3), min_size=6, max_size=6).map(
    lambda values: IDENTITY + np.array(values).reshape(2, 3)
)


@given(maps, maps, maps, st.floats(0, 1), st.floats(0, 1))
def test_composition_applies_one_after_the_other(a: Map, b: Map, c: Map, x: float, y: float) -> None:
    assert apply(compose_maps(a, b), x, y) == pytest.approx(apply(b, *apply(a, x, y)), abs=1e-9)
    assert compose_maps(compose_maps(a, b), c) == pytest.approx(compose_maps(a, compose_maps(b, c)), abs=1e-9)
    assert compose_maps(IDENTITY, a) == pytest.approx(a) and compose_maps(a, IDENTITY) == pytest.approx(a)


def test_coverage_is_the_part_that_the_other_picture_shows() -> None:
    half = window_map((0.5, 0.0, 1.0, 1.0), WHOLE)
    inside = coverage(half, (100, 40), (50, 40), margin_px=0.0)
    assert not inside[:, :50].any() and inside[:, 50:].all()
    assert coverage(IDENTITY, (64, 64), (64, 64), margin_px=0.0).all()


def test_a_warp_by_the_identity_is_the_picture_itself() -> None:
    cat = real_photo("chelsea", 200)
    assert (np.asarray(warp(cat, IDENTITY, cat.size)) == np.asarray(cat)).all()


@given(windows())
def test_a_warp_shows_the_window_it_is_asked_for(window: Box) -> None:
    ramp = np.linspace(0, 200, 200)[None, :].repeat(100, 0).astype(np.float32)
    seen = np.asarray(warp(Image.fromarray(ramp), window_map(WHOLE, window), (40, 20)))
    expected = 200 * (window[0] + (window[2] - window[0]) * (np.arange(40) + 0.5) / 40)
    assert np.abs(seen[10, 2:-2] - expected[2:-2]).max() < 2.0


# --- orientations -----------------------------------------------------------------------------------------------------


def test_a_turn_is_what_pillow_does_for_an_exif_orientation() -> None:
    image = Image.fromarray(PROBE)
    for orientation in ORIENTATIONS:
        image.getexif()[0x0112] = orientation
        image.info["exif"] = exif_orientation(orientation).tobytes()
        assert (turn(PROBE, orientation) == np.asarray(ImageOps.exif_transpose(image))).all(), orientation


def test_turns_form_a_group() -> None:
    for first, then in itertools.product(ORIENTATIONS, repeat=2):
        both = combine(first, then)
        assert both in ORIENTATIONS
        assert (turn(PROBE, both) == turn(turn(PROBE, first), then)).all()
        for last in ORIENTATIONS:
            assert combine(both, last) == combine(first, combine(then, last))
    for orientation in ORIENTATIONS:
        assert combine(1, orientation) == combine(orientation, 1) == orientation
        assert {combine(orientation, other) for other in ORIENTATIONS} == set(ORIENTATIONS)


def test_every_turn_has_its_inverse() -> None:
    for orientation in ORIENTATIONS:
        undo = INVERSE.get(orientation, orientation)
        assert combine(orientation, undo) == combine(undo, orientation) == 1
        assert (turn(stored_orientation(PROBE, orientation), orientation) == PROBE).all()


def test_the_map_of_a_turn_leads_where_the_pixels_go() -> None:
    ramp = np.stack(np.meshgrid(np.arange(60), np.arange(40)), axis=-1).astype(np.uint8)
    for orientation in ORIENTATIONS:
        turned = turn(ramp, orientation)
        height, width = turned.shape[:2]
        for x, y in ((3, 5), (50, 7), (22, 33)):
            u, v = apply(orientation_map(orientation), (x + 0.5) / 60, (y + 0.5) / 40)
            assert tuple(turned[int(v * height), int(u * width)]) == (x, y), orientation


def test_the_maps_of_turns_compose_as_the_turns_do() -> None:
    for first, then in itertools.product(ORIENTATIONS, repeat=2):
        composed = compose_maps(orientation_map(first), orientation_map(then))
        assert composed == pytest.approx(orientation_map(combine(first, then)))


# --- registration -----------------------------------------------------------------------------------------------------


def grey(name: str) -> Image.Image:
    return real_photo(name, 340).convert("L")


def largest_error(found: Map, true: Map) -> float:
    """Over the corners, as a share of the side."""
    corners = itertools.product((0.1, 0.9), repeat=2)
    return max(
        abs(a - b) for x, y in corners for a, b in zip(apply(found, x, y), apply(true, x, y), strict=True)
    )


TRUE = {
    "shifted": np.array([[1.0, 0.0, 0.03], [0.0, 1.0, -0.025]]),
    "cropped": window_map((0.06, 0.04, 0.94, 0.98), WHOLE),
    "tilted": np.array([[1.0, 0.035, -0.015], [-0.035, 1.0, 0.02]]),
    "stretched": np.array([[1.04, 0.0, -0.02], [0.0, 0.97, 0.015]]),
}


@pytest.mark.parametrize("name", ["astronaut", "coffee"])
@pytest.mark.parametrize("kind", TRUE)
def test_a_known_map_is_found_again(name: str, kind: str) -> None:
    left = grey(name)
    # What the other picture shows at (u, v), the left one shows where the map came from.
    right = warp(left, invert_map(TRUE[kind]), left.size, Image.Resampling.BICUBIC)
    found = align(left, right, IDENTITY)
    assert largest_error(found.map, TRUE[kind]) < 0.003
    assert found.correlation > 0.95


@pytest.mark.parametrize("change", ["brighter", "inverted gain", "painted over", "half"])
def test_a_map_is_found_through_other_changes(change: str) -> None:
    window = (0.05, 0.03, 0.97, 0.95)
    left = real_photo("astronaut", 340)
    right = cropped(left, *window)
    if change == "brighter":
        right = ImageEnhance.Brightness(right).enhance(1.3)
    elif change == "inverted gain":
        right = as_image(120 + 0.3 * as_floats(right))
    elif change == "painted over":
        right = ellipse_paste(right, real_photo("coffee", 340), (60, 90, 180, 190))
    else:
        right = scaled(right, 0.5)
    found = align(left.convert("L"), right.convert("L"), IDENTITY)
    assert largest_error(found.map, window_map(window, WHOLE)) < 0.006


def test_a_map_that_ran_away_says_so() -> None:
    far = window_map((0.9, 0.9, 1.0, 1.0), WHOLE)
    found = align(grey("coffee"), grey("rocket"), far)
    assert (found.overlap, found.correlation) == (0.0, 0.0)


def test_flat_pictures_align_without_moving() -> None:
    flat = Image.new("L", (120, 90), 80)
    found = align(flat, flat, IDENTITY)
    assert found.correlation == 0.0
    assert np.isfinite(found.map).all()


@pytest.mark.parametrize("window", [(0.2, 0.0, 1.0, 0.8), (0.0, 0.15, 0.7, 0.85), (0.1, 0.3, 0.75, 0.95)])
@pytest.mark.parametrize("swap", [False, True])
def test_a_start_is_found_for_a_crop_from_either_side(window: Box, swap: bool) -> None:
    whole = grey("astronaut")
    left, right = (image.resize((64, 64), Image.Resampling.BOX) for image in (whole, cropped(whole, *window)))
    true = window_map(window, WHOLE)
    if swap:
        left, right, true = right, left, invert_map(true)
    starts = find_starts(np.asarray(left, np.float32), np.asarray(right, np.float32))
    scale = true[0, 0]
    assert min(largest_error(start, true) for start in starts) < 0.12 * scale


def test_starts_are_few_and_differ() -> None:
    rng = np.random.default_rng(1)
    left, right = rng.normal(128, 40, (2, 64, 64)).astype(np.float32)
    starts = find_starts(left, right, count=3)
    assert len(starts) == 6
    assert len({start.tobytes() for start in starts}) == 6


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 5), st.floats(-50, 50))
def test_correlation_knows_no_gain_and_no_offset(seed: int, gain: float, offset: float) -> None:
    random = np.random.default_rng(seed)
    a, b = random.normal(0, 30, (2, 16, 16)).astype(np.float32)
    weight = np.ones((16, 16), np.bool_)
    found = correlation(a, b, weight)
    assert found == pytest.approx(correlation(b, a, weight), abs=1e-5)
    assert found == pytest.approx(correlation(a, (gain * b + offset).astype(np.float32), weight), abs=1e-3)
    assert -1.001 <= found <= 1.001
    assert correlation(a, a, weight) == pytest.approx(1.0, abs=1e-5)


def test_correlation_looks_only_where_it_may() -> None:
    a = np.random.default_rng(1).normal(0, 30, (16, 16)).astype(np.float32)
    b = a.copy()
    b[:8] = 7.0
    weight = np.zeros((16, 16), np.bool_)
    weight[8:] = True
    assert correlation(a, b, weight) == pytest.approx(1.0)
    assert correlation(a, b, np.zeros((16, 16), np.bool_)) == 0.0
    assert correlation(a, np.full_like(a, 3.0), np.ones((16, 16), np.bool_)) == 0.0


def test_light_that_changes_slowly_is_flattened_out() -> None:
    detail = as_floats(real_photo("coffee", 340))[..., 1]
    slope = np.linspace(0.4, 1.0, detail.shape[1], dtype=np.float32)
    flat = [
        np.asarray(alignment.flatten_light(Image.fromarray(values.astype(np.float32)), 0.06))
        for values in (detail, detail * slope)
    ]
    everywhere = np.ones(detail.shape, np.bool_)
    assert correlation(flat[0], flat[1], everywhere) > correlation(detail, detail * slope, everywhere)
