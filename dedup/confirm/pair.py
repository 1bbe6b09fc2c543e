"""One pair measured: from the hypotheses of the index to a `Match`, or to nothing.

Cheap tests come first (greys of 64 px, without decoding), full pixels always before a verdict.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL import Image

from dedup.confirm import alignment, relation, words
from dedup.confirm.alignment import IDENTITY, Alignment, Map
from dedup.confirm.copies import coarser_quality, compare_frames, copy_difference, descent, equal_pixels
from dedup.confirm.evidence import CLUSTERED, turn
from dedup.confirm.finish import NOISE_GAINS, Finish, is_calmer, is_noisier, measure_finish
from dedup.confirm.frames import surroundings
from dedup.confirm.likeness import Likeness, compare_registered
from dedup.confirm.loading import Loaded, Loader, grey64
from dedup.confirm.pixels import (
    PixelDifference,
    is_same_frame,
    measure_difference,
    resize_to,
)
from dedup.records import CandidatePair, Change, Figures, Match, Photo, Relation, Source
from dedup.settings import LOW_TEXTURE_LEVELS

Direction = Literal["left-first", "right-first", "unknown"]

GATE_CORRELATION = 0.5
"""Registered 64 px greys: edits reach 0.71 (a place of 15 % repainted), so no edit is lost by a wide margin."""
DEEP_AREA = 0.71
DEEP_GATE_CORRELATION = 0.95
"""The same where nothing but a window of less than `DEEP_AREA` of one picture is like the other one: crops to half the
area register with 0.96 and more, neighbouring parts of one view seldom do."""
SETTLED_CORRELATION = 0.985
"""A start that registers this well needs no further starts."""
ASTRAY_CORRELATION = 0.5
"""At 512 px: edits whose map went astray by two pixels still reach 0.6."""
ASTRAY_START = 0.02
"""Largest entry, in fractions of the side, up to which a start found in greys of 64 px stands for an unmoved frame."""
SETTLED_STARTS = 3
"""Of the starts tried, so many are followed to the end."""
LEAST_SIDE_PX = 40
"""A reduced copy with a shorter side cannot prove the larger picture: a date in its corner is less than a pixel
high."""
CLUSTER_GAP = 0.03
"""Traces both ways are told apart from this difference of grid distances."""
FRAME_KEPT = 0.004
"""Largest entry, in fractions of the side, of the map of a frame that stayed as it was, as well as it is known."""
FINISH_RMS_LEVELS = 0.7
"""Copies that differ by less are not asked whether they were blurred: light blur of a soft picture leaves 1.0."""
COPY_MEAN_LEVELS = 3.0
"""Largest difference of mean colour that a copy of the same frame reaches; an edit of tone moves it further."""
INVERSE = {6: 8, 8: 6}


@dataclass(frozen=True, slots=True)
class _Found:
    """A registered hypothesis."""

    orientation: int
    """EXIF orientation (1 to 8) to apply to the right picture."""
    alignment: Alignment


class PairMeasurer:
    """Measures pairs of photos; the left one is the presumptive keeper."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader
        self.enlarged: dict[int, float] = {}
        """Effective scale of photos shown to be enlarged from another."""

    def measure(self, left: Photo, right: Photo, hypotheses: Sequence[CandidatePair]) -> Match | None:
        """Relation of `right` to `left`; None if they are not the same scene.

        Raises
        ------
        CannotLoad
            If one of them cannot be decoded in full.
        """
        asked = _orient(left, right, hypotheses)
        for orientation in dict.fromkeys(turned for turned, _ in asked):
            if orientation == 1:
                found = self._match_frames(left, right, hypotheses)
            else:
                found = self._match_turned(left, right, orientation, hypotheses)
            if found is not None:
                return found
        best = self._register(left, right, asked)
        if best is None or best.alignment.correlation < _gate(hypotheses):
            return None
        return self._match_registered(left, right, best, hypotheses)

    def is_promising_copy(self, left: Photo, right: Photo) -> bool:
        """Whether the fingerprints leave room for a copy, turned or not, at no cost."""
        size, other = [(photo.info.width_px, photo.info.height_px) for photo in (left, right)]
        if not (is_same_frame(size, other) or is_same_frame(size, other[::-1])):
            return False
        means = [
            np.frombuffer(photo.fingerprint.colour, np.uint8).reshape(-1, 3).mean(axis=0)
            for photo in (left, right)
        ]
        return float(np.abs(means[0] - means[1]).max()) <= COPY_MEAN_LEVELS

    # --- one frame ------------------------------------------------------------------------------------------------

    def _match_frames(self, left: Photo, right: Photo, hypotheses: Sequence[CandidatePair]) -> Match | None:
        """The safe relations: equal frames, upright, compared pixel by pixel."""
        sizes = [(photo.info.width_px, photo.info.height_px) for photo in (left, right)]
        if not is_same_frame(*sizes):
            return None
        if not _is_flat(left, right):
            greys = grey64(left, 1), grey64(right, 1)
            if alignment.correlation(*greys, np.ones((64, 64), np.float32)) < GATE_CORRELATION:
                return None
        a = self.loader.load(left)
        b = self.loader.load(right, keep=left.id)
        exact = equal_pixels(a, b)
        if exact is not None:
            return self._build(a, b, Relation.SAME_PIXELS, _of_copy(exact, 1), _resized(a, b), hypotheses)
        if a.full.info.frames > 1 and b.full.info.frames > 1 and a.full.frames_digest != b.full.frames_digest:
            return None
        difference, profile_lost = compare_frames(a, b)
        if difference is None:
            return None
        changes = (
            [Change("profile", "colour profile lost")] if profile_lost and not b.photo.info.icc_digest else []
        )
        if a.full.info.frames != b.full.info.frames:
            count = f"{a.full.info.frames} pictures in the file"
            words_ = (
                f"one picture, where there are {count}"
                if a.full.info.frames > 1
                else (f"{b.full.info.frames} pictures in the file, where there is one")
            )
            changes.append(Change("frames", words_, float(b.full.info.frames)))
            return self._build(
                a, b, Relation.EDITED, _Measured(difference, IDENTITY, 1, 1.0), changes, hypotheses
            )
        if min(*a.size, *b.size) < LEAST_SIDE_PX and a.size != b.size:
            return self._build(
                a,
                b,
                Relation.EDITED,
                _Measured(difference, IDENTITY, 1, 1.0),
                changes + _resized(a, b),
                hypotheses,
            )
        if (a.full.alpha is None) != (b.full.alpha is None):
            changes.append(
                Change("alpha", "transparency filled" if b.full.alpha is None else "with transparency")
            )
            return self._build(
                a, b, Relation.EDITED, _Measured(difference, IDENTITY, 1, 1.0), changes, hypotheses
            )
        found = [*changes, *_resized(a, b), *_finish(a, b, difference)]
        return self._build(a, b, Relation.SAME_PICTURE, _of_copy(difference, 1), found, hypotheses)

    def _match_turned(
        self, left: Photo, right: Photo, orientation: int, hypotheses: Sequence[CandidatePair]
    ) -> Match | None:
        """A copy that was turned or mirrored and is the same picture otherwise: edited, and told by full pixels."""
        sizes = (left.info.width_px, left.info.height_px), (right.info.width_px, right.info.height_px)
        turned_size = sizes[1][::-1] if orientation >= 5 else sizes[1]
        if _is_flat(left, right) or not is_same_frame(sizes[0], turned_size):
            return None
        greys = grey64(left, 1), grey64(right, orientation)
        if alignment.correlation(*greys, np.ones((64, 64), np.float32)) < GATE_CORRELATION:
            return None
        a = self.loader.load(left)
        b = self.loader.load(right, keep=left.id)
        if b.full.alpha is not None or a.full.frames_digest != b.full.frames_digest:
            return None
        pixels = np.ascontiguousarray(turn(b.full.rgb, orientation))
        difference = copy_difference(a.full.rgb, pixels, None, coarser_quality(a, b))
        change = words.turn_change(orientation)
        if difference is None or change is None:
            return None
        changes = [change, *_resized(a, b)]
        return self._build(a, b, Relation.EDITED, _of_copy(difference, orientation), changes, hypotheses)

    # --- registered -----------------------------------------------------------------------------------------------

    def _register(self, left: Photo, right: Photo, asked: Sequence[tuple[int, Map]]) -> _Found | None:
        """The best registration of the 64 px greys over all hypotheses; None if none is good enough to decode for."""
        if max(left.fingerprint.texture, right.fingerprint.texture) < LOW_TEXTURE_LEVELS:
            return None
        template = grey64(left, 1)
        best: _Found | None = None
        for orientation in dict.fromkeys(turned for turned, _ in asked):
            seen = grey64(right, orientation)
            starts = [matrix for turned, matrix in asked if turned == orientation]
            images = Image.fromarray(template), Image.fromarray(seen)
            for number, found in enumerate(
                _settled(
                    images,
                    [
                        IDENTITY,
                        *starts,
                        *_border_starts(left, right, orientation),
                        *alignment.find_starts(template, seen),
                    ],
                )
            ):
                if best is None or found.correlation > best.alignment.correlation + (
                    0.005 if number else 0.0
                ):
                    best = _Found(orientation, found)
                if best.alignment.correlation >= SETTLED_CORRELATION:
                    break
        return best

    def _match_registered(
        self, left: Photo, right: Photo, start: _Found, hypotheses: Sequence[CandidatePair]
    ) -> Match | None:
        a = self.loader.load(left)
        b = self.loader.load(right, keep=left.id)
        turned = _turned(b.small, start.orientation)
        greys = a.small.convert("L"), turned.convert("L")
        upright = b.size[::-1] if start.orientation >= 5 else b.size
        one_frame = is_same_frame(a.size, upright)
        coarse = alignment.align(*greys, start.alignment.map, alignment.LEVELS_PX[1:])
        if one_frame and np.abs(start.alignment.map - IDENTITY).max() > ASTRAY_START:
            # A film look's dark corners drew the greys aside; most edits leave the frame exactly as it was.
            kept = alignment.align(*greys, IDENTITY, alignment.LEVELS_PX[1:])
            coarse = max(coarse, kept, key=lambda found: found.correlation)
        if coarse.correlation < relation.SCENE_CORRELATION:
            return None
        refine = ((alignment.REFINED_PX,), alignment.REFINING_ROUNDS)
        fine = alignment.align(*greys, coarse.map, *refine)
        if ASTRAY_CORRELATION <= fine.correlation < SETTLED_CORRELATION and one_frame:
            # Tones may draw the map aside.
            fine = max(fine, alignment.align(*greys, IDENTITY, *refine), key=lambda found: found.correlation)
        matrix = fine.map if fine.overlap else coarse.map
        found = compare_registered(a.small, turned, matrix)
        stored = a.small_stored or (a.small if b.small_stored else None)
        if stored is not None and a.photo.info.icc_digest != b.photo.info.icc_digest:
            other = _turned(b.small_stored or b.small, start.orientation)
            unmanaged = compare_registered(stored, other, matrix)
            found = min(found, unmanaged, key=lambda likeness: likeness.rms_levels)
        same_frame = start.orientation == 1 and np.abs(matrix - IDENTITY).max() <= relation.SAME_FRAME
        kind = relation.relation_of_edit(found, coarse.correlation, same_frame=bool(same_frame))
        if kind is None:
            return None
        if a.full.info.frames > 1 and b.full.info.frames > 1 and a.full.frames_digest != b.full.frames_digest:
            kind = Relation.SIMILAR
        finish = None
        if same_frame and a.size == b.size:
            finish = measure_finish(a.full.rgb, b.full.rgb)
            info = b.full.info
            if kind is Relation.SIMILAR and is_noisier(finish, info.quality, lossless=info.lossless):
                # All fine detail of the one is in the other, in its place; half as large, the noise is averaged.
                calm = compare_registered(a.small.reduce(2), turned.reduce(2), IDENTITY)
                if calm.detail_correlation >= relation.DETAIL_CORRELATION and not relation.is_other_moment(
                    calm
                ):
                    kind, found, matrix = Relation.EDITED, calm, IDENTITY
            if np.abs(matrix - IDENTITY).max() > FRAME_KEPT:
                finish = None
        changes, told = _edit_changes(a, b, (start.orientation, turned), matrix, found)
        if finish is not None:
            done = _finish_changes(finish, a, b, found.toning.slope)
            changes += done
            if done and told == "unknown":
                # Noise, blur and sharpening are done to a picture, not taken from it.
                told = "right-first" if done[0].amount < 0 else "left-first"
        else:
            changes += words.detail_changes(found)
        difference = None
        if kind is Relation.EDITED:
            difference = self._full_difference(a, b, start.orientation, matrix)
            if {change.kind for change in changes} <= {"resized"}:
                changes += _faint_changes(found, difference)
        measured = _Measured(difference, matrix, start.orientation, found.detail_correlation, found, told)
        return self._build(a, b, kind, measured, changes, hypotheses)

    def _full_difference(self, a: Loaded, b: Loaded, orientation: int, matrix: Map) -> PixelDifference:
        """What differs at the coarser picture's full size, over what both show, tone left as it is."""
        right = np.ascontiguousarray(turn(b.full.rgb, orientation))
        size = a.size
        scale = min(1.0, words.size_ratio(matrix, size, (right.shape[1], right.shape[0])))
        target = (max(8, round(size[0] * scale)), max(8, round(size[1] * scale)))
        left = resize_to(a.full.rgb, target)
        seen = Image.fromarray(right)
        if scale == 1.0:
            wide = float(np.linalg.norm(matrix[:, 0] * seen.size)) / target[0]
            if wide > 1.2:
                seen = seen.resize(
                    (round(seen.width / wide), round(seen.height / wide)), Image.Resampling.HAMMING
                )
        if np.abs(matrix - IDENTITY).max() < 0.5 / max(target) and seen.size == target:
            return measure_difference(left, np.asarray(seen))
        warped = np.asarray(alignment.warp(seen, matrix, target, Image.Resampling.BILINEAR))
        outside = ~alignment.coverage(matrix, target, seen.size, 1.5)
        share = 1 - float(outside.mean())
        if outside.any():
            left, warped = left.copy(), warped.copy()
            left[outside] = warped[outside] = 0
        difference = measure_difference(left, warped)
        share = max(share, 1e-3)
        return replace(difference, rms_levels=difference.rms_levels / share**0.5)

    # --- the record -----------------------------------------------------------------------------------------------

    def _build(
        self,
        a: Loaded,
        b: Loaded,
        kind: Relation,
        measured: _Measured,
        changes: list[Change],
        hypotheses: Sequence[CandidatePair],
    ) -> Match:
        left, right = a.photo, b.photo
        for change in words.file_changes(left, right):
            if change.kind not in {known.kind for known in changes}:
                changes.append(change)
        direction = self._direction(a, b, kind, measured)
        difference, matrix = measured.difference, measured.matrix
        resaved = kind is Relation.SAME_PICTURE and difference is not None and difference.rms_levels > 0
        if resaved and not {"recompressed", "resized"} & {change.kind for change in changes}:
            changes += words.resave_changes(right)
        oriented = (b.size[1], b.size[0]) if measured.orientation >= 5 else b.size
        figures = Figures(
            phash64_bits=_bits(left.fingerprint.phash64, right.fingerprint.phash64, 8, measured.orientation),
            phash256_bits=_bits(
                left.fingerprint.phash256, right.fingerprint.phash256, 32, measured.orientation
            ),
            rms_levels=round(difference.rms_levels if difference else measured.likeness_rms, 4),
            worst_tile_levels=round(difference.worst_tile_levels if difference else -1.0, 3),
            worst_tile_box=_rounded(difference.worst_tile_box) if difference else None,
            correlation=round(measured.correlation, 5),
            size_ratio=round(words.size_ratio(matrix, a.size, oriented), 5),
            orientation=measured.orientation - 1,
            alignment=tuple(round(float(value), 6) for value in matrix.reshape(-1)),  # type: ignore[arg-type]
            compared_px=difference.size_px if difference else measured.compared_px,
        )
        if kind is Relation.SIMILAR:
            changes = []
        return Match(
            left=left.id,
            right=right.id,
            relation=kind,
            sentence=words.compose_sentence(kind, changes),
            changes=tuple(changes),
            figures=figures,
            source=min((pair.source for pair in hypotheses), key=_SOURCES.index, default=_SOURCES[-1]),
            direction=direction,
        )

    def _direction(self, a: Loaded, b: Loaded, kind: Relation, measured: _Measured) -> Direction:
        if kind is Relation.SIMILAR:
            return "unknown"
        if kind is Relation.EDITED:
            if measured.told != "unknown":
                return measured.told
            orientation = measured.orientation
            # A turn, or paint in one place, leaves the traces of compression elsewhere.
            from_left, from_right = (
                descent(a, b, orientation),
                descent(b, a, INVERSE.get(orientation, orientation)),
            )
            if min(from_left, from_right) <= CLUSTERED and abs(from_left - from_right) >= CLUSTER_GAP:
                return "left-first" if from_left < from_right else "right-first"
            return "unknown"
        return self._direction_of_copy(a, b)

    def _direction_of_copy(self, a: Loaded, b: Loaded) -> Direction:
        """From traces of one's compression in the other, then from what cannot be undone: size, depth, loss."""
        if a.full.info.lossless != b.full.info.lossless and np.array_equal(a.full.rgb, b.full.rgb):
            # No lossy file holds just the pixels that another one happens to have.
            return "right-first" if a.full.info.lossless else "left-first"
        from_left, from_right = descent(a, b, 1), descent(b, a, 1)
        smaller, larger = (a, b) if a.size[0] * a.size[1] < b.size[0] * b.size[1] else (b, a)
        if min(from_left, from_right) <= CLUSTERED and abs(from_left - from_right) >= CLUSTER_GAP:
            first, later = (a, b) if from_left < from_right else (b, a)
            if words.missing_metadata(later.photo, first.photo):
                # A save may lose what a file says of its picture; it does not find it again.
                return "unknown"
            if a.size != b.size:
                if first is not smaller:
                    return "left-first" if larger is a else "right-first"
                self.enlarged[larger.photo.id] = smaller.size[0] / larger.size[0]
            return "left-first" if first is a else "right-first"
        if a.size != b.size:
            return "left-first" if larger is a else "right-first"
        for mine, other in (
            (a.full.info.bits, b.full.info.bits),
            (a.full.info.lossless, b.full.info.lossless),
        ):
            if mine != other and a.full.info.bits > 1 and b.full.info.bits > 1:
                return "left-first" if mine > other else "right-first"
        return "unknown"


