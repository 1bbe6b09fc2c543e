"""A worker process: how the parent starts, watches and ends one, and what runs inside it.

A worker has a socket for batches and replies, a shared page into which it writes what it is at and since when, a pipe
that swallows what C libraries print, and a lifeline: a pipe of which the parent holds the other end, so that the kernel
kills the worker when the parent is gone, however it went. (PR_SET_PDEATHSIG would not do: it fires when the *thread*
that started the worker ends.)
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import gc
import io
import mmap
import os
import pickle
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from math import ceil
from multiprocessing.connection import Connection
from typing import Any, Generic, NoReturn, TypeVar

from dedup.engine.contract import Limits, name_of

T = TypeVar("T")

SOCKET_BYTES = 256 * 1024

FLUSH_S = 0.05
"""A worker holds back results of cheap items no longer than this."""

MARK = struct.Struct("=qd")
"""What a worker is at: ordinal of the item among all it was given, and `time.monotonic()` when it began."""

OK, RAISED, MEMORY, LEFT = range(4)
"""Kinds of reply: a result, an exception, a MemoryError, a SystemExit. After the last two the worker ends."""


@dataclass(slots=True)
class Task(Generic[T]):
    """An item on its way."""

    item: T
    payload: bytes
    weight: float
    patience: float
    doubted: bool = False
    """Whether a worker has died of it once. A death is believed at the second time, alone in a fresh worker: the
    first may be the work of an earlier item, of memory that earlier ones left behind, or of the system."""


@dataclass(slots=True)
class Worker:
    """The parent's end of one worker process."""

    pid: int
    reap: Callable[[], int]
    """Waits for the end and returns the exit code, negative for a signal."""
    channel: Connection
    mark: mmap.mmap
    errors: int
    """Read end of the pipe that is the worker's stdout and stderr."""
    lifeline: int
    """Write end; nothing is ever written."""
    pending: deque[Task[Any]] = field(default_factory=deque)
    replied: int = 0
    weight: float = 0.0
    ahead_bytes: int = 0
    function: bytes = b""

    def look(self) -> tuple[int, float]:
        """Position in `pending` of the item it is at, and since when; -1 if it is at none of them."""
        ordinal, since = MARK.unpack_from(self.mark)
        at = ordinal - self.replied
        return (at if 0 <= at < len(self.pending) else -1), since

    def has_ended(self) -> bool:
        """Whether the process is gone, even if something it started still holds its end of the socket."""
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def last_words(self) -> str:
        """Last line it wrote to stderr, cut to a length that fits a report."""
        try:
            text = os.read(self.errors, 1 << 20).decode(errors="replace")
        except OSError:
            return ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return "".join(c for c in lines[-1] if c.isprintable())[:200] if lines else ""

    def end(self) -> int:
        """Kill it, wait for it, and let go of what connects us. Returns the exit code."""
        # A worker that has already ended is a zombie until `reap`, so the pid is still its own.
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        code = self.reap()
        self.channel.close()
        self.mark.close()
        os.close(self.errors)
        os.close(self.lifeline)
        return code


def start_worker(limits: Limits) -> Worker:
    """Fork where that is safe and cheap (Linux, no other thread: 10 ms for two), else a new interpreter (0.1 s)."""
    with ExitStack() as theirs, ExitStack() as ours:
        channel, their_channel = socket.socketpair()
        ours.enter_context(channel)
        theirs.enter_context(their_channel)
        # What is handed over ahead must fit, or both sides may wait for each other; macOS buffers 8 KiB by default.
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        their_channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
        errors, errors_write = _pipe(ours, theirs)
        os.set_blocking(errors, False)
        # Never blocks a worker that writes more than anyone reads: what does not fit is lost.
        os.set_blocking(errors_write, False)
        lifeline, lifeline_write = _pipe(theirs, ours)
        page = theirs.enter_context(tempfile.TemporaryFile())
        page.write(MARK.pack(-1, 0.0))
        page.flush()
        mark = ours.enter_context(mmap.mmap(page.fileno(), MARK.size))
        fds = (their_channel.fileno(), page.fileno(), errors, errors_write, lifeline)
        forked = sys.platform == "linux" and threading.active_count() == 1
        pid, reap = _fork(fds, limits) if forked else _spawn(fds, limits)
        ours.pop_all()
        return Worker(pid, reap, Connection(channel.detach()), mark, errors, lifeline_write)


