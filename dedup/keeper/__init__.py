"""Which photo of a group to keep, and why, in words.

Promises: a total order that depends on nothing but the photos and the evidence (never on the order they come in, nor on
ids); each rule stands alone in `RULES`, strongest first, with the sentence that is shown when it decides.
Does not: open a file, measure, or act. It ranks by what earlier stages found: resolution counts only as far as it
carries detail, a border is not detail, and a later save is not better for being finer.
"""

from dedup.keeper.facts import KeeperFacts, gather_facts
from dedup.keeper.rules import RULES, Rule, keeper_key, keeper_reasons
from dedup.keeper.units import RAW_EXTENSIONS, SIDECAR_EXTENSIONS, find_units

__all__ = [
    "RAW_EXTENSIONS",
    "RULES",
    "SIDECAR_EXTENSIONS",
    "KeeperFacts",
    "Rule",
    "find_units",
    "gather_facts",
    "keeper_key",
    "keeper_reasons",
]
