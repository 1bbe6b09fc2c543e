"""The tables, in plain SQL that can be read in one screen; each step turns format n into n + 1."""

from __future__ import annotations

APPLICATION_ID = 0x64656475
"""`dedu` in the SQLite header, so that another program's database is recognised."""

_FORMAT_1 = (
    # One row per recipe or attempt, so that 100,000 rows do not repeat 200 characters each.
    "CREATE TABLE recipes (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)",
    # A picture by its sha256. `indexed` is the recipe under which its pairs were searched, 0 for not yet.
    """CREATE TABLE contents (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
        size_bytes INTEGER NOT NULL,
        recipe INTEGER NOT NULL REFERENCES recipes(id),
        indexed INTEGER NOT NULL DEFAULT 0,
        orphaned_s INTEGER,
        info TEXT NOT NULL,
        phash64 BLOB NOT NULL, phash256 BLOB NOT NULL, dhash64 BLOB NOT NULL,
        histogram BLOB NOT NULL, texture REAL NOT NULL, colour BLOB NOT NULL,
        trim BLOB NOT NULL CHECK (length(trim) = 32), aspect REAL NOT NULL)""",
    "CREATE INDEX contents_by_size ON contents(size_bytes)",
    # 4 kB each, and read only for candidate pairs: apart, so that everything else never pages over them.
    """CREATE TABLE greys (
        content INTEGER PRIMARY KEY REFERENCES contents(id) ON DELETE CASCADE,
        grey BLOB NOT NULL)""",
    # state: 0 to be read, 1 photo, 2 could not be read (see failures)
    """CREATE TABLE files (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        path BLOB NOT NULL UNIQUE,
        size_bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
        device INTEGER NOT NULL, inode INTEGER NOT NULL, link_count INTEGER NOT NULL,
        state INTEGER NOT NULL DEFAULT 0,
        content INTEGER REFERENCES contents(id),
        CHECK ((state = 1) = (content IS NOT NULL)))""",
    "CREATE INDEX files_by_content ON files(content) WHERE content IS NOT NULL",
    # The whole of `files` in two blobs: read four times as fast as its rows, by every scan. Gone when a row changes.
    "CREATE TABLE files_packed (paths BLOB NOT NULL, numbers BLOB NOT NULL)",
    "CREATE TRIGGER files_inserted AFTER INSERT ON files BEGIN DELETE FROM files_packed; END",
    "CREATE TRIGGER files_updated AFTER UPDATE ON files BEGIN DELETE FROM files_packed; END",
    "CREATE TRIGGER files_deleted AFTER DELETE ON files BEGIN DELETE FROM files_packed; END",
    """CREATE TABLE failures (
        file INTEGER PRIMARY KEY REFERENCES files(id) ON DELETE CASCADE,
        stage TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL,
        attempt INTEGER NOT NULL REFERENCES recipes(id))""",
    # Digests of files that are not fingerprinted yet, while a scan is at it: reading them again can take an hour.
    """CREATE TABLE digests (
        file INTEGER PRIMARY KEY REFERENCES files(id) ON DELETE CASCADE,
        size_bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, digest BLOB NOT NULL)""",
    # What the last crawl passed over.
    """CREATE TABLE passed_over (
        path BLOB NOT NULL, stage TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL,
        size_bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL)""",
    # Pairs that looked alike and were not measured: still to do, or spared because one of the two was confirmed
    # against a better photo, the hub (while that is around).
    """CREATE TABLE candidates (
        left_content INTEGER NOT NULL REFERENCES contents(id) ON DELETE CASCADE,
        right_content INTEGER NOT NULL REFERENCES contents(id) ON DELETE CASCADE,
        source INTEGER NOT NULL, distance_bits INTEGER NOT NULL, orientation INTEGER NOT NULL,
        windows BLOB, hub INTEGER)""",
    "CREATE INDEX candidates_by_left ON candidates(left_content)",
    "CREATE INDEX candidates_by_right ON candidates(right_content)",
    # Measured pairs; low < high are content ids. `body` is NULL where the pixels showed no relation.
    """CREATE TABLE matches (
        low INTEGER NOT NULL REFERENCES contents(id) ON DELETE CASCADE,
        high INTEGER NOT NULL REFERENCES contents(id) ON DELETE CASCADE,
        recipe INTEGER NOT NULL REFERENCES recipes(id),
        turned INTEGER NOT NULL, relation TEXT NOT NULL, body TEXT,
        PRIMARY KEY (low, high)) WITHOUT ROWID""",
    "CREATE INDEX matches_by_high ON matches(high)",
    """CREATE TABLE inspections (
        content INTEGER PRIMARY KEY REFERENCES contents(id) ON DELETE CASCADE,
        recipe INTEGER NOT NULL REFERENCES recipes(id),
        damage TEXT NOT NULL, effective_scale REAL NOT NULL,
        reason TEXT NOT NULL DEFAULT '', detail TEXT NOT NULL DEFAULT '')""",
    """CREATE TABLE scans (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        basis TEXT NOT NULL, summary TEXT NOT NULL)""",
    # scope 0: the roots of the last scan; 1: everything known.
    """CREATE TABLE groups (
        id INTEGER PRIMARY KEY AUTOINCREMENT, scope INTEGER NOT NULL,
        relation TEXT NOT NULL, freed_bytes INTEGER NOT NULL, body TEXT NOT NULL)""",
    "CREATE INDEX groups_by_scope ON groups(scope)",
    """CREATE TABLE group_files (
        file INTEGER NOT NULL, group_id INTEGER NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
        PRIMARY KEY (file, group_id)) WITHOUT ROWID""",
    "CREATE INDEX group_files_by_group ON group_files(group_id)",
    """CREATE TABLE similar_pairs (
        scope INTEGER NOT NULL, left_file INTEGER NOT NULL, right_file INTEGER NOT NULL, body TEXT NOT NULL)""",
    "CREATE TABLE hubs (scope INTEGER NOT NULL, file INTEGER NOT NULL)",
    "CREATE TABLE scope_files (scope INTEGER NOT NULL, file INTEGER NOT NULL, PRIMARY KEY (scope, file)) WITHOUT ROWID",
)

