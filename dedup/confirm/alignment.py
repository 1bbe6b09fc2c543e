"""Registration: the affine map under which one picture shows what another shows.

Promises: from a rough hypothesis (a window of one picture is a window of the other) a map accurate to a
fraction of a pixel at the size worked at, with the correlation it reaches; robust against a brighter or flatter
rendition, and against a part that was painted over.
Does not: decide anything. A map is found for any two pictures; whether it means something is told by the
correlation and by what remains afterwards.

Method: Gauss-Newton on an affine map, with gain and offset as further unknowns in each round (forward
compositional, S. Baker and I. Matthews, Lucas-Kanade 20 years on, IJCV 56(3), 2004,
doi:10.1023/B:VISI.0000011205.11775.fd), and Tukey's biweight against painted-over parts. We solve gain, offset and
motion in one linear system per round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Grey = NDArray[np.float32]
Map = NDArray[np.float64]
"""(2, 3): left fraction (x, y) shows right fraction M @ (x, y, 1)."""

Window = tuple[float, float, float, float]
WHOLE: Window = (0.0, 0.0, 1.0, 1.0)
IDENTITY: Map = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])

LEVELS_PX = (48, 96, 160)
"""Longer sides worked at, coarse to fine. 48 px reaches tilts of 5 degrees and windows a tenth off; 160 px
settles to a tenth of a pixel, enough for the refinement at 512 px to start inside its own reach."""
REFINED_PX = 512
ROUNDS = 14
REFINING_ROUNDS = 8
"""At 512 px the map is within a pixel or two from the start, and copies settle in three rounds, strong tones in six."""
TRYING_ROUNDS = 4
"""After so many rounds the better of several starts shows."""
PLAIN_PX = 64
"""Up to this size the levels themselves are compared; above, detail with the light flattened."""
FLATTEN_SHARE = 0.06
"""Reach of the flattening, as a share of the longer side."""
FLAT_LEVELS = 4.0
"""Spread, in levels, that counts as flat: noise and compression stay small."""
MIN_OVERLAP = 0.2
"""Share of the left picture that must be covered; below it, too little remains to judge by."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """A registration of two pictures. Arrays live inside `confirm`."""

    map: Map
    correlation: float
    """Robust correlation over the overlap, -1 to 1, after gain and offset."""
    overlap: float
    """Share of the left picture that the right one covers, 0 to 1."""


def window_map(left: Window, right: Window) -> Map:
    """The map that carries window `left` onto window `right`, without turning."""
    (x0, y0, x1, y1), (u0, v0, u1, v1) = left, right
    sx, sy = (u1 - u0) / (x1 - x0), (v1 - v0) / (y1 - y0)
    return np.array([[sx, 0.0, u0 - sx * x0], [0.0, sy, v0 - sy * y0]])


def invert_map(matrix: Map) -> Map:
    """The map from right to left."""
    inverse = np.linalg.inv(matrix[:, :2])
    return np.hstack([inverse, -inverse @ matrix[:, 2:]])


def compose_maps(first: Map, then: Map) -> Map:
    """The map that applies `first`, then `then`."""
    return np.hstack([then[:, :2] @ first[:, :2], then[:, :2] @ first[:, 2:] + then[:, 2:]])


def reduce_grey(grey: Image.Image, longer_px: int) -> Image.Image:
    """A grey (mode L or F) picture reduced so that its longer side is at most `longer_px`."""
    scale = longer_px / max(grey.size)
    if scale >= 1:
        return grey
    size = (max(8, round(grey.width * scale)), max(8, round(grey.height * scale)))
    return grey.resize(size, Image.Resampling.HAMMING, reducing_gap=2.0)


def warp(
    image: Image.Image,
    matrix: Map,
    size: tuple[int, int],
    resample: Image.Resampling = Image.Resampling.BILINEAR,
) -> Image.Image:
    """`image` seen through `matrix`, at `size` (width, height); outside it is 0 (see `coverage`)."""
    (a, b, c), (d, e, f) = matrix
    (w, h), (u, v) = size, image.size
    data = (a * u / w, b * u / h, c * u, d * v / w, e * v / h, f * v)
    return image.transform(size, Image.Transform.AFFINE, data, resample=resample)


def coverage(
    matrix: Map, size: tuple[int, int], image_size: tuple[int, int], margin_px: float = 1.0
) -> NDArray[np.bool_]:
    """Which pixels (height, width) of the left frame the right picture covers, `margin_px` of the right picture's
    pixels inside."""
    w, h = size
    x = (np.arange(w) + 0.5) / w
    y = ((np.arange(h) + 0.5) / h)[:, None]
    u = (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]) * image_size[0]
    v = (matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]) * image_size[1]
    inside: NDArray[np.bool_] = (u >= margin_px) & (u <= image_size[0] - margin_px)
    inside &= (v >= margin_px) & (v <= image_size[1] - margin_px)
    return inside


def correlation(a: Grey, b: Grey, weight: Grey | NDArray[np.bool_]) -> float:
    """Weighted correlation of two pictures; 0.0 where either is flat."""
    w = weight.astype(np.float64)
    total = w.sum()
    if total <= 0:
        return 0.0
    da, db = a - (w * a).sum() / total, b - (w * b).sum() / total
    va, vb = (w * da * da).sum() / total, (w * db * db).sum() / total
    if va < 1e-3 or vb < 1e-3:
        return 0.0
    return float((w * da * db).sum() / total / np.sqrt(va * vb))


def align(
    left: Image.Image,
    right: Image.Image,
    start: Map,
    levels: tuple[int, ...] = LEVELS_PX,
    rounds: int = ROUNDS,
) -> Alignment:
    """Register two grey pictures from a starting map.

    Parameters
    ----------
    left, right : mode L or F, upright, any sizes
        `right` with the hypothesis' orientation applied.
    start : (2, 3)
        Where to begin; within about a tenth of the side and five degrees.
    levels
        Longer sides to work at, coarse to fine, in pixels.
    rounds
        At most so many at each size.

    Returns
    -------
    Alignment
        `overlap` 0 and `correlation` 0 when the map ran away (singular, or less than `MIN_OVERLAP` covered).
    """
    found = Alignment(start, 0.0, 0.0)
    for longer in levels:
        a, b = reduce_grey(left, longer), reduce_grey(right, longer)
        if longer <= PLAIN_PX:
            found = _settle(a.convert("F"), b.convert("F"), found.map, rounds)
        else:
            found = _align_shared(a, b, found.map, rounds)
        if found.overlap == 0.0:
            break
    return found


def _align_shared(left: Image.Image, right: Image.Image, start: Map, rounds: int) -> Alignment:
    """Detail registered within what both show: the light of a border would flatten what lies beside it."""
    windows = shared_windows(start)
    if windows is None:
        return Alignment(start, 0.0, 0.0)
    to_left, to_right = (window_map(WHOLE, window) for window in windows)
    parts = []
    for image, window in zip((left, right), windows, strict=True):
        (x0, y0, x1, y1), (wide, high) = window, image.size
        size = (max(8, round((x1 - x0) * wide)), max(8, round((y1 - y0) * high)))
        box = (x0 * wide, y0 * high, x1 * wide, y1 * high)
        parts.append(image if window == WHOLE else image.resize(size, Image.Resampling.BILINEAR, box))
    matrix = compose_maps(compose_maps(to_left, start), invert_map(to_right))
    # The spread of light is taken from the same extent of the scene in both.
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    a = flatten_light(parts[0], FLATTEN_SHARE)
    b = flatten_light(parts[1], FLATTEN_SHARE * min(max(scale, 0.3), 3.0))
    found = _settle(a, b, matrix, rounds)
    back = compose_maps(compose_maps(invert_map(to_left), found.map), to_right)
    return Alignment(back, found.correlation, found.overlap)


WHOLLY_SHARED = 0.03
"""What lies outside the shared part is cut away from this share of the side on."""


def shared_windows(matrix: Map) -> tuple[Window, Window] | None:
    """The windows of the left and of the right picture that hold what both show; None where that is nearly nothing."""
    found = []
    for forward in (matrix, invert_map(matrix)):
        back = invert_map(forward)
        corners = back @ np.array([[0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
        low, high = np.clip(corners.min(axis=1), 0, 1), np.clip(corners.max(axis=1), 0, 1)
        if (high - low).min() < MIN_OVERLAP:
            return None
        low, high = np.where(low < WHOLLY_SHARED, 0.0, low), np.where(high > 1 - WHOLLY_SHARED, 1.0, high)
        found.append((float(low[0]), float(low[1]), float(high[0]), float(high[1])))
    return found[0], found[1]


def blur(values: Grey, sigma_px: float) -> Grey:
    """About a Gaussian blur, as two running means: its time does not grow with sigma (31 px at 512 px: a tenth)."""
    width = max(3, round((6 * sigma_px * sigma_px + 1) ** 0.5))
    smooth: Grey = ndimage.uniform_filter(ndimage.uniform_filter(values, width), width)
    return smooth


def flatten_light(grey: Image.Image, share: float) -> Image.Image:
    """The picture with slow changes of light and contrast taken out: detail in units of its surroundings' spread.

    What a vignette, a film look or a dark picture does to the levels no longer matters to the registration.
    """
    pixels = np.asarray(grey, dtype=np.float32)
    sigma = max(2.0, share * max(grey.size))
    mean = blur(pixels, sigma)
    detail = pixels - mean
    spread = np.sqrt(np.maximum(blur(detail * detail, sigma), 0))
    return Image.fromarray((50.0 * detail / (spread + FLAT_LEVELS)).astype(np.float32))


def _settle(left: Image.Image, right: Image.Image, matrix: Map, rounds: int) -> Alignment:
    """Gauss-Newton at one size until the map stands still."""
    size = left.size
    template = np.asarray(left)
    x = ((np.arange(size[0]) + 0.5) / size[0] - 0.5).astype(np.float32)[None, :]
    y = ((np.arange(size[1]) + 0.5) / size[1] - 0.5).astype(np.float32)[:, None]
    lost = Alignment(matrix, 0.0, 0.0)
    best = lost
    for _ in range(rounds):
        covered = coverage(matrix, size, right.size)
        covered[[0, -1], :] = False
        covered[:, [0, -1]] = False
        overlap = float(covered.mean())
        if overlap < MIN_OVERLAP:
            break
        seen = np.asarray(warp(right, matrix, size))
        gain, offset = _fit_gain(seen, template, covered)
        residual: Grey = (template - gain * seen - offset).astype(np.float32)
        weight = _biweight(residual, covered, 0.15 * float(template[covered].std()))
        rho = correlation(seen, template, covered)
        if rho > best.correlation:
            best = Alignment(matrix, rho, overlap)
        step = _step(seen, template, weight, (x, y))
        if step is None:
            break
        # The step is about the centre of the left frame, in fractions.
        centre = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]])
        moved = compose_maps(compose_maps(invert_map(centre), step), centre)
        matrix = compose_maps(moved, matrix)
        if not _is_plausible(matrix):
            break
        if float(np.abs(step - IDENTITY).max()) * max(size) < 0.02:
            covered = coverage(matrix, size, right.size)
            if covered.mean() >= MIN_OVERLAP:
                seen = np.asarray(warp(right, matrix, size))
                rho = correlation(seen, template, covered)
                if rho >= best.correlation:
                    best = Alignment(matrix, rho, float(covered.mean()))
            break
    return best


def _is_plausible(matrix: Map) -> bool:
    """No fold, no squash beyond what a crop and a changed aspect explain."""
    singular = np.linalg.svd(matrix[:, :2], compute_uv=False)
    return bool(singular[0] < 5 and singular[1] > 0.2 and np.abs(matrix[:, 2]).max() < 4)


def _fit_gain(seen: Grey, template: Grey, covered: NDArray[np.bool_]) -> tuple[float, float]:
    a, b = seen[covered].astype(np.float64), template[covered].astype(np.float64)
    va = a.var()
    gain = float(((a - a.mean()) * (b - b.mean())).mean() / va) if va > 1e-6 else 1.0
    if gain < 0.05:
        gain = float(b.std() / max(a.std(), 1e-3))
    return gain, float(b.mean() - gain * a.mean())


def _biweight(residual: Grey, covered: NDArray[np.bool_], least: float) -> Grey:
    """Tukey's biweight; the scale is the median absolute residual, at least `least`.

    On a dark picture nearly all residuals are nothing; without a floor in proportion to the picture's own spread
    all of its content would count as painted over, and any map would do.
    """
    scale = max(1.0, least, 1.4826 * float(np.median(np.abs(residual[covered])))) * 4.685
    ratio = np.clip(residual / scale, -1, 1)
    weight: Grey = ((1 - ratio * ratio) ** 2 * covered).astype(np.float32)
    return weight


def _step(seen: Grey, template: Grey, weight: Grey, axes: tuple[Grey, Grey]) -> Map | None:
    """One linear solution for motion, gain and offset; None when the picture does not determine it."""
    x, y = axes
    h, w = seen.shape
    gy, gx = np.gradient(seen)
    gx, gy = gx * w, gy * h
    one = np.ones_like(seen)
    rows = np.stack([gx, gx * x, gx * y, gy, gy * x, gy * y, seen, one]).reshape(8, -1)
    weighted = rows * weight.reshape(1, -1)
    normal = (weighted @ rows.T).astype(np.float64)
    target = (weighted @ template.reshape(-1)).astype(np.float64)
    # A hair of damping keeps flat pictures (no gradient in one direction) solvable without moving them.
    damping = np.diag(np.r_[np.full(6, 1e-4 * np.trace(normal[:6, :6]) / 6 + 1e-6), 1e-6, 1e-6])
    try:
        solution = np.linalg.solve(normal + damping, target)
    except np.linalg.LinAlgError:
        return None
    gain = solution[6]
    if not np.isfinite(solution).all() or abs(gain) < 0.05:
        return None
    a = np.clip(solution[:6] / gain, -0.15, 0.15)
    return np.array([[1 + a[1], a[2], a[0]], [a[4], 1 + a[5], a[3]]])


START_CELLS = 24
"""Side at which windows are compared for a start: enough to tell places, blind to a few degrees and pixels."""
START_SCALES = (1.0, 0.93, 0.86, 0.79, 0.72, 0.65, 0.58)
START_ASPECT = 1.3
"""Largest change of aspect among the windows tried; a crop that changes it more is met by the refinement."""


def _axis_windows() -> list[tuple[float, float]]:
    windows = [(0.0, 1.0)]
    for scale in START_SCALES[1:]:
        slack = 1 - scale
        windows += [(slack * place, slack * place + scale) for place in (0.0, 0.25, 0.5, 0.75, 1.0)]
    return windows


AXIS_WINDOWS = _axis_windows()


def _axis_reduction(side: int) -> NDArray[np.float32]:
    """Area averages of every window along one axis: (windows * START_CELLS, side)."""
    edges = np.arange(side + 1) / side
    rows = []
    for low, high in AXIS_WINDOWS:
        cuts = low + (high - low) * np.arange(START_CELLS + 1) / START_CELLS
        overlap = np.minimum(cuts[1:, None], edges[None, 1:]) - np.maximum(cuts[:-1, None], edges[None, :-1])
        overlap = np.clip(overlap, 0, None)
        rows.append(overlap / overlap.sum(axis=1, keepdims=True))
    return np.concatenate(rows).astype(np.float32)


_REDUCTION = _axis_reduction(64)
_SIZES = np.array([high - low for low, high in AXIS_WINDOWS])
_ALLOWED = np.maximum(_SIZES[:, None] / _SIZES[None, :], _SIZES[None, :] / _SIZES[:, None]) <= START_ASPECT


def _window_scores(windowed: NDArray[np.float32], whole: NDArray[np.float32]) -> NDArray[np.float32]:
    """Correlation of every window (y, x) of `windowed` (64, 64) with the whole of `whole` (64, 64)."""
    n, k = len(AXIS_WINDOWS), START_CELLS
    cells = (
        (_REDUCTION @ windowed @ _REDUCTION.T).reshape(n, k, n, k).transpose(0, 2, 1, 3).reshape(n, n, k * k)
    )
    target = (_REDUCTION[:k] @ whole @ _REDUCTION[:k].T).reshape(-1)
    target = target - target.mean()
    cells = cells - cells.mean(axis=2, keepdims=True)
    spread = np.sqrt((cells * cells).sum(axis=2)) * np.sqrt(target @ target)
    scores: NDArray[np.float32] = np.where(_ALLOWED, cells @ target / np.maximum(spread, 1e-3), -1.0).astype(
        np.float32
    )
    return scores


def find_starts(left: NDArray[np.float32], right: NDArray[np.float32], count: int = 3) -> list[Map]:
    """The most promising maps between two squashed greys, best first.

    Parameters
    ----------
    left, right : (64, 64)
        Greys squashed to a square (`Fingerprint.grey`); `right` with its orientation applied.
    count
        How many of each kind: windows of the left that the right may show (a crop), and of the right that the left
        may show (a border, or the crop seen the other way round).
    """
    found: list[tuple[float, Map]] = []
    for swap in (False, True):
        scores = _window_scores(right, left) if swap else _window_scores(left, right)
        flat = np.argsort(-scores, axis=None, kind="stable")
        taken: list[Window] = []
        for position in flat[:200]:
            iy, ix = divmod(int(position), len(AXIS_WINDOWS))
            window = (AXIS_WINDOWS[ix][0], AXIS_WINDOWS[iy][0], AXIS_WINDOWS[ix][1], AXIS_WINDOWS[iy][1])
            if any(max(abs(a - b) for a, b in zip(window, other, strict=True)) < 0.06 for other in taken):
                continue
            taken.append(window)
            matrix = window_map(WHOLE, window) if swap else window_map(window, WHOLE)
            found.append((float(scores[iy, ix]), matrix))
            if len(taken) == count:
                break
    found.sort(key=lambda item: -item[0])
    return [matrix for _, matrix in found]
