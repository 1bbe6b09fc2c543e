"""From measurements to a relation: every threshold that decides one, with what it was measured on.

Measured on two libraries of 2,700 labelled files each (40 photos, 60 kinds of edits, bursts, text pages, chats,
flat pictures): for each number, what copies reach and what edits or other pictures start at. All levels are 0 to
255.
"""

from __future__ import annotations

import math

from dedup.confirm.likeness import Likeness
from dedup.confirm.pixels import PixelDifference
from dedup.records import Relation

COLOUR_SHIFT_LEVELS = 9.0
"""Mean colour of a large tile. Copies (quality 30, quarter size, messenger, AVIF) reach 8.0, chains of five saves
9.6; brightness by a tenth, white balance, saturation and painted places begin at 15."""
CHANGED_DETAIL = 0.95
"""Disagreement of detail around the worst tiles. Quality 30 reaches 0.80, a messenger's copy 0.89; a watermark
begins at 1.07, one amount on a text page at 1.21, another frame at 1.9."""
WORST_TILE_LEVELS = 60.0
"""Quality 30 of the harshest picture reaches 53; places painted over begin at 73 (and are caught above)."""
RMS_LEVELS = 16.0
"""Quality 30 reaches 14.3; a burst neighbour begins at 20."""
FLAT_SHIFT_LEVELS = 3.0
"""Pictures without structure are the same only by colour: a solid colour saved at quality 70 moves by up to 2.3."""
GRAIN_CORRELATION = 0.15
"""Copies of noise-only frames correlate with 0.28 and more, other frames with at most 0.03."""
GRAIN_LEVELS = 0.4
"""Where neither has more grain than this, it is the encoder's: gradients have up to 0.17, the weakest night frame 0.78
and its quality-75 copy 0.39, which correlate by 0.23; two such frames by 0.04 at most."""
STRUCTURE_RATIO = 0.35
"""RMS over spread of luma below which the correlation of structure is above 0.93 of itself, and grain need not be
asked."""

CONTAINED = 0.95
"""Share of one frame that the other must show. An edit shows a part of its original or all of it; a panorama's
neighbour has a part of its own."""
DETAIL_CORRELATION = 0.55
"""Fine detail outside changed places. Edits (strong blur, crops, tilts) reach 0.61 and more; bursts that register
at all stay under 0.40, but for distant scenes, which are caught by containment."""
MEDIAN_DISAGREEMENT = 0.6
SHIFT_PX = 1.0
"""Left after registration at 512 px; parallax leaves 1.2 and more."""
SOFT_SHIFT_PX = 1.5
AGREED_CORRELATION = 0.95
AGREED_SHARE = 0.98
"""A film look moves soft edges of light by up to 1.1 px; then all cells agree, and detail correlates by 0.96. With
parallax, what stands near moves and what is far does not: no pair of a burst has both."""
CHANGED_SHARE = 0.22
"""More than this is another picture of the same things: chats with the same frame begin at 0.24, a place of 15 %
reaches 0.15."""
SCATTERED_BOX = 0.12
SCATTERED_FILL = 0.45
SCATTERED_SHARE = 0.02
"""Changed places that take more than 2 % together, and are spread over a box of more than 12 % without filling 45 %
of it, are things that moved or other text on a form. People before a fixed camera: box 0.28 and more, fill at most
0.42; text pages: 0.17, 0.26; a watermark: box at most 0.08; a painted place: fill 0.45 and more."""
CHAT_SHARE = 0.5
PAGE_SHARE = 0.75
"""Frames of so much one tone are written on: chats have 0.59 to 0.73 of it, pages 0.79 and more; of 250 photos two
reach 0.8, cut-outs on white. On them more than 2 % changed, in several places or on a page, is other text."""
STRONG_LEVELS = 20.0
"""Difference within a place below which it does not count as a thing that moved: what a clipped highlight or a hard
tone leaves has 9 to 17 levels, people and text 29 and more."""
AGREEING_SHARE = 0.8
"""Of the cells with detail, those that must agree. Edits (strong noise, quality 10, borders) reach 0.86 and more;
one strong edge laid over another one (a horizon, the rim of a disc) leaves 0.5 to 0.73."""
AGREEING_CELLS = 12
"""Agreeing cells (of 144) that a moved, turned or cropped frame needs: photos with a scene in them have 65 and more,
a single edge over another has 6."""
SCENE_CELLS = 8
SAME_FRAME = 0.12
"""Largest entry, in fractions of the side, by which a map may differ from none for the frame to count as kept."""
SHOT_CORRELATION = 0.5
"""The same for one shot: edits reach 0.70 and more; two cloths above one edge reach 0.35."""
SCENE_CORRELATION = 0.35
"""Registered detail (light flattened, 160 px) that makes two photos one scene."""


