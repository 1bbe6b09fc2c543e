"""Window hashes of the library, kept on disk so that a few new photos can be asked about all old ones.

Promises: hashes of any rows, from the files of earlier searches where they are there and still fit, computed
otherwise; a file is written under a temporary name, moved into place whole, named by a digest of what went into it,
and may be deleted at any time.
Does not: repair. A file whose name does not fit is passed over.

Windows of 100,000 photos take 25 s to compute and 64 MB to keep; deep windows of 20,000 take 11 s and 47 MB.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from dedup.index import windows
from dedup.index.pairs import Library, Rows, in_chunks
from dedup.index.table import row_keys

Hashes = NDArray[np.uint64]

INNER_COUNT = 3
"""Views inside borders: without all of them, without those at the sides, without those above and below."""
_MOST_FILES = 8
"""Each search adds a file of its new photos; then they are written together."""


def inner_windows(trim: NDArray[np.floating]) -> NDArray[np.float64]:
    """(n, 3, 4): the windows inside the borders.

    Parameters
    ----------
    trim : (n, 4)
        What remains without borders.

    Notes
    -----
    A letterboxed photo with an even sky at its side loses both; without the half of it, one of the three is right.
    """
    found = np.repeat(trim.astype(np.float64)[:, None, :], INNER_COUNT, axis=1)
    found[:, 1, [1, 3]] = (0.0, 1.0)
    found[:, 2, [0, 2]] = (0.0, 1.0)
    return found


class _Store:
    """Hashes of a library's photos by row, in files of a kind: two columns say whose they are, the hashes follow."""

    kind: str
    hash_count: int
    recipe: bytes

    def __init__(self, library: Library, folder: Path | None) -> None:
        self._library = library
        self._folder = folder
        self._keys = row_keys(library.table, with_aspect=True)
        self._files: list[Hashes] = []
        self._paths: list[Path] = []
        self._file_of = np.full(len(library.table), -1, dtype=np.int16)
        self._place_of = np.zeros(len(library.table), dtype=np.int64)
        self._fresh: BinaryIO | None = None
        self._fresh_path: Path | None = None
        self._fresh_rows: list[Rows] = []
        if folder is not None:
            self._open_all(folder)

    def _open_all(self, folder: Path) -> None:
        order = np.argsort(self._library.table.ids, kind="stable")
        ids = self._library.table.ids[order]
        for path in sorted(folder.glob(f"{self.kind}-*.bin")):
            stored = self._open_file(path)
            if stored is None or not len(ids):
                continue
            place = np.minimum(np.searchsorted(ids, stored[:, 0].view(np.int64)), len(ids) - 1)
            rows = order[place]
            fits = (ids[place] == stored[:, 0].view(np.int64)) & (self._keys[rows] == stored[:, 1])
            self._file_of[rows[fits]] = len(self._files)
            self._place_of[rows[fits]] = np.flatnonzero(fits)
            self._files.append(stored)
            self._paths.append(path)

    def _of(self, rows: Rows, columns: slice, *, keep: bool) -> Hashes:
        found = np.empty((len(rows), columns.stop - columns.start), dtype=np.uint64)
        files = self._file_of[rows]
        for number, stored in enumerate(self._files):
            here = np.flatnonzero(files == number)
            if len(here):
                found[here] = stored[self._place_of[rows[here]], columns]
        missing = np.flatnonzero(files < 0)
        if len(missing) and keep:
            computed = in_chunks(rows[missing], self._compute)
            found[missing] = computed[:, columns]
            self._note(rows[missing], computed)
        elif len(missing):
            found[missing] = in_chunks(rows[missing], self._compute)[:, columns]
        return found

    def _compute(self, rows: Rows) -> Hashes:
        found = np.empty((len(rows), 2 + self.hash_count), dtype=np.uint64)
        found[:, 0], found[:, 1] = self._library.table.ids[rows].view(np.uint64), self._keys[rows]
        found[:, 2:] = self._hashes(rows)
        return found

    def _hashes(self, rows: Rows) -> Hashes:
        raise NotImplementedError

    def _note(self, rows: Rows, computed: Hashes) -> None:
        """Write what was computed behind what was written before; without room on the disk, do without."""
        if self._folder is None:
            return
        try:
            if self._fresh is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._fresh_path = self._folder / f"{self.kind}-{os.getpid()}.tmp"
                self._fresh = self._fresh_path.open("wb")
            self._fresh.write(computed.tobytes())
            self._fresh_rows.append(rows)
        except OSError:
            self._drop_fresh()
            self._folder = None

    def save(self) -> None:
        """Put what was computed in place, for the next search."""
        if self._fresh is None or self._fresh_path is None or self._folder is None:
            return
        rows = np.concatenate(self._fresh_rows)
        together = len(self._files) >= _MOST_FILES
        try:
            if together:
                kept = np.flatnonzero(self._file_of >= 0)
                for at in range(0, len(kept), 4096):
                    part = kept[at : at + 4096]
                    self._fresh.write(self._of(part, slice(0, 2 + self.hash_count), keep=False).tobytes())
                rows = np.concatenate([rows, kept])
            self._fresh.close()
            name = self._file_name(self._library.table.ids[rows].view(np.uint64), self._keys[rows])
            os.replace(self._fresh_path, self._folder / name)
            if together:
                for path in self._paths:
                    path.unlink(missing_ok=True)
        except OSError:
            self._drop_fresh()
        self._fresh = None

    def _drop_fresh(self) -> None:
        if self._fresh is not None:
            self._fresh.close()
            self._fresh = None
        if self._fresh_path is not None:
            self._fresh_path.unlink(missing_ok=True)

    def _file_name(self, ids: Hashes, keys: Hashes) -> str:
        digest = hashlib.sha256(self.recipe + ids.tobytes() + keys.tobytes()).hexdigest()[:16]
        return f"{self.kind}-{digest}.bin"

    def _open_file(self, path: Path) -> Hashes | None:
        """(k, columns) memory-mapped, None if the file is not what its name says."""
        columns = 2 + self.hash_count
        try:
            size = path.stat().st_size
            if not size or size % (8 * columns):
                return None
            stored = np.memmap(path, dtype=np.uint64, mode="r").reshape(-1, columns)
        except (OSError, ValueError):
            return None
        ids, keys = np.ascontiguousarray(stored[:, 0]), np.ascontiguousarray(stored[:, 1])
        return stored if path.name == self._file_name(ids, keys) else None


