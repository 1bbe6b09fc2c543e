"""What was done to a picture, in the words a photographer uses.

Promises: one clause per finding, in a fixed order, composed to a sentence that reads from the left picture to the
right one. Does not: measure.
"""

from __future__ import annotations

import math

import numpy as np

from dedup.confirm.alignment import Map
from dedup.confirm.finish import Finish, is_noisier, is_sharper, is_softer
from dedup.confirm.likeness import Likeness
from dedup.confirm.pixels import OUTLIER_RATIO, PixelDifference
from dedup.records import Change, Photo, PictureInfo, Relation

TURNED = {
    2: ("mirrored", "mirrored left to right"),
    3: ("turned", "turned upside down"),
    4: ("mirrored", "mirrored top to bottom"),
    5: ("mirrored", "mirrored and turned a quarter"),
    6: ("turned", "turned a quarter to the left"),
    7: ("mirrored", "mirrored and turned a quarter"),
    8: ("turned", "turned a quarter to the right"),
}
"""What was done to the right picture, by the EXIF orientation (1 to 8) that undoes it."""

CROP_SHARE = 0.985
TILT_DEGREES = 0.35
BRIGHTNESS_LEVELS = 4.0
CONTRAST_RATIO = 0.07
GREYSCALE_CHROMA = 0.08
VIGNETTE_GAIN = 0.2
SATURATION_RATIO = 0.12
TINT_LEVELS = 4.0
SOFT_RATIO = 0.8
CRISP_RATIO = 1.2


def turn_change(orientation: int) -> Change | None:
    """The change for an orientation of 1 to 8; None for 1."""
    if orientation == 1:
        return None
    kind, words = TURNED[orientation]
    return Change(kind, words)


def frame_changes(matrix: Map, left_size: tuple[int, int], right_size: tuple[int, int]) -> list[Change]:
    """Crop, border, tilt and size from the map; sizes (width, height), right with its orientation applied."""
    changes = []
    (a, b, _), (d, e, _) = matrix
    # Tilt in pixels, not fractions: a picture is not square.
    angle = math.degrees(
        math.atan2(
            d * right_size[1] / left_size[0] - b * right_size[0] / left_size[1],
            a * right_size[0] / left_size[0] + e * right_size[1] / left_size[1],
        )
    )
    tilted = abs(angle) >= TILT_DEGREES
    inverse = np.linalg.inv(matrix[:, :2])
    corners = [inverse @ (np.array(p, float) - matrix[:, 2]) for p in ((0, 0), (1, 0), (0, 1), (1, 1))]
    shown = abs(float(np.linalg.det(inverse)))
    xs, ys = sorted(float(p[0]) for p in corners), sorted(float(p[1]) for p in corners)
    # The sides of the right frame in the left one, taken between the corners of a tilted frame.
    sides = {
        "left": (xs[0] + xs[1]) / 2,
        "top": (ys[0] + ys[1]) / 2,
        "right": 1 - (xs[2] + xs[3]) / 2,
        "bottom": 1 - (ys[2] + ys[3]) / 2,
    }
    cut = [name for name, amount in sides.items() if amount > 0.006]
    added = [name for name, amount in sides.items() if amount < -0.006]
    if tilted:
        side = "left" if angle > 0 else "right"
        changes.append(Change("tilted", f"tilted by {abs(angle):.1f} degrees to the {side}", abs(angle)))
    if cut and shown < CROP_SHARE and not added:
        where = "" if len(cut) == 4 or (tilted and len(cut) > 2) else f" ({' and '.join(cut)})"
        changes.append(Change("cropped", f"cropped to {100 * shown:.0f} %{where}", shown))
    elif added and not cut:
        most = max(-sides[name] for name in added)
        if set(added) == {"top", "bottom"}:
            words = f"with bars of {100 * most / (1 + 2 * most):.0f} % above and below"
        elif set(added) == {"left", "right"}:
            words = f"with bars of {100 * most / (1 + 2 * most):.0f} % at the sides"
        else:
            words = "with a border" if len(added) == 4 else f"with a bar ({' and '.join(added)})"
        changes.append(Change("border", words, most))
    elif cut and added:
        changes.append(
            Change("cropped", f"cropped ({' and '.join(cut)}) and extended ({' and '.join(added)})", shown)
        )
    ratio = size_ratio(matrix, left_size, right_size)
    changes += resize_changes(ratio)
    return changes


