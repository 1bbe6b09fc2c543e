"""Groups and decisions to a plan: what would be done to which duplicate, for which keeper, with the evidence.

    making.py    groups and decisions -> operations         losses.py   what a duplicate says that its keeper does not
    verdicts.py  what people decided about a pair           words.py    a plan for people and for scripts
    files.py     the plan file, written and read back       checks.py   what must hold in every plan

Promises: every duplicate goes for a file that was compared with it and stays, under its own name, sound and unchanged;
what would lose something is left alone and named. A plan does nothing; it holds all that acting needs.
Does not: open, stat or change a file.
"""

from __future__ import annotations

from dedup.plan.files import is_plan, plan_lines, read_plan
from dedup.plan.making import Disk, plan_operations
from dedup.plan.words import plan_summary, plan_text, plan_to_json, simple_lines

__all__ = [
    "Disk",
    "is_plan",
    "plan_lines",
    "plan_operations",
    "plan_summary",
    "plan_text",
    "plan_to_json",
    "read_plan",
    "simple_lines",
]
