"""Plans to the disk and back: journal, confirmation and the roots brought together for each command that acts.

Promises: what a crash left is brought to an end before anything new begins; what came of each operation is in the
`Watch` even if the run ends with an error.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from dedup import apply as acts
from dedup.apply import Hooks
from dedup.apply.purge import AGELESS, count_files, is_purgeable, purge_entries
from dedup.apply.undo import unsafe_about
from dedup.catalogue import hold_catalogue
from dedup.errors import Unsafe, UsageError
from dedup.journal import DONE, PURGED, Entry, Journal, Run, state_folder
from dedup.pipeline.confirming import HeldConfirmer
from dedup.pipeline.places import catalogue_path
from dedup.records import Ending, Outcome, Plan
from dedup.settings import Settings


def _say_nothing(stage: str, done: int, total: int | None) -> None:
    """Progress that nobody wants to see."""


@dataclass(slots=True)
class Watch:
    """What a caller sees of a run while it goes on and after it, and how it can stop it."""

    progress: Callable[[str, int, int | None], None] = _say_nothing
    stopping: Callable[[], bool] = lambda: False
    """Asked between operations, and while files are read before one."""
    run: int = 0
    """Number of the run that was made or taken back."""
    outcomes: list[Outcome] = field(default_factory=list)
    recovered: list[Outcome] = field(default_factory=list)
    """What was left by a crash and was brought to an end first."""


@dataclass(frozen=True, slots=True)
class RunWords:
    """One run, for a list."""

    number: int
    started: float
    """Seconds since 1970."""
    roots: tuple[str, ...]
    counts: dict[str, int]
    """Operations by state: done, undone, purged, aborted, begun ..."""
    waiting_bytes: int
    """What a purge of it would give back."""


@contextmanager
def _told() -> Iterator[None]:
    """Turn what the system refuses outside of any single operation into words."""
    try:
        yield
    except OSError as error:
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        raise Unsafe(
            f"{where}the system refused what was needed ({error.strerror or error}); nothing further was changed. "
            "Look at the disk, then run `dedup recover`"
        ) from error


def apply_plan(plan: Plan, settings: Settings, watch: Watch) -> None:
    """Do what a plan says; `watch.outcomes` says what came of it.

    Raises
    ------
    Busy
        If another run is changing photos, or scans.
    Unsafe
        If something must be looked at by a person.
    """
    from dedup.keeper import find_units

    protected = [os.fsencode(os.path.abspath(os.path.expanduser(folder))) for folder in settings.protect]
    with (
        _told(),
        hold_catalogue(catalogue_path(settings)),
        Journal.open(state_folder(), write=True) as journal,
    ):
        _recover_first(journal, watch)
        with HeldConfirmer(settings) as confirmer:
            hooks = Hooks(confirmer.confirm, watch.progress, watch.stopping, find_units)
            before = max(journal.runs, default=0)
            for outcome in acts.apply_plan(plan, journal, protected, hooks):
                watch.outcomes.append(outcome)
                watch.run = max(journal.runs, default=0)
            if watch.run == before:
                watch.run = 0


def undo_run(number: int | None, watch: Watch) -> None:
    """Take a run back; without a number the last one that still has something to take back.

    Raises
    ------
    UsageError
        If there is no such run.
    Busy, Unsafe
        As `apply_plan`.
    """
    with _told(), Journal.open(state_folder(), write=True) as journal:
        _recover_first(journal, watch)
        run = _chosen(journal, number)
        watch.run = run.number
        if not run.in_state(DONE) and run.in_state(PURGED):
            raise UsageError(f"run {run.number} was purged; its files are gone for good")
        watch.outcomes.extend(acts.undo_run(journal, run, watch.progress, watch.stopping))


def recover_runs(watch: Watch) -> None:
    """Bring to an end what a crash left.

    Raises
    ------
    Unsafe
        If something cannot be decided; `watch.recovered` has everything that could.
    """
    with _told(), Journal.open(state_folder(), write=True) as journal:
        _recover_first(journal, watch)


@dataclass(frozen=True, slots=True)
class PurgeChoice:
    """What is to be purged: these runs, or whatever has lain in quarantine for so long."""

    runs: tuple[int, ...] = ()
    older_than_s: float = 30 * 86400.0


@dataclass(frozen=True, slots=True)
class PurgeList:
    """What a purge would destroy."""

    files: int
    bytes: int
    runs: tuple[int, ...]
    kept_by_age: int
    """Files that only go if their run is named."""


def survey_purge(choice: PurgeChoice) -> PurgeList:
    """What a purge would destroy; nothing happens.

    Raises
    ------
    UsageError
        If there is no such run.
    Unsafe
        If the clock is behind the journal, so that ages mean nothing.
    """
    with _told(), Journal.open(state_folder(), write=False) as journal:
        return _purge_list(journal, choice)


def purge_quarantine(choice: PurgeChoice, count: int, watch: Watch) -> None:
    """Destroy what lies in quarantine, if it is as many files as was said.

    Raises
    ------
    UsageError
        If there is no such run, or the number of files is another one.
    Busy, Unsafe
        As `apply_plan`.
    """
    with _told(), Journal.open(state_folder(), write=True) as journal:
        _recover_first(journal, watch)
        listed = _purge_list(journal, choice)
        if listed.files != count:
            raise UsageError(f"these are {listed.files:,} files, not {count:,}; nothing was purged")
        for run, entries in _purgeable(journal, choice)[0]:
            if watch.stopping():
                break
            for back in purge_entries(journal, run, entries, watch.progress, watch.stopping):
                done = back.outcome.ending is Ending.PURGED
                watch.outcomes.append(
                    replace(back.outcome, freed_now_bytes=back.entry.frees_bytes) if done else back.outcome
                )
        journal.end()


def _purge_list(journal: Journal, choice: PurgeChoice) -> PurgeList:
    found, kept = _purgeable(journal, choice)
    entries = [entry for _, some in found for entry in some]
    return PurgeList(
        count_files(entries),
        sum(entry.frees_bytes for entry in entries),
        tuple(run.number for run, _ in found),
        count_files(kept),
    )


def _purgeable(journal: Journal, choice: PurgeChoice) -> tuple[list[tuple[Run, list[Entry]]], list[Entry]]:
    """Runs with what would go of them; and what is old enough but only goes by name."""
    now = time.time()
    if now < journal.latest:
        raise Unsafe(
            f"{journal.path}: the clock of this machine is behind the journal, so nothing can be told by age; "
            "set the clock, then purge again"
        )
    if choice.runs:
        return [
            (run, entries)
            for run in (_chosen(journal, number) for number in dict.fromkeys(choice.runs))
            if (entries := [entry for entry in run.entries.values() if is_purgeable(entry)])
        ], []
    found, kept = [], []
    for run in sorted(journal.runs.values(), key=lambda run: run.number):
        old = [
            entry
            for entry in run.entries.values()
            if is_purgeable(entry) and now - entry.since >= choice.older_than_s
        ]
        kept += [entry for entry in old if entry.relation in AGELESS]
        if going := [entry for entry in old if entry.relation not in AGELESS]:
            found.append((run, going))
    return found, kept


def list_runs() -> list[RunWords]:
    """All runs, newest first."""
    with _told(), Journal.open(state_folder(), write=False) as journal:
        return [_words_of(run) for run in sorted(journal.runs.values(), key=lambda run: -run.number)]


def _words_of(run: Run) -> RunWords:
    counts: dict[str, int] = {}
    for entry in run.entries.values():
        counts[entry.state] = counts.get(entry.state, 0) + 1
    waiting = sum(entry.frees_bytes for entry in run.in_state(DONE) if any(m.quarantine for m in entry.moves))
    roots = tuple(os.fsdecode(root.path) for root in run.roots)
    return RunWords(run.number, run.started, roots, counts, waiting)


def _recover_first(journal: Journal, watch: Watch) -> None:
    if not journal.unfinished():
        return
    watch.recovered.extend(acts.recover_journal(journal, watch.progress))
    undecided = [outcome for outcome in watch.recovered if outcome.ending is Ending.REFUSED]
    if undecided:
        raise unsafe_about(undecided)


def _chosen(journal: Journal, number: int | None) -> Run:
    if number is not None:
        if number not in journal.runs:
            raise UsageError(f"there is no run {number}; `dedup undo --list` shows them all")
        return journal.runs[number]
    standing = [run for run in journal.runs.values() if run.in_state(DONE)]
    if not standing:
        raise UsageError("there is nothing to take back; `dedup undo --list` shows all runs")
    return max(standing, key=lambda run: run.number)
