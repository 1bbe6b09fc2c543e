"""`dedup serve`: the same answers over HTTP, to clients that behave and to those that do not."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import dedup.listening
from dedup import Library, Settings, UsageError, scan_library
from dedup.listening import Server
from dedup.serve import ServeLimits, describe, make_app, read_token
from tests.desk import Desk
from tests.pictures import jpeg, real_photo
from tests.test_library import hostile

uvicorn = pytest.importorskip("uvicorn")

TOKEN = "a token of more than twenty characters"


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: Any


def ask(
    port: int,
    method: str = "POST",
    path: str = "/check",
    body: Any = b"",
    token: str = TOKEN,
    **headers: str,
) -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request(
            method, path, body, sent | {name.replace("_", "-"): value for name, value in headers.items()}
        )
        reply = connection.getresponse()
        held = reply.read()
        plain = json.loads(held) if reply.headers.get_content_type() == "application/json" else held
        return Reply(reply.status, {name.lower(): value for name, value in reply.getheaders()}, plain)
    finally:
        connection.close()


class Served:
    """A server in a thread of the test."""

    def __init__(self, library: Library, limits: ServeLimits) -> None:
        from dedup import serve

        self.port = 0
        listening = threading.Event()

        def ready(_: str, port: int) -> None:
            self.port = port
            listening.set()

        made: list[Server] = []
        real = dedup.listening.Server

        def make(config: Any, told: Any) -> Server:
            made.append(real(config, told))
            return made[0]

        dedup.listening.Server = make  # type: ignore[misc, assignment]
        try:
            self.thread = threading.Thread(
                target=serve.serve, args=(library, TOKEN, ("127.0.0.1", 0), limits, ready)
            )
            self.thread.start()
            assert listening.wait(30)
        finally:
            dedup.listening.Server = real  # type: ignore[misc]
        self.server = made[0]

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join(30)
        assert not self.thread.is_alive()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    home = tmp_path_factory.mktemp("served")
    (home / "Pictures").mkdir()
    (home / "Pictures" / "cat.jpg").write_bytes(jpeg(real_photo("chelsea")))
    settings = Settings(db=str(home / "photos.db"), jobs=2)
    scan_library([home / "Pictures"], settings)
    with Library.open(settings=settings) as library:
        yield library


@pytest.fixture(scope="module")
def server(library: Library) -> Iterator[Served]:
    served = Served(library, ServeLimits(body_bytes=400_000, body_s=1.0, header_s=0.7))
    yield served
    served.close()


AGAIN = jpeg(real_photo("chelsea"), 70)
OTHER = jpeg(real_photo("astronaut"), 70)


# ---- answers -------------------------------------------------------------------------------------------------------


def test_a_picture_is_answered_as_by_the_command(server: Served) -> None:
    reply = ask(server.port, path="/check?name=cat.jpg", body=AGAIN)
    assert reply.status == 200
    assert (reply.body["answer"], reply.body["file"]) == ("there", "cat.jpg")
    assert reply.body["matches"][0]["relation"] == "same-picture"
    assert ask(server.port, body=OTHER).body["answer"] == "new"


def test_what_is_no_picture_is_answered_with_a_reason(server: Served) -> None:
    reply = ask(server.port, body=b"no picture")
    assert reply.status == 422
    assert (reply.body["answer"], reply.body["reason"]) == ("unreadable", "not a photo")
    assert ask(server.port, body=b"").body["reason"] == "empty"


def test_a_body_in_chunks_is_a_body(server: Served) -> None:
    pieces = iter([AGAIN[:1000], AGAIN[1000:]])
    assert ask(server.port, body=pieces).body["answer"] == "there"


def test_names_are_names_and_no_paths(server: Served) -> None:
    for name in (
        "../../etc/passwd",
        "%2e%2e%2fx",
        "a%00b.jpg",
        "x" * 3000,
        "%ff.jpg",
        "a.jpg%0d%0aSet-Cookie:x",
    ):
        reply = ask(server.port, path=f"/check?name={name}", body=AGAIN)
        assert reply.status == 200
        assert "/" not in reply.body["file"]
        assert "set-cookie" not in reply.headers


def test_health_says_nothing_about_the_library(server: Served) -> None:
    reply = ask(server.port, "GET", "/health", token="")
    assert (reply.status, set(reply.body)) == (200, {"schema", "status", "version"})


def test_the_description_names_what_is_answered(server: Served) -> None:
    reply = ask(server.port, "GET", "/openapi.json", token="")
    assert reply.body == json.loads(json.dumps(describe(ServeLimits(body_bytes=400_000))))
    assert set(reply.body["paths"]) == {"/check", "/health"}
    answer = reply.body["paths"]["/check"]["post"]["responses"]["200"]["content"]["application/json"][
        "schema"
    ]
    said = ask(server.port, body=AGAIN).body
    assert set(said) <= set(answer["properties"]) | {"file_bytes"}
    assert set(answer["required"]) <= set(said)
    likeness = answer["properties"]["matches"]["items"]
    assert set(said["matches"][0]) == set(likeness["properties"])


# ---- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x", TOKEN[:-1], "ä" * 30])
def test_nothing_is_answered_without_the_token(token: str, server: Served) -> None:
    sent = token.encode("utf-8").decode("latin-1")
    reply = ask(server.port, body=AGAIN, token=sent)
    assert reply.status == 401
    assert set(reply.body) == {"schema", "error"}


@pytest.mark.parametrize("header", ["Basic " + TOKEN, TOKEN, "Bearer", "bearer  " + TOKEN + " x", ""])
def test_the_token_comes_as_bearer(header: str, server: Served) -> None:
    assert ask(server.port, body=AGAIN, token="", Authorization=header).status == 401


def test_a_body_that_says_it_is_too_large_is_not_read(server: Served) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        head = f"POST /check HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 99999999\r\n\r\n"
        client.sendall(head.encode())
        assert b" 413 " in client.recv(4096)


def test_a_body_that_grows_too_large_is_cut_off(server: Served) -> None:
    pieces = (bytes(50_000) for _ in range(20))
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    try:
        connection.request("POST", "/check", pieces, headers)
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass  # let go while it was still sending
    finally:
        connection.close()


def test_a_form_is_told_what_to_send(server: Served) -> None:
    assert ask(server.port, body=b"x", Content_Type="multipart/form-data; boundary=x").status == 415


@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", "/check", 405), ("PUT", "/check", 405), ("GET", "/", 404), ("GET", "/check/../health", 404),
    ("POST", "/health", 405), ("OPTIONS", "/check", 405), ("GET", "//etc/passwd", 404),
])  # fmt: skip
def test_there_is_nothing_else(method: str, path: str, status: int, server: Served) -> None:
    reply = ask(server.port, method, path)
    assert reply.status == status
    assert "access-control-allow-origin" not in reply.headers


CHUNKED = b"POST /check HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"


@pytest.mark.parametrize("raw", [
    b"\0\0\0\0\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"POST /check HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    b"POST /check HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /check HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 6\r\n\r\nhello",
    b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    CHUNKED + b"Authorization: Bearer " + TOKEN.encode() + b"\r\n\r\nzz\r\n",
])  # fmt: skip
def test_what_is_no_http_is_let_go(raw: bytes, server: Served) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        try:
            client.sendall(raw)
            while client.recv(65536):
                pass
        except ConnectionError:
            pass
    assert ask(server.port, "GET", "/health").status == 200


# ---- slow clients --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [b"", b"POST /check HT", b"POST /check HTTP/1.1\r\nHost: x\r\nX-A: "])
def test_who_never_ends_its_headers_is_let_go(said: bytes, server: Served) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        began = time.monotonic()
        if said:
            client.sendall(said)
        try:
            while time.monotonic() - began < 15:
                client.settimeout(0.2)
                try:
                    if not client.recv(100):
                        break
                except TimeoutError:
                    client.sendall(b"x" if said else b"")  # a byte now and then, for ever
        except ConnectionError:
            pass
        assert time.monotonic() - began < 10


def test_who_sends_its_picture_too_slowly_is_let_go(server: Served) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        head = f"POST /check HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 1000\r\n\r\n"
        client.sendall(head.encode())
        began, said = time.monotonic(), b""
        client.settimeout(0.2)
        while time.monotonic() - began < 15 and b"\r\n" not in said:
            try:
                said += client.recv(4096)
            except TimeoutError:
                client.sendall(b"x")
        assert b" 408 " in said


def test_slow_clients_do_not_keep_others_waiting(server: Served) -> None:
    idle = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(40)]
    for client in idle:
        client.sendall(b"POST /check HTTP/1.1\r\nHost: x\r\n")
    began = time.monotonic()
    assert ask(server.port, "GET", "/health").status == 200
    assert time.monotonic() - began < 5
    for client in idle:
        client.close()


def test_who_goes_away_in_the_middle_is_forgotten(server: Served, tmp_path: Path) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
            head = f"POST /check HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 9000\r\n\r\n"
            client.sendall(head.encode() + b"x" * 500)
    assert ask(server.port, body=AGAIN).body["answer"] == "there"


def test_connections_beyond_the_limit_are_closed(library: Library) -> None:
    served = Served(library, ServeLimits(connections=4, header_s=30))
    try:
        held = [socket.create_connection(("127.0.0.1", served.port), timeout=20) for _ in range(4)]
        time.sleep(0.5)
        one_more = socket.create_connection(("127.0.0.1", served.port), timeout=20)
        with one_more, suppress(ConnectionError):
            assert one_more.recv(100) == b""
        for client in held:
            client.close()
        time.sleep(0.5)
        assert ask(served.port, "GET", "/health").status == 200
    finally:
        served.close()


def test_when_too_many_wait_the_next_is_told_to_come_again(library: Library) -> None:
    served = Served(library, ServeLimits(waiting=2))
    try:
        with ThreadPoolExecutor(12) as many:
            replies = list(many.map(lambda _: ask(served.port, body=AGAIN), range(12)))
        statuses = [reply.status for reply in replies]
        assert set(statuses) == {200, 503}
        assert all(reply.headers["retry-after"] for reply in replies if reply.status == 503)
        assert ask(served.port, body=AGAIN).status == 200
    finally:
        served.close()


def test_what_all_bodies_take_is_bounded(library: Library) -> None:
    served = Served(library, ServeLimits(held_bytes=len(AGAIN) - 1))
    try:
        assert ask(served.port, body=AGAIN).status == 503
        assert ask(served.port, body=iter([AGAIN])).status == 503
        assert ask(served.port, body=b"small").status == 422
    finally:
        served.close()


# ---- the command: two hundred hostile uploads, a hundred at once ---------------------------------------------------


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    desk = Desk(tmp_path_factory.mktemp("desk"))
    (desk.photos / "cat.jpg").write_bytes(jpeg(real_photo("chelsea")))
    desk.environment["DEDUP_JOBS"] = "2"
    (desk.home / "tmp").mkdir()
    desk.environment["TMPDIR"] = str(desk.home / "tmp")
    desk.type("scan", "Pictures")
    return desk


@pytest.mark.slow
def test_two_hundred_hostile_uploads_a_hundred_at_once(desk: Desk) -> None:
    uploads = [(content, "") for content in hostile()]
    chance = random.Random(3)
    while len(uploads) < 200:
        held = bytearray(AGAIN)
        for _ in range(chance.randrange(1, 300)):
            held[chance.randrange(len(held))] = chance.randrange(256)
        uploads.append((bytes(held), ""))
    uploads += [(AGAIN, "there"), (OTHER, "new")] * 20
    chance.shuffle(uploads)
    with desk.start("serve", "--port", "0", "--token-file", "token") as process:
        assert process.stderr is not None
        said = process.stderr.readline().decode()
        port = int(said.split(";")[0].rsplit(":", 1)[1])
        token = (desk.home / "token").read_text().strip()
        assert token not in said
        ask(port, body=AGAIN, token=token)
        files = len(os.listdir(f"/proc/{process.pid}/fd"))
        with ThreadPoolExecutor(100) as many:
            replies = list(many.map(lambda upload: ask(port, body=upload[0], token=token), uploads))
        assert len(replies) == 240
        for (_, expected), reply in zip(uploads, replies, strict=True):
            assert reply.status in (200, 422)
            if expected:
                assert reply.body["answer"] == expected
        time.sleep(0.5)
        assert len(os.listdir(f"/proc/{process.pid}/fd")) <= files + 2
        assert os.listdir(desk.home / "tmp") == []
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, 143)
    assert stat.S_IMODE(os.stat(desk.home / "token").st_mode) == 0o600


def test_an_address_that_is_taken_is_said(desk: Desk) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        _, err = desk.type("serve", "--port", str(taken.getsockname()[1]), code=2)
    assert "cannot be listened at" in err


# ---- the token -----------------------------------------------------------------------------------------------------


def test_a_token_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "token"
    first = read_token(str(path))
    assert len(first) >= 40
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_token(str(path)) == first
    assert read_token(str(tmp_path / "other")) != first


def test_a_token_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    read_token(str(path))
    path.chmod(0o644)
    with pytest.raises(UsageError, match="others may read"):
        read_token(str(path))


@pytest.mark.parametrize("content", [b"", b"short\n", b"\xff" * 40, "ä".encode() * 40, b"a\0" * 30])
def test_a_file_that_holds_no_token_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(UsageError):
        read_token(str(path))


def test_a_place_where_no_token_can_be_kept_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be kept"):
        read_token(str(tmp_path / "none" / "token"))


def test_an_application_needs_a_token_worth_the_name(library: Library) -> None:
    with pytest.raises(UsageError, match="shorter"):
        make_app(library, "secret")
