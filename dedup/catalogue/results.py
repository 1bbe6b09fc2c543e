"""The results of the last scan: its numbers, groups, similar pairs and hubs, by scope.

A scope is what a result covers: 0 for the roots of the last scan, 1 for everything known.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from dedup.catalogue import rows
from dedup.catalogue.shelf import CHUNK, Shelf, chunked, chunks, marks
from dedup.records import DuplicateGroup, Match, Relation, SimilarPair


@dataclass(frozen=True, slots=True)
class ScanRecord:
    """A finished scan: what it was based on, and what it found, as plain JSON values."""

    id: int
    basis: dict[str, Any]
    summary: dict[str, Any]


class PackedGroup(NamedTuple):
    """A group ready to be stored: a tenth of the memory of its photos."""

    relation: str
    """The strongest one in it."""
    body: str
    files: list[int]
    freed_bytes: int


PackedPair = tuple[int, int, str]
"""Left file, right file and the match between them, ready to be stored."""


def pack_group(group: DuplicateGroup, file_of: Callable[[int], int]) -> PackedGroup:
    """Make a group ready; `file_of` turns the ids in it into file ids."""
    body = rows.group_to_body(group, file_of)
    relations = {member.match.relation for member in group.members}
    strongest = next(relation for relation in Relation if relation in relations)
    text = json.dumps(body, separators=(",", ":"))
    return PackedGroup(strongest, text, rows.files_of_group(body), group.freed_bytes)


def pack_pair(match: Match, file_of: Callable[[int], int]) -> PackedPair:
    """Make a similar pair ready."""
    return file_of(match.left), file_of(match.right), rows.match_to_text(match)


class Results(Shelf):
    """The part of the catalogue that holds results."""

    def last_scan(self) -> ScanRecord | None:
        """The last scan that was finished."""
        found = self._db.rows("SELECT id, basis, summary FROM scans ORDER BY id DESC LIMIT 1")
        if not found:
            return None
        number, basis, summary = found[0]
        with self._reading():
            return ScanRecord(number, json.loads(basis), json.loads(summary))

    def put_scan(self, basis: dict[str, Any], summary: dict[str, Any]) -> None:
        """Note a finished scan; only the last one is kept."""
        self._db.write("DELETE FROM scans")
        self._db.write(
            "INSERT INTO scans(basis, summary) VALUES (?,?)", (json.dumps(basis), json.dumps(summary))
        )

    def mark_unfinished(self) -> None:
        """Note that a further scan began to change things; `put_scan` takes the note away."""
        last = self.last_scan()
        if last is not None and not last.basis.get("unfinished"):
            self.put_scan({**last.basis, "unfinished": True}, last.summary)

    def scope_files(self, scope: int) -> set[int]:
        """Files that the stored result of a scope covers."""
        return {row[0] for row in self._db.rows("SELECT file FROM scope_files WHERE scope=?", (scope,))}

    def scope_column(self, scope: int) -> array[int]:
        """`scope_files` as a column of 64-bit numbers, ascending."""
        found = self._db.stream("SELECT file FROM scope_files WHERE scope=? ORDER BY file", (scope,))
        return array("q", (row[0] for row in found))

    def clear_result(self, scope: int, file_ids: Collection[int] | None = None) -> None:
        """Remove the result of a scope, or what of it touches some files."""
        if file_ids is None:
            for table in ("groups", "similar_pairs", "hubs", "scope_files"):
                self._db.write(f"DELETE FROM {table} WHERE scope=?", (scope,))
            return
        for chunk in chunks(file_ids):
            listed = marks(chunk)
            for table, condition in (
                ("groups", f"id IN (SELECT group_id FROM group_files WHERE file IN ({listed}))"),
                ("similar_pairs", f"left_file IN ({listed})"),
                ("similar_pairs", f"right_file IN ({listed})"),
                ("hubs", f"file IN ({listed})"),
                ("scope_files", f"file IN ({listed})"),
            ):
                self._db.write(f"DELETE FROM {table} WHERE scope=? AND {condition}", (scope, *chunk))

    def move_result(self, source: int, target: int) -> None:
        """Make the result of one scope that of another, which loses its own."""
        self.clear_result(target)
        for table in ("groups", "similar_pairs", "hubs", "scope_files"):
            self._db.write(f"UPDATE {table} SET scope=? WHERE scope=?", (target, source))

    def put_scope_files(self, scope: int, file_ids: Iterable[int]) -> None:
        """Note the files that a result covers."""
        self._db.write_many(
            "INSERT INTO scope_files VALUES (?,?)", ((scope, file_id) for file_id in sorted(file_ids))
        )

    def put_group(self, scope: int, group: PackedGroup) -> None:
        """Store a group as `pack_group` made it."""
        number = self._db.write(
            "INSERT INTO groups(scope, relation, freed_bytes, body) VALUES (?,?,?,?)",
            (scope, group.relation, group.freed_bytes, group.body),
        )
        self._db.write_many("INSERT INTO group_files VALUES (?,?)", ((file, number) for file in group.files))

    def put_similar(self, scope: int, pair: PackedPair) -> None:
        """Store a pair of files of the same scene."""
        self._db.write("INSERT INTO similar_pairs VALUES (?,?,?,?)", (scope, *pair))

    def put_hub(self, scope: int, file_id: int) -> None:
        """Store a photo that resembles too many."""
        self._db.write("INSERT INTO hubs VALUES (?,?)", (scope, file_id))

    def group_sums(self, scope: int) -> list[tuple[str, int, int]]:
        """(strongest relation, number of groups, bytes that come back) of a scope."""
        return self._db.rows(
            "SELECT relation, count(*), sum(freed_bytes) FROM groups WHERE scope=? GROUP BY relation",
            (scope,),
        )

    def count_similar(self, scope: int) -> int:
        """Number of similar pairs of a scope."""
        count: int = self._db.value("SELECT count(*) FROM similar_pairs WHERE scope=?", (scope,))
        return count

    def groups(self, scope: int) -> Iterator[DuplicateGroup]:
        """Groups of a scope, with light photos (no grey), in the order in which they were stored."""
        for chunk in chunked(
            self._db.stream("SELECT body FROM groups WHERE scope=? ORDER BY id", (scope,)), CHUNK
        ):
            with self._reading():
                bodies = [json.loads(row[0]) for row in chunk]
                wanted = {file_id for body in bodies for file_id in rows.files_of_group(body)}
            photos = dict(self.photos_of_files(sorted(wanted), grey=False))
            with self._reading():
                groups = [rows.group_from_body(body, photos) for body in bodies]
            yield from groups

    def similar_pairs(self, scope: int) -> list[SimilarPair]:
        """Pairs of the same scene, in the order in which they were stored."""
        found = self._db.rows(
            "SELECT left_file, right_file, body FROM similar_pairs WHERE scope=? ORDER BY rowid", (scope,)
        )
        photos = dict(self.photos_of_files(sorted({i for row in found for i in row[:2]}), grey=False))
        with self._reading():
            return [
                SimilarPair(photos[left], photos[right], rows.match_from_text(left, right, "similar", text))
                for left, right, text in found
            ]

    def hubs(self, scope: int) -> list[str]:
        """Paths of the hubs of a scope, sorted."""
        found = self._db.rows(
            "SELECT path FROM hubs JOIN files ON files.id=hubs.file WHERE scope=?", (scope,)
        )
        return sorted((rows.read_path(row[0]) for row in found), key=os.fsencode)
