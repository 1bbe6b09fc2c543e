"""Connected components of pairs: what can be worked on without looking at the rest.

Everything is columns of numbers: a million pairs as tuples in lists, one for each component, take half a gigabyte.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Edge = tuple[int, int, int]
"""Something that names the edge, and its two ends."""

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Components:
    """The components of a graph, in the order of their smallest nodes."""

    nodes: Numbers
    """Component by component, ascending in each."""
    starts: Numbers
    """Where the nodes of each begin, and where the last one's end."""
    edges: Numbers
    """(n, 3), component by component, in the order given in each."""
    edge_starts: Numbers

    def __len__(self) -> int:
        return len(self.starts) - 1

    def members(self, number: int) -> list[int]:
        """The nodes of one component, ascending."""
        found: list[int] = self.nodes[self.starts[number] : self.starts[number + 1]].tolist()
        return found

    def inside(self, number: int) -> list[Edge]:
        """The edges of one component."""
        rows = self.edges[self.edge_starts[number] : self.edge_starts[number + 1]].tolist()
        return [(name, one, other) for name, one, other in rows]


def as_edges(names: Numbers, ones: Numbers, others: Numbers) -> Numbers:
    """(n, 3) from three columns."""
    return np.stack([names, ones, others], axis=1).astype(np.int64, copy=False).reshape(-1, 3)


def split_components(edges: Numbers) -> Components:
    """Cut a graph into its connected components.

    Parameters
    ----------
    edges : (n, 3)
        Names and ends, in any order; several may join the same ends.
    """
    if not len(edges):
        nothing = np.empty(0, np.int64)
        return Components(nothing, np.zeros(1, np.int64), nothing.reshape(0, 3), np.zeros(1, np.int64))
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    nodes = np.unique(edges[:, 1:])
    left, right = np.searchsorted(nodes, edges[:, 1]), np.searchsorted(nodes, edges[:, 2])
    graph = coo_matrix((np.ones(len(edges), dtype=np.int8), (left, right)), shape=(len(nodes), len(nodes)))
    count, found = connected_components(graph, directed=False)
    # Numbered by their smallest nodes, whatever SciPy's order is.
    _, first = np.unique(found, return_index=True)
    rank = np.empty(count, np.int64)
    rank[np.argsort(first)] = np.arange(count)
    label = rank[found]
    return Components(
        nodes[np.argsort(label, kind="stable")],
        _starts(label, count),
        edges[np.argsort(label[left], kind="stable")],
        _starts(label[left], count),
    )


def _starts(labels: Numbers, count: int) -> Numbers:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(labels, minlength=count))])
