"""Photos to candidate pairs: exact within the hash radius, by windows for cut and tilted copies, by annoy beyond.

A candidate is never evidence; `confirm` measures it. Call `find_candidates`; what it joins stands in `search`.

    table.py       FingerprintTable: what is known of every photo, packed
    radius.py      every pair of 64-bit hashes within a Hamming radius
    windows.py     hashes of windows of a picture
    window_store.py  those hashes on disk, so that a few new photos cost no reading of the old ones
    likeness.py    how alike two greys are: the gate
    flat.py        pictures without texture
    neighbours.py  the memory-mapped annoy index, also for asking about one picture
    by_hash.py, by_window.py, search.py, pairs.py    the searches and what they share
    pieces.py      the same searches, for engines that join hashes in their own way
    snapshot.py    the library in one memory-mapped file    asking.py    candidates for one picture from outside
"""

from __future__ import annotations

from dedup.index.asking import Asker, open_asker
from dedup.index.neighbours import NeighbourIndex, feature_vectors, self_test
from dedup.index.radius import radius_pairs
from dedup.index.search import CandidateSearch, find_candidates
from dedup.index.snapshot import build_snapshot
from dedup.index.table import FingerprintTable, table_from_photos, table_from_rows

__all__ = [
    "Asker",
    "CandidateSearch",
    "FingerprintTable",
    "NeighbourIndex",
    "build_snapshot",
    "feature_vectors",
    "find_candidates",
    "open_asker",
    "radius_pairs",
    "self_test",
    "table_from_photos",
    "table_from_rows",
]
