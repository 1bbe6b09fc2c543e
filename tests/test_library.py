"""`Library`: asked by programs, from threads and forks, about whatever is uploaded."""

from __future__ import annotations

import os
import random
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from dedup import Answer, Checked, Library, Relation, Settings, UsageError, scan_library
from dedup.errors import InternalFault
from dedup.pipeline import Checker
from dedup.records import Reason
from tests.pictures import encode, jpeg, real_photo


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("library")
    (home / "Pictures").mkdir()
    (home / "Pictures" / "cat.jpg").write_bytes(jpeg(real_photo("chelsea")))
    (home / "Pictures" / "coffee.jpg").write_bytes(jpeg(real_photo("coffee")))
    settings = Settings(db=str(home / "photos.db"), jobs=2)
    scan_library([home / "Pictures"], settings)
    return settings


@pytest.fixture
def library(settings: Settings) -> Iterator[Library]:
    with Library.open(settings=settings) as library:
        yield library


def hostile() -> list[bytes]:
    """What arrives at an upload form that is no picture, or not quite one."""
    sound = jpeg(real_photo("chelsea"))
    png = encode(real_photo("coffee"))
    chance = random.Random(7)
    spoilt = []
    for number in range(40):
        held = bytearray(chance.choice((sound, png)))
        for _ in range(chance.randrange(1, 60)):
            held[chance.randrange(min(len(held), 2000 if number % 2 else len(held)))] = chance.randrange(256)
        spoilt.append(bytes(held))
    return [
        b"", b"\0", b"\xff", b"\xff\xd8", b"\xff\xd8\xff\xe0" * 1000, b"GIF89a", b"RIFF\0\0\0\0WEBP",
        b"\x89PNG\r\n\x1a\n", b"%PDF-1.4", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"MZ" + bytes(1000),
        b"II*\0" + bytes(500), b"BM" + b"\xff" * 60, bytes(100_000), os.urandom(50_000),
        sound[: len(sound) // 2], sound[:200], png[: len(png) // 2], sound[:-2] + b"<script>", *spoilt,
    ]  # fmt: skip


def test_bytes_and_paths_get_the_same_answer(library: Library, tmp_path: Path) -> None:
    content = jpeg(real_photo("chelsea"), 70)
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    answers = [
        library.check(given) for given in (content, bytearray(content), memoryview(content), path, str(path))
    ]
    assert {answer.answer for answer in answers} == {Answer.THERE}
    assert len({answer.likenesses for answer in answers}) == 1
    assert [answer.name for answer in answers] == ["upload"] * 3 + [str(path)] * 2


def test_an_answer_says_what_a_gate_needs(library: Library) -> None:
    there = library.check(jpeg(real_photo("chelsea"), 70), "cat.jpg")
    assert there.is_there
    assert there.name == "cat.jpg"
    assert there.best is not None
    assert there.best.relation is Relation.SAME_PICTURE
    assert there.best.path.endswith("Pictures/cat.jpg")
    new = library.check(jpeg(real_photo("astronaut")))
    assert not new.is_there
    assert new.best is None


def test_no_upload_raises(library: Library) -> None:
    answers = [library.check(content) for content in hostile()]
    for content, answer in zip(hostile()[:18], answers, strict=False):
        # Half a JPEG is a picture, though a damaged one.
        assert answer.answer is not Answer.THERE or len(content) > 5000
        if answer.answer is Answer.UNREADABLE:
            assert answer.skipped is not None
            assert answer.skipped.path == "upload"
    assert library.check(jpeg(real_photo("coffee"), 80)).is_there


def test_names_of_uploads_do_no_harm(library: Library) -> None:
    content = jpeg(real_photo("chelsea"), 70)
    for name in (
        "../../etc/passwd",
        "a\0b.jpg",
        "x" * 5000 + ".jpg",
        "\udcff.jpg",
        ".jpg",
        "a.dng",
        "a.j/../g",
    ):
        answer = library.check(content, name)
        assert answer.name == name
        assert answer.is_there or name == "a.dng"


def test_nothing_is_left_in_the_folder_for_temporary_files(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for content in hostile()[:20]:
        library.check(content)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_an_answer(library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    answer = library.check(b"x")
    assert answer.answer is Answer.UNREADABLE
    assert answer.skipped is not None
    assert "could not be kept" in answer.skipped.detail


def test_a_fault_in_dedup_costs_one_answer(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Checked:
        raise InternalFault("x: function failed\nTraceback\nValueError: surprise")

    monkeypatch.setattr(Checker, "check_file", fail)
    answer = library.check(jpeg(real_photo("chelsea")))
    assert answer.answer is Answer.UNREADABLE
    assert answer.skipped is not None
    assert answer.skipped.reason is Reason.CRASHED
    assert "surprise" in answer.skipped.detail


def test_many_threads_ask_at_once(library: Library) -> None:
    contents = {
        jpeg(real_photo("chelsea"), 70): Answer.THERE,
        jpeg(real_photo("astronaut"), 70): Answer.NEW,
        b"no picture": Answer.UNREADABLE,
        jpeg(real_photo("coffee"), 80): Answer.THERE,
    }
    found: list[tuple[Answer, Answer]] = []

    def ask() -> None:
        for content, expected in contents.items():
            found.append((library.check(content).answer, expected))

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 48
    assert all(answer is expected for answer, expected in found)


def _children() -> set[str]:
    with open(f"/proc/{os.getpid()}/task/{os.getpid()}/children", encoding="ascii") as file:
        return set(file.read().split())


def test_workers_are_as_many_as_was_said_and_go_with_the_library(settings: Settings) -> None:
    before = _children()
    with Library.open(settings=settings) as library:
        threads = [
            threading.Thread(target=library.check, args=(jpeg(real_photo("chelsea"), 70),)) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(_children() - before) <= 2
    assert _children() == before


def test_files_stay_closed_after_many_questions(library: Library) -> None:
    content = jpeg(real_photo("chelsea"), 70)
    library.check(content)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        library.check(content)
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_a_process_that_was_forked_has_workers_of_its_own(library: Library) -> None:
    content = jpeg(real_photo("chelsea"), 70)
    library.check(content)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.write(write, library.check(content).answer.encode())
            library.close()
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with open(read, "rb") as answer:
        assert answer.read() == b"there"
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert library.check(content).is_there


def test_an_open_library_follows_the_next_scan(tmp_path: Path) -> None:
    folder = tmp_path / "Pictures"
    folder.mkdir()
    (folder / "cat.jpg").write_bytes(jpeg(real_photo("chelsea")))
    settings = Settings(db=str(tmp_path / "photos.db"), jobs=1)
    scan_library([folder], settings)
    with Library.open(settings.db, settings=settings) as library:
        content = jpeg(real_photo("astronaut"), 70)
        assert library.check(content).answer is Answer.NEW
        (folder / "face.jpg").write_bytes(jpeg(real_photo("astronaut")))
        scan_library([folder], settings)
        assert library.check(content).answer is Answer.THERE
        assert library.groups() == ()
    assert Counter(path.suffix for path in folder.iterdir()) == {".jpg": 2}


def test_a_library_that_is_not_there_is_said_when_it_is_opened(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no catalogue yet"):
        Library.open(tmp_path / "none.db")


def test_a_folder_limits_what_counts(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="knows no photo"):
        Library.open(settings=settings, folders=[tmp_path])
