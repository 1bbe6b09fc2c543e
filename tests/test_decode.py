"""Decoding: every format to the same upright picture, damage by name, and never another exception."""

from __future__ import annotations

import io
import pickle
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps
from skimage import data as skimage_data

from dedup.decode import BadPicture, jpeg, read_full, read_reduced, sniff_format
from dedup.decode.progressive import without_luma_detail
from dedup.records import Reason

Array = np.ndarray[Any, Any]
photographs: Any = skimage_data


@pytest.fixture(scope="module")
def cat() -> Image.Image:
    return Image.fromarray(photographs.chelsea())


@pytest.fixture(scope="module")
def large() -> Image.Image:
    """2,400 x 1,800 px: large enough for the 1/8 scale at 200 px."""
    return Image.fromarray(photographs.coffee()).resize((2400, 1800), Image.Resampling.BICUBIC)


ROT = np.random.default_rng(0).integers(0, 255, 40, dtype=np.uint8).tobytes()


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    if format == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener(thumbnails=False)
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def mean_difference(a: Array, b: Array) -> float:
    assert a.shape == b.shape
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


def small(image: Image.Image, like: Array) -> Array:
    return np.asarray(image.resize(like.shape[1::-1], Image.Resampling.BOX))


def exif_with(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def reason_of(data: bytes, name: str = "x") -> tuple[Reason, str]:
    with pytest.raises(BadPicture) as reduced:
        read_reduced(data, name, 64)
    with pytest.raises(BadPicture) as full:
        read_full(data, name)
    assert reduced.value.reason == full.value.reason
    return full.value.reason, full.value.detail


# ---- what a file is -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM", "AVIF", "WEBP", "JPEG2000", "HEIF"]
)
def test_a_format_is_told_by_its_first_bytes_and_decodes_whatever_it_is_called(
    cat: Image.Image, format: str
) -> None:
    data = saved(cat, format)
    assert sniff_format(data[:64], "named.txt") == format
    picture = read_full(data, "named.txt")
    assert picture.info.format == format
    assert (picture.info.width_px, picture.info.height_px) == cat.size
    assert mean_difference(picture.rgb, np.asarray(cat)) < 6
    assert picture.info.damage == ""
    reduced = read_reduced(data, "named.txt", 100)
    assert reduced.info.format == format
    assert mean_difference(reduced.rgb, small(cat, reduced.rgb)) < 6


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\xff",
        b"%PDF-1.7 ...........",
        b"%!PS-Adobe-3.0 EPSF-3.0",
        b"8BPS\0\1",
        b"\0\0\1\0\1\0\x10\x10",
        b"SIMPLE  =                    T",
        b"\0\0\0\x20ftypisom\0\0\2\0isomiso2mif1",
        b"\0\0\0\x14ftypqt  \0\0\0\0qt  ",
        b"RIFF\0\0\0\0WAVEfmt ",
        b"BMW owners club",
        b"P1anning the garden",
    ],
)
def test_other_files_are_no_photos(head: bytes) -> None:
    assert sniff_format(head.ljust(64, b" "), "a.jpg") is None
    assert reason_of(head.ljust(64, b" "), "a.jpg")[0] is Reason.NOT_A_PHOTO


def test_camera_raw_is_told_by_its_extension_where_it_is_a_tiff_inside() -> None:
    tiff = b"II*\0\x08\0\0\0".ljust(64, b"\0")
    assert sniff_format(tiff, "/a/b.tif") == "TIFF"
    assert sniff_format(tiff, "/a/b.NEF") == "RAW"
    assert sniff_format(b"II*\0\x10\0\0\0CR\2\0", "x") == "RAW"
    assert sniff_format(b"FUJIFILMCCD-RAW 0201", "x") == "RAW"
    assert sniff_format(b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "x") == "RAW"


