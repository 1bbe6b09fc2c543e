"""Candidate pairs of a data set."""

from __future__ import annotations

from typing import Any

import numpy as np

from dedup.index import find_candidates, table_from_photos
from dedup.pipeline import Progress
from dedup.pipeline.dataset import DataSet, pairs_table, part_name, photo_of
from dedup.settings import Settings
from dedup.spark.session import Session


def search_candidates(
    session: Session, dataset: DataSet, settings: Settings, progress: Progress
) -> dict[str, Any]:
    """Write `candidates`."""
    dataset.remove("candidates")
    rows = [row for row in dataset.rows("files") if row["key"] is not None]
    by_key = {row["key"]: photo_of(row) for row in sorted(rows, key=lambda row: row["key"])}
    table = table_from_photos(by_key.items())
    greys = lambda keys: np.frombuffer(
        b"".join(by_key[k].fingerprint.grey for k in keys.tolist()), np.uint8
    ).reshape(-1, 64, 64)
    pairs = list(find_candidates(table, greys, settings))
    dataset.write_table(part_name("candidates", 0), pairs_table(pairs))
    return {"photos": len(rows), "contents": len(by_key), "candidates": len(pairs)}
