"""Which pairs are measured next, and which of them together: pure, on content ids.

Promises: every candidate pair is measured, or spared because the photos that its two ends are versions of were
measured against each other; the work of one round does not depend on the order of the pairs.

A *root* is the photo that a content was confirmed against (and the one that was, and so on). A family of 60 versions
of one photo has 1,770 candidate pairs, and all that the grouping needs is 59 measurements against the best of them; so
a pair stands for the pair of its roots.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from dedup.pipeline.components import Edge, split_components

JOB_PHOTOS = 128
"""Largest component measured as one job. Each member is decoded once a job, so bigger is better; but a job is what
one worker does alone, and what is done again after a crash: 128 photos of 12 MP take about 15 s."""

Pair = tuple[int, int]
"""Two contents, the smaller id first."""


@dataclass(frozen=True, slots=True)
class Round:
    """What to do with the pairs that are left."""

    edges: list[Edge]
    """(rowid of a candidate, or minus one for a pair of roots, and two contents) to be measured."""
    spared: list[tuple[int, int, int]]
    """(left, right, hub) of candidates that need no measurement as long as the hub is around."""


def as_pair(one: int, other: int) -> Pair:
    """The two in order."""
    return (one, other) if one < other else (other, one)


def find_roots(matches: Iterable[tuple[int, int]]) -> dict[int, int]:
    """From each content that was confirmed against a better one to the last one on that way.

    Parameters
    ----------
    matches
        (better, other) of every measured relation that makes a group.
    """
    above: dict[int, int] = {}
    for better, other in sorted(matches):
        above.setdefault(other, better)
    roots: dict[int, int] = {}
    for content in above:
        way = [content]
        while (further := above.get(way[-1])) is not None and further not in way:
            way.append(further)
        roots[content] = way[-1]
    return roots


def plan_round(rows: Iterable[Edge], roots: Mapping[int, int], measured: Collection[Pair]) -> Round:
    """Decide about each candidate that is left.

    Parameters
    ----------
    rows
        (rowid, left, right) of candidates that were not measured.
    roots
        As `find_roots`.
    measured
        All pairs that were measured, with or without a relation.
    """
    edges: list[Edge] = []
    spared: list[tuple[int, int, int]] = []
    through: set[Pair] = set()
    for rowid, left, right in rows:
        one, other = roots.get(left, left), roots.get(right, right)
        pair = as_pair(one, other)
        if pair == as_pair(left, right) or (one == other and one in (left, right)):
            edges.append((rowid, left, right))
        elif one == other:
            spared.append((left, right, one))
        elif pair in measured:
            spared.append((left, right, one if one != left else other))
        else:
            through.add(pair)
    through -= {as_pair(left, right) for _, left, right in edges}
    return Round(edges + [(-1, *pair) for pair in sorted(through)], spared)


def plan_jobs(
    edges: Sequence[Edge], order: Callable[[Collection[int]], list[int]]
) -> list[tuple[tuple[int, ...], list[Edge]]]:
    """Components as jobs, longest first; a component that is too large is cut into neighbourhoods of its best photos.

    Parameters
    ----------
    order
        Puts contents in keeper order; asked for large components only.

    Returns
    -------
    list
        For each job its contents and the edges among them. Edges between two neighbourhoods are left for a later round.
    """
    jobs: list[tuple[tuple[int, ...], list[Edge]]] = []
    for members, inside in split_components(edges):
        if len(members) <= JOB_PHOTOS:
            jobs.append((tuple(members), inside))
        else:
            jobs.extend(_neighbourhoods(order(members), inside))
    return sorted(jobs, key=lambda job: (-len(job[0]), job[0]))


def _neighbourhoods(
    ordered: Sequence[int], edges: Sequence[Edge]
) -> list[tuple[tuple[int, ...], list[Edge]]]:
    near: dict[int, list[int]] = defaultdict(list)
    for _, left, right in edges:
        near[left].append(right)
        near[right].append(left)
    rank = {content: at for at, content in enumerate(ordered)}
    home: dict[int, int] = {}
    parts: list[list[int]] = []
    for best in ordered:
        if best in home:
            continue
        part, ring = [best], [best]
        home[best] = len(parts)
        while ring and len(part) < JOB_PHOTOS:
            around = {other for content in ring for other in near[content] if other not in home}
            ring = sorted(around, key=rank.__getitem__)[: JOB_PHOTOS - len(part)]
            home.update(dict.fromkeys(ring, len(parts)))
            part += ring
        parts.append(part)
    inside: list[list[Edge]] = [[] for _ in parts]
    for edge in edges:
        if home[edge[1]] == home[edge[2]]:
            inside[home[edge[1]]].append(edge)
    return [(tuple(part), found) for part, found in zip(parts, inside, strict=True) if found]
