"""The collected photos: one picture in every format, files as found in the wild, and everything broken."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from dedup.decode import BadPicture, FullPicture, Picture, jpeg, read_full, read_reduced
from dedup.decode.progressive import without_luma_detail
from dedup.records import Reason

ROOT = Path(__file__).parents[2]
PHOTOS = Path(os.environ.get("DEDUP_PHOTOS") or ROOT.parent / "shared" / "photos")

pytestmark = [
    pytest.mark.truth,
    pytest.mark.skipif(
        not (PHOTOS / "formats").is_dir(), reason="no collected photos; set DEDUP_PHOTOS to their folder"
    ),
]

Array = np.ndarray[Any, Any]

NEEDS_EXTRA = {
    ".jxl": ("pillow_jxl", "install photo-dedup[jxl]"),
    ".dng": ("rawpy", "install photo-dedup[raw]"),
}
UNSUPPORTED = {"plum_alpha.avif"}
"""Refused by libavif's strict parser, and so by Pillow."""


def rows_of(table: str) -> Iterator[dict[str, str]]:
    path = PHOTOS / table
    if path.is_file():
        with path.open(newline="") as lines:
            yield from csv.DictReader(lines)


FORMATS = [row["path"] for row in rows_of("formats/formats.csv")]
SAME = [row["path"] for row in rows_of("formats/formats.csv") if row["group"] == "G_same"]
BROKEN = {row["path"]: row for row in rows_of("broken/broken.csv")}


def full(path: str) -> FullPicture:
    return read_full((PHOTOS / path).read_bytes(), path)


def reduced(path: str) -> Picture:
    return read_reduced((PHOTOS / path).read_bytes(), path, 128)


def has_extra(path: str) -> bool:
    module, _ = NEEDS_EXTRA.get(Path(path).suffix, ("", ""))
    try:
        return not module or bool(__import__(module))
    except ImportError:
        return False


@pytest.mark.parametrize("path", FORMATS)
def test_every_format_is_read_or_its_reason_is_named(path: str) -> None:
    if not has_extra(path):
        with pytest.raises(BadPicture) as missing:
            full(path)
        assert missing.value.reason is Reason.MISSING_EXTRA
        assert missing.value.detail == NEEDS_EXTRA[Path(path).suffix][1]
        return
    if Path(path).name in UNSUPPORTED:
        with pytest.raises(BadPicture) as refused:
            full(path)
        assert refused.value.reason is Reason.UNREADABLE
        return
    picture, small = full(path), reduced(path)
    assert picture.info.damage == "" == small.info.damage
    assert picture.rgb.shape == (picture.info.height_px, picture.info.width_px, 3)
    assert (small.info.width_px, small.info.height_px) == (picture.info.width_px, picture.info.height_px)
    # The two ways of reading show the same picture.
    coarse = [
        Image.fromarray(rgb).resize((24, 24), Image.Resampling.HAMMING) for rgb in (picture.rgb, small.rgb)
    ]
    assert np.abs(np.asarray(coarse[0]).astype(int) - np.asarray(coarse[1])).mean() < 2


@pytest.mark.parametrize("path", SAME)
def test_one_picture_in_every_format_is_the_same_picture(path: str) -> None:
    if not has_extra(path):
        pytest.skip(NEEDS_EXTRA[Path(path).suffix][1])
    original = full("formats/same_photo/rgb8.png").rgb.astype(float)
    picture = full(path)
    seen = picture.rgb.astype(float)
    if picture.meaning == "L":
        original, seen = original @ np.array([0.299, 0.587, 0.114]), seen[:, :, 0]
    rms = float(np.sqrt(np.mean((original - seen) ** 2)))
    # Half a level is the rounding of grey; 0.6 the 16-bit files, whose lower bytes are noise.
    assert rms <= (0.6 if picture.info.lossless and picture.info.mode != "P" else 5.2)


def test_the_same_sixteen_bits_in_png_and_tiff_are_the_same_samples() -> None:
    png, tiff = full("formats/same_photo/rgb16.png"), full("formats/same_photo/rgb16.tif")
    assert png.samples.dtype == np.uint16 and png.exact and tiff.exact
    assert np.array_equal(png.samples, tiff.samples)
    grey = full("formats/same_photo/gray16.png"), full("formats/same_photo/gray16.tif")
    assert np.array_equal(grey[0].samples, grey[1].samples)


def test_an_avif_is_turned_and_mirrored_once() -> None:
    upright = full("formats/real/kimono.avif").rgb.astype(int)
    for name in ("kimono.rotate90.avif", "kimono.mirror-horizontal.avif"):
        assert np.abs(full(f"formats/real/{name}").rgb - upright).mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_eight_orientations_of_one_photo_are_upright(orientation: int) -> None:
    folder = PHOTOS / "orientation" / "landscape"
    if not folder.is_dir():
        pytest.skip("no orientation photos")
    first = read_full((folder / "Landscape_1.jpg").read_bytes(), "")
    turned = read_full((folder / f"Landscape_{orientation}.jpg").read_bytes(), "")
    assert turned.info.orientation == orientation
    assert np.abs(turned.rgb.astype(int) - first.rgb).mean() < 4


