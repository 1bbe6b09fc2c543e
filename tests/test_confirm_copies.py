"""Copies confirmed: whatever re-encoding, resizing, conversion, depth, transparency and frames do to one picture."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw, ImageOps
from scipy import ndimage

from dedup.confirm.pixels import PixelDifference
from dedup.confirm.relation import is_same_picture
from dedup.records import CandidatePair, Relation, Source
from tests.pictures import (
    PHOTOS,
    Content,
    Shelf,
    as_floats,
    as_image,
    change,
    confirm,
    cropped,
    decoded,
    encode,
    exif_orientation,
    is_safe,
    jpeg,
    real_photo,
    relation,
    scaled,
    text_page,
    wide_profile,
)

CAT = real_photo("chelsea", 340)
COFFEE = real_photo("coffee", 340)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


# --- encodings and sizes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("quality", [95, 75, 50, 30])
def test_a_picture_saved_again_is_the_same_picture(shelf: Shelf, name: str, quality: int) -> None:
    match = shelf.ask(jpeg(real_photo(name), 99), jpeg(real_photo(name), quality))
    assert match and match.relation is Relation.SAME_PICTURE
    assert match.sentence == f"the same picture, saved again at about quality {quality}"
    assert change(match, "recompressed").amount == quality
    assert 0 < match.figures.rms_levels < 10
    assert match.figures.alignment == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@pytest.mark.parametrize("name", PHOTOS)
def test_saving_again_and_again_stays_the_same_picture(shelf: Shelf, name: str) -> None:
    saved = first = jpeg(real_photo(name), 92)
    for quality in (85, 75, 80):
        saved = jpeg(decoded(saved), quality)
    assert relation(shelf.ask(first, saved)) is Relation.SAME_PICTURE


LOSSLESS: dict[str, dict[str, object]] = {
    "PNG": {},
    "TIFF": {"compression": "tiff_lzw"},
    "BMP": {},
    "PPM": {},
    "WEBP": {"lossless": True},
    "JPEG2000": {},
}


@pytest.mark.parametrize("format", LOSSLESS)
def test_the_same_pixels_in_another_container(shelf: Shelf, format: str) -> None:
    match = shelf.ask(jpeg(CAT, 90), encode(decoded(jpeg(CAT, 90)), format, **LOSSLESS[format]))
    assert match and match.relation is Relation.SAME_PIXELS
    assert match.sentence.startswith("the same pixels, as ")
    assert (match.figures.rms_levels, match.figures.worst_tile_levels) == (0.0, 0.0)


LOSSY: dict[str, dict[str, object]] = {
    "WEBP": {"quality": 80},
    "AVIF": {"quality": 60, "speed": 10},
    "JPEG2000": {"quality_mode": "rates", "quality_layers": [12]},
}


@pytest.mark.parametrize("name", ["coffee", "rocket"])
@pytest.mark.parametrize("format", LOSSY)
def test_a_lossy_copy_in_another_container_is_the_same_picture(shelf: Shelf, name: str, format: str) -> None:
    copy = encode(real_photo(name), format, **LOSSY[format])
    match = shelf.ask(jpeg(real_photo(name), 95), copy)
    assert match and match.relation is Relation.SAME_PICTURE
    assert f"as {format}" in match.sentence


def test_a_picture_of_few_colours_is_the_same_pixels_as_a_palette(shelf: Shelf) -> None:
    few = CAT.quantize(64).convert("RGB")
    match = shelf.ask(few, encode(few.quantize(64), "GIF"))
    assert match and match.relation is Relation.SAME_PIXELS


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("factor", [0.75, 0.5, 0.25])
def test_a_smaller_copy_is_the_same_picture(shelf: Shelf, name: str, factor: float) -> None:
    original = real_photo(name)
    match = shelf.ask(jpeg(original, 95), jpeg(scaled(original, factor), 88))
    assert match and match.relation is Relation.SAME_PICTURE
    assert change(match, "resized").amount == pytest.approx(factor, abs=0.01)
    assert match.direction == "left-first"


FILTERS = (
    Image.Resampling.BOX,
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
)


@pytest.mark.parametrize("resample", FILTERS)
@pytest.mark.parametrize("width", [150, 201])
def test_the_filter_of_a_resize_does_not_matter(shelf: Shelf, width: int, resample: Image.Resampling) -> None:
    size = (width, round(width * CAT.height / CAT.width))
    assert relation(shelf.ask(CAT, jpeg(CAT.resize(size, resample), 88))) is Relation.SAME_PICTURE


def test_sizes_in_words(shelf: Shelf) -> None:
    cat = CAT.crop((0, 0, 336, 216))
    words = {
        0.5: "half the size",
        0.25: "a quarter of the size",
        1 / 3: "a third of the size",
        2.0: "twice the size",
        0.75: "75 % of the size",
    }
    for factor, phrase in words.items():
        match = shelf.ask(cat, scaled(cat, factor))
        assert match and match.sentence == f"the same picture, {phrase}"


T = Image.Transpose
STORED = {
    2: T.FLIP_LEFT_RIGHT,
    3: T.ROTATE_180,
    4: T.FLIP_TOP_BOTTOM,
    5: T.TRANSPOSE,
    6: T.ROTATE_90,
    7: T.TRANSVERSE,
    8: T.ROTATE_270,
}
"""How a picture lies in a file whose EXIF orientation sets it upright."""


@pytest.mark.parametrize("orientation", STORED)
def test_a_picture_stored_on_its_side_is_the_same_pixels(shelf: Shelf, orientation: int) -> None:
    stored = CAT.transpose(STORED[orientation])
    match = shelf.ask(CAT, encode(stored, exif=exif_orientation(orientation)))
    assert match and match.relation is Relation.SAME_PIXELS
    assert match.figures.orientation == 0


def test_a_jpeg_stored_on_its_side_is_the_same_picture(shelf: Shelf) -> None:
    sideways = CAT.transpose(Image.Transpose.ROTATE_90)
    match = shelf.ask(jpeg(CAT, 95), jpeg(sideways, 80, exif=exif_orientation(6).tobytes()))
    assert match and match.relation is Relation.SAME_PICTURE


@pytest.mark.parametrize("quality", [75, 50, 30])
def test_a_text_page_saved_again_is_the_same_picture(shelf: Shelf, quality: int) -> None:
    page = text_page(size=(620, 700))
    assert relation(shelf.ask(jpeg(page), jpeg(page, quality))) is Relation.SAME_PICTURE


def test_a_small_text_page_is_the_same_picture_as_its_coarse_copy(shelf: Shelf) -> None:
    assert relation(shelf.ask(text_page(), jpeg(text_page(), 30))) is Relation.SAME_PICTURE


def leaves(strength: float = 25) -> Image.Image:
    """So much strong detail that quality 50 takes 18 levels of it."""
    random = np.random.default_rng(3)
    detail = ndimage.gaussian_filter(random.normal(0, 1, (360, 480, 3)), (1, 1, 0))
    light = ndimage.gaussian_filter(random.normal(0, 1, (360, 480)), 40)
    return as_image(120 + 55 * (light / light.std())[..., None] + strength * detail / detail.std())


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"subsampling": 1}, {"optimize": True}])
def test_what_a_coarse_save_takes_is_found_out_by_saving_the_other_one_alike(
    shelf: Shelf, options: dict[str, Any]
) -> None:
    assert relation(shelf.ask(jpeg(leaves(), 95), jpeg(leaves(), 50, **options))) is Relation.SAME_PICTURE


def test_a_save_that_takes_nearly_everything_is_found_out_where_it_is_the_very_same(shelf: Shelf) -> None:
    dense, other = leaves(32), leaves(32).transpose(Image.Transpose.ROTATE_180)
    assert relation(shelf.ask(dense, jpeg(dense, 30))) is Relation.SAME_PICTURE
    assert not is_safe(shelf.ask(dense, jpeg(other, 30)))


def test_a_coarse_save_stored_on_its_side_is_found_out_too(shelf: Shelf) -> None:
    turned = leaves().transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    assert relation(shelf.ask(leaves(), jpeg(turned, 50, exif=exif.tobytes()))) is Relation.SAME_PICTURE


@pytest.mark.parametrize("what", ["brighter", "marked", "repainted"])
def test_a_coarse_save_does_not_hide_what_was_done_before_it(shelf: Shelf, what: str) -> None:
    changed = leaves()
    if what == "brighter":
        changed = as_image(as_floats(changed) * 1.1)
    elif what == "marked":
        ImageDraw.Draw(changed).text((300, 330), "14 07 2019", fill=(255, 150, 40), font_size=22)
    else:
        changed.paste(changed.crop((20, 20, 60, 60)), (300, 200))
    assert not is_safe(shelf.ask(leaves(), jpeg(changed, 50)))


def test_a_coarse_save_does_not_make_two_exposures_one(shelf: Shelf) -> None:
    """Between strong detail that no save keeps lies a wall, and its noise is another."""
    scene = 120 + (as_floats(leaves()) - 120) * 1.6
    scene[:, :240] = 90 + np.arange(240)[None, :, None] / 6
    first, second = (
        as_image(scene + np.random.default_rng(seed).normal(0, 4, (360, 480, 1))) for seed in (1, 2)
    )
    assert not is_safe(shelf.ask(first, jpeg(second, 60)))
    assert is_safe(shelf.ask(first, jpeg(first, 60)))


def test_a_text_page_at_half_its_size_is_the_same_picture(shelf: Shelf) -> None:
    assert relation(shelf.ask(text_page(), scaled(text_page(), 0.5))) is Relation.SAME_PICTURE


def test_a_picture_like_its_own_mirror_image_is_told_as_it_stands(shelf: Shelf) -> None:
    """Of all relations that hold, the strongest."""
    folded = as_image((as_floats(CAT) + as_floats(ImageOps.mirror(CAT))) / 2)
    photos = shelf.put(folded), shelf.put(jpeg(folded, 60))
    pairs = [CandidatePair(1, 2, Source.HASH, bits, turn) for bits, turn in ((0, 1), (2, 0))]
    assert [match.relation for match in confirm(photos, pairs).matches] == [Relation.SAME_PICTURE]


# --- metadata ---------------------------------------------------------------------------------------------------------


def described() -> bytes:
    exif = Image.Exif()
    exif[0x010E] = "a cat"
    exif.get_ifd(0x8769)[0x9003] = "2019:07:04 12:41:07"
    return exif.tobytes()


def test_bytes_that_differ_in_metadata_alone_are_the_same_pixels(shelf: Shelf) -> None:
    there = shelf.ask(jpeg(CAT, exif=described()), jpeg(CAT))
    assert there and there.relation is Relation.SAME_PIXELS
    assert there.sentence == "the same pixels; capture time, caption missing"
    back = shelf.ask(jpeg(CAT), jpeg(CAT, exif=described()))
    assert back and back.sentence == "the same pixels"


# --- colour profiles --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
def test_a_copy_that_lost_its_colour_profile_is_the_same_picture(shelf: Shelf, format: str) -> None:
    match = shelf.ask(encode(CAT, format, icc_profile=wide_profile()), encode(CAT, format))
    assert match and match.relation is Relation.SAME_PICTURE
    assert match.sentence == "the same picture, colour profile lost"
    assert match.figures.rms_levels == 0.0
    change(match, "profile")


def test_a_small_and_coarse_copy_without_its_profile_is_the_same_picture(shelf: Shelf) -> None:
    match = shelf.ask(jpeg(CAT, 95, icc_profile=wide_profile()), jpeg(scaled(CAT, 0.5), 75))
    assert match and match.relation is Relation.SAME_PICTURE
    assert "colour profile lost" in match.sentence


def test_the_words_for_a_lost_profile_are_not_said_of_the_copy_that_has_it(shelf: Shelf) -> None:
    match = shelf.ask(jpeg(CAT), jpeg(CAT, icc_profile=wide_profile()))
    assert match and match.relation is Relation.SAME_PICTURE
    assert "lost" not in match.sentence


def test_other_numbers_for_the_same_colours_are_the_same_picture(shelf: Shelf) -> None:
    wide = ImageCms.getOpenProfile(io.BytesIO(wide_profile()))
    converted = ImageCms.profileToProfile(CAT, ImageCms.createProfile("sRGB"), wide)
    assert converted
    match = shelf.ask(jpeg(CAT, 95), jpeg(converted, 95, icc_profile=wide_profile()))
    assert match and match.relation is Relation.SAME_PICTURE
    assert match.figures.rms_levels < 3


def test_a_changed_place_is_not_excused_by_a_lost_profile(shelf: Shelf) -> None:
    changed = CAT.copy()
    ImageDraw.Draw(changed).ellipse((200, 60, 240, 100), fill=(200, 0, 40))
    match = shelf.ask(jpeg(CAT, icc_profile=wide_profile()), jpeg(changed))
    assert match and match.relation is Relation.EDITED


# --- depth ------------------------------------------------------------------------------------------------------------

GREY = np.asarray(CAT.convert("L"))
DEEP = GREY.astype(np.uint16) * 257


def test_sixteen_bits_are_not_the_same_pixels_as_eight(shelf: Shelf) -> None:
    match = shelf.ask(Image.fromarray(DEEP), Image.fromarray(GREY))
    assert match and match.relation is Relation.SAME_PICTURE
    assert match.sentence == "the same picture, 8 instead of 16 bits"
    assert change(match, "depth").amount == 8


def test_sixteen_bits_in_two_containers_are_the_same_pixels(shelf: Shelf) -> None:
    assert relation(shelf.ask(encode(Image.fromarray(DEEP)), encode(Image.fromarray(DEEP), "TIFF"))) is (
        Relation.SAME_PIXELS
    )


def test_a_difference_below_eight_bits_is_a_difference_of_pixels(shelf: Shelf) -> None:
    finer = DEEP.copy()
    finer[100:120] ^= 37
    match = shelf.ask(Image.fromarray(DEEP), Image.fromarray(finer))
    assert match and match.relation is Relation.SAME_PICTURE


def test_two_deep_pictures_in_the_lowest_bits_are_never_copies(shelf: Shelf) -> None:
    """Depth maps and scans of 12 bits that were not scaled up."""
    other = np.asarray(COFFEE.resize(CAT.size).convert("L")).astype(np.uint16)
    assert not is_safe(shelf.ask(Image.fromarray(DEEP // 514), Image.fromarray(other // 2)))


# --- transparency -----------------------------------------------------------------------------------------------------


def drawing(seed: int, ink: str = "black", size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Discs of ink on a ground that is white and transparent."""
    random = np.random.default_rng(seed)
    image = Image.new("RGBA", size, (255, 255, 255, 0))
    for _ in range(12):
        x, y = (int(random.integers(0, side - 70)) for side in size)
        ImageDraw.Draw(image).ellipse((x, y, x + 60, y + 45), fill=ink)
    return image


