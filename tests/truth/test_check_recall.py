"""`check` against the report of a scan that includes the file, on a labelled library.

Files of different families are asked about together: each with its own family, and the rest of the library, in place.
What differs is looked at once more with nothing else away. Needs the photos and scripts of `test_relations`.
`DEDUP_CHECK_FILES` says how many files are asked about.
"""

from __future__ import annotations

import csv
import os
import random
import subprocess
import sys
from collections import Counter, defaultdict
from itertools import zip_longest
from pathlib import Path

import pytest

from dedup import Library, Settings, scan_library
from dedup.records import Checked
from tests.test_check import answer_of

ROOT = Path(__file__).parents[2]
PHOTOS = Path(os.environ.get("DEDUP_PHOTOS") or ROOT.parent / "shared" / "photos")
BENCH = PHOTOS.parent / "bench"
FILES = int(os.environ.get("DEDUP_CHECK_FILES", "80"))

pytestmark = [
    pytest.mark.truth,
    pytest.mark.skipif(
        not (PHOTOS / "originals").is_dir() or not (BENCH / "make_corpus.py").is_file(),
        reason="no labelled photos; set DEDUP_PHOTOS to their folder",
    ),
]


def test_check_says_what_a_scan_with_the_file_says(tmp_path: Path) -> None:
    make = [sys.executable, str(BENCH / "make_corpus.py"), "--originals", str(PHOTOS / "originals")]
    make += ["--out", str(tmp_path / "made"), "--count", str(FILES // 9 + 1), "--per-original", "5"]
    make += ["--distinct", str(FILES // 7 + 1), "--docs", str(FILES // 10), "--chats", str(FILES // 20)]
    make += ["--flats", str(FILES // 20), "--max-side", "480", "--fullres-every", "0"]
    subprocess.run([*make, "--seed", "77", "--jobs", "1"], check=True, capture_output=True)
    root = tmp_path / "made" / "library"
    with (tmp_path / "made" / "truth.csv").open(newline="", encoding="utf-8") as lines:
        rows = sorted((row["path"], row["group_id"] or row["path"]) for row in csv.DictReader(lines))
    random.Random(5).shuffle(rows)
    settings = Settings(db=str(tmp_path / "photos.db"), jobs=1)
    report = scan_library([root], settings)
    expected = {root / path: answer_of(report, str(root / path)) for path, _ in rows}

    def wrong_of(paths: list[Path]) -> list[Path]:
        """Those that a library without all of them answers otherwise than the scan of all."""
        outside = {path: tmp_path / f"outside{number}" for number, path in enumerate(paths)}
        for path, out in outside.items():
            path.rename(out)
        scan_library([root], settings)
        with Library.open(settings=settings) as library:
            said.update({path: library.check(out) for path, out in outside.items()})
        for path, out in outside.items():
            out.rename(path)
        return [path for path in paths if said[path].answer is not expected[path]]

    said: dict[Path, Checked] = {}
    families: dict[str, list[Path]] = defaultdict(list)
    for path, family in rows[:FILES]:
        families[family].append(root / path)
    rounds = zip_longest(*families.values())
    suspects = [path for together in rounds for path in wrong_of([one for one in together if one])]
    wrong = [
        (str(path), said[path].answer.value, expected[path].value, said[path].best)
        for suspect in suspects
        for path in wrong_of([suspect])
    ]
    answers = Counter(answer.answer for answer in said.values())
    print(len(said), len(suspects), answers)
    assert len(said) == min(FILES, len(rows)) and len(answers) >= 3
    assert wrong == []
