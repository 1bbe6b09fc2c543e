"""The reading stage: files that are new, changed or stale become fingerprints, each content once.

Promises: a content is decoded once however many files carry it, and not at all if its digest is known under this
recipe; a file that cannot be read is noted with the reason and not tried again until it, the recipe or the limits
change.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

from dedup.catalogue import Catalogue
from dedup.engine import Engine, Failure
from dedup.errors import InternalFault
from dedup.pipeline.places import Progress
from dedup.records import Photo, PhotoFile, Reason, Skipped
from dedup.settings import Settings


def is_passing(skipped: Skipped) -> bool:
    """Whether the reason may be gone next time, so that the file is tried again at every scan.

    A disk or a network that refuses may answer tomorrow; a decoder that cannot read a file never will.
    """
    unreadable = skipped.reason is Reason.UNREADABLE and skipped.stage != "decode"
    return unreadable or skipped.reason is Reason.CHANGED


_DEAR = {
    ".heic": 9.0,
    ".heif": 9.0,
    ".hif": 9.0,
    ".avif": 5.0,
    ".png": 2.0,
    ".webp": 4.0,
    ".jp2": 6.0,
    ".jxl": 6.0,
}
"""Decoding time per byte against a JPEG's (a HEIC of 12 MP takes 642 ms, a JPEG 25): only for going longest first."""

_OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class ReadingResult:
    """What the reading stage did."""

    decoded: int
    """Photos decoded."""
    changed_contents: frozenset[int]
    """Contents that were made or fingerprinted anew."""


def digest_photo(file: PhotoFile) -> bytes | Skipped:
    """sha256 of a file that is still what the crawl saw, before and after reading."""
    try:
        descriptor = os.open(file.path_bytes, _OPEN_FLAGS)
    except FileNotFoundError:
        return _skipped(file, Reason.CHANGED, "it is not there any more")
    except OSError as error:
        return _skipped(file, Reason.UNREADABLE, (error.strerror or str(error)).lower())
    try:
        with open(descriptor, "rb", buffering=0, closefd=False) as handle:
            if not _is_the_file(os.fstat(descriptor), file):
                return _skipped(file, Reason.CHANGED, "another file than the one that was listed")
            digest = hashlib.file_digest(handle, "sha256").digest()
        if not _is_the_file(os.fstat(descriptor), file):
            return _skipped(file, Reason.CHANGED, "written to while it was read")
    except OSError as error:
        return _skipped(file, Reason.UNREADABLE, (error.strerror or str(error)).lower())
    finally:
        os.close(descriptor)
    return digest


def _is_the_file(status: os.stat_result, file: PhotoFile) -> bool:
    found = (status.st_size, status.st_mtime_ns, status.st_dev, status.st_ino)
    return stat.S_ISREG(status.st_mode) and found == (
        file.size_bytes,
        file.mtime_ns,
        file.device,
        file.inode,
    )


def _skipped(file: PhotoFile, reason: Reason, detail: str) -> Skipped:
    return Skipped(file.path, "fingerprint", reason, detail, file.size_bytes, file.mtime_ns)


def attempt_text(settings: Settings) -> str:
    """Under what a file is tried: recipe, extras and limits. Another text lets files that failed be tried again."""
    from dedup.fingerprint import RECIPE

    extras = [name for name in ("rawpy", "pillow_jxl") if find_spec(name) is not None]
    limits = f"{settings.max_pixels} px, {settings.memory_limit_bytes} bytes, {settings.decode_timeout_s:g} s"
    return f"{RECIPE}; extras {' '.join(extras) or 'none'}; limits {limits}"


def cost_of(file: PhotoFile) -> float:
    """Expected decoding time in any unit, above 0."""
    extension = os.path.splitext(file.path)[1].lower()
    return (file.size_bytes + 4096.0) * _DEAR.get(extension, 1.0)


