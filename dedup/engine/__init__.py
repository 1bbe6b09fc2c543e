"""Where work runs: `Engine.map` calls a function on many items, in this process or in worker processes with limits.

Promises: every item comes back exactly once, with its result or with a `Failure` that says what became of it; an
item that crashes, hangs, balloons or leaves costs itself and nothing else; no worker outlives this process, however
this process ends; items are taken from the iterable only as fast as they are worked on. Results come in the order
in which they are ready. An exception out of the function is a fault of ours, never of a photo, and is raised as
`InternalFault`.
A worker's death is believed at the second time, alone in a fresh worker; an item that is overdue has had its chance.
Does not: know what a photo is, or keep a hostile decoder from the user's files (a worker runs as the same user).

How it is built: one socket per worker, small batches, and a shared page into which a worker writes what it is at
and since when. So the parent kills exactly the item that is overdue, and knows which item of a batch a dead worker
was at, without a message per item. `concurrent.futures` is not used because one killed child breaks its whole pool.

A seam for more machines: anything with this `map` may take the place of `ProcessEngine`, since functions are
named by module and items and results are plain records.
"""

from __future__ import annotations

import os
import sys

from dedup.engine.contract import Engine, Failure, Limits, SerialEngine
from dedup.engine.later import Later
from dedup.engine.processes import ProcessEngine

__all__ = ["Engine", "Failure", "Later", "Limits", "ProcessEngine", "SerialEngine", "open_engine"]


def open_engine(jobs: int, limits: Limits) -> ProcessEngine:
    """An engine of `jobs` worker processes; 0 for one per core that this process may use."""
    return ProcessEngine(jobs or usable_cores(), limits)


def usable_cores() -> int:
    """Cores that this process may use: its affinity, and what its container allows (cgroup v2)."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
        return min(cores, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or "max": no limit
        return cores
