"""A plan for the frames of a sequence that repeat: the same as any other plan, made by the same rules.

Promises: only frames that were compared at full pixels with the one that stays, and are safe copies of it.
Does not: act.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from dedup import __version__
from dedup.pipeline.places import Progress, absolute_folder
from dedup.pipeline.scan import say_nothing
from dedup.pipeline.surveying import Survey
from dedup.plan import plan_operations
from dedup.records import DuplicateGroup, Plan, Selection
from dedup.settings import Settings


def plan_groups(
    groups: Sequence[DuplicateGroup],
    folder: str,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> Plan:
    """What would be done with the members of groups that lie in one folder, without a catalogue.

    Parameters
    ----------
    groups
        As `sequence.drop_groups` makes them.
    settings
        `protect` is used.
    """
    settings = settings or Settings()
    protected = [absolute_folder(place) for place in settings.protect]
    survey = Survey([absolute_folder(folder)], protected, progress or say_nothing)
    operations, left_out = plan_operations(groups, Selection(), (), {}, survey)
    return Plan(
        version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        roots=survey.roots,
        protected=survey.protected,
        operations=operations,
        left_out=left_out,
    )
