"""The recipe: wires stages, catalogue and engine together; one function per command.

Promises: each module is imported when the first of its functions is asked for, and the heavy stages when there is
work for them: a scan that finds nothing changed loads neither plans nor what carries them out.

    scan.py      `scan_library`            places.py      where things lie; is the program still the same
    looking.py   crawl against catalogue   reading.py     new files to fingerprints
    matching.py  pairs, and their matches  grouping.py    matches to groups
    work.py      these four in order       components.py  cutting a graph into parts
    results.py   what the last scan found  showing.py    the HTML report with its pictures
    acting.py    apply, undo, recover, purge   confirming.py  confirmation on open files
    deciding.py  plans and decisions       decisions.py  decisions as a JSON file
    surveying.py files looked at for it    extents.py    whether two files share their blocks
    tending.py   stats, doctor and export  own_files.py  files that a user gives a name to
    dataset.py   a result as Parquet       found.py      a data set as a report
    reviewing.py  groups as a person goes   listing.py    them in a few numbers each
                 through them              judging.py    what was said about one of them
    rules.py     deciding about many       gallery.py    pictures drawn as they are asked for
    portion.py   confirm and group a part  imported.py   a data set into a catalogue
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dedup.pipeline.acting import (
        PurgeChoice,
        Watch,
        apply_plan,
        list_runs,
        purge_quarantine,
        recover_runs,
        survey_purge,
        undo_run,
    )
    from dedup.pipeline.checking import Checker
    from dedup.pipeline.comparing import check_picture_place, compare_files, write_picture
    from dedup.pipeline.dataset import is_address
    from dedup.pipeline.deciding import (
        decide,
        forget_decisions,
        list_decisions,
        load_plan,
        make_plan,
        part_photos,
        save_plan,
    )
    from dedup.pipeline.decisions import (
        decisions_from_json,
        decisions_text,
        decisions_to_json,
        read_decisions,
        write_decisions,
    )
    from dedup.pipeline.early import look_at_file
    from dedup.pipeline.found import dataset_groups, load_dataset_outcome, load_dataset_report
    from dedup.pipeline.gallery import Gallery, sight_job
    from dedup.pipeline.imported import import_dataset
    from dedup.pipeline.intake import CheckChoice, answer_to_json, check_pictures
    from dedup.pipeline.judging import Judgement, Mark, photos_of
    from dedup.pipeline.listing import Query
    from dedup.pipeline.places import Progress, catalogue_path, has_unfinished
    from dedup.pipeline.results import load_report
    from dedup.pipeline.reviewing import Outlook, Review, Sheet, Stale
    from dedup.pipeline.rules import Rule, RuleKind
    from dedup.pipeline.scan import find_duplicates, scan_folders, scan_library
    from dedup.pipeline.sequencing import plan_groups
    from dedup.pipeline.showing import write_html
    from dedup.pipeline.tending import examine_installation, export_photos, library_stats

__all__ = [
    "CheckChoice",
    "Checker",
    "Gallery",
    "Judgement",
    "Mark",
    "Outlook",
    "Progress",
    "PurgeChoice",
    "Query",
    "Review",
    "Rule",
    "RuleKind",
    "Sheet",
    "Stale",
    "Watch",
    "answer_to_json",
    "apply_plan",
    "catalogue_path",
    "check_pictures",
    "check_picture_place",
    "compare_files",
    "dataset_groups",
    "decide",
    "decisions_from_json",
    "decisions_text",
    "decisions_to_json",
    "examine_installation",
    "export_photos",
    "find_duplicates",
    "forget_decisions",
    "has_unfinished",
    "import_dataset",
    "is_address",
    "library_stats",
    "list_decisions",
    "list_runs",
    "load_dataset_outcome",
    "load_dataset_report",
    "load_plan",
    "load_report",
    "look_at_file",
    "make_plan",
    "part_photos",
    "photos_of",
    "plan_groups",
    "purge_quarantine",
    "read_decisions",
    "recover_runs",
    "save_plan",
    "scan_folders",
    "scan_library",
    "sight_job",
    "survey_purge",
    "undo_run",
    "write_decisions",
    "write_html",
    "write_picture",
]

_HOMES = {
    "dedup.pipeline.acting": (
        "PurgeChoice",
        "Watch",
        "apply_plan",
        "list_runs",
        "purge_quarantine",
        "recover_runs",
        "survey_purge",
        "undo_run",
    ),
    "dedup.pipeline.comparing": ("check_picture_place", "compare_files", "write_picture"),
    "dedup.pipeline.checking": ("Checker",),
    "dedup.pipeline.early": ("look_at_file",),
    "dedup.pipeline.intake": ("CheckChoice", "answer_to_json", "check_pictures"),
    "dedup.pipeline.deciding": (
        "decide",
        "forget_decisions",
        "list_decisions",
        "load_plan",
        "make_plan",
        "part_photos",
        "save_plan",
    ),
    "dedup.pipeline.dataset": ("is_address",),
    "dedup.pipeline.imported": ("import_dataset",),
    "dedup.pipeline.found": ("dataset_groups", "load_dataset_outcome", "load_dataset_report"),
    "dedup.pipeline.gallery": ("Gallery", "sight_job"),
    "dedup.pipeline.judging": ("Judgement", "Mark", "photos_of"),
    "dedup.pipeline.listing": ("Query",),
    "dedup.pipeline.reviewing": ("Outlook", "Review", "Sheet", "Stale"),
    "dedup.pipeline.rules": ("Rule", "RuleKind"),
    "dedup.pipeline.decisions": (
        "decisions_from_json",
        "decisions_text",
        "decisions_to_json",
        "read_decisions",
        "write_decisions",
    ),
    "dedup.pipeline.places": (
        "Progress",
        "catalogue_path",
        "has_unfinished",
    ),
    "dedup.pipeline.results": ("load_report",),
    "dedup.pipeline.scan": (
        "find_duplicates",
        "scan_folders",
        "scan_library",
    ),
    "dedup.pipeline.sequencing": ("plan_groups",),
    "dedup.pipeline.showing": ("write_html",),
    "dedup.pipeline.tending": (
        "examine_installation",
        "export_photos",
        "library_stats",
    ),
}


def __getattr__(name: str) -> Any:
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