@pytest.mark.parametrize(
    ("head", "name", "extra"),
    [
        (b"II*\0\x08\0\0\0".ljust(99, b"\0"), "a.dng", "raw"),
        (b"\xff\x0a\x41\x00\x00".ljust(99, b"\0"), "a.jxl", "jxl"),
    ],
)
def test_a_missing_extra_is_named(
    head: bytes, name: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rawpy", None)
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    assert reason_of(head, name) == (Reason.MISSING_EXTRA, f"install photo-dedup[{extra}]")


def test_a_dng_called_tif_is_never_read_as_its_thumbnail(
    cat: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rawpy", None)
    data = saved(cat, "TIFF", tiffinfo={50706: b"\1\4\0\0"})
    assert reason_of(data, "holiday.tif")[0] is Reason.MISSING_EXTRA


# ---- JPEG -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"subsampling": 1}, {"progressive": True}])
def test_a_jpeg_has_the_samples_that_pillow_reads(
    large: Image.Image, mode: str, options: dict[str, Any]
) -> None:
    data = saved(large.convert(mode), "JPEG", quality=85, **options)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        expected = np.atleast_3d(np.asarray(image))
    picture = read_full(data, "a.jpg")
    assert np.array_equal(picture.samples, expected)
    assert picture.meaning == mode and picture.exact

    header = jpeg.read_header(data)
    for min_side_px, shrink in ((200, 8), (400, 4), (900, 2), (901, 1)):
        with Image.open(io.BytesIO(data)) as image:
            image.draft(None, (2400 // shrink, 1800 // shrink))
            assert image.size == (2400 // shrink, 1800 // shrink)
            samples, damage = jpeg.decode_jpeg(data, header, min_side_px)
            assert np.array_equal(samples, np.atleast_3d(np.asarray(image)))
            assert damage == ""


@pytest.mark.parametrize("size", [(2400, 1800), (1601, 2003), (2049, 1025)])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_a_progressive_jpeg_without_its_detail_has_the_same_means(
    large: Image.Image, size: tuple[int, int], subsampling: int
) -> None:
    data = saved(large.resize(size), "JPEG", quality=92, progressive=True, subsampling=subsampling)
    short = without_luma_detail(data)
    assert 0 < len(short) < 0.6 * len(data)
    means, damage = jpeg.decode_jpeg(data, jpeg.read_header(data), 100)
    with Image.open(io.BytesIO(data)) as image:
        image.draft(None, (size[0] // 8, size[1] // 8))
        assert np.array_equal(means, np.asarray(image))
    assert damage == ""


def test_sampling_factors_that_turbojpeg_does_not_know_are_decoded_all_the_same(cat: Image.Image) -> None:
    data = saved(cat.convert("CMYK"), "JPEG", subsampling=1)
    with pytest.raises(ValueError, match="subsampling"):
        simplejpeg.decode_jpeg(data, "CMYK")
    picture = read_full(data, "a.jpg")
    assert picture.info.damage == "" and mean_difference(picture.rgb, np.asarray(cat)) < 4
    assert reason_of(data[: len(data) // 2])[0] is Reason.DAMAGED


def test_a_progressive_jpeg_that_is_cut_off_is_not_read_by_the_short_way(large: Image.Image) -> None:
    data = saved(large, "JPEG", quality=85, progressive=True)
    assert without_luma_detail(data[: len(data) // 2]) == b""
    assert without_luma_detail(data[:-2]) == b""
    assert reason_of(data[: len(data) // 2])[0] is Reason.DAMAGED


def test_a_plain_jpeg_is_not_copied(cat: Image.Image) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for options in ({}, {"icc_profile": srgb}):
        picture = read_full(saved(cat, "JPEG", **options), "a.jpg")
        assert picture.rgb is picture.samples


@pytest.mark.parametrize("quality", [1, 10, 30, 50, 75, 85, 90, 92, 95, 98, 100])
def test_the_quality_is_read_from_the_tables(cat: Image.Image, quality: int) -> None:
    data = saved(cat, "JPEG", quality=quality)
    assert read_reduced(data, "a.jpg", 64).info.quality == quality
    tables = read_full(data, "a.jpg").quantisation
    assert tables is not None and [len(table) for table in tables] == [64, 64]


def test_foreign_tables_get_the_nearest_quality(cat: Image.Image) -> None:
    # Flat tables, as some phones write; between two qualities of libjpeg.
    data = saved(cat, "JPEG", qtables=[[6] * 64, [8] * 64])
    assert 85 <= read_reduced(data, "a.jpg", 64).info.quality <= 97


def test_bit_rot_inside_a_jpeg_is_flagged_by_both_readings(cat: Image.Image) -> None:
    data = bytearray(saved(cat, "JPEG", quality=90))
    middle = len(data) // 2
    data[middle : middle + 40] = ROT
    for picture in (read_reduced(bytes(data), "a.jpg", 64), read_full(bytes(data), "a.jpg")):
        assert picture.info.damage.startswith("damaged picture data")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_jpeg_that_is_cut_off_gives_no_picture(cat: Image.Image, share: float) -> None:
    data = saved(cat, "JPEG")
    reason, _ = reason_of(data[: int(len(data) * share)])
    assert reason is Reason.DAMAGED


def test_only_the_end_marker_may_be_missing_and_is_missed(cat: Image.Image) -> None:
    data = saved(cat, "JPEG")
    assert data.endswith(b"\xff\xd9")
    picture = read_full(data[:-2], "a.jpg")
    assert picture.info.damage == "the end marker is missing"
    assert np.array_equal(picture.samples, read_full(data, "a.jpg").samples)


def test_what_follows_the_end_of_a_jpeg_is_no_damage(cat: Image.Image) -> None:
    assert read_full(saved(cat, "JPEG") + b"\0" * 5000, "a.jpg").info.damage == ""


def quibbles(data: bytes) -> dict[str, bytes]:
    """A baseline JPEG with what some cameras get wrong and every viewer forgives."""
    jfif, scan = data.index(b"JFIF\0") + 5, data.rindex(b"\xff\xda")
    spectral = scan + 2 + data[scan + 3] - 3
    return {
        "JFIF version": data[:jfif] + b"\x09\x09" + data[jfif + 2 :],
        "spectral selection": data[:spectral] + b"\0\0\0" + data[spectral + 3 :],
        "padding": data[:-2] + bytes(7) + data[-2:],
    }


@pytest.mark.parametrize("quibble", ["JFIF version", "spectral selection", "padding"])
def test_what_every_viewer_forgives_is_no_damage_and_hides_none(cat: Image.Image, quibble: str) -> None:
    sound = saved(cat, "JPEG", quality=90)
    data = quibbles(sound)[quibble]
    with pytest.raises(ValueError, match=r"."):
        simplejpeg.decode_jpeg(data)
    picture = read_full(data, "a.jpg")
    assert picture.info.damage == ""
    assert np.array_equal(picture.samples, read_full(sound, "a.jpg").samples)
    middle = len(data) // 2
    rotten = data[:middle] + ROT + data[middle + len(ROT) :]
    assert read_full(rotten, "a.jpg").info.damage.startswith("damaged picture data")


def test_a_wrong_restart_marker_is_flagged(cat: Image.Image) -> None:
    data = saved(cat, "JPEG", restart_marker_rows=1)
    assert read_full(data, "a.jpg").info.damage == ""
    broken = data.replace(b"\xff\xd3", b"\xff\xd6", 1)
    assert read_full(broken, "a.jpg").info.damage.startswith("damaged picture data")


def test_endless_empty_scans_are_refused(cat: Image.Image) -> None:
    data = saved(cat, "JPEG", progressive=True)
    scan = data.rindex(b"\xff\xda")
    bomb = data[:scan] + data[scan:-2] * 600 + b"\xff\xd9"
    assert reason_of(bomb) == (Reason.TOO_LARGE, "more than 500 scans")


# ---- orientation, colour, depth, transparency -----------------------------------------------------------------------


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_exactly_once(cat: Image.Image, format: str, orientation: int) -> None:
    exif = exif_with(orientation)
    # pillow-heif writes the turn into the container only if it gets bytes.
    data = saved(cat, format, exif=exif.tobytes() if format == "HEIF" else exif)
    tagged = cat.copy()
    tagged.getexif()[0x0112] = orientation
    expected = ImageOps.exif_transpose(tagged)

    picture = read_full(data, "a")
    assert (picture.info.width_px, picture.info.height_px) == expected.size
    assert picture.info.orientation == orientation
    assert mean_difference(picture.rgb, np.asarray(expected)) < 6
    reduced = read_reduced(data, "a", 100)
    assert mean_difference(reduced.rgb, small(expected, reduced.rgb)) < 6
    assert (reduced.info.width_px, reduced.info.height_px) == expected.size


def test_an_exif_orientation_that_the_container_of_a_heif_does_not_confirm_is_left_alone(
    cat: Image.Image,
) -> None:
    data = saved(cat, "HEIF", exif=exif_with(6))
    assert b"irot" not in data
    assert read_full(data, "a.heic").rgb.shape == (cat.height, cat.width, 3)


def wide_profile() -> bytes:
    """A matrix profile whose primaries are not those of sRGB: its red and green columns are swapped."""
    icc = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = icc.index(b"rXYZ"), icc.index(b"gXYZ")
    icc[red : red + 4], icc[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(icc)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_a_profile_changes_the_colours_seen_but_not_the_samples(cat: Image.Image, format: str) -> None:
    options = {"lossless": True} if format == "WEBP" else {}
    plain = read_full(saved(cat, format, **options), "a")
    profiled = read_full(saved(cat, format, icc_profile=wide_profile(), **options), "a")
    assert np.array_equal(plain.samples, profiled.samples)
    assert mean_difference(plain.rgb, profiled.rgb) > 3
    assert profiled.info.icc_digest and profiled.info.icc_name and not plain.info.icc_digest
    reduced = read_reduced(saved(cat, format, icc_profile=wide_profile(), **options), "a", 100)
    assert mean_difference(reduced.rgb, small(Image.fromarray(profiled.rgb), reduced.rgb)) < 4


def test_a_broken_profile_is_ignored_and_still_told_apart(cat: Image.Image) -> None:
    picture = read_full(saved(cat, "JPEG", icc_profile=b"not a profile"), "a.jpg")
    assert picture.rgb is picture.samples
    assert picture.info.icc_digest


def test_ink_becomes_the_colours_it_was_made_from(cat: Image.Image) -> None:
    ink = cat.convert("CMYK")
    assert mean_difference(read_full(saved(ink, "TIFF"), "a").rgb, np.asarray(cat)) == 0
    assert mean_difference(read_full(saved(ink, "JPEG", quality=95), "a").rgb, np.asarray(cat)) < 3
    reduced = read_reduced(saved(ink, "JPEG"), "a", 100)
    assert mean_difference(reduced.rgb, small(cat, reduced.rgb)) < 4
    assert read_full(saved(ink, "TIFF"), "a").samples.shape[2] == 4


def test_lab_comes_back_as_the_colours_it_was_made_from(cat: Image.Image) -> None:
    lab = ImageCms.profileToProfile(
        cat, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    data = saved(lab, "TIFF")
    picture = read_full(data, "a.tif")
    assert picture.meaning == "LAB"
    assert mean_difference(picture.rgb, np.asarray(cat)) < 2
    reduced = read_reduced(data, "a.tif", 100)
    assert mean_difference(reduced.rgb, small(cat, reduced.rgb)) < 2


def deep_ramp() -> Array:
    """(64, 256) of 16 bits: all upper bytes, with lower bytes of their own."""
    return (np.arange(256, dtype=np.uint16) * 257 + np.arange(64, dtype=np.uint16)[:, None]).clip(0, 65535)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(format: str) -> None:
    data = saved(Image.fromarray(deep_ramp()), format)
    picture = read_full(data, "a")
    assert picture.samples.dtype == np.uint16 and np.array_equal(picture.samples[:, :, 0], deep_ramp())
    assert picture.info.bits == 16 and picture.exact
    assert np.array_equal(picture.rgb[0, :, 0], np.arange(256))
    assert np.array_equal(read_reduced(data, "a", 64).rgb[0, :, 1], np.arange(256))


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def deep_png(samples: Array) -> bytes:
    """A PNG of 16 bits per sample, which Pillow cannot write in colour."""
    height, width, channels = samples.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("channels", [3, 4])
def test_all_sixteen_bits_of_colour_samples_are_kept(channels: int) -> None:
    samples = np.random.default_rng(channels).integers(0, 65536, (20, 30, channels), dtype=np.uint16)
    picture = read_full(deep_png(samples), "a.png")
    assert np.array_equal(picture.samples, samples)
    assert picture.exact and picture.info.bits == 16
    one_bit_off = samples.copy()
    one_bit_off[3, 4, 0] ^= 1
    assert not np.array_equal(read_full(deep_png(one_bit_off), "a.png").samples, samples)


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.0, 255.0], [0, 100, 255]),
        ([0.0, 25700.0, 65535.0], [0, 100, 255]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([0.0, 2.0, 4.0], [0, 128, 255]),
        ([0.0, float("nan"), 1.0], [0, 0, 255]),
        ([0.0, 0.0, 0.0], [0, 0, 0]),
    ],
)
def test_floats_are_scaled_and_not_clipped(levels: list[float], expected: list[int]) -> None:
    data = saved(Image.fromarray(np.array([levels], np.float32)), "TIFF")
    assert read_full(data, "a.tif").rgb[0, :, 0].tolist() == expected


def test_hidden_colours_of_clear_pixels_do_not_show() -> None:
    pixels = np.full((300, 300, 4), 255, np.uint8)
    pixels[:150] = (200, 30, 30, 0)
    pixels[150:, :150] = (0, 0, 0, 128)
    for format in ("PNG", "TIFF", "WEBP"):
        options = {"lossless": True, "exact": True} if format == "WEBP" else {}
        data = saved(Image.fromarray(pixels), format, **options)
        picture, reduced = read_full(data, "a"), read_reduced(data, "a", 100)
        assert picture.info.has_alpha and reduced.info.has_alpha
        assert picture.rgb[0, 0].tolist() == [255, 255, 255] == reduced.rgb[0, 0].tolist()
        assert picture.rgb[200, 10].tolist() == [127, 127, 127] == reduced.rgb[70, 10].tolist()
        assert picture.samples[0, 0].tolist() == [200, 30, 30, 0]
        assert picture.alpha is not None and picture.alpha[200, 10] == 128
        assert reduced.alpha is not None and reduced.alpha.shape == reduced.rgb.shape[:2]


def test_an_alpha_that_hides_nothing_is_dropped(cat: Image.Image) -> None:
    picture = read_full(saved(cat.convert("RGBA"), "PNG"), "a.png")
    assert picture.meaning == "RGB" and picture.alpha is None and not picture.info.has_alpha
    assert picture.info.mode == "RGBA"
    assert np.array_equal(picture.samples, np.asarray(cat))


def test_palettes_are_expanded_with_their_transparency(cat: Image.Image) -> None:
    palette = cat.quantize(64)
    opaque = read_full(saved(palette, "PNG"), "a.png")
    assert np.array_equal(opaque.samples, np.asarray(palette.convert("RGB")))
    clear = read_full(saved(palette, "PNG", transparency=0), "a.png")
    assert clear.alpha is not None and np.array_equal(clear.alpha == 0, np.asarray(palette) == 0)


@given(width=st.integers(1, 700), height=st.integers(1, 700), wanted=st.integers(16, 300))
@settings(max_examples=40, deadline=None)
def test_the_shorter_side_stays_in_its_bounds(width: int, height: int, wanted: int) -> None:
    image = Image.new("RGB", (width, height), (90, 120, 30))
    for format in ("JPEG", "PNG"):
        rgb = read_reduced(saved(image, format), "a", wanted).rgb
        shorter = min(rgb.shape[:2])
        assert min(wanted, width, height) <= shorter < max(2 * wanted, 2)
        assert rgb.flags.c_contiguous


# ---- frames ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["GIF", "TIFF", "WEBP", "PNG", "MPO", "HEIF"])
def test_every_frame_belongs_to_identity(cat: Image.Image, format: str) -> None:
    other, third = ImageOps.mirror(cat), ImageOps.flip(cat)
    two = read_full(saved(cat, format, save_all=True, append_images=[other]), "a")
    same = read_full(saved(cat, format, save_all=True, append_images=[other]), "a")
    else_ = read_full(saved(cat, format, save_all=True, append_images=[third]), "a")
    assert two.info.frames == else_.info.frames == 2
    assert two.frames_digest == same.frames_digest != else_.frames_digest
    assert read_full(saved(cat, "PNG"), "a").frames_digest == ""
    assert read_reduced(saved(cat, format, save_all=True, append_images=[other]), "a", 64).info.frames == 2


def test_a_preview_inside_a_jpeg_is_no_frame(cat: Image.Image) -> None:
    data = saved(cat, "MPO", save_all=True, append_images=[cat.reduce(4)])
    assert read_full(data, "a").info.format == "MPO"
    index = data.index(b"MPF\0") + 4
    assert data[index : index + 4] == b"II*\0"
    # Two entries of 16 bytes end Pillow's index, 50 bytes in; the second becomes a "large thumbnail".
    kind = index + 50 + 16
    preview = data[:kind] + struct.pack("<I", 0x010001) + data[kind + 4 :]
    picture = read_full(preview, "a")
    assert (picture.info.format, picture.info.frames, picture.frames_digest) == ("JPEG", 1, "")


def test_a_damaged_further_frame_is_damage_and_equals_nothing(cat: Image.Image) -> None:
    data = saved(cat, "GIF", save_all=True, append_images=[ImageOps.mirror(cat)])
    first = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    picture = read_full(data[: int(len(data) * 0.8)], "a.gif")
    assert picture.info.damage
    assert np.array_equal(picture.rgb, first)

    mpo = bytearray(saved(cat, "MPO", save_all=True, append_images=[ImageOps.mirror(cat)]))
    middle = len(mpo) * 3 // 4
    mpo[middle : middle + 40] = ROT
    picture = read_full(bytes(mpo), "a.mpo")
    assert picture.info.damage and picture.frames_digest.startswith("file:")


# ---- damage and limits ----------------------------------------------------------------------------------------------


def test_a_wrong_checksum_is_damage_even_where_pillow_does_not_look(cat: Image.Image) -> None:
    data = saved(cat, "PNG")
    text = bytearray(png_chunk(b"tEXt", b"Comment\0hello"))
    sound = data[:-12] + bytes(text) + data[-12:]
    assert read_full(sound, "a.png").info.damage == ""
    text[-1] ^= 1
    assert "checksum" in read_full(data[:-12] + bytes(text) + data[-12:], "a.png").info.damage


@pytest.mark.parametrize(
    ("format", "cut"), [("PNG", 12), ("GIF", 1), ("HEIF", 4), ("AVIF", 4), ("JPEG2000", 2)]
)
def test_a_missing_end_is_damage_or_no_picture(cat: Image.Image, format: str, cut: int) -> None:
    data = saved(cat, format)
    assert read_full(data, "a").info.damage == ""
    try:
        words = read_full(data[:-cut], "a").info.damage
    except BadPicture as error:
        words = error.detail
    assert words


@pytest.mark.parametrize(
    "format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM", "AVIF", "WEBP", "JPEG2000", "HEIF"]
)
def test_the_size_is_judged_before_a_pixel_is_decoded(cat: Image.Image, format: str) -> None:
    data = saved(cat, format)
    with pytest.raises(BadPicture) as refused:
        read_reduced(data, "a", 64, max_pixels=cat.width * cat.height - 1)
    assert refused.value.reason is Reason.TOO_LARGE
    read_reduced(data, "a", 64, max_pixels=cat.width * cat.height)


def test_a_bomb_is_told_by_its_header() -> None:
    header = struct.pack(">IIBBBBB", 60000, 60000, 1, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(bytes(1000)))
    assert reason_of(bomb)[0] is Reason.TOO_LARGE


def test_running_out_of_memory_is_a_reason_and_no_crash(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    Image.new("RGB", (9000, 9000)).save(path)
    program = (
        "import resource, sys\n"
        "from dedup.decode import BadPicture, read_full\n"
        "data = open(sys.argv[1], 'rb').read()\n"
        "held = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (held + (100 << 20),) * 2)\n"
        "try:\n    read_full(data, 'large.jpg')\n"
        "except BadPicture as error:\n    print(error.reason.value)\n"
    )
    command = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    assert done.stdout.strip() == "too large"


SMALL = {
    format: saved(Image.fromarray(photographs.chelsea()).resize((48, 32)), format)
    for format in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM", "AVIF", "WEBP", "JPEG2000", "HEIF")
}


@given(
    format=st.sampled_from(sorted(SMALL)),
    share=st.floats(0, 1),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
)
@settings(max_examples=300, deadline=None)
def test_a_broken_file_gives_a_picture_or_a_reason(
    format: str, share: float, edits: list[tuple[float, int]]
) -> None:
    data = bytearray(SMALL[format])
    for place, value in edits:
        data[int(place * len(data))] = value
    cut = bytes(data[: int(share * len(data))]) if share < 0.9 else bytes(data)
    reads: list[Callable[[], Array]] = [
        lambda: read_reduced(cut, "a", 64).rgb,
        lambda: read_full(cut, "a").rgb,
    ]
    for read in reads:
        try:
            words = str(read().shape)
        except BadPicture as error:
            words = error.detail
        assert words and "\n" not in words


def test_a_file_may_be_given_open_at_any_position(cat: Image.Image, tmp_path: Path) -> None:
    for format in ("JPEG", "PNG", "HEIF"):
        path = tmp_path / f"a.{format}"
        path.write_bytes(saved(cat, format))
        expected = read_full(path.read_bytes(), "a").rgb
        with path.open("rb") as file:
            file.seek(100)
            assert np.array_equal(read_full(file, "a").rgb, expected)
            assert read_reduced(file, "a", 100).info.format == format


def test_a_refusal_survives_the_way_out_of_a_worker() -> None:
    error = pickle.loads(pickle.dumps(BadPicture(Reason.DAMAGED, "cut off")))
    assert (error.reason, error.detail, str(error)) == (Reason.DAMAGED, "cut off", "damaged: cut off")
