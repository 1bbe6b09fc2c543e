"""What was done to the library and what was about to be done: an append-only file that knows first.

Promises: what `append` was given is on the disk when it returns; every line carries a checksum over itself and the line
before, so that a torn last line is known for one that never was (the act has not begun), and damage anywhere else stops
everything; one process at a time.
Does not: touch a photo, or lie inside the catalogue, which may be thrown away while this may not.

One line per `append`: sixteen hex digits of a sha256, a space, and a JSON list of records. A record has a `kind`:

    run                       a run begins: its number, roots, where from
    intent -> done | abort    one operation is about to happen; it is complete on the disk; it is as if it had not been
    undo   -> undone | kept   likewise for taking it back; `kept` when it stays
    purge  -> purged | kept   likewise for destroying what is in quarantine
    end                       a command is over, and so many operations stand without an end
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from dedup.errors import Busy, Unsafe
from dedup.records import Act, Plain, PlannedFile, PlanRoot, Relation

FORMAT: Final = 1
NAME: Final = "journal"
_CHECK = 16
_TAIL_BYTES = 1 << 16
_OPERATION_BYTES = 4096
"""Room for one operation, intention and end; one with two files and long names takes 2,500."""

BEGUN, DONE, ABORTED, UNDOING, UNDONE, PURGING, PURGED = (
    "begun", "done", "aborted", "undoing", "undone", "purging", "purged",
)  # fmt: skip
UNFINISHED = frozenset((BEGUN, UNDOING, PURGING))
_STATES = {
    "intent": BEGUN, "done": DONE, "abort": ABORTED, "undo": UNDOING, "undone": UNDONE, "purge": PURGING,
    "purged": PURGED, "kept": DONE,
}  # fmt: skip


def state_folder() -> str:
    """Where the journal lies: `DEDUP_STATE`, or the user's data folder; whatever catalogue is used."""
    given = os.environ.get("DEDUP_STATE")
    if given:
        return os.path.abspath(os.path.expanduser(given))
    import platformdirs

    return platformdirs.user_data_dir("dedup", appauthor=False)


@dataclass(frozen=True, slots=True)
class Move:
    """One file of an operation and the place it goes to."""

    file: PlannedFile
    """As it was right before."""
    quarantine: bytes
    """Below the same root; empty where nothing moves (reflink), or what had moved is purged."""
    folder_mtime_ns: int
    """Of the folder it lies in, before."""
    folder_after_ns: int = 0
    """Of that folder, right after; 0 until it is done."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One operation as the journal knows it."""

    run: int
    id: int
    act: Act
    relation: Relation
    decided: bool
    keep: PlannedFile
    moves: tuple[Move, ...]
    """The duplicate first, then what goes with it."""
    twins: tuple[PlannedFile | None, ...]
    """For every further move: the file of the same bytes that stays, if there is one."""
    frees_bytes: int
    state: str
    since: float
    """Seconds since 1970 when it came into this state."""
    note: str = ""
    """What a person should know about it; empty when all went as planned."""
    left: tuple[tuple[int, int, int, int], ...] = ()
    """Device, inode, `ctime_ns` and number of links of its files after our act, which changes the last two."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of `apply`."""

    number: int
    started: float
    version: str
    plan: str
    """Digest of the plan."""
    roots: tuple[PlanRoot, ...]
    entries: Mapping[int, Entry]

    def in_state(self, *states: str) -> list[Entry]:
        """Its operations in one of these states, in the order in which they were done."""
        return [entry for entry in self.entries.values() if entry.state in states]


