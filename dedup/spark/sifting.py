"""What the executors do with a batch of the searches: rows of hashes made, hits judged, by the pieces of `index`.

Promises: every function takes record batches and gives record batches, and holds one of them at a time. Does not: know
where the batches come from.

Columns of a hit's pictures are named `a_...` for the first of its ends and `b_...` for the second.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dedup.index import FingerprintTable, pieces
from dedup.index.flat import flat_pairs
from dedup.index.neighbours import nearest_rows
from dedup.index.pairs import Found, GreysOf, Library
from dedup.pipeline.dataset import load_arrow, pair_schema, pairs_table
from dedup.records import Source
from dedup.spark.joining import Hashed

OPEN = "asked long, kind int, shown long, shown_kind int, bits int"
SLAB_MARGIN = 3.0
"""Levels by which the mean colours of two flat pictures may differ, as `index.flat.GRID_LEVELS` says of quarters."""
SAMPLE_PAIRS = 2000
_GREY = (64, 64)

Rows = NDArray[np.int64]


def _blobs(column: Any, kind: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """A binary column of blobs of one length as an array."""
    return np.frombuffer(b"".join(column.to_pylist()), dtype=kind).reshape(-1, *shape)


def table_of(columns: dict[str, Any], keys: Rows) -> FingerprintTable:
    """A table of the columns that are there; those that are not are empty of meaning, and nobody asks for them."""
    count = len(keys)

    def blobs(name: str, kind: str, shape: tuple[int, ...]) -> NDArray[Any]:
        if name in columns:
            return _blobs(columns[name], kind, shape)
        return np.zeros((count, *shape), dtype=kind)

    def numbers(name: str) -> NDArray[np.float32]:
        found = columns[name].to_numpy(zero_copy_only=False) if name in columns else np.ones(count)
        return np.asarray(found, dtype=np.float32)

    trim = (
        _blobs(columns["trim"], "<f8", (4,))
        if "trim" in columns
        else np.tile([0.0, 0.0, 1.0, 1.0], (count, 1))
    )
    return FingerprintTable(
        ids=keys,
        phash64=blobs("phash64", ">u8", (8,)).astype(np.uint64),
        phash256=blobs("phash256", ">u8", (8, 4)).astype(np.uint64),
        dhash64=blobs("dhash64", ">u8", ()).astype(np.uint64),
        histogram=blobs("histogram", "u1", (64,)),
        texture=numbers("texture"),
        colour=blobs("colour", "u1", (8, 8, 3)),
        trim=trim.astype(np.float32),
        aspect=numbers("aspect"),
    )


def _keys(column: Any) -> Rows:
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.int64)


def _library(batch: Any, ends: tuple[str, str], radius: int) -> tuple[Library, Rows, Rows]:
    """The pictures of a batch of hits as a library of their own, each once, in the order of keys; and both ends as rows
    of it."""
    first, second = _keys(batch.column(ends[0])), _keys(batch.column(ends[1]))
    keys, place, which = np.unique(np.concatenate([first, second]), return_index=True, return_inverse=True)
    arrow = load_arrow()
    columns = {}
    for name in batch.schema.names:
        if name.startswith("a_"):
            both = arrow.concat_arrays([batch.column(name), batch.column(f"b_{name[2:]}")])
            columns[name[2:]] = both.take(arrow.array(place))
    greys: GreysOf = _no_greys
    if "grey" in columns:
        held = _blobs(columns["grey"], "u1", _GREY)
        greys = lambda ids: held[np.searchsorted(keys, ids)]
    library = Library(table_of(columns, keys), greys, np.ones(len(keys), dtype=bool), radius)
    return library, which[: len(first)], which[len(first) :]


def _no_greys(_: Rows) -> NDArray[np.uint8]:
    raise AssertionError("greys are asked for where none travelled")


def _numbers(batch: Any, *names: str) -> list[Rows]:
    return [_keys(batch.column(name)) for name in names]


# --- rows of hashes -----------------------------------------------------------------------------------------------


def _made(batch: Any, hashes: pieces.Hashes) -> Hashed:
    return _keys(batch.column("key"))[hashes.rows], hashes.kinds, hashes.hashes


def _columns(batch: Any) -> dict[str, Any]:
    return {name: batch.column(name) for name in batch.schema.names}


def hash_rows(batch: Any) -> tuple[Hashed, Hashed]:
    """Questions and answers of the hash search."""
    table = table_of(_columns(batch), _keys(batch.column("key")))
    return _made(batch, pieces.hashes_asked(table)), _made(batch, pieces.hashes_shown(table))


def window_rows(deep: bool, batch: Any) -> tuple[Hashed, Hashed]:
    """Questions and answers of the window search, with the deep windows or without."""
    table = table_of(_columns(batch), _keys(batch.column("key")))
    greys = _blobs(batch.column("grey"), "u1", _GREY)
    return _made(batch, pieces.windows_asked(table, greys, deep=deep)), _made(
        batch, pieces.windows_shown(table, greys)
    )


# --- hits ---------------------------------------------------------------------------------------------------------


def _full(batches: Iterator[Any]) -> Iterator[Any]:
    return (batch for batch in batches if batch.num_rows)


def _as_rows(library: Library, found: Found, source: Source, **further: Any) -> Any:
    """A record batch of pairs."""
    arrow = load_arrow()
    table = pairs_table(library.as_pairs(found, source))
    columns = {name: table[name].combine_chunks() for name in pair_schema().names}
    return arrow.RecordBatch.from_pydict({**columns, **further})


def sift_hashes(radius: int, batches: Iterator[Any]) -> Iterator[Any]:
    """Hits of the hash search to pairs; `doubtful` ones are for `sift_turned`."""
    for batch in _full(batches):
        library, asked, shown = _library(batch, ("asked", "shown"), radius)
        (kinds,) = _numbers(batch, "kind")
        found, doubtful = pieces.sift_hash_hits(library, asked, kinds, shown)
        yield _as_rows(library, found, Source.HASH, doubtful=doubtful)


def sift_turned(batches: Iterator[Any]) -> Iterator[Any]:
    """Of doubtful pairs, those that look alike."""
    for batch in _full(batches):
        library, left, right = _library(batch, ("left", "right"), 0)
        bits, orientation = _numbers(batch, "distance_bits", "orientation")
        whole = np.tile(np.array([0.0, 0.0, 1.0, 1.0]), (len(left), 1))
        found = Found(left, right, bits.astype(np.uint8), orientation, whole, whole)
        yield _as_rows(library, found.take(pieces.likely_turned(library, found)), Source.HASH)


def sift_windows(radius: int, batches: Iterator[Any]) -> Iterator[Any]:
    """Hits of the window search that the hash search has left open."""
    for batch in _full(batches):
        library, asked, shown = _library(batch, ("asked", "shown"), radius)
        kept = pieces.is_open_for_windows(library, asked, shown)
        names = ("asked", "kind", "shown", "shown_kind", "bits")
        yield batch.select(names).filter(load_arrow().array(kept))


def sift_alike(batches: Iterator[Any]) -> Iterator[Any]:
    """Open hits to pairs that are alike through the window, with what decides which window of a pair is taken."""
    arrow = load_arrow()
    for batch in _full(batches):
        library, asked, shown = _library(batch, ("asked", "shown"), 0)
        kinds, shown_kinds, bits = _numbers(batch, "kind", "shown_kind", "bits")
        found, alike = pieces.alike_windows(library, (asked, kinds), (shown, shown_kinds), bits)
        boxes = np.concatenate([found.first_window, found.second_window], axis=1)[:, ::-1]
        yield _as_rows(
            library,
            found,
            Source.WINDOW,
            # Rounded as on one machine: the same choice whichever of the two pictures asked first.
            alike=arrow.array(alike.round(4).astype(np.float64)),
            first=arrow.array(library.table.ids[found.first]),
            boxes=arrow.array(
                [" ".join(f"{side:.6f}" for side in box) for box in boxes.tolist()], arrow.string()
            ),
        )


def sift_open(radius: int, source: int, batches: Iterator[Any]) -> Iterator[Any]:
    """Whole pairs about which the hash search has not decided."""
    named = list(Source)[source]
    for batch in _full(batches):
        library, left, right = _library(batch, ("left", "right"), radius)
        kept = np.flatnonzero(~library.is_settled(left, right))
        left, right = left[kept], right[kept]
        upright = np.zeros(len(left), dtype=np.int64)
        bits = (
            np.full(len(left), 64, np.uint8) if named is Source.FLAT else library.bits(left, upright, right)
        )
        whole = np.tile(np.array([0.0, 0.0, 1.0, 1.0]), (len(left), 1))
        yield _as_rows(library, Found(left, right, bits, upright, whole, whole), named)


def sift_agreeing(batches: Iterator[Any]) -> Iterator[Any]:
    """Of annoy's pairs, those where most of the picture agrees."""
    for batch in _full(batches):
        library, left, right = _library(batch, ("left", "right"), 0)
        kept = library.agreeing_share(left, right) >= pieces.NEIGHBOUR_AGREEMENT
        yield batch.select(pair_schema().names).filter(load_arrow().array(kept))


