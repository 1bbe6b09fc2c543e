"""Which pairs are measured, and which together: on made-up families with a known answer."""

from __future__ import annotations

import random
import tracemalloc
from collections import defaultdict
from collections.abc import Collection

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dedup.pipeline.components import Edge, Numbers, split_components
from dedup.pipeline.planning import JOB_PHOTOS, Job, Round, as_pair, find_roots, plan_jobs, plan_round


def columns(rows: Collection[tuple[int, ...]], width: int) -> Numbers:
    return np.array(list(rows), dtype=np.int64).reshape(-1, width)


def parts_of(edges: list[Edge]) -> list[tuple[list[int], list[Edge]]]:
    parts = split_components(columns(edges, 3))
    return [(parts.members(number), parts.inside(number)) for number in range(len(parts))]


def round_of(rows: list[Edge], roots: dict[int, int], measured: Collection[tuple[int, int]] = ()) -> Round:
    return plan_round(columns(rows, 3), roots, columns(measured, 2))


def edges_of(planned: Round) -> list[Edge]:
    return [(name, one, other) for name, one, other in planned.edges.tolist()]


def jobs_of(edges: list[Edge]) -> list[Job]:
    count, jobs = plan_jobs(columns(edges, 3), sorted)
    found = list(jobs)
    assert count == sum(len(inside) for _, inside in found)
    return found


def all_pairs(contents: list[int]) -> list[tuple[int, int]]:
    return [(a, b) for at, a in enumerate(contents) for b in contents[at + 1 :]]


def test_components_are_what_hangs_together() -> None:
    parts = parts_of([(7, 5, 1), (8, 2, 3), (9, 3, 5), (10, 8, 9), (11, 6, 6)])
    assert parts == [
        ([1, 2, 3, 5], [(7, 5, 1), (8, 2, 3), (9, 3, 5)]),
        ([6], [(11, 6, 6)]),
        ([8, 9], [(10, 8, 9)]),
    ]
    assert parts_of([]) == []


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40))
def test_components_hold_every_edge_once_and_share_nothing(ends: list[tuple[int, int]]) -> None:
    edges = [(number, a, b) for number, (a, b) in enumerate(ends)]
    parts = parts_of(edges)
    nodes = [node for members, _ in parts for node in members]
    assert len(nodes) == len(set(nodes))
    assert sorted(edge for _, inside in parts for edge in inside) == edges
    assert all({a, b} <= set(members) for members, inside in parts for _, a, b in inside)


def test_a_root_is_the_end_of_the_way() -> None:
    assert find_roots([(1, 2), (2, 3), (9, 8)]) == {2: 1, 3: 1, 8: 9}
    assert find_roots([(1, 2), (2, 1)]).keys() == {1, 2}, "a circle ends somewhere"


def test_a_pair_stands_for_the_pair_of_its_roots() -> None:
    """Two stars around 1 and 5, tied by one pair of members: the centres are measured, and the pair is spared."""
    roots = {2: 1, 3: 1, 6: 5}
    planned = round_of([(40, 2, 6), (41, 3, 6)], roots)
    assert edges_of(planned) == [(-1, 1, 5)]
    assert planned.spared.tolist() == []
    planned = round_of([(40, 2, 6), (41, 3, 6)], roots, {(1, 5)})
    assert edges_of(planned) == []
    assert planned.spared.tolist() == [[40, 1], [41, 1]]


def test_versions_of_one_photo_are_not_measured_against_each_other() -> None:
    assert round_of([(40, 2, 3)], {2: 1, 3: 1}).spared.tolist() == [[40, 1]]


def test_a_candidate_of_the_roots_is_taken_as_it_was_proposed() -> None:
    assert edges_of(round_of([(40, 2, 6), (41, 1, 5)], {2: 1, 6: 5})) == [(41, 1, 5)]


def test_a_new_photo_is_measured_against_the_root_of_what_it_resembles() -> None:
    assert edges_of(round_of([(40, 2, 77)], {2: 1}, {(1, 2)})) == [(-1, 1, 77)]


def planned_one_by_one(
    rows: list[Edge], roots: dict[int, int], measured: Collection[tuple[int, int]]
) -> tuple[list[Edge], list[list[int]]]:
    """What a round is, candidate by candidate."""
    edges, spared, through = [], [], set()
    for rowid, left, right in rows:
        one, other = roots.get(left, left), roots.get(right, right)
        pair = as_pair(one, other)
        if pair == as_pair(left, right) or (one == other and one in (left, right)):
            edges.append((rowid, left, right))
        elif one == other:
            spared.append([rowid, one])
        elif pair in measured:
            spared.append([rowid, one if one != left else other])
        else:
            through.add(pair)
    through -= {as_pair(left, right) for _, left, right in edges}
    return edges + [(-1, *pair) for pair in sorted(through)], spared