_SOURCES = list(Source)


@dataclass(frozen=True, slots=True)
class _Measured:
    """What was measured of a pair, on its way into `Figures`."""

    difference: PixelDifference | None
    matrix: Map
    orientation: int
    correlation: float
    likeness: Likeness | None = None
    told: Direction = "unknown"
    """Which came first, as far as the frame or lost colours tell."""

    @property
    def likeness_rms(self) -> float:
        return self.likeness.rms_levels if self.likeness else -1.0

    @property
    def compared_px(self) -> tuple[int, int]:
        return self.likeness.size_px if self.likeness else (0, 0)


def _of_copy(difference: PixelDifference, orientation: int) -> _Measured:
    """A copy of one frame; its correlation follows from the difference and the spread of levels."""
    spread = max(difference.spread_levels, 1e-3)
    likeness = max(-1.0, 1 - 0.5 * (difference.rms_levels / spread) ** 2)
    return _Measured(difference, IDENTITY, orientation, likeness)


def _orient(left: Photo, right: Photo, hypotheses: Sequence[CandidatePair]) -> list[tuple[int, Map]]:
    """EXIF orientation of the right picture (1 to 8) and starting map of each hypothesis, nearest first.

    A pair is stored with the smaller id on its left; seen from the other side, the turn is undone instead. Last
    comes the orientation under which the greys agree best, for pairs that were found through others.
    """
    found = []
    for pair in sorted(hypotheses, key=lambda pair: (pair.distance_bits, pair.orientation)):
        matrix = alignment.window_map(pair.left_window, pair.right_window)
        orientation = pair.orientation + 1
        if pair.left != left.id:
            matrix = _undo(matrix, orientation)
            orientation = INVERSE.get(orientation, orientation)
        if pair.source is not Source.DERIVED or pair.orientation or not np.array_equal(matrix, IDENTITY):
            found.append((orientation, matrix))
    derived = all(pair.source is Source.DERIVED for pair in hypotheses)
    template, whole = grey64(left, 1), np.ones((64, 64), np.float32)
    scores = {o: alignment.correlation(template, grey64(right, o), whole) for o in range(1, 9)}
    likely = max(scores, key=lambda o: (round(scores[o], 3), -o))
    if derived:
        # A border or a crop can make the whole agree best when it is mirrored: as it stands is always tried.
        found.append((1, IDENTITY))
    if likely not in {orientation for orientation, _ in found}:
        found.append((likely, IDENTITY))
    # A picture that is its own mirror image agrees either way; then it stands as it stands.
    if scores[1] >= max(scores[orientation] for orientation, _ in found) - 0.02:
        found = [(1, IDENTITY), *(item for item in found if item[0] != 1 or item[1] is not IDENTITY)]
    return found


