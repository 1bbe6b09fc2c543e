"""The judge of invariants I1 to I9 and of exact undo, who knows nothing of the program that acted.

Promises: looks at names, bytes, inodes, modes, owners, times, extended attributes and link sets before and after, and
says in a sentence each what is not as it may be; no sentence means that nothing was lost. Imports nothing of `dedup`,
trusts no word of a plan beyond "this name was to go, that one was to stay", and opens nothing for writing.

    I1  every distinct content of the roots is still in roots or quarantine, byte for byte
    I2  nothing outside the roots changed
    I3  a name that went missing was planned, and its bytes are in quarantine
    I4  a name that still exists holds its old bytes, or was planned
    I5  no new name appeared
    I6  planned links share one inode, no others came to, and sets that shared one still do
    I7  files not acted on keep inode, mode, owner, mtime and extended attributes
    I8  every keeper is still there under its name with its bytes
    I9  no folder was removed
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

OWN_FOLDER = b".dedup"
"""What the program may keep in a root: lock, probe and quarantine."""

Kind = Literal["file", "folder", "symlink", "other"]


@dataclass(frozen=True, slots=True)
class Thing:
    """One name and all that can be told of it."""

    kind: Kind
    device: int
    inode: int
    links: int
    size: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    xattrs: tuple[tuple[str, bytes], ...]
    content: bytes
    """sha256 of a file's bytes, the target of a symlink, nothing otherwise."""

    @property
    def identity(self) -> tuple[int, int]:
        return self.device, self.inode

    @property
    def manner(self) -> tuple[object, ...]:
        """What must not change on a file that only changes its name."""
        return self.kind, self.mode, self.uid, self.gid, self.mtime_ns, self.xattrs


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything there is at one moment."""

    roots: tuple[bytes, ...]
    names: Mapping[bytes, Thing]
    """What lies in the roots, by absolute path; the program's own folders left out."""
    quarantine: Mapping[bytes, Thing]
    debris: tuple[bytes, ...]
    """Files in the program's own folders that are neither lock nor quarantine."""
    outside: Mapping[bytes, Thing]

    @property
    def files(self) -> dict[bytes, Thing]:
        return {path: thing for path, thing in self.names.items() if thing.kind == "file"}

    @property
    def contents(self) -> set[bytes]:
        """Every distinct content in roots and quarantine."""
        return {
            thing.content
            for part in (self.names, self.quarantine)
            for thing in part.values()
            if thing.kind == "file"
        }


@dataclass(frozen=True, slots=True)
class Planned:
    """What a plan says about one file, in absolute paths."""

    dup: bytes
    keep: bytes
    act: Literal["quarantine", "hardlink", "reflink"] = "quarantine"
    along: tuple[bytes, ...] = ()
    """Partners that go with it: sidecars, the other half of RAW+JPEG."""
    relation: str = "same-bytes"

    @property
    def same_bytes(self) -> bool:
        return self.relation == "same-bytes"


@dataclass(slots=True)
class Meanwhile:
    """What somebody else did to the library while the program was at work, so that it is not laid to its charge."""

    touched: set[bytes] = field(default_factory=set)
    """Names that were rewritten, replaced, made or taken away by somebody else."""
    added: set[bytes] = field(default_factory=set)
    """Contents that came, and that must be found again afterwards."""
    gone: set[bytes] = field(default_factory=set)
    """Contents whose last copy somebody else overwrote."""

    def excuses(self, path: bytes) -> bool:
        return any(path == name or path.startswith(name + b"/") for name in self.touched)


NOBODY = Meanwhile()


# --- looking ----------------------------------------------------------------------------------------------------------


def look(path: bytes) -> Thing:
    """One name, not followed."""
    found = os.lstat(path)
    kind: Kind = "other"
    content = b""
    if stat.S_ISREG(found.st_mode):
        kind = "file"
        with open(path, "rb") as stream:
            content = hashlib.sha256(stream.read()).digest()
    elif stat.S_ISDIR(found.st_mode):
        kind = "folder"
    elif stat.S_ISLNK(found.st_mode):
        kind, content = "symlink", os.readlink(path)
    return Thing(
        kind,
        found.st_dev,
        found.st_ino,
        found.st_nlink,
        0 if kind == "folder" else found.st_size,
        found.st_mode,
        found.st_uid,
        found.st_gid,
        found.st_mtime_ns,
        xattrs_of(path),
        content,
    )


def xattrs_of(path: bytes) -> tuple[tuple[str, bytes], ...]:
    try:
        names = sorted(os.listxattr(path, follow_symlinks=False))
        return tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in names)
    except OSError:
        return ()


