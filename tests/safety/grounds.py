"""File systems to run on: made, filled, sealed, and as they were when sealed as often as wanted.

Needs root and a mount namespace of its own (`enter_private_mounts`), so that nothing stays mounted. An ext4 lies in an
image in memory: sealing copies the image, and a fresh copy has the same inode numbers, times and device, so that a plan
made once stays true. tmpfs has no image; its fresh copies have other inodes and times, and `is_same` says so.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

CLONE_NEWNS, MS_PRIVATE, MS_REC, MS_BIND = 0x20000, 1 << 18, 1 << 14, 1 << 12
MS_RDONLY, MS_REMOUNT = 1, 32
FS_IOC_SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2

_libc = ctypes.CDLL(None, use_errno=True)


def unavailable() -> str:
    """Why this machine cannot make file systems; empty when it can."""
    if not sys.platform.startswith("linux"):
        return "loop mounts are made on Linux"
    if os.geteuid() != 0:
        return "mounting needs root"
    for tool in ("mkfs.ext4", "losetup"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    if not os.path.exists("/dev/loop-control"):
        return "there are no loop devices"
    return ""


def enter_private_mounts() -> None:
    """From now on what this process mounts is seen by it and its children alone, and ends with them."""
    if _libc.unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "no mount namespace of one's own")
    mount("none", Path("/"), "", MS_REC | MS_PRIVATE)


def mount(source: str, target: Path, kind: str, flags: int = 0, options: str = "") -> None:
    target.mkdir(parents=True, exist_ok=True) if not target.exists() else None
    result = _libc.mount(
        source.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), options.encode()
    )
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"mount {kind} on {target}: {os.strerror(code)}")


def unmount(target: Path, *, patience_s: float = 5.0) -> None:
    """As soon as the last one lets go of it; not behind anybody's back, or the disk would not be free."""
    until = time.monotonic() + patience_s
    while _libc.umount2(os.fsencode(target), 0) != 0:
        code = ctypes.get_errno()
        if code != errno.EBUSY or time.monotonic() > until:
            raise OSError(code, f"umount {target}: {os.strerror(code)}")
        time.sleep(0.002)


def let_go(target: Path) -> None:
    """Unmount in any case, if need be once the last one is gone: for the end of everything."""
    _libc.umount2(os.fsencode(target), 2)


class Tmpfs:
    """Memory; gone with the mount."""

    is_same = False
    """Whether a fresh copy has the inodes and times of the sealed one."""

    def __init__(self, desk: Path, name: str = "tmpfs", options: str = "") -> None:
        self.name = name
        self.home = desk / name
        self._options = options
        self._sealed = desk / f"{name}.sealed"
        mount("tmpfs", self.home, "tmpfs", 0, options)

    def seal(self) -> None:
        """What is there now is what `fresh` brings back."""
        if self._sealed.exists():
            shutil.rmtree(self._sealed)
        copy_tree(self.home, self._sealed)

    def fresh(self) -> None:
        """As it was when sealed, in other inodes."""
        unmount(self.home)
        mount("tmpfs", self.home, "tmpfs", 0, self._options)
        copy_tree(self._sealed, self.home)

    def close(self) -> None:
        unmount(self.home)
        shutil.rmtree(self._sealed, ignore_errors=True)