def _gate(hypotheses: Sequence[CandidatePair]) -> float:
    """What registered greys must reach for a pair to be decoded."""
    found = [pair for pair in hypotheses if pair.source is Source.WINDOW]
    parts = [min(_area(pair.left_window), _area(pair.right_window)) for pair in found]
    deep = len(found) == len(hypotheses) and max(parts, default=1.0) < DEEP_AREA
    return DEEP_GATE_CORRELATION if deep else GATE_CORRELATION


def _area(window: tuple[float, float, float, float]) -> float:
    return (window[2] - window[0]) * (window[3] - window[1])


def _undo(matrix: Map, orientation: int) -> Map:
    """`matrix` leads from the other picture to this one turned; here from this one, the other one turned back."""
    turning = orientation_map(orientation)
    back = orientation_map(INVERSE.get(orientation, orientation))
    inverse = alignment.invert_map(matrix)
    # this -> (turned) this -> other -> (turned back) other
    return alignment.compose_maps(alignment.compose_maps(turning, inverse), back)


def orientation_map(orientation: int) -> Map:
    """Where a point (x, y) of a picture goes when the EXIF orientation (1 to 8) is applied."""
    x, y = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
    if orientation >= 5:
        x, y = y, x
    one = np.array([0.0, 0.0, 1.0])
    if orientation in (2, 3, 6, 7):
        x = one - x
    if orientation in (3, 4, 7, 8):
        y = one - y
    return np.array([x, y])


