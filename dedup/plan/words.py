"""A plan for people and for scripts: text, JSON, and one short line per file.

Promises: every file of an operation is named in each form; counts and bytes are sums of the operations.
Does not: make names safe for a terminal, or colour them; whoever prints does.
"""

from __future__ import annotations

import base64
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import groupby

from dedup.records import Act, Cause, LeftOut, Operation, Plain, Plan, PlannedFile

SCHEMA = 1

_DONE = {
    Act.QUARANTINE: ("moves to quarantine", "move to quarantine"),
    Act.HARDLINK: ("becomes a hard link", "become hard links"),
    Act.REFLINK: ("shares the blocks of its keeper", "share the blocks of their keepers"),
}

_COUNTED = (Cause.LINKED, Cause.EDITED, Cause.KEPT_BOTH, Cause.LATER, Cause.ACT)
"""Causes that need no name by name: there are many, or a person knows them."""

_WHAT_COUNTS_MEAN = {
    Cause.LINKED: "nothing would be gained",
    Cause.EDITED: "look at them; each goes only by a decision about that very pair",
    Cause.KEPT_BOTH: "you said so",
    Cause.LATER: "you put them off",
    Cause.ACT: "only the same bytes may be linked; plan them with --action quarantine",
}

Size = Callable[[int], str]
"""Bytes in words."""


def plan_text(plan: Plan, size: Size) -> Iterator[str]:
    """The plan as lines without newlines at their ends: what happens to which file and why, then what is left alone.

    A name may hold any character.
    """
    common = _common_folder(plan)
    if common and plan.operations:
        yield f"below {common}"
        yield ""
    runs = groupby(plan.operations, key=lambda operation: (operation.keep.root, operation.keep.path))
    for number, (_, run) in enumerate(runs, start=1):
        operations = list(run)
        head = f"{number}. "
        indent = " " * len(head)
        yield f"{head}{'keep':<11} {_name(plan, operations[0].keep, common)}"
        if operations[0].why:
            yield f"{indent}{'':<11} kept because {'; '.join(operations[0].why)}"
        for operation in operations:
            yield from (f"{indent}{line}" for line in _operation_text(plan, operation, common, size))
        yield ""
    yield from _left_out_text(plan, common)
    yield from plan_summary(plan, size)


def _operation_text(plan: Plan, operation: Operation, common: str, size: Size) -> Iterator[str]:
    act = operation.act.value
    relation = operation.relation.replace("-", " ")
    yield f"{act:<11} {_name(plan, operation.dup, common)}  {relation}, {size(operation.dup.size_bytes)}"
    if operation.sentence != f"the {relation}":
        yield f"{'':<11} {operation.sentence}"
    for companion in operation.companions:
        twin = "" if companion.twin is None else f" (the same as {_name(plan, companion.twin, common)})"
        yield f"{'':<11} with {_name(plan, companion.file, common)}{twin}"
    if operation.losses:
        word = "you decided to lose" if operation.decided else "accepted loss"
        yield f"{'':<11} {word}: {'; '.join(operation.losses)}"


def _left_out_text(plan: Plan, common: str) -> Iterator[str]:
    if not plan.left_out:
        return
    yield "left alone"
    counts = Counter(entry.cause for entry in plan.left_out)
    for cause in Cause:
        if cause not in counts:
            continue
        if cause in _COUNTED:
            yield f"   {counts[cause]:,} {cause}: {_WHAT_COUNTS_MEAN[cause]}"
            continue
        yield f"   {counts[cause]:,} {cause}"
        for entry in plan.left_out:
            if entry.cause is cause:
                yield from (f"      {line}" for line in _entry_text(entry, common))
    yield ""


def _entry_text(entry: LeftOut, common: str) -> Iterator[str]:
    yield _short(entry.path, common)
    why = f"{entry.why}: {'; '.join(entry.losses)}" if entry.losses else entry.why
    yield f"   {why}; {entry.remedy}" if entry.remedy else f"   {why}"
    yield f"   it would have gone for {_short(entry.keep, common)}"


