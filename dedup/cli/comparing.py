"""`compare`: two pictures, whether they are the same, and every measure of how they differ."""

from __future__ import annotations

import json
import os
import textwrap
from typing import Any

import click

from dedup.cli.frame import JSON_OPTION, Command, Globals
from dedup.cli.talk import put
from dedup.errors import UsageError
from dedup.records import Asked, Comparison, Hurdle, Measure, Photo, Plain, Preparation
from dedup.records.comparing import Part
from dedup.report.text import printable, size_words

SCHEMA = 1
DIFFERENT = 1
"""Exit code for anything that is not safely the same."""
_WIDTH = 110
_INDENT = 16


@click.command(cls=Command)
@click.argument("pictures", nargs=-1, metavar="A B")
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="NAME",
    help="Only these measures, by name or family; repeatable, or with commas. --list names them.",
)
@click.option("--list", "as_list", is_flag=True, help="List the measures.")
@click.option("--verdict", "verdict_only", is_flag=True, help="The verdict alone, without measures.")
@click.option("--align", is_flag=True, help="Lay B into the frame of A first: moved, turned, scaled.")
@click.option("--crop-to-overlap", is_flag=True, help="Measure only what both show.")
@click.option("--resize", is_flag=True, help="Reduce the larger one to the size of the smaller one first.")
@click.option("--normalise", is_flag=True, help="Stretch both from their 1st to their 99th percentile.")
@click.option(
    "--min-max", is_flag=True, help="Stretch from the least to the largest value; one bright pixel decides."
)
@click.option("--grey", type=click.Choice(["average", "luma"]), help="Measure greys rather than colours.")
@click.option("--denoise", type=click.Choice(["gaussian", "median"]), help="Reduce noise first.")
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 255),
    default=0.0,
    metavar="LEVELS",
    help="Differences up to this are none to l0 and box.",
)
@click.option("--canonical", is_flag=True, help="Only the re-save comparison: both saved by one encoder.")
@click.option("--strict", is_flag=True, help="Only the same bytes count as the same.")
@click.option("--screenshot", is_flag=True, help="As screenshots: the same size, and no word may differ.")
@click.option("--diff", metavar="FILE.png", help="Draw A, B, the difference, and where it is.")
@click.option(
    "--explain", is_flag=True, help="Say which stage of a scan would keep them apart, and by how much."
)
@JSON_OPTION
@click.pass_obj
def compare(given: Globals, /, pictures: tuple[str, ...], **asked: Any) -> int:
    """How two pictures differ, and whether they are the same; exit code 0 for the same, 1 for anything else."""
    if asked["as_list"]:
        if pictures:
            raise UsageError("--list names the measures; it takes no pictures")
        put(_list(asked["as_json"]))
        return 0
    if len(pictures) != 2:
        raise UsageError("name two pictures: dedup compare A B")
    from dedup import pipeline

    settings, talk = given.settings(), given.talk
    question = _question(asked)
    if asked["diff"]:
        pipeline.check_picture_place(asked["diff"], pictures)
    with talk.progress() as progress:
        found = pipeline.compare_files(pictures[0], pictures[1], question, settings, progress)
    if asked["diff"]:
        pipeline.write_picture(found.difference_png, asked["diff"], pictures)
        talk.say(f"difference {os.path.abspath(asked['diff'])}")
    if asked["as_json"]:
        put(json.dumps(to_json(found), indent=1, allow_nan=False) + "\n")
    else:
        put("\n".join(printable(line) for line in to_lines(found)) + "\n")
    return 0 if found.is_same else DIFFERENT


def _question(asked: dict[str, Any]) -> Asked:
    names = tuple(name.strip() for word in asked["methods"] for name in word.split(",") if name.strip())
    if asked["canonical"]:
        names = (*names, "canonical", "resave")
    if asked["verdict_only"] and names:
        raise UsageError("--verdict is without measures; leave out --method, or --verdict")
    if asked["normalise"] and asked["min_max"]:
        raise UsageError("one way to normalise at a time: --normalise or --min-max")
    preparation = Preparation(
        align=asked["align"],
        resize=asked["resize"],
        crop_to_overlap=asked["crop_to_overlap"],
        grey=asked["grey"] or "",
        denoise=asked["denoise"] or "",
        normalise="percentile" if asked["normalise"] else "min-max" if asked["min_max"] else "",
        tolerance_levels=asked["tolerance"],
    )
    return Asked(
        names=() if asked["verdict_only"] else names or ("all",),
        preparation=preparation,
        strict=asked["strict"],
        screenshot=asked["screenshot"],
        explain=asked["explain"],
        draw=bool(asked["diff"]),
    )


# ---- JSON ----------------------------------------------------------------------------------------------------------


