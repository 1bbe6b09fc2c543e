"""Edges, fine detail, shift, exposure, noise and motion: what two pictures have where.

Promises: exact zeros for equal pictures; a picture without any structure gives no number where there is none, and says
so. Does not: look at colour, but for exposure's sake.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from dedup.compare.frames import BAND_ROWS, Floats, Frames, noise_sigma
from dedup.compare.levels import Answer
from dedup.compare.motion import follow, summarise
from dedup.records.comparing import Part

EDGE_LEVELS = 16.0
"""Gradient, in levels a pixel, from which a pixel lies on an edge: above the noise of a phone at night, below the
edges of pale type."""
FLAT_LEVELS = 0.5
"""Spread of luma below which a picture has nothing to register."""

WHITEN_F0, WHITEN_ALPHA, WHITEN_N = 0.78, 4.0, 0.01


# ---- edges ---------------------------------------------------------------------------------------------------------


def gradient(luma: Floats, kind: str) -> Floats:
    """Length of the gradient in levels a pixel, by `sobel` or `prewitt`; borders as if the picture went on."""
    mask, weight = {"sobel": ((1, 2, 1), 4.0), "prewitt": ((1, 1, 1), 3.0)}[kind]
    parts = []
    for axis in (0, 1):
        slope = ndimage.correlate1d(luma, (-0.5, 0.0, 0.5), axis=axis, mode="nearest")
        parts.append(ndimage.correlate1d(slope, np.array(mask) / weight, axis=1 - axis, mode="nearest"))
    found: Floats = np.hypot(parts[0], parts[1]).astype(np.float32)
    return found


def edges(frames: Frames, kind: str) -> Answer:
    """Edges that only one of the two has, as a share of all."""
    count = {"a": 0, "b": 0, "lost": 0, "new": 0}
    squared = 0.0
    first, second = frames.luma
    height, width = first.shape
    reach = 2
    for top in range(0, height, BAND_ROWS):
        start, end = max(0, top - reach), min(height, top + BAND_ROWS + reach)
        own = slice(top - start, min(height, top + BAND_ROWS) - start)
        a, b = gradient(first[start:end], kind), gradient(second[start:end], kind)
        squared += float(np.square(a[own] - b[own], dtype=np.float64).sum())
        on_a, on_b = a > EDGE_LEVELS, b > EDGE_LEVELS
        near_a = ndimage.binary_dilation(on_a, np.ones((3, 3), bool))
        near_b = ndimage.binary_dilation(on_b, np.ones((3, 3), bool))
        count["a"] += int(on_a[own].sum())
        count["b"] += int(on_b[own].sum())
        count["lost"] += int((on_a & ~near_b)[own].sum())
        count["new"] += int((on_b & ~near_a)[own].sum())
    both = count["a"] + count["b"]
    parts: dict[str, Part] = {
        "gradient_rms": math.sqrt(squared / (height * width)),
        "edges_a": count["a"] / (height * width),
        "edges_b": count["b"] / (height * width),
        "lost": count["lost"] / max(1, count["a"]),
        "new": count["new"] / max(1, count["b"]),
        "threshold_levels": EDGE_LEVELS,
    }
    if both == 0:
        return 0.0, parts, "neither has an edge"
    return (count["lost"] + count["new"]) / both, parts, ""


# ---- whitening -----------------------------------------------------------------------------------------------------


def whitening_filter(shape: tuple[int, int]) -> Floats:
    """Gain per frequency for `scipy.fft.rfft2` of a picture of this shape, at most 1.

    B. Olshausen and D. Field 1997, with the low-pass of J. Atick 1992, as L. Perrinet wrote it: frequencies from 0 to
    1 (Nyquist) along each axis, gain (N^2 + rho^2)^0.5 exp(-(rho/f0)^alpha). We take the true frequencies of the
    transform, where that code spreads -1 to 1 over an even number of places and so lies half a place off.
    """
    down = 2 * fft.fftfreq(shape[0]).astype(np.float32)[:, None]
    right = 2 * fft.rfftfreq(shape[1]).astype(np.float32)[None, :]
    rho = np.sqrt(down * down + right * right)
    gain = np.sqrt(WHITEN_N**2 + rho * rho) * np.exp(-((rho / WHITEN_F0) ** WHITEN_ALPHA))
    found: Floats = (gain / gain.max()).astype(np.float32)
    return found


def whitened_rms(luma: Floats) -> float:
    """RMS of a whitened picture, by Parseval's theorem: the way back from the frequencies is spared."""
    spectrum = fft.rfft2(luma)
    spectrum *= whitening_filter((luma.shape[0], luma.shape[1]))
    power = np.square(spectrum.real, dtype=np.float64) + np.square(spectrum.imag, dtype=np.float64)
    # All columns but the first (and for even widths the last) stand for two.
    double = slice(1, -1 if luma.shape[1] % 2 == 0 else None)
    total = float(power.sum() + power[:, double].sum())
    return math.sqrt(total) / luma.size


