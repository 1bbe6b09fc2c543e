"""Every item comes back once, whatever it does to its worker, and no worker outlives its parent."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from dedup.engine import Engine, Failure, Limits, ProcessEngine, SerialEngine, open_engine
from dedup.errors import InternalFault
from dedup.records import Reason

MIB = 1 << 20


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
    return job.name


TIGHT = Limits(memory_bytes=256 * MIB, timeout_s=1.0, cpu_s=60.0)


@pytest.fixture(params=["serial", "one worker", "two workers", "spawned workers"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    if request.param == "serial":
        with SerialEngine() as engine:
            yield engine
        return
    if request.param == "spawned workers":
        monkeypatch.setattr(threading, "active_count", lambda: 2)
    with ProcessEngine(1 if request.param == "one worker" else 2, TIGHT) as engine:
        yield engine


def test_every_item_comes_back_once_with_its_result(engine: Engine) -> None:
    assert sorted(engine.map(square, range(1000))) == [(n, n * n) for n in range(1000)]


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
