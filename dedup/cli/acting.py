"""`apply`, `undo`, `recover`, `purge`: what changes the library, and says first what it is going to do.

Promises: without `--yes`, or the number of files for a purge, nothing happens; a signal waits until the operation at
hand is complete or taken back; whatever happens to the terminal, the work at hand is finished.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from dedup.cli.deciding import SELECTION_OPTIONS, put_plan, selection_of
from dedup.cli.frame import JSON_OPTION, TROUBLE, Command, Globals, apply_options
from dedup.cli.talk import Interrupted, Talk, put, stop_telling
from dedup.errors import DedupError, UsageError
from dedup.records import Act, Ending, Outcome, Plan, Selection
from dedup.report.text import printable, size_words

if TYPE_CHECKING:
    from dedup.pipeline.acting import Watch

_DONE_WORDS = {Act.QUARANTINE: "moved to quarantine", Act.HARDLINK: "linked", Act.REFLINK: "sharing blocks"}


def hint_at_unfinished(talk: Talk) -> None:
    """Say on stderr that a crash left something half done; for every command that does not look after it itself."""
    from dedup.journal import is_unfinished, state_folder

    if is_unfinished(state_folder()):
        talk.say("an earlier run was interrupted; `dedup recover` brings it to an end")


@contextmanager
def _signals_wait() -> Iterator[Callable[[], bool]]:
    """Let INT, TERM and HUP wait; gives what says whether one came. Once the work is over, it takes effect."""
    arrived: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        arrived.append(number)

    before = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, note)
    try:
        yield lambda: bool(arrived)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if arrived:
        raise Interrupted(arrived[0])


@contextmanager
def _watching(given: Globals, stopping: Callable[[], bool]) -> Iterator[Watch]:
    """A `Watch` with progress that may lose its terminal without harm."""
    from dedup.pipeline.acting import Watch

    with suppress(OSError, ValueError), given.talk.progress() as progress:

        def show(stage: str, done: int, total: int | None) -> None:
            try:
                progress(stage, done, total)
            except (OSError, ValueError):
                stop_telling()

        yield Watch(show, stopping)


def _act(given: Globals, work: Callable[[Watch], None], tell: Callable[[Watch], None]) -> int:
    """Do some work and tell what came of it, even if it ended early."""
    with _signals_wait() as stopping:
        failure: DedupError | None = None
        with _watching(given, stopping) as watch:
            try:
                work(watch)
            except DedupError as error:
                failure = error
        _tell_recovered(given.talk, watch.recovered)
        if watch.outcomes or failure is None:
            tell(watch)
        if failure is not None:
            raise failure
    return TROUBLE if any(outcome.ending is Ending.REFUSED for outcome in watch.outcomes) else 0


def _tell_recovered(talk: Talk, recovered: Sequence[Outcome]) -> None:
    if recovered:
        talk.say("\n".join(_recovered_lines(recovered)))


def _recovered_lines(recovered: Sequence[Outcome]) -> list[str]:
    back = sum(outcome.ending is Ending.UNDONE for outcome in recovered)
    done = sum(outcome.ending in (Ending.DONE, Ending.PURGED) for outcome in recovered)
    return [
        f"after an interruption: {back:,} taken back, {done:,} completed",
        *(f"  {outcome.ending:<8} {outcome.path}" for outcome in recovered),
    ]


# ---- apply ---------------------------------------------------------------------------------------------------------


@click.command(cls=Command)
@click.argument("plan_file", required=False, metavar="[PLAN]")
@click.option("--yes", is_flag=True, help="Do it. Without this, the plan is shown and nothing happens.")
@click.option("--all", "everything", is_flag=True, help="All duplicates that may be removed in bulk.")
@apply_options(SELECTION_OPTIONS)
@click.option("--protect", multiple=True, metavar="FOLDER", help="Change nothing that lies here; repeatable.")
@JSON_OPTION
@click.pass_obj
def apply(
    given: Globals, /, plan_file: str | None, yes: bool, everything: bool, as_json: bool, **asked: Any
) -> int:
    """Do what a plan says: shows it first, and does it with --yes. Undo takes it back."""
    from dedup import pipeline

    settings = given.settings({"protect": asked["protect"]})
    selection = selection_of(asked)
    if plan_file is not None:
        if everything or selection != Selection():
            raise UsageError("a plan file says all there is to do; give a plan or a selection, not both")
        plan = pipeline.load_plan(plan_file)
    elif everything or selection.names_something:
        with given.talk.progress() as progress:
            plan = pipeline.make_plan(selection, settings, progress)
    else:
        raise UsageError(
            "say what to apply: a plan file, or --only RELATION, --group ID, --within FOLDER, or --all on purpose"
        )
    if not yes:
        return _show_only(plan, _same_command(given, plan_file, asked, everything), as_json)
    if not as_json:
        given.talk.detail(f"{len(plan.operations):,} operations")
    return _act(
        given,
        lambda watch: pipeline.apply_plan(plan, settings, watch),
        lambda watch: _tell_applied(plan, watch, as_json),
    )


def _show_only(plan: Plan, command: str, as_json: bool) -> int:
    put_plan(plan, {"simple": False, "as_json": as_json})
    if plan.operations and not as_json:
        put(f"to do it: {command} --yes\n")
    return 0


def _same_command(given: Globals, plan_file: str | None, asked: Mapping[str, Any], everything: bool) -> str:
    """What was typed, as one may type it again."""
    words = ["dedup", *(("--db", given.db) if given.db else ()), "apply"]
    if plan_file is not None:
        words.append(plan_file)
    words += ["--all"] if everything else []
    for name, option in (
        ("only", "--only"),
        ("groups", "--group"),
        ("within", "--within"),
        ("protect", "--protect"),
    ):
        words += [word for value in asked[name] for word in (option, value)]
    if plan_file is None and asked["action"] != Act.QUARANTINE.value:
        words += ["--action", asked["action"]]
    words += ["--accept-metadata-loss"] if asked["accept_metadata_loss"] else []
    return shlex.join(words)


def _tell_applied(plan: Plan, watch: Watch, as_json: bool) -> None:
    acts = {operation.id: operation.act for operation in plan.operations}
    done = [outcome for outcome in watch.outcomes if outcome.ending is Ending.DONE and not outcome.reason]
    before = sum(outcome.ending is Ending.DONE for outcome in watch.outcomes) - len(done)
    refused = [outcome for outcome in watch.outcomes if outcome.ending is Ending.REFUSED]
    now = sum(outcome.freed_now_bytes for outcome in done)
    later = sum(outcome.freed_after_purge_bytes for outcome in done)
    if as_json:
        _put_outcomes(watch, {"run": watch.run, "freed_now_bytes": now, "freed_after_purge_bytes": later})
        return
    counts = {act: sum(acts[outcome.operation] is act for outcome in done) for act in Act}
    parts = [f"{count:,} {_DONE_WORDS[act]}" for act, count in counts.items() if count]
    if before:
        parts.append(f"{before:,} done before")
    if refused:
        only = f" ({_short(refused[0])})" if len(refused) == 1 else ""
        parts.append(f"{len(refused):,} refused{only}")
    if left := len(plan.operations) - len(watch.outcomes):
        parts.append(f"{left:,} not begun")
    words = ", ".join(parts) or "nothing to do"
    if done:
        words += f"; {size_words(now)} free now"
        if later:
            words += f", {size_words(later)} after dedup purge {watch.run}"
        words += f"; dedup undo {watch.run} takes it back"
    _put_lines([*_refused_lines(refused), words])


def _short(outcome: Outcome) -> str:
    return f"{outcome.path.rpartition('/')[2]} {outcome.reason}"


def _refused_lines(refused: Sequence[Outcome]) -> list[str]:
    """Each refused item with its reason and what to do."""
    return [
        f"refused  {outcome.path}: {outcome.reason}" + (f"; {outcome.remedy}" if outcome.remedy else "")
        for outcome in refused
    ]


def _put_lines(lines: Sequence[str]) -> None:
    put("".join(f"{printable(line)}\n" for line in lines))


def _put_outcomes(watch: Watch, summary: dict[str, Any]) -> None:
    counts = {ending.value: sum(o.ending is ending for o in watch.outcomes) for ending in Ending}
    put(
        json.dumps(
            {
                "schema": 1,
                **summary,
                "counts": {name: count for name, count in counts.items() if count},
                "outcomes": [_outcome_json(outcome) for outcome in watch.outcomes],
                "recovered": [_outcome_json(outcome) for outcome in watch.recovered],
            },
            indent=1,
        )
        + "\n"
    )


def _outcome_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "operation": outcome.operation,
        **_path_json("path", outcome.path),
        **_path_json("keep", outcome.keep),
        "ending": outcome.ending.value,
        "reason": printable(outcome.reason),
        "remedy": outcome.remedy,
        "freed_now_bytes": outcome.freed_now_bytes,
        "freed_after_purge_bytes": outcome.freed_after_purge_bytes,
    }


def _path_json(key: str, path: str) -> dict[str, str]:
    """A path as text, with its bytes beside it where they are not UTF-8."""
    raw = os.fsencode(path)
    text = raw.decode("utf-8", "replace")
    return (
        {key: text} if text.encode() == raw else {key: text, f"{key}_bytes": base64.b64encode(raw).decode()}
    )


# ---- undo, recover -------------------------------------------------------------------------------------------------


@click.command(cls=Command)
@click.argument("run", required=False, type=click.IntRange(min=1), metavar="[RUN]")
@click.option("--list", "only_list", is_flag=True, help="List the runs, and what of them still stands.")
@JSON_OPTION
@click.pass_obj
def undo(given: Globals, /, run: int | None, only_list: bool, as_json: bool) -> int:
    """Take back what apply did: the last run, or the one that is named."""
    from dedup import pipeline

    if only_list:
        return _list_runs(as_json)
    return _act(
        given, lambda watch: pipeline.undo_run(run, watch), lambda watch: _tell_undone(watch, as_json)
    )


def _list_runs(as_json: bool) -> int:
    from dedup import pipeline

    runs = pipeline.list_runs()
    if as_json:
        rows = [
            {
                "run": run.number,
                "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(run.started)),
                "roots": list(run.roots),
                "counts": run.counts,
                "waiting_bytes": run.waiting_bytes,
            }
            for run in runs
        ]
        put(json.dumps({"schema": 1, "runs": rows}, indent=1) + "\n")
        return 0
    lines = []
    for run in runs:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.started))
        counts = ", ".join(f"{count:,} {state}" for state, count in run.counts.items()) or "nothing done"
        waiting = f"; {size_words(run.waiting_bytes)} in quarantine" if run.waiting_bytes else ""
        lines.append(f"{run.number:>4}  {when}  {counts}{waiting}  {', '.join(run.roots)}")
    _put_lines(lines or ["no runs yet"])
    return 0


def _tell_undone(watch: Watch, as_json: bool) -> None:
    if as_json:
        _put_outcomes(watch, {"run": watch.run})
        return
    undone = [outcome for outcome in watch.outcomes if outcome.ending is Ending.UNDONE]
    refused = [outcome for outcome in watch.outcomes if outcome.ending is Ending.REFUSED]
    beside = [f"beside   {outcome.path}: {outcome.reason}" for outcome in undone if outcome.reason]
    words = f"run {watch.run}: {len(undone):,} taken back"
    if refused:
        words += f", {len(refused):,} not; dedup undo {watch.run} tries them again"
    _put_lines([*beside, *_refused_lines(refused), words])


@click.command(cls=Command)
@JSON_OPTION
@click.pass_obj
def recover(given: Globals, /, as_json: bool) -> int:
    """Bring to an end what a crash or a power cut left half done. Safe to run at any time."""
    from dedup import pipeline

    def tell(watch: Watch) -> None:
        if as_json:
            _put_outcomes(watch, {})
        elif not watch.recovered:
            put("nothing was left half done\n")

    return _act(given, pipeline.recover_runs, tell)


# ---- purge ---------------------------------------------------------------------------------------------------------

_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


@click.command(cls=Command)
@click.argument("runs", nargs=-1, type=click.IntRange(min=1), metavar="[RUN]...")
@click.option("--older-than", metavar="AGE", help="What has lain there for so long, e.g. 30d (the default).")
@click.option(
    "--count", type=click.IntRange(min=0), metavar="N", help="How many files, instead of typing it."
)
@JSON_OPTION
@click.pass_obj
def purge(
    given: Globals, /, runs: tuple[int, ...], older_than: str | None, count: int | None, as_json: bool
) -> int:
    """Delete what lies in quarantine for good, after looking that the kept photos are there. Gives space back."""
    from dedup import pipeline

    if runs and older_than:
        raise UsageError("name runs or an age, not both")
    choice = pipeline.PurgeChoice(runs, _age_s(older_than or "30d"))
    listed = pipeline.survey_purge(choice)
    which = f"of run {', '.join(map(str, listed.runs))}" if listed.runs else ""
    if listed.kept_by_age:
        one = listed.kept_by_age == 1
        given.talk.say(
            f"{listed.kept_by_age:,} {'file' if one else 'files'} whose pixels are nowhere else "
            f"{'stays' if one else 'stay'}; name the run to purge {'it' if one else 'them'}"
        )
    if not listed.files:
        if count:
            raise UsageError(f"there is nothing to purge, not {count:,} files")
        if as_json:
            put(json.dumps({"schema": 1, "counts": {}, "outcomes": [], "recovered": []}, indent=1) + "\n")
        else:
            put("nothing to purge\n")
        return 0
    if count is None:
        count = _typed_count(listed.files, size_words(listed.bytes), which)
    sure = count
    return _act(
        given,
        lambda watch: pipeline.purge_quarantine(choice, sure, watch),
        lambda watch: _tell_purged(watch, as_json),
    )


def _age_s(words: str) -> float:
    found = re.fullmatch(r"(\d+)\s*([smhdw])", words.strip().lower())
    if found is None:
        raise UsageError(f"--older-than {words}: say a number and s, m, h, d or w, for example 30d")
    return int(found[1]) * _UNITS_S[found[2]]


def _typed_count(files: int, size: str, which: str) -> int:
    words = f"{files:,} {'file' if files == 1 else 'files'} {which} ({size}) will be gone for good"
    if not sys.stdin.isatty():
        raise UsageError(f"{words}; say --count {files} if that is meant")
    click.echo(f"{words}. Type their number to go on: ", err=True, nl=False)
    typed = sys.stdin.readline().strip().replace(",", "")
    if typed != str(files):
        raise UsageError("that is not their number; nothing was purged")
    return files


def _tell_purged(watch: Watch, as_json: bool) -> None:
    gone = [outcome for outcome in watch.outcomes if outcome.ending is Ending.PURGED]
    refused = [outcome for outcome in watch.outcomes if outcome.ending is Ending.REFUSED]
    freed = sum(outcome.freed_now_bytes for outcome in gone)
    if as_json:
        _put_outcomes(watch, {"freed_now_bytes": freed})
        return
    words = f"{len(gone):,} purged, {size_words(freed)} free now"
    if refused:
        words += f"; {len(refused):,} kept in quarantine"
    _put_lines([*_refused_lines(refused), words])
