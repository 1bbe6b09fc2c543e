"""From stored samples to sRGB: profiles, ink, Lab, depth, transparency and orientation.

Everything takes and gives arrays of (height, width, channels). Pillow and its littleCMS are the calculators.
"""

from __future__ import annotations

import hashlib
import io
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from dedup.decode.picture import Pixels, Samples

_PROBE_LEVELS = 1
"""A profile that moves no colour of the probe by more than this is sRGB under another name (HP's, Adobe's and
Apple's sRGB profiles differ by rounding)."""


@lru_cache(maxsize=64)
def icc_facts(icc: bytes) -> tuple[str, str]:
    """Digest (16 hex digits) and name of a profile; both empty without one."""
    if not icc:
        return "", ""
    return hashlib.sha256(icc).hexdigest()[:16], _icc_name(icc)


def _icc_name(icc: bytes) -> str:
    """The `desc` tag, of version 2 or 4; empty if it cannot be read. By hand: littleCMS takes 1 ms to answer."""
    for at in range(132, min(132 + 12 * 100, len(icc) - 11), 12):
        if icc[at : at + 4] != b"desc":
            continue
        start = int.from_bytes(icc[at + 4 : at + 8], "big")
        tag = icc[start : start + int.from_bytes(icc[at + 8 : at + 12], "big")]
        if tag[:4] == b"mluc" and len(tag) >= 28:
            length, offset = int.from_bytes(tag[20:24], "big"), int.from_bytes(tag[24:28], "big")
            return tag[offset : offset + min(length, 400)].decode("utf-16-be", "replace").strip("\0 ")
        if tag[:4] == b"desc":
            length = min(int.from_bytes(tag[8:12], "big"), 400)
            return tag[12 : 12 + length].partition(b"\0")[0].decode("latin-1").strip()
        break
    return ""