class _Reader:
    """One run of the stage."""

    def __init__(self, catalogue: Catalogue, engine: Engine, settings: Settings, progress: Progress) -> None:
        from dedup.fingerprint import RECIPE

        self.catalogue = catalogue
        self.engine = engine
        self.attempt = attempt_text(settings)
        self.max_pixels = settings.max_pixels
        self.recipe = RECIPE
        self.progress = progress
        self.done = 0
        self.total = 0
        self.decoded = 0
        self.changed: set[int] = set()

    def read(self, waiting: dict[PhotoFile, int]) -> None:
        """Read all files (with their file ids)."""
        self.total = len(waiting)
        self.progress("hash", 0, self.total)
        twins = self._hard_links(waiting)
        firsts = {file: waiting[file] for file in waiting if file not in twins}
        self._read_firsts(firsts)
        self.catalogue.forget_digests()
        # A hard link is the same file by another name: within one run, device and inode prove it.
        self._follow(twins, waiting)

    def _hard_links(self, waiting: Iterable[PhotoFile]) -> dict[PhotoFile, PhotoFile]:
        first_of: dict[tuple[int, ...], PhotoFile] = {}
        twins = {}
        for file in waiting:
            if file.link_count > 1 and file.inode:
                key = (file.device, file.inode, file.size_bytes, file.mtime_ns, file.ctime_ns)
                first = first_of.setdefault(key, file)
                if first is not file:
                    twins[file] = first
        return twins

    def _read_firsts(self, files: dict[PhotoFile, int]) -> None:
        known_sizes = self.catalogue.sizes()
        counted = Counter(file.size_bytes for file in files)
        # Only a file of the same size can be a copy of another; a digest costs a tenth of a decode.
        alone = [f for f in files if counted[f.size_bytes] == 1 and f.size_bytes not in known_sizes]
        maybe = [f for f in files if counted[f.size_bytes] > 1 or f.size_bytes in known_sizes]
        by_digest: dict[bytes, list[PhotoFile]] = defaultdict(list)
        for file, answer in self._digests(maybe, files):
            if not isinstance(answer, bytes):
                self._fail([file], _as_skipped(file, answer), files)
            elif (content := self.catalogue.find_content(answer, self.recipe)) is not None:
                self._attach(files[file], content)
            else:
                by_digest[answer].append(file)
        copies: dict[PhotoFile, list[PhotoFile]] = {}
        for digest in sorted(by_digest):
            first, *others = sorted(by_digest[digest], key=_by_path)
            copies[first] = others
        while alone or copies:
            alone, copies = self._decode(alone, copies, files)

    def _digests(
        self, files: Iterable[PhotoFile], ids: dict[PhotoFile, int]
    ) -> Iterator[tuple[PhotoFile, bytes | Skipped | Failure]]:
        """The digest of each file, or why there is none; kept at once, so that a scan that is killed has it."""
        kept = self.catalogue.digests()
        unread = []
        for file in files:
            if ids[file] in kept:
                yield file, kept[ids[file]]
            else:
                unread.append(file)
        for file, answer in self.engine.map(digest_photo, unread):
            if isinstance(answer, bytes):
                self.catalogue.put_digest(ids[file], file, answer)
                self.catalogue.commit_if_due()
            yield file, answer

    def _decode(
        self, alone: list[PhotoFile], copies: dict[PhotoFile, list[PhotoFile]], ids: dict[PhotoFile, int]
    ) -> tuple[list[PhotoFile], dict[PhotoFile, list[PhotoFile]]]:
        """Decode one file of each content; what is left is what must be read through another file."""
        from dedup.fingerprint import fingerprint_photo

        left: dict[PhotoFile, list[PhotoFile]] = {}
        read = partial(fingerprint_photo, max_pixels=self.max_pixels)
        for file, answer in self.engine.map(read, [*alone, *copies], weight=cost_of):
            others = copies.get(file, [])
            if isinstance(answer, Photo):
                if answer.fingerprint.recipe != self.recipe:
                    raise InternalFault(
                        f"{file.path}: a worker used another recipe than this program; scan again"
                    )
                content = self.catalogue.put_photo(ids[file], answer)
                self.changed.add(content)
                self.decoded += 1
                self._step()
                for other in others:
                    self._attach(ids[other], content)
                continue
            failed = _as_skipped(file, answer)
            if is_passing(failed) and others:
                self._fail([file], failed, ids)
                left[others[0]] = others[1:]
            else:
                self._fail([file, *others], failed, ids)
        return [], left

    def _follow(self, twins: dict[PhotoFile, PhotoFile], ids: dict[PhotoFile, int]) -> None:
        if not twins:
            return
        content_of = {row[8]: row[9] for row in self.catalogue.known_files()}
        failed = {number: skipped for number, _, skipped in self.catalogue.failures()}
        for file, first in twins.items():
            content = content_of[ids[first]]
            if content:
                self._attach(ids[file], content)
            else:
                self._fail([file], failed[ids[first]], ids)

    def _attach(self, number: int, content: int) -> None:
        self.catalogue.attach(number, content)
        self._step()

    def _fail(self, files: list[PhotoFile], why: Skipped, ids: dict[PhotoFile, int]) -> None:
        for file in files:
            self.catalogue.put_failure(ids[file], why, self.attempt)
            self._step()

    def _step(self) -> None:
        self.done += 1
        self.catalogue.commit_if_due()
        self.progress("hash", self.done, self.total)


def _as_skipped(file: PhotoFile, answer: object) -> Skipped:
    if isinstance(answer, Skipped):
        return answer
    if isinstance(answer, Failure):
        return _skipped(file, answer.reason, answer.detail)
    raise InternalFault(f"{file.path}: reading it gave {type(answer).__name__}, which is a fault in dedup")


def _by_path(file: PhotoFile) -> bytes:
    return file.path_bytes


def read_photos(
    catalogue: Catalogue,
    engine: Engine,
    waiting: dict[PhotoFile, int],
    settings: Settings,
    progress: Progress,
) -> ReadingResult:
    """Read, digest and fingerprint files.

    Parameters
    ----------
    waiting
        The files and their ids in the catalogue.
    settings
        The limits of a picture.

    Returns
    -------
    ReadingResult
        Everything else is in the catalogue, committed.
    """
    reader = _Reader(catalogue, engine, settings, progress)
    reader.read(waiting)
    catalogue.commit()
    return ReadingResult(reader.decoded, frozenset(reader.changed))
