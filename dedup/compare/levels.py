"""Pixel against pixel: norms of the difference, its box, its worst tile, and how it looks to an eye.

Promises: exact zeros for equal pictures; sums over bytes are exact whatever the size. All levels are 0 to 255. Does
not: align or resize; both pictures are of one shape.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dedup.compare.frames import Floats, Frames, Plane
from dedup.records.comparing import Part, Value

Answer = tuple[Value, dict[str, Part], str]
"""Value, further numbers, and a note."""

TILE_PX = 8


class Sums:
    """Everything that one pass over the difference gives."""

    def __init__(self, frames: Frames, tile_px: int = TILE_PX) -> None:
        self.tile_px = tile_px
        bands = frames.a.shape[2]
        self.pixels = frames.a.shape[0] * frames.a.shape[1]
        self.absolute = np.zeros(bands)
        self.squared = np.zeros(bands)
        self.largest = 0.0
        self.differing = 0
        self.tolerated = 0
        self.box: tuple[int, int, int, int] | None = None
        self.worst_tile = 0.0
        self.worst_tile_px = (0, 0, 0, 0)
        self._go_over(frames)

    def _go_over(self, frames: Frames) -> None:
        top, colours = 0, frames.colours
        height, width = frames.a.shape[:2]
        across = np.zeros(width, bool)
        rows_hit: list[int] = []
        for p, q in frames.rows():
            gap = _gap(p, q)
            flat = gap.reshape(-1, gap.shape[2])
            if gap.dtype == np.uint8:
                for band in range(gap.shape[2]):
                    counts = np.bincount(flat[:, band], minlength=256)
                    levels = np.arange(256)
                    self.absolute[band] += int(counts @ levels)
                    self.squared[band] += int(counts @ (levels * levels))
            else:
                self.absolute += flat.sum(axis=0, dtype=np.float64)
                self.squared += np.square(flat, dtype=np.float64).sum(axis=0)
            most = gap.max(axis=2)
            self.largest = max(self.largest, float(most.max(initial=0)))
            self.differing += int(np.count_nonzero(most))
            beyond = most > frames.tolerance_levels
            self.tolerated += int(np.count_nonzero(beyond))
            hit = np.flatnonzero(beyond.any(axis=1))
            if len(hit):
                rows_hit += [top + int(hit[0]), top + int(hit[-1])]
                across |= beyond.any(axis=0)
            self._look_for_tile(gap[..., :colours], top, (width, height))
            top += len(p)
        if rows_hit:
            columns = np.flatnonzero(across)
            self.box = (int(columns[0]), min(rows_hit), int(columns[-1]) + 1, max(rows_hit) + 1)

    def _look_for_tile(self, gap: Plane, top: int, size: tuple[int, int]) -> None:
        """`frames.BAND_ROWS` is a multiple of the tile's side, so no tile is cut but the last ones."""
        side = self.tile_px
        height, width = gap.shape[:2]
        down, right = np.arange(0, height, side), np.arange(0, width, side)
        sums = np.add.reduceat(gap, down, axis=0, dtype=np.float32)
        sums = np.add.reduceat(sums, right, axis=1)
        tall = np.minimum(side, height - down)[:, None, None]
        wide = np.minimum(side, width - right)[None, :, None]
        means = sums / (tall * wide)
        # A single band stands for three equal ones.
        lengths = np.sqrt(np.square(means).sum(axis=2) * (3 / means.shape[2]))
        at = np.unravel_index(int(lengths.argmax()), lengths.shape)
        if lengths[at] > self.worst_tile:
            self.worst_tile = float(lengths[at])
            x, y = int(right[at[1]]), top + int(down[at[0]])
            self.worst_tile_px = (x, y, min(x + side, size[0]), min(y + side, size[1]))


def _gap(p: Plane, q: Plane) -> Plane:
    """Absolute difference; bytes stay bytes."""
    if p.dtype == np.uint8:
        gap: Plane = np.maximum(p, q)
        gap -= np.minimum(p, q)
        return gap
    found: Plane = np.abs(p - q, dtype=np.float32)
    return found


def box(_frames: Frames, sums: Sums) -> Answer:
    """The smallest box around all differences beyond the tolerance (PIL's `ImageChops.difference().getbbox()`)."""
    if sums.box is None:
        return 0.0, {"left": None, "top": None, "right": None, "bottom": None}, "nothing differs"
    left, top, right, bottom = sums.box
    share = (right - left) * (bottom - top) / sums.pixels
    return share, {"left": left, "top": top, "right": right, "bottom": bottom}, ""


def l1(frames: Frames, sums: Sums) -> Answer:
    """Manhattan norm."""
    total = float(sums.absolute.sum())
    return total / (sums.pixels * len(frames.bands)), {"total": total, "per_pixel": total / sums.pixels}, ""


def l0(frames: Frames, sums: Sums) -> Answer:
    """Zero norm."""
    parts: dict[str, Part] = {
        "count": sums.tolerated,
        "pixels": sums.pixels,
        "tolerance_levels": frames.tolerance_levels,
        "count_without_tolerance": sums.differing,
        "largest_levels": sums.largest,
    }
    return sums.tolerated / sums.pixels, parts, ""