class _DeepStore(_Store):
    """Hashes of the deep windows."""

    kind = "deep"
    hash_count = windows.DEEP_COUNT
    recipe = f"deep windows 1: {windows.DEEP.round(4).tolist()}".encode()

    def deep_of(self, rows: Rows) -> Hashes:
        """(k, DEEP_COUNT). What had to be computed is kept."""
        return self._of(rows, slice(2, 2 + windows.DEEP_COUNT), keep=True)

    def _hashes(self, rows: Rows) -> Hashes:
        return windows.deep_hashes(self._library.greys(rows))


class WindowStore(_Store):
    """Hashes of the windows of a library's photos, by row."""

    kind = "windows"
    hash_count = windows.WINDOW_COUNT + INNER_COUNT
    recipe = f"windows 1: {windows.UPRIGHT.round(4).tolist()} {windows.ANGLES}".encode()

    def __init__(self, library: Library, folder: Path | None) -> None:
        super().__init__(library, folder)
        self._deep: _DeepStore | None = None

    def deep_of(self, rows: Rows) -> Hashes:
        """(k, DEEP_COUNT): the deep windows, which lie in files of their own. What had to be computed is kept."""
        if self._deep is None:
            self._deep = _DeepStore(self._library, self._folder)
        return self._deep.deep_of(rows)

    def save(self) -> None:
        """Put what was computed in place, for the next search."""
        super().save()
        if self._deep is not None:
            self._deep.save()

    def windows_of(self, rows: Rows) -> Hashes:
        """(k, WINDOW_COUNT): every window. What had to be computed is kept."""
        return self._of(rows, slice(2, 2 + windows.WINDOW_COUNT), keep=True)

    def inner_of(self, rows: Rows) -> Hashes:
        """(k, 3): the views of `inner_windows`, 0 without a border."""
        files = self._file_of[rows]
        if (files >= 0).all():
            return self._of(rows, slice(2 + windows.WINDOW_COUNT, 2 + self.hash_count), keep=False)
        found = np.empty((len(rows), INNER_COUNT), dtype=np.uint64)
        known, missing = np.flatnonzero(files >= 0), np.flatnonzero(files < 0)
        found[known] = self._of(rows[known], slice(2 + windows.WINDOW_COUNT, 2 + self.hash_count), keep=False)
        found[missing] = in_chunks(rows[missing], self._compute_inner)
        return found

    def _hashes(self, rows: Rows) -> Hashes:
        found = np.empty((len(rows), self.hash_count), dtype=np.uint64)
        table = self._library.table
        found[:, : windows.WINDOW_COUNT] = windows.window_hashes(
            self._library.greys(rows), table.aspect[rows]
        )
        found[:, 0] = table.phash64[rows, 0]  # exact, where the window is the whole
        found[:, windows.WINDOW_COUNT :] = self._compute_inner(rows)
        return found

    def _compute_inner(self, rows: Rows) -> Hashes:
        found = np.zeros((len(rows), INNER_COUNT), dtype=np.uint64)
        trim = self._library.table.trim[rows]
        framed = np.flatnonzero((trim != np.array(windows.WHOLE, dtype=np.float32)).any(axis=1))
        if len(framed):
            greys = self._library.greys(rows[framed])
            cut = inner_windows(trim[framed])
            for number in range(INNER_COUNT):
                found[framed, number] = windows.hashes_through(greys, cut[:, number])
        return found
