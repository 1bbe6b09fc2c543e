"""A finished data set as a report: groups, what was not examined, and the numbers of the scan that made it.

Promises: reads what `report` needs and no more (no grey, no photo that is in no group); needs no Spark. Does not:
look at a photo.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection, Iterator

from dedup.catalogue import rows
from dedup.errors import CatalogueInDoubt, UsageError
from dedup.pipeline.dataset import (
    LIGHT,
    DataSet,
    load_arrow,
    part_name,
    photo_of,
    skipped_of,
)
from dedup.pipeline.results import count_reasons, summary_from_plain, tally_from_plain
from dedup.records import (
    DuplicateGroup,
    Photo,
    Reason,
    Relation,
    Report,
    ScanOutcome,
    SimilarPair,
    Skipped,
    Tally,
)


def load_dataset_report(place: str) -> Report:
    """What a finished data set holds, as `load_report` gives what a catalogue holds.

    Parameters
    ----------
    place
        A folder, or an fsspec address.

    Raises
    ------
    UsageError
        If there is no data set, or it is not finished.
    """
    dataset = open_finished(place)
    note = dataset.note()
    bodies = [json.loads(row["body"]) for row in dataset.rows("groups", ("body",))]
    alike = list(dataset.rows("similar_pairs")) if dataset.parts("similar_pairs") else []
    hubs = {row["file"] for row in dataset.rows("hubs")}
    wanted = {file for body in bodies for file in rows.files_of_group(body)} | hubs
    wanted.update(row[name] for row in alike for name in ("left_file", "right_file"))
    photos = read_photos(dataset, wanted)
    try:
        groups = [rows.group_from_body(body, photos) for body in bodies]
        similar = [
            SimilarPair(
                photos[row["left_file"]],
                photos[row["right_file"]],
                rows.match_from_text(row["left_file"], row["right_file"], Relation.SIMILAR, row["body"]),
            )
            for row in alike
        ]
    except (KeyError, ValueError, TypeError) as error:
        raise CatalogueInDoubt(
            f"{place}: its groups do not read back ({error}); scan into a new folder"
        ) from error
    return Report(
        summary=summary_from_plain(note["summary"]),
        groups=tuple(sorted(groups, key=lambda group: group.keeper.file.path_bytes)),
        similar=tuple(sorted(similar, key=lambda p: (p.left.file.path_bytes, p.right.file.path_bytes))),
        skipped=tuple(sorted(read_skipped(dataset), key=lambda s: (os.fsencode(s.path), s.stage))),
        hubs=tuple(sorted((photos[hub].file.path for hub in hubs), key=os.fsencode)),
    )


def dataset_groups(place: str) -> Iterator[DuplicateGroup]:
    """The groups of a finished data set, in the order of their keepers' paths; see `load_dataset_report`."""
    yield from load_dataset_report(place).groups


def load_dataset_outcome(place: str) -> ScanOutcome:
    """The numbers of a finished data set."""
    note = open_finished(place).note()
    return ScanOutcome(summary_from_plain(note["summary"]), tally_from_plain(note["tally"]))


def open_finished(place: str) -> DataSet:
    """The data set at a place.

    Raises
    ------
    UsageError
        If there is none, or it is not finished.
    """
    dataset = DataSet(place)
    note = dataset.note()
    if not note:
        raise UsageError(f"{place}: there is no data set of dedup here")
    if not note.get("finished"):
        raise UsageError(
            f"{place}: its scan did not come to its end; run the same `dedup scan --engine spark` again"
        )
    return dataset


def read_photos(dataset: DataSet, ids: Collection[int]) -> dict[int, Photo]:
    """Photos of the data set by their `id`, light."""
    import pyarrow.compute as compute

    arrow = load_arrow()
    wanted = arrow.array(sorted(ids), arrow.int64())
    found: dict[int, Photo] = {}
    if not ids:
        return found
    for number in dataset.parts("files"):
        name = part_name("files", number)
        held = dataset.read_table(name, ("id",))["id"]
        mask = compute.is_in(held, value_set=wanted)
        if compute.any(mask).as_py():
            for row in dataset.read_table(name, LIGHT).filter(mask).to_pylist():
                found[row["id"]] = photo_of(row)
    return found


def read_skipped(dataset: DataSet) -> Iterator[Skipped]:
    """Everything that was not examined, in no order."""
    import pyarrow.compute as compute

    for row in dataset.rows("passed_over"):
        yield skipped_of(row)
    columns = ("path", "path_bytes", "size_bytes", "mtime_ns", "stage", "reason", "detail")
    for table in dataset.tables("files", columns):
        for row in table.filter(compute.is_valid(table["reason"])).to_pylist():
            yield skipped_of(row)
    for row in dataset.rows("late"):
        yield skipped_of(row)
    yield from _unconfirmable(dataset)


def _unconfirmable(dataset: DataSet) -> Iterator[Skipped]:
    """Photos that could not be decoded in full, by their first file each."""
    import pyarrow.compute as compute

    why: dict[int, tuple[str, str]] = {}
    for table in dataset.tables("inspections", ("key", "reason", "detail")):
        for row in table.filter(compute.not_equal(table["reason"], "")).to_pylist():
            why[row["key"]] = (row["reason"], row["detail"])
    if not why:
        return
    first: dict[int, Photo] = {}
    wanted = load_arrow().array(sorted(why), load_arrow().int64())
    for table in dataset.tables("files", LIGHT):
        for row in table.filter(compute.is_in(table["key"], value_set=wanted)).to_pylist():
            photo, key = photo_of(row), row["key"]
            if key not in first or photo.file.path_bytes < first[key].file.path_bytes:
                first[key] = photo
    for key, photo in first.items():
        reason, detail = why[key]
        file = photo.file
        yield Skipped(file.path, "confirm", Reason(reason), detail, file.size_bytes, file.mtime_ns)


def make_dataset_tally(dataset: DataSet) -> Tally:
    """What the tables of a data set add up to."""
    count: Counter[str] = Counter()
    freed: Counter[str] = Counter()
    for table in dataset.tables("groups", ("relation", "freed_bytes")):
        for row in table.to_pylist():
            count[row["relation"]] += 1
            freed[row["relation"]] += row["freed_bytes"]
    return Tally(
        groups=tuple((r, count[r], freed[r]) for r in Relation if count[r]),
        similar=sum(table.num_rows for table in dataset.tables("similar_pairs", ("left_file",))),
        hubs=sum(table.num_rows for table in dataset.tables("hubs")),
        not_examined=count_reasons(read_skipped(dataset)),
    )
