"""A scan on Spark gives what a scan on this machine gives, whatever is killed, and wherever the photos are."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from dedup import pipeline
from dedup.errors import UsageError
from dedup.pipeline.dataset import DataSet, pair_of, photo_of
from dedup.records import CandidatePair, Reason, Relation, Report
from dedup.report import to_json
from dedup.settings import Settings
from tests.pictures import encode, jpeg, real_photo
from tests.spark.kills import Killer, executors_below, finished_parts
from tests.spark.library import fill_richly
from tests.test_pipeline import fill

if TYPE_CHECKING:
    from dedup.spark.session import Session

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rich") / "photos"
    fill_richly(folder)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library") / "photos"
    fill(folder)
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(db=str(tmp_path / "local.db"), neighbours=False)


def on_spark(cluster: Session, root: object, settings: Settings, out: Path, progress: Any = None) -> Report:
    from dedup.spark import Where, scan_on_spark

    scan_on_spark([str(root)], settings, Where(str(out), cluster.master), progress)
    return pipeline.load_dataset_report(str(out))


def found(report: Report, *, without: str = "") -> str:
    """Everything but the numbers of the run, as text; `without` is cut out of paths."""
    whole = to_json(report)
    text = json.dumps({name: whole[name] for name in ("groups", "similar", "skipped", "hubs")})
    return text.replace(without, "") if without else text


def candidates_here(dataset: DataSet, settings: Settings) -> set[CandidatePair]:
    """What a search on this machine proposes, of the fingerprints of a data set."""
    from dedup.index import find_candidates, table_from_photos

    rows = sorted(
        (row for row in dataset.rows("files") if row["key"] is not None), key=lambda row: row["key"]
    )
    by_key = {row["key"]: photo_of(row) for row in rows}

    def greys(keys: Any) -> Any:
        blobs = b"".join(by_key[key].fingerprint.grey for key in keys.tolist())
        return np.frombuffer(blobs, np.uint8).reshape(-1, 64, 64)

    return set(find_candidates(table_from_photos(by_key.items()), greys, settings))


def test_pairs_and_groups_are_those_of_a_scan_on_this_machine(
    cluster: Session, rich: Path, settings: Settings, tmp_path: Path
) -> None:
    settings = replace(settings, neighbours=True)
    here = pipeline.scan_library([rich], settings)
    there = on_spark(cluster, rich, settings, tmp_path / "out")
    assert len(here.groups) > 8
    assert found(there) == found(here)
    assert there.summary.index.sampled_pairs == there.summary.index.found_pairs > 10
    dataset = DataSet(str(tmp_path / "out"))
    proposed = [pair_of(row) for row in dataset.rows("candidates")]
    assert len(set(proposed)) == len(proposed) > 400
    assert {pair.source for pair in proposed} >= {"hash radius", "window", "colour of flat pictures"}
    assert set(proposed) == candidates_here(dataset, settings)


def test_the_ways_for_libraries_that_no_driver_holds_give_the_same_groups(
    cluster: Session, rich: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dedup.spark import portions, searching

    monkeypatch.setattr(portions, "DRIVER_PAIRS", 0)  # components by joins
    monkeypatch.setattr(portions, "LARGE_FILES", 8)  # the larger ones led by the driver
    monkeypatch.setattr(searching, "FLAT_TOGETHER", 12)  # flat pictures in slabs
    there = on_spark(cluster, rich, settings, tmp_path / "out")
    note = DataSet(str(tmp_path / "out")).note()
    assert note["cut"]["large"]
    assert found(there) == found(pipeline.scan_library([rich], settings))


@pytest.mark.parametrize("stage", ["hash", "search", "portion", "confirm"])
def test_an_executor_that_is_killed_changes_nothing(
    cluster: Session, photos: Path, settings: Settings, tmp_path: Path, stage: str
) -> None:
    killer = Killer(stage, tmp_path / "out", cluster.jvm)
    there = on_spark(cluster, photos, settings, tmp_path / "out", killer)
    assert killer.killed
    assert found(there) == found(pipeline.scan_library([photos], settings))
    # What was finished when the executor died was not read again: its file is still the one that was written then.
    now = finished_parts(tmp_path / "out")
    assert killer.finished.items() <= now.items()


def dedup(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "dedup", *words, "--no-progress"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def until(condition: Any, seconds: float = 90.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_a_driver_that_is_killed_goes_on_where_it_stopped(
    photos: Path, settings: Settings, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = (
        "scan",
        "--engine",
        "spark",
        "--master",
        "local[1]",
        "--no-neighbours",
        "--out",
        str(out),
        str(photos),
    )
    first = dedup(*words)
    assert until(lambda: finished_parts(out))
    first.kill()
    first.communicate()
    before = finished_parts(out)
    assert not DataSet(str(out)).note().get("finished")
    with pytest.raises(UsageError, match="did not come to its end"):
        pipeline.load_dataset_report(str(out))
    again = dedup(*words)
    again.communicate()
    assert again.returncode == 3  # a broken photo is among them
    assert before.items() <= finished_parts(out).items()
    note = DataSet(str(out)).note()
    assert note["read"]["before"] == len(before)
    assert note["read"]["decoded"] < note["searched"]["photos"]
    assert found(pipeline.load_dataset_report(str(out))) == found(pipeline.scan_library([photos], settings))


def test_ctrl_c_takes_the_job_along(rich: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    running = dedup("scan", "--engine", "spark", "--master", "local[2]", "--out", str(out), str(rich))
    assert until(lambda: finished_parts(out))
    below = executors_below(running.pid, "SparkSubmit")
    assert below
    running.send_signal(signal.SIGINT)
    said = running.communicate(timeout=60)[1].decode()
    assert running.returncode == 130
    assert "the same command goes on from there" in said
    assert "Traceback" not in said
    assert until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below))


def test_a_poisoned_file_is_a_row_with_a_reason(cluster: Session, settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "sound.jpg").write_bytes(jpeg(real_photo("coffee", 300)))
    (folder / "huge.png").write_bytes(encode(Image.new("RGB", (9000, 9000))))
    (folder / "text.jpg").write_text("no photo at all")
    poisoned = replace(settings, memory_limit_bytes=120_000_000)
    there = on_spark(cluster, folder, poisoned, tmp_path / "out")
    reasons = {Path(skipped.path).name: skipped.reason for skipped in there.skipped}
    assert reasons == {"huge.png": Reason.TOO_LARGE, "text.jpg": Reason.DAMAGED}
    assert found(there) == found(pipeline.scan_library([folder], poisoned))


def test_an_object_store_is_a_root_and_takes_the_result(
    cluster: Session, photos: Path, settings: Settings, bucket: str
) -> None:
    import fsspec

    fs, path = fsspec.core.url_to_fs(f"{bucket}/photos")
    for file in sorted(photos.rglob("*")):
        if file.is_file():
            fs.pipe_file(f"{path}/{file.relative_to(photos)}", file.read_bytes())
    fs.pipe_file(f"{path}/movie.mp4", b"\0\0\0\x18ftypmp42" + bytes(10_000))
    fs.pipe_file(f"{path}/@eaDir/thumb.jpg", jpeg(real_photo("coffee", 100)))
    from dedup.spark import Where, scan_on_spark

    scan_on_spark([f"{bucket}/photos"], settings, Where(f"{bucket}/out", cluster.master))
    there = pipeline.load_dataset_report(f"{bucket}/out")
    here = pipeline.scan_library([photos], settings)
    assert [[m.photo.digest for m in group.members] for group in by_id(there)] == [
        [m.photo.digest for m in group.members] for group in by_id(here)
    ]
    assert all(group.keeper.file.path.startswith(bucket) for group in there.groups)
    reasons = {os.path.basename(skipped.path): skipped.reason for skipped in there.skipped}
    assert reasons["movie.mp4"] is Reason.NOT_A_PHOTO
    assert reasons["thumb.jpg"] is Reason.EXCLUDED
    assert reasons["broken.jpg"] is Reason.DAMAGED


def test_a_data_set_becomes_a_catalogue_and_a_table(
    cluster: Session, photos: Path, settings: Settings, tmp_path: Path
) -> None:
    out = str(tmp_path / "out")
    there = on_spark(cluster, photos, settings, tmp_path / "out")
    imported = replace(settings, db=str(tmp_path / "imported.db"))
    outcome = pipeline.import_dataset(out, imported)
    assert [relation for relation, _, _ in outcome.tally.groups] == [Relation.SAME_BYTES]
    assert found(pipeline.load_report(imported)) == found(there)
    again = pipeline.scan_folders([photos], imported).summary
    assert (again.read, again.confirmed, again.candidates) == (0, 0, 0)
    with pytest.raises(UsageError, match="holds photos already"):
        pipeline.import_dataset(out, imported)
    assert len(pipeline.make_plan(settings=imported).operations) >= 4
    pipeline.scan_folders([photos], settings)
    for form in ("jsonl", "csv"):
        paths = [str(tmp_path / f"{name}.{form}") for name in ("here", "there")]
        assert pipeline.export_photos(settings, form, paths[0]) == 13
        assert pipeline.export_photos(None, form, paths[1], out) == 13
        here, from_dataset = (Path(path).read_text().splitlines() for path in paths)
        assert sorted(here) == sorted(from_dataset)


def test_an_object_store_is_not_imported(tmp_path: Path, settings: Settings) -> None:
    dataset = DataSet(str(tmp_path / "out"))
    dataset.put_note({"basis": {"roots": ["s3://bucket/photos"]}, "finished": True})
    with pytest.raises(UsageError, match="object stores are for reports only"):
        pipeline.import_dataset(str(tmp_path / "out"), settings)
    assert not Path(settings.db).exists()


def test_doctor_says_which_java_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    java = tmp_path / "java" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text("#!/bin/sh")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "java"))

    def said() -> tuple[str, str]:
        every = {finding.name: finding for finding in pipeline.examine_installation(settings)}
        return every["Java"].state, every["Java"].words

    (tmp_path / "java" / "release").write_text('JAVA_VERSION="17.0.15"\n')
    assert said() == ("ok", f"{tmp_path / 'java'} is Java 17")
    (tmp_path / "java" / "release").write_text('JAVA_VERSION="1.8.0_402"\n')
    assert said()[0] == "wrong"
    assert "Java 8" in said()[1]


def by_id(report: Report) -> list[Any]:
    return sorted(report.groups, key=lambda group: group.id)


def test_an_object_that_was_replaced_is_not_taken_for_the_one_that_was_listed(bucket: str) -> None:
    import fsspec

    from dedup.records import PhotoFile, Skipped
    from dedup.spark.fetching import Fetcher

    fs, path = fsspec.core.url_to_fs(f"{bucket}/one.jpg")
    fs.pipe_file(path, b"new content")
    file = PhotoFile(f"{bucket}/one.jpg", 11, 0, 0, 0, 0, 1)
    with Fetcher() as fetcher:
        assert isinstance(fetcher.bring(file, bytes(32)), Skipped)
        brought = fetcher.bring(file)
        assert not isinstance(brought, Skipped)
        assert Path(brought.path).read_bytes() == b"new content"
    assert not Path(brought.path).exists()


def test_another_library_does_not_go_into_the_same_data_set(
    cluster: Session, photos: Path, settings: Settings, tmp_path: Path
) -> None:
    from dedup.spark import Where, scan_on_spark

    small = tmp_path / "small"
    small.mkdir()
    shutil.copy(photos / "coffee.jpg", small)
    where = Where(str(tmp_path / "out"), cluster.master)
    first = scan_on_spark([str(small)], settings, where)
    assert scan_on_spark([str(small)], settings, where) == first
    with pytest.raises(UsageError, match="other roots"):
        scan_on_spark([str(photos)], settings, where)
    with pytest.raises(UsageError, match="other settings"):
        scan_on_spark([str(small)], replace(settings, hash_radius_bits=7), where)


@pytest.fixture
def bucket(store: str) -> str:
    import s3fs

    fs = s3fs.S3FileSystem()
    name = f"library-{time.monotonic_ns()}"
    fs.mkdir(name)
    return f"s3://{name}"
