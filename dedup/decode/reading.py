"""The two ways to read a picture: reduced for features, in full for confirmation."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
import PIL
import simplejpeg

from dedup.decode import colour, jpeg, stills
from dedup.decode.metadata import read_metadata
from dedup.decode.picture import BadPicture, FullPicture, Picture, Pixels, Samples
from dedup.decode.sniff import HEAD_BYTES, sniff_format
from dedup.records import PictureInfo, Reason
from dedup.settings import MAX_PIXELS

DECODE_RECIPE = f"decode 1, Pillow {PIL.__version__}, simplejpeg {simplejpeg.__version__}"
"""Names everything that decides the pixels of `read_reduced`; part of the recipe of a fingerprint."""

_WHOLE_BYTES = 256 << 20
"""Files up to this size are read into memory at once; beyond it the plugins read from the open file."""


def read_reduced(
    source: bytes | BinaryIO, name: str, min_side_px: int, *, max_pixels: int = MAX_PIXELS
) -> Picture:
    """Decode a picture small.

    Parameters
    ----------
    source
        The whole file as bytes, or a file open for reading at any position.
    name
        File name or path; only its extension is looked at, and only for camera RAW.
    min_side_px
        The shorter side of the result is at least this, unless the picture itself is smaller, and less than
        twice this: area means by a whole factor (JPEG: the decoder's own 1/8, 1/4 or 1/2 first) bring it there.
    max_pixels
        Largest picture that is decoded, judged from the header.

    Returns
    -------
    Picture

    Raises
    ------
    BadPicture
        If the file gives no picture; nothing else is raised for the content of a file.

    Notes
    -----
    A JPEG decoded at a fraction (DCT-scaled) differs by a few levels from one decoded in full and then reduced: good
    for features, no proof. Confirmation takes `read_full`.
    """
    with stills.survives(max_pixels):
        format, stream = _begin(source, name)
        if format == "JPEG":
            return _read_jpeg_reduced(_all_bytes(stream), min_side_px, max_pixels)
        still = stills.read_still(_stream(stream), format, max_pixels, full=False)
        size_px = still.image.size
        samples, alpha, meaning = still.reduced(min_side_px)
        managed = colour.to_srgb(samples, meaning, still.icc)
        return Picture(
            np.ascontiguousarray(colour.upright(managed, still.turn)),
            None if alpha is None else colour.upright(alpha, still.turn),
            _still_info(still, size_px, has_alpha=alpha is not None),
        )


def read_full(
    source: bytes | BinaryIO, name: str, strict: bool = True, *, max_pixels: int = MAX_PIXELS
) -> FullPicture:
    """Decode every pixel.

    Parameters
    ----------
    source, name, max_pixels
        As for `read_reduced`.
    strict
        Look for damage in the whole file (`info.damage`), decode all further frames and keep all 16 bits of colour
        samples. Without it, what the decoder of the first frame notices has to do.

    Returns
    -------
    FullPicture

    Raises
    ------
    BadPicture
        If the file gives no picture; nothing else is raised for the content of a file.
    """
    with stills.survives(max_pixels):
        format, begun = _begin(source, name)
        if format == "JPEG":
            return _read_jpeg_full(_all_bytes(begun), strict, max_pixels)
        stream = _stream(begun)
        still = stills.read_still(stream, format, max_pixels, full=strict)
        size_px = still.image.size
        samples, meaning = still.samples()
        frames_digest = stills.digest_further_frames(still, stream, max_pixels) if strict else ""
        alpha = _alpha(samples, meaning)
        if meaning.endswith("A") and alpha is None:
            samples, meaning = samples[:, :, :-1].copy(), meaning[:-1]
        samples = colour.upright(samples, still.turn)
        alpha = None if alpha is None else colour.upright(alpha, still.turn)
        return FullPicture(
            samples,
            meaning,
            _still_info(still, size_px, has_alpha=alpha is not None),
            _managing(samples, meaning, still.icc, alpha),
            alpha=alpha,
            exact=still.exact,
            frames_digest=frames_digest,
        )


def _begin(source: bytes | BinaryIO, name: str) -> tuple[str, bytes | BinaryIO]:
    """Sniff, and take a file of ordinary size into memory."""
    if not isinstance(source, bytes):
        size = source.seek(0, 2)
        source.seek(0)
        if size <= _WHOLE_BYTES:
            source = source.read()
    if isinstance(source, bytes):
        head = source[:HEAD_BYTES]
    else:
        head = source.read(HEAD_BYTES)
    format = sniff_format(head, name)
    if format is None:
        raise BadPicture(Reason.NOT_A_PHOTO, "its content is that of no photo format")
    return format, source


def _all_bytes(source: bytes | BinaryIO) -> bytes:
    if isinstance(source, bytes):
        return source
    source.seek(0)
    return source.read()


def _stream(source: bytes | BinaryIO) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes) else source


def _alpha(samples: Samples, meaning: str) -> Pixels | None:
    """The alpha plane if any pixel is not opaque."""
    if meaning not in ("LA", "RGBA"):
        return None
    alpha = colour.to_eight_bits(samples[:, :, -1:])[:, :, 0]
    return None if alpha.min(initial=255) == 255 else np.ascontiguousarray(alpha)


def _managing(samples: Samples, meaning: str, icc: bytes, alpha: Pixels | None) -> Callable[[], Pixels]:
    """What makes the colours as seen, once they are asked for."""

    def managed() -> Pixels:
        pixels = colour.to_eight_bits(samples)
        if alpha is None:
            return colour.to_srgb(pixels, meaning, icc)
        return colour.to_srgb(colour.over_white(pixels[:, :, :-1], alpha), meaning[:-1], icc)

    return managed


def _still_info(still: stills.Still, size_px: tuple[int, int], *, has_alpha: bool) -> PictureInfo:
    width, height = size_px if still.turn < 5 else size_px[::-1]
    icc_digest, icc_name = colour.icc_facts(still.icc)
    metadata, _ = read_metadata(still.packets)
    return PictureInfo(
        format=still.format,
        width_px=width,
        height_px=height,
        mode=still.mode,
        bits=still.bits,
        frames=still.frames,
        has_alpha=has_alpha,
        orientation=still.orientation,
        icc_digest=icc_digest,
        icc_name=icc_name,
        quality=0,
        lossless=still.lossless,
        damage=still.damage,
        metadata=metadata,
    )


def _read_jpeg_reduced(data: bytes, min_side_px: int, max_pixels: int) -> Picture:
    header = jpeg.read_header(data)
    stills.check_size(header.width_px, header.height_px, max_pixels)
    samples, damage = jpeg.decode_jpeg(data, header, min_side_px)
    info = _jpeg_info(data, header, damage)
    small = colour.shrink(samples, min_side_px)
    managed = colour.to_srgb(small, header.meaning, header.icc)
    return Picture(np.ascontiguousarray(colour.upright(managed, info.orientation)), None, info)


def _read_jpeg_full(data: bytes, strict: bool, max_pixels: int) -> FullPicture:
    header = jpeg.read_header(data)
    stills.check_size(header.width_px, header.height_px, max_pixels)
    samples, damage = jpeg.decode_jpeg(data, header)
    digest = ""
    further = jpeg.further_pictures(data, header) if strict else []
    try:
        digest = jpeg.digest_further_pictures(data, further, max_pixels)
    except BadPicture:
        damage = damage or "a further picture in the file is damaged"
        digest = stills.digest_file(io.BytesIO(data))
    info = _jpeg_info(data, header, damage)
    samples = colour.upright(samples, info.orientation)
    return FullPicture(
        samples,
        header.meaning,
        info,
        _managing(samples, header.meaning, header.icc, None),
        frames_digest=digest,
        quantisation=tuple(jpeg.table_steps(header.tables[number]) for number in sorted(header.tables)),
        sampling=header.sampling,
    )


def _jpeg_info(data: bytes, header: jpeg.Header, damage: str) -> PictureInfo:
    metadata, orientation = read_metadata(header.packets)
    width, height = header.width_px, header.height_px
    if orientation >= 5:
        width, height = height, width
    icc_digest, icc_name = colour.icc_facts(header.icc)
    frames = 1 + len(jpeg.further_pictures(data, header))
    return PictureInfo(
        format="MPO" if frames > 1 else "JPEG",
        width_px=width,
        height_px=height,
        mode=header.meaning,
        bits=header.bits,
        frames=frames,
        has_alpha=False,
        orientation=orientation,
        icc_digest=icc_digest,
        icc_name=icc_name,
        quality=jpeg.estimate_quality(header.tables),
        lossless=False,
        damage=damage,
        metadata=metadata,
    )
