"""Libraries to measure on: camera-sized JPEGs cut from real photos, and very many tiny ones.

The same folder of photos and the same numbers give the same bytes, so a library is made once and kept.
"""

from __future__ import annotations

import os
import random
import shutil
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops

SEED = 20261120
MEGAPIXELS = (2, 3, 4, 5, 6, 8, 10, 12)
SHAPES = ((4, 3), (3, 2), (16, 9), (3, 4), (2, 3))
LEAST_TILES, MOST_TILES = 3, 6
"""A photo is cut into 3 x 3 pieces that do not overlap (6 x 6 where there are few photos), and each piece is enlarged:
nine pictures of one photo."""
GRAIN_LEVELS = 4.0
"""Noise that is added after enlarging; brings a 12 MP file to the 3 MB that a camera writes."""
SHEET_PX, GREY = 512, 128
COPIES = ("exact", "q75", "resized")
MIN_SIDE_PX = 600
"""Shorter side of a photo that is worth cutting up."""
TINY_PX = 64


@dataclass(frozen=True, slots=True)
class Library:
    """A folder of camera-sized JPEGs, `photos` and the planted `copies` of a third of them."""

    root: Path

    @property
    def photos(self) -> Path:
        """Pictures without a copy among them."""
        return self.root / "photos"

    def files(self) -> list[Path]:
        """All of them, copies too."""
        return sorted(self.root.rglob("*.jpg"))


@dataclass(frozen=True, slots=True)
class _Piece:
    """One picture to make."""

    source: str
    tile: int
    tiles: int
    """The photo is cut into this many rows and columns."""
    number: int
    folder: str
    copy: str


def make_library(photos: Path, folder: Path, count: int) -> Library:
    """`count` files in all, a quarter of which are copies, so that a third of the others has one.

    Raises
    ------
    SystemExit
        If the folder does not hold enough photos.
    """
    library = Library(folder / f"library-{count}")
    complete = folder / f"library-{count}.complete"
    if complete.exists():
        return library
    shutil.rmtree(library.root, ignore_errors=True)
    sources = sorted(str(path) for path in photos.rglob("*") if _is_useful(path))
    bases = count - count // 4
    tiles = next((n for n in range(LEAST_TILES, MOST_TILES) if n * n * len(sources) >= bases), MOST_TILES)
    pieces = [(source, tile) for tile in range(tiles * tiles) for source in sources][:bases]
    if len(pieces) < bases:
        raise SystemExit(
            f"{photos}: {len(sources)} photos are enough for {len(pieces)} files, not for {bases}"
        )
    (library.root / "photos").mkdir(parents=True)
    (library.root / "copies").mkdir()
    print(f"making {count} photos of 2 to 12 megapixels from {len(sources)} real ones, once ...")
    with ProcessPoolExecutor() as pool:
        jobs = [
            _Piece(
                source,
                tile,
                tiles,
                number,
                str(library.root),
                COPIES[number // 3 % 3] if number % 3 == 0 else "",
            )
            for number, (source, tile) in enumerate(pieces)
        ]
        for _ in pool.map(_make_piece, jobs, chunksize=4):
            pass
    complete.touch()
    return library


def _is_useful(path: Path) -> bool:
    if path.suffix.lower() not in (".jpg", ".jpeg", ".png", ".tif", ".tiff") or not path.is_file():
        return False
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            if min(image.size) < MIN_SIDE_PX:
                return False
            image.load()  # any folder may hold a photo that is cut off; it is no photo to measure on
            return True
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def _make_piece(piece: _Piece) -> None:
    chance = random.Random(f"{SEED} {piece.number}")
    with Image.open(piece.source) as opened:
        image = opened.convert("RGB")
    row, column = divmod(piece.tile, piece.tiles)
    wide, high = image.width // piece.tiles, image.height // piece.tiles
    image = image.crop((column * wide, row * high, (column + 1) * wide, (row + 1) * high))
    across, down = chance.choice(SHAPES)
    unit = (chance.choice(MEGAPIXELS) * 1e6 / (across * down)) ** 0.5
    image = image.resize((round(unit * across), round(unit * down)), Image.Resampling.BICUBIC)
    image = ImageChops.add(image, _grain(image.size, piece.number), 1, -GREY)
    original = f"{piece.folder}/photos/IMG_{piece.number:05}.jpg"
    image.save(original, quality=chance.choice((88, 90, 92, 95)), subsampling=chance.choice((0, 2)))
    copy = f"{piece.folder}/copies/IMG_{piece.number:05}_{piece.copy}.jpg"
    with Image.open(original) as stored:
        if piece.copy == "exact":
            shutil.copyfile(original, copy)
        elif piece.copy == "q75":
            stored.save(copy, quality=75)
        elif piece.copy == "resized":
            share = chance.choice((0.5, 0.6, 0.75))
            size = (round(stored.width * share), round(stored.height * share))
            stored.resize(size, Image.Resampling.LANCZOS).save(copy, quality=90)


def _grain(size: tuple[int, int], seed: int) -> Image.Image:
    """Noise around grey: one small sheet, laid out turned and mirrored, since a sheet of 12 MP takes half a second."""
    chance = np.random.default_rng(seed)
    drawn = np.clip(chance.normal(GREY, GRAIN_LEVELS, (SHEET_PX, SHEET_PX)).round(), 0, 255)
    sheet = Image.fromarray(drawn.astype(np.uint8))
    grain = Image.new("L", size)
    turns = tuple(Image.Transpose)
    for x in range(0, size[0], SHEET_PX):
        for y in range(0, size[1], SHEET_PX):
            grain.paste(sheet.transpose(turns[chance.integers(len(turns))]), (x, y))
    return Image.merge("RGB", (grain, grain, grain))


def make_tiny(folder: Path, count: int) -> Path:
    """Very many different JPEGs of 64 x 64 pixels, 1,000 to a folder: what matters is their number."""
    root = folder / f"tiny-{count}"
    complete = folder / f"tiny-{count}.complete"
    if complete.exists():
        return root
    shutil.rmtree(root, ignore_errors=True)
    print(f"making {count:,} tiny photos, once ...")
    with ProcessPoolExecutor() as pool:
        list(
            pool.map(
                _make_tiny, [(str(root), start, min(start + 1000, count)) for start in range(0, count, 1000)]
            )
        )
    complete.touch()
    return root


def _make_tiny(job: tuple[str, int, int]) -> None:
    root, start, end = job
    folder = f"{root}/{start // 1000:04}"
    os.makedirs(folder)
    chance = np.random.default_rng(start)
    for number in range(start, end):
        coarse = Image.fromarray(chance.integers(0, 256, (8, 8, 3), np.uint8))
        coarse.resize((TINY_PX, TINY_PX), Image.Resampling.BICUBIC).save(
            f"{folder}/{number:07}.jpg", quality=85
        )


def walk(root: Path) -> Iterator[os.stat_result]:
    """`os.scandir` and `stat` over a tree and nothing else: the least that any rescan must do."""
    folders = [str(root)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    yield entry.stat(follow_symlinks=False)
