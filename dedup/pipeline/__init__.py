"""The recipe: wires stages, catalogue and engine together; one function per command.

Promises: what is imported here is light; the heavy stages are imported when there is work for them.

    scan.py      `scan_library`            places.py      where things lie; is the program still the same
    looking.py   crawl against catalogue   reading.py     new files to fingerprints
    matching.py  pairs, and their matches  grouping.py    matches to groups
    work.py      these four in order       components.py  cutting a graph into parts
    results.py   what the last scan found  showing.py    the HTML report with its pictures
    acting.py    apply, undo, recover, purge   confirming.py  confirmation on open files
    deciding.py  plans and decisions       surveying.py  files looked at for a plan
    tending.py   stats, doctor and export  decisions.py  decisions as a JSON file
"""

from __future__ import annotations

from dedup.pipeline.acting import (
    PurgeChoice,
    Watch,
    apply_plan,
    has_unfinished,
    list_runs,
    purge_quarantine,
    recover_runs,
    survey_purge,
    undo_run,
)
from dedup.pipeline.deciding import (
    decide,
    forget_decisions,
    list_decisions,
    load_plan,
    make_plan,
    part_photos,
    save_plan,
)
from dedup.pipeline.decisions import decisions_to_json, read_decisions, write_decisions
from dedup.pipeline.places import Progress, catalogue_path
from dedup.pipeline.results import load_report
from dedup.pipeline.scan import find_duplicates, scan_folders, scan_library
from dedup.pipeline.showing import write_html
from dedup.pipeline.tending import examine_installation, export_photos, library_stats

__all__ = [
    "Progress",
    "PurgeChoice",
    "Watch",
    "apply_plan",
    "catalogue_path",
    "decide",
    "decisions_to_json",
    "examine_installation",
    "export_photos",
    "find_duplicates",
    "forget_decisions",
    "has_unfinished",
    "library_stats",
    "list_decisions",
    "list_runs",
    "load_plan",
    "load_report",
    "make_plan",
    "part_photos",
    "purge_quarantine",
    "read_decisions",
    "recover_runs",
    "save_plan",
    "scan_folders",
    "scan_library",
    "survey_purge",
    "undo_run",
    "write_decisions",
    "write_html",
]
