"""The whole way of a person: scan, review twenty groups by keys alone, plan, apply, undo."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from dedup.catalogue import Catalogue
from dedup.records import Verdict
from tests.desk import Desk, draw
from tests.reviewed import Reviewed

GROUPS = 20


def test_a_person_reviews_twenty_groups_by_keys_alone(tmp_path: Path, page: Any) -> None:
    desk = Desk(tmp_path)
    for number in range(GROUPS):
        path = desk.photos / f"photo {number:02d}.jpg"
        draw(number, (320, 240)).save(path, quality=90)
        if number % 2:
            draw(number, (320, 240)).resize((160, 120)).save(
                desk.photos / f"small {number:02d}.jpg", quality=80
            )
        else:
            shutil.copy(path, desk.photos / f"copy {number:02d}.jpg")
    desk.type("--db", "c.db", "scan", "Pictures")
    before = sorted(desk.photos.iterdir())
    said: list[str] = []

    def state(name: str) -> str:
        return str(page.locator(f"#{name}").inner_text())

    def press(key: str, until: str) -> None:
        page.keyboard.press(key)
        page.wait_for_function(f"() => {until}", timeout=10_000)

    with Reviewed(tmp_path, tmp_path / "c.db") as review:
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.goto(review.link)
        page.wait_for_selector(".row .open")
        assert page.locator("#count").inner_text().startswith(f"{GROUPS} groups")
        page.keyboard.press("j")
        page.keyboard.press("k")
        press("Enter", "document.querySelector('#place').textContent === '1 of 20'")
        for number in range(GROUPS):
            page.wait_for_function(
                f"() => document.querySelector('#place').textContent === '{number + 1} of 20'"
            )
            page.wait_for_selector(".pane.ready")
            key = "pppppppnblpxppppppp"[number] if number < GROUPS - 1 else "p"
            said.append(key)
            if key == "x":
                press("ArrowRight", "document.querySelectorAll('.pane')[1].classList.contains('selected')")
                press("x", "document.querySelector('#group-title .badge')?.textContent === '✓ decided'")
                page.keyboard.press("j")
            elif number == GROUPS - 1:
                press("p", "document.querySelector('#group-title .badge')?.textContent === '✓ decided'")
            else:
                page.keyboard.press(key)
        # One too many: taken back, and decided anew.
        press("u", "!document.querySelector('#group-title .badge')")
        press("p", "document.querySelector('#group-title .badge')?.textContent === '✓ decided'")
        for key in "234101":
            page.keyboard.press(key)
        for key in ("+", "+", "-", "0"):
            page.keyboard.press(key)
        press("?", "document.querySelector('#help').open")
        press("Escape", "!document.querySelector('#help').open")
        press("P", "document.querySelector('#plan').open")
        page.wait_for_selector("#planned .primary")
        for _ in range(12):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent") == "Write the plan file":
                break
        page.keyboard.press("Enter")
        page.wait_for_selector("#planned .commands .strong")
        assert "review.plan" in page.locator("#planned .commands").inner_text()
        press("Escape", "!document.querySelector('#plan').open")
        press("Escape", "!document.querySelector('#list').hidden")
        assert page.evaluate("document.activeElement.className") == "open", "the focus is back in the list"
        assert all(url.startswith((f"{review.address}/", "blob:")) for url in requests), "and nowhere else"
    with Catalogue.open(str(tmp_path / "c.db"), write=False) as catalogue:
        verdicts = [found.verdict for found in catalogue.decisions()]
    assert verdicts.count(Verdict.NOT_DUPLICATES) == said.count("n") == 1
    assert verdicts.count(Verdict.KEEP_BOTH) == verdicts.count(Verdict.LATER) == 1
    assert sorted(desk.photos.iterdir()) == before, "nothing has happened to a photo yet"
    desk.type("--db", "c.db", "apply", "review.plan", "--yes")
    left = [path for path in before if path.exists()]
    assert len(left) == GROUPS + 3, "one of each, and the other of those that stay"
    desk.type("--db", "c.db", "undo", "1")
    assert [path for path in sorted(desk.photos.iterdir()) if path.suffix == ".jpg"] == before
