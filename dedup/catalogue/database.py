"""Opening the SQLite file safely: identity, version, lock, journal mode, migrations and batched commits.

Promises: a file that is not a sound catalogue of this program's version or older is refused with what to do; a
migration leaves a backup beside it; two writers never meet. Does not: know what the tables mean (see `store`).
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from dedup.catalogue.schema import APPLICATION_ID, NARROW_TABLES, STEPS, TABLES
from dedup.errors import Busy, CatalogueInDoubt, Unsafe, UsageError

COMMIT_EVERY_S = 2.0
"""Longest time that finished work stays uncommitted. `kill -9` may lose 5 s of work; half of that leaves room for a
batch that is slow to write."""

_MAGIC = b"SQLite format 3\0"
_NETWORK = (
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "afs",
    "ceph",
    "fuse",
    "fuseblk.sshfs",
    "virtiofs",
    "drvfs",
)
_REMEDY = (
    "move it away (for example to {path}.damaged) and scan again: everything in it except decisions "
    "can be found again from the photos"
)


class Database:
    """One connection with batched commits, and every SQLite error turned into one of ours."""

    def __init__(self, path: str, connection: sqlite3.Connection, lock: int | None) -> None:
        self.path = path
        self._connection = connection
        self._lock = lock
        self._open_since = 0.0

    # --- statements -----------------------------------------------------------------------------------------------

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of a query."""
        with self._told():
            return self._connection.execute(sql, values).fetchall()

    def stream(self, sql: str, values: Sequence[Any] = (), chunk: int = 2000) -> Iterator[Any]:
        """Rows of a query, fetched in chunks so that memory stays bounded."""
        with self._told():
            cursor = self._connection.execute(sql, values)
        while True:
            with self._told():
                rows = cursor.fetchmany(chunk)
            if not rows:
                return
            yield from rows

    def value(self, sql: str, values: Sequence[Any] = ()) -> Any:
        """First column of the first row, or None."""
        with self._told():
            row = self._connection.execute(sql, values).fetchone()
        return None if row is None else row[0]

    def write(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Run one changing statement inside the current batch and return the last row id."""
        self._begin()
        with self._told():
            return self._connection.execute(sql, values).lastrowid or 0

    def write_many(self, sql: str, values: Iterable[Sequence[Any]]) -> None:
        """Run one changing statement for each row of values inside the current batch."""
        self._begin()
        with self._told():
            self._connection.executemany(sql, values)

    @contextmanager
    def blob(self, table: str, column: str, row: int) -> Iterator[sqlite3.Blob]:
        """A large value, to be written in pieces; its row was made with its size in the current batch."""
        with self._told(), self._connection.blobopen(table, column, row) as blob:
            yield blob

    # --- batches --------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if not self._connection.in_transaction:
            with self._told():
                self._connection.execute("BEGIN IMMEDIATE")
            self._open_since = time.monotonic()

    def commit(self) -> None:
        """Make the current batch durable."""
        if self._connection.in_transaction:
            with self._told():
                self._connection.execute("COMMIT")

    def commit_if_due(self) -> None:
        """Commit when the batch is `COMMIT_EVERY_S` old; call it after every piece of finished work."""
        if self._connection.in_transaction and time.monotonic() - self._open_since >= COMMIT_EVERY_S:
            self.commit()

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Commit what was written before, then make everything inside one transaction."""
        self.commit()
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        self.commit()

    def close(self) -> None:
        """Commit, close and let the lock go."""
        try:
            self.commit()
        finally:
            self._connection.close()
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    # --- soundness ------------------------------------------------------------------------------------------------

    def check(self, thorough: bool) -> None:
        """Raise `CatalogueInDoubt` unless SQLite finds the file sound.

        Parameters
        ----------
        thorough
            Check every table, and every index against its table. Otherwise only the narrow tables, which are read
            anyway: checking the pictures of 100,000 photos reads 500 MB.
        """
        if thorough:
            answers = self.rows("PRAGMA integrity_check(3)")
        else:
            answers = [row for name in NARROW_TABLES for row in self.rows(f"PRAGMA quick_check('{name}')")]
        wrong = [str(row[0]) for row in answers if row[0] != "ok"]
        if not wrong and thorough:
            wrong = [str(row) for row in self.rows("PRAGMA foreign_key_check")][:3]
        if wrong:
            raise in_doubt(self.path, "is damaged (" + wrong[0].splitlines()[-1] + ")")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:
            raise _translate(self.path, error) from error


def in_doubt(path: str, what: str) -> CatalogueInDoubt:
    """The error for a catalogue that cannot be believed, with what to do about it."""
    return CatalogueInDoubt(f"{path}: the catalogue {what}; " + _REMEDY.format(path=path))


def _translate(path: str, error: Exception) -> Exception:
    text = str(error)
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Busy(f"{path}: another program holds the catalogue; wait until it is finished")
    if code == sqlite3.SQLITE_FULL:
        return Unsafe(f"{path}: the catalogue cannot grow ({text}); free some space and scan again")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return Unsafe(f"{path}: the catalogue cannot be written ({text}); give another place with --db FILE")
    if code == sqlite3.SQLITE_IOERR:
        return Unsafe(f"{path}: the disk of the catalogue fails ({text}); look at the disk, then scan again")
    return in_doubt(path, f"is damaged ({text})")


def open_database(path: str, write: bool) -> Database:
    """Open the catalogue at `path`, made if it is missing and `write` is given.

    Parameters
    ----------
    path
        Absolute path.
    write
        Take the writer's lock (`<path>.lock`, held until `close`) and allow changes. A reader needs no lock and sees
        the last committed state.

    Raises
    ------
    Busy
        If another writer holds the catalogue.
    UsageError
        If there is no catalogue to read.
    CatalogueInDoubt
        If the file is damaged, belongs to another program, or was made by a newer version.
    Unsafe
        If the place cannot be written.
    """
    lock = _take_lock(path) if write else None
    try:
        exists = _look_at_header(path)
        if not exists and not write:
            raise UsageError(f"{path}: there is no catalogue yet; run `dedup scan FOLDER` first")
        connection = _connect(path, write)
    except BaseException:
        if lock is not None:
            os.close(lock)
        raise
    database = Database(path, connection, lock)
    try:
        if write:
            _bring_up_to_date(database, connection, exists)
        elif database.value("PRAGMA user_version") < len(STEPS):
            raise CatalogueInDoubt(
                f"{path}: the catalogue is of an older version; run `dedup scan` once to renew it"
            )
        _expect_tables(database)
    except BaseException:
        connection.close()
        if lock is not None:
            os.close(lock)
        raise
    return database


def _take_lock(path: str) -> int:
    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        lock = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unsafe(
            f"{path}: the catalogue cannot be written ({error.strerror}); give another place with --db FILE"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise Busy(f"{path}: another run holds the catalogue; wait until it is finished") from error
    except OSError:
        # Some network disks have no flock. SQLite's own locks still keep two writers apart, later and less politely.
        return lock
    return lock


@contextmanager
def hold_catalogue(path: str) -> Iterator[None]:
    """Keep every other writer off, for who changes what a scan is looking at; the catalogue itself is not opened.

    Raises
    ------
    Busy
        If another run holds it.
    """
    lock = None
    if os.path.exists(path):
        # Where no lock can be made, no scan can write either.
        with suppress(Unsafe):
            lock = _take_lock(path)
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _look_at_header(path: str) -> bool:
    """Whether there is a catalogue, judged from its first 100 bytes without SQLite, which would write to it."""
    try:
        with open(path, "rb") as file:
            head = file.read(100)
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return False
    except OSError as error:
        raise Unsafe(f"{path}: the catalogue cannot be read ({error.strerror})") from error
    if not head:
        return False
    if len(head) < 100 or head[:16] != _MAGIC:
        raise in_doubt(path, "is damaged or no catalogue (it does not begin like one)")
    if int.from_bytes(head[68:72], "big") != APPLICATION_ID:
        # A new catalogue that died before its first commit has no tables at all, and no other program's either.
        if int.from_bytes(head[40:44], "big") == 0:
            return False
        raise CatalogueInDoubt(
            f"{path}: this is another program's database; give another file with --db FILE"
        )
    version = int.from_bytes(head[60:64], "big")
    if version > len(STEPS):
        raise CatalogueInDoubt(
            f"{path}: the catalogue was made by a newer dedup (format {version}, this one knows {len(STEPS)}); "
            "update dedup, or give another file with --db FILE"
        )
    page = int.from_bytes(head[16:18], "big")
    page = 65536 if page == 1 else page
    pages = int.from_bytes(head[28:32], "big")
    if page < 512 or (size < page * pages and not os.path.exists(path + "-wal")):
        raise in_doubt(path, f"is cut short ({size} of {page * pages} bytes)")
    return True


def _connect(path: str, write: bool) -> sqlite3.Connection:
    from urllib.parse import quote

    mode = (
        "rwc"
        if write
        else "rw"
        if os.access(path, os.W_OK) and os.access(os.path.dirname(path), os.W_OK)
        else "ro"
    )
    uri = "file:" + quote(os.fsencode(path)) + "?mode=" + mode
    if mode == "ro" and not os.path.exists(path + "-wal"):
        # On a read-only disk WAL cannot make its shared memory; without a writer the file does not change.
        uri += "&immutable=1"
    try:
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10.0, cached_statements=64)
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute("PRAGMA cell_size_check=ON")
        if write:
            mode = "DELETE" if on_network_disk(path) else "WAL"
            connection.execute(f"PRAGMA journal_mode={mode}")
            connection.execute("PRAGMA synchronous=" + ("NORMAL" if mode == "WAL" else "FULL"))
            connection.execute("PRAGMA journal_size_limit=67108864")
        else:
            connection.execute("PRAGMA query_only=ON")
        # 32 MB of pages: the narrow tables of 100,000 photos fit; the default 2 MB makes look-ups read again and again.
        connection.execute("PRAGMA cache_size=-32000")
    except (sqlite3.Error, UnicodeDecodeError) as error:
        # A damaged page can turn up inside SQLite's own message, which then is no text.
        raise _translate(path, error) from error
    return connection


def on_network_disk(path: str, mounts: str = "/proc/self/mountinfo") -> bool:
    """Whether `path` lies on a network file system, where WAL's shared memory does not work.

    Unknown systems (no `mounts` file) count as local; SQLite then reports what it cannot do.
    """
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return False
    where = os.path.realpath(path)
    best, kind = "", ""
    for line in lines:
        left, _, right = line.partition(" - ")
        point = left.split(" ")[4].replace("\\040", " ")
        inside = point == "/" or where == point or where.startswith(point + "/")
        if inside and len(point) >= len(best):
            best, kind = point, right.split(" ")[0]
    return kind in _NETWORK or kind.startswith("fuse.")


def _bring_up_to_date(database: Database, connection: sqlite3.Connection, exists: bool) -> None:
    version = int(database.value("PRAGMA user_version"))
    if version == len(STEPS):
        return
    if exists and version:
        _back_up(database, connection, version)
    with database.all_or_nothing():
        database._begin()
        for number, step in enumerate(STEPS[version:], start=version + 1):
            with database._told():
                for statement in step:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version={number}")
        with database._told():
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    # Into the file itself, so that the header says who it belongs to while the rest still waits in the WAL.
    database.rows("PRAGMA wal_checkpoint(TRUNCATE)")


def _back_up(database: Database, connection: sqlite3.Connection, version: int) -> None:
    name = f"{database.path}.v{version}.backup"
    temporary = name + ".part"
    if os.path.exists(temporary):
        os.unlink(temporary)
    with database._told():
        copy = sqlite3.connect(temporary)
        try:
            connection.backup(copy)
        finally:
            copy.close()
    os.replace(temporary, name)


def _expect_tables(database: Database) -> None:
    found = {row[0] for row in database.rows("SELECT name FROM sqlite_master WHERE type='table'")}
    missing = sorted(set(TABLES) - found)
    if missing:
        raise in_doubt(database.path, f"is damaged (table {missing[0]} is missing)")
