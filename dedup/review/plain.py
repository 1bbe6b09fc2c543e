"""Groups as JSON for the page: cards of the list, whole sheets, the table of metadata.

Promises: no path is asked for or opened by what stands here; the page names photos by random ids that hold for one
start of the server. Text is text: the page writes it as such.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from dedup.pipeline import Sheet, photos_of
from dedup.records import Change, DuplicateGroup, Member, Photo, Relation
from dedup.report.text import printable, size_words

CARD_PHOTOS = 5
"""Thumbnails of a card in the list."""
MOST_PHOTOS = 60
"""Photos of a group that are shown; whoever has more of one picture decides about them by a rule."""


class Ids:
    """Random names for numbers of the catalogue; they hold as long as the server runs."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, int], str] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        self._guard = threading.Lock()

    def name(self, kind: str, number: int) -> str:
        """The name of a number; made at the first time."""
        with self._guard:
            name = self._names.get((kind, number))
            if name is None:
                name = self._names[kind, number] = secrets.token_urlsafe(9)
                self._numbers[kind, name] = number
            return name

    def number(self, kind: str, name: str) -> int | None:
        """The number behind a name, if it was given out."""
        return self._numbers.get((kind, name))


def card(sheet: Sheet, ids: Ids, root_of: Callable[[str], str]) -> dict[str, Any]:
    """A group in the list."""
    group = sheet.group
    photos = photos_of(group)
    relations = {member.match.relation for member in group.members}
    weakest = max(group.members, key=lambda member: list(Relation).index(member.match.relation))
    folders = list(dict.fromkeys(_folder(photo, root_of) for photo in photos))
    return {
        "id": ids.name("group", sheet.number),
        "name": _name(sheet.keeper),
        "relations": [relation.value for relation in Relation if relation in relations],
        "sentence": printable(weakest.match.sentence),
        "photos": [
            {"id": ids.name("file", photo.id), "name": _name(photo), "damaged": bool(photo.info.damage)}
            for photo in photos[:CARD_PHOTOS]
        ],
        "count": len(photos),
        "freed": group.freed_bytes,
        "folders": folders[:3],
        "more_folders": max(0, len(folders) - 3),
        "state": sheet.state.value,
        "said": _said(sheet),
    }


def _said(sheet: Sheet) -> str:
    if sheet.judgement.is_empty:
        return ""
    marks = list(sheet.judgement.marks.values())
    words = (
        {
            "goes": "may go",
            "stays": "stays as well" if marks.count(marks[0]) == 1 else "stay as well",
            "apart": "no duplicate",
            "later": "later",
        }
        if marks
        else {}
    )
    parts = [f"keep {_name(sheet.keeper)}"] if sheet.judgement.keep is not None else []
    for mark, said in words.items():
        if count := sum(found.value == mark for found in marks):
            parts.append(said if mark == "later" else f"{count} {said}")
    return "; ".join(parts)


def sheet_to_plain(sheet: Sheet, ids: Ids, root_of: Callable[[str], str]) -> dict[str, Any]:
    """A whole group."""
    group = sheet.group
    photos = photos_of(group)[:MOST_PHOTOS]
    members = {member.photo.id: member for member in group.members}
    return {
        "id": ids.name("group", sheet.number),
        "mark": sheet.mark,
        "version": sheet.version,
        "state": sheet.state.value,
        "keep": None if sheet.judgement.keep is None else ids.name("file", sheet.judgement.keep),
        "keeper": ids.name("file", sheet.keeper.id),
        "proposed": ids.name("file", group.keeper.id),
        "reasons": [printable(reason) for reason in group.keeper_reasons],
        "marks": {ids.name("file", number): mark.value for number, mark in sheet.judgement.marks.items()},
        "photos": [_photo(photo, members.get(photo.id), sheet, ids, root_of) for photo in photos],
        "hidden": len(group.members) + 1 - len(photos),
        "freed": group.freed_bytes,
        "also": [
            {"name": printable(row.path), "sentence": printable(row.sentence), "why": printable(row.why)}
            for row in group.also_like
        ],
        "table": metadata_table(photos, sheet.damage),
    }


def _photo(
    photo: Photo, member: Member | None, sheet: Sheet, ids: Ids, root_of: Callable[[str], str]
) -> dict[str, Any]:
    damage = photo.info.damage or sheet.damage.get(photo.digest, "")
    units = sheet.group.keeper_unit_files if member is None else member.unit_files
    plain: dict[str, Any] = {
        "id": ids.name("file", photo.id),
        "name": _name(photo),
        "folder": _folder(photo, root_of),
        "path": printable(photo.file.path),
        "width": photo.info.width_px,
        "height": photo.info.height_px,
        "dims": f"{photo.info.width_px} x {photo.info.height_px} {photo.info.format}",
        "size": size_words(photo.file.size_bytes),
        "taken": printable(photo.info.metadata.capture_time[:16].replace("T", " ")),
        "damage": printable(damage),
        "content": ids.name("content", int.from_bytes(photo.digest[:7], "big")),
        "units": [printable(os.path.basename(path)) for path in units],
        "relation": "",
    }
    if member is not None:
        plain.update(_member(member, sheet.group))
    return plain


