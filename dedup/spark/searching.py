"""Candidate pairs of a data set, by the searches of `index` with Spark's joins between their pieces.

Promises: the pairs that a search on one machine proposes, but for those that it drops in families of hundreds; equal
fingerprints are one node; no worker imports annoy. Does not: hold hits, or the pictures behind them, beyond a batch.

    twins       photos with one fingerprint, each with the first of them
    hash        phash64 within the radius, eight orientations           joined by band keys, then sifted
    window      windows within 10 bits, and alike through the window    likewise, then the best window of each pair
    flat        pictures without texture, by colour                     together in a task, or in overlapping slabs
    neighbour   annoy, on the driver                                    what it proposes is judged by the executors
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from dedup.index import pieces
from dedup.pipeline import Progress
from dedup.pipeline.dataset import DataSet, load_arrow, pair_schema, part_name
from dedup.records import IndexQuality, Source
from dedup.settings import Settings
from dedup.spark import sifting
from dedup.spark.joining import Join, join_within
from dedup.spark.reading import photo_rows
from dedup.spark.session import BATCH_ROWS, Session

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

PRINTS = ("key", "phash64", "phash256", "texture", "aspect", "trim")
"""What tells a pair from a chance hit: 400 bytes."""
CONTENT = (*PRINTS, "dhash64", "histogram", "colour", "grey")
CONTENT_SCHEMA = (
    "key long, phash64 binary, phash256 binary, texture double, aspect double, trim binary, dhash64 binary,"
    " histogram binary, colour binary, grey binary"
)
PAIRS = "left long, right long, source long, distance_bits long, orientation long, windows binary"
GREY_ROWS = 1024
"""Pairs with two greys each in a batch: 9 MB."""
NEIGHBOUR_CONTENTS = 3_000_000
"""Contents up to which the driver builds annoy's index: it holds 700 bytes of each."""
FLAT_TOGETHER = 200_000
"""Flat pictures that one task holds: 800 bytes each beside their greys, which lie on its disk."""


def search_candidates(
    session: Session, dataset: DataSet, settings: Settings, progress: Progress
) -> dict[str, Any]:
    """Write `candidates`.

    Returns
    -------
    dict
        `photos`, `contents`, `candidates`, and `index`, the quality as plain values.
    """
    dataset.remove("candidates")
    progress("search", 0, None)
    return _Search(session, dataset, settings, progress).run()


