"""From the table of fingerprints to candidate pairs: four searches, one stream.

Promises: each pair once, under the hypothesis of the first search that found it; the same table gives the same pairs
in the same order; with `is_new`, only pairs with a new photo; many pictures with equal fingerprints are one node.
Does not: prove anything. `confirm` measures what comes out here.

    HASH       radius join over `phash64`, eight orientations against one               by_hash.py, radius.py
    WINDOW     windows and trimmed pictures against whole ones, where hashes are apart  by_window.py, windows.py
    FLAT       pictures without texture, by colour                                      flat.py
    NEIGHBOUR  nearest in hash and histogram, beyond the radius, by annoy               neighbours.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dedup.index.by_hash import HashSearch
from dedup.index.by_window import Windows, asks_deep, window_pairs
from dedup.index.flat import flat_pairs
from dedup.index.neighbours import NeighbourProgress, nearest_rows
from dedup.index.pairs import (
    HASH_TEXTURE_LEVELS,
    Found,
    GreysOf,
    Library,
    Rows,
    SeenPairs,
    in_chunks,
    is_among,
    whole_pairs,
)
from dedup.index.table import FingerprintTable, row_keys
from dedup.index.window_store import WindowStore
from dedup.records import CandidatePair, IndexQuality, Source
from dedup.settings import Settings

FLAT_TEXTURE_LEVELS = 1.5
"""Texture below which colour is compared, too. It overlaps with hashing, so that a copy a little flatter is not lost
between."""

NEIGHBOUR_AGREEMENT = 0.5
"""Share of tiles in which a pair that only annoy proposes must agree: retouched copies have 0.75 and more, others
0.4."""

FEW_TWINS = 8
"""Photos with one fingerprint that are still searched for each by itself."""

SAMPLE_PAIRS = 2000
"""Exact pairs on which annoy's recall is measured: enough to tell 99 % from 98.5 %."""


def find_candidates(
    table: FingerprintTable,
    greys: GreysOf,
    settings: Settings,
    is_new: NDArray[np.bool_] | None = None,
    folder: Path | None = None,
) -> CandidateSearch:
    """Search a library for pairs that may be alike.

    Parameters
    ----------
    table
        One row per distinct content, in an order that depends on content only (the order of the pairs depends on it).
    greys
        Gives the 64 x 64 greys, (k, 64, 64) uint8, of k ids.
    settings
        `hash_radius_bits` and `neighbours` are used.
    is_new : (n,) bool, optional
        Photos that were not in an earlier search: only pairs with at least one of them come out. All are new without
        it.
    folder
        Where files that make the next search cheaper are kept, beside the catalogue; they may be deleted at any time.
        None are written without it.

    Returns
    -------
    CandidateSearch
        An iterator over the pairs; its `quality` is complete once it is exhausted.
    """
    return CandidateSearch(table, greys, settings, is_new, folder)