class Ext4:
    """An ext4 in an image in memory, through a loop device."""

    is_same = True
    kind = "ext4"
    make: tuple[str, ...] = (
        "mkfs.ext4",
        "-q",
        "-F",
        "-b",
        "1024",
        "-J",
        "size=1",
        "-I",
        "256",
        "-E",
        "lazy_itable_init=0",
    )

    def __init__(self, desk: Path, name: str = "ext4", megabytes: int = 12) -> None:
        self.name = name
        self.home = desk / name
        self._image = desk / f"{name}.img"
        with open(self._image, "wb") as stream:
            stream.truncate(megabytes << 20)
        subprocess.run([*self.make, str(self._image)], check=True, capture_output=True)
        found = subprocess.run(
            ["losetup", "--find", "--show", str(self._image)], check=True, capture_output=True, text=True
        )
        self.device = found.stdout.strip()
        self._sealed = b""
        mount(self.device, self.home, self.kind)

    def seal(self) -> None:
        """What is there now is what `fresh` brings back."""
        self._sealed = self.save()

    def fresh(self) -> None:
        """As it was when sealed, to the inode."""
        self.load(self._sealed)

    def save(self) -> bytes:
        """What is there now, for `load`."""
        unmount(self.home)
        content = self._image.read_bytes()
        mount(self.device, self.home, self.kind)
        return content

    def load(self, content: bytes) -> None:
        """As it was when saved, to the inode."""
        unmount(self.home)
        with open(self._image, "r+b") as stream:
            stream.write(content)
        mount(self.device, self.home, self.kind)

    def cut_power(self) -> None:
        """From this moment nothing reaches the disk any more, not even the file system's own journal."""
        folder = os.open(self.home, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, FS_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(folder)

    def restart(self) -> None:
        """Mount again what is on the disk."""
        unmount(self.home)
        mount(self.device, self.home, self.kind)

    def close(self) -> None:
        with suppress(OSError):
            unmount(self.home)
        subprocess.run(["losetup", "--detach", self.device], check=False, capture_output=True)
        self._image.unlink()


class Xfs(Ext4):
    """As ext4, with reflinks."""

    kind = "xfs"
    make = ("mkfs.xfs", "-q", "-f")

    def __init__(self, desk: Path, name: str = "xfs", megabytes: int = 320) -> None:
        super().__init__(desk, name, megabytes)


class Btrfs(Ext4):
    """As ext4, with reflinks."""

    kind = "btrfs"
    make = ("mkfs.btrfs", "-q", "-f", "--mixed")

    def __init__(self, desk: Path, name: str = "btrfs", megabytes: int = 64) -> None:
        super().__init__(desk, name, megabytes)


class Folder:
    """A plain folder, on whatever file system it lies; needs no root."""

    is_same = False

    def __init__(self, desk: Path, name: str = "folder") -> None:
        self.name = name
        self.home = desk / name
        self._desk = desk
        self.home.mkdir()

    def seal(self) -> None:
        """What is there now is what `fresh` brings back."""
        self.keep("sealed")

    def fresh(self) -> None:
        """As it was when sealed, in other inodes."""
        self.bring("sealed")

    def keep(self, what: str) -> None:
        """Put a copy of what is there aside."""
        aside = self._aside(what)
        shutil.rmtree(aside, ignore_errors=True)
        copy_tree(self.home, aside)

    def bring(self, what: str) -> bool:
        """Have what was put aside in place of what is there; False if there is no such thing."""
        if not self._aside(what).exists():
            return False
        shutil.rmtree(self.home)
        copy_tree(self._aside(what), self.home)
        return True

    def _aside(self, what: str) -> Path:
        return self._desk / f"{self.name} {what}"

    def close(self) -> None:
        for left in self._desk.glob(f"{self.name}*"):
            shutil.rmtree(left, ignore_errors=True)


class Fuse(Ext4):
    """An ext4 seen through bindfs, which can neither exchange two names nor rename without overwriting."""

    is_same = False  # each view is a device of its own

    def __init__(self, desk: Path, name: str = "bindfs", megabytes: int = 12) -> None:
        self._view = desk / name
        self._view.mkdir(exist_ok=True)
        super().__init__(desk, f"{name}.below", megabytes)
        self.name, self.below, self.home = name, self.home, self._view
        self._show()

    def _show(self) -> None:
        # Attributes are not kept, so that the judge sees what is there.
        options = ["-o", "attr_timeout=0,entry_timeout=0"]
        subprocess.run(["bindfs", *options, str(self.below), str(self.home)], check=True, capture_output=True)

    def save(self) -> bytes:
        """As below."""
        unmount(self._view)
        self.home = self.below
        content = super().save()
        self.home = self._view
        self._show()
        return content

    def load(self, content: bytes) -> None:
        """As below."""
        unmount(self._view)
        self.home = self.below
        super().load(content)
        self.home = self._view
        self._show()

    def close(self) -> None:
        unmount(self._view)
        self.home = self.below
        super().close()


Ground = Tmpfs | Ext4 | Folder


def copy_tree(source: Path, target: Path) -> None:
    """A copy with names, bytes, modes, owners, times, extended attributes and link sets; `target` may exist."""
    seen: dict[tuple[int, int], bytes] = {}
    _copy_folder(os.fsencode(source), os.fsencode(target), seen)


def _copy_folder(source: bytes, target: bytes, seen: dict[tuple[int, int], bytes]) -> None:
    with suppress(FileExistsError):
        os.mkdir(target)
    with os.scandir(source) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            there = os.path.join(target, entry.name)
            found = entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                _copy_folder(entry.path, there, seen)
                continue
            first = seen.setdefault((found.st_dev, found.st_ino), there)
            if first != there:
                os.link(first, there, follow_symlinks=False)
            elif entry.is_symlink():
                os.symlink(os.readlink(entry.path), there)
            elif entry.is_file(follow_symlinks=False):
                with open(entry.path, "rb") as old, open(there, "xb") as new:
                    new.write(old.read())
            else:
                os.mknod(there, found.st_mode, found.st_rdev)
            if first == there:
                _copy_manner(entry.path, there, found)
    _copy_manner(source, target, os.lstat(source))


def _copy_manner(source: bytes, target: bytes, found: os.stat_result) -> None:
    os.chown(target, found.st_uid, found.st_gid, follow_symlinks=False)
    if not os.path.islink(target):
        os.chmod(target, found.st_mode & 0o7777)
        for name in os.listxattr(source, follow_symlinks=False):
            os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns), follow_symlinks=False)
