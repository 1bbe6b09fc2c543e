"""Every format but JPEG: opened through Pillow and its plugins, one format at a time.

Promises: only the plugin of the sniffed format ever sees the file; the size in the header is judged before a pixel
is decoded; a plugin's fault, whatever its type, comes out as `BadPicture`.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from dedup.decode import extras
from dedup.decode.colour import as_array, over_white, shrink_image, to_eight_bits
from dedup.decode.metadata import Packets
from dedup.decode.picture import BadPicture, Pixels, Samples
from dedup.decode.soundness import find_damage
from dedup.records import Reason

FURTHER_PIXELS = 400_000_000
"""Most pixels of further frames that are decoded for their digest: about 4 s of GIF."""

_HEAD_BYTES = 1 << 16
"""Where the headers lie that we read ourselves."""

_PLUGINS = {
    "PNG": "PIL.PngImagePlugin",
    "GIF": "PIL.GifImagePlugin",
    "BMP": "PIL.BmpImagePlugin",
    "TIFF": "PIL.TiffImagePlugin",
    "PPM": "PIL.PpmImagePlugin",
    "AVIF": "PIL.AvifImagePlugin",
    "WEBP": "PIL.WebPImagePlugin",
    "JPEG2000": "PIL.Jpeg2KImagePlugin",
}
"""Module of each format's plugin. Loaded by name: Pillow's own search would register all 40 formats."""

_DNG_VERSION = 50706
_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_SAMPLE_FORMAT, _TIFF_ORIENTATION, _TIFF_XMP = 258, 262, 339, 274, 700
_TIFF_IPTC = 33723
_CIELAB = 8

_FAULTS = (
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
)
"""What decoders were seen to raise on fuzzed files. A mistake of our own would be among them too: hence the tests on
sound files of every format."""


@contextmanager
def survives(max_pixels: int) -> Iterator[None]:
    """Turn whatever a decoder throws at a hostile file into `BadPicture`."""
    Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        with warnings.catch_warnings():
            # Broken EXIF and the like is no reason to lose a picture, and workers have no one to warn.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadPicture(Reason.TOO_LARGE, f"more than {max_pixels / 1e6:,.0f} megapixels") from error
    except MemoryError as error:
        raise BadPicture(Reason.TOO_LARGE, "decoding it takes more memory than a worker may have") from error
    except UnidentifiedImageError as error:
        detail = "a damaged header, or a kind of its format that cannot be decoded"
        raise BadPicture(Reason.UNREADABLE, detail) from error
    except _FAULTS as error:
        words = " ".join(str(error).split())[:200] or type(error).__name__
        raise BadPicture(Reason.DAMAGED, f"cannot be decoded ({words})") from error


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
        claimed, limit = width_px * height_px / 1e6, max_pixels / 1e6
        raise BadPicture(
            Reason.TOO_LARGE, f"{claimed:,.0f} megapixels by its header, the limit is {limit:,.0f}"
        )


@dataclass(slots=True)
class Still:
    """A decoded picture with what its container says."""

    image: Image.Image
    """First frame, in one of the modes L, LA, RGB, RGBA, CMYK, LAB, I;16.., I, F; palettes expanded."""
    format: str
    mode: str
    """Pillow's mode as opened."""
    bits: int
    frames: int
    lossless: bool
    exact: bool
    """Whether `image` (with `low_bytes`) holds every stored bit."""
    packets: Packets
    icc: bytes
    orientation: int
    """As stored; 1 where the format has none."""
    turn: int
    """Orientation that is still to be applied: 1 where the plugin has turned the picture."""
    damage: str
    low_bytes: Image.Image | None = None
    """The lower halves of 16-bit samples of which `image` holds the upper ones."""

    def samples(self) -> tuple[Samples, str]:
        """All stored samples (height, width, channels), and what the channels mean (see `FullPicture`)."""
        mode = self.image.mode
        if mode.startswith("I;16"):
            return np.asarray(self.image).astype(np.uint16)[:, :, None], "L"
        if mode == "I" and self.format == "PPM":
            # Pillow scales a PPM of over 8 bits to 65,535.
            return np.asarray(self.image).clip(0, 65535).astype(np.uint16)[:, :, None], "L"
        if mode in ("I", "F"):
            return np.asarray(self.image).astype(np.float32)[:, :, None], "L"
        high = as_array(self.image)
        if self.low_bytes is None:
            return high, mode
        both = np.left_shift(high, 8, dtype=np.uint16)
        both |= as_array(self.low_bytes)
        return both, mode

    def reduced(self, min_side_px: int) -> tuple[Pixels, Pixels | None, str]:
        """Colour samples of a small version, its alpha if any, and what the samples mean.

        Reduced by a whole factor so that the shorter side stays at least `min_side_px`. Transparency is weighed in,
        so that the hidden colours of clear pixels do not show, and laid over white.
        """
        image = self.image
        if image.mode not in ("L", "LA", "RGB", "RGBA", "CMYK", "LAB"):
            image = Image.fromarray(to_eight_bits(self.samples()[0])[:, :, 0])
        if image.mode in ("LA", "RGBA") and image.getchannel("A").getextrema()[0] == 255:
            image = image.convert(image.mode[:-1])
        image = shrink_image(image, min_side_px)
        pixels = as_array(image)
        if image.mode not in ("LA", "RGBA"):
            return pixels, None, image.mode
        alpha = np.ascontiguousarray(pixels[:, :, -1])
        return over_white(pixels[:, :, :-1], alpha), alpha, image.mode[:-1]


