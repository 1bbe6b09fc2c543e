"""Candidate pairs to portions: whole components of the graph, packed so that one task confirms and groups each.

Promises: no candidate pair leads from one portion to another; every content with several files is in one; the same
data set gives the same portions. Does not: open a photo.

Components are SciPy's, on the driver, while the pairs fit: 16 bytes each and as much again for the graph, so
`DRIVER_PAIRS` of them take about 1 GB. Beyond, labels travel along the pairs by joins, each round twice as far as the
one before, until none changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dedup.errors import InternalFault
from dedup.pipeline import Progress
from dedup.pipeline.dataset import DataSet, load_arrow, pair_schema, part_name, photo_schema
from dedup.spark.reading import photo_rows
from dedup.spark.session import Session

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Keys = NDArray[np.int64]

DRIVER_PAIRS = 20_000_000
"""Pairs up to which the driver finds the components."""

PORTION_FILES = 128
"""Files of a portion, about: with confirmation some 30 seconds of one core, and 100 MB of a worker."""

LEAST_FILES = 16
"""Files of a portion in a small library."""

LARGE_FILES = 1024
"""Files from which a component is confirmed by all executors together: alone in a task it would take minutes."""

MOST_ROUNDS = 64
"""Rounds of joins; each at least doubles how far a label has come, so that no real graph needs half of them."""


def make_portions(session: Session, dataset: DataSet, progress: Progress) -> dict[str, Any]:
    """Write `members` and `pairs`.

    Returns
    -------
    dict
        `portions`, their number, `filled`, how many of them have members, and `large`, the numbers of those that are
        one large component.
    """
    dataset.remove("members", "pairs")
    progress("portion", 0, None)
    frame, note = _assign(session, dataset)
    try:
        note["filled"] = _write(session, dataset, frame, note["portions"])
    finally:
        frame.unpersist()
    progress("portion", note["portions"], note["portions"])
    return note


def _assign(session: Session, dataset: DataSet) -> tuple[DataFrame, dict[str, Any]]:
    """A frame of (key, portion), and what `make_portions` returns."""
    several = _several_files(session, dataset)
    pairs = _count_rows(dataset, "candidates")
    if pairs <= DRIVER_PAIRS:
        left, right = _edges(dataset, pairs)
        keys, labels = label_components(left, right)
        return _packed(session, keys, labels, several)
    return _packed_by_joins(session, dataset, several)


def _several_files(session: Session, dataset: DataSet) -> DataFrame:
    """Contents with more than one file: (key, files)."""
    parts = dataset.parts("files")
    rows = session.frame_of_parts(partial(photo_rows, dataset.place, ("key",)), parts, "key long")
    return rows.groupBy("key").count().where("count > 1").withColumnRenamed("count", "files")


def _count_rows(dataset: DataSet, folder: str) -> int:
    return sum(table.num_rows for table in dataset.tables(folder, ("left",)))


def _edges(dataset: DataSet, count: int) -> tuple[Keys, Keys]:
    left, right = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    at = 0
    for table in dataset.tables("candidates", ("left", "right")):
        left[at : at + table.num_rows] = table["left"].to_numpy()
        right[at : at + table.num_rows] = table["right"].to_numpy()
        at += table.num_rows
    return left, right


def label_components(left: Keys, right: Keys) -> tuple[Keys, Keys]:
    """Connected components of pairs of keys.

    Returns
    -------
    keys, labels : (n,) int64
        Every key, ascending, and the smallest key of its component.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    keys, place = np.unique(np.concatenate([left, right]), return_inverse=True)
    if not len(keys):
        return keys, keys
    ends = (place[: len(left)], place[len(left) :])
    graph = coo_array((np.ones(len(left), dtype=np.int8), ends), shape=(len(keys), len(keys)))
    _, found = connected_components(graph, directed=False)
    _, first = np.unique(found, return_index=True)  # keys ascend, so the first one is the smallest
    return keys, keys[first][found]


