"""The attacks of a review page, W1 to W14, against the running server; those that need a browser are in `browser/`."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.datastructures import Headers

from dedup import Settings, scan_library
from dedup.catalogue import Catalogue
from dedup.errors import Busy
from dedup.pipeline import Gallery, gallery
from dedup.records import Inspection, PhotoFile
from dedup.report.sights import DrawnSight, Look, SightJob, View
from dedup.review import door
from dedup.review.app import OPEN_PATHS
from tests.pictures import jpeg, real_photo
from tests.reviewed import ROOT, Reviewed, make_library, others

ASKING = (
    "/api/start",
    "/api/rows?view=x&from=0&count=5",
    "/api/pairs",
    "/api/group?id=x",
    "/api/export",
    "/api/plan",
)
TELLING = (
    "/api/enter",
    "/api/view",
    "/api/decide",
    "/api/undo",
    "/api/rule",
    "/api/import",
    "/api/plan",
    "/api/plan/write",
)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("library")
    make_library(home / "Pictures")
    cat = real_photo("chelsea", 400)
    script = b"<html><script>alert(1)</script></html>"
    polyglot = jpeg(cat, 91, comment=script) + script
    (home / "Pictures/page.html.jpg").write_bytes(polyglot)
    (home / "Pictures/page copy.jpg").write_bytes(polyglot)
    scan_library([str(home / "Pictures")], Settings(db=str(home / "c.db"), jobs=1))
    return home


@pytest.fixture(scope="module")
def served(library: Path) -> Iterator[Reviewed]:
    with Reviewed(library, library / "c.db") as review:
        review.enter()
        yield review


def decision_count(home: Path) -> int:
    with Catalogue.open(str(home / "c.db"), write=False) as catalogue:
        return len(catalogue.decisions())


# --- W1: a name of the attacker's that points here --------------------------------------------------------------------


@pytest.mark.parametrize("path", [*sorted(OPEN_PATHS), *ASKING, "/nothing"])
@pytest.mark.parametrize(
    "host",
    ["evil.test", "127.0.0.1", "127.0.0.1:1", "localhost.evil.test:{port}", "127.0.0.1:{port}@evil.test"],
)
def test_w1_another_host_is_refused_on_every_route(served: Reviewed, path: str, host: str) -> None:
    named = host.format(port=served.port)
    reply = served.get(path, Host=named, Origin=f"http://{named}")
    assert reply.status == 403
    assert b"<html" not in (reply.body if isinstance(reply.body, bytes) else b"")


def test_w1_the_names_of_this_machine_are_let_in(served: Reviewed) -> None:
    for name in ("127.0.0.1", "localhost", "[::1]"):
        assert served.get("/", Host=f"{name}:{served.port}").status == 200


def test_w1_two_hosts_are_no_host(served: Reviewed) -> None:
    with socket.create_connection(("127.0.0.1", served.port)) as line:
        good = f"127.0.0.1:{served.port}"
        line.sendall(f"GET / HTTP/1.1\r\nHost: {good}\r\nHost: evil.test\r\n\r\n".encode())
        assert line.recv(200).split()[1] in (b"400", b"403")


def test_w1_two_hosts_are_no_host_whatever_the_server_below_lets_through() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def never(*_words: Any) -> Any:
        raise AssertionError("it was let in")

    hosts = [(b"host", b"127.0.0.1:80"), (b"host", b"evil.test")]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": hosts}
    asyncio.run(door.Door(never, door.Lock(), 80, OPEN_PATHS)(scope, never, send))
    assert sent[0]["status"] == 403


# --- W2: requests that another page sends ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", TELLING)
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.test"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "https://127.0.0.1:{port}"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "multipart/form-data"}, 415),
        ({"X-Dedup-Token": ""}, 403),
        ({"X-Dedup-Token": "wrong"}, 403),
    ],
)
def test_w2_a_change_from_elsewhere_is_refused(
    served: Reviewed, path: str, headers: dict[str, str], status: int
) -> None:
    if path == "/api/enter" and "X-Dedup-Token" in headers:
        return  # it is asked before there is a token, with the code
    sent = {name: value.format(port=served.port) for name, value in headers.items()}
    assert served.post(path, {}, **sent).status == status


@pytest.mark.parametrize("path", TELLING)
def test_w2_a_change_without_an_origin_is_refused(served: Reviewed, path: str) -> None:
    headers = {"X-Dedup-Token": served.token, "Content-Type": "application/json"}
    assert served.ask("POST", path, b"{}", headers).status == 403


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "HEAD"])
def test_w2_no_other_method_and_no_permission_for_other_pages(served: Reviewed, method: str) -> None:
    reply = served.ask(
        method, "/api/decide", None, {"Origin": "http://evil.test", "Access-Control-Request-Method": "POST"}
    )
    assert reply.status == 405
    assert not [name for name in reply.headers if name.startswith("access-control")]


# --- W3, W11: the token, and other users of the machine ---------------------------------------------------------------


def test_w3_the_code_is_good_for_one_use(served: Reviewed) -> None:
    assert served.post("/api/enter", {"code": served.code}).status == 403
    assert served.post("/api/enter", {"code": ""}).status == 403
    assert served.post("/api/enter", {"code": "é"}).status == 403


def test_w3_the_token_is_in_no_argument_and_no_log(served: Reviewed) -> None:
    assert len(served.token) >= 43
    words = Path(f"/proc/{served.process.pid}/cmdline").read_bytes()
    around = Path(f"/proc/{served.process.pid}/environ").read_bytes()
    for secret in (served.token, served.code):
        assert secret.encode() not in words + around
    assert served.token not in served.link
    reply = served.get("/")
    assert reply.headers["referrer-policy"] == "no-referrer"
    assert served.token.encode() not in reply.body and served.code.encode() not in reply.body
    assert "set-cookie" not in reply.headers, "a cookie would be sent to every other port of this machine"


def test_w3_the_browser_is_sent_by_a_file_for_the_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dedup.review import server

    opened: list[str] = []
    asked = threading.Event()

    def note(link: str) -> None:
        opened.append(link)
        asked.set()

    monkeypatch.setattr("webbrowser.open", note)
    path = server._open("http://127.0.0.1:1/#secret-code")
    try:
        assert asked.wait(10)
        assert opened == [f"file://{path}"] and "secret-code" not in path
        assert os.stat(path).st_mode & 0o777 == 0o600
        assert "secret-code" in Path(path).read_text()
    finally:
        os.unlink(path)


@pytest.mark.parametrize("path", (*ASKING, "/api/picture?group=x&of=y"))
def test_w11_nothing_is_said_without_the_token(served: Reviewed, path: str) -> None:
    assert served.ask("GET", path).status == 403
    assert served.get(path, **{"X-Dedup-Token": served.token[:-1]}).status == 403


def test_w11_it_listens_on_this_machine_only(served: Reviewed) -> None:
    listening = [
        line.split()[1]
        for name in ("tcp", "tcp6")
        if Path(f"/proc/net/{name}").exists()
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and int(line.split()[1].rpartition(":")[2], 16) == served.port
    ]
    assert listening == [f"0100007F:{served.port:04X}"]


# --- W4: ways to other files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static//etc/passwd",
        "/../../etc/passwd",
        "/static/page.css%00.html",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
    ],
)
def test_w4_no_path_leads_out(served: Reviewed, path: str) -> None:
    assert served.get(path).status == 404


@pytest.mark.parametrize("name", ["1", "../../etc/passwd", "/etc/passwd", "%00", "AAAAAAAAAAAA", "é"])
def test_w4_only_names_that_were_given_out_mean_anything(served: Reviewed, name: str) -> None:
    from urllib.parse import quote

    group = served.group("rocket.jpg")
    for asked in (f"group={quote(name)}&of={group['keeper']}", f"group={group['id']}&of={quote(name)}"):
        assert served.get(f"/api/picture?{asked}").status == 404
    assert served.decide(group, {name: "goes"}).status == 404
    assert served.decide(group | {"id": name}, {}).status == 404


def test_w4_names_are_of_one_start(library: Path, served: Reviewed) -> None:
    group = served.group("rocket.jpg")
    with Reviewed(library, library / "c.db") as other:
        other.enter()
        assert other.get(f"/api/group?id={group['id']}").status == 404
        assert other.get("/api/start", **{"X-Dedup-Token": served.token}).status == 403


@pytest.mark.parametrize("what", ["file", "folder"])
def test_w4_a_link_put_in_the_way_is_not_followed(served: Reviewed, what: str) -> None:
    group = served.group("astronaut.jpg")
    place = served.home / "Pictures/Albums" / ("" if what == "folder" else "astronaut.jpg")
    secret = served.home / "secret"
    place.rename(secret)
    try:
        place.symlink_to(secret)
        reply = served.get(f"/api/picture?group={group['id']}&of={group['keeper']}")
        refused = served.decide(group, dict.fromkeys(others(group), "goes"))
    finally:
        place.unlink()
        secret.rename(place)
    assert reply.status == 409
    assert refused.status == 409, "and nothing goes for it"


# --- W5, W6, W7, W13: what a browser is told --------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*sorted(OPEN_PATHS), "/api/start", "/nothing", "/api/decide"])
@pytest.mark.parametrize("with_token", [True, False])
def test_every_answer_forbids_what_the_page_does_not_need(
    served: Reviewed, path: str, with_token: bool
) -> None:
    headers = served.get(path).headers if with_token else served.ask("GET", path).headers
    assert headers["content-security-policy"] == (
        "default-src 'none'; img-src 'self' blob:; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"


def test_w5_the_page_has_no_script_or_style_of_its_own(served: Reviewed) -> None:
    page = served.get("/").body.decode()
    assert page.count("<script") == page.count('<script type="module" src="/static/') == 1
    assert "<style" not in page and " style=" not in page and " onclick" not in page
    for path in OPEN_PATHS:
        if path.endswith(".js"):
            text = served.get(path).body.decode()
            for way in (
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "http://",
                "https://",
            ):
                assert way not in text, f"{path} uses {way}"


def test_w6_a_photo_that_is_a_page_as_well_is_drawn_anew(served: Reviewed) -> None:
    (card,) = served.cards(text="page.html")
    group = served.get(f"/api/group?id={card['id']}").body["group"]
    page = next(photo["id"] for photo in group["photos"] if photo["name"] == "page.html.jpg")
    for size in ("thumb", "view", "full"):
        reply = served.get(f"/api/picture?group={group['id']}&of={page}&size={size}")
        assert reply.status == 200
        assert reply.headers["content-type"] == "image/jpeg"
        assert b"script" not in reply.body and b"alert" not in reply.body


@pytest.mark.parametrize(
    "content",
    [
        b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        b"<!doctype html><script>alert(1)</script>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n",
        b"\x89PNG\r\n\x1a\n" + b"\0" * 300,
        b"\xff\xd8\xff\xe0" + b"\xff" * 3000,
        b"",
    ],
)
def test_w6_w8_what_is_no_picture_any_more_is_not_handed_out(tmp_path: Path, content: bytes) -> None:
    """Of the very size and time that were scanned, so that only the content can tell."""
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    status = path.stat()
    file = PhotoFile(str(path), status.st_size, status.st_mtime_ns, 0, 0, 0, 1)
    job = SightJob(Look.PHOTO, View(file, os.fsencode(tmp_path), 400, 300), None, None, 320, 10**8)
    with Gallery(Settings(jobs=1)) as pictures:
        drawn = pictures.draw(job)
    assert drawn.content == b"" and drawn.why


def test_w8_no_more_pictures_wait_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gallery, "MOST_WAITING", 0)
    file = PhotoFile(str(tmp_path / "a"), 1, 1, 1, 1, 1, 1)
    job = SightJob(Look.PHOTO, View(file, os.fsencode(tmp_path), 9, 9), None, None, 320, 10**8)
    with Gallery(Settings(jobs=1)) as pictures, pytest.raises(Busy):
        pictures.draw(job)


def test_w8_what_is_kept_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Gallery(Settings(jobs=1), cache_bytes=10_000) as pictures:
        monkeypatch.setattr(pictures, "_draw", lambda _job: DrawnSight(bytes(3000), "image/jpeg"))
        for number in range(20):
            file = PhotoFile(f"/{number}", 1, 1, 1, 1, 1, 1)
            pictures.draw(SightJob(Look.PHOTO, View(file, b"/", 9, 9), None, None, 320, 10**8))
            assert pictures.kept_bytes <= 10_000


# --- W9, W10, W14: decisions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("edit", ["content", "touch", "gone", "replaced"])
@pytest.mark.parametrize("which", ["Albums/rocket.jpg", "Phone/Sent/rocket-small.jpg"])
def test_w9_nothing_is_decided_about_a_file_that_changed(served: Reviewed, edit: str, which: str) -> None:
    clear(served, "rocket.jpg")
    before = decision_count(served.home)
    group = served.group("rocket.jpg")
    path = served.home / "Pictures" / which
    aside = path.with_name("aside")
    path.rename(aside)
    try:
        if edit in ("content", "touch"):
            shutil.copy2(aside, path)
        if edit == "content":
            path.write_bytes(aside.read_bytes() + b"x")
        elif edit == "touch":
            os.utime(path, ns=(1, 1))
        elif edit == "replaced":
            path.mkdir()
        reply = served.decide(group, dict.fromkeys(others(group), "goes"), group["keeper"])
    finally:
        if edit == "replaced":
            path.rmdir()
        aside.rename(path)
    assert reply.status == 409
    assert "since the scan" in reply.body["error"]
    assert decision_count(served.home) == before
    assert served.decide(group, dict.fromkeys(others(group), "goes"), group["keeper"]).status == 200
    clear(served, "rocket.jpg")


def test_w9_a_decision_about_another_group_than_was_seen_is_refused(served: Reviewed) -> None:
    group = served.group("rocket.jpg")
    assert served.decide(group | {"mark": "0" * 16}, {}).status == 409
    assert served.decide(group | {"version": "0" * 16}, dict.fromkeys(others(group), "stays")).status == 409


def clear(review: Reviewed, name: str) -> None:
    assert review.decide(review.group(name), {}).status == 200


def test_w10_a_change_that_is_sent_again_is_made_once(served: Reviewed) -> None:
    group = served.group("astronaut.jpg")
    change = secrets.token_hex(8)
    marks = dict.fromkeys(others(group), "stays")
    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda _: served.decide(group, marks, change=change), range(100)))
    assert {reply.status for reply in replies} == {200}
    assert len({str(reply.body["group"]) for reply in replies}) == 1
    served.post("/api/undo", {"change": secrets.token_hex(8)})
    assert served.group("astronaut.jpg")["marks"] == {}, "one change, so one undo"


def test_w10_an_undo_that_is_sent_again_takes_back_one_thing(served: Reviewed) -> None:
    for mark in ("stays", "later"):
        group = served.group("astronaut.jpg")
        assert served.decide(group, dict.fromkeys(others(group), mark)).status == 200
    change = {"change": secrets.token_hex(8)}
    assert served.post("/api/undo", change).body == served.post("/api/undo", change).body | {
        "undo": "1 stays"
    }
    assert set(served.group("astronaut.jpg")["marks"].values()) == {"stays"}
    clear(served, "astronaut.jpg")


def test_w10_of_a_hundred_different_decisions_at_once_one_counts(served: Reviewed) -> None:
    clear(served, "coffee.jpg")
    group = served.group("coffee.jpg")
    one, *_, last = others(group)
    words = ("goes", "stays", "apart", "later")
    several = [{one: words[at % 4], last: words[at // 4 % 4]} for at in range(16)]
    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda at: served.decide(group, several[at % 16]), range(100)))
    good = [reply for reply in replies if reply.status == 200]
    assert {reply.status for reply in replies} == {200, 409}
    assert len({str(sorted(reply.body["group"]["marks"].items())) for reply in good}) == 1
    assert served.group("coffee.jpg")["marks"] == good[0].body["group"]["marks"]
    clear(served, "coffee.jpg")


def test_w14_a_group_keeps_a_file_whatever_is_sent(served: Reviewed) -> None:
    group = served.group("rocket.jpg")
    every = [photo["id"] for photo in group["photos"]]
    before = decision_count(served.home)
    assert served.decide(group, dict.fromkeys(every, "goes")).status == 422
    assert served.decide(group, dict.fromkeys(every, "goes"), every[-1]).status == 422
    other = served.group("coffee.jpg")
    assert served.decide(group, {}, other["keeper"]).status == 422, "the kept one is of another group"
    assert served.decide(group, {other["keeper"]: "goes"}).status == 422
    assert served.decide(group, {every[1]: "eaten"}).status == 422
    assert decision_count(served.home) == before


def test_w14_nothing_goes_for_a_damaged_photo(served: Reviewed) -> None:
    clear(served, "rocket.jpg")
    with Catalogue.open(str(served.home / "c.db"), write=True) as catalogue:
        known = {row[0]: row[9] for row in catalogue.known_files()}
        content = known[str(served.home / "Pictures/Albums/rocket.jpg")]
        before = catalogue.inspections().get(content)
        catalogue.put_inspection(Inspection(content, "cut short", 1.0), "test")
    group = served.group("rocket.jpg")
    reply = served.decide(group, dict.fromkeys(others(group), "goes"), group["keeper"])
    with Catalogue.open(str(served.home / "c.db"), write=True) as catalogue:
        catalogue.put_inspection(before[0] if before else Inspection(content, "", 1.0), "test")
    assert reply.status == 422
    assert "damaged" in reply.body["error"]
    assert any("damaged: cut short" in row["cells"][0] for row in group["table"])


# --- W12: too much, too slowly ----------------------------------------------------------------------------------------


def test_w12_a_large_body_is_refused_before_it_is_read(served: Reviewed) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as line:
        head = (
            f"POST /api/decide HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nOrigin: {served.address}\r\n"
            f"X-Dedup-Token: {served.token}\r\nContent-Type: application/json\r\nContent-Length: 2000000000\r\n\r\n"
        )
        line.sendall(head.encode())
        assert line.recv(200).split()[1] == b"413"


def test_w12_a_body_without_a_length_is_cut_off(served: Reviewed) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as line:
        head = (
            f"POST /api/decide HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nOrigin: {served.address}\r\n"
            f"X-Dedup-Token: {served.token}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        line.sendall(head.encode())
        answer = b""
        try:
            for _ in range(40):
                line.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
            answer = line.recv(200)
        except (BrokenPipeError, ConnectionResetError):
            answer = b"HTTP/1.1 413 closed"
        assert answer.split()[1] == b"413"


def test_w12_a_slow_body_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "BODY_S", 0.05)

    async def nothing_comes() -> Any:
        await asyncio.sleep(60)

    async def wait() -> None:
        await door._whole_body(nothing_comes, Headers({}))

    with pytest.raises(door.Refused, match="too long"):
        asyncio.run(wait())


def test_w12_those_who_say_nothing_do_not_keep_others_out(served: Reviewed) -> None:
    silent = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(60)]
    try:
        until = time.monotonic() + 30
        while True:
            try:
                assert served.get("/").status == 200
                break
            except (ConnectionError, OSError):
                assert time.monotonic() < until
                time.sleep(0.2)
    finally:
        for line in silent:
            line.close()


def test_w12_parts_of_a_picture_are_not_sent(served: Reviewed) -> None:
    group = served.group("rocket.jpg")
    reply = served.get(f"/api/picture?group={group['id']}&of={group['keeper']}", Range="bytes=0-1")
    assert reply.status == 200 and len(reply.body) > 1000


# --- nobody is called -------------------------------------------------------------------------------------------------


def test_it_calls_nobody(tmp_path: Path, library: Path) -> None:
    """A whole review, from start to plan, in a process in which every outgoing connection is noted and fails."""
    watch = tmp_path / "watch"
    watch.mkdir()
    (watch / "sitecustomize.py").write_text(
        "import sys\n"
        "def hook(event, words):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo', 'socket.sendto', 'urllib.Request'):\n"
        f"        open({str(tmp_path / 'called')!r}, 'a').write(f'{{event}} {{words}}\\n')\n"
        "        raise RuntimeError(event)\n"
        "sys.addaudithook(hook)\n"
    )
    with Reviewed(library, library / "c.db", path=f"{watch}:{ROOT}") as review:
        review.enter()
        group = review.group("astronaut.jpg")
        review.get(f"/api/picture?group={group['id']}&of={group['keeper']}")
        assert review.decide(group, dict.fromkeys(others(group), "later")).status == 200
        review.post("/api/plan", {})
        while review.get("/api/plan").body["state"] == "working":
            time.sleep(0.05)
        clear(review, "astronaut.jpg")
    assert not (tmp_path / "called").exists(), (tmp_path / "called").read_text()