def read_still(stream: BinaryIO, format: str, max_pixels: int, *, full: bool) -> Still:
    """Decode the first frame. To be called inside `survives`.

    Parameters
    ----------
    stream
        Open at any position.
    format
        As sniffed; not JPEG.
    max_pixels
        Judged before decoding.
    full
        Whether all stored bits and a look at the whole file are wanted; otherwise what is cheap.
    """
    stream.seek(0)
    head = stream.read(_HEAD_BYTES)
    if format == "JXL":
        check_size(*extras.jxl_size(head), max_pixels)
    damage = find_damage(stream, format) if full or format != "PNG" else ""
    stream.seek(0)
    if format == "RAW":
        return _developed(stream, max_pixels, full)
    image = _open(stream, format)
    check_size(image.size[0], image.size[1], max_pixels)
    if format == "TIFF" and _DNG_VERSION in _tags(image):
        # Its first directory is a thumbnail, which is all that Pillow would show.
        stream.seek(0)
        return _developed(stream, max_pixels, full)
    frames, frame_damage = _count_frames(image)
    mode, bits = image.mode, _bits(image, format, head)
    low_bytes = _low_bytes(stream, format, image) if full and bits == 16 else None
    # Before loading: Pillow turns a TIFF while it loads, and drops the tag.
    stored = _tags(image).get(_TIFF_ORIENTATION, 1) if format == "TIFF" else 0
    image.load()
    # After loading: a PNG may carry its metadata behind its pixels.
    packets = _packets(image, format, stream)
    if format == "HEIF":
        stored = image.info.get("original_orientation")
    elif format in ("PNG", "WEBP", "AVIF", "JXL"):
        stored = image.getexif().get(_TIFF_ORIENTATION, 1)
    orientation = stored if isinstance(stored, int) and 1 <= stored <= 8 else 1
    return Still(
        image=_expanded(image, format),
        format=format,
        mode=mode,
        bits=bits,
        frames=frames,
        lossless=_is_lossless(image, format, head),
        exact=low_bytes is not None or bits <= 8 or (bits >= 16 and mode[0] in "IF"),
        packets=packets,
        icc=_bytes(image.info.get("icc_profile")),
        orientation=orientation,
        turn=orientation if format in ("PNG", "WEBP", "AVIF") else 1,
        damage=damage or frame_damage,
        low_bytes=low_bytes,
    )


