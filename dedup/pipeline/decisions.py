"""Decisions as a JSON file, to take them elsewhere or to write them by hand.

    {"schema": 1, "decisions": [
        {"verdict": "not-duplicates", "left": "<sha256>", "right": "<sha256>", "decided": "2024-05-01T10:00:00+00:00"},
        {"verdict": "remove", "left_path": "/photos/kept.jpg", "right_path": "/photos/cropped.jpg"},
        {"verdict": "keep", "left": "<sha256>", "place": "/photos/kept.jpg"}]}

Promises: what is written reads back as the same decisions; a file with one that makes no sense is refused as a whole.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NoReturn

from dedup.catalogue import Catalogue
from dedup.errors import UsageError
from dedup.pipeline.own_files import open_file, replace_file
from dedup.pipeline.places import catalogue_path
from dedup.records import Decision, Plain, Verdict
from dedup.settings import Settings

SCHEMA = 1

_BEGINNING = b'{\n "schema": 1,\n "decisions":'

_FIELDS = {"verdict", "left", "right", "left_path", "right_path", "decided", "place", "place_bytes", "note"}


def decisions_to_json(decisions: Iterable[Decision]) -> Plain:
    """Decisions as plain values, ready for `json.dumps`."""
    return {"schema": SCHEMA, "decisions": [_plain(decision) for decision in decisions]}


def _plain(decision: Decision) -> Plain:
    plain: Plain = {"verdict": decision.verdict.value, "left": decision.left.hex()}
    if decision.right:
        plain["right"] = decision.right.hex()
    plain["decided"] = decision.decided
    if decision.place:
        exact = os.fsencode(decision.place)
        plain["place"] = exact.decode("utf-8", "replace")
        if plain["place"].encode() != exact:
            plain["place_bytes"] = base64.b64encode(exact).decode()
    if decision.note:
        plain["note"] = decision.note
    return plain


def write_decisions(decisions: Iterable[Decision], path: str) -> None:
    """Write a file of decisions; an earlier one is replaced, any other file is not.

    Raises
    ------
    UsageError
        If the place is taken by something else, a photo for example, or cannot be written.
    """
    text = decisions_text(decisions).encode("ascii")
    try:
        written = replace_file(path, [text], lambda head: head.startswith(_BEGINNING))
    except OSError as error:
        raise UsageError(
            f"{path}: the decisions cannot be written ({error.strerror}); give another place"
        ) from error
    if not written:
        raise UsageError(f"{path}: these are no decisions, and are not replaced; give another name")


def decisions_text(decisions: Iterable[Decision]) -> str:
    """The file that `read_decisions` reads."""
    return json.dumps(decisions_to_json(decisions), indent=1) + "\n"


def read_decisions(path: str, settings: Settings | None = None) -> list[Decision]:
    """Decisions from a JSON file, in its order.

    Raises
    ------
    UsageError
        If the file cannot be read, or one of its decisions makes no sense; none of them counts then.
    """
    try:
        with open_file(path) as file:
            data = json.load(file)
    except OSError as error:
        raise UsageError(f"{path}: these decisions cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: this is not JSON ({error})") from error
    return decisions_from_json(data, path, settings)


def decisions_from_json(data: Any, path: str, settings: Settings | None = None) -> list[Decision]:
    """The same from what the file holds; `path` is what to call it."""
    if (
        not isinstance(data, dict)
        or data.get("schema") != SCHEMA
        or not isinstance(data.get("decisions"), list)
    ):
        raise UsageError(f"{path}: these are no decisions of schema {SCHEMA}")
    rows = data["decisions"]
    named = {
        row[key]
        for row in rows
        if isinstance(row, dict)
        for key in ("left_path", "right_path")
        if isinstance(row.get(key), str) and _is_path(row[key])
    }
    known: dict[str, bytes] = {}
    if named:
        with Catalogue.open(catalogue_path(settings or Settings()), write=False) as catalogue:
            known = catalogue.digests_of(sorted(named))
    found = []
    for number, row in enumerate(rows, start=1):
        try:
            found.append(_decision(row, known))
        except (ValueError, TypeError) as error:
            raise UsageError(
                f"{path}: decision {number} makes no sense ({error}); none was taken over"
            ) from error
    return found


def _decision(row: Any, known: Mapping[str, bytes]) -> Decision:
    if not isinstance(row, dict):
        _refuse("it is no JSON object")
    if unknown := sorted(set(row) - _FIELDS):
        _refuse(f"{unknown[0]} is unknown")
    verdict = Verdict(_text(row, "verdict"))
    left, right = _content(row, "left", known), _content(row, "right", known)
    if not left or bool(right) == (verdict is Verdict.KEEP):
        _refuse("it is about two contents, or about one if it is keep")
    if verdict is Verdict.REMOVE and left == right:
        _refuse("nothing goes for itself")
    if verdict.is_mutual:
        left, right = sorted((left, right))
    place = _text(row, "place")
    if "place_bytes" in row:
        place = os.fsdecode(base64.b64decode(_text(row, "place_bytes"), validate=True))
    if "\0" in place:
        _refuse("no path holds a NUL")
    os.fsencode(place)
    decided = _text(row, "decided") or datetime.now(UTC).isoformat(timespec="seconds")
    datetime.fromisoformat(decided)
    return Decision(verdict, left, right, decided, place, _text(row, "note"))


def _is_path(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key, "")
    if not isinstance(value, str):
        _refuse(f"{key} is no text")
    if key not in ("place", "left_path", "right_path"):
        value.encode()
    return value


def _content(row: Mapping[str, Any], key: str, known: Mapping[str, bytes]) -> bytes:
    """A digest, said in hex or by the path of a photo that was scanned."""
    if (path := _text(row, f"{key}_path")) and key in row:
        _refuse(f"{key} is said twice")
    if path:
        if path not in known:
            _refuse(f"{path} is no photo that was scanned")
        return known[path]
    digest = bytes.fromhex(_text(row, key))
    if len(digest) not in (0, 32):
        _refuse(f"{key} is no sha256")
    return digest


def _refuse(why: str) -> NoReturn:
    raise ValueError(why)
