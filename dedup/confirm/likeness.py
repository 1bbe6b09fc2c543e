"""What remains between two registered pictures once tone and colour are taken out.

Promises: a map of detail that does not agree, its connected places, how far the rest is shifted, and the fitted
tone, all at a size at which both pictures have detail. Does not: decide whether the remainder is an edit or another
moment (`relation`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from dedup.confirm.alignment import Map, blur, coverage, invert_map, warp
from dedup.confirm.pixels import LUMA
from dedup.confirm.tone import ToneModel, fit_tone

Floats = NDArray[np.float32]
Box = tuple[float, float, float, float]

TONED_LEVELS = 2.5
"""Mean difference after a tone at which the other way round could not be told to be better."""
MONOCHROME_VARIANCE = 4.0
"""Variance of colour, levels squared, that compression alone puts into a picture of one tint."""
SURROUNDINGS_PX = 6.0
"""Sigma of the window in which detail is compared, at 512 px."""
DETAIL_FLOOR = 8.0
"""Variance (levels squared) that counts as no detail: noise of an encoder."""
DISAGREES = 0.5
"""Squared difference over the sum of both variances: 0 for equal detail, 1 for unrelated detail."""
CHANGED_LEVELS = 8.0
CHANGED_TIMES = 4.0
"""A changed place differs by at least this many levels, and this many times the median difference."""
CELLS = 12
"""The frame is cut into this many rows and columns, to ask in how many places detail agrees."""
TELLING_SHARE = 0.1
"""Share of a cell that must have detail before the cell says anything."""
TELLING_VARIANCE = 32.0
"""Variance of both together (levels squared) that counts as detail; or the median of the frame, where noise lies
over all of it."""
AGREES_LOCALLY = 0.5
"""Correlation within its surroundings from which a place agrees."""
JOIN_SHARE = 0.02
"""Places closer than this share of the longer side are one place: the letters of a watermark."""


@dataclass(frozen=True, slots=True)
class Place:
    """A connected place where the pictures differ."""

    box: Box
    """In fractions of the left picture."""
    share: float
    """Share of the compared area."""
    levels: float
    """Root-mean-square difference of luma in it, after tone."""


@dataclass(frozen=True, slots=True)
class Toning:
    """What the fitted tone does to the left picture's own colours."""

    shift_levels: float
    """Change of mean luma."""
    gain: float
    """Mean luma of the right over that of the left."""
    slope: float
    """Luma of the right per luma of the left."""
    chroma: float
    """Strength of colour of the right over that of the left; 0 for greyscale, 1 where there is none to compare."""
    warmth_levels: float
    """Change of red against blue, beyond what brightness and saturation explain."""
    vignette: float
    """Gain at the corners over that in the middle, minus one."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """Two registered pictures compared. Arrays live inside `confirm`."""

    covered_left: float
    """Share of the left picture that the right one shows."""
    covered_right: float
    detail_correlation: float
    """Correlation of fine detail outside the changed places."""
    median_disagreement: float
    high_disagreement: float
    """95th percentile of the disagreement of detail, 0 to about 2."""
    detail_ratio: float
    """Strength of the right picture's fine detail over the left one's, after tone: below 1 it is softer."""
    telling_cells: int
    """Of the cells of a 12 x 12 grid, those that have detail outside the changed places."""
    agreeing_cells: int
    """Of these, the ones in most of which the detail agrees. One strong edge dominates every sum over the frame, and
    lies well on any other edge; it takes many places to make one picture."""
    shift_px: float
    """Median remaining shift of textured places, in pixels at the size compared; 0 where nothing is textured enough
    to say."""
    rms_levels: float
    mean_levels: float
    median_levels: float
    places: tuple[Place, ...]
    """Largest first."""
    changed_share: float
    plain_share: float
    """Share of the frame that is of one tone (8 levels), in the picture that has less of it: pages and chats have half
    and more."""
    toning: Toning
    size_px: tuple[int, int]


def compare_registered(left: Image.Image, right: Image.Image, matrix: Map, longer_px: int = 512) -> Likeness:
    """Compare two upright RGB pictures under a map.

    Parameters
    ----------
    left, right : mode RGB
        Any sizes; `right` with its orientation applied.
    matrix : (2, 3)
        Left fraction to right fraction.
    longer_px
        Longer side of the comparison, if both have as many pixels.
    """
    size, scaled = _common_size(left, right, matrix, longer_px)
    a = np.asarray(_shrink(left, size), dtype=np.float32)
    seen = warp(_shrink(right, scaled), matrix, size, Image.Resampling.BICUBIC)
    b = np.asarray(seen, dtype=np.float32)
    inside = coverage(matrix, size, scaled, 1.5)
    if not inside.any():
        inside = coverage(matrix, size, scaled, 0.0)
    covered_right = float(coverage(invert_map(matrix), scaled, size, 0.0).mean())
    x, y, gap, toning = _toned(a, b, inside)
    return _measure((x, y, gap, inside), covered_right, toning)


def _shrink(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    if image.size == size:
        return image
    return image.resize(size, Image.Resampling.HAMMING, reducing_gap=3.0)


def _common_size(
    left: Image.Image, right: Image.Image, matrix: Map, longer_px: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The size of the left frame, and the size of the right picture that goes with it: the coarser one decides."""
    across = float(np.linalg.norm(matrix[:, 0] * right.size))
    down = float(np.linalg.norm(matrix[:, 1] * right.size))
    scale = min(1.0, longer_px / max(left.size), across / left.width, down / left.height)
    size = (max(16, round(left.width * scale)), max(16, round(left.height * scale)))
    scaled = (
        min(right.width, max(8, round(right.width * size[0] / across))),
        min(right.height, max(8, round(right.height * size[1] / down))),
    )
    return size, scaled


