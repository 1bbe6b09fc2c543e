"""Rules that decide about many groups at once: pure, on groups.

Promises: a rule lets go of nothing but what is proven to be the same picture; edited versions stay as they are, for a
person to look at; where a rule has no answer the group is left alone, and the reason is counted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from dedup.pipeline.judging import Judgement, Mark, photos_of
from dedup.records import DuplicateGroup, Photo


class RuleKind(StrEnum):
    """Which photo of a group stays."""

    PROPOSED = "proposed"
    """The one that was proposed."""
    FOLDER = "folder"
    """The one in a folder."""
    LARGEST = "largest"
    """The one with the most pixels."""
    OLDEST = "oldest"
    """The one whose file is the oldest."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule."""

    kind: RuleKind
    folder: str = ""


class NoAnswer(Exception):
    """Why a rule leaves a group alone."""


def apply_rule(rule: Rule, group: DuplicateGroup, damage: Mapping[bytes, str]) -> Judgement:
    """What the rule says about a group.

    Raises
    ------
    NoAnswer
        With the reason, in words that can be counted.
    """
    safe = [member.photo for member in group.members if member.match.relation.is_safe]
    if not safe:
        raise NoAnswer("edited versions only, which a person has to look at")
    candidates = [group.keeper, *safe]
    keeper = _chosen(rule, candidates)
    if keeper.info.damage or damage.get(keeper.digest):
        raise NoAnswer("the photo to keep is damaged")
    stays = _below(rule.folder) if rule.kind is RuleKind.FOLDER else None
    marks: dict[int, Mark] = {}
    spared = {
        photo.digest
        for photo in photos_of(group)
        if stays is not None and photo.id != keeper.id and photo.file.path.startswith(stays)
    }
    for photo in candidates:
        if photo.id != keeper.id and photo.digest not in spared:
            marks[photo.id] = Mark.GOES
    if not marks:
        raise NoAnswer("all of them lie in that folder")
    return Judgement(keeper.id, marks)


def _chosen(rule: Rule, candidates: list[Photo]) -> Photo:
    if rule.kind is RuleKind.FOLDER:
        inside = [photo for photo in candidates if photo.file.path.startswith(_below(rule.folder))]
        if not inside:
            raise NoAnswer("none of them lies in that folder")
        return inside[0]
    if rule.kind is RuleKind.LARGEST:
        return max(candidates, key=lambda photo: photo.info.pixels)
    if rule.kind is RuleKind.OLDEST:
        return min(candidates, key=lambda photo: photo.file.mtime_ns)
    return candidates[0]


def _below(folder: str) -> str:
    return folder.rstrip(os.sep) + os.sep
