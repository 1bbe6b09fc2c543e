"""Candidates for one picture that is not in the library: the searches of a scan, as if it had been scanned, too.

Promises: the pairs that `find_candidates` would propose for it, under the same hypotheses and through the same gates;
time by the size of the library as memory is read (100,000 photos: 30 ms), not as it is searched.
Does not: prove anything, or change a file.

Method: the few photos of the library that any of the four searches could look at are picked out by plain comparison -
a superset, told by hashes alone - and the searches of `search.py` run on those and the picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dedup.index import windows
from dedup.index.by_window import WINDOW_RADIUS_BITS, Windows
from dedup.index.flat import GRID_LEVELS, quarters_of
from dedup.index.neighbours import (
    MAX_DISTANCE,
    NeighbourIndex,
    NeighbourProgress,
    angular_distance,
    feature_vectors,
)
from dedup.index.pairs import HASH_TEXTURE_LEVELS, GreysOf, Library, Rows
from dedup.index.search import FLAT_TEXTURE_LEVELS, CandidateSearch
from dedup.index.snapshot import Snapshot, open_snapshot
from dedup.index.table import FingerprintTable
from dedup.index.window_store import Hashes, inner_windows
from dedup.records import CandidatePair
from dedup.settings import Settings

_PAGE_BYTES = 4096
_BLOCK = 1024
"""Rows compared at a time: with all their windows 600 kB, which stays in the cache."""


class Asker:
    """A library that can be asked about single pictures, from several threads at once."""

    def __init__(self, snapshot: Snapshot, annoy: NeighbourIndex | None, settings: Settings) -> None:
        self._held = snapshot
        self._settings = settings
        self._upright = np.ascontiguousarray(snapshot.table.phash64[:, 0])
        self._textured = snapshot.table.texture >= HASH_TEXTURE_LEVELS
        self._annoy = annoy
        self._framed = np.flatnonzero(snapshot.inner[:, 0])
        self._inside = snapshot.inner[self._framed]
        self._room: list[tuple[Hashes, NDArray[np.uint8], NDArray[np.bool_]]] = []

    def warm(self) -> None:
        """Bring in what a question reads, while there is time: 20 ms of page faults for 100,000 photos."""
        held = self._held
        for column in (held.table.phash64, held.windows, held.deep, held.inner):
            column.reshape(-1)[:: _PAGE_BYTES // 8].max(initial=0)
        windows.window_hashes_of_one(np.zeros((64, 64), dtype=np.uint8), 1.0)
        if len(held):
            self._annoy_rows(held.table.take(np.zeros(1, dtype=np.int64)))

    def content_of(self, key: int) -> int:
        """The catalogue's id of a photo of the library."""
        return int(self._held.contents[np.searchsorted(self._held.table.ids, key)])

    def ask(self, picture: FingerprintTable, grey: bytes, greys: GreysOf) -> list[CandidatePair]:
        """Photos that may be alike.

        Parameters
        ----------
        picture
            A table of one row, whose id is no photo's of the library: one with its id is left out.
        grey
            Its 64 x 64 grey.
        greys
            Gives the greys, (k, 64, 64) uint8, of k ids of the library.

        Returns
        -------
        list of CandidatePair
            Each has the picture's id on one side.
        """
        own = np.frombuffer(grey, dtype=np.uint8).reshape(64, 64)
        mine = int(picture.ids[0])
        views = windows.window_hashes_of_one(own, float(picture.aspect[0]))
        views[0] = picture.phash64[0, 0]
        deep = windows.deep_hashes(own[None])[0, : self._held.deep.shape[1]]
        inner = _inner_of(picture, own)
        near = self._annoy_rows(picture) if self._settings.neighbours else np.empty(0, dtype=np.int64)
        rows = np.unique(
            np.concatenate(
                [
                    self._hash_rows(picture, np.concatenate([views, deep]), inner),
                    self._flat_rows(picture),
                    near,
                ]
            )
        )
        held = self._held
        rows = rows[held.table.ids[rows] != mine]
        if not len(rows):
            return []
        # In order of keys, as a scan that includes the picture would have it.
        at = int(np.searchsorted(held.table.ids[rows], mine))
        table = _with_row(held.table.take(rows), picture, at)
        is_new = np.zeros(len(table), dtype=bool)
        is_new[at] = True

        def all_greys(ids: Rows) -> NDArray[np.uint8]:
            found = np.empty((len(ids), 64, 64), dtype=np.uint8)
            is_mine = ids == mine
            found[is_mine] = own
            if not is_mine.all():
                found[~is_mine] = greys(ids[~is_mine])
            return found

        kept = _Kept(
            np.insert(held.windows[rows], at, views, axis=0),
            np.insert(held.deep[rows], at, deep, axis=0),
            np.insert(held.inner[rows], at, inner, axis=0),
        )
        is_near = np.insert(np.isin(rows, near), at, False)
        return list(_OneSearch(table, all_greys, self._settings, is_new, kept, is_near))

    # --- supersets of what each search could propose -----------------------------------------------------------------

    def _hash_rows(self, picture: FingerprintTable, views: Hashes, inner: Hashes) -> Rows:
        """Rows within the hash radius under any orientation, or within that of windows from either side."""
        if picture.texture[0] < HASH_TEXTURE_LEVELS:
            return np.empty(0, dtype=np.int64)
        held, upright = self._held, self._upright
        radius = self._settings.hash_radius_bits
        shown = np.unique(np.append(inner[inner != 0], picture.phash64[0, 0]))
        asked = np.unique(np.concatenate([views, inner[inner != 0]]))
        near = np.zeros(len(held), dtype=bool)
        with _Differences(self._room) as within:
            step = _BLOCK * windows.WINDOW_COUNT
            for at in range(0, len(held), step):
                part = upright[at : at + step]
                for view in asked:
                    near[at + within(part, view, WINDOW_RADIUS_BITS)] = True
                for turned in picture.phash64[0, 1:]:
                    near[at + within(part, turned, radius)] = True
            for at in range(0, len(self._framed), step // 3):
                framed, inside = self._framed[at : at + step // 3], self._inside[at : at + step // 3]
                for view in asked:
                    near[framed[within(inside, view, WINDOW_RADIUS_BITS)]] = True
            for at in range(0, len(held), _BLOCK):
                turns, cut = held.table.phash64[at : at + _BLOCK], held.windows[at : at + _BLOCK]
                near[at + within(turns, picture.phash64[0, 0], radius)] = True
                for view in shown:
                    near[at + within(cut, view, WINDOW_RADIUS_BITS)] = True
            step = max(1, _BLOCK * windows.WINDOW_COUNT // windows.DEEP_COUNT)
            for at in range(0, len(held) if held.deep.shape[1] else 0, step):
                for view in shown:
                    near[at + within(held.deep[at : at + step], view, WINDOW_RADIUS_BITS)] = True
        return np.flatnonzero(near & self._textured)

    def _flat_rows(self, picture: FingerprintTable) -> Rows:
        """Photos without texture whose quarters have its colours."""
        if picture.texture[0] >= FLAT_TEXTURE_LEVELS:
            return np.empty(0, dtype=np.int64)
        apart = np.abs(self._held.flat_quarters - quarters_of(picture.colour)).max(axis=1, initial=0.0)
        return np.asarray(self._held.flat_rows[apart <= GRID_LEVELS])

    def _annoy_rows(self, picture: FingerprintTable) -> Rows:
        """Neighbours by annoy, and exactly among the photos that are not in its file."""
        held = self._held
        vector = feature_vectors(picture, np.zeros(1, dtype=np.int64))[0]
        exact = angular_distance(held.outside_vectors @ vector) <= MAX_DISTANCE
        found = [held.outside[exact]]
        if self._annoy is not None:
            places, _ = self._annoy.ask(vector)
            rows = held.positions[places]
            found.append(rows[rows >= 0])
        return np.concatenate(found)


class _Differences:
    """Compares hashes with one hash in memory that is there already: fresh arrays of this size cost twice the work."""

    def __init__(self, held: list[tuple[Hashes, NDArray[np.uint8], NDArray[np.bool_]]]) -> None:
        """`held`: memory that nobody uses at the moment."""
        self._held = held

    def __enter__(self) -> _Differences:
        try:
            self._room = self._held.pop()
        except IndexError:
            most = _BLOCK * max(windows.WINDOW_COUNT, 8)
            self._room = np.empty(most, np.uint64), np.empty(most, np.uint8), np.empty(most, np.bool_)
        return self

    def __exit__(self, *exception: object) -> None:
        self._held.append(self._room)

    def __call__(self, hashes: Hashes, one: np.uint64, radius: int) -> Rows:
        """The rows of (k,) or (k, n) hashes of which one is within the radius."""
        apart, bits, near = (whole[: hashes.size] for whole in self._room)
        np.bitwise_xor(hashes.reshape(-1), one, out=apart)
        np.bitwise_count(apart, out=bits)
        np.less_equal(bits, radius, out=near)
        # Where it is true rather than `any` along rows: that is a loop of its own for each.
        return np.flatnonzero(near) // (hashes.size // max(1, len(hashes)))


class _Kept:
    """Window hashes that are there already."""

    def __init__(self, views: Hashes, deep: Hashes, inner: Hashes) -> None:
        self._views, self.deep, self._inner = views, deep, inner

    def windows_of(self, rows: Rows) -> Hashes:
        return np.asarray(self._views[rows])

    def deep_of(self, rows: Rows) -> Hashes:
        return np.asarray(self.deep[rows])

    def inner_of(self, rows: Rows) -> Hashes:
        return np.asarray(self._inner[rows])

    def save(self) -> None:
        pass


class _OneSearch(CandidateSearch):
    """The searches of a scan on a few photos, with windows and neighbours that are known."""

    def __init__(
        self,
        table: FingerprintTable,
        greys: GreysOf,
        settings: Settings,
        is_new: NDArray[np.bool_],
        kept: _Kept,
        is_near: NDArray[np.bool_],
    ) -> None:
        super().__init__(table, greys, settings, is_new, None)
        self._kept = _Kept(
            kept.windows_of(self._nodes), kept.deep_of(self._nodes), kept.inner_of(self._nodes)
        )
        self._near = is_near[self._nodes]

    def _windows(self, library: Library) -> Windows:  # noqa: ARG002 - they are known
        return self._kept

    def _asks_deep(self, library: Library) -> bool:  # noqa: ARG002 - the whole library's size decides
        return bool(self._kept.deep.shape[1])

    def _nearest(
        self,
        library: Library,
        progress: NeighbourProgress,  # noqa: ARG002 - what annoy said was said before
    ) -> Iterator[tuple[Rows, Rows]]:
        mine = np.flatnonzero(library.is_new)
        near = np.flatnonzero(self._near)
        for row in mine:
            yield np.full(len(near), row), near


def _inner_of(picture: FingerprintTable, grey: NDArray[np.uint8]) -> Hashes:
    """(3,): what it shows inside its borders, 0 without any."""
    trim = picture.trim
    found = np.zeros(3, dtype=np.uint64)
    if (trim != np.array(windows.WHOLE, dtype=np.float32)).any():
        for number, window in enumerate(inner_windows(trim)[0]):
            found[number] = windows.hashes_through(grey[None], window[None])[0]
    return found


def _with_row(table: FingerprintTable, row: FingerprintTable, at: int) -> FingerprintTable:
    return FingerprintTable(
        *(np.insert(getattr(table, name), at, getattr(row, name)[0], axis=0) for name in table.__slots__)
    )


def open_asker(path: Path, settings: Settings) -> Asker | None:
    """The library in a snapshot; None if it is not whole, or annoy's file beside it is not the one it was made with."""
    held = open_snapshot(path)
    if held is None:
        return None
    annoy = None
    if held.annoy_file:
        annoy = NeighbourIndex.open_file(Path(held.annoy_file), len(held.positions))
        if annoy is None:
            return None
    return Asker(held, annoy, settings)
