"""The catalogue keeps what it was told, and refuses what it cannot believe."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup.catalogue import Catalogue, FileState, file_of_row, rows, schema
from dedup.catalogue import database as database_module
from dedup.errors import Busy, CatalogueInDoubt, DedupError, Unsafe
from dedup.index import FingerprintTable, table_from_photos, table_from_rows
from dedup.records import (
    CandidatePair,
    Change,
    Figures,
    Fingerprint,
    Inspection,
    Match,
    Metadata,
    Photo,
    PhotoFile,
    PictureInfo,
    Reason,
    Relation,
    Skipped,
    Source,
)

RECIPE = "recipe one"


def make_file(path: str, size: int = 1000, mtime_ns: int = 1) -> PhotoFile:
    return PhotoFile(path, size, mtime_ns, mtime_ns, 1, abs(hash(path)) % 2**40, 1)


def make_photo(file: PhotoFile, seed: int, recipe: str = RECIPE) -> Photo:
    rng = random.Random(seed)
    fingerprint = Fingerprint(
        recipe=recipe,
        phash64=rng.randbytes(64),
        phash256=rng.randbytes(256),
        dhash64=rng.randbytes(8),
        histogram=rng.randbytes(64),
        texture=rng.random() * 20,
        grey=rng.randbytes(4096),
        colour=rng.randbytes(192),
        trim=(0.0, rng.random() / 3, 1.0, 1.0),
    )
    metadata = Metadata(
        capture_time="2019-07-04T12:41:07.25", keywords=("sea", "été"), caption='"quoted"\n', exif_tags=3
    )
    info = PictureInfo("JPEG", 4000, 3000, "RGB", 8, 1, False, 6, "ab12", "sRGB", 92, False, "", metadata)
    return Photo(0, file, rng.randbytes(32), info, fingerprint)


def make_match(left: int, right: int, relation: Relation = Relation.SAME_PICTURE) -> Match:
    changes = (
        Change("recompressed", "saved again at about quality 75", 75.0),
        Change("overlay", "a stamp", 0.1, (0.0, 0.1, 0.2, 0.3)),
    )
    figures = Figures(
        2, 6, 2.25, 4.5, (0.0, 0.0, 0.5, 0.5), 0.99, 0.5, 1, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (2000, 1500)
    )
    return Match(left, right, relation, "the same picture", changes, figures, Source.HASH, "left-first")


@pytest.fixture
def db(tmp_path: Path) -> str:
    return str(tmp_path / "books" / "catalogue.db")


def fill(path: str, count: int = 6) -> dict[int, Photo]:
    """A catalogue with `count` photos, by file id."""
    photos = {}
    with Catalogue.open(path, write=True) as catalogue:
        files = [make_file(f"/photos/{number:03}.jpg", 1000 + number) for number in range(count)]
        catalogue.put_files(files)
        ids = {row[0]: row[8] for row in catalogue.known_files()}
        for number, file in enumerate(files):
            photo = make_photo(file, number)
            catalogue.put_photo(ids[file.path], photo)
            photos[ids[file.path]] = photo
    return photos


def test_photos_come_back_as_they_were_stored(db: str) -> None:
    photos = fill(db)
    with Catalogue.open(db, write=False) as catalogue:
        back = dict(catalogue.photos_of_files(sorted(photos), grey=True))
    for number, photo in photos.items():
        assert back[number].id == number
        assert back[number].file == photo.file
        assert back[number].info == photo.info
        assert back[number].fingerprint == photo.fingerprint


def test_a_light_photo_lacks_the_grey_only(db: str) -> None:
    photos = fill(db, 1)
    with Catalogue.open(db, write=False) as catalogue:
        ((_, light),) = catalogue.photos_of_files(list(photos), grey=False)
    assert light.fingerprint.grey == b""
    assert light.fingerprint.phash256 == next(iter(photos.values())).fingerprint.phash256


@pytest.mark.parametrize(
    "name", ["a\nb.jpg", 'quote".jpg', "été.jpg", os.fsdecode(b"\xff\xfe.jpg"), "'; DROP TABLE files;--"]
)
def test_odd_names_come_back_exactly(db: str, name: str) -> None:
    file = make_file("/photos/" + name)
    with Catalogue.open(db, write=True) as catalogue:
        catalogue.put_files([file])
        catalogue.set_passed_over([Skipped("/photos/x" + name, "crawl", Reason.NOT_A_PHOTO, "", 3, 4)])
        (row,) = catalogue.known_files()
        assert row[0] == file.path
        assert catalogue.passed_over()[0].path == "/photos/x" + name


def test_a_changed_file_loses_its_content_and_its_failure(db: str) -> None:
    photos = fill(db, 2)
    first, second = photos
    with Catalogue.open(db, write=True) as catalogue:
        catalogue.put_failure(second, Skipped("", "fingerprint", Reason.CRASHED, "died"), "attempt")
        assert [entry[0] for entry in catalogue.failures()] == [second]
        catalogue.put_files([make_file(photos[i].file.path, 77) for i in photos])
        assert {row[7] for row in catalogue.known_files()} == {FileState.PENDING}
        assert {row[8] for row in catalogue.known_files()} == {first, second}
        assert catalogue.failures() == []


def test_the_fingerprint_of_a_vanished_file_waits_for_its_return(
    db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = fill(db, 1)
    (photo,) = photos.values()
    with Catalogue.open(db, write=True) as catalogue:
        catalogue.forget_files(list(photos))
        catalogue.forget_orphans()
        assert catalogue.find_content(photo.digest, RECIPE) is not None
        monkeypatch.setattr("time.time", lambda: 4e9)
        catalogue.forget_orphans()
        assert catalogue.find_content(photo.digest, RECIPE) is None


def test_a_fingerprint_of_another_recipe_is_stale(db: str) -> None:
    photos = fill(db, 2)
    number, photo = next(iter(photos.items()))
    with Catalogue.open(db, write=True) as catalogue:
        assert catalogue.find_content(photo.digest, "recipe two") is None
        assert len(catalogue.stale_contents("recipe two")) == 2
        renewed = Photo(
            0, photo.file, photo.digest, photo.info, make_photo(photo.file, 9, "recipe two").fingerprint
        )
        catalogue.put_photo(number, renewed)
        assert len(catalogue.stale_contents("recipe two")) == 1


def test_fingerprints_read_in_columns_are_those_of_the_photos(db: str) -> None:
    photos = sorted(fill(db, 5).values(), key=lambda photo: photo.digest)
    with Catalogue.open(db, write=True) as catalogue:
        keys = [key for _, key, _ in catalogue.contents_by_digest(RECIPE)]
        table = table_from_rows(keys, catalogue.fingerprint_columns(RECIPE))
    expected = table_from_photos(zip(keys, photos, strict=True))
    assert keys == sorted(keys)
    for name in FingerprintTable.__slots__:
        assert np.array_equal(getattr(table, name), getattr(expected, name)), name


def test_columns_that_do_not_fit_are_refused(db: str) -> None:
    fill(db, 2)
    with Catalogue.open(db, write=True) as catalogue, pytest.raises(ValueError, match="2 rows for 3 ids"):
        table_from_rows([1, 2, 3], catalogue.fingerprint_columns(RECIPE))


def test_a_network_disks_inode_comes_back(db: str) -> None:
    """They may fill all 64 bits, and SQLite's integers have a sign."""
    file = PhotoFile("/net/a.jpg", 10, 1, 1, 2**64 - 1, 2**63 + 5, 1)
    with Catalogue.open(db, write=True) as catalogue:
        catalogue.put_files([file])
        assert [file_of_row(row) for row in catalogue.known_files()] == [file]
        catalogue.touch_files([file])
        catalogue.pack_files()
        assert [file_of_row(row) for row in catalogue.known_files()] == [file]


