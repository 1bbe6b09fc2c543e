"""Connected components of pairs: what can be worked on without looking at the rest."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

Edge = tuple[int, int, int]
"""Something that names the edge, and its two ends."""


def split_components(edges: Sequence[Edge]) -> list[tuple[list[int], list[Edge]]]:
    """Cut a graph into its connected components.

    Parameters
    ----------
    edges
        In any order; several may join the same ends.

    Returns
    -------
    list
        For each component its nodes, ascending, and its edges, in the order given; components in the order of their
        smallest nodes.
    """
    if not edges:
        return []
    import numpy as np
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    nodes = sorted({end for edge in edges for end in edge[1:]})
    left = [bisect_left(nodes, edge[1]) for edge in edges]
    right = [bisect_left(nodes, edge[2]) for edge in edges]
    graph = coo_matrix((np.ones(len(edges), dtype=np.int8), (left, right)), shape=(len(nodes), len(nodes)))
    count, found = connected_components(graph, directed=False)
    labels: list[int] = found.tolist()
    parts: list[tuple[list[int], list[Edge]]] = [([], []) for _ in range(count)]
    for node, label in zip(nodes, labels, strict=True):
        parts[label][0].append(node)
    for edge, place in zip(edges, left, strict=True):
        parts[labels[place]][1].append(edge)
    return sorted(parts, key=lambda part: part[0][0])
