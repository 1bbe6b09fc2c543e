"""What `dedup check` does with words: files and folders looked up, checked in order, and new ones moved if asked.

Promises: one answer for each file that was named, and for each photo below a folder that was named; a picture that is
twice among them is new once. Does not: print, or change anything without `move_new_to`.
"""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from dedup.pipeline.early import look_at_file, start_reading
from dedup.pipeline.places import Progress, below
from dedup.records import Answer, Checked, Likeness, PhotoFile, Plain, Relation, Skipped
from dedup.settings import Settings

if TYPE_CHECKING:
    from dedup.apply.intake import Intake
    from dedup.pipeline.checking import Checker


@dataclass(frozen=True, slots=True)
class CheckChoice:
    """What is asked about the pictures."""

    folders: tuple[str, ...] = ()
    """Only photos of the library below these count; empty for all."""
    to_the_end: bool = False
    """Compare with all candidates, rather than until a copy is found."""
    move_new_to: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A file that is to be checked."""

    name: str
    """As a person knows it."""
    found: PhotoFile | Skipped
    relative: str
    """Its path below the folder that was named, or its name."""


def check_pictures(
    names: Sequence[str],
    settings: Settings | None = None,
    choice: CheckChoice | None = None,
    progress: Progress | None = None,
) -> Iterator[Checked]:
    """Whether pictures are in the library.

    Parameters
    ----------
    names
        Files and folders. Of a folder, everything that a scan would take for a photo is checked, and what it would
        only leave aside - other files, excluded folders - gives no answer.
    settings
        Where the catalogue is, and the limits.
    choice
    progress
        Called with the stages crawl and check.

    Yields
    ------
    Checked
        In the order of the names; within a folder in the order of a scan.

    Raises
    ------
    UsageError
        If there is no catalogue yet, it knows nothing below the folders of the choice, or nothing can be moved to
        where it says.
    """
    settings, choice, progress = (
        settings or Settings(),
        choice or CheckChoice(),
        progress or (lambda *_: None),
    )
    early = start_reading(names[0], settings) if len(names) == 1 else None
    from dedup.pipeline.checking import Checker

    with ExitStack() as held:
        if early is not None:
            held.callback(early.engine.close)
        checker = held.enter_context(
            Checker(settings, choice.folders, to_the_end=choice.to_the_end, early=early)
        )
        mover = None
        if choice.move_new_to:
            from dedup.apply.intake import Intake

            mover = held.enter_context(Intake(choice.move_new_to))
        pictures = list(_find(names, settings, progress))
        if mover is not None:
            pictures = [
                picture
                for picture in pictures
                if isinstance(picture.found, Skipped) or not mover.holds(picture.found.path)
            ]
        is_protected = below([os.path.abspath(os.path.expanduser(folder)) for folder in settings.protect])
        for done, (picture, answer) in enumerate(_answers(checker, pictures), start=1):
            progress("check", done, len(pictures))
            yield answer if mover is None else _moved(mover, picture, answer, is_protected)


def _moved(mover: Intake, picture: Picture, answer: Checked, is_protected: Callable[[str], bool]) -> Checked:
    """The answer with where the picture is now, if it is new."""
    if answer.answer not in (Answer.NEW, Answer.EDITED) or isinstance(picture.found, Skipped):
        return answer
    if is_protected(picture.found.path):
        return replace(answer, notes=(*answer.notes, "it lies in a protected folder, and stays"))
    moved = mover.take(picture.found, picture.relative)
    notes = answer.notes
    if moved.trouble:
        notes = (*notes, moved.trouble if moved.path else f"it was not moved: {moved.trouble}")
    return replace(answer, moved_to=moved.path, notes=notes)


def _find(names: Sequence[str], settings: Settings, progress: Progress) -> Iterator[Picture]:
    seen: set[str] = set()
    count = 0
    for name in names:
        pictures = _below_folder(name, settings) if _is_folder(name) else _named(name)
        for picture in pictures:
            if picture.found.path in seen:
                continue
            seen.add(picture.found.path)
            count += 1
            if not count % 1000:
                progress("crawl", count, None)
            yield picture


def _is_folder(name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name).st_mode)
    except (OSError, ValueError):
        return False


def _named(name: str) -> Iterator[Picture]:
    yield Picture(name, look_at_file(name), os.path.basename(name))


def _below_folder(name: str, settings: Settings) -> Iterator[Picture]:
    from dedup.crawl import find_photos

    root = os.path.abspath(name)
    for found in find_photos([root], settings, lambda *_: ""):
        if isinstance(found, Skipped) and not found.reason.is_trouble:
            continue
        yield Picture(found.path, found, os.path.relpath(found.path, root))


def _answers(checker: Checker, pictures: Sequence[Picture]) -> Iterator[tuple[Picture, Checked]]:
    files = (picture.found for picture in pictures if isinstance(picture.found, PhotoFile))
    answers = checker.check_files(files)
    first_with: dict[bytes, Picture] = {}
    for picture in pictures:
        if isinstance(picture.found, Skipped):
            yield picture, Checked(picture.name, Answer.UNREADABLE, skipped=picture.found)
            continue
        answer = replace(next(answers), name=picture.name)
        if answer.digest and answer.answer in (Answer.NEW, Answer.EDITED):
            earlier = first_with.setdefault(answer.digest, picture)
            if earlier is not picture:
                twin = Likeness(earlier.name, Relation.SAME_BYTES, "the same bytes", True, None)
                note = "the same bytes came before in this run"
                answer = replace(
                    answer, answer=Answer.THERE, likenesses=(twin, *answer.likenesses),
                    notes=(*answer.notes, note),
                )  # fmt: skip
        yield picture, answer


def answer_to_json(answer: Checked, name: str = "") -> Plain:
    """An answer as JSON values, schema 1; `name` in place of the one it has."""
    return {
        "schema": 1,
        **_path_entry("file", name or answer.name),
        "answer": answer.answer.value,
        "sha256": answer.digest.hex(),
        "matches": [_likeness_to_json(likeness) for likeness in answer.likenesses],
        "reason": None if answer.skipped is None else answer.skipped.reason.value,
        "detail": None if answer.skipped is None else answer.skipped.detail,
        "notes": list(answer.notes),
        **(_path_entry("moved_to", answer.moved_to) if answer.moved_to else {}),
    }


def _likeness_to_json(likeness: Likeness) -> Plain:
    match = likeness.match
    figures = None if match is None else asdict(match.figures)
    return {
        **_path_entry("path", likeness.path),
        "relation": likeness.relation.value,
        "sentence": likeness.sentence,
        "library_first": likeness.library_first,
        "figures": figures,
    }


def _path_entry(key: str, path: str) -> Plain:
    """A path as text, with its exact bytes beside it where those are not UTF-8."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        raw = os.fsencode(path)
        return {
            key: raw.decode("utf-8", "replace"),
            f"{key}_bytes": base64.b64encode(raw).decode("ascii"),
        }
    return {key: path}
