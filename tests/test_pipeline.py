"""A whole scan on real files: what it finds, what it does not do twice, and what it survives."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dedup
from dedup import pipeline
from dedup.catalogue import Catalogue
from dedup.confirm import ComponentJob, ComponentResult, confirm_component
from dedup.errors import Busy, CatalogueInDoubt, InternalFault, UsageError
from dedup.fingerprint import fingerprint_photo
from dedup.pipeline.reading import digest_photo
from dedup.records import Photo, PhotoFile, Reason, Relation, Report, Skipped
from dedup.report import to_json
from dedup.settings import Settings
from tests.pictures import PHOTOS, cropped, jpeg, real_photo, scaled

ROOT = Path(__file__).parent.parent


def fill(folder: Path) -> None:
    """Four photos, each with a byte copy and some versions; a broken photo, a sidecar and a text."""
    (folder / "more").mkdir(parents=True)
    for name in PHOTOS:
        image = real_photo(name, 400)
        (folder / f"{name}.jpg").write_bytes(jpeg(image, 95))
        shutil.copy(folder / f"{name}.jpg", folder / "more" / f"copy of {name}.jpg")
        (folder / "more" / f"{name} small.jpg").write_bytes(jpeg(scaled(image, 0.6), 85))
    image = real_photo("chelsea", 400)
    (folder / "cut.jpg").write_bytes(jpeg(cropped(image, 0.0, 0.0, 0.97, 0.97), 92))
    (folder / "broken.jpg").write_bytes(jpeg(real_photo("coffee", 300))[:400])
    (folder / "notes.txt").write_text("no photo")
    (folder / "coffee.xmp").write_text("<x/>")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    fill(folder)
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(db=str(tmp_path / "books" / "catalogue.db"), jobs=2)


def plain(report: Report) -> dict[str, Any]:
    """The report as JSON, without what tells one run from another."""
    found = to_json(report)
    del found["finished"]
    for name in ("seconds", "read", "confirmed", "candidates", "index"):
        del found["summary"][name]
    return found


def names(report: Report) -> dict[str, dict[str, str]]:
    """Keeper's name to members' names and relations."""
    return {
        os.path.basename(group.keeper.file.path): {
            os.path.basename(member.photo.file.path): str(member.match.relation) for member in group.members
        }
        for group in report.groups
    }


def reasons(report: Report) -> dict[str, Reason]:
    return {os.path.basename(skipped.path): skipped.reason for skipped in report.skipped}


# --- what is found ------------------------------------------------------------------------------------------------


def test_a_scan_finds_copies_versions_and_what_it_could_not_read(photos: Path, settings: Settings) -> None:
    report = dedup.scan_library([photos], settings)
    found = names(report)
    assert set(found) == {f"{name}.jpg" for name in PHOTOS}
    for name in PHOTOS:
        assert found[f"{name}.jpg"][f"copy of {name}.jpg"] == "same-bytes"
        assert found[f"{name}.jpg"][f"{name} small.jpg"] == "same-picture"
    assert found["chelsea.jpg"]["cut.jpg"] == "edited"
    assert reasons(report)["broken.jpg"] is Reason.DAMAGED
    assert reasons(report)["notes.txt"] is Reason.NOT_A_PHOTO
    assert report.summary.photos == 13
    coffee = next(group for group in report.groups if group.keeper.file.path.endswith("coffee.jpg"))
    assert [os.path.basename(path) for path in coffee.keeper_unit_files] == ["coffee.xmp"]


def test_the_stored_report_is_the_one_that_the_scan_gave(photos: Path, settings: Settings) -> None:
    report = dedup.scan_library([photos], settings)
    assert dedup.load_report(settings) == report


def test_the_numbers_of_a_scan_are_those_of_its_report(photos: Path, settings: Settings) -> None:
    outcome = pipeline.scan_folders([photos], settings)
    report = dedup.load_report(settings)
    assert outcome.summary == report.summary
    assert sum(count for _, count, _ in outcome.tally.groups) == len(report.groups)
    assert sum(freed for *_, freed in outcome.tally.groups) == sum(
        group.freed_bytes for group in report.groups
    )
    assert sum(count for *_, count in outcome.tally.not_examined) == len(report.skipped)
    assert pipeline.scan_folders([photos], settings).tally == outcome.tally


def test_find_duplicates_leaves_nothing_behind(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    before = sorted(photos.rglob("*"))
    groups = dedup.find_duplicates(photos, settings=Settings(jobs=2))
    assert len(groups) == len(PHOTOS)
    assert sorted(photos.rglob("*")) == before
    assert not (tmp_path / "data").exists()


def test_nothing_to_scan_is_said(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        dedup.scan_library([tmp_path / "nowhere"], settings)
    with pytest.raises(UsageError, match="name the folders"):
        dedup.scan_library([], settings)
    with pytest.raises(UsageError, match="as a list"):
        dedup.scan_library("/tmp", settings)
    with pytest.raises(UsageError, match="dedup scan"):
        dedup.load_report(settings)


def test_an_empty_folder_is_a_scan_without_groups(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "empty").mkdir()
    assert dedup.scan_library([tmp_path / "empty"], settings).groups == ()
    assert dedup.scan_library([tmp_path / "empty"], settings).groups == ()


def test_a_single_photo_is_no_duplicate_of_itself(photos: Path, settings: Settings) -> None:
    assert dedup.scan_library([photos / "coffee.jpg", photos / "coffee.jpg"], settings).groups == ()


def test_hard_links_are_read_once_and_shown_as_shared(photos: Path, settings: Settings) -> None:
    os.link(photos / "coffee.jpg", photos / "linked.jpg")
    report = dedup.scan_library([photos], settings)
    assert report.summary.read == 9
    members = {m.photo.file.path: m.also_link_of for group in report.groups for m in group.members}
    assert members[str(photos / "linked.jpg")]
    assert not members[str(photos / "more" / "copy of coffee.jpg")]


def test_progress_tells_of_every_stage_in_order(photos: Path, settings: Settings) -> None:
    told: list[tuple[str, int, int | None]] = []
    dedup.scan_library([photos], settings, lambda *step: told.append(step))
    stages = list(dict.fromkeys(stage for stage, _, _ in told))
    assert stages[:4] == ["crawl", "hash", "search", "confirm"]
    assert "group" in stages
    assert all(total is None or 0 <= done <= total for _, done, total in told)
    assert [step for step in told if step[0] == "hash"][-1] == ("hash", 14, 14)


def test_a_picture_above_the_limit_is_named_until_the_limit_is_raised(
    photos: Path, settings: Settings
) -> None:
    tight = Settings(db=settings.db, jobs=2, max_pixels=100_000)
    report = dedup.scan_library([photos], tight)
    assert {name for name, reason in reasons(report).items() if reason is Reason.TOO_LARGE} >= {"coffee.jpg"}
    assert "coffee.jpg" not in names(report)
    assert "coffee.jpg" in names(dedup.scan_library([photos], settings))


# --- what is not done twice ---------------------------------------------------------------------------------------


def test_an_unchanged_library_is_not_read_again(photos: Path, settings: Settings) -> None:
    first = dedup.scan_library([photos], settings)
    assert first.summary.read == 9
    second = dedup.scan_library([photos], settings)
    assert (second.summary.read, second.summary.confirmed) == (0, 0)
    assert plain(second) == plain(first)


def test_a_scan_that_finds_nothing_changed_imports_nothing_heavy(photos: Path, settings: Settings) -> None:
    dedup.scan_library([photos], settings)
    script = (
        "import sys; from dedup.pipeline import scan_folders; from dedup.settings import Settings\n"
        f"print(scan_folders([{str(photos)!r}], Settings(db={settings.db!r}, jobs=2)).summary.read,"
        " *sorted({'numpy', 'PIL', 'scipy', 'imagehash', 'annoy', 'click'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["0"]


def test_moved_renamed_and_touched_photos_are_not_decoded_again(photos: Path, settings: Settings) -> None:
    dedup.scan_library([photos], settings)
    (photos / "new place").mkdir()
    (photos / "coffee.jpg").rename(photos / "new place" / "espresso.jpg")
    (photos / "rocket.jpg").rename(photos / "ariane.jpg")
    os.utime(photos / "chelsea.jpg", (1, 1))
    report = dedup.scan_library([photos], settings)
    assert (report.summary.read, report.summary.confirmed) == (0, 0)
    everyone = {photo for keeper, members in names(report).items() for photo in (keeper, *members)}
    assert {"espresso.jpg", "ariane.jpg"} <= everyone
    assert not {"coffee.jpg", "rocket.jpg"} & everyone


def test_a_further_copy_is_not_decoded(photos: Path, settings: Settings) -> None:
    dedup.scan_library([photos], settings)
    shutil.copy(photos / "coffee.jpg", photos / "third.jpg")
    report = dedup.scan_library([photos], settings)
    assert report.summary.read == 0
    assert names(report)["coffee.jpg"]["third.jpg"] == "same-bytes"


def test_only_the_photo_that_changed_is_read_and_measured(photos: Path, settings: Settings) -> None:
    dedup.scan_library([photos], settings)
    (photos / "cut.jpg").write_bytes(jpeg(cropped(real_photo("coffee", 400), 0.0, 0.0, 0.97, 0.97), 92))
    report = dedup.scan_library([photos], settings)
    assert report.summary.read == 1
    assert report.summary.confirmed <= 3
    assert names(report)["coffee.jpg"]["cut.jpg"] == "edited"
    assert "cut.jpg" not in names(report)["chelsea.jpg"]


def test_an_older_time_is_a_change_too(photos: Path, settings: Settings) -> None:
    dedup.scan_library([photos], settings)
    before = (photos / "cut.jpg").stat()
    other = jpeg(real_photo("rocket", 200), 60)
    (photos / "cut.jpg").write_bytes(other + b"\0" * (before.st_size - len(other)))
    os.utime(photos / "cut.jpg", ns=(0, before.st_mtime_ns - 1))
    assert (photos / "cut.jpg").stat().st_size == before.st_size
    assert dedup.scan_library([photos], settings).summary.read == 1


def test_another_recipe_hashes_again_but_measures_nothing_again(
    photos: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = dedup.scan_library([photos], settings)
    for module in ("dedup.fingerprint", "dedup.pipeline.work"):
        monkeypatch.setattr(f"{module}.RECIPE", "another recipe")
    monkeypatch.setattr("dedup.pipeline.results.program_stamp", lambda: "another program")
    second = dedup.scan_library([photos], settings)
    assert (second.summary.read, second.summary.confirmed) == (9, 0)
    assert names(second) == names(first)


def test_another_way_to_confirm_measures_again_but_hashes_nothing(
    photos: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = dedup.scan_library([photos], settings)
    for module in ("dedup.confirm", "dedup.pipeline.work"):
        monkeypatch.setattr(f"{module}.CONFIRM_RECIPE", "another recipe")
    monkeypatch.setattr("dedup.pipeline.results.program_stamp", lambda: "another program")
    second = dedup.scan_library([photos], settings)
    assert second.summary.read == 0
    assert second.summary.confirmed >= first.summary.confirmed > 0
    assert names(second) == names(first)


def test_groups_follow_other_preferences_without_measuring_more_than_they_must(
    photos: Path, settings: Settings, tmp_path: Path
) -> None:
    dedup.scan_library([photos], settings)
    prefers = Settings(db=settings.db, jobs=2, prefer=(str(photos / "more"),))
    report = dedup.scan_library([photos], prefers)
    assert report.summary.read == 0
    assert "copy of coffee.jpg" in names(report)
    fresh = Settings(db=str(tmp_path / "fresh.db"), jobs=2, prefer=(str(photos / "more"),))
    assert names(dedup.scan_library([photos], fresh)) == names(report)


# --- what comes and goes ------------------------------------------------------------------------------------------


def test_what_was_added_later_ends_in_the_same_groups(
    photos: Path, settings: Settings, tmp_path: Path
) -> None:
    aside = tmp_path / "aside"
    (photos / "more").rename(aside)
    dedup.scan_library([photos], settings)
    aside.rename(photos / "more")
    later = dedup.scan_library([photos], settings)
    fresh = dedup.scan_library([photos], Settings(db=str(tmp_path / "fresh.db"), jobs=2))
    assert plain(later)["groups"] == plain(fresh)["groups"]


def test_a_group_goes_on_without_the_photo_that_held_it_together(photos: Path, settings: Settings) -> None:
    """Its members were never measured against each other, only against the keeper that is gone."""
    (photos / "more" / "chelsea other.jpg").write_bytes(jpeg(scaled(real_photo("chelsea", 400), 0.7), 80))
    dedup.scan_library([photos], settings)
    (photos / "chelsea.jpg").unlink()
    (photos / "more" / "copy of chelsea.jpg").unlink()
    (photos / "cut.jpg").unlink()
    report = dedup.scan_library([photos], settings)
    assert names(report)["chelsea other.jpg"] == {"chelsea small.jpg": "same-picture"}
    assert report.summary.read == 0


def test_a_sidecar_that_appears_joins_its_photo(photos: Path, settings: Settings) -> None:
    dedup.scan_library([photos], settings)
    (photos / "rocket.xmp").write_text("<x/>")
    report = dedup.scan_library([photos], settings)
    rocket = next(group for group in report.groups if group.keeper.file.path.endswith("rocket.jpg"))
    assert rocket.keeper_unit_files == (str(photos / "rocket.xmp"),)


def test_a_root_that_is_away_is_not_forgotten(photos: Path, settings: Settings, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(photos / "coffee.jpg", other / "coffee.jpg")
    dedup.scan_library([photos, other], settings)
    photos.rename(tmp_path / "away")
    report = dedup.scan_library([photos, other], settings)
    assert report.groups == ()
    photos.mkdir()  # the empty mount point of a disk that is not plugged in
    dedup.scan_library([photos, other], settings)
    photos.rmdir()
    (tmp_path / "away").rename(photos)
    back = dedup.scan_library([photos, other], settings)
    assert back.summary.read == 0
    assert len(back.groups) == len(PHOTOS)


def test_a_folder_that_cannot_be_listed_is_not_forgotten(
    photos: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    dedup.scan_library([photos], settings)
    listing = os.listdir

    def refuse(path: Any) -> list[str]:
        if str(path).endswith("/more"):
            raise PermissionError(13, "Permission denied")
        return listing(path)

    monkeypatch.setattr(os, "listdir", refuse)
    report = dedup.scan_library([photos], settings)
    assert set(names(report)) == {"chelsea.jpg"}, "only `cut.jpg` beside it is left"
    monkeypatch.undo()
    back = dedup.scan_library([photos], settings)
    assert (back.summary.read, len(back.groups)) == (0, len(PHOTOS))


def test_a_report_covers_the_last_roots_or_all_that_is_known(
    photos: Path, settings: Settings, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(photos / "coffee.jpg", other / "from the card.jpg")
    (other / "small.jpg").write_bytes(jpeg(scaled(real_photo("rocket", 400), 0.5), 88))
    dedup.scan_library([photos], settings)
    report = dedup.scan_library([other], settings)
    assert report.groups == ()
    assert dedup.load_report(settings).groups == ()
    everything = names(dedup.load_report(settings, all_roots=True))
    assert everything["coffee.jpg"]["from the card.jpg"] == "same-bytes"
    assert everything["rocket.jpg"]["small.jpg"] == "same-picture"
    assert (
        names(dedup.scan_library([photos], settings))["coffee.jpg"].keys().isdisjoint({"from the card.jpg"})
    )


def test_scans_of_one_root_after_another_know_what_one_scan_of_all_knows(
    photos: Path, settings: Settings, tmp_path: Path
) -> None:
    other, third = tmp_path / "other", tmp_path / "third"
    for folder in (other, third):
        folder.mkdir()
    shutil.copy(photos / "coffee.jpg", other / "from the card.jpg")
    (other / "small.jpg").write_bytes(jpeg(scaled(real_photo("rocket", 400), 0.5), 88))
    (other / "more.txt").write_text("no photo")
    (third / "smaller.jpg").write_bytes(jpeg(scaled(real_photo("rocket", 400), 0.4), 88))
    (third / "broken too.jpg").write_bytes((photos / "broken.jpg").read_bytes())
    for folder in (photos, other, third):
        report = dedup.scan_library([folder], settings)
        assert all(skipped.path.startswith(str(folder)) for skipped in report.skipped)
    (third / "smaller.jpg").unlink()
    (third / "smallest.jpg").write_bytes(jpeg(scaled(real_photo("rocket", 400), 0.35), 88))
    dedup.scan_library([third], settings)
    found = plain(dedup.load_report(settings, all_roots=True))
    fresh = plain(dedup.scan_library([photos, other, third], Settings(db=str(tmp_path / "fresh.db"), jobs=2)))
    assert found["groups"] == fresh["groups"]
    assert found["skipped"] == fresh["skipped"]


# --- the same for everybody ---------------------------------------------------------------------------------------


def test_reports_are_equal_whatever_the_order_of_files_and_workers(photos: Path, tmp_path: Path) -> None:
    outcomes = []
    for number, jobs in enumerate((1, 2, 2)):
        settings = Settings(db=str(tmp_path / f"{number}.db"), jobs=jobs)
        if number == 2:
            # Other ids for the same photos: folder by folder, the later ones first.
            dedup.scan_library([photos / "more"], settings)
        outcomes.append(json.dumps(plain(dedup.scan_library([photos], settings)), sort_keys=True))
        # The same files written in another order lie in the folder in another order.
        files = sorted(photos.rglob("*.jpg"), key=lambda path: path.name[::-1])
        for file in files:
            status, content = file.stat(), file.read_bytes()
            file.unlink()
            file.write_bytes(content)
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_a_change_that_an_interrupted_scan_took_over_is_not_lost(
    photos: Path, settings: Settings, tmp_path: Path
) -> None:
    """The file is as the catalogue knows it, but no group knows of it yet."""
    dedup.scan_library([photos], settings)
    (photos / "cut.jpg").write_bytes(jpeg(cropped(real_photo("coffee", 400), 0.0, 0.0, 0.97, 0.97), 92))
    (photos / "more" / "rocket small.jpg").unlink()

    def interrupt(stage: str, _done: int, _total: int | None) -> None:
        if stage == "confirm":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dedup.scan_library([photos], settings, interrupt)
    between = names(dedup.load_report(settings))
    assert set(between) == {"astronaut.jpg", "coffee.jpg"}, "groups with changed files are not shown"
    report = dedup.scan_library([photos], settings)
    fresh = dedup.scan_library([photos], Settings(db=str(tmp_path / "fresh.db"), jobs=2))
    assert plain(report)["groups"] == plain(fresh)["groups"]


# --- what a scan survives -----------------------------------------------------------------------------------------


def test_two_scans_at_once_are_refused(photos: Path, settings: Settings) -> None:
    with Catalogue.open(settings.db, write=True), pytest.raises(Busy):
        dedup.scan_library([photos], settings)


def test_a_damaged_catalogue_stops_the_scan(photos: Path, settings: Settings) -> None:
    dedup.scan_library([photos], settings)
    with open(settings.db, "r+b") as file:
        file.truncate(os.path.getsize(settings.db) // 2)
    with pytest.raises(CatalogueInDoubt, match="scan again"):
        dedup.scan_library([photos], settings)
    with pytest.raises(CatalogueInDoubt, match="scan again"):
        dedup.load_report(settings)


@pytest.mark.parametrize("stage", ["crawl", "hash", "search", "confirm", "group"])
def test_a_scan_that_is_interrupted_goes_on_where_it_stopped(
    photos: Path, settings: Settings, tmp_path: Path, stage: str
) -> None:
    def interrupt(now: str, done: int, _total: int | None) -> None:
        if now == stage and done >= (0 if stage == "crawl" else 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dedup.scan_library([photos], settings, interrupt)
    with Catalogue.open(settings.db, write=False) as catalogue:
        catalogue.check(thorough=True)
    fresh = dedup.scan_library([photos], Settings(db=str(tmp_path / "fresh.db"), jobs=2))
    assert plain(dedup.scan_library([photos], settings)) == plain(fresh)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["hash", "confirm"])
def test_a_scan_that_is_killed_loses_nothing_that_was_committed(
    photos: Path, settings: Settings, tmp_path: Path, stage: str
) -> None:
    """`kill -9` in the middle of a stage, with commits after every photo."""
    script = (
        "import sys, time\nfrom dedup.catalogue import database\ndatabase.COMMIT_EVERY_S = 0.0\n"
        "import dedup\nfrom dedup.settings import Settings\n"
        "def tell(stage, done, total):\n"
        f"    if stage == {stage!r} and done >= 3:\n        print(done, flush=True)\n        time.sleep(60)\n"
        f"dedup.scan_library([{str(photos)!r}], Settings(db={settings.db!r}, jobs=2), tell)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT, text=True)
    assert child.stdout is not None
    done = int(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    report = wait_for_lock(lambda: dedup.scan_library([photos], settings))
    fresh = dedup.scan_library([photos], Settings(db=str(tmp_path / "fresh.db"), jobs=2))
    assert plain(report) == plain(fresh)
    if stage == "hash":
        assert report.summary.read <= fresh.summary.read - done + 2
    else:
        assert report.summary.read == 0
        assert report.summary.confirmed < fresh.summary.confirmed


@pytest.mark.slow
def test_a_scan_that_is_killed_while_it_looks_for_moved_photos_does_not_begin_again(
    photos: Path, settings: Settings, tmp_path: Path
) -> None:
    dedup.scan_library([photos], settings)
    photos.rename(tmp_path / "moved")
    script = (
        "import sys, time\nfrom dedup.catalogue import database\ndatabase.COMMIT_EVERY_S = 0.0\n"
        "import dedup\nfrom dedup.settings import Settings\n"
        "def tell(stage, done, total):\n"
        "    if stage == 'hash' and done >= 5:\n        print(done, flush=True)\n        time.sleep(60)\n"
        f"dedup.scan_library([{str(tmp_path / 'moved')!r}], Settings(db={settings.db!r}, jobs=2), tell)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    told: list[tuple[str, int, int | None]] = []
    report = wait_for_lock(
        lambda: dedup.scan_library([tmp_path / "moved"], settings, lambda *step: told.append(step))
    )
    assert report.summary.read == 0
    assert len(report.groups) == len(PHOTOS)
    assert next(total for stage, _, total in told if stage == "hash") == 14 - 5


def wait_for_lock(scan: Callable[[], Report]) -> Report:
    """The workers of a killed scan hold its lock until the kernel has ended them, some milliseconds later."""
    for _ in range(200):
        try:
            return scan()
        except Busy:
            time.sleep(0.05)
    raise AssertionError("the lock of a killed scan was never let go")


def test_a_photo_that_no_decoder_reads_does_not_keep_the_next_scan_busy(
    photos: Path, settings: Settings
) -> None:
    (photos / "odd.avif").write_bytes(b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + b"\0" * 200)
    report = dedup.scan_library([photos], settings)
    assert "odd.avif" in reasons(report)
    stages: list[str] = []
    again = dedup.scan_library([photos], settings, lambda stage, _done, _total: stages.append(stage))
    assert set(stages) == {"crawl"}
    assert again.skipped == report.skipped


def refused(file: PhotoFile, max_pixels: int) -> Photo | Skipped:
    if "rocket" in file.path:
        return Skipped(
            file.path, "fingerprint", Reason.UNREADABLE, "input/output error", file.size_bytes, file.mtime_ns
        )
    return fingerprint_photo(file, max_pixels)


def test_a_disk_that_refuses_is_asked_again(
    photos: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dedup.fingerprint.fingerprint_photo", refused)
    report = dedup.scan_library([photos], settings)
    assert {name for name, reason in reasons(report).items() if reason is Reason.UNREADABLE} == {
        "rocket.jpg",
        "copy of rocket.jpg",
        "rocket small.jpg",
    }
    monkeypatch.undo()
    back = dedup.scan_library([photos], settings)
    assert (back.summary.read, len(back.groups)) == (2, len(PHOTOS))


def count_digests(file: PhotoFile) -> bytes | Skipped:
    with open(os.environ["DIGESTED"], "a") as log:
        log.write(os.path.basename(file.path) + "\n")
    return digest_photo(file)


def test_digests_are_kept_for_a_scan_that_goes_on(
    photos: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All copies have one size, so they are digested before anything is decoded."""
    log = tmp_path / "digested"
    monkeypatch.setenv("DIGESTED", str(log))
    monkeypatch.setattr("dedup.pipeline.reading.digest_photo", count_digests)
    monkeypatch.setattr("dedup.fingerprint.fingerprint_photo", fail_to_read)
    with pytest.raises(InternalFault, match="a bug"):
        dedup.scan_library([photos], settings)
    assert len(log.read_text().split("\n")) == 9
    monkeypatch.setattr("dedup.fingerprint.fingerprint_photo", fingerprint_photo)
    assert dedup.scan_library([photos], settings).summary.read == 9
    assert len(log.read_text().split("\n")) == 9, "not one was digested again"


