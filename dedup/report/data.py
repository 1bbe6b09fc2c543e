"""Reports for programs: JSON that can be read back, CSV, and the format of fdupes.

Promises: `to_json(from_json(data)) == data` for all that `to_json` wrote; a name that is not UTF-8 keeps its bytes
(`path_bytes`, base64, in JSON; as they are elsewhere). What a report does not hold (hashes, features, device
numbers) is empty in what is read back.

Figures are rounded to what they are good for, which also keeps reports equal from machine to machine.
"""

from __future__ import annotations

import base64
import csv
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from dedup.errors import UsageError
from dedup.records import (
    AlsoLike,
    Change,
    DuplicateGroup,
    Figures,
    Fingerprint,
    IndexQuality,
    Match,
    Member,
    Metadata,
    Photo,
    PhotoFile,
    PictureInfo,
    Plain,
    Reason,
    Relation,
    Report,
    ScanSummary,
    SimilarPair,
    Skipped,
    Source,
)

SCHEMA = 1
"""Version of the JSON. It grows when a key is renamed, removed or changes its meaning, not when one is added."""

_NO_FINGERPRINT = Fingerprint("", b"", b"", b"", b"", 0.0, b"", b"", (0.0, 0.0, 1.0, 1.0))

CSV_COLUMNS = (
    "group", "role", "relation", "path", "kept", "reason", "size_bytes", "width_px", "height_px", "format",
    "rms_levels", "worst_tile_levels", "correlation", "phash64_bits", "size_ratio", "copy_of", "hard_link", "digest",
)  # fmt: skip


# Report to JSON.


def to_json(report: Report) -> Plain:
    """The whole report as a JSON object of schema 1.

    Returns
    -------
    dict
        Plain values only; ready for `json.dumps`. Paths are absolute text; `path_bytes` (base64) stands beside one
        that is not UTF-8. Groups in order of the keepers' paths.
    """
    summary = report.summary
    return {
        "schema": SCHEMA,
        "version": summary.version,
        "recipe": summary.recipe,
        "finished": summary.finished,
        "roots": [_text(root) for root in summary.roots],
        "summary": {
            "files": summary.files,
            "photos": summary.photos,
            "read": summary.read,
            "candidates": summary.candidates,
            "confirmed": summary.confirmed,
            "seconds": round(summary.seconds, 3),
            "groups": len(report.groups),
            "members": _count_relations(report),
            "freed_bytes": sum(group.freed_bytes for group in report.groups),
            "skipped": len(report.skipped),
            "index": {**asdict(summary.index), "recall": round(summary.index.recall, 4)},
        },
        "groups": [_group(group) for group in report.groups],
        "similar": [_similar(pair) for pair in report.similar],
        "hubs": [_path(hub) for hub in report.hubs],
        "skipped": [_skipped(skipped) for skipped in report.skipped],
    }


def _count_relations(report: Report) -> dict[str, int]:
    counts = {relation.value: 0 for relation in Relation if relation is not Relation.SIMILAR}
    for group in report.groups:
        for member in group.members:
            counts[member.match.relation] += 1
    return counts


def _text(path: str) -> str:
    """A path as text that every JSON reader takes: bytes that are not UTF-8 become U+FFFD."""
    return os.fsencode(path).decode("utf-8", "replace")


def _path(path: str, key: str = "path") -> Plain:
    text = _text(path)
    plain = {key: text}
    if os.fsdecode(text.encode()) != path:
        plain[f"{key}_bytes"] = base64.b64encode(os.fsencode(path)).decode()
    return plain


def _photo(photo: Photo) -> Plain:
    info = photo.info
    plain: Plain = {
        **_path(photo.file.path),
        "size_bytes": photo.file.size_bytes,
        "mtime_ns": photo.file.mtime_ns,
        "link_count": photo.file.link_count,
        "width_px": info.width_px,
        "height_px": info.height_px,
        "format": info.format,
        "mode": info.mode,
        "bits": info.bits,
        "frames": info.frames,
        "has_alpha": info.has_alpha,
        "orientation": info.orientation,
        "quality": info.quality,
        "lossless": info.lossless,
        "icc": info.icc_name,
        "icc_digest": info.icc_digest,
        "damage": info.damage,
        "metadata": {name: value for name, value in asdict(info.metadata).items() if value},
        "digest": photo.digest.hex(),
    }
    if "keywords" in plain["metadata"]:
        plain["metadata"]["keywords"] = list(plain["metadata"]["keywords"])
    return plain


def _figures(match: Match) -> Plain:
    figures = match.figures
    return {
        "relation": match.relation.value,
        "reason": match.sentence,
        "rms_levels": round(figures.rms_levels, 3),
        "worst_tile_levels": round(figures.worst_tile_levels, 2),
        "worst_tile_box": _box(figures.worst_tile_box),
        "correlation": round(figures.correlation, 4),
        "phash64_bits": figures.phash64_bits,
        "phash256_bits": figures.phash256_bits,
        "size_ratio": round(figures.size_ratio, 4),
        "turned": figures.orientation,
        "alignment": [round(value, 6) + 0.0 for value in figures.alignment],
        "compared_px": list(figures.compared_px),
        "changes": [
            {
                "kind": change.kind,
                "words": change.words,
                "amount": round(change.amount, 4),
                "box": _box(change.box),
            }
            for change in match.changes
        ],
        "found_by": match.source.value,
        "direction": match.direction,
    }


