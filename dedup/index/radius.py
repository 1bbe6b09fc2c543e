"""All pairs of 64-bit hashes within a Hamming radius: exact, deterministic, streamed, in plain NumPy.

Promises: every pair within the radius and no other, each once, in the same order on every run; memory
bounded by the chunk size and not by the number of pairs.
Does not: know what the hashes mean, or hold on to pairs.

Method: asymmetric pigeonhole banding. Cut the hash into disjoint bands and allow band q up to t_q differing
bits with sum(t_q + 1) = radius + 1. If two hashes differed by more than t_q in every band they would differ
by at least sum(t_q + 1) > radius bits, so each wanted pair agrees, up to t_q flips, in some band. Targets
are put into buckets by their bits in a band (counting sort); a query probes the buckets that t_q flips lead
to. A pair is reported by the first band in which it could have been found. (The idea: M. Norouzi, A.
Punjani, D. Fleet, Fast exact search in Hamming space with multi-index hashing, IEEE TPAMI 36(6), 2014,
doi:10.1109/TPAMI.2013.231. We let bands have different t_q, which fits bands of about log2(N) bits to any
radius.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Rows = NDArray[np.int64]
Block = tuple[Rows, Rows, NDArray[np.uint8]]

HASH_BITS = 64
MAX_BAND_BITS = 22
"""A bucket table of 2^22 entries is 16 MB; at 24 bits it leaves the cache and a probe costs three times as
much."""
CHUNK = 1 << 20
"""Candidates checked at a time; 8 arrays of this length are alive at once, 50 MB."""
LEAST_BLOCK = 1 << 16
"""Pairs in a block, but for the last one."""
_PROBE_COST, _CHECK_COST, _SORT_COST, _COMPARE_COST, _CALL_COST = 22.0, 3.5, 40.0, 1.5, 40_000.0
"""Nanoseconds per probed bucket, checked candidate, sorted hash, plain comparison and round of calls to NumPy; only
their ratios matter, to choose bands. A probe is a jump through memory, a check runs along it: with four bands of 16
bits a million hashes take 5.6 s at radius 8, with three of 21 bits and a quarter of the checks 8.6 s."""


@dataclass(frozen=True, slots=True)
class _Band:
    shift: int
    width: int
    flips: int

    @property
    def mask(self) -> int:
        """The band's bits, in place."""
        return ((1 << self.width) - 1) << self.shift


def radius_pairs(queries: Hashes, targets: Hashes, radius: int, *, new_from: int = 0) -> Iterator[Block]:
    """All pairs of a query and a target whose hashes differ in at most `radius` bits.

    Parameters
    ----------
    queries : (m,) uint64
    targets : (n,) uint64
        If this is the very array `queries`, the pairs *within* it are meant: each unordered pair of
        different rows comes once, with the smaller row as target.
    radius
        0 to 63 bits.
    new_from
        Only query rows from here on are asked; within one array, that gives the pairs with at least one row
        from here on, in time proportional to the number of those (and one pass over the targets).

    Yields
    ------
    query_rows, target_rows : (k,) int64
    bits : (k,) uint8
        The Hamming distances. Blocks come in the order of bands and buckets; the same input gives the same
        blocks.

    Raises
    ------
    ValueError
        If the radius is not within 0 to 63.
    """
    if not 0 <= radius < HASH_BITS:
        raise ValueError(f"a radius of {radius} bits; it must be within 0 and {HASH_BITS - 1}")
    within = queries is targets
    asked = len(queries) - new_from
    if asked <= 0 or not len(targets):
        return
    few, many = sorted((asked, len(targets)))
    if asked * len(targets) * _COMPARE_COST < _bands_and_cost(few, many, radius)[1]:
        yield from _compare_all(queries, targets, radius, new_from, within)
    elif not within and asked > len(targets):
        # Probing costs by the query, sorting into buckets hardly: the fewer ask.
        for found, rows, bits in _in_fewer_blocks(_search(targets, queries[new_from:], radius, 0, False)):
            yield rows + new_from, found, bits
    else:
        yield from _in_fewer_blocks(_search(queries, targets, radius, new_from, within))


