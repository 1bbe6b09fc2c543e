"""Tone and colour: how one rendition of a picture is turned into another.

Promises: a model of colour that predicts one picture from the other after alignment - a 3 x 4 matrix (white
balance, saturation, greyscale) followed by a curve per channel (brightness, contrast, gamma, film looks) and a
smooth gain over the frame (vignette) - fitted so that a painted-over part does not pull it. Does not: fit local
changes; these are what remains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Colours = NDArray[np.float32]
KNOTS = 24
"""Knots of a channel's curve: one per 11 levels follows a film look, and is too stiff to follow a picture."""


@dataclass(frozen=True, slots=True)
class ToneModel:
    """A prediction of one picture's colours from the other's."""

    matrix: NDArray[np.float64]
    """(3, 4): linear part, the last column an offset in levels."""
    knots: NDArray[np.float64]
    """(3, KNOTS, 2): position and value, in levels, of each channel's curve."""
    gain: NDArray[np.float64]
    """(6,): gain over the frame as a polynomial 1, x, y, x^2, xy, y^2 with x, y in -1..1."""

    def predict(self, source: Colours) -> Colours:
        """The model applied to a picture (height, width, 3) of the same frame, at any size; 0-255."""
        h, w = source.shape[:2]
        linear = source @ self.matrix[:, :3].T.astype(np.float32) + self.matrix[:, 3].astype(np.float32)
        for c in range(3):
            linear[..., c] = _follow(self.knots[c, :, 0], self.knots[c, :, 1], linear[..., c])
        linear *= np.tensordot(self.gain, _powers(h, w), 1).astype(np.float32)[..., None]
        clipped: Colours = np.clip(linear, 0, 255, out=linear)
        return clipped


STEPS = 2048
"""Places at which a curve is known: an eighth of a level apart."""


def _follow(
    xs: NDArray[np.float64], ys: NDArray[np.float64], values: NDArray[np.float32]
) -> NDArray[np.float32]:
    """A curve through knots, read from a table; beyond the outermost it goes on with slope one rather than flat."""
    low, high = float(xs[0]), max(float(xs[-1]), float(xs[0]) + 1e-3)
    table = np.interp(np.linspace(low, high, STEPS), xs, ys).astype(np.float32)
    inside = np.clip(values, np.float32(low), np.float32(high))
    place = ((inside - np.float32(low)) * np.float32((STEPS - 1) / (high - low)) + np.float32(0.5)).astype(
        np.int32
    )
    curved: NDArray[np.float32] = table[place] + (values - inside)
    return curved


def _powers(h: int, w: int) -> NDArray[np.float32]:
    y, x = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j].astype(np.float32)
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y])


FIT_PX = 12_000
"""About how many pixels are fitted to; more do not change the model."""


def fit_tone(source: Colours, target: Colours, weight: NDArray[np.float32]) -> ToneModel:
    """Fit `target` from `source`.

    Parameters
    ----------
    source, target : (height, width, 3) float32, 0-255
        The same frame, registered.
    weight : (height, width)
        0 where they must not be compared.
    """
    step = max(1, round((weight.size / FIT_PX) ** 0.5))
    powers = _powers(*weight.shape)[:, ::step, ::step]
    source, target, weight = source[::step, ::step], target[::step, ::step], weight[::step, ::step]
    base = weight.astype(np.float32)
    robust = base
    predicted = source
    matrix = np.hstack([np.eye(3), np.zeros((3, 1))])
    knots = np.zeros((3, KNOTS, 2))
    gain = np.array([1.0, 0, 0, 0, 0, 0])
    for _ in range(3):
        field = np.tensordot(gain, powers, 1).astype(np.float32)[..., None]
        matrix = _fit_matrix(source, target / field, robust)
        linear = source @ matrix[:, :3].T.astype(np.float32) + matrix[:, 3].astype(np.float32)
        knots, curved = _fit_curves(linear, target / field, robust)
        gain = _fit_gain(curved, target, robust, powers)
        field = np.tensordot(gain, powers, 1).astype(np.float32)[..., None]
        predicted = np.clip(curved * field, 0, 255)
        robust = base * _biweight(np.abs(target - predicted).max(axis=2), base)
    return ToneModel(matrix, knots, gain)


