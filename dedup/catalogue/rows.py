"""Records to rows and back: plain JSON, no pickle; what does not read back is a damaged catalogue, never a guess.

A match is stored between contents and shown between files: `match_from_text` puts the ids in that the caller wants.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Sequence
from typing import Any

from dedup.records import (
    AlsoLike,
    CandidatePair,
    Change,
    DuplicateGroup,
    Figures,
    Fingerprint,
    Match,
    Member,
    Metadata,
    Photo,
    PhotoFile,
    PictureInfo,
    Relation,
    Source,
)

WHOLE = (0.0, 0.0, 1.0, 1.0)
SOURCES = tuple(Source)
_WINDOWS = struct.Struct("<8d")
_TRIM = struct.Struct("<4d")

PHOTO_COLUMNS = (
    "f.id, f.path, f.size_bytes, f.mtime_ns, f.ctime_ns, f.device, f.inode, f.link_count, "
    "c.digest, c.recipe, c.info, c.phash64, c.phash256, c.dhash64, c.histogram, c.texture, c.colour, c.trim"
)
"""What `photo_from_row` takes, followed by the grey (or an empty blob)."""


def stored_path(path: str) -> str | bytes:
    """A path as SQLite keeps it: text where it is UTF-8 (readable, and fast to read), else the exact bytes."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def read_path(stored: str | bytes) -> str:
    """The reverse of `stored_path`."""
    return stored if isinstance(stored, str) else os.fsdecode(stored)


_HALF, _WHOLE_64 = 1 << 63, 1 << 64


def signed(number: int) -> int:
    """A device or inode number as SQLite keeps it: network disks use all 64 bits, SQLite's integers have a sign."""
    return number - _WHOLE_64 if number >= _HALF else number


def unsigned(number: int) -> int:
    """The reverse of `signed`."""
    return number + _WHOLE_64 if number < 0 else number


def file_values(file: PhotoFile) -> tuple[Any, ...]:
    """The columns path to link_count."""
    return (
        stored_path(file.path),
        file.size_bytes,
        file.mtime_ns,
        file.ctime_ns,
        signed(file.device),
        signed(file.inode),
        file.link_count,
    )


def file_from_values(values: Sequence[Any]) -> PhotoFile:
    """The reverse of `file_values`."""
    path, size, mtime_ns, ctime_ns, device, inode, links = values
    return PhotoFile(read_path(path), size, mtime_ns, ctime_ns, unsigned(device), unsigned(inode), links)


def _dumps(value: Any) -> str:
    # Surrogates (odd file names) are escaped by ensure_ascii, so the text is always valid UTF-8.
    return json.dumps(value, separators=(",", ":"))


# --- pictures -----------------------------------------------------------------------------------------------------


def info_to_text(info: PictureInfo) -> str:
    """A picture's header, field by field in the order of the record."""
    meta = info.metadata
    return _dumps(
        [
            info.format, info.width_px, info.height_px, info.mode, info.bits, info.frames, info.has_alpha,
            info.orientation, info.icc_digest, info.icc_name, info.quality, info.lossless, info.damage,
            [
                meta.capture_time, meta.gps, meta.camera, meta.software, meta.rating, meta.keywords, meta.caption,
                meta.content_identifier, meta.exif_tags,
            ],
        ]
    )  # fmt: skip


def info_from_text(text: str) -> PictureInfo:
    """The reverse of `info_to_text`."""
    values = json.loads(text)
    meta = values.pop()
    meta[5] = tuple(meta[5])
    values.append(Metadata(*meta))
    return PictureInfo(*values)


def photo_from_row(row: tuple[Any, ...], recipes: dict[int, str]) -> Photo:
    """A photo from `PHOTO_COLUMNS` and the grey; an empty grey makes a light one, for everything but measuring."""
    file = file_from_values(row[1:8])
    fingerprint = Fingerprint(
        recipe=recipes[row[9]],
        phash64=row[11],
        phash256=row[12],
        dhash64=row[13],
        histogram=row[14],
        texture=row[15],
        grey=row[18],
        colour=row[16],
        trim=_TRIM.unpack(row[17]),
    )
    return Photo(row[0], file, row[8], info_from_text(row[10]), fingerprint)