def _toned(a: Floats, b: Floats, inside: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats, _Toned]:
    """Fit tone both ways and keep the better: a greyscale copy follows from the colours, never the other way round.

    Returns the predicted and the real luma, the difference of colours, and what the tone does.
    """
    weight = inside.astype(np.float32)
    best = None
    for forward, source, target in ((True, a, b), (False, b, a)):
        model = fit_tone(source, target, weight)
        predicted = model.predict(source)
        gap = np.abs(target - predicted).mean(axis=2)
        cost = float(gap[inside].mean()) if inside.any() else 0.0
        if best is None or cost < best[0]:
            best = (cost, model, forward, predicted, target, gap)
        if cost <= TONED_LEVELS:
            break
    assert best is not None
    _, model, forward, predicted, target, gap = best
    left, right = (a, predicted) if forward else (predicted, b)
    return (
        predicted @ LUMA,
        target @ LUMA,
        gap,
        _Toned(_describe(left, right, inside, model, forward), forward),
    )


@dataclass(frozen=True, slots=True)
class _Toned:
    toning: Toning
    forward: bool
    """Whether the right picture was predicted from the left one (else the left from the right)."""


SAMPLED_PX = 24_000
"""About how many pixels tell what a tone does to a picture as a whole."""


def _describe(
    left: Floats, right: Floats, inside: NDArray[np.bool_], model: ToneModel, forward: bool
) -> Toning:
    """Sums over the covered pixels (a sample of them) of two pictures that differ in tone alone."""
    step = max(1, round((inside.size / SAMPLED_PX) ** 0.5))
    sample = slice(None, None, step), slice(None, None, step)
    covered = inside[sample]
    p, q = left[sample][covered].astype(np.float64), right[sample][covered].astype(np.float64)
    if len(p) < 16:
        return Toning(0.0, 1.0, 1.0, 1.0, 0.0, 0.0)
    y, z = p @ LUMA, q @ LUMA
    gain = float((z.mean() + 1) / (y.mean() + 1))
    slope = float(np.sqrt((z.var() + 1) / (y.var() + 1)))
    chroma_p, chroma_q = _own_colour(p, y), _own_colour(q, z)
    cast_p, cast_q = chroma_p.mean(axis=0), chroma_q.mean(axis=0)
    # Colour is measured about its mean: a cast moves the mean, saturation the spread.
    before, after = float(np.square(chroma_p - cast_p).mean()), float(np.square(chroma_q - cast_q).mean())
    chroma = float(np.sqrt(after / before)) if before > 4.0 else 1.0
    if before > 4.0 and float(np.square(chroma_q).mean()) < 2.0:
        chroma = 0.0
    drift = cast_q - cast_p * min(chroma, 4.0)
    vignette = float(model.gain[3] + model.gain[5]) / max(float(model.gain[0]), 0.2)
    return Toning(
        float((z - y).mean()),
        gain,
        slope,
        chroma,
        float(drift[0] - drift[2]) / 2,
        vignette if forward else -vignette,
    )