def _biweight(residual: NDArray[np.float32], base: NDArray[np.float32]) -> NDArray[np.float32]:
    inside = residual[base > 0]
    scale = max(3.0, 1.4826 * float(np.median(inside)) if inside.size else 3.0) * 4.685
    ratio = np.clip(residual / scale, 0, 1)
    weight: NDArray[np.float32] = ((1 - ratio * ratio) ** 2).astype(np.float32)
    return weight


def _fit_matrix(source: Colours, target: Colours, weight: NDArray[np.float32]) -> NDArray[np.float64]:
    a = np.concatenate([source.reshape(-1, 3), np.ones((weight.size, 1), np.float32)], axis=1)
    wa = a * weight.reshape(-1, 1)
    normal = (wa.T @ a).astype(np.float64)
    # Grey sources have equal channels: a ridge towards the identity keeps the split among them harmless.
    ridge = 1e-4 * max(np.trace(normal) / 4, 1.0)
    # None on the offset: in levels it is large where the channels' factors are small, and must not be held at zero.
    held = np.diag([ridge, ridge, ridge, 1e-6 * max(normal[3, 3], 1.0)])
    prior = np.hstack([np.eye(3), np.zeros((3, 1))]).T
    right = (wa.T @ target.reshape(-1, 3)).astype(np.float64) + held @ prior
    solution: NDArray[np.float64] = np.linalg.solve(normal + held, right).T
    return solution


def _fit_curves(
    linear: Colours, target: Colours, weight: NDArray[np.float32]
) -> tuple[NDArray[np.float64], Colours]:
    """A curve per channel through weighted means of bins of equal width, forced to rise."""
    knots = np.zeros((3, KNOTS, 2))
    curved = np.empty_like(linear)
    w = weight.reshape(-1)
    for c in range(3):
        a, b = linear[..., c].reshape(-1), target[..., c].reshape(-1)
        low, high = np.quantile(a[w > 0], (0.002, 0.998)) if (w > 0).any() else (0.0, 255.0)
        high = max(high, low + 1)
        place = np.clip(((a - low) / (high - low) * KNOTS).astype(np.int64), 0, KNOTS - 1)
        mass = np.bincount(place, w, KNOTS)
        ok = mass > max(1e-3 * w.sum(), 1e-6)
        if ok.sum() < 2:
            knots[c] = np.stack([np.linspace(0, 255, KNOTS)] * 2, axis=1)
            curved[..., c] = linear[..., c]
            continue
        xs = np.bincount(place, w * a, KNOTS)[ok] / mass[ok]
        ys = np.maximum.accumulate(np.bincount(place, w * b, KNOTS)[ok] / mass[ok])
        knots[c, :, 0] = np.interp(np.arange(KNOTS), np.flatnonzero(ok), xs)
        knots[c, :, 1] = np.interp(np.arange(KNOTS), np.flatnonzero(ok), ys)
        curved[..., c] = _follow(xs, ys, linear[..., c])
    return knots, curved


def _fit_gain(
    curved: Colours, target: Colours, weight: NDArray[np.float32], powers: NDArray[np.float32]
) -> NDArray[np.float64]:
    luma, wanted = curved.mean(axis=2), target.mean(axis=2)
    rows = (powers * luma).reshape(6, -1)
    weighted = rows * weight.reshape(1, -1)
    normal = (weighted @ rows.T).astype(np.float64)
    ridge = 1e-3 * max(np.trace(normal) / 6, 1.0)
    prior = np.array([1.0, 0, 0, 0, 0, 0])
    gain: NDArray[np.float64] = np.linalg.solve(
        normal + ridge * np.eye(6), (weighted @ wanted.reshape(-1)).astype(np.float64) + ridge * prior
    )
    # A gain far from one is not a vignette but a model gone astray on a dark picture.
    return gain if 0.4 < gain.sum() < 2.5 and np.abs(gain[1:]).max() < 1.5 else prior
