"""`report`: what the last scan found, in every form."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from typing import Any

import click

from dedup.cli.frame import (
    FOUND,
    JSON_OPTION,
    Command,
    Globals,
    check_writable,
    put_json,
    wants_colour,
    write_html,
)
from dedup.cli.talk import put
from dedup.errors import UsageError
from dedup.records import Report
from dedup.report.text import printable


@click.command(cls=Command)
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
@click.option(
    "--from",
    "dataset",
    metavar="DIR",
    help="What `scan --engine spark` left in DIR, not what the catalogue holds.",
)
@click.option("--fail-on-found", is_flag=True, help="Exit with 1 if there is a duplicate.")
@click.pass_obj
def report(given: Globals, /, **asked: Any) -> int:
    """Show the duplicates that the last scan found: text, --json, --csv, --html FILE, --format fdupes, --skipped."""
    from dedup import pipeline

    form = _one_form(asked)
    if asked["html"]:
        check_writable(asked["html"])
    settings = given.settings()
    if asked["dataset"] and asked["all_roots"]:
        raise UsageError("a data set has the roots that it was made from; --all-roots is about the catalogue")
    if asked["dataset"]:
        found = pipeline.load_dataset_report(asked["dataset"])
    else:
        found = pipeline.load_report(settings, asked["all_roots"])
    if asked["html"]:
        write_html(found, settings, asked["html"], given.talk)
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
            put_json(found)
        case "csv":
            put(forms.to_csv(found))
        case "fdupes":
            put(forms.to_fdupes(found, asked["print0"]))
        case _:
            width = shutil.get_terminal_size((100, 24)).columns
            put(forms.to_text(found, width, wants_colour(), similar=asked["similar"]))


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
