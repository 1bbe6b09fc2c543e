"""Which pairs are measured, and which together: on made-up families with a known answer."""

from __future__ import annotations

import random
from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from dedup.pipeline.components import Edge, split_components
from dedup.pipeline.planning import JOB_PHOTOS, as_pair, find_roots, plan_jobs, plan_round


def all_pairs(contents: list[int]) -> list[tuple[int, int]]:
    return [(a, b) for at, a in enumerate(contents) for b in contents[at + 1 :]]


def test_components_are_what_hangs_together() -> None:
    parts = split_components([(7, 5, 1), (8, 2, 3), (9, 3, 5), (10, 8, 9), (11, 6, 6)])
    assert parts == [
        ([1, 2, 3, 5], [(7, 5, 1), (8, 2, 3), (9, 3, 5)]),
        ([6], [(11, 6, 6)]),
        ([8, 9], [(10, 8, 9)]),
    ]
    assert split_components([]) == []


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40))
def test_components_hold_every_edge_once_and_share_nothing(ends: list[tuple[int, int]]) -> None:
    edges = [(number, a, b) for number, (a, b) in enumerate(ends)]
    parts = split_components(edges)
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
    planned = plan_round([(40, 2, 6), (41, 3, 6)], roots, measured=set())
    assert planned.edges == [(-1, 1, 5)]
    assert planned.spared == []
    planned = plan_round([(40, 2, 6), (41, 3, 6)], roots, measured={(1, 5)})
    assert planned.edges == []
    assert planned.spared == [(2, 6, 1), (3, 6, 1)]


def test_versions_of_one_photo_are_not_measured_against_each_other() -> None:
    assert plan_round([(40, 2, 3)], {2: 1, 3: 1}, measured=set()).spared == [(2, 3, 1)]


def test_a_candidate_of_the_roots_is_taken_as_it_was_proposed() -> None:
    planned = plan_round([(40, 2, 6), (41, 1, 5)], {2: 1, 6: 5}, measured=set())
    assert planned.edges == [(41, 1, 5)]


def test_a_new_photo_is_measured_against_the_root_of_what_it_resembles() -> None:
    assert plan_round([(40, 2, 77)], {2: 1}, measured={(1, 2)}).edges == [(-1, 1, 77)]


def settle(families: list[list[int]], rows: list[Edge]) -> tuple[int, set[tuple[int, int]]]:
    """Play all rounds, the smaller number being the better photo; rounds, and pairs that were measured."""
    family_of = {content: number for number, members in enumerate(families) for content in members}
    measured: set[tuple[int, int]] = set()
    bonds: list[tuple[int, int]] = []
    hubs: dict[int, int] = {}
    for rounds in range(1, 100):
        left = [row for row in rows if row[0] not in hubs and as_pair(*row[1:]) not in measured]
        planned = plan_round(left, find_roots(bonds), measured)
        rowids: dict[tuple[int, int], list[int]] = defaultdict(list)
        for row in left:
            rowids[row[1:]].append(row[0])
        for one, other, hub in planned.spared:
            hubs.update(dict.fromkeys(rowids[one, other], hub))
        if not planned.edges:
            assert not [row for row in left if row[0] not in hubs]
            return rounds, measured
        for contents, edges in plan_jobs(planned.edges, sorted):
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
    jobs = plan_jobs(edges, sorted)
    shuffled = edges[:]
    rng.shuffle(shuffled)
    again = plan_jobs(shuffled, sorted)
    assert [contents for contents, _ in jobs] == [contents for contents, _ in again]
    assert [sorted(inside) for _, inside in jobs] == [sorted(inside) for _, inside in again]
    assert [len(contents) for contents, _ in jobs] == sorted((len(c) for c, _ in jobs), reverse=True)
