"""SIGKILL for executors of a cluster on this machine, in a stage that is named; also as a program, many times.

python -m tests.spark.kills --rounds 5
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

MARK = "CoarseGrainedExecutorBackend"


def executors_below(pid: int, mark: str = MARK) -> list[int]:
    """Processes below one of ours that are of a kind."""
    parents: dict[int, int] = {}
    words: dict[int, bytes] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                parents[int(entry.name)] = int(
                    entry.joinpath("stat").read_text().rpartition(")")[2].split()[1]
                )
                words[int(entry.name)] = entry.joinpath("cmdline").read_bytes()
    found = []
    for child in parents:
        above = child
        while above in parents and above != pid:
            above = parents[above]
        if above == pid and child != pid and mark.encode() in words.get(child, b""):
            found.append(child)
    return sorted(found)


def finished_parts(out: Path) -> dict[str, tuple[int, int]]:
    """The parts of `files` that are there, and what tells that they were not written again."""
    found = {}
    for path in out.glob("files/part-*.parquet"):
        status = path.stat()
        found[path.name] = (status.st_ino, status.st_mtime_ns)
    return found


class Killer:
    """Progress that kills an executor soon after a stage began."""

    def __init__(self, stage: str, out: Path, driver: int, after_s: float = 0.3) -> None:
        self.stage = stage
        self.out = out
        self.driver = driver
        self.after_s = after_s
        self.killed = 0
        self.finished: dict[str, tuple[int, int]] = {}
        self._begun = False

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        if stage == self.stage and not self._begun:
            self._begun = True
            threading.Timer(self.after_s, self._kill).start()

    def _kill(self) -> None:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            executors = executors_below(self.driver)
            if executors:
                self.finished = finished_parts(self.out)
                os.kill(executors[0], signal.SIGKILL)
                self.killed = executors[0]
                return
            time.sleep(0.05)


def main() -> int:
    from dedup import pipeline
    from dedup.report import to_json
    from dedup.settings import Settings
    from dedup.spark import Where, scan_on_spark
    from dedup.spark.session import Session
    from tests.test_pipeline import fill

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    right = again = 0
    with tempfile.TemporaryDirectory(prefix="dedup-kills-") as name:
        place = Path(name)
        fill(place / "photos")
        settings = Settings(db=str(place / "local.db"), neighbours=False)
        local = to_json(pipeline.scan_library([place / "photos"], settings))["groups"]
        with Session("local-cluster[2,1,1024]") as cluster:
            for turn in range(rounds):
                for stage in ("hash", "search", "portion", "confirm"):
                    out = place / f"{stage}-{turn}"
                    killer = Killer(stage, out, cluster.jvm, 0.2 + 0.8 * turn)
                    began = time.monotonic()
                    scan_on_spark([str(place / "photos")], settings, Where(str(out), cluster.master), killer)
                    same = to_json(pipeline.load_dataset_report(str(out)))["groups"] == local
                    kept = killer.finished.items() <= finished_parts(out).items()
                    right += same and kept and bool(killer.killed)
                    again += not kept
                    print(
                        f"{stage:8} round {turn + 1}: killed {killer.killed} {killer.after_s:.1f} s into it, groups"
                        f" {'identical' if same else 'DIFFER'}, {len(killer.finished)} finished parts"
                        f" {'kept' if kept else 'READ AGAIN'}, {time.monotonic() - began:.0f} s",
                        flush=True,
                    )
    print(f"{right} of {4 * rounds} right; finished parts that were read again: {again}")
    return 0 if right == 4 * rounds else 1


if __name__ == "__main__":
    raise SystemExit(main())
