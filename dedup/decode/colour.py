"""From stored samples to sRGB: profiles, ink, Lab, depth, transparency and orientation.

Everything takes and gives arrays of (height, width, channels). Pillow and its littleCMS are used as calculators.
"""

from __future__ import annotations

import hashlib
import io
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dedup.decode.picture import Pixels, Samples

_PROBE_LEVELS = 1
"""A profile that moves no colour of the probe by more than this is sRGB under another name (HP's, Adobe's and
Apple's sRGB profiles differ by rounding)."""

_SRGB_MODES = {1: "L", 3: "RGB", 4: "CMYK"}


@lru_cache(maxsize=64)
def icc_facts(icc: bytes) -> tuple[str, str]:
    """Digest (16 hex digits) and name of a profile; both empty without one."""
    if not icc:
        return "", ""
    return hashlib.sha256(icc).hexdigest()[:16], _icc_name(icc)


def _icc_name(icc: bytes) -> str:
    """The `desc` tag, of version 2 or 4, empty if it cannot be read. Read by hand: littleCMS costs 1 ms to ask."""
    for at in range(132, min(132 + 12 * 100, len(icc) - 11), 12):
        if icc[at : at + 4] != b"desc":
            continue
        start, size = int.from_bytes(icc[at + 4 : at + 8], "big"), int.from_bytes(icc[at + 8 : at + 12], "big")
        tag = icc[start : start + size]
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
            source = ImageCms.createProfile("LAB") if mode == "LAB" else ImageCms.ImageCmsProfile(io.BytesIO(icc))
            transform = ImageCms.buildTransform(
                source,
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


def needs_management(icc: bytes, mode: str) -> bool:
    """Whether samples of this mode (`L`, `RGB`, `CMYK`, `LAB`) differ from their sRGB values."""
    if mode in ("CMYK", "LAB"):
        return True
    return bool(icc) and _transforms.to_srgb(icc, mode) is not None


def to_srgb(samples: Pixels, mode: str, icc: bytes) -> Pixels:
    """Manage 8-bit samples without alpha to sRGB.

    Parameters
    ----------
    samples : (height, width, channels) uint8
        `channels` as `mode` asks for.
    mode
        `L`, `RGB`, `CMYK` (255 for full ink) or `LAB` (as Pillow stores it).
    icc
        The embedded profile, empty for none: then RGB and L count as sRGB, CMYK is converted by the plain formula
        that Pillow uses.

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


def as_image(samples: Pixels, mode: str) -> Image.Image:
    """An array as an image of the given 8-bit mode."""
    if mode == "L":
        return Image.fromarray(np.ascontiguousarray(samples[:, :, 0]))
    if mode in ("RGB", "RGBA"):
        return Image.fromarray(samples)
    height, width = samples.shape[:2]
    return Image.frombytes(mode, (width, height), np.ascontiguousarray(samples).tobytes())


def to_eight_bits(samples: Samples) -> Pixels:
    """Scale samples of any depth to 0..255, never clipping.

    16-bit samples are divided by 257. Floats have no agreed white: up to 1 they are a share of white, up to 255 and
    65,535 they are levels, and anything else is stretched from its smallest to its largest finite value.
    """
    if samples.dtype == np.uint8:
        return samples  # type: ignore[return-value]  # just asked
    if samples.dtype == np.uint16:
        # (x + 128) / 257 rounded down is x / 257 rounded; uint32, as x + 128 leaves uint16.
        return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)
    finite = np.where(np.isfinite(samples), samples, np.float32(0))
    low, high = float(finite.min(initial=0)), float(finite.max(initial=0))
    if low >= 0 and high <= 1:
        finite *= 255
    elif low >= 0 and high > 255:
        finite *= 255 / (65535 if high <= 65535 else high)
    elif low < 0:
        finite = (finite - low) * (255 / (high - low))
    return np.rint(finite).clip(0, 255).astype(np.uint8)


def over_white(samples: Pixels, alpha: Pixels) -> Pixels:
    """Show colour channels on white, as a page or a viewer does.

    Parameters
    ----------
    samples : (height, width, channels) uint8
        Not premultiplied.
    alpha : (height, width) uint8
    """
    # Done with rounding in 16 bits: 255 * 255 + 127 still fits.
    weight = alpha[:, :, None].astype(np.uint16)
    mixed = samples * weight + 255 * (255 - weight)
    return ((mixed + 127) // 255).astype(np.uint8)


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn an array (height, width, ...) by EXIF orientation 1 to 8, as `PIL.ImageOps.exif_transpose` would."""
    if orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return _packed(pixels)


def _packed(pixels: NDArray[Any]) -> NDArray[Any]:
    """The same array, contiguous."""
    return np.ascontiguousarray(pixels)
