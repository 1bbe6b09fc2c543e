"""Looking after: numbers about the library, the state of the installation, and the catalogue's content for others."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, TextIO

from dedup.catalogue import Catalogue
from dedup.errors import DedupError, MissingExtra, UsageError
from dedup.pipeline.places import catalogue_path
from dedup.pipeline.results import LAST_ROOTS, summary_from_plain
from dedup.records import DuplicateGroup, Photo, Plain
from dedup.settings import Settings

# --- stats --------------------------------------------------------------------------------------------------------


def library_stats(settings: Settings | None = None) -> Plain:
    """Numbers about what the catalogue knows, as JSON values.

    Returns
    -------
    dict
        `catalogue` (path, size_bytes), `files`, `photos`, `contents`, `photo_bytes`, `unreadable`, `measured_pairs`,
        `matches`, `formats` (photos by format, most frequent first), `groups` (number and freed bytes by strongest
        relation) and `last_scan` (its summary, or None).
    """
    path = catalogue_path(settings or Settings())
    with Catalogue.open(path, write=False) as catalogue:
        last = catalogue.last_scan()
        formats = Counter(catalogue.formats())
        return {
            "catalogue": {"path": path, "size_bytes": _size_on_disk(path)},
            **catalogue.counts(),
            "formats": dict(formats.most_common()),
            "groups": {
                relation: {"groups": count, "freed_bytes": freed}
                for relation, count, freed in catalogue.group_sums(LAST_ROOTS)
            },
            "last_scan": None if last is None else _summary(last.summary),
        }


def _summary(plain: dict[str, Any]) -> Plain:
    summary = summary_from_plain(plain)
    return {"roots": list(summary.roots), "finished": summary.finished, "seconds": summary.seconds}


def _size_on_disk(path: str) -> int:
    return sum(os.path.getsize(path + end) for end in ("", "-wal", "-shm") if os.path.exists(path + end))


# --- doctor -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: Literal["ok", "missing", "wrong"]
    """`missing` is something optional that is not installed; `wrong` needs a person."""
    words: str
    remedy: str = ""
    """What to do, empty if nothing."""


def examine_installation(settings: Settings | None = None) -> tuple[Finding, ...]:
    """Look at formats, extras, annoy, the catalogue, workers and places; changes nothing."""
    checks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _check_formats,
        _check_extras,
        _check_java,
        _check_annoy,
        _check_workers,
        _check_catalogue,
    )
    given = settings or Settings()
    return tuple(finding for check in checks for finding in check(given))


_PILLOW_FEATURES = (
    ("JPEG", "jpg"),
    ("PNG", "zlib"),
    ("TIFF", "libtiff"),
    ("WebP", "webp"),
    ("AVIF", "avif"),
    ("JPEG 2000", "jpg_2000"),
)


def _check_formats(_: Settings) -> Iterator[Finding]:
    from PIL import features

    able = ["GIF", "BMP", "PPM"]
    for name, feature in _PILLOW_FEATURES:
        if features.check(feature):
            able.append(name)
        else:
            remedy = "pip install --force-reinstall pillow"
            yield Finding(name, "wrong", f"this Pillow cannot read {name} files", remedy)
    if find_spec("pillow_heif") is not None:
        able.append("HEIC")
    else:
        yield Finding("HEIC", "wrong", "pillow_heif is not installed", "pip install 'pillow-heif>=1.7'")
    yield Finding("formats", "ok", ", ".join(sorted(able)))


def _check_extras(_: Settings) -> Iterator[Finding]:
    for module, extra, words in (
        ("rawpy", "raw", "camera RAW"),
        ("pillow_jxl", "jxl", "JPEG XL"),
        ("pyarrow", "parquet", "Parquet export"),
        ("pyspark", "spark", "Apache Spark"),
    ):
        if find_spec(module) is not None:
            yield Finding(words, "ok", f"{module} is installed")
        else:
            yield Finding(
                words, "missing", f"{module} is not installed", f"pip install 'photo-dedup[{extra}]'"
            )


_JAVAS = (17, 21)


def _check_java(_: Settings) -> Iterator[Finding]:
    """Java, where Spark is installed: what its own `release` file says, without starting it."""
    if find_spec("pyspark") is None:
        return
    program = shutil.which("java", path=os.path.join(os.environ.get("JAVA_HOME", ""), "bin")) or shutil.which(
        "java"
    )
    remedy = "install Java 17 or 21 (Debian: openjdk-17-jre-headless), or set JAVA_HOME"
    if program is None:
        yield Finding("Java", "missing", "there is none, and Apache Spark runs on it", remedy)
        return
    home = os.path.dirname(os.path.dirname(os.path.realpath(program)))
    version = _java_version(home)
    if version is None:
        yield Finding("Java", "ok", f"{program}, which does not say its version; Spark needs 17 or 21")
    elif version in _JAVAS:
        yield Finding("Java", "ok", f"{home} is Java {version}")
    else:
        yield Finding("Java", "wrong", f"{home} is Java {version}, which this Spark does not run on", remedy)


def _java_version(home: str) -> int | None:
    try:
        with open(os.path.join(home, "release"), encoding="utf-8", errors="replace") as file:
            found = re.search(r'^JAVA_VERSION="(?:1[.])?(\d+)', file.read(4096), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None


def _check_annoy(_: Settings) -> Iterator[Finding]:
    from dedup.index.neighbours import self_test

    trouble = self_test()
    if trouble:
        yield Finding(
            "annoy",
            "wrong",
            f"{trouble}; searches are exact and slower",
            "pip install --force --no-cache-dir annoy",
        )
    else:
        yield Finding("annoy", "ok", "finds what was planted in a small index")


def _check_workers(settings: Settings) -> Iterator[Finding]:
    from dedup.engine import Failure, Limits, open_engine

    with open_engine(settings.jobs, Limits(settings.memory_limit_bytes, settings.decode_timeout_s)) as engine:
        answers = [answer for _, answer in engine.map(abs, range(4))]
    failed = [answer for answer in answers if isinstance(answer, Failure)]
    if failed:
        yield Finding("workers", "wrong", f"a worker process failed: {failed[0].detail}", "try --jobs 1")
    else:
        yield Finding("workers", "ok", "worker processes start, answer and end")


def _check_catalogue(settings: Settings) -> Iterator[Finding]:
    path = catalogue_path(settings)
    if not os.path.exists(path):
        yield Finding("catalogue", "ok", f"{path}: none yet; the first scan makes it")
        return
    try:
        with Catalogue.open(path, write=False) as catalogue:
            catalogue.check(thorough=True)
            counts = catalogue.counts()
    except DedupError as error:
        yield Finding("catalogue", "wrong", str(error), "see there")
    else:
        yield Finding("catalogue", "ok", f"{path}: sound, {counts['photos']:,} photos")


# --- export -------------------------------------------------------------------------------------------------------

EXPORT_FORMS = ("csv", "jsonl", "parquet")

_COLUMNS = (
    "path", "size_bytes", "modified_ns", "sha256", "format", "width_px", "height_px", "bits", "frames", "quality",
    "capture_time", "gps", "camera", "phash64", "phash256", "dhash64", "texture", "group", "role", "relation",
)  # fmt: skip


def export_photos(settings: Settings | None, form: str, out: TextIO | str, dataset: str = "") -> int:
    """Write every photo of the catalogue with its fingerprint, one row each, by path.

    Parameters
    ----------
    dataset
        A finished data set that is read in the place of the catalogue; its photos come in the order of its files.
    form
        `csv`, `jsonl` or `parquet`.
    out
        An open text file; for `parquet`, the path of the file to write.

    Returns
    -------
    int
        Number of rows.

    Raises
    ------
    MissingExtra
        For `parquet` without pyarrow.
    UsageError
        For another form, or if there was no scan yet.
    """
    if form not in EXPORT_FORMS:
        raise UsageError(f"export to {form}? It can be {', '.join(EXPORT_FORMS)}")
    if dataset:
        return _export(_dataset_rows(dataset), form, out)
    with Catalogue.open(catalogue_path(settings or Settings()), write=False) as catalogue:
        return _export(_rows(catalogue), form, out)


def _export(rows: Iterator[Plain], form: str, out: TextIO | str) -> int:
    if form == "parquet":
        if not isinstance(out, str):
            raise UsageError("Parquet is written to a file; give its name with -o FILE")
        return _write_parquet(rows, out)
    if isinstance(out, str):
        with open(out, "w", encoding="utf-8", newline="") as file:
            return _write_text(rows, form, file)
    return _write_text(rows, form, out)


def _dataset_rows(place: str) -> Iterator[Plain]:
    from dedup.pipeline.dataset import LIGHT, photo_of
    from dedup.pipeline.found import dataset_groups, open_finished

    dataset = open_finished(place)
    where = _places(dataset_groups(place))
    for row in dataset.rows("files", LIGHT):
        if row["key"] is not None:
            photo = photo_of(row)
            values = (*_values(photo), *where.get(photo.id, ("", "", "")))
            yield dict(zip(_COLUMNS, values, strict=True))


def _places(groups: Iterable[DuplicateGroup]) -> dict[int, tuple[str, str, str]]:
    """By photo: group, role and relation."""
    place: dict[int, tuple[str, str, str]] = {}
    for group in groups:
        place[group.keeper.id] = (group.id, "keeper", "")
        for member in group.members:
            place[member.photo.id] = (group.id, "member", member.match.relation)
    return place


def _rows(catalogue: Catalogue) -> Iterator[Plain]:
    place = _places(catalogue.groups(LAST_ROOTS))
    for photo in catalogue.all_photos():
        yield dict(zip(_COLUMNS, (*_values(photo), *place.get(photo.id, ("", "", ""))), strict=True))


def _values(photo: Photo) -> tuple[Any, ...]:
    info, prints = photo.info, photo.fingerprint
    path = photo.file.path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return (
        path, photo.file.size_bytes, photo.file.mtime_ns, photo.digest.hex(), info.format, info.width_px,
        info.height_px, info.bits, info.frames, info.quality, info.metadata.capture_time, info.metadata.gps,
        info.metadata.camera, prints.phash64[:8].hex(), prints.phash256[:32].hex(), prints.dhash64.hex(),
        round(prints.texture, 3),
    )  # fmt: skip


def _write_text(rows: Iterator[Plain], form: str, out: TextIO) -> int:
    count = 0
    if form == "jsonl":
        for row in rows:
            out.write(json.dumps(row) + "\n")
            count += 1
        return count
    writer = csv.DictWriter(out, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        # A spreadsheet takes a name that begins so for a formula.
        writer.writerow(
            {k: "'" + v if isinstance(v, str) and v[:1] in "=+-@\t\r" and v else v for k, v in row.items()}
        )
        count += 1
    return count


def _write_parquet(rows: Iterator[Plain], path: str) -> int:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("Parquet needs pyarrow: pip install 'photo-dedup[parquet]'") from error
    whole = ("size_bytes", "modified_ns", "width_px", "height_px", "bits", "frames", "quality")
    kinds = {name: pyarrow.int64() for name in whole} | {"texture": pyarrow.float64()}
    schema = pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in _COLUMNS])
    count = 0
    temporary = f"{path}.{os.getpid()}.part"
    try:
        with parquet.ParquetWriter(temporary, schema) as writer:
            batch: list[Plain] = []
            for row in rows:
                batch.append(row)
                if len(batch) == 10_000:
                    writer.write_table(pyarrow.Table.from_pylist(batch, schema))
                    count, batch = count + len(batch), []
            writer.write_table(pyarrow.Table.from_pylist(batch, schema))
            count += len(batch)
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
    return count
