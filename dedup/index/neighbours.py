"""Nearest neighbours over hash-and-histogram vectors, by annoy, in a memory-mapped file: what no radius covers.

Promises: the file is written once, replaced whole, and named by a digest of what went into it; a question about one
picture opens it without reading the library; where annoy is missing or does not pass its self-test, an exact search
takes its place and says so.
Does not: guarantee a neighbour (the radius join guarantees what lies within the radius), or grow: photos that came
after the build are compared with each other exactly until there are enough for a new build.

annoy (Erik Bernhardsson, github.com/spotify/annoy) puts random hyperplanes between points, tree by tree. Known
traps, and what we do: sparse ids allocate up to the largest, so ids are dense positions with a table back;
`add_item` after `build` corrupts silently, so a file is never added to; a build with several threads differs from
run to run in spite of a seed, so `n_jobs=1`; k cuts dense families short, so k grows until the last neighbour is too
far; some builds return one neighbour, hence the self-test.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dedup.index.table import FingerprintTable, row_keys

Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]

TREES = 16
SEED = 20_11
SEARCH_NODES = 2000
"""Points looked at for a question, at least. With annoy's own choice (trees times k) twins with a sixth of their bits
flipped among 20,000 random vectors, the hardest case there is, are found in 48 %, with this in 91 %, at 0.2 ms."""
HISTOGRAM_SHARE = 0.3
"""Weight of the colour histogram in the cosine. Measured on 60 photos among 13,500, retouched places of 15 % of the
area: the original is the nearest of all for 67 % with 64 hash bits alone, for 81 % with these and the histogram, for
all with the 136 lowest of the 256 bits, with or without histogram; it helps crops and tilts (crop_20: 45 % without,
88 % with)."""
MAX_DISTANCE = 1.0
"""Angular distance (0 to 2) up to which a neighbour is proposed. Retouched copies stay below 0.97, the exact pairs
that a window moved by a few per cent too, and a photo in 13,500 has 0.1 others so near; at 1.05 it has 0.3."""
FIRST_K, MOST_K = 12, 1536
"""Neighbours asked for at first, and at most; four times as many while the last one is still near."""
REBUILD_SHARE = 0.1
"""Share of photos outside the file from which it is built anew; until then they are compared exactly."""
VECTOR_RECIPE = b"phash256 low 136, hist64 share 0.3, annoy angular 16 trees seed 2011"

_BLOCK = 1024


def _low_bits() -> NDArray[np.bool_]:
    u, v = np.indices((16, 16))
    return np.asarray(((u + v) < 16) & ((u + v) > 0)).reshape(-1)


_LOW = _low_bits()
DIMENSIONS = int(_LOW.sum()) + 64


def feature_vectors(table: FingerprintTable, rows: Rows) -> Vectors:
    """Vectors of unit length: the signs of the lowest frequencies of the 256-bit hash, and the colour histogram.

    Parameters
    ----------
    table
    rows : (k,)

    Returns
    -------
    (k, DIMENSIONS) float32
        The dot product of two is 1 - HISTOGRAM_SHARE times (1 - 2 * share of bits that differ) plus
        HISTOGRAM_SHARE times Bhattacharyya's coefficient of the histograms.
    """
    words = table.phash256[rows, 0].astype(">u8").view(np.uint8).reshape(len(rows), 32)
    signs = np.unpackbits(words, axis=1)[:, _LOW].astype(np.float32) * 2.0 - 1.0
    colours = table.histogram[rows].astype(np.float32)
    colours /= np.maximum(np.sqrt(np.square(colours).sum(axis=1, keepdims=True)), 1.0)
    found = np.empty((len(rows), DIMENSIONS), dtype=np.float32)
    found[:, : signs.shape[1]] = signs * np.sqrt((1.0 - HISTOGRAM_SHARE) / signs.shape[1])
    found[:, signs.shape[1] :] = colours * np.sqrt(HISTOGRAM_SHARE)
    return found


class NeighbourIndex:
    """Vectors of photos in an annoy index, asked by vector or by position.

    Attributes
    ----------
    ids : (n,) int64
        Photo ids by position, in the order of the build.
    keys : (n,) uint64
        A digest of each photo's vector, to tell whether it still is the one that went in.
    fallback : str
        Why annoy is not used, empty if it is; answers are exact then, and slower.
    file : Path or None
        The file that it was opened from.
    """

    def __init__(
        self, ids: Rows, keys: NDArray[np.uint64], trees: Any, vectors: Vectors | None, fallback: str
    ) -> None:
        self.ids = ids
        self.keys = keys
        self.fallback = fallback
        self.file: Path | None = None
        self._trees = trees
        self._vectors = vectors

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def build(cls, table: FingerprintTable, folder: Path | None = None) -> NeighbourIndex:
        """An index of all photos of a table.

        Parameters
        ----------
        table
        folder
            Where the file goes, under a name of its own; files of earlier builds there are removed. In memory only
            without it.
        """
        rows = np.arange(len(table))
        ids, keys = table.ids, row_keys(table)
        fallback = self_test()
        if fallback:
            return cls(ids, keys, None, feature_vectors(table, rows), fallback)
        trees = _new_trees()
        for at in range(0, len(rows), _BLOCK):
            for place, vector in enumerate(feature_vectors(table, rows[at : at + _BLOCK]), at):
                trees.add_item(place, vector)
        trees.build(TREES, n_jobs=1)
        index = cls(ids, keys, trees, None, "")
        if folder is not None:
            # A full or read-only disk costs the next search a build, nothing else.
            with contextlib.suppress(OSError):
                index._save(folder)
        return index

    def _save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"neighbours-{_content_digest(self.ids, self.keys)}"
        final = folder / f"{name}.ann"
        temporary = folder / f"{name}.{os.getpid()}.tmp"
        try:
            self._trees.save(str(temporary))
            os.replace(temporary, final)
            with temporary.open("wb") as handle:
                np.save(handle, np.stack([self.ids.view(np.uint64), self.keys]))
            os.replace(temporary, folder / f"{name}.npy")
        finally:
            temporary.unlink(missing_ok=True)
        for old in folder.glob("neighbours-*"):
            if not old.name.startswith(name):
                old.unlink(missing_ok=True)

    @classmethod
    def open(cls, folder: Path) -> NeighbourIndex | None:
        """The index of the last build, memory-mapped; None if there is none that fits its own name."""
        for listing in sorted(folder.glob("neighbours-*.npy")):
            try:
                ids, keys = np.load(listing, allow_pickle=False)
            except (OSError, ValueError):
                continue
            ids = ids.view(np.int64)
            file = listing.with_suffix(".ann")
            if listing.stem != f"neighbours-{_content_digest(ids, keys)}" or not file.exists() or self_test():
                continue
            index = cls.open_file(file, len(ids))
            if index is not None:
                index.ids, index.keys = ids, keys
                return index
        return None

    @classmethod
    def open_file(cls, file: Path, count: int) -> NeighbourIndex | None:
        """annoy's file by itself, for a caller who knows what stands at each of its positions; None if it does not fit.

        For those who ask one question: reading and checking the listing costs more than the answer.
        """
        trees = _new_trees()
        try:
            trees.load(str(file))
        except OSError:
            return None
        if trees.get_n_items() != count:
            return None
        index = cls(np.arange(count), np.zeros(count, dtype=np.uint64), trees, None, "")
        index.file = file
        return index

    def ask(
        self, vector: Vectors, max_distance: float = MAX_DISTANCE, k: int = FIRST_K
    ) -> tuple[Rows, Vectors]:
        """Positions of the neighbours of a vector within a distance, nearest first.

        Parameters
        ----------
        vector : (DIMENSIONS,)
        max_distance
            Angular, 0 to 2.
        k
            How many to ask for at first. While the last of them is within the distance, four times as many are asked
            for, up to `MOST_K`.

        Returns
        -------
        positions : (m,) int64
        distances : (m,) float32
        """
        while True:
            k = min(k, len(self.ids))
            positions, distances = self._nearest(vector, k)
            near = distances <= max_distance
            if k >= min(len(self.ids), MOST_K) or not near.all():
                return positions[near], distances[near]
            k = min(4 * k, MOST_K)

    def _nearest(self, vector: Vectors, k: int) -> tuple[Rows, Vectors]:
        if self._trees is not None:
            found, distances = self._trees.get_nns_by_vector(
                vector, k, search_k=max(SEARCH_NODES, TREES * k), include_distances=True
            )
            return np.array(found, dtype=np.int64), np.array(distances, dtype=np.float32)
        assert self._vectors is not None
        cosine = self._vectors @ vector
        order = np.argsort(-cosine, kind="stable")[:k]
        return order, angular_distance(cosine[order])


def angular_distance(cosine: NDArray[np.floating]) -> Vectors:
    """annoy's angular distance: that of the end points of two vectors of unit length."""
    return np.asarray(np.sqrt(np.maximum(2.0 - 2.0 * cosine, 0.0)), dtype=np.float32)


