"""Two pictures as arrays of one shape, after the preparation that was asked for.

Promises: pictures of 8 bits stay in bytes as long as nothing is done to them, so that sums are exact; those of 16 bits
keep their depth as fractions of a level; equal files stay equal under every preparation; a flat picture is never
stretched. Does not: measure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dedup.records import Preparation

Plane = NDArray[Any]
"""uint8, or float32 where there are fractions of a level."""
Floats = NDArray[np.float32]
Map = NDArray[np.float64]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
BAND_ROWS = 256
"""Rows taken at a time: what is wide in memory stays small."""
STRETCHED = (1.0, 99.0)
"""Percentiles that are brought to 0 and 255: a hundredth of bright pixels does not decide the rest."""
MOST_SIGMA_PX = 3.0


@dataclass(slots=True)
class Layer:
    """One picture on its way to being measured."""

    rgb: Plane
    """(height, width, 3) or, grey, (height, width, 1); levels 0 to 255."""
    alpha: Plane | None
    """(height, width), 0 to 255; None if opaque."""


@dataclass(slots=True)
class Placing:
    """Where B lies in A's frame, as `records.Figures` says it."""

    orientation: int
    """EXIF orientation (1 to 8) to apply to B first."""
    matrix: Map
    """(2, 3): fraction of A -> fraction of B."""


@dataclass
class Frames:
    """Two pictures ready to be measured; `trouble` says why they cannot be held against each other."""

    a: Plane
    b: Plane
    bands: tuple[str, ...]
    tolerance_levels: float = 0.0
    trouble: str = ""
    done: tuple[str, ...] = ()
    _size: tuple[int, int] = field(default=(0, 0))

    @cached_property
    def is_equal(self) -> bool:
        """Whether nothing differs at all."""
        if self.trouble or self.a.shape != self.b.shape:
            return False
        return all(np.array_equal(p, q) for p, q in self.rows())

    def rows(self, overlap: int = 0) -> Iterator[tuple[Plane, Plane]]:
        """Both, `BAND_ROWS` rows at a time, with `overlap` further rows above and below where there are any."""
        height = self.a.shape[0]
        for top in range(0, height, BAND_ROWS):
            cut = slice(max(0, top - overlap), min(height, top + BAND_ROWS + overlap))
            yield self.a[cut], self.b[cut]

    @cached_property
    def luma(self) -> tuple[Floats, Floats]:
        """Both as (height, width) float32, 0 to 255; sizes may differ."""
        return to_luma(self.a), to_luma(self.b)

    @property
    def colours(self) -> int:
        """Bands that are colours: 3, or 1 for grey."""
        return sum(band != "A" for band in self.bands)


def to_luma(pixels: Plane) -> Floats:
    """(height, width) float32: weighted channels; a single band as it is. Alpha takes no part."""
    if pixels.shape[2] < 3:
        return np.ascontiguousarray(pixels[..., 0], dtype=np.float32)
    found = np.empty(pixels.shape[:2], np.float32)
    for top in range(0, len(pixels), BAND_ROWS):
        # Not a matrix product: summed in a fixed order, whatever the processor.
        part = pixels[top : top + BAND_ROWS].astype(np.float32)
        found[top : top + BAND_ROWS] = (
            part[..., 0] * LUMA[0] + part[..., 1] * LUMA[1] + part[..., 2] * LUMA[2]
        )
    return found


