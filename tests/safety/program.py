"""Runs the installed program from outside: warm or cold, free or stopped at its system calls.

Warm, a run is forked from a process that has imported the program (`warm.py`); cold, it is `python -m dedup`. Both get
their words and variables from here, and nothing but exit code, output and what is on disk comes back.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from tests.safety.tracer import MUTATING, OPENS, Call, Fail, Kill, Tracer, Verdict, Visitor, mutates

PROJECT = Path(__file__).resolve().parents[2]

Word = str | bytes | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Run:
    """How one run ended."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """The end of what it said, for a report."""
        return " ".join((self.out[-600:] + " | " + self.err[-900:]).split())

    def json(self) -> Any:
        return json.loads(self.out)


LONGEST_S = 60
"""A run that takes longer hangs: it is killed, and its exit code is that of the kill."""


class Program:
    """The program, with the variables of one user. Use it as a context."""

    def __init__(self, name: str = "dedup", entry: str = "main", extra_path: Path | None = None) -> None:
        self.name = name
        self.env: dict[str, str] = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(extra_path or PROJECT),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.user = 0
        self.cwd = PROJECT
        self._desk = Path(tempfile.mkdtemp(prefix="safety-"))
        self._server = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.safety.warm", name, entry],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=PROJECT,
            env={
                **self.env,
                "PYTHONPATH": os.pathsep.join(filter(None, (str(PROJECT), str(extra_path or "")))),
            },
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def is_running(self) -> bool:
        """Whether the warm process is there."""
        return self._server.poll() is None

    def close(self) -> None:
        """End the warm process."""
        with suppress(BrokenPipeError):
            cast(IO[bytes], self._server.stdin).close()
        cast(IO[bytes], self._server.stdout).close()
        self._server.terminate()
        self._server.wait()
        for path in self._desk.iterdir():
            path.unlink()
        self._desk.rmdir()

    def live_at(self, state: Path, catalogue: Path) -> None:
        """Where the program's own data are from now on."""
        self.env |= {"DEDUP_STATE": str(state), "DEDUP_DB": str(catalogue), "HOME": str(state.parent)}

    # --- free -----------------------------------------------------------------------------------------------------

    def run(self, *words: Word) -> Run:
        """One warm run, to its end."""
        pid = self._begin(words, ())
        self._tell("go")
        with _no_longer(pid):
            code = int(self._hear()["code"])
        return self._ended(words, code)

    def run_cold(self, *words: Word, before: Sequence[str] = (), timeout_s: float = 300) -> Run:
        """`python -m dedup`, in a process of its own, perhaps behind other words (`strace`, `setpriv`)."""
        command = [*before, sys.executable, "-m", self.name, *(os.fsdecode(word) for word in words)]
        done = subprocess.run(
            command,
            check=False,
            cwd=PROJECT,
            env=self.env,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
        )
        out, err = (part.decode("utf-8", "surrogateescape") for part in (done.stdout, done.stderr))
        return Run(tuple(os.fsdecode(word) for word in words), done.returncode, out, err)

    # --- stopped at its calls -----------------------------------------------------------------------------------

    def run_stopped(
        self, *words: Word, within: Iterable[Path], visitor: Visitor, calls: Iterable[str] = MUTATING | OPENS
    ) -> Run:
        """One warm run in which `visitor` is asked at each of `calls` about a path below `within`."""
        pid = self._begin(words, sorted(set(calls)))
        tracer = Tracer()
        tracer.seize(pid)
        self._tell("go")
        with _no_longer(pid):
            code = tracer.follow(pid, tuple(str(place) for place in within), visitor)
        self._hear()
        return self._ended(words, code)

    def calls_of(
        self,
        *words: Word,
        within: Iterable[Path],
        calls: Iterable[str] = MUTATING | OPENS,
        all_opens: bool = False,
    ) -> tuple[Run, list[Call]]:
        """One warm run, and the calls in it that `stopping_at` counts."""
        seen: list[Call] = []

        def note(call: Call) -> None:
            if all_opens or call.name not in OPENS or mutates(call):
                seen.append(call)

        return self.run_stopped(*words, within=within, visitor=note, calls=calls), seen

    def _begin(self, words: Sequence[Word], calls: Sequence[str]) -> int:
        for name in ("out", "err"):
            (self._desk / name).write_bytes(b"")
        request = {
            "words": [os.fsencode(word).hex() for word in words],
            "env": self.env,
            "cwd": str(self.cwd),
            "stdin": os.devnull,
            "stdout": str(self._desk / "out"),
            "stderr": str(self._desk / "err"),
            "calls": list(calls),
            "user": self.user,
        }
        self._tell(json.dumps(request))
        return int(self._hear()["pid"])

    def _tell(self, line: str) -> None:
        stream = cast(IO[bytes], self._server.stdin)
        stream.write(line.encode() + b"\n")
        stream.flush()

    def _hear(self) -> dict[str, Any]:
        line = cast(IO[bytes], self._server.stdout).readline()
        if not line:
            raise RuntimeError("the warm process has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _ended(self, words: Sequence[Word], code: int) -> Run:
        out, err = (
            (self._desk / name).read_bytes().decode("utf-8", "surrogateescape") for name in ("out", "err")
        )
        return Run(tuple(os.fsdecode(word) for word in words), code, out, err)


@contextmanager
def _no_longer(pid: int) -> Iterator[None]:
    def end_it(number: int, frame: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    before = signal.signal(signal.SIGALRM, end_it)
    signal.alarm(LONGEST_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# --- visitors ---------------------------------------------------------------------------------------------------------


class At:
    """Gives a verdict at the n-th call that counts; with `for_ever`, from then on at each call of that name."""

    def __init__(
        self, number: int, verdict: Verdict, *, for_ever: bool = False, all_opens: bool = False
    ) -> None:
        self.number = number
        self.verdict = verdict
        self.for_ever = for_ever
        self.all_opens = all_opens
        self.count = 0
        self.reached: Call | None = None

    def __call__(self, call: Call) -> Verdict:
        if not (self.all_opens or call.name not in OPENS or mutates(call)):
            return None
        self.count += 1
        if self.count == self.number:
            self.reached = call
            return self.verdict
        if self.for_ever and self.reached is not None and call.name == self.reached.name:
            return self.verdict
        return None


def kill_at(number: int) -> At:
    return At(number, Kill())


def fail_at(number: int, errno: int, *, for_ever: bool = False, all_opens: bool = True) -> At:
    return At(number, Fail(errno), for_ever=for_ever, all_opens=all_opens)