def _own_colour(pixels: NDArray[np.float64], luma: NDArray[np.float64]) -> NDArray[np.float64]:
    """Colour apart from luma; of a picture in tints of one colour (greyscale, sepia) nothing but its cast remains."""
    chroma = pixels - luma[:, None]
    centred = luma - luma.mean()
    slope = (chroma * centred[:, None]).mean(axis=0) / max(float((centred * centred).mean()), 1e-6)
    rest: NDArray[np.float64] = chroma - slope * centred[:, None]
    spread = float(np.square(rest - rest.mean(axis=0)).mean())
    return rest if spread < MONOCHROME_VARIANCE else chroma


def _measure(
    registered: tuple[Floats, Floats, Floats, NDArray[np.bool_]], covered_right: float, toned: _Toned
) -> Likeness:
    x, y, gap, inside = registered
    height, width = x.shape
    longer = max(height, width)
    sigma = max(2.0, SURROUNDINGS_PX * longer / 512)
    weight = inside.astype(np.float32)
    norm = np.maximum(blur(weight, sigma), 1e-3)

    def around(values: Floats) -> Floats:
        return (blur(values * weight, sigma) / norm).astype(np.float32, copy=False)

    mean_x, mean_y = around(x), around(y)
    squared = np.maximum(around(np.square(x - y)), 0)
    spreads = [np.maximum(around(v * v) - mean**2, 0) for v, mean in ((x, mean_x), (y, mean_y))]
    variance = spreads[0] + spreads[1]
    disagreement = squared / (variance + DETAIL_FLOOR)
    soft = _soft_within(weight)
    fine = [soft(v, 0.7) - soft(v, 4.0) for v in (x, y)]
    product, first, second = around(fine[0] * fine[1]), around(fine[0] ** 2), around(fine[1] ** 2)
    local = product / np.sqrt(first * second + 1.0)
    median = float(np.median(gap[inside])) if inside.any() else 0.0
    # The outermost pixels mix with what is beyond the frame.
    changed = ndimage.binary_erosion(inside, iterations=3) & (disagreement > DISAGREES) & (local < 0.6)
    changed &= np.sqrt(squared) > max(CHANGED_LEVELS, CHANGED_TIMES * median)
    total = max(1, int(inside.sum()))
    places, near = _find_places(changed, np.square(x - y), total)
    rest = inside & ~near
    # Of the variance of a difference, what the two variances do not explain is twice the covariance.
    covariance = (variance - np.maximum(squared - (mean_x - mean_y) ** 2, 0)) / 2
    telling, agreeing = _count_cells(rest, variance, covariance / np.sqrt(spreads[0] * spreads[1] + 1.0))
    energy = float((fine[0] ** 2)[rest].sum() * (fine[1] ** 2)[rest].sum())
    together = float((fine[0] * fine[1])[rest].sum()) / energy**0.5 if energy > 1.0 else 0.0
    return Likeness(
        covered_left=float(inside.mean()),
        covered_right=covered_right,
        detail_correlation=together,
        median_disagreement=float(np.median(disagreement[rest])) if rest.any() else 1.0,
        high_disagreement=float(np.quantile(disagreement[inside], 0.95)) if inside.any() else 1.0,
        detail_ratio=_ratio(fine, rest, forward=toned.forward),
        telling_cells=telling,
        agreeing_cells=agreeing,
        shift_px=_remaining_shift(soft(x, 1.0), soft(y, 1.0), rest, sigma),
        rms_levels=float(np.sqrt(np.square(gap[inside]).mean())) if inside.any() else 0.0,
        mean_levels=float(gap[inside].mean()) if inside.any() else 0.0,
        median_levels=median,
        places=places,
        changed_share=float(changed.sum()) / total,
        plain_share=min(_plain_share(x[inside]), _plain_share(y[inside])),
        toning=toned.toning,
        size_px=(width, height),
    )


def _plain_share(luma: Floats) -> float:
    """Share of the values within 8 levels of each other, at the commonest tone."""
    if not luma.size:
        return 0.0
    counts = np.bincount(np.clip(luma / 4, 0, 63).astype(np.intp), minlength=64)
    return float((counts[:-1] + counts[1:]).max() / luma.size)


