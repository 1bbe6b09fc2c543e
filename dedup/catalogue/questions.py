"""What `check` asks: about single contents, without reading the whole catalogue, and without changing anything."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from dedup.catalogue import rows
from dedup.catalogue.shelf import Shelf, chunks, marks
from dedup.records import PhotoFile, Relation


class Questions(Shelf):
    """The part of the catalogue that answers about single pictures."""

    @contextmanager
    def as_of_now(self) -> Iterator[None]:
        """All questions inside are answered from one state, whatever a scan writes meanwhile."""
        self._db.rows("BEGIN")
        try:
            yield
        finally:
            self._db.rows("COMMIT")

    def files_with_digest(self, digest: bytes) -> list[PhotoFile]:
        """Every file that had this content when it was scanned, by path."""
        found = self._db.rows(
            "SELECT f.path, f.size_bytes, f.mtime_ns, f.ctime_ns, f.device, f.inode, f.link_count"
            " FROM contents c JOIN files f ON f.content=c.id WHERE c.digest=?",
            (digest,),
        )
        with self._reading():
            return sorted((rows.file_from_values(row) for row in found), key=_by_path)

    def files_of(self, content_ids: Collection[int]) -> dict[int, list[tuple[int, PhotoFile]]]:
        """The files, with their ids and by path, of each of these contents."""
        found: dict[int, list[tuple[int, PhotoFile]]] = {}
        for chunk in chunks(content_ids):
            stored = self._db.rows(
                "SELECT content, id, path, size_bytes, mtime_ns, ctime_ns, device, inode, link_count"
                f" FROM files WHERE content IN ({marks(chunk)})",
                chunk,
            )
            with self._reading():
                for row in stored:
                    found.setdefault(row[0], []).append((row[1], rows.file_from_values(row[2:])))
        for files in found.values():
            files.sort(key=lambda entry: _by_path(entry[1]))
        return found

    def digests_in_order(self, recipe: str) -> list[tuple[int, bytes]]:
        """(content, digest) of all contents of `contents_by_digest`, in its order; none under a recipe nobody used."""
        number = self._db.value("SELECT id FROM recipes WHERE text=?", (recipe,))
        found: list[tuple[int, bytes]] = self._db.rows(
            "SELECT id, digest FROM contents WHERE orphaned_s IS NULL AND recipe=? ORDER BY digest", (number,)
        )
        return found

    def better_of(self, content_id: int) -> tuple[int, Relation] | None:
        """The content that this one was confirmed to be a copy or a version of, and which of them; None if none."""
        found = self._db.rows(
            "SELECT CASE turned WHEN 0 THEN low ELSE high END AS better, relation FROM matches"
            " WHERE relation NOT IN ('', 'similar') AND (turned=0 AND high=?1 OR turned=1 AND low=?1)"
            " ORDER BY better LIMIT 1",
            (content_id,),
        )
        with self._reading():
            return (found[0][0], Relation(found[0][1])) if found else None

    def is_unfinished(self) -> bool:
        """Whether a scan is at work, or was interrupted."""
        basis = self._db.value("SELECT basis FROM scans ORDER BY id DESC LIMIT 1")
        with self._reading():
            return basis is None or bool(json.loads(basis).get("unfinished"))

    def has_photo_below(self, folder: str) -> bool:
        """Whether it knows a photo in or below a folder, or the photo of that name."""
        prefix = os.fsencode(folder).rstrip(b"/") + b"/"
        ranges: list[tuple[str | bytes, str | bytes, str | bytes]] = [
            (prefix[:-1], prefix, prefix + b"\xff" * 4)
        ]
        text = rows.stored_path(os.fsdecode(prefix))
        if isinstance(text, str):  # names that are UTF-8 are kept as text, which stands apart from bytes
            ranges.append((text[:-1], text, text + "\U0010ffff"))
        asked = "SELECT 1 FROM files WHERE state=1 AND (path=? OR path>? AND path<?) LIMIT 1"
        return any(self._db.value(asked, values) for values in ranges)

    def count_stale(self, recipe: str) -> int:
        """Contents that have a file and were fingerprinted under another recipe."""
        number = self._db.value("SELECT id FROM recipes WHERE text=?", (recipe,))
        count: int = self._db.value(
            "SELECT count(*) FROM contents WHERE orphaned_s IS NULL AND recipe<>?", (number or 0,)
        )
        return count


def _by_path(file: PhotoFile) -> bytes:
    return file.path_bytes
