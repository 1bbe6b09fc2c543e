"""JPEG: header, quality estimate and the decode itself, at full size or at a fraction of it.

The decode goes through simplejpeg, not Pillow. Both are the same libjpeg-turbo and give the same samples to the
last bit (a test says so), but Pillow drops the decoder's warnings, and those are the only sign of damage inside
the picture data; it also needs 1.7 times as long for a full decode into an array (12 MP: 51 against 29 ms).

A JPEG has no checksums: damage shows only where the decoder loses its place. Of single wrong bytes it tells one in
five, of 40 wrong bytes in a row nearly all that are not zeros.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
import struct
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from dedup.decode.metadata import Packets, iptc_of_photoshop
from dedup.decode.picture import BadPicture, Pixels
from dedup.decode.progressive import without_luma_detail
from dedup.records import Reason

MOST_SCANS = 500
"""Progressive files have about 10 scans; a hostile one repeats empty scans to burn time. The same limit as
TurboJPEG's `TJFLAG_LIMITSCANS`."""

_FRAME_HEADERS = frozenset((0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF))
_BARE = frozenset((0x00, 0x01, *range(0xD0, 0xD9)))
"""Second bytes that no length follows."""


@dataclass(slots=True)
class Header:
    """What stands before the first scan of a JPEG."""

    width_px: int = 0
    height_px: int = 0
    components: int = 0
    bits: int = 8
    sampling: int | None = None
    """How colour is sampled: 0 for 4:4:4, 1 for 4:2:2, 2 for 4:2:0 (Pillow's numbers); None for another way."""
    process: int = 0
    """Second byte of the frame header: C0 baseline, C1 extended, C2 progressive."""
    packets: Packets = field(default_factory=Packets)
    icc: bytes = b""
    tables: dict[int, bytes] = field(default_factory=dict)
    """Quantisation tables by number, 64 bytes (or 128 of 16 bits) each, in zigzag order."""
    multi_picture: bytes = b""
    """The index of further pictures (CIPA DC-007), a TIFF structure."""
    multi_picture_at: int = 0
    """Where it lies, which is what its offsets count from."""
    scan_at: int = 0
    """Where the header of the first scan lies; 0 if there is none."""

    @property
    def meaning(self) -> str:
        """`L`, `RGB` or `CMYK`."""
        return {1: "L", 4: "CMYK"}.get(self.components, "RGB")


def read_header(data: bytes, start: int = 0) -> Header:
    """Walk the segments of the picture at `start` up to its first scan.

    Raises
    ------
    BadPicture
        If no frame header comes before the picture data.
    """
    header = Header()
    icc_parts: list[tuple[int, bytes]] = []
    at, last = start + 2, len(data) - 4
    while at <= last:
        if data[at] != 0xFF:
            # Stray bytes between segments: libjpeg too goes on at the next marker.
            at = data.find(b"\xff", at)
            if at < 0:
                break
            continue
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in _BARE:
            at += 2
            continue
        if marker in (0xD9, 0xDA):
            header.scan_at = at if marker == 0xDA else 0
            break
        body, end = at + 4, at + 2 + (data[at + 2] << 8 | data[at + 3])
        if marker in _FRAME_HEADERS and body + 6 <= len(data):
            header.bits, header.height_px, header.width_px, header.components = struct.unpack_from(
                ">BHHB", data, body
            )
            header.process = marker
            header.sampling = _read_sampling(data[body + 6 : end])
        elif marker == 0xDB:
            _read_tables(data[body:end], header.tables)
        elif marker in (0xE1, 0xE2, 0xED):
            _read_application(header, marker, data[body:end], body, icc_parts)
        at = end
    if not header.width_px or not header.height_px:
        raise BadPicture(Reason.DAMAGED, "the JPEG header is damaged or cut off")
    if icc_parts:
        header.icc = b"".join(part for _, part in sorted(icc_parts, key=lambda part: part[0]))
    return header


