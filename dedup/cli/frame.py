"""What every command is made of: the global options, the options of the settings, and files that are written.

Does not: know any command.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from dedup.cli.layers import Chosen, choose_settings
from dedup.cli.talk import Talk, put
from dedup.errors import UsageError
from dedup.records import Report
from dedup.settings import Settings

Function = TypeVar("Function", bound=Callable[..., Any])

FOUND, TROUBLE, FAULT, READER_GONE = 1, 3, 5, 141
"""Exit codes that no error carries."""


@dataclass(slots=True)
class Globals:
    """What holds for every command; given before the command or after it."""

    db: str | None = None
    config: str | None = None
    verbose: bool = False
    quiet: bool = False
    no_progress: bool = False

    @property
    def talk(self) -> Talk:
        """How much to say."""
        return Talk(self.quiet, self.verbose, not self.no_progress)

    def choose(self, flags: Mapping[str, Any] | None = None) -> Chosen:
        """The settings of this run."""
        return choose_settings({"db": self.db, **(flags or {})}, self.config, os.environ)

    def settings(self, flags: Mapping[str, Any] | None = None) -> Settings:
        """The settings of this run, with those that are not the default said if asked for."""
        chosen = self.choose(flags)
        for name, origin in chosen.origins.items():
            if origin != "default":
                self.talk.detail(f"{name} = {getattr(chosen.settings, name)!r} ({origin})")
        return chosen.settings


def global_options(hidden: bool) -> list[click.Option]:
    """The options that hold for every command; hidden in the help of the single commands."""

    def note(context: click.Context, option: click.Parameter, value: Any) -> None:
        if value and option.name:
            setattr(context.ensure_object(Globals), option.name, value)

    common: dict[str, Any] = {"expose_value": False, "callback": note, "hidden": hidden}
    return [
        click.Option(
            ["--db"],
            metavar="FILE",
            help="Catalogue (also DEDUP_DB; default: the user's data folder).",
            **common,
        ),
        click.Option(
            ["--config"],
            metavar="FILE",
            # Asked for once: after the command it would win over a --config that stands before it.
            envvar=None if hidden else "DEDUP_CONFIG",
            help="Settings file to read instead.",
            **common,
        ),
        click.Option(["-v", "--verbose"], is_flag=True, help="Say more.", **common),
        click.Option(["-q", "--quiet"], is_flag=True, help="Say nothing but results and errors.", **common),
        click.Option(["--no-progress"], is_flag=True, help="No bars and no lines of progress.", **common),
    ]


class Command(click.Command):
    """A command that also takes the global options, without listing them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(global_options(hidden=True))


def apply_options(options: Sequence[Callable[[Function], Function]]) -> Callable[[Function], Function]:
    """Many options at once, in order."""

    def decorate(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


SETTINGS_OPTIONS = (
    click.option("-j", "--jobs", type=int, metavar="N", help="Worker processes; 0 for one per core."),
    click.option(
        "--exclude",
        multiple=True,
        metavar="GLOB",
        help="Leave out what matches, as in a .gitignore; repeatable.",
    ),
    click.option(
        "--default-excludes/--no-default-excludes",
        default=None,
        help="Leave out trash, thumbnails and application folders (default), or not.",
    ),
    click.option(
        "--one-file-system", is_flag=True, default=None, help="Do not go into other disks mounted below."
    ),
    click.option(
        "--prefer",
        multiple=True,
        metavar="FOLDER",
        help="Keep the photo that lies here; repeatable, best first.",
    ),
    click.option(
        "--protect",
        multiple=True,
        metavar="FOLDER",
        help="Never propose removing what lies here; repeatable.",
    ),
    click.option(
        "--neighbours/--no-neighbours",
        default=None,
        help="Also ask annoy for pairs beyond the hash radius (default), or not.",
    ),
    click.option(
        "--hash-radius-bits", type=int, metavar="N", help="How far two hashes may differ to be looked at."
    ),
    click.option("--max-pixels", type=int, metavar="N", help="Largest picture that is decoded."),
    click.option("--memory-limit-bytes", type=int, metavar="N", help="Memory of one worker."),
    click.option("--decode-timeout-s", type=float, metavar="S", help="Longest time for one file."),
)
"""One option for each field of `Settings` but `db`, which is global."""

JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")


def put_json(found: Report) -> None:
    """The report as JSON on stdout."""
    from dedup.report import to_json

    put(json.dumps(to_json(found), indent=1) + "\n")


def wants_colour() -> bool:
    """Whether stdout is a terminal that shows colours, and nobody said no."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def check_writable(path: str) -> None:
    """Say now, not after an hour of work, that a file cannot be written, or that something else stands there."""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise UsageError(f"{path}: there is no folder {folder}")
    if os.path.isdir(path):
        raise UsageError(f"{path}: this is a folder; give the name of a file in it")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"{path}: nothing can be written into {folder}")
    if os.path.exists(path) and not os.path.isfile(path):
        raise UsageError(f"{path}: this is no file, and is not replaced by one; give another name")
    if os.path.isfile(path) and _is_photo(path):
        raise UsageError(f"{path}: this is a photo, and is not overwritten; give another name")


def _is_photo(path: str) -> bool:
    from dedup.decode.sniff import HEAD_BYTES, sniff_format

    try:
        with open(path, "rb") as file:
            return sniff_format(file.read(HEAD_BYTES), path) is not None
    except OSError:
        return False


@contextmanager
def writing(path: str) -> Iterator[None]:
    """Turn what goes wrong while a file is written into words."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror or error})") from error


def write_html(found: Report, settings: Settings, path: str, talk: Talk) -> None:
    """Write the HTML report and say where it is."""
    from dedup import pipeline

    with talk.progress() as progress, writing(path):
        pipeline.write_html(found, settings, path, progress)
    talk.say(f"report    {os.path.abspath(path)}")
