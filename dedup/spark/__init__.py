"""The same pipeline on Apache Spark: stages as records-to-records functions, run where the photos are.

Promises: the groups of a scan on one machine; every stage leaves Parquet behind, and a restart goes on with what is
missing; nothing of Spark is imported before it is asked for. Does not: bring a scheduler, a shuffle or a protocol of
its own.

    run.py        the stages in order            session.py    Spark started, watched and cancelled
    listing.py    roots to numbered parts        reading.py    a part decoded and fingerprinted
    searching.py  candidate pairs                joining.py    all pairs within a radius, by band keys
    portions.py   components of the pairs        settling.py   a portion confirmed and grouped
    fetching.py   objects brought to a task
"""

from __future__ import annotations

from dedup.spark.run import Where, scan_on_spark

__all__ = ["Where", "scan_on_spark"]
