"""Every format but JPEG: opened through Pillow and its plugins, one format at a time.

Promises: only the plugin of the sniffed format ever sees the file; the size in the header is judged before a pixel is
decoded; a plugin's fault, whatever its type, comes out as `BadPicture`.
"""

from __future__ import annotations

import hashlib
import importlib
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from dedup.decode.colour import to_eight_bits
from dedup.decode.metadata import Packets
from dedup.decode.picture import BadPicture, Pixels, Samples
from dedup.records import Reason

FRAME_PIXELS = 400_000_000
"""Most pixels of further frames that are decoded for their digest: about 4 s of GIF."""

_PLUGINS = {
    "JPEG": "PIL.JpegImagePlugin",
    "PNG": "PIL.PngImagePlugin",
    "GIF": "PIL.GifImagePlugin",
    "BMP": "PIL.BmpImagePlugin",
    "TIFF": "PIL.TiffImagePlugin",
    "PPM": "PIL.PpmImagePlugin",
    "AVIF": "PIL.AvifImagePlugin",
    "WEBP": "PIL.WebPImagePlugin",
    "JPEG2000": "PIL.Jpeg2KImagePlugin",
}
"""Module of each format's plugin. Loaded by hand: Pillow's own search would register all 40 formats."""

_DNG_VERSION = 50706


@contextmanager
def survives(max_pixels: int) -> Iterator[None]:
    """Turn whatever a plugin throws at a hostile file into `BadPicture`.

    The list is the union of what Pillow's plugins were seen to raise on fuzzed files; a bug of our own would show as
    one of them too, hence the tests on sound files of every format.
    """
    Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        with warnings.catch_warnings():
            # Broken EXIF and the like is no reason to lose a picture, and workers have no one to warn.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadPicture(Reason.TOO_LARGE, f"more than {max_pixels / 1e6:.0f} megapixels") from error
    except MemoryError as error:
        raise BadPicture(Reason.TOO_LARGE, "more memory than allowed is needed to decode it") from error
    except Image.UnidentifiedImageError as error:
        raise BadPicture(Reason.UNREADABLE, "damaged header, or a variant of the format that is not supported") from error
    except (
        OSError,
        SyntaxError,
        ValueError,
        TypeError,
        IndexError,
        KeyError,
        EOFError,
        OverflowError,
        ZeroDivisionError,
        AttributeError,
        RuntimeError,
        struct.error,
        zlib.error,
    ) as error:
        raise BadPicture(Reason.DAMAGED, f"cannot be decoded: {str(error) or type(error).__name__}") from error


def check_size(width_px: int, height_px: int, max_pixels: int) -> None:
    """Judge a size from the header.

    Raises
    ------
    BadPicture
        If it is beyond the limit or nothing at all.
    """
    if width_px <= 0 or height_px <= 0:
        raise BadPicture(Reason.DAMAGED, "the header gives no size")
    if width_px * height_px > max_pixels:
        megapixels = width_px * height_px / 1e6
        raise BadPicture(
            Reason.TOO_LARGE, f"{megapixels:,.0f} megapixels by its header, the limit is {max_pixels / 1e6:,.0f}"
        )


@dataclass(slots=True)
class Still:
    """An opened picture with what its container says, before and after its pixels are decoded."""

    image: Image.Image
    format: str
    frames: int
    bits: int
    lossless: bool
    packets: Packets
    icc: bytes
    mode: str
    """Pillow's mode before anything was converted."""
    orientation: int
    """As stored; already applied if `is_upright`."""
    is_upright: bool
    exact: bool = True


def open_still(stream: BinaryIO, format: str, max_pixels: int) -> Still:
    """Open with the plugin of the sniffed format; reads the header only. To be called inside `survives`."""
    if format == "HEIF":
        _register_heif()
    else:
        importlib.import_module(_PLUGINS[format])
    image = Image.open(stream, formats=(format,))
    check_size(*image.size, max_pixels)
    if format == "TIFF" and _DNG_VERSION in getattr(image, "tag_v2", ()):
        # Its first directory is a thumbnail of 256 px, which is all that Pillow would show.
        raise BadPicture(Reason.UNREADABLE, "a DNG under another name")
    info = image.info
    stored, is_upright = _orientation(image, format)
    return Still(
        image=image,
        format=format,
        frames=_frames(image),
        bits=_bits(image, format),
        lossless=_lossless(image, format),
        packets=Packets(exif=_exif(image, format), xmp=_bytes(info.get("xmp"))),
        icc=_bytes(info.get("icc_profile")),
        mode=image.mode,
        orientation=stored,
        is_upright=is_upright,
    )


def _register_heif() -> None:
    import pillow_heif

    if "HEIF" not in Image.OPEN:
        pillow_heif.register_heif_opener(thumbnails=False)


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else value.encode() if isinstance(value, str) else b""


def _frames(image: Image.Image) -> int:
    return int(getattr(image, "n_frames", 1))


