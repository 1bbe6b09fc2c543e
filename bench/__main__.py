"""Measure everything in one run and print it as ratios: `python -m bench PHOTOS`; `--help` lists the rest."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.floor import decode_floor_s, full_decode_cpu_s
from bench.library import Library, make_library, make_tiny, walk
from bench.peers import PEERS, install, run_s

WORK = Path(".bench")
CORES = 2
"""All figures are for two workers."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measured ratio."""

    what: str
    ours: str
    against: str
    ratio: float
    bar: float
    most: bool = True
    """Whether the bar is the most it may be, rather than the least."""

    @property
    def holds(self) -> bool:
        """Whether the ratio is within its bar."""
        return self.ratio <= self.bar if self.most else self.ratio >= self.bar


def scan(root: Path, db: Path, jobs: int = CORES, html: str = "-") -> dict[str, Any]:
    """One scan in a process of its own; see `timed_scan`."""
    script = Path(__file__).with_name("timed_scan.py")
    environment = {**os.environ, "DEDUP_DB": str(db.absolute())}
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, script, repr(begun), str(jobs), html, root],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    found["wall_s"] = time.monotonic() - begun
    return found


def fresh_db(name: str) -> Path:
    """Where a catalogue may be made, with nothing left of an earlier one."""
    folder = WORK / "catalogues" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder / "catalogue.db"


def warm(files: list[Path]) -> None:
    """Read all files once, so that no disk is measured."""
    for path in files:
        path.read_bytes()


def measure_cold(library: Library, rounds: int) -> list[Row]:
    """Crawl, sha256, decode, features and catalogue, interpreter start included, against the bare decode."""
    files = sorted(library.photos.glob("*.jpg"))
    warm(files)
    times = []
    for _ in range(rounds):  # in turn, so that a busy moment of the machine meets all three
        floor = decode_floor_s(files, CORES)
        two, one = (
            scan(library.photos, fresh_db("cold"), jobs)["stages"]["hash"]["wall_s"] for jobs in (CORES, 1)
        )
        times.append((floor, two, one))
    floor, two, one = map(statistics.median, zip(*times, strict=True))
    name = f"cold scan of {len(files)} JPEGs of 2 to 12 MP"
    return [
        Row(
            f"{name}, against the bare decode at 1/8 on two threads",
            f"{two:.2f} s",
            f"{floor:.2f} s",
            two / floor,
            1.35,
        ),
        Row("one worker against two", f"{one:.2f} s", f"{two:.2f} s", one / two, 1.8, most=False),
    ]


def measure_whole(library: Library, rounds: int, with_peers: bool) -> tuple[list[Row], list[str]]:
    """Scan, join, confirmation and report, against peers that compare hashes only."""
    warm(library.files())
    ready, notes = [], []
    for peer in PEERS if with_peers else ():
        script, why = install(peer, WORK)
        if script:
            ready.append((peer, script))
        else:
            notes.append(f"{peer.name} was left out: {why}")
    ours: list[float] = []
    pictures: list[float] = []
    theirs: dict[str, list[float]] = {peer.name: [] for peer, _ in ready}
    for _ in range(rounds):
        db = fresh_db("whole")
        last = scan(library.root, db, html=str(db.with_name("report.html")))
        ours.append(last["stages"]["report"]["wall_s"])
        pictures.append(last["wall_s"] - ours[-1])
        for peer, script in ready:
            seconds, why = run_s(script, library.root)
            if seconds is None:
                notes.append(f"{peer.name} failed: {why}")
            else:
                theirs[peer.name].append(seconds)
    whole = statistics.median(ours)
    rows = []
    for peer, _ in ready:
        if theirs[peer.name]:
            peer_s = statistics.median(theirs[peer.name])
            name = f"whole run on {len(library.files())} JPEGs, against {peer.name}, which confirms nothing"
            rows.append(Row(name, f"{whole:.2f} s", f"{peer_s:.2f} s", whole / peer_s, peer.bar))
    notes.append(
        f"whole run: {whole:.2f} s, {last['confirmed']} pairs confirmed; "
        f"an HTML report with its pictures takes {statistics.median(pictures):.2f} s more"
    )
    return [*rows, _confirmation(db, last)], notes


