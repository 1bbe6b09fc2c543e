"""Every way in which `dedup` itself gives up, with the exit code that tells a script why.

    DedupError                 exit 2
    ├── UsageError             exit 2   words or settings that make no sense
    ├── MissingExtra           exit 2   an optional package is needed for what was asked
    ├── UnreadableInput        exit 3   a file that was named cannot be read
    ├── Busy                   exit 4   another run holds the catalogue or the library
    └── Unsafe                 exit 5   stopped for safety; nothing further was changed
        ├── CatalogueInDoubt   exit 5   damaged, foreign or newer catalogue
        └── InternalFault      exit 5   a stage failed in a way that would shorten the answer

A photo that cannot be read is no error: it is a `Skipped` record, and the run goes on.
"""

from __future__ import annotations


class DedupError(Exception):
    """Base of all errors meant for the user; the message names the path, what was tried and what to do next."""

    exit_code = 2


class UsageError(DedupError):
    """Words or settings that make no sense."""


class MissingExtra(DedupError):
    """An optional package is needed for what was asked."""


class UnreadableInput(DedupError):
    """A file that was named by the user cannot be read."""

    exit_code = 3


class Busy(DedupError):
    """Another run holds the catalogue or the library."""

    exit_code = 4


class Unsafe(DedupError):
    """Stopped for safety; a person must look."""

    exit_code = 5


class CatalogueInDoubt(Unsafe):
    """The catalogue is damaged, foreign, or newer than this program."""


class InternalFault(Unsafe):
    """A stage failed in a way that would shorten the answer."""