def _packed(
    session: Session, keys: Keys, labels: Keys, several: DataFrame
) -> tuple[DataFrame, dict[str, Any]]:
    counted = session.run(several.toArrow)
    more, files = counted["key"].to_numpy(), counted["files"].to_numpy()
    alone = ~np.isin(more, keys)
    keys, labels = np.concatenate([keys, more[alone]]), np.concatenate([labels, more[alone]])
    weights = np.ones(len(keys), dtype=np.int64)
    order = np.argsort(more)
    if len(more):
        place = np.minimum(np.searchsorted(more[order], keys), len(more) - 1)
        hit = more[order][place] == keys
        weights[hit] = files[order][place][hit]
    portion, note = pack_components(labels, weights, session.slots)
    arrow = load_arrow()
    table = arrow.table({"key": keys, "portion": portion})
    return session.spark.createDataFrame(table).persist(), note


def pack_components(labels: Keys, weights: Keys, slots: int = 1) -> tuple[Keys, dict[str, Any]]:
    """Give every key the portion of its component.

    Parameters
    ----------
    labels, weights : (n,) int64
        Component and number of files of each key.
    slots
        Tasks that run at the same time: a small library is cut finer, so that each has something to do.

    Returns
    -------
    portion : (n,) int64
    note : dict
        As in `make_portions`.
    """
    names, which = np.unique(labels, return_inverse=True)
    sizes = np.bincount(which, weights=weights, minlength=len(names)).astype(np.int64)
    is_large = sizes > LARGE_FILES
    # Filled one after the other; a component that would begin in a full portion begins the next.
    before = np.cumsum(np.where(is_large, 0, sizes)) - np.where(is_large, 0, sizes)
    portion = before // min(PORTION_FILES, max(LEAST_FILES, int(weights.sum()) // (4 * slots)))
    _, portion[~is_large] = np.unique(portion[~is_large], return_inverse=True)
    ordinary = int(portion[~is_large].max(initial=-1)) + 1
    portion[is_large] = ordinary + np.arange(int(is_large.sum()))
    total = ordinary + int(is_large.sum())
    return portion[which], {"portions": total, "large": list(range(ordinary, total))}


# --- beyond what the driver holds ---------------------------------------------------------------------------------


