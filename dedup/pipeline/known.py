"""The library as `check` asks it: a memory-mapped snapshot of the catalogue's hashes, renewed when that has changed.

Promises: an answer is about the catalogue as it is now (while a scan is at work: as it was at most a minute ago); what
makes that quick - the snapshot, and a note of which state of the catalogue it holds - may be deleted at any time.
Does not: change the catalogue, or look at a photo.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dedup.catalogue import Catalogue
from dedup.errors import CatalogueInDoubt
from dedup.pipeline.places import catalogue_path, program_stamp
from dedup.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dedup.index import Asker

_NOTE = "check.json"
_BEHIND_S = 60.0
"""How far behind a scan that is at work an answer may be: it commits every two seconds, and each time the snapshot of
100,000 photos would be made anew."""


class Known:
    """The photos that a catalogue knows, to be asked about single ones. Safe to use from several threads."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.path = catalogue_path(settings)
        self._folder = Path(self.path + ".index")
        self._lock = threading.Lock()
        self._asker: Asker | None = None
        self._state: list[Any] = []
        self._own: tempfile.TemporaryDirectory[str] | None = None
        """A place for the snapshot where nothing can be written beside the catalogue."""
        self.stale = 0
        """Contents that were fingerprinted by another version of the program, and are known by their bytes only."""

    def open(self) -> Catalogue:
        """The catalogue, for reading; a connection belongs to the thread that opened it."""
        return Catalogue.open(self.path, write=False)

    def close(self) -> None:
        """Let go of everything."""
        with self._lock:
            self._asker = None
            self._state = []
            if self._own is not None:
                self._own.cleanup()
                self._own = None

    def asker(self) -> Asker:
        """What to ask; made anew if the catalogue has changed."""
        with self._lock:
            state = self._now()
            if self._asker is None or self._state != state:
                self._asker = self._from_note(state)
                if self._asker is None:
                    # The last one to close a catalogue may tidy it up, which is no change of what it holds.
                    self.open().close()
                    state = self._now()
                    self._asker = self._renewed(state)
                self._state = state
            return self._asker

    def _now(self) -> list[Any]:
        """The state of everything that a snapshot depends on, from a few calls of `stat`."""
        return [program_stamp(), self.settings.neighbours, _seen(self.path), _seen(self.path + "-wal")]

    def _from_note(self, state: list[Any]) -> Asker | None:
        from dedup.index import open_asker

        try:
            note = json.loads((self._folder / _NOTE).read_text("utf-8"))
            name, held, made, stale = note["file"], note["state"], float(note["made"]), int(note["stale"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if held != state and not (held[:2] == state[:2] and 0 <= time.time() - made < _BEHIND_S):
            return None
        if held != state:
            with self.open() as catalogue:
                if not catalogue.is_unfinished():
                    return None
        asker = open_asker(self._folder / os.path.basename(name), self.settings)
        self.stale = stale
        return asker

    def _renewed(self, state: list[Any]) -> Asker:
        from dedup.index import open_asker

        file = self._build(self._folder)
        if file is None:
            self._own = self._own or tempfile.TemporaryDirectory(prefix="dedup-check-")
            file = self._build(Path(self._own.name))
        else:
            self._leave_note(state, file)
        asker = None if file is None else open_asker(file, self.settings)
        if asker is None:
            raise CatalogueInDoubt(
                f"{self.path}: its hashes cannot be laid out for checking; look at the space on the disk and in "
                f"{tempfile.gettempdir()}, then try again"
            )
        return asker

    def _build(self, place: Path) -> Path | None:
        """Write the snapshot; None if it cannot be written there."""
        from dedup.fingerprint import RECIPE
        from dedup.index import build_snapshot, table_from_rows

        with self.open() as catalogue, catalogue.as_of_now():
            entries = catalogue.digests_in_order(RECIPE)
            self.stale = catalogue.count_stale(RECIPE)
            keys = [key_of(digest) for _, digest in entries]
            try:
                table = table_from_rows(keys, catalogue.fingerprint_columns(RECIPE) if entries else ())
            except ValueError as error:
                raise CatalogueInDoubt(
                    f"{self.path}: fingerprints do not read back ({error}); move it away and scan again"
                ) from error
            contents = dict(zip(keys, (content for content, _ in entries), strict=True))
            greys = greys_of(catalogue, contents.__getitem__)
            searched = self._folder if self._folder.is_dir() else None
            try:
                return build_snapshot(table, [content for content, _ in entries], greys, place, searched)
            except OSError:
                return None

    def _leave_note(self, state: list[Any], file: Path) -> None:
        note = {"state": state, "file": file.name, "made": time.time(), "stale": self.stale}
        temporary = self._folder / f"{_NOTE}.{os.getpid()}.tmp"
        try:
            temporary.write_text(json.dumps(note), "utf-8")
            os.replace(temporary, self._folder / _NOTE)
        except OSError:
            # Without it the next one makes the snapshot again, which is right, and slow.
            temporary.unlink(missing_ok=True)


def key_of(digest: bytes) -> int:
    """The id of a content within searches, as in `Catalogue.contents_by_digest`."""
    return int.from_bytes(digest[:8], "big") >> 1


def greys_of(
    catalogue: Catalogue, content_of: Callable[[int], int]
) -> Callable[[NDArray[np.int64]], NDArray[np.uint8]]:
    """What gives the greys, (k, 64, 64), of keys."""
    import numpy as np

    def greys(ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        blobs = catalogue.greys([content_of(key) for key in ids.tolist()])
        return np.frombuffer(b"".join(blobs), dtype=np.uint8).reshape(-1, 64, 64)

    return greys


def _seen(path: str) -> list[int]:
    """What changes when a file does; an empty write-ahead log is as good as none."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return []
    return [status.st_ino, status.st_size, status.st_mtime_ns] if status.st_size else []
