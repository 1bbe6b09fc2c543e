"""`python -m tests.browser.measuring 100000`: how fast the page is with so many groups, in Chromium."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser.conftest import CHROMIUM
from tests.browser.many import make_many
from tests.reviewed import Reviewed

STEPS = 60

_PRESS = """async (key) => {
  const place = document.querySelector('#place'), old = place.textContent, began = performance.now();
  document.body.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
  while (place.textContent === old && performance.now() - began < 5000) await new Promise(go => setTimeout(go, 0));
  await new Promise(go => requestAnimationFrame(() => setTimeout(go, 0)));
  const shown = performance.now() - began;
  const drawn = () => document.querySelectorAll('.pane.ready').length === document.querySelectorAll('.pane').length;
  while (!drawn() && performance.now() - began < 5000) await new Promise(go => setTimeout(go, 2));
  return [shown, performance.now() - began];
}"""

_SCROLL = """async () => {
  const frames = []; let last = performance.now();
  for (let at = 0; at < 120; at += 1) {
    window.scrollBy(0, 400);
    await new Promise(go => requestAnimationFrame(go));
    frames.push(performance.now() - last); last = performance.now();
  }
  frames.sort((a, b) => a - b);
  return [frames[60], frames[114]];
}"""


def measure(home: Path, count: int) -> None:
    """Print the figures."""
    if not (home / "c.db").exists():
        make_many(home, count, home / "c.db")
    began = time.monotonic()
    with Reviewed(home, home / "c.db") as review, sync_playwright() as driver:
        print(f"server with {count:,} groups answers after {time.monotonic() - began:.1f} s")
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(review.link)
        page.wait_for_selector(".row .frame img")
        paint, listed, pictured = page.evaluate(
            "[performance.getEntriesByName('first-contentful-paint')[0].startTime,"
            " performance.getEntriesByName('dedup-first-list')[0].startTime, performance.now()]"
        )
        print(f"first paint {paint:.0f} ms, list {listed:.0f} ms, first picture {pictured:.0f} ms")
        page.keyboard.press("Enter")
        page.wait_for_selector(".pane.ready")
        for key, words in (("j", "key to next group"), ("l", "decision saved, and next group")):
            times = []
            for _ in range(STEPS):
                times.append(page.evaluate(_PRESS, key))
                page.wait_for_timeout(100)  # a person looks; the next group is fetched meanwhile
            shown = [one[0] for one in times]
            pictures = statistics.median(one[1] for one in times)
            print(
                f"{words}: median {statistics.median(shown):.0f} ms, slowest {max(shown):.0f} ms; "
                f"with all pictures median {pictures:.0f} ms"
            )
        page.keyboard.press("Escape")
        page.wait_for_timeout(500)
        median, slow = page.evaluate(_SCROLL)
        print(f"scrolling: frame median {median:.0f} ms, 95th of 100 {slow:.0f} ms")
        print(f"rows that exist: {page.locator('.row').count()}")
        browser.close()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        measure(Path(sys.argv[2]), int(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), int(sys.argv[1]))
