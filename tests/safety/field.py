"""A library on a file system, scanned and planned, in the same state at the start of each run.

A `Field` is made once for each file system and kind of plan. `fresh` brings the start back: on an ext4 image to the
inode; elsewhere the library is copied anew and the program scans and plans again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.safety.checker import Planned, Snapshot, take_snapshot
from tests.safety.grounds import Folder, Ground
from tests.safety.library import Library, draw_library
from tests.safety.plans import read_planned, restamp
from tests.safety.program import Program, Run, Word

QUARANTINE: tuple[str, ...] = ()
"""All safe relations, to quarantine: what a plan does if nothing is said."""
HARDLINK = ("--only", "same-bytes", "--action", "hardlink")
REFLINK = ("--only", "same-bytes", "--action", "reflink")


class Setback(Exception):
    """The start of a run could not be made: the program failed without any fault being injected."""


@dataclass(slots=True)
class Tally:
    """What one part of the campaign found."""

    name: str
    points: int = 0
    faults: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def note(self, words: str) -> None:
        self.notes[words] = self.notes.get(words, 0) + 1

    def blame(self, where: str, faults: Sequence[str], run: Run | None = None) -> None:
        """Keep what was wrong at one point."""
        for fault in faults[:4]:
            self.faults.append(f"{where}: {fault}")
        if faults and run is not None:
            self.faults.append(f"    {' '.join(run.words[:1])} ended with {run.code}: {run.said}")


class Field:
    """Library, program and start on one file system."""

    def __init__(
        self,
        ground: Ground,
        program: Program,
        selection: Sequence[str],
        *,
        pairs: int = 40,
        others: bool = True,
        pictures: bool = True,
        after: Callable[[Field], None] | None = None,
    ) -> None:
        self.ground = ground
        self.program = program
        self.selection = selection
        self.after = after
        self.library = Library(ground.home)
        self.here()
        # The same library was drawn and scanned before, perhaps; then its catalogue is true but for inode numbers.
        name = f"scanned {pairs} {others} {pictures}"
        if not (isinstance(ground, Folder) and ground.bring(name)):
            self._draw(pairs, others, pictures)
            if isinstance(ground, Folder):
                ground.keep(name)
        self.must("plan", *self.selection, "-o", self.plan)
        if not ground.is_same:
            ground.seal()
        self._prepare()
        if ground.is_same:
            ground.seal()

    def _draw(self, pairs: int, others: bool, pictures: bool) -> None:
        for left in self.ground.home.iterdir():  # of an earlier field
            if left.name != "lost+found":
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        draw_library(self.ground.home, pairs, others=others, pictures=pictures)
        self.must("scan", *self.library.roots)

    def here(self) -> None:
        """Let the program live here: several fields share one program."""
        self.program.live_at(self.library.state, self.library.catalogue)

    def _prepare(self) -> None:
        self.before = self.look()
        self.planned: tuple[Planned, ...] = read_planned(self.plan)
        if self.after is not None:
            self.after(self)
        self.start = self.look()

    def fresh(self) -> None:
        """Everything as at the start."""
        self.ground.fresh()
        if not self.ground.is_same:
            restamp(self.plan)
            self._prepare()

    @property
    def plan(self) -> Path:
        return self.library.plan("the")

    @property
    def within(self) -> tuple[Path, ...]:
        """Where calls count: the photos and the program's own state."""
        return (*self.library.roots, self.library.state)

    def look(self) -> Snapshot:
        return take_snapshot(map(os.fsencode, self.library.roots), [os.fsencode(self.library.outside)])

    def must(self, *words: Word) -> Run:
        """A run that has no reason to fail."""
        run = self.program.run(*words)
        if run.code != 0:
            raise Setback(f"{self.ground.name}: {' '.join(run.words)} ended with {run.code}: {run.said}")
        return run


def apply(place: Field) -> None:
    """For `after`: the plan is carried out."""
    place.must("apply", place.plan, "--yes")
