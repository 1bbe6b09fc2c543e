"""The end of what lies in quarantine: the only thing here that destroys.

Promises: a file goes only while the photo that was kept for it is there under its name with the bytes that it had, read
in full in the same moment, and while the file itself is what was moved; what was written to since stays for good.
Does not: choose by itself; whoever asks names runs or an age, and how many files that is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress

from dedup.apply.files import Reader
from dedup.apply.moves import identity_of
from dedup.apply.own import Unreachable
from dedup.apply.places import Folder, Places, Spot
from dedup.apply.standing import Standing, gone_from_quarantine, stand
from dedup.apply.undo import BATCH, Back, Progress, Stays, folders_of, outcome_of, settle
from dedup.journal import DONE, Entry, Journal, Run
from dedup.records import Ending, PlannedFile, Relation

AGELESS = frozenset((Relation.SAME_PICTURE, Relation.EDITED))
"""Relations that no number of days makes safe: these pixels are nowhere else. They go if their run is named."""

_PATIENT = Reader(lambda: False)


def is_purgeable(entry: Entry) -> bool:
    """Whether something of it lies in quarantine."""
    return entry.state == DONE and any(move.quarantine for move in entry.moves)


def count_files(entries: Sequence[Entry]) -> int:
    """Files in quarantine, sidecars and partners counted as well."""
    return sum(1 for entry in entries for move in entry.moves if move.quarantine)


def purge_entries(
    journal: Journal, run: Run, entries: Sequence[Entry], progress: Progress, stopping: Callable[[], bool]
) -> Iterator[Back]:
    """Destroy what one run put into quarantine.

    Parameters
    ----------
    entries
        Of this run, each one purgeable.

    Yields
    ------
    Back
        For every operation, once it is on the disk; its outcome is `purged`, or `refused` with the reason.

    Raises
    ------
    Busy
        If another run holds one of the roots.
    Unsafe
        If the journal cannot be written.
    """
    with Places(run.roots, same_mount=False) as places:
        places.take({move.file.root for entry in entries for move in entry.moves})
        waiting: list[Back] = []
        try:
            for number, entry in enumerate(entries):
                if stopping():
                    break
                progress("purge", number, len(entries))
                waiting.append(_purge_one(journal, places, run, entry))
                if len(waiting) >= BATCH or places.is_crowded:
                    yield from _settled(journal, places, waiting)
            yield from _settled(journal, places, waiting)
            progress("purge", len(entries), len(entries))
        except BaseException:
            with suppress(Exception):
                list(settle(journal, places, waiting))
            raise
        places.remove_empty(folders_of(entries))


def _settled(journal: Journal, places: Places, waiting: list[Back]) -> Iterator[Back]:
    batch = waiting[:]
    for _ in settle(journal, places, waiting):
        pass
    yield from batch


def _purge_one(journal: Journal, places: Places, run: Run, entry: Entry) -> Back:
    begun = False
    standings: list[Standing] = []
    folders: list[Folder] = []
    try:
        standings = stand(places, entry)
        with ExitStack() as held:
            going = [_look_at(one, held) for one in standings if one.move.quarantine]
            for file in (entry.keep, *(twin for twin in entry.twins if twin is not None)):
                _look_at_kept(places, run, file)
            journal.append({"kind": "purge", "run": entry.run, "op": entry.id})
            begun = True
            for place, fd in going:
                folders.append(place.folder)
                if identity_of(place.look()) != identity_of(os.fstat(fd)):
                    raise Stays("was replaced while this ran", "look into quarantine")
                os.unlink(place.name, dir_fd=place.folder.fd)
    except (Stays, Unreachable) as why:
        back = Back(entry, outcome_of(run, entry, Ending.REFUSED, why.why, why.remedy), "", folders)
    except OSError as error:
        words = f"the system refused it ({error.strerror or error})"
        back = Back(entry, outcome_of(run, entry, Ending.REFUSED, words), "", folders)
    else:
        return Back(entry, outcome_of(run, entry, Ending.PURGED), "purged", folders)
    if begun:
        # Without an answer about what is gone there is no end; `recover` will look again.
        with suppress(OSError):
            back.gone, back.kind = gone_from_quarantine(standings), "kept"
    return back


def _look_at(one: Standing, held: ExitStack) -> tuple[Spot, int]:
    """Open a file in quarantine and check that it is what was moved there."""
    if one.place is None or one.at_place is None:
        raise Stays(f"it is not in quarantine any more ({one.place_path})")
    fd = one.place.open()
    held.callback(os.close, fd)
    if _PATIENT.digest(fd, one.move.file.size_bytes) != one.move.file.digest:
        raise Stays(
            f"somebody wrote to it after it was moved; it stays in {one.place_path}",
            "look at it; dedup undo brings it back",
        )
    return one.place, fd


def _look_at_kept(places: Places, run: Run, file: PlannedFile) -> None:
    """The photo that was kept for it is still there by name, with its bytes."""
    path = os.fsdecode(os.path.join(run.roots[file.root].path, file.path))
    remedy = f"the one in quarantine may be the last: dedup undo {run.number} brings it back"
    try:
        spot = places.spot(file.root, file.path)
        fd = spot.open()
    except OSError as error:
        raise Stays(
            f"the photo that was kept for it, {path}, cannot be read ({error.strerror})", remedy
        ) from error
    try:
        if _PATIENT.digest(fd, file.size_bytes) != file.digest:
            raise Stays(f"the photo that was kept for it, {path}, has changed", remedy)
    finally:
        os.close(fd)
