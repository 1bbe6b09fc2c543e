"""The recipe: wires stages, catalogue and engine together; one function per command.

Promises: what is imported here is light; the heavy stages are imported when there is work for them.

    scan.py      `scan_library`            places.py      where things lie; is the program still the same
    looking.py   crawl against catalogue   reading.py     new files to fingerprints
    matching.py  pairs, and their matches  grouping.py    matches to groups
    work.py      these four in order       components.py  cutting a graph into parts
    results.py   what the last scan found  showing.py    the HTML report with its pictures
    tending.py   stats, doctor and export
"""

from __future__ import annotations

from dedup.pipeline.places import Progress, catalogue_path
from dedup.pipeline.results import load_report
from dedup.pipeline.scan import find_duplicates, scan_folders, scan_library
from dedup.pipeline.showing import write_html
from dedup.pipeline.tending import examine_installation, export_photos, library_stats

__all__ = [
    "Progress",
    "catalogue_path",
    "examine_installation",
    "export_photos",
    "find_duplicates",
    "library_stats",
    "load_report",
    "scan_folders",
    "scan_library",
    "write_html",
]
