"""New pictures moved into a folder: nothing overwritten, nothing lost, only what was checked."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from dedup.apply import intake, syscalls
from dedup.apply.intake import Intake
from dedup.errors import UsageError
from dedup.records import PhotoFile


def look(path: Path) -> PhotoFile:
    found = os.lstat(path)
    return PhotoFile(
        str(path), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_dev, found.st_ino, found.st_nlink
    )  # fmt: skip


@pytest.fixture
def card(tmp_path: Path) -> Path:
    folder = tmp_path / "card" / "DCIM" / "100"
    folder.mkdir(parents=True)
    (folder / "IMG_1.jpg").write_bytes(b"one" * 1000)
    os.utime(folder / "IMG_1.jpg", ns=(10**18, 10**18 + 5))
    return folder


@pytest.fixture(params=["rename", "copy", "copy, no rename that refuses"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same disk; another disk; another disk whose file system cannot rename without overwriting."""
    real = syscalls.rename_to_free

    def rename(source: tuple[int, bytes], target: tuple[int, bytes]) -> None:
        if not source[1].startswith(b".dedup-"):
            if syscalls.look_at(*target) is not None:
                raise FileExistsError(errno.EEXIST, "exists")
            raise OSError(errno.EXDEV, "another disk")
        if request.param != "copy":
            raise OSError(errno.EINVAL, "unknown flag")
        real(source, target)

    if request.param != "rename":
        monkeypatch.setattr(syscalls, "rename_to_free", rename)
    return str(request.param)


def test_a_picture_is_moved_with_its_bytes_and_time(card: Path, tmp_path: Path, way: str) -> None:
    with Intake(str(tmp_path / "new")) as taken:
        moved = taken.take(look(card / "IMG_1.jpg"), "100/IMG_1.jpg")
    target = tmp_path / "new" / "100" / "IMG_1.jpg"
    assert (moved.path, moved.trouble) == (str(target), ""), way
    assert target.read_bytes() == b"one" * 1000
    assert target.stat().st_mtime_ns == 10**18 + 5
    assert not (card / "IMG_1.jpg").exists()
    assert os.listdir(target.parent) == ["IMG_1.jpg"]


def test_nothing_is_overwritten(card: Path, tmp_path: Path, way: str) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "IMG_1.jpg").write_bytes(b"mine")
    (folder / "IMG_1-2.jpg").mkdir()
    os.symlink("nowhere", folder / "IMG_1-3.jpg")
    with Intake(str(folder)) as taken:
        moved = taken.take(look(card / "IMG_1.jpg"), "IMG_1.jpg")
    assert moved.path == str(folder / "IMG_1-4.jpg"), way
    assert (folder / "IMG_1.jpg").read_bytes() == b"mine"
    assert os.readlink(folder / "IMG_1-3.jpg") == "nowhere"
    assert (folder / "IMG_1-4.jpg").read_bytes() == b"one" * 1000


def test_a_file_that_changed_after_the_check_stays(card: Path, tmp_path: Path, way: str) -> None:
    seen = look(card / "IMG_1.jpg")
    (card / "IMG_1.jpg").write_bytes(b"two" * 1000)
    with Intake(str(tmp_path / "new")) as taken:
        moved = taken.take(seen, "IMG_1.jpg")
    assert moved.path == "", way
    assert "changed after it was checked" in moved.trouble
    assert (card / "IMG_1.jpg").read_bytes() == b"two" * 1000
    assert os.listdir(tmp_path / "new") == []


def test_a_name_that_stands_for_another_file_by_now_stays(card: Path, tmp_path: Path, way: str) -> None:
    seen = look(card / "IMG_1.jpg")
    os.rename(card / "IMG_1.jpg", card / "IMG_2.jpg")
    (card / "IMG_1.jpg").write_bytes(b"one" * 1000)
    os.utime(card / "IMG_1.jpg", ns=(10**18, 10**18 + 5))
    with Intake(str(tmp_path / "new")) as taken:
        assert taken.take(seen, "IMG_1.jpg").path == "", way
    assert (card / "IMG_1.jpg").exists()
    assert os.listdir(tmp_path / "new") == []


def test_a_link_put_in_its_place_is_not_followed(card: Path, tmp_path: Path, way: str) -> None:
    seen = look(card / "IMG_1.jpg")
    os.rename(card / "IMG_1.jpg", tmp_path / "elsewhere.jpg")
    os.symlink(tmp_path / "elsewhere.jpg", card / "IMG_1.jpg")
    with Intake(str(tmp_path / "new")) as taken:
        assert taken.take(seen, "IMG_1.jpg").path == "", way
    assert (tmp_path / "elsewhere.jpg").read_bytes() == b"one" * 1000


def test_no_link_leads_out_of_the_folder(card: Path, tmp_path: Path, way: str) -> None:
    folder, outside = tmp_path / "new", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    os.symlink(outside, folder / "100")
    with Intake(str(folder)) as taken:
        moved = taken.take(look(card / "IMG_1.jpg"), "100/IMG_1.jpg")
        assert taken.take(look(card / "IMG_1.jpg"), "../x.jpg").path == "", way
    assert moved.path == ""
    assert os.listdir(outside) == []
    assert (card / "IMG_1.jpg").exists()


