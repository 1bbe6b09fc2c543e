"""The command line: words become `Settings` and one call of `pipeline`, its answer becomes words and an exit code.

Promises: results on stdout, talk on stderr; the exit codes of the README, whatever happens; `dedup --help` is at once
there, since everything heavy is imported by the command that needs it. Does not: know anything about photos.

    layers.py   flags, variables and files -> Settings        talk.py    stdout, stderr, progress bars
    words.py    the end of a scan in sentences
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import click

from dedup import __version__
from dedup.cli.layers import LOCAL_FILE, Chosen, choose_settings, user_file
from dedup.cli.talk import Interrupted, ReaderGone, Talk, hush_interruptions, put, results, stop_soon
from dedup.errors import DedupError, UsageError
from dedup.records import Report
from dedup.report.text import printable
from dedup.settings import Settings

Function = TypeVar("Function", bound=Callable[..., Any])

SECTIONS = {
    "Find": ("scan",),
    "Decide": ("report",),
    "Look after": ("stats", "doctor", "config", "export"),
}
"""Commands as `dedup --help` shows them."""

FOUND, TROUBLE, FAULT, READER_GONE = 1, 3, 5, 141

STOPPED = "stopped; what was done is kept, and the same command goes on from there"


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


def _global_options(hidden: bool) -> list[click.Option]:
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
        self.params.extend(_global_options(hidden=True))


class Program(click.Group):
    """The group of all commands, listed by what they are for."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = [*_global_options(hidden=False), *self.params]

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands in their sections."""
        for title, names in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(90)) for name in names])


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


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="dedup", message="%(prog)s %(version)s")
@click.pass_context
def program(context: click.Context) -> None:
    """Find duplicate photos and see why they are duplicates. Nothing among your photos is ever changed."""
    context.ensure_object(Globals)


# ---- find ----------------------------------------------------------------------------------------------------------


@program.command()
@click.argument("roots", nargs=-1, required=True, metavar="FOLDER...")
@click.option(
    "--report", "html", metavar="FILE.html", help="Write the report as one self-contained HTML file too."
)
@click.option("--fail-on-found", is_flag=True, help="Exit with 1 if there is a duplicate.")
@JSON_OPTION
@apply_options(SETTINGS_OPTIONS)
@click.pass_obj
def scan(
    given: Globals,
    /,
    roots: tuple[str, ...],
    html: str | None,
    fail_on_found: bool,
    as_json: bool,
    **flags: Any,
) -> int:
    """Crawl, fingerprint, match, confirm and group; unchanged photos are not read again."""
    from dedup import pipeline
    from dedup.cli.words import found_any, in_trouble, next_line, summary_lines

    settings, talk = given.settings(flags), given.talk
    if html:
        _check_writable(html)
    with talk.progress() as progress:
        outcome = pipeline.scan_folders(roots, settings, progress)
    if html or as_json:
        # Only now: on 100,000 photos of which none changed, loading the report is most of the time.
        found = pipeline.load_report(settings)
        if html:
            _write_html(found, settings, html, talk)
        if as_json:
            _put_json(found)
    lines = summary_lines(outcome)
    if as_json:
        talk.say("\n".join(lines))
    else:
        put("\n".join(printable(line) for line in lines) + "\n")
    if following := next_line(outcome.tally, html or "", given.db or ""):
        talk.say(following)
    if fail_on_found and found_any(outcome.tally):
        return FOUND
    return TROUBLE if in_trouble(outcome.tally) else 0


# ---- decide --------------------------------------------------------------------------------------------------------


@program.command()
@JSON_OPTION
@click.option("--csv", "as_csv", is_flag=True, help="CSV on stdout, one row per photo of a group.")
@click.option("--html", metavar="FILE", help="Write one self-contained HTML file.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "csv", "fdupes"]),
    help="Text as fdupes prints it, for scripts.",
)
@click.option(
    "-0", "--print0", is_flag=True, help="Paths end with NUL instead of a newline (fdupes, --skipped)."
)
@click.option(
    "--skipped", "only_skipped", is_flag=True, help="List the files that were not examined, and why."
)
@click.option("--similar", is_flag=True, help="Show pairs of the same scene too; they are no duplicates.")
@click.option(
    "--all-roots", is_flag=True, help="All that the catalogue knows, not only the roots of the last scan."
)
@click.option("--fail-on-found", is_flag=True, help="Exit with 1 if there is a duplicate.")
@click.pass_obj
def report(given: Globals, /, **asked: Any) -> int:
    """Show the duplicates that the last scan found: text, --json, --csv, --html FILE, --format fdupes, --skipped."""
    from dedup import pipeline

    form = _one_form(asked)
    if asked["html"]:
        _check_writable(asked["html"])
    settings = given.settings()
    found = pipeline.load_report(settings, asked["all_roots"])
    if asked["html"]:
        _write_html(found, settings, asked["html"], given.talk)
    if asked["only_skipped"]:
        _put_skipped(found, form, asked["print0"])
    elif form or not asked["html"]:
        _put_report(found, form or "text", asked)
    members = (member for group in found.groups for member in group.members)
    return FOUND if asked["fail_on_found"] and any(member.match.relation.is_safe for member in members) else 0


def _one_form(asked: Mapping[str, Any]) -> str:
    """The form in which the report goes to stdout; empty if none was asked for."""
    flags = [asked["form"], asked["as_json"] and "json", asked["as_csv"] and "csv"]
    if asked["print0"] and not asked["only_skipped"]:
        flags.append("fdupes")
    forms = {form for form in flags if form}
    if len(forms) > 1:
        raise UsageError(f"one report at a time: {' or '.join(sorted(forms))}")
    return forms.pop() if forms else ""


def _put_report(found: Report, form: str, asked: Mapping[str, Any]) -> None:
    from dedup import report as forms

    match form:
        case "json":
            _put_json(found)
        case "csv":
            put(forms.to_csv(found))
        case "fdupes":
            put(forms.to_fdupes(found, asked["print0"]))
        case _:
            width = shutil.get_terminal_size((100, 24)).columns
            put(forms.to_text(found, width, _wants_colour(), similar=asked["similar"]))


def _put_skipped(found: Report, form: str, print0: bool) -> None:
    from dedup.cli.words import skipped_lines

    if form == "json":
        from dedup.report import to_json

        whole = to_json(found)
        put(json.dumps({key: whole[key] for key in ("schema", "skipped")}, indent=1) + "\n")
    elif print0:
        put("".join(f"{skipped.path}\0" for skipped in found.skipped))
    else:
        put("\n".join(printable(line) for line in skipped_lines(found.skipped)) + "\n")


# ---- look after ----------------------------------------------------------------------------------------------------


@program.command()
@JSON_OPTION
@click.pass_obj
def stats(given: Globals, /, as_json: bool) -> int:
    """What is in the catalogue, in numbers."""
    from dedup import pipeline
    from dedup.cli.words import stats_lines

    numbers = pipeline.library_stats(given.settings())
    if as_json:
        put(json.dumps({"schema": 1, **numbers}, indent=1) + "\n")
    else:
        put("\n".join(printable(line) for line in stats_lines(numbers)) + "\n")
    return 0


@program.command()
@JSON_OPTION
@click.pass_obj
def doctor(given: Globals, /, as_json: bool) -> int:
    """Check formats, extras, annoy and the catalogue, and say what to install or do."""
    from dedup import pipeline

    findings = pipeline.examine_installation(given.settings())
    if as_json:
        put(json.dumps({"schema": 1, "findings": [asdict(finding) for finding in findings]}, indent=1) + "\n")
    else:
        for finding in findings:
            remedy = f"  ->  {finding.remedy}" if finding.remedy else ""
            put(printable(f"{finding.state:<8} {finding.name:<16} {finding.words}{remedy}") + "\n")
    return TROUBLE if any(finding.state == "wrong" for finding in findings) else 0


@program.command()
@JSON_OPTION
@click.pass_obj
def config(given: Globals, /, as_json: bool) -> int:
    """Show every setting, its value and where it came from."""
    from dedup import pipeline

    chosen = given.choose()
    values = asdict(chosen.settings)
    if as_json:
        rows = {name: {"value": values[name], "from": chosen.origins[name]} for name in values}
        put(json.dumps({"schema": 1, "settings": rows}, indent=1) + "\n")
        return 0
    values["db"] = pipeline.catalogue_path(chosen.settings)
    shown = {name: _value_words(value) for name, value in values.items()}
    wide = max(map(len, shown.values()))
    put("".join(f"{name:<20} {shown[name]:<{wide}}  {chosen.origins[name]}\n" for name in values))
    given.talk.say(f"\nfiles that are read: {given.config or f'{LOCAL_FILE}, then {user_file()}'}")
    return 0


def _value_words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return printable(" ".join(value) if isinstance(value, tuple) else str(value)) or "-"


@program.command()
@click.option(
    "--format", "form", type=click.Choice(["csv", "jsonl", "parquet"]), help="Default: as FILE ends, or csv."
)
@click.option("-o", "--output", metavar="FILE", help="Write to FILE rather than stdout.")
@click.pass_obj
def export(given: Globals, /, form: str | None, output: str | None) -> int:
    """Every photo of the catalogue with its figures: CSV, JSON Lines or Parquet."""
    from dedup import pipeline

    ending = os.path.splitext(output or "")[1].lower().removeprefix(".")
    form = form or (ending if ending in ("csv", "jsonl", "parquet") else "csv")
    settings = given.settings()
    if output is None:
        with results() as out:
            pipeline.export_photos(settings, form, out)
        return 0
    _check_writable(output)
    with _writing(output):
        rows = pipeline.export_photos(settings, form, output)
    given.talk.say(f"{rows:,} photos written to {os.path.abspath(output)}")
    return 0


# ---- what commands share -------------------------------------------------------------------------------------------


def _put_json(found: Report) -> None:
    from dedup.report import to_json

    put(json.dumps(to_json(found), indent=1) + "\n")


def _wants_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _check_writable(path: str) -> None:
    """Say now, not after an hour of work, that a file cannot be written."""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise UsageError(f"{path}: there is no folder {folder}")
    if os.path.isdir(path):
        raise UsageError(f"{path}: this is a folder; give the name of a file in it")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"{path}: nothing can be written into {folder}")


@contextmanager
def _writing(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror or error})") from error


def _write_html(found: Report, settings: Settings, path: str, talk: Talk) -> None:
    from dedup import pipeline

    with talk.progress() as progress, _writing(path):
        pipeline.write_html(found, settings, path, progress)
    talk.say(f"report    {os.path.abspath(path)}")


def main() -> int:
    """Run the command that `sys.argv` says and give its exit code; no exception comes out."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # under nohup, HUP stays ignored
            signal.signal(number, stop_soon)
    sys.unraisablehook = hush_interruptions
    talk = Talk()
    try:
        return int(program.main(prog_name="dedup", standalone_mode=False) or 0)
    except Interrupted as stop:
        talk.complain(STOPPED)
        return stop.exit_code
    except click.ClickException as error:
        error.show()
        return UsageError.exit_code
    except DedupError as error:
        talk.complain(str(error))
        return error.exit_code
    except (ReaderGone, SystemExit):  # click leaves by SystemExit when the reader of its own output is gone
        return READER_GONE
    except Exception:  # noqa: BLE001 - Python's own exit code for a bug is 1, which here means "found"
        talk.complain(
            f"this is a fault in dedup {__version__}, not in your photos; nothing among them was changed"
        )
        talk.complain(traceback.format_exc().rstrip())
        return FAULT