def test_a_small_drawing_in_white_is_never_a_copy_of_another_one(shelf: Shelf) -> None:
    assert not is_safe(shelf.ask(drawing(1, "white"), scaled(drawing(2, "white"), 0.5)))


@pytest.mark.parametrize("ink", ["white", "black", "red"])
def test_two_drawings_on_transparent_ground_are_never_copies(shelf: Shelf, ink: str) -> None:
    match = shelf.ask(drawing(1, ink), drawing(2, ink))
    assert relation(match) in (None, Relation.SIMILAR)


def test_a_white_drawing_is_not_an_empty_white_picture(shelf: Shelf) -> None:
    assert not is_safe(shelf.ask(drawing(1, "white"), Image.new("RGB", (320, 240), "white")))
    assert not is_safe(shelf.ask(drawing(1, "white"), Image.new("RGBA", (320, 240), (255, 255, 255, 0))))


def test_a_drawing_is_the_same_pixels_with_all_its_transparency(shelf: Shelf) -> None:
    match = shelf.ask(drawing(1), encode(drawing(1), "WEBP", lossless=True, exact=True))
    assert match and match.relation is Relation.SAME_PIXELS


def test_a_drawing_at_half_its_size_is_the_same_picture(shelf: Shelf) -> None:
    assert relation(shelf.ask(drawing(1), scaled(drawing(1), 0.5))) is Relation.SAME_PICTURE


