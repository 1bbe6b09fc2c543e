"""The library as one memory-mapped file, so that a question about one picture reads hashes and no catalogue.

Promises: the file is written under a temporary name, moved into place whole, named by a digest of what went into it,
and may be deleted at any time; opening it costs the same for a hundred photos and a million.
Does not: know whether the catalogue has changed since (`pipeline.known` does), or hold the 64 x 64 greys.

About 1.3 kB a photo: the table, the hashes of all windows, and where each photo stands in annoy's file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dedup.index.by_window import asks_deep
from dedup.index.flat import quarters_of
from dedup.index.neighbours import NeighbourIndex, feature_vectors
from dedup.index.pairs import GreysOf, Library, Mask
from dedup.index.search import FLAT_TEXTURE_LEVELS, equal_rows
from dedup.index.table import FingerprintTable, row_keys
from dedup.index.window_store import INNER_COUNT, WindowStore
from dedup.index.windows import DEEP_COUNT, WINDOW_COUNT

FORMAT = 2
_MAGIC = b"dedup snapshot\n"
_HEAD_BYTES = 4096
_BLOCK = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """What can be asked about without the catalogue. Arrays of equal length but where it says otherwise, read-only."""

    path: Path
    table: FingerprintTable
    """In order of digests; ids are keys, the first 63 bits of the digest."""
    contents: NDArray[np.int64]
    """(n,): ids in the catalogue."""
    windows: NDArray[np.uint64]
    """(n, WINDOW_COUNT), and for each row without texture nothing that means anything."""
    deep: NDArray[np.uint64]
    """(n, DEEP_COUNT), or (n, 0) in a library too large for the deep windows."""
    inner: NDArray[np.uint64]
    """(n, 3): the views inside borders, 0 without any."""
    flat_rows: NDArray[np.int64]
    """(f,): photos without texture."""
    flat_quarters: NDArray[np.float32]
    """(f, 12)."""
    positions: NDArray[np.int64]
    """(p,): the row of each position in annoy's file, -1 for none."""
    outside: NDArray[np.int64]
    """(o,): rows that are not in annoy's file."""
    outside_vectors: NDArray[np.float32]
    """(o, DIMENSIONS)."""
    annoy_file: str
    """annoy's file, empty for none: then everything is outside."""

    def __len__(self) -> int:
        return len(self.contents)


_TABLE_COLUMNS = tuple(FingerprintTable.__slots__)
_OTHER_COLUMNS = (
    "contents",
    "windows",
    "deep",
    "inner",
    "flat_rows",
    "flat_quarters",
    "positions",
    "outside",
    "outside_vectors",
)


