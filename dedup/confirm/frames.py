"""What lies outside the part that two frames share: a plain border, or more of the scene.

Promises: tells a picture that was put into a border from one that was cut out of a larger one, where the
surroundings tell. Does not: find borders in one picture alone; it looks at what a registration left uncovered.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from dedup.confirm.alignment import Map, coverage

Surroundings = Literal["none", "plain", "scene", "either"]

PLAIN_LEVELS = 14
"""Distance from the commonest colour within which a pixel belongs to a plain border: compression moves it by up to
12."""
PLAIN_SHARE = 0.88
"""Share of the surroundings that is plain in a border; a phone's clock and buttons take 5 to 9 % of its bars."""
LEAST_BORDER = 0.03
"""Share of the frame below which a plain strip is as likely the scene's own edge."""
SCATTER_LEVELS = 1.5
"""Mean distance from its colour: a drawn border has 0 to 1 after compression, a wall or a sky more."""
RIM_SHARE = 0.02
"""Thickness, as a share of the longer side, of the rim inside the shared part that a border is held against."""


def surroundings(outer: Image.Image, matrix: Map) -> Surroundings:
    """What `outer` has around the part that the other picture shows.

    Parameters
    ----------
    outer : mode RGB, at most about 512 px
    matrix : (2, 3)
        From fractions of `outer` to fractions of the other picture.

    Returns
    -------
    `none` where less than half a per cent lies outside; `plain` for a border around a scene; `scene` for more of
    the scene; `either` where the scene itself is as plain at its edge as a border would be.
    """
    pixels = np.asarray(outer)
    size = outer.size
    shared = coverage(matrix, size, (1, 1), 0.0)
    reach = max(1, round(0.006 * max(size)))
    outside = ~ndimage.binary_dilation(shared, iterations=reach)
    if outside.mean() < 0.004:
        return "none"
    share = float(outside.mean())
    inner = ndimage.binary_erosion(shared, iterations=reach, border_value=1)
    rim = inner & ndimage.binary_dilation(~inner, iterations=reach + max(2, round(RIM_SHARE * max(size))))
    plain, colours, scatter = _plain_share(pixels[outside])
    if plain < PLAIN_SHARE:
        return "scene"
    if share < LEAST_BORDER or scatter > SCATTER_LEVELS:
        return "either"
    alike = (
        np.abs(pixels[rim].astype(np.int16)[:, None] - colours[None]).max(axis=2).min(axis=1) <= PLAIN_LEVELS
    )
    return "either" if alike.mean() >= 0.6 else "plain"


def _plain_share(values: NDArray[np.uint8]) -> tuple[float, NDArray[np.int16], float]:
    """Share of the pixels near the commonest colour, that colour as (1, 3), and their mean distance from it."""
    coarse = (values // 16).astype(np.int64)
    cells = (coarse[:, 0] * 16 + coarse[:, 1]) * 16 + coarse[:, 2]
    commonest = np.bincount(cells).argmax()
    colour = np.median(values[cells == commonest], axis=0).astype(np.int16)[None]
    gaps = np.abs(values.astype(np.int16) - colour).max(axis=1)
    near = gaps <= PLAIN_LEVELS
    return float(near.mean()), colour, float(gaps[near].mean()) if near.any() else 0.0
