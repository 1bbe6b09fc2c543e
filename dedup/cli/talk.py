"""What reaches the terminal: results on stdout, talk and progress on stderr, bars only where someone watches.

Promises: a path goes out byte for byte in results that programs read, and without control characters in sentences that
people read; nothing is said on stderr with `--quiet` but errors. Does not: decide what to say.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any, Self, TextIO

from dedup.report.text import printable

LINE_EVERY_S = 30.0
"""Between two lines about one stage in a log; often enough to see that it lives, rare enough to read."""

_UNITS = {
    "crawl": "files",
    "check": "pictures",
    "hash": "photos",
    "search": "pairs",
    "confirm": "pairs",
    "compare": "pairs",
    "motion": "frames",
    "group": "groups",
    "pictures": "groups",
    "portion": "portions",
    "import": "files",
    "plan": "photos",
    "apply": "duplicates",
    "undo": "duplicates",
    "recover": "duplicates",
    "purge": "duplicates",
}


_BRIEF = {"group", "compare"}
"""Stages that are not worth a line, unless they take long."""


class Interrupted(BaseException):
    """INT, TERM or HUP arrived; passes through everything that only catches `Exception`, closing what is open."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_arrived: list[int] = []


class Verdict:
    """Whether the exit code is decided. To be set by an assignment, between whose steps no signal is handled."""

    decided = False


def stop_soon(number: int, _frame: FrameType | None) -> None:
    """Signal handler: leave what is being done, unless it is over.

    Python drops an exception that comes up inside a destructor or a callback of `fork`, wherever the signal
    happens to arrive; hence the note, which the next step of progress reads.
    """
    if Verdict.decided:
        return
    _arrived.append(number)
    raise Interrupted(number)


def hear_signals() -> None:
    """Let INT, TERM and HUP end what is being done, but for those that whoever started us has us ignore."""
    for number in _STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # under nohup, HUP stays ignored
            signal.signal(number, stop_soon)


def ignore_signals() -> None:
    """Nothing is left that a signal could stop, and its default action would put another exit code over ours.

    Python takes its own handlers away while it shuts down; what is ignored stays ignored.
    """
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)


def hush_interruptions(unraisable: sys.UnraisableHookArgs) -> None:
    """Python's hook for exceptions that it drops: it need not tell of those that `stop_soon` raised."""
    if not isinstance(unraisable.exc_value, Interrupted):
        sys.__unraisablehook__(unraisable)


class ReaderGone(Exception):
    """Whoever read our stdout has had enough, as `head` does."""


@contextmanager
def results() -> Iterator[TextIO]:
    """Stdout for results: UTF-8, and undecodable bytes of file names as they are on disk."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape", newline="")
    try:
        yield sys.stdout
        sys.stdout.flush()
    except BrokenPipeError as error:
        # What is left in the buffer would complain once more when the interpreter flushes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise ReaderGone from error


def put(text: str) -> None:
    """Write a result to stdout."""
    with results() as out:
        out.write(text)


def _tell(words: str) -> None:
    """Write to stderr. If nobody reads it, a closed terminal for example, the work goes on."""
    try:
        print("\n".join(printable(line) for line in words.split("\n")), file=sys.stderr, flush=True)
    except OSError:
        stop_telling()


def stop_telling() -> None:
    """Nobody reads stderr any more: what is still in its buffer must not fail once more at the end, with code 120."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


class Talk:
    """Says things on stderr, as much as was asked for."""

    def __init__(self, quiet: bool = False, verbose: bool = False, bars: bool = True) -> None:
        self.quiet = quiet
        self.verbose = verbose
        self.bars = bars

    def say(self, words: str) -> None:
        """Something the user should read."""
        if not self.quiet:
            _tell(words)

    def detail(self, words: str) -> None:
        """Something for `--verbose`."""
        if self.verbose:
            self.say(words)

    def complain(self, words: str) -> None:
        """An error, which is said always."""
        _tell(f"dedup: {words}")

    def progress(self) -> Progress:
        """What the pipeline calls as it goes on: bars on a terminal, lines in a log, nothing if not wanted."""
        if self.quiet or not self.bars:
            return Progress()
        return Bars() if sys.stderr.isatty() else Lines()