def build_snapshot(
    table: FingerprintTable,
    contents: Sequence[int],
    greys: GreysOf,
    place: Path,
    searched: Path | None = None,
) -> Path:
    """Write the snapshot of a library and remove those of earlier states.

    Parameters
    ----------
    table
        In order of digests, with keys for ids.
    contents
        The catalogue's id of each row.
    greys
        Gives the greys of ids; asked for photos whose windows no search has kept.
    place
        The folder for the file.
    searched
        Where searches keep their files, if anywhere.

    Returns
    -------
    Path
        Of the file. If it was there already, whole, it is not written again.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    index = None if searched is None else NeighbourIndex.open(searched)
    annoy_file = "" if index is None else str(index.file or "")
    numbers = np.array(contents, dtype=np.int64)
    digest = hashlib.sha256(f"{FORMAT} {annoy_file} {WINDOW_COUNT} {DEEP_COUNT}".encode())
    for part in (table.ids, numbers, row_keys(table, with_aspect=True)):
        digest.update(part.tobytes())
    path = place / f"check-{digest.hexdigest()[:16]}.bin"
    if open_snapshot(path) is None:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(path, _columns(table, numbers, greys, searched, index), annoy_file)
    for old in place.glob("check-*.bin"):
        if old != path:
            old.unlink(missing_ok=True)
    return path


def _columns(
    table: FingerprintTable,
    contents: NDArray[np.int64],
    greys: GreysOf,
    searched: Path | None,
    index: NeighbourIndex | None,
) -> dict[str, NDArray[Any]]:
    everything = Library(table, greys, np.zeros(len(table), dtype=bool), 0)
    store = WindowStore(everything, searched)
    textured = everything.textured
    found = np.zeros((len(table), WINDOW_COUNT), dtype=np.uint64)
    inner = np.zeros((len(table), INNER_COUNT), dtype=np.uint64)
    is_deep = asks_deep(len(textured))
    deep = np.zeros((len(table), DEEP_COUNT if is_deep else 0), dtype=np.uint64)
    for at in range(0, len(textured), _BLOCK):
        rows = textured[at : at + _BLOCK]
        found[rows] = store.windows_of(rows)
        inner[rows] = store.inner_of(rows)
        if is_deep:
            deep[rows] = store.deep_of(rows)
    store.save()
    flat = np.flatnonzero(table.texture < FLAT_TEXTURE_LEVELS)
    positions = np.empty(0, dtype=np.int64)
    nodes, _ = equal_rows(table)
    is_outside: Mask = np.zeros(len(table), dtype=bool)
    is_outside[nodes] = True
    if index is not None and len(table):
        order = np.argsort(table.ids, kind="stable")
        place = np.minimum(np.searchsorted(table.ids, index.ids, sorter=order), len(table) - 1)
        row = order[place]
        same = (table.ids[row] == index.ids) & (row_keys(table)[row] == index.keys)
        positions = np.where(same, row, -1)
        is_outside[row[same]] = False
    outside = np.flatnonzero(is_outside)
    return {
        **{name: getattr(table, name) for name in _TABLE_COLUMNS},
        "contents": contents,
        "windows": found,
        "deep": deep,
        "inner": inner,
        "flat_rows": flat,
        "flat_quarters": quarters_of(table.colour[flat]),
        "positions": positions,
        "outside": outside,
        "outside_vectors": feature_vectors(table, outside),
    }


def _write(path: Path, columns: dict[str, NDArray[Any]], annoy_file: str) -> None:
    listing: dict[str, Any] = {}
    at = _HEAD_BYTES
    for name, column in columns.items():
        listing[name] = [column.dtype.str, list(column.shape), at]
        at += -(-column.nbytes // _HEAD_BYTES) * _HEAD_BYTES
    head = json.dumps({"format": FORMAT, "columns": listing, "annoy": annoy_file, "bytes": at}).encode()
    if len(_MAGIC) + len(head) > _HEAD_BYTES:
        raise OSError(f"{path}: the head does not fit")
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write((_MAGIC + head).ljust(_HEAD_BYTES, b" "))
            for name, column in columns.items():
                file.seek(listing[name][2])
                file.write(np.ascontiguousarray(column).data)
            file.truncate(at)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def open_snapshot(path: Path) -> Snapshot | None:
    """The snapshot in a file, memory-mapped; None if there is none, or it is not whole."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            size = os.fstat(file.fileno()).st_size
        if not head.startswith(_MAGIC):
            return None
        said = json.loads(head[len(_MAGIC) :])
        if said["format"] != FORMAT or said["bytes"] != size:
            return None
        whole = np.memmap(path, dtype=np.uint8, mode="r")
        columns = {
            name: _view(whole, dtype, shape, at) for name, (dtype, shape, at) in said["columns"].items()
        }
        return Snapshot(
            path,
            FingerprintTable(*(columns[name] for name in _TABLE_COLUMNS)),
            **{name: columns[name] for name in _OTHER_COLUMNS},
            annoy_file=str(said["annoy"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _view(whole: NDArray[np.uint8], dtype: str, shape: list[int], at: int) -> NDArray[Any]:
    kind = np.dtype(dtype)
    length = kind.itemsize * int(np.prod(shape))
    # A plain array, since each slice of a memmap costs as much as what is done with it.
    return np.asarray(whole[at : at + length]).view(kind).reshape(shape)