class _Transforms:
    """Colour transforms by profile and mode; building one costs 1 to 30 ms, and a camera has one profile."""

    _most = 32

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, str], Any] = {}

    def to_srgb(self, icc: bytes, mode: str) -> Any:
        """A transform, or None where the profile is sRGB, is for another kind of samples, or is broken."""
        key = (icc, mode)
        if key not in self._known:
            if len(self._known) >= self._most:
                self._known.pop(next(iter(self._known)))
            self._known[key] = self._build(icc, mode)
        return self._known[key]

    @staticmethod
    def _build(icc: bytes, mode: str) -> Any:
        from PIL import ImageCms

        try:
            lab = ImageCms.createProfile("LAB") if mode == "LAB" else None
            transform = ImageCms.buildTransform(
                lab or ImageCms.ImageCmsProfile(io.BytesIO(icc)),
                ImageCms.createProfile("sRGB"),
                mode,
                "RGB",
                ImageCms.Intent.RELATIVE_COLORIMETRIC,
                ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            return None
        if mode in ("RGB", "L"):
            probe = _probe(mode)
            plain = np.asarray(probe.convert("RGB")).astype(np.int16)
            managed = np.asarray(ImageCms.applyTransform(probe, transform)).astype(np.int16)
            if np.abs(plain - managed).max() <= _PROBE_LEVELS:
                return None
        return transform

    @staticmethod
    def apply(transform: Any, image: Image.Image) -> Image.Image:
        from PIL import ImageCms

        managed = ImageCms.applyTransform(image, transform)
        assert managed is not None
        return managed


def _probe(mode: str) -> Image.Image:
    """Colours all over the cube (17 steps an edge), or all greys."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    steps = np.linspace(0, 255, 17).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1)
    return Image.fromarray(cube.reshape(17, 289, 3))


_transforms = _Transforms()


def to_srgb(samples: Pixels, mode: str, icc: bytes) -> Pixels:
    """Manage 8-bit samples without alpha to sRGB.

    Parameters
    ----------
    samples : (height, width, channels) uint8
        `channels` as `mode` asks for.
    mode
        `L`, `RGB`, `CMYK` (255 for full ink) or `LAB` (128 is neutral for a and b).
    icc
        The embedded profile, empty for none: then RGB and L count as sRGB, CMYK is converted by Pillow's plain
        formula.

    Returns
    -------
    (height, width, 3) uint8
        `samples` itself if nothing had to be done.
    """
    transform = _transforms.to_srgb(icc, mode) if icc or mode == "LAB" else None
    if transform is not None:
        return np.asarray(_transforms.apply(transform, as_image(samples, mode)))
    if mode == "RGB":
        return samples
    if mode == "L":
        return np.repeat(samples, 3, axis=2)
    return np.asarray(as_image(samples, mode).convert("RGB"))


_LAB_SIGNS = np.array([0, 128, 128], np.uint8)
"""Pillow counts a and b from -128 inside an image but gives and takes them as signed bytes."""


def as_image(samples: Pixels, mode: str) -> Image.Image:
    """An array (height, width, channels) as an image of the given 8-bit mode; the reverse of `as_array`."""
    if mode == "L":
        return Image.fromarray(np.ascontiguousarray(samples[:, :, 0]))
    if mode == "RGB":
        return Image.fromarray(samples)
    if mode == "LAB":
        samples = samples ^ _LAB_SIGNS
    height, width = samples.shape[:2]
    return Image.frombytes(mode, (width, height), np.ascontiguousarray(samples).tobytes())


def as_array(image: Image.Image) -> Pixels:
    """The samples of an image of 8 bits, (height, width, channels); in LAB 128 is neutral for a and b."""
    samples: Pixels = np.atleast_3d(np.asarray(image))
    return samples ^ _LAB_SIGNS if image.mode == "LAB" else samples


def to_eight_bits(samples: Samples) -> Pixels:
    """Scale samples of any depth to 0..255, never clipping.

    16-bit samples are divided by 257. Floats and integers of 32 bits have no agreed white: up to 1 they are shares of
    white, up to 255 and 65,535 they are levels; anything else, as pictures with highlights up to 16 times white
    or with negative values, is stretched from its smallest (at most 0) to its largest finite value.
    """
    if samples.dtype == np.uint8:
        return samples  # type: ignore[return-value]  # just asked
    low, white = 0.0, 65535.0
    if samples.dtype != np.uint16:
        is_finite = np.isfinite(samples)
        low = float(np.min(samples, initial=0, where=is_finite))
        high = float(np.max(samples, initial=0, where=is_finite))
        white = next((level for level in (1.0, 255.0, 65535.0) if high <= level), high)
        if low < 0 or 1 < high <= 16:
            white = high
    scale = np.float32(255 / ((white - low) or 1))
    scaled = np.empty(samples.shape, np.uint8)
    # By strips: a picture of 16 bits is large enough without a copy of 32.
    for top in range(0, len(samples), 256):
        strip = samples[top : top + 256].astype(np.float32)
        strip -= np.float32(low)
        strip *= scale
        strip += np.float32(0.5)
        # White itself may come out as 255.00002, and the infinite as anything.
        scaled[top : top + 256] = np.nan_to_num(strip, posinf=0, neginf=0).clip(0, 255)
    return scaled


def over_white(samples: Pixels, alpha: Pixels) -> Pixels:
    """Show colour channels on white, as a page or a viewer does.

    Parameters
    ----------
    samples : (height, width, channels) uint8
        Not premultiplied.
    alpha : (height, width) uint8
    """
    shown = np.empty(samples.shape, np.uint8)
    for top in range(0, len(samples), 256):
        # In 16 bits: 255 * 255 + 127 still fits.
        weight = alpha[top : top + 256, :, None].astype(np.uint16)
        shown[top : top + 256] = (samples[top : top + 256] * weight + 255 * (255 - weight) + 127) // 255
    return shown


def shrink_image(image: Image.Image, min_side_px: int) -> Image.Image:
    """Reduce by a whole factor so that the shorter side stays at least `min_side_px`, and less than twice that."""
    factor = min(image.size) // min_side_px
    if factor < 2:
        return image
    # Not `reduce` alone: its last row and column may stand for a fraction of a cell, which stretches the picture by
    # up to 1 in 200. The filter is a little wider than a box for the same reason: a box jumps by whole pixels.
    size = round(image.width / factor), round(image.height / factor)
    return image.resize(size, Image.Resampling.HAMMING, reducing_gap=2.0)


def shrink(pixels: Pixels, min_side_px: int) -> Pixels:
    """As `shrink_image`, for an array of 1, 3 or 4 channels without alpha."""
    if min(pixels.shape[:2]) // min_side_px < 2:
        return pixels
    # Four channels go as CMYK: as RGBA they would be weighed by the last.
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[pixels.shape[2]]
    return as_array(shrink_image(as_image(pixels, mode), min_side_px))


S = TypeVar("S", bound=np.ndarray[Any, Any])


def upright(pixels: S, orientation: int) -> S:
    """Turn an array (height, width, ...) by EXIF orientation 1 to 8, as `PIL.ImageOps.exif_transpose` would.

    Returns
    -------
    (height, width, ...) or (width, height, ...)
        Contiguous, or `pixels` itself for orientation 1.
    """
    if orientation == 1:
        return pixels
    turned: Any = pixels.swapaxes(0, 1) if orientation >= 5 else pixels
    if orientation in (2, 3, 6, 7):
        turned = turned[:, ::-1]
    if orientation in (3, 4, 7, 8):
        turned = turned[::-1]
    if turned.ndim == 2:
        return np.ascontiguousarray(turned)  # type: ignore[return-value]  # the same dtype
    # One channel at a time: NumPy copies turned pixels of 3 bytes three times as slowly.
    copy: Any = np.empty(turned.shape, turned.dtype)
    for channel in range(turned.shape[2]):
        copy[:, :, channel] = turned[:, :, channel]
    return copy  # type: ignore[no-any-return]  # the same dtype
