"""How much of what was done to real photographs the index finds, and how many others it takes for candidates."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from dedup.records import Source
from tests.shelf import CUT, SAVED, Shelf, retouched

PHOTOS = Path(os.environ.get("DEDUP_PHOTOS") or Path(__file__).parents[2].parent / "shared" / "photos")
COUNT = 40

pytestmark = [
    pytest.mark.truth,
    pytest.mark.skipif(
        not (PHOTOS / "originals").is_dir(), reason="no collected photos; set DEDUP_PHOTOS to their folder"
    ),
]


def originals() -> list[Image.Image]:
    """Every sixth of the collected photos, reduced to 640 px."""
    shown = []
    for path in sorted((PHOTOS / "originals").rglob("*.jpg"))[::6][:COUNT]:
        with Image.open(path) as image:
            image.draft("RGB", (640, 640))
            upright = ImageOps.exif_transpose(image).convert("RGB")
        upright.thumbnail((640, 640))
        shown.append(upright)
    return shown


def test_copies_are_found_and_other_photos_are_not() -> None:
    photos = originals()
    edits = {**SAVED, **CUT}
    kinds, images = ["original"] * len(photos), list(photos)
    for name, edit in edits.items():
        kinds += [name] * len(photos)
        images += [edit(photo) for photo in photos]
    kinds += ["retouched"] * len(photos)
    images += [retouched(photo, photos[place - 1]) for place, photo in enumerate(photos)]
    shelf = Shelf(images)
    search = shelf.search()
    pairs = list(search)
    count = len(photos)
    ends = {(pair.left // 10 - 1, pair.right // 10 - 1) for pair in pairs}
    recall = {
        kind: sum((place, place + at) in ends for place in range(count)) / count
        for at, kind in ((at, kinds[at]) for at in range(count, len(images), count))
    }
    assert all(recall[name] == 1.0 for name in SAVED), recall
    # Measured on three libraries of 60 photos each: all of these at least 98 %.
    assert all(recall[name] >= 0.95 for name in CUT), recall
    assert recall["retouched"] >= 0.9, recall
    wrong = {pair for pair in ends if pair[0] % count != pair[1] % count}
    assert len(wrong) <= 0.1 * len(images), len(wrong)
    assert search.quality.recall >= 0.99
    assert {pair.source for pair in pairs} >= {Source.HASH, Source.WINDOW, Source.NEIGHBOUR}
