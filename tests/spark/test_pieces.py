"""The parts of a scan on Spark by themselves: bands, salts, components, portions, and what executors never load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from dedup.index import radius_pairs
from dedup.spark.joining import Salts, _meet, plan_bands, rows_of
from dedup.spark.portions import LARGE_FILES, PORTION_FILES, label_components, pack_components

if TYPE_CHECKING:
    from dedup.spark.session import Session

Hits = list[tuple[int, int, int]]


def near_hashes(count: int, seed: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Random hashes, half of them within 13 bits of another one."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, count, dtype=np.uint64)
    for at in range(count // 2):
        hashes[at] = hashes[rng.integers(0, count)]
        for _ in range(rng.integers(0, 14)):
            hashes[at] ^= np.uint64(1) << np.uint64(rng.integers(0, 64))
    return hashes


@pytest.mark.parametrize("planned_for", [100, 10**6, 10**8])
@pytest.mark.parametrize("radius", [8, 10])
@pytest.mark.parametrize("cut", [(1, 1), (3, 2)])
def test_buckets_find_every_pair_once(planned_for: int, radius: int, cut: tuple[int, int]) -> None:
    import pyarrow

    hashes = near_hashes(400, seed=planned_for % 97)
    asked = (np.tile(np.arange(400), 3), np.repeat(np.arange(3), 400), np.tile(hashes, 3))
    shown = (np.arange(400), np.zeros(400, dtype=np.int64), hashes)
    bands = plan_bands(3 * planned_for, planned_for, radius)
    rows = list(rows_of(asked, shown, bands, Salts()))
    if cut != (1, 1):
        numbers = np.unique(np.concatenate([batch["bucket"].to_numpy() for batch in rows]) >> 20)
        salts = Salts(numbers, np.full(len(numbers), cut[0]), np.full(len(numbers), cut[1]))
        rows = list(rows_of(asked, shown, bands, salts))
    placed = pyarrow.Table.from_batches(rows).sort_by([("bucket", "ascending"), ("asks", "ascending")])
    found: Hits = []
    for batch in _meet(radius, bands, False, iter(placed.combine_chunks().to_batches(max_chunksize=777))):
        found += zip(*(batch[name].to_pylist() for name in ("asked", "kind", "shown")), strict=True)
    wanted: set[tuple[int, int, int]] = set()
    for question, answer, _ in radius_pairs(asked[2], hashes, radius):
        for q, a in zip(question.tolist(), answer.tolist(), strict=True):
            if asked[0][q] != a:
                wanted.add((int(asked[0][q]), int(asked[1][q]), a))
    assert len(wanted) > 300
    assert set(found) == wanted
    assert len(found) == len(wanted)


def test_bands_widen_with_the_library() -> None:
    widths = [max(band.width for band in plan_bands(8 * n, n, 10, 64)) for n in (10**5, 10**6, 10**7, 10**8)]
    assert widths == sorted(widths)
    assert widths[-1] > widths[1]


def test_no_component_is_cut_and_no_portion_overflows() -> None:
    rng = np.random.default_rng(3)
    left, right = rng.integers(0, 3000, 1500), rng.integers(0, 3000, 1500)
    chain = np.arange(10_000, 10_000 + LARGE_FILES + 5)
    keys, labels = label_components(np.concatenate([left, chain[:-1]]), np.concatenate([right, chain[1:]]))
    portion, note = pack_components(labels, np.ones(len(keys), dtype=np.int64), 1)
    of = dict(zip(keys.tolist(), portion.tolist(), strict=True))
    assert all(of[a] == of[b] for a, b in zip(left.tolist(), right.tolist(), strict=True))
    sizes = np.bincount(portion)
    assert len(sizes) == note["portions"]
    assert note["large"] == [of[10_000]]
    assert (np.delete(sizes, note["large"]) > 0).all()
    assert np.median(np.delete(sizes, note["large"])) <= PORTION_FILES


def test_components_by_joins_are_those_of_scipy(cluster: Session) -> None:
    import pyarrow

    from dedup.spark.portions import label_by_joins

    rng = np.random.default_rng(5)
    chain = rng.permutation(np.arange(5000, 5060))
    left = np.concatenate([rng.integers(0, 300, 150), chain[:-1]])
    right = np.concatenate([rng.integers(0, 300, 150), chain[1:]])
    apart = left != right
    edges = cluster.spark.createDataFrame(pyarrow.table({"left": left[apart], "right": right[apart]}))
    found = {(row["key"], row["label"]) for row in label_by_joins(cluster, edges).collect()}
    keys, labels = label_components(left[apart], right[apart])
    assert found == set(zip(keys.tolist(), labels.tolist(), strict=True))


def test_annoy_is_not_loaded_where_executors_work() -> None:
    program = (
        "import sys; import dedup.spark.sifting, dedup.spark.settling, dedup.spark.reading, dedup.spark.joining;"
        "sys.exit('annoy' in sys.modules)"
    )
    root = Path(__file__).parent.parent.parent
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0