# --- flat pictures ------------------------------------------------------------------------------------------------


def mean_tones(batches: Iterator[Any]) -> Iterator[Any]:
    """Flat pictures with the mean of their colour grids."""
    arrow = load_arrow()
    for batch in _full(batches):
        tone = _blobs(batch.column("colour"), "u1", (192,)).mean(axis=1)
        columns = {"key": batch.column("key"), "tone": arrow.array(tone.astype(np.float64))}
        yield arrow.RecordBatch.from_pydict(
            {**columns, "colour": batch.column("colour"), "grey": batch.column("grey")}
        )


def flat_rows(batches: Iterator[Any]) -> Iterator[Any]:
    """Flat pictures, slab by slab, to pairs. Their greys lie in a file."""
    held: list[tuple[Rows, NDArray[np.bool_], NDArray[np.uint8]]] = []
    now = -1
    with tempfile.TemporaryFile(prefix="dedup-flat-") as file:
        for batch in _full(batches):
            slabs = _keys(batch.column("slab"))
            cuts = (np.flatnonzero(np.diff(slabs)) + 1).tolist()
            for start, stop in zip([0, *cuts], [*cuts, len(slabs)], strict=True):
                if int(slabs[start]) != now:
                    yield from _slab_pairs(held, file)
                    now, held = int(slabs[start]), []
                    file.seek(0)
                    file.truncate()
                part = batch.slice(start, stop - start)
                own = np.asarray(part.column("own").to_numpy(zero_copy_only=False), dtype=bool)
                held.append((_keys(part.column("key")), own, _blobs(part.column("colour"), "u1", (8, 8, 3))))
                file.write(b"".join(part.column("grey").to_pylist()))
        yield from _slab_pairs(held, file)


