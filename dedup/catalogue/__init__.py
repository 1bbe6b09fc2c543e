"""The catalogue: one SQLite file that remembers every photo, match and group; the only room that speaks SQL.

Promises: what was committed survives `kill -9` (a batch is at most two seconds old); one writer at a time; a file that
is damaged, foreign, or newer than this program is recognised before anything is believed; ids are never reused.
Does not: look at the disk, decide whether a file changed, or compare pictures; `pipeline` does, and stores it here.

A *content* is one sha256 digest with its fingerprint; a *file* is a path that carries a content. Everything measured
(matches, inspections, candidate pairs) belongs to contents, so it survives moving, renaming and copying.
    database.py  opening it safely         shelf.py      connection, recipes, photos from rows
    schema.py    the tables, in plain SQL  store.py      files, contents and pairs
    rows.py      records to rows and back  results.py    what the last scan found
    questions.py  what `check` asks            decisions.py  what people decided
    reviewing.py  what the review page asks
"""

from __future__ import annotations

from dedup.catalogue.database import hold_catalogue
from dedup.catalogue.results import PackedGroup, PackedPair, ScanRecord, pack_group, pack_pair
from dedup.catalogue.reviewing import FileRow, GroupRow, MemberRow
from dedup.catalogue.store import Catalogue, FileState, KnownFile, file_of_row

__all__ = [
    "Catalogue",
    "FileRow",
    "FileState",
    "GroupRow",
    "KnownFile",
    "MemberRow",
    "PackedGroup",
    "PackedPair",
    "ScanRecord",
    "file_of_row",
    "hold_catalogue",
    "pack_group",
    "pack_pair",
]
