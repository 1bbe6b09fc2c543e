"""`Catalogue`: what the pipeline asks and tells, one method per question.

Every method that changes something joins the running batch; `commit_if_due` is called after each piece of work, and
`all_or_nothing` frames what must not be seen half done.
"""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from enum import IntEnum
from typing import Any

from dedup.catalogue import rows
from dedup.catalogue.questions import Questions
from dedup.catalogue.results import Results
from dedup.catalogue.reviewing import Reviewing
from dedup.catalogue.shelf import chunked, chunks, marks
from dedup.records import CandidatePair, Inspection, Match, Photo, PhotoFile, Reason, Skipped

KEEP_ORPHANS_S = 90 * 86400
"""How long the fingerprint of a content without a file is kept: a disk that was away for a season costs nothing."""

_NUMBERS = 9
"""Numbers in a `KnownFile`, after the path."""

KnownFile = tuple[str, int, int, int, int, int, int, int, int, int]
"""path, size_bytes, mtime_ns, ctime_ns, device, inode, link_count, state, file id, content id (0 for none): a row as
it comes, since 100,000 of them are compared at every scan. Device and inode are signed; see `file_of_row`."""

_KNOWN = (
    "SELECT path, size_bytes, mtime_ns, ctime_ns, device, inode, link_count, state, id, coalesce(content, 0)"
    " FROM files"
)


def file_of_row(row: KnownFile) -> PhotoFile:
    """The file that a row of `known_files` stands for."""
    return rows.file_from_values(row[:7])


class FileState(IntEnum):
    """What is known of a file; see `KnownFile`."""

    PENDING = 0
    PHOTO = 1
    FAILED = 2


