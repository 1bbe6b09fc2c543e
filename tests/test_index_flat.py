"""Flat pictures: found by colour where hashes say nothing, and without all pairs of a crowd."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from dedup.index import flat
from dedup.index.flat import flat_pairs

Pixels = NDArray[np.uint8]


def grids(*colours: tuple[int, int, int]) -> Pixels:
    return np.stack([np.full((8, 8, 3), colour, np.uint8) for colour in colours])


def found(
    colour: Pixels, greys: Pixels | None = None, new: NDArray[np.bool_] | None = None
) -> list[tuple[int, int]]:
    shown = np.zeros((len(colour), 64, 64), np.uint8) if greys is None else greys
    fresh = np.ones(len(colour), dtype=bool) if new is None else new
    pairs = [
        pair
        for first, second in flat_pairs(colour, lambda rows: shown[rows], fresh)
        for pair in zip(first.tolist(), second.tolist(), strict=True)
    ]
    assert len(pairs) == len(set(pairs))
    assert all(a < b for a, b in pairs)
    return sorted(pairs)


def test_the_same_colour_saved_again_is_proposed_and_another_colour_is_not() -> None:
    assert found(grids((30, 60, 90), (200, 60, 90), (31, 59, 91), (30, 70, 90))) == [(0, 2)]


def test_one_cell_that_differs_is_enough() -> None:
    colour = grids((30, 60, 90), (30, 60, 90), (30, 60, 90))
    colour[1, 3, 5] = 60
    assert found(colour) == [(0, 2)]


@pytest.mark.parametrize("new", ([], [0], [3], [1, 2]))
def test_only_pairs_with_a_new_picture_come_out(new: list[int]) -> None:
    colour = grids((9, 9, 9), (9, 9, 9), (9, 9, 9), (9, 9, 9))
    expected = [(a, b) for a, b in found(colour) if a in new or b in new]
    assert found(colour, None, np.isin(np.arange(4), new)) == expected


def crowd(count: int, copies: int) -> tuple[Pixels, Pixels]:
    """Night frames of one colour, each noise of its own; the last `copies` are the first ones with more noise."""
    random = np.random.default_rng(3)
    greys = random.normal(8, 0.6, (count, 64, 64))
    greys[count - copies :] = greys[:copies] + random.normal(0, 0.9, (copies, 64, 64))
    return grids(*[(8, 8, 8)] * count), np.rint(greys).astype(np.uint8)


def test_in_a_crowd_the_same_noise_is_found_and_not_all_pairs() -> None:
    colour, greys = crowd(400, 20)
    pairs = found(colour, greys)
    assert {(a, a + 380) for a in range(20)} <= set(pairs)
    assert len(pairs) < 400 * (flat.NEAREST + 1)
    assert {0} | {b for a, b in pairs if a == 0} == set(range(400))  # joined through the first of its kind


def test_a_new_picture_of_a_crowd_finds_its_noise() -> None:
    colour, greys = crowd(300, 3)
    new = np.arange(300) >= 297
    pairs = found(colour, greys, new)
    assert {(0, 297), (1, 298), (2, 299)} <= set(pairs)
    assert all(b >= 297 for _, b in pairs)
    assert len(pairs) <= 3 * (flat.NEAREST + 1) + 3


def test_a_small_family_is_proposed_all_with_all() -> None:
    colour, greys = crowd(flat.SMALL_FAMILY, 1)
    assert len(found(colour, greys)) == flat.SMALL_FAMILY * (flat.SMALL_FAMILY - 1) // 2


def test_none_and_one_have_no_pairs() -> None:
    assert found(grids((1, 2, 3))) == []
    assert found(np.empty((0, 8, 8, 3), np.uint8)) == []
