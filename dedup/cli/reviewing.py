"""`review`: the page on which a person looks at the groups and decides."""

from __future__ import annotations

import os
from contextlib import suppress

import click

from dedup.cli.frame import Command, Globals, check_writable
from dedup.cli.talk import Interrupted


@click.command(cls=Command)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    help="Port; 0 for any that is free.",
)
@click.option("--no-browser", is_flag=True, help="Print the link, and open nothing.")
@click.option(
    "--all-roots", is_flag=True, help="All that the catalogue knows, not only the roots of the last scan."
)
@click.option(
    "--plan",
    metavar="FILE",
    default="review.plan",
    show_default=True,
    help="Where the page writes the plan.",
)
@click.option(
    "--decisions",
    metavar="FILE",
    help="Where all decisions are written as JSON at the end (default: beside the catalogue).",
)
@click.pass_obj
def review(given: Globals, /, port: int, no_browser: bool, **asked: str | bool | None) -> int:
    """Look at the groups in a browser and decide; nothing happens to a photo."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from dedup.review import ReviewOptions, serve_review

    settings = given.settings()
    plan, decisions = str(asked["plan"]), str(asked["decisions"] or "")
    for path in (plan, decisions):
        if path:
            check_writable(path)
    options = ReviewOptions(
        port=port,
        browser=not no_browser,
        all_roots=bool(asked["all_roots"]),
        plan=plan,
        decisions=os.path.abspath(decisions) if decisions else "",
        words=("--db", os.path.abspath(settings.db)) if given.db else (),
    )
    with suppress(Interrupted):  # the ordinary end of a review; everything is saved by then
        serve_review(settings, options, given.talk.say)
    return 0
