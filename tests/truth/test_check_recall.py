"""`check` against the report of a scan that includes the file, one file after the other, on a labelled library.

Needs the photos and scripts of `test_relations`. `DEDUP_CHECK_FILES` says how many files are asked about.
"""

from __future__ import annotations

import csv
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from dedup import Library, Settings, scan_library
from tests.test_check import answer_of

ROOT = Path(__file__).parents[2]
PHOTOS = Path(os.environ.get("DEDUP_PHOTOS") or ROOT.parent / "shared" / "photos")
BENCH = PHOTOS.parent / "bench"
FILES = int(os.environ.get("DEDUP_CHECK_FILES", "60"))

pytestmark = [
    pytest.mark.truth,
    pytest.mark.skipif(
        not (PHOTOS / "originals").is_dir() or not (BENCH / "make_corpus.py").is_file(),
        reason="no labelled photos; set DEDUP_PHOTOS to their folder",
    ),
]


def test_check_says_what_a_scan_with_the_file_says(tmp_path: Path) -> None:
    make = [sys.executable, str(BENCH / "make_corpus.py"), "--originals", str(PHOTOS / "originals")]
    make += ["--out", str(tmp_path / "made"), "--count", "24", "--per-original", "24", "--distinct", "60"]
    subprocess.run([*make, "--seed", "77", "--jobs", "1"], check=True, capture_output=True)
    root = tmp_path / "made" / "library"
    with (tmp_path / "made" / "truth.csv").open(newline="", encoding="utf-8") as lines:
        rows = sorted((row["path"], row["edit"]) for row in csv.DictReader(lines))
    chance = random.Random(5)
    chance.shuffle(rows)
    outside = tmp_path / "outside"
    asked: list[tuple[Path, Path, str]] = []
    for path, edit in rows[: min(FILES, len(rows) * 2 // 3)]:
        inside, out = root / path, outside / path
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(inside, out)
        asked.append((inside, out, edit))
    settings = Settings(db=str(tmp_path / "photos.db"), jobs=1)
    scan_library([root], settings)
    with Library.open(settings=settings) as library:
        said = {out: library.check(out) for _, out, _ in asked}
    wrong = []
    for inside, out, edit in asked:
        shutil.copy2(out, inside)
        report = scan_library([root], settings)
        expected = answer_of(report, str(inside))
        if said[out].answer is not expected:
            wrong.append((str(out), edit, said[out].answer.value, expected.value, said[out].best))
        inside.unlink()
    print(len(asked), Counter(answer.answer.value for answer in said.values()))
    assert wrong == []
