"""Two pictures of one frame, pixel against pixel: global RMS, the worst tile, the worst shift of colour.

Promises: every pixel of both takes part, in bands that stay in the processor's cache, in one pass (12 MP: about as
long as half a decode). Reductions to 1,024 px come out of the same pass, because the mean of a difference is the
difference of means. Does not: align, or judge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]

TILE_PX = 8
"""Side of the tiles whose mean difference is taken. Small enough that a changed word is most of a tile, large
enough that the noise of an encoder averages out (see the table in the README's section on accuracy)."""
REDUCED_PX = 1024
"""Longer side of the reduced comparison: there one tile is a fixed share of the picture, whatever its size."""
LARGE_TILES = 24
"""The short side is cut into this many large tiles for shifts of colour."""
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_BAND = 64


@dataclass(frozen=True, slots=True)
class PixelDifference:
    """What remains between two pictures of equal size. Levels are 0 to 255 per channel; tiles are Euclidean in RGB."""

    rms_levels: float
    """Over all channels, alpha included."""
    worst_tile_levels: float
    """The larger of the worst 8 px tile at full size and at 1,024 px."""
    worst_tile_box: Box
    busy_tile_levels: float
    """99th percentile of the tiles where the worst one was found: the pair's own spread."""
    colour_shift_levels: float
    """Largest difference of mean colour of a large tile (a 24th of the short side, at least 16 px): re-encoding
    keeps means, a painted place does not."""
    changed_detail: float
    """Largest share of detail, 0 to 2, that does not agree in the surroundings of one of the worst tiles; 1 and
    more for other content."""
    changed_detail_box: Box | None
    spread_levels: float
    """Standard deviation of the pictures' luma, to judge the RMS against."""
    size_px: tuple[int, int]


def resize_to(pixels: NDArray[np.uint8], size: tuple[int, int], *, sharp: bool = False) -> NDArray[np.uint8]:
    """Reduce or enlarge to `size` (width, height).

    An exact whole factor is averaged; otherwise Hamming's filter (as short as averaging, a better low-pass), or
    Lanczos where `sharp` is asked for: three times the time.
    """
    height, width = pixels.shape[:2]
    if (width, height) == size:
        return pixels
    image = Image.fromarray(pixels)
    factor = width // size[0]
    if not sharp and factor > 1 and (size[0] * factor, size[1] * factor) == (width, height):
        return np.asarray(image.reduce(factor))
    if sharp:
        return np.asarray(image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0))
    return np.asarray(image.resize(size, Image.Resampling.HAMMING, reducing_gap=2.0))


