"""What people decided, looked up by the contents of a pair."""

from __future__ import annotations

from collections.abc import Iterable

from dedup.records import Decision, Verdict

Pair = tuple[bytes, bytes]


class Verdicts:
    """Decisions about contents; of several about one pair the last one given counts."""

    def __init__(self, decisions: Iterable[Decision]) -> None:
        self._pairs: dict[Pair, Decision] = {}
        self._kept: dict[bytes, Decision] = {}
        self._wanted: set[bytes] = set()
        """Contents that a person wants to keep beside another one."""
        for decision in decisions:
            if decision.verdict is Verdict.KEEP:
                self._kept[decision.left] = decision
            else:
                self._pairs[_pair(decision.left, decision.right)] = decision
        for decision in self._pairs.values():
            if decision.verdict is Verdict.KEEP_BOTH or (
                decision.verdict.parts and decision.left == decision.right
            ):
                self._wanted.update((decision.left, decision.right))

    def may_go(self, keep: bytes, dup: bytes) -> bool:
        """Whether a person said that this content may go for that one."""
        found = self._pairs.get(_pair(keep, dup))
        return (
            found is not None and found.verdict is Verdict.REMOVE and (found.left, found.right) == (keep, dup)
        )

    def is_turned(self, keep: bytes, dup: bytes) -> bool:
        """Whether a person said the opposite: that the keeper may go for the duplicate."""
        return keep != dup and self.may_go(dup, keep)

    def are_parted(self, one: bytes, other: bytes) -> bool:
        """Whether the two are both wanted, or no duplicates of each other."""
        found = self._pairs.get(_pair(one, other))
        return found is not None and found.verdict.parts

    def is_later(self, one: bytes, other: bytes) -> bool:
        """Whether a person put the pair off."""
        found = self._pairs.get(_pair(one, other))
        return found is not None and found.verdict is Verdict.LATER

    def is_wanted(self, content: bytes) -> bool:
        """Whether a person wants to keep this content beside another, so that its last files never go."""
        return content in self._wanted

    def chosen_place(self, content: bytes) -> str | None:
        """Where the file lies that a person chose to keep, empty for any file of this content; None if nobody did."""
        found = self._kept.get(content)
        return None if found is None else found.place


def _pair(one: bytes, other: bytes) -> Pair:
    return (one, other) if one <= other else (other, one)
