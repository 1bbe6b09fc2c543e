"""What every engine keeps to: `Engine.map`, its limits, and what stands for an item that has no result.

Promises nothing itself; `SerialEngine`, the simplest thing that keeps to it, is here too.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

from dedup.errors import InternalFault
from dedup.records import Reason
from dedup.settings import DECODE_TIMEOUT_S, MEMORY_LIMIT_BYTES

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an item has no result."""

    reason: Reason
    """CRASHED, TIMEOUT or TOO_LARGE."""
    detail: str
    """One clause a photographer can follow."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one item may use."""

    memory_bytes: int = MEMORY_LIMIT_BYTES
    """Address space (RLIMIT_AS) beyond what the worker has when it starts: a worker forked from a parent that maps
    a large index must not find its allowance used up."""
    timeout_s: float = DECODE_TIMEOUT_S
    """Wall time, kept by the parent with SIGKILL."""
    cpu_s: float = DECODE_TIMEOUT_S
    """Processor time (RLIMIT_CPU), which holds even while the parent is stopped or busy."""


class Engine(Protocol):
    """Where work runs."""

    def map(
        self,
        function: Callable[[T], R],
        items: Iterable[T],
        *,
        weight: Callable[[T], float] | None = None,
        patience: Callable[[T], float] | None = None,
    ) -> Iterator[tuple[T, R | Failure]]:
        """Call `function` on every item.

        Parameters
        ----------
        function
            Importable by name (no lambda, no local function), as are the classes of items and results.
        items
            Taken a few at a time, in order, as workers become free.
        weight
            Expected cost of an item in any unit, above 0. With it all items are taken at once and the heaviest go
            first, so that the last of a run is a small one.
        patience
            Factor on the time limits of an item, for items that are many photos in one; 1.0 without it.

        Yields
        ------
        tuple
            The item and its result, or a `Failure`; every item once, in the order in which they are ready.

        Raises
        ------
        InternalFault
            If `function` raises (MemoryError and SystemExit apart), or an item or a result cannot be pickled.
        """
        ...

    def close(self) -> None:
        """End all workers."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


class SerialEngine:
    """Runs everything here and now, in order and without limits: for tests, and for work that opens no photo."""

    def map(
        self,
        function: Callable[[T], R],
        items: Iterable[T],
        *,
        weight: Callable[[T], float] | None = None,
        patience: Callable[[T], float] | None = None,  # noqa: ARG002 - there is no limit to be stretched
    ) -> Iterator[tuple[T, R | Failure]]:
        """See `Engine.map`."""
        if weight is not None:
            items = sorted(items, key=weight, reverse=True)
        for item in items:
            result: R | Failure
            try:
                result = function(item)
            except MemoryError:
                result = Failure(Reason.TOO_LARGE, "needs more memory than there is")
            except SystemExit as left:
                result = Failure(Reason.CRASHED, f"left with exit code {left.code}")
            except Exception as error:
                raise InternalFault(fault_words(function, item, traceback.format_exc())) from error
            yield item, result

    def close(self) -> None:
        """Nothing to end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def name_of(item: object) -> str:
    """What to call an item in a message: its path if it has one."""
    path = getattr(item, "path", None)
    return str(path) if path is not None else repr(item)[:200]


def fault_words(function: Callable[..., Any], item: object, trace: str) -> str:
    """The message of an `InternalFault`: whose fault it is, then the traceback for us."""
    name = getattr(function, "__qualname__", repr(function))
    return f"{name_of(item)}: {name} failed, which is a fault in dedup, not in the photo\n{trace.rstrip()}"
