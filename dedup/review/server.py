"""From a port to a page: the server, the link that opens it, and what is left when it ends.

Promises: it listens at 127.0.0.1 only. The link holds a code that is good for one use; a browser is given a file for
the owner's eyes only that leads there, because other users of a machine can read the words of a command. Decisions are
written to a JSON file at the end.
"""

from __future__ import annotations

import html
import os
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import uvicorn

from dedup.errors import DedupError, UsageError
from dedup.listening import Server, one_answer_a_connection, patient_protocol
from dedup.pipeline import Gallery, Review, write_decisions
from dedup.review.app import OPEN_PATHS, Desk, make_app
from dedup.review.door import CONNECTIONS, HEADER_S, Door, Lock
from dedup.review.planning import Planner
from dedup.settings import Settings

HOST = "127.0.0.1"
_MOST_HEADER_BYTES = 16 << 10


@dataclass(frozen=True, slots=True)
class ReviewOptions:
    """What the command line says."""

    port: int = 0
    """0 for any that is free."""
    browser: bool = True
    all_roots: bool = False
    plan: str = "review.plan"
    """Where the plan is written to."""
    decisions: str = ""
    """Where decisions are written to at the end; empty for beside the catalogue."""
    words: tuple[str, ...] = ()
    """Global options that the commands on the page repeat."""


def serve_review(settings: Settings, options: ReviewOptions, say: Callable[[str], None]) -> None:
    """Answer until a signal comes.

    Raises
    ------
    UsageError
        If there is nothing to review, or the port cannot be listened at.
    """
    with Gallery(settings) as gallery:
        review = Review(settings, options.all_roots)
        output = os.path.abspath(options.plan)
        planner = Planner(settings, options.all_roots, output, options.words)
        lock = Lock()
        desk = Desk(review, gallery, planner, lock)
        config = uvicorn.Config(
            "dedup.review",
            host=HOST,
            port=options.port,
            http=patient_protocol(CONNECTIONS, HEADER_S),
            ws="none",
            lifespan="off",
            log_level="critical",
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=_MOST_HEADER_BYTES,
            timeout_graceful_shutdown=2,
        )
        try:
            listening = config.bind_socket()
        except (OSError, SystemExit) as error:
            raise UsageError(f"{HOST}:{options.port}: cannot be listened at; is it taken?") from error
        port = listening.getsockname()[1]
        config.app = one_answer_a_connection(Door(make_app(desk), lock, port, OPEN_PATHS))
        opened: list[str] = []

        def ready(_host: str, port: int) -> None:
            address = f"http://{HOST}:{port}/#{lock.code}"
            say(f"review    {len(review.listing):,} groups at {address}")
            say(
                "          the link is good for one use; Ctrl-C ends the review, every decision is saved already"
            )
            if options.browser and _has_screen():
                opened.append(_open(address))

        try:
            Server(config, ready).run([listening])
        finally:
            listening.close()
            for path in opened:
                with suppress(OSError):
                    os.unlink(path)
            _save(review, options.decisions or f"{review.path}.decisions.json", say)


def _has_screen() -> bool:
    """Whether a browser has somewhere to show itself; one in the terminal would stand in the way of the server."""
    names = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    return not sys.platform.startswith("linux") or any(os.environ.get(name) for name in names)


def _open(address: str) -> str:
    """Have a browser open the page, by way of a file that only this user can read; which."""
    descriptor, path = tempfile.mkstemp(prefix="dedup-review-", suffix=".html")
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(
            '<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
            f'<meta http-equiv="refresh" content="0; url={html.escape(address)}">'
            "<title>dedup review</title><p>The review opens."
        )

    def call() -> None:
        with suppress(webbrowser.Error):
            webbrowser.open(f"file://{path}")

    # Some browsers do not return before they are closed.
    threading.Thread(target=call, daemon=True).start()
    return path


def _save(review: Review, path: str, say: Callable[[str], None]) -> None:
    try:
        found = review.decisions()
        if found:
            write_decisions(found, path)
            say(f"decisions {len(found):,} in {path}")
    except DedupError as error:
        say(f"the decisions are in the catalogue; they could not be copied to a file: {error}")
