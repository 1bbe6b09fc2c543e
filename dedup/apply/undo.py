"""Taking back what was done: every file to its name, the last one first.

Promises: what was given back is the very file that went, with its bytes, mode, owner, times and attributes; a file that
came to stand at its name since is never overwritten, the old one then comes back beside it; asked twice, or killed in
between and asked again, it does no more and no less.
Does not: bring back what was purged.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from dedup.apply import syscalls
from dedup.apply.moves import drop_link, identity_of, put_back
from dedup.apply.own import Unreachable
from dedup.apply.places import Folder, Places, Spot, put_times_back
from dedup.apply.standing import Standing, is_file, is_time_ours, left_of, stand
from dedup.errors import Unsafe
from dedup.journal import DONE, Entry, Journal, Run
from dedup.records import Act, Ending, Outcome, Plain

BATCH = 64
_MOST_BESIDE = 100

Progress = Callable[[str, int, int | None], None]


class Stays(Exception):
    """An operation that cannot be taken back: why, and what a person can do."""

    def __init__(self, why: str, remedy: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.remedy = remedy


@dataclass(slots=True)
class Back:
    """What came of taking one operation back, before it is written down."""

    entry: Entry
    outcome: Outcome
    kind: str
    folders: list[Folder] = field(default_factory=list)
    note: str = ""
    left: list[list[int]] = field(default_factory=list)
    """As `Entry.left`."""
    gone: list[int] = field(default_factory=list)
    """Files, by place in the operation, that are purged although the operation is not."""

    @property
    def record(self) -> Plain:
        """Its end in the journal."""
        record = {"kind": self.kind, "run": self.entry.run, "op": self.entry.id, "note": self.note}
        more: Plain = {"left": self.left, "gone": self.gone}
        return {**record, **{name: value for name, value in more.items() if value}}


def undo_run(
    journal: Journal, run: Run, progress: Progress, stopping: Callable[[], bool]
) -> Iterator[Outcome]:
    """Take back what a run did, in reverse order.

    Yields
    ------
    Outcome
        For every operation that stood: `undone`, or `refused` with the reason. Fewer if `stopping` said so.

    Raises
    ------
    Busy
        If another run holds one of the roots.
    Unsafe
        If the journal cannot be written.
    """
    entries = run.in_state(DONE)[::-1]
    with Places(run.roots, same_mount=False) as places:
        roots = {move.file.root for entry in entries for move in entry.moves}
        places.take(roots)
        places.probe(roots, ())
        places.forget_folders()
        waiting: list[Back] = []
        try:
            for number, entry in enumerate(entries):
                if stopping():
                    break
                progress("undo", number, len(entries))
                waiting.append(_undo_one(journal, places, run, entry))
                if len(waiting) >= BATCH or places.is_crowded:
                    yield from settle(journal, places, waiting)
            yield from settle(journal, places, waiting)
            progress("undo", len(entries), len(entries))
        except BaseException:
            with suppress(Exception):
                list(settle(journal, places, waiting))
            raise
        places.remove_empty(folders_of(entries))
    journal.end()


def _undo_one(journal: Journal, places: Places, run: Run, entry: Entry) -> Back:
    try:
        standings = stand(places, entry)
        look_first(entry, standings)
        journal.append({"kind": "undo", "run": entry.run, "op": entry.id})
    except (Unreachable, Stays) as why:
        return Back(entry, outcome_of(run, entry, Ending.REFUSED, why.why, why.remedy), "")
    except OSError as error:
        return Back(entry, outcome_of(run, entry, Ending.REFUSED, _words(error)), "")
    return take_back(places, run, entry, standings)


def take_back(places: Places, run: Run, entry: Entry, standings: Sequence[Standing]) -> Back:
    """Take one operation back, of which the journal knows that it is being taken back."""
    folders: list[Folder] = []
    notes: list[str] = []
    kept = kept_folders(standings)
    try:
        for one in reversed(standings):
            if entry.act is Act.REFLINK or one.name is None or one.place is None:
                continue
            beside = _unlink_back(places, entry, one) if entry.act is Act.HARDLINK else _give_back(one)
            folders += [one.name.folder, one.place.folder]
            if beside:
                notes.append(beside)
        put_times_back(kept)
    except (OSError, Stays) as error:
        why, remedy = (error.why, error.remedy) if isinstance(error, Stays) else (_words(error), "")
        # What is half back has no end yet: `recover` goes on with it. Who says that it stays has put it back.
        whole = (isinstance(error, Stays) and not folders) or _is_untouched(standings)
        kind = "kept" if whole else ""
        return Back(entry, outcome_of(run, entry, Ending.REFUSED, why, remedy), kind, folders)
    if entry.act is not Act.REFLINK and any(not one.move.quarantine for one in standings):
        notes.append("a part of it was purged and does not come back")
    note = "; ".join(notes)
    left = left_of(places, entry)
    return Back(entry, outcome_of(run, entry, Ending.UNDONE, note), "undone", folders, note, left)


def look_first(entry: Entry, standings: Sequence[Standing]) -> None:
    """Refuse what cannot be taken back as a whole, before any of it is.

    Raises
    ------
    Stays
    """
    if entry.act is Act.REFLINK:
        return
    for one in standings:
        if one.name is None:
            folder = os.path.dirname(one.path)
            raise Stays(f"the folder {folder} is gone", "make it again, then undo again")
        if one.place is not None and one.at_place is None and one.at_name is None:
            raise Stays("it is neither in quarantine nor in its place")
        if one.at_place is not None and not syscalls.is_regular(one.at_place):
            raise Stays(f"{one.place_path} is no longer a plain file", "look there first")


def _is_untouched(standings: Sequence[Standing]) -> bool:
    """Whether every file is still where it was when it was looked at first."""
    try:
        return all(
            identity_of(spot.look()) == identity_of(before)
            for one in standings
            for spot, before in ((one.name, one.at_name), (one.place, one.at_place))
            if spot is not None
        )
    except OSError:
        return False


def _give_back(one: Standing) -> str:
    """Out of quarantine; what to tell if it went beside its name."""
    assert one.name is not None
    assert one.place is not None
    if one.place.look() is None:
        return ""  # it went back before
    try:
        put_back(one.place, one.name)
    except FileExistsError:
        return _put_beside(one.place, one.name)
    return ""


def _unlink_back(places: Places, entry: Entry, one: Standing) -> str:
    """The duplicate back for the link, and the link gone; as `_give_back`."""
    name, place = one.name, one.place
    assert name is not None
    assert place is not None
    there, here = place.look(), name.look()
    if there is None:
        return ""
    if not is_file(places, there, entry.keep):
        if here is None or not _is_link_as_made(places, entry, here):
            return _give_back(one)
        if not name.folder.root.exchanges:
            # The link first; its inode has another name, and `recover` finishes what a kill leaves.
            if not drop_link(name, identity_of(here), other=places.spot(entry.keep.root, entry.keep.path)):
                raise Stays(f"{one.path} is the last name of the photo that was kept")
            return _give_back(one)
        # An exchange is a toggle: only now that both names have been looked at.
        syscalls.exchange(place.at, name.at)
        there = place.look()
        if not is_file(places, there, entry.keep):
            syscalls.exchange(place.at, name.at)
            raise Stays("was replaced while this ran", "try again")
    if not drop_link(place, identity_of(there)):
        raise Stays(
            f"{one.place_path} is the last name of the photo that was kept", "move it where it belongs"
        )
    return ""


def _is_link_as_made(places: Places, entry: Entry, here: os.stat_result) -> bool:
    """Whether the name still is the keeper's, unchanged, and not the last that is left of it."""
    keep = entry.keep
    same = (here.st_size, here.st_mtime_ns) == (keep.size_bytes, keep.mtime_ns)
    return is_file(places, here, keep) and same and here.st_nlink >= 2