def whiten(frames: Frames) -> Answer:
    """RMS of the whitened difference; the filter is linear, so one transform does."""
    parts: dict[str, Part] = {"f0": WHITEN_F0, "alpha": WHITEN_ALPHA, "N": WHITEN_N}
    first, second = frames.luma
    whole = whitened_rms(first)
    if frames.is_equal:
        return 0.0, {**parts, "of_a": whole, "relative": 0.0}, ""
    value = whitened_rms(first - second)
    relative = value / whole if whole > 1e-6 else None
    return value, {**parts, "of_a": whole, "relative": relative}, ""


# ---- shift ---------------------------------------------------------------------------------------------------------


def phase_shift(first: Floats, second: Floats) -> tuple[int, int, float]:
    """Whole pixels by which `second` is shifted right and down against `first`, and the height of the peak.

    C. Kuglin and D. Hines, The phase correlation image alignment method, 1975: the transform of the normalised
    cross-power spectrum is one peak for a pure shift. Pictures of equal shape, not flat.
    """
    power = fft.rfft2(second - second.mean())
    power *= np.conj(fft.rfft2(first - first.mean()))
    size = np.abs(power)
    # Frequencies without any power have no phase.
    power /= np.maximum(size, max(float(size.max()) * 1e-7, 1e-12))
    peaks = fft.irfft2(power, first.shape)
    at = np.unravel_index(int(peaks.argmax()), peaks.shape)
    dy, dx = (
        int(place) - (side if place > side // 2 else 0) for place, side in zip(at, peaks.shape, strict=True)
    )
    return dx, dy, float(peaks[at])


def phase(frames: Frames) -> Answer:
    """Shift of B against A; pictures of different sizes are laid into one frame, top left on top left."""
    first, second = frames.luma
    if frames.is_equal:
        return 0.0, {"dx": 0, "dy": 0, "peak": 1.0, "overlap": 1.0}, ""
    if min(float(first.std()), float(second.std())) < FLAT_LEVELS:
        return None, {}, "no structure to register: a picture is flat"
    height, width = max(first.shape[0], second.shape[0]), max(first.shape[1], second.shape[1])
    dx, dy, peak = phase_shift(*(_padded(luma, (height, width)) for luma in (first, second)))
    inside = [
        max(0, min(a, b + d) - max(0, d)) for a, b, d in zip(first.shape, second.shape, (dy, dx), strict=True)
    ]
    overlap = inside[0] * inside[1] / first.size
    note = "" if peak >= LEAST_PEAK else "a low peak: the shift means little"
    return math.hypot(dx, dy), {"dx": dx, "dy": dy, "peak": peak, "overlap": overlap}, note


LEAST_PEAK = 0.03
"""Peak under which a shift is none: unrelated photos reach 0.02, a shifted q50 copy 0.1."""


def _padded(luma: Floats, shape: tuple[int, int]) -> Floats:
    found = np.full(shape, luma.mean(), np.float32)
    found[: luma.shape[0], : luma.shape[1]] = luma
    return found


# ---- exposure, noise, motion ---------------------------------------------------------------------------------------


def exposure(frames: Frames) -> Answer:
    """Gain and offset that make A's luma most like B's, and what they move."""
    first, second = (luma.astype(np.float64).reshape(-1) for luma in frames.luma)
    if frames.is_equal:
        return 0.0, {"gain": 1.0, "offset": 0.0, "correlation": 1.0, "left": 0.0}, ""
    mean_a, mean_b = float(first.mean()), float(second.mean())
    da, db = first - mean_a, second - mean_b
    va, vb = float(da @ da) / da.size, float(db @ db) / db.size
    covariance = float(da @ db) / da.size
    if va < FLAT_LEVELS**2:
        return (
            abs(mean_b - mean_a),
            {"gain": None, "offset": mean_b - mean_a, "correlation": None, "left": math.sqrt(vb)},
            "A is flat: only the offset can be told",
        )
    gain = covariance / va
    offset = mean_b - gain * mean_a
    moved = math.sqrt((gain - 1) ** 2 * va + (mean_b - mean_a) ** 2)
    rho = covariance / math.sqrt(va * vb) if vb > 0 else None
    left = math.sqrt(max(0.0, vb - gain * covariance))
    return moved, {"gain": gain, "offset": offset, "correlation": rho, "left": left}, ""


def noise(frames: Frames) -> Answer:
    """Noise of both."""
    a, b = (noise_sigma(luma) for luma in frames.luma)
    return abs(a - b), {"a": a, "b": b}, ""


def flow(frames: Frames) -> Answer:
    """Motion of corners from A to B."""
    if frames.is_equal:
        return (
            0.0,
            {"points": None, "camera_dx": 0.0, "camera_dy": 0.0, "moved_share": 0.0},
            "nothing differs",
        )
    points, moves = follow(*frames.luma)
    if not len(points):
        return None, {"points": 0}, "no corner could be followed"
    motion = summarise(points, moves)
    lengths: NDArray[np.float32] = np.hypot(moves[:, 0], moves[:, 1])
    parts: dict[str, Part] = {
        "points": motion.points,
        "camera_dx": motion.camera_px[0],
        "camera_dy": motion.camera_px[1],
        "moved_share": motion.moved_share,
    }
    return float(np.median(lengths)), parts, motion.words
