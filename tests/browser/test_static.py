"""The HTML report: what is decided in it is saved as JSON, and a plan heeds it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from dedup.pipeline import read_decisions
from dedup.records import Verdict
from dedup.settings import Settings
from tests.desk import Desk
from tests.reviewed import make_library


def test_what_is_decided_in_the_report_is_what_the_plan_does(tmp_path: Path, page: Any) -> None:
    desk = Desk(tmp_path)
    desk.photos.rmdir()
    make_library(desk.photos)
    odd = os.fsencode(desk.photos) + b"/Albums/rocket \xff.jpg"
    os.rename(desk.photos / "Albums/rocket.jpg", odd)
    desk.type("--db", "c.db", "scan", "--report", "report.html", "Pictures")
    page.goto((tmp_path / "report.html").as_uri())

    def choose(group: str, photo: str, word: str) -> None:
        card = page.locator(f".group[aria-label^='Group of {group}']")
        card.locator(f".choices[aria-label='Decide about {photo}'] .{word}").click()

    choose("chelsea", "chelsea crop.jpg", "goes")
    choose("coffee", "coffee copy.jpg", "goes")
    choose("coffee", "coffee retouched.jpg", "apart")
    choose("astronaut", "astronaut-small.jpg", "later")
    choose("astronaut", "astronaut-small.jpg", "later")
    choose("rocket", "rocket-small.jpg", "instead")
    assert page.locator("#saving-count").inner_text() == "3 groups decided"
    with page.expect_download() as saved:
        page.locator("#save").click()
    saved.value.save_as(tmp_path / "decisions.json")
    assert "saved" in page.locator("#saving-count").inner_text()
    found = read_decisions(str(tmp_path / "decisions.json"), Settings(db=str(tmp_path / "c.db")))
    verdicts = [decision.verdict for decision in found]
    assert verdicts.count(Verdict.REMOVE) == 2
    assert verdicts.count(Verdict.KEEP) == 2
    assert verdicts.count(Verdict.NOT_DUPLICATES) == 2, "from the original and from its small copy"
    out, _ = desk.type("--db", "c.db", "plan", "--decisions", "decisions.json", "--decided", "--simple")
    gone = {line.split('"dup": "')[1].split('"')[0].rsplit("/", 1)[-1] for line in out.splitlines()}
    assert {"chelsea crop.jpg", "coffee copy.jpg"} < gone
    assert len(gone) == 3, "and the large rocket, whose name is not UTF-8"
