"""Numbers, the state of the installation, export, and the HTML report."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import sys
from pathlib import Path

import pytest

import dedup
from dedup import pipeline
from dedup.errors import MissingExtra, UsageError
from dedup.settings import Settings
from tests.pictures import jpeg, real_photo, scaled


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    folder = tmp_path / "photos"
    folder.mkdir()
    image = real_photo("chelsea", 300)
    (folder / "cat.jpg").write_bytes(jpeg(image, 95))
    (folder / "cat small.png").write_bytes(b"")
    scaled(image, 0.6).save(folder / "cat small.png")
    (folder / "=cup.jpg").write_bytes(jpeg(real_photo("coffee", 300), 95))
    (folder / os.fsdecode(b"odd \xff.jpg")).write_bytes(jpeg(real_photo("rocket", 300), 95))
    settings = Settings(db=str(tmp_path / "catalogue.db"), jobs=1)
    dedup.scan_library([folder], settings)
    return settings


def test_stats_count_what_the_catalogue_knows(settings: Settings) -> None:
    numbers = pipeline.library_stats(settings)
    assert (numbers["files"], numbers["photos"], numbers["contents"], numbers["unreadable"]) == (4, 4, 4, 0)
    assert numbers["formats"] == {"JPEG": 3, "PNG": 1}
    assert numbers["groups"]["same-picture"]["groups"] == 1
    assert numbers["catalogue"]["path"] == settings.db
    assert numbers["catalogue"]["size_bytes"] > 0
    json.dumps(numbers)


def test_stats_need_a_catalogue(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="dedup scan"):
        pipeline.library_stats(Settings(db=str(tmp_path / "none.db")))


def test_doctor_finds_a_sound_installation_sound(settings: Settings) -> None:
    findings = pipeline.examine_installation(settings)
    assert [finding for finding in findings if finding.state == "wrong"] == []
    names = {finding.name for finding in findings}
    assert {"formats", "annoy", "workers", "catalogue", "camera RAW", "JPEG XL"} <= names
    assert all(finding.remedy for finding in findings if finding.state == "missing")


def test_doctor_finds_what_is_wrong(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(settings.db, "r+b") as file:
        file.seek(os.path.getsize(settings.db) - 4096 * 3)
        file.write(b"\xff" * 4096)
    monkeypatch.setattr("dedup.index.neighbours.self_test", lambda: "a build finds nothing")
    monkeypatch.setattr("PIL.features.check", lambda feature: feature != "webp")
    wrong = {
        finding.name: finding
        for finding in pipeline.examine_installation(settings)
        if finding.state == "wrong"
    }
    assert {"annoy", "WebP", "catalogue"} <= set(wrong)
    assert all(finding.remedy for finding in wrong.values())


def test_doctor_without_a_catalogue_has_nothing_to_say_of_it(tmp_path: Path) -> None:
    findings = pipeline.examine_installation(Settings(db=str(tmp_path / "none.db")))
    assert next(finding for finding in findings if finding.name == "catalogue").state == "ok"
    assert not (tmp_path / "none.db").exists()


def test_export_writes_a_row_for_each_photo(settings: Settings) -> None:
    out = io.StringIO()
    assert pipeline.export_photos(settings, "csv", out) == 4
    rows = list(csv.DictReader(io.StringIO(out.getvalue())))
    by_name = {os.path.basename(row["path"]): row for row in rows}
    assert by_name["cat.jpg"]["role"] == "keeper"
    assert by_name["cat small.png"]["relation"] == "same-picture"
    assert by_name["cat.jpg"]["group"] == by_name["cat small.png"]["group"] != ""
    assert by_name["=cup.jpg"]["group"] == ""
    assert len(by_name["cat.jpg"]["sha256"]) == 64
    assert "odd \\xff.jpg" in by_name


def test_export_to_json_lines_reads_back(settings: Settings, tmp_path: Path) -> None:
    target = tmp_path / "photos.jsonl"
    assert pipeline.export_photos(settings, "jsonl", str(target)) == 4
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert [row["format"] for row in rows].count("PNG") == 1
    assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)


def test_export_to_parquet_says_what_it_needs(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match="photo-dedup\\[parquet\\]"):
        pipeline.export_photos(settings, "parquet", str(tmp_path / "photos.parquet"))
    assert list(tmp_path.glob("*.part")) == []


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed")
def test_export_to_parquet_reads_back(settings: Settings, tmp_path: Path) -> None:
    from pyarrow import parquet

    target = tmp_path / "photos.parquet"
    assert pipeline.export_photos(settings, "parquet", str(target)) == 4
    assert sorted(parquet.read_table(target).to_pydict()["width_px"]) == [180, 300, 300, 300]


def test_an_unknown_form_of_export_is_refused(settings: Settings) -> None:
    with pytest.raises(UsageError, match="csv, jsonl, parquet"):
        pipeline.export_photos(settings, "xls", io.StringIO())
    with pytest.raises(UsageError, match="-o FILE"):
        pipeline.export_photos(settings, "parquet", io.StringIO())


def test_the_html_report_holds_its_pictures_and_is_put_in_place_whole(
    settings: Settings, tmp_path: Path
) -> None:
    target = tmp_path / "report.html"
    steps: list[tuple[str, int, int | None]] = []
    pipeline.write_html(dedup.load_report(settings), settings, str(target), lambda *step: steps.append(step))
    page = target.read_text(encoding="utf-8")
    assert "cat small.png" in page
    assert "UklGR" in page, "a WebP in base64 begins so"
    assert steps == [("pictures", 1, 1)]
    with pytest.raises(OSError, match="No such file"):
        pipeline.write_html(dedup.load_report(settings), settings, str(tmp_path / "none" / "x.html"))
    assert list(tmp_path.glob("*.part")) == []
