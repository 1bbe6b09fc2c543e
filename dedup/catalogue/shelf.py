"""What every shelf of the catalogue needs: the connection, recipes, and photos read from their rows."""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Self, TypeVar

from dedup.catalogue import rows
from dedup.catalogue.database import Database, in_doubt, open_database
from dedup.records import Photo

T = TypeVar("T")

CHUNK = 500
"""Values in one `IN (...)`; SQLite allows 32,766, but a short statement is compiled once and kept."""


class Shelf:
    """The open file. Use as a context manager."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._recipe_ids: dict[str, int] = {}
        self._recipe_texts: dict[int, str] = {}

    @classmethod
    def open(cls, path: str, *, write: bool) -> Self:
        """See `database.open_database`."""
        return cls(open_database(os.path.abspath(path), write))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._db.close()

    def close(self) -> None:
        """Commit, and let the file and the lock go."""
        self._db.close()

    @property
    def path(self) -> str:
        """Where the file is."""
        return self._db.path

    def check(self, thorough: bool) -> None:
        """Raise `CatalogueInDoubt` unless the file is sound; see `Database.check`."""
        self._db.check(thorough)

    def commit(self) -> None:
        """Make everything so far durable."""
        self._db.commit()

    def commit_if_due(self) -> None:
        """Commit if the batch is two seconds old."""
        self._db.commit_if_due()

    def all_or_nothing(self) -> AbstractContextManager[None]:
        """Everything inside becomes durable together, or not at all."""
        return self._db.all_or_nothing()

    # --- recipes --------------------------------------------------------------------------------------------------

    def recipe_id(self, text: str) -> int:
        """The number that stands for a recipe, given if it is new."""
        if text not in self._recipe_ids:
            known = self._db.value("SELECT id FROM recipes WHERE text=?", (text,))
            if known is None:
                self._db.write("INSERT OR IGNORE INTO recipes(text) VALUES (?)", (text,))
                known = self._db.value("SELECT id FROM recipes WHERE text=?", (text,))
                self._recipe_texts.clear()
            self._recipe_ids[text] = known
        return self._recipe_ids[text]

    def _recipes(self) -> dict[int, str]:
        if not self._recipe_texts:
            self._recipe_texts = dict(self._db.rows("SELECT id, text FROM recipes"))
        return self._recipe_texts

    # --- photos ---------------------------------------------------------------------------------------------------

    def photos_of_files(self, file_ids: Collection[int], *, grey: bool) -> Iterator[tuple[int, Photo]]:
        """(file id, photo), in the order of `file_ids`; files that are no photos are left out.

        Parameters
        ----------
        grey
            Read the 64 x 64 picture, too; 4 kB a photo, so take such photos in chunks.
        """
        recipes = self._recipes()
        picture, join = ("g.grey", "JOIN greys g ON g.content=c.id") if grey else ("x''", "")
        for chunk in chunks(file_ids):
            found = self._db.rows(
                f"SELECT {rows.PHOTO_COLUMNS}, {picture} FROM files f JOIN contents c ON c.id=f.content {join}"
                f" WHERE f.id IN ({marks(chunk)})",
                chunk,
            )
            with self._reading():
                photos = {row[0]: rows.photo_from_row(row, recipes) for row in found}
            yield from ((file_id, photos[file_id]) for file_id in chunk if file_id in photos)

    def _ids(self, sql: str, values: Sequence[Any] = ()) -> list[int]:
        return [row[0] for row in self._db.rows(sql, values)]

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn what does not read back into the error for a damaged catalogue."""
        try:
            yield
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, struct.error) as error:
            what = f"is damaged (a row does not read back: {type(error).__name__}: {error})"
            raise in_doubt(self.path, what) from error


def marks(values: Sequence[Any]) -> str:
    """As many question marks as there are values."""
    return ",".join("?" * len(values))


def chunks(values: Collection[T]) -> Iterator[list[T]]:
    """Cut values into lists short enough for one statement."""
    ordered = list(values)
    for start in range(0, len(ordered), CHUNK):
        yield ordered[start : start + CHUNK]


def chunked(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut a stream into lists of `size`; the last one may be shorter."""
    chunk: list[T] = []
    for value in values:
        chunk.append(value)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
