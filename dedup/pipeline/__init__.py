"""The recipe: wires stages, catalogue and engine together; one function per command.

Promises: what is imported here is light; the heavy stages are imported when there is work for them.

    scan.py      `scan_library`            places.py      where things lie; is the program still the same
    looking.py   crawl against catalogue   reading.py     new files to fingerprints
    matching.py  pairs, and their matches  grouping.py    matches to groups
    work.py      these four in order       components.py  cutting a graph into parts
    results.py   what the last scan found
"""

from __future__ import annotations

from dedup.pipeline.results import load_report
from dedup.pipeline.scan import find_duplicates, scan_folders, scan_library

__all__ = ["find_duplicates", "load_report", "scan_folders", "scan_library"]