class _Search:
    def __init__(self, session: Session, dataset: DataSet, settings: Settings, progress: Progress) -> None:
        from pyspark import StorageLevel

        self.session = session
        self.dataset = dataset
        self.settings = settings
        self.progress = progress
        self.level = StorageLevel.DISK_ONLY
        self.parts = 0
        self.found = 0
        self.held: list[DataFrame] = []

    def run(self) -> dict[str, Any]:
        """All searches."""
        try:
            return self._run()
        finally:
            for frame in self.held:
                frame.unpersist()
            self.session.batch_rows(BATCH_ROWS)

    def _hold(self, frame: DataFrame) -> DataFrame:
        """Keep what several searches ask for on the executors' disks."""
        kept = frame.persist(self.level)
        self.held.append(kept)
        return kept

    def _count(self, frame: DataFrame) -> int:
        return int(self.session.run(frame.count))

    def _run(self) -> dict[str, Any]:
        session = self.session
        session.batch_rows(GREY_ROWS)
        numbers = self.dataset.parts("files")
        photos = session.frame_of_parts(
            partial(photo_rows, self.dataset.place, CONTENT), numbers, CONTENT_SCHEMA
        )
        self._shuffle_width()
        contents = self._hold(photos.dropDuplicates(["key"]))
        count = self._count(contents)
        nodes, twins = self._nodes(contents)
        nodes_count = self._count(nodes)
        exact = self._write(twins)
        if nodes_count > 1:
            prints = nodes.select(*PRINTS)
            hashed = self._hash_pairs(nodes, prints, nodes_count)
            exact += self._write(hashed)
            window = self._hold(self._window_pairs(nodes, prints, nodes_count))
            self._write(window)
            flat = self._hold(self._flat_pairs(nodes, prints, window))
            self._write(flat)
            beyond = self._neighbours(nodes, prints, window.union(flat), hashed)
        else:
            beyond = (0, 0, 0, "" if self.settings.neighbours else "switched off")
        quality = IndexQuality(exact, *beyond)
        total = sum(table.num_rows for table in self.dataset.tables("files", ("key",)))
        failed = sum(table["key"].null_count for table in self.dataset.tables("files", ("key",)))
        self.progress("search", self.found, self.found)
        return {
            "photos": total - failed,
            "contents": count,
            "candidates": self.found,
            "index": {name: getattr(quality, name) for name in quality.__slots__},
        }

    def _shuffle_width(self) -> None:
        """As many partitions as make 50 MB each of all contents."""
        files = sum(table.num_rows for table in self.dataset.tables("files", ("id",)))
        width = max(2 * self.session.slots, files // 10_000)
        self.session.spark.conf.set("spark.sql.shuffle.partitions", str(width))

    # --- the searches ---------------------------------------------------------------------------------------------

    def _nodes(self, contents: DataFrame) -> tuple[DataFrame, DataFrame]:
        """The contents that search, and the pairs of those for which another one searches."""
        from pyspark.sql import functions as f

        features = [name for name in CONTENT if name not in ("key", "grey")]
        text = f.concat_ws("|", *(f.hex(f.col(name).cast("binary")) if name not in ("texture", "aspect")
                                  else f.col(name).cast("string") for name in features))  # fmt: skip
        told = contents.select("key", "texture", f.sha2(text, 256).alias("print"))
        families = told.groupBy("print").agg(f.min("key").alias("node"), f.count("*").alias("many"))
        families = families.where(f.col("many") > pieces.FEW_TWINS).select("print", "node")
        others = self._hold(told.join(families, "print").where("key <> node"))
        nodes = contents.join(others.select("key"), "key", "left_anti") if self._count(others) else contents
        is_textured = f.col("texture") >= pieces.HASH_TEXTURE_LEVELS
        number = {source: f.lit(list(Source).index(source)) for source in Source}
        twins = others.select(
            f.least("key", "node").alias("left"),
            f.greatest("key", "node").alias("right"),
            f.when(is_textured, number[Source.HASH]).otherwise(number[Source.FLAT]).alias("source"),
            f.when(is_textured, f.lit(0)).otherwise(f.lit(64)).alias("distance_bits"),
            f.lit(0).alias("orientation"),
            f.lit(None).cast("binary").alias("windows"),
        )
        return (self._hold(nodes) if nodes is not contents else nodes), twins

    def _beside(self, hits: DataFrame, columns: DataFrame, ends: tuple[str, str]) -> DataFrame:
        """Hits with columns of both of their pictures, named `a_...` and `b_...`."""
        for end, letter in zip(ends, "ab", strict=True):
            named = columns.select(*(columns[name].alias(f"{letter}_{name}") for name in columns.columns))
            hits = hits.join(named, hits[end] == named[f"{letter}_key"]).drop(f"{letter}_key")
        return hits

    def _hash_pairs(self, nodes: DataFrame, prints: DataFrame, count: int) -> DataFrame:
        from pyspark.sql import Window
        from pyspark.sql import functions as f

        radius = self.settings.hash_radius_bits
        join = Join(sifting.hash_rows, radius, asked_each=8.0, once=True)
        hits = join_within(self.session, nodes.select("key", "phash64", "texture"), count, join)
        sifted = self._beside(hits, prints, ("asked", "shown"))
        pairs = self._hold(
            sifted.mapInArrow(partial(sifting.sift_hashes, radius), PAIRS + ", doubtful boolean")
        )
        doubtful = self._count(pairs.where("doubtful"))
        sure = pairs.where("not doubtful").drop("doubtful")
        if doubtful:
            self.session.batch_rows(GREY_ROWS)
            seen = self._beside(pairs.where("doubtful"), nodes.select("key", "grey"), ("left", "right"))
            sure = sure.union(seen.mapInArrow(sifting.sift_turned, PAIRS))
            self._hold(sure)
        earlier = Window.partitionBy("right").orderBy("left", "orientation")
        ranked = sure.withColumn("rank", f.row_number().over(earlier))
        return ranked.where(f.col("rank") <= pieces.MOST_TWINS).drop("rank")

    def _window_pairs(self, nodes: DataFrame, prints: DataFrame, count: int) -> DataFrame:
        from pyspark.sql import Window
        from pyspark.sql import functions as f

        self.session.batch_rows(GREY_ROWS)
        made = nodes.select("key", "phash64", "texture", "aspect", "trim", "grey")
        textured = self._count(nodes.where(f.col("texture") >= pieces.HASH_TEXTURE_LEVELS))
        deep = pieces.asks_deep(textured)
        join = Join(
            partial(sifting.window_rows, deep),
            pieces.WINDOW_RADIUS_BITS,
            asked_each=pieces.WINDOW_KINDS + 0.3 + deep * pieces.DEEP_KINDS,
            shown_each=1.3,
        )
        hits = join_within(self.session, made, count, join)
        radius = self.settings.hash_radius_bits
        still_open = self._beside(hits, prints, ("asked", "shown"))
        still_open = still_open.mapInArrow(partial(sifting.sift_windows, radius), sifting.OPEN)
        kinds = f.when(f.col("kind") < 0, 0).when(f.col("kind") < pieces.WINDOW_KINDS, 1).otherwise(2)
        nearest = Window.partitionBy("asked", "shown", kinds).orderBy(
            "bits", f.abs("kind"), f.abs("shown_kind")
        )
        few = still_open.withColumn("rank", f.row_number().over(nearest)).where(f.col("rank") <= pieces.TRIES)
        few = self._hold(few.drop("rank"))
        self._count(few)
        self.session.batch_rows(GREY_ROWS)
        seen = self._beside(few, nodes.select("key", "grey", "aspect", "trim"), ("asked", "shown"))
        alike = seen.mapInArrow(sifting.sift_alike, PAIRS + ", alike double, first long, boxes string")
        best = Window.partitionBy("left", "right").orderBy(f.desc("alike"), "first", "boxes")
        alike = alike.withColumn("rank", f.row_number().over(best))
        return alike.where("rank = 1").select(*pair_schema().names)

    def _flat_pairs(self, nodes: DataFrame, prints: DataFrame, seen: DataFrame) -> DataFrame:
        from pyspark.sql import functions as f

        flat = nodes.where(f.col("texture") < pieces.FLAT_TEXTURE_LEVELS).select("key", "colour", "grey")
        count = self._count(flat)
        self.session.batch_rows(BATCH_ROWS)
        if count <= FLAT_TOGETHER:
            slabs = flat.withColumn("slab", f.lit(0)).withColumn("own", f.lit(True))
            tasks = 1
        else:
            slabs, tasks = self._slabs(flat, count)
        placed = slabs.select("slab", "own", "key", "colour", "grey").repartition(tasks, "slab")
        placed = placed.sortWithinPartitions("slab", "key")
        pairs = placed.mapInArrow(sifting.flat_rows, "left long, right long").distinct()
        return self._still_open(pairs, prints, seen, Source.FLAT)

    def _slabs(self, flat: DataFrame, count: int) -> tuple[DataFrame, int]:
        """Flat pictures by their mean colour, with those that are near enough to a slab as its guests."""
        from pyspark.sql import functions as f

        toned = self._hold(
            flat.mapInArrow(sifting.mean_tones, "key long, tone double, colour binary, grey binary")
        )
        slabs = -(-count // FLAT_TOGETHER)
        steps = [number / slabs for number in range(1, slabs)]
        edges: list[float] = sorted(set(self.session.run(lambda: toned.approxQuantile("tone", steps, 0.002))))
        near = f.array(*(f.lit(edge) for edge in edges))

        def slab_of(tone: Any) -> Any:
            return f.size(f.filter(near, lambda edge: edge <= tone))

        margin = f.lit(sifting.SLAB_MARGIN)
        homes = f.sequence(slab_of(f.col("tone") - margin), slab_of(f.col("tone") + margin))
        placed = toned.select("*", slab_of(f.col("tone")).alias("home"), f.explode(homes).alias("slab"))
        return placed.withColumn("own", f.col("home") == f.col("slab")), len(edges) + 1

    def _still_open(self, pairs: DataFrame, prints: DataFrame, seen: DataFrame, source: Source) -> DataFrame:
        """Those about which no other search has decided."""
        fresh = pairs.join(seen.select("left", "right"), ["left", "right"], "left_anti")
        judged = self._beside(fresh, prints, ("left", "right"))
        number = list(Source).index(source)
        return judged.mapInArrow(partial(sifting.sift_open, self.settings.hash_radius_bits, number), PAIRS)

    def _neighbours(
        self, nodes: DataFrame, prints: DataFrame, seen: DataFrame, hashed: DataFrame
    ) -> tuple[int, int, int, str]:
        """annoy on the driver; what it proposes is judged as everything else is.

        Returns
        -------
        tuple
            Pairs, pairs of the sample, those of it that annoy found, and why it was not used.
        """
        if not self.settings.neighbours:
            return 0, 0, 0, "switched off"
        if self._count(nodes) > NEIGHBOUR_CONTENTS:
            return 0, 0, 0, f"more than {NEIGHBOUR_CONTENTS:,} pictures, too many for the driver"
        from pyspark.sql import functions as f

        by_chance = (
            hashed.where("orientation = 0").select("left", "right").orderBy(f.xxhash64("left", "right"))
        )
        sample = self.session.run(by_chance.limit(sifting.SAMPLE_PAIRS).toArrow)
        session = self.session
        rows = nodes.select("key", "phash64", "phash256", "histogram", "texture", "aspect", "trim").orderBy(
            "key"
        )
        with TemporaryDirectory(prefix="dedup-annoy-") as place:
            near, recalled, fallback = sifting.ask_annoy(session.run(rows.toArrow), sample, Path(place))
        if not near.num_rows:
            return 0, sample.num_rows, recalled, fallback
        still_open = self._still_open(session.spark.createDataFrame(near), prints, seen, Source.NEIGHBOUR)
        session.batch_rows(GREY_ROWS)
        judged = self._beside(still_open, nodes.select("key", "grey"), ("left", "right"))
        count = self._write(judged.mapInArrow(sifting.sift_agreeing, PAIRS))
        return count, sample.num_rows, recalled, fallback

    # --- writing --------------------------------------------------------------------------------------------------

    def _write(self, pairs: DataFrame) -> int:
        """Write pairs as further parts of `candidates`; how many."""
        tasks = max(1, self.session.slots)
        ordered = pairs.select(*pair_schema().names).repartition(tasks, "left", "right")
        ordered = ordered.sortWithinPartitions("left", "right", "orientation")
        write = partial(_write_candidates, self.dataset.place, self.parts)
        rows = self.session.run(ordered.mapInArrow(write, "rows long").collect)
        self.parts += tasks
        count = sum(int(row[0]) for row in rows)
        self.found += count
        self.progress("search", self.found, None)
        return count


def _write_candidates(place: str, before: int, batches: Iterator[Any]) -> Iterator[Any]:
    from pyspark import TaskContext

    arrow = load_arrow()
    context = TaskContext.get()
    held = [batch for batch in batches if batch.num_rows]
    count = sum(batch.num_rows for batch in held)
    if held and context is not None:
        table = arrow.Table.from_batches(held).cast(pair_schema())
        DataSet(place).write_table(part_name("candidates", before + context.partitionId()), table)
    yield arrow.RecordBatch.from_pydict({"rows": arrow.array([count], arrow.int64())})
