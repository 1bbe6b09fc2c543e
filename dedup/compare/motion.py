"""Sparse optical flow: corners of one frame followed into the next, and whether the camera moved or the subject.

Method: corners after J. Shi and C. Tomasi, Good features to track, CVPR 1994; B. Lucas and T. Kanade, 1981, over a
pyramid. All corners are followed at once, in arrays.

Promises: what cannot be followed there and back is dropped. Does not: look beyond about a tenth of the frame.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from dedup.compare.frames import Floats
from dedup.records import Motion

WORKED_PX = 640
"""Longer side at which corners are followed."""
MOST_CORNERS = 300
CORNER_CELLS = 24
"""One corner in each cell of a grid with so many along the longer side, so that one busy place does not have all."""
WINDOW_PX = 15
ROUNDS = 8
LEVELS = 4
LEAST_CORNER = 8.0
"""Smaller eigenvalue of the mean gradient product, in square levels: plain areas have none that could be followed."""
BACK_PX = 0.5
"""A corner followed there and back must come home within this."""
RESIDUAL_LEVELS = 14.0
STILL_PX = 0.35
"""Motion, at `WORKED_PX`, below which nothing moves."""
OTHER_PX = 1.5
"""Motion against the camera's from which a corner moves by itself."""
SUBJECT_SHARE = 0.04


