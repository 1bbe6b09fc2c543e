"""Distances of histograms: they know what levels there are, and not where.

Promises: exact zeros for equal histograms; sizes may differ, but for the raw figure. Does not: look at places.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dedup.compare.frames import Floats, Frames, Plane
from dedup.compare.kinds import KL_THRESHOLD
from dedup.compare.levels import Answer
from dedup.records.comparing import Part

Counts = NDArray[np.int64]
Shares = NDArray[np.float64]

SMOOTHING = 0.5
"""Added to each count before logarithms are taken (Jeffreys' prior): a level that one picture lacks is rare, not
impossible."""


def band_counts(pixels: Plane) -> Counts:
    """(bands, 256): how many pixels have each level; fractions of a level are rounded."""
    found = np.empty((pixels.shape[2], 256), np.int64)
    for band in range(pixels.shape[2]):
        plane = pixels[..., band]
        levels = plane if plane.dtype == np.uint8 else np.rint(np.clip(plane, 0, 255)).astype(np.uint8)
        found[band] = np.bincount(levels.reshape(-1), minlength=256)
    return found


def luma_counts(luma: Floats) -> Counts:
    """(256,): how many pixels have each level of luma."""
    return np.bincount(np.rint(np.clip(luma, 0, 255)).astype(np.uint8).reshape(-1), minlength=256)


def smoothed(counts: Counts) -> Shares:
    """Counts as shares, none of them zero."""
    found: Shares = (counts + SMOOTHING) / (counts.sum() + SMOOTHING * len(counts))
    return found


def kl_distance(p: Shares, q: Shares) -> tuple[float, float]:
    """Kullback-Leibler distance from p to q and from q to p, in nats; no share may be zero."""
    ratio = np.log(p) - np.log(q)
    return max(0.0, float(p @ ratio)), max(0.0, float(-(q @ ratio)))


def js_divergence(p: Shares, q: Shares) -> float:
    """Jensen-Shannon divergence in nats, 0 to ln 2. Shares may be zero."""
    middle = (p + q) / 2
    total = 0.0
    for shares in (p, q):
        some = shares > 0
        total += float(shares[some] @ np.log(shares[some] / middle[some])) / 2
    return max(0.0, total)


def chi_squared(p: Shares, q: Shares) -> float:
    """Half the sum of (p - q)^2 / (p + q): 0 for equal shares, 1 for shares with nothing in common."""
    total = p + q
    some = total > 0
    return float((np.square(p - q)[some] / total[some]).sum() / 2)


def earth_movers(p: Shares, q: Shares) -> float:
    """How far, in bins, the shares must be moved on average."""
    return float(np.abs(np.cumsum(p - q)).sum())


def distances(a: Counts, b: Counts) -> dict[str, float]:
    """Of two histograms of luma: kl (symmetric), js, chi2, emd."""
    if np.array_equal(a, b):
        return {"kl": 0.0, "js": 0.0, "chi2": 0.0, "emd": 0.0}
    p, q = a / max(1, a.sum()), b / max(1, b.sum())
    there, back = kl_distance(smoothed(a), smoothed(b))
    return {
        "kl": (there + back) / 2,
        "js": js_divergence(p, q),
        "chi2": chi_squared(p, q),
        "emd": earth_movers(p, q),
    }


class Histograms:
    """The histograms of two pictures, counted once."""

    def __init__(self, frames: Frames) -> None:
        self.frames = frames
        self.bands = [band_counts(picture[..., : frames.colours]) for picture in (frames.a, frames.b)]
        self.luma = [luma_counts(luma) for luma in frames.luma]
        self.found = distances(self.luma[0], self.luma[1])

    def hist_rms(self) -> Answer:
        """RMS of histograms, as shares and raw."""
        a, b = (counts.reshape(-1).astype(np.float64) for counts in self.bands)
        raw = math.sqrt(float(np.square(a - b).mean()))
        pixels = [float(counts[0].sum()) for counts in self.bands]
        shares = a / pixels[0] - b / pixels[1]
        note = "" if pixels[0] == pixels[1] else "the raw figure compares pictures of different sizes"
        return math.sqrt(float(np.square(shares).mean())), {"raw": raw, "bins": len(a)}, note

    def kl(self) -> Answer:
        """Kullback-Leibler, symmetric and both ways."""
        there, back = (0.0, 0.0) if self._is_equal else kl_distance(*map(smoothed, self.luma))
        parts: dict[str, Part] = {
            "a_to_b": there,
            "b_to_a": back,
            "smoothing_count": SMOOTHING,
            "threshold": KL_THRESHOLD,
        }
        return self.found["kl"], parts, self._against_threshold(self.found["kl"])

    def js(self) -> Answer:
        """Jensen-Shannon divergence, and its root, which is a metric."""
        value = self.found["js"]
        parts: dict[str, Part] = {"root": math.sqrt(value), "threshold": KL_THRESHOLD}
        return value, parts, self._against_threshold(value)

    def chi2(self) -> Answer:
        """Chi-squared distance."""
        return self.found["chi2"], {}, ""

    def emd(self) -> Answer:
        """Earth mover's distance."""
        return self.found["emd"], {}, ""

    @property
    def _is_equal(self) -> bool:
        return bool(np.array_equal(self.luma[0], self.luma[1]))

    def _against_threshold(self, value: float) -> str:
        side = "beyond" if value > KL_THRESHOLD else "within"
        return f"{side} the {KL_THRESHOLD} at which consecutive frames count as suddenly different"
