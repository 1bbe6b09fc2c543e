"""`bench`: how far to trust the program on one's own photos."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from dedup.cli.frame import JSON_OPTION, SETTINGS_OPTIONS, Command, Globals, apply_options
from dedup.cli.talk import put
from dedup.report.text import printable

if TYPE_CHECKING:
    from dedup.calibrate import Calibration


@click.command(cls=Command)
@click.argument("folder", metavar="FOLDER")
@click.option("--photos", type=click.IntRange(2), default=24, show_default=True, help="Photos in the sample.")
@click.option("--seed", type=int, default=1, show_default=True, help="Another one draws another sample.")
@JSON_OPTION
@apply_options(SETTINGS_OPTIONS)
@click.pass_obj
def bench(given: Globals, /, folder: str, photos: int, seed: int, as_json: bool, **flags: Any) -> int:
    """Edit a sample of your photos in many ways, and see what is found and what is mistaken."""
    from dedup.calibrate import calibrate

    with given.talk.progress() as progress:
        found = calibrate(folder, given.settings(flags), photos, seed, progress)
    if as_json:
        plain = {"schema": 1, **asdict(found), "false_bound": found.false_bound}
        put(json.dumps(plain, indent=1) + "\n")
    else:
        put("\n".join(printable(line) for line in _lines(found)) + "\n")
    return 0


def _lines(found: Calibration) -> list[str]:
    """The table: copies first, then edits, then what was mistaken."""
    lines = [f"{found.photos} photos of {found.folder}, each changed in {len(found.scores)} ways"]
    if found.left_out:
        lines[0] += f"; {found.left_out} left out (not decoded, small, or a duplicate of another)"
    for kind, head in (("copy", "copies: found, and safe to remove"), ("edit", "edits: found, and named")):
        lines += ["", head]
        for score in found.scores:
            if score.kind != kind or not score.made:
                continue
            second = score.safe if kind == "copy" else score.named
            wrong = f"  {score.safe} taken for a copy" if kind == "edit" and score.safe else ""
            lines.append(
                f"  {score.name:<18} {score.found:>4} of {score.made:<4} {100 * score.found / score.made:5.1f} %"
                f"  {second:>4}{wrong}"
            )
    lines += [
        "",
        f"different photos put together: {found.false_pairs:,} of {found.pairs:,} pairs, "
        f"below {100 * found.false_bound:.2g} % with 95 % confidence",
    ]
    return lines
