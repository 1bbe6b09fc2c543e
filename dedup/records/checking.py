"""The records of `check`: what the library says about one picture that is not in it, or is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dedup.records.finding import Match, Relation, Skipped


class Answer(StrEnum):
    """Whether a picture is in the library."""

    THERE = "there"
    """The same bytes, the same pixels or the same picture."""
    EDITED = "edited"
    """New, but the library has another version of it."""
    NEW = "new"
    UNREADABLE = "unreadable"
    """It gives no picture, so nothing can be said."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """A photo of the library beside the picture that was asked about."""

    path: str
    relation: Relation
    sentence: str
    """What the later of the two is, seen from the earlier one; `library_first` tells which is which."""
    library_first: bool
    """Whether the sentence says what the picture is, seen from the library's photo, and not the other way round."""
    match: Match | None
    """The measurements; its left one is the earlier of the two. None for the same bytes."""


@dataclass(frozen=True, slots=True)
class Checked:
    """The answer about one picture."""

    name: str
    """Path or name, as it was given."""
    answer: Answer
    likenesses: tuple[Likeness, ...] = ()
    """Strongest relation first; of equal ones the nearest. `similar` ones are among them, and answer nothing."""
    skipped: Skipped | None = None
    """Why it could not be read."""
    notes: tuple[str, ...] = ()
    """What a person should know about the answer: a photo of the library that is gone, damage in the picture."""
    digest: bytes = b""
    """sha256 of the file, empty if it could not be read."""
    moved_to: str = ""
    """Where it was moved, if it was."""

    @property
    def is_there(self) -> bool:
        """Whether the library has this picture."""
        return self.answer is Answer.THERE

    @property
    def best(self) -> Likeness | None:
        """The strongest likeness that says something: a copy, or another version."""
        return next((found for found in self.likenesses if found.relation is not Relation.SIMILAR), None)
