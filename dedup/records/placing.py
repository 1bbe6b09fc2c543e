"""Where one picture lies in another, put together from two measurements, or seen from the other side.

Promises: exact algebra on the eight orientations and on affine maps of fractions; nothing is estimated anew.
Does not: decide whether a composed hypothesis holds; that is for `confirm`.

A placement is an orientation and a map: the point p of the left picture shows the point `map(p)` of the right
picture once that orientation was applied to it, as in `Figures`.
"""

from __future__ import annotations

from dataclasses import dataclass

from dedup.records.finding import CandidatePair, Match, Photo, Source

Affine = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f): (x, y) goes to (a x + b y + c, d x + e y + f)."""
Window = tuple[float, float, float, float]

IDENTITY: Affine = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
WHOLE: Window = (0.0, 0.0, 1.0, 1.0)

ORIENTED: tuple[Affine, ...] = (
    IDENTITY,
    (-1.0, 0.0, 1.0, 0.0, 1.0, 0.0),
    (-1.0, 0.0, 1.0, 0.0, -1.0, 1.0),
    (1.0, 0.0, 0.0, 0.0, -1.0, 1.0),
    (0.0, 1.0, 0.0, 1.0, 0.0, 0.0),
    (0.0, 1.0, 0.0, -1.0, 0.0, 1.0),
    (0.0, -1.0, 1.0, -1.0, 0.0, 1.0),
    (0.0, -1.0, 1.0, 1.0, 0.0, 0.0),
)
"""By orientation index (see `Fingerprint`): from a point of the oriented picture to the point of the stored one
that it shows. Turning by 90 clockwise shows the stored (y, 1 - x) at (x, y)."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the left picture's points lie in the right one."""

    orientation: int
    map: Affine


def compose(first: Affine, then: Affine) -> Affine:
    """The map that applies `first`, then `then`."""
    a, b, c, d, e, f = first
    g, h, i, j, k, m = then
    return (g * a + h * d, g * b + h * e, g * c + h * f + i, j * a + k * d, j * b + k * e, j * c + k * f + m)


def invert(affine: Affine) -> Affine:
    """The map back; the identity for one that squashes everything onto a line."""
    a, b, c, d, e, f = affine
    det = a * e - b * d
    if abs(det) < 1e-9:
        return IDENTITY
    a, b, d, e = e / det, -b / det, -d / det, a / det
    return (a, b, -(a * c + b * f), d, e, -(d * c + e * f))


def placement_of(match: Match) -> Placement:
    """The placement that a match measured; the whole frame for one that compared no pixels."""
    return Placement(match.figures.orientation, match.figures.alignment)


def turn_placement(placement: Placement) -> Placement:
    """The same placement seen from the right picture."""
    turn = ORIENTED[placement.orientation]
    back = compose(compose(invert(turn), invert(placement.map)), turn)
    return Placement(ORIENTED.index(_snap(invert(turn))), back)


def chain_placements(first: Placement, then: Placement) -> Placement:
    """Left to middle, middle to right: left to right."""
    turn = ORIENTED[first.orientation]
    orientation = ORIENTED.index(_snap(compose(turn, ORIENTED[then.orientation])))
    through = compose(compose(first.map, turn), compose(then.map, invert(turn)))
    return Placement(orientation, through)


def _snap(affine: Affine) -> Affine:
    """Rid an orientation of the negative zeros that inverting leaves."""
    a, b, c, d, e, f = (float(round(value)) + 0.0 for value in affine)
    return (a, b, c, d, e, f)


def windows_of(placement: Placement) -> tuple[Window, Window]:
    """The window of the left picture that the right one covers, and the window of the right one that shows it.

    Shear and tilt are dropped: a window stands upright. Rounded to four decimals, far below what a search could
    tell apart.
    """
    left = clip_window(bound_window(WHOLE, invert(placement.map)))
    return left, clip_window(bound_window(left, placement.map))


def bound_window(window: Window, affine: Affine) -> Window:
    """The upright box around where a map carries a window."""
    a, b, c, d, e, f = affine
    x0, y0, x1, y1 = window
    corners = [(a * x + b * y + c, d * x + e * y + f) for x in (x0, x1) for y in (y0, y1)]
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    return (min(xs), min(ys), max(xs), max(ys))


def clip_window(window: Window) -> Window:
    """Within the picture, to four decimals; the whole where hardly anything is left."""
    x0, y0, x1, y1 = (round(min(max(value, 0.0), 1.0), 4) for value in window)
    # Nothing in common: say nothing about where.
    return (x0, y0, x1, y1) if x1 - x0 > 0.05 and y1 - y0 > 0.05 else WHOLE


def derive_pair(left: Photo, right: Photo, placement: Placement) -> CandidatePair:
    """A candidate with the hypothesis of a placement, in the order of ids that candidates have."""
    if left.id > right.id:
        left, right, placement = right, left, turn_placement(placement)
    left_window, right_window = windows_of(placement)
    return CandidatePair(
        left=left.id,
        right=right.id,
        source=Source.DERIVED,
        distance_bits=hash_bits(left, right, placement.orientation),
        orientation=placement.orientation,
        left_window=left_window,
        right_window=right_window,
    )


def hash_bits(left: Photo, right: Photo, orientation: int) -> int:
    """Hamming distance of the 64-bit hashes, the right picture in `orientation`; 64 where one has no hash."""
    a = left.fingerprint.phash64[:8]
    b = right.fingerprint.phash64[8 * orientation : 8 * orientation + 8]
    if len(a) != 8 or len(b) != 8:
        return 64
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_count()


def candidate_placement(pair: CandidatePair) -> Placement:
    """The placement that a candidate's windows stand for."""
    (x0, y0, x1, y1), (u0, v0, u1, v1) = pair.left_window, pair.right_window
    wide, high = (u1 - u0) / (x1 - x0), (v1 - v0) / (y1 - y0)
    return Placement(pair.orientation, (wide, 0.0, u0 - wide * x0, 0.0, high, v0 - high * y0))
