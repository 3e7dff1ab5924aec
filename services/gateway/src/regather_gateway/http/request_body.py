"""Reads a request: its body, one chunk at a time within limits, and what is left of it when the answer comes early.

Closing a socket that holds unread bytes resets the connection. A client that is still sending then sees the reset
instead of the answer. So drain() reads the rest of a small refused request before the answer, and `Lingering` (as
nginx's lingering_close) sends the whole answer, reads and discards the rest of the request within time limits, and only
then ends the answer. After that uvicorn closes a connection that is not kept alive.
"""

import asyncio
import base64
import binascii
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from regather.processors.splitting.inflate import CODECS, Inflater
from regather_gateway.bodies.base import BodyReader
from regather_gateway.problems import Problem

_SHA256 = re.compile(r"(?:^|,)\s*sha-256\s*=\s*:([^:]*):")
_LINGER_S, _SILENT_S = 10.0, 3.0
_DRAIN_BYTES, _DRAIN_S = 8 * 1024 * 1024, 3.0


def announced_length(request: Request) -> int | None:
    """Return Content-Length in bytes; None if the client did not send a valid one."""
    text = request.headers.get("content-length", "")
    return int(text) if text.isdecimal() else None


def announced_digest(request: Request) -> bytes | None:
    """Return the SHA-256 of `Content-Digest` (RFC 9530), or None without one; Problem 400 if it is malformed."""
    header = request.headers.get("content-digest", "")
    if "sha-256" not in header:  # other algorithms may be ignored (RFC 9530, section 2)
        return None
    found = _SHA256.search(header)
    with contextlib.suppress(binascii.Error):
        digest = base64.b64decode(found[1] if found else "", validate=True)
        if len(digest) == hashlib.sha256().digest_size:
            return digest
    raise Problem(400, "content-digest-invalid", f"Content-Digest is {header!r}; expected sha-256=:<base64>:")


def content_encoding(request: Request) -> str | None:
    """Return the codec of a compressed body, None for an uncompressed one; Problem 415 for an unsupported codec."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding == "identity":
        return None
    if encoding not in CODECS:
        known = ", ".join(CODECS)
        raise Problem(415, "content-encoding", f"Content-Encoding {encoding!r} is not supported; use one of {known}")
    return encoding


def input_length(request: Request) -> int | None:
    """Return the input's length, which is the raw body's; None for a compressed body, whose input size is unknown."""
    return announced_length(request) if content_encoding(request) is None else None


class RawBody:
    """The request body is the input."""

    content_type: str | None = None

    def __init__(self) -> None:
        self.fields: dict[str, object] = {}

    def feed(self, chunk: bytes) -> bytes:
        """Return the chunk."""
        return chunk

    def finish(self) -> bytes:
        """Return nothing: feed() keeps nothing back."""
        return b""


class RequestBody:
    """One request body, read once through a BodyReader."""

    def __init__(self, request: Request, reader: BodyReader, *, max_bytes: int, idle_timeout_s: float) -> None:
        self._request = request
        self._reader = reader
        self._max_bytes = max_bytes
        self._idle_timeout_s = idle_timeout_s
        self._length = announced_length(request)
        self._digest = announced_digest(request)
        self._hash = hashlib.sha256() if self._digest else None
        self._received = 0
        encoding = content_encoding(request)
        self._inflater = Inflater(encoding, max_bytes=max_bytes) if encoding else None
        if self._length is not None and self._length > max_bytes:
            raise self._too_large()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the bytes of the job's input, decompressed if the request has a Content-Encoding.

        Raises ClientDisconnect, Problem (400 for a wrong length or digest, 408, 413) and BadInput.
        """
        async for arrived in self._arriving():
            for plain in self._inflater.feed(arrived) if self._inflater else (arrived,):
                data = self._reader.feed(plain)
                if data:
                    yield data
        if self._inflater:
            self._inflater.finish()
        rest = self._reader.finish()
        if rest:
            yield rest

    async def _arriving(self) -> AsyncIterator[bytes]:
        stream = self._request.stream()
        while chunk := await self._next(stream):
            self._received += len(chunk)
            if self._received > self._max_bytes:
                raise self._too_large()
            if self._hash:
                self._hash.update(chunk)
            yield chunk
        self._check_end()

    async def _next(self, stream: AsyncIterator[bytes]) -> bytes:
        try:
            async with asyncio.timeout(self._idle_timeout_s):
                return await anext(stream, b"")
        except TimeoutError:
            detail = f"the upload sent nothing for {self._idle_timeout_s:g} s after {self._received} bytes"
            raise Problem(408, "upload-stalled", detail) from None

    def _check_end(self) -> None:
        if self._length is not None and self._received != self._length:
            detail = f"Content-Length says {self._length} bytes, {self._received} arrived"
            raise Problem(400, "content-length-differs", detail)
        if self._hash and self._hash.digest() != self._digest:
            arrived = base64.b64encode(self._hash.digest()).decode()
            detail = f"the body's digest is sha-256=:{arrived}:, which differs from Content-Digest; send it again"
            raise Problem(400, "content-digest-differs", detail)

    def _too_large(self) -> Problem:
        detail = f"the body is longer than {self._max_bytes} bytes, the limit of this gateway (REGATHER_MAX_BODY_BYTES)"
        return Problem(413, "body-too-large", detail, max_body_bytes=self._max_bytes)


async def drain(request: Request) -> None:
    """Read what a refused client still sends, at most 8 MiB or 3 s: else it may see a reset instead of the answer."""
    if "expect" in request.headers or (announced_length(request) or 0) > _DRAIN_BYTES:
        return
    received = 0
    with contextlib.suppress(ClientDisconnect, TimeoutError, RuntimeError):
        async with asyncio.timeout(_DRAIN_S):
            async for chunk in request.stream():
                received += len(chunk)
                if received > _DRAIN_BYTES:
                    return


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
