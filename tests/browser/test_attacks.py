"""What a page elsewhere tries in the browser of a person who reviews; and a library of which every name is markup."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dedup import Settings, scan_library
from dedup.catalogue import Catalogue
from tests.desk import draw
from tests.reviewed import Reviewed

MARKUP = '"><img src=x onerror=hacked=1><script>hacked=1<'
"""With no slash in it, so that it can be a name."""


class Attacker:
    """A page elsewhere: another port is another origin, and `evil.test` another site."""

    def __init__(self) -> None:
        self.body = ""
        outer = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(outer.body.encode())

            def log_message(self, *words: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.links = [f"http://{name}:{self.server.server_port}/" for name in ("evil.test", "127.0.0.1")]


@pytest.fixture(scope="module")
def attacker() -> Iterator[Attacker]:
    made = Attacker()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of which every file name, folder name and EXIF field is markup."""
    home = tmp_path_factory.mktemp("marked")
    folder = home / "Pictures" / f"folder {MARKUP}"
    other = home / "Pictures" / f"other {MARKUP}"
    folder.mkdir(parents=True)
    other.mkdir()
    exif = Image.Exif()
    for tag in (0x010E, 0x010F, 0x0110, 0x0131, 0x013B, 0x8298):
        exif[tag] = MARKUP
    exif.get_ifd(0x8769)[0x9003] = MARKUP
    exif.get_ifd(0x8769)[0x9286] = MARKUP
    for number in range(3):
        path = folder / f"{number} {MARKUP}.jpg"
        draw(number).save(path, quality=92, exif=exif, comment=MARKUP.encode())
        shutil.copy(path, other / f"copy {number} {MARKUP}.jpg")
        draw(number).resize((240, 180)).save(other / f"small {number} {MARKUP}.jpg", quality=80)
    scan_library([str(home / "Pictures")], Settings(db=str(home / "c.db"), jobs=1))
    return home


@pytest.fixture(scope="module")
def served(marked: Path) -> Iterator[Reviewed]:
    with Reviewed(marked, marked / "c.db") as review:
        yield review


@pytest.fixture(scope="module")
def person(browser: Any, served: Reviewed) -> Iterator[Any]:
    """The context of a person who has the review open; the attacker's page opens in it."""
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(served.link)
    tab.wait_for_selector(".row .open")
    served.token = tab.evaluate("sessionStorage.getItem('dedup-review-token')")
    yield context
    context.close()


def decisions(home: Path) -> int:
    with Catalogue.open(str(home / "c.db"), write=False) as catalogue:
        return len(catalogue.decisions())


def aimed(served: Reviewed) -> dict[str, Any]:
    """All an attacker could want to know, so that nothing but the door keeps it out."""
    card = served.cards()[0]
    group = served.get(f"/api/group?id={card['id']}").body["group"]
    marks = {photo["id"]: "goes" for photo in group["photos"][1:]}
    return {
        "change": "attacker-change", "group": group["id"], "mark": group["mark"],
        "version": group["version"], "keep": group["keeper"], "marks": marks,
    }  # fmt: skip


def test_w1_a_name_that_points_here_shows_nothing(person: Any, served: Reviewed) -> None:
    tab = person.new_page()
    answer = tab.goto(f"http://evil.test:{served.port}/")
    assert answer.status == 403
    asked = "token => fetch('/api/start', {headers: {'X-Dedup-Token': token}}).then(r => r.status)"
    found = tab.evaluate(asked, served.token)
    assert found == 403, "even with the token"
    assert tab.goto(f"http://evil.test:{served.port}/static/main.js").status == 403
    tab.close()


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
@pytest.mark.parametrize("place", [0, 1], ids=["other site", "other port"])
def test_w2_a_form_of_another_page_changes_nothing(
    person: Any, served: Reviewed, attacker: Attacker, kind: str, place: int
) -> None:
    body = json.dumps(aimed(served))[:-1] + ', "x": "'
    attacker.body = (
        f"<form method=post enctype='{kind}' action='{served.address}/api/decide'><input id=i></form>"
        "<script>i.value = '\"}';</script>"
    )
    tab = person.new_page()
    tab.goto(attacker.links[place])
    tab.evaluate("(name) => { i.name = name; }", body)
    with tab.expect_navigation() as gone:
        tab.evaluate("document.forms[0].submit()")
    assert gone.value.status == 403
    assert decisions(served.home) == 0
    tab.close()