def _count_cells(rest: NDArray[np.bool_], variance: Floats, local: Floats) -> tuple[int, int]:
    """How many cells of the frame have detail outside the changed places, and in how many of them it agrees."""
    if not rest.any():
        return 0, 0
    detailed = rest & (variance > max(TELLING_VARIANCE, float(np.median(variance[rest]))))
    height, width = rest.shape
    rows, columns = (np.arange(CELLS) * side // CELLS for side in (height, width))

    def count(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        down = np.add.reduceat(mask.astype(np.int64), rows, axis=0)
        across: NDArray[np.int64] = np.add.reduceat(down, columns, axis=1)
        return across

    number = count(detailed)
    telling = number > TELLING_SHARE * count(np.ones_like(rest))
    agreeing = telling & (2 * count(detailed & (local > AGREES_LOCALLY)) > number)
    return int(telling.sum()), int(agreeing.sum())


def _ratio(fine: list[Floats], rest: NDArray[np.bool_], *, forward: bool) -> float:
    """Standard deviations of fine detail, right over left; `fine` is (predicted, target)."""
    if not rest.any():
        return 1.0
    predicted, target = float(fine[0][rest].std()), float(fine[1][rest].std())
    left, right = (predicted, target) if forward else (target, predicted)
    return right / left if left > 0.2 else 1.0


def _find_places(
    changed: NDArray[np.bool_], squared: Floats, total: int
) -> tuple[tuple[Place, ...], NDArray[np.bool_]]:
    """Connected places, largest first, and the area in and around them."""
    longer = max(changed.shape)
    reach = max(2, round(JOIN_SHARE * longer))
    if not changed.any():
        return (), changed
    near = ndimage.binary_dilation(changed, iterations=reach)
    labels, _ = ndimage.label(near)
    height, width = changed.shape
    places = []
    for number, where in enumerate(ndimage.find_objects(labels), start=1):
        own = changed[where] & (labels[where] == number)
        share = float(own.sum()) / total
        # A speck of less than a six-pixel square at 512 px is an edge of a tone, not a place.
        if own.sum() < 36 * (longer / 512) ** 2:
            continue
        levels = float(np.sqrt(squared[where][own].mean()))
        if levels < CHANGED_LEVELS:
            continue
        ys, xs = np.nonzero(own)
        top, left = where[0].start, where[1].start
        box = (
            (left + xs.min()) / width,
            (top + ys.min()) / height,
            (left + xs.max() + 1) / width,
            (top + ys.max() + 1) / height,
        )
        places.append(
            Place(
                (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
                share,
                levels,
            )
        )
    return tuple(sorted(places, key=lambda place: -place.share)), near


def _soft_within(weight: Floats) -> Callable[[Floats, float], Floats]:
    """Gaussian blur of what is covered alone: beyond it one picture has a border, the other nothing."""
    whole = bool(weight.min() > 0)

    def soft(values: Floats, sigma_px: float) -> Floats:
        blurred: Floats = ndimage.gaussian_filter(values if whole else values * weight, sigma_px)
        if not whole:
            blurred /= np.maximum(ndimage.gaussian_filter(weight, sigma_px), 1e-3)
        return blurred

    return soft


def _halved(values: Floats) -> Floats:
    """Means of two by two pixels; an odd last row or column is left out."""
    height, width = (side // 2 * 2 for side in values.shape)
    cut = values[:height, :width]
    mean: Floats = (cut[::2, ::2] + cut[1::2, ::2] + cut[::2, 1::2] + cut[1::2, 1::2]) / np.float32(4)
    return mean


def _remaining_shift(soft_x: Floats, soft_y: Floats, rest: NDArray[np.bool_], sigma_px: float) -> float:
    """Median length of the local shift that would explain the difference (Lucas and Kanade 1981), where texture
    allows to tell."""
    gy, gx = np.gradient(soft_x)
    step = soft_y - soft_x
    weight = _halved(rest.astype(np.float32))
    norm = np.maximum(blur(weight, sigma_px / 2), 1e-3)
    # Sums over surroundings of many pixels: half the resolution gives the same ones.
    a, b, c, p, q = (
        blur(_halved(product), sigma_px / 2) / norm
        for product in (gx * gx * rest, gx * gy * rest, gy * gy * rest, gx * step * rest, gy * step * rest)
    )
    rest = weight >= 0.5
    determinant = a * c - b * b
    smaller = (a + c) / 2 - np.sqrt(np.maximum(((a + c) / 2) ** 2 - determinant, 0))
    good = rest & (smaller > 4.0)
    if good.sum() < 50:
        return 0.0
    u, v = (c * p - b * q)[good] / determinant[good], (a * q - b * p)[good] / determinant[good]
    return float(np.median(np.hypot(u, v)))