def test_colour_hidden_under_transparency_is_a_difference_of_pixels_only(shelf: Shelf) -> None:
    pixels = np.asarray(drawing(1)).copy()
    pixels[pixels[..., 3] == 0] = (255, 0, 0, 0)
    match = shelf.ask(drawing(1), Image.fromarray(pixels))
    assert match and match.relation is Relation.SAME_PICTURE


def test_a_drawing_whose_transparency_was_filled_is_an_edited_version(shelf: Shelf) -> None:
    filled = Image.alpha_composite(Image.new("RGBA", (320, 240), "white"), drawing(1)).convert("RGB")
    there, back = shelf.ask(drawing(1), filled), shelf.ask(filled, drawing(1))
    assert there and back
    assert (there.relation, there.sentence) == (Relation.EDITED, "an edited version: transparency filled")
    assert (back.relation, back.sentence) == (Relation.EDITED, "an edited version: with transparency")


def test_an_alpha_channel_that_hides_nothing_says_nothing(shelf: Shelf) -> None:
    opaque = CAT.convert("RGBA")
    assert relation(shelf.ask(CAT, opaque)) is Relation.SAME_PIXELS


def test_other_transparency_over_the_same_colours_is_never_a_copy(shelf: Shelf) -> None:
    def with_hole(top: int) -> Image.Image:
        pixels = np.asarray(CAT.convert("RGBA")).copy()
        pixels[top : top + 60, 60:160, 3] = 90
        return Image.fromarray(pixels)

    assert not is_safe(shelf.ask(with_hole(20), with_hole(120)))
    assert not is_safe(shelf.ask(CAT, with_hole(20)))