def _new_trees() -> Any:
    from annoy import AnnoyIndex

    trees = AnnoyIndex(DIMENSIONS, "angular")
    trees.set_seed(SEED)
    return trees


_self_test_answer: list[str] = []


def self_test() -> str:
    """Build a small index with planted pairs and ask for them; why annoy cannot be used, empty if it can. Once a
    process."""
    if not _self_test_answer:
        _self_test_answer.append(_run_self_test())
    return _self_test_answer[0]


def _run_self_test() -> str:
    try:
        trees = _new_trees()
    except ImportError as error:
        return f"annoy cannot be loaded ({error})"
    random = np.random.default_rng(SEED)
    pairs = random.normal(size=(100, 1, DIMENSIONS)) + 0.2 * random.normal(size=(100, 2, DIMENSIONS))
    vectors = pairs.reshape(200, DIMENSIONS).astype(np.float32)
    for place, vector in enumerate(vectors):
        trees.add_item(place, vector)
    trees.build(TREES, n_jobs=1)
    for place, vector in enumerate(vectors):
        found, distances = trees.get_nns_by_vector(vector, 10, include_distances=True)
        if len(found) != 10 or found[:2] != [place, place ^ 1] or sorted(distances) != distances:
            return "annoy does not find planted pairs on this machine"
    return ""


