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
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dedup.index import likeness, windows
from dedup.index.pairs import Found, Library, Rows, SeenPairs, in_chunks
from dedup.index.radius import radius_pairs
from dedup.index.window_store import Hashes, inner_windows

WINDOW_RADIUS_BITS = 10
"""The nearest window of crops to 70 % of the area, of straightened and of framed pictures is within 10 bits. At 12
the join takes three times as long, hits of different photos grow ninefold, and no edit of 3,900 and 13,500 files is
found more often."""
WINDOW_LIKENESS = 0.55
"""Correlation through the window that a hit needs: on 3,900 files, 99 % of true pairs and a third of the others have
it."""
DEEP_PHOTOS = 20_000
"""Textured photos up to which the deep windows are asked too: three times as many questions, each of the whole
library."""
DEEP_LIKENESS = 0.6
"""The same for a deep window, of which so many are asked that chance finds more."""
TRIES = 3
"""Windows tried for each pair from either side, nearest first: neighbours overlap, and one of them fits best."""


@dataclass(frozen=True, slots=True)
class Views:
    """Hashes of windows: (n,) rows, (n, 4) windows or (n, 1) numbers of windows, (n,) hashes."""

    rows: Rows
    windows: NDArray[np.float64]
    hashes: NDArray[np.uint64]


class Windows(Protocol):
    """Where hashes of windows come from; see `WindowStore`."""

    def windows_of(self, rows: Rows) -> Hashes:
        """(k, WINDOW_COUNT)."""
        ...

    def inner_of(self, rows: Rows) -> Hashes:
        """(k, 3): the views of `inner_windows`."""
        ...

    def deep_of(self, rows: Rows) -> Hashes:
        """(k, DEEP_COUNT): the deep windows."""
        ...

    def save(self) -> None:
        """Keep what had to be computed."""
        ...


def asks_deep(count: int) -> bool:
    """Whether the deep windows are asked in a library of so many textured photos."""
    return count <= DEEP_PHOTOS


def window_pairs(library: Library, seen: SeenPairs, store: Windows, *, deep: bool) -> Iterator[Found]:
    """Search, and add what comes out to `seen`.

    Parameters
    ----------
    library
    seen
        Pairs that need not come out again.
    store
        The window hashes of the library's rows.
    deep
        Whether the deep windows are asked as well, see `asks_deep`.
    """
    rows = library.textured
    inner = _inside_borders(library, store, rows)
    whole = np.tile(np.array(windows.WHOLE), (len(rows), 1))
    shown = Views(
        np.concatenate([rows, inner.rows]),
        np.concatenate([whole, inner.windows]),
        np.concatenate([library.table.phash64[rows, 0], inner.hashes]),
    )
    best = Alike.none()
    for asking in _questions(store, rows, inner, deep=deep):
        best = best.joined(_alike_hits(library, asking, shown))
    store.save()
    seen.add(seen.keys(best.found.first, best.found.second))
    yield from best.found.chunks()


def _inside_borders(library: Library, store: Windows, rows: Rows) -> Views:
    """What photos with borders show inside them: `inner_windows`, each different one."""
    trim = library.table.trim[rows]
    framed = rows[(trim != np.array(windows.WHOLE, dtype=np.float32)).any(axis=1)]
    cut = inner_windows(library.table.trim[framed])
    hashes = store.inner_of(framed)
    on_all_sides = (cut[:, 1] != cut[:, 0]).any(axis=1) & (cut[:, 2] != cut[:, 0]).any(axis=1)
    return Views(
        np.concatenate([framed, framed[on_all_sides], framed[on_all_sides]]),
        np.concatenate([cut[:, 0], cut[on_all_sides, 1], cut[on_all_sides, 2]]),
        np.concatenate([hashes[:, 0], hashes[on_all_sides, 1], hashes[on_all_sides, 2]]),
    )