# --- more than one frame ----------------------------------------------------------------------------------------------


def animated(*frames: Image.Image, format: str = "WEBP", **options: object) -> bytes:
    settings = {"lossless": True} if format == "WEBP" and not options else options
    return encode(frames[0], format, save_all=True, append_images=list(frames[1:]), duration=100, **settings)


@pytest.mark.parametrize("format", ["WEBP", "GIF", "TIFF", "PNG"])
def test_the_same_first_frame_does_not_make_two_animations_one(shelf: Shelf, format: str) -> None:
    """A burst, a page of a scan: what follows the first frame would be lost."""
    one = animated(CAT, ImageOps.mirror(CAT), format=format)
    two = animated(CAT, COFFEE.resize(CAT.size), format=format)
    match = shelf.ask(one, two)
    assert relation(match) in (None, Relation.SIMILAR)


def test_a_cropped_animation_of_other_frames_is_no_edited_version(shelf: Shelf) -> None:
    one = animated(CAT, ImageOps.mirror(CAT))
    two = animated(*(cropped(frame, 0.1, 0.1, 0.9, 0.9) for frame in (CAT, COFFEE.resize(CAT.size))))
    assert relation(shelf.ask(one, two)) in (None, Relation.SIMILAR)


def test_a_mirrored_animation_of_other_frames_is_no_edited_version(shelf: Shelf) -> None:
    one = animated(CAT, COFFEE.resize(CAT.size))
    two = animated(ImageOps.mirror(CAT), CAT)
    assert relation(shelf.ask(one, two)) in (None, Relation.SIMILAR)


