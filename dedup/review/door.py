"""Who may ask, and how much: everything that is refused before a question is even looked at.

Promises: whatever does not come from the page that the person opened is refused - by Host first (a page elsewhere that
points its own name at this machine), then by Origin and `Sec-Fetch-Site` (a page elsewhere that sends forms or
images), then by the token (another user of this machine). Every answer forbids the browser whatever the page does not
need. Does not: keep the token anywhere but in memory.
"""

from __future__ import annotations

import hmac
import json
import secrets
import threading
from http import HTTPStatus
from typing import Any

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BODY_BYTES = 1 << 20
BODY_S = 15.0
"""Time for sending a body."""
CONNECTIONS = 32
HEADER_S = 5.0
"""Time from the connection to the end of the headers."""
TOKEN_BYTES = 32

POLICY = (
    "default-src 'none'; img-src 'self' blob:; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
SAFE_HEADERS = (
    ("content-security-policy", POLICY),
    ("x-frame-options", "DENY"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-embedder-policy", "require-corp"),
    ("permissions-policy", "camera=(), microphone=(), geolocation=(), usb=(), payment=()"),
    ("cache-control", "no-store"),
)


class Refused(Exception):
    """An answer other than the one that was asked for."""

    def __init__(self, status: HTTPStatus, words: str) -> None:
        super().__init__(words)
        self.status = status


class Lock:
    """The token of this start, and the code that is exchanged for it once."""

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(TOKEN_BYTES)
        self.code = secrets.token_urlsafe(TOKEN_BYTES)
        self._used = False
        self._guard = threading.Lock()

    def enter(self, code: str) -> str:
        """The token, for the code; once."""
        with self._guard:
            right = _same(code, self.code)
            if not right or self._used:
                raise Refused(
                    HTTPStatus.FORBIDDEN,
                    "this link was used already, or is of an earlier start; run `dedup review` again",
                )
            self._used = True
            return self.token

    def fits(self, token: str) -> bool:
        """Whether it is the token."""
        return _same(token, self.token)


def _same(given: str, known: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), known.encode())


class Door:
    """The application behind its checks.

    Parameters
    ----------
    port
        At which it listens; the only names by which it may be called are made of it.
    open_paths
        The page and what it is made of: the same for everybody, without anything about photos.
    """

    def __init__(self, app: ASGIApp, lock: Lock, port: int, open_paths: frozenset[str]) -> None:
        self.app = app
        self.lock = lock
        names = ("127.0.0.1", "localhost", "[::1]")
        self._hosts = frozenset(f"{name}:{port}" for name in names)
        self._origins = frozenset(f"http://{host}" for host in self._hosts)
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer that it may not."""
        if scope["type"] != "http":
            return
        send = _safely(send)
        try:
            headers = Headers(scope=scope)
            self._check(scope, headers)
            if scope["method"] == "POST":
                body = await _whole_body(receive, headers)
                receive = _replay(body)
        except Refused as refused:
            await answer_json(send, refused.status, {"error": str(refused)})
            return
        await self.app(scope, receive, send)

    def _check(self, scope: Scope, headers: Headers) -> None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            raise Refused(HTTPStatus.FORBIDDEN, "this page is for this machine only")
        method, path = scope["method"], scope["path"]
        if method not in ("GET", "POST"):
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "GET or POST")
        if path in self._open_paths and method == "GET":
            return
        if headers.get("sec-fetch-site", "same-origin") != "same-origin":
            raise Refused(HTTPStatus.FORBIDDEN, "another page may not ask here")
        origins = headers.getlist("origin")
        if (origins or method == "POST") and (len(origins) != 1 or origins[0] not in self._origins):
            raise Refused(HTTPStatus.FORBIDDEN, "another page may not ask here")
        if method == "POST" and headers.get("content-type", "").split(";")[0].strip() != "application/json":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send JSON")
        if path != "/api/enter" and not self.lock.fits(headers.get("x-dedup-token", "")):
            raise Refused(
                HTTPStatus.FORBIDDEN, "the token is missing or wrong; open the link that dedup review gave"
            )


async def _whole_body(receive: Receive, headers: Headers) -> bytes:
    too_large = Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {MOST_BODY_BYTES:,} bytes")
    said = headers.get("content-length", "0")
    if not said.isascii() or not said.isdigit() or int(said) > MOST_BODY_BYTES:
        raise too_large
    parts: list[bytes] = []
    size = 0
    try:
        with anyio.fail_after(BODY_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused(HTTPStatus.BAD_REQUEST, "it broke off")
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > MOST_BODY_BYTES:
                    raise too_large
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError as error:
        raise Refused(HTTPStatus.REQUEST_TIMEOUT, "it took too long to arrive") from error


def _replay(body: bytes) -> Receive:
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    return receive


def _safely(send: Send) -> Send:
    safe = [(name.encode(), value.encode()) for name, value in SAFE_HEADERS]

    async def send_safely(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *safe]}
        await send(message)

    return send_safely


async def answer_json(send: Send, status: HTTPStatus, content: dict[str, Any]) -> None:
    """Send JSON."""
    body = json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
