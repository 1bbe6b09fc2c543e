"""What the catalogue holds, as reports and numbers: everything that reads and nothing that works.

Promises: opens no photo and changes nothing.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, fields
from typing import Any

from dedup.catalogue import Catalogue, ScanRecord
from dedup.errors import UsageError
from dedup.pipeline.places import below, catalogue_path, program_stamp
from dedup.records import DuplicateGroup, IndexQuality, Reason, Relation, Report, ScanSummary, Skipped, Tally
from dedup.settings import Settings

LAST_ROOTS, EVERYTHING = 0, 1
"""Scopes of stored results: what lies below the roots of the last scan, and all that the catalogue knows."""


def load_report(settings: Settings | None = None, all_roots: bool = False) -> Report:
    """What the last scan found.

    Parameters
    ----------
    all_roots
        Everything the catalogue knows, rather than what lies below the roots of the last scan.

    Raises
    ------
    UsageError
        If there was no scan yet.
    """
    with Catalogue.open(catalogue_path(settings or Settings()), write=False) as catalogue:
        return read_report(catalogue, EVERYTHING if all_roots else LAST_ROOTS)


def read_report(catalogue: Catalogue, scope: int) -> Report:
    """The stored result of a scope; groups in order of their keepers' paths."""
    record = catalogue.last_scan()
    if record is None:
        raise UsageError(f"{catalogue.path}: no scan was finished yet; run `dedup scan FOLDER` first")
    if scope == EVERYTHING and not record.summary["wider"]:
        scope = LAST_ROOTS
    groups = sorted(catalogue.groups(scope), key=_by_keeper)
    similar = sorted(
        catalogue.similar_pairs(scope),
        key=lambda pair: (pair.left.file.path_bytes, pair.right.file.path_bytes),
    )
    return Report(
        summary=summary_from_plain(record.summary),
        groups=tuple(groups),
        similar=tuple(similar),
        skipped=read_skipped(catalogue, scope, record.summary),
        hubs=tuple(catalogue.hubs(scope)),
    )


def read_skipped(catalogue: Catalogue, scope: int, summary: dict[str, Any]) -> tuple[Skipped, ...]:
    """Everything of a scope that was not examined, in order of path."""
    found = [*catalogue.passed_over(), *(skipped for _, _, skipped in catalogue.failures())]
    found += catalogue.unconfirmable()
    if scope == LAST_ROOTS:
        is_below = below(summary["roots"])
        found = [skipped for skipped in found if is_below(skipped.path)]
    found += [Skipped(path, "confirm", Reason(reason), detail) for path, reason, detail in summary["late"]]
    return tuple(sorted(found, key=lambda skipped: (os.fsencode(skipped.path), skipped.stage)))


def _by_keeper(group: DuplicateGroup) -> bytes:
    return group.keeper.file.path_bytes


def deciding_settings(settings: Settings) -> dict[str, Any]:
    """The settings that a result depends on, as they read back from JSON."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(settings).items()
        if name not in ("db", "jobs")
    }


def rules_hold(last: ScanRecord, settings: Settings) -> bool:
    """Whether the last scan came to its end, under these settings and with this very program."""
    basis = last.basis
    return (
        not basis["unfinished"]
        and basis["settings"] == deciding_settings(settings)
        and basis["stamp"] == program_stamp()
    )


def summary_to_plain(summary: ScanSummary) -> dict[str, Any]:
    """A summary as JSON values."""
    return asdict(summary)


def summary_from_plain(plain: dict[str, Any]) -> ScanSummary:
    """The reverse of `summary_to_plain`; further keys are left aside."""
    values = {field.name: plain[field.name] for field in fields(ScanSummary)}
    values["roots"] = tuple(values["roots"])
    values["index"] = IndexQuality(**values["index"])
    return ScanSummary(**values)


def make_tally(catalogue: Catalogue, skipped: Iterable[Skipped]) -> Tally:
    """What the result of the last roots adds up to."""
    groups = {relation: (count, freed) for relation, count, freed in catalogue.group_sums(LAST_ROOTS)}
    return Tally(
        groups=tuple((relation, *groups[relation]) for relation in Relation if relation in groups),
        similar=catalogue.count_similar(LAST_ROOTS),
        hubs=len(catalogue.hubs(LAST_ROOTS)),
        not_examined=count_reasons(skipped),
    )


def count_reasons(skipped: Iterable[Skipped]) -> tuple[tuple[Reason, str, str, int], ...]:
    """As `Tally.not_examined`."""
    reasons: Counter[tuple[Reason, str, str]] = Counter()
    for entry in skipped:
        missing = entry.reason is Reason.MISSING_EXTRA
        extension = os.path.splitext(entry.path)[1].lower() if missing else ""
        reasons[entry.reason, extension, entry.detail if missing else ""] += 1
    order = list(Reason)
    return tuple(
        (reason, extension, detail, reasons[reason, extension, detail])
        for reason, extension, detail in sorted(reasons, key=lambda key: (order.index(key[0]), *key[1:]))
    )


def tally_to_plain(tally: Tally) -> dict[str, Any]:
    """A tally as JSON values."""
    return asdict(tally)


def tally_from_plain(plain: dict[str, Any]) -> Tally:
    """The reverse of `tally_to_plain`."""
    return Tally(
        groups=tuple((Relation(relation), count, freed) for relation, count, freed in plain["groups"]),
        similar=plain["similar"],
        hubs=plain["hubs"],
        not_examined=tuple(
            (Reason(reason), extension, detail, count)
            for reason, extension, detail, count in plain["not_examined"]
        ),
    )