def sad(frames: Frames, sums: Sums) -> Answer:
    """Sum of absolute differences per band."""
    parts: dict[str, Part] = dict(zip(frames.bands, (float(value) for value in sums.absolute), strict=True))
    return float(sums.absolute.sum()), parts, ""


def rms(frames: Frames, sums: Sums) -> Answer:
    """Root mean square, per band and as the Euclidean distance of colours."""
    mean = float(sums.squared.sum()) / sums.pixels
    parts: dict[str, Part] = {"euclidean": math.sqrt(mean), "bands": "".join(frames.bands)}
    for band, squared in zip(frames.bands, sums.squared, strict=True):
        parts[band] = math.sqrt(float(squared) / sums.pixels)
    return math.sqrt(mean / len(frames.bands)), parts, ""


def psnr(frames: Frames, sums: Sums) -> Answer:
    """Peak signal to noise ratio over the colours."""
    colours = frames.colours
    mean = float(sums.squared[:colours].sum()) / (sums.pixels * colours)
    if mean == 0:
        return None, {"mse": 0.0}, "infinite: nothing differs"
    return 10 * math.log10(255.0**2 / mean), {"mse": mean}, ""


def tile(_frames: Frames, sums: Sums) -> Answer:
    """The worst tile and its place."""
    if sums.worst_tile == 0:
        return 0.0, {"left": None, "top": None, "right": None, "bottom": None}, "nothing differs"
    left, top, right, bottom = sums.worst_tile_px
    return sums.worst_tile, {"left": left, "top": top, "right": right, "bottom": bottom}, ""


# ---- CIELAB --------------------------------------------------------------------------------------------------------

_TO_XYZ = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])


@lru_cache(maxsize=1)
def _linear() -> Floats:
    levels = np.arange(256) / 255.0
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4).astype(np.float32)


def to_lab(rgb: Plane) -> Floats:
    """CIELAB (D65, 2 degrees) of sRGB levels 0 to 255; (..., 3) float32."""
    if rgb.dtype == np.uint8:
        linear = _linear()[rgb]
    else:
        share = np.clip(rgb / np.float32(255), 0, 1)
        linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4).astype(
            np.float32
        )
    xyz = linear @ (_TO_XYZ / _WHITE[:, None]).T.astype(np.float32)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16.0 / 116.0).astype(np.float32)
    found = np.empty(f.shape, np.float32)
    found[..., 0] = 116 * f[..., 1] - 16
    found[..., 1] = 500 * (f[..., 0] - f[..., 1])
    found[..., 2] = 200 * (f[..., 1] - f[..., 2])
    return found


def rms_lab(frames: Frames) -> Answer:
    """Root mean square of the distance in CIELAB (CIE 1976)."""
    squared = largest = absolute = 0.0
    for p, q in frames.rows():
        if np.array_equal(p, q):
            continue
        colours = [_as_rgb(part) for part in (p, q)]
        distance = np.square(to_lab(colours[0]) - to_lab(colours[1])).sum(axis=2, dtype=np.float64)
        squared += float(distance.sum())
        roots = np.sqrt(distance)
        absolute += float(roots.sum())
        largest = max(largest, float(roots.max(initial=0)))
    pixels = frames.a.shape[0] * frames.a.shape[1]
    return math.sqrt(squared / pixels), {"mean": absolute / pixels, "largest": largest}, ""


def _as_rgb(pixels: Plane) -> Plane:
    return pixels[..., :3] if pixels.shape[2] >= 3 else np.repeat(pixels[..., :1], 3, axis=2)


# ---- SSIM ----------------------------------------------------------------------------------------------------------

_SSIM_SIGMA_PX = 1.5
_SSIM_REACH_PX = 5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ssim(frames: Frames) -> Answer:
    """Structural similarity of luma.

    Z. Wang et al., Image quality assessment, IEEE Trans. Image Processing 13(4), 2004, doi:10.1109/TIP.2003.819861;
    the mean over all places where the window (11 px) lies inside.
    """
    from scipy import ndimage

    if frames.is_equal:
        return 1.0, {"distance": 0.0}, ""
    first, second = frames.luma
    height, width = first.shape
    reach = _SSIM_REACH_PX
    if min(height, width) < 2 * reach + 1:
        return None, {}, "smaller than its window of 11 px"

    def smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = ndimage.gaussian_filter(values, _SSIM_SIGMA_PX, truncate=3.5)
        return found[reach : len(values) - reach, reach:-reach]

    total, rows = 0.0, 256
    for top in range(reach, height - reach, rows):
        cut = slice(top - reach, min(height, top + rows + reach))
        x, y = first[cut].astype(np.float64), second[cut].astype(np.float64)
        mx, my = smooth(x), smooth(y)
        vx, vy, vxy = smooth(x * x) - mx * mx, smooth(y * y) - my * my, smooth(x * y) - mx * my
        found = (2 * mx * my + _C1) * (2 * vxy + _C2) / ((mx * mx + my * my + _C1) * (vx + vy + _C2))
        total += float(found.sum())
    value = total / ((height - 2 * reach) * (width - 2 * reach))
    return value, {"distance": 1 - value}, ""
