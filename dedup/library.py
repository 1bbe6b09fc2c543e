"""`Library`: a catalogue opened for programs that ask about pictures, an upload form for example.

    >>> from dedup import Library
    >>> library = Library.open("/home/me/photos.db")  # doctest: +SKIP
    >>> answer = library.check(upload_bytes)  # doctest: +SKIP
    >>> if answer.is_there:  # doctest: +SKIP
    ...     print("we have that one:", answer.best.path, answer.best.sentence)

Promises: `check` may be called from any number of threads, and from processes that were forked after `open`; whatever
an upload is, the answer is a record; pictures are decoded in worker processes with limits of time and memory.
Does not: change the catalogue; `scan_library` does, at the same time if need be, and answers follow.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Self

from dedup.errors import InternalFault
from dedup.pipeline import Checker, load_report, look_at_file
from dedup.records import Answer, Checked, DuplicateGroup, Reason, Skipped
from dedup.settings import Settings

Picture = bytes | bytearray | memoryview | str | os.PathLike[str]

_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,8}\Z")
"""What is taken over from the name of an upload: only camera RAW is told by it."""
_FAULT_CHARACTERS = 300


class Library:
    """An open library. Made by `open`; close it, or use it as a context manager."""

    def __init__(self, settings: Settings, folders: Sequence[str | os.PathLike[str]] = ()) -> None:
        self._settings = settings
        self._folders = tuple(folders)
        self._lock = threading.Lock()
        self._start()

    @classmethod
    def open(
        cls,
        db: str | os.PathLike[str] = "",
        *,
        folders: Sequence[str | os.PathLike[str]] = (),
        settings: Settings | None = None,
    ) -> Self:
        """Open the library that a scan has made.

        Parameters
        ----------
        db
            Catalogue file; that of the settings, or of the user's data folder, without it.
        folders
            Only photos below these count.
        settings
            `jobs` is how many pictures are decoded at once; the limits hold for each of them.

        Raises
        ------
        UsageError
            If there is no catalogue yet, or it knows no photo below one of the folders.
        CatalogueInDoubt
            If the catalogue cannot be believed.
        """
        settings = settings or Settings()
        if db:
            settings = replace(settings, db=os.fspath(db))
        return cls(settings, folders)

    def _start(self) -> None:
        self._process = os.getpid()
        self._checker = Checker(self._settings, self._folders)
        # Workers before the program has threads: then they are forked, in 5 ms each.
        self._checker.hire(self._checker.jobs)
        self._room = threading.BoundedSemaphore(self._checker.jobs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers."""
        if self._process == os.getpid():
            self._checker.close()

    def prepare(self) -> None:
        """Lay out the library now rather than with the first question; 100,000 photos take a few seconds."""
        self._ours().known.asker()

    @property
    def jobs(self) -> int:
        """How many pictures are under work at once; further ones wait."""
        return self._checker.jobs

    def check(self, picture: Picture, name: str = "") -> Checked:
        """Whether a picture is in the library.

        Parameters
        ----------
        picture
            The whole file as bytes, or its path.
        name
            What to call it in the answer. Of bytes, the extension tells a camera's RAW file from a TIFF.

        Returns
        -------
        Checked
            `answer` is `unreadable` for whatever gives no picture, and `skipped` says why.

        Raises
        ------
        DedupError
            If the library itself is in trouble: the catalogue is damaged, or gone.
        """
        checker = self._ours()
        if isinstance(picture, bytes | bytearray | memoryview):
            return self._check_bytes(checker, picture, name)
        return self._check_path(checker, os.fspath(picture), name or os.fspath(picture))

    def groups(self) -> tuple[DuplicateGroup, ...]:
        """The duplicates among the photos of the library, as the last scan left them."""
        return load_report(self._settings, all_roots=True).groups

    def _ours(self) -> Checker:
        """The checker of this process: after a fork the workers belong to the parent."""
        with self._lock:
            if self._process != os.getpid():
                self._start()
            return self._checker

    def _check_bytes(self, checker: Checker, content: bytes | bytearray | memoryview, name: str) -> Checked:
        extension = _EXTENSION.search(name)
        shown = name or "upload"
        try:
            with tempfile.NamedTemporaryFile(
                prefix="dedup-", suffix=extension[0] if extension else ""
            ) as held:
                held.write(content)
                held.flush()
                return self._check_path(checker, held.name, shown)
        except OSError as error:
            words = f"it could not be kept while it was looked at ({error.strerror or error})"
            return _unreadable(shown, Reason.UNREADABLE, words)

    def _check_path(self, checker: Checker, path: str, name: str) -> Checked:
        found = look_at_file(path)
        if isinstance(found, Skipped):
            return Checked(name, Answer.UNREADABLE, skipped=replace(found, path=name))
        with self._room:
            try:
                answer = checker.check_file(found, name)
            except InternalFault as error:
                # Ours, but an upload must not bring a server down: it is the upload that gets no answer.
                words = str(error).strip().splitlines()[-1][:_FAULT_CHARACTERS]
                return _unreadable(name, Reason.CRASHED, f"a fault in dedup: {words}")
        if answer.skipped is not None and answer.skipped.path == found.path:
            answer = replace(answer, skipped=replace(answer.skipped, path=name))
        return answer


def _unreadable(name: str, reason: Reason, detail: str) -> Checked:
    return Checked(name, Answer.UNREADABLE, skipped=Skipped(name, "decode", reason, detail))
