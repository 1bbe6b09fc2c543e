"""Damage that shows in the container of a picture, whether or not its pixels decode.

A decoder reads what it needs and stops; a file that was cut short, or whose checksums are wrong, may decode to a
picture all the same. JPEG is not here: its decoder tells.
"""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO


def find_damage(stream: BinaryIO, format: str) -> str:
    """Look at the structure of a whole file.

    Parameters
    ----------
    stream
        Open at any position; left anywhere.
    format
        As `sniff_format` named it.

    Returns
    -------
    str
        What is wrong, in a clause; empty if nothing is, or the format has no structure to check.
    """
    stream.seek(0, 2)
    size = stream.tell()
    stream.seek(0)
    if format == "PNG":
        return _png(stream)
    if format == "GIF":
        return _gif(stream)
    if format == "WEBP":
        claimed = int.from_bytes(stream.read(8)[4:8], "little") + 8
        return "" if claimed <= size else _cut_off(claimed - size)
    if format in ("HEIF", "AVIF", "JXL", "JPEG2000"):
        return _boxes(stream, size)
    return ""


def _cut_off(missing_bytes: int) -> str:
    return f"cut off: {missing_bytes:,} bytes are missing at the end"


def _png(stream: BinaryIO) -> str:
    stream.seek(8)
    while True:
        head = stream.read(8)
        if len(head) < 8:
            return "cut off: the end marker is missing"
        length, kind = struct.unpack(">I4s", head)
        body = stream.read(length)
        checksum = stream.read(4)
        if len(body) < length or len(checksum) < 4:
            return "cut off: the end marker is missing"
        if zlib.crc32(body, zlib.crc32(kind)) != int.from_bytes(checksum, "big"):
            return f"wrong checksum ({kind.decode('latin-1')})"
        if kind == b"IEND":
            return ""


def _gif(stream: BinaryIO) -> str:
    head = stream.read(13)
    if len(head) < 13:
        return "cut off: the end marker is missing"
    stream.seek(_colour_table_bytes(head[10]), 1)
    while True:
        kind = stream.read(1)
        if kind == b";":
            return ""
        if kind == b"!":
            stream.seek(1, 1)
        elif kind == b",":
            description = stream.read(9)
            if len(description) < 9:
                return "cut off: the end marker is missing"
            stream.seek(_colour_table_bytes(description[8]) + 1, 1)
        else:
            return "the end marker is missing" if not kind else "stray bytes between the frames"
        while (length := stream.read(1)) not in (b"", b"\0"):
            stream.seek(length[0], 1)


def _colour_table_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _boxes(stream: BinaryIO, size: int) -> str:
    """Boxes of ISO media files (ISO/IEC 14496-12, 4.2), top level only."""
    at = 0
    while at + 8 <= size:
        stream.seek(at)
        head = stream.read(16)
        if at == 0 and head[:2] in (b"\xff\x0a", b"\xff\x4f"):
            # A bare JPEG XL or JPEG 2000 codestream has no boxes.
            return ""
        length, header_bytes = int.from_bytes(head[:4], "big"), 8
        if length == 1 and len(head) == 16:
            length, header_bytes = int.from_bytes(head[8:16], "big"), 16
        if length == 0:
            return ""
        if length < header_bytes:
            # Zero padding and other leftovers of a writer after the last box hurt no one.
            return ""
        if at + length > size:
            return _cut_off(at + length - size)
        at += length
    return ""