def to_json(found: Comparison) -> Plain:
    """The comparison as a JSON object."""
    plain: Plain = {
        "schema": SCHEMA,
        "verdict": found.verdict,
        "relation": found.relation,
        "same": found.is_same,
        "a": _photo(found.left),
        "b": _photo(found.right),
        "preparation": list(found.preparation),
        "measures": {measure.name: _measure(measure) for measure in found.measures},
    }
    if found.match is not None:
        figures = found.match.figures
        plain["confirmed"] = {
            "rms_levels": figures.rms_levels,
            "worst_tile_levels": figures.worst_tile_levels,
            "correlation": figures.correlation,
            "orientation": figures.orientation,
            "alignment": list(figures.alignment),
            "compared_px": list(figures.compared_px),
            "changes": [{"kind": change.kind, "words": change.words} for change in found.match.changes],
            "direction": found.match.direction,
        }
    if found.hurdles:
        plain["explained"] = [
            {
                "stage": hurdle.stage,
                "passed": hurdle.passed,
                "words": hurdle.words,
                "measured": hurdle.measured,
                "limit": hurdle.limit,
            }
            for hurdle in found.hurdles
        ]
    return plain


def _photo(photo: Photo) -> Plain:
    info = photo.info
    return {
        "path": photo.file.path.encode("utf-8", "replace").decode("utf-8"),
        "sha256": photo.digest.hex(),
        "format": info.format,
        "width_px": info.width_px,
        "height_px": info.height_px,
        "mode": info.mode,
        "bits": info.bits,
        "frames": info.frames,
        "damage": info.damage,
    }


def _measure(measure: Measure) -> Plain:
    return {
        "value": measure.value,
        "unit": measure.unit,
        **({"parts": dict(measure.parts)} if measure.parts else {}),
        **({"note": measure.note} if measure.note else {}),
        "meaning": measure.meaning,
        "blind_to": measure.blind_to,
    }


# ---- text ----------------------------------------------------------------------------------------------------------


def to_lines(found: Comparison) -> list[str]:
    """Verdict first, then the files, the measures, and what a scan makes of the pair."""
    lines = [found.verdict, ""]
    lines += [_photo_line("A", found.left), _photo_line("B", found.right)]
    if found.preparation and found.measures:
        lines.append(f"before measuring: {'; '.join(found.preparation)}")
    for measure in found.measures:
        lines += ["", *_measure_lines(measure)]
    if found.hurdles:
        lines += ["", "what a scan makes of the pair:", *map(_hurdle_line, found.hurdles)]
    return lines


def _photo_line(name: str, photo: Photo) -> str:
    info = photo.info
    quality = f" of about quality {info.quality}" if info.quality else ""
    depth = f", {info.bits} bits" if info.bits != 8 else ""
    return (
        f"{name}  {photo.file.path}  {info.width_px} x {info.height_px}, {info.format}{quality}{depth}, "
        f"{size_words(photo.file.size_bytes)}"
    )


def _measure_lines(measure: Measure) -> list[str]:
    """The name, the value and its unit; then what it means, and what it does not see."""
    head = f"{measure.name:<{_INDENT}}{value_words(measure)}"
    parts = ", ".join(f"{name} {part_words(part)}" for name, part in measure.parts if part not in (None, ""))
    return [
        *_wrapped(head + (f"   ({parts})" if parts else "")),
        *_wrapped(" " * _INDENT + measure.meaning),
        *_wrapped(" " * _INDENT + f"blind to {measure.blind_to}"),
    ]


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, _WIDTH, subsequent_indent=" " * _INDENT, break_long_words=False) or [""]


def value_words(measure: Measure) -> str:
    """`1.98 levels`; the reason where there is no number."""
    if measure.value is None:
        return measure.note or "no number"
    words = part_words(measure.value)
    if measure.unit == "share":
        words = f"{100 * float(measure.value):.4g} %"
    elif measure.unit:
        words += f" {measure.unit}"
    return f"{words}; {measure.note}" if measure.note else words


def part_words(value: Part) -> str:
    """A number in a few digits, yes or no, or the text itself."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1e5 else f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    text = str(value)
    return f"{text[:12]}..." if len(text) == 64 else text


def _hurdle_line(hurdle: Hurdle) -> str:
    return f"  {'passes' if hurdle.passed else 'stops':<7}{hurdle.stage:<20}{hurdle.words}"


def _list(as_json: bool) -> str:
    from dedup.compare.kinds import KINDS

    if as_json:
        plain = {
            name: {
                "unit": kind.unit,
                "family": kind.family,
                "meaning": kind.meaning,
                "blind_to": kind.blind_to,
            }
            for name, kind in KINDS.items()
        }
        return json.dumps({"schema": SCHEMA, "measures": plain}, indent=1) + "\n"
    lines = []
    for name, kind in KINDS.items():
        lines += _wrapped(f"{name:<{_INDENT}}{kind.meaning} [{kind.family}]")
    return "\n".join(lines) + "\n"