def test_packed_files_are_those_of_the_rows_until_one_changes(db: str) -> None:
    fill(db, 5)
    odd = make_file(os.fsdecode(b"/photos/\xff.jpg"))
    with Catalogue.open(db, write=True) as catalogue:
        catalogue.pack_files()
        catalogue.put_files([odd])
        plain = catalogue.known_files()
        assert len(plain) == 6
        catalogue.pack_files()
        assert catalogue.known_files() == plain
        catalogue.forget_files([plain[0][8]])
        assert catalogue.known_files() == plain[1:]
        catalogue.forget_files([row[8] for row in plain[1:]])
        catalogue.pack_files()
        assert catalogue.known_files() == []


def test_packed_files_of_several_pieces_are_those_of_the_rows(db: str) -> None:
    with Catalogue.open(db, write=True) as catalogue:
        catalogue.put_files(make_file(f"/photos/{number}/\u00fc.jpg") for number in range(4096 * 2 + 1))
        plain = catalogue.known_files()
        catalogue.pack_files()
        assert catalogue.known_files() == plain
        assert list(catalogue.each_file()) == plain


def test_matches_keep_their_direction_and_leave_the_candidates(db: str) -> None:
    fill(db, 3)
    with Catalogue.open(db, write=True) as catalogue:
        pairs = [
            CandidatePair(1, 2, Source.HASH, 4),
            CandidatePair(1, 3, Source.WINDOW, 64, 5, (0.1, 0, 1, 1), (0, 0, 1, 0.9)),
        ]
        catalogue.put_candidates(pairs)
        ends = catalogue.candidate_ends()
        assert catalogue.candidates([row[0] for row in ends]) == pairs
        catalogue.spare(1, 2, 3)
        assert [row[1:] for row in catalogue.candidate_ends()] == [(1, 2, 3), (1, 3, None)]
        match = make_match(3, 1)
        catalogue.put_match(match, "confirm one")
        catalogue.put_unlike(1, 2, "confirm one")
        assert catalogue.candidate_ends() == []
        assert list(catalogue.matches([(1, 2), (1, 3)])) == [match]
        catalogue.put_candidates(pairs)
        assert catalogue.candidate_ends() == [], "what was measured is not asked again"
        assert catalogue.forget_matches_except("confirm two") == 2
        assert catalogue.match_ends() == []