def _box(box: tuple[float, float, float, float] | None) -> list[float] | None:
    return None if box is None else [round(value, 4) + 0.0 for value in box]


def _group(group: DuplicateGroup) -> Plain:
    paths = {group.keeper.id: group.keeper.file.path}
    paths.update((member.photo.id, member.photo.file.path) for member in group.members)
    return {
        "id": group.id,
        "keeper": {
            **_photo(group.keeper),
            "reasons": list(group.keeper_reasons),
            "unit_files": [_path(path) for path in group.keeper_unit_files],
        },
        "members": [_member(member, paths) for member in group.members],
        "also_like": [
            {**_path(row.path), "relation": row.relation.value, "reason": row.sentence, "why": row.why}
            for row in group.also_like
        ],
        "freed_bytes": group.freed_bytes,
    }


def _member(member: Member, paths: Mapping[int, str]) -> Plain:
    plain: Plain = {
        **_photo(member.photo),
        **_figures(member.match),
        "unit_files": [_path(path) for path in member.unit_files],
        "hard_link": member.also_link_of,
        "copy_of": None,
        "copy_relation": None,
    }
    if member.copy_of is not None and member.copy_match is not None:
        plain.update(_path(paths[member.copy_of], "copy_of"))
        plain["copy_relation"] = member.copy_match.relation.value
        plain["copy_match"] = _figures(member.copy_match)
    return plain


def _similar(pair: SimilarPair) -> Plain:
    return {"left": _photo(pair.left), "right": _photo(pair.right), **_figures(pair.match)}


def _skipped(skipped: Skipped) -> Plain:
    return {
        **_path(skipped.path),
        "stage": skipped.stage,
        "reason": skipped.reason.value,
        "detail": skipped.detail,
        "size_bytes": skipped.size_bytes,
        "mtime_ns": skipped.mtime_ns,
    }


# JSON to report.


def from_json(data: Mapping[str, Any]) -> Report:
    """Read a report back.

    Returns
    -------
    Report
        Photos have ids of their own (by path, from 1), and no fingerprints.

    Raises
    ------
    UsageError
        If it is no report of `dedup`, or of a schema that this version does not know.
    """
    if data.get("schema") != SCHEMA:
        raise UsageError(f"this is no report of schema {SCHEMA}: it says schema {data.get('schema')!r}")
    try:
        return _Reader().report(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"this report cannot be read: {type(error).__name__} {error}") from error


class _Reader:
    def __init__(self) -> None:
        self._ids: dict[str, int] = {}

    def report(self, data: Mapping[str, Any]) -> Report:
        summary = data["summary"]
        index = {name: value for name, value in summary["index"].items() if name != "recall"}
        return Report(
            summary=ScanSummary(
                roots=tuple(data["roots"]),
                version=data["version"],
                recipe=data["recipe"],
                finished=data["finished"],
                index=IndexQuality(**index),
                **{
                    name: summary[name]
                    for name in ("files", "photos", "read", "candidates", "confirmed", "seconds")
                },
            ),
            groups=tuple(self._group(group) for group in data["groups"]),
            similar=tuple(self._pair(pair) for pair in data["similar"]),
            skipped=tuple(
                Skipped(
                    _path_of(row),
                    row["stage"],
                    Reason(row["reason"]),
                    row["detail"],
                    row["size_bytes"],
                    row["mtime_ns"],
                )
                for row in data["skipped"]
            ),
            hubs=tuple(_path_of(row) for row in data["hubs"]),
        )

    def _id(self, path: str) -> int:
        return self._ids.setdefault(path, len(self._ids) + 1)

    def _photo(self, row: Mapping[str, Any]) -> Photo:
        path = _path_of(row)
        metadata = dict(row["metadata"])
        if "keywords" in metadata:
            metadata["keywords"] = tuple(metadata["keywords"])
        plain = ("format", "width_px", "height_px", "mode", "bits", "frames", "has_alpha", "orientation")
        return Photo(
            id=self._id(path),
            file=PhotoFile(path, row["size_bytes"], row["mtime_ns"], 0, 0, 0, row["link_count"]),
            digest=bytes.fromhex(row["digest"]),
            info=PictureInfo(
                **{name: row[name] for name in (*plain, "icc_digest", "quality", "lossless", "damage")},
                icc_name=row["icc"],
                metadata=Metadata(**metadata),
            ),
            fingerprint=_NO_FINGERPRINT,
        )

    def _match(self, row: Mapping[str, Any], left: int, right: int) -> Match:
        return Match(
            left=left,
            right=right,
            relation=Relation(row["relation"]),
            sentence=row["reason"],
            changes=tuple(
                Change(change["kind"], change["words"], change["amount"], _tuple(change["box"]))
                for change in row["changes"]
            ),
            figures=Figures(
                phash64_bits=row["phash64_bits"],
                phash256_bits=row["phash256_bits"],
                rms_levels=row["rms_levels"],
                worst_tile_levels=row["worst_tile_levels"],
                worst_tile_box=_tuple(row["worst_tile_box"]),
                correlation=row["correlation"],
                size_ratio=row["size_ratio"],
                orientation=row["turned"],
                alignment=_tuple(row["alignment"]),
                compared_px=_tuple(row["compared_px"]),
            ),
            source=Source(row["found_by"]),
            direction=row["direction"],
        )

    def _group(self, row: Mapping[str, Any]) -> DuplicateGroup:
        keeper = self._photo(row["keeper"])
        members = []
        for member in row["members"]:
            photo = self._photo(member)
            head = None if member["copy_of"] is None else self._id(_path_of(member, "copy_of"))
            members.append(
                Member(
                    photo=photo,
                    match=self._match(member, keeper.id, photo.id),
                    unit_files=tuple(_path_of(path) for path in member["unit_files"]),
                    copy_of=head,
                    copy_match=None if head is None else self._match(member["copy_match"], head, photo.id),
                    also_link_of=member["hard_link"],
                )
            )
        return DuplicateGroup(
            id=row["id"],
            keeper=keeper,
            keeper_reasons=tuple(row["keeper"]["reasons"]),
            keeper_unit_files=tuple(_path_of(path) for path in row["keeper"]["unit_files"]),
            members=tuple(members),
            also_like=tuple(
                AlsoLike(
                    self._id(_path_of(other)),
                    _path_of(other),
                    Relation(other["relation"]),
                    other["reason"],
                    other["why"],
                )
                for other in row["also_like"]
            ),
            freed_bytes=row["freed_bytes"],
        )

    def _pair(self, row: Mapping[str, Any]) -> SimilarPair:
        left, right = self._photo(row["left"]), self._photo(row["right"])
        return SimilarPair(left, right, self._match(row, left.id, right.id))