def walk(folder: bytes) -> Iterator[bytes]:
    """Every name below a folder, in order, without following a symlink."""
    with os.scandir(folder) as entries:
        # FUSE lets a file that is open live on under such a name when it is deleted, for as long as it is open.
        found = sorted(
            (entry for entry in entries if not entry.name.startswith(b".fuse_hidden")),
            key=lambda entry: entry.name,
        )
    for entry in found:
        yield entry.path
        if entry.is_dir(follow_symlinks=False):
            yield from walk(entry.path)


def take_snapshot(roots: Iterable[bytes], outside: Iterable[bytes] = ()) -> Snapshot:
    """Everything below `roots`, and everything below `outside`, which nobody may change."""
    roots = tuple(roots)
    names: dict[bytes, Thing] = {}
    quarantine: dict[bytes, Thing] = {}
    debris: list[bytes] = []
    own = {os.path.join(root, OWN_FOLDER) for root in roots}
    for root in roots:
        names[root] = look(root)
        for path in walk(root):
            inside = next((folder for folder in own if path == folder or path.startswith(folder + b"/")), b"")
            if not inside:
                names[path] = look(path)
            elif path.startswith(inside + b"/quarantine/"):
                thing = look(path)
                if thing.kind != "folder":
                    quarantine[path] = thing
            elif path not in (inside, inside + b"/lock", inside + b"/quarantine"):
                debris.append(path)
    beyond = {path: look(path) for folder in outside for path in (folder, *walk(folder))}
    return Snapshot(roots, names, quarantine, tuple(debris), beyond)


# --- judging ----------------------------------------------------------------------------------------------------------


def judge_act(
    before: Snapshot,
    after: Snapshot,
    plan: Iterable[Planned],
    meanwhile: Meanwhile = NOBODY,
    *,
    unfinished: bool = False,
) -> list[str]:
    """What is wrong after an apply, whole or stopped anywhere; no sentence if nothing is.

    Parameters
    ----------
    plan
        What was to be done. None of it need have been done.
    meanwhile
        What others did in between.
    unfinished
        Whether the program died and `recover` has not run yet: its own temporary names (`.dedup-...`) may be there and
        a unit may be half way; everything else holds at every moment.
    """
    plan = tuple(plan)
    return [
        *_contents(before, after, meanwhile),
        *_outside(before, after, meanwhile),
        *_missing(before, after, plan, meanwhile),
        *_other_bytes(before, after, meanwhile),
        *_new_names(before, after, meanwhile, unfinished),
        *_link_sets(before, after, plan, meanwhile, unfinished),
        *_bystanders(before, after, plan, meanwhile),
        *_keepers(before, after, plan, meanwhile),
        *_folders(before, after, meanwhile),
        *([] if unfinished else _units(before, after, plan, meanwhile)),
    ]


def judge_undone(before: Snapshot, after: Snapshot, meanwhile: Meanwhile = NOBODY) -> list[str]:
    """What is not exactly as it was: names, bytes, inodes, modes, owners, times, attributes, link sets.

    The modification times of folders are not judged: a name that went and came back is a change of its folder.
    """
    faults = [*_contents(before, after, meanwhile), *_outside(before, after, meanwhile)]
    for path in sorted(set(before.names) | set(after.names)):
        if meanwhile.excuses(path):
            continue
        old, new = before.names.get(path), after.names.get(path)
        if old is None or new is None:
            faults.append(f"undo: {show(path)} {'is new' if old is None else 'did not come back'}")
            continue
        faults += [f"undo: {show(path)}: {words}" for words in _differences(old, new)]
        if old.kind == "file" and old.links != new.links:
            faults.append(f"undo: {show(path)} had {old.links} links and has {new.links}")
    excused = meanwhile.added | {after.names[path].content for path in after.files if meanwhile.excuses(path)}
    faults += [
        f"undo: {show(path)} is left in quarantine"
        for path, thing in after.quarantine.items()
        if path not in before.quarantine and thing.content not in excused and not meanwhile.touched
    ]
    return faults


