"""The steps of one operation: look and read, act in one step, look at what came out, look for the keeper.

Promises: what does not hold is taken back before the exception leaves; what cannot be taken back is loud. Does not:
write anything down.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from dedup.apply import syscalls
from dedup.apply.files import AGAIN, Held, Holder, Reader, Refused
from dedup.apply.moves import Stranded, drop_link, exchange_back, give_back, identity_of, put_away
from dedup.apply.places import Places, Spot
from dedup.errors import Unsafe
from dedup.records import Act, Operation, Plan, PlannedFile, Relation

_SHARE_BYTES = 16 << 20
"""What file systems take in one call at most."""

Confirm = Callable[[int, int, Operation], str]
"""Given open descriptors of duplicate and keeper: empty if the relation still holds, else why not."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the caller lends."""

    confirm: Confirm
    progress: Callable[[str, int, int | None], None] = lambda _stage, _done, _total: None
    stopping: Callable[[], bool] = lambda: False
    """Asked between steps: whether to finish what is at hand and stop."""
    find_units: Callable[[Iterable[str]], Mapping[str, tuple[str, ...]]] = lambda _names: {}
    """Given the names in a folder: for each photo, the other files that go where it goes."""


@dataclass(slots=True)
class Checked:
    """The files of one operation, open and verified."""

    op: Operation
    dup: Held
    keep: Held
    others: list[Held]
    """Companions that go."""
    twins: list[Held]
    """Files that stay for them."""

    @property
    def goes(self) -> list[Held]:
        """What changes its place, the duplicate first."""
        return [self.dup, *self.others]

    @property
    def stays(self) -> list[Held]:
        """What must still be there afterwards, the keeper first."""
        return [self.keep, *self.twins]


