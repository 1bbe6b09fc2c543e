"""The background of a still scene, and what a frame has that the others have not.

Method: the mean and the standard deviation of every pixel over all other frames; outside of mean plus or minus two
sigma is foreign. Single pixels that chance puts outside are taken away.

Promises: a frame is never part of the model that it is held against. Does not: follow a camera that moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Rgb = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Window = tuple[float, float, float, float]

SIGMAS = 2.0
LEAST_FRAMES = 4
"""Fewer frames have no background: of three, the two others may differ by chance."""
LEAST_SIGMA = 4.0
"""Levels: what saving again does to a still scene stays within two of these."""
OPENED_PX = 3
"""Side of the smallest patch that counts."""
ODD_SHARE = 0.001
ODD_RATIO = 4.0
"""A frame is odd if its foreign share is beyond this, and this many times that of the middle frame of its scene."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """What one frame has that the others have not."""

    share: float
    box: Window | None
    """Around the largest patch, in fractions."""
    mask: Mask


class Background:
    """Sums over frames of one size, from which the model of all but one is made."""

    def __init__(self, frames: Sequence[Rgb]) -> None:
        """`frames`: (height, width, 3) uint8 each, `LEAST_FRAMES` or more."""
        if len(frames) < LEAST_FRAMES:
            raise ValueError(f"{len(frames)} frames have no background; {LEAST_FRAMES} are needed")
        self.count = len(frames)
        # Whole numbers: 255^2 times 60,000 frames still fits.
        self._sum = np.zeros(frames[0].shape, np.uint32)
        self._squares = np.zeros(frames[0].shape, np.uint32)
        for frame in frames:
            wide = frame.astype(np.uint32)
            self._sum += wide
            self._squares += wide * wide

    def mean(self) -> NDArray[np.float64]:
        """(height, width, 3): of all frames."""
        found: NDArray[np.float64] = self._sum / self.count
        return found

    def sigma(self) -> NDArray[np.float64]:
        """(height, width, 3): standard deviation over all frames."""
        return _sigma(self._sum, self._squares, self.count)

    def foreign(self, frame: Rgb) -> Foreign:
        """What `frame`, one of those that the sums were made of, has outside of the model of the others."""
        wide = frame.astype(np.uint32)
        others = self.count - 1
        total, squares = self._sum - wide, self._squares - wide * wide
        sigma = _sigma(total, squares, others)
        # A place where three frames happen to agree to the level has no sigma; the picture's own noise is the least.
        least = max(LEAST_SIGMA, float(np.median(sigma)))
        outside = (np.abs(frame - total / others) > SIGMAS * np.maximum(sigma, least)).any(axis=2)
        mask: Mask = ndimage.binary_opening(outside, np.ones((OPENED_PX, OPENED_PX), bool))
        if not mask.any():
            return Foreign(0.0, None, mask)
        labels, count = ndimage.label(mask)
        sizes = np.bincount(labels.reshape(-1))[1:]
        rows, columns = ndimage.find_objects(labels, count)[int(sizes.argmax())]
        height, width = mask.shape
        box = (columns.start / width, rows.start / height, columns.stop / width, rows.stop / height)
        return Foreign(float(mask.mean()), box, mask)


def _sigma(total: NDArray[np.uint32], squares: NDArray[np.uint32], count: int) -> NDArray[np.float64]:
    mean = total / count
    found: NDArray[np.float64] = np.sqrt(np.maximum(squares / count - mean * mean, 0.0))
    return found


def are_odd(shares: Sequence[float]) -> list[bool]:
    """Which frames of one scene have something that the others have not."""
    if not shares:
        return []
    usual = float(np.median(shares))
    return [share > max(ODD_SHARE, ODD_RATIO * usual) for share in shares]
