"""Roots to photos: walks folders and says of every file either that it is a photo or why it is not examined.

Promises: nothing is opened before `lstat` says it is a regular file, nothing is written, no symbolic link is followed
but a root itself; every file below the roots comes out exactly once, as `PhotoFile` or as `Skipped` with a reason
(a folder that is excluded, unreadable or on another file system is one `Skipped`, and nothing below it is seen, which
is not to say that it is gone); a file reached by two paths is one photo, unless the two are hard links; the order
depends on names only.
Does not: decide whether a photo changed (`known` does), or decode anything.

Memory grows by about 60 bytes per file and 300 per folder, and by one folder's names at a time.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from dedup.errors import UsageError
from dedup.records import PhotoFile, Reason, Skipped
from dedup.settings import Settings

IGNORE_FILE = ".dedupignore"

OWN_FOLDER = ".dedup"
"""Our lock and quarantine among the photos; never looked into, whatever the patterns say."""

# fmt: off
DEFAULT_EXCLUDES = (
    # The systems' own: trash, indexes, snapshots.
    ".Trash/", ".Trashes/", ".Trash-*/", "$RECYCLE.BIN/", "$Recycle.Bin/", "RECYCLER/",
    "System?Volume?Information/", "lost+found/",
    ".Spotlight-V100/", ".fseventsd/", ".TemporaryItems/", ".DocumentRevisions-V100/", ".AppleDouble/",
    ".AppleDB/", "._*",
    ".snapshot/", ".snapshots/", ".zfs/", ".trashed-*", ".pending-*",
    # Boxes and services that keep thumbnails, versions and deleted files beside the photos.
    "@eaDir/", "\\#recycle/", "\\#snapshot/", "@Recycle/", "@Recently-Snapshot/", ".@__thumb/",
    ".stversions/", ".stfolder/", ".sync/",
    ".dropbox.cache/", ".tmp.driveupload/", ".tmp.drivedownload/",
    # Thumbnails and libraries that belong to a program and break when a file goes.
    ".thumbnails/", ".thumbnail/", ".thumbs/", ".cache/", ".dtrash/", "*.lrdata/", "*.lrcat-data/",
    "**/CaptureOne/Cache/",
    "*.photoslibrary/", "*.photolibrary/", "*.aplibrary/", "*.migratedphotolibrary/", "*.imovielibrary/",
    "*.fcpbundle/",
    # Programs rather than photos.
    ".git/", ".hg/", ".svn/", "node_modules/", "__pycache__/", ".venv/", ".tox/",
)
# fmt: on
"""gitignore-style, any depth. Not Picasa's `.picasaoriginals/`, which holds photos that exist nowhere else."""

SIDECAR_EXTENSIONS = frozenset((".xmp", ".aae", ".pp3", ".thm"))
"""Files that belong to a photo or film of the same name. A `.thm` is a JPEG, but of a film."""

# fmt: off
PHOTO_EXTENSIONS = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
    ".avif", ".webp", ".jp2", ".j2k", ".heic", ".heif", ".hif", ".jxl", ".dng", ".cr2", ".cr3", ".nef",
    ".arw", ".raf", ".rw2", ".orf", ".pef", ".srw",
))
# fmt: on
"""A file named so whose content is no photo was one, or should have been: damage, and a person should know."""

_IGNORE_FILE_BYTES = 1 << 20
_FOLDER_MARK = "ps_d"
"""The group by which pathspec marks the slash after a folder that a pattern matched."""
_ANY_FOLDER = re.compile(f".*(?P<{_FOLDER_MARK}>/)")
_OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def find_photos(
    roots: Sequence[str],
    settings: Settings,
    known: Callable[[str, int, int], str],
    is_noted: Callable[[str, os.stat_result], bool] | None = None,
) -> Iterator[PhotoFile | Skipped]:
    """Find the photos below folders.

    Parameters
    ----------
    roots
        Folders, or single files. May overlap, repeat, or be links; each folder is walked once. A folder that is named
        as a root is walked even if a pattern excludes it, or it lies on another file system than the root around it.
    settings
        `exclude`, `default_excludes` and `one_file_system` are used. Patterns are read relative to each root.
        The command line is stronger than `.dedupignore` files, a deeper one stronger than those above it, and all
        of them stronger than the defaults; `!pattern` brings back what a weaker rule excludes.
    known
        `known(path, size_bytes, mtime_ns)` says what such a file was when it was last read: `photo`, `other`, or
        nothing if its content must be looked at.
    is_noted
        Asked first about every regular file. True says that the caller knows this very file and has taken note that it
        is still there: it does not come out. On a walk where nothing changed, making 100,000 records for nothing
        takes a fifth of the time.

    Yields
    ------
    PhotoFile or Skipped
        Roots in order of path, in each folder first the files by name, then its folders.
        Files that vanish between listing and looking are not there any more and do not appear.

    Raises
    ------
    UsageError
        If a pattern cannot be understood.
    """
    return _Walk(roots, settings, known, is_noted).run()


