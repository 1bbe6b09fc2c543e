"""All pairs of 64-bit hashes within a Hamming radius, between partitions: rows by band keys, buckets by NumPy.

Promises: every pair of a question and an answer within the radius and no other, each once; a bucket of any size is
worked off in bounded memory, and a large one by many tasks; what comes out is streamed. Does not: know what the hashes
mean.

Method: the pigeonhole banding of `index.radius`, one level up. A question goes to the bucket of its own bits in each
band, an answer also to the buckets that t flips of its bits lead to (there are fewer answers than questions, most of
all among windows), and inside a bucket `radius_pairs` does what it does on one machine. Bands are as wide, and as few,
as the number of hashes makes worth while: rows that travel against comparisons in a bucket. A bucket that is too large
- pictures of one template, a logo - is cut by salt: its answers into a parts, its questions into b, and a times b tasks
meet every part with every other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dedup.index import radius_pairs
from dedup.index.pieces import estimate_cost
from dedup.pipeline.dataset import load_arrow
from dedup.spark.session import BATCH_ROWS, Session

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

HASH_BITS = 64
MOST_ANSWERS = 1 << 18
"""Answers of a bucket that a task holds at once: with what `radius_pairs` needs, 60 MB."""
TASK_NS = 30e9
"""Comparing that a task should do at most: 30 s."""
ROW_NS = 1_000.0
"""What a row that travels costs: made, sorted, written, read; measured on `local[2]`."""
BUCKET_NS = 200_000.0
"""What a bucket costs beside its comparisons: calls to NumPy."""
PARTITION_ROWS = 2_000_000
"""Rows of a partition: 50 MB."""
SAMPLE = 1 << 18
"""Pictures from which bucket sizes are told: more are sampled."""
ROWS = "bucket long, asks int, id long, kind int, hash long"
HITS = "asked long, kind int, shown long, shown_kind int, bits int"
JOIN_BATCH_ROWS = 1 << 16


@dataclass(frozen=True, slots=True)
class Band:
    """Bits of a hash, and how many of them two hashes may differ in."""

    shift: int
    width: int
    flips: int

    def keys(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The bits, as numbers."""
        return ((hashes >> np.uint64(self.shift)) & np.uint64((1 << self.width) - 1)).astype(np.int64)

    def masks(self) -> NDArray[np.int64]:
        """Every difference of keys that is met, nought first."""
        flips = (
            sum(1 << bit for bit in bits)
            for n in range(self.flips + 1)
            for bits in combinations(range(self.width), n)
        )
        return np.fromiter(flips, dtype=np.int64)

    @property
    def probes(self) -> int:
        """How many differences that are."""
        return sum(math.comb(self.width, n) for n in range(self.flips + 1))


