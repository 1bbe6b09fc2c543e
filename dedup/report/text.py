"""The report for a terminal: what to keep and why, what the others are, and how much space comes back.

Promises: no line is wider than the terminal unless a single word is; names are never cut, and hold no control
characters; colour only where it is asked for, and never the only sign. Does not: ask the terminal anything.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator

from dedup.records import DuplicateGroup, IndexQuality, Member, Photo, Reason, Relation, Report

NARROW_COLUMNS = 72
"""Below this width facts about a file go on a line of their own, below its name."""

_STYLES = {"keep": "1;32", "safe": "36", "look": "33", "dim": "2", "bold": "1", "bad": "31"}
_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def to_text(report: Report, width: int = 100, colour: bool = False, *, similar: bool = False) -> str:
    """The report as text, with a newline at its end.

    Parameters
    ----------
    width
        Columns of the terminal; 40 at least are used.
    colour
        Whether to use ANSI colours.
    similar
        Whether to list pairs of the same scene too.
    """
    return _Text(report, max(width, 40), colour).render(similar)


class _Text:
    def __init__(self, report: Report, width: int, colour: bool) -> None:
        self._report = report
        self._width = width
        self._colour = colour
        roots = report.summary.roots
        self._root = roots[0].rstrip("/") + "/" if len(roots) == 1 else ""
        self._head = len(f"{len(report.groups)}. ")

    def render(self, similar: bool) -> str:
        lines: list[str] = []
        if self._root and self._report.groups:
            lines += [f"below {printable(self._root)}", ""]
        for number, group in enumerate(self._report.groups, 1):
            lines += [*self._group(number, group), ""]
        if similar and self._report.similar:
            lines += [*self._similar_pairs(), ""]
        lines += self._ending(similar)
        return "\n".join(lines) + "\n"

    def _paint(self, style: str, words: str) -> str:
        return f"\x1b[{_STYLES[style]}m{words}\x1b[0m" if self._colour else words

    def _name(self, path: str) -> str:
        """A path below the root if there is one root, so that names stay short."""
        return printable(path.removeprefix(self._root) if self._root else path)

    def _wrapped(self, words: str, indent: int, style: str = "") -> list[str]:
        lines = [""]
        for word in words.split(" "):
            longer = f"{lines[-1]} {word}" if lines[-1] else word
            if columns(longer) <= self._width - indent or not lines[-1]:
                lines[-1] = longer
            else:
                lines.append(word)
        return [" " * indent + (self._paint(style, line) if style else line) for line in lines]

    def _group(self, number: int, group: DuplicateGroup) -> Iterator[str]:
        head = f"{number}. ".rjust(self._head)
        freed = f"frees {size_words(group.freed_bytes)}" if group.freed_bytes else ""
        yield from self._file(head, "keep", group.keeper, "keep")
        because = f"kept because {_and(group.keeper_reasons)}" if group.keeper_reasons else ""
        yield from self._remark(because)
        yield from self._units(group.keeper_unit_files)
        names = {member.photo.id: member.photo.file.path for member in group.members}
        for member in group.members:
            yield from self._member(member, names)
        for row in group.also_like:
            yield from self._remark(
                f"also like it: {self._name(row.path)} - {printable(row.sentence)} ({printable(row.why)})"
            )
        if freed:
            yield " " * self._head + self._paint("bold", freed)

    def _member(self, member: Member, names: dict[int, str]) -> Iterator[str]:
        relation = member.match.relation
        word = "hard link" if member.also_link_of else relation.replace("-", " ")
        yield from self._file(" " * self._head, word, member.photo, "safe" if relation.is_safe else "look")
        if member.match.sentence != f"the {word}":  # "the same bytes" beside "same bytes" says nothing new
            yield from self._remark(printable(member.match.sentence))
        if member.copy_of is not None and member.copy_match is not None:
            copied = f"{member.copy_match.relation.replace('-', ' ')} as {self._name(names[member.copy_of])}"
            yield from self._remark(copied)
        yield from self._units(member.unit_files)

    def _file(self, head: str, word: str, photo: Photo, style: str) -> Iterator[str]:
        facts = facts_words(photo)
        name = self._name(photo.file.path)
        label = self._paint(style, f"{word:<12}")
        damage = f"  {self._paint('bad', 'damaged')}" if photo.info.damage else ""
        used = self._indent + columns(name) + 2 + len(facts) + (9 if damage else 0)
        if self._width < NARROW_COLUMNS:
            yield f"{head}{label.rstrip()}{damage}"
            yield " " * self._indent + name
            yield " " * self._indent + self._paint("dim", facts)
        elif used <= self._width:
            gap = " " * (self._width - used)
            yield f"{head}{label}  {name}{damage}{gap}  {self._paint('dim', facts)}"
        else:
            yield f"{head}{label}  {name}{damage}"
            yield " " * self._indent + self._paint("dim", facts)

    @property
    def _indent(self) -> int:
        return self._head + (2 if self._width < NARROW_COLUMNS else 14)

    def _remark(self, words: str) -> list[str]:
        return self._wrapped(words, self._indent) if words else []

    def _units(self, files: tuple[str, ...]) -> list[str]:
        return (
            self._remark(f"with {_and([os.path.basename(self._name(file)) for file in files])}")
            if files
            else []
        )

    def _similar_pairs(self) -> Iterator[str]:
        yield self._paint("bold", "The same scene, but no copies; never removed")
        for pair in self._report.similar:
            yield f"   {self._name(pair.left.file.path)}"
            yield f"   {self._name(pair.right.file.path)}"
            yield from self._remark(printable(pair.match.sentence))

    def _ending(self, similar: bool) -> Iterator[str]:
        report = self._report
        if not report.groups:
            yield "no duplicates"
        else:
            yield from self._wrapped(totals_words(report), 0, "bold")
        for hub in report.hubs:
            yield from self._wrapped(
                f"{self._name(hub)} resembles many photos that differ among themselves; it was left out of the groups",
                0,
            )
        if report.similar and not similar:
            yield from self._wrapped(
                f"{_count(len(report.similar), 'pair')} of the same scene but no copies: dedup report --similar",
                0,
            )
        if report.skipped:
            yield from self._wrapped(
                f"not examined: {skipped_words(report)}; dedup report --skipped lists them", 0
            )
        yield from self._wrapped(provenance_words(report), 0, "dim")
        if report.groups:
            yield "next: dedup report --html duplicates.html   to look at them side by side"


def totals_words(report: Report) -> str:
    """Groups, members by relation, and the bytes that come back."""
    counts = Counter(member.match.relation for group in report.groups for member in group.members)
    links = sum(member.also_link_of for group in report.groups for member in group.members)
    parts = [
        f"{counts[relation]:,} {relation.replace('-', ' ')}" for relation in Relation if counts[relation]
    ]
    freed = sum(group.freed_bytes for group in report.groups)
    words = f"{_count(len(report.groups), 'group')}: {', '.join(parts)}"
    if freed:
        words += f"; {size_words(freed)} would come back"
    if links:
        words += f" ({_count(links, 'file')} already shared by a hard link, which gives nothing back)"
    if counts[Relation.EDITED]:
        words += "; look at the edited ones first"
    return words


def skipped_words(report: Report) -> str:
    """Counts by reason, in a fixed order."""
    counts = Counter(entry.reason for entry in report.skipped)
    return ", ".join(f"{counts[reason]:,} {reason.value}" for reason in Reason if counts[reason])


def provenance_words(report: Report) -> str:
    """Where the figures come from: which program, when, what it looked at, how sure the search was."""
    summary = report.summary
    return (
        f"dedup {summary.version}, {summary.finished}: {_count(summary.photos, 'photo')} among "
        f"{_count(summary.files, 'file')}; {index_words(summary.index)}"
    )


def index_words(index: IndexQuality) -> str:
    """How well the search did."""
    exact = f"{_count(index.exact_pairs, 'pair')} within the hash radius found exactly"
    if index.fallback:
        return f"{exact}; neighbours beyond it were searched without annoy ({printable(index.fallback)})"
    measured = (
        f", which finds {100 * index.recall:.1f} % of a sample of {index.sampled_pairs:,} of these"
        if index.sampled_pairs
        else ""
    )
    return f"{exact}, {index.neighbour_pairs:,} more by annoy{measured}"


def facts_words(photo: Photo) -> str:
    """Size in pixels, format and bytes."""
    info = photo.info
    return f"{info.width_px} x {info.height_px} {info.format}, {size_words(photo.file.size_bytes)}"


def size_words(size_bytes: int) -> str:
    """Bytes as disks are sold: powers of 1,000, one decimal below 100."""
    size, unit = float(size_bytes), 0
    while size >= 999.5 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 or size >= 99.95 else f"{size:.1f} {_UNITS[unit]}"


def columns(words: str) -> int:
    """Columns that a text takes on a terminal: wide characters take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in words
    )


def printable(words: str) -> str:
    r"""Text without control characters, bidirectional overrides or undecodable bytes, which show as `\x1b`."""
    return words if words.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in words)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8, kept as a surrogate
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _and(parts: list[str] | tuple[str, ...]) -> str:
    return "; ".join(printable(part) for part in parts)


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"
