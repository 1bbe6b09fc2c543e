"""The command line: words become `Settings` and one call of `pipeline`, its answer becomes words and an exit code.

Promises: results on stdout, talk on stderr; the exit codes of the README, whatever happens; `dedup --help` is at once
there, since everything heavy is imported by the command that needs it. Does not: know anything about photos.

    layers.py     flags, variables and files -> Settings    talk.py       stdout, stderr, progress bars
    frame.py      what every command is made of             words.py      the end of a scan in sentences
    finding.py    scan                                      reporting.py  report
    comparing.py  compare                                   checking.py   check, serve
    sequencing.py sequence
    acting.py     apply, undo, recover, purge
    deciding.py   plan, ignore                              tending.py    stats, doctor, config, export, import
    calibrating.py  bench                                   reviewing.py  review
"""

from __future__ import annotations

import sys
import traceback
from typing import Any

import click

from dedup import __version__
from dedup.cli.acting import apply, hint_at_unfinished, purge, recover, undo
from dedup.cli.calibrating import bench
from dedup.cli.checking import check, serve
from dedup.cli.comparing import compare
from dedup.cli.deciding import ignore, plan
from dedup.cli.finding import scan
from dedup.cli.frame import FAULT, READER_GONE, Command, Globals, global_options
from dedup.cli.reporting import report
from dedup.cli.reviewing import review
from dedup.cli.sequencing import sequence
from dedup.cli.talk import (
    Interrupted,
    ReaderGone,
    Talk,
    Verdict,
    hear_signals,
    hush_interruptions,
    ignore_signals,
)
from dedup.cli.tending import config, doctor, export, import_, stats
from dedup.errors import DedupError, UsageError

SECTIONS: dict[str, tuple[click.Command, ...]] = {
    "Find": (scan, compare, check, sequence),
    "Decide": (report, review, plan, ignore),
    "Act": (apply, undo, recover, purge),
    "Look after": (stats, bench, doctor, config, export, import_, serve),
}
"""All commands, as `dedup --help` shows them."""

STOPPED = "stopped; what was done is kept, and the same command goes on from there"


class Program(click.Group):
    """The group of all commands, listed by what they are for."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = [*global_options(hidden=False), *self.params]

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands in their sections."""
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(command.name or "", command.get_short_help_str(90)) for command in commands]
                )


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="dedup", message="%(prog)s %(version)s")
@click.pass_context
def program(context: click.Context) -> None:
    """Find duplicate photos, look at them, then free the space.

    Nothing among your photos changes until `dedup apply --yes`.
    """
    given = context.ensure_object(Globals)
    if program.commands.get(context.invoked_subcommand or "") not in SECTIONS["Act"]:
        hint_at_unfinished(given.talk)


for _commands in SECTIONS.values():
    for _command in _commands:
        program.add_command(_command)


def main() -> int:
    """Run the command that `sys.argv` says and give its exit code; no exception comes out.

    Once the code is decided, signals are ignored until the process is gone.
    """
    hear_signals()
    sys.unraisablehook = hush_interruptions
    talk = Talk()
    try:
        code = _run(talk)
        Verdict.decided = True
    except Interrupted as stop:
        Verdict.decided = True
        code = stop.exit_code
        talk.complain(STOPPED)
    ignore_signals()
    return code


def _run(talk: Talk) -> int:
    try:
        return int(program.main(prog_name="dedup", standalone_mode=False) or 0)
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
