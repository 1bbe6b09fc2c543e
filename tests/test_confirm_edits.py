"""Edited versions confirmed: never safe, named for what was done, in the right place and the right way round."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from dedup.confirm import pair
from dedup.confirm.alignment import Alignment
from dedup.confirm.loading import Loader
from dedup.confirm.pair import PairMeasurer
from dedup.confirm.tone import fit_tone
from dedup.records import CandidatePair, Match, Relation, Source
from dedup.settings import LOW_TEXTURE_LEVELS
from tests.pictures import (
    PHOTOS,
    WHOLE,
    Box,
    Content,
    Shelf,
    as_floats,
    as_image,
    change,
    confirm,
    confirm_two,
    cropped,
    decoded,
    ellipse_paste,
    font,
    jpeg,
    real_photo,
    relation,
    scaled,
    with_id,
)

CAT = real_photo("chelsea", 340)
COFFEE = real_photo("coffee", 340)
PERSON = real_photo("astronaut", 340)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def edited(match: Match | None) -> Match:
    assert match and match.relation is Relation.EDITED, match
    assert match.sentence.startswith("an edited version: ")
    return match


def kinds(match: Match) -> set[str]:
    return {item.kind for item in match.changes}


# --- tone and colour --------------------------------------------------------------------------------------------------

TONES: dict[str, tuple[Callable[[Image.Image], Image.Image], str]] = {
    "brighter": (lambda image: ImageEnhance.Brightness(image).enhance(1.2), "brightness"),
    "darker": (lambda image: ImageEnhance.Brightness(image).enhance(0.8), "brightness"),
    "more contrast": (lambda image: ImageEnhance.Contrast(image).enhance(1.35), "contrast"),
    "less contrast": (lambda image: ImageEnhance.Contrast(image).enhance(0.7), "contrast"),
    "stronger colours": (lambda image: ImageEnhance.Color(image).enhance(1.6), "saturation"),
    "paler colours": (lambda image: ImageEnhance.Color(image).enhance(0.5), "saturation"),
    "warmer": (lambda image: as_image(as_floats(image) * (1.12, 1.0, 0.86)), "colour"),
    "cooler": (lambda image: as_image(as_floats(image) * (0.88, 1.0, 1.14)), "colour"),
    "in greyscale": (lambda image: image.convert("L").convert("RGB"), "greyscale"),
}


@pytest.mark.parametrize("words", TONES)
def test_a_change_of_tone_is_edited_and_named(shelf: Shelf, words: str) -> None:
    tone, kind = TONES[words]
    match = edited(shelf.ask(CAT, jpeg(tone(CAT), 92)))
    assert change(match, kind).words == words
    assert "retouched" not in kinds(match) and "cropped" not in kinds(match)


@pytest.mark.parametrize("name", ["chelsea", "rocket"])
@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_a_tenth_of_brightness_is_never_safe(shelf: Shelf, name: str, factor: float) -> None:
    photo = real_photo(name, 300)
    edited(shelf.ask(photo, jpeg(ImageEnhance.Brightness(photo).enhance(factor), 92)))


@pytest.mark.parametrize("name", ["astronaut", "coffee"])
def test_greyscale_is_never_safe_and_comes_later(shelf: Shelf, name: str) -> None:
    photo = real_photo(name, 300)
    there = edited(shelf.ask(photo, photo.convert("L")))
    assert "in greyscale" in there.sentence
    assert there.direction == "left-first"


def test_the_greyscale_version_is_held_against_its_colours_too(shelf: Shelf) -> None:
    match = edited(shelf.ask(CAT.convert("L"), CAT))
    assert "in greyscale" not in match.sentence


def test_brighter_seen_from_the_other_side_is_darker(shelf: Shelf) -> None:
    bright = ImageEnhance.Brightness(CAT).enhance(1.2)
    assert change(shelf.ask(bright, CAT), "brightness").words == "darker"


def test_darker_corners_are_told(shelf: Shelf) -> None:
    y, x = np.mgrid[-1 : 1 : CAT.height * 1j, -1 : 1 : CAT.width * 1j]
    match = edited(shelf.ask(CAT, as_image(as_floats(CAT) * (1 - 0.3 * (x * x + y * y))[..., None])))
    assert change(match, "vignette").words == "darker towards the corners"


def test_a_film_look_over_a_lost_profile_is_edited(shelf: Shelf) -> None:
    tinted = as_image(as_floats(CAT) * (1.15, 1.0, 0.8) + (12, 0, 0))
    edited(shelf.ask(jpeg(CAT), jpeg(tinted)))


def test_shadows_lifted_out_of_the_dark_are_no_things_that_moved(shelf: Shelf) -> None:
    """What compression and clipping had hidden differs all over the frame, though not by much."""
    night = real_photo("rocket", 340)
    edited(shelf.ask(night, jpeg(as_image(255 * (as_floats(night) / 255) ** 0.4), 92)))


# --- softness and noise -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["astronaut", "coffee"])
def test_a_strong_blur_is_edited_and_named(shelf: Shelf, name: str) -> None:
    photo = real_photo(name, 340)
    match = edited(shelf.ask(photo, photo.filter(ImageFilter.GaussianBlur(2))))
    assert change(match, "blurred").words == "blurred"


def test_a_strong_sharpening_is_edited_and_named(shelf: Shelf) -> None:
    match = edited(shelf.ask(PERSON, PERSON.filter(ImageFilter.UnsharpMask(2, 200, 2))))
    assert change(match, "sharpened").words == "sharpened"


def test_less_contrast_on_a_picture_of_little_texture_is_an_edit(shelf: Shelf) -> None:
    """The duller one is too even for its hashes to mean anything; the other one is not."""
    dull = ImageEnhance.Contrast(CAT).enhance(0.2)
    duller = ImageEnhance.Contrast(dull).enhance(0.6)
    left, right = shelf.put(dull), shelf.put(duller)
    assert right.fingerprint.texture < LOW_TEXTURE_LEVELS <= left.fingerprint.texture
    change(edited(confirm_two(left, right)), "contrast")


def test_a_tone_that_is_a_straight_line_is_followed_in_rare_colours_too() -> None:
    """Most of a picture in greys says nothing of how its few colours go on."""
    light = 120 + 40 * np.sin(np.arange(160) / 9)[None, :] * np.cos(np.arange(120) / 7)[:, None]
    source = np.repeat(light[..., None], 3, axis=2).astype(np.float32)
    source[50:62, 60:75] = (230, 200, 20)
    source[62:72, 60:75] = (30, 50, 160)
    target = (0.7 * source + 36).astype(np.float32)
    predicted = fit_tone(source, target, np.ones((120, 160), np.float32)).predict(source)
    assert np.abs(predicted - target)[50:72, 60:75].mean() < 3


@pytest.mark.parametrize("astray", [((0.77, 0, 0.07), (0, 0.65, 0.17)), ((0.55, 0, 0.26), (0, 1.1, -0.09))])
def test_a_frame_that_stayed_as_it_was_is_found_though_its_tones_lead_astray(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, astray: tuple[tuple[float, ...], ...]
) -> None:
    start = pair._Found(1, Alignment(np.array(astray), 0.91, 0.95))
    monkeypatch.setattr(PairMeasurer, "_register", lambda *_: start)
    edited(shelf.ask(CAT, ImageEnhance.Contrast(CAT).enhance(1.5)))


def noisy(photo: Image.Image, levels: float) -> Image.Image:
    pixels = as_floats(photo)
    return as_image(pixels + np.random.default_rng(1).normal(0, levels, pixels.shape))


def test_strong_noise_is_edited_and_named(shelf: Shelf) -> None:
    assert "noise" in change(edited(shelf.ask(CAT, noisy(CAT, 22))), "noise").words


@pytest.mark.parametrize("levels", [12, 22])
def test_the_picture_without_the_noise_came_first_whichever_is_asked(shelf: Shelf, levels: float) -> None:
    there = shelf.ask(CAT, jpeg(noisy(CAT, levels), 95))
    back = shelf.ask(jpeg(noisy(CAT, levels), 95), CAT)
    assert there is not None
    assert back is not None
    assert change(there, "noise").amount > 0 > change(back, "noise").amount
    if there.relation is back.relation is Relation.EDITED:
        assert (there.direction, back.direction) == ("left-first", "right-first")


def test_noise_on_a_soft_picture_does_not_make_it_another_moment(shelf: Shelf) -> None:
    soft = CAT.filter(ImageFilter.GaussianBlur(1.5))
    change(edited(shelf.ask(soft, jpeg(noisy(soft, 40), 90))), "noise")


def test_a_copy_with_light_noise_or_blur_says_so(shelf: Shelf) -> None:
    for content, kind in (
        (jpeg(noisy(CAT, 7), 90), "noise"),
        (CAT.filter(ImageFilter.GaussianBlur(0.7)), "blurred"),
    ):
        match = shelf.ask(CAT, content)
        assert relation(match) in (Relation.SAME_PICTURE, Relation.EDITED)
        change(match, kind)


def test_a_faint_change_of_tone_is_named_where_nothing_else_was_done(shelf: Shelf) -> None:
    match = edited(shelf.ask(CAT, as_image(as_floats(CAT) + np.array([0.0, 0.0, 11.0]))))
    assert change(match, "colour").words == "cooler"


def test_strong_noise_of_colour_alone_is_never_safe(shelf: Shelf) -> None:
    """Luma, and the means of all tiles, stay as they were."""
    board = np.indices(CAT.size[::-1]).sum(axis=0) % 2 * 2.0 - 1
    colours = np.array([1, -0.299 / 0.587, 0]) * 34
    match = shelf.ask(CAT, as_image(as_floats(CAT) + board[..., None] * colours))
    assert match and not match.relation.is_safe
    assert match.figures.rms_levels > 16


def test_light_noise_and_light_blur_are_what_encoders_do(shelf: Shelf) -> None:
    noise = np.random.default_rng(1).normal(0, 4, as_floats(CAT).shape)
    assert relation(shelf.ask(CAT, as_image(as_floats(CAT) + noise))) is Relation.SAME_PICTURE
    assert relation(shelf.ask(CAT, CAT.filter(ImageFilter.GaussianBlur(0.6)))) is Relation.SAME_PICTURE


# --- one place --------------------------------------------------------------------------------------------------------


def overlap(first: Box, second: Box) -> float:
    """Shared area over the area of both."""

    def area(box: Box) -> float:
        return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])

    shared = area(
        (
            max(first[0], second[0]),
            max(first[1], second[1]),
            min(first[2], second[2]),
            min(first[3], second[3]),
        )
    )
    return shared / (area(first) + area(second) - shared)


PLACES = {"at the top left": (0.08, 0.1), "at the bottom right": (0.8, 0.75), "in the middle": (0.45, 0.45)}


@pytest.mark.parametrize(("words", "name"), [*zip(PLACES, ("chelsea", "astronaut", "rocket"), strict=True)])
def test_one_per_cent_retouched_is_edited_in_that_place(shelf: Shelf, name: str, words: str) -> None:
    photo = real_photo(name, 340)
    side = round((photo.width * photo.height * 0.0127) ** 0.5)  # an ellipse fills 79 % of its box
    x, y = round(PLACES[words][0] * photo.width), round(PLACES[words][1] * photo.height)
    patch = cropped(COFFEE, 0.2, 0.2, 0.6, 0.6)
    match = edited(shelf.ask(photo, jpeg(ellipse_paste(photo, patch, (x, y, x + side, y + side)), 92)))
    place = change(match, "retouched")
    assert place.box
    box = (x / photo.width, y / photo.height, (x + side) / photo.width, (y + side) / photo.height)
    assert overlap(place.box, box) > 0.35
    assert f"something changed {words}" in match.sentence
    assert 0.004 < place.amount < 0.03
    worst = match.figures.worst_tile_box
    assert worst and overlap(worst, box) > 0


@pytest.mark.parametrize("name", PHOTOS)
def test_half_a_per_cent_retouched_is_never_safe(shelf: Shelf, name: str) -> None:
    photo = real_photo(name, 300)
    side = round((photo.width * photo.height * 0.006) ** 0.5)
    patch = cropped(real_photo("rocket" if name == "coffee" else "coffee"), 0.2, 0.2, 0.6, 0.6)
    x, y = photo.width // 4, photo.height // 3
    edited(shelf.ask(photo, jpeg(ellipse_paste(photo, patch, (x, y, x + side, y + side)), 92)))


@pytest.mark.parametrize("name", ["chelsea", "coffee"])
def test_a_place_wiped_out_smoothly_is_never_safe(shelf: Shelf, name: str) -> None:
    photo = real_photo(name, 340)
    box = (150, 90, 200, 130)
    wiped = photo.copy()
    wiped.paste(photo.crop(box).filter(ImageFilter.GaussianBlur(12)), box[:2])
    assert not (found := shelf.ask(photo, jpeg(wiped, 92))) or not found.relation.is_safe


@pytest.mark.parametrize("name", ["chelsea", "coffee"])
def test_a_large_place_repainted_is_still_an_edit(shelf: Shelf, name: str) -> None:
    """About 15 %, and all of it in one place."""
    photo, other = real_photo(name, 340), real_photo("rocket", 340)
    x, y, wide, tall = (
        round(side * share) for side, share in zip(photo.size * 2, (0.25, 0.25, 0.43, 0.43), strict=True)
    )
    match = edited(shelf.ask(photo, ellipse_paste(photo, other, (x, y, x + wide, y + tall))))
    assert change(match, "retouched").amount > 0.06


def stamped(photo: Image.Image) -> Image.Image:
    found = photo.copy()
    ImageDraw.Draw(found).text(
        (photo.width - 125, photo.height - 24), "2019-07-04 12:41", fill=(255, 140, 0), font=font(14)
    )
    return found


def watermarked(photo: Image.Image) -> Image.Image:
    layer = Image.new("RGBA", photo.size, (0, 0, 0, 0))
    ImageDraw.Draw(layer).text(
        (60, photo.height // 2), "(c) A. Author", fill=(255, 255, 255, 110), font=font(26)
    )
    return Image.alpha_composite(photo.convert("RGBA"), layer).convert("RGB")


def with_logo(photo: Image.Image) -> Image.Image:
    found = photo.copy()
    ImageDraw.Draw(found).ellipse((photo.width - 34, 8, photo.width - 12, 30), fill=(200, 0, 40))
    return found


OVERLAYS = {"stamped": stamped, "watermarked": watermarked, "with logo": with_logo}


@pytest.mark.parametrize("name", ["astronaut", "coffee", "rocket"])
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_was_written_over_a_photo_is_an_edit(shelf: Shelf, name: str, overlay: str) -> None:
    photo = real_photo(name, 340)
    match = edited(shelf.ask(photo, jpeg(OVERLAYS[overlay](photo), 92)))
    assert "retouched" in kinds(match)


def test_an_overlay_is_found_in_a_small_copy_too(shelf: Shelf) -> None:
    match = edited(shelf.ask(real_photo("chelsea"), jpeg(scaled(with_logo(real_photo("chelsea")), 0.5), 88)))
    assert {"retouched", "resized"} <= kinds(match)


# --- turned -----------------------------------------------------------------------------------------------------------

T = Image.Transpose
TURNS = {
    2: (T.FLIP_LEFT_RIGHT, "mirrored left to right"),
    3: (T.ROTATE_180, "turned upside down"),
    4: (T.FLIP_TOP_BOTTOM, "mirrored top to bottom"),
    5: (T.TRANSPOSE, "mirrored and turned a quarter"),
    6: (T.ROTATE_90, "turned a quarter to the left"),
    7: (T.TRANSVERSE, "mirrored and turned a quarter"),
    8: (T.ROTATE_270, "turned a quarter to the right"),
}
BACK = {6: 8, 8: 6}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("hub_id", [1, 9])
def test_turned_and_mirrored_copies_read_right_from_both_sides(
    shelf: Shelf, orientation: int, hub_id: int
) -> None:
    """Whichever side of the stored pair the keeper is on."""
    transpose, words = TURNS[orientation]
    hub, turned = with_id(shelf.put(CAT), hub_id), with_id(shelf.put(jpeg(CAT.transpose(transpose), 90)), 5)
    there, back = edited(confirm_two(hub, turned)), edited(confirm_two(turned, hub))
    assert (there.left, there.right) == (hub_id, 5)
    assert there.figures.orientation == orientation - 1
    assert there.sentence == f"an edited version: {words}, as JPEG of about quality 90"
    undone = BACK.get(orientation, orientation)
    assert back.figures.orientation == undone - 1
    assert TURNS[undone][1] in back.sentence
    assert max(there.figures.phash64_bits, back.figures.phash64_bits) <= 6
    assert there.figures.rms_levels == pytest.approx(back.figures.rms_levels, rel=0.02)


@pytest.mark.parametrize("hub_id", [1, 9])
def test_a_turned_crop_is_found_from_both_sides(shelf: Shelf, hub_id: int) -> None:
    window = (0.1, 0.0, 0.9, 0.8)
    hub = with_id(shelf.put(PERSON), hub_id)
    piece = cropped(PERSON, *window).transpose(T.ROTATE_90)
    part = with_id(shelf.put(piece), 5)
    if hub_id < 5:
        pair = CandidatePair(hub_id, 5, Source.WINDOW, 6, 5, window, WHOLE)
    else:
        # The part turned to the left shows the part; the whole, turned to the left as well, contains it.
        x0, y0, x1, y1 = window
        pair = CandidatePair(5, hub_id, Source.WINDOW, 6, 7, WHOLE, (y0, 1 - x1, y1, 1 - x0))
    for photos in ((hub, part), (part, hub)):
        found = confirm(photos, [pair])
        assert [match.relation for match in found.matches] == [Relation.EDITED]
        assert "turned" in kinds(found.matches[0])


# --- another frame ----------------------------------------------------------------------------------------------------


def ask_window(shelf: Shelf, left: Content, right: Content, seen: Box, shown: Box = WHOLE) -> Match:
    """The pair as a search by windows proposes it: `seen` of the left one is `shown` of the right one."""
    a, b = shelf.put(left), shelf.put(right)
    found = confirm((a, b), [CandidatePair(a.id, b.id, Source.WINDOW, 6, 0, seen, shown)])
    return edited(found.matches[0] if found.matches else None)


CROPS = {
    "cropped to 64 % (left and right and bottom)": (0.1, 0.0, 0.9, 0.8),
    "cropped to 81 %": (0.05, 0.05, 0.95, 0.95),
    "cropped to 70 % (left)": (0.3, 0.0, 1.0, 1.0),
    "cropped to 49 % (right and bottom)": (0.0, 0.0, 0.7, 0.7),
}


@pytest.mark.parametrize("words", CROPS)
def test_a_crop_is_edited_and_told_by_its_sides(shelf: Shelf, words: str) -> None:
    window = CROPS[words]
    match = ask_window(shelf, PERSON, jpeg(cropped(PERSON, *window), 92), window)
    assert words in match.sentence
    assert match.direction == "left-first"
    x0, y0, x1, y1 = window
    a, b, c, d, e, f = match.figures.alignment
    assert (a * x0 + b * y0 + c, d * x0 + e * y0 + f) == pytest.approx((0, 0), abs=0.01)
    assert (a * x1 + b * y1 + c, d * x1 + e * y1 + f) == pytest.approx((1, 1), abs=0.01)


@pytest.mark.parametrize("name", PHOTOS)
def test_two_per_cent_cropped_is_never_safe(shelf: Shelf, name: str) -> None:
    photo = real_photo(name, 340)
    match = edited(shelf.ask(photo, jpeg(cropped(photo, 0.01, 0.01, 0.99, 0.99), 92)))
    assert "cropped" in kinds(match)


def test_the_crop_as_keeper_calls_the_whole_an_extension(shelf: Shelf) -> None:
    window = (0.1, 0.0, 0.9, 0.8)
    match = ask_window(shelf, cropped(PERSON, *window), PERSON, WHOLE, window)
    assert "cropped" not in match.sentence


@pytest.mark.parametrize("colour", ["white", "black"])
@pytest.mark.parametrize("name", ["astronaut", "coffee"])
def test_a_border_is_edited_and_named(shelf: Shelf, name: str, colour: str) -> None:
    photo = real_photo(name, 300)
    framed = shelf.put(ImageOps.expand(photo, 16, colour))
    bare = shelf.put(photo)
    pair = CandidatePair(framed.id, bare.id, Source.WINDOW, 4, 0, framed.fingerprint.trim, WHOLE)
    found = confirm((bare, framed), [pair])
    assert "with a border" in edited(found.matches[0]).sentence
    assert found.matches[0].direction == "left-first"


def test_bars_above_and_below_are_named(shelf: Shelf) -> None:
    barred = ImageOps.expand(PERSON, (0, 40), "black")
    shown = (0.0, 40 / barred.height, 1.0, 1 - 40 / barred.height)
    match = ask_window(shelf, PERSON, barred, WHOLE, shown)
    assert "with bars of 10 % above and below" in match.sentence
    assert match.direction == "left-first"


def test_a_screenshot_of_a_photo_is_edited(shelf: Shelf) -> None:
    width, height = COFFEE.size
    screen = Image.new("RGB", (width, height + 90), (20, 20, 24))
    screen.paste(COFFEE, (0, 45))
    draw = ImageDraw.Draw(screen)
    draw.text((8, 12), "12:41", fill="white", font=font(16))
    draw.rectangle((width // 3, height + 68, 2 * width // 3, height + 72), fill="white")
    shown = (0.0, 45 / screen.height, 1.0, 1 - 45 / screen.height)
    assert "border" in kinds(ask_window(shelf, COFFEE, jpeg(screen, 85), WHOLE, shown))


@pytest.mark.parametrize("degrees", [1.0, -2.5])
def test_a_tilt_is_edited_and_measured(shelf: Shelf, degrees: float) -> None:
    turned = PERSON.rotate(degrees, Image.Resampling.BICUBIC)
    match = edited(shelf.ask(PERSON, jpeg(cropped(turned, 0.06, 0.06, 0.94, 0.94), 92)))
    tilt = change(match, "tilted")
    assert tilt.amount == pytest.approx(abs(degrees), abs=0.2)
    assert "cropped" in kinds(match)


def test_a_tilt_is_said_the_other_way_round_from_the_other_side(shelf: Shelf) -> None:
    turned = cropped(PERSON.rotate(2, Image.Resampling.BICUBIC), 0.06, 0.06, 0.94, 0.94)
    there, back = shelf.ask(PERSON, turned), shelf.ask(turned, PERSON)
    sides = {change(match, "tilted").words.rsplit(" ", 1)[1] for match in (there, back)}
    assert sides == {"left", "right"}


def test_several_edits_are_all_told(shelf: Shelf) -> None:
    window = (0.0, 0.1, 0.9, 1.0)
    piece = ImageEnhance.Brightness(cropped(PERSON, *window)).enhance(1.25).transpose(T.FLIP_LEFT_RIGHT)
    a, b = shelf.put(PERSON), shelf.put(jpeg(scaled(piece, 0.7), 85))
    found = confirm((a, b), [CandidatePair(a.id, b.id, Source.WINDOW, 6, 1, window, WHOLE)])
    assert {"mirrored", "cropped", "brightness", "resized", "recompressed"} <= kinds(edited(found.matches[0]))


def test_an_edit_of_a_coarse_original_knows_where_it_came_from(shelf: Shelf) -> None:
    original = jpeg(PERSON, 75)
    stamped_copy = jpeg(with_logo(decoded(original)), 95)
    there, back = shelf.ask(original, stamped_copy), shelf.ask(stamped_copy, original)
    assert edited(there).direction == "left-first"
    assert edited(back).direction == "right-first"


@pytest.mark.parametrize("fill", ["white", "black"])
@pytest.mark.parametrize("name", PHOTOS)
def test_a_wide_border_is_seen_through_from_either_side_without_a_hint(
    shelf: Shelf, name: str, fill: str
) -> None:
    """The light of a border must not reach into what is registered beside it."""
    picture = real_photo(name, 400)
    photos = shelf.put(picture), shelf.put(ImageOps.expand(picture, 40, fill))
    for left, right in (photos, photos[::-1]):
        match = PairMeasurer(Loader()).measure(left, right, [])
        assert relation(match) is Relation.EDITED
        assert match is not None and match.figures.correlation > 0.95
