"""`python -m tests.review_kills 200`: kills the review server while two tabs decide, and looks for what is lost.

Promises: what a tab was told is saved must be in the catalogue after the kill; what was under way may be there or not.
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
from http.client import HTTPException
from pathlib import Path
from typing import Any

from dedup import Settings
from dedup.pipeline import Query, Review
from tests.browser.many import make_many
from tests.reviewed import Reviewed, others

GROUPS = 30
WORDS = ("goes", "stays", "apart", "later")

Said = dict[str, frozenset[str]]
"""By the name of a group's first photo: the words that may stand there."""


class Tab(threading.Thread):
    """Decides about one group after the other until the server is gone.

    Each tab has half of the groups, so that the last word about each is known for certain; both ask at the same time.
    """

    def __init__(self, review: Reviewed, seed: float, half: int) -> None:
        super().__init__(daemon=True)
        self.review = review
        self.chance = random.Random(seed)
        self.half = half
        self.said: Said = {}
        self.told = 0

    def run(self) -> None:
        try:
            cards = self.review.cards()[self.half :: 2]
            while True:
                self._decide(self.chance.choice(cards))
        except (OSError, HTTPException, ValueError):
            pass  # the server was killed

    def _decide(self, card: dict[str, Any]) -> None:
        word = self.chance.choice(WORDS)
        group = self.review.get(f"/api/group?id={card['id']}").body["group"]
        name = first_name(group["photos"])
        standing = next(iter(group["marks"].values()), "")
        self.said[name] = frozenset((standing, word))
        reply = self.review.decide(group, dict.fromkeys(others(group), word))
        assert reply.status == 200, reply
        self.said[name] = frozenset((word,))
        self.told += 1


def first_name(photos: list[dict[str, Any]]) -> str:
    return min(str(photo["path"]) for photo in photos)


def found(db: Path) -> dict[str, str]:
    """What the catalogue holds, by the same names."""
    review = Review(Settings(db=str(db), jobs=1))
    review.view("all", Query())
    held = {}
    for sheet in review.sheets(review.numbers_of("all").tolist()):
        photos = [sheet.group.keeper, *(member.photo for member in sheet.group.members)]
        words = {mark.value for mark in sheet.judgement.marks.values()}
        assert len(words) <= 1, "half a decision"
        held[min(photo.file.path for photo in photos)] = next(iter(words), "")
    return held


def run(home: Path, kills: int, seed: int = 1) -> tuple[int, int]:
    """Kill so many times; decisions that the tabs were told of, and those that were lost."""
    chance = random.Random(seed)
    db = home / "c.db"
    make_many(home, GROUPS, db)
    told = lost = 0
    before = found(db)
    for number in range(kills):
        with Reviewed(home, db) as review:
            review.enter()
            tabs = [Tab(review, chance.random(), half) for half in range(2)]
            for tab in tabs:
                tab.start()
            time.sleep(chance.uniform(0.0, 0.8))
            review.kill()
            for tab in tabs:
                tab.join()
        now = found(db)
        for name, word in now.items():
            allowed = tabs[0].said.get(name) or tabs[1].said.get(name) or frozenset((before[name],))
            if word not in allowed:
                lost += 1
                print(f"kill {number}: {name} is {word!r}, allowed {set(allowed)}")
        before = now
        told += sum(tab.told for tab in tabs)
    return told, lost


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        count = int(sys.argv[1])
        said, gone = run(Path(folder), count)
        print(f"{count} kills, two tabs: {said} decisions were said to be saved, {gone} of them were lost")
        sys.exit(gone > 0)
