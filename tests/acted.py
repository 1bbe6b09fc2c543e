"""Small libraries of files with plans about them, for the tests of what acts; drawn without any picture."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from dedup.apply import Hooks, apply_plan, recover_journal, undo_run
from dedup.journal import Journal
from dedup.records import (
    Act,
    Companion,
    Figures,
    Operation,
    Outcome,
    Plan,
    PlannedFile,
    PlanRoot,
    Relation,
    xattrs_digest,
)

if not sys.platform.startswith("linux"):
    pytest.skip(
        "these tests play with descriptors and attributes as Linux shows them", allow_module_level=True
    )

BYTES, PIXELS, PICTURE, EDITED = (
    Relation.SAME_BYTES,
    Relation.SAME_PIXELS,
    Relation.SAME_PICTURE,
    Relation.EDITED,
)
_FIGURES = Figures(0, 0, -1.0, -1.0, None, 1.0, 1.0, 0, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (0, 0))


def says_yes(_dup: int, _keep: int, _operation: Operation) -> str:
    return ""


def no_progress(_stage: str, _done: int, _total: int | None) -> None:
    """Nobody looks."""


def never() -> bool:
    return False


class Acted:
    """Folders with files, a journal, and plans made from what is there."""

    def __init__(self, home: Path, roots: Sequence[str] = ("photos",)) -> None:
        self.home = home
        self.state = home / "state"
        self.roots = [home / name for name in roots]
        for root in self.roots:
            root.mkdir(parents=True, exist_ok=True)
        self.protected: tuple[bytes, ...] = ()

    # --- files ----------------------------------------------------------------------------------------------------

    @property
    def root(self) -> Path:
        return self.roots[0]

    def write(self, name: str, content: bytes = b"the same picture" * 64, age_s: int = 1000) -> Path:
        """A file below the first root, or below the root that its name begins with."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, ns=(1_600_000_000 * 10**9, (1_600_000_000 - age_s) * 10**9 + 123))
        return path

    def path(self, name: str) -> Path:
        number, rest = self._placed(name)
        return self.roots[number] / rest

    def _placed(self, name: str) -> tuple[int, str]:
        head, _, rest = name.partition(":")
        return (int(head), rest) if rest else (0, head)

    def look(self) -> dict[str, tuple[Any, ...]]:
        """Names below the roots with all that must come back: bytes, mode, owner, time, inode, links, attributes."""
        found: dict[str, tuple[Any, ...]] = {}
        for root in self.roots:
            for folder, _, names in os.walk(root):
                if ".dedup" in folder.split("/"):
                    continue
                # The root's own time, and those of the folders in it, as well.
                found[folder] = (os.stat(folder).st_mtime_ns,)
                for name in names:
                    path = os.path.join(folder, name)
                    status = os.lstat(path)
                    content = Path(path).read_bytes() if os.path.isfile(path) else b""
                    found[path] = (
                        content,
                        status.st_mode,
                        status.st_uid,
                        status.st_gid,
                        status.st_mtime_ns,
                        status.st_ino,
                        status.st_nlink,
                        tuple((key, os.getxattr(path, key)) for key in sorted(os.listxattr(path)))
                        if os.path.isfile(path)
                        else (),
                    )
        return found

    def quarantined(self) -> dict[str, bytes]:
        """Files in the quarantine folders, by path below their root."""
        return {
            str(path.relative_to(root)): path.read_bytes()
            for root in self.roots
            for path in sorted(root.glob(".dedup/quarantine/*/*"))
        }

    # --- plans ----------------------------------------------------------------------------------------------------

    def seen(self, name: str) -> PlannedFile:
        """A file as a plan made now would hold it."""
        number, rest = self._placed(name)
        path = self.roots[number] / rest
        status = os.stat(path)
        attributes = {os.fsencode(key): os.getxattr(path, key) for key in os.listxattr(path)}
        return PlannedFile(
            root=number,
            path=os.fsencode(rest),
            device=status.st_dev,
            inode=status.st_ino,
            size_bytes=status.st_size,
            mtime_ns=status.st_mtime_ns,
            ctime_ns=status.st_ctime_ns,
            link_count=status.st_nlink,
            mode=status.st_mode,
            uid=status.st_uid,
            gid=status.st_gid,
            xattrs=xattrs_digest(attributes),
            digest=hashlib.sha256(path.read_bytes()).digest(),
        )

    def operation(self, dup: str, keep: str, act: Act = Act.QUARANTINE, **other: Any) -> Operation:
        along = other.pop("along", ())
        values: dict[str, Any] = {
            "id": 1,
            "group": "g",
            "act": act,
            "relation": BYTES,
            "dup": self.seen(dup),
            "keep": self.seen(keep),
            "companions": tuple(
                Companion(self.seen(file), None if twin is None else self.seen(twin)) for file, twin in along
            ),
            "sentence": "the same bytes",
            "why": (),
            "losses": (),
            "decided": False,
            "figures": _FIGURES,
            "frees_bytes": self.path(dup).stat().st_size,
        }
        return Operation(**(values | other))

    def plan(self, *operations: Operation) -> Plan:
        roots = []
        for root in self.roots:
            status = os.stat(root)
            roots.append(PlanRoot(os.fsencode(root), status.st_dev, status.st_ino))
        return Plan("1", "2026-01-01T00:00:00", tuple(roots), self.protected, operations, ())

    # --- acting ---------------------------------------------------------------------------------------------------

    def journal(self) -> Journal:
        return Journal.open(str(self.state), write=True)

    def apply(
        self,
        *operations: Operation,
        confirm: Callable[[int, int, Operation], str] = says_yes,
        stopping: Callable[[], bool] = never,
        protect: Sequence[Path] = (),
    ) -> list[Outcome]:
        return self.carry_out(self.plan(*operations), Hooks(confirm, no_progress, stopping), protect)

    def carry_out(
        self, plan: Plan, hooks: Hooks | None = None, protect: Sequence[Path] = ()
    ) -> list[Outcome]:
        with self.journal() as journal:
            hooks = hooks or Hooks(says_yes)
            return list(apply_plan(plan, journal, [os.fsencode(folder) for folder in protect], hooks))

    def undo(self, run: int = 1) -> list[Outcome]:
        with self.journal() as journal:
            return list(undo_run(journal, journal.runs[run], no_progress, never))

    def recover(self) -> list[Outcome]:
        with self.journal() as journal:
            return list(recover_journal(journal, no_progress))

    def states(self) -> dict[tuple[int, int], str]:
        """What the journal says of each operation of each run."""
        with Journal.open(str(self.state), write=False) as journal:
            return {
                (run.number, entry.id): entry.state
                for run in journal.runs.values()
                for entry in run.entries.values()
            }
