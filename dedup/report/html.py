"""The report as one self-contained HTML file that opens offline.

Promises: no request leaves the file (a content security policy forbids it); every name is escaped; nothing in the file
can act on a photo. What is decided in it is saved as JSON that `dedup plan --decisions` reads. The list is drawn by
the page's own script as it is scrolled, so thousands of groups open at once.
Does not: decode photos; it is handed their pictures (`pictures.draw_pictures`) as they are ready.

The file holds, in this order: the template with its style, the report's data as JSON, the script, and the pictures in
portions of JSON that the script opens when it needs them. The script comes before the pictures, so that a browser shows
the first groups while it still reads.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any, TextIO
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from dedup.records import DuplicateGroup, Match, Member, Photo, Relation, Report, Skipped
from dedup.report.pictures import MOST_SIMILAR, DrawnPictures, GroupSights, in_chunks
from dedup.report.text import index_words, printable, size_words, skipped_words

PORTION_BYTES = 400_000
"""Pictures of one portion: about thirty groups, opened in a few milliseconds."""
_RANK = {relation: rank for rank, relation in enumerate(Relation)}
MOST_SKIPPED = 2000
"""Files not examined that are listed; `dedup report --skipped` lists them all."""


def write_html(report: Report, out: TextIO, drawn: Iterable[DrawnPictures] = ()) -> None:
    """Write the report.

    Parameters
    ----------
    out
        Text, UTF-8.
    drawn
        The pictures of `plan_pictures(report)`, in any order, written as they come; without them the report has
        names and figures only.
    """
    page = _template().render(
        report=report,
        style=Markup(_asset("page.css")),  # noqa: S704 - our own file
        script=Markup(_asset("page.js")),  # noqa: S704
        style_hash=_hash_of("page.css"),
        script_hash=_hash_of("page.js"),
        data=_as_script(_page(report)),
        totals=_totals(report),
        facts=_facts(report),
    )
    head, tail = page.split("<!-- pictures -->")
    out.write(head)
    for portion in in_chunks(iter(drawn), PORTION_BYTES):
        keys = " ".join(pictures.key for pictures in portion)
        body = _as_script({pictures.key: _plain_pictures(pictures) for pictures in portion})
        out.write(f'<script type="application/json" class="pictures" data-keys="{keys}">{body}</script>\n')
    out.write(tail)


def _plain_pictures(pictures: DrawnPictures) -> list[list[str]]:
    return [
        [base64.b64encode(picture).decode() for picture in group]
        for group in (pictures.sights, pictures.comparisons)
    ]


@cache
def _asset(name: str) -> str:
    return files("dedup.report").joinpath("assets", name).read_text("utf-8")


def _hash_of(name: str) -> str:
    """Of an inline style or script, as a content security policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(_asset(name).encode()).digest()).decode()


@cache
def _template() -> Any:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_asset("page.html"))