def _questions(store: Windows, rows: Rows, inner: Views, *, deep: bool) -> Iterator[Views]:
    """The views inside borders, then all windows of all pictures, a sixteenth at a time."""
    yield inner
    step = max(2048, len(rows) // 16)
    numbers = np.arange(windows.WINDOW_COUNT, dtype=np.float64)[:, None]
    for at in range(0, len(rows), step):
        some = rows[at : at + step]
        hashes = store.windows_of(some).reshape(-1)
        yield Views(np.repeat(some, windows.WINDOW_COUNT), np.tile(numbers, (len(some), 1)), hashes)
    if not deep:
        return
    numbers = np.arange(windows.WINDOW_COUNT, windows.WINDOW_COUNT + windows.DEEP_COUNT, dtype=np.float64)
    for at in range(0, len(rows), 1024):
        some = rows[at : at + 1024]
        hashes = store.deep_of(some).reshape(-1)
        yield Views(np.repeat(some, len(numbers)), np.tile(numbers[:, None], (len(some), 1)), hashes)


@dataclass(frozen=True, slots=True)
class Alike:
    """Pairs that passed, each once, with how alike they are."""

    found: Found
    likeness: NDArray[np.float32]

    @classmethod
    def none(cls) -> Alike:
        """No pair."""
        rows, window = np.empty(0, dtype=np.int64), np.empty((0, 4))
        return cls(Found(rows, rows, np.empty(0, np.uint8), rows, window, window), np.empty(0, np.float32))

    def joined(self, other: Alike) -> Alike:
        """Both; of a pair that is in both, or twice in one, the more alike."""
        found = self.found.joined(other.found)
        alike = np.concatenate([self.likeness, other.likeness])
        keys = SeenPairs.keys(found.first, found.second)
        # Rounded, and then by the window: the same choice whichever of the two pictures asked first.
        boxes = np.concatenate([found.first_window, found.second_window], axis=1).T
        order = np.lexsort((*boxes, found.first, -alike.round(4), keys))
        order = order[_begins(keys[order])]
        return Alike(found.take(order), alike[order])


def _alike_hits(library: Library, asking: Views, shown: Views) -> Alike:
    """The hits that are alike enough."""
    return alike_hits(library, _nearest_hits(library, asking, shown), asking, shown)


def alike_hits(library: Library, hits: NDArray[np.int64], asking: Views, shown: Views) -> Alike:
    """Of some hits, as `_nearest_hits` gives them, those that are alike enough."""
    alike = in_chunks(hits, lambda part: _likeness(library, part, asking, shown))
    enough = alike >= WINDOW_LIKENESS
    if asking.windows.shape[1] == 1:
        is_deep = asking.windows[hits[:, 2], 0] >= windows.WINDOW_COUNT
        enough &= ~is_deep | (alike >= DEEP_LIKENESS)
    hits, alike = hits[enough], alike[enough]
    first, second = asking.rows[hits[:, 2]], shown.rows[hits[:, 3]]
    found = Found(
        first,
        second,
        hits[:, 1].astype(np.uint8),
        np.zeros(len(hits), dtype=np.int64),
        _boxes(library, asking.windows[hits[:, 2]], first),
        shown.windows[hits[:, 3]],
    )
    return Alike(found, alike)


def _nearest_hits(library: Library, asking: Views, shown: Views) -> NDArray[np.int64]:
    """(k, 4): direction, bits, question, answer of the nearest few hits of each open pair, from either side."""
    hits = [np.empty((0, 4), dtype=np.int64)]
    fresh = library.is_new[asking.rows]
    everything, only_new = np.arange(len(shown.rows)), np.flatnonzero(library.is_new[shown.rows])
    for asked, answers in ((np.flatnonzero(fresh), everything), (np.flatnonzero(~fresh), only_new)):
        for query, target, bits in radius_pairs(
            asking.hashes[asked], shown.hashes[answers], WINDOW_RADIUS_BITS
        ):
            question, answer = asked[query], answers[target]
            first, second = asking.rows[question], shown.rows[answer]
            is_open = (first != second) & ~library.is_settled(first, second)
            columns = (first << 32 | second, bits.astype(np.int64), question, answer)
            hits.append(np.stack(columns, axis=1)[is_open])
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


def _likeness(library: Library, hits: NDArray[np.int64], asking: Views, shown: Views) -> NDArray[np.float32]:
    first, second = asking.rows[hits[:, 2]], shown.rows[hits[:, 3]]
    greys = library.greys(np.concatenate([first, second]))
    views = asking.windows[hits[:, 2]]
    through = likeness.signatures(greys[: len(hits)], _boxes(library, views, first))
    if views.shape[1] == 1:
        number = views[:, 0].astype(np.int64) - len(windows.UPRIGHT)
        turned = np.flatnonzero((number >= 0) & (number < len(windows.ANGLES)))
        angles = np.array(windows.ANGLES)[number[turned]]
        through[turned] = likeness.turned_signatures(
            greys[turned], library.table.aspect[first[turned]], angles
        )
    other = likeness.signatures(greys[len(hits) :], shown.windows[hits[:, 3]])
    return np.asarray((through * other).sum(axis=(1, 2)))