def excluding_rule(settings: Settings, root: str) -> Callable[[str], str | None]:
    """Who excludes a path, for places that are listed and not walked: object stores.

    Parameters
    ----------
    settings
        `exclude` and `default_excludes` are used.
    root
        The place below which the paths lie.

    Returns
    -------
    Callable
        Takes the path of a file below the root; gives the label of the rule that excludes it or a folder above it,
        or None.
    """
    rules = []
    if settings.exclude:
        rules.append(_Rules(settings.exclude, "--exclude", root))
    if settings.default_excludes:
        rules.append(_Rules(DEFAULT_EXCLUDES, "default", root))
    sources = tuple(rules)

    @lru_cache(maxsize=4096)
    def of_folder(folder: str) -> str | None:
        if len(folder) <= len(root):
            return None
        above = of_folder(folder.rpartition("/")[0])
        return above or _excluding_rule(sources, folder, folder.rpartition("/")[2], True)

    def of_file(path: str) -> str | None:
        folder, _, name = path.rpartition("/")
        return of_folder(folder) or _excluding_rule(sources, path, name, False)

    return of_file


class _Rules:
    """The patterns of one source, and the folder below which they hold.

    pathspec reads the patterns; they are tried on each path by itself, as git does, since everything above it has been
    decided by then. pathspec's own verdict also counts patterns that match a folder above, which would exclude the
    files of a folder that a stronger rule has brought back.
    """

    def __init__(self, lines: Sequence[str], label: str, base: str) -> None:
        self.label = label
        self.base = len(base) + (not base.endswith("/"))
        self.folders = [pattern for line in lines for pattern in _read_pattern(line, label)]
        self.folders.reverse()
        for_files = [line for line in lines if not line.rstrip().endswith("/")]
        self.files = [pattern for line in for_files for pattern in _read_pattern(line, label)]
        self.files.reverse()
        # Without slash and `!` a pattern looks at the name alone, and one expression for all is enough to see that
        # none matches: 0.5 us a file for the defaults.
        plain = all(include for _, include in self.files) and not any("/" in line for line in for_files)
        bare = [re.sub("[(][?]P<[a-z_]+>", "(?:", regex.pattern) for regex, _ in self.files]
        self.quick = re.compile("|".join(bare)) if plain else None

    def verdict(self, path: str, name: str, is_folder: bool) -> bool | None:
        """True to exclude, False to keep against weaker rules, None if nothing matches."""
        if not is_folder and self.quick is not None and not self.quick.match(_one_line(name)):
            return None
        subject = _one_line(path[self.base :]) + "/" * is_folder
        for regex, include in self.folders if is_folder else self.files:
            if _is_match(regex, subject):
                return include
        return None


def _read_pattern(line: str, label: str) -> list[tuple[re.Pattern[str], bool]]:
    """A pattern as expression and whether it excludes; nothing for an empty line or a comment."""
    try:
        read = GitIgnoreSpecPattern(line)
    except (ValueError, re.error) as error:
        raise UsageError(f"{label}: the pattern {line!r} cannot be understood ({error})") from error
    if read.regex is None or read.include is None:
        return []
    # Patterns for all folders come as a lone slash, to be searched for.
    regex = read.regex if read.regex.pattern != f"(?P<{_FOLDER_MARK}>/)" else _ANY_FOLDER
    return [(regex, read.include)]


def _is_match(regex: re.Pattern[str], subject: str) -> bool:
    """Whether a pattern matches this very path, not one above it. A folder ends in a slash."""
    match = regex.match(subject)
    if match is None:
        return False
    folder_end = match.end(_FOLDER_MARK) if _FOLDER_MARK in regex.groupindex else -1
    if folder_end >= 0:
        return folder_end == len(subject)
    # `a/**` is everything below `a`, not `a`.
    return match.end() < len(subject) or not subject.endswith("/")


def _one_line(path: str) -> str:
    """The path as patterns see it: their wildcards stop at a line break, names may hold one."""
    return path.replace("\n", "\N{REPLACEMENT CHARACTER}") if "\n" in path else path


