"""The annoy index: repeatable, asked without the library, replaced whole, and honest when annoy is not."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dedup.index import FingerprintTable, NeighbourIndex, feature_vectors, neighbours
from dedup.index.neighbours import NeighbourProgress, nearest_rows


def drawn_table(count: int, seed: int = 1, *, twins: int = 0) -> FingerprintTable:
    """Random hashes and histograms; the last `twins` rows are the first ones with 40 of 256 bits flipped."""
    random = np.random.default_rng(seed)
    bits = random.integers(0, 2, (count, 256), dtype=np.uint8)
    histogram = random.integers(0, 90, (count, 64)).astype(np.uint8)
    for place in range(twins):
        bits[count - twins + place] = bits[place]
        bits[count - twins + place, random.choice(256, 40, replace=False)] ^= 1
        histogram[count - twins + place] = histogram[place]
    wide = np.zeros((count, 8, 4), dtype=np.uint64)
    wide[:, 0] = np.packbits(bits, axis=1).view(">u8").astype(np.uint64)
    return FingerprintTable(
        ids=np.arange(count, dtype=np.int64) * 7 + 5,
        phash64=random.integers(0, 2**64, (count, 8), dtype=np.uint64),
        phash256=wide,
        dhash64=np.zeros(count, np.uint64),
        histogram=histogram,
        texture=np.full(count, 20, np.float32),
        colour=np.zeros((count, 8, 8, 3), np.uint8),
        trim=np.tile(np.array([0, 0, 1, 1], np.float32), (count, 1)),
        aspect=np.ones(count, np.float32),
    )


def pairs_of(table: FingerprintTable, asked: NDArray[np.bool_], folder: Path | None) -> set[tuple[int, int]]:
    found = set()
    for first, second in nearest_rows(table, asked, folder, NeighbourProgress()):
        found |= set(zip(first.tolist(), second.tolist(), strict=True))
    return found


def test_annoy_passes_its_self_test_here() -> None:
    assert neighbours.self_test() == ""


def test_planted_twins_are_found_from_both_sides() -> None:
    table = drawn_table(3000, twins=200)
    found = pairs_of(table, np.ones(3000, bool), None)
    planted = {(place, 2800 + place) for place in range(200)}
    assert len(planted & found) >= 198
    assert len({(b, a) for a, b in planted} & found) >= 198


def test_two_builds_answer_alike(tmp_path: Path) -> None:
    table = drawn_table(1500, twins=50)
    for name in ("one", "two"):
        NeighbourIndex.build(table, tmp_path / name)
    one, two = ((tmp_path / name) for name in ("one", "two"))
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in two.iterdir())
    assert all((two / path.name).read_bytes() == path.read_bytes() for path in one.iterdir())


def test_k_grows_until_a_dense_family_is_whole() -> None:
    table = drawn_table(1000)
    for field in (table.phash256, table.histogram):
        field[:300] = field[0]
    positions, distances = NeighbourIndex.build(table).ask(feature_vectors(table, np.array([0]))[0])
    assert set(range(300)) <= set(positions.tolist())
    assert (np.diff(distances) >= 0).all()


def test_an_index_is_opened_and_asked_without_the_library(tmp_path: Path) -> None:
    table = drawn_table(800, twins=5)
    NeighbourIndex.build(table, tmp_path)
    index = NeighbourIndex.open(tmp_path)
    assert index is not None
    positions, distances = index.ask(feature_vectors(table, np.array([3]))[0])
    assert index.ids[positions[0]] == table.ids[3]
    assert distances[0] == pytest.approx(0.0, abs=1e-3)
    assert table.ids[798] in index.ids[positions]


def test_a_new_build_replaces_the_files_of_the_old_one(tmp_path: Path) -> None:
    NeighbourIndex.build(drawn_table(200), tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    NeighbourIndex.build(drawn_table(300), tmp_path)
    after = {path.name for path in tmp_path.iterdir()}
    assert len(before) == len(after) == 2
    assert not before & after


def test_a_file_that_does_not_fit_its_name_is_not_opened(tmp_path: Path) -> None:
    assert NeighbourIndex.open(tmp_path) is None
    NeighbourIndex.build(drawn_table(200), tmp_path)
    (trees,) = tmp_path.glob("*.ann")
    (listing,) = tmp_path.glob("*.npy")
    whole = trees.read_bytes()
    trees.write_bytes(whole[: len(whole) // 2])
    assert NeighbourIndex.open(tmp_path) is None
    trees.write_bytes(whole)
    assert NeighbourIndex.open(tmp_path) is not None
    listing.rename(tmp_path / "neighbours-0123456789abcdef.npy")
    assert NeighbourIndex.open(tmp_path) is None


def test_a_few_new_photos_are_searched_exactly_beside_the_old_file(tmp_path: Path) -> None:
    whole = drawn_table(1000, twins=40)
    old = whole.take(np.arange(970))
    pairs_of(old, np.ones(970, bool), tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    fresh = np.arange(1000) >= 970
    found = pairs_of(whole, fresh, tmp_path)
    assert {(960 + place, place) for place in range(10, 40)} <= found
    assert {path.name for path in tmp_path.iterdir()} == before
    assert all(first >= 970 for first, _ in found)


def test_photos_that_are_gone_are_not_found_and_many_new_ones_mean_a_new_build(tmp_path: Path) -> None:
    whole = drawn_table(1000, twins=40)
    pairs_of(whole, np.ones(1000, bool), tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    kept = whole.take(np.arange(20, 1000))
    assert pairs_of(kept, np.ones(980, bool), tmp_path) == {
        (a - 20, b - 20) for a, b in pairs_of(whole, np.ones(1000, bool), None) if a >= 20 and b >= 20
    }
    assert {path.name for path in tmp_path.iterdir()} == before
    pairs_of(drawn_table(1300, seed=2), np.ones(1300, bool), tmp_path)
    assert not before & {path.name for path in tmp_path.iterdir()}


def test_a_photo_whose_fingerprint_changed_counts_as_new(tmp_path: Path) -> None:
    table = drawn_table(600, twins=10)
    pairs_of(table, np.ones(600, bool), tmp_path)
    table.phash256[590] = drawn_table(600, seed=9).phash256[590]
    found = pairs_of(table, np.ones(600, bool), tmp_path)
    assert (0, 590) not in found
    assert (1, 591) in found


class _OneNeighbour:
    """What some builds of annoy do: they load, and answer with one neighbour."""

    def __init__(self, dimensions: int, metric: str) -> None:
        assert dimensions == neighbours.DIMENSIONS and metric == "angular"

    def set_seed(self, seed: int) -> None: ...

    def add_item(self, place: int, vector: NDArray[np.float32]) -> None: ...

    def build(self, trees: int, n_jobs: int) -> None:
        assert n_jobs == 1, "several threads give another index each time"

    def get_nns_by_vector(
        self, vector: object, k: int, include_distances: bool
    ) -> tuple[list[int], list[float]]:
        return [0], [0.0]


@pytest.mark.parametrize("module", (type("annoy", (), {"AnnoyIndex": _OneNeighbour}), None))
def test_without_a_working_annoy_the_search_is_exact_and_says_so(
    module: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = drawn_table(400, twins=30)
    monkeypatch.setitem(sys.modules, "annoy", module)
    monkeypatch.setattr(neighbours, "_self_test_answer", [])
    progress = NeighbourProgress()
    found = set()
    for first, second in nearest_rows(table, np.ones(400, bool), None, progress):
        found |= set(zip(first.tolist(), second.tolist(), strict=True))
    assert {(place, 370 + place) for place in range(30)} <= found
    assert "annoy" in progress.fallback


def test_vectors_are_of_unit_length_and_their_product_is_what_it_says() -> None:
    table = drawn_table(50, twins=1)
    vectors = feature_vectors(table, np.arange(50))
    assert np.square(vectors).sum(axis=1) == pytest.approx(np.ones(50), abs=1e-4)
    table.histogram[0] = 0
    assert np.isfinite(feature_vectors(table, np.arange(50))).all()