def _open(stream: BinaryIO, format: str) -> Any:
    """Open with one plugin; reads no more than the header, but for JXL, whose plugin decodes at once."""
    if format == "HEIF":
        import pillow_heif

        if "HEIF" not in Image.OPEN:
            # Threads inside a decoder only hinder the other workers, and each takes address space.
            pillow_heif.register_heif_opener(thumbnails=False, decode_threads=1)
    elif format == "JXL":
        extras.load_jxl()
    else:
        plugin: Any = importlib.import_module(_PLUGINS[format])
        if format == "AVIF":
            plugin.DEFAULT_MAX_THREADS = 1
        elif format == "TIFF":
            _teach_sixteen_bit_lab(plugin)
    return Image.open(stream, formats=(format,))


def _teach_sixteen_bit_lab(plugin: Any) -> None:
    """Let Pillow unpack CIELab of 16 bits, which it does not know, as the upper bytes of RGB."""
    for order, raw_mode in ((b"II", "RGB;16L"), (b"MM", "RGB;16B")):
        plugin.OPEN_INFO.setdefault((order, _CIELAB, (1,), 1, (16, 16, 16), ()), ("RGB", raw_mode))


def _developed(stream: BinaryIO, max_pixels: int, full: bool) -> Still:
    """A camera RAW, developed by LibRaw as the camera would have."""
    data = stream.read()
    pixels, bits = extras.develop(data, max_pixels, half_size=not full)
    return Still(
        image=Image.fromarray(pixels),
        format="RAW",
        mode="RGB",
        bits=bits,
        frames=1,
        lossless=True,
        exact=False,
        packets=Packets(exif=data),
        icc=b"",
        orientation=1,
        turn=1,
        damage="",
    )


def _tags(image: Any) -> dict[int, Any]:
    return getattr(image, "tag_v2", {})


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else value.encode() if isinstance(value, str) else b""


def _count_frames(image: Any) -> tuple[int, str]:
    """Number of frames, and damage: the frames of a GIF cut short cannot be counted, yet the first may be sound."""
    try:
        return int(getattr(image, "n_frames", 1)), ""
    except _FAULTS:
        image.seek(0)
        return 1, "a further frame is damaged"


def _packets(image: Any, format: str, stream: BinaryIO) -> Packets:
    """The metadata blocks of a loaded picture."""
    info = image.info
    exif, iptc = _bytes(info.get("exif")), b""
    xmp = _bytes(info.get("xmp"))
    if format == "TIFF":
        # The file itself is the structure that EXIF is made of; one too large for memory is asked through Pillow.
        exif = stream.getvalue() if isinstance(stream, io.BytesIO) else image.getexif().tobytes()
        tags = _tags(image)
        xmp, iptc = _bytes(tags.get(_TIFF_XMP)), _bytes(tags.get(_TIFF_IPTC))
    elif not exif and "Raw profile type exif" in info:
        # ImageMagick's way with PNG before 2017.
        exif = image.getexif().tobytes()
    return Packets(exif, xmp, iptc)


def _bits(image: Any, format: str, head: bytes) -> int:
    """Bits per stored sample, of which Pillow often shows fewer."""
    if format == "PNG":
        return head[24] if image.mode != "P" else 8
    if format == "TIFF":
        stored = _tags(image).get(_TIFF_BITS, (1,))
        return int(max(stored)) if isinstance(stored, tuple) else int(stored)
    if format == "HEIF":
        return int(image.info.get("bit_depth") or 8)
    if format == "AVIF":
        # The third byte of the AV1 configuration: bit 6 says over 8 bits, bit 5 then says 12 (AV1-ISOBMFF, 2.3.3).
        at = head.find(b"av1C")
        flags = head[at + 6] if 0 <= at < len(head) - 6 else 0
        return (12 if flags & 0x20 else 10) if flags & 0x40 else 8
    if format == "JPEG2000":
        at = head.find(b"ihdr")
        depth = head[at + 14] if 0 <= at < len(head) - 14 else head[42] if head[:2] == b"\xff\x4f" else 7
        return (depth & 0x7F) + 1
    if format == "PPM":
        return 16 if image.mode == "I" or "65535" in head[:40].decode("latin-1") else 8
    return 1 if image.mode == "1" else 8


