"""File to pixels: upright, colour-managed, of bounded size; the only package that opens an image.

`sniff_format` tells what a file is, `read_reduced` decodes a small picture for features as fast as its format
allows, `read_full` decodes every pixel, looks for damage, and gives the picture both as stored and as seen.

Promises: a file gives a picture or a `BadPicture` with a reason a photographer can follow, never another
exception; orientation is applied exactly once whatever the format; depth is scaled, never clipped; the size is
judged from the header before a pixel is decoded. Limits of time and memory are kept by the worker (`engine`).

    sniff.py        first bytes -> format; the allowlist       reading.py   read_reduced, read_full
    jpeg.py         JPEG and MPO: header, quality, decode      stills.py    all other formats, through Pillow
    progressive.py  a progressive JPEG without its detail      extras.py    camera RAW and JPEG XL
    metadata.py     EXIF, XMP, IPTC -> Metadata                soundness.py damage that shows in the container
    colour.py       samples -> sRGB                            picture.py   what is handed out
    saving.py       what one more save makes of pixels
"""

from __future__ import annotations

from dedup.decode.picture import BadPicture, FullPicture, Picture
from dedup.decode.reading import DECODE_RECIPE, read_full, read_reduced
from dedup.decode.saving import save_like
from dedup.decode.sniff import HEAD_BYTES, sniff_format

__all__ = [
    "DECODE_RECIPE",
    "HEAD_BYTES",
    "BadPicture",
    "FullPicture",
    "Picture",
    "read_full",
    "read_reduced",
    "save_like",
    "sniff_format",
]
