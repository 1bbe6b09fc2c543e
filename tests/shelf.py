"""A library in memory for tests of the index, and what people do to photographs."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps
from skimage import data

from dedup import fingerprint
from dedup.index import CandidateSearch, FingerprintTable, find_candidates, table_from_photos
from dedup.records import CandidatePair, Metadata, Photo, PhotoFile, PictureInfo
from dedup.settings import Settings

NAMES = (
    "astronaut",
    "chelsea",
    "coffee",
    "rocket",
    "camera",
    "coins",
    "immunohistochemistry",
    "page",
    "clock",
)


@cache
def picture(name: str) -> Image.Image:
    pixels = np.asarray(getattr(data, name)())
    found = Image.fromarray(pixels).convert("RGB")
    found.thumbnail((640, 640))
    return found


def as_photo(image: Image.Image) -> Photo:
    print_ = fingerprint.fingerprint_pixels(np.ascontiguousarray(image.convert("RGB")))
    info = PictureInfo("PNG", *image.size, "RGB", 8, 1, False, 1, "", "", 0, True, "", Metadata())
    return Photo(0, PhotoFile("/x", 1, 1, 1, 1, 1, 1), b"", info, print_)


class Shelf:
    """A library in memory; counts the greys it hands out. Ids are 10, 20, 30 ... in the order of the pictures."""

    def __init__(self, images: Iterable[Image.Image]) -> None:
        self.photos = [as_photo(image) for image in images]
        self.table: FingerprintTable = table_from_photos(
            (10 * place, photo) for place, photo in enumerate(self.photos, 1)
        )
        self.fetched = 0

    def greys(self, ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        self.fetched += len(ids)
        blobs = [self.photos[int(id_) // 10 - 1].fingerprint.grey for id_ in ids]
        return np.frombuffer(b"".join(blobs), np.uint8).reshape(-1, 64, 64)

    def search(self, new: Iterable[int] | None = None, folder: Path | None = None) -> CandidateSearch:
        is_new = None if new is None else np.isin(np.arange(len(self.table)), list(new))
        return find_candidates(self.table, self.greys, Settings(), is_new, folder)


def only_pair(*images: Image.Image) -> CandidatePair:
    pairs = list(Shelf(images).search())
    assert len(pairs) == 1
    return pairs[0]


def saved_again(image: Image.Image, quality: int) -> Image.Image:
    held = io.BytesIO()
    image.save(held, "JPEG", quality=quality)
    return Image.open(held).convert("RGB")


def cropped(image: Image.Image, area: float, across: float, down: float) -> Image.Image:
    side = area**0.5
    width, height = round(image.width * side), round(image.height * side)
    x, y = round((image.width - width) * across), round((image.height - height) * down)
    return image.crop((x, y, x + width, y + height))


def tilted(image: Image.Image, degrees: float) -> Image.Image:
    angle = np.radians(abs(degrees))
    width, height = image.size
    side = min(
        width / (width * np.cos(angle) + height * np.sin(angle)),
        height / (width * np.sin(angle) + height * np.cos(angle)),
    )
    x, y = width * (1 - side) / 2, height * (1 - side) / 2
    turned = image.rotate(degrees, Image.Resampling.BICUBIC)
    return turned.crop((round(x), round(y), round(width - x), round(height - y)))


def phone_screenshot(image: Image.Image) -> Image.Image:
    top, bottom = round(image.height * 0.08), round(image.height * 0.1)
    shot = Image.new("RGB", (image.width, image.height + top + bottom))
    shot.paste(image, (0, top))
    draw = ImageDraw.Draw(shot)
    draw.text((10, 4), "12:41", fill="white", font_size=max(9, top // 2))
    for icon in range(4):
        x, y = round(image.width * (icon + 0.5) / 4), image.height + top + bottom // 2
        draw.ellipse((x - 8, y - 8, x + 8, y + 8), outline="white", width=2)
    return shot


def retouched(image: Image.Image, other: Image.Image) -> Image.Image:
    found = image.copy()
    width, height = round(image.width * 0.39), round(image.height * 0.38)
    found.paste(other.resize((width, height)), (round(image.width * 0.3), round(image.height * 0.33)))
    return found


SAVED: dict[str, Callable[[Image.Image], Image.Image]] = {
    "quality 30": lambda image: saved_again(image, 30),
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "an eighth": lambda image: image.resize((image.width // 8, image.height // 8)),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.25),
    "flatter": lambda image: ImageEnhance.Contrast(image).enhance(0.7),
    "colourful": lambda image: ImageEnhance.Color(image).enhance(1.5),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(2.5)),
    "sharpened": lambda image: image.filter(ImageFilter.UnsharpMask(2, 160, 2)),
}
CUT: dict[str, Callable[[Image.Image], Image.Image]] = {
    "crop 5 %": lambda image: cropped(image, 0.95, 0.2, 1.0),
    "crop 10 %": lambda image: cropped(image, 0.9, 0.9, 0.3),
    "crop 20 %": lambda image: cropped(image, 0.8, 0.6, 0.1),
    "crop 30 %": lambda image: cropped(image, 0.7, 0.1, 0.8),
    "crop to half, wider": lambda image: image.crop(
        (0, image.height // 5, image.width * 4 // 5, image.height * 4 // 5)
    ),
    "tilt 1": lambda image: tilted(image, 1),
    "tilt 3": lambda image: tilted(image, -3),
    "tilt 5": lambda image: tilted(image, 5),
    "white border": lambda image: ImageOps.expand(image, round(min(image.size) * 0.1), "white"),
    "letterbox": lambda image: ImageOps.expand(image, (0, image.height // 10), "black"),
    "phone": phone_screenshot,
}
