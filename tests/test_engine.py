"""Every item comes back once, whatever it does to its worker, and no worker outlives its parent."""

from __future__ import annotations

import ctypes
import errno
import io
import json
import mmap
import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest.mock import patch

import numpy
import pytest

from dedup.engine import Engine, Failure, Limits, ProcessEngine, SerialEngine, open_engine, processes
from dedup.errors import InternalFault
from dedup.records import Reason
from tests.desk import close_warm

MIB = 1 << 20


@pytest.fixture(autouse=True)
def no_other_children() -> None:
    """What other tests keep running would be counted, and signalled, among the workers."""
    close_warm()


def square(number: int) -> int:
    return number * number


@dataclass(frozen=True, slots=True)
class Job:
    """What a hostile item does to its worker."""

    name: str
    deed: str = "nothing"


def do(job: Job) -> str:
    if job.deed == "abort":
        os.write(2, b"free(): invalid pointer\n")
        os.abort()
    elif job.deed == "hang":
        while True:
            pass
    elif job.deed == "balloon":
        hoard = [bytearray(64 * MIB)]
        while True:
            hoard.append(bytearray(64 * MIB))
    elif job.deed == "a little memory":
        bytearray(100 * MIB)
    elif job.deed == "sys.exit":
        sys.exit(7)
    elif job.deed == "os._exit":
        os._exit(9)
    elif job.deed == "stderr":
        line = b"TIFFFetchDirectory: sanity check failed\n" * 100
        for _ in range(1000):
            with suppress(BlockingIOError):
                os.write(2, line)
            sys.stderr.write("what a talkative library prints")
    elif job.deed == "stdout":
        sys.stdout.write("must not reach the parent's stdout")
        os.write(1, b"nor must this\n")
    elif job.deed == "close":
        os.closerange(3, 256)
    elif job.deed == "raise":
        raise ValueError("a fault of ours")
    elif job.deed == "segfault":
        ctypes.string_at(8)
    elif job.deed == "orphan":
        # A helper process that inherits everything, the socket too, and outlives the worker.
        helper = os.fork()
        if helper == 0:
            signal.alarm(30)
            signal.pause()
        return str(helper)
    elif job.deed == "busy":
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            pass
    elif job.deed == "unpicklable":
        return cast(str, lambda: None)
    elif job.deed == "no more address space":
        raise OSError(errno.ENOMEM, "Cannot allocate memory")
    elif job.deed == "deaf":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
        while True:
            signal.pause()
    return job.name


TIGHT = Limits(memory_bytes=256 * MIB, timeout_s=6.0, cpu_s=60.0)