def _exif(image: Image.Image, format: str) -> bytes:
    block = _bytes(image.info.get("exif"))
    if not block and format in ("TIFF", "PNG"):
        # TIFF tags are the file's own; old PNGs carry EXIF as text. Pillow can write both as a block.
        try:
            block = image.getexif().tobytes() if image.getexif() else b""
        except (ValueError, TypeError, struct.error, KeyError, OverflowError, AttributeError, SyntaxError):
            block = b""
    return block


def _orientation(image: Image.Image, format: str) -> tuple[int, bool]:
    """Stored orientation, and whether the plugin will have applied it once the picture is loaded.

    pillow-heif turns by itself and leaves the old value in `info`; Pillow turns TIFF while loading.
    """
    if format == "HEIF":
        return int(image.info.get("original_orientation") or 1), True
    if format == "BMP" or format == "PPM" or format == "GIF":
        return 1, True
    try:
        stored = image.getexif().get(0x0112, 1)
    except (ValueError, TypeError, struct.error, KeyError, OverflowError, AttributeError, SyntaxError):
        stored = 1
    stored = stored if isinstance(stored, int) and 1 <= stored <= 8 else 1
    return stored, format == "TIFF"


def _bits(image: Image.Image, format: str) -> int:
    """Bits per stored sample; Pillow often shows fewer."""
    if format == "HEIF":
        return int(image.info.get("bit_depth") or 8)
    if format == "TIFF":
        stored = getattr(image, "tag_v2", {}).get(258, (1,))
        return int(max(stored)) if isinstance(stored, tuple) else int(stored)
    if image.mode == "1":
        return 1
    if image.mode.startswith("I;16"):
        return 16
    if image.mode in ("I", "F"):
        return 32
    tile = image.tile[0] if getattr(image, "tile", None) else None
    return 16 if tile is not None and "16" in str(tile[3]) else 8


def _lossless(image: Image.Image, format: str) -> bool:
    """Whether the container keeps the pixels it was given; where only the codec could tell, False."""
    if format in ("PNG", "GIF", "BMP", "PPM"):
        return True
    if format == "TIFF":
        return image.info.get("compression") not in ("jpeg", "tiff_jpeg", "webp")
    return False


def load_samples(still: Still) -> tuple[Samples, str]:
    """Decode the first frame. To be called inside `survives`.

    Returns
    -------
    (height, width, channels) uint8, uint16 or float32
        As stored (not upright unless the plugin turned it), palettes expanded.
    str
        `L`, `LA`, `RGB`, `RGBA`, `CMYK` or `LAB`: what the channels mean, whatever their depth.
    """
    image = still.image
    image.load()
    has_transparency = image.has_transparency_data
    mode = image.mode
    if mode in ("I;16", "I;16L", "I;16B", "I;16N"):
        return np.asarray(image).astype(np.uint16)[:, :, None], "L"
    if mode in ("I", "F"):
        return np.asarray(image).astype(np.float32)[:, :, None], "L"
    if mode in ("1", "L") and not has_transparency:
        return np.asarray(image.convert("L"))[:, :, None], "L"
    if mode in ("CMYK", "LAB"):
        return np.asarray(image), mode
    if mode in ("LA", "La"):
        return np.asarray(image.convert("LA")), "LA"
    wanted = "RGBA" if has_transparency else "RGB"
    return np.asarray(image if mode == wanted else image.convert(wanted)), wanted


def frames_digest(still: Still, stream: BinaryIO, max_pixels: int) -> str:
    """Digest of the pixels of all frames after the first; see `FullPicture.frames_digest`."""
    if still.frames < 2:
        return ""
    digest = hashlib.sha256()
    image, budget = still.image, FRAME_PIXELS
    for number in range(1, still.frames):
        image.seek(number)
        check_size(*image.size, max_pixels)
        budget -= image.size[0] * image.size[1]
        if budget < 0:
            stream.seek(0)
            return "file:" + hashlib.file_digest(stream, "sha256").hexdigest()[:32]  # type: ignore[arg-type]
        image.load()
        shown = image.convert("RGBA") if image.mode in ("P", "PA", "LA", "La", "RGBa") else image
        digest.update(f"{shown.mode} {shown.size} ".encode())
        digest.update(shown.tobytes())
    return digest.hexdigest()[:32]


def shrink(samples: Samples, min_side_px: int) -> Pixels:
    """Reduce by a whole factor so that the shorter side stays at least `min_side_px`; to 8 bits."""
    pixels = to_eight_bits(samples)
    factor = min(pixels.shape[:2]) // min_side_px
    if factor < 2:
        return pixels
    if pixels.shape[2] == 1:
        return np.asarray(Image.fromarray(pixels[:, :, 0]).reduce(factor))[:, :, None]
    # Four channels go as RGBA: a box mean is the same whatever they mean.
    return np.asarray(Image.fromarray(pixels).reduce(factor))