def _as_script(data: Any) -> Markup:
    """JSON that may stand inside a script element, whatever the names hold."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - nothing that ends a script element is left


def _page(report: Report) -> dict[str, Any]:
    """What the script draws. Short keys: they come by the ten thousand."""
    roots = [root.rstrip("/") + "/" for root in report.summary.roots]
    root = roots[0] if len(roots) == 1 else ""
    return {
        "root": printable(root),
        "groups": [_group(group, root) for group in report.groups],
        "similar": [
            {
                "key": f"s{place}" if place < MOST_SIMILAR else "",
                "left": _photo(pair.left, root, 0),
                "right": _photo(pair.right, root, 1),
                "say": printable(pair.match.sentence),
            }
            for place, pair in enumerate(report.similar)
        ],
        "skipped": [_skipped(entry, root) for entry in _worst_first(report.skipped)[:MOST_SKIPPED]],
    }


def _group(group: DuplicateGroup, root: str) -> dict[str, Any]:
    drawn = GroupSights(group)
    names = {member.photo.id: _name(member.photo.file.path, root) for member in group.members}
    return {
        "id": group.id,
        "keep": _photo(group.keeper, root, 0),
        "why": [printable(reason) for reason in group.keeper_reasons],
        "unit": [printable(os.path.basename(path)) for path in group.keeper_unit_files],
        "free": group.freed_bytes,
        "also": [
            [_name(row.path, root), printable(row.sentence), printable(row.why)] for row in group.also_like
        ],
        # What may go in bulk stands first.
        "members": [
            _member(member, drawn, names, root)
            for member in sorted(group.members, key=lambda member: _RANK[member.match.relation])
        ],
    }


def _member(member: Member, drawn: GroupSights, names: dict[int, str], root: str) -> dict[str, Any]:
    plain = _photo(member.photo, root, drawn.sight_of.get(member.photo.id, -1))
    plain.update(
        rel=member.match.relation.value,
        say=printable(member.match.sentence),
        diff=drawn.comparison_of.get(member.photo.id, -1),
        fig=_figures(member.match),
    )
    if member.also_link_of:
        plain["link"] = 1
    if member.copy_of is not None and member.copy_match is not None:
        plain["copy"] = [names[member.copy_of], member.copy_match.relation.value]
    if member.unit_files:
        plain["unit"] = [printable(os.path.basename(path)) for path in member.unit_files]
    return plain


def _figures(match: Match) -> list[Any]:
    figures = match.figures
    if match.relation is Relation.SAME_BYTES:
        return []
    return [
        round(figures.rms_levels, 1),
        # Euclidean in RGB; per channel it stands on the same scale as the one before.
        round(figures.worst_tile_levels / math.sqrt(3), 1),
        round(figures.correlation, 3),
        figures.phash64_bits,
        list(figures.compared_px),
        [round(value, 3) for value in figures.worst_tile_box] if figures.worst_tile_box else None,
    ]


def _photo(photo: Photo, root: str, sight: int) -> dict[str, Any]:
    info = photo.info
    plain: dict[str, Any] = {
        "name": _name(photo.file.path, root),
        "url": "file://" + quote(photo.file.path_bytes),
        "w": info.width_px,
        "h": info.height_px,
        "fmt": info.format,
        "size": photo.file.size_bytes,
        "sha": photo.digest.hex(),
        "pic": sight,
    }
    if info.metadata.capture_time:
        plain["taken"] = printable(info.metadata.capture_time[:16].replace("T", " "))
    if info.damage:
        plain["damage"] = printable(info.damage)
    return plain


def _name(path: str, root: str) -> str:
    return printable(path.removeprefix(root) if root else path)


def _worst_first(skipped: Iterable[Skipped]) -> list[Skipped]:
    return sorted(
        skipped, key=lambda entry: (not entry.reason.is_trouble, entry.reason, os.fsencode(entry.path))
    )


def _skipped(entry: Skipped, root: str) -> list[str]:
    return [_name(entry.path, root), entry.reason.value, printable(entry.detail)]


def _totals(report: Report) -> dict[str, Any]:
    counts = Counter(member.match.relation for group in report.groups for member in group.members)
    return {
        "groups": len(report.groups),
        "safe": sum(count for relation, count in counts.items() if relation.is_safe),
        "edited": counts[Relation.EDITED],
        "relations": [
            (relation.value, relation.value.replace("-", " "), counts[relation])
            for relation in Relation
            if relation is not Relation.SIMILAR and counts[relation]
        ],
        "freed": size_words(sum(group.freed_bytes for group in report.groups)),
        "links": sum(member.also_link_of for group in report.groups for member in group.members),
        "trouble": sum(entry.reason.is_trouble for entry in report.skipped),
    }


def _facts(report: Report) -> dict[str, Any]:
    summary = report.summary
    return {
        "roots": [printable(root) for root in summary.roots],
        "finished": summary.finished.replace("T", " ").removesuffix("Z").removesuffix("+00:00")[:16],
        "index": index_words(summary.index),
        "skipped": skipped_words(report),
        "listed": min(len(report.skipped), MOST_SKIPPED),
        "hubs": [printable(hub) for hub in report.hubs],
        "recipe": printable(summary.recipe),
    }