_FORMAT_2 = (
    # What people said about two contents, or about one (then `low` is empty). `turned`: the high one is the left one.
    # By digest and without a reference: a decision outlives the files, and the contents, that it is about.
    """CREATE TABLE decisions (
        low BLOB NOT NULL CHECK (length(low) IN (0, 32)), high BLOB NOT NULL CHECK (length(high) = 32),
        turned INTEGER NOT NULL, verdict TEXT NOT NULL, decided TEXT NOT NULL,
        place BLOB NOT NULL, note TEXT NOT NULL,
        number INTEGER NOT NULL,
        PRIMARY KEY (low, high), CHECK (low <= high)) WITHOUT ROWID""",
    # Contents whose groups were made before somebody decided about them.
    "CREATE TABLE unsettled (digest BLOB NOT NULL PRIMARY KEY) WITHOUT ROWID",
    # Folders that were ever scanned: plans reach files by way of them.
    "CREATE TABLE roots (path BLOB NOT NULL PRIMARY KEY) WITHOUT ROWID",
)

STEPS: list[tuple[str, ...]] = [_FORMAT_1, _FORMAT_2]
"""`STEPS[n]` leads from format n to n + 1; the number of steps is the format this program writes."""

TABLES = (
    "recipes", "contents", "greys", "files", "files_packed", "failures", "digests", "passed_over",
    "candidates", "matches", "inspections", "scans", "groups", "group_files", "similar_pairs", "hubs", "scope_files",
    "decisions", "unsettled", "roots",
)  # fmt: skip

NARROW_TABLES = ("files", "failures", "candidates", "matches", "inspections")
"""Checked at every scan that finds something to do."""
