"""Candidates among pictures without texture - night, fog, walls, gradients, one colour - where hashes say
nothing.

Promises: pictures whose 8 x 8 colour grids agree within what saving again moves are proposed to each other,
all with all while a colour is rare, and with a bounded number each where thousands share it (a lens cap, a
black frame). Does not: find toned or cropped versions of flat pictures; there is nothing in them to
recognise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]

GRID_LEVELS = 3.0
"""Greatest difference, in levels, of the mean colours of two halves of a flat picture and its copy. JPEG at
quality 70 moves the cells of a solid colour by 1, a gradient's by 2."""
CELL_LEVELS = 6.0
"""The same for any one of the 64 cells."""
SMALL_FAMILY = 24
"""Up to so many pictures of one colour are proposed all with all: 276 pairs."""
NEAREST = 6
"""In a larger family, how many others each picture is proposed to, by the likeness of its noise."""
NOISE_LIKENESS = 0.05
"""Correlation of the 64 x 64 greys from which noise is the same noise: a q70 copy of a night frame reaches
0.12, other frames scatter by 0.016 about nought."""
_BLOCK = 1024


def flat_pairs(
    colour: NDArray[np.uint8], greys: Callable[[Rows], NDArray[np.uint8]], is_new: NDArray[np.bool_]
) -> Iterator[tuple[Rows, Rows]]:
    """Pairs of flat pictures that may be copies.

    Parameters
    ----------
    colour : (n, 8, 8, 3) uint8
        Grids of the flat pictures.
    greys
        Gives the (k, 64, 64) greys of k rows.
    is_new : (n,) bool
        Only pairs with a new picture come out.

    Yields
    ------
    first, second : (k,) int64
        Rows, first < second, each pair once.
    """
    if len(colour) < 2:
        return
    from scipy.spatial import cKDTree  # a fifth of a second that libraries without flat pictures do not spend

    grid = colour.reshape(len(colour), 64 * 3).astype(np.float32)
    quarters = quarters_of(colour)
    tree = cKDTree(quarters)
    asked = np.flatnonzero(is_new)
    crowds: list[int] = []
    for at in range(0, len(asked), _BLOCK):
        rows = asked[at : at + _BLOCK]
        counts = tree.query_ball_point(quarters[rows], GRID_LEVELS, p=np.inf, return_length=True)
        few = rows[counts <= SMALL_FAMILY]
        crowds += rows[counts > SMALL_FAMILY].tolist()
        near = tree.query_ball_point(quarters[few], GRID_LEVELS, p=np.inf, return_sorted=True)
        first = np.repeat(few, [len(found) for found in near])
        second = np.concatenate(
            [np.array(found, dtype=np.int64) for found in near] or [np.empty(0, np.int64)]
        )
        yield from _once(first, second, grid, is_new)
    if crowds:
        yield from _crowd_pairs(np.array(crowds, dtype=np.int64), grid, quarters, greys)


def quarters_of(colour: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, 12): mean colours of the four quarters of each picture's grid."""
    quarters = colour.reshape(len(colour), 2, 4, 2, 4, 3).mean(axis=(2, 4), dtype=np.float32)
    return np.asarray(quarters.reshape(len(colour), 12))


def _once(
    first: Rows, second: Rows, grid: NDArray[np.float32], is_new: NDArray[np.bool_]
) -> Iterator[tuple[Rows, Rows]]:
    """Drop pairs that were or will be met from the other side, and those with a cell that differs."""
    kept = (first != second) & (~is_new[second] | (first < second))
    first, second = first[kept], second[kept]
    close = np.abs(grid[first] - grid[second]).max(axis=1, initial=0.0) <= CELL_LEVELS
    if close.any():
        yield np.minimum(first, second)[close], np.maximum(first, second)[close]


def _crowd_pairs(
    asked: Rows,
    grid: NDArray[np.float32],
    quarters: NDArray[np.float32],
    greys: Callable[[Rows], NDArray[np.uint8]],
) -> Iterator[tuple[Rows, Rows]]:
    """Pictures that share their colour with many: each with the first of its kind, and with those of the
    same noise.

    All with all is a matrix product, 1,024 against 1,024 at a time: 5,000 black frames take 5 s, and 30,000
    pairs come out instead of 12 million.
    """
    from scipy.spatial import cKDTree

    tree = cKDTree(quarters)
    waiting = np.zeros(len(grid), dtype=bool)
    waiting[asked] = True
    pairs = []
    for row in asked.tolist():
        if not waiting[row]:
            continue
        family = np.array(tree.query_ball_point(quarters[row], GRID_LEVELS, p=np.inf, return_sorted=True))
        family = family[np.abs(grid[family] - grid[row]).max(axis=1) <= CELL_LEVELS]
        here = family[waiting[family]]
        waiting[here] = False
        best = _nearest_noise(here, family, greys)
        first = np.concatenate([here, np.repeat(here, best.shape[1])])
        second = np.concatenate([np.full(len(here), family[0]), best.reshape(-1)])
        real = (second >= 0) & (first != second)
        first, second = first[real], second[real]
        pairs.append(np.stack([np.minimum(first, second), np.maximum(first, second)], axis=1))
    once = np.unique(np.concatenate(pairs), axis=0)
    yield once[:, 0], once[:, 1]


def _nearest_noise(asked: Rows, family: Rows, greys: Callable[[Rows], NDArray[np.uint8]]) -> Rows:
    """(k, NEAREST) rows whose greys correlate best with each one's, -1 where none does."""
    best = np.full((len(asked), NEAREST), -1, dtype=np.int64)
    for at in range(0, len(asked), _BLOCK):
        rows = asked[at : at + _BLOCK]
        mine = _normal(greys(rows))
        likeness = np.full((len(rows), NEAREST), NOISE_LIKENESS, dtype=np.float32)
        for start in range(0, len(family), _BLOCK):
            other = family[start : start + _BLOCK]
            found = mine @ _normal(greys(other)).T
            found[rows[:, None] == other[None, :]] = -1.0
            both = np.concatenate([likeness, found], axis=1)
            names = np.concatenate([best[at : at + len(rows)], np.broadcast_to(other, found.shape)], axis=1)
            order = np.argsort(-both, axis=1, kind="stable")[:, :NEAREST]
            likeness = np.take_along_axis(both, order, axis=1)
            best[at : at + len(rows)] = np.take_along_axis(names, order, axis=1)
    return best


def _normal(greys: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(k, 4096): greys without their mean, of unit length; nought for a picture of one level."""
    flat = greys.reshape(len(greys), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    length = np.sqrt(np.square(flat).sum(axis=1, keepdims=True))
    return np.asarray(np.divide(flat, length, out=np.zeros_like(flat), where=length > 0))
