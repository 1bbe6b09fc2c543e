"""The sentences at the end of a scan: what was found, what was not examined, and the next command to type.

Promises: counts and sums only; plain text, without escapes for a terminal. Does not: decide what is a duplicate.
"""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Sequence

from dedup.records import Plain, Reason, Relation, ScanOutcome, Skipped, Tally
from dedup.report.text import printable, size_words


def summary_lines(outcome: ScanOutcome) -> list[str]:
    """What a scan found, in two to four lines."""
    summary, tally = outcome.summary, outcome.tally
    other = summary.files - summary.photos
    read = f"{_count(summary.read, 'photo')} read" if summary.read else "nothing had to be read"
    lines = [
        f"{_count(summary.files, 'file')}, {_count(summary.photos, 'photo')}, {other:,} other; "
        f"{read}, {_count(summary.confirmed, 'pair')} compared, in {seconds_words(summary.seconds)}",
        _groups_line(tally),
    ]
    if tally.hubs:
        lines.append(f"{_count(tally.hubs, 'picture')} left out of the groups, resembling too many others")
    trouble = _not_examined(tally)
    return [*lines, trouble] if trouble else lines


def found_any(tally: Tally) -> bool:
    """Whether there is a duplicate: a group with a member that is the same bytes, pixels or picture as its keeper."""
    return any(relation.is_safe for relation, _, _ in tally.groups)


def in_trouble(tally: Tally) -> bool:
    """Whether a photo could not be examined for a reason that a person should know."""
    return any(reason.is_trouble for reason, _, _, _ in tally.not_examined)


def next_line(tally: Tally, html: str, db_flag: str) -> str:
    """The next command to type, given the HTML report that was written, if one was, and `--db` if it was given."""
    command = f"dedup --db {shlex.quote(db_flag)}" if db_flag else "dedup"
    if not tally.groups:
        return f"next: {command} report --similar" if tally.similar else ""
    if html:
        return f"next: open {shlex.quote(html)} in a browser   |   {command} plan"
    return f"next: {command} report --html duplicates.html   |   {command} report   |   {command} plan"


def dataset_next_line(tally: Tally, out: str) -> str:
    """The next command to type after a scan into a data set."""
    command = f"dedup report --from {shlex.quote(out)}"
    return f"next: {command} --html duplicates.html   |   {command}" if tally.groups else ""


def skipped_lines(skipped: Sequence[Skipped]) -> list[str]:
    """A count of the reasons, then one line per file not examined, by reason and path."""
    if not skipped:
        return ["every file was examined"]
    counts = Counter(entry.reason for entry in skipped)
    order = list(Reason)
    ordered = sorted(skipped, key=lambda entry: (order.index(entry.reason), os.fsencode(entry.path)))
    width = max(len(reason) for reason in counts)
    return [
        ", ".join(f"{counts[reason]:,} {reason}" for reason in Reason if reason in counts),
        *(
            f"{entry.reason:<{width}}  {entry.path}" + (f"  ({entry.detail})" if entry.detail else "")
            for entry in ordered
        ),
    ]


def stats_lines(numbers: Plain) -> list[str]:
    """What `library_stats` counted, one thing a line."""
    catalogue, last = numbers["catalogue"], numbers["last_scan"]
    formats = ", ".join(f"{count:,} {name}" for name, count in numbers["formats"].items())
    groups = ", ".join(
        f"{entry['groups']:,} {relation.replace('-', ' ')}" for relation, entry in numbers["groups"].items()
    )
    freed = size_words(sum(entry["freed_bytes"] for entry in numbers["groups"].values()))
    rows = {
        "catalogue": f"{catalogue['path']} ({size_words(catalogue['size_bytes'])})",
        "photos": f"{numbers['photos']:,} in {size_words(numbers['photo_bytes'])}",
        "different": f"{numbers['contents']:,}",
        "formats": formats or "none",
        "unreadable": f"{numbers['unreadable']:,}",
        "compared": f"{_count(numbers['measured_pairs'], 'pair')}, {numbers['matches']:,} of them alike",
        "groups": f"{groups}; {freed} would come back" if groups else "none",
        "last scan": f"{last['finished']} of {', '.join(last['roots'])}" if last else "none",
    }
    return [f"{name:<12} {words}" for name, words in rows.items()]


def _groups_line(tally: Tally) -> str:
    """Each group under the strongest relation it holds, since that is what can be done with it first."""
    if not tally.groups:
        return "no duplicates"
    parts = []
    for relation, count, freed_bytes in tally.groups:
        note = "look first" if relation is Relation.EDITED else size_words(freed_bytes) if freed_bytes else ""
        parts.append(f"{count:,} {relation.replace('-', ' ')}" + (f" ({note})" if note else ""))
    return f"{_count(sum(count for _, count, _ in tally.groups), 'group')}: {', '.join(parts)}"


def _not_examined(tally: Tally) -> str:
    parts, total = [], 0
    for reason, extension, remedy, count in tally.not_examined:
        if reason.is_trouble:
            parts.append(f"{count:,} {reason}")
        elif reason is Reason.MISSING_EXTRA:
            parts.append(f"{count:,} {printable(extension)} ({remedy})")
        else:
            continue
        total += count
    return (
        f"{_count(total, 'file')} not examined: {', '.join(parts)}; see dedup report --skipped"
        if parts
        else ""
    )


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def seconds_words(seconds: float) -> str:
    """A duration as one says it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
