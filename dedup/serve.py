"""`dedup serve`: `check` over HTTP, for the machines where uploads arrive.

    POST /check         the picture as the body; `?name=IMG_1.jpg`, header `Authorization: Bearer TOKEN`
    GET  /health        whether it is up                      GET /openapi.json   all of this for programs

Promises: nothing is answered about pictures without the token; a body is bounded in size and time and is never held in
memory; a client that is slow, or says nothing, is let go; when too many wait, the next one is told to come again at
once; whatever is sent, the server lives and its temporary files go. Does not: speak TLS (a proxy in front does), write
to the catalogue, or log what it is asked.
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import IO, Any

from dedup import __version__
from dedup.errors import DedupError, MissingExtra, UsageError
from dedup.library import Library
from dedup.pipeline import answer_to_json
from dedup.records import Answer

try:
    import anyio
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route
    from starlette.types import ASGIApp

    from dedup import listening
    from dedup.listening import one_answer_a_connection, patient_protocol
except ImportError as error:
    raise MissingExtra(f"dedup serve needs {error.name}; install photo-dedup[serve]") from error

TOKEN_BYTES = 32
LEAST_TOKEN_CHARACTERS = 20
_MOST_HEADER_BYTES = 16 << 10


@dataclass(frozen=True, slots=True)
class ServeLimits:
    """What a client may ask for."""

    body_bytes: int = 64 << 20
    """Largest picture: a 100 MP JPEG has 40 MB."""
    held_bytes: int = 1 << 30
    """All bodies that are on the disk at a time."""
    body_s: float = 30.0
    """Time for sending the body."""
    header_s: float = 10.0
    """Time from the connection to the end of the headers."""
    connections: int = 256
    """Further ones are closed at once."""
    waiting: int = 128
    """Pictures that are under work or wait for it; further ones are told to come again."""


class _Refusal(Exception):
    """An answer other than the one that was asked for."""

    def __init__(self, status: HTTPStatus, words: str, **headers: str) -> None:
        super().__init__(words)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Door:
    """The two questions, and what is known of those who ask."""

    def __init__(self, library: Library, token: str, limits: ServeLimits) -> None:
        self.library = library
        self.limits = limits
        self._token = token.encode("utf-8")
        self._waiting = 0
        self._held = 0
        self._room: anyio.CapacityLimiter | None = None

    async def health(self, _request: Request) -> Response:
        """Whether the server is up; nothing about the library."""
        return _json({"schema": 1, "status": "ok", "version": __version__})

    async def openapi(self, _request: Request) -> Response:
        """The description for programs."""
        return _json(describe(self.limits))

    async def check(self, request: Request) -> Response:
        """Whether the picture in the body is in the library."""
        try:
            self._admit(request)
            return await self._answer(request)
        except _Refusal as refusal:
            return _json({"schema": 1, "error": str(refusal)}, refusal.status, refusal.headers)
        except ClientDisconnect:
            return Response(status_code=HTTPStatus.BAD_REQUEST)
        except DedupError as error:
            return _json({"schema": 1, "error": str(error)}, HTTPStatus.SERVICE_UNAVAILABLE)

    def _admit(self, request: Request) -> None:
        """Everything that can be refused before the body is read."""
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not hmac.compare_digest(
            given.strip().encode("utf-8", "surrogateescape"), self._token
        ):
            raise _Refusal(
                HTTPStatus.UNAUTHORIZED, "the token is missing or wrong", WWW_Authenticate="Bearer"
            )
        if request.headers.get("content-type", "").startswith("multipart/"):
            raise _Refusal(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send the picture itself as the body, not a form"
            )
        said = request.headers.get("content-length", "0")
        if not said.isascii() or not said.isdigit() or int(said) > self.limits.body_bytes:
            raise self._too_large()
        if self._waiting >= self.limits.waiting or self._held + int(said) > self.limits.held_bytes:
            raise _Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE, "too many pictures are waiting; try again", Retry_After="2"
            )

    def _too_large(self) -> _Refusal:
        words = f"the picture is larger than {self.limits.body_bytes:,} bytes"
        return _Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, words)

    async def _answer(self, request: Request) -> Response:
        name = os.path.basename(request.query_params.get("name", ""))[-255:].replace("\0", "") or "upload"
        self._waiting += 1
        size = 0
        try:
            with tempfile.NamedTemporaryFile(prefix="dedup-serve-", suffix=_extension(name)) as body:
                with _in_time(self.limits.body_s):
                    async for block in request.stream():
                        size += len(block)
                        self._held += len(block)
                        self._keep(body, block, size)
                body.flush()
                if self._room is None:
                    self._room = anyio.CapacityLimiter(self.library.jobs)
                found = await anyio.to_thread.run_sync(
                    self.library.check, body.name, name, limiter=self._room
                )
        except OSError as error:
            raise _no_room() from error
        finally:
            self._waiting -= 1
            self._held -= size
        status = HTTPStatus.UNPROCESSABLE_ENTITY if found.answer is Answer.UNREADABLE else HTTPStatus.OK
        return _json(answer_to_json(found, name), status)

    def _keep(self, body: IO[bytes], block: bytes, size: int) -> None:
        if size > self.limits.body_bytes:
            raise self._too_large()
        if self._held > self.limits.held_bytes:
            raise _no_room()
        body.write(block)


@contextmanager
def _in_time(seconds: float) -> Iterator[None]:
    try:
        with anyio.fail_after(seconds):
            yield
    except TimeoutError as error:
        raise _Refusal(HTTPStatus.REQUEST_TIMEOUT, "the picture took too long to arrive") from error


def _no_room() -> _Refusal:
    return _Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "there is no room for the picture now", Retry_After="10")


def _extension(name: str) -> str:
    """What is taken over from the name of an upload: a camera's RAW file is told by it."""
    extension = os.path.splitext(name)[1]
    return extension if extension.isascii() and extension[1:].isalnum() and len(extension) < 9 else ""


