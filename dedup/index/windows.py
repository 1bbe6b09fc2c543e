"""Hashes of windows of a picture, and how alike two pictures are through a window: both from the 64 x 64
grey.

Promises: all upright windows of a picture by two matrix products; a picture cut to any window between the
sizes tried, or straightened by up to 7 degrees, has a hash near that of the nearest window.
Does not: give the very bits of imagehash (the cut is reduced from the grey, not from the photo): a window's
hash is compared with that of a whole picture at a radius that allows for it.

A DCT is linear and separable, and so is cutting a window out and reducing it: coefficients = Y @ grey @ X.T,
where a row of X holds a cosine over the window's columns, and windows share their X and Y. A turned window
is not separable: one product with a matrix of 64 x 4096 each.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy import sparse

Greys = NDArray[np.uint8]
Floats = NDArray[np.float32]
Window = tuple[float, float, float, float]

WHOLE: Window = (0.0, 0.0, 1.0, 1.0)
GREY_PX = 64
HASH_SIDE = 8
_PLACES = ((0.975, 3), (0.95, 3), (0.9, 5), (0.85, 5))
"""Side of a window and places along each axis: neighbours are never further apart than 4 % of the picture.
With them the least distance of crops that keep 98, 95, 90, 80 and 70 % of the area is at most 10 bits (60
photos, random places); three places instead of five leave crops to 70 % at up to 14."""

ANGLES = (-6.0, -4.0, -2.0, 2.0, 4.0, 6.0)
"""Degrees, counter-clockwise as seen, of the turned windows: the largest centred window of the picture's own
shape that has no empty corner, as a straighten tool cuts it."""


def _upright_windows() -> list[Window]:
    found = [WHOLE]
    for side, places in _PLACES:
        starts = np.linspace(0.0, 1.0 - side, places).tolist()
        found += [(x, y, x + side, y + side) for y in starts for x in starts]
    return found


UPRIGHT = np.array(_upright_windows())
"""(u, 4): the upright windows (x0, y0, x1, y1) that are asked for each picture; the whole first."""

WINDOW_COUNT = len(UPRIGHT) + len(ANGLES)


_DEEP_SIDES = ((1.0, 1), (0.88, 3), (0.78, 4), (0.69, 5), (0.61, 5))
"""Width or height of a deep window, and places along that axis."""
_DEEP_AREAS = (0.42, 0.78)
"""What a deep window shows of the picture: above it, the windows that are always asked come near enough."""


def _deep_windows() -> list[Window]:
    found = []
    for width, across in _DEEP_SIDES:
        for height, down in _DEEP_SIDES:
            if _DEEP_AREAS[0] <= width * height <= _DEEP_AREAS[1]:
                xs, ys = (np.linspace(0.0, 1.0 - side, n) for side, n in ((width, across), (height, down)))
                found += [(x, y, x + width, y + height) for y in ys.tolist() for x in xs.tolist()]
    return found


DEEP = np.array(_deep_windows())
"""(d, 4): windows of other proportions and of down to 42 % of the picture, asked in libraries of moderate size. With
them 67 of 70 random crops to 50 to 60 % of the area, of proportions changed by up to a third, are within 10 bits; 16
without."""
DEEP_COUNT = len(DEEP)


def window_of(numbers: NDArray[np.integer], aspects: NDArray[np.floating]) -> NDArray[np.float64]:
    """(k, 4): the window of each number, for pictures of these aspects; of a turned one, the upright window
    about it. The numbers of deep windows follow those of the turned ones."""
    found = UPRIGHT[np.minimum(numbers, len(UPRIGHT) - 1)]
    for number, angle in enumerate(ANGLES, len(UPRIGHT)):
        at = np.flatnonzero(numbers == number)
        side = _straightened_side(aspects[at], angle)
        found[at] = np.stack([0.5 - side / 2, 0.5 - side / 2, 0.5 + side / 2, 0.5 + side / 2], axis=1)
    deep = np.flatnonzero(numbers >= WINDOW_COUNT)
    found[deep] = DEEP[numbers[deep] - WINDOW_COUNT]
    return np.asarray(found)


def _straightened_side(aspect: NDArray[np.floating], angle: float) -> NDArray[np.float64]:
    cosine, sine = np.cos(np.radians(abs(angle))), np.sin(np.radians(abs(angle)))
    longer = np.maximum(aspect, 1.0 / aspect).astype(np.float64)
    return np.asarray(1.0 / (cosine + longer * sine))


CELLS = 4 * HASH_SIDE
"""Cells along each side that a window is reduced to, as pHash does."""


@lru_cache(maxsize=8)
def cosines(side: int) -> Floats:
    """(side, 32): the orthonormal DCT-II."""
    frequency, place = np.arange(side)[:, None], np.arange(CELLS)[None, :]
    cosines = np.cos(np.pi * frequency * (2 * place + 1) / (2 * CELLS)) * np.sqrt(2.0 / CELLS)
    cosines[0] /= np.sqrt(2.0)
    return np.asarray(cosines, dtype=np.float32)


@lru_cache(maxsize=4096)
def _axis(start: float, end: float, side: int) -> Floats:
    """(side, 64): cosines over the part of an axis between two fractions, reduced to 32 cells by area."""
    edges = np.linspace(start * GREY_PX, end * GREY_PX, CELLS + 1)
    pixels = np.arange(GREY_PX)
    overlap = np.minimum(edges[1:, None], pixels + 1.0) - np.maximum(edges[:-1, None], pixels)
    area = np.clip(overlap, 0.0, None)
    area /= area.sum(axis=1, keepdims=True)
    return np.asarray(cosines(side) @ area, dtype=np.float32)


@lru_cache(maxsize=2)
def _grid(*, deep: bool = False) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """All distinct cuts of an axis, one above the other, and which cut each window uses, across and down."""
    boxes = (DEEP if deep else UPRIGHT).round(6).tolist()
    cuts = sorted({(w[0], w[2]) for w in boxes} | {(w[1], w[3]) for w in boxes})
    number = {cut: i for i, cut in enumerate(cuts)}
    matrix = np.concatenate([_axis(*cut, HASH_SIDE) for cut in cuts])
    across = np.array([number[w[0], w[2]] for w in boxes])
    down = np.array([number[w[1], w[3]] for w in boxes])
    return matrix, across, down


_ASPECT_STEP = 0.25
"""Aspects are taken in classes of a quarter: within one, a turn by 6 degrees is off by less than half a
pixel of the grey, and a library has about four classes, which cost 70 ms each to prepare."""


def aspect_class(aspects: NDArray[np.floating]) -> NDArray[np.int64]:
    """(n,): which class of aspects each one falls into."""
    steps = np.log(np.clip(aspects.astype(np.float64), 0.4, 2.5)) / _ASPECT_STEP
    return np.rint(steps).astype(np.int64)


@lru_cache(maxsize=256)
def turned_cells(aspect_class: int, angle: float) -> sparse.csr_array:
    """(1024, 4096): the 32 x 32 cells of the turned window, row by row, as sums of pixels of the grey."""
    from scipy import sparse  # 90 ms of a start, which a question about one picture does not have

    weights, pixels = _turned_samples(aspect_class, angle)
    cell = np.tile(np.arange(CELLS * CELLS), len(pixels))
    entries = (weights.ravel(), (cell, pixels.ravel()))
    return sparse.csr_array(entries, shape=(CELLS * CELLS, GREY_PX * GREY_PX), dtype=np.float32)


def _turned_samples(aspect_class: int, angle: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(16, 1024): weights, and the pixels of the grey, whose sums are the cells of the turned window."""
    aspect = float(np.exp(aspect_class * _ASPECT_STEP))
    half = float(_straightened_side(np.array([aspect]), angle)[0]) / 2
    place = ((np.arange(CELLS) + 0.5) / CELLS * 2 - 1) * half
    x, y = np.meshgrid(place, place)
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    # Turned about the centre in the picture's own proportions; the grey is squashed.
    across = (0.5 + cosine * x - sine * y / aspect).ravel() * GREY_PX - 0.5
    down = (0.5 + sine * x * aspect + cosine * y).ravel() * GREY_PX - 0.5
    weights, pixels = [], []
    for dx in (-0.5, 0.5):  # a cell covers about two by two pixels: four bilinear samples
        for dy in (-0.5, 0.5):
            column, row = np.clip(across + dx, 0, GREY_PX - 1.001), np.clip(down + dy, 0, GREY_PX - 1.001)
            left, top = np.floor(column).astype(np.int64), np.floor(row).astype(np.int64)
            u, v = column - left, row - top
            pixels += [top * GREY_PX + left + step for step in (0, 1, GREY_PX, GREY_PX + 1)]
            weights += [(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v]
    return np.stack(weights) / 4, np.stack(pixels)


@lru_cache(maxsize=256)
def _turned(aspect_class: int, angle: float) -> Floats:
    """(64, 4096): hash coefficients of the turned window, straight from the pixels of the grey."""
    basis = cosines(HASH_SIDE)
    both = np.einsum("vr,uc->vurc", basis, basis).reshape(HASH_SIDE * HASH_SIDE, CELLS * CELLS)
    return np.asarray((turned_cells(aspect_class, angle).T @ both.T).T, dtype=np.float32)


def window_hashes(greys: Greys, aspects: NDArray[np.floating]) -> NDArray[np.uint64]:
    """pHash of every window of each picture.

    Parameters
    ----------
    greys : (n, 64, 64) uint8
    aspects : (n,)
        Width over height of the pictures before they were squashed.

    Returns
    -------
    (n, WINDOW_COUNT) uint64
        The upright windows, then the turned ones. Bits in the order of `phash64`: coefficient above the
        median, row by row, first bit highest.
    """
    hashes = np.empty((len(greys), WINDOW_COUNT), dtype=np.uint64)
    hashes[:, : len(UPRIGHT)] = _upright_hashes(greys, _grid())
    classes = aspect_class(aspects)
    for kind in np.unique(classes):
        rows = np.flatnonzero(classes == kind)
        turns = np.concatenate([_turned(int(kind), angle) for angle in ANGLES])
        for at in range(0, len(rows), 1024):
            some = rows[at : at + 1024]
            turned: Floats = greys[some].reshape(len(some), -1).astype(np.float32) @ turns.T
            hashes[some, len(UPRIGHT) :] = _median_bits(
                turned.reshape(len(some), len(ANGLES), HASH_SIDE, HASH_SIDE)
            )
    return hashes


def deep_hashes(greys: Greys) -> NDArray[np.uint64]:
    """(n, DEEP_COUNT): pHash of every deep window of each picture, (n, 64, 64) uint8."""
    return _upright_hashes(greys, _grid(deep=True))


def _upright_hashes(
    greys: Greys, grid: tuple[Floats, NDArray[np.int64], NDArray[np.int64]]
) -> NDArray[np.uint64]:
    matrix, across, down = grid
    cuts = len(matrix) // HASH_SIDE
    hashes = np.empty((len(greys), len(across)), dtype=np.uint64)
    for at in range(0, len(greys), 256):
        part = greys[at : at + 256].astype(np.float32)
        # Two products of plain matrices: one small product per picture would keep BLAS threads waiting.
        cut_across = (part.reshape(-1, GREY_PX) @ matrix.T).reshape(len(part), GREY_PX, -1)
        cut_both = cut_across.transpose(0, 2, 1).reshape(-1, GREY_PX) @ matrix.T
        both: Floats = cut_both.astype(np.float32, copy=False).reshape(
            len(part), cuts, HASH_SIDE, cuts, HASH_SIDE
        )
        hashes[at : at + 256] = _median_bits(both[:, across, :, down, :].transpose(1, 0, 3, 2))
    return hashes


def window_hashes_of_one(grey: Greys, aspect: float) -> NDArray[np.uint64]:
    """(WINDOW_COUNT,): `window_hashes` of one picture, without the matrices that only pay for many.

    Sums of float32 in another order: a coefficient within a millionth of the median may fall to its other side.
    """
    matrix, across, down = _grid()
    cuts = len(matrix) // HASH_SIDE
    both = (matrix @ (grey.astype(np.float32) @ matrix.T)).reshape(cuts, HASH_SIDE, cuts, HASH_SIDE)
    hashes = np.empty(WINDOW_COUNT, dtype=np.uint64)
    hashes[: len(UPRIGHT)] = _median_bits(both[down, :, across, :])
    kind = int(aspect_class(np.array([aspect]))[0])
    basis, flat = cosines(HASH_SIDE), grey.reshape(-1).astype(np.float32)
    turned = np.empty((len(ANGLES), HASH_SIDE, HASH_SIDE), dtype=np.float32)
    for number, angle in enumerate(ANGLES):
        weights, pixels = _turned_samples(kind, angle)
        cells = (weights.astype(np.float32) * flat[pixels]).sum(axis=0).reshape(CELLS, CELLS)
        turned[number] = basis @ cells @ basis.T
    hashes[len(UPRIGHT) :] = _median_bits(turned)
    return hashes


def hashes_through(greys: Greys, windows: NDArray[np.floating]) -> NDArray[np.uint64]:
    """(n,) uint64: pHash of one window for each picture."""
    return _median_bits(coefficients(greys, windows, HASH_SIDE))


def coefficients(greys: Greys, windows: NDArray[np.floating], side: int) -> Floats:
    """(n, side, side): the lowest frequencies of each picture through its window."""
    found = np.empty((len(greys), side, side), dtype=np.float32)
    distinct, which = np.unique(np.round(windows.astype(np.float64), 4), axis=0, return_inverse=True)
    for number, (x0, y0, x1, y1) in enumerate(distinct):
        rows = np.flatnonzero(which.reshape(-1) == number)
        columns = greys[rows].astype(np.float32) @ _axis(x0, x1, side).T
        found[rows] = np.matmul(_axis(y0, y1, side), columns)
    return found


def _median_bits(coefficients: Floats) -> NDArray[np.uint64]:
    flat = coefficients.reshape(*coefficients.shape[:-2], HASH_SIDE * HASH_SIDE)
    parted = np.partition(flat, (31, 32), axis=-1)
    median = (parted[..., 31] + parted[..., 32]) * np.float32(0.5)
    packed = np.packbits(flat > median[..., None], axis=-1)
    return packed.view(">u8")[..., 0].astype(np.uint64)