def test_facts_of_files_as_found() -> None:
    assert full("formats/real/sugarshack.mpo").info.frames == 2
    assert full("formats/real/rotating-squares.webp").info.frames == 9
    assert full("formats/real/fox_12bit_odd.avif").info.bits == 12
    assert not full("formats/real/fox_12bit_odd.avif").exact
    assert full("formats/real/cielab-dagams.tiff").info.metadata.camera == "NIKON D5200"
    iphone = reduced("formats/real/iphone_7.heic").info
    assert iphone.icc_name == "Display P3" and iphone.metadata.camera == "Apple iPhone 7"
    with_profile = full("formats/real/cmyk_with_icc.jpg")
    without = full("formats/real/cmyk_no_profile.jpg")
    assert np.array_equal(with_profile.samples, without.samples)
    assert np.abs(with_profile.rgb.astype(int) - without.rgb).mean() > 5


def outcome(path: str) -> str:
    """`reason: detail` of a refusal, `damage: ...` or `sound`; read in full."""
    try:
        damage = full(path).info.damage
    except BadPicture as error:
        return str(error)
    return f"damage: {damage}" if damage else "sound"


@pytest.mark.parametrize("path", list(BROKEN))
def test_every_broken_file_is_named_for_what_it_is(path: str) -> None:
    said = outcome(path)
    expected = BROKEN[path]["should_be_indexed"]
    if expected == "1":
        assert said == "sound"
    elif expected == "0":
        assert said != "sound"
    if said == "sound":
        assert read_reduced((PHOTOS / path).read_bytes(), path, 256).info.damage == ""


def test_broken_files_say_what_is_wrong() -> None:
    starts = {
        "truncated_99pct.jpg": "damaged: cut off",
        "bitrot_60bytes.jpg": "damage: damaged picture data",
        "ext_recoverable_bad_rst_marker.jpg": "damage: damaged picture data",
        "truncated.png": "damaged: cannot be decoded",
        "bomb_30000x30000_1bit.png": "too large: ",
        "lying_sof_65500.jpg": "too large: 4,290 megapixels",
        "header_zeroed.jpg": "not a photo: ",
        "ext_truncated.heic": "damage: cut off",
        "ext_broken.png": "unreadable: ",
    }
    for name, start in starts.items():
        assert outcome(f"broken/{name}").startswith(start), name


def test_all_broken_files_together_stay_far_below_the_limits() -> None:
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "from dedup.decode import BadPicture, read_full, read_reduced\n"
        "for path in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    for read in (lambda d, n: read_reduced(d, n, 256), read_full):\n"
        "        try:\n            read(path.read_bytes(), path.name)\n"
        "        except BadPicture:\n            pass\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)\n"
    )
    started = time.perf_counter()
    command = [sys.executable, "-c", program, str(PHOTOS / "broken")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=60)
    assert time.perf_counter() - started < 20
    assert int(done.stdout) < 400


def progressive_files() -> Iterator[Path]:
    for path in sorted(PHOTOS.rglob("*")):
        if path.suffix.lower() in (".jpg", ".jpeg") and path.is_file():
            try:
                header = jpeg.read_header(path.read_bytes())
            except BadPicture:
                continue
            if header.process == 0xC2 and header.components == 3:
                yield path


def test_progressive_files_without_their_detail_have_equal_features() -> None:
    tried = 0
    for path in progressive_files():
        data = path.read_bytes()
        header = jpeg.read_header(data)
        size = {"min_height": -(-header.height_px // 8), "min_width": -(-header.width_px // 8)}
        short = without_luma_detail(data)
        if not short:
            assert path.parent.name == "broken"
            continue
        whole = simplejpeg.decode_jpeg(data, "RGB", min_factor=1, **size)
        means = simplejpeg.decode_jpeg(short, "RGB", min_factor=1, **size)
        assert np.array_equal(whole, means), path
        for feature in (imagehash.phash, lambda image: imagehash.phash(image, hash_size=16), imagehash.dhash):
            assert feature(Image.fromarray(whole)) == feature(Image.fromarray(means))
        tried += 1
    assert tried >= 49


def test_every_jpeg_of_the_collection_has_pillows_samples() -> None:
    compared = 0
    for path in sorted((PHOTOS / "originals").rglob("*")):
        if path.suffix.lower() not in (".jpg", ".jpeg") or path.stat().st_size > 2_000_000:
            continue
        picture = read_full(path.read_bytes(), path.name)
        with Image.open(path) as image:
            image.load()
            expected: Array = np.atleast_3d(np.asarray(image))
        if picture.info.orientation == 1:
            assert np.array_equal(picture.samples, expected), path
            compared += 1
        assert picture.info.damage == "", (path, picture.info.damage)
        assert 1 <= picture.info.quality <= 100
    assert compared > 150
