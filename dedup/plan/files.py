"""The plan file: JSON lines, the first with the digest of them all, and a reader that believes nothing.

    {"kind": "dedup plan", "format": 1, "version": ..., "created": ..., "roots": [...], "protected": [...],
     "operations": 2, "left_out": 1, "sha256": ...}
    {"id": 1, "group": ..., "act": "quarantine", "relation": "same-bytes", "dup": {...}, "keep": {...}, ...}
    {"id": 2, ...}
    {"left_out": {"path": ..., "cause": ..., ...}}

Names are base64 of their bytes; the digest is taken with its own place left empty.

Promises: what is written reads back as the same records; whatever is missing, unknown, doubled, out of range, torn or
contradicts itself makes the reader refuse the whole plan. Does not: look at a file.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any, BinaryIO, NoReturn, TypeVar

from dedup.errors import Unsafe
from dedup.plan.checks import Fault, check_plan, relative_fault, root_fault
from dedup.records import (
    Act,
    Cause,
    Companion,
    Figures,
    LeftOut,
    Operation,
    Plain,
    Plan,
    PlannedFile,
    PlanRoot,
    Relation,
)

KIND, FORMAT = "dedup plan", 1

LONGEST_LINE = 4 << 20
"""Bytes; a line of an operation has two to four thousand, and a name has at most 4,096."""

T = TypeVar("T")


# ---- writing -------------------------------------------------------------------------------------------------------


def plan_lines(plan: Plan) -> Iterator[bytes]:
    """The plan file, line by line, each with its newline; the same plan gives the same bytes.

    Raises
    ------
    Unsafe
        If the plan is one that the reader would refuse.
    """
    try:
        check_plan(plan)
    except Fault as fault:
        raise Unsafe(
            f"this plan contradicts itself ({fault}), which is a fault in dedup; nothing was done"
        ) from fault
    body = [_line(_operation(operation)) for operation in plan.operations]
    body += [_line({"left_out": _left_out(entry)}) for entry in plan.left_out]
    header: Plain = {
        "kind": KIND,
        "format": FORMAT,
        "version": plan.version,
        "created": plan.created,
        "roots": [
            {"path": _packed(root.path), "device": root.device, "inode": root.inode} for root in plan.roots
        ],
        "protected": [_packed(folder) for folder in plan.protected],
        "operations": len(plan.operations),
        "left_out": len(plan.left_out),
        "sha256": "",
    }
    digest = hashlib.sha256(_line(header))
    for line in body:
        digest.update(line)
    yield _line({**header, "sha256": digest.hexdigest()})
    yield from body


def _line(row: Plain) -> bytes:
    return json.dumps(row, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"


def _packed(blob: bytes) -> str:
    return base64.b64encode(blob).decode("ascii")


def _file(file: PlannedFile) -> Plain:
    return {
        "root": file.root,
        "path": _packed(file.path),
        "device": file.device,
        "inode": file.inode,
        "size_bytes": file.size_bytes,
        "mtime_ns": file.mtime_ns,
        "ctime_ns": file.ctime_ns,
        "link_count": file.link_count,
        "mode": file.mode,
        "uid": file.uid,
        "gid": file.gid,
        "xattrs": file.xattrs.hex(),
        "sha256": file.digest.hex(),
    }


def _operation(operation: Operation) -> Plain:
    figures = operation.figures
    return {
        "id": operation.id,
        "group": operation.group,
        "act": operation.act.value,
        "relation": operation.relation.value,
        "dup": _file(operation.dup),
        "keep": _file(operation.keep),
        "companions": [
            {"file": _file(companion.file), "twin": None if companion.twin is None else _file(companion.twin)}
            for companion in operation.companions
        ],
        "sentence": operation.sentence,
        "why": list(operation.why),
        "losses": list(operation.losses),
        "decided": operation.decided,
        "figures": {
            "phash64_bits": figures.phash64_bits,
            "phash256_bits": figures.phash256_bits,
            "rms_levels": float(figures.rms_levels),
            "worst_tile_levels": float(figures.worst_tile_levels),
            "worst_tile_box": None
            if figures.worst_tile_box is None
            else [*map(float, figures.worst_tile_box)],
            "correlation": float(figures.correlation),
            "size_ratio": float(figures.size_ratio),
            "orientation": figures.orientation,
            "alignment": [*map(float, figures.alignment)],
            "compared_px": list(figures.compared_px),
        },
        "frees_bytes": operation.frees_bytes,
    }


def _left_out(entry: LeftOut) -> Plain:
    return {
        "path": entry.path,
        "keep": entry.keep,
        "group": entry.group,
        "relation": entry.relation.value,
        "cause": entry.cause.value,
        "why": entry.why,
        "remedy": entry.remedy,
        "losses": list(entry.losses),
    }


# ---- reading -------------------------------------------------------------------------------------------------------


def read_plan(file: BinaryIO, name: str) -> Plan:
    """Read a plan back.

    Parameters
    ----------
    file
        At its beginning.
    name
        What to call it when it is refused.

    Raises
    ------
    Unsafe
        If anything about it is not exactly as a plan should be; nothing of it may be used then.
    """
    number = 0
    try:
        for number, line in enumerate(_lines(file), start=1):
            if number == 1:
                reader = _Reader(line)
            else:
                reader.take(line)
        if not number:
            _refuse("it is empty")
        return reader.finish()
    except Fault as fault:
        where = f", line {number}" if number and not fault.whole else ""
        raise Unsafe(
            f"{name}{where}: this is no plan to act on ({fault}); nothing was done. Make it again with dedup plan"
        ) from fault


def _refuse(why: str) -> NoReturn:
    raise Fault(why)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(LONGEST_LINE + 1):
        if len(line) > LONGEST_LINE:
            _refuse("the line is longer than any plan's")
        if not line.endswith(b"\n"):
            _refuse("it is cut off")
        yield line


def _object(line: bytes) -> Plain:
    def pairs(entries: list[tuple[str, Any]]) -> Plain:
        found = dict(entries)
        if len(found) != len(entries):
            _refuse("a field stands there twice")
        return found

    try:
        found = json.loads(line.decode("ascii"), object_pairs_hook=pairs)
    except Fault:
        raise
    except (ValueError, RecursionError) as error:
        raise Fault("it is not JSON as a plan holds it") from error
    if not isinstance(found, dict):
        _refuse("it is no JSON object")
    return found


class _Reader:
    """Takes the lines one by one and gives the plan at the end."""

    def __init__(self, line: bytes) -> None:
        header = _object(line)
        if header.get("kind") != KIND:
            _refuse("it does not begin like a plan")
        if type(header.get("format")) is not int or header["format"] != FORMAT:
            _refuse(f"its format is {header.get('format')!r}, and this program knows {FORMAT}")
        row = _Row(header)
        row.drop("kind", "format")
        self._version = row.take("version", _words)
        self._created = row.take("created", _words)
        self._roots = row.take("roots", _list(_root))
        self._protected = row.take("protected", _list(_folder))
        self._count = row.take("operations", _whole(0))
        self._left_out_count = row.take("left_out", _whole(0))
        self._expected = row.take("sha256", _hex(32))
        row.end()
        self._digest = hashlib.sha256(line.replace(self._expected.hex().encode("ascii"), b"", 1))
        self._operations: list[Operation] = []
        self._left_out: list[LeftOut] = []
        self._files: dict[PlannedFile, PlannedFile] = {}

    def take(self, line: bytes) -> None:
        """One further line."""
        self._digest.update(line)
        found = _object(line)
        if "left_out" in found:
            row = _Row(found)
            self._left_out.append(row.take("left_out", _read_left_out))
            row.end()
        elif self._left_out:
            _refuse("an operation after what was left out")
        else:
            self._operations.append(self._operation(found))

    def finish(self) -> Plan:
        """The plan, if it holds together."""
        if self._digest.digest() != self._expected:
            raise Fault("its sha256 is not that of its lines: it was changed or is cut off", whole=True)
        if len(self._operations) != self._count or len(self._left_out) != self._left_out_count:
            raise Fault("it does not hold as many lines as it says", whole=True)
        plan = Plan(
            version=self._version,
            created=self._created,
            roots=self._roots,
            protected=self._protected,
            operations=tuple(self._operations),
            left_out=tuple(self._left_out),
        )
        check_plan(plan)
        return plan

    def _planned(self, value: Any) -> PlannedFile:
        row = _Row(value)
        file = PlannedFile(
            root=row.take("root", _whole(0)),
            path=row.take("path", _path),
            device=row.take("device", _whole(0, 64)),
            inode=row.take("inode", _whole(0, 64)),
            size_bytes=row.take("size_bytes", _whole(0, 63)),
            mtime_ns=row.take("mtime_ns", _whole(-1 << 96, 96)),
            ctime_ns=row.take("ctime_ns", _whole(-1 << 96, 96)),
            link_count=row.take("link_count", _whole(1, 63)),
            mode=row.take("mode", _whole(0, 32)),
            uid=row.take("uid", _whole(0, 32)),
            gid=row.take("gid", _whole(0, 32)),
            xattrs=row.take("xattrs", _hex(32, 0)),
            digest=row.take("sha256", _hex(32)),
        )
        row.end()
        # A keeper of many stands in the file once for each of them, and in memory once.
        return self._files.setdefault(file, file)

    def _companion(self, value: Any) -> Companion:
        row = _Row(value)
        found = Companion(
            file=row.take("file", self._planned),
            twin=row.take("twin", lambda twin: None if twin is None else self._planned(twin)),
        )
        row.end()
        return found

    def _operation(self, value: Plain) -> Operation:
        row = _Row(value)
        found = Operation(
            id=row.take("id", _whole(1)),
            group=row.take("group", _words),
            act=row.take("act", _one_of(Act)),
            relation=row.take("relation", _one_of(Relation)),
            dup=row.take("dup", self._planned),
            keep=row.take("keep", self._planned),
            companions=row.take("companions", _list(self._companion)),
            sentence=row.take("sentence", _words),
            why=row.take("why", _list(_words)),
            losses=row.take("losses", _list(_words)),
            decided=row.take("decided", _flag),
            figures=row.take("figures", _read_figures),
            frees_bytes=row.take("frees_bytes", _whole(0, 63)),
        )
        row.end()
        return found


class _Row:
    """A JSON object of which every field is taken once, and none is left."""

    def __init__(self, value: Any) -> None:
        if not isinstance(value, dict):
            _refuse("a value is no JSON object")
        self._left: dict[str, Any] = dict(value)

    def take(self, name: str, read: Callable[[Any], T]) -> T:
        if name not in self._left:
            _refuse(f"{name} is missing")
        try:
            return read(self._left.pop(name))
        except Fault as fault:
            raise Fault(f"{name}: {fault}") from fault

    def drop(self, *names: str) -> None:
        for name in names:
            del self._left[name]

    def end(self) -> None:
        for name in self._left:
            _refuse(f"{name!r} is unknown")


def _words(value: Any) -> str:
    if not isinstance(value, str):
        _refuse("it is no text")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        _refuse("it is neither true nor false")
    return value


def _whole(least: int, bits: int = 63) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if type(value) is not int or not least <= value < 1 << bits:
            _refuse("it is no whole number in its range")
        return value

    return read


def _number(value: Any) -> float:
    if type(value) is not float or not math.isfinite(value):
        _refuse("it is no number")
    return value


def _one_of(kind: type[StrEnum]) -> Callable[[Any], Any]:
    def read(value: Any) -> StrEnum:
        try:
            return kind(_words(value))
        except ValueError as error:
            raise Fault(f"{value!r} is unknown") from error

    return read


def _list(read: Callable[[Any], T], length: int | None = None) -> Callable[[Any], tuple[T, ...]]:
    def read_all(value: Any) -> tuple[T, ...]:
        if not isinstance(value, list) or (length is not None and len(value) != length):
            _refuse("it is no list of the right length")
        return tuple(read(entry) for entry in value)

    return read_all


def _hex(*lengths: int) -> Callable[[Any], bytes]:
    def read(value: Any) -> bytes:
        try:
            found = bytes.fromhex(_words(value))
        except ValueError as error:
            raise Fault("it is no digest") from error
        if len(found) not in lengths or found.hex() != value:
            _refuse("it is no digest")
        return found

    return read


def _blob(value: Any) -> bytes:
    try:
        found = base64.b64decode(_words(value), validate=True)
    except ValueError as error:
        raise Fault("it is not base64") from error
    if _packed(found) != value:
        _refuse("it is not base64 as a plan holds it")
    return found


def _folder(value: Any) -> bytes:
    path = _blob(value)
    if why := root_fault(path):
        _refuse(why)
    return path


def _path(value: Any) -> bytes:
    path = _blob(value)
    if why := relative_fault(path):
        _refuse(why)
    return path


def _root(value: Any) -> PlanRoot:
    row = _Row(value)
    found = PlanRoot(
        path=row.take("path", _folder),
        device=row.take("device", _whole(0, 64)),
        inode=row.take("inode", _whole(0, 64)),
    )
    row.end()
    return found


def _read_figures(value: Any) -> Figures:
    row = _Row(value)
    box = row.take("worst_tile_box", lambda box: None if box is None else _list(_number, 4)(box))
    values: Mapping[str, Any] = {
        **{name: row.take(name, _whole(0)) for name in ("phash64_bits", "phash256_bits", "orientation")},
        **{
            name: row.take(name, _number)
            for name in ("rms_levels", "worst_tile_levels", "correlation", "size_ratio")
        },
        "alignment": row.take("alignment", _list(_number, 6)),
        "compared_px": row.take("compared_px", _list(_whole(0), 2)),
        "worst_tile_box": box,
    }
    row.end()
    return Figures(**values)


def _read_left_out(value: Any) -> LeftOut:
    row = _Row(value)
    found = LeftOut(
        path=row.take("path", _words),
        keep=row.take("keep", _words),
        group=row.take("group", _words),
        relation=row.take("relation", _one_of(Relation)),
        cause=row.take("cause", _one_of(Cause)),
        why=row.take("why", _words),
        remedy=row.take("remedy", _words),
        losses=row.take("losses", _list(_words)),
    )
    row.end()
    return found


def is_plan(head: bytes) -> bool:
    """Whether a file that begins like this is a plan (of any format), and may be replaced by another."""
    return head.startswith(b'{"kind":"' + KIND.encode("ascii") + b'"')
