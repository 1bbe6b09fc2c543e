"""Which format a file has, from its first bytes; the allowlist of what is ever opened.

Formats outside it (EPS, PDF, PSD, FITS, icons ...) are no photos to us, whatever Pillow could make of them:
each further decoder is a further way in for a hostile file.
"""

from __future__ import annotations

import re

HEAD_BYTES = 64
"""As much of a file as `sniff_format` looks at."""

RAW_EXTENSIONS = frozenset(
    "3fr arw cap cr2 cr3 crw dcr dcs dng erf fff gpr iiq k25 kdc mdc mef mos mrw nef nrw orf pef ptx raf raw rw2 "  # noqa: SIM905
    "rwl rwz sr2 srf srw x3f".split()  # as a list the formatter would give each its own line
)
"""Extensions that make a TIFF a camera RAW."""

_HEIF_BRANDS = frozenset(
    (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1")
)
_AVIF_BRANDS = frozenset((b"avif", b"avis"))
_BMP_HEADERS = frozenset((12, 16, 40, 52, 56, 64, 108, 124))
_PPM = re.compile(rb"P(?:[1-6]\s+(?:#|\d)|[fF]\s+\d)")
_RAW_MAGIC = (b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"\0MRM", b"FOVb")


def sniff_format(head: bytes, name: str = "") -> str | None:
    """Name the format of a photo.

    Parameters
    ----------
    head
        The first bytes of the file, at best `HEAD_BYTES` of them; fewer may leave a format unknown.
    name
        File name or path. Most camera RAW files are TIFF inside and only the extension tells; everything else
        goes by content.

    Returns
    -------
    str or None
        Pillow's name (`JPEG`, `PNG`, `GIF`, `BMP`, `TIFF`, `PPM`, `AVIF`, `WEBP`, `JPEG2000`), or `HEIF`, `JXL`,
        `RAW`; None for a file that is not a photo. An MPO begins as a JPEG and is told from it when decoded.
    """
    if head[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if head[4:8] == b"ftyp":
        return _brand(head)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        is_raw = head[8:10] == b"CR" or name.rpartition(".")[2].lower() in RAW_EXTENSIONS
        return "RAW" if is_raw else "TIFF"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if head[:12] == b"\0\0\0\x0cjP  \r\n\x87\n" or head[:4] == b"\xff\x4f\xff\x51":
        return "JPEG2000"
    if head[:12] == b"\0\0\0\x0cJXL \r\n\x87\n" or head[:2] == b"\xff\x0a":
        return "JXL"
    if _PPM.match(head):
        return "PPM"
    if head[:4] in _RAW_MAGIC or head[:8] == b"FUJIFILM" or head[6:14] == b"HEAPCCDR":
        return "RAW"
    return None


def _brand(head: bytes) -> str | None:
    """Tell HEIF, AVIF and Canon's CR3 from the films that share their container."""
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))]
    if brands[0] == b"crx ":
        return "RAW"
    if any(brand in _AVIF_BRANDS for brand in brands):
        return "AVIF"
    # Only the major brand counts here: films list `mif1` among the compatible ones too.
    return "HEIF" if brands[0] in _HEIF_BRANDS else None
