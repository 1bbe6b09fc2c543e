"""Photos to candidate pairs: exact within the hash radius, by windows for cut and tilted copies, by annoy
beyond.

    table.py       FingerprintTable: what is known of every photo, packed
    radius.py      every pair of 64-bit hashes within a Hamming radius
    windows.py     hashes of windows of a picture, and likeness through a window
    flat.py        pictures without texture
    search.py      the searches together: `find_candidates`

A candidate is never evidence; `confirm` measures it.
"""

from __future__ import annotations

from dedup.index.radius import radius_pairs
from dedup.index.search import CandidateSearch, find_candidates
from dedup.index.table import FingerprintTable, table_from_photos

__all__ = ["CandidateSearch", "FingerprintTable", "find_candidates", "radius_pairs", "table_from_photos"]
