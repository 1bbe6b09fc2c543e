"""A small library in which every kind of pair stands: the photos on which the campaign is run.

Drawn from a seed; every file is a real photo of a few kilobytes. Two roots on one file system, and a folder outside
them that nobody may touch.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

BASE_NS = 1_500_000_000_000_000_000

ODD_NAMES = (
    b"plain.jpg",
    b"with space.jpg",
    b'quote\'s "double".jpg',
    b"-rf.jpg",
    b"not utf8 \xff\xfe.jpg",
    b"new\nline.jpg",
    b"e\xcc\x81t\xc3\xa9.jpg",  # one letter decomposed, one composed
    b"\xe2\x80\xae right to left.jpg",
    b"long " + b"n" * 240 + b".jpg",
    b"$HOME.jpg",
    b"*.jpg",
)


@dataclass(frozen=True, slots=True)
class Library:
    """Where everything is."""

    home: Path

    @property
    def roots(self) -> tuple[Path, Path]:
        return self.home / "photos", self.home / "backup"

    @property
    def outside(self) -> Path:
        return self.home / "outside"

    @property
    def state(self) -> Path:
        return self.home / "state"

    @property
    def catalogue(self) -> Path:
        return self.home / "catalogue.db"

    def plan(self, name: str) -> Path:
        return self.home / f"{name}.plan"


def draw_photo(seed: int, width: int = 96, height: int = 72) -> Image.Image:
    """Soft shapes with fine grain, unlike any other seed's."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    soft = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    return Image.fromarray((soft + random.integers(-12, 13, soft.shape)).clip(0, 255).astype(np.uint8))


def as_jpeg(image: Image.Image, quality: int = 88, comment: bytes = b"") -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality, **({"comment": comment} if comment else {}))
    return stream.getvalue()


def draw_library(home: Path, pairs: int = 40, *, others: bool = True, pictures: bool = True) -> Library:
    """Fill `home`.

    Parameters
    ----------
    pairs
        Duplicates of the same bytes, about; spread over folders, roots, odd names, modes and owners.
    others
        Whether there are also units and link sets.
    pictures
        Whether there are, besides, copies of other relations (same pixels, same picture), which are compared again
        when they are acted on.
    """
    library = Library(home)
    photos, backup = library.roots
    deep = photos / "2020" / "deep" / "er"
    for folder in (photos / "2019", deep, photos / "empty", backup / "phone", library.outside):
        folder.mkdir(parents=True, exist_ok=True)
    library.state.mkdir(exist_ok=True)
    _write(library.outside / "precious.jpg", as_jpeg(draw_photo(9_999)), 9_999)
    places = (photos / "2019", deep, backup / "phone", backup)
    count = seed = 0
    while count < pairs:
        seed += 1
        content = as_jpeg(draw_photo(seed))
        original = photos / "2019" / f"IMG_{seed:04}.jpg"
        _write(original, content, seed)
        for copy in range(min(1 + (seed % 4 == 0) * 2, pairs - count)):
            name = ODD_NAMES[count] if count < len(ODD_NAMES) else f"copy {seed} {copy}.jpg".encode()
            twin = Path(
                os.fsdecode(os.path.join(os.fsencode(places[(seed + copy) % len(places)]), b"c" + name))
            )
            _write(twin, content, seed + copy * 1000)
            _dress(seed, original, twin)
            count += 1
    for number in range(6):  # strangers
        _write(photos / "2020" / f"alone {number}.jpg", as_jpeg(draw_photo(5_000 + number)), number)
    (photos / "notes.txt").write_text("not a photo\n", "ascii")
    (photos / "2020" / "dangling.jpg").symlink_to("nowhere.jpg")
    (photos / "2020" / "way out.jpg").symlink_to(library.outside / "precious.jpg")
    (photos / "2020" / "way out").symlink_to(library.outside)
    os.mkfifo(photos / "2020" / "pipe.jpg")
    if others:
        _draw_others(library)
    if others and pictures:
        _draw_pictures(library)
    _draw_decoys(library)
    return library


def _draw_pictures(library: Library) -> None:
    photos, backup = library.roots
    for number in range(2):  # the same pixels in other bytes: a comment more
        image = draw_photo(6_000 + number, 160, 120)
        _write(photos / "2019" / f"pixels {number}.jpg", as_jpeg(image, comment=b"x" * 40), number)
        _write(backup / f"pixels {number} copy.jpg", as_jpeg(image), number)
    for number in range(2):  # the same picture, saved again
        image = draw_photo(6_100 + number, 480, 360)
        _write(photos / "2019" / f"picture {number}.jpg", as_jpeg(image, 92), number)
        _write(backup / f"picture {number} saved again.jpg", as_jpeg(image, 80), number)


def _draw_others(library: Library) -> None:
    photos, backup = library.roots
    for number in range(2):  # units: the sidecar goes with its photo
        content = as_jpeg(draw_photo(6_200 + number))
        for folder in (photos / "2019", backup):
            _write(folder / f"unit {number}.jpg", content, number)
            _write(folder / f"unit {number}.xmp", f"<x:xmpmeta>{number}</x:xmpmeta>".encode(), number)
    linked = photos / "2020" / "linked.jpg"
    _write(linked, as_jpeg(draw_photo(6_300)), 1)
    os.link(linked, photos / "2020" / "linked too.jpg")


def _draw_decoys(library: Library) -> None:
    """Outside lie files of all names that lie inside: who follows a folder that was swapped would take them."""
    decoys = os.fsencode(library.outside / "decoy")
    os.mkdir(decoys)
    names = {name for root in library.roots for _, _, files in os.walk(os.fsencode(root)) for name in files}
    for name in sorted(names):
        os.link(library.outside / "precious.jpg", os.path.join(decoys, name))


def _dress(seed: int, *paths: Path) -> None:
    """Modes, owners and attributes, the same for an original and its copies, which so may be linked."""
    for path in paths:
        if seed % 3 == 0:
            os.chmod(path, 0o600)
        if seed % 5 == 0 and os.geteuid() == 0:
            os.chown(path, 1000, 1000)
        if seed % 7 == 0:
            try:
                os.setxattr(path, "user.label", b"holiday")
            except OSError:
                return


def _write(path: Path, content: bytes, seed: int) -> None:
    path.write_bytes(content)
    os.chmod(path, 0o644)
    when = BASE_NS + seed * 86_400_000_000_123
    os.utime(path, ns=(when, when))
