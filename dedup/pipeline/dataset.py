"""A scan's result as a Parquet data set: the tables of the catalogue in a folder, or at any fsspec address.

Promises: a file of the data set appears whole or not at all, so that a stage may be stopped anywhere and goes on
with what is missing; paths come back byte for byte. Does not: compute anything, or need Spark.

    dataset.json    what the data set was made from and with, and, once it is finished, the numbers of the scan
    listing/        files to be read, in numbered parts, with the files that go with each
    passed_over/    files that are no photos, and why they were passed over
    files/          the same parts with what was read: a photo with its fingerprint, or the reason why there is none
    candidates/     pairs of contents (by key, the first 63 bits of the digest) that may be alike
    members/, pairs/    portions: photos and candidate pairs that are confirmed and grouped together
    matches/, inspections/, spared/, late/, similar_pairs/, hubs/, groups/    what came of each portion, `groups` last
"""

from __future__ import annotations

import json
import os
import struct
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dedup.catalogue import rows
from dedup.errors import CatalogueInDoubt, MissingExtra, Unsafe, UsageError
from dedup.records import CandidatePair, Fingerprint, Photo, PhotoFile, Reason, Skipped

if TYPE_CHECKING:
    import pyarrow

FORMAT = 1
"""Of the data set; another one is refused by name."""

NOTE = "dataset.json"


