"""`scan`: find what is there."""

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
from dedup.report.text import printable


@click.command(cls=Command)
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
        check_writable(html)
    with talk.progress() as progress:
        outcome = pipeline.scan_folders(roots, settings, progress)
    if html or as_json:
        # Only now: on 100,000 photos of which none changed, loading the report is most of the time.
        found = pipeline.load_report(settings)
        if html:
            write_html(found, settings, html, talk)
        if as_json:
            put_json(found)
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
