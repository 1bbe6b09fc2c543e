"""Candidates within the hash radius, in any of the eight orientations: the search that misses none.

Promises: every pair of textured pictures within the radius is either proposed here, once and under its best
orientation, or left to the windows (`Library.is_settled` tells which), or refused because its other features
contradict.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dedup.index.pairs import HASH_WIDE_BITS, Found, Library, Mask, Rows, whole_pairs
from dedup.index.radius import radius_pairs
from dedup.index.table import INVERSE_ORIENTATION, ORIENTATIONS

HASH_LIKENESS = 0.45
"""Correlation that lets a turned pair pass in spite of its 256 bits."""

MOST_TWINS = 512
"""Pairs with rows before it that a photo may have. A family of 1,000 near-identical pictures then gives 370,000
pairs, one of 10,000 gives 5 million instead of 50, and stays connected."""


class HashSearch:
    """The pairs, as a stream, and a sample of the exact ones by which annoy is judged."""

    def __init__(self, library: Library, sample_size: int) -> None:
        self._library = library
        self._sample_size = sample_size
        self._sample = np.empty((0, 3), dtype=np.int64)
        self._twins = np.zeros(len(library.table), dtype=np.int32)

    @property
    def sample(self) -> tuple[Rows, Rows]:
        """Rows of upright pairs, an even sample of those that came out so far.

        Of all pairs within the radius a large library has thousands that agree by chance; annoy owes none of them.
        """
        return self._sample[:, 1], self._sample[:, 2]

    def pairs(self) -> Iterator[Found]:
        """Search one orientation after the other."""
        library = self._library
        rows = library.textured
        new = library.is_new[rows]
        if not new.any():
            return
        # New ones last, so that the join can be told where they begin.
        rows = np.concatenate([rows[~new], rows[new]])
        old = int((~new).sum())
        upright = np.ascontiguousarray(library.table.phash64[rows, 0])
        for a, b, _ in radius_pairs(upright, upright, library.radius_bits, new_from=old):
            yield from self._best_hypotheses(rows[a], rows[b], 0)
        for orientation in range(1, ORIENTATIONS):
            turned = np.ascontiguousarray(library.table.phash64[rows, orientation])
            for a, b, _ in radius_pairs(turned, upright, library.radius_bits, new_from=old):
                yield from self._best_hypotheses(rows[a], rows[b], orientation)
            if old:
                for a, b, _ in radius_pairs(turned[:old], upright[old:], library.radius_bits):
                    yield from self._best_hypotheses(rows[a], rows[old + b], orientation)

    def _best_hypotheses(self, turned: Rows, other: Rows, orientation: int) -> Iterator[Found]:
        """Of the hits of one orientation, those that are the best hypothesis of their pair: so each pair comes once.

        A hit says that `turned` under `orientation` is near `other`. The same pair may be found under other
        orientations and from the other side.
        """
        for part in best_hypotheses(self._library, turned, other, orientation).chunks():
            passed = part.take(self._passes(part))
            if not orientation:
                self._add_to_sample(passed)
            yield passed.take(self._has_room(passed))

    def _passes(self, found: Found) -> Mask:
        """Sure ones pass. Others may be cut; upright ones are left to the windows, the whole among them."""
        passes, is_doubtful = is_sure(self._library, found)
        doubtful = np.flatnonzero(is_doubtful)
        if len(doubtful):
            passes[doubtful] = self._library.likeness(found.take(doubtful)) >= HASH_LIKENESS
        return np.asarray(passes)

    def _has_room(self, found: Found) -> Mask:
        later = np.maximum(found.first, found.second)
        order = np.argsort(later, kind="stable")
        ranked = later[order]
        begins = np.searchsorted(ranked, ranked, side="left")
        place = np.empty(len(later), dtype=np.int64)
        place[order] = np.arange(len(later)) - begins
        room = self._twins[later] + place < MOST_TWINS
        np.add.at(self._twins, later[room], 1)
        return np.asarray(room)

    def _add_to_sample(self, found: Found) -> None:
        """Keep the pairs with the smallest scrambled numbers: even, and independent of the order of blocks."""
        first, second = found.first.astype(np.uint64), found.second.astype(np.uint64)
        scrambled = (first * np.uint64(0x9E3779B97F4A7C15)) ^ (second * np.uint64(0xC2B2AE3D27D4EB4F))
        scrambled ^= scrambled >> np.uint64(31)
        scrambled *= np.uint64(0xBF58476D1CE4E5B9)
        rank = (scrambled >> np.uint64(2)).astype(np.int64)
        held = np.concatenate([self._sample, np.stack([rank, found.first, found.second], axis=1)])
        self._sample = held[np.argsort(held[:, 0], kind="stable")[: self._sample_size]]


def best_hypotheses(library: Library, turned: Rows, other: Rows, orientation: int) -> Found:
    """Of the hits of one orientation, those that are the best hypothesis of their pair; see `HashSearch`."""
    apart = turned != other
    turned, other = turned[apart], other[apart]
    if not len(turned):
        return whole_pairs(turned, other, np.empty(0, dtype=np.uint8))
    exchange = library.table.ids[turned] < library.table.ids[other]
    left, right = np.where(exchange, turned, other), np.where(exchange, other, turned)
    bits = library.bits_by_orientation(left, right)
    best = bits.argmin(axis=1)
    if orientation:
        here = np.where(exchange, INVERSE_ORIENTATION[orientation], orientation)
        # From the left side only what the right side does not see.
        from_right = library.bits(right, best, left) <= library.radius_bits
        mine = (best == here) & (~exchange == from_right)
    else:
        mine = best == 0
    return whole_pairs(left[mine], right[mine], bits.min(axis=1)[mine], best[mine])


def is_sure(library: Library, found: Found) -> tuple[Mask, Mask]:
    """Which pairs pass by their 256 bits, and for which of the others their likeness decides: the turned ones."""
    passes = library.wide_bits(found.second, found.orientation, found.first) <= HASH_WIDE_BITS
    return np.asarray(passes), np.asarray(~passes & (found.orientation > 0))