def test_inspections_are_kept_with_failures(db: str) -> None:
    fill(db, 2)
    with Catalogue.open(db, write=True) as catalogue:
        catalogue.put_inspection(Inspection(1, "cut short", 0.5), "c")
        catalogue.put_unconfirmable(2, Skipped("", "confirm", Reason.TIMEOUT, "needed too long"), "c")
        found = catalogue.inspections()
    assert found[1] == (Inspection(1, "cut short", 0.5), "", "")
    assert found[2][1:] == ("timeout", "needed too long")


def test_a_second_writer_is_told_that_the_catalogue_is_busy(db: str) -> None:
    fill(db, 1)
    with Catalogue.open(db, write=True), pytest.raises(Busy, match="another run holds"):
        Catalogue.open(db, write=True)
    with Catalogue.open(db, write=True):
        pass


def test_a_reader_works_beside_a_writer_and_sees_what_was_committed(db: str) -> None:
    fill(db, 1)
    with Catalogue.open(db, write=True) as writer:
        writer.put_files([make_file("/photos/new.jpg")])
        with Catalogue.open(db, write=False) as reader:
            assert reader.counts()["files"] == 1
        writer.commit()
        with Catalogue.open(db, write=False) as reader:
            assert reader.counts()["files"] == 2


def test_nothing_of_a_frame_is_kept_if_it_fails(db: str) -> None:
    fill(db, 1)
    with Catalogue.open(db, write=True) as catalogue:

        def fail_half_way() -> None:
            with catalogue.all_or_nothing():
                catalogue.put_files([make_file("/photos/new.jpg")])
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fail_half_way()
        assert catalogue.counts()["files"] == 1