class _Walk:
    """One walk over all roots, and what it has seen."""

    def __init__(
        self,
        roots: Sequence[str],
        settings: Settings,
        known: Callable[[str, int, int], str],
        is_noted: Callable[[str, os.stat_result], bool] | None,
    ) -> None:
        self.settings = settings
        self.known = known
        self.is_noted = is_noted
        self.folders_seen: dict[tuple[int, int, int], str] = {}
        self.files_seen: set[int] = set()
        """Hashes of (device, inode, size, mtime), 36 bytes instead of 200."""
        self.roots = {_absolute(root) for root in roots}

    def run(self) -> Iterator[PhotoFile | Skipped]:
        for root in sorted(self.roots, key=os.fsencode):
            try:
                status = os.stat(root)
            except OSError as error:
                yield _unreadable(root, error)
                continue
            if stat.S_ISDIR(status.st_mode):
                yield from self._root(root, status)
            else:
                one = self._file(root, os.path.basename(root), status)
                if one is not None:
                    yield one

    def _root(self, root: str, status: os.stat_result) -> Iterator[PhotoFile | Skipped]:
        twin = self._seen_folder(root, status)
        if twin is not None:
            yield _alias(root, twin, status)
            return
        rules = []
        if self.settings.exclude:
            rules.append(_Rules(self.settings.exclude, "--exclude", root))
        tail = []
        if self.settings.default_excludes:
            tail.append(_Rules(DEFAULT_EXCLUDES, "default", root))
        # (folder, ignore rules from the deepest up); the strongest and the weakest rules are the same everywhere.
        ahead: list[tuple[str, tuple[_Rules, ...]]] = [(root, ())]
        while ahead:
            folder, ignores = ahead.pop()
            try:
                names = os.listdir(folder)
            except OSError as error:
                yield _unreadable(folder, error)
                continue
            names.sort()
            at = bisect_left(names, IGNORE_FILE)
            if at < len(names) and names[at] == IGNORE_FILE:
                lines = _read_ignore_file(_join(folder, IGNORE_FILE))
                if isinstance(lines, Skipped):
                    yield lines
                    del names[at]
                elif lines:
                    ignores = (_Rules(lines, _join(folder, IGNORE_FILE), folder), *ignores)
            below: list[tuple[str, tuple[_Rules, ...]]] = []
            yield from self._folder(folder, names, (*rules, *ignores, *tail), ignores, status.st_dev, below)
            below.reverse()
            ahead.extend(below)

    def _folder(
        self,
        folder: str,
        names: list[str],
        rules: tuple[_Rules, ...],
        ignores: tuple[_Rules, ...],
        device: int,
        below: list[tuple[str, tuple[_Rules, ...]]],
    ) -> Iterator[PhotoFile | Skipped]:
        """The files of one folder; its folders go to `below`."""
        prefix = folder if folder.endswith("/") else folder + "/"
        one_device = self.settings.one_file_system
        file_rules = tuple(rule for rule in rules if rule.files)
        # Nearly every file is told from all patterns by one look at its name; without that look, a quarter of a rescan.
        looks = [rule.quick.match for rule in file_rules if rule.quick is not None]
        can_look = len(looks) == len(file_rules)
        for name in names:
            path = prefix + name
            if path in self.roots:
                continue  # has its own turn
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                yield _unreadable(path, error)
                continue
            is_folder = stat.S_ISDIR(status.st_mode)
            if is_folder:
                excluded = _excluding_rule(rules, path, name, True)
            else:
                excluded = None
                suspect = not can_look or "\n" in name
                for look in looks:
                    suspect = suspect or look(name) is not None
                if suspect:
                    excluded = _excluding_rule(file_rules, path, name, False)
            if excluded is not None:
                yield _skipped(path, Reason.EXCLUDED, status, excluded)
            elif one_device and status.st_dev != device:
                yield _skipped(path, Reason.OTHER_FILE_SYSTEM, status)
            elif is_folder:
                twin = self._seen_folder(path, status)
                if twin is None:
                    below.append((path, ignores))
                else:
                    yield _alias(path, twin, status)
            else:
                one = self._file(path, name, status)
                if one is not None:
                    yield one

    def _seen_folder(self, path: str, status: os.stat_result) -> str | None:
        """The path by which this folder was walked before, if it was."""
        # The time guards against file systems that give one inode number to many folders.
        key = (status.st_dev, status.st_ino, status.st_mtime_ns)
        if status.st_ino == 0:
            return None
        return None if self.folders_seen.setdefault(key, path) is path else self.folders_seen[key]

    def _file(self, path: str, name: str, status: os.stat_result) -> PhotoFile | Skipped | None:
        """What a path that is not a folder is; None if it vanished, or was noted."""
        if not stat.S_ISREG(status.st_mode):
            return _skipped(
                path, Reason.SYMLINK if stat.S_ISLNK(status.st_mode) else Reason.SPECIAL_FILE, status
            )
        size, mtime_ns = status.st_size, status.st_mtime_ns
        if status.st_nlink == 1 and status.st_ino:
            key = hash((status.st_dev, status.st_ino, size, mtime_ns))
            if key in self.files_seen:
                return _skipped(path, Reason.ALIAS, status)
            self.files_seen.add(key)
        if self.is_noted is not None and self.is_noted(path, status):
            return None
        if size == 0:
            return _skipped(path, Reason.EMPTY, status)
        kind = self.known(path, size, mtime_ns)
        extension = os.path.splitext(name)[1].lower() if kind != "photo" else ""
        if extension in SIDECAR_EXTENSIONS:
            return _skipped(path, Reason.NOT_A_PHOTO, status, "sidecar")
        if not kind:
            try:
                kind = _sniff(path, name)
            except FileNotFoundError:
                return None
            except OSError as error:
                return _unreadable(path, error, status)
        if kind == "photo":
            return PhotoFile(
                path, size, mtime_ns, status.st_ctime_ns, status.st_dev, status.st_ino, status.st_nlink
            )
        if kind == "changed":
            return _skipped(path, Reason.CHANGED, status)
        if extension in PHOTO_EXTENSIONS:
            return _skipped(path, Reason.DAMAGED, status, f"named {extension}, but its content is no photo")
        return _skipped(path, Reason.NOT_A_PHOTO, status)


