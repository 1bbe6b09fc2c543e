"""JPEG: header, quality estimate and the decode itself, at full size or at a fraction of it.

The decode goes through simplejpeg, not Pillow. Both are the same libjpeg-turbo and give the same samples to the last
bit (a test says so), but Pillow drops the decoder's warnings, and those are the only sign of damage inside the
picture data; it also needs 1.7 times as long for a full decode into an array (12 MP: 51 against 29 ms).
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from dedup.decode.metadata import Packets, iptc_of_photoshop
from dedup.decode.picture import BadPicture, Pixels
from dedup.records import Reason

MOST_SCANS = 500
"""Progressive files have about 10 scans; a hostile one repeats empty scans to burn time (libjpeg-turbo's own
`-strict` limit is the same)."""

_SOF = frozenset((0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF))
_PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
_BARE = frozenset((0x01, 0xD0, 0xD1, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8))


@dataclass(slots=True)
class Header:
    """What stands before the first scan of a JPEG."""

    width_px: int = 0
    height_px: int = 0
    components: int = 0
    bits: int = 8
    progressive: bool = False
    packets: Packets = field(default_factory=Packets)
    icc: bytes = b""
    tables: dict[int, bytes] = field(default_factory=dict)
    """Quantisation tables by number, 64 bytes (or 128 of 16 bits) each, in zigzag order."""
    mpf: bytes = b""
    """The multi-picture index (TIFF structure) and where its offsets count from."""
    mpf_at: int = 0
    ultra_hdr: bool = False
    """Whether the further pictures of the file are a gain map and not pictures."""


def read_header(data: bytes) -> Header:
    """Walk the segments up to the first scan.

    Raises
    ------
    BadPicture
        If no frame header comes before the picture data.
    """
    header = Header()
    icc_parts: list[tuple[int, bytes]] = []
    at, last = 2, len(data) - 4
    while at <= last:
        if data[at] != 0xFF:
            # Stray bytes between segments: Pillow and libjpeg both go on at the next marker.
            at = data.find(b"\xff", at)
            if at < 0:
                break
            continue
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in _BARE or marker == 0:
            at += 2
            continue
        if marker == 0xD9:
            break
        size = data[at + 2] << 8 | data[at + 3]
        body, end = at + 4, at + 2 + size
        if marker == 0xDA:
            break
        if marker in _SOF and size >= 8:
            header.bits, header.height_px, header.width_px, header.components = struct.unpack_from(
                ">BHHB", data, body
            )
            header.progressive = marker in _PROGRESSIVE
        elif marker == 0xDB:
            _read_tables(data[body:end], header.tables)
        elif marker >= 0xE1:
            _read_application(header, marker, data[body:end], body, icc_parts)
        at = end
    if not header.width_px or not header.height_px:
        raise BadPicture(Reason.DAMAGED, "the JPEG header is damaged or cut off")
    if icc_parts:
        header.icc = b"".join(part for _, part in sorted(icc_parts, key=lambda part: part[0]))
    return header


def _read_application(
    header: Header, marker: int, body: bytes, at: int, icc_parts: list[tuple[int, bytes]]
) -> None:
    """Keep what one APP segment holds for us."""
    packets = header.packets
    if marker == 0xE1:
        if body[:6] == b"Exif\0\0":
            # Blocks over 64 kB go on in further segments.
            packets.exif = packets.exif + body[6:] if packets.exif else body
        elif body[:29] == b"http://ns.adobe.com/xap/1.0/\0":
            packets.xmp = body[29:]
            header.ultra_hdr = b"hdrgm:Version" in body
    elif marker == 0xE2:
        if body[:12] == b"ICC_PROFILE\0" and len(body) > 14:
            icc_parts.append((body[12], body[14:]))
        elif body[:4] == b"MPF\0" and not header.mpf:
            header.mpf, header.mpf_at = body[4:], at + 4
    elif marker == 0xED and body[:14] == b"Photoshop 3.0\0":
        packets.iptc = packets.iptc or iptc_of_photoshop(body)


def _read_tables(body: bytes, tables: dict[int, bytes]) -> None:
    at = 0
    while at < len(body):
        size = 128 if body[at] >> 4 else 64
        if len(body) - at > size:
            tables[body[at] & 15] = body[at + 1 : at + 1 + size]
        at += 1 + size


def table_numbers(table: bytes) -> tuple[int, ...]:
    """A stored quantisation table as 64 numbers, still in zigzag order."""
    return struct.unpack(">64H", table) if len(table) == 128 else tuple(table)


# Tables K.1 and K.2 of ITU-T T.81 in zigzag order; libjpeg scales them by its quality setting.
_LUMA = (
    "16 11 12 14 12 10 16 14 13 14 18 17 16 19 24 40 26 24 22 22 24 49 35 37 29 40 58 51 61 60 57 51"
    " 56 55 64 72 92 78 64 68 87 69 55 56 80 109 81 87 95 98 103 104 103 62 77 113 121 112 100 120 92 101 103 99"
)
_CHROMA = (
    "17 18 18 24 21 24 47 26 26 47 99 66 56 66 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99" + " 99" * 32
)


@lru_cache(maxsize=1)
def _libjpeg_tables() -> NDArray[np.int32]:
    """(100, 128): luma and chroma tables of qualities 1 to 100, scaled as in libjpeg's `jcparam.c`."""
    base = np.array([int(number) for number in (_LUMA + " " + _CHROMA).split()], np.int32)
    quality = np.arange(1, 101)
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    return np.clip((base * scale[:, None] + 50) // 100, 1, 255).astype(np.int32)


@lru_cache(maxsize=1024)
def _fit_quality(luma: bytes, chroma: bytes) -> int:
    wanted = np.array(table_numbers(luma) + (table_numbers(chroma) if chroma else ()), np.int32)
    # Ratios, not differences: otherwise the coarse high frequencies alone would decide.
    away = np.abs(np.log(_libjpeg_tables()[:, : len(wanted)] / np.maximum(wanted, 1)))
    # The finest of equal fits: the tables of quality 99 and 100 differ from each other, those of 1 and 2 do not.
    return 100 - int(np.argmin(away.sum(axis=1)[::-1]))


def estimate_quality(tables: dict[int, bytes]) -> int:
    """Quality 1 to 100 whose libjpeg tables are nearest to these; 0 without tables."""
    return _fit_quality(tables[0], tables.get(1, b"")) if 0 in tables else 0


def check_scans(data: bytes, header: Header) -> None:
    """Refuse a file with an absurd number of scans before any is decoded.

    Raises
    ------
    BadPicture
        If there are more than `MOST_SCANS`.
    """
    # FF DA cannot occur inside entropy-coded data, where every FF is followed by 00 or a marker.
    if header.progressive and data.count(b"\xff\xda") > MOST_SCANS:
        raise BadPicture(Reason.TOO_LARGE, f"more than {MOST_SCANS} scans")


def decode_jpeg(data: bytes, header: Header, min_side_px: int = 0) -> tuple[Pixels, str]:
    """Decode, as small as asked for.

    Parameters
    ----------
    data
        The whole file.
    header
        As `read_header` found it; its size must have been judged.
    min_side_px
        Decode at the smallest of 1/8, 1/4, 1/2 and 1/1 whose shorter side is still that long (or at full size
        if none is); 0 for full size. 3/8 and the like would fit closer but have no SIMD code in libjpeg-turbo.

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
    check_scans(data, header)
    width, height = header.width_px, header.height_px
    shrink = 1
    if min_side_px:
        shrink = next((n for n in (8, 4, 2) if math.ceil(min(width, height) / n) >= min_side_px), 1)
    colour = {1: "GRAY", 4: "CMYK"}.get(header.components, "RGB")
    sizes = {"min_height": math.ceil(height / shrink), "min_width": math.ceil(width / shrink)}
    damage = ""
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, colour, min_factor=1, **sizes)
    except ValueError as error:
        damage = _damage(str(error))
        try:
            pixels = simplejpeg.decode_jpeg(data, colour, min_factor=1, strict=False, **sizes)
        except ValueError as refusal:
            raise BadPicture(Reason.DAMAGED, f"cannot be decoded: {refusal}") from error
    if colour == "CMYK":
        # Adobe writes ink inverted and everyone follows; Pillow assumes the same.
        np.subtract(255, pixels, out=pixels)
    return pixels, damage


def _damage(warning: str) -> str:
    """libjpeg's warning as a clause.

    Raises
    ------
    BadPicture
        If it says that the end is missing: the decoder fills the rest with grey, which is not the picture.
    """
    if "remature end of JPEG file" in warning:
        raise BadPicture(Reason.DAMAGED, "cut off: the end of the picture is missing")
    return f"damaged picture data ({_BLANKS.sub(' ', warning)})"


_BLANKS = re.compile(r"\s+")