class Steps:
    """Checks and acts, among the places and with the memory of one run."""

    def __init__(self, plan: Plan, places: Places, holder: Holder, hooks: Hooks) -> None:
        self.plan = plan
        self.places = places
        self.holder = holder
        self.hooks = hooks
        self._units: dict[tuple[int, bytes], Mapping[str, tuple[str, ...]]] = {}
        self.reader = Reader(hooks.stopping)
        self.patient = Reader(lambda: False)
        """For after the act: from then on a wish to stop has to wait."""

    # --- look and read --------------------------------------------------------------------------------------------

    def look_and_read(self, op: Operation, held: ExitStack) -> Checked:
        """Everything that is checked before the intention is written down."""
        self._check_places(op)
        keep_path = os.fsdecode(self.plan.path_of(op.keep))
        keep = self.holder.hold(op.keep, f"the photo that is kept, {keep_path},", held)
        dup = self.holder.hold(op.dup, "", held)
        others, twins = [], []
        for companion in op.companions:
            path = os.fsdecode(self.plan.path_of(companion.file))
            others.append(self.holder.hold(companion.file, f"{path}, which goes with it,", held))
            if companion.twin is not None:
                path = os.fsdecode(self.plan.path_of(companion.twin))
                twins.append(self.holder.hold(companion.twin, f"{path}, which is kept,", held))
        checked = Checked(op, dup, keep, others, twins)
        going = [one.identity for one in checked.goes]
        if len(set(going)) < len(going) or set(going) & {one.identity for one in checked.stays}:
            raise Refused("it is the same file as the one that is kept, under another name", AGAIN)
        self._check_protection(checked)
        self._read(checked)
        for one in (*checked.goes, *checked.stays):
            self.holder.check(one)
        if op.act is Act.QUARANTINE:
            self._check_partners(checked)
        if op.act is Act.HARDLINK:
            _check_metadata(op, dup.planned, keep.planned)
        for one in (*checked.goes, *checked.stays):
            if one.lease is not None and not one.lease.release():
                raise one.refuse(
                    "was opened for writing by another program", "close that program, then try again"
                )
        return checked

    def _check_places(self, op: Operation) -> None:
        files = [op.dup, op.keep, *(one.file for one in op.companions)]
        files += [one.twin for one in op.companions if one.twin is not None]
        for file in files:
            if file.root in self.places.trouble:
                raise self.places.trouble[file.root]
            if file.root != op.dup.root and frozenset((file.root, op.dup.root)) in self.places.aliases:
                one, other = (os.fsdecode(self.plan.roots[n].path) for n in (op.dup.root, file.root))
                raise Refused(
                    f"{one} and {other} are one folder under two names", "name only one of them to scan"
                )
        if op.relation is Relation.SIMILAR or (op.relation is Relation.EDITED and not op.decided):
            raise Refused(f"{op.relation} is nothing to act on without a person's decision", "")
        if op.act is not Act.QUARANTINE and op.relation is not Relation.SAME_BYTES:
            raise Refused("only files with the same bytes are linked", "use --action quarantine")

    def _check_protection(self, checked: Checked) -> None:
        keep = checked.keep
        for one in checked.goes:
            if self.places.is_protected(one.spot.folder, one.spot.name, one.identity):
                raise one.refuse("lies in a protected folder", "")
        if checked.op.act is Act.HARDLINK and self.places.is_protected(
            keep.spot.folder, keep.spot.name, keep.identity
        ):
            raise Refused(
                "the photo that is kept lies in a protected folder, and a change of the link would change it",
                "use --action quarantine or reflink",
            )

    def _check_partners(self, checked: Checked) -> None:
        """No sidecar or partner has come since the plan was made: a unit goes together or not at all."""
        dup, keep = checked.dup.spot, checked.keep.spot
        stay = self._unit_of(keep) if keep.folder is dup.folder else set()
        known = {one.spot.name for one in checked.goes if one.spot.folder is dup.folder}
        if left := sorted(self._unit_of(dup) - stay - known):
            raise Refused(
                f"{os.fsdecode(left[0])} belongs with it, and was not there when the plan was made", AGAIN
            )

    def _unit_of(self, spot: Spot) -> set[bytes]:
        """Names beside it that go where it goes, and what goes with those. Each folder is listed once in a run."""
        place = spot.folder.root.number, spot.folder.path
        if place not in self._units:
            with os.scandir(spot.folder.fd) as entries:
                names = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
            self._units[place] = self.hooks.find_units(names)
        units, waiting = self._units[place], [os.fsdecode(spot.name)]
        found = set(waiting)
        while waiting:
            for other in units.get(waiting.pop(), ()):
                if other not in found:
                    found.add(other)
                    waiting.append(other)
        return {os.fsencode(name) for name in found} - {spot.name}

    def _read(self, checked: Checked) -> None:
        """Read all of it: bytes against bytes, or digests and then the pictures."""
        op, dup, keep = checked.op, checked.dup, checked.keep
        if op.relation is Relation.SAME_BYTES:
            self.reader.check_same(dup, keep)
        else:
            self.reader.check_planned(keep)
            self.reader.check_planned(dup)
            why = self.hooks.confirm(dup.fd, keep.fd, op)
            if why:
                raise Refused(why, AGAIN)
        for one in (*checked.others, *checked.twins):
            self.reader.check_planned(one)

    # --- act ------------------------------------------------------------------------------------------------------

    def move_away(self, checked: Checked, places: Sequence[Spot]) -> None:
        """Quarantine: all files of the operation, or none."""
        moved: list[tuple[Spot, Spot]] = []
        try:
            for one, place in zip(checked.goes, places, strict=True):
                self._look_once_more(one, place)
                put_away(one.spot, place)
                moved.append((place, one.spot))
                same = checked.op.relation is Relation.SAME_BYTES and one is checked.dup
                self._look_at_what_came_out(one, place, checked.keep if same else None)
            self._look_for_keepers(checked)
        except (Refused, OSError):
            _all_back(moved)
            raise

    def link(self, checked: Checked, place: Spot) -> None:
        """Hard link: the name comes to mean the keeper, and the duplicate comes to lie in quarantine, in one step."""
        dup, keep = checked.dup, checked.keep
        root = dup.spot.folder.root
        if not root.links:
            raise Refused("this file system has no hard links", "use --action quarantine")
        if not root.exchanges:
            self._link_after_moving(checked, place)
            return
        self._look_once_more(dup, place)
        syscalls.link_open_file(keep.fd, keep.spot.at, place.at)
        try:
            made = identity_of(place.look())
        except OSError:
            _taken_back(place, dup.spot, keep.identity)
            raise
        if made != keep.identity:
            drop_link(place, made)
            raise keep.refuse("was replaced while this ran")
        try:
            self._look_once_more(dup, None)
            syscalls.exchange(place.at, dup.spot.at)
            self._look_at_what_came_out(dup, place, keep)
            if identity_of(dup.spot.look()) != keep.identity:
                raise dup.refuse("was replaced while this ran")
            self._look_for_keepers(checked)
        except (Refused, OSError):
            _taken_back(place, dup.spot, keep.identity)
            raise

    def _link_after_moving(self, checked: Checked, place: Spot) -> None:
        """Hard link without an exchange: the name is absent for a moment, and `recover` knows."""
        dup, keep = checked.dup, checked.keep
        self._look_once_more(dup, place)
        put_away(dup.spot, place)
        try:
            self._look_at_what_came_out(dup, place, keep)
            self._look_for_keepers(checked)
            syscalls.link_open_file(keep.fd, keep.spot.at, dup.spot.at)
            if identity_of(dup.spot.look()) != keep.identity:
                raise dup.refuse("was replaced while this ran")
            self._look_for_keepers(checked)
        except FileExistsError as error:
            raise Stranded from error
        except (Refused, OSError):
            _moved_back(place, dup.spot, keep.spot, keep.identity)
            raise

    def share(self, checked: Checked) -> None:
        """Reflink: the kernel compares and shares under its own lock; no name changes and nothing moves."""
        dup, keep, size = checked.dup, checked.keep, checked.dup.planned.size_bytes
        at = 0
        while at < size:
            try:
                shared, status = syscalls.share_range(keep.fd, dup.fd, at, min(_SHARE_BYTES, size - at))
            except OSError as error:
                if error.errno in (*syscalls.NOT_THERE, errno.EXDEV):
                    raise Refused(
                        "this file system cannot share blocks between files",
                        "use --action quarantine, or hardlink",
                    ) from error
                raise
            if status == syscalls.RANGE_DIFFERS or shared <= 0:
                raise dup.refuse("does not hold the same bytes any more")
            at += shared
        self.patient.check_planned(dup)

    # --- looking --------------------------------------------------------------------------------------------------

    def _look_once_more(self, one: Held, place: Spot | None) -> None:
        """Right before a name changes: it is the file that was read, where it was, and its new place is free."""
        self.holder.check(one)
        if identity_of(one.spot.look()) != one.identity or not one.spot.folder.is_in_place():
            raise one.refuse("was replaced while this ran")
        if place is not None and place.look() is not None:
            raise Refused(f"there is a file at {os.fsdecode(place.path)} already", "look there first")

    def _look_at_what_came_out(self, one: Held, place: Spot, keep: Held | None = None) -> None:
        """What lies in quarantine is the file that was read, and nobody is writing to it.

        With a keeper of the same bytes it is held against that one, byte by byte, which says more than its digest
        would: the keeper has these bytes now, whatever was done to it since it was read.
        """
        found, planned = place.look(), one.planned
        if found is None or identity_of(found) != one.identity:
            raise one.refuse("was replaced while this ran")
        if (found.st_size, found.st_mtime_ns) != (planned.size_bytes, planned.mtime_ns):
            raise one.refuse("changed while this ran")
        lease = syscalls.Lease(one.fd)
        if lease.writer:
            raise one.refuse("is being written to by another program", "close that program, then try again")
        if keep is not None:
            self.patient.check_same(one, keep, hashed=False)
        else:
            self.patient.check_planned(one)
        if not lease.release():
            raise one.refuse("changed while this ran")

    def _look_for_keepers(self, checked: Checked) -> None:
        """What stays is still there by name, the very files that were read.

        An alias of the duplicate would be gone by now, or bear the time of our move.
        """
        for one in checked.stays:
            file, now = one.planned, os.fstat(one.fd)
            try:
                fd = syscalls.open_beneath(self.places.roots[file.root].fd, file.path, syscalls.FILE_FLAGS)
            except OSError as error:
                raise one.refuse(
                    "is gone once the duplicate is moved: they may be one file under two paths", AGAIN
                ) from error
            try:
                found = os.fstat(fd)
            finally:
                os.close(fd)
            linked = checked.op.act is Act.HARDLINK
            if (
                identity_of(found) != one.identity
                or (found.st_size, found.st_mtime_ns) != (file.size_bytes, file.mtime_ns)
                or found.st_ctime_ns != (now if linked else one.seen).st_ctime_ns
            ):
                raise one.refuse("changed while this ran")

    def taking_back(self, checked: Checked, places: Sequence[Spot | None]) -> Callable[[], None]:
        """What undoes a complete operation, without its open files."""
        pairs = [
            (place, one.spot) for place, one in zip(places, checked.goes, strict=True) if place is not None
        ]
        keep, link, act = checked.keep.spot, checked.keep.identity, checked.op.act

        def take_back() -> None:
            if act is Act.HARDLINK:
                if pairs[0][1].folder.root.exchanges:
                    _taken_back(*pairs[0], link)
                else:
                    _moved_back(*pairs[0], keep, link)
            else:
                _all_back(pairs)

        return take_back


