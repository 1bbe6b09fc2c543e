"""`plan` and `ignore`: what would be done, and what people say about duplicates."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Mapping
from typing import Any

import click

from dedup.cli.frame import JSON_OPTION, Command, Function, Globals, apply_options, check_writable
from dedup.cli.talk import Talk, put
from dedup.errors import UsageError
from dedup.records import Act, Decision, Plan, Relation, Selection, Verdict
from dedup.report.text import printable, size_words

SELECTION_OPTIONS: tuple[Callable[[Function], Function], ...] = (
    click.option(
        "--only",
        multiple=True,
        type=click.Choice([relation.value for relation in Relation]),
        help="Only duplicates of this relation; repeatable.",
    ),
    click.option(
        "--group",
        "groups",
        multiple=True,
        metavar="ID",
        help="Only this group (its id or the beginning of it); repeatable.",
    ),
    click.option(
        "--within",
        multiple=True,
        metavar="FOLDER",
        help="Only duplicates that lie in this folder; repeatable.",
    ),
    click.option(
        "--action",
        type=click.Choice([act.value for act in Act]),
        default=Act.QUARANTINE.value,
        show_default=True,
        help="What happens to them; links are for the same bytes only.",
    ),
    click.option(
        "--accept-metadata-loss",
        is_flag=True,
        help="Also those that say something (GPS, date, rating, keywords, sidecar) that the kept photo does not.",
    ),
)
"""Which duplicates, and what is to happen to them."""


def selection_of(asked: Mapping[str, Any]) -> Selection:
    """The selection that `SELECTION_OPTIONS` made."""
    return Selection(
        only=tuple(Relation(name) for name in asked["only"]),
        groups=tuple(asked["groups"]),
        within=tuple(asked["within"]),
        act=Act(asked["action"]),
        accept_metadata_loss=asked["accept_metadata_loss"],
    )


@click.command(cls=Command)
@apply_options(SELECTION_OPTIONS)
@click.option(
    "--protect",
    multiple=True,
    metavar="FOLDER",
    help="Leave alone what lies here, beside what the settings protect; repeatable.",
)
@click.option("--decisions", metavar="FILE", help="Take over decisions from a JSON file first.")
@click.option(
    "--decided", is_flag=True, help="Only what you said may go, in dedup review or a file of decisions."
)
@click.option(
    "--all-roots", is_flag=True, help="All that the catalogue knows, not only the roots of the last scan."
)
@click.option("-o", "--output", metavar="FILE", help="Write the plan file, for dedup apply.")
@click.option("--show", metavar="PLAN", help="Print a plan file again, and make none.")
@click.option("--simple", is_flag=True, help="One line of JSON for each file: op, dup, keep.")
@JSON_OPTION
@click.pass_context
def plan(context: click.Context, /, **asked: Any) -> int:
    """Write down what would be done with the duplicates; nothing is done to them."""
    from dedup import pipeline

    given: Globals = context.obj
    talk = given.talk
    if asked["simple"] and asked["as_json"]:
        raise UsageError("one form at a time: --simple or --json")
    if asked["show"] is not None:
        _refuse_others(context)
        put_plan(pipeline.load_plan(asked["show"]), asked)
        return 0
    settings = given.settings({"protect": asked["protect"]})
    output = asked["output"]
    if output:
        check_writable(output)
    with talk.progress() as progress:
        if asked["decisions"]:
            found = pipeline.read_decisions(asked["decisions"], settings)
            news = pipeline.decide(found, settings, progress)
            talk.say(f"{len(found):,} decisions read, {news:,} of them new")
        made = pipeline.make_plan(
            selection_of(asked),
            settings,
            progress,
            all_roots=asked["all_roots"],
            decided_only=asked["decided"],
        )
    if output:
        pipeline.save_plan(made, output)
    if output and not (asked["simple"] or asked["as_json"]):
        from dedup.plan import plan_summary

        put("".join(printable(line) + "\n" for line in plan_summary(made, size_words)))
    else:
        put_plan(made, asked)
    if output:
        _say_next(output, made, talk)
    return 0


def _refuse_others(context: click.Context) -> None:
    """`--show` reads a finished plan; whatever else was said would not come true."""
    allowed = {"show", "simple", "as_json"}
    for parameter in context.command.params:
        name = parameter.name or ""
        given = context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if parameter.expose_value and given and name not in allowed:
            raise UsageError(f"--show prints a plan as it is; it goes with no {parameter.opts[-1]}")


def put_plan(made: Plan, asked: Mapping[str, Any]) -> None:
    """A plan on stdout: for people, as JSON, or one line of JSON for each file."""
    from dedup import plan as forms

    if asked["simple"]:
        put("".join(line + "\n" for line in forms.simple_lines(made)))
    elif asked["as_json"]:
        put(json.dumps(forms.plan_to_json(made), indent=1) + "\n")
    else:
        put("".join(printable(line) + "\n" for line in forms.plan_text(made, size_words)))


def _say_next(output: str, made: Plan, talk: Talk) -> None:
    where = shlex.quote(output)
    talk.say(f"plan      {os.path.abspath(output)}")
    if made.operations:
        talk.say(f"next: dedup plan --show {where}   |   dedup apply {where} --yes")


@click.command(cls=Command)
@click.argument("photos", nargs=-1, metavar="PHOTO...")
@click.option(
    "--group",
    "groups",
    multiple=True,
    metavar="ID",
    help="All photos of this group (its id or its beginning); repeatable.",
)
@click.option("--keep-both", is_flag=True, help="They are duplicates, and all are to stay.")
@click.option("--forget", is_flag=True, help="Take back what was said about them.")
@click.option("--list", "as_list", is_flag=True, help="List all decisions.")
@click.option(
    "-o", "--output", metavar="FILE", help="Write all decisions as JSON, for dedup plan --decisions."
)
@JSON_OPTION
@click.pass_obj
def ignore(given: Globals, /, photos: tuple[str, ...], groups: tuple[str, ...], **asked: Any) -> int:
    """Say of photos that they are no duplicates of each other; it holds for their contents, wherever they lie."""
    from dedup import pipeline

    settings, talk = given.settings(), given.talk
    if asked["as_list"] or asked["output"] or (asked["as_json"] and not photos):
        if photos or groups or asked["forget"] or asked["keep_both"]:
            raise UsageError("list the decisions, or decide: not both at once")
        _put_decisions(pipeline.list_decisions(settings), asked, talk)
        return 0
    verdict = Verdict.KEEP_BOTH if asked["keep_both"] else Verdict.NOT_DUPLICATES
    decisions = pipeline.part_photos(photos, groups, settings, verdict)
    with talk.progress() as progress:
        if asked["forget"]:
            count = pipeline.forget_decisions(decisions, settings, progress)
        else:
            count = pipeline.decide(decisions, settings, progress)
    if asked["as_json"]:
        put(json.dumps(pipeline.decisions_to_json(decisions) | {"changed": count}, indent=1) + "\n")
        return 0
    pairs = f"{len(decisions):,} pair" + ("" if len(decisions) == 1 else "s")
    if asked["forget"]:
        put(f"{pairs}: {count:,} taken back\n")
    else:
        said = "all of them stay" if asked["keep_both"] else "no duplicates of each other"
        put(f"{pairs}: {said}; {count:,} new\n")
    return 0


def _put_decisions(decisions: list[Decision], asked: Mapping[str, Any], talk: Talk) -> None:
    from dedup import pipeline

    if asked["output"]:
        check_writable(asked["output"])
        pipeline.write_decisions(decisions, asked["output"])
        talk.say(f"{len(decisions):,} decisions written to {os.path.abspath(asked['output'])}")
    elif asked["as_json"]:
        put(pipeline.decisions_text(decisions))
    else:
        put(
            "".join(printable(_decision_words(decision)) + "\n" for decision in decisions) or "no decisions\n"
        )


def _decision_words(decision: Decision) -> str:
    left, right = decision.left.hex()[:12], decision.right.hex()[:12]
    what = {
        Verdict.REMOVE: f"{right} may go for {left}",
        Verdict.KEEP_BOTH: f"{left} and {right} both stay",
        Verdict.NOT_DUPLICATES: f"{left} and {right} are no duplicates",
        Verdict.LATER: f"{left} and {right} are to be decided later",
        Verdict.KEEP: f"{left} is kept",
    }[decision.verdict]
    more = " - ".join(part for part in (decision.place, decision.note) if part)
    return f"{decision.decided}  {what}" + (f"  {more}" if more else "")
