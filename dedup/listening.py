"""An HTTP server that is not held up: limits for connections and for slow clients, on top of uvicorn.

Promises: each connection is closed after its answer, so that no time limit has to begin anew and an unread body goes,
too; who says nothing is let go. Does not: know what is asked, or who may ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol


def one_answer_a_connection(app: ASGIApp) -> ASGIApp:
    """The application, with each connection closed after its answer.

    What is asked here takes a hundred times as long as a connection.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_closing(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (b"connection", b"close")]
                message = {**message, "headers": headers}
            await send(message)

        await app(scope, receive, send_closing)

    return answer


class Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[str, int], None] | None) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[Any] | None = None) -> None:
        """See `uvicorn.Server`."""
        await super().startup(sockets)
        if self._ready is None or not self.started:
            return
        for listening in sockets or [held for server in self.servers for held in server.sockets]:
            host, port = listening.getsockname()[:2]
            self._ready(host, port)


def patient_protocol(connections: int, header_s: float) -> type[asyncio.Protocol]:
    """HTTP as uvicorn speaks it, with the two limits that it lacks: connections, and time for the headers."""

    class Patient(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._given_up = self.loop.call_later(header_s, self._give_up)
            if len(self.connections) > connections:
                transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            self._given_up.cancel()
            super().connection_lost(exc)

        def _give_up(self) -> None:
            if getattr(self, "cycle", None) is None:  # no request has begun
                self.transport.abort()

    return Patient