def fingerprint_values(fingerprint: Fingerprint) -> tuple[Any, ...]:
    """The columns phash64 to trim."""
    return (
        fingerprint.phash64,
        fingerprint.phash256,
        fingerprint.dhash64,
        fingerprint.histogram,
        fingerprint.texture,
        fingerprint.colour,
        _TRIM.pack(*fingerprint.trim),
    )


# --- pairs --------------------------------------------------------------------------------------------------------


def candidate_values(pair: CandidatePair) -> tuple[Any, ...]:
    """The columns left_content to windows of a pair whose ids are content ids."""
    whole = pair.left_window == WHOLE and pair.right_window == WHOLE
    windows = None if whole else _WINDOWS.pack(*pair.left_window, *pair.right_window)
    return (pair.left, pair.right, SOURCES.index(pair.source), pair.distance_bits, pair.orientation, windows)


def candidate_from_row(row: tuple[Any, ...]) -> CandidatePair:
    """The reverse of `candidate_values`."""
    left, right, source, bits, orientation, windows = row
    values = (*WHOLE, *WHOLE) if windows is None else _WINDOWS.unpack(windows)
    return CandidatePair(left, right, SOURCES[source], bits, orientation, values[:4], values[4:])


def match_to_text(match: Match) -> str:
    """Everything but the ids and the relation."""
    f = match.figures
    return _dumps(
        [
            match.sentence,
            [[c.kind, c.words, c.amount, c.box] for c in match.changes],
            [
                f.phash64_bits, f.phash256_bits, f.rms_levels, f.worst_tile_levels, f.worst_tile_box, f.correlation,
                f.size_ratio, f.orientation, f.alignment, f.compared_px,
            ],
            SOURCES.index(match.source),
            match.direction,
        ]
    )  # fmt: skip


def match_from_text(left: int, right: int, relation: str, text: str) -> Match:
    """The reverse of `match_to_text`."""
    sentence, changes, f, source, direction = json.loads(text)
    f[4] = _tuple_or_none(f[4])
    f[8], f[9] = tuple(f[8]), tuple(f[9])
    return Match(
        left=left,
        right=right,
        relation=Relation(relation),
        sentence=sentence,
        changes=tuple(
            Change(kind, words, amount, _tuple_or_none(box)) for kind, words, amount, box in changes
        ),
        figures=Figures(*f),
        source=SOURCES[source],
        direction=direction,
    )


def _tuple_or_none(value: list[float] | None) -> Any:
    return None if value is None else tuple(value)


# --- groups -------------------------------------------------------------------------------------------------------


def group_to_body(group: DuplicateGroup, file_of: Callable[[int], int]) -> list[Any]:
    """A group as plain JSON values: ids instead of photos, turned by `file_of`."""

    def match_body(match: Match | None) -> list[Any] | None:
        if match is None:
            return None
        return [file_of(match.left), file_of(match.right), match.relation, match_to_text(match)]

    members = [
        [
            file_of(member.photo.id),
            match_body(member.match),
            member.unit_files,
            None if member.copy_of is None else file_of(member.copy_of),
            match_body(member.copy_match),
            member.also_link_of,
        ]
        for member in group.members
    ]
    also = [[file_of(a.photo_id), a.path, a.relation, a.sentence, a.why] for a in group.also_like]
    keeper = file_of(group.keeper.id)
    return [group.id, keeper, group.keeper_reasons, group.keeper_unit_files, members, also, group.freed_bytes]


def files_of_group(body: list[Any]) -> list[int]:
    """File ids of keeper and members."""
    return [body[1], *(member[0] for member in body[4])]


def group_from_body(body: list[Any], photos: dict[int, Photo]) -> DuplicateGroup:
    """The reverse of `group_to_body`."""
    code, keeper, reasons, units, members, also, freed = body
    return DuplicateGroup(
        id=code,
        keeper=photos[keeper],
        keeper_reasons=tuple(reasons),
        keeper_unit_files=tuple(units),
        members=tuple(
            Member(
                photo=photos[file],
                match=match_from_text(*match),
                unit_files=tuple(unit_files),
                copy_of=copy_of,
                copy_match=None if copy_match is None else match_from_text(*copy_match),
                also_link_of=also_link,
            )
            for file, match, unit_files, copy_of, copy_match, also_link in members
        ),
        also_like=tuple(AlsoLike(a[0], a[1], Relation(a[2]), a[3], a[4]) for a in also),
        freed_bytes=freed,
    )