class Journal:
    """The journal, open; `append` only where it was opened for writing."""

    def __init__(self, path: str, fd: int, lines: list[tuple[bytes, int]], write: bool) -> None:
        self.path = path
        self._fd = fd
        self._write = write
        self._check = lines[-1][0][:_CHECK] if lines else b"0" * _CHECK
        self._end = lines[-1][1] if lines else 0
        self._broken = ""
        self.runs: dict[int, Run] = {}
        self.latest = 0.0
        """Newest time that the journal knows."""
        for line, _ in lines:
            self._take(json.loads(line[_CHECK + 1 :]))

    # --- opening --------------------------------------------------------------------------------------------------

    @classmethod
    def open(cls, folder: str, write: bool) -> Journal:
        """Open the journal of a folder; for writing it is made if it is missing, and held alone until `close`.

        Raises
        ------
        Busy
            If another run holds it.
        Unsafe
            If it is damaged before its last line, of a newer format, or cannot be read or written.
        """
        path = os.path.join(folder, NAME)
        flags = os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        try:
            if write:
                os.makedirs(folder, mode=0o700, exist_ok=True)
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | flags, 0o600)
            else:
                fd = os.open(path, os.O_RDONLY | flags)
        except FileNotFoundError:
            return cls(path, -1, [], write=False)
        except OSError as error:
            raise Unsafe(
                f"{path}: the journal cannot be {'written' if write else 'read'} ({error.strerror}); "
                "nothing was changed"
            ) from error
        try:
            if write:
                _lock(fd, path)
            lines, whole = _read_lines(fd, path)
            journal = cls(path, fd, lines, write)
            if write:
                journal._make_whole(whole, folder)
        except BaseException:
            os.close(fd)
            raise
        return journal

    def _make_whole(self, whole: bool, folder: str) -> None:
        """Cut off a torn last line, and begin a new journal with its format."""
        try:
            if not whole:
                os.ftruncate(self._fd, self._end)
                os.fsync(self._fd)
        except OSError as error:
            raise Unsafe(f"{self.path}: the journal cannot be written ({error.strerror})") from error
        if self._end == 0:
            self.append({"kind": "journal", "format": FORMAT})
            above = os.path.dirname(folder)
            for place in (folder, above):
                _sync_folder(place, self.path)

    def close(self) -> None:
        """Let it go, and the lock with it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # --- writing --------------------------------------------------------------------------------------------------

    def append(self, *records: Plain) -> None:
        """Write records as one line and wait until they are on the disk.

        Raises
        ------
        Unsafe
            If that fails; nothing may be done that relied on it, and the journal takes nothing more.
        """
        assert self._write
        if self._broken:
            raise Unsafe(
                f"{self.path}: the journal could not be written ({self._broken}); nothing further is done"
            )
        now = time.time()
        stamped = [{**record, "at": record.get("at", now)} for record in records]
        payload = json.dumps(stamped, separators=(",", ":")).encode("ascii")
        line = _check_of(self._check, payload) + b" " + payload + b"\n"
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            os.fsync(self._fd)
            if os.fstat(self._fd).st_nlink == 0:
                raise OSError(errno.ENOENT, "it was deleted meanwhile")
        except OSError as error:
            self._broken = error.strerror or str(error)
            try:
                # What was written in part must not stand in the middle one day.
                os.ftruncate(self._fd, self._end)
            except OSError:
                self._broken += ", and its last line is torn"
            raise Unsafe(
                f"{self.path}: the journal cannot be written ({self._broken}); nothing further was changed. "
                "Give it space or another place (DEDUP_STATE), then run `dedup recover`"
            ) from error
        self._end += len(line)
        self._check = line[:_CHECK]
        self._take(stamped)

    # --- reading --------------------------------------------------------------------------------------------------

    def _take(self, records: list[Plain]) -> None:
        for record in records:
            self.latest = max(self.latest, float(record.get("at", 0.0)))
            try:
                self._take_one(record)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise Unsafe(
                    f"{self.path}: a record of the journal makes no sense ({error!r}); was it written by a newer dedup?"
                ) from error

    def _take_one(self, record: Plain) -> None:
        kind = record["kind"]
        if kind == "journal":
            if record["format"] > FORMAT:
                raise Unsafe(f"{self.path}: the journal was written by a newer dedup; update dedup")
        elif kind == "run":
            number = int(record["run"])
            roots = tuple(PlanRoot(_bytes(r["path"]), r["device"], r["inode"]) for r in record["roots"])
            self.runs[number] = Run(number, float(record["at"]), record["version"], record["plan"], roots, {})
        elif kind == "intent":
            self._put(_entry_of(record))
        elif kind in _STATES:
            entry = self.runs[record["run"]].entries[record["op"]]
            moves = entry.moves
            if "folders" in record:
                moves = tuple(
                    replace(move, folder_after_ns=after)
                    for move, after in zip(moves, record["folders"], strict=True)
                )
            gone = record.get("gone", ())
            if gone:
                moves = tuple(
                    replace(move, quarantine=b"") if at in gone else move for at, move in enumerate(moves)
                )
            note = record.get("note", entry.note)
            left = (
                tuple((int(d), int(i), int(c), int(n)) for d, i, c, n in record.get("left", ())) or entry.left
            )
            self._put(
                replace(
                    entry, state=_STATES[kind], since=float(record["at"]), note=note, moves=moves, left=left
                )
            )

    def _put(self, entry: Entry) -> None:
        entries = self.runs[entry.run].entries
        assert isinstance(entries, dict)
        entries[entry.id] = entry

    def check_space(self, operations: int) -> None:
        """Refuse to begin if the disk has no room for what so many operations will write.

        Raises
        ------
        Unsafe
        """
        disk = os.fstatvfs(self._fd)
        if disk.f_bavail * disk.f_frsize < operations * _OPERATION_BYTES:
            raise Unsafe(
                f"{self.path}: there is no space left for the journal; nothing was changed. "
                "Free some space there, or give it another place (DEDUP_STATE)"
            )

    def unfinished(self) -> list[Entry]:
        """Operations that were begun, undone or purged and have no end, newest first."""
        found = [entry for run in self.runs.values() for entry in run.in_state(*UNFINISHED)]
        return sorted(found, key=lambda entry: (entry.run, entry.id), reverse=True)

    def end(self) -> None:
        """Note that a command is over."""
        self.append({"kind": "end", "open": len(self.unfinished())})


def intent_record(entry: Entry) -> Plain:
    """What `append` takes before an operation begins."""
    return {
        "kind": "intent",
        "run": entry.run,
        "op": entry.id,
        "act": entry.act,
        "relation": entry.relation,
        "decided": entry.decided,
        "frees": entry.frees_bytes,
        "keep": _plain_file(entry.keep),
        "moves": [
            {
                "file": _plain_file(move.file),
                "quarantine": _text(move.quarantine),
                "folder_mtime_ns": move.folder_mtime_ns,
            }
            for move in entry.moves
        ],
        "twins": [None if twin is None else _plain_file(twin) for twin in entry.twins],
    }


def run_record(number: int, version: str, plan: str, roots: Iterable[PlanRoot]) -> Plain:
    """What `append` takes before a run begins."""
    places = [{"path": _text(root.path), "device": root.device, "inode": root.inode} for root in roots]
    return {"kind": "run", "run": number, "version": version, "plan": plan, "roots": places}


def is_unfinished(folder: str) -> bool:
    """Whether a command left something open and is over, from the last line alone; True as well if that is torn."""
    try:
        with open(os.path.join(folder, NAME), "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            tail = file.read()
            if not tail or _is_at_rest(tail):
                return False
            # Not at rest: perhaps because somebody is at work in this moment.
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
            return True
    except OSError:
        return False


def _is_at_rest(tail: bytes) -> bool:
    try:
        last = json.loads(tail.rstrip(b"\n").rpartition(b"\n")[2][_CHECK + 1 :])[-1]
        return bool(last["kind"] == "journal" or (last["kind"] == "end" and last["open"] == 0))
    except (ValueError, KeyError, IndexError, TypeError):
        return False


def _lock(fd: int, path: str) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Busy(f"{path}: another run is changing photos; wait until it is finished") from error
    except OSError as error:
        raise Unsafe(
            f"{path}: the journal cannot be locked here ({error.strerror}); "
            "give it a place on a local disk (DEDUP_STATE)"
        ) from error


def _read_lines(fd: int, path: str) -> tuple[list[tuple[bytes, int]], bool]:
    """The sound lines, each with the offset of its end; and whether that is all there is."""
    data = _read_all(fd, path)
    lines: list[tuple[bytes, int]] = []
    at, before = 0, b"0" * _CHECK
    while at < len(data):
        end = data.find(b"\n", at)
        line = data[at : end if end >= 0 else len(data)]
        if end < 0 or not _is_sound(line, before):
            if end >= 0 and end + 1 < len(data):
                raise Unsafe(
                    f"{path}: the journal is damaged at byte {at:,}; nothing was changed. "
                    "A copy of it from a backup will do; without one, look into .dedup/quarantine by hand"
                )
            return lines, False
        lines.append((line, end + 1))
        at, before = end + 1, line[:_CHECK]
    return lines, True


def _is_sound(line: bytes, before: bytes) -> bool:
    return line[_CHECK : _CHECK + 1] == b" " and line[:_CHECK] == _check_of(before, line[_CHECK + 1 :])


def _read_all(fd: int, path: str) -> bytes:
    try:
        parts = []
        os.lseek(fd, 0, os.SEEK_SET)
        while part := os.read(fd, 1 << 22):
            parts.append(part)
        return b"".join(parts)
    except OSError as error:
        raise Unsafe(f"{path}: the journal cannot be read ({error.strerror})") from error


def _check_of(before: bytes, payload: bytes) -> bytes:
    return hashlib.sha256(before + payload).hexdigest()[:_CHECK].encode("ascii")


def _sync_folder(folder: str, path: str) -> None:
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EACCES, errno.EISDIR):
            raise Unsafe(f"{path}: the journal's folder cannot be written ({error.strerror})") from error


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


_NUMBERS = (
    "root", "device", "inode", "size_bytes", "mtime_ns", "ctime_ns", "link_count", "mode", "uid", "gid",
)  # fmt: skip


def _plain_file(file: PlannedFile) -> Plain:
    return {
        "path": _text(file.path),
        **{name: getattr(file, name) for name in _NUMBERS},
        "xattrs": file.xattrs.hex(),
        "digest": file.digest.hex(),
    }


def _file_of(plain: Mapping[str, Any]) -> PlannedFile:
    numbers = {name: int(plain[name]) for name in _NUMBERS}
    digest = bytes.fromhex(plain["digest"])
    if len(digest) != 32:
        raise ValueError("a file without its digest")
    return PlannedFile(
        path=_bytes(plain["path"]), xattrs=bytes.fromhex(plain["xattrs"]), digest=digest, **numbers
    )


def _entry_of(record: Mapping[str, Any]) -> Entry:
    return Entry(
        run=int(record["run"]),
        id=int(record["op"]),
        act=Act(record["act"]),
        relation=Relation(record["relation"]),
        decided=bool(record["decided"]),
        keep=_file_of(record["keep"]),
        moves=tuple(
            Move(_file_of(move["file"]), _bytes(move["quarantine"]), int(move["folder_mtime_ns"]))
            for move in record["moves"]
        ),
        twins=tuple(None if twin is None else _file_of(twin) for twin in record["twins"]),
        frees_bytes=int(record["frees"]),
        state=BEGUN,
        since=float(record["at"]),
    )