def judge_purge(
    before: Snapshot, after: Snapshot, plan: Iterable[Planned], meanwhile: Meanwhile = NOBODY
) -> list[str]:
    """What is wrong after a purge: `before` is the moment after the apply, `plan` what that apply was to do."""
    plan = tuple(plan)
    faults = [*_outside(before, after, meanwhile), *_new_names(before, after, meanwhile, False)]
    for path, old in before.names.items():
        new = after.names.get(path)
        if meanwhile.excuses(path):
            continue
        if new is None:
            faults.append(f"I3: {show(path)} went missing in a purge")
        else:
            faults += [f"I7: {show(path)}: {words}" for words in _differences(old, new)]
    faults += [
        f"I5: {show(path)} came into quarantine" for path in after.quarantine if path not in before.quarantine
    ]
    in_library = {thing.content for thing in after.files.values()}
    may_go = {
        before.names[one.keep].content if one.keep in before.names else b"" for one in plan if one.same_bytes
    }
    others = [one for one in plan if not one.same_bytes]
    for path, old in before.quarantine.items():
        still = after.quarantine.get(path)
        if still is not None:
            if still != old:
                faults.append(f"I1: {show(path)} changed in quarantine")
        elif old.content not in in_library:
            if old.content in may_go or not others:
                faults.append(f"I1: {show(path)} was destroyed, and its bytes are nowhere else")
            elif not any(one.keep in after.names for one in others):
                faults.append(f"I8: {show(path)} was destroyed without a keeper")
    return faults


def names_absent(before: Snapshot, after: Snapshot, plan: Iterable[Planned]) -> list[str]:
    """Names to be linked that are not there: where the file system can exchange, this holds at every moment."""
    return [
        f"absent: {show(one.dup)}"
        for one in plan
        if one.act != "quarantine" and one.dup in before.names and one.dup not in after.names
    ]


def not_done(before: Snapshot, after: Snapshot, plan: Iterable[Planned]) -> list[Planned]:
    """The operations that were not carried out, whatever the program says."""
    left = []
    for one in plan:
        now = after.names.get(one.dup)
        if one.act == "quarantine":
            done = now is None
        elif one.act == "hardlink":
            done = (
                now is not None and one.keep in after.names and now.identity == after.names[one.keep].identity
            )
        else:
            done = now is not None
        if not done:
            left.append(one)
    return left