def plan_summary(plan: Plan, size: Size) -> list[str]:
    """What the plan adds up to, in one line or two."""
    lines = []
    count = len(plan.operations)
    if count:
        keepers = len({(operation.keep.root, operation.keep.path) for operation in plan.operations})
        act = plan.operations[0].act
        more = sum(len(operation.companions) for operation in plan.operations)
        with_them = (
            f" (and {_count(more, 'file')} that {'goes' if more == 1 else 'go'} with them)" if more else ""
        )
        freed = sum(operation.frees_bytes for operation in plan.operations)
        back = "no space comes back" if not freed else f"{size(freed)} come back"
        when = "" if act is Act.REFLINK or not freed else " after dedup purge"
        lines.append(
            f"{_count(count, 'file')}{with_them} {_DONE[act][count != 1]} for {_count(keepers, 'keeper')}; "
            f"{back}{when}; nothing was done yet"
        )
    else:
        lines.append("nothing to do")
    if plan.left_out:
        parts = Counter(entry.cause for entry in plan.left_out)
        told = ", ".join(f"{parts[cause]:,} {cause}" for cause in Cause if cause in parts)
        lines.append(f"{_count(len(plan.left_out), 'duplicate')} left alone: {told}")
    return lines


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def _common_folder(plan: Plan) -> str:
    """The only root, so that names stay short; empty if there are several."""
    if len(plan.roots) != 1:
        return ""
    return os.fsdecode(plan.roots[0].path).rstrip("/") + "/"


def _name(plan: Plan, file: PlannedFile, common: str) -> str:
    return _short(os.fsdecode(plan.path_of(file)), common)


def _short(path: str, common: str) -> str:
    return path.removeprefix(common) if common else path


# ---- for scripts ---------------------------------------------------------------------------------------------------


def simple_lines(plan: Plan) -> Iterator[str]:
    """One JSON object per file that goes: `op`, `dup`, `keep`; `dup_bytes` and `keep_bytes` where one is not UTF-8.

    A sidecar that a person gave up has nothing that is kept for it: its `keep` is null.
    """
    for operation in plan.operations:
        pairs: list[tuple[PlannedFile, PlannedFile | None]] = [(operation.dup, operation.keep)]
        pairs += [(companion.file, companion.twin) for companion in operation.companions]
        for dup, keep in pairs:
            row: Plain = {"op": operation.act.value, **_path("dup", plan.path_of(dup))}
            row |= {"keep": None} if keep is None else _path("keep", plan.path_of(keep))
            yield json.dumps(row)


def plan_to_json(plan: Plan) -> Plain:
    """The plan as plain JSON values, for reading; `read_plan` reads the plan file itself, not this."""
    return {
        "schema": SCHEMA,
        "version": plan.version,
        "created": plan.created,
        "roots": [_path("path", root.path) for root in plan.roots],
        "protected": [_path("path", folder) for folder in plan.protected],
        "summary": {
            "operations": len(plan.operations),
            "files": sum(1 + len(operation.companions) for operation in plan.operations),
            "frees_bytes": sum(operation.frees_bytes for operation in plan.operations),
            "left_out": dict(sorted(Counter(entry.cause.value for entry in plan.left_out).items())),
        },
        "operations": [_operation_json(plan, operation) for operation in plan.operations],
        "left_out": [
            {
                **_path("path", os.fsencode(entry.path)),
                **_path("keep", os.fsencode(entry.keep)),
                "group": entry.group,
                "relation": entry.relation.value,
                "cause": entry.cause.value,
                "why": entry.why,
                "remedy": entry.remedy,
                "losses": list(entry.losses),
            }
            for entry in plan.left_out
        ],
    }


def _operation_json(plan: Plan, operation: Operation) -> Plain:
    return {
        "id": operation.id,
        "group": operation.group,
        "act": operation.act.value,
        "relation": operation.relation.value,
        **_path("path", plan.path_of(operation.dup)),
        **_path("keep", plan.path_of(operation.keep)),
        "size_bytes": operation.dup.size_bytes,
        "companions": [
            {
                **_path("path", plan.path_of(companion.file)),
                **({"keep": None} if companion.twin is None else _path("keep", plan.path_of(companion.twin))),
            }
            for companion in operation.companions
        ],
        "reason": operation.sentence,
        "why": list(operation.why),
        "losses": list(operation.losses),
        "decided": operation.decided,
        "rms_levels": round(operation.figures.rms_levels, 3),
        "worst_tile_levels": round(operation.figures.worst_tile_levels, 2),
        "frees_bytes": operation.frees_bytes,
    }


def _path(key: str, path: bytes) -> Plain:
    """A path as text that every JSON reader takes, with its bytes beside it where it is not UTF-8."""
    text = path.decode("utf-8", "replace")
    return (
        {key: text} if text.encode() == path else {key: text, f"{key}_bytes": base64.b64encode(path).decode()}
    )
