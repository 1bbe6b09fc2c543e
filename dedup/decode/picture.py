"""What a decoder hands out: pictures as arrays, and the one exception for a file that gave none.

Arrays never leave the stage that asked for them, hence classes here and not records.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dedup.records import PictureInfo, Reason

Pixels = NDArray[np.uint8]
Samples = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]


class BadPicture(Exception):
    """A file gave no picture; `reason` and `detail` are what its `Skipped` record will say."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail


class Picture:
    """A reduced picture, ready for features.

    Attributes
    ----------
    rgb : (height, width, 3) uint8
        Upright, sRGB, transparency shown on white. C-contiguous.
    alpha : (height, width) uint8 or None
        None when every pixel is opaque.
    info : PictureInfo
        Sizes are those of the stored picture, not of this reduced one.
    """

    __slots__ = ("alpha", "info", "rgb")

    def __init__(self, rgb: Pixels, alpha: Pixels | None, info: PictureInfo) -> None:
        self.rgb = rgb
        self.alpha = alpha
        self.info = info


class FullPicture:
    """A picture at full size, as stored and as seen.

    Attributes
    ----------
    samples : (height, width, channels) uint8, uint16 or float32
        Upright, as stored, without colour management: 1 channel for grey, 2 with alpha, 3 for RGB, 4 for RGBA
        or CMYK (`info.mode` tells). Palettes are expanded, an opaque alpha is dropped. CMYK is ink: 255 is full.
    exact : bool
        Whether `samples` holds every stored bit; False where the decoder only gives 8 of 10 or 12 bits, or a
        developed RAW. Without it, equal samples are no proof of equal pixels.
    alpha : (height, width) uint8 or None
        None when every pixel is opaque.
    info : PictureInfo
    frames_digest : str
        Digest of the pixels of all further frames, empty for a single picture. Where they are too many to be
        decoded it starts with `file:` and is the digest of the whole file, which equals no other file's.
    quantisation : tuple of tables or None
        JPEG quantisation tables in the order of the file, 64 numbers each in zigzag order; None if not a JPEG.
    """

    __slots__ = ("_managed", "_rgb", "alpha", "exact", "frames_digest", "info", "quantisation", "samples")

    def __init__(
        self,
        samples: Samples,
        managed: Callable[[], Pixels] | None,
        info: PictureInfo,
        *,
        alpha: Pixels | None = None,
        exact: bool = True,
        frames_digest: str = "",
        quantisation: tuple[tuple[int, ...], ...] | None = None,
    ) -> None:
        self.samples = samples
        self.alpha = alpha
        self.info = info
        self.exact = exact
        self.frames_digest = frames_digest
        self.quantisation = quantisation
        self._managed = managed
        self._rgb: Pixels | None = None

    @property
    def rgb(self) -> Pixels:
        """(height, width, 3) uint8: upright, managed to sRGB, transparency on white.

        Made on first use and kept. For a plain sRGB picture of 8 bits this *is* `samples`, not a copy.
        """
        if self._rgb is None:
            if self._managed is None:
                assert self.samples.dtype == np.uint8 and self.samples.shape[2] == 3
                self._rgb = self.samples  # type: ignore[assignment]  # just asserted
            else:
                self._rgb = self._managed()
                self._managed = None
        assert self._rgb is not None
        return self._rgb