def show(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")


# --- one invariant each -----------------------------------------------------------------------------------------------


def _contents(before: Snapshot, after: Snapshot, meanwhile: Meanwhile) -> Iterator[str]:
    here = after.contents
    for content in sorted((before.contents | meanwhile.added) - meanwhile.gone - here):
        where = [show(path) for path, thing in before.files.items() if thing.content == content]
        yield f"I1: the bytes of {', '.join(where) or 'what was written meanwhile'} are nowhere"


def _outside(before: Snapshot, after: Snapshot, meanwhile: Meanwhile) -> Iterator[str]:
    for path in sorted(set(before.outside) | set(after.outside)):
        if before.outside.get(path) != after.outside.get(path) and not meanwhile.excuses(path):
            yield f"I2: {show(path)}, which lies outside, was changed"


def _planned_names(plan: Iterable[Planned]) -> dict[bytes, Planned]:
    return {path: one for one in plan for path in (one.dup, *one.along)}


def _missing(
    before: Snapshot, after: Snapshot, plan: tuple[Planned, ...], meanwhile: Meanwhile
) -> Iterator[str]:
    planned = _planned_names(plan)
    laid_away = {thing.identity: thing for thing in after.quarantine.values()}
    for path, old in before.names.items():
        new = after.names.get(path)
        acted_on = path in planned and (new is None or new.identity != old.identity)
        if meanwhile.excuses(path) or old.kind == "folder" or not (new is None or acted_on):
            continue
        if not acted_on:
            yield f"I3: {show(path)} is missing and was not planned"
        elif new is not None and planned[path].act == "quarantine":
            yield f"I4: {show(path)} is another file, though it was only to be moved"
        elif (away := laid_away.get(old.identity)) is None or away.content != old.content:
            # What others replaced meanwhile is judged by its bytes alone; the file itself they may have removed.
            if not any(one.dup == path and meanwhile.excuses(one.keep) for one in plan):
                yield f"I3: {show(path)} is not in quarantine with its bytes"
        elif away.manner != old.manner:
            yield f"I3: {show(path)} lost mode, owner, time or attributes on the way to quarantine"


def _other_bytes(before: Snapshot, after: Snapshot, meanwhile: Meanwhile) -> Iterator[str]:
    for path, old in before.names.items():
        new = after.names.get(path)
        if new is None or meanwhile.excuses(path):
            continue
        if new.kind != old.kind:
            yield f"I4: {show(path)} was a {old.kind} and is a {new.kind}"
        elif new.content != old.content:
            yield f"I4: {show(path)} holds other bytes"


def _new_names(before: Snapshot, after: Snapshot, meanwhile: Meanwhile, unfinished: bool) -> Iterator[str]:
    for path in after.names:
        if path in before.names or meanwhile.excuses(path):
            continue
        if not (unfinished and os.path.basename(path).startswith(b".dedup")):
            yield f"I5: {show(path)} is new"


def _link_sets(
    before: Snapshot,
    after: Snapshot,
    plan: tuple[Planned, ...],
    meanwhile: Meanwhile,
    unfinished: bool,
) -> Iterator[str]:
    old_sets, new_sets = _sets_of(before), _sets_of(after)
    leader: dict[bytes, bytes] = {path: min(names) for names in old_sets.values() for path in names}
    # Who may share an inode afterwards: who did before, and who was planned to.
    for one in plan:
        if one.act == "hardlink" and one.dup in leader and one.keep in leader:
            leader[one.dup] = leader[one.keep]
    old_leader = {path: min(names) for names in old_sets.values() for path in names}
    for names in new_sets.values():
        known = [path for path in sorted(names) if path in leader and not meanwhile.excuses(path)]
        if len({leader[path] for path in known}) > 1 and len({old_leader[path] for path in known}) > 1:
            yield f"I6: {', '.join(map(show, known))} share one inode and were not to"
    acted_on = _planned_names(plan)
    for names in old_sets.values():
        left = [path for path in names if path in after.files and path not in acted_on]
        left = [path for path in left if not meanwhile.excuses(path)]
        if len({after.names[path].identity for path in left}) > 1:
            yield f"I6: {', '.join(map(show, sorted(left)))} shared one inode and do not any more"
    if unfinished:
        return
    for one in plan:
        if one.act == "hardlink" and not {one.dup, one.keep} & meanwhile.touched:
            old, new, keeper = before.names.get(one.dup), after.names.get(one.dup), after.names.get(one.keep)
            if old and new and keeper and new.identity not in (old.identity, keeper.identity):
                yield f"I6: {show(one.dup)} is neither the old file nor a link to {show(one.keep)}"


def _sets_of(moment: Snapshot) -> dict[tuple[int, int], list[bytes]]:
    sets: dict[tuple[int, int], list[bytes]] = defaultdict(list)
    for path, thing in moment.files.items():
        sets[thing.identity].append(path)
    return sets


def _differences(old: Thing, new: Thing) -> list[str]:
    """Everything but the number of links and, for a folder, its time."""
    if old.kind != new.kind:
        return [f"was a {old.kind} and is a {new.kind}"]
    pairs = {
        "inode": (old.identity, new.identity),
        "mode": (old.mode, new.mode),
        "owner": ((old.uid, old.gid), (new.uid, new.gid)),
        "extended attributes": (old.xattrs, new.xattrs),
        "bytes": ((old.size, old.content), (new.size, new.content)),
    }
    if old.kind != "folder":
        pairs["modification time"] = (old.mtime_ns, new.mtime_ns)
    return [f"another {what}" for what, (was, now) in pairs.items() if was != now]


def _bystanders(
    before: Snapshot, after: Snapshot, plan: tuple[Planned, ...], meanwhile: Meanwhile
) -> Iterator[str]:
    planned = _planned_names(plan)
    for path, old in before.names.items():
        new = after.names.get(path)
        if new is None or meanwhile.excuses(path):
            continue
        if path in planned and new.identity != old.identity and planned[path].act == "hardlink":
            continue
        allowed = (
            {"another modification time"} if path in planned and planned[path].act == "reflink" else set()
        )
        yield from (
            f"I7: {show(path)}: {words}"
            for words in _differences(old, new)
            if words not in allowed and words != "another bytes"
        )


def _keepers(
    before: Snapshot, after: Snapshot, plan: tuple[Planned, ...], meanwhile: Meanwhile
) -> Iterator[str]:
    for path in sorted({one.keep for one in plan}):
        if path not in before.names or meanwhile.excuses(path):
            continue
        new = after.names.get(path)
        if new is None or new.content != before.names[path].content:
            yield f"I8: the keeper {show(path)} is not there with its bytes"


def _folders(before: Snapshot, after: Snapshot, meanwhile: Meanwhile) -> Iterator[str]:
    for path, old in before.names.items():
        if old.kind == "folder" and path not in after.names and not meanwhile.excuses(path):
            yield f"I9: the folder {show(path)} was removed"


def _units(
    before: Snapshot, after: Snapshot, plan: tuple[Planned, ...], meanwhile: Meanwhile
) -> Iterator[str]:
    for one in plan:
        unit = [
            path for path in (one.dup, *one.along) if path in before.names and not meanwhile.excuses(path)
        ]
        gone = [path for path in unit if path not in after.names]
        if gone and len(gone) != len(unit):
            stayed = [show(path) for path in unit if path in after.names]
            yield f"I3: {', '.join(map(show, gone))} went without {', '.join(stayed)}"