def test_a_swap_in_the_last_moment_is_taken_back(
    card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = syscalls.rename_to_free
    swapped: list[bool] = []

    def rename(source: tuple[int, bytes], target: tuple[int, bytes]) -> None:
        if not swapped:
            swapped.append(True)
            os.rename(card / "IMG_1.jpg", card / "aside.jpg")
            (card / "IMG_1.jpg").write_bytes(b"another")
        real(source, target)

    monkeypatch.setattr(syscalls, "rename_to_free", rename)
    with Intake(str(tmp_path / "new")) as taken:
        moved = taken.take(look(card / "IMG_1.jpg"), "IMG_1.jpg")
    assert moved.path == ""
    assert (card / "IMG_1.jpg").read_bytes() == b"another"
    assert (card / "aside.jpg").read_bytes() == b"one" * 1000
    assert os.listdir(tmp_path / "new") == []


@pytest.fixture
def other_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    real = syscalls.rename_to_free

    def rename(source: tuple[int, bytes], target: tuple[int, bytes]) -> None:
        if not source[1].startswith(b".dedup-"):
            raise OSError(errno.EXDEV, "another disk")
        real(source, target)

    monkeypatch.setattr(syscalls, "rename_to_free", rename)


@pytest.mark.parametrize("call", ["write", "fsync", "utime", "open"])
def test_a_disk_that_fails_leaves_the_original_and_no_remains(
    call: str, card: Path, tmp_path: Path, other_disk: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(os, call)

    def fail(*given: Any, **named: Any) -> Any:
        if call == "open" and not str(given[0]).endswith(".part'"):
            return real(*given, **named)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Intake(str(tmp_path / "new")) as taken:
        seen = look(card / "IMG_1.jpg")
        monkeypatch.setattr(os, call, fail)
        moved = taken.take(seen, "IMG_1.jpg")
        monkeypatch.setattr(os, call, real)
    assert moved.path == ""
    assert "no space left" in moved.trouble
    assert (card / "IMG_1.jpg").read_bytes() == b"one" * 1000
    assert os.listdir(tmp_path / "new") == []


def test_a_copy_that_reads_back_differently_is_thrown_away(
    card: Path, tmp_path: Path, other_disk: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "_digest", lambda fd: b"other")
    with Intake(str(tmp_path / "new")) as taken:
        moved = taken.take(look(card / "IMG_1.jpg"), "IMG_1.jpg")
    assert moved.path == ""
    assert "same bytes" in moved.trouble
    assert (card / "IMG_1.jpg").exists()
    assert os.listdir(tmp_path / "new") == []


def test_a_read_only_card_keeps_its_original_beside_the_copy(
    card: Path, tmp_path: Path, other_disk: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.unlink

    def unlink(path: Any, **named: Any) -> None:
        if path == b"IMG_1.jpg":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        real(path, **named)

    monkeypatch.setattr(os, "unlink", unlink)
    with Intake(str(tmp_path / "new")) as taken:
        moved = taken.take(look(card / "IMG_1.jpg"), "IMG_1.jpg")
    assert moved.path == str(tmp_path / "new" / "IMG_1.jpg")
    assert "read-only" in moved.trouble
    assert (card / "IMG_1.jpg").read_bytes() == (tmp_path / "new" / "IMG_1.jpg").read_bytes()


def test_a_file_written_to_while_it_is_copied_stays(
    card: Path, tmp_path: Path, other_disk: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = intake._pour

    def pour(source: int, target: int) -> bytes:
        digest = real(source, target)
        with open(card / "IMG_1.jpg", "ab") as file:
            file.write(b"more")
        return digest

    monkeypatch.setattr(intake, "_pour", pour)
    with Intake(str(tmp_path / "new")) as taken:
        moved = taken.take(look(card / "IMG_1.jpg"), "IMG_1.jpg")
    assert moved.path == ""
    assert (card / "IMG_1.jpg").read_bytes() == b"one" * 1000 + b"more"
    assert os.listdir(tmp_path / "new") == []


def test_special_files_are_not_moved(tmp_path: Path, way: str) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with Intake(str(tmp_path / "new")) as taken:
        assert taken.take(look(tmp_path / "pipe.jpg"), "pipe.jpg").path == "", way
    assert stat.S_ISFIFO(os.lstat(tmp_path / "pipe.jpg").st_mode)


def test_a_folder_that_cannot_be_made_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="cannot be moved there"):
        Intake(str(tmp_path / "file" / "new"))


def test_what_lies_in_the_folder_already_is_known(card: Path, tmp_path: Path) -> None:
    os.symlink(card.parent, tmp_path / "link")
    with Intake(str(tmp_path / "link")) as taken:
        assert taken.holds(str(card / "IMG_1.jpg"))
        assert not taken.holds(str(tmp_path / "card" / "x.jpg"))
