"""Pictures for tests of confirmation: real and drawn, the files made of them, and what is asked of two files."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from dedup.confirm import ComponentJob, ComponentResult, confirm_component
from dedup.fingerprint import fingerprint_photo
from dedup.records import CandidatePair, Change, Match, Photo, PhotoFile, Relation, Source
from dedup.settings import LOW_TEXTURE_LEVELS

Content = Image.Image | bytes
"""A picture, to be saved as PNG, or a file as it is."""
Box = tuple[float, float, float, float]
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")
"""Photographs inside scikit-image's wheel: a portrait, fur, things on a table, a night sky."""


@cache
def real_photo(name: str, longer_px: int = 640) -> Image.Image:
    """One of scikit-image's photographs, RGB, reduced to at most `longer_px`. Do not draw on it; copy it."""
    image = Image.fromarray(np.asarray(getattr(data, name)())).convert("RGB")
    return scaled(image, min(1.0, longer_px / max(image.size)))


def as_image(pixels: NDArray[np.floating] | NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(np.asarray(pixels).round().clip(0, 255).astype(np.uint8)))


def as_floats(image: Image.Image) -> NDArray[np.float32]:
    return np.asarray(image.convert("RGB"), np.float32)


def encode(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def jpeg(image: Image.Image, quality: int = 92, **options: object) -> bytes:
    return encode(image, "JPEG", quality=quality, **options)


def decoded(source: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(source))
    image.load()
    return image


def scaled(image: Image.Image, factor: float) -> Image.Image:
    size = (round(image.width * factor), round(image.height * factor))
    return image.resize(size, Image.Resampling.LANCZOS)


def cropped(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    """A window in fractions."""
    w, h = image.size
    return image.crop((round(left * w), round(top * h), round(right * w), round(bottom * h)))


def exif_orientation(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def wide_profile() -> bytes:
    """A minimal ICC v2 matrix profile with primaries like those of Adobe RGB."""

    def fixed(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    def xyz(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(fixed(value) for value in values)

    name = b"wide\0"
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256)) + b"\0\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78),
        b"cprt": b"text\0\0\0\0CC0\0",
        b"wtpt": xyz(0.9642, 1, 0.8249),
        b"rXYZ": xyz(0.60974, 0.31111, 0.01947),
        b"gXYZ": xyz(0.20528, 0.62567, 0.06087),
        b"bXYZ": xyz(0.14919, 0.06322, 0.74457),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    start, table, body = 132 + 12 * len(tags), b"", b""
    for sign, content in tags.items():
        padded = content + bytes(-len(content) % 4)
        table += sign + struct.pack(">II", start + len(body), len(padded))
        body += padded
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"lcms", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += fixed(0.9642) + fixed(1) + fixed(0.8249)
    return head + bytes(128 - len(head)) + struct.pack(">I", len(tags)) + table + body


# --- drawn ------------------------------------------------------------------------------------------------------------


TEXT = (
    "invoice amount total payment order client delivery monthly report meeting budget contract address "
    "service number quarter result account date reference shipping quantity discount subtotal item price"
)


@cache
def font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)


def text_page(changed: str = "", size: tuple[int, int] = (520, 520), type_px: int = 14) -> Image.Image:
    """A typed page; `changed` stands in place of one word in the middle of it."""
    words, random = TEXT.split(), np.random.default_rng(11)
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page)
    for row, y in enumerate(range(40, size[1] - 40, round(type_px * 1.6))):
        line = [words[int(word)] for word in random.integers(0, len(words), int(random.integers(5, 9)))]
        if row == 8 and changed:
            line[3] = changed
        draw.text((50, y), " ".join(line), fill=(30, 30, 30), font=font(type_px))
    return page


def night_frame(
    seed: int, level: float = 9, noise: float = 3.5, size: tuple[int, int] = (480, 360)
) -> Image.Image:
    """Sensor noise over almost black: what a lens cap gives."""
    random = np.random.default_rng(seed)
    return as_image(random.normal(level, noise, (size[1], size[0], 3)))


def fog_frame(seed: int, size: tuple[int, int] = (480, 360)) -> Image.Image:
    """Soft light without an edge, and a little grain."""
    random = np.random.default_rng(seed)
    soft = as_image(random.normal(190, 7, (5, 7))).resize(size, Image.Resampling.BICUBIC)
    return as_image(
        np.asarray(soft.convert("RGB"), np.float32) + random.normal(0, 1.5, (size[1], size[0], 1))
    )


def gradient(
    first: tuple[int, int, int], last: tuple[int, int, int], size: tuple[int, int] = (480, 360)
) -> Image.Image:
    """From one colour at the left to another at the right."""
    x = np.linspace(0, 1, size[0])[None, :, None] * np.ones((size[1], 1, 1))
    return as_image(np.array(first) * (1 - x) + np.array(last) * x)


def ellipse_paste(base: Image.Image, part: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """`part` painted over an ellipse in `box` of `base`, as a brush would."""
    found = base.copy()
    size = (box[2] - box[0], box[3] - box[1])
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).ellipse((0, 0, size[0] - 1, size[1] - 1), fill=255)
    found.paste(part.resize(size, Image.Resampling.LANCZOS), box[:2], mask)
    return found


# --- files and questions ----------------------------------------------------------------------------------------------


class Shelf:
    """A folder of files that are fingerprinted as they are put there; ids count up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0

    def put(self, content: Content, name: str = "", id: int = 0) -> Photo:
        """Write a file (a picture as PNG, bytes as they are) and fingerprint it."""
        self._count += 1
        path = self.folder / (name or f"{self._count:03d}")
        path.write_bytes(encode(content, compress_level=1) if isinstance(content, Image.Image) else content)
        return self.take(path, id or self._count)

    def take(self, path: Path, id: int) -> Photo:
        status = os.stat(path)
        file = PhotoFile(
            str(path),
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
            status.st_dev,
            status.st_ino,
            status.st_nlink,
        )
        photo = fingerprint_photo(file)
        assert isinstance(photo, Photo), photo
        return with_id(photo, id)

    def ask(self, left: Content, right: Content) -> Match | None:
        """What confirmation says of two pictures, the left one first in the order of keepers."""
        return confirm_two(self.put(left), self.put(right))


def with_id(photo: Photo, id: int) -> Photo:
    return Photo(id, photo.file, photo.digest, photo.info, photo.fingerprint)


def candidate(first: Photo, second: Photo) -> CandidatePair:
    """The pair as the index would propose it: smaller id left, under the orientation with the nearest hashes.

    Flat pictures, whose hashes mean nothing, by their colours as they stand.
    """
    left, right = sorted((first, second), key=lambda photo: photo.id)
    if min(left.fingerprint.texture, right.fingerprint.texture) < LOW_TEXTURE_LEVELS:
        return CandidatePair(left.id, right.id, Source.FLAT, 64)
    here = int.from_bytes(left.fingerprint.phash64[:8], "big")
    there = right.fingerprint.phash64
    bits, orientation = min(
        ((here ^ int.from_bytes(there[8 * o : 8 * o + 8], "big")).bit_count(), o) for o in range(8)
    )
    return CandidatePair(left.id, right.id, Source.HASH, bits, orientation)


def confirm(photos: Iterable[Photo], pairs: Iterable[CandidatePair] = ()) -> ComponentResult:
    """Confirm photos in keeper order; without `pairs`, all of them are candidates of each other."""
    photos = tuple(photos)
    chosen = tuple(pairs) or tuple(
        candidate(first, second) for at, first in enumerate(photos) for second in photos[at + 1 :]
    )
    return confirm_component(ComponentJob(photos, chosen))


def confirm_two(left: Photo, right: Photo) -> Match | None:
    found = confirm((left, right))
    assert not found.skipped, found.skipped
    return found.matches[0] if found.matches else None


def relation(match: Match | None) -> Relation | None:
    return match.relation if match else None


def is_safe(match: Match | None) -> bool:
    return match is not None and match.relation.is_safe


def change(match: Match | None, kind: str) -> Change:
    """The one change of a kind; a test that asks for it fails without it."""
    assert match is not None
    found = [item for item in match.changes if item.kind == kind]
    assert len(found) == 1, (kind, match.sentence, match.changes)
    return found[0]
