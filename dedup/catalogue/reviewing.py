"""What the review page asks: all groups in a few numbers each, single groups whole, and what was decided about them.

Promises: a list of 100,000 groups is read without their photos; decisions about many groups become durable together.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from dedup.catalogue import rows
from dedup.catalogue.decisions import Decisions, _from_row, _key
from dedup.catalogue.shelf import chunks, marks
from dedup.records import Decision, DuplicateGroup, Verdict

_DECISION = "low, high, turned, verdict, decided, place, note"


class GroupRow(NamedTuple):
    """A group in the list."""

    number: int
    """Its row; another one whenever it is made anew."""
    relation: str
    freed_bytes: int
    keeper: int
    """File id."""


class FileRow(NamedTuple):
    """A photo of a group, in the list."""

    group: int
    file: int
    path: str
    size_bytes: int
    mtime_ns: int
    digest: bytes
    format: str
    taken: str
    pixels: int
    damage: str


class MemberRow(NamedTuple):
    """How a member relates to its keeper."""

    group: int
    file: int
    relation: str
    worst_tile_levels: float
    correlation: float


class Reviewing(Decisions):
    """The part of the catalogue that a person looks through."""

    def review_stamp(self) -> tuple[int, int, int]:
        """Changes whenever groups are made anew, or decisions are added or taken back."""
        scan = self._db.value("SELECT coalesce(max(id), 0) FROM scans")
        count, last = self._db.rows("SELECT count(*), coalesce(max(number), 0) FROM decisions")[0]
        return int(scan), int(count), int(last)

    def has_unsettled(self) -> bool:
        """Whether somebody decided what the groups do not follow yet."""
        return bool(self._db.value("SELECT 1 FROM unsettled LIMIT 1"))

    def group_rows(self, scope: int) -> list[GroupRow]:
        """Every group of a scope, in the order in which they were stored."""
        found = self._db.rows(
            "SELECT id, relation, freed_bytes, json_extract(body, '$[1]') FROM groups WHERE scope=? ORDER BY id",
            (scope,),
        )
        return [GroupRow(*row) for row in found]

    def review_files(self, scope: int) -> Iterator[FileRow]:
        """Every photo in a group of a scope, by group."""
        found = self._db.stream(
            "SELECT m.group_id, f.id, f.path, f.size_bytes, f.mtime_ns, c.digest, json_extract(c.info, '$[0]'),"
            " json_extract(c.info, '$[13][0]'), json_extract(c.info, '$[1]') * json_extract(c.info, '$[2]'),"
            " json_extract(c.info, '$[12]')"
            " FROM groups g JOIN group_files m ON m.group_id=g.id JOIN files f ON f.id=m.file"
            " JOIN contents c ON c.id=f.content WHERE g.scope=? ORDER BY g.id",
            (scope,),
        )
        with self._reading():
            for row in found:
                yield FileRow(row[0], row[1], rows.read_path(row[2]), *row[3:])

    def review_members(self, scope: int) -> Iterator[MemberRow]:
        """Every member of a group of a scope, by group; keepers are not among them."""
        found = self._db.stream(
            "SELECT g.id, json_extract(m.value, '$[0]'), json_extract(m.value, '$[1][2]'),"
            " json_extract(json_extract(m.value, '$[1][3]'), '$[2][3]'),"
            " json_extract(json_extract(m.value, '$[1][3]'), '$[2][5]')"
            " FROM groups g, json_each(g.body, '$[4]') m WHERE g.scope=? ORDER BY g.id",
            (scope,),
        )
        with self._reading():
            for row in found:
                yield MemberRow(*row)

    def groups_by_number(self, numbers: Collection[int]) -> dict[int, DuplicateGroup]:
        """Groups whole, with light photos; those that are no more are missing."""
        found: dict[int, DuplicateGroup] = {}
        for chunk in chunks(numbers):
            stored = self._db.rows(f"SELECT id, body FROM groups WHERE id IN ({marks(chunk)})", chunk)
            with self._reading():
                bodies = {row[0]: json.loads(row[1]) for row in stored}
                wanted = {file for body in bodies.values() for file in rows.files_of_group(body)}
            photos = dict(self.photos_of_files(sorted(wanted), grey=False))
            with self._reading():
                for number, body in bodies.items():
                    if all(file in photos for file in rows.files_of_group(body)):
                        found[number] = rows.group_from_body(body, photos)
        return found

    def photo_paths(self) -> Iterator[str]:
        """The path of every photo."""
        for row in self._db.stream("SELECT path FROM files WHERE state=1"):
            yield rows.read_path(row[0])

    def damages_of(self, digests: Collection[bytes]) -> dict[bytes, str]:
        """As `damages`, of some contents."""
        found: dict[bytes, str] = {}
        for chunk in chunks(digests):
            found.update(
                self._db.rows(
                    "SELECT c.digest, i.damage FROM contents c JOIN inspections i ON i.content=c.id"
                    f" WHERE i.damage<>'' AND c.digest IN ({marks(chunk)})",
                    chunk,
                )
            )
        return found

    # --- decisions ------------------------------------------------------------------------------------------------

    def decisions_among(self, digests: Collection[bytes]) -> list[Decision]:
        """Decisions about two of these contents, or about one of them alone."""
        wanted = set(digests)
        found = []
        for chunk in chunks(wanted | {b""}):
            listed = self._db.rows(
                f"SELECT {_DECISION} FROM decisions WHERE low IN ({marks(chunk)})"
                + ("" if len(wanted) > len(chunk) else f" AND high IN ({marks(list(wanted))})"),
                [*chunk, *([] if len(wanted) > len(chunk) else wanted)],
            )
            with self._reading():
                found += [_from_row(row) for row in listed if row[1] in wanted]
        return found

    def change_decisions(self, forget: Iterable[Decision], put: Sequence[Decision]) -> None:
        """Take some back and note others.

        As in `put_decision`, who keeps a photo no longer lets it go for another, and who lets it go no longer keeps
        it; but asked once for all of them, since a rule decides about ten thousand groups at a time.
        """
        for decision in forget:
            self._forget(*_key(decision)[:2])
        kept = {decision.left for decision in put if decision.verdict is Verdict.KEEP}
        gone = {decision.right for decision in put if decision.verdict is Verdict.REMOVE}
        if kept:
            listed = self._db.rows(f"SELECT {_DECISION} FROM decisions WHERE verdict='remove'")
            with self._reading():
                crossed = [found for row in listed if (found := _from_row(row)).right in kept]
            for decision in crossed:
                self._forget(*_key(decision)[:2])
        for digest in gone - kept:
            self._forget(b"", digest)
        last = int(self._db.value("SELECT coalesce(max(number), 0) FROM decisions"))
        for number, decision in enumerate(put, start=last + 1):
            low, high, turned = _key(decision)
            place = os.fsencode(decision.place)
            self._db.write(
                "INSERT OR REPLACE INTO decisions VALUES (?,?,?,?,?,?,?,?)",
                (low, high, turned, decision.verdict, decision.decided, place, decision.note, number),
            )
            self._unsettle(low, high)

    def make_durable(self) -> None:
        """Bring what was committed to the disk: a decision survives a power cut as soon as the page says so."""
        self.commit()
        self._db.rows("PRAGMA wal_checkpoint(PASSIVE)")
