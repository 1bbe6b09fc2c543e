"""Stops a process at the entry of each system call that matters, and does there what was asked.

Promises: the call has not happened yet when the visitor is asked; the visitor may let it pass, kill the process, make
the call fail with an errno, send a signal, or do something to the disk first. Children of the process are followed, and
calls of all of them are counted together, so that the same number means the same call in each run of a program that
does the same. Works by seccomp and ptrace on Linux x86-64, where `strace -e inject` would do the same at the price of
a cold start for each run; `campaign` compares the two on a sample.

Does not: wake the process at calls that nobody asked for.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import struct
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

CALLS = {
    "read": 0, "write": 1, "open": 2, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "lseek": 8, "mmap": 9,
    "ioctl": 16, "pread64": 17, "pwrite64": 18, "readv": 19, "writev": 20, "access": 21, "sendfile": 40, "fcntl": 72,
    "flock": 73, "fsync": 74, "fdatasync": 75, "truncate": 76, "ftruncate": 77, "getdents": 78, "rename": 82,
    "mkdir": 83, "rmdir": 84, "creat": 85, "link": 86, "unlink": 87, "symlink": 88, "readlink": 89, "chmod": 90,
    "fchmod": 91, "chown": 92, "fchown": 93, "lchown": 94, "utime": 132, "mknod": 133, "statfs": 137, "fstatfs": 138,
    "sync": 162, "mount": 165, "umount2": 166, "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "getxattr": 191,
    "lgetxattr": 192, "fgetxattr": 193, "listxattr": 194, "llistxattr": 195, "flistxattr": 196, "removexattr": 197,
    "lremovexattr": 198, "fremovexattr": 199, "getdents64": 217, "utimes": 235, "openat": 257, "mkdirat": 258,
    "mknodat": 259, "fchownat": 260, "futimesat": 261, "newfstatat": 262, "unlinkat": 263, "renameat": 264,
    "linkat": 265, "symlinkat": 266, "readlinkat": 267, "fchmodat": 268, "faccessat": 269, "utimensat": 280,
    "fallocate": 285, "preadv": 295, "pwritev": 296, "syncfs": 306, "renameat2": 316, "copy_file_range": 326,
    "preadv2": 327, "pwritev2": 328, "statx": 332, "openat2": 437, "faccessat2": 439, "fchmodat2": 452,
}  # fmt: skip
"""Numbers on x86-64."""
NAMES = {number: name for name, number in CALLS.items()}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


OPENS = _words("open openat openat2 creat")
MUTATING = _words(
    """write pwrite64 writev pwritev pwritev2 sendfile copy_file_range fallocate ioctl truncate ftruncate fsync
    fdatasync syncfs sync rename renameat renameat2 link linkat unlink unlinkat symlink symlinkat mkdir mkdirat rmdir
    mknod mknodat chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes utimensat futimesat
    setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr mount umount2"""
)
"""Calls that change something, or say that it shall last. `open...` counts as one where it may create or write."""
READING = _words(
    """read pread64 readv preadv fstat stat lstat newfstatat statx lseek getdents64 flock fcntl
    getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr statfs fstatfs readlink readlinkat access faccessat
    faccessat2"""
)

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_FIRST: tuple[tuple[int, int], ...] = ((-1, 0),)
# Which argument is a path, by the place of its folder's descriptor (-1: none) and its own.
_PATHS: dict[str, tuple[tuple[int, int], ...]] = {
    **dict.fromkeys(
        _words("open creat stat lstat access truncate mkdir rmdir unlink chmod chown lchown"), _FIRST
    ),
    **dict.fromkeys(
        _words("readlink utime utimes mknod statfs setxattr lsetxattr getxattr lgetxattr"), _FIRST
    ),
    **dict.fromkeys(_words("listxattr llistxattr removexattr lremovexattr umount2"), _FIRST),
    **dict.fromkeys(_words("rename link"), ((-1, 0), (-1, 1))),
    **dict.fromkeys(_words("symlink mount"), ((-1, 1),)),
    **dict.fromkeys(
        _words("openat openat2 mkdirat mknodat fchownat futimesat newfstatat unlinkat"), ((0, 1),)
    ),
    **dict.fromkeys(_words("readlinkat fchmodat fchmodat2 faccessat faccessat2 utimensat statx"), ((0, 1),)),
    **dict.fromkeys(_words("renameat renameat2 linkat"), ((0, 1), (2, 3))),
    "symlinkat": ((1, 2),),
}


class TracerFault(Exception):
    """The tracer itself could not do its work; says nothing about the program."""


def unavailable() -> str:
    """Why this machine cannot trace; empty when it can."""
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        return "stops at system calls are written for Linux on x86-64"
    scope = _read("/proc/sys/kernel/yama/ptrace_scope")
    if os.geteuid() != 0 and scope.strip() in ("2", "3"):
        return "the kernel lets nobody but root trace a process"
    return ""


# --- what the visitor sees and says -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Call:
    """A system call that is about to happen."""

    number: int
    """1 for the first one that matters, counted over the process and all its children."""
    name: str
    pid: int
    paths: tuple[str, ...]
    """What it is about, absolute where that can be told."""
    arguments: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.number}: {self.name}({', '.join(self.paths)})"


@dataclass(frozen=True, slots=True)
class Kill:
    """End the process with SIGKILL; the call does not happen."""


@dataclass(frozen=True, slots=True)
class Fail:
    """The call does not happen and fails with this errno."""

    errno: int


@dataclass(frozen=True, slots=True)
class Send:
    """Send this signal, then let the call happen."""

    signal: int


@dataclass(frozen=True, slots=True)
class Shorten:
    """Let the call write or read no more than so many bytes."""

    bytes: int


Verdict = Kill | Fail | Send | Shorten | None
Visitor = Callable[[Call], Verdict]


# --- in the process to be traced --------------------------------------------------------------------------------------


def stop_me_at(names: Iterable[str]) -> None:
    """Ask the kernel to stop this process, and all it starts, at these calls. Only for a process with a tracer:
    without one, the calls fail with ENOSYS."""
    numbers = sorted({CALLS[name] for name in names})
    assert len(numbers) < 250
    allow, trace = 0x7FFF0000, 0x7FF00000
    program = [struct.pack("HBBI", 0x20, 0, 0, 0)]  # load the number of the call
    for place, number in enumerate(numbers):
        program.append(
            struct.pack("HBBI", 0x15, len(numbers) - place, 0, number)
        )  # is it this one? then to the end
    program += [struct.pack("HBBI", 0x06, 0, 0, allow), struct.pack("HBBI", 0x06, 0, 0, trace)]
    code = ctypes.create_string_buffer(b"".join(program))
    header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.prctl(22, 2, ctypes.c_char_p(header), 0, 0) != 0:
        raise TracerFault(f"no seccomp filter: {os.strerror(ctypes.get_errno())}")


# --- in the process that traces ---------------------------------------------------------------------------------------

_CONT, _GETREGS, _SETREGS, _SEIZE, _SYSCALL_INFO = 7, 12, 13, 0x4206, 0x420E
_WALL = 0x40000000
_OPTIONS = 0x2 | 0x4 | 0x8 | 0x10 | 0x80 | 0x100000  # fork, vfork, clone, exec, seccomp; die with the tracer
_EVENT_SECCOMP, _EVENT_STOP = 7, 128
_RDX, _RAX, _ORIG_RAX = 12, 10, 15


def _ptrace() -> Callable[[int, int, int, object], int]:
    function = ctypes.CDLL(None, use_errno=True).ptrace
    function.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    function.restype = ctypes.c_long

    def call(request: int, pid: int, address: int, data: object) -> int:
        result: int = function(request, pid, address, data)
        if result < 0:
            code = ctypes.get_errno()
            raise ProcessLookupError(code, "") if code == errno.ESRCH else OSError(code, os.strerror(code))
        return result

    return call


class Tracer:
    """Follows one process and its children from `seize` to the end."""

    def __init__(self) -> None:
        self._ptrace = _ptrace()
        self._registers = (ctypes.c_ulonglong * 27)()
        self._info = ctypes.create_string_buffer(128)
        self.pids: set[int] = set()

    def seize(self, pid: int) -> None:
        """Begin to follow a process, which need not be a child."""
        self._ptrace(_SEIZE, pid, 0, _OPTIONS)
        self.pids = {pid}

    def follow(self, pid: int, within: tuple[str, ...], visitor: Visitor) -> int:
        """Let the process run to its end, asking `visitor` at each call about a path below `within`.

        Returns
        -------
        int
            The exit code of the process; minus the signal's number where a signal ended it.
        """
        count, end = 0, 0
        while self.pids:
            try:
                who, status = os.waitpid(-1, _WALL)
            except ChildProcessError:
                break
            if os.WIFEXITED(status) or os.WIFSIGNALED(status):
                self.pids.discard(who)
                if who == pid:
                    end = os.waitstatus_to_exitcode(status)
                    for other in tuple(
                        self.pids
                    ):  # what a dead parent leaves behind must not disturb the next run
                        with suppress(ProcessLookupError):
                            os.kill(other, signal.SIGKILL)
                continue
            self.pids.add(who)
            pass_on, event = 0, status >> 16
            try:
                if event == _EVENT_SECCOMP:
                    call = self._call(who, count + 1)
                    if call is not None and any(path.startswith(within) for path in call.paths):
                        count += 1
                        verdict = visitor(call)
                        if isinstance(verdict, Kill):
                            os.kill(pid, signal.SIGKILL)
                            continue
                        if isinstance(verdict, Send):
                            os.kill(pid, verdict.signal)
                        elif verdict is not None:
                            self._change(who, verdict)
                elif event == 0:
                    pass_on = os.WSTOPSIG(status)
                self._ptrace(_CONT, who, 0, pass_on)
            except ProcessLookupError:
                continue
        return end

    def _call(self, pid: int, number: int) -> Call | None:
        self._ptrace(_SYSCALL_INFO, pid, len(self._info), ctypes.addressof(self._info))
        nr, *arguments = struct.unpack_from("=7Q", self._info, 24)
        name = NAMES.get(nr, str(nr))
        paths = _paths(pid, name, arguments)
        return Call(number, name, pid, paths, tuple(arguments)) if paths else None

    def _change(self, pid: int, verdict: Fail | Shorten) -> None:
        self._ptrace(_GETREGS, pid, 0, ctypes.addressof(self._registers))
        if isinstance(verdict, Fail):
            self._registers[_ORIG_RAX] = 2**64 - 1
            self._registers[_RAX] = 2**64 - verdict.errno
        else:
            self._registers[_RDX] = min(self._registers[_RDX], verdict.bytes)
        self._ptrace(_SETREGS, pid, 0, ctypes.addressof(self._registers))


def memory(pid: int, address: int, count: int) -> bytes:
    """Bytes of a stopped process, fewer at the end of a mapping."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as stream:
        stream.seek(address)
        return stream.read(count)


