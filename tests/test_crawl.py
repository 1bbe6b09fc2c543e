"""Every file below the roots comes out once: as a photo, or with the reason why not."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from dedup.crawl import DEFAULT_EXCLUDES, find_photos
from dedup.errors import UsageError
from dedup.records import PhotoFile, Reason, Skipped
from dedup.settings import Settings

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(range(200))
"""Enough of a JPEG to be taken for one; nothing here decodes."""

PLAIN = Settings()


def unknown(path: str, size_bytes: int, mtime_ns: int) -> str:
    return ""


def crawl(
    *roots: os.PathLike[str] | str,
    settings: Settings = PLAIN,
    known: Callable[[str, int, int], str] = unknown,
) -> list[PhotoFile | Skipped]:
    found = list(find_photos([os.fspath(root) for root in roots], settings, known))
    paths = [one.path for one in found]
    assert len(paths) == len(set(paths)), "a path came out twice"
    return found


def photos(found: Sequence[PhotoFile | Skipped], root: Path) -> list[str]:
    return [os.path.relpath(one.path, root) for one in found if isinstance(one, PhotoFile)]


def skipped(found: Sequence[PhotoFile | Skipped], root: Path) -> dict[str, Reason]:
    return {os.path.relpath(one.path, root): one.reason for one in found if isinstance(one, Skipped)}


def put(path: Path, content: bytes = JPEG) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# -- what is a photo --------------------------------------------------------------------------------------------


def test_a_photo_is_told_by_its_content_not_its_name(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg")
    put(tmp_path / "b.txt")
    put(tmp_path / "c")
    put(tmp_path / "d.txt", b"words")
    found = crawl(tmp_path)
    assert photos(found, tmp_path) == ["a.jpg", "b.txt", "c"]
    assert skipped(found, tmp_path) == {"d.txt": Reason.NOT_A_PHOTO}


def test_a_photo_carries_what_the_disk_says_about_it(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jpg")
    status = path.stat()
    assert crawl(tmp_path) == [
        PhotoFile(
            str(path),
            len(JPEG),
            status.st_mtime_ns,
            status.st_ctime_ns,
            status.st_dev,
            status.st_ino,
            1,
        )
    ]


def test_an_empty_file_is_named_and_not_opened(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg", b"")
    assert skipped(crawl(tmp_path), tmp_path) == {"a.jpg": Reason.EMPTY}


def test_sidecars_and_films_are_no_photos(tmp_path: Path) -> None:
    for name in ("a.jpg.xmp", "a.AAE", "a.pp3", "film.thm"):
        put(tmp_path / name)
    put(tmp_path / "film.mov", b"\x00\x00\x00\x14ftypqt  \x00\x00\x00\x00qt  ")
    found = crawl(tmp_path)
    assert set(skipped(found, tmp_path).values()) == {Reason.NOT_A_PHOTO} and len(found) == 5
    assert {one.detail for one in found if isinstance(one, Skipped)} == {"sidecar", ""}


def test_a_file_named_like_a_photo_whose_content_is_none_is_damaged(tmp_path: Path) -> None:
    put(tmp_path / "IMG_0001.JPG", bytes(4096))
    [one] = crawl(tmp_path)
    assert isinstance(one, Skipped) and one.reason is Reason.DAMAGED
    assert one.detail == "named .jpg, but its content is no photo"


def test_what_is_known_is_not_opened_and_comes_out_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "a.jpg")
    put(tmp_path / "b.txt", b"words")
    put(tmp_path / "c.jpg", b"words")
    first = crawl(tmp_path)
    kinds = {one.path: "photo" if isinstance(one, PhotoFile) else "other" for one in first}

    def refuse(*_: object, **__: object) -> int:
        raise AssertionError("opened")

    monkeypatch.setattr(os, "open", refuse)
    assert crawl(tmp_path, known=lambda path, size, mtime: kinds[path]) == first


def test_known_is_asked_with_size_and_time(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jpg")
    asked: list[tuple[str, int, int]] = []

    def known(path: str, size_bytes: int, mtime_ns: int) -> str:
        asked.append((path, size_bytes, mtime_ns))
        return "photo"

    crawl(tmp_path, known=known)
    assert asked == [(str(path), len(JPEG), path.stat().st_mtime_ns)]


# -- traps ------------------------------------------------------------------------------------------------------


def test_a_file_that_the_caller_has_noted_does_not_come_out(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg")
    put(tmp_path / "b.jpg")
    (tmp_path / "link.jpg").symlink_to("a.jpg")
    asked: list[tuple[str, int]] = []

    def is_noted(path: str, status: os.stat_result) -> bool:
        asked.append((os.path.basename(path), status.st_size))
        return path.endswith("a.jpg")

    found = list(find_photos([str(tmp_path)], PLAIN, unknown, is_noted))
    assert photos(found, tmp_path) == ["b.jpg"]
    assert asked == [("a.jpg", len(JPEG)), ("b.jpg", len(JPEG))], "links are not asked about"


def test_pipes_sockets_and_devices_are_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(tmp_path)  # the path of a socket may have 107 bytes
        listener.bind("socket.jpg")
        expected = {"pipe.jpg": Reason.SPECIAL_FILE, "socket.jpg": Reason.SPECIAL_FILE}
        if os.geteuid() == 0:
            try:
                os.mknod(tmp_path / "zero.jpg", stat.S_IFCHR | 0o666, os.makedev(1, 5))
                expected["zero.jpg"] = Reason.SPECIAL_FILE
            except PermissionError:
                pass  # a container without the right to make devices
        assert skipped(crawl(tmp_path), tmp_path) == expected


@pytest.mark.parametrize("into", ["pipe", "folder", "link"])
def test_a_file_that_turns_into_something_else_after_the_look_is_not_read(tmp_path: Path, into: str) -> None:
    outside = put(tmp_path / "outside.jpg")
    path = put(tmp_path / "in" / "a.bin")

    def swap(_: str, __: int, ___: int) -> str:
        path.unlink()
        if into == "pipe":
            os.mkfifo(path)
        elif into == "folder":
            path.mkdir()
        else:
            path.symlink_to(outside)
        return ""

    found = crawl(tmp_path / "in", known=swap)
    assert skipped(found, tmp_path / "in") == {"a.bin": Reason.CHANGED}


def test_symbolic_links_are_counted_and_not_followed(tmp_path: Path) -> None:
    outside = put(tmp_path / "outside" / "o.jpg")
    root = tmp_path / "root"
    put(root / "a.jpg")
    (root / "loop").symlink_to(root)
    (root / "self.jpg").symlink_to("self.jpg")
    (root / "dangling.jpg").symlink_to("nowhere")
    (root / "out").symlink_to(outside.parent)
    (root / "out.jpg").symlink_to(outside)
    found = crawl(root)
    assert photos(found, root) == ["a.jpg"]
    assert skipped(found, root) == dict.fromkeys(
        ("dangling.jpg", "loop", "out", "out.jpg", "self.jpg"), Reason.SYMLINK
    )


def test_hard_links_both_come_out_and_say_that_they_are_shared(tmp_path: Path) -> None:
    os.link(put(tmp_path / "a.jpg"), tmp_path / "b.jpg")
    found = crawl(tmp_path)
    assert photos(found, tmp_path) == ["a.jpg", "b.jpg"]
    assert [one.link_count for one in found if isinstance(one, PhotoFile)] == [2, 2]


@pytest.mark.parametrize(
    "name",
    [
        b"a\nb.jpg",
        b"\xff\xfe.jpg",
        b" lead and trail .jpg",
        b"-rf.jpg",
        b"$(x)'\".jpg",
        "\u202egpj.exe".encode(),
        b"a\tb",
    ],
)
def test_odd_names_keep_their_exact_bytes(tmp_path: Path, name: bytes) -> None:
    path = os.path.join(os.fsencode(tmp_path), name)
    with open(path, "wb") as file:
        file.write(JPEG)
    [one] = crawl(tmp_path)
    assert isinstance(one, PhotoFile) and one.path_bytes == path


def test_two_unicode_forms_of_a_name_are_two_files(tmp_path: Path) -> None:
    put(tmp_path / "e\u0301.jpg")
    put(tmp_path / "\u00e9.jpg")
    if len(os.listdir(tmp_path)) == 1:
        pytest.skip("this file system folds names")
    assert len(photos(crawl(tmp_path), tmp_path)) == 2


def test_a_path_longer_than_the_system_takes_is_named(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    name = "n" * 250
    for _ in range(20):
        os.mkdir(name, dir_fd=folder)
        inner = os.open(name, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    put(tmp_path / "z.jpg")
    found = crawl(tmp_path)
    assert photos(found, tmp_path) == ["z.jpg"]
    assert [one.reason for one in found if isinstance(one, Skipped)] == [Reason.UNREADABLE]


def failing(call: Callable[..., object], path: Path, error: OSError) -> Callable[..., object]:
    """`call` on a disk that fails at one path."""

    def fail(target: str, *rest: object, **named: object) -> object:
        if os.fspath(target) == os.fspath(path):
            raise error
        return call(target, *rest, **named)

    return fail


@pytest.mark.parametrize("call", ["listdir", "lstat", "open"])
def test_what_cannot_be_read_is_named_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    bad = tmp_path / "bad" if call == "listdir" else tmp_path / "bad" / "b.jpg"
    for name in ("a.jpg", "bad/b.jpg", "c/c.jpg"):
        put(tmp_path / name)
    monkeypatch.setattr(os, call, failing(getattr(os, call), bad, PermissionError(13, "Permission denied")))
    found = crawl(tmp_path)
    assert photos(found, tmp_path) == ["a.jpg", "c/c.jpg"]
    [one] = [one for one in found if isinstance(one, Skipped)]
    assert (one.path, one.reason, one.detail) == (str(bad), Reason.UNREADABLE, "permission denied")


@contextmanager
def without_privilege() -> Iterator[None]:
    """Root reads everything; be nobody for a while."""
    if os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(65534)
    except PermissionError:
        pytest.skip("this user reads everything and may not become another")
    try:
        yield
    finally:
        os.seteuid(0)


def test_folders_and_files_without_permission_are_named() -> None:
    with tempfile.TemporaryDirectory() as name:  # `tmp_path` lies in a folder that is closed to others
        root = Path(name)
        root.chmod(0o755)
        for path in ("closed/a.jpg", "listed/b.jpg", "open/c.jpg", "open/d.jpg"):
            put(root / path)
        (root / "closed").chmod(0)
        (root / "listed").chmod(0o444)
        (root / "open" / "c.jpg").chmod(0)
        try:
            with without_privilege():
                found = crawl(root)
        finally:
            for folder in ("closed", "listed"):
                (root / folder).chmod(0o700)
    assert photos(found, root) == ["open/d.jpg"]
    assert skipped(found, root) == dict.fromkeys(("closed", "listed/b.jpg", "open/c.jpg"), Reason.UNREADABLE)


def test_a_file_that_vanishes_meanwhile_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = put(tmp_path / "a.jpg")
    put(tmp_path / "b.jpg")
    for call in ("lstat", "open"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing(getattr(os, call), gone, FileNotFoundError(2, "gone")))
            assert photos(crawl(tmp_path), tmp_path) == ["b.jpg"]
            assert len(crawl(tmp_path)) == 1


# -- roots ------------------------------------------------------------------------------------------------------


def test_overlapping_and_repeated_roots_give_each_file_once(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg")
    put(tmp_path / "in" / "b.jpg")
    put(tmp_path / "in" / "deep" / "c.jpg")
    roots = [
        f"{tmp_path}/in/deep",
        f"{tmp_path}",
        f"{tmp_path}/in",
        f"{tmp_path}/",
        f"{tmp_path}/in//./deep/",
    ]
    found = crawl(*roots)
    assert sorted(photos(found, tmp_path)) == ["a.jpg", "in/b.jpg", "in/deep/c.jpg"]
    assert skipped(found, tmp_path) == {}
    assert crawl(*reversed(roots)) == found


def test_a_root_that_is_a_link_is_followed_and_keeps_its_name(tmp_path: Path) -> None:
    put(tmp_path / "real" / "a.jpg")
    (tmp_path / "link").symlink_to("real")
    assert photos(crawl(tmp_path / "link"), tmp_path) == ["link/a.jpg"]


def test_one_folder_by_two_roots_is_walked_once(tmp_path: Path) -> None:
    put(tmp_path / "real" / "in" / "a.jpg")
    (tmp_path / "link").symlink_to("real")
    for roots in (("link", "real"), ("real", "link"), ("link", "real/in"), ("real/in", "link")):
        found = crawl(*(tmp_path / root for root in roots))
        assert len(photos(found, tmp_path)) == 1
        assert set(skipped(found, tmp_path).values()) == {Reason.ALIAS}


def test_one_folder_at_two_places_below_a_root_is_walked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a bind mount looks like: another folder entry with the same device and inode.
    put(tmp_path / "a" / "x.jpg")
    put(tmp_path / "b" / "x.jpg")
    real = os.lstat
    monkeypatch.setattr(
        os, "lstat", lambda path: real(os.fspath(path).replace(f"{tmp_path}/b", f"{tmp_path}/a"))
    )
    found = crawl(tmp_path)
    assert photos(found, tmp_path) == ["a/x.jpg"]
    assert skipped(found, tmp_path) == {"b": Reason.ALIAS}


def test_one_file_at_two_places_that_is_no_hard_link_is_one_photo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "a.jpg")
    put(tmp_path / "b.jpg")
    real = os.lstat
    monkeypatch.setattr(os, "lstat", lambda path: real(os.fspath(path).replace("b.jpg", "a.jpg")))
    found = crawl(tmp_path)
    assert photos(found, tmp_path) == ["a.jpg"]
    assert skipped(found, tmp_path) == {"b.jpg": Reason.ALIAS}


def test_files_that_share_an_inode_number_but_nothing_else_are_two_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Some network and FUSE file systems number files badly; no photo may be lost to that.
    put(tmp_path / "a.jpg")
    put(tmp_path / "b.jpg", JPEG + b"more")
    real = os.lstat

    def one_inode(path: str) -> os.stat_result:
        status = real(path)
        fields = list(status)
        fields[stat.ST_INO] = 77
        names = {name: getattr(status, name) for name in ("st_atime_ns", "st_mtime_ns", "st_ctime_ns")}
        return os.stat_result(fields, names)

    monkeypatch.setattr(os, "lstat", one_inode)
    assert photos(crawl(tmp_path), tmp_path) == ["a.jpg", "b.jpg"]


def test_a_root_may_be_a_single_file(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg")
    put(tmp_path / "b.jpg")
    (tmp_path / "link.jpg").symlink_to("a.jpg")
    assert photos(crawl(tmp_path / "a.jpg"), tmp_path) == ["a.jpg"]
    assert photos(crawl(tmp_path / "link.jpg"), tmp_path) == ["a.jpg"]
    assert sorted(photos(crawl(tmp_path, tmp_path / "a.jpg"), tmp_path)) == ["a.jpg", "b.jpg"]


def test_a_root_that_is_not_there_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    put(tmp_path / "here" / "a.jpg")
    found = crawl(tmp_path / "away", tmp_path / "here")
    assert photos(found, tmp_path) == ["here/a.jpg"]
    assert skipped(found, tmp_path) == {"away": Reason.UNREADABLE}


def test_relative_roots_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "in" / "a.jpg")
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("elsewhere/deep")
    monkeypatch.chdir(tmp_path / "in")
    assert [one.path for one in crawl(".")] == [str(tmp_path / "in" / "a.jpg")]
    monkeypatch.chdir(tmp_path)
    # `link/..` is `elsewhere`, not here.
    assert crawl("link/..") == []


def test_the_order_depends_on_names_only(tmp_path: Path) -> None:
    names = ["b.jpg", "a/z.jpg", "c/y.jpg", "a.jpg", "a/b/c.jpg", "Z.jpg"]
    for root, order in ((tmp_path / "1", names), (tmp_path / "2", names[::-1])):
        for name in order:
            put(root / name)
    expected = ["Z.jpg", "a.jpg", "b.jpg", "a/z.jpg", "a/b/c.jpg", "c/y.jpg"]
    assert photos(crawl(tmp_path / "1"), tmp_path / "1") == expected
    assert photos(crawl(tmp_path / "2"), tmp_path / "2") == expected


def test_another_file_system_is_left_out_only_if_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "a.jpg")
    put(tmp_path / "disk" / "b.jpg")
    real = os.lstat

    def two_disks(path: str) -> os.stat_result:
        status = real(path)
        if "/disk" not in path:
            return status
        fields = list(status)
        fields[stat.ST_DEV] += 1
        names = {name: getattr(status, name) for name in ("st_atime_ns", "st_mtime_ns", "st_ctime_ns")}
        return os.stat_result(fields, names)

    monkeypatch.setattr(os, "lstat", two_disks)
    assert photos(crawl(tmp_path), tmp_path) == ["a.jpg", "disk/b.jpg"]
    found = crawl(tmp_path, settings=Settings(one_file_system=True))
    assert photos(found, tmp_path) == ["a.jpg"]
    assert skipped(found, tmp_path) == {"disk": Reason.OTHER_FILE_SYSTEM}


# -- excludes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", DEFAULT_EXCLUDES)
def test_each_default_exclude_does_exclude(tmp_path: Path, pattern: str) -> None:
    name = pattern.replace("**/", "").replace("\\", "").replace("*", "x").replace("?", " ")
    path = tmp_path / "deep" / name.rstrip("/")
    put(path / "a.jpg" if pattern.endswith("/") else path)
    found = crawl(tmp_path)
    assert skipped(found, tmp_path) == {os.path.relpath(path, tmp_path): Reason.EXCLUDED} and len(found) == 1
    without = crawl(tmp_path, settings=Settings(default_excludes=False))
    assert len(photos(without, tmp_path)) == 1


def test_our_own_folder_is_never_entered(tmp_path: Path) -> None:
    put(tmp_path / ".dedup" / "quarantine" / "a.jpg")
    settings = Settings(default_excludes=False, exclude=("!.dedup/",))
    assert skipped(crawl(tmp_path, settings=settings), tmp_path) == {".dedup": Reason.EXCLUDED}


def test_an_excluded_folder_counts_as_one(tmp_path: Path) -> None:
    for number in range(5):
        put(tmp_path / "@eaDir" / f"{number}.jpg")
    assert len(crawl(tmp_path)) == 1


def test_patterns_follow_gitignore(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.png", "tmp/c.jpg", "x/tmp/d.jpg", "x/only/e.jpg", "only/f.jpg", "tmp.jpg/g.jpg"):
        put(tmp_path / name)
    settings = Settings(exclude=("*.png", "tmp/", "/only"))
    found = crawl(tmp_path, settings=settings)
    assert photos(found, tmp_path) == ["a.jpg", "tmp.jpg/g.jpg", "x/only/e.jpg"]
    assert {one.detail for one in found if isinstance(one, Skipped)} == {"--exclude"}


@pytest.mark.parametrize(
    ("patterns", "kept"),
    [
        (["a/**", "!keep.jpg"], ["keep.jpg", "x.jpg", "a/keep.jpg"]),
        (["*", "!*/", "!keep.jpg"], ["keep.jpg", "a/keep.jpg", "a/b/keep.jpg"]),
        (["/a/*", "!/a/b/"], ["keep.jpg", "x.jpg", "a/b/keep.jpg", "a/b/x.jpg"]),
        (["a/b", "!x.jpg"], ["keep.jpg", "x.jpg", "a/keep.jpg", "a/x.jpg"]),
        (["**/b/", "/x.jpg"], ["keep.jpg", "a/keep.jpg", "a/x.jpg"]),
        (["?.jpg", "# keep.jpg", "", "\\!x.jpg"], ["keep.jpg", "a/keep.jpg", "a/b/keep.jpg"]),
    ],
)
def test_patterns_decide_as_git_decides(tmp_path: Path, patterns: list[str], kept: list[str]) -> None:
    # Each expectation is what `git check-ignore` says.
    for folder in (tmp_path, tmp_path / "a", tmp_path / "a" / "b"):
        put(folder / "x.jpg")
        put(folder / "keep.jpg")
    assert photos(crawl(tmp_path, settings=Settings(exclude=tuple(patterns))), tmp_path) == kept


def test_a_later_pattern_wins_and_may_bring_back(tmp_path: Path) -> None:
    for name in ("a.png", "keep.png", ".thumbnails/b.jpg"):
        put(tmp_path / name)
    settings = Settings(exclude=("*.png", "!keep.png", "!.thumbnails/"))
    assert photos(crawl(tmp_path, settings=settings), tmp_path) == ["keep.png", ".thumbnails/b.jpg"]


def test_an_ignore_file_holds_below_its_folder_and_a_deeper_one_is_stronger(tmp_path: Path) -> None:
    for name in ("a.png", "in/a.png", "in/deep/a.png", "in/deep/b.jpg", "in/raw/c.jpg", "raw/d.jpg"):
        put(tmp_path / name)
    put(tmp_path / "in" / ".dedupignore", b"\xef\xbb\xbf*.png\r\n# comment\r\n/raw/\r\n")
    put(tmp_path / "in" / "deep" / ".dedupignore", b"!a.png\n")
    found = crawl(tmp_path)
    assert photos(found, tmp_path) == ["a.png", "in/deep/a.png", "in/deep/b.jpg", "raw/d.jpg"]
    excluded = {
        os.path.relpath(one.path, tmp_path): one.detail
        for one in found
        if one.path.endswith(("png", "raw")) and isinstance(one, Skipped)
    }
    assert excluded == dict.fromkeys(("in/a.png", "in/raw"), str(tmp_path / "in" / ".dedupignore"))
    everything = Settings(exclude=("!*.png",))
    assert "in/a.png" in photos(crawl(tmp_path, settings=everything), tmp_path)


def test_a_folder_that_is_brought_back_brings_its_files(tmp_path: Path) -> None:
    put(tmp_path / "cache" / "a.jpg")
    put(tmp_path / "cache" / "in" / "b.jpg")
    put(tmp_path / ".dedupignore", b"cache\n")
    assert photos(crawl(tmp_path), tmp_path) == []
    kept = crawl(tmp_path, settings=Settings(exclude=("!cache/",)))
    assert photos(kept, tmp_path) == ["cache/a.jpg", "cache/in/b.jpg"]


def test_a_named_root_is_walked_even_if_a_rule_above_excludes_it(tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.jpg")
    put(tmp_path / ".dedupignore", b"in/\n")
    assert photos(crawl(tmp_path), tmp_path) == []
    assert photos(crawl(tmp_path, tmp_path / "in"), tmp_path) == ["in/a.jpg"]


def test_names_that_are_not_utf8_or_hold_a_line_break_can_be_excluded(tmp_path: Path) -> None:
    for name in (b"\xff.jpg", b"a\n.tmp.jpg", b"b.jpg"):
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            file.write(JPEG)
    os.mkdir(tmp_path / "line\nbreak")
    put(tmp_path / "line\nbreak" / "._c.jpg")
    put(tmp_path / ".dedupignore", b"\xff.jpg\n*.tmp.jpg\n")
    assert photos(crawl(tmp_path), tmp_path) == ["b.jpg"]


@pytest.mark.parametrize("pattern", ["!", "\\", "[z-a]"])
def test_a_pattern_that_makes_no_sense_stops_the_run(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(UsageError, match="--exclude: the pattern"):
        crawl(tmp_path, settings=Settings(exclude=("*.png", pattern)))
    put(tmp_path / ".dedupignore", f"*.png\n{pattern}\n".encode())
    with pytest.raises(UsageError, match=r"\.dedupignore: the pattern"):
        crawl(tmp_path)


def test_an_ignore_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "a.jpg")
    ignore = put(tmp_path / ".dedupignore", b"*.jpg")
    monkeypatch.setattr(os, "open", failing(os.open, ignore, PermissionError(13, "Permission denied")))
    found = crawl(tmp_path)
    assert photos(found, tmp_path) == ["a.jpg"]
    assert skipped(found, tmp_path) == {".dedupignore": Reason.UNREADABLE}


def test_what_only_has_the_name_of_an_ignore_file_does_no_harm(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg")
    put(tmp_path / "1" / ".dedupignore" / "b.jpg")
    put(tmp_path / "2" / "c.jpg")
    os.mkfifo(tmp_path / "2" / ".dedupignore")
    put(tmp_path / "3" / "d.jpg")
    (tmp_path / "3" / ".dedupignore").symlink_to("/dev/zero")
    found = crawl(tmp_path)
    assert photos(found, tmp_path) == ["a.jpg", "1/.dedupignore/b.jpg", "2/c.jpg", "3/d.jpg"]
    assert skipped(found, tmp_path) == {
        "2/.dedupignore": Reason.SPECIAL_FILE,
        "3/.dedupignore": Reason.SYMLINK,
    }