class CandidateSearch:
    """The stream of candidate pairs, and how well the search went. Iterate once."""

    def __init__(
        self,
        table: FingerprintTable,
        greys: GreysOf,
        settings: Settings,
        is_new: NDArray[np.bool_] | None,
        folder: Path | None,
    ) -> None:
        self._table = table
        self._asked = np.ones(len(table), dtype=bool) if is_new is None else is_new
        self._nodes, self._node_of = equal_rows(table)
        self._library = Library(
            table.take(self._nodes), greys, self._asked[self._nodes], settings.hash_radius_bits
        )
        self._with_neighbours = settings.neighbours
        self._folder = folder
        self._seen = SeenPairs()
        self._exact = self._beyond = self._sampled = self._recalled = 0
        self._fallback = "" if settings.neighbours else "switched off"
        self._pairs = self._search()

    def __iter__(self) -> Iterator[CandidatePair]:
        return self

    def __next__(self) -> CandidatePair:
        return next(self._pairs)

    @property
    def quality(self) -> IndexQuality:
        """How the searches compare; complete when the last pair has been taken."""
        return IndexQuality(self._exact, self._beyond, self._sampled, self._recalled, self._fallback)

    def _search(self) -> Iterator[CandidatePair]:
        library = self._library
        if len(self._table) < 2 or not self._asked.any():
            return
        yield from self._twins()
        by_hash = HashSearch(library, SAMPLE_PAIRS)
        for found in by_hash.pairs():
            self._exact += len(found)
            yield from library.as_pairs(found, Source.HASH)
        windows = self._windows(library)
        for found in window_pairs(library, self._seen, windows, deep=self._asks_deep(library)):
            yield from library.as_pairs(found, Source.WINDOW)
        for found in self._flat_pairs():
            yield from library.as_pairs(found, Source.FLAT)
        if self._with_neighbours:
            for found in self._neighbour_pairs(*by_hash.sample):
                self._beyond += len(found)
                yield from library.as_pairs(found, Source.NEIGHBOUR)

    def _windows(self, library: Library) -> Windows:
        return WindowStore(library, self._folder)

    def _asks_deep(self, library: Library) -> bool:
        return asks_deep(len(library.textured))

    def _nearest(self, library: Library, progress: NeighbourProgress) -> Iterator[tuple[Rows, Rows]]:
        return nearest_rows(library.table, library.is_new, self._folder, progress)

    def _twins(self) -> Iterator[CandidatePair]:
        """Photos with equal fingerprints, each with the first of them, which searches for all."""
        ids, textured = self._table.ids, self._table.texture >= HASH_TEXTURE_LEVELS
        rows = np.flatnonzero(self._node_of != np.arange(len(ids)))
        rows = rows[self._asked[rows] | self._asked[self._node_of[rows]]]
        self._exact += int(textured[rows].sum())
        for one, other, is_textured in zip(
            ids[rows].tolist(), ids[self._node_of[rows]].tolist(), textured[rows].tolist(), strict=True
        ):
            source, bits = (Source.HASH, 0) if is_textured else (Source.FLAT, 64)
            yield CandidatePair(min(one, other), max(one, other), source, bits)

    def _flat_pairs(self) -> Iterator[Found]:
        library = self._library
        rows = np.flatnonzero(library.table.texture < FLAT_TEXTURE_LEVELS)
        pairs = flat_pairs(
            library.table.colour[rows], lambda part: library.greys(rows[part]), library.is_new[rows]
        )
        for a, b in pairs:
            first, second = self._open(rows[a], rows[b])
            yield whole_pairs(first, second, np.full(len(first), 64, dtype=np.uint8))

    def _neighbour_pairs(self, sample_first: Rows, sample_second: Rows) -> Iterator[Found]:
        """Neighbours that no other search proposed, where most of the picture agrees; and annoy's recall."""
        library = self._library
        progress = NeighbourProgress()
        sample = np.sort(self._seen.keys(sample_first, sample_second))
        recalled = np.zeros(len(sample), dtype=bool)
        hashed = library.table.texture >= HASH_TEXTURE_LEVELS
        for asked, near in self._nearest(library, progress):
            recalled |= is_among(sample, np.sort(self._seen.keys(asked, near)))
            both = hashed[asked] & hashed[near]
            pairs = np.stack(self._open(asked[both], near[both]), axis=1)
            agree = in_chunks(pairs, lambda part: library.agreeing_share(part[:, 0], part[:, 1]))
            first, second = pairs[agree >= NEIGHBOUR_AGREEMENT].T
            yield whole_pairs(first, second, library.bits(first, np.zeros(len(first), np.int64), second))
        self._sampled, self._recalled = len(sample), int(recalled.sum())
        self._fallback = progress.fallback

    def _open(self, first: Rows, second: Rows) -> tuple[Rows, Rows]:
        """Of these pairs, those that no search has answered yet, each once; they count as answered from now on."""
        keys, place = np.unique(self._seen.keys(first, second), return_index=True)
        is_open = ~self._seen.has(keys)
        place = place[is_open]
        first, second = first[place], second[place]
        self._seen.add(keys[is_open])
        is_open = ~self._library.is_settled(first, second)
        return first[is_open], second[is_open]


def equal_rows(table: FingerprintTable) -> tuple[Rows, Rows]:
    """The rows that search, and for every row the one that searches for it: the first with its fingerprint, if many
    have it."""
    keys = row_keys(table, with_aspect=True)
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    node_of = first[group].astype(np.int64)
    # A few twins are as well searched for each: then each comes with its own hypotheses.
    equal = np.bincount(group)[group] > FEW_TWINS if len(table) else np.empty(0, dtype=bool)
    for name in ("phash64", "phash256", "dhash64", "histogram", "texture", "colour", "trim"):
        column = getattr(table, name)
        equal &= (column == column[node_of]).all(axis=tuple(range(1, column.ndim)))
    node_of[~equal] = np.flatnonzero(~equal)
    return np.flatnonzero(node_of == np.arange(len(table))), node_of