def is_same_frame(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether two sizes (width, height) are one frame up to rounding of a whole resize."""
    if a[0] * a[1] < b[0] * b[1]:
        a, b = b, a
    # Each side of the smaller one may be off by one pixel: tools round up, down or to the nearest.
    scale = b[0] / a[0]
    return abs(a[1] * scale - b[1]) <= 1.0 + scale or abs(a[0] * b[1] / a[1] - b[0]) <= 1.0 + scale


def measure_difference(
    a: Pixels, b: Pixels, alpha: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None = None
) -> PixelDifference:
    """Compare two upright pictures of equal shape.

    Parameters
    ----------
    a, b : (height, width, 3) uint8
    alpha : two (height, width) uint8, or None
        Where either picture is transparent: counted as a fourth channel.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {a.shape} and {b.shape}")
    height, width = a.shape[:2]
    factor = max(1, -(-max(height, width) // REDUCED_PX))
    total, tiles, reduced = _pass_over(a, b, factor)
    channels = 3
    if alpha is not None:
        gap = alpha[0].astype(np.float32) - alpha[1]
        total += float(np.vdot(gap, gap))
        channels = 4
        # A transparent place against an opaque one counts as fully as black against white.
        tiles = np.maximum(tiles, _tile_means(np.repeat(np.abs(gap)[..., None], 3, axis=2), TILE_PX))
    full = _euclid(tiles)
    small = _euclid(_tile_means(np.abs(reduced), TILE_PX)) if factor > 1 else full
    maps = (full, small)
    which = int(small.max() > full.max())
    worst = maps[which]
    at = np.unravel_index(int(worst.argmax()), worst.shape)
    cell = TILE_PX * (factor if which else 1)
    box = _box(at, cell, (width, height))
    large = max(2 * TILE_PX, min(reduced.shape[:2]) // LARGE_TILES)
    shift = _tile_means(reduced, large)
    stride = (slice(None, None, max(1, height // 256)), slice(None, None, max(1, width // 256)))
    busy = float(np.quantile(worst, 0.99))
    detail, detail_box = _changed_detail(a, b, full, busy)
    return PixelDifference(
        rms_levels=float(np.sqrt(total / (height * width * channels))),
        worst_tile_levels=float(worst.max()),
        worst_tile_box=box,
        busy_tile_levels=busy,
        colour_shift_levels=float(_euclid(shift).max()),
        changed_detail=detail,
        changed_detail_box=detail_box,
        spread_levels=min(float((a[stride] @ LUMA).std()), float((b[stride] @ LUMA).std())),
        size_px=(width, height),
    )


GRAIN_PX = 512
"""Longer side at which grain is compared: noise is averaged just enough that a quality-75 copy of it still
correlates."""
GRAIN_SIGMA_PX = 2.0


def measure_grain(a: Pixels, b: Pixels) -> tuple[float, float]:
    """Correlation of the finest structure of two pictures of one frame, and how much of it there is.

    Where there is little texture, levels agree between any two frames (night, fog, a lens cap); only the grain,
    which no two exposures share, tells a copy from another moment.

    Returns
    -------
    correlation : float
        -1 to 1; a quality-75 copy of a noise-only night frame has 0.28 to 0.39, other night frames at most 0.03.
    strength : float
        Standard deviation of the stronger one's grain, in levels: compression may have taken the other's.
    """
    from scipy import ndimage

    grains = []
    for pixels in (a, b):
        image = Image.fromarray(pixels)
        image.thumbnail((GRAIN_PX, GRAIN_PX), Image.Resampling.BOX)
        luma = np.asarray(image) @ LUMA
        grains.append(luma - ndimage.gaussian_filter(luma, GRAIN_SIGMA_PX, truncate=2.5))
    p, q = grains
    strength = float(max(p.std(), q.std()))
    if min(p.std(), q.std()) < 1e-3:
        return 0.0, strength
    return float(np.corrcoef(p.reshape(-1), q.reshape(-1))[0, 1]), strength


FLAT_BLOCKS = 14
FLAT_BLOCK_PX = 64


def measure_flat_grain(a: Pixels, b: Pixels) -> tuple[float, float]:
    """Correlation and strength of the grain (see `measure_grain`) in the plainest parts, at full size.

    Strong lights in the dark, or a sharp scene under an empty sky, are equal in two exposures from one place; the
    noise between them is not."""
    p, q = fine_blocks(a), fine_blocks(b)
    strength = np.minimum(p.std(axis=1), q.std(axis=1))
    # Blocks without any grain (burnt out, drawn) say nothing; of the others the plainest say most.
    order = np.argsort(strength, kind="stable")
    plainest = order[strength[order] > 0.5][:FLAT_BLOCKS]
    if len(plainest) < FLAT_BLOCKS // 2:
        return 0.0, 0.0
    product = float((p * q)[plainest].mean(axis=1).sum())
    first, second = (float(grain[plainest].var(axis=1).sum()) for grain in (p, q))
    return product / max((first * second) ** 0.5, 1e-6), float(np.median(strength[plainest]))


def measure_own_detail(a: Pixels, b: Pixels) -> tuple[float, float, float]:
    """How strongly the finest detail of two pictures of one size differs, and whose difference it is.

    With d = a - b, the covariance of d and a over the variance of d is 1 where b only lost detail, 0 where it only
    gained some, and one half where each has as much of its own that the other has not: the noise of two exposures.

    Returns
    -------
    strength : float
        Median standard deviation of d over blocks, in levels.
    low, high : float
        10th and 90th percentile of the blocks' shares; 0 and 1 where too few blocks differ at all.
    """
    p, q = fine_blocks(a), fine_blocks(b)
    gap = p - q
    variance = gap.var(axis=1)
    telling = variance > 0.05
    if telling.sum() < FLAT_BLOCKS // 2:
        return 0.0, 0.0, 1.0
    shares = (gap * p).mean(axis=1)[telling] / variance[telling]
    low, high = np.quantile(shares, (0.1, 0.9))
    return float(np.sqrt(np.median(variance[telling]))), float(low), float(high)


def fine_blocks(pixels: Pixels) -> NDArray[np.float32]:
    """Luma less its surroundings in 36 blocks spread over the picture at full size: (blocks, pixels) float32."""
    from scipy import ndimage

    height, width = pixels.shape[:2]
    side = min(FLAT_BLOCK_PX, height, width)
    rows = np.unique(np.linspace(0, height - side, 6).astype(int))
    columns = np.unique(np.linspace(0, width - side, 6).astype(int))
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (side, side), (0, 1))[rows[:, None], columns]
    luma = np.tensordot(LUMA, windows.astype(np.float32), (0, 2)).reshape(-1, side, side)
    fine: NDArray[np.float32] = luma - ndimage.uniform_filter(luma, 5, axes=(1, 2))
    return fine.reshape(len(fine), -1)


def _pass_over(a: Pixels, b: Pixels, factor: int) -> tuple[float, NDArray[np.float32], NDArray[np.float32]]:
    """Sum of squares, mean absolute difference per tile and channel, and the difference of the reduced pictures."""
    height, width = a.shape[:2]
    if height < TILE_PX or width < TILE_PX or factor > 64:
        signed = a.astype(np.float32) - b
        return (
            float(np.vdot(signed, signed)),
            _tile_means(np.abs(signed), TILE_PX),
            _tile_means(signed, factor),
        )
    total = 0.0
    # A band is a multiple of both cell sizes, so that no cell is cut and none falls between two bands.
    cells = int(np.lcm(TILE_PX, factor))
    band = cells * max(1, _BAND // cells)
    shape = (min(band, height), width * 3)
    higher, lower, wide = np.empty(shape, np.uint8), np.empty(shape, np.uint8), np.empty(shape, np.float32)
    tiles = np.empty((height // TILE_PX, width * 3), np.uint16)
    sums = [np.empty((height // factor, width * 3), np.uint16) for _ in range(2)]
    rows_of = [np.ascontiguousarray(pixels).reshape(height, width * 3) for pixels in (a, b)]
    for top in range(0, height, band):
        p, q = (rows[top : top + band] for rows in rows_of)
        count = len(p)
        # The larger less the smaller stays in bytes: a fifth of the time that widening first takes.
        gap = higher[:count]
        np.maximum(p, q, out=gap)
        gap -= np.minimum(p, q, out=lower[:count])
        floats = wide[:count]
        floats[:] = gap
        flat = floats.reshape(-1)
        total += float(flat @ flat)
        _add_rows(gap, TILE_PX, tiles[top // TILE_PX :])
        if factor > 1:
            for own, into in zip((p, q), sums, strict=True):
                _add_rows(own, factor, into[top // factor :])
    if factor > 1:
        reduced = (sums[0].astype(np.float32) - sums[1]).reshape(-1, width, 3)
    else:
        reduced = (rows_of[0].astype(np.float32) - rows_of[1]).reshape(-1, width, 3)
    means = _add_columns(tiles.astype(np.float32).reshape(-1, width, 3), TILE_PX, TILE_PX * TILE_PX)
    return (
        total,
        _flush(means, a, b),
        _add_columns(reduced, factor, factor * factor),
    )


def _add_rows(rows: Pixels, count: int, into: NDArray[np.uint16]) -> None:
    """Sums of `count` (at most 64) rows each, of (rows, values)."""
    whole = len(rows) // count
    if whole:
        cut = rows[: whole * count].reshape(whole, count, rows.shape[1])
        np.add.reduce(cut, axis=1, dtype=np.uint16, out=into[:whole])


def _add_columns(values: NDArray[np.float32], count: int, divisor: float) -> NDArray[np.float32]:
    """Sums of `count` columns each, of (height, width, 3), over `divisor`.

    As a matrix product: a sum over so short an axis takes three times as long."""
    if count == 1:
        return values
    height, width = values.shape[:2]
    whole = width // count
    across = np.tile(np.eye(3, dtype=np.float32), (count, 1)) / np.float32(divisor)
    cut = values[:, : whole * count].reshape(height, whole, count * 3)
    added: NDArray[np.float32] = cut @ across
    return added


def _tile_means(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Means of tiles of (height, width, 3); along a side shorter than a tile, one tile takes all.

    Where the tiles do not come out even, one more lies flush with the edge: a date is stamped there."""
    height, width = values.shape[:2]
    down, across = min(side, height), min(side, width)
    tall = height // down
    rows = values[: tall * down].reshape(tall, down, width * 3).sum(axis=1).reshape(tall, width, 3)
    if height % down:
        rows = np.concatenate((rows, values[-down:].sum(axis=0)[None]))
    means = _add_columns(rows, across, down * across) if across > 1 else rows / np.float32(down)
    if width % across:
        last = rows[:, -across:].sum(axis=1) / np.float32(down * across)
        means = np.concatenate((means, last[:, None]), axis=1)
    return means


def _flush(tiles: NDArray[np.float32], a: Pixels, b: Pixels) -> NDArray[np.float32]:
    """`tiles` with those that lie flush with the right and the lower edge, as `_tile_means` has them."""
    height, width = a.shape[:2]
    if width % TILE_PX:
        gap = np.abs(a[:, -TILE_PX:].astype(np.float32) - b[:, -TILE_PX:])
        tiles = np.concatenate((tiles, _tile_means(gap, TILE_PX)[: len(tiles)]), axis=1)
    if height % TILE_PX:
        gap = np.abs(a[-TILE_PX:].astype(np.float32) - b[-TILE_PX:])
        tiles = np.concatenate((tiles, _tile_means(gap, TILE_PX)))
    return tiles


def _euclid(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths: NDArray[np.float32] = np.sqrt(np.einsum("yxc,yxc->yx", vectors, vectors))
    return lengths


def _box(at: tuple[np.intp, ...], cell: int, size: tuple[int, int]) -> Box:
    width, height = size
    y, x = min(int(at[0]) * cell, max(0, height - cell)), min(int(at[1]) * cell, max(0, width - cell))
    return (x / width, y / height, min(1.0, (x + cell) / width), min(1.0, (y + cell) / height))


SUSPECTS = 48
"""How many of the worst tiles are looked at more closely for changed detail."""
SUSPECT_LEVELS = 6.0
"""Below this mean difference a tile is noise of the encoder."""
CONTRAST_LEVELS = 10.0
"""Surroundings with less spread than this have no detail to disagree about."""
PALE_LEVELS = 2.0
OUTLIER_RATIO = 5.5
"""Worst tile over the pair's 99th percentile: re-encoding and resizing reach 5.1, a changed word on a page begins
far above."""


def _changed_detail(
    a: Pixels, b: Pixels, tiles: NDArray[np.float32], busy: float
) -> tuple[float, Box | None]:
    """The largest disagreement of detail around the worst tiles: 2 x mean squared difference over both variances.

    0 for equal detail, about 1 for unrelated detail of equal strength. Compression at quality 30 leaves it below
    0.3 on text, another letter in its place gives 0.6 and more - though both may move the levels of the tile alike.
    """
    height, width = a.shape[:2]
    suspects = np.flatnonzero(tiles >= SUSPECT_LEVELS)
    order = suspects[np.argsort(-tiles.reshape(-1)[suspects], kind="stable")[:SUSPECTS]]
    worst, where = 0.0, None
    for position in order:
        y, x = divmod(int(position), tiles.shape[1])
        top = max(0, min(y * TILE_PX, height - TILE_PX) - 4)
        left = max(0, min(x * TILE_PX, width - TILE_PX) - 4)
        window = (slice(top, min(height, top + 2 * TILE_PX)), slice(left, min(width, left + 2 * TILE_PX)))
        p, q = a[window] @ LUMA, b[window] @ LUMA
        p, q = p - p.mean(), q - q.mean()
        spread = float(p.var() + q.var())
        # A tile far above the pair's own spread is no noise, so that even pale detail counts in it.
        floor = PALE_LEVELS if tiles[y, x] > OUTLIER_RATIO * max(busy, 1.0) else CONTRAST_LEVELS
        if spread < 2 * floor**2:
            continue
        share = float(np.square(p - q).mean()) * 2 / spread
        if share > worst:
            worst = share
            where = _box((np.intp(y), np.intp(x)), TILE_PX, (width, height))
    return worst, where
