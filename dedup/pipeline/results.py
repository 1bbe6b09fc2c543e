"""What the catalogue holds, as reports and numbers: everything that reads and nothing that works.

Promises: opens no photo and changes nothing.
"""

from __future__ import annotations

import os
from dataclasses import asdict, fields
from typing import Any

from dedup.catalogue import Catalogue
from dedup.errors import UsageError
from dedup.pipeline.places import catalogue_path
from dedup.records import DuplicateGroup, IndexQuality, Reason, Report, ScanSummary, Skipped
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
        skipped=read_skipped(catalogue, record.summary),
        hubs=tuple(catalogue.hubs(scope)),
    )


def read_skipped(catalogue: Catalogue, summary: dict[str, Any]) -> tuple[Skipped, ...]:
    """Everything that was not examined, in order of path."""
    found = [*catalogue.passed_over(), *(skipped for _, _, skipped in catalogue.failures())]
    found += catalogue.unconfirmable()
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


def summary_to_plain(summary: ScanSummary) -> dict[str, Any]:
    """A summary as JSON values."""
    return asdict(summary)


def summary_from_plain(plain: dict[str, Any]) -> ScanSummary:
    """The reverse of `summary_to_plain`; further keys are left aside."""
    values = {field.name: plain[field.name] for field in fields(ScanSummary)}
    values["roots"] = tuple(values["roots"])
    values["index"] = IndexQuality(**values["index"])
    return ScanSummary(**values)