def _all_back(moved: Sequence[tuple[Spot, Spot]]) -> None:
    stranded = False
    for place, name in reversed(moved):
        try:
            give_back(place, name)
        except Stranded:
            stranded = True
        except OSError as error:
            raise _cannot_take_back(place, name, error) from error
    if stranded:
        raise Stranded


def _taken_back(place: Spot, name: Spot, keep: tuple[int, int]) -> None:
    try:
        exchange_back(place, name, keep)
    except OSError as error:
        raise _cannot_take_back(place, name, error) from error


def _moved_back(place: Spot, name: Spot, keep: Spot, link: tuple[int, int]) -> None:
    """Take a link without an exchange back: our link first, if it is there and not the last name of the keeper."""
    try:
        if identity_of(name.look()) == link and not drop_link(name, link, other=keep):
            raise Unsafe(
                f"{os.fsdecode(name.path)}: the last name of a photo whose other names went while this ran; "
                f"what was here before is {os.fsdecode(place.path)}"
            )
        give_back(place, name)
    except OSError as error:
        raise _cannot_take_back(place, name, error) from error


def _cannot_take_back(place: Spot, name: Spot, error: OSError) -> Unsafe:
    return Unsafe(
        f"{os.fsdecode(name.path)} could not be put back ({error.strerror}); look at this name and at "
        f"{os.fsdecode(place.path)}, then run `dedup recover`"
    )


def _check_metadata(op: Operation, dup: PlannedFile, keep: PlannedFile) -> None:
    """A link takes over the keeper's mode, owner and attributes: only where they are the same, or a person said so."""
    if op.losses:
        return
    for what, one, other in (
        ("permissions", dup.mode, keep.mode),
        ("owner", (dup.uid, dup.gid), (keep.uid, keep.gid)),
        ("attributes", dup.xattrs, keep.xattrs),
    ):
        if one != other:
            raise Refused(
                f"its {what} differ from those of the photo that is kept, and a link would lose them",
                "--accept-metadata-loss, or --action reflink or quarantine",
            )