def without_border(change: Change) -> Change:
    """A crop that takes nothing but a border away."""
    return Change("border", "without the border", -change.amount)


def shows_more(change: Change) -> Change:
    """A frame that is larger because it shows more of the scene."""
    return Change("cropped", "showing more of the scene", 1 + change.amount)


def size_ratio(matrix: Map, left_size: tuple[int, int], right_size: tuple[int, int]) -> float:
    """Side of the right picture over the left one's, for the same content."""
    area = (
        abs(float(np.linalg.det(matrix[:, :2])))
        * right_size[0]
        * right_size[1]
        / (left_size[0] * left_size[1])
    )
    return math.sqrt(area)


def resize_changes(ratio: float) -> list[Change]:
    """Words for a ratio of sides; none within one per cent."""
    if abs(ratio - 1) <= 0.01:
        return []
    names = {
        0.5: "half the size",
        0.25: "a quarter of the size",
        2.0: "twice the size",
        1 / 3: "a third of the size",
    }
    for value, name in names.items():
        if abs(ratio - value) < 0.012 * max(1, value):
            return [Change("resized", name, ratio)]
    return [Change("resized", f"{100 * ratio:.0f} % of the size", ratio)]


def tone_changes(found: Likeness, least: float = 1.0) -> list[Change]:
    """Brightness, contrast and colour, as done to the right picture; `least` scales what is worth a word."""
    toning = found.toning
    changes = []
    chroma = toning.chroma / max(toning.slope, 0.2) if toning.chroma > 0 else 0.0
    # Brighter by a factor, contrast and colours grow with it; only what goes beyond is a change of its own.
    contrast = (
        toning.slope / max(toning.gain, 0.2)
        if abs(toning.shift_levels) > least * BRIGHTNESS_LEVELS
        else toning.slope
    )
    if toning.chroma < GREYSCALE_CHROMA:
        changes.append(Change("greyscale", "in greyscale", toning.chroma))
    elif abs(chroma - 1) > least * SATURATION_RATIO:
        changes.append(Change("saturation", "stronger colours" if chroma > 1 else "paler colours", chroma))
    if abs(toning.shift_levels) > least * BRIGHTNESS_LEVELS:
        changes.append(
            Change("brightness", "brighter" if toning.shift_levels > 0 else "darker", toning.shift_levels)
        )
    if abs(contrast - 1) > least * CONTRAST_RATIO:
        changes.append(Change("contrast", "more contrast" if contrast > 1 else "less contrast", contrast))
    if abs(toning.warmth_levels) > least * TINT_LEVELS and toning.chroma >= GREYSCALE_CHROMA:
        changes.append(
            Change("colour", "warmer" if toning.warmth_levels > 0 else "cooler", toning.warmth_levels)
        )
    if abs(toning.vignette) > least * VIGNETTE_GAIN:
        words = "darker towards the corners" if toning.vignette < 0 else "brighter towards the corners"
        changes.append(Change("vignette", words, toning.vignette))
    return changes


def detail_changes(found: Likeness) -> list[Change]:
    """Softness and noise of a frame that was moved, as done to the right picture."""
    if found.detail_ratio < SOFT_RATIO:
        return [Change("blurred", "softer", found.detail_ratio)]
    if found.detail_ratio > CRISP_RATIO:
        if found.high_disagreement > 0.25 and found.detail_correlation < 0.9:
            return [Change("noise", "noisier", found.detail_ratio)]
        return [Change("sharpened", "sharper", found.detail_ratio)]
    return []


def finish_changes(finish: Finish, right: PictureInfo, contrast: float = 1.0) -> list[Change]:
    """Blur, sharpening and noise of a frame that stayed as it was."""
    if is_noisier(finish, right.quality, lossless=right.lossless):
        return [Change("noise", f"with noise of {finish.noise_levels:.0f} levels", finish.noise_levels)]
    if is_softer(finish, contrast, right.quality, lossless=right.lossless):
        return [Change("blurred", "blurred" if finish.gain < 0.3 else "slightly blurred", finish.gain)]
    if is_sharper(finish, contrast):
        return [Change("sharpened", "sharpened", finish.gain)]
    return []


