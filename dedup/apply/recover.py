"""After a crash: what was begun and has no end is taken back or completed, from how the files stand.

Promises: what cannot be decided is left as it is and named, with both paths; killed at any call and run again, it comes
to the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from dedup.apply.files import Reader
from dedup.apply.moves import Stranded, drop_link, exchange_back, identity_of, put_back
from dedup.apply.own import Unreachable
from dedup.apply.places import Folder, Places, put_times_back
from dedup.apply.standing import Standing, gone_from_quarantine, is_file, left_of, stand
from dedup.apply.undo import (
    BATCH,
    Back,
    Progress,
    Stays,
    folders_of,
    kept_folders,
    look_first,
    outcome_of,
    settle,
    take_back,
)
from dedup.errors import Unsafe
from dedup.journal import PURGING, UNDOING, UNFINISHED, Entry, Journal, Run
from dedup.records import Act, Ending, Outcome


def recover_journal(journal: Journal, progress: Progress) -> Iterator[Outcome]:
    """Bring every unfinished operation to an end.

    Yields
    ------
    Outcome
        `undone` if it is as if it had not been, `done` if it is complete (of an undo: `undone` as well), and `refused`
        if a person must look.

    Raises
    ------
    Busy, Unsafe
        As `apply_plan`.
    """
    for run in sorted(journal.runs.values(), key=lambda run: run.number, reverse=True):
        entries = run.in_state(*UNFINISHED)[::-1]
        if not entries:
            continue
        with Places(run.roots, same_mount=False) as places:
            roots = {move.file.root for entry in entries for move in entry.moves}
            places.take(roots)
            places.probe(roots, ())
            places.forget_folders()
            waiting: list[Back] = []
            for number, entry in enumerate(entries):
                progress("recover", number, len(entries))
                waiting.append(_recover_one(places, run, entry))
                if len(waiting) >= BATCH or places.is_crowded:
                    yield from settle(journal, places, waiting)
            yield from settle(journal, places, waiting)
            places.remove_empty(folders_of(entries))
    journal.end()


def _recover_one(places: Places, run: Run, entry: Entry) -> Back:
    try:
        standings = stand(places, entry)
        if entry.state == UNDOING:
            look_first(entry, standings)
            return take_back(places, run, entry, standings)
        if entry.state == PURGING:
            return _end_purge(run, entry, standings)
        return _end_act(places, run, entry, standings)
    except _LastName as why:
        # The duplicate is where it was, so the act is as if it had not been; what the link holds is for a person.
        return Back(entry, outcome_of(run, entry, Ending.REFUSED, why.why, why.remedy), "abort", note=why.why)
    except (Unreachable, Stays) as why:
        return Back(entry, outcome_of(run, entry, Ending.REFUSED, why.why, why.remedy), "")
    except Unsafe as why:
        return Back(entry, outcome_of(run, entry, Ending.REFUSED, str(why)), "")
    except OSError as error:
        words = f"the system refused it ({error.strerror or error})"
        return Back(entry, outcome_of(run, entry, Ending.REFUSED, words), "")


def _end_act(places: Places, run: Run, entry: Entry, standings: list[Standing]) -> Back:
    """An intent without an end."""
    if entry.act is Act.REFLINK:
        return Back(entry, outcome_of(run, entry, Ending.UNDONE), "abort")
    kept = kept_folders(standings)
    folders: list[Folder] = [
        spot.folder for one in standings for spot in (one.name, one.place) if spot is not None
    ]
    if entry.act is Act.HARDLINK:
        done = _end_link(places, entry, standings[0])
    else:
        _end_quarantine(places, standings)
        done = False
    if not done:
        put_times_back(kept)
    left = left_of(places, entry)
    if done:
        return Back(entry, outcome_of(run, entry, Ending.DONE), "done", folders, left=left)
    return Back(entry, outcome_of(run, entry, Ending.UNDONE), "abort", folders, left=left)


def _end_quarantine(places: Places, standings: list[Standing]) -> None:
    """Move everything back, if all of it can be."""
    back = []
    for one in standings:
        if one.at_place is None and one.at_name is not None:
            continue  # it never went, or came back
        if identity_of(one.at_name) == identity_of(one.at_place):
            back.append(one)  # it came back by a link, and its name in quarantine is still there
            continue
        if is_file(places, one.at_place, one.move.file) and one.at_name is None and one.name is not None:
            back.append(one)
            continue
        raise _undecided(one)
    for one in back:
        assert one.place is not None
        assert one.name is not None
        try:
            put_back(one.place, one.name)
        except FileExistsError as error:
            raise _undecided(one) from error


def _end_link(places: Places, entry: Entry, one: Standing) -> bool:
    """Take a half-made link away, or find that it is complete. True for the latter."""
    if one.at_place is None:
        if one.at_name is None:
            raise _undecided(one)
        return False
    assert one.place is not None
    if is_file(places, one.at_place, entry.keep):
        if not drop_link(one.place, identity_of(one.at_place)):
            if is_file(places, one.at_name, one.move.file):
                raise _LastName(one)
            raise _undecided(one)
        return False
    if not is_file(places, one.at_place, one.move.file) or one.name is None:
        raise _undecided(one)
    if one.at_name is None or identity_of(one.at_name) == identity_of(one.at_place):
        try:
            put_back(one.place, one.name)
        except FileExistsError as error:
            raise _undecided(one) from error
        return False
    if not is_file(places, one.at_name, entry.keep):
        raise _undecided(one)
    if _holds_planned_bytes(one):
        return True
    # Somebody wrote to it in the moment of the crash: that belongs in the library.
    try:
        if one.name.folder.root.exchanges:
            keep = identity_of(one.at_name)
            assert keep is not None
            exchange_back(one.place, one.name, keep)
        else:
            if not drop_link(one.name, identity_of(one.at_name)):
                raise _undecided(one)
            put_back(one.place, one.name)
    except (Stranded, FileExistsError) as error:
        raise _undecided(one) from error
    return False


def _holds_planned_bytes(one: Standing) -> bool:
    assert one.place is not None
    fd = one.place.open()
    try:
        return Reader(lambda: False).digest(fd, one.move.file.size_bytes) == one.move.file.digest
    finally:
        os.close(fd)


def _end_purge(run: Run, entry: Entry, standings: list[Standing]) -> Back:
    """What is gone from quarantine is gone; what is still there stays."""
    folders = [one.place.folder for one in standings if one.place is not None]
    gone = gone_from_quarantine(standings)
    if len(gone) == sum(1 for one in standings if one.move.quarantine):
        return Back(entry, outcome_of(run, entry, Ending.PURGED), "purged", folders)
    return Back(entry, outcome_of(run, entry, Ending.DONE), "kept", folders, gone=gone)


class _LastName(Stays):
    """Our link to the keeper is the last name that is left of it, since somebody put another file in its place."""

    def __init__(self, one: Standing) -> None:
        super().__init__(
            f"what was kept for it has been replaced meanwhile; as it was before, it is {one.place_path}",
            "move that to where it belongs, or delete it",
        )


def _undecided(one: Standing) -> Stays:
    return Stays(
        f"it cannot be told from how things stand what happened; look at {one.path} and at {one.place_path}",
        "put the right file in its place, then run `dedup recover` again",
    )