COARSE_QUALITY = 40
"""JPEG quality up to which the steps are so coarse that fine detail goes out in whole blocks, everywhere. Of 110 photos
saved at 30 and 35, six went beyond the limits above; all stay within those below, and of 550 of them with a mark, a
date, a logo or a place repainted before that save none does."""
COARSE_RMS_LEVELS = 19.0
COARSE_SHIFT_LEVELS = 10.5
"""Copies reach 9.5; places erased begin at 11.6, marks at 12.1."""
COARSE_DETAIL = 1.4
COARSE_RATIO = 2.0
"""Worst tile over the 99th percentile of all: no place stands out. Copies reach 1.9."""


SAVED_QUALITY = 75
"""JPEG quality up to which a save is imitated where levels alone refuse a copy: finer ones never do.

Over 110 photos at four sizes, at quality 30: 110 copies, 109 at half the size and 108 of 108 at a quarter pass this
or the limits above; of 2,750 with a mark, a date, a logo, a place repainted or a tenth more light before a save at
10 to 75, none does."""


SAVED_EXACTLY_LEVELS = 0.1
"""RMS below which the imitated save *is* the other file's: the same encoder makes 0.0, two exposures leave 0.9 even
where the save has taken all of their grain."""


def is_same_picture(difference: PixelDifference, grain: tuple[float, float] | None, quality: int = 0) -> bool:
    """Whether re-encoding, resizing or conversion explain all that differs.

    `quality` is that of the more strongly compressed JPEG of the two, 0 where neither is one.
    """
    if difference.rms_levels == 0.0:
        return True
    coarse = 0 < quality <= COARSE_QUALITY and (
        difference.worst_tile_levels <= COARSE_RATIO * difference.busy_tile_levels
    )
    rms, shift, detail = (
        (COARSE_RMS_LEVELS, COARSE_SHIFT_LEVELS, COARSE_DETAIL)
        if coarse
        else (RMS_LEVELS, COLOUR_SHIFT_LEVELS, CHANGED_DETAIL)
    )
    if difference.rms_levels > rms or difference.worst_tile_levels > WORST_TILE_LEVELS:
        return False
    if difference.colour_shift_levels > shift or difference.changed_detail > detail:
        return False
    if needs_grain(difference):
        assert grain is not None
        correlation, strength = grain
        if strength < GRAIN_LEVELS:
            return (
                difference.colour_shift_levels <= FLAT_SHIFT_LEVELS
                and difference.rms_levels <= FLAT_SHIFT_LEVELS
            )
        return correlation >= GRAIN_CORRELATION
    return True


GRAINY_RMS_LEVELS = 1.5
"""Below this there is no other exposure: two times the noise of the cleanest camera is more."""
EXPOSURE_CORRELATION = 0.05
EXPOSURE_LEVELS = 1.0
"""Grain of at least this strength in both, and correlated by less than that, is of two exposures."""


def is_other_exposure(grain: tuple[float, float]) -> bool:
    """Whether both pictures have grain of their own in their plainest parts."""
    correlation, strength = grain
    return strength >= EXPOSURE_LEVELS and correlation < EXPOSURE_CORRELATION