def follow(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """Corners (k, 2) of the first frame and their motion (k, 2), x then y, in pixels of the frames as given."""
    height, width = first.shape
    if second.shape != first.shape or min(height, width) < 3 * WINDOW_PX:
        return np.empty((0, 2), np.float32), np.empty((0, 2), np.float32)
    scale = min(1.0, WORKED_PX / max(height, width))
    a, b = (_reduced(luma, scale) for luma in (first, second))
    points = find_corners(a)
    if not len(points):
        return points, points
    pyramids = _pyramid(a), _pyramid(b)
    moved, residual = _track(*pyramids, points)
    home, _ = _track(pyramids[1], pyramids[0], moved)
    inside = (moved >= 0).all(axis=1) & (moved[:, 0] < a.shape[1]) & (moved[:, 1] < a.shape[0])
    good = inside & (np.abs(home - points).max(axis=1) <= BACK_PX) & (residual <= RESIDUAL_LEVELS)
    return points[good] / scale, (moved - points)[good] / scale


def summarise(points: Floats, moves: Floats) -> Motion:
    """The motion that most corners share, and how many move otherwise.

    The camera's motion is a shift, a zoom and a turn, fitted again and again to the corners that agree with it.
    """
    if len(points) < 8:
        return Motion(len(points), (0.0, 0.0), 0.0, "too few corners to tell")
    extent = float(np.ptp(points, axis=0).max()) or 1.0
    unit = max(1.0, extent / WORKED_PX)
    centre = points.mean(axis=0)
    x, y = ((points - centre) / extent).T.astype(np.float64)
    one, zero = np.ones_like(x), np.zeros_like(x)
    rows = np.concatenate((np.stack([one, zero, x, -y], 1), np.stack([zero, one, y, x], 1)))
    target = np.concatenate((moves[:, 0], moves[:, 1])).astype(np.float64)
    # Begin with the shift that the median says, which half of the corners cannot spoil.
    model = np.array([np.median(moves[:, 0]), np.median(moves[:, 1]), 0.0, 0.0])
    agrees = np.ones(len(points), bool)
    for reach in (12.0, 6.0, 3.0, OTHER_PX, OTHER_PX):
        away = (target - rows @ model).reshape(2, -1)
        agrees = np.hypot(away[0], away[1]) <= reach * unit
        if agrees.sum() < 8:
            break
        both = np.concatenate((agrees, agrees))
        model = np.linalg.lstsq(rows[both], target[both], rcond=None)[0]
    away = (target - rows @ model).reshape(2, -1)
    moved = float((np.hypot(away[0], away[1]) > OTHER_PX * unit).mean())
    shown = (rows @ model).reshape(2, -1)
    camera = float(np.median(np.hypot(shown[0], shown[1]))) > STILL_PX * unit
    subject = moved >= SUBJECT_SHARE
    words = {
        (False, False): "nothing moved",
        (True, False): "the camera moved",
        (False, True): "the subject moved, the camera did not",
        (True, True): "the camera moved, and the subject too",
    }[camera, subject]
    return Motion(len(points), (float(model[0]), float(model[1])), moved, words)


def find_corners(luma: Floats) -> Floats:
    """At most `MOST_CORNERS` corners (x, y), the best of each cell of a grid; float32."""
    gx, gy = _slopes(luma)
    size = 7
    xx, yy, xy = (ndimage.uniform_filter(values, size) for values in (gx * gx, gy * gy, gx * gy))
    weakest = (xx + yy) / 2 - np.sqrt(np.square((xx - yy) / 2) + xy * xy)
    margin = WINDOW_PX // 2 + 1
    height, width = luma.shape
    cell = max(8, max(height, width) // CORNER_CELLS)
    found: list[tuple[float, int, int]] = []
    for top in range(margin, height - margin, cell):
        for left in range(margin, width - margin, cell):
            part = weakest[top : min(top + cell, height - margin), left : min(left + cell, width - margin)]
            at = np.unravel_index(int(part.argmax()), part.shape)
            if part[at] >= LEAST_CORNER:
                found.append((float(part[at]), left + int(at[1]), top + int(at[0])))
    found.sort(reverse=True)
    return np.array([(x, y) for _, x, y in found[:MOST_CORNERS]], np.float32).reshape(-1, 2)


def _slopes(luma: Floats) -> tuple[Floats, Floats]:
    smooth = ndimage.gaussian_filter(luma, 0.8)
    gy, gx = np.gradient(smooth)
    return gx.astype(np.float32), gy.astype(np.float32)


def _reduced(luma: Floats, scale: float) -> Floats:
    if scale == 1.0:
        return luma
    size = (max(8, round(luma.shape[1] * scale)), max(8, round(luma.shape[0] * scale)))
    return np.asarray(Image.fromarray(luma).resize(size, Image.Resampling.BOX), np.float32)


def _pyramid(luma: Floats) -> list[Floats]:
    found = [ndimage.gaussian_filter(luma, 0.8)]
    while len(found) < LEVELS and min(found[-1].shape) >= 4 * WINDOW_PX:
        found.append(ndimage.gaussian_filter(found[-1], 1.0)[::2, ::2])
    return found


def _track(first: list[Floats], second: list[Floats], points: Floats) -> tuple[Floats, Floats]:
    """Where the points go, and the mean difference that remains around them."""
    half = WINDOW_PX // 2
    dy, dx = (
        values.reshape(-1).astype(np.float32) for values in np.mgrid[-half : half + 1, -half : half + 1]
    )
    moves = np.zeros_like(points)
    residual = np.zeros(len(points), np.float32)
    for level in range(len(first) - 1, -1, -1):
        a, b = first[level], second[level]
        at: Floats = points / np.float32(2**level)
        moves *= 2 if level < len(first) - 1 else 1
        x, y = at[:, :1] + dx, at[:, 1:] + dy
        template = _sample(a, x, y)
        tx, ty = (_sample(np.asarray(np.gradient(a, axis=axis), np.float32), x, y) for axis in (1, 0))
        xx, yy, xy = (tx * tx).sum(1), (ty * ty).sum(1), (tx * ty).sum(1)
        determinant = np.maximum(xx * yy - xy * xy, 1e-3)
        for _ in range(ROUNDS):
            away = template - _sample(b, x + moves[:, 0:1], y + moves[:, 1:2])
            ex, ey = (away * tx).sum(1), (away * ty).sum(1)
            step = np.stack([yy * ex - xy * ey, xx * ey - xy * ex], 1) / determinant[:, None]
            moves += np.clip(step, -4, 4)
        residual = np.abs(template - _sample(b, x + moves[:, 0:1], y + moves[:, 1:2])).mean(axis=1)
    return points + moves, residual


def _sample(values: Floats, x: Floats, y: Floats) -> Floats:
    found: NDArray[np.float32] = ndimage.map_coordinates(
        values, (y, x), order=1, mode="nearest", output=np.float32
    )
    return found
