"""The packed table of fingerprints: what the index knows about every photo, column by column.

Promises: rows stand in the order in which they came, about 620 bytes each.
Does not: hold the 64 x 64 greys, which would be 4 kB a photo; searches fetch those they need, in chunks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dedup.records import Photo

ORIENTATIONS = 8
INVERSE_ORIENTATION = np.array([0, 1, 2, 3, 4, 7, 6, 5])
"""Which orientation undoes which: a quarter turn one way undoes one the other way, all others undo
themselves."""


@dataclass(frozen=True, slots=True, eq=False)
class FingerprintTable:
    """Features of n photos; `Fingerprint` says what each one is. Arrays of equal length, to be read only."""

    ids: NDArray[np.int64]
    phash64: NDArray[np.uint64]
    """(n, 8): one word per orientation."""
    phash256: NDArray[np.uint64]
    """(n, 8, 4)."""
    dhash64: NDArray[np.uint64]
    histogram: NDArray[np.uint8]
    """(n, bins)."""
    texture: NDArray[np.float32]
    colour: NDArray[np.uint8]
    """(n, 8, 8, 3)."""
    trim: NDArray[np.float32]
    """(n, 4)."""
    aspect: NDArray[np.float32]
    """Width over height of the upright picture."""

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.int64]) -> FingerprintTable:
        """The table of these rows only."""
        return FingerprintTable(*(getattr(self, name)[rows] for name in self.__slots__))


def table_from_photos(photos: Iterable[tuple[int, Photo]]) -> FingerprintTable:
    """Pack the fingerprints of photos.

    Parameters
    ----------
    photos
        (id, photo), each id once. The id is the one that candidate pairs will carry; `Photo.id` is not
        looked at, and `Fingerprint.grey` may be empty.
    """
    columns: list[list[Any]] = [[] for _ in range(9)]
    packed: list[tuple[Any, ...]] = []
    for id_, photo in photos:
        print_ = photo.fingerprint
        for column, value in zip(
            columns,
            (
                id_,
                print_.phash64,
                print_.phash256,
                print_.dhash64,
                print_.histogram,
                print_.texture,
                print_.colour,
                print_.trim,
                photo.info.width_px / max(1, photo.info.height_px),
            ),
            strict=True,
        ):
            column.append(value)
        if len(columns[0]) == 4096:
            packed.append(_pack(columns))
            for column in columns:
                column.clear()
    packed.append(_pack(columns))
    return FingerprintTable(*(np.concatenate(parts) for parts in zip(*packed, strict=True)))


def table_from_rows(ids: Sequence[int], chunks: Iterable[Sequence[tuple[Any, ...]]]) -> FingerprintTable:
    """Pack fingerprints as a catalogue keeps them, six times as fast as from photos.

    Parameters
    ----------
    ids
        As in `table_from_photos`, in the order of the rows.
    chunks
        Rows of (phash64, phash256, dhash64, histogram, texture, colour, trim, aspect), trim as four little-endian
        doubles.

    Raises
    ------
    ValueError
        If there are not as many rows as ids, or a blob has another length.
    """
    packed = [_pack([[], [], [], [], [], [], [], [], []])]
    done = 0
    for chunk in chunks:
        columns: list[Any] = [ids[done : done + len(chunk)], *zip(*chunk, strict=True)]
        columns[7] = np.frombuffer(b"".join(columns[7]), dtype="<f8").reshape(-1, 4)
        packed.append(_pack(columns))
        done += len(chunk)
    if done != len(ids):
        raise ValueError(f"{done} rows for {len(ids)} ids")
    return FingerprintTable(*(np.concatenate(parts) for parts in zip(*packed, strict=True)))


def _pack(columns: list[list[Any]]) -> tuple[Any, ...]:
    ids, phash64, phash256, dhash64, histogram, texture, colour, trim, aspect = columns
    count = len(ids)
    return (
        np.array(ids, dtype=np.int64),
        _words(phash64).reshape(count, ORIENTATIONS),
        _words(phash256).reshape(count, ORIENTATIONS, 4),
        _words(dhash64),
        _bytes(histogram).reshape(count, -1) if count else np.empty((0, 64), np.uint8),
        np.array(texture, dtype=np.float32),
        _bytes(colour).reshape(count, 8, 8, 3),
        np.array(trim, dtype=np.float32).reshape(count, 4),
        np.array(aspect, dtype=np.float32),
    )


def _words(parts: list[bytes]) -> NDArray[np.uint64]:
    return np.frombuffer(b"".join(parts), dtype=">u8").astype(np.uint64)


def _bytes(parts: list[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(parts), dtype=np.uint8)


def row_keys(table: FingerprintTable, *, with_aspect: bool = False) -> NDArray[np.uint64]:
    """A digest of each row's hash and histogram, to tell whether a row still is the one that went into a file.

    Parameters
    ----------
    table
    with_aspect
        Take the shape and the borders in, too.

    Returns
    -------
    (n,) uint64
    """
    parts = [table.phash256[:, 0], np.ascontiguousarray(table.histogram).view(np.uint64)]
    if with_aspect:
        parts += [np.ascontiguousarray(table.trim).view(np.uint64)]
        parts += [table.aspect.view(np.uint32).astype(np.uint64)[:, None]]
    # Multiply and shift, column by column; only ever compared for equality.
    key = np.full(len(table), 0x9E3779B97F4A7C15, dtype=np.uint64)
    for part in parts:
        for column in part.T:
            key = (key ^ column) * np.uint64(0xBF58476D1CE4E5B9)
            key ^= key >> np.uint64(29)
    return key