def test_what_was_committed_survives_a_kill(db: str) -> None:
    script = (
        "import sys; sys.path.insert(0, 'tests');"
        "from test_catalogue import *;"
        f"c = Catalogue.open({db!r}, write=True);"
        "c.put_files([make_file('/kept.jpg')]); c.commit();"
        "c.put_files([make_file('/open.jpg')]); print('ready', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        cwd=Path(__file__).parent.parent, text=True,
    )  # fmt: skip
    assert child.stdout is not None and child.stdin is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdin.close()
    child.stdout.close()
    with Catalogue.open(db, write=True) as catalogue:
        assert [row[0] for row in catalogue.known_files()] == ["/kept.jpg"]
        catalogue.check(thorough=True)


def test_a_batch_is_committed_when_it_is_two_seconds_old(db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Catalogue.open(db, write=True) as catalogue:
        catalogue.put_files([make_file("/a.jpg")])
        catalogue.commit_if_due()
        with Catalogue.open(db, write=False) as reader:
            assert reader.counts()["files"] == 0
        now[0] = 2.1
        catalogue.commit_if_due()
        with Catalogue.open(db, write=False) as reader:
            assert reader.counts()["files"] == 1


def test_a_newer_catalogue_is_refused_unchanged(db: str) -> None:
    fill(db, 1)
    connection = sqlite3.connect(db)
    connection.execute("PRAGMA user_version=99")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    before = Path(db).read_bytes()
    with pytest.raises(CatalogueInDoubt, match="newer dedup"):
        Catalogue.open(db, write=True)
    assert Path(db).read_bytes() == before


def test_another_programs_database_is_refused_unchanged(tmp_path: Path) -> None:
    foreign = tmp_path / "photos.db"
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE notes (text)")
    connection.commit()
    connection.close()
    before = foreign.read_bytes()
    with pytest.raises(CatalogueInDoubt, match="another program"):
        Catalogue.open(str(foreign), write=True)
    assert foreign.read_bytes() == before


@pytest.mark.parametrize("content", [b"hello", b"SQLite format 3\0", b"\xff\xd8\xff" * 100])
def test_a_file_that_is_no_catalogue_is_refused_unchanged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(content)
    with pytest.raises(CatalogueInDoubt, match="scan again"):
        Catalogue.open(str(path), write=True)
    assert path.read_bytes() == content


def test_a_reader_needs_a_catalogue(db: str) -> None:
    with pytest.raises(DedupError, match="dedup scan"):
        Catalogue.open(db, write=False)


def test_an_older_catalogue_is_renewed_and_a_backup_left(db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = fill(db, 2)
    step = ("ALTER TABLE files ADD COLUMN starred INTEGER NOT NULL DEFAULT 0",)
    monkeypatch.setattr(database_module, "STEPS", [*schema.STEPS, step])
    with pytest.raises(CatalogueInDoubt, match="older version"):
        Catalogue.open(db, write=False)
    with Catalogue.open(db, write=True) as catalogue:
        assert dict(catalogue.photos_of_files(list(photos), grey=False)).keys() == photos.keys()
    monkeypatch.undo()
    with pytest.raises(CatalogueInDoubt, match="newer"):
        Catalogue.open(db, write=False)
    shutil.copy(f"{db}.v{len(schema.STEPS)}.backup", db)
    with Catalogue.open(db, write=False) as catalogue:
        assert catalogue.counts()["photos"] == 2


def test_a_migration_that_fails_changes_nothing(db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(db, 2)
    bad = ("ALTER TABLE files ADD COLUMN starred INTEGER", "ALTER TABLE nothing ADD COLUMN x")
    monkeypatch.setattr(database_module, "STEPS", [*schema.STEPS, bad])
    with pytest.raises(DedupError):
        Catalogue.open(db, write=True)
    monkeypatch.undo()
    with Catalogue.open(db, write=True) as catalogue:
        assert catalogue.counts()["photos"] == 2


def read_everything(path: str) -> None:
    with Catalogue.open(path, write=True) as catalogue:
        catalogue.check(thorough=False)
        ids = [row[8] for row in catalogue.known_files()]
        list(catalogue.photos_of_files(ids, grey=True))
        list(catalogue.matches([row[:2] for row in catalogue.match_ends()]))
        catalogue.passed_over(), catalogue.failures(), catalogue.inspections(), catalogue.last_scan()


def spoil(source: str, target: str, change: Callable[[bytearray], bytearray]) -> None:
    Path(target).write_bytes(change(bytearray(Path(source).read_bytes())))


def sound_catalogue(db: str) -> None:
    fill(db, 30)
    with Catalogue.open(db, write=True) as catalogue:
        for number in range(1, 30):
            catalogue.put_match(make_match(number, number + 1), "c")


@pytest.mark.parametrize("seed", range(40))
def test_a_shortened_catalogue_is_recognised_at_opening(db: str, seed: int) -> None:
    sound_catalogue(db)
    size = os.path.getsize(db)
    spoil(db, db, lambda content: content[: random.Random(seed).randrange(1, size)])
    with pytest.raises(Unsafe):
        read_everything(db)


def test_flipped_bits_never_give_anything_but_an_answer_or_our_error(db: str, tmp_path: Path) -> None:
    sound_catalogue(db)
    told = 0
    for seed in range(300):
        rng = random.Random(seed)
        target = str(tmp_path / "flipped.db")

        def flip(content: bytearray, rng: random.Random = rng) -> bytearray:
            for _ in range(rng.choice((1, 8, 64))):
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            return content

        spoil(db, target, flip)
        try:
            read_everything(target)
        except Unsafe as error:
            told += target in str(error)
    assert told > 50


def test_a_place_that_cannot_be_written_is_named() -> None:
    with pytest.raises(Unsafe, match="--db"):
        Catalogue.open("/proc/nowhere/catalogue.db", write=True)


def test_network_disks_are_told_from_the_mount_table(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "30 22 0:40 / /mnt/box rw - nfs4 box:/photos rw\n"
        "31 22 0:41 / /mnt/my\\040box rw - fuse.sshfs me@box: rw\n"
    )
    assert not database_module.on_network_disk("/home/x.db", str(table))
    assert database_module.on_network_disk("/mnt/box/a/x.db", str(table))
    assert not database_module.on_network_disk("/mnt/boxes/x.db", str(table))
    assert database_module.on_network_disk("/mnt/my box/x.db", str(table))
    assert not database_module.on_network_disk("/x.db", str(tmp_path / "missing"))


def test_only_a_scan_that_was_noted_as_finished_counts(db: str) -> None:
    with Catalogue.open(db, write=True) as catalogue:
        assert catalogue.last_scan() is None
        catalogue.put_scan({"roots": ["/a"]}, {"photos": 1})
        catalogue.put_scan({"roots": ["/b"]}, {"photos": 2})
        record = catalogue.last_scan()
        assert record is not None and record.basis == {"roots": ["/b"]} and record.summary == {"photos": 2}


texts = st.text(max_size=20)


@given(texts, texts, st.lists(texts, max_size=3), st.floats(allow_nan=False, allow_infinity=False))
def test_any_text_and_number_survives_storing(
    caption: str, words: str, keywords: list[str], amount: float
) -> None:
    metadata = Metadata(caption=caption, keywords=tuple(keywords))
    info = PictureInfo("PNG", 1, 1, "L", 16, 1, True, 1, "", words, 0, True, caption, metadata)
    assert rows.info_from_text(rows.info_to_text(info)) == info
    match = make_match(1, 2)
    changed = Match(
        1, 2, match.relation, words, (Change("colour", words, amount),), match.figures, Source.FLAT, "unknown"
    )
    assert rows.match_from_text(1, 2, "same-picture", rows.match_to_text(changed)) == changed


@given(st.binary(min_size=1, max_size=30).filter(lambda name: b"\0" not in name))
def test_any_name_survives_storing(name: bytes) -> None:
    path = os.fsdecode(name)
    assert rows.read_path(rows.stored_path(path)) == path
