"""The radius join: every pair, no other, each once, the same every time."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dedup.index import radius as radius_module
from dedup.index import radius_pairs

Hashes = NDArray[np.uint64]


def drawn_hashes(count: int, seed: int, *, skewed: bool = False) -> Hashes:
    """Random words with families planted among them; `skewed`: a fifth of all around a few templates."""
    random = np.random.default_rng(seed)
    words = random.integers(0, 2**64, count, dtype=np.uint64)
    planted = random.choice(count, count // 6, replace=False)
    words[planted] = words[random.integers(0, count, len(planted))] ^ flips(random, len(planted), 12)
    if skewed:
        crowd = random.choice(count, count // 5, replace=False)
        templates = random.integers(0, 2**64, 5, dtype=np.uint64)
        words[crowd] = templates[random.integers(0, 5, len(crowd))] ^ flips(random, len(crowd), 6)
    return words


def flips(random: np.random.Generator, count: int, most: int) -> Hashes:
    found = np.zeros(count, dtype=np.uint64)
    for _ in range(most):
        bit = random.integers(0, 64, count).astype(np.uint64)
        found ^= (random.random(count) < 0.6).astype(np.uint64) << bit
    return found


def all_found(queries: Hashes, targets: Hashes, radius: int, new_from: int = 0) -> list[tuple[int, int, int]]:
    return [
        triple
        for rows, found, bits in radius_pairs(queries, targets, radius, new_from=new_from)
        for triple in zip(rows.tolist(), found.tolist(), bits.tolist(), strict=True)
    ]


def by_force(queries: Hashes, targets: Hashes, radius: int) -> set[tuple[int, int, int]]:
    bits = np.bitwise_count(queries[:, None] ^ targets[None, :])
    return {(a, b, int(bits[a, b])) for a, b in np.argwhere(bits <= radius).tolist()}


@pytest.mark.parametrize("radius", (0, 1, 4, 8, 10, 12, 17))
@pytest.mark.parametrize("skewed", (False, True))
def test_pairs_within_one_array_are_those_of_brute_force(radius: int, skewed: bool) -> None:
    hashes = drawn_hashes(3000, radius, skewed=skewed)
    found = all_found(hashes, hashes, radius)
    assert len(found) == len(set(found))
    assert set(found) == {(a, b, bits) for a, b, bits in by_force(hashes, hashes, radius) if b < a}


@pytest.mark.parametrize("radius", (0, 3, 8, 10, 14))
def test_pairs_across_two_arrays_are_those_of_brute_force(radius: int) -> None:
    targets = drawn_hashes(2600, 1)
    queries = targets[:1900] ^ flips(np.random.default_rng(2), 1900, 14)
    found = all_found(queries, targets, radius)
    assert len(found) == len(set(found))
    assert set(found) == by_force(queries, targets, radius)


@pytest.mark.parametrize("new_from", (1, 17, 1500, 2999, 3000))
def test_only_pairs_with_a_new_row_are_found_when_asked(new_from: int) -> None:
    hashes = drawn_hashes(3000, 4, skewed=True)
    expected = {pair for pair in all_found(hashes, hashes, 8) if pair[0] >= new_from}
    assert set(all_found(hashes, hashes, 8, new_from)) == expected


def test_every_choice_of_bands_gives_the_same_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = drawn_hashes(2500, 8, skewed=True)
    expected = {(a, b, bits) for a, b, bits in by_force(hashes, hashes, 8) if b < a}
    band = radius_module._Band
    for plan in (
        (band(0, 8, 8),),
        (band(0, 21, 2), band(21, 21, 2), band(42, 22, 2)),
        tuple(band(7 * q, 7, 0) for q in range(9)),
        (band(0, 6, 4), band(6, 10, 1), band(40, 12, 1)),
    ):
        monkeypatch.setattr(radius_module, "_plan_bands", lambda *_, plan=plan: plan)
        found = all_found(hashes, hashes, 8)
        assert len(found) == len(set(found))
        assert set(found) == expected


def test_blocks_are_byte_identical_from_run_to_run() -> None:
    hashes = drawn_hashes(20_000, 3, skewed=True)
    runs = [
        [tuple(part.tobytes() for part in block) for block in radius_pairs(hashes, hashes, 8)]
        for _ in range(2)
    ]
    assert runs[0] == runs[1]


def test_a_thousand_equal_hashes_give_all_their_pairs_in_bounded_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(radius_module, "CHUNK", 5000)
    monkeypatch.setattr(radius_module, "LEAST_BLOCK", 2000)
    hashes = np.concatenate([np.full(1000, 12345, dtype=np.uint64), drawn_hashes(4000, 6)])
    blocks = [len(rows) for rows, _, _ in radius_pairs(hashes, hashes, 8)]
    assert sum(blocks) >= 1000 * 999 // 2
    assert max(blocks) <= 2000 + 5000 + len(hashes)


def test_no_hashes_and_silly_radii() -> None:
    none, one = np.empty(0, np.uint64), np.ones(1, np.uint64)
    assert all_found(none, none, 8) == all_found(one, one, 8) == all_found(one, none, 8) == []
    assert all_found(one, one.copy(), 8) == [(0, 0, 0)]
    for radius in (-1, 64):
        with pytest.raises(ValueError, match="radius"):
            all_found(one, one, radius)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=40), st.integers(0, 20))
def test_any_hashes_at_any_radius(words: list[int], radius: int) -> None:
    hashes = np.array(words, dtype=np.uint64)
    expected = {
        (b, a) for a, b in combinations(range(len(words)), 2) if (words[a] ^ words[b]).bit_count() <= radius
    }
    assert {(a, b) for a, b, _ in all_found(hashes, hashes, radius)} == expected
