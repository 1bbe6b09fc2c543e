"""The formats that need an optional package: camera RAW (`rawpy`) and JPEG XL (`pillow-jxl-plugin`).

A missing package is a reason with the words to install it, never a silent skip.
"""

from __future__ import annotations

import importlib
import io
from typing import Any

import numpy as np

from dedup.decode.picture import BadPicture, Pixels
from dedup.records import Reason


def _load(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise BadPicture(Reason.MISSING_EXTRA, f"install photo-dedup[{extra}]") from error


def load_jxl() -> None:
    """Register the plugin of JPEG XL with Pillow.

    Raises
    ------
    BadPicture
        If it is not installed.
    """
    _load("pillow_jxl", "jxl")


def develop(data: bytes, max_pixels: int, *, half_size: bool) -> tuple[Pixels, int]:
    """Develop a camera RAW with the camera's white balance, upright.

    The embedded preview is never used: it may have been edited or be of another crop, and it must not vouch for the
    RAW.

    Parameters
    ----------
    data
        The whole file.
    max_pixels
        Judged before the sensor data is unpacked.
    half_size
        One pixel for each 2 x 2 cell of the sensor, without interpolation: 10 times as fast.

    Returns
    -------
    (height, width, 3) uint8
    int
        Bits per sample of the sensor data.

    Raises
    ------
    BadPicture
    """
    rawpy = _load("rawpy", "raw")
    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            sizes = raw.sizes
            if sizes.width * sizes.height > max_pixels:
                raise BadPicture(Reason.TOO_LARGE, f"{sizes.width * sizes.height / 1e6:,.0f} megapixels")
            bits = int(raw.white_level or 65535).bit_length()
            pixels = raw.postprocess(use_camera_wb=True, half_size=half_size, output_bps=8)
    except rawpy.LibRawError as error:
        words = error.args[0] if error.args else ""
        text = words.decode("latin-1") if isinstance(words, bytes) else str(words)
        raise BadPicture(Reason.UNREADABLE, f"LibRaw cannot develop it ({text})") from error
    return np.ascontiguousarray(pixels, np.uint8), bits


_JXL_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}


def jxl_size(head: bytes) -> tuple[int, int]:
    """Width and height from a JPEG XL header (ISO/IEC 18181-1, D.2).

    The plugin decodes when it opens, so the size has to be judged by ourselves beforehand.

    Raises
    ------
    BadPicture
        If there is no codestream at the beginning of the file.
    """
    start = 0
    if head[:2] != b"\xff\x0a":
        boxes = [at for at in (head.find(b"jxlc"), head.find(b"jxlp")) if at >= 0]
        start = min(boxes) + 4 if boxes else len(head)
        # A partial codestream has a number of 4 bytes before it.
        start += 4 if head[start - 4 : start] == b"jxlp" else 0
    if head[start : start + 2] != b"\xff\x0a":
        raise BadPicture(Reason.DAMAGED, "no JPEG XL codestream was found")
    bits = int.from_bytes(head[start + 2 : start + 14], "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & (1 << count) - 1
        bits >>= count
        return value

    def side(is_small: bool) -> int:
        return (take(5) + 1) * 8 if is_small else take((9, 13, 18, 30)[take(2)]) + 1

    is_small = bool(take(1))
    height = side(is_small)
    ratio = take(3)
    if not ratio:
        return side(is_small), height
    wide, high = _JXL_RATIOS[ratio]
    return height * wide // high, height
