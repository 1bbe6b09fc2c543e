"""What the files themselves say: bytes, stored pixels, shape, the shot, and whether one is the other saved again.

Promises: bytes are read to the end; pixels are compared as stored, in every bit. Does not: open a file; streams and
decoded pictures are handed in.
"""

from __future__ import annotations

import io
import math
from typing import BinaryIO

import numpy as np
from PIL import Image

from dedup.compare.frames import Layer, Plane
from dedup.compare.levels import Answer
from dedup.decode import FullPicture, read_full, save_like
from dedup.records import Metadata, Photo, PictureInfo
from dedup.records.comparing import Part

_BLOCK = 1 << 20
CANONICAL_QUALITY = 75
"""What Pillow saves a JPEG at if nothing is said."""


def differing_bytes(a: BinaryIO, b: BinaryIO) -> tuple[int, int | None]:
    """How many bytes differ place by place, with what one file is longer; and the first such place."""
    count, at, first = 0, 0, None
    while True:
        p, q = a.read(_BLOCK), b.read(_BLOCK)
        if not p and not q:
            return count, first
        if p != q:
            both = min(len(p), len(q))
            differs = np.frombuffer(p, np.uint8, both) != np.frombuffer(q, np.uint8, both)
            hits = np.flatnonzero(differs)
            if first is None:
                first = at + (int(hits[0]) if len(hits) else both)
            count += len(hits) + abs(len(p) - len(q))
        at += max(len(p), len(q))


def digest(a: Photo, b: Photo) -> Answer:
    """Whether the digests are equal."""
    return a.digest == b.digest, {"a": a.digest.hex(), "b": b.digest.hex()}, ""


def as_layer(picture: FullPicture, other: FullPicture) -> Layer:
    """The picture as it is measured: in bytes, managed to sRGB and, where transparent, on white.

    Samples of 16 bits keep their depth as fractions of a level where both pictures are stored so and under one
    profile; otherwise 8 bits are what can be compared.
    """
    if _is_deep(picture) and _is_deep(other) and picture.info.icc_digest == other.info.icc_digest:
        levels = picture.samples.astype(np.float32) / np.float32(257)
        if picture.meaning.startswith("L"):
            colours = np.repeat(levels[..., :1], 3, axis=2)
        else:
            colours = levels[..., :3]
        alpha = levels[..., -1] if picture.meaning.endswith("A") else None
        if alpha is not None:
            cover = alpha[..., None] / np.float32(255)
            colours = colours * cover + np.float32(255) * (1 - cover)
        return Layer(np.ascontiguousarray(colours), alpha)
    return Layer(picture.rgb, picture.alpha)


def _is_deep(picture: FullPicture) -> bool:
    return picture.samples.dtype == np.uint16 and picture.meaning in ("L", "LA", "RGB", "RGBA")


def same_pixels(a: FullPicture, b: FullPicture) -> Answer:
    """Whether every stored sample is equal, and all that gives it its meaning."""
    reasons = []
    if a.samples.shape[:2] != b.samples.shape[:2]:
        reasons.append("size")
    elif a.meaning != b.meaning or a.samples.dtype != b.samples.dtype or a.info.bits != b.info.bits:
        reasons.append("bands or depth")
    elif not np.array_equal(a.samples, b.samples):
        reasons.append("samples")
    if a.info.icc_digest != b.info.icc_digest:
        reasons.append("colour profile")
    if a.frames_digest != b.frames_digest:
        reasons.append("further pictures in the file")
    if not reasons and not (a.exact and b.exact):
        return None, {}, "the decoder does not give every stored bit"
    return not reasons, {"differs": ", ".join(reasons)}, ""


def shape(a: PictureInfo, b: PictureInfo) -> Answer:
    """Whether width, height and bands agree, and the proportions."""
    ratio = (a.width_px / a.height_px) / (b.width_px / b.height_px)
    parts: dict[str, Part] = {
        "a": f"{a.width_px} x {a.height_px} {a.mode}, {a.bits} bits",
        "b": f"{b.width_px} x {b.height_px} {b.mode}, {b.bits} bits",
        "proportions": math.exp(abs(math.log(ratio))) - 1 if ratio != 1 else 0.0,
        "size_ratio": math.sqrt(b.pixels / a.pixels),
    }
    same = (a.width_px, a.height_px, a.mode, a.bits, a.has_alpha) == (
        b.width_px,
        b.height_px,
        b.mode,
        b.bits,
        b.has_alpha,
    )
    return same, parts, ""


_SHOT = ("capture_time", "camera", "gps", "content_identifier")


def shot(a: Metadata, b: Metadata) -> Answer:
    """Of what both files say about the shot, how much agrees."""
    known = [(name, getattr(a, name), getattr(b, name)) for name in _SHOT]
    both = [(name, one, other) for name, one, other in known if one and other]
    parts: dict[str, Part] = {name: one == other for name, one, other in both}
    if not both:
        return None, {}, "the files do not both say anything of the shot"
    return sum(one == other for _, one, other in both) / len(both), parts, ""


# ---- saved again ---------------------------------------------------------------------------------------------------


def canonical(a: Plane, b: Plane) -> Answer:
    """RMS after both are saved as JPEG by the same encoder, and whether those files are the same bytes.

    What somebody did who wanted no duplicate uploads: every upload is saved once more before it is looked at.
    """
    files = [_as_jpeg(pixels, quality=CANONICAL_QUALITY) for pixels in (a, b)]
    if files[0] == files[1]:
        return 0.0, {"same_bytes": True, "quality": CANONICAL_QUALITY}, ""
    first, second = (read_full(file, "canonical.jpg", strict=False).rgb for file in files)
    return _rms(first, second), {"same_bytes": False, "quality": CANONICAL_QUALITY}, ""


def resave(a: FullPicture, b: FullPicture) -> Answer:
    """RMS of B against A saved with B's tables and sampling of colour."""
    if b.quantisation is None or b.info.format not in ("JPEG", "MPO"):
        return None, {}, "B is no JPEG"
    if a.rgb.shape != b.rgb.shape:
        return None, {}, "not comparable: the sizes differ"
    number = b.sampling
    name = "grey" if b.info.mode == "L" else "" if number is None else ("4:4:4", "4:2:2", "4:2:0")[number]
    if a.rgb is b.rgb or np.array_equal(a.rgb, b.rgb):
        return 0.0, {"subsampling": None, "quality": b.info.quality}, "equal pixels"
    saved = save_like(a.rgb, b)
    if saved is None:
        return None, {}, "B is no JPEG of a usual kind in three colours or grey"
    value = _rms(saved, b.rgb)
    note = "B is A, saved by this very encoder" if value == 0.0 else ""
    return value, {"subsampling": name, "quality": b.info.quality}, note


def _as_jpeg(pixels: Plane, **options: object) -> bytes:
    eight = pixels if pixels.dtype == np.uint8 else np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(eight[..., 0] if eight.shape[2] < 3 else eight[..., :3]))
    stream = io.BytesIO()
    image.save(stream, "JPEG", **options)
    return stream.getvalue()


def _rms(p: Plane, q: Plane) -> float:
    total = 0.0
    for top in range(0, len(p), 256):
        gap = p[top : top + 256].astype(np.float32) - q[top : top + 256]
        total += float(np.square(gap, dtype=np.float64).sum())
    return math.sqrt(total / p.size)