def opens_to_write(call: Call) -> bool:
    """Whether an `open` may create or change a file."""
    if call.name == "creat":
        return True
    if call.name == "openat2":
        flags = struct.unpack("Q", memory(call.pid, call.arguments[2], 8))[0]
    else:
        flags = call.arguments[1 if call.name == "open" else 2]
    return bool(flags & _WRITES)


def mutates(call: Call) -> bool:
    """Whether the call changes something, or makes it last."""
    return call.name in MUTATING or (call.name in OPENS and opens_to_write(call))


def _paths(pid: int, name: str, arguments: list[int]) -> tuple[str, ...]:
    found = []
    for folder, place in _PATHS.get(name, ()):
        text = _text(pid, arguments[place])
        if text.startswith("/"):
            found.append(text)
            continue
        number = arguments[folder] & 0xFFFFFFFF if folder >= 0 else 0xFFFFFF9C
        base = _link(f"/proc/{pid}/cwd") if number == 0xFFFFFF9C else _link(f"/proc/{pid}/fd/{number}")
        found.append(f"{base}/{text}" if text else base)
    if not found:
        if name == "sync":
            return ("/",)
        if name == "mmap":
            return (_link(f"/proc/{pid}/fd/{arguments[4] & 0xFFFFFFFF}"),)
        found.append(_link(f"/proc/{pid}/fd/{arguments[0] & 0xFFFFFFFF}"))
    return tuple(path for path in found if path.startswith("/"))


def _text(pid: int, address: int) -> str:
    if address == 0:
        return ""
    room = 4096 - address % 4096
    raw = memory(pid, address, room)
    if b"\0" not in raw:
        raw += memory(pid, address + room, 4096)
    return os.fsdecode(raw.partition(b"\0")[0])


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as stream:
            return stream.read()
    except OSError:
        return ""
