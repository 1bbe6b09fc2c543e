"""`Review`: the groups of the catalogue as a person goes through them, and what the person says about each.

Promises: a decision is on the disk before `decide` returns, or nothing of it is; it builds upon what the person saw
(`Stale` otherwise), and saying it twice is saying it once; each can be taken back. Lists come in pages, and hold still
while they are gone through. Does not: change a photo, or know what a browser is.

The catalogue is opened for each question and closed again, so that scans and other commands can run meanwhile.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from dedup.catalogue import Catalogue
from dedup.errors import Busy, UsageError
from dedup.pipeline.judging import (
    Judgement,
    Mark,
    State,
    check_judgement,
    digests_of,
    from_decisions,
    group_mark,
    keeper_of,
    photos_of,
    state_of,
    state_of_contents,
    to_decisions,
    version_of,
    with_same_bytes,
)
from dedup.pipeline.listing import STATES, FolderPair, Listing, Numbers, Query
from dedup.pipeline.places import absolute_folder, catalogue_path
from dedup.pipeline.results import EVERYTHING, LAST_ROOTS
from dedup.pipeline.rules import NoAnswer, Rule, apply_rule
from dedup.records import Decision, DuplicateGroup, Photo, Verdict
from dedup.report.sights import is_as_scanned
from dedup.settings import Settings

T = TypeVar("T")

MOST_VIEWS = 32
MOST_CHANGES_KNOWN = 2_000
"""Answers that are remembered, so that a change that is sent again is not made again."""
WAIT_FOR_WRITER_S = 5.0
"""How long a decision waits for another command that holds the catalogue."""
SAMPLE = 12
"""Groups that the preview of a rule shows."""
_CHUNK = 500


class Stale(UsageError):
    """What the person saw is not how it is any more."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A group with what was said about it."""

    number: int
    group: DuplicateGroup
    judgement: Judgement
    state: State
    mark: str
    """Of everything that is seen of the group; a decision names it."""
    version: str
    """Of what was decided; a decision names it."""
    damage: Mapping[bytes, str]

    @property
    def keeper(self) -> Photo:
        """The photo that stays."""
        return keeper_of(self.group, self.judgement)


@dataclass(frozen=True, slots=True)
class Step:
    """Something that was said and can be taken back."""

    words: str
    groups: tuple[int, ...]
    """Numbers, as they were then."""
    parts: tuple[tuple[tuple[bytes, ...], tuple[Decision, ...], str], ...]
    """For each group its contents, what was decided before, and the version after."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a rule would do, or did."""

    groups: int
    goes: int
    freed: int
    left_alone: tuple[tuple[str, int], ...]
    sample: tuple[tuple[str, tuple[str, ...]], ...]
    """Of the first groups the path that stays, and those that may go."""
    stamp: str
    """Names exactly this; carrying it out asks for it."""


