"""What a person says about one group, and the decisions that this makes: there and back again.

    keep   the photo to keep, if the person chose one; else the one that the rules chose stays
    marks  one word for each of the others: it goes, it stays as well, it is no duplicate, later

Promises: what is read back from decisions is what was said, wherever the files lie by then; files with the same bytes
share one mark, because decisions are about contents. A group never loses its last sound file: a judgement that says so
is refused. Does not: touch a file, or store anything.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from dedup.errors import UsageError
from dedup.records import Decision, DuplicateGroup, Photo, Relation, Verdict

MOST_PARTED = 200
"""Contents of one group that can be parted from each other: 19,900 pairs."""


class Mark(StrEnum):
    """What a person says about a photo that is not the one to keep."""

    GOES = "goes"
    STAYS = "stays"
    APART = "apart"
    LATER = "later"


_VERDICTS = {
    Mark.STAYS: Verdict.KEEP_BOTH,
    Mark.APART: Verdict.NOT_DUPLICATES,
    Mark.LATER: Verdict.LATER,
    Mark.GOES: Verdict.REMOVE,
}
_MARKS = {verdict: mark for mark, verdict in _VERDICTS.items()}


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was said about a group; photos by catalogue id."""

    keep: int | None = None
    """None as long as nobody chose."""
    marks: Mapping[int, Mark] = field(default_factory=dict)
    """Photos about which nothing was said are missing."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing was said."""
        return self.keep is None and not self.marks


class State(StrEnum):
    """How far a person is with a group."""

    OPEN = "open"
    LATER = "later"
    DECIDED = "decided"


def photos_of(group: DuplicateGroup) -> list[Photo]:
    """Keeper and members; first the keeper, then what may go in bulk."""
    order = list(Relation)
    members = sorted(group.members, key=lambda member: order.index(member.match.relation))
    return [group.keeper, *(member.photo for member in members)]


def keeper_of(group: DuplicateGroup, judgement: Judgement) -> Photo:
    """The photo that stays."""
    chosen = [photo for photo in photos_of(group) if photo.id == judgement.keep]
    return chosen[0] if chosen else group.keeper


def state_of(group: DuplicateGroup, judgement: Judgement) -> State:
    """How far the group is decided: later if anything is put off, decided if something was said about every photo."""
    keeper = keeper_of(group, judgement)
    marks = [judgement.marks.get(photo.id) for photo in photos_of(group) if photo.id != keeper.id]
    if Mark.LATER in marks:
        return State.LATER
    return State.DECIDED if all(marks) else State.OPEN


def digests_of(group: DuplicateGroup) -> list[bytes]:
    """The contents of a group, each once."""
    return list(dict.fromkeys(photo.digest for photo in photos_of(group)))


# ---- from what was said to decisions -------------------------------------------------------------------------------


def check_judgement(group: DuplicateGroup, judgement: Judgement, damage: Mapping[bytes, str]) -> None:
    """Refuse what makes no sense, and whatever would leave the group without a sound file.

    Parameters
    ----------
    damage
        By content: what a full decode found beyond `PictureInfo.damage`.

    Raises
    ------
    UsageError
        With what is wrong.
    """
    photos = {photo.id: photo for photo in photos_of(group)}
    if judgement.keep is not None and judgement.keep not in photos:
        raise UsageError("the photo to keep is not in this group")
    if unknown := set(judgement.marks) - set(photos):
        raise UsageError(f"{len(unknown)} of the photos are not in this group")
    keeper = keeper_of(group, judgement)
    if keeper.id in judgement.marks:
        raise UsageError("the photo to keep cannot go as well; choose another one to keep first")
    by_content: dict[bytes, set[Mark]] = {}
    for number, mark in judgement.marks.items():
        by_content.setdefault(photos[number].digest, set()).add(mark)
    if any(len(said) > 1 for said in by_content.values()):
        raise UsageError("files with the same bytes share one decision; say the same of all of them")
    if Mark.GOES in judgement.marks.values():
        found = keeper.info.damage or damage.get(keeper.digest, "")
        if found:
            name = os.path.basename(keeper.file.path)
            raise UsageError(f"{name} is damaged ({found}), so nothing may go for it; keep another one")
    parted = {photos[number].digest for number, mark in judgement.marks.items() if mark is Mark.APART}
    if parted and len(digests_of(group)) > MOST_PARTED:
        raise UsageError(f"more than {MOST_PARTED} photos cannot be parted at a time; exclude their folder")


def with_same_bytes(group: DuplicateGroup, judgement: Judgement) -> Judgement:
    """The same, said of all files with the same bytes, whichever of them it was said of."""
    photos = {photo.id: photo for photo in photos_of(group)}
    keeper = keeper_of(group, judgement)
    said: dict[bytes, Mark] = {}
    for number, mark in judgement.marks.items():
        if number in photos:
            said[photos[number].digest] = mark
    marks = {
        photo.id: said[photo.digest]
        for photo in photos.values()
        if photo.id != keeper.id and photo.digest in said
    }
    return Judgement(judgement.keep, marks)