def test_the_same_frames_in_another_file_are_the_same_pixels(shelf: Shelf) -> None:
    frames = [CAT, COFFEE.resize(CAT.size)]
    match = shelf.ask(animated(*frames), animated(*frames, format="PNG"))
    assert match and match.relation is Relation.SAME_PIXELS


def test_a_still_made_of_an_animation_is_an_edited_version(shelf: Shelf) -> None:
    film = animated(CAT, COFFEE.resize(CAT.size))
    there, back = shelf.ask(film, CAT), shelf.ask(CAT, film)
    assert there and back
    assert there.relation is back.relation is Relation.EDITED
    assert "one picture, where there are 2 pictures in the file" in there.sentence
    assert "2 pictures in the file, where there is one" in back.sentence
    assert change(there, "frames").amount == 1


def test_a_coarse_still_of_an_animation_is_an_edited_version(shelf: Shelf) -> None:
    film = animated(CAT, COFFEE.resize(CAT.size))
    assert relation(shelf.ask(film, jpeg(scaled(CAT, 0.5), 75))) is Relation.EDITED


# --- copies among other things ----------------------------------------------------------------------------------------


def test_a_whole_family_of_copies_is_told_in_one_go(shelf: Shelf) -> None:
    contents: list[Content] = [
        CAT,
        encode(CAT, "TIFF"),
        jpeg(CAT, 80),
        scaled(CAT, 0.5),
        encode(CAT, "WEBP", quality=70),
        as_image(np.asarray(CAT).astype(np.float32) + 0.6),
    ]
    found = confirm(shelf.put(content) for content in contents)
    assert [(match.left, match.right) for match in found.matches] == [(1, n) for n in range(2, 7)]
    assert [match.relation for match in found.matches] == [Relation.SAME_PIXELS] + [Relation.SAME_PICTURE] * 4


# --- coarse compression -----------------------------------------------------------------------------------------------

COARSE = PixelDifference(
    rms_levels=17.5,
    worst_tile_levels=44.0,
    worst_tile_box=(0.0, 0.0, 0.1, 0.1),
    busy_tile_levels=38.0,
    colour_shift_levels=9.6,
    changed_detail=1.3,
    changed_detail_box=None,
    spread_levels=60.0,
    size_px=(640, 480),
)


def test_coarse_steps_explain_what_finer_ones_do_not() -> None:
    assert is_same_picture(COARSE, None, 30)
    assert not is_same_picture(COARSE, None, 75)
    assert not is_same_picture(COARSE, None)


@pytest.mark.parametrize(
    "more",
    [
        {"rms_levels": 19.5},
        {"colour_shift_levels": 11.0},
        {"changed_detail": 1.5},
        {"busy_tile_levels": 20.0},
    ],
)
def test_coarse_steps_explain_no_place_that_stands_out(more: dict[str, Any]) -> None:
    assert not is_same_picture(replace(COARSE, **more), None, 30)
