"""The join by band keys on Spark, on hashes of which a fifth lie around 40 templates: `python -m bench.spark_join`.

Two executors with little memory meet all pairs within eight bits; the pairs are counted, and their ids added up, as
`radius_pairs` finds them on one machine. Needs pyspark and Java.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.join import make_hashes
from dedup.index import radius_pairs
from dedup.spark.joining import Hashed, Join, join_within, plan_bands
from dedup.spark.session import Session

RADIUS = 8
PRIME = 1_000_003


def hashes_of(batch: Any) -> tuple[Hashed, Hashed]:
    """Every hash asks, and shows itself."""
    keys = batch.column("key").to_numpy()
    hashes = batch.column("hash").to_numpy().view(np.uint64)
    found = (keys, np.zeros(len(keys), dtype=np.int64), hashes)
    return found, found


def add_up(batches: Iterator[Any]) -> Iterator[Any]:
    """Pairs counted, and a number that another set of pairs would not give."""
    import pyarrow

    count, total, peak = 0, 0, 0
    for batch in batches:
        asked, shown = batch.column("asked").to_numpy(), batch.column("shown").to_numpy()
        count += len(asked)
        total = (total + int((np.maximum(asked, shown) * PRIME ^ np.minimum(asked, shown)).sum())) % 2**61
    peak = next(
        int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line
    )
    yield pyarrow.RecordBatch.from_pydict({"count": [count], "total": [total], "peak": [peak // 1024]})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=4_000_000)
    parser.add_argument("--executor-mb", type=int, default=600)
    parser.add_argument("--kind", choices=("random", "skew"), default="skew")
    given = parser.parse_args()
    import pyarrow

    hashes = make_hashes(given.count, given.kind)
    master = f"local-cluster[2,1,{given.executor_mb}]"
    with Session(master, {"spark.executor.memory": f"{given.executor_mb}m"}) as session:
        table = pyarrow.table({"key": np.arange(len(hashes)), "hash": hashes.view(np.int64)})
        pictures = session.spark.createDataFrame(table).repartition(16).persist()
        session.run(pictures.count)
        began = time.monotonic()
        join = Join(hashes_of, RADIUS, asked_each=1.0, once=True)
        hits = join_within(session, pictures, len(hashes), join)
        rows = session.run(hits.mapInArrow(add_up, "count long, total long, peak long").collect)
        seconds = time.monotonic() - began
    found = (sum(row[0] for row in rows), sum(row[1] for row in rows) % 2**61)
    count, total = 0, 0
    began_cpu = time.process_time()
    for asked, shown, _ in radius_pairs(hashes, hashes, RADIUS):
        count += len(asked)
        total = (total + int((np.maximum(asked, shown) * PRIME ^ np.minimum(asked, shown)).sum())) % 2**61
    bands = plan_bands(len(hashes), len(hashes), RADIUS, 2)
    result = {
        "hashes": len(hashes),
        "seconds": round(seconds, 1),
        "pairs": found[0],
        "exact": found == (count, total),
        "python_worker_mb": max(row[2] for row in rows),
        "executor_mb": given.executor_mb,
        "bands": [(band.width, band.flips) for band in bands],
        "one_core_s": round(time.process_time() - began_cpu, 1),
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(result))
    return 0 if result["exact"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