def _pipe(reader: ExitStack, writer: ExitStack) -> tuple[int, int]:
    """A pipe whose ends are closed with the stack of whom they belong to."""
    read, write = os.pipe()
    reader.callback(os.close, read)
    writer.callback(os.close, write)
    return read, write


def _fork(fds: tuple[int, ...], limits: Limits) -> tuple[int, Callable[[], int]]:
    pid = os.fork()
    if pid == 0:
        _work(fds, limits)

    def reap() -> int:
        try:
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        except ChildProcessError:
            return (
                -signal.SIGKILL
            )  # the program that uses us ignores SIGCHLD: how the worker ended is not known

    return pid, reap


def _spawn(fds: tuple[int, ...], limits: Limits) -> tuple[int, Callable[[], int]]:
    # Not `multiprocessing`: it would run the user's main module again, which a notebook or a short script cannot stand.
    code = "import sys; a = sys.argv; sys.path[:] = a[3:]; from dedup.engine.worker import main; main(a[1], a[2])"
    words = [",".join(map(str, fds)), f"{limits.memory_bytes},{limits.timeout_s},{limits.cpu_s}"]
    command = [sys.executable, "-c", code, *words, *sys.path]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=fds[3],
        stderr=fds[3],
        pass_fds=fds,
        env={**os.environ, **dict.fromkeys(_THREAD_SETTINGS, "1")},
    )
    return process.pid, process.wait


def main(fds: str, limits: str) -> NoReturn:
    """A worker in a new interpreter; the arguments are those that `_spawn` makes."""
    memory, timeout, cpu = limits.split(",")
    _work(tuple(map(int, fds.split(","))), Limits(int(memory), float(timeout), float(cpu)))


# -- inside a worker --------------------------------------------------------------------------------------------

_THREAD_SETTINGS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class _LossyText(io.TextIOBase):
    """`sys.stdout` and `sys.stderr` of a worker: writes what fits into the pipe and never complains."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            os.write(2, text.encode(errors="backslashreplace"))
        return len(text)


def _work(fds: tuple[int, ...], limits: Limits) -> NoReturn:
    """Turn this process into a worker; never returns, runs no exit handler, flushes nothing of the parent's."""
    code = 1
    try:
        channel, page, errors, _, lifeline = fds
        _settle(fds)
        _die_with_parent(lifeline)
        with mmap.mmap(page, MARK.size) as mark:
            _limit_memory(limits)
            _serve(Connection(channel), mark, errors, limits)
        code = 0
    except BaseException:
        with suppress(BaseException):
            os.write(2, traceback.format_exc().encode(errors="replace")[-4000:])
    finally:
        os._exit(code)


