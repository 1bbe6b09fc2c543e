"""The radius join against faiss's exact search of binary vectors, same hashes, one core each: `python -m bench.join`.

Measured in CPU seconds, so that other programs on the machine disturb little. faiss runs in a virtual environment of
its own; it is asked a sample of the queries, and its time is scaled to all of them. Recall is checked on that sample.

`random`: random hashes with 15 % planted clusters. `skew`: a fifth of all around 40 templates besides, as low-texture
photos are.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dedup.index import radius_pairs

RADIUS = 8
SAMPLE = 1000
BAR_TIME = 0.05
"""Most that the join may take, as a share of faiss's time."""
BAR_MEMORY_MB = 512

FAISS_PROGRAM = """
import sys, time, json, numpy as np, faiss
faiss.omp_set_num_threads(1)
hashes = np.load(sys.argv[1]); rows = np.load(sys.argv[2]); radius = int(sys.argv[3])
index = faiss.IndexBinaryFlat(64)
index.add(hashes.view(np.uint8).reshape(-1, 8))
queries = hashes[rows].view(np.uint8).reshape(-1, 8)
start = time.process_time()
limits, _, found = index.range_search(queries, radius + 1)   # faiss takes distances below the radius
print(json.dumps([time.process_time() - start, [found[limits[i]:limits[i + 1]].tolist() for i in range(len(rows))]]))
"""


def make_hashes(count: int, kind: str, seed: int = 7) -> NDArray[np.uint64]:
    """Hashes of a library of so many photos."""
    random = np.random.default_rng(seed)
    words = random.integers(0, 2**64, count, dtype=np.uint64)

    def flips(some: int, most: int) -> NDArray[np.uint64]:
        found = np.zeros(some, dtype=np.uint64)
        for _ in range(most):
            found ^= (random.random(some) < 0.5).astype(np.uint64) << random.integers(0, 64, some).astype(
                np.uint64
            )
        return found

    planted = random.choice(count, int(count * 0.15), replace=False)
    words[planted] = words[random.integers(0, count, len(planted))] ^ flips(len(planted), 10)
    if kind == "skew":
        crowd = random.choice(count, count // 5, replace=False)
        templates = random.integers(0, 2**64, 40, dtype=np.uint64)
        words[crowd] = templates[random.integers(0, 40, len(crowd))] ^ flips(len(crowd), 24)
    return words


def prepare_faiss(folder: Path) -> Path:
    """The Python of a virtual environment that has faiss-cpu; it is made once."""
    python = folder / "faiss" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / "faiss")], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "faiss-cpu", "numpy"], check=True)
    return python


def measure(kind: str, count: int, python: Path) -> dict[str, float]:
    """One comparison: CPU seconds of both, pairs, share of faiss's pairs that the join has."""
    hashes = make_hashes(count, kind)
    rows = np.random.default_rng(1).choice(count, min(SAMPLE, count), replace=False)
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/hashes.npy", hashes)
        np.save(f"{folder}/rows.npy", rows)
        answer = subprocess.run(
            [str(python), "-c", FAISS_PROGRAM, f"{folder}/hashes.npy", f"{folder}/rows.npy", str(RADIUS)],
            check=True,
            capture_output=True,
        )
    faiss_s, found = json.loads(answer.stdout)
    expected = {
        (max(row, other), min(row, other))
        for row, others in zip(rows.tolist(), found, strict=True)
        for other in others
        if other != row
    }
    is_sampled = np.zeros(count, dtype=bool)
    is_sampled[rows] = True
    pairs, ours = 0, set()
    start = time.process_time()
    for left, right, _ in radius_pairs(hashes, hashes, RADIUS):
        pairs += len(left)
        mine = is_sampled[left] | is_sampled[right]
        ours |= set(zip(left[mine].tolist(), right[mine].tolist(), strict=True))
    join_s = time.process_time() - start
    return {
        "join_s": join_s,
        "faiss_s": faiss_s * count / len(rows),
        "pairs": pairs,
        "missed": len(expected - ours),
        "extra": len(ours - expected),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--work", type=Path, default=Path(".bench"))
    given = parser.parse_args()
    python = prepare_faiss(given.work)
    held = True
    for kind in ("random", "skew"):
        row = measure(kind, given.count, python)
        ratio = row["join_s"] / row["faiss_s"]
        print(
            f"{kind:7s} {given.count:,} hashes, radius {RADIUS}: join {row['join_s']:.1f} s, "
            f"faiss {row['faiss_s']:.0f} s, ratio {ratio:.3f} (bar {BAR_TIME}); {row['pairs']:,} pairs, "
            f"missed {row['missed']}, extra {row['extra']}; peak {row['peak_mb']:.0f} MB (bar {BAR_MEMORY_MB})"
        )
        held &= (
            ratio <= BAR_TIME and not row["missed"] and not row["extra"] and row["peak_mb"] <= BAR_MEMORY_MB
        )
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