def _absolute(root: str) -> str:
    """The path of a root: as it was given where that can be, since the user will want to find it again."""
    # `abspath` drops `a/..` as text, which is another folder if `a` is a link. A single file is named by its real
    # name, because nobody opens a link later.
    if ".." in root.split("/") or not os.path.isdir(root):
        return os.path.realpath(root)
    return os.path.abspath(root)


def _join(folder: str, name: str) -> str:
    return folder + name if folder.endswith("/") else f"{folder}/{name}"


def _excluding_rule(rules: tuple[_Rules, ...], path: str, name: str, is_folder: bool) -> str | None:
    """Who excludes this path; None if it stays."""
    if is_folder and name == OWN_FOLDER:
        return "default"
    for rule in rules:
        verdict = rule.verdict(path, name, is_folder)
        if verdict is not None:
            return rule.label if verdict else None
    return None


def _sniff(path: str, name: str) -> str:
    """What a file is by its first bytes: `photo`, `other`, or `changed` if it is no regular file any more."""
    # Here, since a walk on which every file is known needs no decoder, and NumPy and Pillow take 0.1 s to import.
    from dedup.decode import HEAD_BYTES, sniff_format

    try:
        descriptor = os.open(path, _OPEN_FLAGS)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "changed"
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return "changed"
        return "other" if sniff_format(os.read(descriptor, HEAD_BYTES), name) is None else "photo"
    finally:
        os.close(descriptor)


def _read_ignore_file(path: str) -> list[str] | Skipped:
    """Its lines; none if it is a folder, a link or a pipe, which the walk names like any other of its kind."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return []
        descriptor = os.open(path, _OPEN_FLAGS)
        try:
            text = os.read(descriptor, _IGNORE_FILE_BYTES)
        finally:
            os.close(descriptor)
    except OSError as error:
        return _unreadable(path, error)
    # Names that are not UTF-8 can be matched, too; Notepad begins a file with a byte order mark.
    return text.removeprefix(b"\xef\xbb\xbf").decode(errors="surrogateescape").splitlines()


def _skipped(path: str, reason: Reason, status: os.stat_result, detail: str = "") -> Skipped:
    return Skipped(path, "crawl", reason, detail, status.st_size, status.st_mtime_ns)


def _alias(path: str, twin: str, status: os.stat_result) -> Skipped:
    return _skipped(path, Reason.ALIAS, status, f"the same folder as {twin}")


def _unreadable(path: str, error: OSError, status: os.stat_result | None = None) -> Skipped:
    detail = (error.strerror or str(error)).lower()
    if status is None:
        return Skipped(path, "crawl", Reason.UNREADABLE, detail)
    return _skipped(path, Reason.UNREADABLE, status, detail)