class Review:
    """A review of one catalogue; any number of threads may ask.

    Parameters
    ----------
    all_roots
        Everything the catalogue knows, rather than what lies below the roots of the last scan.
    """

    def __init__(self, settings: Settings | None = None, all_roots: bool = False) -> None:
        self.settings = settings or Settings()
        self.path = catalogue_path(self.settings)
        self.all_roots = all_roots
        self._lock = threading.RLock()
        self._views: OrderedDict[str, Numbers] = OrderedDict()
        self._answers: OrderedDict[str, object] = OrderedDict()
        self._steps: list[Step] = []
        self._pairs: list[FolderPair] | None = None
        self._stamp = (0, 0, 0)
        self.load()

    # --- the list -------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Read the list of groups; 100,000 take a few seconds."""
        with self._lock, self._reading() as catalogue:
            record = catalogue.last_scan()
            if record is None:
                raise UsageError(f"{self.path}: no scan was finished yet; run `dedup scan FOLDER` first")
            wide = self.all_roots and record.summary["wider"]
            self.scope = EVERYTHING if wide else LAST_ROOTS
            self.finished = str(record.summary["finished"])
            roots = [*record.basis["roots"], *(catalogue.roots() if self.all_roots else ())]
            self.roots = sorted({absolute_folder(root) for root in roots}, key=len, reverse=True)
            self._stamp = catalogue.review_stamp()
            self.listing = Listing(
                catalogue.group_rows(self.scope),
                catalogue.review_files(self.scope),
                catalogue.review_members(self.scope),
            )
            self._place = {number: at for at, number in enumerate(self.listing.numbers.tolist())}
            self._set_states(catalogue.decisions())
            self._views.clear()
            self._pairs = None

    def refresh(self) -> bool:
        """Follow what other commands did since; whether the groups were made anew."""
        with self._lock:
            with self._reading() as catalogue:
                stamp = catalogue.review_stamp()
                if stamp == self._stamp:
                    return False
                if stamp[0] == self._stamp[0]:
                    self._set_states(catalogue.decisions())
                    self._stamp = stamp
                    return False
            self.load()
            return True

    def _set_states(self, decisions: Iterable[Decision]) -> None:
        kept: dict[bytes, str] = {}
        pairs: dict[frozenset[bytes], Decision] = {}
        for decision in decisions:
            if decision.verdict is Verdict.KEEP:
                kept[decision.left] = decision.place
            else:
                pairs[frozenset((decision.left, decision.right))] = decision
        known = set(kept).union(*pairs)
        open_ = STATES.index(State.OPEN)
        self.listing.states[:] = open_
        if not known:
            return
        for at, copies in enumerate(self.listing.contents):
            if not known.isdisjoint(copies):
                state = state_of_contents(self.listing.keepers[at], copies, kept, pairs)
                self.listing.states[at] = STATES.index(state)

    def view(self, name: str, query: Query) -> Numbers:
        """Make a list that holds still; the places of its groups."""
        self.refresh()
        with self._lock:
            places = self.listing.find(query)
            self._views[name] = self.listing.numbers[places]
            while len(self._views) > MOST_VIEWS:
                self._views.popitem(last=False)
            return places

    def numbers_of(self, name: str) -> Numbers:
        """The groups of a list."""
        with self._lock:
            if name not in self._views:
                raise Stale("the groups have been made anew; the list begins again")
            self._views.move_to_end(name)
            return self._views[name]

    def sheets(self, numbers: Sequence[int]) -> list[Sheet]:
        """Groups with what was said about them, in the order given; those that are no more are left out."""
        with self._reading() as catalogue:
            return self._sheets(catalogue, numbers)

    def sheet(self, number: int) -> Sheet:
        """One group."""
        found = self.sheets([number])
        if not found:
            raise Stale("this group is no more; the list begins again")
        return found[0]

    def _sheets(self, catalogue: Catalogue, numbers: Sequence[int]) -> list[Sheet]:
        groups = catalogue.groups_by_number(numbers)
        digests = {digest for group in groups.values() for digest in digests_of(group)}
        decisions = catalogue.decisions_among(digests)
        by_content: dict[bytes, list[Decision]] = {}
        for decision in decisions:
            by_content.setdefault(decision.left, []).append(decision)
        damage = catalogue.damages_of(digests)
        sheets = []
        for number in numbers:
            group = groups.get(number)
            if group is None:
                continue
            inside = set(digests_of(group))
            own = [
                decision
                for digest in inside
                for decision in by_content.get(digest, ())
                if not decision.right or decision.right in inside
            ]
            judgement = from_decisions(group, own)
            sheets.append(
                Sheet(
                    number,
                    group,
                    judgement,
                    state_of(group, judgement),
                    group_mark(group),
                    version_of(own),
                    {digest: damage[digest] for digest in inside if digest in damage},
                )
            )
        return sheets

    def root_of(self, path: str) -> str:
        """The scanned folder that a photo lies in."""
        for root in self.roots:
            if path.startswith(root.rstrip("/") + "/"):
                return root
        return os.path.dirname(path)

    def folder_pairs(self) -> list[FolderPair]:
        """Folders that hold the same pictures, the most first."""
        with self._lock:
            if self._pairs is None:
                with self._reading() as catalogue:
                    self._pairs = self.listing.folder_pairs(catalogue.photo_paths())
            return self._pairs

    # --- deciding -------------------------------------------------------------------------------------------------

    def decide(self, change: str, number: int, seen: tuple[str, str], judgement: Judgement) -> Sheet:
        """Say something about a group, in place of whatever was said before.

        Parameters
        ----------
        change
            A name for this change; the same name again gives the same answer.
        seen
            `mark` and `version` of the sheet that the person looked at.

        Raises
        ------
        Stale
            If the group, one of its files or what was decided is not what the person saw.
        UsageError
            If it makes no sense, or would leave the group without a sound file.
        Busy
            If another command holds the catalogue.
        """

        def make() -> Sheet:
            with self._writing() as catalogue:
                found = self._sheets(catalogue, [number])
                if not found or found[0].mark != seen[0]:
                    raise Stale("the group has changed; look at it again")
                before = found[0]
                wanted = with_same_bytes(before.group, judgement)
                if before.version != seen[1]:
                    if before.judgement == wanted:
                        return before
                    raise Stale("this was decided elsewhere in the meantime; look at it again")
                # What was sent, and what it comes to: neither may leave the group without its kept file.
                for said in (judgement, wanted):
                    check_judgement(before.group, said, before.damage)
                self._check_files(before.group, wanted)
                self._write(catalogue, _words(wanted), [(before, wanted)])
                return self._sheets(catalogue, [number])[0]

        with self._lock:
            sheet = self._once(change, make)
            self._note(sheet)
            return sheet

    def _check_files(self, group: DuplicateGroup, judgement: Judgement) -> None:
        """What is decided about must be what was scanned; whatever is to go needs a kept file that is there."""
        keeper = keeper_of(group, judgement)
        going = {number for number, mark in judgement.marks.items() if mark is Mark.GOES}
        for photo in photos_of(group):
            if photo.id not in going and not (going and photo.id == keeper.id):
                continue
            if not is_as_scanned(photo.file, os.fsencode(self.root_of(photo.file.path))):
                name = os.path.basename(photo.file.path)
                raise Stale(f"{name} has changed since the scan, or is gone; scan again before you decide")

    def _write(self, catalogue: Catalogue, words: str, changes: Sequence[tuple[Sheet, Judgement]]) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        forget: list[Decision] = []
        put: list[Decision] = []
        parts = []
        for sheet, wanted in changes:
            digests = tuple(digests_of(sheet.group))
            before = tuple(catalogue.decisions_among(digests))
            after = to_decisions(sheet.group, wanted, now)
            forget += before
            put += after
            parts.append((digests, before, version_of(after)))
        with catalogue.all_or_nothing():
            catalogue.change_decisions(forget, put)
        catalogue.make_durable()
        self._steps.append(Step(words, tuple(sheet.number for sheet, _ in changes), tuple(parts)))
        self._stamp = catalogue.review_stamp()

    def _once(self, change: str, make: Callable[[], T]) -> T:
        """What `make` answers, or what it answered when the same change came before. To be called with the lock."""
        known = self._answers.get(change)
        if known is not None:
            return known  # type: ignore[return-value]  # a change has one kind of answer
        answer = make()
        self._answers[change] = answer
        while len(self._answers) > MOST_CHANGES_KNOWN:
            self._answers.popitem(last=False)
        return answer

    def _note(self, sheet: Sheet) -> None:
        at = self._place.get(sheet.number)
        if at is not None:
            self.listing.states[at] = STATES.index(sheet.state)

    def last_step(self) -> Step | None:
        """What `undo` would take back."""
        with self._lock:
            return self._steps[-1] if self._steps else None

    def undo(self, change: str) -> Step | None:
        """Take back the last thing that was said since the page was opened; None if there is nothing.

        Raises
        ------
        Stale
            If it was decided anew elsewhere since.
        """

        def make() -> Step:
            with self._writing() as catalogue:
                step = self._steps[-1]
                forget: list[Decision] = []
                put: list[Decision] = []
                for digests, before, version in step.parts:
                    now = catalogue.decisions_among(digests)
                    if version_of(now) != version:
                        self._steps.pop()
                        raise Stale("this was decided anew elsewhere since, and stays as it is")
                    forget += now
                    put += before
                with catalogue.all_or_nothing():
                    catalogue.change_decisions(forget, put)
                catalogue.make_durable()
                self._steps.pop()
                self._stamp = catalogue.review_stamp()
                for start in range(0, len(step.groups), _CHUNK):
                    for sheet in self._sheets(catalogue, step.groups[start : start + _CHUNK]):
                        self._note(sheet)
                return step

        with self._lock:
            if change not in self._answers and not self._steps:
                return None
            return self._once(change, make)

    # --- rules ----------------------------------------------------------------------------------------------------

    def preview_rule(self, rule: Rule, view: str) -> Outlook:
        """What a rule would do to the open groups of a list."""
        with self._reading() as catalogue:
            outlook, _ = self._work_out(catalogue, rule, self.numbers_of(view).tolist())
        return outlook

    def apply_rule(self, change: str, rule: Rule, view: str, stamp: str) -> Outlook:
        """Do it, if it still is what the preview said.

        Raises
        ------
        Stale
            If it would be something else by now.
        """

        def make() -> Outlook:
            with self._writing() as catalogue:
                outlook, changes = self._work_out(catalogue, rule, self.numbers_of(view).tolist())
                if outlook.stamp != stamp:
                    raise Stale("the groups or decisions have changed since the preview; look at it again")
                self._write(catalogue, f"rule for {outlook.groups:,} groups", changes)
                for start in range(0, len(changes), _CHUNK):
                    numbers = [sheet.number for sheet, _ in changes[start : start + _CHUNK]]
                    for sheet in self._sheets(catalogue, numbers):
                        self._note(sheet)
                return outlook

        with self._lock:
            return self._once(change, make)

    def _work_out(
        self, catalogue: Catalogue, rule: Rule, numbers: Sequence[int]
    ) -> tuple[Outlook, list[tuple[Sheet, Judgement]]]:
        alone: Counter[str] = Counter()
        changes: list[tuple[Sheet, Judgement]] = []
        goes = freed = 0
        for start in range(0, len(numbers), _CHUNK):
            for sheet in self._sheets(catalogue, numbers[start : start + _CHUNK]):
                if not sheet.judgement.is_empty:
                    alone["decided already, at least in part"] += 1
                    continue
                try:
                    wanted = with_same_bytes(sheet.group, apply_rule(rule, sheet.group, sheet.damage))
                    self._check_files(sheet.group, wanted)
                except NoAnswer as none:
                    alone[str(none)] += 1
                    continue
                except Stale:
                    alone["a file has changed since the scan"] += 1
                    continue
                changes.append((sheet, wanted))
                goes += len(wanted.marks)
                freed += sum(p.file.size_bytes for p in photos_of(sheet.group) if p.id in wanted.marks)
        marks = [f"{sheet.mark}{sheet.version}{wanted.keep}" for sheet, wanted in changes]
        stamp = version_of(
            Decision(Verdict.LATER, mark.encode(), b"", "") for mark in (f"{rule.kind} {rule.folder}", *marks)
        )
        sample = tuple(
            (
                keeper_of(sheet.group, wanted).file.path,
                tuple(photo.file.path for photo in photos_of(sheet.group) if photo.id in wanted.marks),
            )
            for sheet, wanted in changes[:SAMPLE]
        )
        left = tuple(sorted(alone.items(), key=lambda entry: (-entry[1], entry[0])))
        return Outlook(len(changes), goes, freed, left, sample, stamp), changes

    # --- all decisions --------------------------------------------------------------------------------------------

    def decisions(self) -> list[Decision]:
        """All of them."""
        with self._reading() as catalogue:
            return catalogue.decisions()

    def take_over(self, decisions: Sequence[Decision]) -> int:
        """Note decisions from elsewhere; how many of them were news."""
        with self._lock:
            with self._writing() as catalogue:
                with catalogue.all_or_nothing():
                    news = sum(catalogue.put_decision(decision) for decision in decisions)
                catalogue.make_durable()
            self.refresh()
            return news

    # --- the catalogue --------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[Catalogue]:
        with Catalogue.open(self.path, write=False) as catalogue:
            yield catalogue

    @contextmanager
    def _writing(self) -> Iterator[Catalogue]:
        """The catalogue for writing; waits a little for another command that holds it."""
        until = time.monotonic() + WAIT_FOR_WRITER_S
        while True:
            try:
                catalogue = Catalogue.open(self.path, write=True)
                break
            except Busy as error:
                if time.monotonic() > until:
                    raise Busy(
                        "another command holds the catalogue; try again when it is finished"
                    ) from error
            time.sleep(0.05)
        with catalogue:
            yield catalogue


def _words(judgement: Judgement) -> str:
    """What was said, for the button that takes it back."""
    if judgement.is_empty:
        return "taking back a decision"
    said = Counter(judgement.marks.values())
    names = {
        Mark.GOES: "may go",
        Mark.STAYS: "stays",
        Mark.APART: "no duplicate",
        Mark.LATER: "later",
    }
    return ", ".join(f"{count} {names[mark]}" for mark, count in said.items()) or "the photo to keep"
