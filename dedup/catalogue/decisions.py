"""What people decided, by content; the only thing in the catalogue that cannot be found again from the photos.

One verdict for a pair of contents, in either order, and one for a single content; a later one replaces an earlier one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from dedup.catalogue.rows import stored_path
from dedup.catalogue.shelf import Shelf
from dedup.records import Decision, Verdict


class Decisions(Shelf):
    """The part of the catalogue that holds decisions."""

    def decisions(self) -> list[Decision]:
        """All of them, in the order in which they were given."""
        found = self._db.rows(
            "SELECT low, high, turned, verdict, decided, place, note FROM decisions ORDER BY number, low, high"
        )
        with self._reading():
            return [_from_row(row) for row in found]

    def put_decision(self, decision: Decision) -> bool:
        """Note what somebody decided; whether that is news.

        A word about a content takes back what it contradicts: who keeps a photo no longer lets it go for another,
        and who lets it go no longer keeps it.
        """
        low, high, turned = _key(decision)
        known = self._db.rows(
            "SELECT low, high, turned, verdict, decided, place, note FROM decisions WHERE low=? AND high=?",
            (low, high),
        )
        with self._reading():
            before = _from_row(known[0]) if known else None
        if before is not None and (before.verdict, before.left, before.right, before.place) == (
            decision.verdict,
            decision.left,
            decision.right,
            decision.place,
        ):
            return False
        if decision.verdict is Verdict.KEEP:
            for other in self.decisions():
                if other.verdict is Verdict.REMOVE and other.right == decision.left:
                    self.forget_decision(other)
        elif decision.verdict is Verdict.REMOVE:
            self._forget(b"", decision.right)
        number = self._db.value("SELECT coalesce(max(number), 0) + 1 FROM decisions")
        self._db.write(
            "INSERT OR REPLACE INTO decisions VALUES (?,?,?,?,?,?,?,?)",
            (
                low,
                high,
                turned,
                decision.verdict,
                decision.decided,
                os.fsencode(decision.place),
                decision.note,
                number,
            ),
        )
        self._unsettle(low, high)
        return True

    def forget_decision(self, decision: Decision) -> bool:
        """Take back what was decided about these contents; whether there was something."""
        low, high, _ = _key(decision)
        return self._forget(low, high)

    def _forget(self, low: bytes, high: bytes) -> bool:
        if not self._db.value("SELECT 1 FROM decisions WHERE low=? AND high=?", (low, high)):
            return False
        self._db.write("DELETE FROM decisions WHERE low=? AND high=?", (low, high))
        self._unsettle(low, high)
        return True

    def _unsettle(self, *digests: bytes) -> None:
        self._db.write_many(
            "INSERT OR IGNORE INTO unsettled VALUES (?)", ((digest,) for digest in digests if digest)
        )

    def unsettled_contents(self) -> set[int]:
        """Contents whose groups were made before somebody decided about them, as far as they are known here."""
        return set(self._ids("SELECT c.id FROM unsettled u JOIN contents c ON c.digest=u.digest"))

    def settle(self) -> None:
        """Note that all groups follow the decisions."""
        self._db.write("DELETE FROM unsettled")

    def digests_of(self, paths: Iterable[str]) -> dict[str, bytes]:
        """The content that each of these files had at the last scan, as far as they are photos that were read."""
        found = {}
        for path in paths:
            digest = self._db.value(
                "SELECT c.digest FROM files f JOIN contents c ON c.id=f.content WHERE f.path=?",
                (stored_path(path),),
            )
            if digest is not None:
                found[path] = digest
        return found

    # --- roots ----------------------------------------------------------------------------------------------------

    def put_roots(self, roots: Iterable[str]) -> None:
        """Note folders that were scanned."""
        self._db.write_many(
            "INSERT OR IGNORE INTO roots VALUES (?)", ((os.fsencode(root),) for root in roots)
        )

    def roots(self) -> list[str]:
        """Every folder that was ever scanned with this catalogue, sorted."""
        return [os.fsdecode(row[0]) for row in self._db.rows("SELECT path FROM roots ORDER BY path")]


def _key(decision: Decision) -> tuple[bytes, bytes, int]:
    if decision.verdict is Verdict.KEEP:
        return b"", decision.left, 1
    low, high = sorted((decision.left, decision.right))
    return low, high, int(decision.left > decision.right)


def _from_row(row: tuple[bytes, bytes, int, str, str, bytes, str]) -> Decision:
    low, high, turned, verdict, decided, place, note = row
    left, right = (high, low) if turned else (low, high)
    return Decision(Verdict(verdict), left, right, decided, os.fsdecode(place), note)