class Progress:
    """Takes `progress(stage, done, total)`; shows nothing."""

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """`done` of `total` in this stage; the total is None while it is not known."""
        if _arrived:
            raise Interrupted(_arrived[0])
        self.show(stage, done, total)

    def show(self, stage: str, done: int, total: int | None) -> None:
        """Let a person see it."""

    def close(self) -> None:
        """Leave the terminal as it should be for the next line."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Bars(Progress):
    """A tqdm bar per stage, with rate and time left; a stage that comes back only shows while it takes long."""

    def __init__(self) -> None:
        self._stage = ""
        self._seen: set[str] = set()
        self._bar: Any = None

    def show(self, stage: str, done: int, total: int | None) -> None:
        """See `Progress`."""
        if stage != self._stage:
            self.close()
            self._stage, self._bar = stage, self._open(stage, total, again=stage in self._seen)
            self._seen.add(stage)
        bar = self._bar
        if total is not None and bar.total is None and done < total:
            bar.total = total
            bar.bar_format = _format(total, bar.unit)
        bar.update(done - bar.n)

    def _open(self, stage: str, total: int | None, again: bool) -> Any:
        from tqdm import tqdm

        # Worker processes are forked from here, and a fork with a second thread about is not safe: no watching
        # thread, and a lock of threads rather than of processes.
        tqdm.monitor_interval = 0
        tqdm.set_lock(threading.RLock())
        unit = f" {_unit(stage)}"
        columns = os.get_terminal_size(sys.stderr.fileno()).columns  # 0 on a terminal that does not say
        return tqdm(
            desc=f"{stage:<9}",
            total=total,
            unit=unit,
            bar_format=_format(total, unit),
            file=sys.stderr,
            dynamic_ncols=bool(columns),
            ncols=None if columns else 80,
            nrows=None if columns else 24,
            leave=not again and stage not in _BRIEF,
            delay=1.0 if again or stage in _BRIEF else 0.0,
        )

    def close(self) -> None:
        """End the bar, full or not."""
        if self._bar is not None:
            self._bar.close()
        self._stage, self._bar = "", None


def _format(total: int | None, unit: str) -> str:
    if not total:
        return f"{{desc}} {{n:,}}{unit} [{{elapsed}}, {{rate_noinv_fmt}}]"
    return "{desc} {percentage:3.0f}%|{bar}| {n:,}/{total:,} [{elapsed}<{remaining}, {rate_noinv_fmt}]"


class Lines(Progress):
    """A line when a stage is over, and every half minute while it is not; what comes back is added up."""

    def __init__(self) -> None:
        self._stage = ""
        self._done = 0
        self._total: int | None = None
        self._begun_s = self._last_s = 0.0
        self._told: set[str] = set()
        self._more: dict[str, tuple[int, float]] = {}
        """Steps and seconds of further rounds of a stage that was told of."""

    def show(self, stage: str, done: int, total: int | None) -> None:
        """See `Progress`."""
        if stage != self._stage:
            self._end_stage()
            if stage not in self._told and stage not in _BRIEF:
                self._tell_more()
            self._stage, self._begun_s = stage, time.monotonic()
            self._last_s = self._begun_s
        self._done, self._total = done, total
        if self._last_s + LINE_EVERY_S < time.monotonic():
            self._last_s = time.monotonic()
            of = f" of {total:,}" if total else ""
            _tell(f"{stage:<9} {done:,}{of} {_unit(stage)} so far")

    def close(self) -> None:
        """Say how the last stage ended."""
        self._end_stage()
        self._tell_more()

    def _end_stage(self) -> None:
        stage, self._stage = self._stage, ""
        if not stage:
            return
        seconds = time.monotonic() - self._begun_s
        if stage in self._told:
            steps, before = self._more.get(stage, (0, 0.0))
            self._more[stage] = (steps + self._done, before + seconds)
        elif stage not in _BRIEF:
            self._told.add(stage)
            unfinished = (
                f" of {self._total:,}" if self._total is not None and self._done < self._total else ""
            )
            _tell(f"{stage:<9} {self._done:,}{unfinished} {_unit(stage)}, {seconds:.1f} s")

    def _tell_more(self) -> None:
        for stage, (steps, seconds) in self._more.items():
            _tell(f"{stage:<9} {steps:,} more {_unit(stage)}, {seconds:.1f} s")
        self._more.clear()


def _unit(stage: str) -> str:
    return _UNITS.get(stage, "steps")
