"""Candidates through windows: copies that were cut, straightened, framed, letterboxed or shown on a phone.

Promises: each pair that the hash search left open comes out once, under the window in which it is most alike, if it
is alike enough; memory bounded by a sixteenth of the library's windows.
Does not: look for windows of turned or mirrored pictures.

Every picture asks with the hashes of its windows (windows.py) for pictures that show as a whole, or inside their
borders, what the window shows. So a crop is found by its original, and a framed copy both by its trimmed window and
by the frame's own windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dedup.index import likeness, windows
from dedup.index.pairs import Found, Library, Rows, SeenPairs, in_chunks
from dedup.index.radius import radius_pairs

WINDOW_RADIUS_BITS = 12
"""Of crops to 70 % of the area and of straightened pictures, the nearest window is within 10 bits; screen bars and
borders take 12. At 14 the hits of different photos grow eightfold."""
SURE_BITS = 10
SURE_LIKENESS, FAR_LIKENESS = 0.5, 0.6
"""Correlation through the window that a hit needs, within `SURE_BITS` and beyond. On 3,900 files: 19,500 true pairs
of 19,800 and 180 of 330 others pass the first, 560 true and 200 of 2,600 others the second."""
TRIES = 3
"""Windows tried for each pair, nearest first: neighbours overlap, and one of them fits best."""


@dataclass(frozen=True, slots=True)
class _Views:
    """Hashes of windows: (n,) rows, (n, 4) windows or (n, 1) numbers of windows, (n,) hashes."""

    rows: Rows
    windows: NDArray[np.float64]
    hashes: NDArray[np.uint64]

    def take(self, which: Rows) -> _Views:
        return _Views(self.rows[which], self.windows[which], self.hashes[which])


def window_pairs(library: Library, seen: SeenPairs) -> Iterator[Found]:
    """Search, and add what comes out to `seen`."""
    rows = library.textured
    framed, cut = _inside_borders(library, rows)
    inner = _Views(framed, cut, _hashes_through(library, framed, cut))
    shown = _Views(
        np.concatenate([rows, framed]),
        np.concatenate([np.tile(np.array(windows.WHOLE), (len(rows), 1)), cut]),
        np.concatenate([library.table.phash64[rows, 0], inner.hashes]),
    )
    only_new = shown.take(np.flatnonzero(library.is_new[shown.rows]))
    for asking in _questions(library, rows, inner):
        fresh = library.is_new[asking.rows]
        for which, targets in ((fresh, shown), (~fresh, only_new)):
            found = _most_alike(library, asking.take(np.flatnonzero(which)), targets, seen)
            if len(found):
                yield found
                seen.add(seen.keys(found.first, found.second))


def _inside_borders(library: Library, rows: Rows) -> tuple[Rows, NDArray[np.float64]]:
    """Rows with a border and their windows without it; where it is on all sides, also without each half of it.

    A letterboxed photo with an even sky at its side loses both: one half is right.
    """
    cut = library.table.trim[rows].astype(np.float64)
    across, down = cut.copy(), cut.copy()
    across[:, [1, 3]], down[:, [0, 2]] = (0.0, 1.0), (0.0, 1.0)
    whole = np.array(windows.WHOLE)
    has_across, has_down = (across != whole).any(axis=1), (down != whole).any(axis=1)
    any_, both = has_across | has_down, has_across & has_down
    return (
        np.concatenate([rows[any_], rows[both], rows[both]]),
        np.concatenate([cut[any_], across[both], down[both]]),
    )


def _hashes_through(library: Library, rows: Rows, cut: NDArray[np.float64]) -> NDArray[np.uint64]:
    places = np.arange(len(rows))
    return in_chunks(places, lambda part: windows.hashes_through(library.greys(rows[part]), cut[part]))


def _questions(library: Library, rows: Rows, inner: _Views) -> Iterator[_Views]:
    """The views inside borders, then all windows of all pictures, a sixteenth at a time."""

    def hashes_of(part: Rows) -> NDArray[np.uint64]:
        hashes = windows.window_hashes(library.greys(part), library.table.aspect[part])
        hashes[:, 0] = library.table.phash64[part, 0]  # exact, where the window is the whole
        return hashes

    yield inner
    step = max(2048, len(rows) // 16)
    numbers = np.arange(windows.WINDOW_COUNT, dtype=np.float64)[:, None]
    for at in range(0, len(rows), step):
        some = rows[at : at + step]
        hashes = in_chunks(some, hashes_of).reshape(-1)
        yield _Views(np.repeat(some, windows.WINDOW_COUNT), np.tile(numbers, (len(some), 1)), hashes)


def _most_alike(library: Library, asking: _Views, targets: _Views, seen: SeenPairs) -> Found:
    """Of all hits, the most alike of each pair, where it is alike enough."""
    hits = _hits(library, asking, targets, seen)
    alike = in_chunks(hits, lambda part: _likeness(library, part, asking, targets))
    enough = alike >= np.where(hits[:, 1] <= SURE_BITS, SURE_LIKENESS, FAR_LIKENESS)
    hits, alike = hits[enough], alike[enough]
    hits = hits[np.lexsort((hits[:, 3], hits[:, 2], -alike, hits[:, 0]))]
    hits = hits[_begins(hits[:, 0])]
    first, second = asking.rows[hits[:, 2]], targets.rows[hits[:, 3]]
    return Found(
        first,
        second,
        hits[:, 1].astype(np.uint8),
        np.zeros(len(hits), dtype=np.int64),
        _boxes(library, asking.windows[hits[:, 2]], first),
        targets.windows[hits[:, 3]],
    )


def _hits(library: Library, asking: _Views, targets: _Views, seen: SeenPairs) -> NDArray[np.int64]:
    """(k, 4): pair, bits, question, target of the nearest few hits of each pair that is still open."""
    hits = [np.empty((0, 4), dtype=np.int64)]
    for query, target, bits in radius_pairs(asking.hashes, targets.hashes, WINDOW_RADIUS_BITS):
        first, second = asking.rows[query], targets.rows[target]
        keys = seen.keys(first, second)
        is_open = (first != second) & ~library.is_settled(first, second) & ~seen.has(keys)
        hits.append(np.stack([keys, bits.astype(np.int64), query, target], axis=1)[is_open])
    found = np.concatenate(hits)
    found = found[np.lexsort((found[:, 3], found[:, 2], found[:, 1], found[:, 0]))]
    begins = np.flatnonzero(_begins(found[:, 0]))
    place = np.arange(len(found)) - np.repeat(begins, np.diff(np.append(begins, len(found))))
    return found[place < TRIES]


def _begins(values: Rows) -> NDArray[np.bool_]:
    """Where a run of equal values begins."""
    begins = np.ones(len(values), dtype=bool)
    begins[1:] = values[1:] != values[:-1]
    return begins


def _boxes(library: Library, views: NDArray[np.float64], rows: Rows) -> NDArray[np.float64]:
    if views.shape[1] == 1:
        return windows.window_of(views[:, 0].astype(np.int64), library.table.aspect[rows])
    return views


def _likeness(
    library: Library, hits: NDArray[np.int64], asking: _Views, targets: _Views
) -> NDArray[np.float32]:
    first, second = asking.rows[hits[:, 2]], targets.rows[hits[:, 3]]
    greys = library.greys(np.concatenate([first, second]))
    views = asking.windows[hits[:, 2]]
    through = likeness.signatures(greys[: len(hits)], _boxes(library, views, first))
    if views.shape[1] == 1:
        number = views[:, 0].astype(np.int64) - len(windows.UPRIGHT)
        turned = np.flatnonzero(number >= 0)
        angles = np.array(windows.ANGLES)[number[turned]]
        through[turned] = likeness.turned_signatures(
            greys[turned], library.table.aspect[first[turned]], angles
        )
    other = likeness.signatures(greys[len(hits) :], targets.windows[hits[:, 3]])
    return np.asarray((through * other).sum(axis=(1, 2)))
