"""`check` and `serve`: whether a picture is in the library already."""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import click

from dedup.cli.frame import FOUND, JSON_OPTION, TROUBLE, Command, Globals
from dedup.cli.talk import put
from dedup.errors import UnreadableInput, UsageError
from dedup.records import Answer
from dedup.report.text import printable

if TYPE_CHECKING:
    from dedup.records import Checked

STDIN = "-"
_COPY_BYTES = 1 << 20


@click.command(cls=Command)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--library",
    "folders",
    multiple=True,
    metavar="FOLDER",
    help="Only photos of the library below this folder count; repeatable.",
)
@click.option("--all", "to_the_end", is_flag=True, help="All photos that are alike, not only the first copy.")
@click.option("--move-new-to", metavar="FOLDER", help="Move the new ones there; nothing is ever overwritten.")
@JSON_OPTION
@click.pass_obj
def check(
    given: Globals,
    /,
    files: tuple[str, ...],
    folders: tuple[str, ...],
    to_the_end: bool,
    move_new_to: str | None,
    as_json: bool,
) -> int:
    """Is this picture already in the library? Files, folders, or - for stdin."""
    # One thread of OpenBLAS starts 40 ms sooner than one for each core, and a question has no work for more.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # The garbage of a process that lives 0.3 s is not worth looking for: 10 ms while modules come, 20 ms at the end.
    gc.set_threshold(50_000)
    from dedup import pipeline

    settings, talk = given.settings(), given.talk
    if STDIN in files and move_new_to:
        raise UsageError("-: what comes from stdin has no place to be moved from; name the file")
    counts = dict.fromkeys(Answer, 0)
    moved = 0
    choice = pipeline.CheckChoice(folders, to_the_end, move_new_to or "")
    with _as_files(files) as (names, shown), talk.progress() as progress:
        for answer in pipeline.check_pictures(names, settings, choice, progress if len(names) > 1 else None):
            counts[answer.answer] += 1
            moved += bool(answer.moved_to)
            name = shown.get(answer.name, answer.name)
            if as_json:
                put(json.dumps(pipeline.answer_to_json(answer, name)) + "\n")
            else:
                put("\n".join(printable(line) for line in answer_lines(answer, name)) + "\n")
    gc.freeze()
    if sum(counts.values()) != 1:
        talk.say(summary_line(counts, moved))
    if counts[Answer.UNREADABLE]:
        return TROUBLE
    return FOUND if counts[Answer.THERE] else 0


def answer_lines(answer: Checked, name: str) -> list[str]:
    """The answer in a sentence, and what else a person should know below it."""
    best = answer.best
    if answer.answer is Answer.UNREADABLE:
        why = answer.skipped
        said = "" if why is None else f": {why.reason}" + (f" ({why.detail})" if why.detail else "")
        lines = [f"{name}: not read{said}"]
    elif best is None:
        lines = [f"{name}: new"]
    else:
        which = "this one" if best.library_first else "the one in the library"
        detail = "" if best.match is None else f"; {which} is {best.sentence}"
        if answer.answer is Answer.THERE:
            how = "the same bytes as " if best.match is None else ""
            lines = [f"{name}: there, {how}{best.path}{detail}"]
        else:
            lines = [f"{name}: new, but the library has another version of it, {best.path}{detail}"]
        lines += [
            f"    also {other.path}: {other.sentence}" for other in answer.likenesses if other is not best
        ]
    if answer.moved_to:
        lines.append(f"    moved to {answer.moved_to}")
    return [*lines, *(f"    note: {note}" for note in answer.notes)]


def summary_line(counts: dict[Answer, int], moved: int) -> str:
    """What became of many pictures."""
    parts = [
        f"{counts[Answer.THERE]:,} there",
        f"{counts[Answer.NEW] + counts[Answer.EDITED]:,} new",
    ]
    if counts[Answer.EDITED]:
        parts[-1] += f" ({counts[Answer.EDITED]:,} of them other versions of photos that are there)"
    if counts[Answer.UNREADABLE]:
        parts.append(f"{counts[Answer.UNREADABLE]:,} not read")
    if moved:
        parts.append(f"{moved:,} moved")
    return ", ".join(parts)


@contextmanager
def _as_files(names: Sequence[str]) -> Iterator[tuple[list[str], dict[str, str]]]:
    """The names with stdin as a file, and what to call that."""
    if STDIN not in names:
        yield list(names), {}
        return
    with tempfile.NamedTemporaryFile(prefix="dedup-stdin-") as held:
        _pour(sys.stdin.buffer, held)
        path = os.path.realpath(held.name)
        yield [path if name == STDIN else name for name in names], {path: STDIN}


def _pour(source: IO[bytes], target: IO[bytes]) -> None:
    try:
        while block := source.read(_COPY_BYTES):
            target.write(block)
        target.flush()
    except OSError as error:
        raise UnreadableInput(f"-: stdin cannot be read or kept ({error.strerror or error})") from error


@click.command(cls=Command)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8321, show_default=True, help="0: any that is free."
)
@click.option(
    "--token-file",
    metavar="FILE",
    help="Where the token is; made if it is missing (default: beside the catalogue).",
)
@click.option(
    "--library", "folders", multiple=True, metavar="FOLDER", help="Only photos below this folder count."
)
@click.option(
    "--max-body-bytes", type=click.IntRange(1), default=64 << 20, show_default=True, help="Largest picture."
)
@click.option(
    "--body-timeout-s", type=click.FloatRange(0.1), default=30.0, show_default=True, help="Time to send it."
)
@click.pass_obj
def serve(
    given: Globals,
    /,
    host: str,
    port: int,
    token_file: str | None,
    folders: tuple[str, ...],
    **bounds: Any,
) -> int:
    """Answer `check` over HTTP, for other machines: /check, /health, /openapi.json."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from dedup import pipeline
    from dedup.library import Library
    from dedup.serve import ServeLimits, read_token
    from dedup.serve import serve as answer

    settings, talk = given.settings(), given.talk
    path = token_file or f"{pipeline.catalogue_path(settings)}.token"
    limits = ServeLimits(body_bytes=bounds["max_body_bytes"], body_s=bounds["body_timeout_s"])
    with Library.open(folders=folders, settings=settings) as library:
        library.prepare()
        token = read_token(path)

        def ready(host: str, port: int) -> None:
            where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            talk.say(f"listening at http://{where}; the token is in {os.path.abspath(path)}")

        answer(library, token, (host, port), limits, ready)
    return 0
