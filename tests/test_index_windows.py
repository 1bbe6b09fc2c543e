"""Windows of a picture by matrix products: what imagehash would say of the picture cut that way."""

from __future__ import annotations

import imagehash
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from dedup.index import likeness, windows

Pixels = NDArray[np.uint8]
NAMES = ("astronaut", "chelsea", "coffee", "rocket", "camera", "coins")


def grey(name: str) -> Image.Image:
    return Image.fromarray(np.asarray(getattr(data, name)())).convert("L")


def squashed(*images: Image.Image) -> Pixels:
    return np.stack([np.asarray(image.resize((64, 64), Image.Resampling.LANCZOS)) for image in images])


def word(hash_: imagehash.ImageHash) -> int:
    return int.from_bytes(np.packbits(hash_.hash).tobytes(), "big")


def aspects(*images: Image.Image) -> NDArray[np.float64]:
    return np.array([image.width / image.height for image in images])


@pytest.mark.parametrize("name", NAMES)
def test_an_upright_window_has_the_hash_of_the_picture_cut_there(name: str) -> None:
    image = grey(name)
    hashes = windows.window_hashes(squashed(image), aspects(image))[0]
    for number in range(0, len(windows.UPRIGHT), 7):
        x0, y0, x1, y1 = windows.UPRIGHT[number]
        box = tuple(
            round(part) for part in (x0 * image.width, y0 * image.height, x1 * image.width, y1 * image.height)
        )
        assert (int(hashes[number]) ^ word(imagehash.phash(image.crop(box)))).bit_count() <= 6


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("angle", windows.ANGLES)
def test_a_turned_window_has_the_hash_of_the_straightened_picture(name: str, angle: float) -> None:
    image = grey(name)
    number = len(windows.UPRIGHT) + windows.ANGLES.index(angle)
    x0, y0, x1, y1 = windows.window_of(np.array([number]), aspects(image))[0]
    box = (
        round(x0 * image.width),
        round(y0 * image.height),
        round(x1 * image.width),
        round(y1 * image.height),
    )
    straightened = image.rotate(angle, Image.Resampling.BICUBIC).crop(box)
    hashes = windows.window_hashes(squashed(image), aspects(image))[0]
    assert (int(hashes[number]) ^ word(imagehash.phash(straightened))).bit_count() <= 8
    extremes = (
        np.asarray(image.rotate(angle, fillcolor=255).crop(box)),
        np.asarray(image.rotate(angle).crop(box)),
    )
    assert (extremes[0] != extremes[1]).mean() < 0.001  # no empty corner is inside


def test_deep_windows_are_numbered_after_the_others() -> None:
    greys = squashed(*map(grey, NAMES))
    hashes = windows.deep_hashes(greys)
    numbers = np.arange(windows.WINDOW_COUNT, windows.WINDOW_COUNT + windows.DEEP_COUNT)
    boxes = windows.window_of(numbers, np.ones(len(numbers)))
    assert hashes.shape == (len(NAMES), windows.DEEP_COUNT)
    for at in range(0, len(numbers), 23):
        through = windows.hashes_through(greys, np.tile(boxes[at], (len(greys), 1)))
        assert (np.bitwise_count(through ^ hashes[:, at]) <= 2).all()


def test_the_first_window_is_the_whole() -> None:
    assert windows.UPRIGHT[0].tolist() == [0.0, 0.0, 1.0, 1.0]
    greys = squashed(*map(grey, NAMES))
    whole = np.tile(np.array(windows.WHOLE), (len(greys), 1))
    first = windows.window_hashes(greys, np.ones(len(greys)))[:, 0]
    assert (np.bitwise_count(first ^ windows.hashes_through(greys, whole)) <= 1).all()


def test_windows_of_many_pictures_are_those_of_each() -> None:
    images = [grey(name) for name in NAMES] * 60  # more than one batch
    greys, shapes = squashed(*images), aspects(*images)
    together = windows.window_hashes(greys, shapes)
    for place in (0, 5, 300):
        alone = windows.window_hashes(greys[place : place + 1], shapes[place : place + 1])[0]
        assert (
            np.bitwise_count(together[place] ^ alone) <= 2
        ).all()  # a product's rounding depends on its size


def test_hashing_no_pictures_gives_no_hashes() -> None:
    none = np.empty((0, 64, 64), np.uint8)
    assert windows.window_hashes(none, np.empty(0)).shape == (0, windows.WINDOW_COUNT)
    assert windows.hashes_through(none, np.empty((0, 4))).shape == (0,)


# ---- likeness


def test_likeness_is_the_same_in_every_orientation() -> None:
    greys = squashed(*map(grey, NAMES))
    operations = [None, *(Image.Transpose(number) for number in (0, 3, 1, 5, 4, 6, 2))]
    for orientation, operation in enumerate(operations):
        turned = np.stack(
            [
                np.asarray(image if operation is None else image.transpose(operation))
                for image in map(Image.fromarray, greys)
            ]
        )
        assert (likeness.reorient_greys(greys, np.full(len(greys), orientation)) == turned).all()


def test_a_brighter_and_flatter_picture_is_wholly_alike_and_others_are_not() -> None:
    greys = squashed(*map(grey, NAMES))
    toned = (greys * 0.7 + 40).astype(np.uint8)
    found = np.einsum("nuv,muv->nm", likeness.signatures(greys), likeness.signatures(toned))
    assert np.diag(found).min() > 0.99
    assert found[~np.eye(len(NAMES), dtype=bool)].max() < 0.5


def test_a_picture_of_one_colour_is_like_nothing() -> None:
    flat = np.full((2, 64, 64), 200, np.uint8)
    assert not likeness.signatures(flat).any()
    assert likeness.agreeing_share(flat, flat).tolist() == [0.0, 0.0]


def test_tiles_agree_where_nothing_was_changed() -> None:
    greys = squashed(*map(grey, NAMES))
    assert likeness.agreeing_share(greys, greys).min() > 0.9
    changed = greys.copy()
    changed[:, 8:40, 16:48] = np.roll(greys, 1, axis=0)[:, 8:40, 16:48]
    share = likeness.agreeing_share(greys, changed)
    assert (share > 0.55).all()
    assert (share < 0.9).all()
    assert likeness.agreeing_share(greys, np.roll(greys, 1, axis=0)).max() < 0.3
