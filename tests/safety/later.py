"""What happens between an apply and its undo or purge: edits, losses, other runs, and clocks that go wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

from tests.safety.checker import judge_act, judge_purge, judge_undone, not_done
from tests.safety.edits import rewrite
from tests.safety.field import HARDLINK, QUARANTINE, Field, Tally, apply
from tests.safety.grounds import Ground
from tests.safety.kills import said_nothing_of_a_fault
from tests.safety.program import Program

PAIRS = 12


def _laid_away(place: Field, number: int) -> bytes:
    return sorted(place.start.quarantine)[number]


def _keep_of(place: Field, number: int) -> bytes:
    """The keeper of what lies away there."""
    content = place.start.quarantine[_laid_away(place, number)].content
    same = [one.keep for one in place.planned if place.before.names[one.dup].content == content]
    return same[0] if same else place.planned[number].keep


def edit_what_lies_away(place: Field) -> None:
    for number in range(0, len(place.start.quarantine), 3):
        rewrite(_laid_away(place, number), b"written to in quarantine %d" % number)


def edit_keepers(place: Field) -> None:
    for number in range(0, len(place.start.quarantine), 3):
        rewrite(_keep_of(place, number), b"keeper edited %d" % number)


def delete_keepers(place: Field) -> None:
    for keep in {_keep_of(place, number) for number in range(0, len(place.start.quarantine), 3)}:
        os.unlink(keep)


def keepers_become_symlinks_to_what_lies_away(place: Field) -> None:
    for number in range(0, len(place.start.quarantine), 3):
        keep = _keep_of(place, number)
        if not os.path.islink(keep):
            os.unlink(keep)
            os.symlink(_laid_away(place, number), keep)


def keepers_become_links_of_what_lies_away(place: Field) -> None:
    """Then the keeper's name is there with its bytes, and the purge takes one of two names."""
    for number in range(0, len(place.start.quarantine), 3):
        keep = _keep_of(place, number)
        os.unlink(keep)
        os.link(_laid_away(place, number), keep)


def move_keepers_away(place: Field) -> None:
    for keep in {_keep_of(place, number) for number in range(0, len(place.start.quarantine), 3)}:
        os.rename(keep, keep + b".elsewhere")


def move_keepers_outside(place: Field) -> None:
    for keep in {_keep_of(place, number) for number in range(0, len(place.start.quarantine), 3)}:
        os.rename(keep, os.path.join(os.fsencode(place.library.home), b"gone-" + os.path.basename(keep)))


def rename_a_folder(place: Field) -> None:
    os.rename(place.library.roots[0] / "2019", place.library.roots[0] / "2019 renamed")


def put_files_where_duplicates_were(place: Field) -> None:
    for one in place.planned[::3]:
        if not os.path.lexists(one.dup):
            with open(one.dup, "wb") as stream:
                stream.write(b"new " + os.path.basename(one.dup))


def remove_the_folder_of_a_duplicate(place: Field) -> None:
    folder = place.library.roots[0] / "2020" / "deep"
    if not any(path.is_file() for path in folder.rglob("*")):
        shutil.rmtree(folder)


TROUBLES: tuple[Callable[[Field], None], ...] = (
    edit_what_lies_away,
    edit_keepers,
    delete_keepers,
    keepers_become_symlinks_to_what_lies_away,
    keepers_become_links_of_what_lies_away,
    move_keepers_away,
    move_keepers_outside,
    rename_a_folder,
    put_files_where_duplicates_were,
    remove_the_folder_of_a_duplicate,
)


def trouble_in_between(ground: Ground, program: Program) -> Tally:
    """Each of them before a purge and before an undo: nothing of value is destroyed or overwritten."""
    tally = Tally(f"between apply and purge or undo, {ground.name}")
    for selection in (HARDLINK, QUARANTINE):
        place = Field(ground, program, selection, pairs=PAIRS, after=apply)
        for trouble in TROUBLES:
            for words in ("purge", "undo"):
                place.fresh()
                trouble(place)
                middle = place.look()
                tally.points += 1
                where = f"{tally.name}, {trouble.__name__}, {words}, {' '.join(selection)}"
                command = (
                    (words, "1") if words == "undo" else (words, "1", "--count", str(len(middle.quarantine)))
                )
                run = program.run(*command)
                now = place.look()
                tally.note(f"{trouble.__name__}: {words} exit {run.code}")
                tally.blame(where, said_nothing_of_a_fault(run), run)
                # Whatever there was in the middle is there at the end; a purge may take what has an equal.
                lost = middle.contents - now.contents
                if words == "purge":
                    fine = {
                        place.before.names[one.dup].content for one in place.planned if not one.same_bytes
                    }
                    tally.blame(where, judge_purge(middle, now, place.planned), run)
                    lost -= fine
                if lost:
                    tally.blame(where, [f"I1: {len(lost)} contents are nowhere"], run)
                changed = [
                    path
                    for path, thing in middle.files.items()
                    if path not in now.names
                    or (now.names[path].content != thing.content and thing.content not in now.contents)
                ]
                tally.blame(where, [f"I4: {path!r} was there and is not" for path in changed], run)
    return tally