def to_decisions(group: DuplicateGroup, judgement: Judgement, decided: str) -> list[Decision]:
    """The decisions that stand for it, each pair of contents once."""
    photos = {photo.id: photo for photo in photos_of(group)}
    keeper = keeper_of(group, judgement)
    found: dict[tuple[bytes, bytes], Decision] = {}

    def say(verdict: Verdict, left: bytes, right: bytes) -> None:
        low, high = sorted((left, right))
        if verdict.is_mutual:
            left, right = low, high
        found[low, high] = Decision(verdict, left, right, decided)

    chosen = judgement.keep is not None
    for number, mark in judgement.marks.items():
        digest = photos[number].digest
        if mark is Mark.GOES and digest == keeper.digest:
            # Of one content there is nothing to compare: which of the files stays is all there is to say.
            chosen = True
        else:
            say(_VERDICTS[mark], keeper.digest, digest)
    contents = digests_of(group)
    for number, mark in judgement.marks.items():
        if mark is Mark.APART:
            # From all of the group: else it would come back beside another one of them.
            for other in contents:
                if other != photos[number].digest:
                    say(Verdict.NOT_DUPLICATES, photos[number].digest, other)
    decisions = list(found.values())
    if chosen:
        decisions.insert(0, Decision(Verdict.KEEP, keeper.digest, b"", decided, keeper.file.path))
    return decisions


def from_decisions(group: DuplicateGroup, decisions: Iterable[Decision]) -> Judgement:
    """What was said about a group, as far as decisions about its contents tell."""
    kept: dict[bytes, str] = {}
    pairs: dict[frozenset[bytes], Decision] = {}
    for decision in decisions:
        if decision.verdict is Verdict.KEEP:
            kept[decision.left] = decision.place
        else:
            pairs[frozenset((decision.left, decision.right))] = decision
    photos = photos_of(group)
    chosen = [photo for photo in photos if photo.digest in kept]
    # At the very place if it is still there; else the same content, wherever it lies now.
    chosen.sort(key=lambda photo: kept[photo.digest] != photo.file.path)
    keeper = chosen[0] if chosen else group.keeper
    marks: dict[int, Mark] = {}
    for photo in photos:
        if photo.id == keeper.id:
            continue
        said = pairs.get(frozenset((keeper.digest, photo.digest)))
        if said is not None and (said.verdict is not Verdict.REMOVE or said.left == keeper.digest):
            marks[photo.id] = _MARKS[said.verdict]
        elif said is None and chosen and photo.digest == keeper.digest:
            marks[photo.id] = Mark.GOES
    return Judgement(keeper.id if chosen else None, marks)


# ---- what it was said about ----------------------------------------------------------------------------------------


def group_mark(group: DuplicateGroup) -> str:
    """Sixteen hex digits over everything that a person sees of a group: files, sizes, times, relations."""
    digest = hashlib.sha256(group.id.encode())
    for photo in (group.keeper, *(member.photo for member in group.members)):
        file = photo.file
        digest.update(b"\0%b\0%d %d" % (file.path_bytes, file.size_bytes, file.mtime_ns))
        digest.update(photo.digest)
    for member in group.members:
        digest.update(member.match.relation.encode())
    return digest.hexdigest()[:16]


def version_of(decisions: Iterable[Decision]) -> str:
    """Sixteen hex digits over what was decided, without regard to when: the version that a change builds upon."""
    rows = sorted(
        b"%b\0%b\0%b\0%b" % (d.verdict.encode(), d.left, d.right, os.fsencode(d.place)) for d in decisions
    )
    return hashlib.sha256(b"\0".join(rows)).hexdigest()[:16]


def state_of_contents(
    keeper: bytes,
    copies: Mapping[bytes, int],
    kept: Mapping[bytes, str],
    pairs: Mapping[frozenset[bytes], Decision],
) -> State:
    """As `state_of`, from digests alone: for a hundred thousand groups at a time.

    Parameters
    ----------
    keeper
        The content that the rules keep.
    copies
        Every content of the group, with the number of its files.
    kept
        Contents that were chosen, with the place.
    pairs
        All other decisions.
    """
    chosen = next((digest for digest in copies if digest in kept), None)
    head = keeper if chosen is None else chosen
    is_open = False
    for digest, count in copies.items():
        if digest == head and count < 2:
            continue
        said = pairs.get(frozenset((head, digest)))
        if said is None:
            is_open |= digest != head or chosen is None
        elif said.verdict is Verdict.LATER:
            return State.LATER
        elif said.verdict is Verdict.REMOVE and said.left != head:
            is_open = True
    return State.OPEN if is_open else State.DECIDED