@pytest.fixture(params=["serial", "one worker", "two workers"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    if request.param == "serial":
        with SerialEngine() as serial:
            yield serial
    else:
        with ProcessEngine(1 if request.param == "one worker" else 2, TIGHT) as engine:
            yield engine


@pytest.fixture
def spawning(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """Two workers in interpreters of their own, as they are started where forking is not safe."""
    monkeypatch.setattr(threading, "active_count", lambda: 2)
    with ProcessEngine(2, TIGHT) as engine:
        yield engine


def test_every_item_comes_back_once_with_its_result(engine: Engine) -> None:
    assert sorted(engine.map(square, range(1000))) == [(n, n * n) for n in range(1000)]


def test_workers_in_their_own_interpreter_do_the_same(spawning: Engine) -> None:
    assert sorted(spawning.map(square, range(1000))) == [(n, n * n) for n in range(1000)]
    with pytest.raises(InternalFault, match=r"(?s)do failed.*a fault of ours"):
        list(spawning.map(do, [Job("a"), Job("b", "raise")]))


def test_there_are_as_many_workers_as_cores_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= open_engine(0, TIGHT).jobs <= (os.cpu_count() or 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    for limit, cores in (("max 100000", 64), ("250000 100000", 2), ("10000 100000", 1)):
        monkeypatch.setattr("builtins.open", lambda *_, limit=limit, **__: io.StringIO(limit))
        assert open_engine(0, TIGHT).jobs == cores
    assert open_engine(3, TIGHT).jobs == 3


def test_no_items_give_no_results_and_start_no_worker() -> None:
    with open_engine(2, TIGHT) as engine:
        assert list(engine.map(square, [])) == []
        assert children() == []


@pytest.mark.parametrize("deed", ["abort", "segfault", "sys.exit", "os._exit", "close"])
def test_an_item_that_kills_its_worker_costs_itself_only(deed: str) -> None:
    jobs = [Job(str(n), deed if n == 7 else "nothing") for n in range(40)]
    with ProcessEngine(2, TIGHT) as engine:
        results = dict(engine.map(do, jobs))
    assert len(results) == 40
    bad = results.pop(jobs[7])
    assert isinstance(bad, Failure) and bad.reason is Reason.CRASHED
    assert all(results[job] == job.name for job in results)


def test_the_last_words_of_a_crashed_worker_are_kept() -> None:
    with ProcessEngine(1, TIGHT) as engine:
        [(_, failure)] = engine.map(do, [Job("a", "abort")])
    assert failure == Failure(Reason.CRASHED, "ended by SIGABRT: free(): invalid pointer")


def test_an_item_that_hangs_is_ended_and_the_others_go_on() -> None:
    jobs = [Job(str(n), "hang" if n == 3 else "nothing") for n in range(20)]
    with ProcessEngine(2, Limits(timeout_s=0.3)) as engine:
        results = dict(engine.map(do, jobs))
    assert results.pop(jobs[3]) == Failure(Reason.TIMEOUT, "not done after 0.3 s")
    assert all(results[job] == job.name for job in results) and len(results) == 19


def test_an_item_that_works_too_long_is_ended_even_if_the_parent_does_not_look() -> None:
    with ProcessEngine(1, Limits(timeout_s=60.0, cpu_s=0.5)) as engine:
        results = dict(engine.map(do, [Job("a"), Job("b", "hang"), Job("c")]))
    assert results[Job("b", "hang")] == Failure(Reason.TIMEOUT, "not done after 0.5 s of work")
    assert results[Job("c")] == "c"


def test_an_item_that_takes_all_memory_is_too_large_and_the_others_go_on() -> None:
    jobs = [Job(str(n), "balloon" if n == 3 else "nothing") for n in range(20)]
    with ProcessEngine(2, TIGHT) as engine:
        results = dict(engine.map(do, jobs))
    assert results.pop(jobs[3]) == Failure(Reason.TOO_LARGE, "needs more than 256 MiB of memory")
    assert all(results[job] == job.name for job in results) and len(results) == 19


def test_an_exception_is_a_fault_of_ours_and_stops_the_run(engine: Engine) -> None:
    with pytest.raises(InternalFault, match=r"(?s)do failed.*a fault of ours"):
        list(engine.map(do, [Job("a"), Job("b", "raise"), Job("c")]))


def test_memory_is_counted_from_what_the_worker_starts_with() -> None:
    # A worker forked from a parent that maps a large index has as much room as any other.
    with mmap.mmap(-1, 2 << 30) as index, ProcessEngine(1, TIGHT) as engine:
        assert len(index) == 2 << 30
        assert dict(engine.map(do, [Job("a", "a little memory"), Job("b", "balloon")])) == {
            Job("a", "a little memory"): "a",
            Job("b", "balloon"): Failure(Reason.TOO_LARGE, "needs more than 256 MiB of memory"),
        }


def test_want_of_memory_has_many_names() -> None:
    with ProcessEngine(1, TIGHT) as engine:
        [(_, failure)] = engine.map(do, [Job("a", "no more address space")])
    assert isinstance(failure, Failure) and failure.reason is Reason.TOO_LARGE


def test_a_photo_is_judged_by_what_it_does_alone_in_a_fresh_worker(tmp_path: Path) -> None:
    # It dies of what an earlier one left behind; by itself it is sound.
    marker = tmp_path / "left behind"
    with ProcessEngine(1, TIGHT) as engine:
        results = dict(engine.map(die_after_another, [(str(marker), n) for n in range(3)]))
    assert list(results.values()) == ["sound"] * 3


def die_after_another(job: tuple[str, int]) -> str:
    global _items
    _items += 1
    if _items > 1:
        os.abort()
    return "sound"


_items = 0


def test_many_bad_items_among_many_good_ones_cost_themselves_only() -> None:
    deeds = {11: "abort", 12: "abort", 300: "sys.exit", 301: "hang", 302: "balloon", 999: "os._exit"}
    jobs = [Job(str(n), deeds.get(n, "nothing")) for n in range(1000)]
    with ProcessEngine(2, Limits(memory_bytes=128 * MIB, timeout_s=0.4)) as engine:
        results = list(engine.map(do, jobs))
    assert sorted(int(job.name) for job, _ in results) == list(range(1000))
    failures = {int(job.name): result.reason for job, result in results if isinstance(result, Failure)}
    crashed = dict.fromkeys((11, 12, 300, 999), Reason.CRASHED)
    assert failures == {**crashed, 301: Reason.TIMEOUT, 302: Reason.TOO_LARGE}


def test_workers_in_their_own_interpreter_have_the_same_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "active_count", lambda: 2)
    jobs = [Job("a"), Job("b", "abort"), Job("c", "hang"), Job("d", "balloon"), Job("e")]
    with ProcessEngine(2, replace(TIGHT, timeout_s=2.0)) as engine:
        results = dict(engine.map(do, jobs))
    failures = [result.reason for result in map(results.get, jobs) if isinstance(result, Failure)]
    assert failures == [Reason.CRASHED, Reason.TIMEOUT, Reason.TOO_LARGE]
    assert results[jobs[0]] == "a" and results[jobs[4]] == "e"


def test_an_item_that_ignores_signals_is_ended_all_the_same() -> None:
    with ProcessEngine(1, Limits(timeout_s=0.2)) as engine:
        [(_, failure)] = engine.map(do, [Job("a", "deaf")])
    assert failure == Failure(Reason.TIMEOUT, "not done after 0.2 s")


def test_a_worker_whose_socket_someone_else_holds_is_still_seen_to_die() -> None:
    with ProcessEngine(1, Limits(timeout_s=1.0)) as engine:
        results = dict(engine.map(do, [Job("a", "orphan"), Job("b", "abort"), Job("c")]))
    helper = results[Job("a", "orphan")]
    assert isinstance(helper, str) and results[Job("c")] == "c"
    os.kill(int(helper), signal.SIGKILL)
    assert results[Job("b", "abort")] == Failure(Reason.CRASHED, "ended by SIGABRT: free(): invalid pointer")


def test_who_comes_back_from_a_stop_does_not_end_what_was_running(monkeypatch: pytest.MonkeyPatch) -> None:
    # Ctrl-Z, or a laptop that slept: for the parent an hour has gone by, for the item nothing has.
    jump_s = 0.0
    monkeypatch.setattr(processes, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + jump_s))
    jobs = [Job("a"), Job("b", "busy")]
    results = {}
    with ProcessEngine(1, Limits(timeout_s=1.0)) as engine:
        for job, result in engine.map(do, jobs):
            results[job] = result
            jump_s = 3600.0
    assert list(results.values()) == ["a", "b"]


def test_patience_stretches_the_time_of_an_item() -> None:
    jobs = [Job("a", "busy"), Job("b", "hang")]
    with ProcessEngine(2, Limits(timeout_s=0.05)) as engine:
        results = dict(engine.map(do, jobs, patience=lambda job: 100.0 if job.deed == "busy" else 1.0))
    assert results == {jobs[0]: "a", jobs[1]: Failure(Reason.TIMEOUT, "not done after 0.05 s")}


def test_heavy_items_go_first_if_weights_are_given(engine: Engine) -> None:
    begun = [item for item, _ in engine.map(square, range(100), weight=lambda n: n % 10 + 1)]
    assert sorted(begun) == list(range(100))
    with SerialEngine() as serial:
        assert [item for item, _ in serial.map(square, [1, 3, 2], weight=float)] == [3, 2, 1]
    with ProcessEngine(1, TIGHT) as one:
        assert [item for item, _ in one.map(square, [1, 3, 2], weight=float)] == [3, 2, 1]


def test_items_are_taken_only_as_fast_as_they_are_worked_on(engine: Engine) -> None:
    taken = 0

    def numbers() -> Iterator[int]:
        nonlocal taken
        for n in range(1_000_000):
            taken += 1
            yield n

    run = engine.map(square, numbers())
    for _ in range(100):
        next(run)
    assert taken < 10_000
    run.close()  # type: ignore[attr-defined]  # every engine's map is a generator


def test_large_items_and_large_results_do_not_lock_each_other(engine: Engine) -> None:
    items = [bytes([n]) * (60_000 + n * 10_000) for n in range(40)]
    results = list(engine.map(ten_times, items))
    assert sorted(results) == [(item, item * 10) for item in items]


def ten_times(item: bytes) -> bytes:
    return item * 10


def test_runs_may_be_nested(engine: Engine) -> None:
    found = [(a, b) for _, a in engine.map(square, range(20)) for _, b in engine.map(square, range(3))]
    assert sorted(found) == [(n * n, m * m) for n in range(20) for m in range(3)]


def test_workers_are_kept_for_the_next_run() -> None:
    with ProcessEngine(2, TIGHT) as engine:
        list(engine.map(square, range(10)))
        before = children()
        assert dict(engine.map(do, [Job("a")])) == {Job("a"): "a"}
        assert children() == before
    assert children() == []


def test_an_error_of_the_items_goes_through_and_leaves_no_worker_at_work(engine: Engine) -> None:
    def broken() -> Iterator[Job]:
        yield Job("a")
        raise LookupError("the crawl failed")

    with pytest.raises(LookupError, match="the crawl failed"):
        list(engine.map(do, broken()))


def test_what_cannot_be_sent_is_a_fault_of_ours() -> None:
    with ProcessEngine(1, TIGHT) as engine:
        with pytest.raises(InternalFault, match="cannot be sent to a worker"):
            list(engine.map(lambda n: n, [1]))
        with pytest.raises(InternalFault, match="cannot be sent to a worker"):
            list(engine.map(str, [lambda: None]))
        with pytest.raises(InternalFault, match="do failed"):
            list(engine.map(do, [Job("a", "unpicklable")]))
        assert list(engine.map(square, [2])) == [(2, 4)]


def test_workers_that_cannot_begin_are_a_fault_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dedup.engine.worker._limit_memory", lambda limits: os._exit(3))
    with ProcessEngine(2, TIGHT) as engine, pytest.raises(InternalFault, match="end before they begin"):
        list(engine.map(square, range(10)))


def test_a_system_without_room_for_processes_gets_by_with_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fork
    started: list[int] = []

    def fork() -> int:
        if started:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        started.append(1)
        return real()

    monkeypatch.setattr(os, "fork", fork)
    with ProcessEngine(4, TIGHT) as engine:
        assert len(list(engine.map(square, range(100)))) == 100
    with (
        ProcessEngine(4, TIGHT) as engine,
        pytest.raises(InternalFault, match="no worker process can be started"),
    ):
        list(engine.map(square, range(100)))


def test_a_failed_start_leaves_no_descriptor_open(monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with ProcessEngine(2, TIGHT) as engine:
        list(engine.map(square, range(100)))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fork", failing_fork)
        with ProcessEngine(1, TIGHT) as engine, pytest.raises(InternalFault):
            list(engine.map(square, [1]))
    assert len(os.listdir("/proc/self/fd")) == before


def failing_fork() -> int:
    raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")


def test_a_worker_holds_nothing_of_the_parent(tmp_path: Path) -> None:
    # Above all no lock and no database: only what it works with.
    with open(tmp_path / "lock", "w") as lock, ProcessEngine(2, TIGHT) as engine:
        assert lock.fileno() > 2
        for _, held in engine.map(open_files, range(50)):
            assert isinstance(held, tuple)
            assert str(tmp_path / "lock") not in held
            assert sum("socket" in name for name in held) == 1


def open_files(_: int) -> tuple[str, ...]:
    names = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            names.append(os.readlink(f"/proc/self/fd/{fd}"))
    return tuple(names)


def test_linear_algebra_has_one_thread_in_a_worker() -> None:
    # In a program that leaves OpenBLAS as many threads as there are processors, unlike the tests.
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    program = "import tests.test_engine; print(tests.test_engine.shares_in_workers())"
    run = [sys.executable, "-c", program]
    told = subprocess.run(run, env=kept, cwd=Path(__file__).parent.parent, check=True, capture_output=True)
    shares = json.loads(told.stdout)
    assert len(shares) == 2
    assert max(shares) < 0.1


def shares_in_workers() -> list[object]:
    """For a worker that was forked, and for one in an interpreter of its own."""
    numpy.ones((400, 400)) @ numpy.ones((400, 400))
    shares: list[object] = []
    for threads in (1, 2):  # of this process
        with (
            patch.object(threading, "active_count", lambda threads=threads: threads),
            ProcessEngine(1, TIGHT) as engine,
        ):
            shares += [share for _, share in engine.map(share_of_other_threads, [0])]
    return shares


def share_of_other_threads(_: int) -> float:
    """How much of the work of a matrix product is done by other threads than the one that asks for it."""
    ones = numpy.ones((800, 800))
    shares = []
    for _ in range(12):  # the first ones may see a thread that spins before it goes to sleep
        process_s, thread_s = time.process_time(), time.thread_time()
        ones @ ones
        process_s, thread_s = time.process_time() - process_s, time.thread_time() - thread_s
        shares.append(1.0 - thread_s / process_s)
    return min(shares)


def test_workers_ignore_what_the_terminal_sends_and_leave_it_to_the_parent() -> None:
    with ProcessEngine(1, TIGHT) as engine:
        run = engine.map(square, range(3))
        next(run)
        before = children()
        for worker in before:
            for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
                os.kill(worker, number)
        assert len(list(run)) == 2
        assert len(list(engine.map(square, range(100)))) == 100
        assert children() == before


def test_nothing_a_worker_prints_reaches_us(capfd: pytest.CaptureFixture[str]) -> None:
    with ProcessEngine(1, TIGHT) as engine:
        results = dict(engine.map(do, [Job("a", "stderr"), Job("b", "stdout"), Job("c")]))
    assert list(results.values()) == ["a", "b", "c"]
    assert capfd.readouterr() == ("", "")


def children() -> list[int]:
    """Processes that this one has started and not yet buried."""
    found = Path(f"/proc/self/task/{os.getpid()}/children")
    if not found.exists():
        pytest.skip("the kernel does not list children")
    return [int(word) for word in found.read_text().split()]


def test_a_run_that_is_given_up_leaves_no_worker_at_work() -> None:
    with ProcessEngine(2, Limits(timeout_s=60.0)) as engine:
        for _ in engine.map(do, [Job("a"), Job("b", "hang"), Job("c", "hang")]):
            break
        assert len(children()) <= 1
    assert children() == []


PARENT = """
    import os, signal, sys
    sys.path.insert(0, {tests!r})
    from dedup.engine import Limits, ProcessEngine
    from test_engine import Job, children, do
    import threading
    if {threads}:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    with ProcessEngine(2, Limits(timeout_s=60.0)) as engine:
        for _ in engine.map(do, [Job("a"), Job("b"), Job("c", "hang"), Job("d", "hang")]):
            print(*children(), flush=True)
"""


@pytest.mark.parametrize("threads", [False, True], ids=["forked", "spawned"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_worker_outlives_its_parent(number: signal.Signals, threads: bool) -> None:
    script = textwrap.dedent(PARENT).format(tests=str(Path(__file__).parent), threads=threads)
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        workers = [int(word) for word in parent.stdout.readline().split()]
        assert workers
        watched = [os.pidfd_open(worker) for worker in workers]
        parent.send_signal(number)
        parent.communicate(timeout=20)
    for watch in watched:
        # A pidfd becomes readable when its process ends.
        assert select.select([watch], [], [], 10.0)[0], "a worker is still there"
        os.close(watch)