def _content_digest(ids: Rows, keys: NDArray[np.uint64]) -> str:
    return hashlib.sha256(VECTOR_RECIPE + ids.tobytes() + keys.tobytes()).hexdigest()[:16]


def nearest_rows(
    table: FingerprintTable, asked: NDArray[np.bool_], folder: Path | None, progress: NeighbourProgress
) -> Iterator[tuple[Rows, Rows]]:
    """For each photo asked, the near ones of the table.

    Parameters
    ----------
    table
    asked : (n,) bool
    folder
        Where the file of an earlier build may be, and where a new one goes.
    progress
        Is told why annoy was not used, if so.

    Yields
    ------
    first, second : (k,) int64
        Rows asked and rows found, each found row another than the one asked. A pair may come from both sides.

    Notes
    -----
    Photos outside an earlier build are compared with those asked exactly, by a matrix product, as long as they are
    fewer than a tenth: 100 photos new to a library of 100,000 cost 100 questions and one product of 100 by 100.
    """
    index, position_row, outside = _index_for(table, folder)
    progress.fallback = index.fallback
    rows = np.flatnonzero(asked)
    for at in range(0, len(rows), _BLOCK):
        some = rows[at : at + _BLOCK]
        vectors = feature_vectors(table, some)
        first, second = [], []
        for row, vector in zip(some.tolist(), vectors, strict=True):
            found = position_row[index.ask(vector)[0]]
            found = found[(found >= 0) & (found != row)]
            second.append(found)
            first.append(np.full(len(found), row))
        yield np.concatenate(first), np.concatenate(second)
        for start in range(0, len(outside), _BLOCK):
            other = outside[start : start + _BLOCK]
            near = angular_distance(vectors @ feature_vectors(table, other).T) <= MAX_DISTANCE
            near &= some[:, None] != other[None, :]
            a, b = np.nonzero(near)
            yield some[a], other[b]


class NeighbourProgress:
    """What a search by neighbours found out about itself."""

    fallback = ""


def _index_for(table: FingerprintTable, folder: Path | None) -> tuple[NeighbourIndex, Rows, Rows]:
    """An index that covers the table but for a few, the row of each of its positions (-1: gone), and the rows
    outside."""
    index = NeighbourIndex.open(folder) if folder is not None else None
    if index is not None:
        order = np.argsort(table.ids, kind="stable")
        place = np.minimum(np.searchsorted(table.ids, index.ids, sorter=order), len(table) - 1)
        row = order[place]
        same = (table.ids[row] == index.ids) & (row_keys(table)[row] == index.keys)
        position_row = np.where(same, row, -1)
        inside = np.zeros(len(table), dtype=bool)
        inside[row[same]] = True
        outside = np.flatnonzero(~inside)
        if len(outside) <= REBUILD_SHARE * len(table):
            return index, position_row, outside
    return NeighbourIndex.build(table, folder), np.arange(len(table)), np.empty(0, dtype=np.int64)