def _slab_pairs(held: list[tuple[Rows, NDArray[np.bool_], NDArray[np.uint8]]], file: Any) -> Iterator[Any]:
    if not held:
        return
    arrow = load_arrow()
    keys, own, colour = (np.concatenate(parts) for parts in zip(*held, strict=True))
    file.flush()
    greys = np.memmap(file, dtype=np.uint8, mode="r", shape=(len(keys), *_GREY))
    fetch: Callable[[Rows], NDArray[np.uint8]] = lambda rows: np.asarray(greys[rows])
    for first, second in flat_pairs(colour, fetch, own):
        left, right = np.minimum(keys[first], keys[second]), np.maximum(keys[first], keys[second])
        yield arrow.RecordBatch.from_pydict({"left": left, "right": right})


# --- annoy, on the driver -----------------------------------------------------------------------------------------


def ask_annoy(rows: Any, sample: Any, place: Path) -> tuple[Any, int, str]:
    """Neighbours of all textured pictures.

    Parameters
    ----------
    rows
        Table of key, hashes, histogram and texture, in the order of keys.
    sample
        Pairs (left, right) that annoy should find.
    place
        Where its file goes.

    Returns
    -------
    pairs
        A table (left, right) of what it proposes.
    recalled
        Pairs of the sample among all that is near.
    fallback
        Why annoy was not used; empty when it was.
    """
    from dedup.index.neighbours import NeighbourProgress

    arrow = load_arrow()
    whole = rows.combine_chunks()
    keys = _keys(whole["key"])
    table = table_of({name: whole[name] for name in whole.column_names if name != "key"}, keys)
    hashed = table.texture >= pieces.HASH_TEXTURE_LEVELS
    progress = NeighbourProgress()
    wanted = _pair_numbers(keys, _keys(sample["left"]), _keys(sample["right"]))
    seen = np.zeros(len(wanted), dtype=bool)
    found = []
    for first, second in nearest_rows(table, np.ones(len(keys), dtype=bool), place, progress):
        numbers = np.unique(np.minimum(first, second) << 32 | np.maximum(first, second))
        seen |= np.isin(wanted, numbers)
        both = hashed[first] & hashed[second]
        found.append(np.unique(np.minimum(first, second)[both] << 32 | np.maximum(first, second)[both]))
    pairs = np.unique(np.concatenate(found)) if found else np.empty(0, dtype=np.int64)
    near = arrow.table({"left": keys[pairs >> 32], "right": keys[pairs & 0xFFFFFFFF]})
    return near, int(seen.sum()), progress.fallback


def _pair_numbers(keys: Rows, left: Rows, right: Rows) -> Rows:
    first, second = np.searchsorted(keys, left), np.searchsorted(keys, right)
    return np.asarray(np.minimum(first, second) << 32 | np.maximum(first, second))