OWN_DETAIL_LEVELS = 2.8
OWN_DETAIL_SHARE = 0.36
"""Of 230 pairs of copies in 200 families none has differences of more than 2.7 levels that belong to both alike;
two exposures with noise of 3 levels (over 48 photos) have 2.8 to 4.3, with 0.40 to 0.58 of it in each block."""
STEP_LEVELS = 0.4
"""What one JPEG save takes from noise at most, in levels per step of quality below 100: the mean step of libjpeg's
luma table is 57.6 at quality 50, rounding to it leaves its 3.46th part (0.33 a step of quality); measured 0.38."""


def explained_levels(qualities: tuple[int, int]) -> float:
    """The strongest difference of fine detail that two saves explain, if each took something else away.

    `qualities`: of each one's JPEG, 100 where nothing was lost, 0 where that is not known.
    """
    if not all(qualities):
        return 255.0
    first, second = (STEP_LEVELS * (100 - quality) for quality in qualities)
    return max(OWN_DETAIL_LEVELS, math.hypot(first, second))


def is_each_its_own(detail: tuple[float, float, float], qualities: tuple[int, int]) -> bool:
    """Whether both pictures have as much fine detail of their own: two exposures of what did not move."""
    strength, low, high = detail
    return strength > explained_levels(qualities) and low >= OWN_DETAIL_SHARE and high <= 1 - OWN_DETAIL_SHARE


def needs_grain(difference: PixelDifference) -> bool:
    """Whether the levels alone cannot tell, because there is little structure."""
    return (
        difference.rms_levels > STRUCTURE_RATIO * difference.spread_levels
        or difference.spread_levels < LOW_SPREAD_LEVELS
    )


LOW_SPREAD_LEVELS = 14.0
"""Fog, walls, night and smooth gradients spread less than this; their grain is asked for."""


def relation_of_edit(found: Likeness, scene: float, *, same_frame: bool) -> Relation | None:
    """`EDITED`, `SIMILAR` or nothing for a registered pair.

    `scene` is the correlation at registration; `same_frame` says that the map neither turns nor moves the frame
    much, so that fewer places must bear it out.
    """
    same_shot = (
        scene >= SHOT_CORRELATION
        and found.detail_correlation >= DETAIL_CORRELATION
        and found.median_disagreement <= MEDIAN_DISAGREEMENT
        and found.shift_px <= (SOFT_SHIFT_PX if same_frame and _is_agreed(found) else SHIFT_PX)
        and found.agreeing_cells >= AGREEING_SHARE * found.telling_cells
        and (same_frame or found.agreeing_cells >= AGREEING_CELLS)
    )
    contained = max(found.covered_left, found.covered_right) >= CONTAINED
    if same_shot and contained and not is_other_moment(found):
        return Relation.EDITED
    if same_shot or (scene >= SCENE_CORRELATION and (same_frame or found.agreeing_cells >= SCENE_CELLS)):
        return Relation.SIMILAR
    return None


def _is_agreed(found: Likeness) -> bool:
    """Whether detail agrees everywhere, so that a shift of it can only be a tone's."""
    return (
        found.detail_correlation >= AGREED_CORRELATION
        and found.agreeing_cells >= AGREED_SHARE * found.telling_cells
    )


def is_other_moment(found: Likeness) -> bool:
    """Whether what changed is too much, or too scattered, for a retouch."""
    if found.changed_share > CHANGED_SHARE:
        return True
    strong = [place for place in found.places if place.levels >= STRONG_LEVELS]
    share = sum(place.share for place in strong)
    if share < SCATTERED_SHARE:
        return False
    if found.plain_share >= (CHAT_SHARE if len(strong) > 1 else PAGE_SHARE):
        return True
    boxes = [place.box for place in strong]
    width = max(box[2] for box in boxes) - min(box[0] for box in boxes)
    height = max(box[3] for box in boxes) - min(box[1] for box in boxes)
    spread = width * height
    return spread > SCATTERED_BOX and share < SCATTERED_FILL * spread
