"""The files below the roots as numbered parts of a data set: folders by the crawl, object stores by their listing.

Promises: what a scan of the same folders would examine is listed, and what it would pass over is named; a listing is
whole before anything is read. Does not: open an object.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from dedup.crawl import PHOTO_EXTENSIONS, excluding_rule, find_photos
from dedup.errors import UsageError
from dedup.keeper import find_units
from dedup.keeper.units import SIDECAR_EXTENSIONS
from dedup.pipeline import Progress, is_address
from dedup.pipeline.dataset import (
    DataSet,
    file_row,
    file_schema,
    load_arrow,
    part_name,
    skipped_row,
    skipped_schema,
)
from dedup.pipeline.places import absolute_folder
from dedup.records import PhotoFile, Reason, Skipped
from dedup.settings import Settings

PART_FILES = 256
"""Files of a part: about ten seconds of one core, which is what a lost executor or a restart costs."""

LEAST_PARTS = 4
"""Parts for each task that can run, if there are files enough: so that the last of them is a small one."""

LEAST_FILES = 4
"""Files of the smallest part worth a task."""


def absolute_places(roots: Sequence[str]) -> tuple[str, ...]:
    """The roots, folders as the crawl names them and addresses without a slash at the end; sorted, each once.

    Raises
    ------
    UsageError
        If there is none, or none of the folders exists.
    """
    if not roots:
        raise UsageError("name the folders or addresses to scan")
    found = {root.rstrip("/") if is_address(root) else absolute_folder(root) for root in roots}
    folders = [root for root in found if not is_address(root)]
    if folders and not any(os.path.exists(folder) for folder in folders) and len(folders) == len(found):
        raise UsageError(f"{min(folders)}: there is no such folder; name one that exists")
    return tuple(sorted(found, key=os.fsencode))


def list_files(
    dataset: DataSet, roots: Sequence[str], settings: Settings, slots: int, progress: Progress
) -> tuple[int, int]:
    """Write `listing` and `passed_over`.

    Parameters
    ----------
    roots
        As `absolute_places` gives them.
    slots
        Tasks that will run at the same time.

    Returns
    -------
    int, int
        Files to be read, and files passed over.
    """
    dataset.remove("listing", "passed_over")
    lister = _Lister(dataset, slots, progress)
    folders = [root for root in roots if not is_address(root)]
    if folders:
        lister.take(find_photos(folders, settings, lambda *_: ""))
    for root in roots:
        if is_address(root):
            lister.take(_objects(root, settings))
    return lister.finish()


class _Lister:
    """Collects a folder, so that what goes with each file is known, and then writes parts."""

    def __init__(self, dataset: DataSet, slots: int, progress: Progress) -> None:
        self.dataset = dataset
        self.slots = slots
        self.progress = progress
        self.folder = ""
        self.inside: list[PhotoFile | Skipped] = []
        self.files: list[dict[str, Any]] = []
        self.passed: list[dict[str, Any]] = []
        self.count = self.over = 0
        self.parts = self.passed_parts = 0

    def take(self, found: Iterable[PhotoFile | Skipped]) -> None:
        for one in found:
            folder = one.path.rpartition("/")[0]
            if folder != self.folder:
                self._end_folder()
                self.folder = folder
            self.inside.append(one)
            if not (self.count + self.over + len(self.inside)) % 1000:
                self.progress("crawl", self.count + self.over + len(self.inside), None)
        self._end_folder()

    def _end_folder(self) -> None:
        units = find_units(one.path for one in self.inside)
        for one in self.inside:
            if isinstance(one, PhotoFile):
                self.count += 1
                self.files.append(file_row(self.count, one, units.get(one.path, ())))
            else:
                self.over += 1
                self.passed.append(skipped_row(one))
        self.inside = []
        # Held until it is known whether they fill parts of the full size.
        while len(self.files) > PART_FILES * LEAST_PARTS * self.slots:
            self._write_files(PART_FILES)
        while len(self.passed) >= 16 * PART_FILES:
            self._write_passed(16 * PART_FILES)

    def _write_files(self, count: int) -> None:
        arrow = load_arrow()
        table = arrow.Table.from_pylist(self.files[:count], file_schema())
        self.dataset.write_table(part_name("listing", self.parts), table)
        self.parts += 1
        del self.files[:count]

    def _write_passed(self, count: int) -> None:
        arrow = load_arrow()
        table = arrow.Table.from_pylist(self.passed[:count], skipped_schema())
        self.dataset.write_table(part_name("passed_over", self.passed_parts), table)
        self.passed_parts += 1
        del self.passed[:count]

    def finish(self) -> tuple[int, int]:
        size = min(PART_FILES, max(LEAST_FILES, -(-len(self.files) // (LEAST_PARTS * self.slots))))
        while self.files:
            self._write_files(size)
        while self.passed:
            self._write_passed(16 * PART_FILES)
        self.progress("crawl", self.count + self.over, self.count + self.over)
        return self.count, self.over


def _objects(root: str, settings: Settings) -> Iterator[PhotoFile | Skipped]:
    """What lies below an address, in the order of its names."""
    import fsspec

    try:
        fs, path = fsspec.core.url_to_fs(root)
        found: dict[str, dict[str, Any]] = fs.find(path, detail=True)
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise UsageError(f"{root}: cannot be listed ({lines[0][:200]})") from error
    if not found:
        raise UsageError(f"{root}: there is nothing below this address")
    head = fs.unstrip_protocol(path).rstrip("/")
    excluded_by = excluding_rule(settings, root)
    # Names of one folder stand together only if the folder comes first.
    for name in sorted(found, key=lambda name: (posixpath.dirname(name), name)):
        info = found[name]
        full = root + fs.unstrip_protocol(name)[len(head) :]
        yield _object(full, int(info.get("size") or 0), modified_ns(info), excluded_by(full))


def _object(path: str, size_bytes: int, mtime_ns: int, rule: str | None) -> PhotoFile | Skipped:
    if rule is not None:
        return Skipped(path, "crawl", Reason.EXCLUDED, rule, size_bytes, mtime_ns)
    if not size_bytes:
        return Skipped(path, "crawl", Reason.EMPTY, "", size_bytes, mtime_ns)
    if posixpath.splitext(path)[1].lower() in SIDECAR_EXTENSIONS:
        return Skipped(path, "crawl", Reason.NOT_A_PHOTO, "sidecar", size_bytes, mtime_ns)
    return PhotoFile(path, size_bytes, mtime_ns, 0, 0, 0, 1)


def is_named_as_photo(path: str) -> bool:
    """Whether an object is worth fetching whole before its first bytes were seen."""
    return posixpath.splitext(path)[1].lower() in PHOTO_EXTENSIONS


def modified_ns(info: dict[str, Any]) -> int:
    """When an object was written last, as its store says; 0 if it does not."""
    for name in ("LastModified", "last_modified", "mtime", "updated", "modified", "created"):
        value = info.get(name)
        if isinstance(value, datetime):
            since = value if value.tzinfo else value.replace(tzinfo=UTC)
            return round(since.timestamp() * 1000) * 1_000_000
        if isinstance(value, int | float):
            return round(value * 1e9)
        if isinstance(value, str):
            try:
                return round(datetime.fromisoformat(value).timestamp() * 1000) * 1_000_000
            except ValueError:
                continue
    return 0