def _search(queries: Hashes, targets: Hashes, radius: int, new_from: int, within: bool) -> Iterator[Block]:
    """Band by band, as the module says."""
    bands = _plan_bands(len(queries) - new_from, len(targets), radius)
    for number, band in enumerate(bands):
        buckets = _Buckets(targets, band)
        search = (
            _probe_within(buckets) if within and new_from == 0 else _probe_across(queries, buckets, new_from)
        )
        for probe in search:
            for rows, found, bits in _check(probe, buckets, radius):
                kept = _first_found_here(queries[rows] ^ targets[found], bands[:number])
                if within:
                    kept &= found != rows if new_from == 0 else found < rows
                if kept.any():
                    yield _as_block(rows[kept], found[kept], bits[kept], within)


def _in_fewer_blocks(blocks: Iterator[Block]) -> Iterator[Block]:
    """The same pairs in larger blocks: what a caller does with a block costs by the block, too."""
    held: list[Block] = []
    count = 0
    for block in blocks:
        held.append(block)
        count += len(block[0])
        if count >= LEAST_BLOCK:
            yield _joined(held)
            held, count = [], 0
    if held:
        yield _joined(held)


def _joined(blocks: list[Block]) -> Block:
    rows, found, bits = zip(*blocks, strict=True)
    return np.concatenate(rows), np.concatenate(found), np.concatenate(bits)


