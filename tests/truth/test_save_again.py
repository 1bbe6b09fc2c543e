"""A JPEG and its re-save by Pillow are the same picture at every quality from 30 to 95; another photo never is.

The case of the second thread: the histograms of the two were 58.98 apart. Needs a folder of photographs, as
`test_relations` does.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from PIL import Image

from dedup.pipeline import compare_files
from dedup.records import Asked
from tests.pictures import jpeg

PHOTOS = (
    Path(os.environ.get("DEDUP_PHOTOS") or Path(__file__).parents[2].parent / "shared" / "photos")
    / "originals"
)
ORIGINALS = 20
QUALITIES = tuple(range(30, 96, 5))

pytestmark = [
    pytest.mark.truth,
    pytest.mark.skipif(not PHOTOS.is_dir(), reason="no photos; set DEDUP_PHOTOS to their folder"),
]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """JPEGs at quality 92, at most 800 px long, spread over the folder."""
    folder = tmp_path_factory.mktemp("originals")
    found = sorted(path for path in PHOTOS.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    made = []
    for path in found[:: max(1, len(found) // ORIGINALS)][:ORIGINALS]:
        with Image.open(path) as image:
            reduced = image.convert("RGB")
        reduced.thumbnail((800, 800))
        made.append(folder / f"{path.stem}.jpg")
        made[-1].write_bytes(jpeg(reduced, 92))
    assert len(made) == ORIGINALS
    return made


def test_a_photo_that_was_saved_again_is_the_same_picture(originals: list[Path], tmp_path: Path) -> None:
    again = tmp_path / "again.jpg"
    wrong = []
    for path in originals:
        for quality in QUALITIES:
            with Image.open(path) as image:
                again.write_bytes(jpeg(image, quality))
            found = compare_files(str(path), str(again), Asked(()))
            if not found.is_same:
                wrong.append((path.name, quality, found.verdict))
    assert wrong == []


def test_another_photo_is_never_the_same(originals: list[Path]) -> None:
    wrong = []
    for one, other in itertools.combinations(originals, 2):
        found = compare_files(str(one), str(other), Asked(()))
        if found.is_same:
            wrong.append((one.name, other.name, found.verdict))
    assert wrong == []
