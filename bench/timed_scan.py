"""One scan in a process of its own, timed from the moment it was asked for: `timed_scan.py BEGUN JOBS HTML ROOT`.

The result goes to stdout as JSON: seconds since BEGUN (of the monotonic clock that all processes share) at the end of
each stage, processor seconds of this process and its workers there, and this process's peak memory.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s() -> float:
    """Processor seconds of this process, its ended workers and its living ones."""
    used = os.times()
    total = used.user + used.system + used.children_user + used.children_system
    for children in Path("/proc/self/task").glob("*/children"):
        for child in children.read_text().split():
            try:
                fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            total += (int(fields[11]) + int(fields[12])) / CLOCK_TICKS
    return total


def peak_bytes() -> int:
    """Most memory this process ever held. `getrusage` would also count what its parent held when it forked."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def main() -> None:
    begun, jobs, html, root = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    from dedup import pipeline
    from dedup.report import to_json
    from dedup.settings import Settings

    stages: dict[str, dict[str, Any]] = {}
    current = ""

    def mark(stage: str) -> None:
        if stage:
            stages[stage] = {"wall_s": time.monotonic() - begun, "cpu_s": cpu_s()}

    def progress(stage: str, done: int, total: int | None) -> None:
        nonlocal current
        if stage != current:
            mark(current)
            current = stage
        elif total is not None and done == total:
            mark(stage)

    settings = Settings(jobs=jobs, db=os.environ["DEDUP_DB"])
    if html == "-":
        summary = pipeline.scan_folders([root], settings, progress).summary
    else:
        report = pipeline.scan_library([root], settings, progress)
        Path(html).with_suffix(".json").write_text(json.dumps(to_json(report)))
        mark("report")
        pipeline.write_html(report, settings, html, progress)
        summary = report.summary
    mark("end")
    json.dump(
        {
            "stages": stages,
            "peak_bytes": peak_bytes(),
            "photos": summary.photos,
            "read": summary.read,
            "confirmed": summary.confirmed,
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
