"""`stats`, `doctor`, `config`, `export` and `import`: looking after the catalogue and the installation."""

from __future__ import annotations

import json
import os
from dataclasses import asdict

import click

from dedup.cli.frame import JSON_OPTION, TROUBLE, Command, Globals, check_writable, writing
from dedup.cli.layers import LOCAL_FILE, user_file
from dedup.cli.talk import put, results
from dedup.report.text import printable


@click.command(cls=Command)
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


@click.command(cls=Command)
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


@click.command(cls=Command)
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


@click.command(cls=Command)
@click.option(
    "--format", "form", type=click.Choice(["csv", "jsonl", "parquet"]), help="Default: as FILE ends, or csv."
)
@click.option("-o", "--output", metavar="FILE", help="Write to FILE rather than stdout.")
@click.option(
    "--from", "dataset", default="", metavar="DIR", help="The photos of a data set that Spark made."
)
@click.pass_obj
def export(given: Globals, /, form: str | None, output: str | None, dataset: str) -> int:
    """Every photo of the catalogue with its figures: CSV, JSON Lines or Parquet."""
    from dedup import pipeline

    ending = os.path.splitext(output or "")[1].lower().removeprefix(".")
    form = form or (ending if ending in ("csv", "jsonl", "parquet") else "csv")
    settings = given.settings()
    if output is None:
        with results() as out:
            pipeline.export_photos(settings, form, out, dataset)
        return 0
    check_writable(output)
    with writing(output):
        rows = pipeline.export_photos(settings, form, output, dataset)
    given.talk.say(f"{rows:,} photos written to {os.path.abspath(output)}")
    return 0


@click.command(cls=Command, name="import")
@click.argument("dataset", metavar="DIR")
@click.pass_obj
def import_(given: Globals, /, dataset: str) -> int:
    """Bring a data set that Spark made into a new catalogue, for plans."""
    from dedup import pipeline
    from dedup.cli.words import next_line, summary_lines

    settings, talk = given.settings(), given.talk
    with talk.progress() as progress:
        outcome = pipeline.import_dataset(dataset, settings, progress)
    put("\n".join(printable(line) for line in summary_lines(outcome)) + "\n")
    if following := next_line(outcome.tally, "", given.db or ""):
        talk.say(following)
    return 0