def _compare_all(
    queries: Hashes, targets: Hashes, radius: int, new_from: int, within: bool
) -> Iterator[Block]:
    """Every query against every target: cheapest for a few photos."""
    step = max(1, CHUNK // len(targets))
    for at in range(new_from, len(queries), step):
        bits = np.bitwise_count(queries[at : at + step, None] ^ targets[None, :])
        rows, found = np.nonzero(bits <= radius)
        distances = bits[rows, found]
        rows += at
        if within:
            once = found < rows
            rows, found, distances = rows[once], found[once], distances[once]
        if len(rows):
            yield rows, found, distances


def estimate_cost(queries: int, targets: int, radius: int) -> float:
    """What a search takes, in nanoseconds of one core, if the hashes were random; real ones take two to ten times."""
    if not queries or not targets:
        return 0.0
    few, many = sorted((queries, targets))
    # In steps of a quarter, so that few sizes are ever planned for.
    few, many = (int(1.25 ** math.ceil(math.log(count, 1.25))) for count in (few, many))
    return min(queries * targets * _COMPARE_COST, _bands_and_cost(few, many, radius)[1])


def _plan_bands(queries: int, targets: int, radius: int) -> tuple[_Band, ...]:
    return _bands_and_cost(queries, targets, radius)[0]


@lru_cache(maxsize=64)
def _bands_and_cost(queries: int, targets: int, radius: int) -> tuple[tuple[_Band, ...], float]:
    """The cheapest bands for so many hashes, if they were random, and what they cost in nanoseconds."""
    best: tuple[tuple[_Band, ...], float] = ((), math.inf)
    for count in range(1, radius + 2):
        for width in range(4, min(HASH_BITS // count, MAX_BAND_BITS) + 1):
            flips = [(radius + 1) // count - 1 + (q < (radius + 1) % count) for q in range(count)]
            checks = queries * targets / 2**width
            cost = sum(_probes(width, t) * (queries * _PROBE_COST + checks * _CHECK_COST) for t in flips)
            cost += sum(_probes(width, t) * _CALL_COST for t in flips)
            cost += count * (2**width * 2.0 + targets * _SORT_COST)
            if cost < best[1]:
                best = (tuple(_Band(q * width, width, t) for q, t in enumerate(flips)), cost)
    return best


def _probes(width: int, flips: int) -> int:
    return sum(math.comb(width, k) for k in range(flips + 1))


class _Buckets:
    """Hashes in order of their bits in one band, with the place where each bucket begins."""

    def __init__(self, hashes: Hashes, band: _Band) -> None:
        self.band = band
        self.rows, self.keys = _in_order(hashes, band)
        self.hashes = hashes[self.rows]
        counts = np.bincount(self.keys, minlength=1 << band.width)
        self.starts = np.zeros(len(counts) + 1, dtype=np.int32)
        np.cumsum(counts, out=self.starts[1:])

    def flips(self) -> Iterator[int]:
        """Every key difference that is probed, the fewest bits first."""
        for count in range(self.band.flips + 1):
            for bits in combinations(range(self.band.width), count):
                yield sum(1 << bit for bit in bits)


def _in_order(hashes: Hashes, band: _Band) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Rows and keys, by key and then by row. One sort of packed words: NumPy sorts those in vector
    registers."""
    keys = (hashes >> np.uint64(band.shift)) & np.uint64((1 << band.width) - 1)
    packed = (keys << np.uint64(32)) | np.arange(len(hashes), dtype=np.uint64)
    packed.sort()
    return (packed & np.uint64(0xFFFFFFFF)).astype(np.int32), (packed >> np.uint64(32)).astype(np.int32)


@dataclass(frozen=True, slots=True)
class _Probe:
    """Queries, and for each the stretch of the bucket order it must be compared with."""

    rows: NDArray[np.int32]
    hashes: Hashes
    first: NDArray[np.int32]
    counts: NDArray[np.int32]


def _probe_within(buckets: _Buckets) -> Iterator[_Probe]:
    """Pairs inside one array: two buckets are met once, from the key that lacks the highest flipped bit."""
    keys, starts = buckets.keys, buckets.starts
    for flip in buckets.flips():
        if flip == 0:
            first = np.arange(1, len(keys) + 1, dtype=np.int32)
            yield _Probe(buckets.rows, buckets.hashes, first, starts[keys + 1] - first)
        else:
            lower = np.flatnonzero(keys & (1 << (flip.bit_length() - 1)) == 0)
            other = keys[lower] ^ flip
            first = starts[other]
            counts = starts[other + 1] - first
            hit = counts > 0
            lower = lower[hit]
            yield _Probe(buckets.rows[lower], buckets.hashes[lower], first[hit], counts[hit])


def _probe_across(queries: Hashes, buckets: _Buckets, new_from: int) -> Iterator[_Probe]:
    """Queries from `new_from` on against all targets, in order of their keys so that memory is read in
    order."""
    rows, keys = _in_order(queries[new_from:], buckets.band)
    rows += np.int32(new_from)
    hashes = queries[rows]
    for flip in buckets.flips():
        other = keys ^ flip
        first = buckets.starts[other]
        counts = buckets.starts[other + 1] - first
        hit = counts > 0
        yield _Probe(rows[hit], hashes[hit], first[hit], counts[hit])


def _check(probe: _Probe, buckets: _Buckets, radius: int) -> Iterator[Block]:
    """Compare each query with its stretch, about `CHUNK` candidates at a time."""
    ends = np.cumsum(probe.counts, dtype=np.int64)
    done = 0
    while done < len(ends):
        before = int(ends[done - 1]) if done else 0
        upto = max(done + 1, int(np.searchsorted(ends, before + CHUNK, side="right")))
        counts = probe.counts[done:upto]
        # Candidate c of query i sits at first[i] + (c - candidates of earlier queries).
        offset = probe.first[done:upto] - (ends[done:upto] - before - counts)
        places = np.arange(int(ends[upto - 1]) - before) + np.repeat(offset, counts)
        bits = np.bitwise_count(np.repeat(probe.hashes[done:upto], counts) ^ buckets.hashes[places])
        near = np.flatnonzero(bits <= radius)
        if len(near):
            query = np.searchsorted(ends[done:upto] - before, near, side="right")
            yield (
                probe.rows[done:upto][query].astype(np.int64),
                buckets.rows[places[near]].astype(np.int64),
                bits[near],
            )
        done = upto


def _first_found_here(difference: Hashes, earlier: tuple[_Band, ...]) -> NDArray[np.bool_]:
    """Whether no earlier band could have found the pair."""
    kept = np.ones(len(difference), dtype=bool)
    for band in earlier:
        kept &= np.bitwise_count(difference & np.uint64(band.mask)) > band.flips
    return kept


def _as_block(rows: Rows, found: Rows, bits: NDArray[np.uint8], within: bool) -> Block:
    if within:
        return np.maximum(rows, found), np.minimum(rows, found), bits
    return rows, found, bits