def _border_starts(left: Photo, right: Photo, orientation: int) -> list[Map]:
    """Maps under which one frame, or what is left of it without its plain border, shows the other without its own."""
    own = left.fingerprint.trim
    (x0, y0, x1, y1), turning = right.fingerprint.trim, orientation_map(orientation)
    corners = turning @ np.array([[x0, x1], [y0, y1], [1.0, 1.0]])
    (u0, v0), (u1, v1) = corners.min(axis=1), corners.max(axis=1)
    other = (float(u0), float(v0), float(u1), float(v1))
    pairs = [(alignment.WHOLE, other), (own, alignment.WHOLE), (own, other)]
    return [
        alignment.window_map(a, b)
        for number, (a, b) in enumerate(pairs)
        if a != b and (a, b) not in pairs[:number]
    ]


def _settled(images: tuple[Image.Image, Image.Image], starts: Sequence[Map]) -> Iterator[Alignment]:
    """Registrations at 64 px: every start tried for a few rounds, then the promising ones settled, best first."""
    tried = []
    for start in starts:
        found = alignment.align(*images, start, (64,), alignment.TRYING_ROUNDS)
        if found.correlation >= SETTLED_CORRELATION:
            yield found
            return
        tried.append(found)
    tried.sort(key=lambda found: -found.correlation)
    for found in tried[:SETTLED_STARTS]:
        settled = alignment.align(*images, found.map, (64,))
        yield settled if settled.correlation > found.correlation else found


