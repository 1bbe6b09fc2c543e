"""Which pairs are measured next, and which of them together: pure, on content ids.

Promises: every candidate pair is measured, or spared because the photos that its two ends are versions of were
measured against each other; the work of one round does not depend on the order of the pairs.

A *root* is the photo that a content was confirmed against (and the one that was, and so on). A family of 60 versions
of one photo has 1,770 candidate pairs, and all that the grouping needs is 59 measurements against the best of them; so
a pair stands for the pair of its roots.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge

import numpy as np
from numpy.typing import NDArray

from dedup.pipeline.components import Components, Edge, Numbers, as_edges, split_components

JOB_PHOTOS = 128
"""Largest component measured as one job. Each member is decoded once a job, so bigger is better; but a job is what
one worker does alone, and what is done again after a crash: 128 photos of 12 MP take about 15 s."""

Pair = tuple[int, int]
"""Two contents, the smaller id first."""


@dataclass(frozen=True, slots=True)
class Round:
    """What to do with the pairs that are left."""

    edges: Numbers
    """(n, 3): rowid of a candidate, or minus one for a pair of roots, and two contents, to be measured."""
    spared: Numbers
    """(n, 2): rowid and hub of candidates that need no measurement as long as the hub is around."""


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
        way = {content}
        last = content
        while (further := above.get(last)) is not None and further not in way:
            way.add(further)
            last = further
        roots[content] = last
    return roots


def plan_round(rows: Numbers, roots: Mapping[int, int], measured: Numbers) -> Round:
    """Decide about each candidate that is left.

    Parameters
    ----------
    rows : (n, 3)
        Rowid, left and right of candidates that were not measured.
    roots
        As `find_roots`.
    measured : (n, 2)
        All pairs that were measured, with or without a relation, the smaller content first.
    """
    left, right = rows[:, 1], rows[:, 2]
    one, other = _roots_of(left, roots), _roots_of(right, roots)
    ends, given = _as_pairs(one, other), _as_pairs(left, right)
    met = one == other
    asked = (ends == given).all(axis=1) | (met & ((one == left) | (one == right)))
    known = ~met & ~asked & _among(ends, measured)
    spared = (met & ~asked) | known
    hub = np.where(met | (one != left), one, other)
    through = np.unique(ends[~asked & ~spared], axis=0).reshape(-1, 2)
    through = through[~_among(through, given[asked])]
    derived = as_edges(np.full(len(through), -1), through[:, 0], through[:, 1])
    return Round(np.concatenate([rows[asked], derived]), np.stack([rows[spared, 0], hub[spared]], axis=1))


def _roots_of(contents: Numbers, roots: Mapping[int, int]) -> Numbers:
    """The root of each; of a content without one, itself."""
    if not roots:
        return contents
    known = np.fromiter(roots, np.int64, len(roots))
    order = np.argsort(known)
    known, root = known[order], np.fromiter(roots.values(), np.int64, len(roots))[order]
    at = np.searchsorted(known, contents).clip(max=len(known) - 1)
    return np.where(known[at] == contents, root[at], contents)


def _as_pairs(one: Numbers, other: Numbers) -> Numbers:
    """(n, 2): `as_pair` of each."""
    return np.stack([np.minimum(one, other), np.maximum(one, other)], axis=1)


def _among(pairs: Numbers, others: Numbers) -> NDArray[np.bool_]:
    """For each pair whether it is one of the others."""
    if not len(pairs) or not len(others):
        return np.zeros(len(pairs), dtype=bool)
    nodes = np.unique(pairs)

    def places(ends: Numbers) -> Numbers:
        return np.searchsorted(nodes, ends).clip(max=len(nodes) - 1)

    low, high = places(others[:, 0]), places(others[:, 1])
    here = (nodes[low] == others[:, 0]) & (nodes[high] == others[:, 1])
    codes = low[here] * len(nodes) + high[here]
    return np.isin(places(pairs[:, 0]) * len(nodes) + places(pairs[:, 1]), codes)


Job = tuple[tuple[int, ...], list[Edge]]
"""Contents, and the edges among them."""


def plan_jobs(edges: Numbers, order: Callable[[Collection[int]], list[int]]) -> tuple[int, Iterator[Job]]:
    """Components as jobs, longest first; a component that is too large is cut into neighbourhoods of its best photos.

    Parameters
    ----------
    order
        Puts contents in keeper order; asked for large components only.

    Returns
    -------
    count, jobs
        Edges in all jobs, and the jobs, each made when it is asked for. Edges between two neighbourhoods are left for a
        later round.
    """
    parts = split_components(edges)
    sizes = np.diff(parts.starts)
    large = [
        job
        for number in np.flatnonzero(sizes > JOB_PHOTOS).tolist()
        for job in _neighbourhoods(order(parts.members(number)), parts.inside(number))
    ]
    small = np.flatnonzero(sizes <= JOB_PHOTOS)
    # No two jobs share a content, so the first one decides between two of a length.
    small = small[np.lexsort((parts.nodes[parts.starts[small]], -sizes[small]))]
    count = int(np.diff(parts.edge_starts)[small].sum()) + sum(len(inside) for _, inside in large)
    return count, merge(sorted(large, key=_longest), _as_jobs(parts, small), key=_longest)


def _as_jobs(parts: Components, numbers: Numbers) -> Iterator[Job]:
    for number in numbers.tolist():
        yield tuple(parts.members(number)), parts.inside(number)


def _longest(job: Job) -> tuple[int, tuple[int, ...]]:
    return -len(job[0]), job[0]


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