def make_app(library: Library, token: str, limits: ServeLimits | None = None) -> ASGIApp:
    """The application, for a server of one's own.

    Parameters
    ----------
    library
        Open; it stays the caller's to close.
    token
        What clients must know, of 20 characters at least.
    limits
        Those of connections and headers are kept by `serve`, not by the application.

    Raises
    ------
    UsageError
        If the token is short.
    """
    if len(token) < LEAST_TOKEN_CHARACTERS:
        raise UsageError(f"the token is shorter than {LEAST_TOKEN_CHARACTERS} characters")
    door = Door(library, token, limits or ServeLimits())
    routes = [
        Route("/check", door.check, methods=["POST"]),
        Route("/health", door.health, methods=["GET"]),
        Route("/openapi.json", door.openapi, methods=["GET"]),
    ]
    return one_answer_a_connection(Starlette(routes=routes))


def _json(
    content: dict[str, Any], status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None
) -> JSONResponse:
    safe = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    return JSONResponse(content, int(status), {**safe, **(headers or {})})


# --- the server -----------------------------------------------------------------------------------------------------


def serve(
    library: Library,
    token: str,
    address: tuple[str, int],
    limits: ServeLimits | None = None,
    ready: Callable[[str, int], None] | None = None,
) -> None:
    """Answer until a signal comes.

    Parameters
    ----------
    address
        Host and port; with port 0 the system chooses one.
    ready
        Called with host and port once the server listens.

    Raises
    ------
    UsageError
        If the address cannot be listened at.
    """
    limits = limits or ServeLimits()
    config = uvicorn.Config(
        make_app(library, token, limits),
        host=address[0],
        port=address[1],
        http=patient_protocol(limits.connections, limits.header_s),
        ws="none",
        lifespan="off",
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=_MOST_HEADER_BYTES,
        timeout_graceful_shutdown=5,
    )
    server = listening.Server(config, ready)
    try:
        sockets = [config.bind_socket()] if address[1] else None
    except (OSError, SystemExit) as error:
        raise UsageError(f"{address[0]}:{address[1]}: cannot be listened at; is it taken?") from error
    server.run(sockets)


# --- the token ------------------------------------------------------------------------------------------------------


def read_token(path: str) -> str:
    """The token in a file, which is made, for its owner only, if it is missing.

    Raises
    ------
    UsageError
        If others may read the file, or it holds no token.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        pass
    except OSError as error:
        raise UsageError(f"{path}: the token cannot be kept there ({error.strerror})") from error
    else:
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(TOKEN_BYTES) + "\n")
    try:
        with open(path, encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            token = file.read(4096).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: there is no token to be read") from error
    if stat.S_ISREG(mode) and mode & 0o077:
        raise UsageError(f"{path}: others may read this token; run `chmod 600` on it")
    if len(token) < LEAST_TOKEN_CHARACTERS or not token.isascii() or not token.isprintable():
        raise UsageError(f"{path}: a token has {LEAST_TOKEN_CHARACTERS} printable characters or more")
    return token


# --- the description ------------------------------------------------------------------------------------------------


def describe(limits: ServeLimits) -> dict[str, Any]:
    """The OpenAPI description."""
    text = {"type": "string"}
    likeness = {
        "type": "object",
        "required": ["path", "relation", "sentence", "library_first"],
        "properties": {
            "path": text,
            "relation": {"enum": ["same-bytes", "same-pixels", "same-picture", "edited", "similar"]},
            "sentence": text,
            "library_first": {
                "type": "boolean",
                "description": "The sentence says what the upload is, seen from the library's photo.",
            },
            "figures": {"type": ["object", "null"]},
        },
    }
    answer = {
        "type": "object",
        "required": ["schema", "file", "answer", "matches"],
        "properties": {
            "schema": {"const": 1},
            "file": text,
            "answer": {"enum": [answer.value for answer in Answer]},
            "sha256": text,
            "matches": {"type": "array", "items": likeness},
            "reason": {"type": ["string", "null"]},
            "detail": {"type": ["string", "null"]},
            "notes": {"type": "array", "items": text},
        },
    }
    refusal = {"type": "object", "required": ["error"], "properties": {"schema": {"const": 1}, "error": text}}

    def says(words: str, schema: dict[str, Any]) -> dict[str, Any]:
        return {"description": words, "content": {"application/json": {"schema": schema}}}

    return {
        "openapi": "3.1.0",
        "info": {"title": "dedup", "version": __version__, "summary": "Is this picture in the library?"},
        "paths": {
            "/check": {
                "post": {
                    "summary": "Whether a picture is in the library",
                    "security": [{"token": []}],
                    "parameters": [
                        {"name": "name", "in": "query", "schema": text, "description": "What to call it."}
                    ],
                    "requestBody": {
                        "required": True,
                        "description": f"The file itself, up to {limits.body_bytes:,} bytes.",
                        "content": {
                            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
                        },
                    },
                    "responses": {
                        "200": says("The answer.", answer),
                        "401": says("The token is missing or wrong.", refusal),
                        "408": says("The picture took too long to arrive.", refusal),
                        "413": says("The picture is too large.", refusal),
                        "415": says("A form was sent rather than the picture.", refusal),
                        "422": says("It gives no picture; `reason` and `detail` say why.", answer),
                        "503": says("Too many are waiting, or the library is in trouble.", refusal),
                    },
                }
            },
            "/health": {
                "get": {
                    "summary": "Whether the server is up",
                    "responses": {"200": says("It is.", {"type": "object"})},
                }
            },
        },
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }
