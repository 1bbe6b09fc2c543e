"""Plan files as anybody may read and write them: JSON lines, the first with the digest of them all.

Reads what a plan is going to do, and forges plans that the program itself would not make - of one file reached by two
ways, for instance - to see what the one who acts on them makes of it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.safety.checker import Planned

Row = dict[str, Any]


def read_rows(plan: Path) -> list[Row]:
    """Header first."""
    return [json.loads(line) for line in plan.read_bytes().splitlines()]


def write_rows(plan: Path, rows: list[Row]) -> None:
    """With counts and digest made to fit, so that only what the rows say can be wrong."""
    head, *body = rows
    lines = [_line(row) for row in body]
    left_out = sum("left_out" in row for row in body)
    head = {**head, "operations": len(body) - left_out, "left_out": left_out, "sha256": ""}
    digest = hashlib.sha256(b"".join([_line(head), *lines]))
    plan.write_bytes(_line({**head, "sha256": digest.hexdigest()}) + b"".join(lines))


def _line(row: Row) -> bytes:
    return json.dumps(row, separators=(",", ":")).encode("ascii") + b"\n"


def pack(path: bytes) -> str:
    return base64.b64encode(path).decode("ascii")


def unpack(text: str) -> bytes:
    return base64.b64decode(text)


def read_planned(plan: Path) -> tuple[Planned, ...]:
    """What a plan is going to do, in absolute paths."""
    head, *body = read_rows(plan)
    roots = [unpack(root["path"]) for root in head["roots"]]

    def place(file: Mapping[str, Any]) -> bytes:
        return os.path.join(roots[file["root"]], unpack(file["path"]))

    return tuple(
        Planned(
            dup=place(row["dup"]),
            keep=place(row["keep"]),
            act=row["act"],
            along=tuple(place(one["file"]) for one in row["companions"]),
            relation=row["relation"],
        )
        for row in body
        if "left_out" not in row
    )


def restamp(plan: Path) -> None:
    """Let a plan speak of the files that have its names now, after the library was copied."""
    head, *body = read_rows(plan)
    roots = [unpack(root["path"]) for root in head["roots"]]
    for row, path in zip(head["roots"], roots, strict=True):
        found = os.stat(path)
        row |= {"device": found.st_dev, "inode": found.st_ino}
    for row in body:
        if "left_out" in row:
            continue
        companions = [file for one in row["companions"] for file in (one["file"], one["twin"]) if file]
        for file in (row["dup"], row["keep"], *companions):
            found = os.lstat(os.path.join(roots[file["root"]], unpack(file["path"])))
            file |= {"device": found.st_dev, "inode": found.st_ino, "ctime_ns": found.st_ctime_ns}
    write_rows(plan, [head, *body])


def file_row(roots: Iterable[Path], number: int, name: str | bytes) -> Row:
    """A file below root `number` as a plan describes it; files without extended attributes only."""
    path = os.path.join(os.fsencode(list(roots)[number]), os.fsencode(name))
    found = os.stat(path)
    with open(path, "rb") as stream:
        digest = hashlib.sha256(stream.read()).hexdigest()
    return {
        "root": number,
        "path": pack(os.fsencode(name)),
        "device": found.st_dev,
        "inode": found.st_ino,
        "size_bytes": found.st_size,
        "mtime_ns": found.st_mtime_ns,
        "ctime_ns": found.st_ctime_ns,
        "link_count": found.st_nlink,
        "mode": found.st_mode,
        "uid": found.st_uid,
        "gid": found.st_gid,
        "xattrs": "",
        "sha256": digest,
    }


def root_rows(roots: Iterable[Path]) -> list[Row]:
    rows = []
    for root in roots:
        found = os.stat(root)
        rows.append({"path": pack(os.fsencode(root)), "device": found.st_dev, "inode": found.st_ino})
    return rows


def forge(plan: Path, like: Path, roots: Iterable[Path], pairs: Iterable[tuple[Row, Row]], act: str) -> None:
    """Write a plan about `pairs` (dup, keep) of same bytes, after the manner of an operation in the plan `like`."""
    head, *body = read_rows(like)
    pattern = next(row for row in body if row.get("relation") == "same-bytes")
    rows = [
        {**pattern, "id": number, "act": act, "dup": dup, "keep": keep, "companions": [], "frees_bytes": 0}
        for number, (dup, keep) in enumerate(pairs, start=1)
    ]
    write_rows(plan, [{**head, "roots": root_rows(roots)}, *rows])
