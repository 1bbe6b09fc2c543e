"""Which of two copies came first, from traces that the earlier one's JPEG compression left in the later one.

A JPEG's pixels are sums of cosines whose weights are whole multiples of its quantisation steps. A picture made from
that JPEG (saved again finer, as PNG, enlarged) still has weights that cluster at those multiples; a picture from
which the JPEG was made has not. (Double-compression forensics: Z. Fan and R. de Queiroz, Identification of bitmap
compression history, IEEE Trans. Image Processing 12(2), 2003, doi:10.1109/TIP.2002.807361. We look at one grid that
is known from the other file, not at all of them.)

Promises: an answer only where the traces are plain. Does not: look at metadata or dates; that is the keeper's
business.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from dedup.confirm.pixels import LUMA, Pixels

LEAST_STEP = 3
"""Quantisation steps below this leave traces finer than the rounding of pixels."""
NO_TRACE = 0.25
FINER = 0.6
"""The child's own step over the parent's up to which its weights can tell of the parent's."""
AGREES = 0.8
"""Share of the weights that must be near the parent's own multiples; places that were painted over have others."""
BLOCKS = 900
CLUSTERED = 0.135
"""Mean distance to the nearest multiple, in steps: 0.25 for weights that know nothing of the grid, below 0.1 for a
descendant saved at quality 95, and under 0.135 for one saved at 90 or as lossless."""

_ZIGZAG = np.array(
    sorted(range(64), key=lambda at: (sum(divmod(at, 8)), at // 8 if sum(divmod(at, 8)) % 2 else -(at // 8)))
)
"""Place (row by row) of each step of a table in zigzag order: diagonal by diagonal, each in turn downwards and up."""


@dataclass(frozen=True, slots=True)
class Traces:
    """One picture as the possible source of another."""

    parent: Pixels
    """(height, width, 3) uint8, on the JPEG's own grid (its stored orientation and size)."""
    child: Pixels
    """The other picture's pixels on that grid."""
    table: tuple[int, ...]
    """The parent's 64 luma steps in zigzag order."""
    child_table: tuple[int, ...] | None
    """The child's own, where it is a JPEG of the same grid."""


def grid_distance(traces: Traces) -> float:
    """How far the child's cosine weights are from the multiples of the parent's quantisation steps.

    Returns
    -------
    float
        Mean distance in steps, 0 to 0.5: about 0.25 where there is no trace, and 0.25 where none can be told: the
        table is too fine, the child's own steps are no finer (they would lie on the grid by themselves), or the
        multiples that the child is near are not the parent's own.
    """
    steps = np.empty(64)
    steps[_ZIGZAG] = traces.table
    telling = steps >= LEAST_STEP
    if traces.child_table is not None:
        own = np.empty(64)
        own[_ZIGZAG] = traces.child_table
        telling &= own <= FINER * steps
    telling[0] = False
    height, width = traces.child.shape[0] // 8, traces.child.shape[1] // 8
    if height * width < 16 or not telling.any() or traces.parent.shape != traces.child.shape:
        return NO_TRACE
    child, sound = _weights(traces.child)
    parent, _ = _weights(traces.parent)
    ratio, source = child / steps, parent / steps
    # The first weight is the mean, which any change of tone moves; clipped blocks lost their weights.
    useful = (np.abs(ratio) > 0.6) & telling & sound[:, None]
    if useful.sum() < 200:
        return NO_TRACE
    nearest = np.round(ratio[useful])
    if float((nearest == np.round(source[useful])).mean()) < AGREES:
        return NO_TRACE
    return float(np.abs(ratio[useful] - nearest).mean())


def _weights(pixels: Pixels) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(blocks, 64) cosine weights of a sample of the luma's 8 px blocks, and which blocks are nowhere clipped."""
    height, width = pixels.shape[0] // 8, pixels.shape[1] // 8
    every = max(1, int((height * width / BLOCKS) ** 0.5))
    cut = pixels[: height * 8, : width * 8].reshape(height, 8, width, 8, 3)[::every, :, ::every]
    luma = (cut.astype(np.float32) @ LUMA).transpose(0, 2, 1, 3).reshape(-1, 8, 8) - 128
    flat = luma.reshape(-1, 64)
    sound = (flat.min(axis=1) >= -126) & (flat.max(axis=1) <= 125)
    weights: NDArray[np.float32] = fft.dctn(luma, axes=(1, 2), norm="ortho").reshape(-1, 64)
    return weights, sound


def stored_orientation(pixels: Pixels, orientation: int) -> Pixels:
    """Upright pixels turned back to how a file of that EXIF orientation stores them."""
    return turn(pixels, {6: 8, 8: 6}.get(orientation, orientation))


def turn(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Apply an EXIF orientation (1 to 8), as `ImageOps.exif_transpose` does; a view."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    # After transposing: 5 is done, 6 mirrors columns, 7 both, 8 rows.
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def combine(first: int, then: int) -> int:
    """The orientation (1 to 8) that equals applying `first`, then `then`."""
    probe = np.arange(6, dtype=np.uint8).reshape(2, 3)
    wanted = turn(turn(probe, first), then)
    for orientation in range(1, 9):
        found = turn(probe, orientation)
        if found.shape == wanted.shape and (found == wanted).all():
            return orientation
    raise AssertionError("orientations form a group")