@pytest.mark.parametrize("place", [0, 1], ids=["other site", "other port"])
def test_w2_a_script_of_another_page_changes_and_reads_nothing(
    person: Any, served: Reviewed, attacker: Attacker, place: int
) -> None:
    attacker.body = "<p>look at these kittens"
    tab = person.new_page()
    tab.goto(attacker.links[place])
    tried = """async ([address, token, body]) => {
      const results = [];
      for (const options of [
        {method: 'POST', body, mode: 'no-cors', credentials: 'include'},
        {method: 'POST', body, headers: {'Content-Type': 'application/json', 'X-Dedup-Token': token}},
        {method: 'POST', body, headers: {'Content-Type': 'text/plain'}},
      ]) results.push(await fetch(address + '/api/decide', options).then(r => r.type, () => 'refused'));
      const asked = fetch(address + '/api/start', {headers: {'X-Dedup-Token': token}});
      results.push(await asked.then(r => r.text(), () => 'refused'));
      results.push(navigator.sendBeacon(address + '/api/decide', body) ? 'sent' : 'not sent');
      await new Promise(done => setTimeout(done, 200));
      return results;
    }"""
    found = tab.evaluate(tried, [served.address, served.token, json.dumps(aimed(served))])
    assert found[1:4] == ["refused", "refused", "refused"]
    assert decisions(served.home) == 0
    tab.close()


def test_w7_the_page_cannot_be_put_into_a_frame(person: Any, served: Reviewed, attacker: Attacker) -> None:
    attacker.body = "".join(
        f"<iframe src='{served.address}{path}' width=900 height=700></iframe>"
        for path in ("/", "/static/page.css")
    )
    for link in attacker.links:
        tab = person.new_page()
        tab.goto(link)
        tab.wait_for_timeout(300)
        for frame in tab.frames[1:]:
            assert frame.url.startswith("chrome-error://") or "Review duplicates" not in frame.content()
            assert "chrome-error" in frame.url
        tab.close()


def test_w13_pictures_and_scripts_are_not_lent_to_other_pages(
    person: Any, served: Reviewed, attacker: Attacker
) -> None:
    card = served.cards()[0]
    picture = f"{served.address}/api/picture?group={card['id']}&of={card['photos'][0]['id']}&size=thumb"
    attacker.body = "<p>hello"
    for link in attacker.links:
        tab = person.new_page()
        tab.goto(link)
        loaded = """([name, source]) => new Promise(done => {
          const made = document.createElement(name);
          made.onload = () => done('loaded'); made.onerror = () => done('refused');
          if (name === 'link') { made.rel = 'stylesheet'; made.href = source; } else made.src = source;
          document.body.append(made);
        })"""
        assert tab.evaluate(loaded, ["img", picture]) == "refused"
        assert tab.evaluate(loaded, ["img", f"{served.address}/static/icon.svg"]) == "refused"
        assert tab.evaluate(loaded, ["script", f"{served.address}/static/main.js"]) == "refused"
        assert tab.evaluate(loaded, ["link", f"{served.address}/static/page.css"]) == "refused"
        opened = tab.evaluate(
            "(address) => { const w = window.open(address); return new Promise(d => setTimeout(() => {"
            " try { d(w.closed ? 'apart' : String(w.document.title)); } catch { d('apart'); } }, 400)); }",
            f"{served.address}/",
        )
        assert opened == "apart", "a window that another page opened is none of its own"
        tab.close()


def test_w5_names_and_fields_that_are_markup_are_text(browser: Any, marked: Path) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    faults: list[str] = []
    asked: list[str] = []
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on("dialog", lambda dialog: faults.append(dialog.message))
    tab.on("request", lambda request: asked.append(request.url))

    def harmless() -> None:
        assert tab.evaluate("typeof hacked") == "undefined"
        assert tab.locator("img[src='x'], script:not([src])").count() == 0

    with Reviewed(marked, marked / "c.db") as review:
        tab.goto(review.link)
        tab.wait_for_selector(".row .frame img")
        assert MARKUP in tab.locator(".row .name").first.inner_text()
        harmless()
        tab.keyboard.press("Enter")
        tab.wait_for_selector(".pane.ready")
        assert MARKUP in tab.locator("#facts").inner_text(), "the camera's name"
        for key in "1234":
            tab.keyboard.press(key)
            tab.wait_for_timeout(60)
            harmless()
        tab.keyboard.press("ArrowRight")
        tab.keyboard.press("p")
        tab.wait_for_function("() => document.querySelector('#place').textContent.startsWith('2')")
        harmless()
        tab.keyboard.press("P")
        tab.wait_for_selector("#planned .operations .path")
        harmless()
        tab.keyboard.press("Escape")
        for panel in ("pairs", "rules", "files"):
            tab.locator(f"[data-do={panel}]").click()
            if panel == "pairs":
                tab.wait_for_selector(".pairlist .path")
            if panel == "rules":
                tab.locator("#rule-form .primary").click()
                tab.wait_for_selector("#outlook .sample")
            harmless()
            tab.keyboard.press("Escape")
        tab.keyboard.press("u")
        tab.wait_for_timeout(200)
        assert all(url.startswith((f"{review.address}/", "blob:")) for url in asked)
        assert not any(url.endswith("/x") for url in asked)
    assert faults == []
    context.close()
