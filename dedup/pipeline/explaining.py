"""Which stage of a scan would have kept two photos apart, and by how much.

Promises: the same functions and thresholds that a scan uses, asked about one pair. Does not: decide.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dedup.confirm import alignment, relation
from dedup.confirm.copies import coarser_quality, is_exactly_equal
from dedup.confirm.loading import Loaded, Loader, grey64
from dedup.confirm.pair import GATE_CORRELATION, LEAST_SIDE_PX
from dedup.confirm.pixels import is_same_frame, measure_difference, resize_to
from dedup.index.pairs import HASH_TEXTURE_LEVELS
from dedup.records import Hurdle, Match, Photo, Relation, Source
from dedup.settings import LOW_TEXTURE_LEVELS, Settings


def explain(
    left: Photo, right: Photo, match: Match | None, loader: Loader, settings: Settings
) -> tuple[Hurdle, ...]:
    """What each stage makes of the pair, in the order of a scan."""
    if left.digest == right.digest:
        return (Hurdle("crawl", True, "both are read", None, None), _same_bytes())
    hurdles = [
        Hurdle("decode", True, f"{left.info.format} and {right.info.format}, both decoded"),
        Hurdle("bytes", False, "the digests differ, so the pixels must tell"),
        *_index(left, right, settings),
        *_confirm(left, right, loader),
        _verdict(match),
    ]
    return tuple(hurdles)


def _same_bytes() -> Hurdle:
    return Hurdle("bytes", True, "the same digest: a duplicate without a look at the pixels", 0.0, 0.0)


def _index(left: Photo, right: Photo, settings: Settings) -> Iterator[Hurdle]:
    from dedup.pipeline.comparing import propose

    texture = min(left.fingerprint.texture, right.fingerprint.texture)
    hashed = texture >= HASH_TEXTURE_LEVELS
    more = "" if texture >= LOW_TEXTURE_LEVELS else "; so little is judged by colour and pixels"
    yield Hurdle(
        "fingerprint",
        hashed,
        f"texture {texture:.1f} levels; below {HASH_TEXTURE_LEVELS} hashes are not asked{more}",
        texture,
        HASH_TEXTURE_LEVELS,
    )
    bits, orientation = _nearest(left, right)
    radius = settings.hash_radius_bits
    turned = f" (turned or mirrored, orientation {orientation + 1})" if orientation else ""
    yield Hurdle(
        "index: hash",
        hashed and bits <= radius,
        f"pHash distance {bits} of 64 bits{turned}, radius {radius}",
        float(bits),
        float(radius),
    )
    found = {pair.source for pair in propose(left, right, settings)}
    if Source.WINDOW in found:
        yield Hurdle(
            "index: window", True, "a window of one is like the other, or like it without its border"
        )
    elif Source.FLAT in found:
        yield Hurdle("index: flat", True, "flat pictures of like colours")
    elif not found:
        yield Hurdle(
            "index: window",
            False,
            "no window or border makes them alike; only annoy, or a photo that is like both, could bring them together",
        )


def _nearest(left: Photo, right: Photo) -> tuple[int, int]:
    first = int.from_bytes(left.fingerprint.phash64[:8], "big")
    there = right.fingerprint.phash64
    return min(((first ^ int.from_bytes(there[8 * o : 8 * o + 8], "big")).bit_count(), o) for o in range(8))


def _confirm(left: Photo, right: Photo, loader: Loader) -> Iterator[Hurdle]:
    sizes = [(photo.info.width_px, photo.info.height_px) for photo in (left, right)]
    same = is_same_frame(*sizes)
    ratio = sizes[0][0] / sizes[0][1] / (sizes[1][0] / sizes[1][1])
    yield Hurdle(
        "confirm: frame",
        same,
        f"{sizes[0][0]} x {sizes[0][1]} and {sizes[1][0]} x {sizes[1][1]}"
        + (", one frame" if same else f", proportions {100 * abs(ratio - 1):.1f} % apart"),
        abs(ratio - 1),
    )
    correlation = alignment.correlation(grey64(left, 1), grey64(right, 1), np.ones((64, 64), np.float32))
    yield Hurdle(
        "confirm: gate",
        correlation >= GATE_CORRELATION,
        f"greys of 64 px correlate by {correlation:.2f} without alignment, {GATE_CORRELATION} wanted",
        correlation,
        GATE_CORRELATION,
    )
    a = loader.load(left)
    b = loader.load(right, keep=left.id)
    if is_exactly_equal(a, b):
        yield Hurdle("confirm: pixels", True, "every stored pixel is equal", 0.0, 0.0)
    elif same:
        yield from _pixels(a, b)


def _pixels(a: Loaded, b: Loaded) -> Iterator[Hurdle]:
    size = min(a.size, b.size, key=lambda size: size[0] * size[1])
    difference = measure_difference(resize_to(a.full.rgb, size), resize_to(b.full.rgb, size))
    quality = coarser_quality(a, b)
    coarse = 0 < quality <= relation.COARSE_QUALITY and (
        difference.worst_tile_levels <= relation.COARSE_RATIO * difference.busy_tile_levels
    )
    rms, shift, detail = (
        (relation.COARSE_RMS_LEVELS, relation.COARSE_SHIFT_LEVELS, relation.COARSE_DETAIL)
        if coarse
        else (relation.RMS_LEVELS, relation.COLOUR_SHIFT_LEVELS, relation.CHANGED_DETAIL)
    )
    box = difference.worst_tile_box
    place = f" at ({round(box[0] * size[0])}, {round(box[1] * size[1])}) px"
    for name, value, limit, words in (
        ("rms", difference.rms_levels, rms, "RMS of all pixels, levels"),
        (
            "worst tile",
            difference.worst_tile_levels,
            relation.WORST_TILE_LEVELS,
            f"mean of an 8 px tile{place}",
        ),
        ("colour", difference.colour_shift_levels, shift, "shift of colour of a large tile, levels"),
        ("detail", difference.changed_detail, detail, "detail that disagrees around the worst tiles"),
    ):
        yield Hurdle(
            f"confirm: {name}",
            value <= limit,
            f"{words}: {value:.2f}, a copy has at most {limit:g}",
            value,
            limit,
        )
    least = min(*a.size, *b.size)
    if a.size != b.size and least < LEAST_SIDE_PX:
        yield Hurdle(
            "confirm: size",
            False,
            f"a side of {least} px proves nothing of a larger picture, {LEAST_SIDE_PX} wanted",
            float(least),
            float(LEAST_SIDE_PX),
        )


def _verdict(match: Match | None) -> Hurdle:
    if match is None:
        return Hurdle("cluster", False, "no relation: the two are in no group together")
    if match.relation is Relation.SIMILAR:
        return Hurdle("cluster", False, "another moment of the scene: shown apart, never in a group")
    if match.relation is Relation.EDITED:
        return Hurdle("cluster", True, "in one group, as an edited version that only a person may remove")
    return Hurdle("cluster", True, f"in one group, as {match.relation.value}")
