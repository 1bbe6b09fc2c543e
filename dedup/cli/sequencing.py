"""`sequence`: the frames of a folder, what changes in them, what breaks, and what repeats."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from dedup.cli.frame import JSON_OPTION, TROUBLE, Command, Globals, check_writable
from dedup.cli.talk import put
from dedup.records import FramesAsked, Plain, SequenceReport, Step
from dedup.report.text import printable, size_words

SCHEMA = 1
_NAMES = {"kl": "Kullback-Leibler", "js": "Jensen-Shannon", "chi2": "chi-squared", "emd": "earth mover's"}


@click.command(cls=Command)
@click.argument("folder", metavar="FOLDER")
@click.option(
    "--order",
    type=click.Choice(["name", "time"]),
    default="name",
    show_default=True,
    help="Frames by name (frame2 before frame10) or by the time they were taken.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 100, min_open=True),
    default=0.2,
    show_default=True,
    metavar="NATS",
    help="Kullback-Leibler distance of consecutive frames from which a change is sudden.",
)
@click.option("--flow", is_flag=True, help="Follow corners, to tell a moved camera from a moved subject.")
@click.option(
    "--background", metavar="FILE.png", help="Draw the background, and frames that stand out from it."
)
@click.option(
    "-o", "--output", metavar="FILE", help="Write a plan that drops frames in which nothing changed."
)
@JSON_OPTION
@click.pass_obj
def sequence(given: Globals, /, folder: str, **asked: Any) -> int:
    """Consecutive frames: sudden changes, broken frames, what only one frame has, and frames that repeat."""
    from dedup import pipeline
    from dedup.sequence import drop_groups, examine_sequence

    settings, talk = given.settings(), given.talk
    if asked["output"]:
        check_writable(asked["output"])
    if asked["background"]:
        pipeline.check_picture_place(asked["background"])
    question = FramesAsked(
        asked["order"], asked["threshold"], motion=asked["flow"], draw=bool(asked["background"])
    )
    with talk.progress() as progress:
        found = examine_sequence(folder, question, settings, progress)
    if asked["as_json"]:
        put(json.dumps(to_json(found), indent=1, allow_nan=False) + "\n")
    else:
        put("\n".join(printable(line) for line in to_lines(found)) + "\n")
    if asked["background"]:
        if found.background_png:
            pipeline.write_picture(found.background_png, asked["background"])
            talk.say(f"background {os.path.abspath(asked['background'])}")
        else:
            talk.say("no background: no scene stays for four frames; nothing was drawn")
    if asked["output"]:
        plan = pipeline.plan_groups(drop_groups(found), folder, settings)
        pipeline.save_plan(plan, asked["output"])
        talk.say(
            f"plan      {os.path.abspath(asked['output'])}: {len(plan.operations):,} frames would go, "
            f"{len(plan.left_out):,} left alone"
        )
    unread = any(step.photo is None or step.photo.info.damage for step in found.steps)
    return TROUBLE if unread or found.skipped else 0


# ---- JSON ----------------------------------------------------------------------------------------------------------


def to_json(found: SequenceReport) -> Plain:
    """The report as a JSON object."""
    return {
        "schema": SCHEMA,
        "folder": _text(found.folder),
        "threshold": found.threshold,
        "calibration": {
            name: {"median": median, "p95": p95, "largest": largest, "cuts_off_as_many": cut}
            for name, median, p95, largest, cut in found.calibration
        },
        "frames": [_step(step) for step in found.steps],
        "skipped": [
            {
                "path": _text(skipped.path),
                "stage": skipped.stage,
                "reason": skipped.reason,
                "detail": skipped.detail,
            }
            for skipped in found.skipped
        ],
    }


def _step(step: Step) -> Plain:
    motion = step.motion
    return {
        "path": _text(step.path),
        "kl": step.distance,
        **dict(step.others),
        "changed": step.changed,
        "corrupt": step.corrupt,
        "foreign_share": step.foreign_share,
        "foreign_box": list(step.foreign_box) if step.foreign_box else None,
        "odd": step.is_odd,
        "repeats": _text(step.repeats),
        "relation": step.match.relation.value if step.match else None,
        "motion": None
        if motion is None
        else {
            "points": motion.points,
            "camera_px": list(motion.camera_px),
            "moved_share": motion.moved_share,
            "words": motion.words,
        },
    }


def _text(path: str) -> str:
    return path.encode("utf-8", "replace").decode("utf-8")


# ---- text ----------------------------------------------------------------------------------------------------------


def to_lines(found: SequenceReport) -> list[str]:
    """What a person wants to know, most urgent first."""
    steps = found.steps
    lines = [f"{len(steps):,} frames in {found.folder}"]
    lines += _section(
        "sudden changes", [f"{_name(step)}: distance {step.distance:.3g}" for step in found.changes]
    )
    lines += _section(
        "corrupt frames",
        [
            _name(step)
            + f": {step.corrupt}"
            + ("" if step.distance is None else f" (distance {step.distance:.3g})")
            for step in found.corrupt
        ],
    )
    lines += _section(
        "frames with something that the others have not", [_odd_words(step) for step in found.odd]
    )
    lines += _section(
        "nothing changed since an earlier frame", [_repeat_words(step) for step in found.repeated]
    )
    lines += _section(
        "motion",
        [f"{_name(step)}: {_motion_words(step)}" for step in steps if step.motion is not None],
    )
    safe = [step for step in found.repeated if step.match is not None and step.photo is not None]
    if safe:
        space = size_words(sum(step.photo.file.size_bytes for step in safe if step.photo is not None))
        lines += [
            "",
            f"{len(safe):,} frames are copies and may be dropped ({space}): dedup sequence -o FILE, dedup apply",
        ]
    if found.calibration:
        lines += [
            "",
            f"{'distance of consecutive frames':<32}{'median':>10}{'95 %':>10}{'largest':>10}   as strict as",
        ]
        for name, median, p95, largest, cut in found.calibration:
            limit = "nothing is beyond" if cut is None else f"{cut:.3g}"
            lines.append(f"{_NAMES[name]:<32}{median:>10.3g}{p95:>10.3g}{largest:>10.3g}   {limit}")
    return lines


def _section(title: str, rows: list[str]) -> list[str]:
    return ["", f"{title}: {len(rows)}", *(f"  {row}" for row in rows)] if rows else []


def _name(step: Step) -> str:
    return os.path.basename(step.path)


def _odd_words(step: Step) -> str:
    words = f"{_name(step)}: {100 * step.foreign_share:.2g} % of the picture"
    if step.foreign_box is not None and step.photo is not None:
        width, height = step.photo.info.width_px, step.photo.info.height_px
        x0, y0, x1, y1 = step.foreign_box
        words += (
            f", most of it at ({x0 * width:.0f}, {y0 * height:.0f}) to ({x1 * width:.0f}, {y1 * height:.0f})"
        )
    return words


def _repeat_words(step: Step) -> str:
    kept = os.path.basename(step.repeats)
    if step.match is None:
        return f"{_name(step)}: as {kept} but for noise; another exposure, so it is not planned for removal"
    return f"{_name(step)}: as {kept} ({step.match.relation.value})"


def _motion_words(step: Step) -> str:
    motion = step.motion
    assert motion is not None
    dx, dy = motion.camera_px
    more = f", by ({dx:.1f}, {dy:.1f}) px" if "camera moved" in motion.words else ""
    share = (
        f"; {100 * motion.moved_share:.0f} % of the corners otherwise" if "subject" in motion.words else ""
    )
    return motion.words + more + share