def calmer_change(back: Finish) -> Change:
    """For the picture of two that lacks the other one's noise."""
    return Change("noise", f"without noise of {back.noise_levels:.0f} levels", -back.noise_levels)


def outlier_change(difference: PixelDifference) -> Change | None:
    """The one tile that differs far more than the pair as a whole, where no larger place was found."""
    if difference.worst_tile_levels < OUTLIER_RATIO * max(difference.busy_tile_levels, 1.0):
        return None
    box = difference.changed_detail_box or difference.worst_tile_box
    return Change("retouched", f"something small changed {_where(box)}", 0.0, box)


def place_changes(found: Likeness) -> list[Change]:
    """One clause for what was painted, added or removed, with its box."""
    changes = []
    for place in found.places[:3]:
        where = _where(place.box)
        share = 100 * place.share
        size = f"{share:.1f} %" if share < 10 else f"{share:.0f} %"
        changes.append(
            Change("retouched", f"something changed {where}, {size} of the picture", place.share, place.box)
        )
    return changes


def _where(box: tuple[float, float, float, float]) -> str:
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    column = "left" if x < 0.36 else "right" if x > 0.64 else ""
    row = "top" if y < 0.36 else "bottom" if y > 0.64 else ""
    if not column and not row:
        return "in the middle"
    if not row:
        return f"on the {column}"
    return f"at the {row} {column}".rstrip()


def file_changes(left: Photo, right: Photo) -> list[Change]:
    """What the container and its metadata say: format, quality, depth, profile, missing metadata."""
    a, b = left.info, right.info
    changes = []
    if b.format != a.format:
        changes.append(Change("recompressed", f"as {b.format}" + ("" if b.lossless else _quality(b.quality))))
    elif (b.quality and a.quality and b.quality < a.quality - 2) or (
        b.quality and a.quality and b.quality > a.quality + 2
    ):
        changes.append(Change("recompressed", f"saved again at about quality {b.quality}", float(b.quality)))
    if b.bits != a.bits and not (a.bits == 1 or b.bits == 1):
        changes.append(Change("depth", f"{b.bits} instead of {a.bits} bits", float(b.bits)))
    if a.icc_digest and not b.icc_digest:
        changes.append(Change("profile", "colour profile lost"))
    elif b.icc_digest and b.icc_digest != a.icc_digest:
        name = " ".join(b.icc_name.split())[:40]
        changes.append(
            Change("profile", f"with the colour profile {name}" if name else "with a colour profile")
        )
    missing = missing_metadata(left, right)
    if missing:
        changes.append(Change("metadata", f"{', '.join(missing)} missing"))
    return changes


def resave_changes(right: Photo) -> list[Change]:
    """For a copy of the same format, size and about the same quality, whose pixels are not quite the same."""
    quality = right.info.quality
    return (
        [Change("recompressed", f"saved again at about quality {quality}", float(quality))] if quality else []
    )


def _quality(quality: int) -> str:
    return f" of about quality {quality}" if quality else ""


def missing_metadata(left: Photo, right: Photo) -> list[str]:
    """What the left file says of its picture and the right one does not."""
    a, b = left.info.metadata, right.info.metadata
    pairs = (
        ("GPS", a.gps, b.gps),
        ("capture time", a.capture_time, b.capture_time),
        ("rating", a.rating, b.rating),
        ("keywords", a.keywords, b.keywords),
        ("caption", a.caption, b.caption),
    )
    return [name for name, has, other in pairs if has and not other]


def compose_sentence(relation: Relation, changes: list[Change]) -> str:
    """`the same picture, half the size, saved again at about quality 75; GPS missing`."""
    heads = {
        Relation.SAME_BYTES: "the same bytes",
        Relation.SAME_PIXELS: "the same pixels",
        Relation.SAME_PICTURE: "the same picture",
        Relation.EDITED: "an edited version",
        Relation.SIMILAR: "the same scene, another moment",
    }
    picture = [change.words for change in changes if change.kind != "metadata"]
    if relation is Relation.SIMILAR:
        picture = []
    words = ", ".join([heads[relation], *picture])
    if relation is Relation.EDITED and picture:
        words = f"{heads[relation]}: {', '.join(picture)}"
    rest = [change.words for change in changes if change.kind == "metadata"]
    return "; ".join([words, *rest])
