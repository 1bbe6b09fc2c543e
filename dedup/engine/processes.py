"""The engine that runs work in replaceable worker processes with limits."""

from __future__ import annotations

import pickle
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Generic, Self, TypeVar

from dedup.engine.contract import Failure, Limits, fault_words, name_of
from dedup.engine.worker import LEFT, MEMORY, OK, Task, Worker, start_worker
from dedup.errors import InternalFault
from dedup.records import Reason

T = TypeVar("T")
R = TypeVar("R")

BATCH_S = 0.02
"""Work in one message to a worker. A message costs about 65 us, so this is 0.3 %; a photo is a batch of its own."""

AHEAD_S = 0.08
"""Work handed to a worker beyond what it is at, so that it does not wait while the parent stores results. No more:
what is handed over cannot be taken back, and at the end one worker would work on alone."""

BATCH_ITEMS = 256
AHEAD_BYTES = 48 * 1024
"""Pickled items that wait in a worker's socket, which holds 208 KiB on Linux: such a write never blocks."""

LOOK_S = 0.2
"""How often the parent looks for overdue items."""

AWAY_S = 2.0
"""Who comes back from a stop (Ctrl-Z, a sleeping laptop, a slow consumer) gives running items this long once more."""

STILLBORN = 5
"""So many workers in a row that die before they touch an item are a broken installation, not bad luck."""


