"""What the searches share: the photos as one library, pairs with their hypothesis, and which pairs were seen.

Does not: search. Arrays of rows (positions in the table) travel between the searches; ids only leave at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dedup.index import likeness
from dedup.index.table import INVERSE_ORIENTATION, FingerprintTable
from dedup.index.windows import WHOLE
from dedup.records import CandidatePair, Source

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
Greys = NDArray[np.uint8]
GreysOf = Callable[[Rows], Greys]

HASH_TEXTURE_LEVELS = 0.8
"""Texture from which a hash is worth comparing. Solid colours, gradients and night frames have at most 0.2, the
faintest fog 2.8 (`settings.LOW_TEXTURE_LEVELS` is for judging, and stricter)."""

HASH_WIDE_BITS = 56
"""Bits of 256 up to which a pair within the radius is taken as it is. Beyond (half of the letterboxed and a few
cropped copies) a window may fit better; random pairs that agree in 64 bits differ in 104 +- 7."""

CHUNK = 4096
"""Pairs whose greys are held at once: 32 MB."""


@dataclass(frozen=True, slots=True)
class Found:
    """Pairs of rows with their hypothesis.

    `second`, turned by `orientation`, shows through `second_window` what `first` shows through `first_window`.
    """

    first: Rows
    second: Rows
    bits: NDArray[np.uint8]
    orientation: Rows
    first_window: NDArray[np.float64]
    second_window: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.first)

    def take(self, which: Rows | Mask) -> Found:
        """Only these pairs."""
        return Found(*(getattr(self, name)[which] for name in self.__slots__))

    def joined(self, other: Found) -> Found:
        """These pairs, then the others."""
        return Found(
            *(np.concatenate([getattr(self, name), getattr(other, name)]) for name in self.__slots__)
        )

    def chunks(self) -> Iterator[Found]:
        """The pairs, `CHUNK` at a time."""
        for at in range(0, len(self), CHUNK):
            yield self.take(np.arange(at, min(at + CHUNK, len(self))))


def whole_pairs(first: Rows, second: Rows, bits: NDArray[np.uint8], orientation: Rows | None = None) -> Found:
    """Pairs of whole pictures."""
    window = np.tile(np.array(WHOLE), (len(first), 1))
    turned = np.zeros(len(first), dtype=np.int64) if orientation is None else orientation
    return Found(first, second, bits, turned, window, window)


class SeenPairs:
    """Pairs that came out already, 8 bytes each."""

    def __init__(self) -> None:
        self._keys = np.empty(0, dtype=np.int64)

    @staticmethod
    def keys(first: Rows, second: Rows) -> Rows:
        """One number for a pair, whichever row comes first."""
        return np.asarray(np.minimum(first, second) << 32 | np.maximum(first, second))

    def has(self, keys: Rows) -> Mask:
        """Which of them were seen."""
        return is_among(keys, self._keys)

    def add(self, keys: Rows) -> None:
        """Remember these, too."""
        self._keys = np.union1d(self._keys, keys)


def is_among(values: Rows, sorted_values: Rows) -> Mask:
    """`np.isin` for values that are sorted already."""
    if not len(sorted_values):
        return np.zeros(len(values), dtype=bool)
    place = np.minimum(np.searchsorted(sorted_values, values), len(sorted_values) - 1)
    return np.asarray(sorted_values[place] == values)


class Library:
    """The table, the greys behind it, and the measures of a pair that take no search.

    Parameters
    ----------
    table
    greys
        Gives the greys, (k, 64, 64) uint8, of k ids.
    is_new : (n,) bool
        Which photos were not searched before.
    radius_bits
        Hash radius.
    """

    def __init__(self, table: FingerprintTable, greys: GreysOf, is_new: Mask, radius_bits: int) -> None:
        self.table = table
        self.is_new = is_new
        self.radius_bits = radius_bits
        self.textured: Rows = np.flatnonzero(table.texture >= HASH_TEXTURE_LEVELS)
        self._greys = greys

    def greys(self, rows: Rows) -> Greys:
        """(k, 64, 64): greys of these rows; each is fetched once however often it is named."""
        distinct, place = np.unique(rows, return_inverse=True)
        return self._greys(self.table.ids[distinct])[place]

    def bits(self, turned: Rows, orientation: Rows, other: Rows) -> NDArray[np.uint8]:
        """Bits of 64 between `turned` under an orientation and `other`."""
        return np.asarray(
            np.bitwise_count(self.table.phash64[turned, orientation] ^ self.table.phash64[other, 0])
        )

    def wide_bits(self, turned: Rows, orientation: Rows, other: Rows) -> Rows:
        """Bits of 256, likewise."""
        words = self.table.phash256[turned, orientation] ^ self.table.phash256[other, 0]
        return np.asarray(np.bitwise_count(words).sum(axis=1, dtype=np.int64))

    def bits_by_orientation(self, first: Rows, second: Rows) -> NDArray[np.uint8]:
        """(k, 8): bits between first and second under each orientation of second, seen from the better side."""
        table = self.table
        from_second = np.bitwise_count(table.phash64[second] ^ table.phash64[first, :1])
        from_first = np.bitwise_count(
            table.phash64[first][:, INVERSE_ORIENTATION] ^ table.phash64[second, :1]
        )
        return np.asarray(np.minimum(from_second, from_first))

    def is_settled(self, first: Rows, second: Rows) -> Mask:
        """Whether the hash search has answered for these pairs: within the radius, and not left to the windows."""
        bits = self.bits_by_orientation(first, second)
        upright = bits.argmin(axis=1) == 0
        sure = self.wide_bits(second, np.zeros(len(second), dtype=np.int64), first) <= HASH_WIDE_BITS
        hashed = (self.table.texture[first] >= HASH_TEXTURE_LEVELS) & (
            self.table.texture[second] >= HASH_TEXTURE_LEVELS
        )
        return np.asarray(hashed & (bits.min(axis=1) <= self.radius_bits) & (~upright | sure))

    def likeness(self, found: Found) -> NDArray[np.float32]:
        """(k,): correlation of each pair under its hypothesis."""
        greys = self.greys(np.concatenate([found.first, found.second]))
        turned = likeness.reorient_greys(greys[len(found) :], found.orientation)
        first = likeness.signatures(greys[: len(found)], found.first_window)
        second = likeness.signatures(turned, found.second_window)
        return np.asarray((first * second).sum(axis=(1, 2)))

    def agreeing_share(self, first: Rows, second: Rows) -> NDArray[np.float64]:
        """(k,): share of the tiles that show the same in both, as they stand."""
        greys = self.greys(np.concatenate([first, second]))
        return likeness.agreeing_share(greys[: len(first)], greys[len(first) :])

    def as_pairs(self, found: Found, source: Source) -> Iterator[CandidatePair]:
        """Records with ids, the smaller one left.

        Only upright pairs are exchanged for that: the searches give turned ones in the right order.
        """
        ids = self.table.ids
        exchange = ids[found.first] > ids[found.second]
        assert not (exchange & (found.orientation > 0)).any()
        left = np.where(exchange, found.second, found.first)
        right = np.where(exchange, found.first, found.second)
        left_window = np.where(exchange[:, None], found.second_window, found.first_window)
        right_window = np.where(exchange[:, None], found.first_window, found.second_window)
        for one, other, bits, orientation, one_window, other_window in zip(
            ids[left].tolist(),
            ids[right].tolist(),
            found.bits.tolist(),
            found.orientation.tolist(),
            left_window.tolist(),
            right_window.tolist(),
            strict=True,
        ):
            yield CandidatePair(one, other, source, bits, orientation, tuple(one_window), tuple(other_window))


def in_chunks(items: NDArray[Any], function: Callable[[NDArray[Any]], NDArray[Any]]) -> NDArray[Any]:
    """The function's results for all items, with no more than `CHUNK` of them under work."""
    parts = [function(items[at : at + CHUNK]) for at in range(0, max(1, len(items)), CHUNK)]
    return np.concatenate(parts)
