"""Groups out of measured pairs: a keeper, and only what was confirmed against the keeper itself.

Promises: the groups depend on the set of photos and matches, never on the order they come in; a file stands in one
group; no member came in through a chain; what could not be confirmed is listed beside the group.
Does not: measure (it says which pairs it wants measured) or choose the keeper (it is handed an order).
"""

from dedup.cluster.grouping import make_groups
from dedup.cluster.turning import turn_match

__all__ = ["make_groups", "turn_match"]