def fail_to_read(file: PhotoFile, max_pixels: int) -> Photo | Skipped:
    raise RuntimeError("a bug")


def die_on_chelsea(file: PhotoFile, max_pixels: int) -> Photo | Skipped:
    if "chelsea small" in file.path:
        os.kill(os.getpid(), signal.SIGKILL)
    return fingerprint_photo(file, max_pixels)


def test_a_photo_that_kills_its_worker_is_named_and_not_tried_again(
    photos: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dedup.fingerprint.fingerprint_photo", die_on_chelsea)
    report = dedup.scan_library([photos], settings)
    assert reasons(report)["chelsea small.jpg"] is Reason.CRASHED
    assert report.summary.read == 8
    assert len(report.groups) == len(PHOTOS)
    monkeypatch.undo()
    again = dedup.scan_library([photos], settings)
    assert again.summary.read == 0
    assert reasons(again)["chelsea small.jpg"] is Reason.CRASHED
    more_memory = Settings(db=settings.db, jobs=2, memory_limit_bytes=settings.memory_limit_bytes * 2)
    assert dedup.scan_library([photos], more_memory).summary.read == 1
    os.utime(photos / "broken.jpg")
    assert reasons(dedup.scan_library([photos], more_memory))["broken.jpg"] is Reason.DAMAGED


def die_comparing_coffee(job: ComponentJob) -> ComponentResult:
    if any("cut.jpg" in photo.file.path for photo in job.photos):
        os.kill(os.getpid(), signal.SIGKILL)
    return confirm_component(job)


def test_a_pair_that_kills_its_worker_costs_one_photo(
    photos: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "cut.jpg").write_bytes(
        jpeg(scaled(cropped(real_photo("chelsea", 400), 0.0, 0.0, 0.97, 0.97), 1.2), 92)
    )
    monkeypatch.setattr("dedup.confirm.confirm_component", die_comparing_coffee)
    report = dedup.scan_library([photos], settings)
    skipped = {os.path.basename(s.path): (s.stage, s.reason) for s in report.skipped}
    assert skipped["cut.jpg"] == ("confirm", Reason.CRASHED)
    found = names(report)
    assert found["chelsea.jpg"] == {"copy of chelsea.jpg": "same-bytes", "chelsea small.jpg": "same-picture"}
    monkeypatch.undo()
    assert names(dedup.scan_library([photos], settings)) == found, "not tried again"


def fail(job: ComponentJob) -> ComponentResult:
    raise RuntimeError("a bug")


def test_a_stage_that_fails_stops_the_scan_and_leaves_the_last_report(
    photos: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dedup.scan_library([photos], settings)
    (photos / "further.jpg").write_bytes(jpeg(scaled(real_photo("coffee", 400), 0.8), 90))
    monkeypatch.setattr("dedup.confirm.confirm_component", fail)
    with pytest.raises(InternalFault, match="a bug"):
        dedup.scan_library([photos], settings)
    assert dedup.load_report(settings) == before
    monkeypatch.undo()
    assert names(dedup.scan_library([photos], settings))["coffee.jpg"]["further.jpg"] == "same-picture"


@pytest.fixture
def vanishing(photos: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A photo that is gone by the time it is to be compared, and back afterwards."""
    victim = photos / "more" / "rocket small.jpg"
    content, status = victim.read_bytes(), victim.stat()

    def hide(stage: str, done: int, total: int | None) -> None:
        if stage == "search" and victim.exists():
            victim.unlink()

    monkeypatch.setattr("dedup.pipeline.scan.say_nothing", hide)
    yield victim
    victim.write_bytes(content)
    os.utime(victim, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_photo_that_vanishes_during_the_scan_is_named(
    photos: Path, settings: Settings, vanishing: Path
) -> None:
    report = dedup.scan_library([photos], settings)
    assert reasons(report)["rocket small.jpg"] in (Reason.CHANGED, Reason.UNREADABLE)
    assert names(report)["rocket.jpg"] == {"copy of rocket.jpg": "same-bytes"}
    again = dedup.scan_library([photos], settings)
    assert "rocket small.jpg" not in reasons(again)


def test_relations_are_those_of_the_records() -> None:
    assert dedup.Relation is Relation
    assert set(dedup.__all__) <= set(dir(dedup))
    with pytest.raises(AttributeError, match="no attribute"):
        dedup.scan_libary  # noqa: B018