def _read_sampling(components: bytes) -> int | None:
    """From three bytes a component (name, factors of width and height, table) of a frame header."""
    factors = [(both >> 4, both & 15) for both in components[1::3]]
    if len(factors) != 3 or factors[1] != factors[2] or 0 in factors[1]:
        return None
    (width, height), (narrow, low) = factors[0], factors[1]
    return {(1.0, 1.0): 0, (2.0, 1.0): 1, (2.0, 2.0): 2}.get((width / narrow, height / low))


def _read_application(
    header: Header, marker: int, body: bytes, at: int, icc_parts: list[tuple[int, bytes]]
) -> None:
    """Keep what one APP segment holds for us."""
    packets = header.packets
    if marker == 0xE1:
        if body[:6] == b"Exif\0\0":
            # A block over 64 kB goes on in the next segment.
            packets.exif = packets.exif + body[6:] if packets.exif else body
        elif body[:29] == b"http://ns.adobe.com/xap/1.0/\0":
            packets.xmp = packets.xmp or body[29:]
    elif marker == 0xE2:
        if body[:12] == b"ICC_PROFILE\0" and len(body) > 14:
            icc_parts.append((body[12], body[14:]))
        elif body[:4] == b"MPF\0" and not header.multi_picture:
            header.multi_picture, header.multi_picture_at = body[4:], at + 4
    elif body[:14] == b"Photoshop 3.0\0":
        packets.iptc = packets.iptc or iptc_of_photoshop(body)


def _read_tables(body: bytes, tables: dict[int, bytes]) -> None:
    at = 0
    while at < len(body):
        size = 128 if body[at] >> 4 else 64
        if len(body) - at > size:
            tables[body[at] & 15] = body[at + 1 : at + 1 + size]
        at += 1 + size


def table_steps(table: bytes) -> tuple[int, ...]:
    """A stored quantisation table as 64 numbers, still in zigzag order."""
    return struct.unpack(">64H", table) if len(table) == 128 else tuple(table)


# Tables K.1 and K.2 of ITU-T T.81 in zigzag order; libjpeg scales them by its quality setting.
_LUMA = (
    "16 11 12 14 12 10 16 14 13 14 18 17 16 19 24 40 26 24 22 22 24 49 35 37 29 40 58 51 61 60 57 51 "
    "56 55 64 72 92 78 64 68 87 69 55 56 80 109 81 87 95 98 103 104 103 62 77 113 121 112 100 120 92 "
    "101 103 99 "
)
_CHROMA = "17 18 18 24 21 24 47 26 26 47 99 66 56 66" + 50 * " 99"


