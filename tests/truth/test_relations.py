"""Labelled libraries made from real photos, scanned and judged by relation.

Needs the photos (`DEDUP_PHOTOS`) with the scripts that make and judge such libraries in the folder `bench` beside
them. `DEDUP_TRUTH_ORIGINALS` and `DEDUP_TRUTH_SEED` choose another library; `-s` shows the whole table.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dedup import Settings, scan_library
from dedup.records import DuplicateGroup, Photo, Relation, Report
from dedup.report import to_json

ROOT = Path(__file__).parents[2]
PHOTOS = Path(os.environ.get("DEDUP_PHOTOS") or ROOT.parent / "shared" / "photos")
BENCH = PHOTOS.parent / "bench"
ORIGINALS = os.environ.get("DEDUP_TRUTH_ORIGINALS", "14")
SEED = os.environ.get("DEDUP_TRUTH_SEED", "404")

pytestmark = [
    pytest.mark.truth,
    pytest.mark.skipif(
        not (PHOTOS / "originals").is_dir() or not (BENCH / "make_corpus.py").is_file(),
        reason="no labelled photos; set DEDUP_PHOTOS to their folder",
    ),
]


@pytest.fixture(scope="module")
def verdict(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the judge says of a scan of a fresh library: every edit, all kinds of pictures that only look alike."""
    home = tmp_path_factory.mktemp("truth")
    make = [sys.executable, str(BENCH / "make_corpus.py"), "--originals", str(PHOTOS / "originals")]
    make += ["--out", str(home / "made"), "--count", ORIGINALS, "--per-original", "20", "--distinct", "40"]
    subprocess.run([*make, "--seed", SEED, "--jobs", "1"], check=True, capture_output=True)
    library, truth = home / "made" / "library", home / "made" / "truth.csv"
    report: Report = scan_library([str(library)], Settings(db=str(home / "photos.db"), jobs=2))
    (home / "report.json").write_text(json.dumps(to_json(report)), encoding="utf-8")
    judge = [sys.executable, str(BENCH / "judge.py"), str(truth), str(home / "report.json")]
    told = subprocess.run(
        [*judge, "--root", str(library), "--json", str(home / "verdict.json"), "--show", "20"],
        check=True,
        capture_output=True,
        text=True,
    )
    print(told.stdout)
    found: dict[str, Any] = json.loads((home / "verdict.json").read_text())
    return found


def test_nothing_is_called_a_copy_that_is_none(verdict: dict[str, Any]) -> None:
    assert verdict["wrong"] == []


def test_no_poorer_copy_is_kept(verdict: dict[str, Any]) -> None:
    assert verdict["worse"] == []


def test_different_photos_never_share_a_group(verdict: dict[str, Any]) -> None:
    assert verdict["false"] == {}


def test_ordinary_copies_are_found_as_copies(verdict: dict[str, Any]) -> None:
    hits, total = (sum(pair[side] for pair in verdict["safe"].values()) for side in (0, 1))
    assert total > 30
    assert hits >= 0.97 * total


@pytest.mark.parametrize(("severity", "least"), [("benign", 0.98), ("moderate", 0.97), ("hard", 0.85)])
def test_edited_versions_stand_with_their_original(
    verdict: dict[str, Any], severity: str, least: float
) -> None:
    hits, total = verdict["severity"][severity]
    assert hits >= least * total


def test_one_photo_in_every_format_is_one_group(tmp_path: Path) -> None:
    folder = PHOTOS / "formats" / "same_photo"
    report = scan_library([str(folder)], Settings(db=str(tmp_path / "photos.db"), jobs=2))
    with (PHOTOS / "formats" / "formats.csv").open(newline="") as lines:
        same = {Path(row["path"]).name for row in csv.DictReader(lines) if row["group"] == "G_same"}
    skipped = {Path(skipped.path).name for skipped in report.skipped}
    groups = [
        {Path(path).name for path in (group.keeper.file.path, *(m.photo.file.path for m in group.members))}
        for group in report.groups
    ]
    assert any(same - skipped <= group for group in groups), [sorted(group) for group in groups]
    assert skipped & same <= {"photo.jxl"}
    bits = {photo.file.path: photo.info.bits for group in report.groups for photo in _photos(group)}
    for group in report.groups:
        for member in group.members:
            if member.match.relation is Relation.SAME_PIXELS:
                assert bits[member.photo.file.path] == bits[group.keeper.file.path]


def _photos(group: DuplicateGroup) -> list[Photo]:
    return [group.keeper, *(member.photo for member in group.members)]
