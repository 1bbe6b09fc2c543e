"""What the page is to people who see little, hear it read out, or use a phone: axe-core in both themes, and by hand."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dedup import Settings, scan_library
from tests.reviewed import Reviewed, make_library


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reviewed]:
    home = tmp_path_factory.mktemp("access")
    make_library(home / "Pictures")
    scan_library([str(home / "Pictures")], Settings(db=str(home / "c.db"), jobs=1))
    with Reviewed(home, home / "c.db") as review:
        review.enter()
        yield review


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core, where npm has put it (DEDUP_AXE names the file)."""
    root = Path(__file__).resolve().parents[2]
    places = [os.environ.get("DEDUP_AXE", ""), str(root / "node_modules/axe-core/axe.min.js")]
    if npm := shutil.which("npm"):
        found = subprocess.run(
            [npm, "root", "-g"], capture_output=True, text=True, check=False, timeout=60
        ).stdout
        places.append(f"{found.strip()}/axe-core/axe.min.js")
    for place in places:
        if place and Path(place).is_file():
            return Path(place).read_text("utf-8")
    pytest.skip("axe-core is not installed (npm install axe-core, or DEDUP_AXE=/path/to/axe.min.js)")


def opened(browser: Any, served: Reviewed, **options: Any) -> Any:
    context = browser.new_context(**options)
    context.add_init_script(f"sessionStorage.setItem('dedup-review-token', '{served.token}')")
    tab = context.new_page()
    tab.goto(f"{served.address}/")
    tab.wait_for_selector(".row .frame img")
    return tab


def findings(tab: Any, axe: str) -> list[str]:
    tab.evaluate(f"() => {{ {axe} }}")
    found = tab.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']} ({one['impact']}): {node['html'][:120]} {node.get('failureSummary', '')[:200]}"
        for one in found["violations"]
        for node in one["nodes"]
        if one["impact"] in ("moderate", "serious", "critical")
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing(browser: Any, served: Reviewed, axe: str, theme: str, width: int) -> None:
    tab = opened(browser, served, color_scheme=theme, viewport={"width": width, "height": 844})
    assert findings(tab, axe) == []
    tab.keyboard.press("f")
    assert findings(tab, axe) == []
    tab.keyboard.press("Escape")
    tab.locator(".row .open").first.click()
    tab.wait_for_selector(".pane.ready")
    for key in "1234":
        tab.keyboard.press(key)
        tab.wait_for_timeout(80)
        assert findings(tab, axe) == []
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("x")
    tab.wait_for_selector(".toast.shown")
    tab.wait_for_timeout(250)
    assert findings(tab, axe) == []
    tab.keyboard.press("Backspace")
    tab.keyboard.press("Escape")
    for panel in ("pairs", "rules", "files", "help", "plan"):
        tab.locator(f"[data-do={panel}]").first.click()
        tab.wait_for_timeout(300)
        assert findings(tab, axe) == [], panel
        tab.keyboard.press("Escape")
    tab.context.close()


def test_what_happens_is_said_aloud(browser: Any, served: Reviewed) -> None:
    tab = opened(browser, served, viewport={"width": 1280, "height": 900})
    tab.keyboard.press("Enter")
    tab.wait_for_selector(".pane.ready")
    assert tab.evaluate("document.activeElement.id") == "group-title"
    live = tab.locator("[role=status][aria-live=polite]")
    tab.keyboard.press("ArrowRight")
    assert "coffee copy.jpg" in live.inner_text()
    tab.keyboard.press("x")
    tab.wait_for_function("() => document.querySelector('#toast').textContent.includes('Saved')")
    tab.keyboard.press("u")
    tab.wait_for_function("() => document.querySelector('#toast').textContent.includes('Taken back')")
    tab.context.close()


def test_nothing_moves_for_those_who_asked_for_that(browser: Any, served: Reviewed) -> None:
    tab = opened(browser, served, reduced_motion="reduce", viewport={"width": 1280, "height": 900})
    moving = tab.evaluate(
        "[...document.querySelectorAll('*')].filter(e => { const s = getComputedStyle(e);"
        " return parseFloat(s.transitionDuration) > 0 || s.animationName !== 'none'; }).length"
    )
    assert moving == 0
    tab.context.close()


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_nothing_sticks_out_at_the_side(browser: Any, served: Reviewed, width: int) -> None:
    tab = opened(browser, served, viewport={"width": width, "height": 800})
    wide = "document.documentElement.scrollWidth"
    assert tab.evaluate(wide) <= width
    tab.locator(".row .open").first.click()
    tab.wait_for_selector(".pane.ready")
    assert tab.evaluate(wide) <= width
    tab.context.close()


def test_a_second_tab_is_let_in_by_the_first(browser: Any, served: Reviewed) -> None:
    tab = opened(browser, served, viewport={"width": 1280, "height": 900})
    context = tab.context
    other = browser.new_context().new_page()
    other.goto(f"{served.address}/")
    other.wait_for_selector("#trouble:not([hidden])")
    assert "one use" in other.locator("#trouble").inner_text()
    other.context.close()
    second = context.new_page()
    second.evaluate("1")
    second.goto(f"{served.address}/")
    second.wait_for_selector(".row .open")
    context.close()


def test_the_list_begins_again_when_the_groups_were_made_anew(browser: Any, served: Reviewed) -> None:
    tab = opened(browser, served, viewport={"width": 1280, "height": 900})
    settings = Settings(db=str(served.home / "c.db"), jobs=1)
    kept = (served.home / "Pictures/Albums/rocket.jpg").read_bytes()
    (served.home / "Pictures/Albums/rocket.jpg").unlink()
    scan_library([str(served.home / "Pictures")], settings)
    tab.locator(".row .open[aria-label*='rocket.jpg']").click()
    tab.wait_for_function("() => document.querySelector('#count').textContent.startsWith('3 groups')")
    (served.home / "Pictures/Albums/rocket.jpg").write_bytes(kept)
    scan_library([str(served.home / "Pictures")], settings)
    tab.context.close()


def test_the_file_that_a_browser_is_given_leads_to_the_page(
    browser: Any, served: Reviewed, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dedup.review import server

    monkeypatch.setattr("webbrowser.open", lambda _link: True)
    with Reviewed(served.home, served.home / "c.db") as review:
        path = server._open(review.link)
        tab = browser.new_context().new_page()
        tab.goto(f"file://{path}")
        tab.wait_for_selector(".row .open")
        assert tab.url == f"{review.address}/", "and the code is gone from the address"
        tab.context.close()
        os.unlink(path)
