"""A library with something for every search: saved again, cut, framed, turned, flat, equal, broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from tests.pictures import as_image, cropped, jpeg, real_photo, scaled

REAL = ("astronaut", "chelsea", "coffee", "rocket", "camera", "coins", "moon", "text")


def fill_richly(folder: Path, longer_px: int = 320) -> int:
    """Write the library; the number of its files."""
    rng = np.random.default_rng(5)
    for name in REAL:
        image = real_photo(name, longer_px)
        versions = {
            f"{name}.jpg": jpeg(image, 95),
            f"saved/{name} again.jpg": jpeg(image, 60),
            f"saved/{name} small.jpg": jpeg(scaled(image, 0.55), 85),
            f"cut/{name}.jpg": jpeg(cropped(image, 0.08, 0.1, 0.97, 0.94), 92),
            f"cut/{name} tilted.jpg": jpeg(
                cropped(image.rotate(3, Image.Resampling.BICUBIC), 0.1, 0.1, 0.9, 0.9), 92
            ),
            f"framed/{name}.jpg": jpeg(ImageOps.expand(image, 24, "white"), 92),
            f"turned/{name}.jpg": jpeg(image.transpose(Image.Transpose.ROTATE_90), 92),
            f"turned/{name} mirrored.jpg": jpeg(ImageOps.mirror(image), 92),
        }
        for path, content in versions.items():
            _write(folder / path, content)
        _write(folder / "copies" / f"{name}.jpg", versions[f"{name}.jpg"])
    for number in range(12):  # one picture, twelve files: equal fingerprints, other bytes
        _write(
            folder / "equal" / f"{number:02}.jpg",
            jpeg(real_photo("coffee", longer_px), 90, comment=b"%d" % number),
        )
    for number in range(30):  # night frames, and copies of some
        level = 4 + 2 * (number % 3)
        frame = as_image(rng.normal(level, 1.5, (160, 240, 3)))
        _write(folder / "night" / f"{number:02}.jpg", jpeg(frame, 92))
        if not number % 5:
            _write(folder / "night" / f"{number:02} again.jpg", jpeg(frame, 80))
    _write(folder / "broken.jpg", jpeg(real_photo("coffee", 300))[:400])
    _write(folder / "notes.txt", b"no photo")
    _write(folder / "coffee.xmp", b"<x/>")
    return sum(1 for path in folder.rglob("*") if path.is_file())


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