@lru_cache(maxsize=1)
def _libjpeg_tables() -> NDArray[np.int32]:
    """(100, 128): luma and chroma tables of qualities 1 to 100, scaled as libjpeg's `jcparam.c` does."""
    base = np.array([int(step) for step in (_LUMA + _CHROMA).split()], np.int32)
    quality = np.arange(1, 101)
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    return np.clip((base * scale[:, None] + 50) // 100, 1, 255).astype(np.int32)


@lru_cache(maxsize=1024)
def _fit_quality(luma: bytes, chroma: bytes) -> int:
    steps = table_steps(luma) + (table_steps(chroma) if chroma else ())
    # Ratios, not differences: otherwise the coarse steps of the high frequencies alone would decide.
    ratios = np.log(_libjpeg_tables()[:, : len(steps)] / np.maximum(steps, 1))
    # The finest of equal fits: reversed, as `argmin` takes the first.
    return 100 - int(np.argmin(np.abs(ratios).sum(axis=1)[::-1]))


def estimate_quality(tables: dict[int, bytes]) -> int:
    """Quality 1 to 100 whose libjpeg tables are nearest to these; 0 without tables."""
    return _fit_quality(tables[0], tables.get(1, b"")) if 0 in tables else 0


def decode_jpeg(data: bytes, header: Header, min_side_px: int = 0) -> tuple[Pixels, str]:
    """Decode, as small as asked for.

    Parameters
    ----------
    data
        The whole file; what follows its end marker is not looked at.
    header
        As `read_header` found it; its size must have been judged.
    min_side_px
        Decode at the smallest of 1/8, 1/4, 1/2 and 1/1 whose shorter side is still that long (or at full size if
        none is); 0 for full size. 3/8 and the like would fit closer but have no SIMD code in libjpeg-turbo.

    Returns
    -------
    (height, width, channels) uint8
        RGB, grey with 1 channel, or CMYK with 255 for full ink. Not yet upright.
    str
        Damage in a clause, empty if the decoder had nothing to say.

    Raises
    ------
    BadPicture
        If the decoder gives up, or the file ends before the picture does.
    """
    if header.bits != 8:
        raise BadPicture(Reason.UNREADABLE, f"a JPEG of {header.bits} bits per sample")
    # FF DA cannot occur inside picture data, where every FF is followed by 00 or a marker.
    if header.process == 0xC2 and data.count(b"\xff\xda") > MOST_SCANS:
        raise BadPicture(Reason.TOO_LARGE, f"more than {MOST_SCANS} scans")
    shrink = 1
    if min_side_px:
        shorter = min(header.width_px, header.height_px)
        shrink = next((n for n in (8, 4, 2) if math.ceil(shorter / n) >= min_side_px), 1)
    if shrink == 8 and header.process == 0xC2 and header.components == 3:
        small = _decode_means(data, header)
        if small is not None:
            return small, ""
    try:
        return _decode(data, header, shrink), ""
    except ValueError as error:
        warning = str(error)
    if any(sign in warning for sign in _NOT_FOR_TURBO):
        return _decode_by_pillow(data, header, shrink), ""
    # The decoder names only its first complaint, and that may be a quibble; once it is settled, what is left?
    tidied = _tidied(data, header, warning)
    try:
        return _decode(tidied, header, shrink), ""
    except ValueError as error:
        warning = str(error)
    damage = _damage(tidied, header, shrink, warning)
    return _decode(tidied, header, shrink, strict=False), damage


_PADDING = re.compile(r"(\d+) extraneous bytes before marker 0xd9")


def _tidied(data: bytes, header: Header, warning: str) -> bytes:
    """The file without what some cameras and programs get wrong and every viewer forgives.

    An odd JFIF version or broken profile segments (APP0 and APP2 go), the spectral selection of a sequential scan,
    which means nothing there, and padding of one repeated byte before the end marker.
    """
    if (padding := _PADDING.search(warning)) is not None:
        end = data.find(b"\xff\xd9", header.scan_at)
        start = end - int(padding[1])
        if header.scan_at < start and len(set(data[start:end])) == 1:
            return data[:start] + data[end:]
    parts, at = [data[:2]], 2
    while at < header.scan_at and data[at] == 0xFF:
        end = at + 2 + (data[at + 2] << 8 | data[at + 3])
        if data[at + 1] not in (0xE0, 0xE2):
            parts.append(data[at:end])
        at = end
    if at != header.scan_at:
        return data
    scan = at + 2 + (data[at + 2] << 8 | data[at + 3])
    if header.process in (0xC0, 0xC1):
        return b"".join((*parts, data[at : scan - 3], b"\0\x3f\0", data[scan:]))
    return b"".join((*parts, data[at:]))


_NOT_FOR_TURBO = ("subsampling", "nsupported", "not implemented")
"""Signs in an error that TurboJPEG's interface is at its end and not the file: some sampling factors, for example."""


def _decode_by_pillow(data: bytes, header: Header, shrink: int) -> Pixels:
    """The few kinds of JPEG that only libjpeg's own interface decodes. Warnings are lost; a cut raises `OSError`."""
    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    if shrink > 1:
        image.draft(None, (header.width_px // shrink, header.height_px // shrink))
    image.load()
    return np.atleast_3d(np.asarray(image))


def _decode(data: bytes, header: Header, shrink: int, *, strict: bool = True) -> Pixels:
    """One call of the decoder.

    Raises
    ------
    ValueError
        The decoder's first error or, if `strict`, its first warning.
    """
    pixels: Pixels = simplejpeg.decode_jpeg(
        data,
        {"L": "GRAY"}.get(header.meaning, header.meaning),
        min_height=math.ceil(header.height_px / shrink),
        min_width=math.ceil(header.width_px / shrink),
        min_factor=1,
        strict=strict,
    )
    if header.components == 4:
        # Adobe stores ink inverted and everyone follows; Pillow assumes the same.
        np.subtract(255, pixels, out=pixels)
    return pixels


def _decode_means(data: bytes, header: Header) -> Pixels | None:
    """A progressive file at 1/8 by the short way; None if that is not open."""
    try:
        short = without_luma_detail(data)
        return _decode(short, header, 8) if short else None
    except (ValueError, IndexError, struct.error):
        # Damaged; the long way says how.
        return None


def _damage(data: bytes, header: Header, shrink: int, warning: str) -> str:
    """What a decoder's warning means, as a clause.

    Raises
    ------
    BadPicture
        If the end of the picture is missing: the decoder fills it with grey, which is not the picture.
    """
    if "remature end of JPEG file" in warning:
        try:
            # With the end marker put back, a file that lacks nothing else gives no warning.
            _decode(data + b"\xff\xd9", header, shrink)
        except ValueError as error:
            detail = "cut off: the end of the picture is missing"
            raise BadPicture(Reason.DAMAGED, detail) from error
        # A progressive file may lack whole scans without any other sign.
        return (
            "cut off: the last scans may be missing"
            if header.process == 0xC2
            else "the end marker is missing"
        )
    return f"damaged picture data ({' '.join(warning.split())})"


_PREVIEW_KINDS = range(0x010000, 0x020000)
"""Kinds of DC-007 that are smaller versions of the first picture (screen-size previews of cameras)."""
_GAIN_MAP_SIGNS = (b"hdrgm:", b"HDRGainMap", b"AuxiliaryImageType", b"urn:iso:std:iso:ts:21496")


def further_pictures(data: bytes, header: Header) -> list[int]:
    """Where the further pictures of an MPO start: the other eye, other frames of a panorama.

    Previews and gain maps are left out: they say nothing that the first picture does not, and a copy without them is
    the same photo. Entries that lead nowhere are ignored, as every viewer does.
    """
    found: list[int] = []
    tiff = header.multi_picture
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2], "")
    if not order or len(tiff) < 10:
        return found
    (at,) = struct.unpack_from(order + "I", tiff, 4)
    if at + 2 > len(tiff):
        return found
    (tags,) = struct.unpack_from(order + "H", tiff, at)
    for place in range(at + 2, min(at + 2 + 12 * tags, len(tiff) - 11), 12):
        tag, _, size, offset = struct.unpack_from(order + "HHII", tiff, place)
        if tag != 0xB002:
            continue
        for entry in range(offset + 16, min(offset + size, len(tiff) - 15), 16):
            kind, _, start = struct.unpack_from(order + "III", tiff, entry)
            start += header.multi_picture_at
            if kind & 0xFFFFFF in _PREVIEW_KINDS or data[start : start + 3] != b"\xff\xd8\xff":
                continue
            head = data[start : start + 65536].partition(b"\xff\xda")[0]
            if not any(sign in head for sign in _GAIN_MAP_SIGNS):
                found.append(start)
    return found


def digest_further_pictures(data: bytes, starts: list[int], max_pixels: int) -> str:
    """Digest of the pixels of an MPO's further pictures; empty if there are none.

    Raises
    ------
    BadPicture
        If one of them cannot be decoded whole.
    """
    if not starts:
        return ""
    digest = hashlib.sha256()
    for start in starts:
        rest = data[start:]
        header = read_header(rest)
        if header.width_px * header.height_px > max_pixels:
            raise BadPicture(Reason.TOO_LARGE, "a further picture is too large")
        pixels, damage = decode_jpeg(rest, header)
        if damage:
            raise BadPicture(Reason.DAMAGED, damage)
        digest.update(f"{header.meaning} {pixels.shape} ".encode())
        digest.update(pixels.data)
    return digest.hexdigest()[:32]
