"""The searches in pieces, for a join that happens elsewhere: what is asked, what shows, and what to make of a hit.

Promises: whoever joins the hashes of `asked_hashes` and `shown_hashes` within the radius, and puts each hit through
the functions here, proposes the pairs that `find_candidates` proposes. Does not: join, or hold more than it is given.

A *kind* names a hash of a picture. Of the hash search: its orientation, and what shows is orientation 0. Of the window
search: `0 ...` is a window by its number, `-1`, `-2`, `-3` a view inside the borders; what shows is `0` for the whole
picture, or such a view.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dedup.index import by_window, windows
from dedup.index.by_hash import HASH_LIKENESS, MOST_TWINS, best_hypotheses, is_sure
from dedup.index.by_window import TRIES, WINDOW_RADIUS_BITS, asks_deep
from dedup.index.pairs import HASH_TEXTURE_LEVELS, Found, Greys, Library, Mask, Rows
from dedup.index.radius import estimate_cost
from dedup.index.search import FEW_TWINS, FLAT_TEXTURE_LEVELS, NEIGHBOUR_AGREEMENT
from dedup.index.table import ORIENTATIONS, FingerprintTable
from dedup.index.window_store import INNER_COUNT, inner_windows

__all__ = [
    "DEEP_KINDS",
    "FEW_TWINS",
    "FLAT_TEXTURE_LEVELS",
    "HASH_TEXTURE_LEVELS",
    "MOST_TWINS",
    "NEIGHBOUR_AGREEMENT",
    "TRIES",
    "WINDOW_KINDS",
    "WINDOW_RADIUS_BITS",
    "Hashes",
    "alike_windows",
    "asks_deep",
    "estimate_cost",
    "hashes_asked",
    "hashes_shown",
    "is_open_for_windows",
    "likely_turned",
    "sift_hash_hits",
    "windows_asked",
    "windows_shown",
]

WINDOW_KINDS = windows.WINDOW_COUNT
"""Windows that each picture asks with; the deep ones, where they are asked, follow them."""
DEEP_KINDS = windows.DEEP_COUNT


@dataclass(frozen=True, slots=True)
class Hashes:
    """Hashes of pictures of a table: (n,) rows, kinds and 64-bit hashes."""

    rows: Rows
    kinds: Rows
    hashes: NDArray[np.uint64]

    def joined(self, other: Hashes) -> Hashes:
        """These, then the others."""
        return Hashes(
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.kinds, other.kinds]),
            np.concatenate([self.hashes, other.hashes]),
        )


def hashes_asked(table: FingerprintTable) -> Hashes:
    """All orientations of the textured pictures. Upright against upright finds each pair twice; one is enough."""
    rows = np.flatnonzero(table.texture >= HASH_TEXTURE_LEVELS)
    return Hashes(
        np.repeat(rows, ORIENTATIONS),
        np.tile(np.arange(ORIENTATIONS), len(rows)),
        np.ascontiguousarray(table.phash64[rows]).reshape(-1),
    )


def hashes_shown(table: FingerprintTable) -> Hashes:
    """The textured pictures upright."""
    rows = np.flatnonzero(table.texture >= HASH_TEXTURE_LEVELS)
    return Hashes(rows, np.zeros(len(rows), dtype=np.int64), np.ascontiguousarray(table.phash64[rows, 0]))


def windows_asked(table: FingerprintTable, greys: Greys, *, deep: bool) -> Hashes:
    """Every window of the textured pictures, and their views inside borders.

    Parameters
    ----------
    table
    greys : (n, 64, 64) uint8
        Of the table's rows.
    deep
        Whether the deep windows are asked too: `asks_deep` of the number of textured pictures.
    """
    rows = np.flatnonzero(table.texture >= HASH_TEXTURE_LEVELS)
    hashes = windows.window_hashes(greys[rows], table.aspect[rows])
    if len(rows):
        hashes[:, 0] = table.phash64[rows, 0]  # exact, where the window is the whole
    if deep:
        hashes = np.concatenate([hashes, windows.deep_hashes(greys[rows])], axis=1)
    count = hashes.shape[1]
    every = Hashes(np.repeat(rows, count), np.tile(np.arange(count), len(rows)), hashes.reshape(-1))
    return _inner(table, greys, rows).joined(every)


def windows_shown(table: FingerprintTable, greys: Greys) -> Hashes:
    """The textured pictures as a whole, and inside their borders."""
    return hashes_shown(table).joined(
        _inner(table, greys, np.flatnonzero(table.texture >= HASH_TEXTURE_LEVELS))
    )


def _inner(table: FingerprintTable, greys: Greys, rows: Rows) -> Hashes:
    framed = rows[(table.trim[rows] != np.array(windows.WHOLE, dtype=np.float32)).any(axis=1)]
    cut = inner_windows(table.trim[framed])
    on_all_sides = (cut[:, 1] != cut[:, 0]).any(axis=1) & (cut[:, 2] != cut[:, 0]).any(axis=1)
    found = Hashes(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint64))
    for number in range(INNER_COUNT if len(framed) else 0):
        here = np.ones(len(framed), dtype=bool) if number == 0 else on_all_sides
        some = framed[here]
        kinds = np.full(len(some), -1 - number, dtype=np.int64)
        found = found.joined(Hashes(some, kinds, windows.hashes_through(greys[some], cut[here, number])))
    return found


# --- what to make of a hit ----------------------------------------------------------------------------------------


def sift_hash_hits(library: Library, asked: Rows, kinds: Rows, shown: Rows) -> tuple[Found, Mask]:
    """Of the hits of the hash search, the pairs that are proposed, and those that `likely_turned` must see."""
    parts = [
        best_hypotheses(library, asked[kinds == orientation], shown[kinds == orientation], orientation)
        for orientation in range(ORIENTATIONS)
    ]
    found = parts[0]
    for part in parts[1:]:
        found = found.joined(part)
    sure, doubtful = is_sure(library, found)
    kept = np.flatnonzero(sure | doubtful)
    return found.take(kept), doubtful[kept]


def likely_turned(library: Library, found: Found) -> Mask:
    """Of the doubtful ones, those that are alike."""
    return np.asarray(library.likeness(found) >= HASH_LIKENESS)


def is_open_for_windows(library: Library, asked: Rows, shown: Rows) -> Mask:
    """Hits of the window search about which the hash search has not decided."""
    return np.asarray((asked != shown) & ~library.is_settled(asked, shown))


def alike_windows(
    library: Library, asked: tuple[Rows, Rows], shown: tuple[Rows, Rows], bits: Rows
) -> tuple[Found, NDArray[np.float32]]:
    """Of open hits, those that are alike enough through their windows, and how alike.

    Parameters
    ----------
    library
        Its greys are looked at.
    asked, shown
        Rows and kinds.
    bits
        Distances.
    """
    rows, kinds = asked
    parts = []
    for inner in (True, False):
        here = np.flatnonzero((kinds < 0) == inner)
        if not len(here):
            continue
        box = _view_boxes(library, rows[here], kinds[here]) if inner else kinds[here, None].astype(np.float64)
        nothing = np.empty(0, dtype=np.uint64)
        asking = by_window.Views(rows[here], box, nothing)
        showing = by_window.Views(
            shown[0][here], _view_boxes(library, shown[0][here], shown[1][here]), nothing
        )
        places = np.arange(len(here))
        hits = np.stack([np.zeros(len(here), dtype=np.int64), bits[here], places, places], axis=1)
        parts.append(by_window.alike_hits(library, hits, asking, showing))
    found = parts[0].found if parts else by_window.Alike.none().found
    alike = parts[0].likeness if parts else by_window.Alike.none().likeness
    for part in parts[1:]:
        found, alike = found.joined(part.found), np.concatenate([alike, part.likeness])
    return found, alike


def _view_boxes(library: Library, rows: Rows, kinds: Rows) -> NDArray[np.float64]:
    """(k, 4): the whole picture for kind 0, else what is inside the borders."""
    boxes = np.tile(np.array(windows.WHOLE, dtype=np.float64), (len(rows), 1))
    framed = np.flatnonzero(kinds < 0)
    if len(framed):
        boxes[framed] = inner_windows(library.table.trim[rows[framed]])[
            np.arange(len(framed)), -1 - kinds[framed]
        ]
    return boxes
