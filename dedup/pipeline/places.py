"""Where the catalogue lies, how progress is told, and the stamp that says whether the program is still the same."""

from __future__ import annotations

import hashlib
import importlib.machinery
import os
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache

from dedup.settings import Settings

Progress = Callable[[str, int, int | None], None]
"""`progress(stage, done, total)`; the total is None while it is not known."""

_DECIDES = ("PIL", "imagehash", "numpy", "scipy", "annoy", "pillow_heif", "rawpy", "pillow_jxl", "pathspec")
"""Packages of which another version, or their coming and going, may change a fingerprint, a pair or a verdict."""


def catalogue_path(settings: Settings) -> str:
    """The catalogue file that the settings mean, absolute."""
    if settings.db:
        return os.path.abspath(os.path.expanduser(settings.db))
    import platformdirs

    return os.path.join(platformdirs.user_data_dir("dedup", appauthor=False), "catalogue.db")


def has_unfinished() -> bool:
    """Whether a crash left something for `recover`; reads one line."""
    from dedup.journal import is_unfinished, state_folder

    return is_unfinished(state_folder())


def absolute_folder(folder: str) -> str:
    """A folder as the crawl names it; `abspath` would drop `a/..` as text, which is another folder if `a` is a link.

    An address (`s3://bucket/prefix`) stays what it is.
    """
    if "://" in folder:
        return folder.rstrip("/")
    folder = os.path.expanduser(folder)
    return os.path.realpath(folder) if ".." in folder.split(os.sep) else os.path.abspath(folder)


def below(roots: Sequence[str]) -> Callable[[str], bool]:
    """A test whether a path is one of the roots or lies below one."""
    exact = frozenset(roots)
    prefixes = tuple(root if root.endswith("/") else root + "/" for root in roots)
    return lambda path: path.startswith(prefixes) or path in exact


@lru_cache(maxsize=1)
def program_stamp() -> str:
    """Sixteen hex digits that change whenever our own code or a package that decides anything changes.

    Notes
    -----
    Recipes say this exactly, but cost the import of everything they name, 0.25 s. A scan that finds nothing changed
    on the disk compares this stamp, from 30 calls of `stat`, and imports none of it.
    """
    facts = [sys.version]
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for folder, folders, names in os.walk(own):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        facts += [_seen(os.path.join(folder, name)) for name in sorted(names) if name.endswith(".py")]
    for package in _DECIDES:
        spec = importlib.machinery.PathFinder.find_spec(package)
        facts.append(package + ":" + (_seen(spec.origin) if spec is not None and spec.origin else "none"))
    return hashlib.sha256("\n".join(facts).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _seen(path: str) -> str:
    status = os.stat(path)
    return f"{path} {status.st_size} {status.st_mtime_ns}"