def _put_beside(place: Spot, name: Spot) -> str:
    """Give a file back under a name of its own, since its old one is taken."""
    stem, extension = os.path.splitext(name.name)
    for number in range(1, _MOST_BESIDE):
        mark = b" (restored)" if number == 1 else b" (restored %d)" % number
        room = 255 - len(mark) - len(extension)
        beside = name.folder.spot((stem[:room] + mark + extension) if room > 0 else mark.strip())
        try:
            put_back(place, beside)
        except FileExistsError:
            continue
        return f"another file has its name now, so it came back as {os.fsdecode(beside.name)}"
    raise Stays("its name is taken", "move the file that has it, then undo again")


def kept_folders(standings: Sequence[Standing]) -> list[tuple[Folder, int]]:
    """Folders that nobody changed since we moved something out of them, or back, with the time they had before."""
    kept: dict[int, tuple[Folder, int]] = {}
    for one in standings:
        if one.name is not None:
            folder, after_ns = one.name.folder, one.move.folder_after_ns
            # What lies in quarantine has moved once, at a time that was noted; else it is on its way back already.
            waits = one.at_place is not None and one.at_place.st_ino == one.move.file.inode
            moved = None if waits and after_ns else one.at_place or one.at_name
            if is_time_ours(os.fstat(folder.fd).st_mtime_ns, after_ns, moved):
                kept[id(folder)] = folder, one.move.folder_mtime_ns
    return list(kept.values())


def settle(journal: Journal, places: Places, waiting: list[Back]) -> Iterator[Outcome]:
    """Bring the folders of a batch to the disk, then write its ends down."""
    batch, waiting[:] = waiting[:], []
    bad: set[int] = set()
    for folder in {id(folder): folder for back in batch for folder in back.folders}.values():
        try:
            folder.sync()
        except OSError:
            bad.add(id(folder))
    records = []
    for back in batch:
        if bad.isdisjoint(map(id, back.folders)):
            if back.kind:
                records.append(back.record)
        else:
            words = "the disk could not be waited for"
            back.outcome = Outcome(
                back.outcome.operation,
                back.outcome.path,
                back.outcome.keep,
                Ending.REFUSED,
                words,
                "dedup recover",
            )
    if records:
        journal.append(*records)
    places.forget_folders()
    for back in batch:
        yield back.outcome


def folders_of(entries: Sequence[Entry]) -> set[bytes]:
    """The folders in quarantine of some operations, below their roots."""
    return {os.path.dirname(move.quarantine) for entry in entries for move in entry.moves if move.quarantine}


def outcome_of(run: Run, entry: Entry, ending: Ending, why: str = "", remedy: str = "") -> Outcome:
    """What to tell about an operation of the journal."""
    first, keep = entry.moves[0].file, entry.keep
    return Outcome(
        entry.id,
        os.fsdecode(os.path.join(run.roots[first.root].path, first.path)),
        os.fsdecode(os.path.join(run.roots[keep.root].path, keep.path)),
        ending,
        why,
        remedy,
    )


def _words(error: OSError) -> str:
    if error.errno == errno.EROFS:
        return "the disk is read-only"
    return f"the system refused it ({error.strerror or error})"


def unsafe_about(outcomes: Sequence[Outcome]) -> Unsafe:
    """The error for operations that a person must look at."""
    lines = "\n".join(f"  {outcome.path}: {outcome.reason}" for outcome in outcomes)
    return Unsafe(
        f"{len(outcomes)} cannot be decided, and nothing about them was changed; please look at these places:\n{lines}"
    )