def purge_after_a_later_run(ground: Ground, program: Program) -> Tally:
    """The keeper of the first run goes in a second one: then what lies away from the first is no duplicate any more."""
    tally = Tally(f"a keeper that goes later, {ground.name}")
    place = Field(ground, program, ("--only", "same-bytes"), pairs=PAIRS, others=False, after=apply)
    for keep in sorted({one.keep for one in place.planned}):
        for number in range(2):  # new equals, of which the old keeper is now the duplicate, being younger
            equal = os.path.join(
                os.fsencode(place.library.roots[1]), b"0%d-" % number + os.path.basename(keep)
            )
            shutil.copyfile(keep, equal)
            os.utime(equal, (10**9, 10**9))
    middle = place.look()
    place.must("scan", *place.library.roots)
    place.must("apply", "--only", "same-bytes", "--yes")
    second = place.look()
    tally.notes["keepers that went in the second run"] = len(
        {one.keep for one in place.planned} - set(second.files)
    )
    for run_number in ("1", "2"):
        left = [
            path for path in place.look().quarantine if b"/quarantine/" + run_number.encode() + b"/" in path
        ]
        run = program.run("purge", run_number, "--count", str(len(left)))
        tally.points += 1
        tally.note(f"purge {run_number}: exit {run.code}")
        tally.blame(tally.name, said_nothing_of_a_fault(run), run)
        lost = middle.contents - place.look().contents
        if lost:
            tally.blame(tally.name, [f"I1: {len(lost)} contents are nowhere after purge {run_number}"], run)
        names = [path for path in second.files if path not in place.look().files]
        tally.blame(tally.name, [f"I3: {path!r} went missing" for path in names], run)
    return tally


def turn_the_clock(ground: Ground, program: Program) -> Tally:
    """2001, 2100, and back: nothing is decided by what is newer, and a purge in the past is refused."""
    tally = Tally(f"clocks that go wrong, {ground.name}")
    if shutil.which("faketime") is None:
        tally.skipped.append("faketime is not installed")
        return tally
    program.env["NO_FAKE_STAT"] = "1"
    for selection in (HARDLINK, QUARANTINE):
        for year in ("2001", "2100"):
            clock = ("faketime", f"{year}-01-01 00:00:00")
            place = Field(ground, program, selection, pairs=PAIRS)
            where = f"{tally.name}, {year}, {' '.join(selection)}"
            run = program.run_cold("apply", os.fspath(place.plan), "--yes", before=clock)
            now = place.look()
            tally.points += 1
            tally.note(f"{year}: apply exit {run.code}")
            tally.blame(where, judge_act(place.before, now, place.planned), run)
            if not_done(place.before, now, place.planned):
                tally.blame(where, ["not everything was done"], run)
            count = str(len(now.quarantine))
            purge = program.run("purge", "1", "--count", count) if year == "2100" else None
            if purge is not None:
                tally.note(f"{year}: purge today exit {purge.code}")
                if purge.code != 5 or place.look() != now:
                    tally.blame(where, ["a purge before the time of the journal was not refused"], purge)
            undo = program.run("undo", "1")
            tally.blame(where + ", undone", judge_undone(place.before, place.look()), undo)
        place = Field(ground, program, selection, pairs=PAIRS, after=apply)
        for year, options in (
            ("2001", ("1",)),
            ("2001", ("--older-than", "1d")),
            ("2100", ("--older-than", "30d")),
        ):
            place.fresh()
            by_age = "--older-than" in options
            # The same picture in other pixels never goes by age alone.
            going = [
                one for one in place.planned if not by_age or one.relation in ("same-bytes", "same-pixels")
            ]
            count = str(sum(1 + len(one.along) for one in going))
            clock = ("faketime", f"{year}-01-01 00:00:00")
            run = program.run_cold("purge", *options, "--count", count, before=clock)
            now = place.look()
            tally.points += 1
            tally.note(f"{year}: purge {' '.join(options)} exit {run.code}, {len(now.quarantine)} left")
            where = f"{tally.name}, purge in {year} {options}"
            tally.blame(where, judge_purge(place.start, now, place.planned), run)
            if year == "2001" and (now.quarantine != place.start.quarantine or run.code != 5):
                tally.blame(where, ["a purge before the time of the journal was not refused"], run)
            if by_age and year == "2100" and len(now.quarantine) != len(place.start.quarantine) - int(count):
                tally.blame(where, ["another number went by age than what may"], run)
    del program.env["NO_FAKE_STAT"]
    return tally
