"""Fingerprints: what imagehash gives, stable where it should be, honest where a hash means little."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import imagehash
import numpy as np
import PIL
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from skimage import data

from dedup import decode, fingerprint
from dedup.decode import Picture
from dedup.records import Photo, PhotoFile, Reason, Skipped
from dedup.settings import LOW_TEXTURE_LEVELS

Pixels = NDArray[np.uint8]

TURNS = (
    None,
    Image.Transpose.FLIP_LEFT_RIGHT,
    Image.Transpose.ROTATE_180,
    Image.Transpose.FLIP_TOP_BOTTOM,
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
)
"""What `ImageOps.exif_transpose` does for orientation 1 to 8."""

PHOTOS = (
    "astronaut",
    "cat",
    "chelsea",
    "coffee",
    "rocket",
    "camera",
    "coins",
    "page",
    "clock",
    "immunohistochemistry",
)


def photo(name: str) -> Pixels:
    picture = np.asarray(getattr(data, name)())
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    return np.ascontiguousarray(picture[..., :3])


def as_photo(pixels: NDArray[np.float64]) -> Pixels:
    return np.ascontiguousarray(pixels.clip(0, 255).astype(np.uint8))


def flats() -> Iterator[Pixels]:
    """Pictures on which many coefficients are equal but for rounding: where a shortcut would show."""
    random = np.random.default_rng(5)
    for level in (0, 1, 37, 128, 254, 255):
        yield np.full((150, 200, 3), level, dtype=np.uint8)
    for height, width in ((64, 64), (1, 1), (1, 900), (700, 2), (33, 129), (480, 640)):
        yield random.integers(0, 256, (1, 1, 3), dtype=np.uint8).repeat(height, 0).repeat(width, 1)
        yield as_photo(np.linspace(0, 255, width)[None, :, None] * np.ones((height, 1, 3)))
        yield as_photo(np.linspace(200, 60, height)[:, None, None] * np.ones((1, width, 3)))
        yield as_photo(random.normal(6, 3, (height, width, 3)))
    board = np.indices((240, 320)).sum(axis=0) // 40 % 2 * 255.0
    yield as_photo(board[..., None] * np.ones(3))
    page = Image.new("RGB", (300, 400), "white")
    ImageDraw.Draw(page).text((40, 60), "one line on an empty page", fill="black")
    yield np.asarray(page)


def every_picture() -> list[Pixels]:
    return [photo(name) for name in PHOTOS] + list(flats())


@pytest.mark.parametrize("number", range(len(every_picture())))
def test_hashes_are_those_of_imagehash_in_all_eight_orientations(number: int) -> None:
    picture = every_picture()[number]
    print_ = fingerprint.fingerprint_pixels(picture)
    reduced = fingerprint.reduce_picture(picture)
    for turn, operation in enumerate(TURNS):
        seen = reduced if operation is None else reduced.transpose(operation)
        narrow, wide = imagehash.phash(seen, hash_size=8), imagehash.phash(seen, hash_size=16)
        assert print_.phash64[8 * turn : 8 * turn + 8] == np.packbits(narrow.hash).tobytes(), turn
        assert print_.phash256[32 * turn : 32 * turn + 32] == np.packbits(wide.hash).tobytes(), turn
    assert print_.dhash64 == np.packbits(imagehash.dhash(reduced).hash).tobytes()


def test_the_stored_grey_gives_the_stored_hashes() -> None:
    print_ = fingerprint.fingerprint_pixels(photo("coffee"))
    grey = Image.fromarray(np.frombuffer(print_.grey, np.uint8).reshape(64, 64))
    assert np.packbits(imagehash.phash(grey, 16).hash).tobytes() == print_.phash256[:32]
    assert np.packbits(imagehash.phash(grey, 8).hash).tobytes() == print_.phash64[:8]


def bits(a: bytes, b: bytes) -> int:
    return int(np.bitwise_count(np.frombuffer(a, np.uint8) ^ np.frombuffer(b, np.uint8)).sum())


@pytest.mark.parametrize("name", ("astronaut", "chelsea", "coffee", "rocket", "camera", "coins"))
def test_hashes_stay_close_to_imagehash_on_the_full_picture(name: str) -> None:
    print_ = fingerprint.fingerprint_pixels(photo(name))
    full = imagehash.phash(Image.fromarray(photo(name)))
    assert bits(print_.phash64[:8], np.packbits(full.hash).tobytes()) <= 4


@pytest.mark.parametrize("name", ("astronaut", "chelsea", "coffee", "rocket"))
@pytest.mark.parametrize("turn", range(8))
def test_a_turned_picture_has_the_hash_that_was_foreseen(name: str, turn: int) -> None:
    operation = TURNS[turn]
    picture = Image.fromarray(photo(name))
    turned = picture if operation is None else picture.transpose(operation)
    foreseen = fingerprint.fingerprint_pixels(photo(name)).phash64[8 * turn : 8 * turn + 8]
    assert bits(foreseen, fingerprint.fingerprint_pixels(np.ascontiguousarray(turned)).phash64[:8]) <= 4


def test_texture_tells_flat_pictures_from_photos() -> None:
    random = np.random.default_rng(1)
    slope = np.add.outer(np.linspace(0, 90, 300), np.linspace(0, 160, 400))
    for flat in (
        np.full((300, 400, 3), 90.0),
        slope[..., None] * np.ones(3),
        random.normal(8, 4, (300, 400, 3)),
    ):
        assert fingerprint.fingerprint_pixels(as_photo(flat)).texture < LOW_TEXTURE_LEVELS / 2
    for name in PHOTOS:
        assert fingerprint.fingerprint_pixels(photo(name)).texture > LOW_TEXTURE_LEVELS


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_every_colour_has_a_bin(red: int, green: int, blue: int) -> None:
    assert (
        0
        <= fingerprint.colour_bin(np.array([[red, green, blue]], dtype=np.uint8))[0]
        < fingerprint.HISTOGRAM_BINS
    )


def test_every_bin_is_reached_and_the_hue_circle_closes_inside_red() -> None:
    steps = np.arange(0, 256, 3, dtype=np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1)
    assert set(np.unique(fingerprint.colour_bin(cube))) == set(range(fingerprint.HISTOGRAM_BINS))
    reds = np.array([[230, 0, 0], [230, 30, 0], [230, 0, 30]], dtype=np.uint8)
    assert len(set(fingerprint.colour_bin(reds).tolist())) == 1
    assert fingerprint.colour_bin(np.array([[0, 0, 255]], np.uint8)) != fingerprint.colour_bin(
        np.array([[0, 0, 0]], np.uint8)
    )


@pytest.mark.parametrize("value", range(0, 256, 15))
def test_no_saturation_is_left_out(value: int) -> None:
    blue = np.zeros((40, 40, 3), dtype=np.uint8)
    blue[..., 2], blue[..., 0], blue[..., 1] = 255, 255 - value, 255 - value
    histogram = fingerprint.colour_histogram(blue).astype(float) / 255
    assert np.square(histogram).sum() == pytest.approx(1.0, abs=0.01)


def test_histogram_hardly_moves_when_a_photo_is_saved_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("saved") / "again.jpg"
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        Image.fromarray(photo(name)).save(path, quality=70)
        with Image.open(path) as again:
            saved = fingerprint.fingerprint_pixels(np.asarray(again.convert("RGB")))
        a = np.frombuffer(saved.histogram, np.uint8).astype(float)
        b = np.frombuffer(fingerprint.fingerprint_pixels(photo(name)).histogram, np.uint8).astype(float)
        assert np.linalg.norm(a - b) < 255 * 0.12


def with_border(picture: Pixels, top: int, right: int, bottom: int, left: int, colour: int) -> Pixels:
    padding = ((top, bottom), (left, right), (0, 0))
    return np.pad(picture, padding, constant_values=colour)


def test_borders_are_found_to_the_pixel() -> None:
    for name in ("astronaut", "chelsea", "coffee"):
        picture = photo(name)
        height, width = picture.shape[:2]
        framed = with_border(picture, 30, 20, 40, 10, 255)
        x0, y0, x1, y1 = fingerprint.find_trim(framed)
        assert (x0 * (width + 30), y0 * (height + 70)) == pytest.approx((10, 30), abs=1)
        assert (x1 * (width + 30), y1 * (height + 70)) == pytest.approx((width + 10, height + 30), abs=1)


def test_bars_of_a_phone_with_signs_in_them_are_a_border() -> None:
    picture = photo("coffee")
    height, width = picture.shape[:2]
    shot = Image.fromarray(with_border(picture, 40, 0, 50, 0, 0))
    draw = ImageDraw.Draw(shot)
    draw.text((20, 10), "12:41", fill="white", font_size=20)
    for icon in range(4):
        x = width * (icon + 0.5) / 4
        draw.ellipse((x - 12, height + 53, x + 12, height + 77), outline="white", width=2)
    x0, y0, x1, y1 = fingerprint.find_trim(np.asarray(shot))
    assert (x0, x1) == (0.0, 1.0)
    assert (y0 * (height + 90), y1 * (height + 90)) == pytest.approx((40, height + 40), abs=1)


def test_a_photo_without_border_and_an_empty_page_are_left_whole() -> None:
    for name in ("chelsea", "coffee", "immunohistochemistry"):
        assert fingerprint.find_trim(photo(name)) == fingerprint.WHOLE
    assert fingerprint.find_trim(np.full((90, 120, 3), 255, np.uint8)) == fingerprint.WHOLE
    assert fingerprint.find_trim(np.zeros((1, 1, 3), np.uint8)) == fingerprint.WHOLE


def test_sizes_of_all_features_are_as_documented() -> None:
    print_ = fingerprint.fingerprint_pixels(np.zeros((3, 5, 3), np.uint8))
    lengths = [len(x) for x in (print_.phash64, print_.phash256, print_.dhash64, print_.grey, print_.colour)]
    assert lengths == [64, 256, 8, 64 * 64, 8 * 8 * 3]
    assert len(print_.histogram) == fingerprint.HISTOGRAM_BINS


def test_the_recipe_names_the_versions_that_decide_bits() -> None:
    assert PIL.__version__ in fingerprint.RECIPE
    assert imagehash.__version__ in fingerprint.RECIPE


# ---- files


def listed(path: Path) -> PhotoFile:
    s = os.lstat(path)
    return PhotoFile(str(path), s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_dev, s.st_ino, s.st_nlink)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "coffee.jpg"
    Image.fromarray(photo("coffee")).save(path, quality=90)
    return path


def test_a_file_gives_its_digest_its_facts_and_its_fingerprint(saved: Path) -> None:
    result = fingerprint.fingerprint_photo(listed(saved))
    assert isinstance(result, Photo)
    assert result.digest == hashlib.sha256(saved.read_bytes()).digest()
    assert (result.info.format, result.info.width_px, result.info.height_px) == ("JPEG", 600, 400)
    assert (
        bits(result.fingerprint.phash64[:8], fingerprint.fingerprint_pixels(photo("coffee")).phash64[:8]) <= 2
    )
    assert (result.id, result.file) == (0, listed(saved))


def test_a_file_too_large_to_hold_is_streamed_with_the_same_result(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = fingerprint.fingerprint_photo(listed(saved))
    monkeypatch.setattr(fingerprint, "MAX_HELD_BYTES", 100)
    assert fingerprint.fingerprint_photo(listed(saved)) == held


def test_a_file_that_is_not_the_one_listed_is_skipped(saved: Path) -> None:
    seen = listed(saved)
    for stale in (replace(seen, size_bytes=seen.size_bytes - 1), replace(seen, mtime_ns=seen.mtime_ns - 1)):
        result = fingerprint.fingerprint_photo(stale)
        assert isinstance(result, Skipped)
        assert result.reason is Reason.CHANGED


def test_a_file_written_to_while_it_is_read_is_skipped(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_reduced: Callable[[bytes, str, int], Picture] = decode.read_reduced

    def slow_decoder(source: bytes, name: str, min_side_px: int, **limits: int) -> Picture:
        with saved.open("ab") as handle:
            handle.write(b"more")
        return read_reduced(source, name, min_side_px)

    monkeypatch.setattr(decode, "read_reduced", slow_decoder)
    result = fingerprint.fingerprint_photo(listed(saved))
    assert isinstance(result, Skipped)
    assert result.reason is Reason.CHANGED


def test_links_pipes_folders_and_lost_files_are_skipped_at_once(saved: Path, tmp_path: Path) -> None:
    link, pipe = tmp_path / "link.jpg", tmp_path / "pipe.jpg"
    link.symlink_to(saved)
    os.mkfifo(pipe)
    for path in (link, pipe, tmp_path):
        assert isinstance(fingerprint.fingerprint_photo(listed(path)), Skipped)
    lost = listed(saved)
    saved.unlink()
    result = fingerprint.fingerprint_photo(lost)
    assert isinstance(result, Skipped)
    assert result.reason is Reason.CHANGED


def test_a_file_that_is_no_picture_says_why(tmp_path: Path) -> None:
    path = tmp_path / "noise.jpg"
    path.write_bytes(b"\xff\xd8\xff" + bytes(500))
    result = fingerprint.fingerprint_photo(listed(path))
    assert isinstance(result, Skipped)
    assert result.reason.is_trouble or result.reason is Reason.NOT_A_PHOTO
    assert result.detail


def test_the_dct_taken_by_itself_is_scipys_bit_for_bit() -> None:
    code = (
        "import sys, numpy as np; from dedup import fingerprint; dct = fingerprint._dct();"
        "alone = 'scipy.fft' not in sys.modules; from scipy import fft;"
        "chance = np.random.default_rng(1);"
        "many = [chance.integers(0, 256, (8, 64, 64)).astype(float), np.full((8, 64, 64), 77.0),"
        " np.linspace(0, 255, 64)[None, None].repeat(8, 0).repeat(64, 1), chance.random((2, 32, 32))];"
        "print(alone, all(np.array_equal(dct(a, x), fft.dct(a, axis=x)) for a in many for x in (1, 2)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[1] == "True"
    assert done.stdout.split()[0] == "True", "scipy.fft was imported; see whether its module has moved"


def test_without_the_module_by_itself_scipy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.arange(64.0 * 64).reshape(1, 64, 64)
    expected = fingerprint._dct()(picture, 1)
    fingerprint._dct.cache_clear()
    monkeypatch.setattr(fingerprint, "find_spec", lambda name: None)
    assert np.array_equal(fingerprint._dct()(picture, 1), expected)
    fingerprint._dct.cache_clear()


def test_the_first_pictures_are_binned_as_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(3)
    for picture in (chance.integers(0, 256, (64, 64, 3), np.uint8), np.full((64, 64, 3), 255, np.uint8)):
        monkeypatch.setattr(fingerprint, "FEW_PICTURES", 10**9)
        first = fingerprint.colour_histogram(picture)
        monkeypatch.setattr(fingerprint, "FEW_PICTURES", 0)
        assert np.array_equal(first, fingerprint.colour_histogram(picture))