def plan_bands(questions: int, answers: int, radius: int, slots: int = 2) -> tuple[Band, ...]:
    """The cheapest bands for so many hashes, if they were random.

    Notes
    -----
    For few hashes that is one band with all its bits free: the questions are cut up, and every bucket has all answers.
    """
    plans: list[tuple[Band, ...]] = [(Band(0, width, width),) for width in range(1, 9)]
    for count in range(max(2, (radius + 1) // 4), radius + 2):
        flips = [(radius + 1) // count - 1 + (q < (radius + 1) % count) for q in range(count)]
        widths = range(max(flips) + 1, min(HASH_BITS // count, 20) + 1)
        plans += [tuple(Band(q * width, width, t) for q, t in enumerate(flips)) for width in widths]
    costs = [sum(_band_cost(band, questions, answers, radius, slots) for band in bands) for bands in plans]
    return plans[costs.index(min(costs))]


def _band_cost(band: Band, questions: int, answers: int, radius: int, slots: int) -> float:
    buckets = 1 << band.width
    in_bucket = answers * band.probes / buckets
    compared = buckets * estimate_cost(math.ceil(questions / buckets), math.ceil(in_bucket), radius)
    rows = questions + answers * band.probes
    return (rows * ROW_NS + compared + min(buckets, questions) * BUCKET_NS) / max(1, min(slots, buckets))


@dataclass(frozen=True, slots=True)
class Salts:
    """The buckets that are cut: sorted numbers, and into how many parts their answers and questions go."""

    buckets: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    answers: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    questions: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def of(self, buckets: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(n,), (n,): parts of the answers and of the questions of each bucket."""
        parts = np.ones((2, len(buckets)), dtype=np.int64)
        if len(self.buckets):
            place = np.minimum(np.searchsorted(self.buckets, buckets), len(self.buckets) - 1)
            cut = self.buckets[place] == buckets
            parts[0, cut], parts[1, cut] = self.answers[place[cut]], self.questions[place[cut]]
        return parts[0], parts[1]


_NO_SALTS = Salts()

Hashed = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint64]]
"""Ids, kinds and hashes."""

Maker = Callable[[Any], tuple[Hashed, Hashed]]
"""From a record batch to questions and answers."""


def rows_of(asked: Hashed, shown: Hashed, bands: tuple[Band, ...], salts: Salts) -> Iterator[Any]:
    """Record batches of what travels."""
    for number, band in enumerate(bands):
        for asks, (ids, kinds, hashes) in ((1, asked), (0, shown)):
            keys = band.keys(hashes)
            place = np.arange(len(ids))
            if not asks:
                masks = band.masks()
                place = np.repeat(place, len(masks))
                keys = (keys[:, None] ^ masks[None, :]).reshape(-1)
            buckets = number << 32 | keys
            parts, others = salts.of(buckets)
            if not asks:
                parts, others = (
                    others,
                    parts,
                )  # copies for each part of the questions; itself in one part of the answers
            # A question is in one part of the questions, and meets every part of the answers.
            copies = np.repeat(np.arange(len(buckets)), parts)
            copy = np.arange(len(copies)) - np.repeat(np.cumsum(parts) - parts, parts)
            place, buckets = place[copies], buckets[copies]
            own = _scramble(ids[place] * 131 + kinds[place]) % others[copies]
            salt = (copy << 10 | own) if asks else (own << 10 | copy)
            yield from _batches(
                {
                    "bucket": buckets << 20 | salt,
                    "asks": np.full(len(place), asks, dtype=np.int32),
                    "id": ids[place],
                    "kind": kinds[place].astype(np.int32),
                    "hash": hashes[place].view(np.int64),
                },
            )


MOST_PARTS = 1 << 10


def _scramble(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    mixed = numbers.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return (mixed >> np.uint64(33)).astype(np.int64)


def _batches(columns: dict[str, NDArray[Any]]) -> Iterator[Any]:
    arrow = load_arrow()
    count = len(next(iter(columns.values())))
    for at in range(0, count, JOIN_BATCH_ROWS):
        yield arrow.RecordBatch.from_pydict(
            {name: c[at : at + JOIN_BATCH_ROWS] for name, c in columns.items()}
        )


def _emit(make: Maker, bands: tuple[Band, ...], salts: Salts, batches: Iterator[Any]) -> Iterator[Any]:
    for batch in batches:
        if batch.num_rows:
            asked, shown = make(batch)
            yield from rows_of(asked, shown, bands, salts)


def _meet(radius: int, bands: tuple[Band, ...], once: bool, batches: Iterator[Any]) -> Iterator[Any]:
    """Rows in the order of their buckets, answers first, to hits."""
    shown: list[Hashed] = []
    together: Hashed | None = None
    now = -1
    for batch in batches:
        buckets, asks, ids, kinds, hashes = (
            column.to_numpy(zero_copy_only=False) for column in batch.columns
        )
        cuts = np.flatnonzero((np.diff(buckets) != 0) | (np.diff(asks) != 0)) + 1
        for start, stop in zip([0, *cuts.tolist()], [*cuts.tolist(), len(buckets)], strict=True):
            if start == stop:
                continue
            part = (ids[start:stop], kinds[start:stop].astype(np.int64), hashes[start:stop].view(np.uint64))
            if int(buckets[start]) != now:
                now, shown, together = int(buckets[start]), [], None
            if not asks[start]:
                shown.append(part)
                together = None
            elif shown:
                if together is None:
                    together = _joined(shown)
                yield from _hits(part, together, bands, now >> 52, (radius, once))


def _joined(parts: list[Hashed]) -> Hashed:
    ids, kinds, hashes = zip(*parts, strict=True)
    return np.concatenate(ids), np.concatenate(kinds), np.concatenate(hashes)


def _hits(
    asked: Hashed, shown: Hashed, bands: tuple[Band, ...], number: int, how: tuple[int, bool]
) -> Iterator[Any]:
    radius, once = how
    for question, answer, bits in radius_pairs(asked[2], shown[2], radius):
        difference = asked[2][question] ^ shown[2][answer]
        kept = asked[0][question] != shown[0][answer]
        for band in bands[:number]:  # an earlier band has it
            kept &= np.bitwise_count(band.keys(difference)) > band.flips
        if once:
            same_kind = asked[1][question] == shown[1][answer]
            kept &= ~same_kind | (asked[0][question] > shown[0][answer])
        yield from _batches(
            {
                "asked": asked[0][question[kept]],
                "kind": asked[1][question[kept]].astype(np.int32),
                "shown": shown[0][answer[kept]],
                "shown_kind": shown[1][answer[kept]].astype(np.int32),
                "bits": bits[kept].astype(np.int32),
            }
        )


@dataclass(frozen=True, slots=True)
class Join:
    """What is joined."""

    make: Maker
    """Importable by name."""
    radius: int
    asked_each: float
    """Questions of a picture, about."""
    shown_each: float = 1.0
    once: bool = False
    """Whether questions and answers of one kind are the same hashes, so that each pair of them is found from both
    sides, and wanted from one."""


def join_within(session: Session, pictures: DataFrame, count: int, join: Join) -> DataFrame:
    """Hits of all questions and answers of some pictures.

    Parameters
    ----------
    pictures
        A column `key`, and what `join.make` looks at.
    count
        Number of pictures.

    Returns
    -------
    DataFrame
        `HITS`, not computed yet.
    """
    questions, answers = round(count * join.asked_each), round(count * join.shown_each)
    bands = plan_bands(questions, answers, join.radius, session.slots)
    salts = _find_salts(session, pictures, count, join, bands)
    rows = sum(questions + answers * band.probes for band in bands)
    tasks = max(min(4 * session.slots, 1 + rows // 100_000), rows // PARTITION_ROWS)
    session.batch_rows(BATCH_ROWS)
    made = pictures.mapInArrow(partial(_emit, join.make, bands, salts), ROWS)
    placed = made.repartition(int(tasks), "bucket").sortWithinPartitions("bucket", "asks")
    return placed.mapInArrow(partial(_meet, join.radius, bands, join.once), HITS)


def _find_salts(
    session: Session, pictures: DataFrame, count: int, join: Join, bands: tuple[Band, ...]
) -> Salts:
    """Sizes of buckets, from a sample where there are many pictures, and how to cut the large ones."""
    from pyspark.sql import functions as f

    if count * join.shown_each < MOST_ANSWERS / 16 and count * join.asked_each < MOST_ANSWERS:
        return _NO_SALTS
    share = max(1, count // SAMPLE)
    some = pictures.where(f.pmod(f.xxhash64("key"), f.lit(share)) == 0)
    made = some.mapInArrow(partial(_emit, join.make, bands, _NO_SALTS), ROWS)
    sizes = made.groupBy("bucket").agg(f.sum("asks").alias("asked"), f.count("*").alias("all"))
    sizes = sizes.where(
        (f.col("all") - f.col("asked") > MOST_ANSWERS / share / 2) | (f.col("asked") > MOST_ANSWERS / share)
    )
    found = session.run(sizes.toArrow)
    buckets = found["bucket"].to_numpy() >> 20
    asked = found["asked"].to_numpy().astype(np.int64) * share
    shown = found["all"].to_numpy().astype(np.int64) * share - asked
    order = np.argsort(buckets)
    into_a = np.minimum(MOST_PARTS - 1, -(-shown // MOST_ANSWERS))
    costs = [
        estimate_cost(int(q), int(min(a, MOST_ANSWERS)), join.radius)
        for q, a in zip(asked, shown, strict=True)
    ]
    into_q = np.clip(np.ceil(np.array(costs) / TASK_NS), 1, MOST_PARTS - 1).astype(np.int64)
    cut = order[(into_a[order] > 1) | (into_q[order] > 1)]
    return Salts(buckets[cut], into_a[cut], into_q[cut])