def _is_flat(left: Photo, right: Photo) -> bool:
    return min(left.fingerprint.texture, right.fingerprint.texture) < LOW_TEXTURE_LEVELS


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    if orientation == 1:
        return image
    return Image.fromarray(np.ascontiguousarray(turn(np.asarray(image), orientation)))


def _resized(a: Loaded, b: Loaded) -> list[Change]:
    return words.resize_changes(float(np.sqrt(b.size[0] * b.size[1] / (a.size[0] * a.size[1]))))


def _finish(a: Loaded, b: Loaded, difference: PixelDifference) -> list[Change]:
    """What was done to the fine detail of a copy of the same size."""
    if a.size != b.size or difference.rms_levels < FINISH_RMS_LEVELS:
        return []
    return _finish_changes(measure_finish(a.full.rgb, b.full.rgb), a, b, 1.0)


def _finish_changes(finish: Finish, a: Loaded, b: Loaded, contrast: float) -> list[Change]:
    """Blur, sharpening or noise of the right picture, or that the left one's noise is not in it."""
    if finish.gain < NOISE_GAINS[0]:
        back, info = measure_finish(b.full.rgb, a.full.rgb), a.full.info
        if is_calmer(finish, back, info.quality, lossless=info.lossless):
            return [words.calmer_change(back)]
    return words.finish_changes(finish, b.full.info, contrast)


