"""The records of deciding and acting: decisions, plans and what came of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from dedup.records.finding import Figures, Relation


class Verdict(StrEnum):
    """What a person decided about contents."""

    REMOVE = "remove"
    """The second content may go for the first; allows what is only done on a person's word."""
    KEEP_BOTH = "keep-both"
    NOT_DUPLICATES = "not-duplicates"
    LATER = "later"
    KEEP = "keep"
    """The first content is the one to keep, whatever the rules say; there is no second."""

    @property
    def is_mutual(self) -> bool:
        """Whether it says the same from both sides, so that the contents have no order."""
        return self in (Verdict.KEEP_BOTH, Verdict.NOT_DUPLICATES, Verdict.LATER)

    @property
    def parts(self) -> bool:
        """Whether the two are never again members of one group."""
        return self in (Verdict.KEEP_BOTH, Verdict.NOT_DUPLICATES)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person said about two contents (or one), which holds wherever files with these contents lie."""

    verdict: Verdict
    left: bytes
    """sha256 of the content that is kept; the smaller digest where the verdict is mutual. Two files with the same
    content that are both wanted are decided about with `left` equal to `right`."""
    right: bytes
    """sha256 of the other content; empty for `keep`."""
    decided: str
    """UTC, ISO 8601."""
    place: str = ""
    """For `keep`: the path that the person pointed at, which tells it from other files with the same content."""
    note: str = ""


class Act(StrEnum):
    """What happens to a duplicate."""

    QUARANTINE = "quarantine"
    """Moved out of the way, on the same volume."""
    HARDLINK = "hardlink"
    """Its name becomes a further name of the keeper; same bytes only."""
    REFLINK = "reflink"
    """Both stay files of their own that share their blocks; same bytes only."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of the duplicates a plan is about, and what is to happen to them. Nothing named: all that is safe."""

    only: tuple[Relation, ...] = ()
    groups: tuple[str, ...] = ()
    """Ids of groups, or their beginnings."""
    within: tuple[str, ...] = ()
    """Folders; only what lies in one of them is planned for removal."""
    act: Act = Act.QUARANTINE
    accept_metadata_loss: bool = False

    @property
    def names_something(self) -> bool:
        """Whether it chooses at all."""
        return bool(self.only or self.groups or self.within)


@dataclass(frozen=True, slots=True)
class PlanRoot:
    """A folder below which a plan reaches files, by descriptor."""

    path: bytes
    """Absolute."""
    device: int
    inode: int


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file as it was when the plan was made; whoever acts compares all of it with what is there."""

    root: int
    """Its place in `Plan.roots`, from 0."""
    path: bytes
    """Below the root: not empty, not absolute, no NUL, no empty part, no `.` and no `..`."""
    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    link_count: int
    mode: int
    """`st_mode` whole; always a regular file."""
    uid: int
    gid: int
    xattrs: bytes
    """As `xattrs_digest`: 32 bytes, or empty for a file without extended attributes."""
    digest: bytes
    """sha256 of the whole file, 32 bytes."""


class Cause(StrEnum):
    """Why a plan leaves a duplicate alone."""

    LINKED = "already shares its space"
    KEPT_BOTH = "wanted beside the other"
    LATER = "to be decided later"
    EDITED = "edited"
    ACT = "not the same bytes"
    METADATA = "metadata would be lost"
    UNIT = "belongs with other files"
    PROTECTED = "protected"
    DAMAGED = "damaged"
    CHANGED = "changed since the scan"
    KEEPER_GOES = "its keeper is not safe"
    PLACE = "out of reach"


@dataclass(frozen=True, slots=True)
class Sight:
    """A file as it was found when a plan is made, or why it cannot be planned upon."""

    file: PlannedFile | None
    """None if it cannot be planned upon."""
    protected: bool = False
    notes: tuple[tuple[str, bytes], ...] = ()
    """What a person wrote about it outside its bytes, as words and value: tags and comments of file managers."""
    cause: Cause | None = None
    why: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Companion:
    """A sidecar, RAW partner or Live Photo half that goes where a duplicate goes."""

    file: PlannedFile
    twin: PlannedFile | None
    """The file of the same bytes that stays beside the keeper; None for a sidecar that a person gave up."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One duplicate, the file that is kept for it, what happens, and the evidence."""

    id: int
    """1 to n, in the order in which they are done."""
    group: str
    """Id of the group."""
    act: Act
    relation: Relation
    """Of `dup` to `keep`, measured directly; never `similar`."""
    dup: PlannedFile
    keep: PlannedFile
    companions: tuple[Companion, ...]
    """Go with the duplicate or it stays; always empty for links, which leave every name where it is."""
    sentence: str
    """What the duplicate is, seen from the keeper."""
    why: tuple[str, ...]
    """Why the keeper is the one that is kept; read after "kept because"."""
    losses: tuple[str, ...]
    """What the duplicate has and the keeper lacks; a person accepted it."""
    decided: bool
    """Whether a person decided about this very pair; without it an edited version is never acted on."""
    figures: Figures
    """As measured, the keeper on the left; -1.0 for what was not compared (same bytes)."""
    frees_bytes: int
    """Bytes that come back once it is done and, for quarantine, purged: 0 while another name holds the same inode."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A duplicate that a plan leaves alone, and what would change that."""

    path: str
    keep: str
    group: str
    relation: Relation
    cause: Cause
    why: str
    remedy: str
    """What a person can do about it; may be empty."""
    losses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be done: everything that acting needs, without the catalogue."""

    version: str
    """Of the program that made it."""
    created: str
    """UTC, ISO 8601."""
    roots: tuple[PlanRoot, ...]
    protected: tuple[bytes, ...]
    """Absolute folders in which nothing is ever changed."""
    operations: tuple[Operation, ...]
    left_out: tuple[LeftOut, ...]

    def path_of(self, file: PlannedFile) -> bytes:
        """The absolute path of a file, for words; acting goes by the root's descriptor."""
        return os.path.join(self.roots[file.root].path, file.path)


class Ending(StrEnum):
    """How one operation came out."""

    DONE = "done"
    REFUSED = "refused"
    """Nothing was changed, or all of it was taken back."""
    UNDONE = "undone"
    PURGED = "purged"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one operation."""

    operation: int
    """Its id in the plan or the run."""
    path: str
    keep: str
    ending: Ending
    reason: str = ""
    """Why it was refused, in a clause."""
    remedy: str = ""
    freed_now_bytes: int = 0
    freed_after_purge_bytes: int = 0


UNTOLD = (b"security.", b"trusted.")
"""Extended attributes that are left aside: who reads them, and which label a policy puts there, differs between two
runs over a file that nobody touched."""


def xattrs_digest(attributes: Mapping[bytes, bytes]) -> bytes:
    """sha256 over extended attributes (ACLs are among them), by name, without `UNTOLD`; empty if there are none."""
    told = {name: value for name, value in attributes.items() if not name.startswith(UNTOLD)}
    if not told:
        return b""
    digest = hashlib.sha256()
    for name in sorted(told):
        for part in (name, told[name]):
            digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()
