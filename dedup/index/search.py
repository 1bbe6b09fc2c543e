"""From the table of fingerprints to candidate pairs: four searches, one gate, one stream.

Promises: every pair within the hash radius in one of the eight orientations comes out (flat pictures apart,
which have a search of their own); each pair once, under the best hypothesis of the first search that found
it; the same table gives the same pairs in the same order; with `is_new`, only pairs with a new photo, at a
cost in proportion to the new. Does not: prove anything. `confirm` measures what comes out here.

    HASH       radius join over `phash64`, eight orientations against one             (radius.py)
    WINDOW     hashes of 68 windows and of the trimmed picture against whole ones     (windows.py)
    FLAT       pictures without texture, by colour                                    (flat.py)
    NEIGHBOUR  nearest in hash and histogram, beyond the radius                       (neighbours.py)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dedup.index import windows
from dedup.index.flat import flat_pairs
from dedup.index.radius import radius_pairs
from dedup.index.table import INVERSE_ORIENTATION, ORIENTATIONS, FingerprintTable
from dedup.records import CandidatePair, IndexQuality, Source
from dedup.settings import Settings

Rows = NDArray[np.int64]
Greys = Callable[[NDArray[np.int64]], NDArray[np.uint8]]

HASH_TEXTURE_LEVELS = 0.8
"""Texture from which a hash is worth comparing. Solid colours, gradients and night frames have at most 0.2,
the faintest fog 2.8."""

FLAT_TEXTURE_LEVELS = 1.5
"""Texture below which colour is compared, too; the two overlap, so that a copy a little flatter is not lost
between."""

WINDOW_RADIUS_BITS = 12
WINDOW_SURE_BITS = 10
WINDOW_LIKENESS, WINDOW_FAR_LIKENESS = 0.5, 0.6
"""Correlation through the window that a hit needs, within `WINDOW_SURE_BITS` and beyond."""
WINDOW_TRIES = 3
HASH_WIDE_BITS = 88
"""Bits of 256 up to which a pair within the radius passes as it is. Random pairs that agree in 64 bits
differ in 104 +- 7."""
HASH_LIKENESS = 0.45
"""Correlation that lets a pair pass in spite of its 256 bits."""

_CHUNK = 4096
"""Pairs whose greys are held at once: 32 MB."""


@dataclass(frozen=True, slots=True)
class _Found:
    """Pairs of rows with their hypothesis: `second`, turned by `orientation`, shows through its window what
    `first` shows through its."""

    first: Rows
    second: Rows
    bits: NDArray[np.uint8]
    orientation: NDArray[np.int64]
    first_window: NDArray[np.float64]
    second_window: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.first)

    def take(self, which: NDArray[np.integer] | NDArray[np.bool_]) -> _Found:
        return _Found(*(getattr(self, name)[which] for name in self.__slots__))

    def ordered_by(self, ids: NDArray[np.int64]) -> _Found:
        """With the smaller id first. Only for upright pairs: an orientation belongs to the second."""
        turn = ids[self.first] > ids[self.second]
        return _Found(
            np.where(turn, self.second, self.first),
            np.where(turn, self.first, self.second),
            self.bits,
            self.orientation,
            np.where(turn[:, None], self.second_window, self.first_window),
            np.where(turn[:, None], self.first_window, self.second_window),
        )


def _nothing() -> _Found:
    rows, window = np.empty(0, np.int64), np.empty((0, 4))
    return _Found(rows, rows, np.empty(0, np.uint8), rows, window, window)


@dataclass(frozen=True, slots=True)
class _Targets:
    """Hashes of windows: (n,) rows of the table, (n, 4) windows or (n, 1) window numbers, (n,) hashes."""

    rows: Rows
    windows: NDArray[np.float64]
    hashes: NDArray[np.uint64]

    def take(self, which: Rows) -> _Targets:
        return _Targets(self.rows[which], self.windows[which], self.hashes[which])


def find_candidates(
    table: FingerprintTable, greys: Greys, settings: Settings, is_new: NDArray[np.bool_] | None = None
) -> CandidateSearch:
    """Search a library for pairs that may be alike.

    Parameters
    ----------
    table
        One row per distinct content, in an order that depends on content only (the pairs come in an order
        that depends on it).
    greys
        Gives the 64 x 64 greys, (k, 64, 64) uint8, of k ids.
    settings
        `hash_radius_bits` and `neighbours` are used.
    is_new : (n,) bool, optional
        Photos that were not in an earlier search: only pairs with at least one of them come out. All are new
        without it.

    Returns
    -------
    CandidateSearch
        An iterator over the pairs; its `quality` is complete once it is exhausted.
    """
    return CandidateSearch(table, greys, settings, is_new)


class CandidateSearch:
    """The stream of candidate pairs, and how well the search went. Iterate once."""

    def __init__(
        self, table: FingerprintTable, greys: Greys, settings: Settings, is_new: NDArray[np.bool_] | None
    ) -> None:
        self._all = table
        self._greys = greys
        self._settings = settings
        self._is_new = np.ones(len(table), dtype=bool) if is_new is None else is_new
        self._exact_pairs = 0
        self._pairs = self._search()

    def __iter__(self) -> Iterator[CandidatePair]:
        return self

    def __next__(self) -> CandidatePair:
        return next(self._pairs)

    @property
    def quality(self) -> IndexQuality:
        """How the searches compare; complete when the last pair has been taken."""
        return IndexQuality(self._exact_pairs, 0, 0, 0, "")

    # ---- the four searches

    def _search(self) -> Iterator[CandidatePair]:
        if len(self._all) < 2 or not self._is_new.any():
            return
        self._textured = self._all.texture >= HASH_TEXTURE_LEVELS
        for found in self._hash_pairs():
            self._exact_pairs += len(found)
            yield from self._as_pairs(found, Source.HASH)
        for found in self._window_pairs():
            yield from self._as_pairs(found, Source.WINDOW)
        for found in self._flat_pairs():
            yield from self._as_pairs(found, Source.FLAT)

    def _hash_pairs(self) -> Iterator[_Found]:
        rows = np.flatnonzero(self._textured)
        new = self._is_new[rows]
        if not new.any():
            return
        # New ones last, so that the join can be told where they begin.
        rows = np.concatenate([rows[~new], rows[new]])
        old = int((~new).sum())
        upright = np.ascontiguousarray(self._all.phash64[rows, 0])
        radius = self._settings.hash_radius_bits
        for a, b, _ in radius_pairs(upright, upright, radius, new_from=old):
            yield from self._best_hypotheses(rows[a], rows[b], 0)
        for orientation in range(1, ORIENTATIONS):
            turned = np.ascontiguousarray(self._all.phash64[rows, orientation])
            for a, b, _ in radius_pairs(turned, upright, radius, new_from=old):
                yield from self._best_hypotheses(rows[a], rows[b], orientation)
            if old:
                for a, b, _ in radius_pairs(turned[:old], upright[old:], radius):
                    yield from self._best_hypotheses(rows[a], rows[old + b], orientation)

    def _best_hypotheses(self, turned: Rows, other: Rows, orientation: int) -> Iterator[_Found]:
        """Of the hits of one orientation, those that are the best hypothesis of their pair: so each pair
        comes once.

        A hit says that `turned` under `orientation` is near `other`. The same pair may be found under other
        orientations and from the other side.
        """
        apart = turned != other
        turned, other = turned[apart], other[apart]
        if not len(turned):
            return
        ids = self._all.ids
        left = np.where(ids[turned] < ids[other], turned, other)
        right = np.where(ids[turned] < ids[other], other, turned)
        bits = self._all_orientations(left, right)
        best = bits.argmin(axis=1)
        here = np.where(right == turned, orientation, INVERSE_ORIENTATION[orientation])
        if orientation:
            # From the left side only what the right side does not see.
            seen_right = self._bits(right, best, left) <= self._settings.hash_radius_bits
            mine = (best == here) & ((right == turned) == seen_right)
        else:
            mine = best == 0
        left, right, best, bits = left[mine], right[mine], best[mine], bits.min(axis=1)[mine]
        window = np.tile(np.array(windows.WHOLE), (len(left), 1))
        found = _Found(left, right, bits, best, window, window)
        for at in range(0, len(found), _CHUNK):
            part = found.take(np.arange(at, min(at + _CHUNK, len(found))))
            yield part.take(self._passes_hash_gate(part))

    def _bits(self, turned: Rows, orientation: NDArray[np.integer], other: Rows) -> NDArray[np.uint8]:
        words = self._all.phash64[turned, orientation] ^ self._all.phash64[other, 0]
        return np.asarray(np.bitwise_count(words))

    def _all_orientations(self, left: Rows, right: Rows) -> NDArray[np.uint8]:
        """(k, 8): bits between left and right under each orientation of right, seen from the better side."""
        from_right = np.bitwise_count(self._all.phash64[right] ^ self._all.phash64[left, :1])
        from_left = np.bitwise_count(
            self._all.phash64[left][:, INVERSE_ORIENTATION] ^ self._all.phash64[right, :1]
        )
        return np.asarray(np.minimum(from_right, from_left))

    def _passes_hash_gate(self, found: _Found) -> NDArray[np.bool_]:
        wide = np.bitwise_count(
            self._all.phash256[found.second, found.orientation] ^ self._all.phash256[found.first, 0]
        ).sum(axis=1)
        passes = np.asarray(wide <= HASH_WIDE_BITS)
        doubtful = np.flatnonzero(~passes)
        if len(doubtful):
            passes[doubtful] = self._likeness(found.take(doubtful)) >= HASH_LIKENESS
        return passes

    def _window_pairs(self) -> Iterator[_Found]:
        """Windows of each picture against whole and trimmed ones; pairs within the hash radius are left
        out."""
        rows = np.flatnonzero(self._textured)
        cut = self._all.trim[rows].astype(np.float64)
        has_border = (cut != np.array(windows.WHOLE)).any(axis=1)
        inner, cut = rows[has_border], cut[has_border]
        shown = _Targets(
            np.concatenate([rows, inner]),
            np.concatenate([np.tile(np.array(windows.WHOLE), (len(rows), 1)), cut]),
            np.concatenate([self._all.phash64[rows, 0], self._hashes_through(inner, cut)]),
        )
        only_new = shown.take(np.flatnonzero(self._is_new[shown.rows]))
        seen = np.empty(0, dtype=np.int64)
        for queries in self._window_queries(rows, _Targets(inner, cut, shown.hashes[len(rows) :])):
            fresh = self._is_new[queries.rows]
            for which, targets in ((fresh, shown), (~fresh, only_new)):
                asked = queries.take(np.flatnonzero(which))
                found = self._confirmed_windows(asked, targets, seen)
                if len(found):
                    yield found
                    seen = np.union1d(seen, self._pair_keys(found.first, found.second))

    def _window_queries(self, rows: Rows, inner: _Targets) -> Iterator[_Targets]:
        """The trimmed pictures, then all windows of all pictures, a sixteenth at a time."""
        yield inner
        step = max(2048, len(rows) // 16)
        numbers = np.arange(windows.WINDOW_COUNT)
        for at in range(0, len(rows), step):
            some = rows[at : at + step]
            hashes = self._in_chunks(
                some,
                lambda part: windows.window_hashes(self._greys(self._all.ids[part]), self._all.aspect[part]),
            )
            yield _Targets(
                np.repeat(some, windows.WINDOW_COUNT),
                np.tile(numbers[:, None].astype(np.float64), (len(some), 1)),
                hashes.reshape(-1),
            )

    def _confirmed_windows(self, asked: _Targets, targets: _Targets, seen: Rows) -> _Found:
        """Of all window hits, the most alike of each pair, where it is alike enough."""
        hits = []
        for query, target, bits in radius_pairs(asked.hashes, targets.hashes, WINDOW_RADIUS_BITS):
            first, second = asked.rows[query], targets.rows[target]
            keys = self._pair_keys(first, second)
            far = self._all_orientations(first, second).min(axis=1) > self._settings.hash_radius_bits
            far &= (first != second) & ~np.isin(keys, seen)
            hits.append(np.stack([keys[far], bits[far], query[far], target[far]], axis=1))
        if not hits:
            return _nothing()
        found = np.concatenate(hits)
        found = found[np.lexsort((found[:, 3], found[:, 2], found[:, 1], found[:, 0]))]
        # The few nearest windows of each pair; they are neighbours, and one of them fits best.
        begins = np.flatnonzero(np.r_[True, found[1:, 0] != found[:-1, 0]])
        place = np.arange(len(found)) - np.repeat(begins, np.diff(np.r_[begins, len(found)]))
        found = found[place < WINDOW_TRIES]
        return self._most_alike(found, asked, targets)

    def _most_alike(self, hits: NDArray[np.int64], asked: _Targets, targets: _Targets) -> _Found:
        likeness = self._in_chunks(hits, lambda part: self._window_likeness(part, asked, targets))
        enough = likeness >= np.where(hits[:, 1] <= WINDOW_SURE_BITS, WINDOW_LIKENESS, WINDOW_FAR_LIKENESS)
        hits, likeness = hits[enough], likeness[enough]
        order = np.lexsort((hits[:, 2], -likeness, hits[:, 0]))
        hits = hits[order]
        hits = hits[np.r_[True, hits[1:, 0] != hits[:-1, 0]]] if len(hits) else hits
        first, second = asked.rows[hits[:, 2]], targets.rows[hits[:, 3]]
        window = self._windows_of(asked.windows[hits[:, 2]], first)
        bits = hits[:, 1].astype(np.uint8)
        found = _Found(
            first, second, bits, np.zeros(len(first), np.int64), window, targets.windows[hits[:, 3]]
        )
        return found.ordered_by(self._all.ids)

    def _windows_of(self, windows_: NDArray[np.float64], rows: Rows) -> NDArray[np.float64]:
        if windows_.shape[1] == 1:
            return windows.window_of(windows_[:, 0].astype(np.int64), self._all.aspect[rows])
        return windows_

    def _window_likeness(
        self, hits: NDArray[np.int64], asked: _Targets, targets: _Targets
    ) -> NDArray[np.float32]:
        first, second = asked.rows[hits[:, 2]], targets.rows[hits[:, 3]]
        greys = self._greys_of(np.concatenate([first, second]))
        cut = asked.windows[hits[:, 2]]
        through = windows.signatures(greys[: len(hits)], self._windows_of(cut, first))
        if cut.shape[1] == 1:
            number = cut[:, 0].astype(np.int64) - len(windows.UPRIGHT)
            turned = np.flatnonzero(number >= 0)
            if len(turned):
                angles = np.array(windows.ANGLES)[number[turned]]
                through[turned] = windows.turned_signatures(
                    greys[turned], self._all.aspect[first[turned]], angles
                )
        other = windows.signatures(greys[len(hits) :], targets.windows[hits[:, 3]])
        return np.asarray((through * other).sum(axis=(1, 2)))

    def _flat_pairs(self) -> Iterator[_Found]:
        rows = np.flatnonzero(self._all.texture < FLAT_TEXTURE_LEVELS)
        pairs = flat_pairs(
            self._all.colour[rows], lambda part: self._greys_of(rows[part]), self._is_new[rows]
        )
        for a, b in pairs:
            first, second = rows[a], rows[b]
            both = self._textured[first] & self._textured[second]
            near = self._all_orientations(first, second).min(axis=1) <= self._settings.hash_radius_bits
            kept = ~(both & near)
            first, second = first[kept], second[kept]
            whole = np.tile(np.array(windows.WHOLE), (len(first), 1))
            bits = np.full(len(first), 64, dtype=np.uint8)
            yield _Found(first, second, bits, np.zeros(len(first), np.int64), whole, whole).ordered_by(
                self._all.ids
            )

    # ---- helpers

    def _pair_keys(self, first: Rows, second: Rows) -> Rows:
        return np.minimum(first, second) << 32 | np.maximum(first, second)

    def _greys_of(self, rows: Rows) -> NDArray[np.uint8]:
        distinct, place = np.unique(rows, return_inverse=True)
        return self._greys(self._all.ids[distinct])[place]

    def _hashes_through(self, rows: Rows, cut: NDArray[np.float64]) -> NDArray[np.uint64]:
        places = np.arange(len(rows))
        return self._in_chunks(
            places, lambda part: windows.hashes_through(self._greys_of(rows[part]), cut[part])
        )

    @staticmethod
    def _in_chunks(items: NDArray[Any], function: Callable[[NDArray[Any]], NDArray[Any]]) -> NDArray[Any]:
        """The function's results for all items, with no more than `_CHUNK` of them under work."""
        parts = [function(items[at : at + _CHUNK]) for at in range(0, max(1, len(items)), _CHUNK)]
        return np.concatenate(parts)

    def _likeness(self, found: _Found) -> NDArray[np.float32]:
        greys = self._greys_of(np.concatenate([found.first, found.second]))
        first = windows.signatures(greys[: len(found)], found.first_window)
        turned = windows.reorient_greys(greys[len(found) :], found.orientation)
        second = windows.signatures(turned, found.second_window)
        return np.asarray((first * second).sum(axis=(1, 2)))

    def _as_pairs(self, found: _Found, source: Source) -> Iterator[CandidatePair]:
        ids = self._all.ids
        for first, second, bits, orientation, first_window, second_window in zip(
            ids[found.first].tolist(),
            ids[found.second].tolist(),
            found.bits.tolist(),
            found.orientation.tolist(),
            map(tuple, found.first_window.tolist()),
            map(tuple, found.second_window.tolist()),
            strict=True,
        ):
            yield CandidatePair(first, second, source, bits, orientation, first_window, second_window)