def prepare(a: Layer, b: Layer, asked: Preparation, placing: Placing | None) -> Frames:
    """Do what was asked, and say what was done.

    Parameters
    ----------
    placing
        How B lies in A, where that was found; None for pictures of the same frame and of different scenes.
    """
    done: list[str] = []
    if asked.align:
        a, b, words = _aligned(a, b, placing, asked.crop_to_overlap)
        done += words
    else:
        if asked.resize and a.rgb.shape != b.rgb.shape:
            a, b, words = _same_size(a, b)
            done += words
        if asked.crop_to_overlap and a.rgb.shape[:2] != b.rgb.shape[:2]:
            height, width = (min(a.rgb.shape[at], b.rgb.shape[at]) for at in (0, 1))
            a, b = (_cut(layer, _centre(layer, width, height)) for layer in (a, b))
            done.append(f"cut to {width} x {height} around the centre")
    sizes = [f"{layer.rgb.shape[1]} x {layer.rgb.shape[0]}" for layer in (a, b)]
    trouble = ""
    if a.rgb.shape[:2] != b.rgb.shape[:2]:
        trouble = f"not comparable: {sizes[0]} against {sizes[1]}; --resize, --align or --crop-to-overlap"
    pictures = [_deep_alike(a.rgb, b.rgb), _deep_alike(b.rgb, a.rgb)]
    if asked.grey:
        pictures = [_grey(picture, asked.grey) for picture in pictures]
        done.append(f"grey by {'luma' if asked.grey == 'luma' else 'the average of the channels'}")
    bands = ["L"] if pictures[0].shape[2] == 1 else ["R", "G", "B"]
    if asked.denoise:
        sigma = [0.0, 0.0]
        if asked.denoise == "gaussian":
            # One filter for both, as the noisier of the two needs it: equal pictures stay equal.
            noise = max(noise_sigma(to_luma(picture)) for picture in pictures)
            sigma = [min(MOST_SIGMA_PX, max(0.5, noise / 4.0))] * 2
            done.append(f"noise reduced by a Gaussian of {sigma[0]:.2g} px")
        else:
            done.append("noise reduced by a median of 3 x 3")
        pictures = [_denoised(p, asked.denoise, s) for p, s in zip(pictures, sigma, strict=True)]
    if asked.normalise:
        pictures, words_ = _normalised(pictures, asked.normalise)
        done.append(words_)
    if a.alpha is not None or b.alpha is not None:
        bands.append("A")
        pictures = [
            _with_alpha(picture, layer.alpha) for picture, layer in zip(pictures, (a, b), strict=True)
        ]
    return Frames(pictures[0], pictures[1], tuple(bands), asked.tolerance_levels, trouble, tuple(done))


# ---- geometry ------------------------------------------------------------------------------------------------------