def _low_bytes(stream: BinaryIO, format: str, image: Any) -> Image.Image | None:
    """The lower halves of 16-bit colour samples, of which Pillow unpacks only the upper ones.

    Decodes a second time with the byte order turned round in the unpacker's name. None where that is not possible.
    """
    if format not in ("PNG", "TIFF") or image.mode not in ("RGB", "RGBA", "CMYK") or len(image.tile) == 0:
        return None
    if _tags(image).get(_TIFF_PHOTOMETRIC) == _CIELAB or 2 in _tags(image).get(_TIFF_SAMPLE_FORMAT, ()):
        return None
    position = stream.tell()
    stream.seek(0)
    again: Any = Image.open(stream, formats=(format,))
    turned = {"L": "B", "N": "B", "B": "L"}
    tiles = []
    for codec, extents, offset, arguments in again.tile:
        raw_mode = arguments[0] if isinstance(arguments, tuple) else arguments
        if not raw_mode.endswith((";16L", ";16B", ";16N")):
            stream.seek(position)
            return None
        raw_mode = raw_mode[:-1] + turned[raw_mode[-1]]
        new = (raw_mode, *arguments[1:]) if isinstance(arguments, tuple) else raw_mode
        tiles.append(type(again.tile[0])(codec, extents, offset, new))
    again.tile = tiles
    again.load()
    stream.seek(position)
    return again if again.mode == image.mode and "transparency" not in again.info else None


def _is_lossless(image: Any, format: str, head: bytes) -> bool:
    """Whether the container keeps the pixels it was given; False where only the encoder knows."""
    if format in ("PNG", "GIF", "BMP", "PPM"):
        return True
    if format == "TIFF":
        return image.info.get("compression") not in ("jpeg", "tiff_jpeg", "webp")
    return format == "WEBP" and (head[12:16] == b"VP8L" or (head[12:16] == b"VP8X" and b"VP8L" in head))


def _expanded(image: Any, format: str) -> Image.Image:
    """The picture in one of the modes that `Still` promises."""
    mode = image.mode
    if format == "TIFF" and mode == "RGB" and _tags(image).get(_TIFF_PHOTOMETRIC) == _CIELAB:
        return Image.frombytes("LAB", image.size, image.tobytes())
    if mode.startswith("I;16") or mode in ("I", "F", "CMYK", "LAB"):
        return image  # type: ignore[no-any-return]
    if image.has_transparency_data:
        wanted = "LA" if mode in ("LA", "La", "L", "1") else "RGBA"
    else:
        wanted = "L" if mode in ("1", "L") else "RGB"
    return image if mode == wanted else image.convert(wanted)  # type: ignore[no-any-return]


def digest_further_frames(still: Still, stream: BinaryIO, max_pixels: int) -> str:
    """Digest of the pixels of all frames after the first; see `FullPicture.frames_digest`.

    A damaged frame is noted in `still.damage`. To be called after `still.samples`, inside `survives`: the frames are
    decoded in place.
    """
    if still.frames < 2:
        return ""
    stream.seek(0)
    image = _open(stream, still.format)
    digest = hashlib.sha256()
    budget = FURTHER_PIXELS
    try:
        for number in range(1, still.frames):
            image.seek(number)
            check_size(image.size[0], image.size[1], max_pixels)
            budget -= image.size[0] * image.size[1]
            if budget < 0:
                return digest_file(stream)
            image.load()
            shown = image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGBA")
            digest.update(f"{shown.mode} {shown.size} ".encode())
            digest.update(shown.tobytes())
    except (*_FAULTS, BadPicture):
        still.damage = still.damage or "a further frame is damaged"
        return digest_file(stream)
    return digest.hexdigest()[:32]


def digest_file(stream: BinaryIO) -> str:
    """Stand-in for the digest of frames that cannot all be decoded: that of the whole file."""
    stream.seek(0)
    digest = hashlib.sha256()
    while chunk := stream.read(1 << 20):
        digest.update(chunk)
    return "file:" + digest.hexdigest()[:32]
