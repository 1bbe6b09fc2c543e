"""File to pixels: upright, colour-managed, of bounded size; the only package that opens an image.

`sniff_format` tells what a file is, `read_reduced` decodes a small picture for features as fast as the format allows,
`read_full` decodes every pixel, looks for damage, and gives the picture both as stored and as seen.

Promises: a file gives a picture or a `BadPicture` with a reason a photographer can follow, never another exception;
orientation is applied exactly once whatever the format; nothing is clipped, guessed or silently dropped; the size
is judged from the header before a pixel is decoded. Limits of time and memory are the worker's business (`engine`).

    sniff.py     first bytes -> format; the allowlist        jpeg.py      header, quality, decode
    metadata.py  EXIF, XMP, IPTC -> Metadata, orientation    stills.py    all other formats, through Pillow
    colour.py    samples -> sRGB                             picture.py   what is handed out
"""

from __future__ import annotations

from dedup.decode.picture import BadPicture, FullPicture, Picture
from dedup.decode.reading import DECODE_RECIPE, read_full, read_reduced
from dedup.decode.sniff import HEAD_BYTES, sniff_format

__all__ = [
    "DECODE_RECIPE",
    "HEAD_BYTES",
    "BadPicture",
    "FullPicture",
    "Picture",
    "read_full",
    "read_reduced",
    "sniff_format",
]
