"""What a decoder hands out: pictures as arrays, and the one exception for a file that gave none.

Arrays never leave the stage that asked for them, hence classes here and not records. Treat them as read-only: some
are views of memory that Pillow owns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

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

    def __reduce__(self) -> tuple[type[BadPicture], tuple[Reason, str]]:
        # So that it survives the way out of a worker; the default would call it with its message alone.
        return BadPicture, (self.reason, self.detail)


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


@dataclass(slots=True, eq=False)
class FullPicture:
    """A picture at full size, as stored and as seen.

    Attributes
    ----------
    samples : (height, width, channels) uint8, uint16 or float32
        Upright, as stored, without colour management; `meaning` tells the channels. Palettes are expanded, an
        opaque alpha is dropped.
    meaning : str
        `L`, `LA`, `RGB`, `RGBA`, `CMYK` (the highest value is full ink) or `LAB` (128 is neutral for a and b).
    exact : bool
        Whether `samples` holds every stored bit; False where the decoder gives only 8 of 10 or 12 bits, and
        for a developed RAW. Without it, equal samples are no proof of equal pixels.
    alpha : (height, width) uint8 or None
        None when every pixel is opaque.
    info : PictureInfo
    frames_digest : str
        Digest of the pixels of all further frames, empty for a single picture. Where they cannot all be
        decoded it starts with `file:` and is the digest of the whole file, which equals no other file's.
    managed : callable
        Makes `rgb`; ask that instead.
    quantisation : tuple of tables or None
        JPEG quantisation tables by number, 64 steps each in zigzag order (luma first); None if not a JPEG.
    sampling : int or None
        How a JPEG samples colour: 0 for 4:4:4, 1 for 4:2:2, 2 for 4:2:0; None for another way, grey or no JPEG.
    """

    samples: Samples
    meaning: str
    info: PictureInfo
    managed: Callable[[], Pixels]
    alpha: Pixels | None = None
    exact: bool = True
    frames_digest: str = ""
    quantisation: tuple[tuple[int, ...], ...] | None = None
    sampling: int | None = None
    _rgb: Pixels | None = field(default=None, init=False, repr=False)

    @property
    def rgb(self) -> Pixels:
        """(height, width, 3) uint8: upright, managed to sRGB, transparency on white.

        Made on first use and kept. For a plain sRGB picture of 8 bits this *is* `samples`, not a copy; a profile
        that is not sRGB costs 14 ns a pixel (12 MP: 170 ms).
        """
        if self._rgb is None:
            self._rgb = self.managed()
        return self._rgb