def _member(member: Member, group: DuplicateGroup) -> dict[str, Any]:
    match, figures = member.match, member.match.figures
    names = {other.photo.id: _name(other.photo) for other in group.members}
    copy = ""
    if member.copy_of is not None and member.copy_match is not None:
        relation = member.copy_match.relation.value.replace("-", " ")
        copy = f"{relation} as {names.get(member.copy_of, 'another version')}"
    return {
        "relation": match.relation.value,
        "sentence": printable(match.sentence),
        "copy": copy,
        "link": member.also_link_of,
        "differs": match.relation not in (Relation.SAME_BYTES, Relation.SAME_PIXELS),
        "places": [list(box) for box in _places(match.changes)],
        "worst": list(figures.worst_tile_box) if figures.worst_tile_box else None,
        "figures": []
        if match.relation is Relation.SAME_BYTES
        else [
            ["difference over all, of 255", f"{max(0.0, figures.rms_levels):.1f}"],
            ["in the worst place, of 255", f"{max(0.0, figures.worst_tile_levels) / 3**0.5:.1f}"],
            ["structure in common", f"{100 * figures.correlation:.1f} %"],
            ["hash distance, of 64 bits", str(figures.phash64_bits)],
        ],
    }


def _places(changes: Sequence[Change]) -> list[tuple[float, float, float, float]]:
    return [change.box for change in changes if change.box and change.kind in ("overlay", "retouched")]


def _folder(photo: Photo, root_of: Callable[[str], str]) -> str:
    """Its folder, from the name of the scanned folder on."""
    above = os.path.dirname(root_of(photo.file.path)).rstrip("/") + "/"
    return printable(os.path.dirname(photo.file.path).removeprefix(above))


def _name(photo: Photo) -> str:
    return printable(os.path.basename(photo.file.path))


# ---- metadata ------------------------------------------------------------------------------------------------------


def metadata_table(photos: Sequence[Photo], damage: dict[bytes, str] | Any) -> list[dict[str, Any]]:
    """Rows of the table: what the photos say, where they differ, and which says more.

    A JPEG's quality is never flagged as better: a copy that was saved again at 95 is worse than its original at 90.
    """
    rows = []
    for name, text, worth in _ROWS:
        cells = [printable(text(photo)) for photo in photos]
        if name == "Soundness":
            cells = [
                f"damaged: {printable(found)}"
                if (found := photo.info.damage or damage.get(photo.digest, ""))
                else "sound"
                for photo in photos
            ]
        if not any(cells):
            continue
        differs = len(set(cells)) > 1
        better: list[int] = []
        if differs and worth is not None:
            worths = [worth(photo) for photo in photos]
            if name == "Soundness":
                worths = [float(cell == "sound") for cell in cells]
            if max(worths) > min(worths):
                better = [at for at, value in enumerate(worths) if value == max(worths)]
        rows.append({"name": name, "cells": cells, "differs": differs, "better": better})
    return rows


def _file_date(photo: Photo) -> str:
    try:
        return datetime.fromtimestamp(photo.file.mtime_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, OSError, ValueError):
        return "unknown"


def _says(text: Callable[[Photo], str]) -> Callable[[Photo], float]:
    return lambda photo: float(bool(text(photo)))


def _depth(photo: Photo) -> str:
    info = photo.info
    return f"{info.mode}, {info.bits} bits" + (", transparent" if info.has_alpha else "")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float(bool(text))


_Row = tuple[str, Callable[[Photo], str], Callable[[Photo], float] | None]
_ROWS: tuple[_Row, ...] = (
    ("Soundness", lambda photo: photo.info.damage, lambda photo: float(not photo.info.damage)),
    (
        "Picture",
        lambda photo: f"{photo.info.width_px} x {photo.info.height_px}",
        lambda photo: float(photo.info.pixels),
    ),
    ("Format", lambda photo: photo.info.format, None),
    ("File size", lambda photo: size_words(photo.file.size_bytes), None),
    ("JPEG quality", lambda photo: str(photo.info.quality) if photo.info.quality else "", None),
    ("Samples", _depth, lambda photo: float(photo.info.bits)),
    ("Colour profile", lambda photo: photo.info.icc_name, _says(lambda photo: photo.info.icc_digest)),
    ("Frames", lambda photo: str(photo.info.frames) if photo.info.frames > 1 else "", None),
    (
        "Taken",
        lambda photo: photo.info.metadata.capture_time.replace("T", " "),
        _says(lambda photo: photo.info.metadata.capture_time),
    ),
    ("File date", _file_date, lambda photo: -float(photo.file.mtime_ns)),
    ("Place (GPS)", lambda photo: photo.info.metadata.gps, _says(lambda photo: photo.info.metadata.gps)),
    ("Camera", lambda photo: photo.info.metadata.camera, _says(lambda photo: photo.info.metadata.camera)),
    ("Software", lambda photo: photo.info.metadata.software, None),
    (
        "Rating",
        lambda photo: photo.info.metadata.rating,
        lambda photo: _number(photo.info.metadata.rating),
    ),
    (
        "Keywords",
        lambda photo: ", ".join(photo.info.metadata.keywords),
        lambda photo: float(len(photo.info.metadata.keywords)),
    ),
    (
        "Caption",
        lambda photo: photo.info.metadata.caption,
        _says(lambda photo: photo.info.metadata.caption),
    ),
    (
        "EXIF tags",
        lambda photo: str(photo.info.metadata.exif_tags),
        lambda photo: float(photo.info.metadata.exif_tags),
    ),
)
