"""What a task does in the reading stage: a part of the listing becomes a part of `files`.

Promises: a part that is there is not read again; every file of the listing is a row, with a fingerprint or with the
reason why there is none; a file that breaks its worker costs itself, as in a scan on one machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from dedup.decode.sniff import HEAD_BYTES, sniff_format
from dedup.engine import Failure, Limits, open_engine
from dedup.fingerprint import fingerprint_photo
from dedup.pipeline import is_address
from dedup.pipeline.dataset import (
    DataSet,
    failure_columns,
    file_of,
    load_arrow,
    part_name,
    photo_columns,
    photo_schema,
)
from dedup.records import Photo, PhotoFile, Reason, Skipped
from dedup.settings import Settings
from dedup.spark.fetching import Fetcher, head_of
from dedup.spark.listing import is_named_as_photo


def limits_of(settings: Settings) -> Limits:
    """What one picture may use, as on one machine."""
    return Limits(settings.memory_limit_bytes, settings.decode_timeout_s, settings.decode_timeout_s)


def read_part(place: str, settings: Settings, number: int) -> Mapping[str, int]:
    """Read a part; how many pictures were decoded."""
    dataset = DataSet(place)
    name = part_name("files", number)
    if dataset.exists(name):
        return {"decoded": 0}
    listed = dataset.read_table(part_name("listing", number)).to_pylist()
    rows = {row["id"]: row for row in listed}
    at = {file_of(row).path: row["id"] for row in listed}
    decoded = 0
    read = partial(fingerprint_photo, max_pixels=settings.max_pixels)
    with Fetcher() as fetcher, open_engine(1, limits_of(settings)) as engine:
        original: dict[str, PhotoFile] = {}

        def brought() -> Iterator[PhotoFile]:
            for row in listed:
                file = file_of(row)
                here = _bring(fetcher, file)
                if isinstance(here, Skipped):
                    rows[row["id"]] |= failure_columns(here)
                else:
                    original[here.path] = file
                    yield here

        for here, answer in engine.map(read, brought()):
            file = original.pop(here.path)
            row = rows[at[file.path]]
            if isinstance(answer, Photo):
                decoded += 1
                row |= photo_columns(replace(answer, file=file))
            elif isinstance(answer, Failure):
                row |= failure_columns(Skipped(file.path, "fingerprint", answer.reason, answer.detail))
            else:
                row |= failure_columns(answer)
            fetcher.drop(file)
    arrow = load_arrow()
    dataset.write_table(name, arrow.Table.from_pylist(list(rows.values()), photo_schema()))
    return {"decoded": decoded}


def _bring(fetcher: Fetcher, file: PhotoFile) -> PhotoFile | Skipped:
    """The file as it can be opened here; an object that is not named like a photo is looked at first."""
    if is_address(file.path) and not is_named_as_photo(file.path):
        try:
            head = head_of(file, HEAD_BYTES)
        except Exception as error:  # noqa: BLE001 - every store has errors of its own
            return _skipped(file, Reason.UNREADABLE, f"cannot be fetched ({str(error)[:160]})")
        if sniff_format(head, file.path) is None:
            return _skipped(file, Reason.NOT_A_PHOTO, "")
    return fetcher.bring(file)


def _skipped(file: PhotoFile, reason: Reason, detail: str) -> Skipped:
    return Skipped(file.path, "crawl", reason, detail, file.size_bytes, file.mtime_ns)


def photo_rows(place: str, columns: tuple[str, ...], number: int) -> Iterator[Any]:
    """Record batches of the photos of a part of `files`; of the same file every time."""
    import pyarrow.compute as compute

    table = DataSet(place).read_table(part_name("files", number), columns)
    if table.num_rows:
        yield from table.filter(compute.is_valid(table["key"])).to_batches(max_chunksize=1024)