def _settle(fds: tuple[int, ...]) -> None:
    """Leave behind what a fork brought along: signal handlers, standard streams, open files, garbage."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the parent decides when we end
    signal.set_wakeup_fd(-1)
    gc.freeze()  # a parent's object collected here would close a descriptor that is ours by then
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    # C libraries (libtiff) write straight to the descriptors.
    os.dup2(fds[3], 1)
    os.dup2(fds[3], 2)
    sys.stdin = io.StringIO()
    sys.stdout = sys.stderr = _LossyText()
    # Locks, databases, and above all the ends of other workers' pipes.
    for fd in map(int, os.listdir("/dev/fd")):
        if fd > 2 and fd not in fds:
            with suppress(OSError):  # the one that listed the folder is closed by now
                os.close(fd)
    os.environ.update(dict.fromkeys(_THREAD_SETTINGS, "1"))
    if "numpy" in sys.modules:
        _one_blas_thread()


def _one_blas_thread() -> None:
    """One thread for the linear algebra that was loaded before the fork, too late for the environment to matter.

    Costs 40 ms of processor time, in which OpenBLAS starts threads and lets them spin. A program that sets
    OPENBLAS_NUM_THREADS=1 before it imports NumPy does not pay them.
    """
    with suppress(OSError), open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        paths = {line.split(maxsplit=5)[-1].strip() for line in maps if "openblas" in line}
        for path in sorted(paths):
            library = ctypes.CDLL(path)
            for name in (
                "scipy_openblas_{}_num_threads64_",
                "scipy_openblas_{}_num_threads",
                "openblas_{}_num_threads",
            ):
                with suppress(AttributeError):
                    if library[name.format("get")]() > 1:
                        library[name.format("set")](1)


def _die_with_parent(lifeline: int) -> None:
    """Have the kernel kill this process when the last write end of the lifeline closes."""
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    # Elsewhere an idle worker sees the end of its socket, and a busy one when it replies.
    os.set_blocking(lifeline, False)
    with suppress(BlockingIOError):
        if os.read(lifeline, 1) == b"":
            os._exit(0)  # the parent was gone before we asked


def _limit_memory(limits: Limits) -> None:
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
        score.write("500")  # if the machine runs out of memory, take a worker
    base_bytes = 0
    with suppress(OSError), open("/proc/self/statm", encoding="ascii") as statm:
        base_bytes = int(statm.read().split()[0]) * resource.getpagesize()
    _set_soft_limit(resource.RLIMIT_AS, base_bytes + limits.memory_bytes)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _set_soft_limit(which: int, value: int) -> None:
    hard = resource.getrlimit(which)[1]
    resource.setrlimit(which, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _limit_cpu(cpu_s: float) -> None:
    """Raise the soft limit, which counts from the start of the process, to what this item may use."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _set_soft_limit(resource.RLIMIT_CPU, ceil(used.ru_utime + used.ru_stime + cpu_s))


def _is_want_of_memory(error: BaseException) -> bool:
    """Whether an error is a MemoryError by another name: a library that could not be mapped, a thread not started."""
    words = str(error)
    return (
        getattr(error, "errno", None) == errno.ENOMEM
        or (isinstance(error, ImportError) and ("failed to map" in words or "cannot allocate" in words))
        or (isinstance(error, RuntimeError) and "can't start new thread" in words)
    )


def _nothing(item: Any) -> NoReturn:
    raise RuntimeError(f"no function was sent for {name_of(item)}")


def _serve(channel: Connection, mark: mmap.mmap, errors: int, limits: Limits) -> None:
    """Work off batches until the parent closes the channel, or an item leaves this process in doubt."""
    function: Callable[[Any], Any] = _nothing
    ordinal = 0
    while True:
        try:
            name, payloads, patiences = pickle.loads(channel.recv_bytes())
        except (EOFError, ConnectionError):
            return
        replies: list[tuple[int, bytes, float]] = []
        flushed = time.monotonic()
        for payload, patience in zip(payloads, patiences, strict=True):
            began = time.monotonic()
            MARK.pack_into(mark, 0, ordinal, began)
            with suppress(BlockingIOError):
                os.read(errors, 1 << 16)  # what earlier items wrote is not this one's last word
            _limit_cpu(limits.cpu_s * patience)
            kind, result = OK, b""
            try:
                if name:
                    function, name = pickle.loads(name), b""
                result = pickle.dumps(function(pickle.loads(payload)), pickle.HIGHEST_PROTOCOL)
            except MemoryError:
                kind = MEMORY
            except SystemExit as left:
                kind, result = LEFT, str(left.code).encode()
            except BaseException as error:
                kind, result = RAISED, traceback.format_exc().encode(errors="replace")
                if _is_want_of_memory(error):
                    kind = MEMORY
            ordinal += 1
            now = time.monotonic()
            replies.append((kind, result, now - began))
            if now - flushed > FLUSH_S or kind != OK:
                channel.send_bytes(pickle.dumps(replies, pickle.HIGHEST_PROTOCOL))
                replies, flushed = [], now
            if kind in (MEMORY, LEFT):
                return
        if replies:
            channel.send_bytes(pickle.dumps(replies, pickle.HIGHEST_PROTOCOL))