def _confirmation(db: Path, last: dict[str, Any]) -> Row:
    """Processor time of confirmation against one full decode of each photo in a group or pair of more than bytes.

    Photos that were decoded and turned out to be alike in nothing are on our side of the scale only.
    """
    from dedup import pipeline
    from dedup.records import Relation
    from dedup.settings import Settings

    report = pipeline.load_report(Settings(db=str(db.absolute())))
    decoded = set()
    for group in report.groups:
        members = [member for member in group.members if member.match.relation is not Relation.SAME_BYTES]
        if members:
            decoded |= {group.keeper.file.path, *(member.photo.file.path for member in members)}
    for pair in report.similar:
        decoded |= {pair.left.file.path, pair.right.file.path}
    before = last["stages"].get("search", last["stages"]["hash"])
    ours = last["stages"]["confirm"]["cpu_s"] - before["cpu_s"]
    theirs = full_decode_cpu_s(sorted(decoded))
    name = f"confirmation of {last['confirmed']} pairs, CPU, against one full decode of each of {len(decoded)} photos"
    return Row(name, f"{ours:.2f} s", f"{theirs:.2f} s", ours / theirs, 1.4)


def measure_rescan(count: int, rounds: int) -> list[Row]:
    """A scan that finds nothing changed, and the memory of the scan before it."""
    root = make_tiny(WORK, count)
    db = fresh_db("tiny")
    print(f"scanning {count:,} tiny photos ...")
    first = scan(root, db)
    again, bare = [], []
    for _ in range(rounds):
        begun = time.monotonic()
        files = sum(1 for _ in walk(root))
        bare.append(time.monotonic() - begun)
        begun = time.monotonic()
        command = [sys.executable, "-m", "dedup", "--quiet", "--db", str(db), "scan", str(root)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        again.append(time.monotonic() - begun)
    ours, theirs = statistics.median(again), statistics.median(bare)
    peak = first["peak_bytes"] / 1e6
    return [
        Row(
            f"rescan of {files:,} unchanged files, against scandir and stat",
            f"{ours:.2f} s",
            f"{theirs:.2f} s",
            ours / theirs,
            3.0,
        ),
        Row(
            f"peak memory of the parent, scan of {first['photos']:,} photos",
            f"{peak:.0f} MB",
            "600 MB",
            peak / 600,
            1.0,
        ),
    ]


def machine() -> str:
    """What the figures were measured on."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{len(os.sched_getaffinity(0))} cores, {model}, Python {platform.python_version()}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("photos", type=Path, help="folder of real photos to cut the library from")
    parser.add_argument("--count", type=int, default=1000, help="camera-sized JPEGs (default 1,000)")
    parser.add_argument("--tiny", type=int, default=100_000, help="files of the rescan (default 100,000)")
    parser.add_argument(
        "--rounds", type=int, default=3, help="times each thing is measured; the median counts"
    )
    parser.add_argument(
        "--no-peers", action="store_true", help="do not install and run other duplicate finders"
    )
    asked = parser.parse_args()
    if not asked.photos.is_dir():
        parser.error(f"{asked.photos}: there is no such folder")
    WORK.mkdir(exist_ok=True)
    library = make_library(asked.photos, WORK, asked.count)
    rows = measure_cold(library, asked.rounds)
    whole, notes = measure_whole(library, asked.rounds, not asked.no_peers)
    rows += whole
    if asked.tiny:
        rows += measure_rescan(asked.tiny, asked.rounds)
    print(f"\n{machine()}; median of {asked.rounds}\n")
    wide = max(len(row.what) for row in rows)
    print(f"{'':<{wide}}  {'ours':>9} {'against':>9} {'ratio':>6}     bar")
    for row in rows:
        bar = f"{'<=' if row.most else '>='} {row.bar:g}"
        verdict = "" if row.holds else "  missed"
        print(f"{row.what:<{wide}}  {row.ours:>9} {row.against:>9} {row.ratio:6.2f} {bar:>7}{verdict}")
    for note in notes:
        print(note)
    (WORK / "result.json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
