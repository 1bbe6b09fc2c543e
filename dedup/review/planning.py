"""The end of a review: what the plan would do, in a thread of its own, and the file that it is written to.

Promises: a plan is made anew each time and heeds every decision; the file is written where the command said, and never
over something that is no plan. Does not: carry it out.
"""

from __future__ import annotations

import shlex
import threading
from collections.abc import Sequence
from typing import Any

from dedup import pipeline
from dedup.errors import DedupError
from dedup.plan import plan_summary
from dedup.records import Plan
from dedup.report.text import printable, size_words
from dedup.settings import Settings

MOST_LISTED = 200
"""Files of a plan that the page lists; the plan file has them all."""


class Planner:
    """Makes plans, one at a time."""

    def __init__(self, settings: Settings, all_roots: bool, output: str, options: Sequence[str] = ()) -> None:
        self._settings = settings
        self._all_roots = all_roots
        self.output = output
        self._options = tuple(options)
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._made: Plan | None = None
        self._error = ""
        self._done: tuple[int, int | None] = (0, None)
        self._decided_only = True

    def start(self, decided_only: bool) -> None:
        """Begin to make a plan, unless one is being made."""
        with self._guard:
            if self._thread is not None and self._thread.is_alive():
                return
            self._made, self._error, self._done = None, "", (0, None)
            self._decided_only = decided_only
            self._thread = threading.Thread(target=self._make, daemon=True)
            self._thread.start()

    def _make(self) -> None:
        def progress(_stage: str, done: int, total: int | None) -> None:
            self._done = (done, total)

        try:
            self._made = pipeline.make_plan(
                None,
                self._settings,
                progress,
                all_roots=self._all_roots,
                decided_only=self._decided_only,
            )
        except DedupError as error:
            self._error = str(error)
        except Exception as error:  # noqa: BLE001 - a fault of ours must reach the page, not only the terminal
            self._error = f"a fault in dedup: {error}"

    def status(self) -> dict[str, Any]:
        """How far it is, or what it would do."""
        thread, made = self._thread, self._made
        if thread is None:
            return {"state": "none"}
        if made is None:
            if self._error:
                return {"state": "failed", "error": printable(self._error)}
            return {"state": "working", "done": self._done[0], "total": self._done[1]}
        roots = [root.path for root in made.roots]
        return {
            "state": "made",
            "decided_only": self._decided_only,
            "summary": [printable(line) for line in plan_summary(made, size_words)],
            "operations": [
                {
                    "goes": printable(_full(roots, operation.dup.root, operation.dup.path)),
                    "keep": printable(_full(roots, operation.keep.root, operation.keep.path)),
                    "relation": operation.relation.value,
                    "sentence": printable(operation.sentence),
                    "losses": [printable(loss) for loss in operation.losses],
                }
                for operation in made.operations[:MOST_LISTED]
            ],
            "count": len(made.operations),
            "left_out": [
                {
                    "path": printable(entry.path),
                    "why": printable(entry.why),
                    "remedy": printable(entry.remedy),
                }
                for entry in made.left_out[:MOST_LISTED]
            ],
            "left_count": len(made.left_out),
            "freed": sum(operation.frees_bytes for operation in made.operations),
            "file": printable(self.output),
            "commands": self.commands(),
        }

    def commands(self) -> list[str]:
        """What to type: to make this plan again, to read it, to carry it out, to take it back."""
        where = shlex.quote(self.output)
        make = ["dedup", *self._options, "plan"]
        make += ["--decided"] if self._decided_only else []
        make += ["--all-roots"] if self._all_roots else []
        return [
            printable(f"{shlex.join(make)} -o {where}"),
            printable(f"dedup plan --show {where}"),
            printable(f"{shlex.join(['dedup', *self._options, 'apply'])} {where} --yes"),
        ]

    def write(self) -> str:
        """Write the plan that was made; where.

        Raises
        ------
        UsageError
            If the place is taken by something that is no plan.
        """
        if self._made is None:
            raise pipeline.Stale("there is no plan yet; make one first")
        pipeline.save_plan(self._made, self.output)
        return printable(self.output)


def _full(roots: Sequence[bytes], root: int, path: bytes) -> str:
    return (roots[root].rstrip(b"/") + b"/" + path).decode("utf-8", "surrogateescape")