def load_arrow() -> Any:
    """The module pyarrow, or what to install."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("a Parquet data set needs pyarrow: pip install 'photo-dedup[parquet]'") from error
    return pyarrow


def is_address(place: str) -> bool:
    """Whether a place is an fsspec address (`s3://bucket/prefix`) rather than a path."""
    return "://" in place


class DataSet:
    """The files of a data set, wherever they are."""

    def __init__(self, place: str) -> None:
        try:
            import fsspec
        except ImportError as error:
            raise MissingExtra("a data set needs fsspec: pip install 'photo-dedup[parquet]'") from error
        load_arrow()
        self.place = place if is_address(place) else os.path.abspath(os.path.expanduser(place))
        self.is_local = not is_address(place)
        try:
            self._fs, root = fsspec.core.url_to_fs(self.place)
        except (ImportError, ValueError) as error:
            raise UsageError(f"{place}: cannot be reached ({error})") from error
        self._root = root.rstrip("/")

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def make(self) -> None:
        """Make the folder, where there are folders."""
        if self.is_local:
            os.makedirs(self._root, exist_ok=True)

    def exists(self, name: str) -> bool:
        """Whether a file is there."""
        self._fs.invalidate_cache()
        return bool(self._fs.exists(self._path(name)))

    def read_bytes(self, name: str) -> bytes:
        """The content of a file."""
        with self._fs.open(self._path(name), "rb") as file:
            return bytes(file.read())

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all: an object appears when it is closed, a file when it is renamed."""
        path = self._path(name)
        if not self.is_local:
            with self._fs.open(path, "wb") as file:
                file.write(content)
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temporary = f"{path}.{uuid.uuid4().hex}.part"
        try:
            with open(temporary, "wb") as local:
                local.write(content)
            os.replace(temporary, path)
        except OSError as error:
            raise Unsafe(
                f"{path}: cannot be written ({error.strerror}); free some space, then scan again"
            ) from error
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)

    def write_table(self, name: str, table: pyarrow.Table) -> None:
        """Write a table as a Parquet file."""
        arrow = load_arrow()
        sink = arrow.BufferOutputStream()
        arrow.parquet.write_table(table, sink, compression="zstd", row_group_size=4096)
        self.write_bytes(name, sink.getvalue().to_pybytes())

    def read_table(self, name: str, columns: Sequence[str] | None = None) -> pyarrow.Table:
        """Read a Parquet file, or some of its columns."""
        arrow = load_arrow()
        try:
            with self._fs.open(self._path(name), "rb") as file:
                return arrow.parquet.ParquetFile(file).read(None if columns is None else list(columns))
        except (arrow.ArrowInvalid, KeyError) as error:
            raise CatalogueInDoubt(
                f"{self.place}/{name}: does not read back ({error}); remove it and scan again"
            ) from error

    def parts(self, folder: str) -> list[int]:
        """Numbers of the parts that a folder holds, ascending."""
        self._fs.invalidate_cache()
        try:
            names = self._fs.ls(self._path(folder), detail=False)
        except FileNotFoundError:
            return []
        ends = (os.path.basename(name) for name in names)
        return sorted(int(end[5:-8]) for end in ends if end.startswith("part-") and end.endswith(".parquet"))

    def tables(self, folder: str, columns: Sequence[str] | None = None) -> Iterator[pyarrow.Table]:
        """The parts of a folder, one after the other."""
        for number in self.parts(folder):
            yield self.read_table(part_name(folder, number), columns)

    def rows(self, folder: str, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """All rows of a folder."""
        for table in self.tables(folder, columns):
            yield from table.to_pylist()

    def remove(self, *folders: str) -> None:
        """Remove folders, or files, of the data set."""
        for folder in folders:
            with suppress(FileNotFoundError):
                self._fs.rm(self._path(folder), recursive=True)
        self._fs.invalidate_cache()

    # --- what it is ---------------------------------------------------------------------------------------------

    def note(self) -> dict[str, Any]:
        """What `dataset.json` says; empty if there is no data set yet.

        Raises
        ------
        UsageError
            If something else lies there, or it was made by a newer version.
        """
        try:
            text = self.read_bytes(NOTE)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise UsageError(f"{self.place}: cannot be read ({error})") from error
        try:
            found = json.loads(text)
            number = found["format"]
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{self.place}: its {NOTE} is not one of dedup's") from error
        if number != FORMAT:
            raise UsageError(
                f"{self.place}: a data set of format {number}; this version reads format {FORMAT}"
            )
        return dict(found)

    def put_note(self, note: Mapping[str, Any]) -> None:
        """Write `dataset.json`."""
        self.write_bytes(NOTE, json.dumps({"format": FORMAT, **note}, indent=1).encode())


def part_name(folder: str, number: int) -> str:
    """The file of a part."""
    return f"{folder}/part-{number:06d}.parquet"


# --- rows ---------------------------------------------------------------------------------------------------------


def file_schema() -> pyarrow.Schema:
    """A row of `listing`: the columns of the catalogue's table `files`, and what goes with the file."""
    arrow = load_arrow()
    whole = ("size_bytes", "mtime_ns", "ctime_ns", "device", "inode", "link_count")
    return arrow.schema(
        [("id", arrow.int64()), ("path", arrow.string()), ("path_bytes", arrow.binary())]
        + [(name, arrow.int64()) for name in whole]
        + [("units", arrow.list_(arrow.binary()))]
    )


def photo_schema() -> pyarrow.Schema:
    """A row of `files`: that of `listing` with the catalogue's `contents` and `greys`, or with a failure."""
    arrow = load_arrow()
    blobs = ("digest", "phash64", "phash256", "dhash64", "histogram", "colour", "trim", "grey")
    columns = [
        ("key", arrow.int64()),
        *((name, arrow.binary()) for name in blobs),
        ("texture", arrow.float64()),
        ("aspect", arrow.float64()),
        ("recipe", arrow.string()),
        ("info", arrow.string()),
        *((name, arrow.string()) for name in ("stage", "reason", "detail")),
    ]
    return arrow.schema([*file_schema(), *(arrow.field(name, kind) for name, kind in columns)])


def skipped_schema() -> pyarrow.Schema:
    """A row of `passed_over`."""
    arrow = load_arrow()
    words = ("stage", "reason", "detail")
    return arrow.schema(
        [("path", arrow.string()), ("path_bytes", arrow.binary())]
        + [(name, arrow.string()) for name in words]
        + [("size_bytes", arrow.int64()), ("mtime_ns", arrow.int64())]
    )


# fmt: off
LIGHT = (
    "id", "path", "path_bytes", "size_bytes", "mtime_ns", "ctime_ns", "device", "inode", "link_count", "units", "key",
    "digest", "phash64", "phash256", "dhash64", "histogram", "colour", "trim", "texture", "aspect", "recipe", "info",
    "stage", "reason", "detail",
)
# fmt: on
"""All columns of `files` but the greys."""


def path_row(path: str) -> dict[str, Any]:
    """A path as text, and as bytes beside it where it is not UTF-8."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        raw = os.fsencode(path)
        return {"path": raw.decode("utf-8", "replace"), "path_bytes": raw}
    return {"path": path, "path_bytes": None}


def path_of(row: Mapping[str, Any]) -> str:
    """The reverse of `path_row`."""
    return str(row["path"]) if row["path_bytes"] is None else os.fsdecode(row["path_bytes"])


def file_row(number: int, file: PhotoFile, units: Iterable[str]) -> dict[str, Any]:
    """A row of `listing`."""
    return {
        "id": number,
        **path_row(file.path),
        "size_bytes": file.size_bytes,
        "mtime_ns": file.mtime_ns,
        "ctime_ns": file.ctime_ns,
        "device": rows.signed(file.device),
        "inode": rows.signed(file.inode),
        "link_count": file.link_count,
        "units": [os.fsencode(unit) for unit in units],
    }


def file_of(row: Mapping[str, Any]) -> PhotoFile:
    """The reverse of `file_row`."""
    return PhotoFile(
        path_of(row),
        row["size_bytes"],
        row["mtime_ns"],
        row["ctime_ns"],
        rows.unsigned(row["device"]),
        rows.unsigned(row["inode"]),
        row["link_count"],
    )


def units_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The files that go with a file."""
    return tuple(os.fsdecode(unit) for unit in row["units"] or ())


def key_of(digest: bytes) -> int:
    """The id of a content within searches, as in `Catalogue.contents_by_digest`."""
    return int.from_bytes(digest[:8], "big") >> 1


def photo_columns(photo: Photo) -> dict[str, Any]:
    """The columns of `files` that a photo has beyond those of `listing`."""
    prints = photo.fingerprint
    return {
        "key": key_of(photo.digest),
        "digest": photo.digest,
        "phash64": prints.phash64,
        "phash256": prints.phash256,
        "dhash64": prints.dhash64,
        "histogram": prints.histogram,
        "colour": prints.colour,
        "trim": _pack_trim(prints.trim),
        "grey": prints.grey,
        "texture": prints.texture,
        "aspect": photo.info.width_px / max(1, photo.info.height_px),
        "recipe": prints.recipe,
        "info": rows.info_to_text(photo.info),
    }


def failure_columns(skipped: Skipped) -> dict[str, Any]:
    """The columns of `files` that a file without a picture has beyond those of `listing`."""
    return {"stage": skipped.stage, "reason": skipped.reason.value, "detail": skipped.detail}


def _pack_trim(trim: Sequence[float]) -> bytes:
    return struct.pack("<4d", *trim)


def photo_of(row: Mapping[str, Any]) -> Photo:
    """The photo of a row of `files`; without its grey if that was not read."""
    fingerprint = Fingerprint(
        recipe=row["recipe"],
        phash64=row["phash64"],
        phash256=row["phash256"],
        dhash64=row["dhash64"],
        histogram=row["histogram"],
        texture=row["texture"],
        grey=row.get("grey") or b"",
        colour=row["colour"],
        trim=struct.unpack("<4d", row["trim"]),
    )
    return Photo(row["id"], file_of(row), row["digest"], rows.info_from_text(row["info"]), fingerprint)


def skipped_row(skipped: Skipped) -> dict[str, Any]:
    """A row of `passed_over`."""
    return {
        **path_row(skipped.path),
        **failure_columns(skipped),
        "size_bytes": skipped.size_bytes,
        "mtime_ns": skipped.mtime_ns,
    }


def skipped_of(row: Mapping[str, Any]) -> Skipped:
    """What a row of `passed_over`, or one of `files` that has a reason, says."""
    return Skipped(
        path_of(row),
        row["stage"],
        Reason(row["reason"]),
        row["detail"] or "",
        row["size_bytes"],
        row["mtime_ns"],
    )


# --- pairs --------------------------------------------------------------------------------------------------------


def pair_schema() -> pyarrow.Schema:
    """A row of `candidates` and `pairs`: the catalogue's table `candidates`, by keys."""
    arrow = load_arrow()
    whole = ("left", "right", "source", "distance_bits", "orientation")
    return arrow.schema([*((name, arrow.int64()) for name in whole), ("windows", arrow.binary())])


def pairs_table(pairs: Iterable[CandidatePair]) -> pyarrow.Table:
    """Candidate pairs as a table."""
    arrow = load_arrow()
    names = pair_schema().names
    columns: list[tuple[Any, ...]] = list(zip(*map(rows.candidate_values, pairs), strict=True))
    return arrow.Table.from_pydict(
        dict(zip(names, columns or [()] * len(names), strict=True)), schema=pair_schema()
    )


def pair_of(row: Mapping[str, Any]) -> CandidatePair:
    """The candidate pair of a row."""
    return rows.candidate_from_row(
        (row["left"], row["right"], row["source"], row["distance_bits"], row["orientation"], row["windows"])
    )


# --- what came of a portion ---------------------------------------------------------------------------------------


def result_schemas() -> dict[str, pyarrow.Schema]:
    """Tables of a settled portion; `groups` is the last one to be written, and says that all are there.

    As in the catalogue, but that photos are named by the `id` of `files` and contents by their key.
    """
    arrow = load_arrow()
    text, whole = arrow.string(), arrow.int64()
    return {
        "matches": arrow.schema(
            [("low", whole), ("high", whole), ("turned", arrow.bool_()), ("relation", text), ("body", text)]
        ),
        "inspections": arrow.schema(
            [
                ("key", whole),
                ("damage", text),
                ("effective_scale", arrow.float64()),
                ("reason", text),
                ("detail", text),
            ]
        ),
        "spared": arrow.schema([("left", whole), ("right", whole), ("hub", whole)]),
        "late": skipped_schema(),
        "similar_pairs": arrow.schema([("left_file", whole), ("right_file", whole), ("body", text)]),
        "hubs": arrow.schema([("file", whole)]),
        "groups": arrow.schema([("relation", text), ("freed_bytes", whole), ("body", text)]),
    }
