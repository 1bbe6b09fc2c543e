"""A call in a thread of its own, for two things that wait for different processors.

Promises: `result` gives what the call gave, or raises what it raised. Does not: end a call that takes for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Later(Generic[T]):
    """A call that runs in a thread of its own; `result` waits, and raises what it raised."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._answer: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._answer.append(self._function())
        except BaseException as error:
            self._error = error

    @property
    def is_done(self) -> bool:
        """Whether `result` would not wait."""
        return not self._thread.is_alive()

    def result(self) -> T:
        """What the call gave."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._answer[0]
