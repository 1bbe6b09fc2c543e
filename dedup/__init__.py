"""Find duplicate photos, confirmed at full pixels.

    >>> from dedup import Settings, scan_library
    >>> report = scan_library(["/home/me/Pictures"], Settings(prefer=("/home/me/Pictures/best",)))  # doctest: +SKIP
    >>> for group in report.groups:  # doctest: +SKIP
    ...     for member in group.members:
    ...         print(member.photo.file.path, member.match.relation, member.match.sentence)

The way of a photo, each arrow a record of `records`:

    roots -> crawl -> PhotoFile -> decode, fingerprint -> Photo -> index -> CandidatePair -> confirm -> Match
          -> cluster, keeper -> DuplicateGroup -> report
    DuplicateGroup, Decision -> plan -> Operation -> apply -> journal, disk -> Outcome

    records/        what travels between the stages          errors.py       every way to give up, with exit codes
    settings.py     every number that decides                engine/         where work runs: `Engine.map`
    crawl.py        folders to files                         decode/         files to upright, colour-managed pixels
    fingerprint.py  pixels to hashes and colours             index/          photos to candidate pairs
    confirm/        candidate pairs to measured matches      cluster/        matches to groups around a keeper
    keeper/         which photo to keep, and why             report/         groups to text, JSON, CSV and HTML
    plan/           groups, decisions to operations          apply/          operations to the disk, and back
    compare/        two pictures to named measures           sequence.py     frames that change, break or repeat
    testing.py      `assert_same_picture` and the pytest plugin
    journal.py      what was intended, and what came of it
    catalogue/      one SQLite file that remembers it all    pipeline/       wires the stages; one function per command
    library.py      `Library`: asked about pictures by programs    serve.py    the same over HTTP
    review/         a local page to look and decide          listening.py   what `serve` and `review` share
    spark/          the pipeline on Apache Spark             cli/            words to settings, results to words

Imports point one way: cli > review > pipeline > stages > decode, catalogue, engine > settings > errors > records;
stages never import each other. Nothing heavy is imported before it is used, this package itself included: the names
below are looked up when they are asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dedup.errors import Busy, CatalogueInDoubt, DedupError, InternalFault, Unsafe, UsageError
    from dedup.library import Library
    from dedup.pipeline import compare_files, find_duplicates, load_report, scan_library
    from dedup.records import (
        Answer,
        Checked,
        Comparison,
        DuplicateGroup,
        Likeness,
        Match,
        Member,
        Photo,
        PhotoFile,
        Reason,
        Relation,
        Report,
        SequenceReport,
        Skipped,
    )
    from dedup.sequence import examine_sequence
    from dedup.settings import Settings

__version__ = "0.1.0"

__all__ = [
    "scan_library",
    "find_duplicates",
    "load_report",
    "compare_files",
    "examine_sequence",
    "Comparison",
    "SequenceReport",
    "Library",
    "Answer",
    "Checked",
    "Likeness",
    "Settings",
    "Report",
    "DuplicateGroup",
    "Member",
    "Match",
    "Relation",
    "Photo",
    "PhotoFile",
    "Skipped",
    "Reason",
    "DedupError",
    "UsageError",
    "Busy",
    "Unsafe",
    "CatalogueInDoubt",
    "InternalFault",
]

_HOMES = {
    "dedup.pipeline": ("scan_library", "find_duplicates", "load_report", "compare_files"),
    "dedup.library": ("Library",),
    "dedup.sequence": ("examine_sequence",),
    "dedup.settings": ("Settings",),
    "dedup.errors": ("DedupError", "UsageError", "Busy", "Unsafe", "CatalogueInDoubt", "InternalFault"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next((module for module, names in _HOMES.items() if name in names), "dedup.records")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