class Catalogue(Results, Reviewing, Questions):
    """The whole catalogue: files, contents and pairs beside results and decisions. Use as a context manager."""

    # --- files ----------------------------------------------------------------------------------------------------

    def known_files(self) -> list[KnownFile]:
        """Every file, in no order."""
        return list(self.each_file())

    def each_file(self) -> Iterator[KnownFile]:
        """`known_files` one by one: as a list, a million take half a gigabyte. No file may change meanwhile."""
        packed = self._db.rows("SELECT paths, numbers FROM files_packed")
        with self._reading():
            if packed:
                paths, numbers = packed.pop()
                values = array("q")
                values.frombytes(numbers)
                row = iter(values)
                names = os.fsdecode(paths).split("\0") if paths else []
                del paths, numbers
                yield from zip(names, *[row] * _NUMBERS, strict=True)
                return
            for stored in self._db.stream(_KNOWN):
                yield stored if isinstance(stored[0], str) else (rows.read_path(stored[0]), *stored[1:])

    def last_file(self) -> int:
        """The id of the file that was put last; those that came with it in one call have the ids before, in order."""
        found: int = self._db.value("SELECT coalesce(max(id), 0) FROM files")
        return found

    def pack_files(self) -> None:
        """Keep all files in one piece, too, for the next `known_files`; until one changes."""
        count, length = self._db.rows("SELECT count(*), total(length(CAST(path AS BLOB))) FROM files")[0]
        self._db.write("DELETE FROM files_packed")
        # Filled piece by piece: of a million files the row has 120 MB, and SQLite would copy it twice.
        number = self._db.write(
            "INSERT INTO files_packed VALUES (zeroblob(?), zeroblob(?))",
            (int(length) + max(0, count - 1), 8 * _NUMBERS * count),
        )
        # One after the other: two open at once make SQLite look up the place anew at every piece.
        with self._db.blob("files_packed", "paths", number) as paths:
            for place, chunk in enumerate(chunked(self._db.stream(_KNOWN), 4096)):
                names = b"\0".join(os.fsencode(rows.read_path(row[0])) for row in chunk)
                paths.write(b"\0" + names if place else names)
        with self._db.blob("files_packed", "numbers", number) as numbers:
            for chunk in chunked(self._db.stream(_KNOWN), 4096):
                numbers.write(array("q", (value for row in chunk for value in row[1:])).tobytes())

    def passed_over(self) -> list[Skipped]:
        """What the last crawl passed over, in its order."""
        found = self._db.rows(
            "SELECT path, stage, reason, detail, size_bytes, mtime_ns FROM passed_over ORDER BY rowid"
        )
        with self._reading():
            return [Skipped(rows.read_path(r[0]), r[1], Reason(r[2]), *r[3:]) for r in found]

    def set_passed_over(self, skipped: Iterable[Skipped]) -> None:
        """Replace what the last crawl passed over."""
        self._db.write("DELETE FROM passed_over")
        self._db.write_many(
            "INSERT INTO passed_over VALUES (?,?,?,?,?,?)",
            (
                (rows.stored_path(s.path), s.stage, s.reason, s.detail, s.size_bytes, s.mtime_ns)
                for s in skipped
            ),
        )

    def put_files(self, files: Iterable[PhotoFile]) -> None:
        """Add files, or mark known paths as changed: their content must be read."""
        self._db.write_many(
            "INSERT INTO files(path, size_bytes, mtime_ns, ctime_ns, device, inode, link_count) VALUES (?,?,?,?,?,?,?)"
            " ON CONFLICT(path) DO UPDATE SET size_bytes=excluded.size_bytes, mtime_ns=excluded.mtime_ns,"
            " ctime_ns=excluded.ctime_ns, device=excluded.device, inode=excluded.inode,"
            " link_count=excluded.link_count, state=0, content=NULL",
            (rows.file_values(file) for file in files),
        )
        self._db.write("DELETE FROM failures WHERE file IN (SELECT id FROM files WHERE state=0)")
        self.note_orphans()

    def touch_files(self, files: Iterable[PhotoFile]) -> None:
        """Note new change time, device, inode and link count of files whose size and time are as they were."""
        self._db.write_many(
            "UPDATE files SET ctime_ns=?, device=?, inode=?, link_count=? WHERE path=?",
            ((*rows.file_values(file)[3:], rows.stored_path(file.path)) for file in files),
        )

    def forget_files(self, file_ids: Iterable[int]) -> None:
        """Remove files that are gone. Their contents stay for `KEEP_ORPHANS_S`, so that a moved file is known."""
        self._db.write_many("DELETE FROM files WHERE id=?", ((file_id,) for file_id in file_ids))
        self.note_orphans()

    def retry_files(self, file_ids: Iterable[int]) -> None:
        """Let files that could not be read be tried again."""
        ids = list(file_ids)
        self._db.write_many("UPDATE files SET state=0 WHERE id=? AND state=2", ((i,) for i in ids))
        self._db.write_many("DELETE FROM failures WHERE file=?", ((i,) for i in ids))

    def put_failure(self, file_id: int, skipped: Skipped, attempt: str) -> None:
        """Note that a file could not be read under `attempt` (recipe and limits)."""
        recipe = self.recipe_id(attempt)
        self._db.write("UPDATE files SET state=2, content=NULL WHERE id=?", (file_id,))
        self._db.write(
            "INSERT OR REPLACE INTO failures VALUES (?,?,?,?,?)",
            (file_id, skipped.stage, skipped.reason, skipped.detail, recipe),
        )

    def failures(self) -> list[tuple[int, str, Skipped]]:
        """Files that could not be read: (file id, attempt, why)."""
        found = self._db.rows(
            "SELECT f.id, r.text, f.path, x.stage, x.reason, x.detail, f.size_bytes, f.mtime_ns FROM failures x"
            " JOIN files f ON f.id=x.file JOIN recipes r ON r.id=x.attempt ORDER BY f.id"
        )
        with self._reading():
            return [(r[0], r[1], Skipped(rows.read_path(r[2]), r[3], Reason(r[4]), *r[5:])) for r in found]

    def note_orphans(self) -> None:
        """Note from when on contents have had no file."""
        now = int(time.time())
        self._db.write(
            "UPDATE contents SET orphaned_s=? WHERE orphaned_s IS NULL"
            " AND NOT EXISTS (SELECT 1 FROM files WHERE content=contents.id)",
            (now,),
        )

    def forget_orphans(self) -> None:
        """Remove contents that have had no file for `KEEP_ORPHANS_S`, with everything measured about them."""
        self._db.write("DELETE FROM contents WHERE orphaned_s < ?", (int(time.time()) - KEEP_ORPHANS_S,))

    # --- contents -------------------------------------------------------------------------------------------------

    def sizes(self) -> set[int]:
        """File sizes of all known contents: a file of another size cannot be one of them."""
        return {row[0] for row in self._db.rows("SELECT DISTINCT size_bytes FROM contents")}

    def find_content(self, digest: bytes, recipe: str) -> int | None:
        """The content with this digest, if it was fingerprinted under this recipe."""
        found: int | None = self._db.value(
            "SELECT c.id FROM contents c JOIN recipes r ON r.id=c.recipe WHERE digest=? AND r.text=?",
            (digest, recipe),
        )
        return found

    def put_digest(self, file_id: int, file: PhotoFile, digest: bytes) -> None:
        """Keep the digest of a file that is still to be fingerprinted, for a scan that goes on after this one."""
        self._db.write(
            "INSERT OR REPLACE INTO digests VALUES (?,?,?,?)",
            (file_id, file.size_bytes, file.mtime_ns, digest),
        )

    def digests(self) -> dict[int, bytes]:
        """Digests that an earlier scan left, by file; only of files that are as they were."""
        return dict(
            self._db.rows(
                "SELECT d.file, d.digest FROM digests d JOIN files f ON f.id=d.file"
                " WHERE f.size_bytes=d.size_bytes AND f.mtime_ns=d.mtime_ns"
            )
        )

    def forget_digests(self) -> None:
        """Remove all of these: every file is fingerprinted."""
        self._db.write("DELETE FROM digests")

    def attach(self, file_id: int, content_id: int) -> None:
        """Say that a file carries a content."""
        self._db.write("UPDATE files SET state=1, content=? WHERE id=?", (content_id, file_id))
        self._db.write(
            "UPDATE contents SET orphaned_s=NULL WHERE id=? AND orphaned_s IS NOT NULL", (content_id,)
        )

    def put_photo(self, file_id: int, photo: Photo) -> int:
        """Store a fingerprint under its digest, for this file; the content's id. A stale fingerprint is replaced."""
        recipe = self.recipe_id(photo.fingerprint.recipe)
        values = rows.fingerprint_values(photo.fingerprint)
        aspect = photo.info.width_px / max(1, photo.info.height_px)
        self._db.write(
            "INSERT INTO contents(digest, size_bytes, recipe, info, phash64, phash256, dhash64, histogram, texture,"
            " colour, trim, aspect) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"
            " ON CONFLICT(digest) DO UPDATE SET recipe=excluded.recipe, indexed=0,"
            " info=excluded.info, phash64=excluded.phash64, phash256=excluded.phash256,"
            " dhash64=excluded.dhash64, histogram=excluded.histogram, texture=excluded.texture,"
            " colour=excluded.colour, trim=excluded.trim, aspect=excluded.aspect",
            (photo.digest, photo.file.size_bytes, recipe, rows.info_to_text(photo.info), *values, aspect),
        )
        content: int = self._db.value("SELECT id FROM contents WHERE digest=?", (photo.digest,))
        self._db.write("INSERT OR REPLACE INTO greys VALUES (?,?)", (content, photo.fingerprint.grey))
        self.attach(file_id, content)
        return content

    def stale_contents(self, recipe: str) -> list[int]:
        """Contents that have a file and were fingerprinted under another recipe."""
        return self._ids(
            "SELECT id FROM contents WHERE recipe<>? AND orphaned_s IS NULL ORDER BY digest",
            (self.recipe_id(recipe),),
        )

    def contents_by_digest(self, recipe: str) -> list[tuple[int, int, int]]:
        """All contents that have a file and were fingerprinted under `recipe`, in the order of their digests.

        Returns
        -------
        list of (content, key, number)
            The key is the first 63 bits of the digest: a name for the content that does not depend on when it was
            found. The number is that of the recipe under which its pairs were searched, or 0.
        """
        found = self._db.rows(
            "SELECT id, digest, indexed FROM contents WHERE orphaned_s IS NULL AND recipe=? ORDER BY digest",
            (self.recipe_id(recipe),),
        )
        with self._reading():
            return [
                (content, int.from_bytes(digest[:8], "big") >> 1, number) for content, digest, number in found
            ]

    def contents_in_columns(self, recipe: str) -> tuple[array[int], array[int], array[int]]:
        """`contents_by_digest` as three columns of 64-bit numbers: of a million contents, 24 MB instead of 250."""
        found = self._db.stream(
            "SELECT id, digest, indexed FROM contents WHERE orphaned_s IS NULL AND recipe=? ORDER BY digest",
            (self.recipe_id(recipe),),
        )
        contents, keys, numbers = array("q"), array("q"), array("q")
        with self._reading():
            for content, digest, number in found:
                contents.append(content)
                keys.append(int.from_bytes(digest[:8], "big") >> 1)
                numbers.append(number)
        return contents, keys, numbers

    def fingerprint_columns(self, recipe: str) -> Iterator[list[tuple[Any, ...]]]:
        """All fingerprints of `contents_by_digest`, in its order, in chunks of rows.

        Yields
        ------
        list of (phash64, phash256, dhash64, histogram, texture, colour, trim, aspect)
            Blobs as in `Fingerprint`, trim as four little-endian doubles, aspect as width over height. Rows instead of
            records, since a search takes 100,000 of them apart again.
        """
        found = self._db.stream(
            "SELECT phash64, phash256, dhash64, histogram, texture, colour, trim, aspect FROM contents"
            " WHERE orphaned_s IS NULL AND recipe=? ORDER BY digest",
            (self.recipe_id(recipe),),
        )
        yield from chunked(found, 4096)

    def greys(self, content_ids: Sequence[int]) -> list[bytes]:
        """The 64 x 64 pictures of contents, in the order given."""
        found: dict[int, bytes] = {}
        for chunk in chunks(content_ids):
            found.update(
                self._db.rows(f"SELECT content, grey FROM greys WHERE content IN ({marks(chunk)})", chunk)
            )
        with self._reading():
            return [found[content] for content in content_ids]

    def files_of_contents(self, file_ids: Collection[int] | None = None) -> list[tuple[int, int]]:
        """(content id, file id) of every photo, or of those among `file_ids`."""
        pairs: list[tuple[int, int]] = self._db.rows(
            "SELECT content, id FROM files WHERE content IS NOT NULL"
        )
        return pairs if file_ids is None else [pair for pair in pairs if pair[1] in file_ids]

    # --- pairs ----------------------------------------------------------------------------------------------------

    def put_candidates(self, pairs: Iterable[CandidatePair]) -> None:
        """Remember pairs of contents that may be alike; pairs that were measured already are left out."""
        self._db.write_many(
            "INSERT INTO candidates SELECT ?1,?2,?3,?4,?5,?6,NULL WHERE NOT EXISTS"
            " (SELECT 1 FROM matches WHERE low=min(?1,?2) AND high=max(?1,?2))",
            (rows.candidate_values(pair) for pair in pairs),
        )

    def forget_candidates_of(self, recipe: str) -> None:
        """Before contents are searched again: remove the pairs that an earlier search of them left."""
        number = self.recipe_id(recipe)
        for side in ("left_content", "right_content"):
            self._db.write(
                f"DELETE FROM candidates WHERE {side} IN (SELECT id FROM contents WHERE indexed<>?)",
                (number,),
            )

    def mark_indexed(self, content_ids: Iterable[int], recipe: str) -> None:
        """Say that all pairs of these contents with all indexed ones are in `candidates` or `matches`."""
        number = self.recipe_id(recipe)
        self._db.write_many(
            "UPDATE contents SET indexed=? WHERE id=?", ((number, content) for content in content_ids)
        )

    def candidate_ends(self) -> list[tuple[int, int, int, int | None]]:
        """(rowid, left content, right content, hub) of every pair that was not measured; see `spare`."""
        return self._db.rows("SELECT rowid, left_content, right_content, hub FROM candidates")

    def candidate_columns(self) -> tuple[array[int], ...]:
        """`candidate_ends` as four columns of 64-bit numbers, no hub being 0."""
        asked = "SELECT rowid, left_content, right_content, coalesce(hub, 0) FROM candidates"
        return self._columns(self._db.stream(asked), 4)

    def spare_rows(self, rowids_and_hubs: Iterable[tuple[int, int]]) -> None:
        """`spare`, by rowid."""
        self._db.write_many(
            "UPDATE candidates SET hub=? WHERE rowid=?", ((hub, rowid) for rowid, hub in rowids_and_hubs)
        )

    def spare(self, left: int, right: int, hub: int) -> None:
        """Note that a pair need not be measured as long as `hub` is around, which one of the two is a copy of."""
        self._db.write(
            "UPDATE candidates SET hub=? WHERE left_content=? AND right_content=?", (hub, left, right)
        )

    def candidates(self, rowids: Collection[int]) -> list[CandidatePair]:
        """Candidate pairs by rowid; their ids are content ids."""
        found: list[CandidatePair] = []
        for chunk in chunks(rowids):
            stored = self._db.rows(
                "SELECT left_content, right_content, source, distance_bits, orientation, windows FROM candidates"
                f" WHERE rowid IN ({marks(chunk)})",
                chunk,
            )
            with self._reading():
                found += [rows.candidate_from_row(row) for row in stored]
        return found

    def put_match(self, match: Match, recipe: str) -> None:
        """Store a measured pair of contents, and take it off the candidates."""
        self._settle(match.left, match.right, recipe, (match.relation, rows.match_to_text(match)))

    def put_unlike(self, left: int, right: int, recipe: str) -> None:
        """Store that two contents were measured and have nothing to do with each other."""
        self._settle(left, right, recipe, ("", None))

    def _settle(self, left: int, right: int, recipe: str, answer: tuple[str, str | None]) -> None:
        low, high = min(left, right), max(left, right)
        self._db.write(
            "INSERT OR REPLACE INTO matches VALUES (?,?,?,?,?,?)",
            (low, high, self.recipe_id(recipe), int(left == high), *answer),
        )
        self._db.write("DELETE FROM candidates WHERE left_content=? AND right_content=?", (low, high))
        self._db.write("DELETE FROM candidates WHERE left_content=? AND right_content=?", (high, low))

    def forget_matches_except(self, recipe: str) -> int:
        """Remove what was measured under another recipe; the number of pairs."""
        number = self.recipe_id(recipe)
        stale: int = self._db.value("SELECT count(*) FROM matches WHERE recipe<>?", (number,))
        if stale:
            self._db.write("DELETE FROM matches WHERE recipe<>?", (number,))
            self._db.write("UPDATE contents SET indexed=0")
        if self._db.value("SELECT 1 FROM inspections WHERE recipe<>? LIMIT 1", (number,)):
            self._db.write("DELETE FROM inspections WHERE recipe<>?", (number,))
        return stale

    def match_ends(self) -> list[tuple[int, int, int, str]]:
        """(low content, high content, whether the high one is the left one, relation) of every measured pair.

        An empty relation is none.
        """
        return self._db.rows("SELECT low, high, turned, relation FROM matches")

    def match_columns(self) -> tuple[array[int], ...]:
        """`match_ends` as four columns of 64-bit numbers; the last is 0 for no relation, 1 for `similar`, else 2."""
        asked = "SELECT low, high, turned, CASE relation WHEN '' THEN 0 WHEN 'similar' THEN 1 ELSE 2 END FROM matches"
        return self._columns(self._db.stream(asked), 4)

    def _columns(self, found: Iterable[tuple[int, ...]], count: int) -> tuple[array[int], ...]:
        columns = tuple(array("q") for _ in range(count))
        with self._reading():
            for chunk in chunked(found, 4096):
                for column, values in zip(columns, zip(*chunk, strict=True), strict=True):
                    column.extend(values)
        return columns

    def left_of(self, low: int, high: int) -> int | None:
        """Which of the two is the left one of the match between them; 0 if they are none, None if not measured."""
        found: int | None = self._db.value(
            "SELECT CASE WHEN relation='' THEN 0 WHEN turned THEN high ELSE low END FROM matches"
            " WHERE low=? AND high=?",
            (low, high),
        )
        return found

    def matches(self, pairs: Collection[tuple[int, int]]) -> Iterator[Match]:
        """Matches of (low, high) pairs of contents, ids being content ids; pairs without a relation are left out."""
        for low, high in pairs:
            row = next(
                iter(
                    self._db.rows(
                        "SELECT turned, relation, body FROM matches WHERE low=? AND high=?", (low, high)
                    )
                ),
                None,
            )
            if row is None or row[2] is None:
                continue
            left, right = (high, low) if row[0] else (low, high)
            with self._reading():
                match = rows.match_from_text(left, right, row[1], row[2])
            yield match

    def put_inspection(self, inspection: Inspection, recipe: str) -> None:
        """Store what a full decode found; `photo_id` is a content id."""
        self._db.write(
            "INSERT OR REPLACE INTO inspections VALUES (?,?,?,?,'','')",
            (inspection.photo_id, self.recipe_id(recipe), inspection.damage, inspection.effective_scale),
        )

    def put_unconfirmable(self, content_id: int, skipped: Skipped, recipe: str) -> None:
        """Store that a content cannot be decoded in full."""
        self._db.write(
            "INSERT OR REPLACE INTO inspections VALUES (?,?,?,1.0,?,?)",
            (
                content_id,
                self.recipe_id(recipe),
                skipped.detail or skipped.reason,
                skipped.reason,
                skipped.detail,
            ),
        )
        self._db.write("DELETE FROM candidates WHERE left_content=?1 OR right_content=?1", (content_id,))

    def unconfirmable(self) -> list[Skipped]:
        """Photos that cannot be decoded in full, by their first file each."""
        found = self._db.rows(
            "SELECT f.path, i.reason, i.detail, f.size_bytes, f.mtime_ns FROM inspections i JOIN files f ON f.id="
            "(SELECT min(id) FROM files WHERE content=i.content) WHERE i.reason<>''"
        )
        with self._reading():
            return [Skipped(rows.read_path(r[0]), "confirm", Reason(r[1]), *r[2:]) for r in found]

    def unconfirmable_contents(self) -> set[int]:
        """Contents that cannot be decoded in full."""
        return set(self._ids("SELECT content FROM inspections WHERE reason<>''"))

    def inspections_of(self, content_ids: Collection[int]) -> dict[int, Inspection]:
        """By content: what a full decode found of some contents."""
        found: dict[int, Inspection] = {}
        for chunk in chunks(content_ids):
            asked = (
                f"SELECT content, damage, effective_scale FROM inspections WHERE content IN ({marks(chunk)})"
            )
            found.update((row[0], Inspection(*row)) for row in self._db.rows(asked, chunk))
        return found

    def inspections(self) -> dict[int, tuple[Inspection, str, str]]:
        """By content: what a full decode found, and reason and detail where it failed."""
        return {
            row[0]: (Inspection(row[0], row[1], row[2]), row[3], row[4])
            for row in self._db.rows(
                "SELECT content, damage, effective_scale, reason, detail FROM inspections"
            )
        }

    def damages(self) -> dict[bytes, str]:
        """By digest: what a full decode found wrong with a content, or why it could not be decoded."""
        return dict(
            self._db.rows(
                "SELECT c.digest, i.damage FROM inspections i JOIN contents c ON c.id=i.content"
                " WHERE i.damage<>''"
            )
        )

    # --- looking around -------------------------------------------------------------------------------------------

    def counts(self) -> dict[str, int]:
        """Rows by what they are, for `stats`."""
        asked = {
            "files": "SELECT count(*) FROM files",
            "photos": "SELECT count(*) FROM files WHERE state=1",
            "contents": "SELECT count(*) FROM contents WHERE orphaned_s IS NULL",
            "photo_bytes": "SELECT coalesce(sum(size_bytes),0) FROM files WHERE state=1",
            "unreadable": "SELECT count(*) FROM files WHERE state=2",
            "matches": "SELECT count(*) FROM matches WHERE relation<>''",
            "measured_pairs": "SELECT count(*) FROM matches",
        }
        return {name: int(self._db.value(sql)) for name, sql in asked.items()}

    def formats(self) -> Iterator[str]:
        """The format of every photo."""
        for row in self._db.stream(
            "SELECT json_extract(c.info, '$[0]') FROM files f JOIN contents c ON c.id=f.content"
        ):
            yield str(row[0])

    def all_photos(self) -> Iterator[Photo]:
        """Every photo, light, by path."""
        ids = [
            row[0] for row in sorted(self._db.rows("SELECT id, path FROM files WHERE state=1"), key=_by_path)
        ]
        for _, photo in self.photos_of_files(ids, grey=False):
            yield photo


def _by_path(row: tuple[int, str | bytes]) -> bytes:
    return os.fsencode(row[1])
