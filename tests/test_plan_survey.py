"""Real files looked at for a plan: what is unchanged, out of reach or protected, and what belongs together."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from dedup.pipeline import surveying
from dedup.pipeline.extents import share_blocks
from dedup.pipeline.scan import say_nothing
from dedup.pipeline.surveying import Survey
from dedup.records import Cause, Photo, PhotoFile, PlannedFile, Sight, xattrs_digest
from tests.drawn import draw_photo


def put(path: Path, content: bytes = b"a photo") -> Photo:
    """A file, and the photo that a scan made of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return scanned(path, content)


def scanned(path: Path, content: bytes) -> Photo:
    status = path.lstat()
    drawn = draw_photo(1, str(path))
    file = PhotoFile(
        str(path),
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_dev,
        status.st_ino,
        status.st_nlink,
    )
    return Photo(1, file, hashlib.sha256(content).digest(), drawn.info, drawn.fingerprint)


def survey(*roots: Path, protected: Sequence[Path] = ()) -> Survey:
    return Survey([str(root) for root in roots], [str(folder) for folder in protected], say_nothing)


def found(sight: Sight) -> PlannedFile:
    assert sight.file is not None, sight
    return sight.file


def test_a_file_is_described_as_it_is_now(tmp_path: Path) -> None:
    photo = put(tmp_path / "sub" / "a.jpg")
    os.chmod(photo.file.path, 0o640)
    view = survey(tmp_path)
    file = found(view.look(photo))
    status = os.stat(photo.file.path)
    assert (file.root, file.path, file.digest) == (0, b"sub/a.jpg", photo.digest)
    assert (file.device, file.inode, file.size_bytes) == (status.st_dev, status.st_ino, 7)
    assert (file.mtime_ns, file.ctime_ns, file.link_count) == (status.st_mtime_ns, status.st_ctime_ns, 1)
    assert (file.mode, file.uid, file.gid) == (status.st_mode, status.st_uid, status.st_gid)
    root = view.roots[0]
    assert (root.path, root.inode) == (os.fsencode(tmp_path), tmp_path.stat().st_ino)


def test_an_unchanged_photo_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = put(tmp_path / "a.jpg")
    monkeypatch.setattr(hashlib, "sha256", None)
    assert found(survey(tmp_path).look(photo)).digest == photo.digest


