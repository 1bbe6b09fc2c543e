"""`scan`: find what is there, on this machine or on Apache Spark."""

from __future__ import annotations

from typing import Any

import click

from dedup.cli.frame import (
    FOUND,
    JSON_OPTION,
    SETTINGS_OPTIONS,
    TROUBLE,
    Command,
    Globals,
    apply_options,
    check_writable,
    put_json,
    write_html,
)
from dedup.cli.talk import put
from dedup.errors import UsageError
from dedup.report.text import printable


@click.command(cls=Command)
@click.argument("roots", nargs=-1, required=True, metavar="FOLDER...")
@click.option(
    "--report", "html", metavar="FILE.html", help="Write the report as one self-contained HTML file too."
)
@click.option("--fail-on-found", is_flag=True, help="Exit with 1 if there is a duplicate.")
@click.option(
    "--engine",
    type=click.Choice(["local", "spark"]),
    default="local",
    help="Where the work is done: on this machine, or on Apache Spark.",
)
@click.option("--master", default="", metavar="URL", help="With Spark: its master, as spark-submit takes it.")
@click.option(
    "--out", default="", metavar="DIR", help="With Spark: folder or address of the Parquet data set."
)
@JSON_OPTION
@apply_options(SETTINGS_OPTIONS)
@click.pass_obj
def scan(given: Globals, /, roots: tuple[str, ...], **asked: Any) -> int:
    """Crawl, fingerprint, match, confirm and group; unchanged photos are not read again."""
    from dedup import pipeline
    from dedup.cli.words import dataset_next_line, found_any, in_trouble, next_line, summary_lines

    html, fail_on_found, as_json = (asked.pop(name) for name in ("html", "fail_on_found", "as_json"))
    engine, master, out = (asked.pop(name) for name in ("engine", "master", "out"))
    settings, talk = given.settings(asked), given.talk
    if html:
        check_writable(html)
    if (engine == "spark") != bool(out) or (master and engine != "spark"):
        raise UsageError("--engine spark and --out DIR go together, and --master with them")
    with talk.progress() as progress:
        if engine == "spark":
            from dedup.spark import Where, scan_on_spark

            outcome = scan_on_spark(roots, settings, Where(out, master), progress)
        else:
            outcome = pipeline.scan_folders(roots, settings, progress)
    if html or as_json:
        # Only now: on 100,000 photos of which none changed, loading the report is most of the time.
        found = pipeline.load_dataset_report(out) if out else pipeline.load_report(settings)
        if html:
            write_html(found, settings, html, talk)
        if as_json:
            put_json(found)
    lines = summary_lines(outcome)
    if as_json:
        talk.say("\n".join(lines))
    else:
        put("\n".join(printable(line) for line in lines) + "\n")
    if out:
        following = dataset_next_line(outcome.tally, out)
    else:
        following = next_line(outcome.tally, html or "", given.db or "")
    if following:
        talk.say(following)
    if fail_on_found and found_any(outcome.tally):
        return FOUND
    return TROUBLE if in_trouble(outcome.tally) else 0
