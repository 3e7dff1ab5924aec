"""Inflating gzip (RFC 1952) and Zstandard (RFC 8878) in bounded steps, with an eye on bombs."""

import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from regather.core.errors import BadInput
from regather.processors.base import Piece, Splitter

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdDecompressor, ZstdError
else:
    from backports.zstd import ZstdDecompressor, ZstdError

MAX_RATIO = 250
"""Inflated bytes for each byte that arrived; text seldom goes above 20, the worst gzip bomb is 1,032."""

_RATIO_FROM_BYTES = 16 * 1024 * 1024  # below, a high ratio does no harm
_STEP_BYTES = 256 * 1024
GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_PADDING = b"\0"


class _Member(Protocol):
    """One gzip member or Zstandard frame."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def steps(self, data: bytes) -> Iterator[bytes]: ...


class _GzipMember:
    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def steps(self, data: bytes) -> Iterator[bytes]:
        while True:
            yield self._inflate.decompress(data, _STEP_BYTES)
            data = self._inflate.unconsumed_tail
            if not data or self._inflate.eof:
                return


class _ZstdFrame:
    def __init__(self) -> None:
        self._inflate = ZstdDecompressor()

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def steps(self, data: bytes) -> Iterator[bytes]:
        yield self._inflate.decompress(data, _STEP_BYTES)
        while not self._inflate.eof and not self._inflate.needs_input:
            yield self._inflate.decompress(b"", _STEP_BYTES)


_CODECS: dict[str, tuple[bytes, Callable[[], _Member]]] = {
    "gzip": (GZIP_MAGIC, _GzipMember),
    "zstd": (ZSTD_MAGIC, _ZstdFrame),
}
CODECS = tuple(_CODECS)


def codec_of(head: bytes) -> str | None:
    """Return the codec whose files begin like this."""
    return next((name for name, (magic, _) in _CODECS.items() if head.startswith(magic)), None)


class Inflater:
    """Compressed bytes in, plain bytes out, at most 256 KiB a step. One file may have several members.

    BadInput for a stream that is wrong, ends early, has something else behind it, inflates more than MAX_RATIO times or
    to more than `max_bytes`.
    """

    def __init__(self, codec: str, *, max_bytes: int | None = None) -> None:
        self._codec = codec
        self._magic, self._new = _CODECS[codec]
        self._max_bytes = max_bytes
        self._member: _Member | None = None
        self._rest = b""
        self._ended_members = 0
        self._in_bytes = self._out_bytes = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take the next bytes; what they inflate to. Nothing happens until the steps are asked for."""
        self._in_bytes += len(data)
        data = self._rest + data
        self._rest = b""
        while data:
            if self._member is None:
                data = self._next_member(data)
                if self._member is None:
                    return
            try:
                for step in self._member.steps(data):
                    self._count(step)
                    if step:
                        yield step
            except (zlib.error, ZstdError) as error:
                raise self._wrong(str(error)) from error
            data = b""
            if self._member.eof:
                data = self._member.unused_data
                self._member = None
                self._ended_members += 1

    def finish(self) -> None:
        """Check that the stream is whole."""
        if self._member is not None or self._rest.strip(_PADDING):
            raise self._wrong("the stream ends before its end mark: the file is cut off")
        if not self._ended_members:
            raise BadInput("the body is empty: there is nothing to inflate", code="empty-body")

    def _next_member(self, data: bytes) -> bytes:
        if self._ended_members:
            data = data.lstrip(_PADDING)
        if len(data) < len(self._magic) and self._magic.startswith(data):
            self._rest = data
        elif data.startswith(self._magic):
            self._member = self._new()
        elif self._ended_members:
            raise self._wrong(f"behind its end stands {data[:8]!r}")
        else:
            raise self._wrong(f"it begins with {data[:4]!r}, not with {self._magic!r}")
        return data

    def _count(self, step: bytes) -> None:
        self._out_bytes += len(step)
        if self._max_bytes is not None and self._out_bytes > self._max_bytes:
            raise BadInput(f"the body inflates to more than {self._max_bytes} bytes", code="inflates-too-much")
        if self._out_bytes > max(_RATIO_FROM_BYTES, MAX_RATIO * self._in_bytes):
            raise BadInput(
                f"{self._in_bytes} bytes of {self._codec} inflate to more than {self._out_bytes}, above the limit of "
                f"{MAX_RATIO} times; send the plain bytes",
                code="inflates-too-much",
            )

    def _wrong(self, why: str) -> BadInput:
        return BadInput(f"the {self._codec} stream is wrong near byte {self._in_bytes}: {why}", code="inflate-failed")


class InflatingSplitter:
    """Inflates what arrives for another splitter, which `make` makes from the first plain bytes."""

    def __init__(self, inflater: Inflater, make: Callable[[bytes], Splitter]) -> None:
        self._inflater = inflater
        self._make = make
        self._inner: Splitter | None = None

    def feed(self, data: bytes) -> Iterable[Piece]:
        """See Splitter. Lazy: a step is inflated when the pieces of the one before were taken."""
        for plain in self._inflater.feed(data):
            if self._inner is None:
                self._inner = self._make(plain)
            yield from self._inner.feed(plain)

    def finish(self) -> Iterable[Piece]:
        """See Splitter."""
        self._inflater.finish()
        inner = self._make(b"") if self._inner is None else self._inner
        yield from inner.finish()
