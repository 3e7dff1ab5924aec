"""Keeps reading a request whose answer came before its end (nginx calls this lingering_close).

Closing a socket that holds unread bytes resets the connection. A client that is still sending then sees the reset
instead of the answer. So the middleware sends the whole answer, reads and discards the rest of the request within time
limits, and only then ends the answer. After that uvicorn closes a connection that is not kept alive.
"""

import asyncio
import contextlib

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LINGER_S, _SILENT_S = 10.0, 3.0


class Lingering:
    """ASGI middleware that delays the end of an answer until the request is read, within time limits."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application; linger only on HTTP requests that may have a body."""
        if scope["type"] != "http" or not _may_be_sending(scope):
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(receive, send)
        await self._app(scope, exchange.receive, exchange.send)


class _Exchange:
    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._received_all = False
        self._has_length = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._received_all |= message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._has_length = any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
        ends = message["type"] == "http.response.body" and not message.get("more_body", False)
        if ends and self._has_length and not self._received_all:  # without a length the client waits for the end
            await self._send({**message, "more_body": True})
            await self._read_on()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _read_on(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while not self._received_all:
                    async with asyncio.timeout(_SILENT_S):
                        await self.receive()


def _may_be_sending(scope: Scope) -> bool:
    """Whether the client sends a body in any case; with `Expect` it sends none before the server allows it."""
    headers = dict(scope["headers"])
    has_body = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
    return has_body and b"expect" not in headers
