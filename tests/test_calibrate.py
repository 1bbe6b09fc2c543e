"""`dedup bench`: labelled edits of one's own photos, and what is made of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dedup.calibrate import EDITS, Calibration, EditScore, calibrate
from dedup.errors import UsageError
from dedup.settings import Settings
from tests.pictures import jpeg, real_photo

SOME = ("quality 75", "50 % of the size", "cropped to 90 %", "mirrored", "greyscale", "date stamped")


@pytest.fixture
def few_edits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in EDITS if name not in SOME]:
        monkeypatch.delitem(EDITS, name)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("astronaut", "chelsea", "coffee"):
        (folder / f"{name}.jpg").write_bytes(jpeg(real_photo(name, 360), 95))
    (folder / "again.jpg").write_bytes(jpeg(real_photo("coffee", 360), 80))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no photo")
    return folder


def seen(folder: Path) -> dict[str, tuple[int, int]]:
    return {entry.name: (entry.stat().st_mtime_ns, entry.stat().st_ino) for entry in os.scandir(folder)}


@pytest.mark.usefixtures("few_edits")
def test_copies_are_safe_edits_are_not_and_nothing_is_mistaken(photos: Path) -> None:
    before = seen(photos)
    found = calibrate(photos, Settings(jobs=1), photos=6)
    assert seen(photos) == before
    assert (found.photos, found.left_out) == (3, 2)
    scores = {score.name: score for score in found.scores}
    assert set(scores) == set(SOME)
    for score in scores.values():
        assert (score.made, score.found) == (3, 3), score
        assert score.safe == (3 if score.kind == "copy" else 0), score
        assert score.named >= (2 if score.name == "date stamped" else 3), score
    assert found.false_pairs == 0
    assert found.pairs == 3 * 7 * 7
    assert 0 < found.false_bound < 0.03


@pytest.mark.usefixtures("few_edits")
def test_the_same_seed_makes_the_same_edits(photos: Path) -> None:
    assert calibrate(photos, Settings(jobs=1), 2, seed=3) == calibrate(photos, Settings(jobs=1), 2, seed=3)


def test_the_bound_is_that_of_the_rule_of_three() -> None:
    nothing_wrong = Calibration("x", 2, 0, (), 0, 12_400)
    assert nothing_wrong.false_bound == pytest.approx(3 / 12_400, rel=0.01)
    assert Calibration("x", 2, 0, (), 5, 12_400).false_bound > 5 / 12_400
    assert Calibration("x", 2, 0, (), 3, 3).false_bound == 1.0


def test_a_folder_without_photos_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least two different photos"):
        calibrate(tmp_path, Settings(jobs=1))
    with pytest.raises(UsageError, match="no such folder"):
        calibrate(tmp_path / "gone", Settings(jobs=1))


def test_every_edit_says_what_it_should_be_named() -> None:
    assert all(edit.names or edit.kind == "copy" for edit in EDITS.values())


def test_the_command_prints_a_table(photos: Path, tmp_path: Path) -> None:
    code = (
        "import sys; import dedup.calibrate as c\n"
        f"for name in [n for n in c.EDITS if n not in {SOME[:3]!r}]: del c.EDITS[name]\n"
        "from dedup.cli import main\n"
        "sys.argv = ['dedup', 'bench', *sys.argv[1:]]; sys.exit(main())\n"
    )
    command = [sys.executable, "-c", code, str(photos), "--photos", "2", "-j", "1"]
    environment = {**os.environ, "DEDUP_DB": str(tmp_path / "own.db")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "quality 75            2 of 2    100.0 %     2" in done.stdout
    assert "different photos put together: 0 of" in done.stdout
    assert not (tmp_path / "own.db").exists()
    done = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True, check=True)
    plain = json.loads(done.stdout)
    assert plain["schema"] == 1
    assert EditScore(**plain["scores"][0]).name == SOME[0]