def test_a_name_that_is_not_utf8_keeps_its_bytes(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff\n.jpg"
    Path(os.fsdecode(name)).write_bytes(b"x")
    photo = scanned(Path(os.fsdecode(name)), b"x")
    assert found(survey(tmp_path).look(photo)).path == b"\xff\n.jpg"


# ---- changed -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"another photo", b"A photo"])
def test_a_photo_of_another_size_or_time_was_changed(tmp_path: Path, content: bytes) -> None:
    photo = put(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes(content)
    os.utime(tmp_path / "a.jpg", ns=(1, photo.file.mtime_ns + (len(content) == 7)))
    assert survey(tmp_path).look(photo).cause is Cause.CHANGED


def test_a_photo_rewritten_with_its_size_and_time_put_back_was_changed(tmp_path: Path) -> None:
    photo = put(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes(b"A photo")
    os.utime(tmp_path / "a.jpg", ns=(photo.file.mtime_ns, photo.file.mtime_ns))
    assert survey(tmp_path).look(photo).cause is Cause.CHANGED


def test_a_photo_replaced_by_a_copy_of_itself_is_still_the_same_photo(tmp_path: Path) -> None:
    photo = put(tmp_path / "a.jpg")
    shutil.copy2(tmp_path / "a.jpg", tmp_path / "b")
    os.replace(tmp_path / "b", tmp_path / "a.jpg")
    file = found(survey(tmp_path).look(photo))
    assert (file.digest, file.inode) == (photo.digest, (tmp_path / "a.jpg").stat().st_ino)


def test_a_photo_with_another_time_was_changed_even_if_its_bytes_are_the_same(tmp_path: Path) -> None:
    photo = put(tmp_path / "a.jpg")
    os.utime(tmp_path / "a.jpg", ns=(1, 1))
    assert survey(tmp_path).look(photo).cause is Cause.CHANGED


def test_a_file_that_is_written_while_it_is_looked_at_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = put(tmp_path / "a.jpg")
    attributes = surveying._attributes

    def write(path: bytes) -> dict[bytes, bytes]:
        os.utime(path, ns=(photo.file.mtime_ns, photo.file.mtime_ns))
        return attributes(path)

    monkeypatch.setattr(surveying, "_attributes", write)
    assert survey(tmp_path).look(photo).cause is Cause.CHANGED


def test_a_photo_that_is_gone_was_changed(tmp_path: Path) -> None:
    photo = put(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").unlink()
    assert survey(tmp_path).look(photo).cause is Cause.CHANGED


def test_a_photo_that_became_a_link_or_a_pipe_was_changed(tmp_path: Path) -> None:
    photo = put(tmp_path / "a.jpg")
    os.rename(tmp_path / "a.jpg", tmp_path / "b.jpg")
    (tmp_path / "a.jpg").symlink_to(tmp_path / "b.jpg")
    assert survey(tmp_path).look(photo).cause is Cause.CHANGED
    assert survey(tmp_path).read(photo.file.path).cause is Cause.CHANGED
    (tmp_path / "a.jpg").unlink()
    os.mkfifo(tmp_path / "a.jpg")
    assert survey(tmp_path).look(photo).cause is Cause.CHANGED
    assert survey(tmp_path).read(photo.file.path).cause is Cause.CHANGED


# ---- out of reach --------------------------------------------------------------------------------------------------


def test_a_photo_below_no_root_is_out_of_reach(tmp_path: Path) -> None:
    photo = put(tmp_path / "a" / "a.jpg")
    (tmp_path / "aa").mkdir()
    for roots in ([tmp_path / "aa"], [tmp_path / "nowhere"], []):
        assert survey(*roots).look(photo).cause is Cause.PLACE


def test_a_photo_below_a_folder_that_became_a_link_is_out_of_reach(tmp_path: Path) -> None:
    photo = put(tmp_path / "lib" / "sub" / "a.jpg")
    os.rename(tmp_path / "lib" / "sub", tmp_path / "elsewhere")
    (tmp_path / "lib" / "sub").symlink_to(tmp_path / "elsewhere")
    sight = survey(tmp_path / "lib").look(photo)
    assert (sight.cause, sight.why) == (Cause.PLACE, "a folder above it has become a link")


def test_a_root_that_is_a_link_is_followed(tmp_path: Path) -> None:
    put(tmp_path / "real" / "sub" / "a.jpg")
    (tmp_path / "lib").symlink_to(tmp_path / "real")
    photo = scanned(tmp_path / "lib" / "sub" / "a.jpg", b"a photo")
    assert found(survey(tmp_path / "lib").look(photo)).path == b"sub/a.jpg"


def test_a_photo_belongs_to_the_deepest_root_that_holds_it(tmp_path: Path) -> None:
    photo = put(tmp_path / "a" / "b" / "c.jpg")
    view = survey(tmp_path, tmp_path / "a" / "b", tmp_path / "a")
    file = found(view.look(photo))
    assert (view.roots[file.root].path, file.path) == (os.fsencode(tmp_path / "a" / "b"), b"c.jpg")


def test_a_single_photo_as_root_is_reached_by_its_folder(tmp_path: Path) -> None:
    photo = put(tmp_path / "a.jpg")
    view = survey(tmp_path / "a.jpg")
    assert (view.roots[0].path, found(view.look(photo)).path) == (os.fsencode(tmp_path), b"a.jpg")


def test_two_names_of_one_folder_are_one_root(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert [root.path for root in survey(tmp_path / "b", tmp_path / "a").roots] == [
        os.fsencode(tmp_path / "a")
    ]


def test_what_lies_in_a_folder_of_our_own_is_out_of_reach(tmp_path: Path) -> None:
    photo = put(tmp_path / ".dedup" / "quarantine" / "a.jpg")
    assert survey(tmp_path).look(photo).cause is Cause.PLACE


def test_a_photo_on_another_disk_than_its_root_is_out_of_reach(tmp_path: Path) -> None:
    if not os.path.isdir("/dev/shm") or os.stat("/dev/shm").st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system at /dev/shm")
    view = survey(Path("/dev"))
    place = Path("/dev/shm") / f"dedup-test-{os.getpid()}.jpg"
    try:
        photo = put(place)
        if view.roots[0].device == photo.file.device:
            pytest.skip("/dev and /dev/shm are one file system")
        sight = view.look(photo)
        assert (sight.cause, sight.remedy) == (Cause.PLACE, "scan that disk's own folder")
    finally:
        place.unlink()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_photo_that_may_not_be_read_is_out_of_reach(tmp_path: Path) -> None:
    photo = put(tmp_path / "a.jpg")
    os.chmod(tmp_path / "a.jpg", 0)
    assert survey(tmp_path).look(photo).cause in (Cause.PLACE, Cause.CHANGED)


def test_a_path_that_is_too_long_is_out_of_reach_and_no_fault(tmp_path: Path) -> None:
    path = str(tmp_path) + "/x" * 3000 + "/a.jpg"
    photo = draw_photo(1, path)
    assert survey(tmp_path).look(photo).cause is Cause.PLACE


# ---- protected -----------------------------------------------------------------------------------------------------


def test_what_lies_in_a_protected_folder_is_protected_by_name(tmp_path: Path) -> None:
    inside, outside = put(tmp_path / "safe" / "sub" / "a.jpg"), put(tmp_path / "safer" / "a.jpg")
    view = survey(tmp_path, protected=[tmp_path / "safe"])
    assert view.look(inside).protected
    assert not view.look(outside).protected
    assert view.protected == (os.fsencode(tmp_path / "safe"),)


def test_a_single_photo_can_be_protected(tmp_path: Path) -> None:
    one, other = put(tmp_path / "a.jpg"), put(tmp_path / "b.jpg")
    view = survey(tmp_path, protected=[tmp_path / "a.jpg"])
    assert (view.look(one).protected, view.look(other).protected) == (True, False)


def test_what_is_protected_by_a_link_to_its_folder_is_protected(tmp_path: Path) -> None:
    photo = put(tmp_path / "lib" / "sub" / "a.jpg")
    (tmp_path / "pin").symlink_to(tmp_path / "lib" / "sub")
    assert survey(tmp_path / "lib", protected=[tmp_path / "pin"]).look(photo).protected


def test_a_protected_folder_seen_through_a_root_that_is_a_link_is_protected(tmp_path: Path) -> None:
    put(tmp_path / "real" / "safe" / "a.jpg")
    (tmp_path / "lib").symlink_to(tmp_path / "real")
    photo = scanned(tmp_path / "lib" / "safe" / "a.jpg", b"a photo")
    assert survey(tmp_path / "lib", protected=[tmp_path / "real" / "safe"]).look(photo).protected


def test_a_protected_folder_is_known_by_its_inode_under_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a second mount of it: here the names are told apart by a `realpath` that resolves nothing."""
    put(tmp_path / "real" / "a.jpg")
    (tmp_path / "lib").symlink_to(tmp_path / "real")
    photo = scanned(tmp_path / "lib" / "a.jpg", b"a photo")
    monkeypatch.setattr(os.path, "realpath", lambda path: path)
    assert survey(tmp_path / "lib", protected=[tmp_path / "real"]).look(photo).protected
    assert not survey(tmp_path / "lib", protected=[tmp_path / "other"]).look(photo).protected


# ---- beside the bytes ----------------------------------------------------------------------------------------------


def test_extended_attributes_are_in_the_description_and_tags_are_told(tmp_path: Path) -> None:
    photo = put(tmp_path / "a.jpg")
    try:
        os.setxattr(tmp_path / "a.jpg", b"user.xdg.tags", b"sea")
        os.setxattr(tmp_path / "a.jpg", b"user.other", b"1")
    except OSError:
        pytest.skip("no extended attributes here")
    sight = survey(tmp_path).look(photo)
    assert sight.notes == (("tags", b"sea"),)
    assert found(sight).xattrs == xattrs_digest({b"user.other": b"1", b"user.xdg.tags": b"sea"})


def test_the_digest_of_attributes_tells_them_apart_and_leaves_labels_aside() -> None:
    assert xattrs_digest({}) == xattrs_digest({b"security.selinux": b"x", b"trusted.y": b"z"}) == b""
    told = [
        {b"a": b"bc"},
        {b"ab": b"c"},
        {b"a": b"b", b"c": b""},
        {b"a": b""},
        {b"system.posix_acl_access": b"1"},
    ]
    assert len({xattrs_digest(attributes) for attributes in told}) == len(told)


# ---- what belongs together -----------------------------------------------------------------------------------------


def test_a_unit_is_what_lies_there_now_with_all_that_follows(tmp_path: Path) -> None:
    photo = put(tmp_path / "x.jpg")
    for name in ("x.CR2", "x.jpg.xmp", "x.mov", "y.jpg", "x.png", "x.xmp"):
        put(tmp_path / name)
    (tmp_path / "x.aae").mkdir()
    view = survey(tmp_path)
    names = [os.path.basename(path) for path in view.unit(photo.file.path)]
    assert names == ["x.CR2", "x.jpg.xmp", "x.mov", "x.xmp"]
    # From its partner the same unit is seen: the sidecar of the one is not left behind by the other.
    assert sorted(
        {os.path.basename(path) for path in view.unit(str(tmp_path / "x.CR2"))} | {"x.CR2"}
    ) == sorted({*names, "x.jpg"})
    owners = [os.path.basename(path) for path in view.owners(str(tmp_path / "x.xmp"))]
    assert owners == ["x.CR2", "x.jpg", "x.png"]
    assert view.unit(str(tmp_path / "y.jpg")) == ()
    assert view.is_sidecar("/a/X.XMP")
    assert not view.is_sidecar("/a/x.CR2")


def test_a_sidecar_is_read_for_its_digest(tmp_path: Path) -> None:
    put(tmp_path / "x.xmp", b"stars")
    assert found(survey(tmp_path).read(str(tmp_path / "x.xmp"))).digest == hashlib.sha256(b"stars").digest()


# ---- blocks --------------------------------------------------------------------------------------------------------


@pytest.fixture
def sharing_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system on which files can share blocks."""
    if os.geteuid() != 0 or shutil.which("mkfs.btrfs") is None:
        pytest.skip("needs root and mkfs.btrfs")
    image, point = tmp_path / "disk.img", tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(200 << 20)
    point.mkdir()
    subprocess.run(["mkfs.btrfs", "-q", image], check=True, capture_output=True)
    if subprocess.run(["mount", "-o", "loop", image, point], check=False, capture_output=True).returncode:
        pytest.skip("no loop mounts here")
    yield point
    subprocess.run(["umount", point], check=True)


def test_files_that_share_their_blocks_are_told_from_copies(sharing_disk: Path) -> None:
    content = os.urandom(300_000)
    one, copy, other = (sharing_disk / name for name in ("one", "copy", "other"))
    one.write_bytes(content)
    other.write_bytes(content)
    subprocess.run(["cp", "--reflink=always", one, copy], check=True)
    os.sync()
    assert share_blocks(str(one), str(copy))
    assert not share_blocks(str(one), str(other))
    with copy.open("r+b") as file:
        file.write(b"!")
    os.sync()
    assert not share_blocks(str(one), str(copy))


def test_files_of_which_nothing_is_told_share_nothing(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"")
    assert not share_blocks(str(tmp_path / "a"), str(tmp_path / "b"))
    assert not share_blocks(str(tmp_path / "a"), str(tmp_path / "nowhere"))
