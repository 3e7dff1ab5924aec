"""Reads a request body, one chunk at a time: checks size, idle time, announced length and announced digest."""

import asyncio
import base64
import binascii
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

from regather.core.errors import BadInput
from regather.processors.splitting.inflate import CODECS, Inflater
from regather_gateway.bodies.base import BodyReader
from regather_gateway.problems import Problem

_SHA256 = re.compile(r"(?:^|,)\s*sha-256\s*=\s*:([^:]*):")
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


__all__ = ["BadInput", "RequestBody", "announced_digest", "announced_length", "drain"]
