"""Deciding: what people said about duplicates, and plans made of that and of the groups of the last scan.

Promises: a plan is made from what the last scan found and from the files as they are now; nothing among the photos is
touched. Decisions go into the catalogue, and the groups that they concern are made anew at once where the last scan
can be gone on from; else by the next scan, and plans heed them meanwhile.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from datetime import UTC, datetime
from itertools import combinations
from typing import Any

from dedup import __version__
from dedup.catalogue import Catalogue
from dedup.errors import Busy, UnreadableInput, UsageError
from dedup.pipeline.own_files import open_file, replace_file
from dedup.pipeline.places import Progress, absolute_folder, catalogue_path, program_stamp
from dedup.pipeline.results import EVERYTHING, LAST_ROOTS, read_report
from dedup.pipeline.scan import say_nothing
from dedup.plan import is_plan, plan_lines, plan_operations, read_plan
from dedup.records import Decision, DuplicateGroup, Plan, Relation, Selection, Verdict
from dedup.settings import Settings

MOST_IGNORED = 200
"""Photos that one call parts from each other: 19,900 pairs. More is a slip of the hand, or a case for an exclude."""

_BLOCK = 1 << 20


# ---- plans ---------------------------------------------------------------------------------------------------------


def make_plan(
    selection: Selection | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
    *,
    all_roots: bool = False,
    decided_only: bool = False,
) -> Plan:
    """What would be done with the duplicates that the last scan found.

    Parameters
    ----------
    selection
        Which of them; without one all that may be removed in bulk, and what people decided.
    all_roots
        Everything the catalogue knows, rather than what lies below the roots of the last scan.
    decided_only
        Nothing but what people said may go; what is proven and was not looked at stays out of the plan.

    Raises
    ------
    UsageError
        If there was no scan yet, or the selection names what is not there.
    """
    settings, progress = settings or Settings(), progress or say_nothing
    selection = _placed(selection or Selection())
    from dedup.pipeline.surveying import Survey

    _settle(settings, progress)
    with Catalogue.open(catalogue_path(settings), write=False) as catalogue:
        groups = read_report(catalogue, EVERYTHING if all_roots else LAST_ROOTS).groups
        selection = replace(selection, groups=tuple(_whole_id(start, groups) for start in selection.groups))
        last = catalogue.last_scan()
        assert last is not None
        roots = [*last.basis["roots"], *(catalogue.roots() if all_roots else ())]
        protect = [*last.basis["settings"]["protect"], *settings.protect]
        decisions, damage = catalogue.decisions(), catalogue.damages()
    if decided_only:
        groups = tuple(_decided_part(groups, decisions))
    survey = Survey(roots, [absolute_folder(folder) for folder in protect], progress)
    operations, left_out = plan_operations(groups, selection, decisions, damage, survey)
    return Plan(
        version=__version__,
        created=_now(),
        roots=survey.roots,
        protected=survey.protected,
        operations=operations,
        left_out=left_out,
    )


def _decided_part(
    groups: Iterable[DuplicateGroup], decisions: Iterable[Decision]
) -> Iterator[DuplicateGroup]:
    """The groups with those members only of which somebody said that they may go for the keeper.

    Of files with the same bytes that is said by choosing the place of the one to keep.
    """
    gone = {(found.left, found.right) for found in decisions if found.verdict is Verdict.REMOVE}
    kept = {(found.left, found.place) for found in decisions if found.verdict is Verdict.KEEP}
    for group in groups:
        keeper = group.keeper
        chosen = (keeper.digest, keeper.file.path) in kept
        members = tuple(
            member
            for member in group.members
            if (keeper.digest, member.photo.digest) in gone
            or (chosen and member.photo.digest == keeper.digest)
        )
        if members:
            yield replace(group, members=members)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _placed(selection: Selection) -> Selection:
    """The selection with absolute folders, if it makes sense."""
    if Relation.SIMILAR in selection.only:
        raise UsageError("similar photos are no duplicates, and never acted on; see dedup report --similar")
    within = tuple(absolute_folder(folder) for folder in selection.within)
    for folder in within:
        if not os.path.lexists(folder):
            raise UsageError(f"{folder}: there is no such folder; name one that exists")
    return replace(selection, within=within)


def _whole_id(start: str, groups: Sequence[DuplicateGroup]) -> str:
    found = sorted({group.id for group in groups if start and group.id.startswith(start)})
    if not found:
        raise UsageError(f"no group begins with {start!r}; dedup report --json lists their ids")
    if len(found) > 1:
        raise UsageError(
            f"{len(found)} groups begin with {start!r}: {', '.join(found[:5])}; say more of the id"
        )
    return found[0]


def save_plan(plan: Plan, path: str) -> None:
    """Write a plan file; an earlier plan of that name is replaced, any other file is not.

    Raises
    ------
    UsageError
        If the place is taken by something that is no plan, a photo for example, or cannot be written.
    """
    try:
        written = replace_file(path, plan_lines(plan), is_plan)
    except OSError as error:
        raise UsageError(
            f"{path}: the plan cannot be written ({error.strerror}); give another place"
        ) from error
    if not written:
        raise UsageError(f"{path}: this is no plan, and is not replaced by one; give another name")


def load_plan(path: str) -> Plan:
    """Read a plan file.

    Raises
    ------
    UsageError
        If there is no such file.
    Unsafe
        If anything about it is not as it should be.
    """
    try:
        with open_file(path) as file:
            return read_plan(file, path)
    except OSError as error:
        raise UsageError(
            f"{path}: this plan cannot be read ({error.strerror}); name a file that dedup plan -o wrote"
        ) from error


# ---- decisions -----------------------------------------------------------------------------------------------------


def list_decisions(settings: Settings | None = None) -> list[Decision]:
    """All decisions of the catalogue, in the order in which they were given."""
    with Catalogue.open(catalogue_path(settings or Settings()), write=False) as catalogue:
        return catalogue.decisions()


def decide(
    decisions: Iterable[Decision], settings: Settings | None = None, progress: Progress | None = None
) -> int:
    """Note decisions, and make the groups anew that they concern.

    Returns
    -------
    int
        How many of them were news.
    """
    settings = settings or Settings()
    with Catalogue.open(catalogue_path(settings), write=True) as catalogue:
        with catalogue.all_or_nothing():
            news = sum(catalogue.put_decision(decision) for decision in decisions)
        _regroup(catalogue, settings, progress or say_nothing)
    return news


def forget_decisions(
    decisions: Iterable[Decision], settings: Settings | None = None, progress: Progress | None = None
) -> int:
    """Take back what was decided about the contents that these are about; how many there were."""
    settings = settings or Settings()
    with Catalogue.open(catalogue_path(settings), write=True) as catalogue:
        with catalogue.all_or_nothing():
            count = sum(catalogue.forget_decision(decision) for decision in decisions)
        _regroup(catalogue, settings, progress or say_nothing)
    return count


def part_photos(
    paths: Sequence[str],
    groups: Sequence[str] = (),
    settings: Settings | None = None,
    verdict: Verdict = Verdict.NOT_DUPLICATES,
) -> list[Decision]:
    """The decisions that say of some photos that none of them is a duplicate of another.

    Parameters
    ----------
    paths
        Photos as they are now. The same bytes twice make a decision of that content with itself.
    groups
        Ids of groups, or their beginnings: all photos of each.

    Raises
    ------
    UsageError
        If there are not two photos, or too many.
    UnreadableInput
        If one cannot be read.
    """
    named = dict.fromkeys(os.path.abspath(path) for path in paths)
    sets = [[_digest(path) for path in named]] if named or not groups else []
    if groups:
        with Catalogue.open(catalogue_path(settings or Settings()), write=False) as catalogue:
            known = {group.id: group for group in read_report(catalogue, EVERYTHING).groups}
        for start in groups:
            group = known[_whole_id(start, list(known.values()))]
            sets.append([group.keeper.digest, *(member.photo.digest for member in group.members)])
    decided = _now()
    pairs: dict[tuple[bytes, bytes], None] = {}
    for digests in sets:
        if not 2 <= len(digests) <= MOST_IGNORED:
            raise UsageError(f"name two photos or more, {MOST_IGNORED} at most, or a group with --group")
        pairs.update(dict.fromkeys((min(pair), max(pair)) for pair in combinations(digests, 2)))
    return [Decision(verdict, low, high, decided) for low, high in sorted(pairs)]


def _digest(path: str) -> bytes:
    digest = hashlib.sha256()
    try:
        with open_file(path) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise UnreadableInput(f"{path}: this photo cannot be read ({error.strerror})") from error
    return digest.digest()


# ---- groups that follow decisions ----------------------------------------------------------------------------------


def _settle(settings: Settings, progress: Progress) -> None:
    """Make groups anew where somebody decided and that was not followed yet."""
    with Catalogue.open(catalogue_path(settings), write=False) as catalogue:
        if not catalogue.unsettled_contents():
            return
    # While another run holds the catalogue the groups stay as they are; a plan heeds the decisions all the same.
    with suppress(Busy), Catalogue.open(catalogue_path(settings), write=True) as catalogue:
        _regroup(catalogue, settings, progress)


def _regroup(catalogue: Catalogue, settings: Settings, progress: Progress) -> None:
    """As the last scan would have grouped, had it known; nothing if that scan cannot be gone on from."""
    last = catalogue.last_scan()
    if last is None or last.basis["unfinished"] or last.basis["stamp"] != program_stamp():
        return
    if not catalogue.unsettled_contents():
        catalogue.settle()
        return
    from dedup.pipeline.work import Work

    Work(catalogue, _settings_of(last.basis["settings"], settings), progress).regroup(last)


def _settings_of(plain: dict[str, Any], now: Settings) -> Settings:
    """The settings that a stored result was made with; where and how wide to work is today's business."""
    values: dict[str, Any] = {
        field.name: tuple(value) if isinstance(value := plain[field.name], list) else value
        for field in fields(Settings)
        if field.name in plain
    }
    return replace(now, **values)