def _edit_changes(
    a: Loaded, b: Loaded, turned: tuple[int, Image.Image], matrix: Map, found: Likeness
) -> tuple[list[Change], Direction]:
    """What was done, and which picture it was done to, as far as that shows."""
    orientation, right = turned
    changes = []
    turn_ = words.turn_change(orientation)
    if turn_ is not None:
        changes.append(turn_)
    oriented = (b.size[1], b.size[0]) if orientation >= 5 else b.size
    frame = words.frame_changes(matrix, a.size, oriented)
    tone = words.tone_changes(found)
    told: Direction = "unknown"
    around_left = surroundings(a.small, matrix)
    around_right = surroundings(right, alignment.invert_map(matrix))
    kinds = {change.kind for change in frame}
    if "cropped" in kinds and around_left == "plain":
        frame = [words.without_border(change) if change.kind == "cropped" else change for change in frame]
        told = "right-first"
    elif "border" in kinds and around_right == "scene":
        frame = [words.shows_more(change) if change.kind == "border" else change for change in frame]
        told = "right-first"
    elif ("cropped" in kinds and around_left == "scene") or ("border" in kinds and around_right == "plain"):
        told = "left-first"
    elif any(change.kind == "greyscale" for change in tone):
        told = "left-first" if found.toning.chroma < 1 else "right-first"
    return [*changes, *frame, *tone, *words.place_changes(found)], told


def _faint_changes(found: Likeness, difference: PixelDifference) -> list[Change]:
    """What was done, where nothing reached the limits of what is usually worth a word."""
    outlier = words.outlier_change(difference)
    return [outlier] if outlier else words.tone_changes(found, least=0.4)


def _bits(left: bytes, right: bytes, width: int, orientation: int) -> int:
    start = (orientation - 1) * width
    first = int.from_bytes(left[:width], "big")
    return (first ^ int.from_bytes(right[start : start + width], "big")).bit_count()


def _rounded(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    return (round(box[0], 4), round(box[1], 4), round(box[2], 4), round(box[3], 4))