def turn(pixels: Plane, orientation: int) -> Plane:
    """Apply an EXIF orientation (1 to 8)."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def resized(pixels: Plane, size: tuple[int, int]) -> Plane:
    """At another size (width, height): area means by whole factors, Lanczos otherwise."""
    if (pixels.shape[1], pixels.shape[0]) == size:
        return pixels
    if pixels.ndim == 2 or pixels.dtype != np.uint8 or pixels.shape[2] != 3:
        planes = pixels[..., None] if pixels.ndim == 2 else pixels
        channels = [_resized_plane(planes[..., at], size) for at in range(planes.shape[2])]
        found = np.stack(channels, axis=2) if pixels.ndim == 3 else channels[0]
        return np.ascontiguousarray(found)
    return np.asarray(_scale(Image.fromarray(np.ascontiguousarray(pixels)), size))


def _resized_plane(plane: Plane, size: tuple[int, int]) -> Plane:
    found = np.asarray(_scale(Image.fromarray(np.ascontiguousarray(plane)), size))
    return found if plane.dtype == np.uint8 else np.clip(found, 0.0, 255.0)


def _scale(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    factor = image.width // size[0]
    if factor > 1 and (size[0] * factor, size[1] * factor) == image.size and image.mode != "F":
        return image.reduce(factor)
    return image.resize(size, Image.Resampling.LANCZOS)


def _same_size(a: Layer, b: Layer) -> tuple[Layer, Layer, list[str]]:
    sizes = [(layer.rgb.shape[1], layer.rgb.shape[0]) for layer in (a, b)]
    size = min(sizes, key=lambda size: size[0] * size[1])
    layers = []
    for layer in (a, b):
        alpha = None if layer.alpha is None else resized(layer.alpha, size)
        layers.append(Layer(resized(layer.rgb, size), alpha))
    words = [] if sizes[0] == sizes[1] else [f"both at {size[0]} x {size[1]}"]
    ratio = sizes[0][0] * sizes[1][1] / (sizes[0][1] * sizes[1][0])
    if abs(ratio - 1) > 0.01:
        words.append("out of shape, since the two are of different proportions")
    return layers[0], layers[1], words


def _centre(layer: Layer, width: int, height: int) -> tuple[int, int, int, int]:
    top, left = (layer.rgb.shape[0] - height) // 2, (layer.rgb.shape[1] - width) // 2
    return left, top, left + width, top + height


def _cut(layer: Layer, box: tuple[int, int, int, int]) -> Layer:
    left, top, right, bottom = box
    alpha = None if layer.alpha is None else layer.alpha[top:bottom, left:right]
    return Layer(np.ascontiguousarray(layer.rgb[top:bottom, left:right]), alpha)


def _aligned(a: Layer, b: Layer, placing: Placing | None, crop: bool) -> tuple[Layer, Layer, list[str]]:
    """B in A's frame, at the resolution of the coarser one."""
    if placing is None:
        a, b, words = _same_size(a, b)
        return a, b, ["not aligned: no place of one was found in the other", *words]
    if placing.orientation != 1:
        b = Layer(
            turn(b.rgb, placing.orientation),
            None if b.alpha is None else turn(b.alpha, placing.orientation),
        )
    matrix = placing.matrix
    width, height = a.rgb.shape[1], a.rgb.shape[0]
    # Side of B's pixels that show what a side of A shows, over A's: below one B is the coarser.
    scale = float(
        np.sqrt(abs(np.linalg.det(matrix[:, :2])) * b.rgb.shape[0] * b.rgb.shape[1] / (width * height))
    )
    if scale < 0.995:
        size = (max(8, round(width * scale)), max(8, round(height * scale)))
        a = Layer(resized(a.rgb, size), None if a.alpha is None else resized(a.alpha, size))
        width, height = size
    elif scale > 1.005:
        size = (max(8, round(b.rgb.shape[1] / scale)), max(8, round(b.rgb.shape[0] / scale)))
        b = Layer(resized(b.rgb, size), None if b.alpha is None else resized(b.alpha, size))
    words = ["aligned"]
    if np.abs(matrix - np.array([[1.0, 0, 0], [0, 1.0, 0]])).max() * max(width, height) < 0.25 and (
        b.rgb.shape[:2] == a.rgb.shape[:2]
    ):
        return a, b, [*words, "as they lie"]
    covered = _covered(matrix, (width, height), (b.rgb.shape[1], b.rgb.shape[0]))
    moved = Layer(
        _warped(b.rgb, matrix, (width, height)),
        None if b.alpha is None else _warped(b.alpha, matrix, (width, height)),
    )
    if not crop:
        words.append(f"{100 * covered.mean():.0f} % of A is covered by B, the rest counts as black")
        moved.rgb[~covered] = 0
        return a, moved, words
    box = _largest_box(covered)
    words.append(f"cut to {box[2] - box[0]} x {box[3] - box[1]}, which both show")
    return _cut(a, box), _cut(moved, box), words


def _warped(pixels: Plane, matrix: Map, size: tuple[int, int]) -> Plane:
    """`pixels` seen through a map of fractions, at `size`; bicubic."""
    (a, b, c), (d, e, f) = matrix
    (w, h), (u, v) = size, (pixels.shape[1], pixels.shape[0])
    data = (a * u / w, b * u / h, c * u, d * v / w, e * v / h, f * v)
    planes = pixels[..., None] if pixels.ndim == 2 else pixels
    found = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(planes[..., at])).transform(
                size, Image.Transform.AFFINE, data, Image.Resampling.BICUBIC
            )
        )
        for at in range(planes.shape[2])
    ]
    return np.ascontiguousarray(np.stack(found, axis=2) if pixels.ndim == 3 else found[0])


def _covered(matrix: Map, size: tuple[int, int], other: tuple[int, int]) -> NDArray[np.bool_]:
    """Which pixels (height, width) of A's frame B shows, a pixel inside its edge."""
    (w, h), (u, v) = size, other
    x = (np.arange(w) + 0.5) / w
    y = ((np.arange(h) + 0.5) / h)[:, None]
    across = (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]) * u
    down = (matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]) * v
    # Half a pixel is the centre of the outermost one; a hair of slack for maps that are the identity but for rounding.
    inside: NDArray[np.bool_] = (across >= 0.49) & (across <= u - 0.49) & (down >= 0.49) & (down <= v - 0.49)
    return inside