def _path_of(row: Mapping[str, Any], key: str = "path") -> str:
    exact = row.get(f"{key}_bytes")
    return os.fsdecode(base64.b64decode(exact, validate=True)) if exact is not None else str(row[key])


def _tuple(values: Iterable[Any] | None) -> Any:
    return None if values is None else tuple(values)


# CSV and fdupes.


def to_csv(report: Report) -> str:
    """One row per photo of a group, the kept one first; `CSV_COLUMNS` in the first line.

    Text for a spreadsheet: a cell that a spreadsheet would take for a formula begins with an apostrophe. Names that
    are not UTF-8 hold surrogate escapes; encode with `surrogateescape`.
    """
    out = io.StringIO()
    # Without quotes around all text a name with a carriage return would break its row.
    writer = csv.DictWriter(out, CSV_COLUMNS, restval="", lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writeheader()
    for group in report.groups:
        paths = {member.photo.id: member.photo.file.path for member in group.members}
        kept = group.keeper.file.path
        rows = [
            {"role": "keep", "kept": kept, "reason": "; ".join(group.keeper_reasons), **_cells(group.keeper)}
        ]
        for member in group.members:
            match, figures = member.match, member.match.figures
            rows.append(
                {
                    "role": "duplicate" if match.relation.is_safe else "look",
                    "relation": match.relation.value,
                    "kept": kept,
                    "reason": match.sentence,
                    **_cells(member.photo),
                    "rms_levels": f"{figures.rms_levels:.3f}",
                    "worst_tile_levels": f"{figures.worst_tile_levels:.2f}",
                    "correlation": f"{figures.correlation:.4f}",
                    "phash64_bits": figures.phash64_bits,
                    "size_ratio": f"{figures.size_ratio:.4f}",
                    "copy_of": paths.get(member.copy_of, "") if member.copy_of is not None else "",
                    "hard_link": "yes" if member.also_link_of else "no",
                }
            )
        writer.writerows({"group": group.id, **{k: _no_formula(v) for k, v in row.items()}} for row in rows)
    return out.getvalue()


def _cells(photo: Photo) -> dict[str, Any]:
    return {
        "path": photo.file.path,
        "size_bytes": photo.file.size_bytes,
        "width_px": photo.info.width_px,
        "height_px": photo.info.height_px,
        "format": photo.info.format,
        "digest": photo.digest.hex(),
    }


def _no_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "@", "\t", "\r")) else value


def to_fdupes(report: Report, zero: bool = False) -> str:
    """Groups as fdupes prints them: a name a line, the kept one first, an empty line after each group.

    Only what may be removed in bulk (same bytes, pixels or picture): scripts that read this format keep the first
    name and remove the rest.

    Parameters
    ----------
    zero
        End with NUL instead of a newline, for names that hold newlines: an empty name ends a group.
    """
    end = "\0" if zero else "\n"
    out = []
    for group in report.groups:
        copies = [member.photo.file.path for member in group.members if member.match.relation.is_safe]
        if copies:
            out += [group.keeper.file.path, *copies, ""]
    return "".join(name + end for name in out)
