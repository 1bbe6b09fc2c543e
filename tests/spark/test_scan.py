"""A scan on Spark gives what a scan on this machine gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dedup import pipeline
from dedup.records import Report
from dedup.report import to_json
from dedup.settings import Settings
from tests.test_pipeline import fill

if TYPE_CHECKING:
    from dedup.spark.session import Session


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library") / "photos"
    fill(folder)
    return folder


def found(report: Report) -> dict[str, Any]:
    """Everything but the numbers of the run."""
    whole = to_json(report)
    return {name: whole[name] for name in ("groups", "similar", "skipped", "hubs")}


def test_the_groups_are_those_of_a_scan_on_this_machine(
    cluster: Session, photos: Path, tmp_path: Path
) -> None:
    from dedup.spark import Where, scan_on_spark

    settings = Settings(db=str(tmp_path / "local.db"), neighbours=False)
    here = pipeline.scan_folders([photos], settings)
    there = scan_on_spark([str(photos)], settings, Where(str(tmp_path / "out"), cluster.master))
    local, spark = pipeline.load_report(settings), pipeline.load_dataset_report(str(tmp_path / "out"))
    assert len(local.groups) == 4
    assert json.dumps(found(spark)) == json.dumps(found(local))
    assert there.tally == here.tally
    assert (there.summary.files, there.summary.photos) == (here.summary.files, here.summary.photos)
