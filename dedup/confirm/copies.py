"""Two decoded pictures of one frame: exactly equal, copies, or one made from the other.

Promises: pictures are compared as they are seen and, where profiles differ, as they are stored; in every bit and frame
for equality, at the smaller one's full size for likeness.
Does not: turn, align or word anything.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dedup.confirm import relation
from dedup.confirm.evidence import NO_TRACE, Traces, grid_distance, stored_orientation, turn
from dedup.confirm.loading import Loaded
from dedup.confirm.pixels import (
    PixelDifference,
    Pixels,
    is_same_frame,
    measure_difference,
    measure_flat_grain,
    measure_grain,
    measure_own_detail,
    resize_to,
)
from dedup.decode import save_like


def is_exactly_equal(a: Loaded, b: Loaded) -> bool:
    """Equal decoded upright samples of equal depth and meaning, alpha, profile and all frames."""
    return (
        a.full.exact
        and b.full.exact
        and a.full.meaning == b.full.meaning
        and a.full.samples.dtype == b.full.samples.dtype
        and a.full.info.bits == b.full.info.bits
        and a.full.frames_digest == b.full.frames_digest
        and a.photo.info.icc_digest == b.photo.info.icc_digest
        and _equal(a.full.samples, b.full.samples)
    )


def _equal(p: NDArray[np.generic], q: NDArray[np.generic]) -> bool:
    """Equal arrays; those that are not are told apart by the first rows that differ, without going over the rest."""
    if p.shape != q.shape:
        return False
    step = 64
    return all(np.array_equal(p[top : top + step], q[top : top + step]) for top in range(0, len(p), step))


def equal_pixels(a: Loaded, b: Loaded) -> PixelDifference | None:
    """A zero difference for exactly equal pictures, found without measuring."""
    if not is_exactly_equal(a, b):
        return None
    return PixelDifference(0.0, 0.0, (0.0, 0.0, 0.0, 0.0), 0.0, 0.0, 0.0, None, 128.0, a.size)


def compare_frames(a: Loaded, b: Loaded) -> tuple[PixelDifference | None, bool]:
    """The difference if it is that of copies (else None), as managed and, where profiles differ, as stored."""
    quality = coarser_quality(a, b)
    found = copy_difference(a.full.rgb, b.full.rgb, _alphas(a, b), quality)
    if found is not None:
        if is_other_exposure(a, b, found):
            return None, False
        deep = _deep(a, b)
        return (found if deep is None or copy_difference(*deep, None) is not None else None), False
    other_profile = a.photo.info.icc_digest != b.photo.info.icc_digest
    if other_profile:
        stored = [item.full.samples for item in (a, b)]
        if all(
            s.dtype == np.uint8 and item.full.meaning == "RGB" for s, item in zip(stored, (a, b), strict=True)
        ):
            found = copy_difference(stored[0], stored[1], None, quality)  # type: ignore[arg-type]
            if found is not None:
                return found, True
    return explained_by_saving(a, b), other_profile


def explained_by_saving(a: Loaded, b: Loaded) -> PixelDifference | None:
    """The difference of two pictures of one frame, if it is what the coarser one's own quantisation does to the other.

    The finer one is saved once more, as the coarser was: what still differs then was not done by compression, and is
    judged as ever. Where grain alone tells two frames apart, a coarse save hides it, and nothing is explained."""
    known = [item for item in (a, b) if 0 < item.full.info.quality <= relation.SAVED_QUALITY]
    if not known or _alphas(a, b) is not None:
        return None
    coarser = min(known, key=lambda item: item.full.info.quality)
    finer = b if coarser is a else a
    p, q = _stored(finer), _stored(coarser)
    if p is None or q is None or finer.size[0] < coarser.size[0]:
        return None
    p = resize_to(p, coarser.size)
    before = measure_difference(p, q)
    if before.rms_levels > 2 * relation.RMS_LEVELS:
        return None
    saved = save_like(p, coarser.full)
    if saved is None:
        return None
    after = measure_difference(saved, q)
    if (
        after.rms_levels <= relation.SAVED_EXACTLY_LEVELS
        and before.spread_levels >= relation.LOW_SPREAD_LEVELS
    ):
        return before
    if relation.needs_grain(before) or relation.needs_grain(after):
        return None
    if not relation.is_same_picture(after, None):
        return None
    return None if relation.is_other_exposure(measure_flat_grain(p, q)) else before


def is_other_exposure(a: Loaded, b: Loaded, difference: PixelDifference) -> bool:
    """Whether two pictures of one size differ by noise that each has of its own."""
    if a.size != b.size:
        return False
    first, second = (100 if item.full.info.lossless else item.full.info.quality for item in (a, b))
    if difference.rms_levels < relation.explained_levels((first, second)):
        return False
    return relation.is_each_its_own(measure_own_detail(a.full.rgb, b.full.rgb), (first, second))


def coarser_quality(a: Loaded, b: Loaded) -> int:
    """Quality of the more strongly compressed JPEG of the two; 0 where neither is one."""
    return min((item.full.info.quality for item in (a, b) if item.full.info.quality), default=0)


def copy_difference(
    p: Pixels, q: Pixels, alpha: tuple[Pixels, Pixels] | None, quality: int = 0
) -> PixelDifference | None:
    """Measured at the smaller one's size; a second look with a sharper filter where the first one came near.

    `quality` as for `relation.is_same_picture`."""
    size = min((p.shape[1], p.shape[0]), (q.shape[1], q.shape[0]), key=lambda s: s[0] * s[1])
    for sharp in (False, True):
        first, second = resize_to(p, size, sharp=sharp), resize_to(q, size, sharp=sharp)
        planes = (
            (resize_to(alpha[0], size, sharp=sharp), resize_to(alpha[1], size, sharp=sharp))
            if alpha
            else None
        )
        difference = measure_difference(first, second, planes)
        near = difference.rms_levels <= 1.5 * relation.RMS_LEVELS
        if not near:
            return None
        grain = measure_grain(first, second) if relation.needs_grain(difference) else None
        if relation.is_same_picture(difference, grain, quality):
            if difference.rms_levels < relation.GRAINY_RMS_LEVELS or not relation.is_other_exposure(
                measure_flat_grain(first, second)
            ):
                return difference
            return None
        if p.shape == q.shape:
            return None
    return None


def _deep(a: Loaded, b: Loaded) -> tuple[Pixels, Pixels] | None:
    """Two pictures of more than eight bits that use little of their range, stretched by one factor to eight bits.

    What lies in the lowest bits is black to eight bits, and all that is black is alike.
    """
    samples = [item.full.samples for item in (a, b)]
    if any(s.dtype != np.uint16 for s in samples) or a.full.meaning != b.full.meaning:
        return None
    top = max(1, *(int(s.max(initial=0)) for s in samples))
    low = min(int(s.min(initial=0)) for s in samples)
    if top - low >= 65535 // 4:
        return None
    stretched = [
        ((s.astype(np.float32) - low) * (255.0 / max(top - low, 1))).astype(np.uint8) for s in samples
    ]
    if stretched[0].shape[2] not in (1, 3):
        return None
    planes = [np.repeat(s, 3, axis=2) if s.shape[2] == 1 else s for s in stretched]
    return planes[0], planes[1]


def _alphas(a: Loaded, b: Loaded) -> tuple[Pixels, Pixels] | None:
    if a.full.alpha is None or b.full.alpha is None:
        return None
    return a.full.alpha, b.full.alpha


def descent(parent: Loaded, child: Loaded, orientation: int) -> float:
    """How far the child's cosine weights are from the parent's quantisation steps; 0.25 where that cannot be asked.

    `orientation` (1 to 8) turns the child to how the parent stands. Samples as stored are looked at: a profile that
    was dropped left them as they were."""
    tables = parent.full.quantisation
    stored = [_stored(item) for item in (parent, child)]
    if not tables or stored[0] is None or stored[1] is None:
        return NO_TRACE
    turned = parent.full.info.orientation
    pixels = turn(stored[1], orientation)
    size = pixels.shape[1], pixels.shape[0]
    own = child.full.quantisation
    if parent.size != size:
        if not is_same_frame(parent.size, size) or size[0] < parent.size[0]:
            return NO_TRACE
        if turned != 1:
            return NO_TRACE
        middle, window = _middle(parent.size)
        pixels, own = _resize_part(pixels, parent.size, window), None
        stored[0] = stored[0][middle]
    return grid_distance(
        Traces(
            stored_orientation(stored[0], turned),
            stored_orientation(pixels, turned),
            tables[0],
            own[0] if own else None,
        )
    )


PART_PX = 320
"""Side of the middle part in which a picture of another size is asked for traces: resizing all of it would cost more
than all else about the pair."""


def _middle(size: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[int, int, int, int]]:
    """The middle of a picture on its grid of 8 px: as slices (rows, columns), and as left, top, right, bottom."""
    spans = []
    for side in size:
        start = max(0, (side - PART_PX) // 2) // 8 * 8
        spans.append((start, min(side, start + PART_PX)))
    (left, right), (top, bottom) = spans
    return (slice(top, bottom), slice(left, right)), (left, top, right, bottom)


def _resize_part(pixels: Pixels, size: tuple[int, int], window: tuple[int, int, int, int]) -> Pixels:
    """What a picture shows in a window of itself at another size."""
    left, top, right, bottom = window
    x, y = pixels.shape[1] / size[0], pixels.shape[0] / size[1]
    reach = 4
    edges = (
        max(0, int(left * x) - reach),
        max(0, int(top * y) - reach),
        min(pixels.shape[1], int(right * x) + reach + 1),
        min(pixels.shape[0], int(bottom * y) + reach + 1),
    )
    part = Image.fromarray(np.ascontiguousarray(pixels[edges[1] : edges[3], edges[0] : edges[2]]))
    box = (left * x - edges[0], top * y - edges[1], right * x - edges[0], bottom * y - edges[1])
    return np.asarray(part.resize((right - left, bottom - top), Image.Resampling.LANCZOS, box=box))


def _stored(item: Loaded) -> Pixels | None:
    """The samples as stored, if they are RGB of eight bits (a grey JPEG's are its seen pixels)."""
    samples = item.full.samples
    if item.full.meaning == "L":
        return item.full.rgb
    return (
        samples.astype(np.uint8, copy=False)
        if item.full.meaning == "RGB" and samples.dtype == np.uint8
        else None
    )
