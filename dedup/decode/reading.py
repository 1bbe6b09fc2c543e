"""The two ways to read a picture: reduced for features, in full for confirmation."""

from __future__ import annotations

import io
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


def read_reduced(source: bytes | BinaryIO, name: str, min_side_px: int, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode a picture small.

    Parameters
    ----------
    source
        The whole file as bytes, or a file open for reading at any position.
    name
        File name or path; only its extension is looked at, and only for camera RAW.
    min_side_px
        The shorter side of the result is at least this, unless the picture itself is smaller, and less than twice
        this: a box filter by a whole factor (JPEG: the decoder's own 1/8, 1/4 or 1/2 first) brings it there.
    max_pixels
        Largest picture that is decoded, judged from the header.

    Returns
    -------
    Picture

    Raises
    ------
    BadPicture
        If the file gives no picture; nothing else is raised for the content of a file.
    """
    data = source if isinstance(source, bytes) else None
    format = _format(source, name)
    if format == "JPEG":
        return _read_jpeg_reduced(data if data is not None else _all_bytes(source), min_side_px, max_pixels)
    with stills.survives(max_pixels):
        stream = io.BytesIO(source) if isinstance(source, bytes) else source
        still = stills.open_still(stream, format, max_pixels)
        samples, meaning = stills.load_samples(still)
        alpha = _alpha(samples, meaning)
        info = _still_info(still, samples, alpha is not None, "")
        colours = _colours(samples, meaning, alpha)
        small = stills.shrink(colours, min_side_px)
        managed = colour.to_srgb(small, _bare(meaning), still.icc)
        if alpha is not None:
            alpha = stills.shrink(alpha[:, :, None], min_side_px)[:, :, 0]
        turn = 1 if still.is_upright else still.orientation
        return Picture(
            np.ascontiguousarray(colour.upright(managed, turn)),
            None if alpha is None else colour.upright(alpha, turn),
            info,
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
        Look for damage in the whole file (`info.damage`). What the decoder itself notices is noted either way.

    Returns
    -------
    FullPicture

    Raises
    ------
    BadPicture
        If the file gives no picture; nothing else is raised for the content of a file.
    """
    format = _format(source, name)
    if format == "JPEG":
        return _read_jpeg_full(source if isinstance(source, bytes) else _all_bytes(source), strict, max_pixels)
    with stills.survives(max_pixels):
        stream = io.BytesIO(source) if isinstance(source, bytes) else source
        still = stills.open_still(stream, format, max_pixels)
        samples, meaning = stills.load_samples(still)
        digest = stills.frames_digest(still, stream, max_pixels)
        alpha = _alpha(samples, meaning)
        if alpha is None and meaning.endswith("A"):
            samples, meaning = np.ascontiguousarray(samples[:, :, :-1]), meaning[:-1]
        turn = 1 if still.is_upright else still.orientation
        samples = colour.upright(samples, turn)
        alpha = None if alpha is None else colour.upright(alpha, turn)
        info = _still_info(still, samples, alpha is not None, "", turned=True)
        bare, icc = _bare(meaning), still.icc

        def managed() -> Pixels:
            return colour.to_srgb(colour.to_eight_bits(_colours(samples, meaning, alpha)), bare, icc)

        plain = samples.dtype == np.uint8 and meaning == "RGB" and not colour.needs_management(icc, "RGB")
        return FullPicture(
            samples, None if plain else managed, info, alpha=alpha, exact=still.exact, frames_digest=digest
        )


def _format(source: bytes | BinaryIO, name: str) -> str:
    if isinstance(source, bytes):
        head = source[:HEAD_BYTES]
    else:
        source.seek(0)
        head = source.read(HEAD_BYTES)
        source.seek(0)
    format = sniff_format(head, name)
    if format is None:
        raise BadPicture(Reason.NOT_A_PHOTO, "its content is that of no photo format")
    if format in ("RAW", "JXL"):
        raise BadPicture(Reason.MISSING_EXTRA, f"install photo-dedup[{format.lower()}]")
    return format


def _all_bytes(stream: BinaryIO) -> bytes:
    stream.seek(0)
    return stream.read()


def _bare(meaning: str) -> str:
    """What the channels mean without alpha."""
    return meaning[:-1] if meaning in ("LA", "RGBA") else meaning


def _alpha(samples: Samples, meaning: str) -> Pixels | None:
    """The alpha plane if any pixel is not opaque."""
    if meaning not in ("LA", "RGBA"):
        return None
    alpha = colour.to_eight_bits(samples[:, :, -1:])[:, :, 0]
    return None if alpha.min(initial=255) == 255 else np.ascontiguousarray(alpha)


def _colours(samples: Samples, meaning: str, alpha: Pixels | None) -> Samples:
    """The colour channels alone, shown on white where they are transparent."""
    if meaning not in ("LA", "RGBA"):
        return samples
    bare = np.ascontiguousarray(samples[:, :, :-1])
    return bare if alpha is None else colour.over_white(colour.to_eight_bits(bare), alpha)


def _still_info(
    still: stills.Still, samples: Samples, has_alpha: bool, damage: str, *, turned: bool = False
) -> PictureInfo:
    height, width = samples.shape[:2]
    if not turned and not still.is_upright and still.orientation >= 5:
        height, width = width, height
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
        damage=damage,
        metadata=metadata,
    )


def _read_jpeg_reduced(data: bytes, min_side_px: int, max_pixels: int) -> Picture:
    header = jpeg.read_header(data)
    stills.check_size(header.width_px, header.height_px, max_pixels)
    samples, damage = jpeg.decode_jpeg(data, header, min_side_px)
    info = _jpeg_info(header, damage)
    small = stills.shrink(samples, min_side_px)
    managed = colour.to_srgb(small, _jpeg_mode(header), header.icc)
    return Picture(np.ascontiguousarray(colour.upright(managed, info.orientation)), None, info)


def _read_jpeg_full(data: bytes, strict: bool, max_pixels: int) -> FullPicture:
    header = jpeg.read_header(data)
    stills.check_size(header.width_px, header.height_px, max_pixels)
    samples, damage = jpeg.decode_jpeg(data, header)
    info = _jpeg_info(header, damage)
    upright = colour.upright(samples, info.orientation)
    mode, icc = _jpeg_mode(header), header.icc
    plain = mode == "RGB" and not colour.needs_management(icc, mode)
    return FullPicture(
        upright,
        None if plain else lambda: colour.to_srgb(upright, mode, icc),
        info,
        quantisation=tuple(jpeg.table_numbers(header.tables[number]) for number in sorted(header.tables)),
    )


def _jpeg_mode(header: jpeg.Header) -> str:
    return {1: "L", 4: "CMYK"}.get(header.components, "RGB")


def _jpeg_info(header: jpeg.Header, damage: str) -> PictureInfo:
    metadata, orientation = read_metadata(header.packets)
    width, height = header.width_px, header.height_px
    if orientation >= 5:
        width, height = height, width
    icc_digest, icc_name = colour.icc_facts(header.icc)
    return PictureInfo(
        format="JPEG",
        width_px=width,
        height_px=height,
        mode=_jpeg_mode(header),
        bits=header.bits,
        frames=1,
        has_alpha=False,
        orientation=orientation,
        icc_digest=icc_digest,
        icc_name=icc_name,
        quality=jpeg.estimate_quality(header.tables),
        lossless=False,
        damage=damage,
        metadata=metadata,
    )