class ProcessEngine:
    """Runs work in replaceable worker processes with limits.

    Workers are started when there is work for them and kept for the next `map`. Each run has workers of its own
    while it lasts, so runs may be nested, or come from several threads.
    """

    def __init__(self, jobs: int, limits: Limits) -> None:
        if jobs < 1:
            raise ValueError(f"jobs must be at least 1, not {jobs}")
        self.jobs = jobs
        self.limits = limits
        self._idle: list[Worker] = []
        self._closed = False

    def map(
        self,
        function: Callable[[T], R],
        items: Iterable[T],
        *,
        weight: Callable[[T], float] | None = None,
        patience: Callable[[T], float] | None = None,
    ) -> Iterator[tuple[T, R | Failure]]:
        """See `Engine.map`."""
        if weight is not None:
            items = sorted(items, key=weight, reverse=True)
        run: _Run[T, R] = _Run(self, function, iter(items), weight, patience)
        try:
            yield from run.results()
        finally:
            run.release()

    def hire(self) -> Worker:
        """A worker with nothing to do: one that is left from an earlier run, or a new one."""
        try:
            return self._idle.pop()
        except IndexError:
            return start_worker(self.limits)

    def dismiss(self, worker: Worker) -> None:
        """Keep an idle worker for the next run, or end it if there are enough of them."""
        if worker.pending or self._closed or len(self._idle) >= self.jobs:
            worker.end()
        else:
            self._idle.append(worker)

    def close(self) -> None:
        """End all idle workers; those of a run end with the run."""
        self._closed = True
        while self._idle:
            self._idle.pop().end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _Run(Generic[T, R]):
    """One call of `map`: hands out items, watches the workers, replaces those that die."""

    def __init__(
        self,
        engine: ProcessEngine,
        function: Callable[[T], R],
        items: Iterator[T],
        weight: Callable[[T], float] | None,
        patience: Callable[[T], float] | None,
    ) -> None:
        self.engine = engine
        self.limits = engine.limits
        self.function = function
        self.items = items
        self.weight = weight
        self.patience = patience
        self.workers: list[Worker] = []
        self.room = engine.jobs
        self.selector = selectors.DefaultSelector()
        self.again: deque[Task[T]] = deque()
        """Innocent items of a worker that died; they go out next."""
        self.alone: deque[Task[T]] = deque()
        """Doubted items, each to go alone to a fresh worker."""
        self.done: list[tuple[T, R | Failure]] = []
        self.stillborn = 0
        self.spent_s = 0.0
        self.spent_weight = 0.0
        self.looked = self.back = time.monotonic()
        try:
            self.function_name = pickle.dumps(function, pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            raise InternalFault(f"{function!r} cannot be sent to a worker: {error}") from error

    # -- the loop -----------------------------------------------------------------------------------------------

    def results(self) -> Iterator[tuple[T, R | Failure]]:
        while True:
            self._hand_out()
            if self.done:
                done, self.done = self.done, []
                yield from done
            elif any(worker.pending for worker in self.workers):
                self._watch()
            else:
                return

    def release(self) -> None:
        self.selector.close()
        for worker in self.workers:
            self.engine.dismiss(worker)
        self.workers.clear()

    # -- handing out --------------------------------------------------------------------------------------------

    def _hand_out(self) -> None:
        while self.alone:
            fresh = self._fresh_worker()
            if fresh is None:
                break
            self._send(fresh, [self.alone.popleft()])
        while (worker := self._next_worker()) is not None:
            batch = self._next_batch(worker)
            if not batch:
                return
            self._send(worker, batch)

    def _fresh_worker(self) -> Worker | None:
        """A worker that has not worked yet, for a doubted item; None while there is no room for one."""
        idle = next((worker for worker in self.workers if not worker.pending), None)
        if idle is not None and idle.replied:
            self._drop(idle)
            idle.end()
            idle = None
        if idle is None and len(self.workers) < self.room:
            idle = self._hire(start_worker)
        return idle

    def _next_worker(self) -> Worker | None:
        """Who should get the next batch: an idle worker, a new one, or the one that is done soonest; None for none."""
        if not self._peek():
            return None
        if len(self.workers) < self.room and all(worker.pending for worker in self.workers):
            worker = self._hire()
            if worker is not None:
                return worker
        best = min(self.workers, key=lambda worker: (worker.weight, worker.replied))
        if not best.pending:
            return best
        if best.pending[0].doubted or best.ahead_bytes >= AHEAD_BYTES or len(best.pending) >= 2 * BATCH_ITEMS:
            return None
        return best if self.spent_s and self._seconds(best.weight) < AHEAD_S else None

    def _next_batch(self, worker: Worker) -> list[Task[T]]:
        batch: list[Task[T]] = []
        weight, size = 0.0, worker.ahead_bytes
        while len(batch) < BATCH_ITEMS and size < AHEAD_BYTES and self._peek():
            if batch and (not self.spent_s or self._seconds(weight + self.again[0].weight) > BATCH_S):
                break
            task = self.again[0]
            if worker.pending and size + len(task.payload) > AHEAD_BYTES:
                break
            batch.append(self.again.popleft())
            weight += task.weight
            size += len(task.payload)
        return batch

    def _peek(self) -> bool:
        """Whether there is a next item; it is then in `again`."""
        if self.again:
            return True
        for item in self.items:
            try:
                payload = pickle.dumps(item, pickle.HIGHEST_PROTOCOL)
            except Exception as error:
                raise InternalFault(f"{name_of(item)} cannot be sent to a worker: {error}") from error
            weight = max(self.weight(item), 1e-9) if self.weight is not None else 1.0
            patience = self.patience(item) if self.patience is not None else 1.0
            self.again.append(Task(item, payload, weight, patience))
            return True
        return False

    def _seconds(self, weight: float) -> float:
        """How long that will take, going by what the latest items of this run took."""
        return weight * self.spent_s / self.spent_weight

    def _send(self, worker: Worker, batch: list[Task[T]]) -> None:
        name = b"" if worker.function == self.function_name else self.function_name
        payloads = [task.payload for task in batch]
        message = pickle.dumps((name, payloads, [task.patience for task in batch]), pickle.HIGHEST_PROTOCOL)
        worker.function = self.function_name
        worker.pending.extend(batch)
        worker.weight += sum(task.weight for task in batch)
        worker.ahead_bytes += sum(map(len, payloads))
        # A worker that has just died shows up as end of file when we next look, with all it was given.
        with suppress(BrokenPipeError, ConnectionResetError):
            worker.channel.send_bytes(message)

    def _add(self, worker: Worker) -> Worker:
        self.workers.append(worker)
        self.selector.register(worker.channel.fileno(), selectors.EVENT_READ, worker)
        return worker

    def _hire(self, how: Callable[[Limits], Worker] | None = None) -> Worker | None:
        """One more worker; None if the system has no room for it but there are others."""
        try:
            return self._add(how(self.limits) if how is not None else self.engine.hire())
        except OSError as error:
            if not self.workers:
                raise InternalFault(f"no worker process can be started: {error}") from error
            self.room = len(self.workers)
            return None

    def _drop(self, worker: Worker) -> None:
        self.selector.unregister(worker.channel.fileno())
        self.workers.remove(worker)

    # -- watching -----------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Wait until a worker has something to say, or kill one that is overdue."""
        ready = self.selector.select(LOOK_S)
        for key, _ in ready:
            self._hear(key.data)
        now = time.monotonic()
        if now - self.looked > AWAY_S:
            self.back = now
        if not ready or now - self.looked > LOOK_S:
            self.looked = now
            for worker in list(self.workers):
                self._check(worker, now)

    def _check(self, worker: Worker, now: float) -> None:
        if worker.has_ended():
            if not worker.channel.poll(0):
                self._bury(worker, None)
            return
        at, since = worker.look()
        if at < 0:
            return
        limit_s = self.limits.timeout_s * worker.pending[at].patience
        overdue = now - since > limit_s and now - self.back > min(limit_s, AWAY_S)
        if overdue and not worker.channel.poll(0):
            self._bury(worker, Failure(Reason.TIMEOUT, f"not done after {limit_s:g} s"))

    def _hear(self, worker: Worker) -> None:
        try:
            replies: list[tuple[int, bytes, float]] = pickle.loads(worker.channel.recv_bytes())
        except (EOFError, OSError):
            self._bury(worker, None)
            return
        self.stillborn = 0
        for kind, payload, seconds in replies:
            task = worker.pending.popleft()
            worker.replied += 1
            worker.weight = worker.weight - task.weight if worker.pending else 0.0
            worker.ahead_bytes -= len(task.payload)
            self.spent_s = 0.95 * self.spent_s + max(seconds, 1e-7)
            self.spent_weight = 0.95 * self.spent_weight + task.weight
            if kind == OK:
                self.done.append((task.item, self._unpack(task.item, payload)))
            elif kind == MEMORY:
                self._doubt(task, Failure(Reason.TOO_LARGE, _memory_words(self.limits)))
            elif kind == LEFT:
                self._doubt(task, Failure(Reason.CRASHED, f"left with exit code {payload.decode()}"))
            else:
                raise InternalFault(fault_words(self.function, task.item, payload.decode(errors="replace")))

    def _unpack(self, item: T, payload: bytes) -> R:
        try:
            result: R = pickle.loads(payload)
        except Exception as error:
            raise InternalFault(f"{name_of(item)}: its result cannot be read: {error}") from error
        return result

    def _bury(self, worker: Worker, verdict: Failure | None) -> None:
        """Take a dead or overdue worker out and judge the item it was at; the others go to other workers."""
        self._drop(worker)
        at, _ = worker.look()
        words = worker.last_words()
        code = worker.end()
        tasks: list[Task[T]] = list(worker.pending)
        if at < 0:
            self.stillborn += bool(tasks) or worker.replied == 0
            if self.stillborn >= STILLBORN:
                raise InternalFault(f"worker processes end before they begin ({_end_words(code)}): {words}")
        else:
            culprit = tasks.pop(at)
            if verdict is not None:
                self.done.append((culprit.item, verdict))
            elif code == -signal.SIGXCPU:
                used_s = self.limits.cpu_s * culprit.patience
                self.done.append(
                    (culprit.item, Failure(Reason.TIMEOUT, f"not done after {used_s:g} s of work"))
                )
            elif "bad_alloc" in words:
                self._doubt(culprit, Failure(Reason.TOO_LARGE, _memory_words(self.limits)))
            else:
                said = f": {words}" if words else ""
                self._doubt(culprit, Failure(Reason.CRASHED, f"{_end_words(code)}{said}"))
        for task in reversed(tasks):
            (self.alone if task.doubted else self.again).appendleft(task)

    def _doubt(self, task: Task[T], failure: Failure) -> None:
        if task.doubted:
            self.done.append((task.item, failure))
        else:
            task.doubted = True
            self.alone.append(task)


def _memory_words(limits: Limits) -> str:
    return f"needs more than {limits.memory_bytes >> 20:,} MiB of memory"


def _end_words(code: int) -> str:
    if code >= 0:
        return f"left with exit code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"