def _largest_box(covered: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """A large rectangle (left, top, right, bottom) of covered pixels: sides move in where most is uncovered."""
    top, left, (bottom, right) = 0, 0, covered.shape
    while bottom - top > 1 and right - left > 1:
        inside = covered[top:bottom, left:right]
        if inside.all():
            break
        missing = {
            "top": 1 - inside[0].mean(),
            "bottom": 1 - inside[-1].mean(),
            "left": 1 - inside[:, 0].mean(),
            "right": 1 - inside[:, -1].mean(),
        }
        worst = max(missing, key=lambda side: (missing[side], side))
        if missing[worst] == 0:
            # A hole in the middle cannot come from an affine map; give up a line rather than turn for ever.
            worst = "bottom"
        top += worst == "top"
        bottom -= worst == "bottom"
        left += worst == "left"
        right -= worst == "right"
    return left, top, right, bottom


# ---- levels --------------------------------------------------------------------------------------------------------


def _deep_alike(pixels: Plane, other: Plane) -> Plane:
    """As floats if the other one is: depth that only one has is compared all the same."""
    return pixels if pixels.dtype == other.dtype else pixels.astype(np.float32)


def _grey(pixels: Plane, kind: str) -> Plane:
    if pixels.shape[2] == 1:
        return pixels
    if kind == "luma":
        return to_luma(pixels)[..., None]
    mean: Floats = pixels[..., :3].mean(axis=2, dtype=np.float32)
    return mean[..., None]


def noise_sigma(luma: Floats) -> float:
    """Standard deviation of Gaussian noise, in levels; 0.0 for pictures of less than 3 px.

    J. Immerkaer, Fast noise variance estimation, CVIU 64(2), 1996, doi:10.1006/cviu.1996.0060: the mean absolute
    answer of a mask that no constant, slope or even curvature moves.
    """
    height, width = luma.shape
    if height < 3 or width < 3:
        return 0.0
    total = 0.0
    for top in range(0, height - 2, BAND_ROWS):
        part = luma[top : top + BAND_ROWS + 2].astype(np.float64)
        rows = part[:-2] - 2 * part[1:-1] + part[2:]
        total += float(np.abs(rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:]).sum())
    return float(np.sqrt(np.pi / 2) * total / (6 * (width - 2) * (height - 2)))


def _denoised(pixels: Plane, kind: str, sigma: float) -> Plane:
    from scipy import ndimage

    found = np.empty(pixels.shape, np.float32)
    for at in range(pixels.shape[2]):
        plane = pixels[..., at].astype(np.float32)
        if kind == "gaussian":
            ndimage.gaussian_filter(plane, sigma, output=found[..., at])
        else:
            ndimage.median_filter(plane, size=3, output=found[..., at])
    return found


def _normalised(pictures: list[Plane], kind: str) -> tuple[list[Plane], str]:
    """Each picture stretched to the full range by itself; one that is flat stays as it is."""
    found: list[Plane] = []
    words = []
    for name, picture in zip("AB", pictures, strict=True):
        if kind == "min-max":
            low, high = float(picture.min()), float(picture.max())
        else:
            low, high = (float(value) for value in np.percentile(picture, STRETCHED))
            if high <= low:
                # Nearly all is of one level: what is left is a few pixels, and stretching would make them all there is.
                high = low
        if high - low < 1.0:
            found.append(picture.astype(np.float32))
            words.append(f"{name} is flat and stays")
            continue
        gain = 255.0 / (high - low)
        stretched = (picture.astype(np.float32) - np.float32(low)) * np.float32(gain)
        found.append(np.clip(stretched, 0.0, 255.0, out=stretched))
        words.append(f"{name} by {gain:.3g}")
    how = "least and largest value" if kind == "min-max" else "1st and 99th percentile"
    return found, f"normalised ({how}): {', '.join(words)}"


def _with_alpha(picture: Plane, alpha: Plane | None) -> Plane:
    plane = np.full(picture.shape[:2], 255, picture.dtype) if alpha is None else alpha.astype(picture.dtype)
    return np.concatenate((picture, plane[..., None]), axis=2)