def _packed_by_joins(
    session: Session, dataset: DataSet, several: DataFrame
) -> tuple[DataFrame, dict[str, Any]]:
    from pyspark.sql import functions as f

    edges = session.frame_of_parts(
        partial(_edge_rows, dataset.place), dataset.parts("candidates"), "left long, right long"
    )
    labels = label_by_joins(session, edges)
    keys = labels.join(several, "key", "full_outer")
    keys = keys.select(
        "key", f.coalesce("label", "key").alias("label"), f.coalesce("files", f.lit(1)).alias("files")
    )
    sizes = keys.groupBy("label").agg(f.sum("files").alias("files")).persist()
    total = (
        session.run(lambda: sizes.where(f.col("files") <= LARGE_FILES).agg(f.sum("files")).collect())[0][0]
        or 0
    )
    ordinary = max(1, -(-int(total) // PORTION_FILES))
    large = sorted(
        row[0]
        for row in session.run(lambda: sizes.where(f.col("files") > LARGE_FILES).select("label").collect())
    )
    numbers: dict[int, int] = {label: ordinary + at for at, label in enumerate(large)}
    portion = f.pmod(f.xxhash64("label"), f.lit(ordinary))
    if numbers:
        pairs = (f.when(f.col("label") == label, f.lit(number)) for label, number in numbers.items())
        portion = f.coalesce(*pairs, portion)
    count = ordinary + len(large)
    return keys.select("key", portion.cast("long").alias("portion")).persist(), {
        "portions": count,
        "large": list(range(ordinary, count)),
    }


def _edge_rows(place: str, number: int) -> Iterator[Any]:
    table = DataSet(place).read_table(part_name("candidates", number), ("left", "right"))
    yield from table.to_batches(max_chunksize=1 << 16)


def label_by_joins(session: Session, edges: DataFrame) -> DataFrame:
    """Connected components without holding them: (key, label), the label being the smallest key of the component.

    Notes
    -----
    Each round a key takes the smallest label among itself and its neighbours, and then the label that this label's own
    key has, so that a label travels twice as far with each round and a chain of a million takes twenty. (Two of the
    steps of Y. Zhang, A. Azad, Z. Hu, FastSV: a distributed-memory connected component algorithm, SIAM PP 2020,
    doi:10.1137/1.9781611976137.5, written as joins.)
    """
    from pyspark import StorageLevel
    from pyspark.sql import functions as f

    both = edges.select(f.col("left").alias("key"), f.col("right").alias("near"))
    both = both.union(both.select(f.col("near").alias("key"), f.col("key").alias("near"))).distinct()
    both = both.persist(StorageLevel.DISK_ONLY)
    labels = both.groupBy("key").agg(f.least("key", f.min("near")).alias("label"))
    labels = labels.localCheckpoint()
    for _ in range(MOST_ROUNDS):
        theirs = labels.select(f.col("key").alias("near"), f.col("label").alias("other"))
        least = both.join(theirs, "near").groupBy("key").agg(f.min("other").alias("other"))
        nearer = labels.join(least, "key").select(
            "key", f.col("label").alias("before"), f.least("label", "other").alias("label")
        )
        above = nearer.select(f.col("key").alias("label"), f.col("label").alias("top"))
        jumped = nearer.join(above, "label").select("key", "before", f.least("label", "top").alias("label"))
        # Cut off from what it was made of: a plan that grows with every round takes longer than the work.
        after = session.run(partial(jumped.localCheckpoint, True))
        changed = session.run(partial(_count_changed, after))
        labels = after.select("key", "label")
        if not changed:
            both.unpersist()
            return labels
    raise InternalFault("components do not come to an end, which is a fault in dedup")


def _count_changed(labels: DataFrame) -> int:
    return int(labels.where("label <> before").limit(1).count())


# --- writing ------------------------------------------------------------------------------------------------------


def _write(session: Session, dataset: DataSet, portions: DataFrame, count: int) -> int:
    """Write both folders; the number of portions with members, since chance may leave one without."""
    from pyspark.sql import functions as f
    from pyspark.sql.pandas.types import from_arrow_schema

    if not count:
        return 0
    columns = tuple(photo_schema().names)
    fields = from_arrow_schema(photo_schema()).fields
    ddl = ", ".join(f"{field.name} {field.dataType.simpleString()}" for field in fields)
    photos = session.frame_of_parts(partial(photo_rows, dataset.place, columns), dataset.parts("files"), ddl)
    tasks = max(1, min(count, max(4 * session.slots, count // 8)))
    members = photos.join(portions, "key").repartition(tasks, "portion").sortWithinPartitions("portion", "id")
    members = members.select("portion", *columns)
    written = members.mapInArrow(partial(_write_portions, dataset.place, "members"), "portion long")
    filled = int(session.run(written.count))
    pairs = session.frame_of_parts(
        partial(_pair_rows, dataset.place), dataset.parts("candidates"), "left long, right long, source long,"
        " distance_bits long, orientation long, windows binary",
    )  # fmt: skip
    there = pairs.join(portions.select(f.col("key").alias("left"), "portion"), "left")
    there = there.repartition(tasks, "portion").sortWithinPartitions("portion", "left", "right", "source")
    there = there.select("portion", *pair_schema().names)
    session.run(there.mapInArrow(partial(_write_portions, dataset.place, "pairs"), "portion long").count)
    return filled


def _pair_rows(place: str, number: int) -> Iterator[Any]:
    table = DataSet(place).read_table(part_name("candidates", number))
    yield from table.to_batches(max_chunksize=4096)


def _write_portions(place: str, folder: str, batches: Iterator[Any]) -> Iterator[Any]:
    """Write rows that stand portion by portion, one file for each."""
    arrow = load_arrow()
    dataset = DataSet(place)
    held: list[Any] = []
    now = -1

    def end() -> Iterator[Any]:
        if held:
            dataset.write_table(
                part_name(folder, now), arrow.Table.from_batches(held).drop_columns(["portion"])
            )
            held.clear()
            yield arrow.RecordBatch.from_pydict({"portion": arrow.array([now], arrow.int64())})

    for batch in batches:
        numbers = batch.column(0).to_numpy()
        begins: list[int] = np.flatnonzero(np.diff(numbers, prepend=numbers[:1] - 1)).tolist()
        for start, stop in zip(begins, [*begins[1:], len(numbers)], strict=True):
            if int(numbers[start]) != now:
                yield from end()
                now = int(numbers[start])
            held.append(batch.slice(start, stop - start))
    yield from end()