small_ids = st.integers(1, 9)


@given(
    st.lists(st.tuples(small_ids, small_ids).filter(lambda pair: pair[0] != pair[1]), max_size=30),
    st.dictionaries(small_ids, small_ids),
    st.sets(st.tuples(small_ids, small_ids).map(lambda pair: as_pair(*pair))),
)
def test_a_round_in_columns_is_the_round_one_by_one(
    pairs: list[tuple[int, int]], roots: dict[int, int], measured: set[tuple[int, int]]
) -> None:
    rows = [(number, *pair) for number, pair in enumerate(pairs, start=40)]
    planned = round_of(rows, roots, measured)
    assert (edges_of(planned), planned.spared.tolist()) == planned_one_by_one(rows, roots, measured)


def test_many_pairs_are_planned_without_a_list_of_them() -> None:
    """As tuples in lists, sets and dictionaries, as many took 160 MB."""
    numbers = np.arange(300_000, dtype=np.int64)[:, None]
    rows = numbers * np.array([1, 3, 3]) + np.array([0, 1, 2])
    tracemalloc.start()
    planned = plan_round(rows, {3 * at + 2: 3 * at + 1 for at in range(0, 300_000, 7)}, rows[::9, 1:])
    count, jobs = plan_jobs(planned.edges, sorted)
    assert len(next(jobs)[0]) == 2
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count > 200_000
    assert peak < 90e6


def settle(families: list[list[int]], rows: list[Edge]) -> tuple[int, set[tuple[int, int]]]:
    """Play all rounds, the smaller number being the better photo; rounds, and pairs that were measured."""
    family_of = {content: number for number, members in enumerate(families) for content in members}
    measured: set[tuple[int, int]] = set()
    bonds: list[tuple[int, int]] = []
    hubs: dict[int, int] = {}
    for rounds in range(1, 100):
        left = [row for row in rows if row[0] not in hubs and as_pair(*row[1:]) not in measured]
        planned = round_of(left, find_roots(bonds), measured)
        hubs.update((rowid, hub) for rowid, hub in planned.spared.tolist())
        if not len(planned.edges):
            assert not [row for row in left if row[0] not in hubs]
            return rounds, measured
        for contents, edges in jobs_of(edges_of(planned)):
            assert len(contents) <= JOB_PHOTOS
            near: dict[int, set[int]] = defaultdict(set)
            for _, one, other in edges:
                near[one].add(other)
                near[other].add(one)
            settled: set[int] = set()
            for hub in sorted(contents):
                if hub in settled:
                    continue
                settled.add(hub)
                ahead, asked = sorted(near[hub] - settled), {hub}
                while ahead:
                    other = ahead.pop(0)
                    if other in asked:
                        continue
                    asked.add(other)
                    measured.add(as_pair(hub, other))
                    if family_of[hub] == family_of[other]:
                        bonds.append((hub, other))
                        settled.add(other)
                        ahead += sorted(near[other] - settled - asked)
    raise AssertionError("never done")


def test_a_family_much_larger_than_a_job_is_settled_in_few_rounds_and_measurements() -> None:
    family = list(range(1, 1001))
    rng = random.Random(5)
    rows = [(number, a, b) for number, (a, b) in enumerate(all_pairs(family)) if rng.random() < 0.05]
    rounds, measured = settle([family], rows)
    assert rounds <= 6
    assert len(measured) <= 1.2 * len(family)


def test_false_neighbours_tie_families_together_but_each_is_settled() -> None:
    rng = random.Random(6)
    families = [list(range(start, start + 60)) for start in range(1, 601, 60)]
    pairs = {pair for family in families for pair in all_pairs(family) if rng.random() < 0.5}
    everyone = [content for family in families for content in family]
    pairs |= {as_pair(*rng.sample(everyone, 2)) for _ in range(60)}
    rounds, measured = settle(families, [(number, *pair) for number, pair in enumerate(sorted(pairs))])
    assert rounds <= 8
    assert len(measured) <= 1.6 * len(everyone)


def test_jobs_do_not_depend_on_the_order_of_pairs() -> None:
    rng = random.Random(7)
    edges = [(number, *as_pair(*rng.sample(range(1, 400), 2))) for number in range(600)]
    jobs = jobs_of(edges)
    shuffled = edges[:]
    rng.shuffle(shuffled)
    again = jobs_of(shuffled)
    assert [contents for contents, _ in jobs] == [contents for contents, _ in again]
    assert [sorted(inside) for _, inside in jobs] == [sorted(inside) for _, inside in again]
    assert [len(contents) for contents, _ in jobs] == sorted((len(c) for c, _ in jobs), reverse=True)
