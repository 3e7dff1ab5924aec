"""Inflates gzip (RFC 1952), Zstandard (RFC 8878), bzip2 and xz in bounded steps, with limits against bombs."""

import bz2
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, NamedTuple, Protocol, TypeVar

from regather.core.errors import BadInput
from regather.processors.base import Piece, Splitter

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdDecompressor, ZstdError
else:
    from backports.zstd import ZstdDecompressor, ZstdError

MAX_RATIO = 250
"""Most inflated bytes for each byte that arrived. Text seldom reaches 20; the worst gzip bomb reaches 1,032."""

_RATIO_FROM_BYTES = 16 * 1024 * 1024  # up to this size a high ratio does no harm
_STEP_BYTES = 256 * 1024
GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
BZIP2_MAGIC = b"BZh"
XZ_MAGIC = b"\xfd7zXZ\0"
_BZIP2_HEAD = re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)")  # a block, or the end mark of a stream without blocks
_SKIPPABLE_MAGIC = b"\x2a\x4d\x18"  # after a byte from 0x50 to 0x5f
_SKIPPABLE_HEADER_BYTES = 8
_XZ_MEMORY_BYTES = 80 * 1024 * 1024
"""The highest level, `xz -9`, needs 65 MiB to inflate."""
_PADDING = b"\0"


class _Member(Protocol):
    """One gzip member, Zstandard frame, or stream of bzip2 or xz."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def steps(self, data: bytes) -> Iterator[bytes]: ...


class _Decompressor(Protocol):
    """What all four decompressors have in common, with the names of the standard library."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _BufferingDecompressor(_Decompressor, Protocol):
    """A decompressor that buffers input it has not inflated yet, and reports when the buffer is used up."""

    @property
    def needs_input(self) -> bool: ...


InflateT = TypeVar("InflateT", bound=_Decompressor)


class _OneMember(Generic[InflateT]):
    """Reads the end of a member from its decompressor."""

    def __init__(self, inflate: InflateT) -> None:
        self._inflate = inflate

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data


class _GzipMember(_OneMember["zlib._Decompress"]):
    """A gzip member. Its decompressor returns the input that it has not inflated yet."""

    def __init__(self) -> None:
        super().__init__(zlib.decompressobj(wbits=31))

    def steps(self, data: bytes) -> Iterator[bytes]:
        while True:
            yield self._inflate.decompress(data, _STEP_BYTES)
            data = self._inflate.unconsumed_tail
            if not data or self._inflate.eof:
                return


class _BufferedMember(_OneMember[_BufferingDecompressor]):
    """A Zstandard frame, or a stream of bzip2 or xz. Its decompressor buffers input."""

    def steps(self, data: bytes) -> Iterator[bytes]:
        yield self._inflate.decompress(data, _STEP_BYTES)
        while not self._inflate.eof and not self._inflate.needs_input:
            yield self._inflate.decompress(b"", _STEP_BYTES)


def _xz() -> _BufferedMember:
    return _BufferedMember(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES))


class _SkippableFrame:
    """A frame without data (RFC 8878, section 3.1.2), as pzstd writes it: magic, length, and bytes to ignore."""

    def __init__(self) -> None:
        self._header = b""
        self._left_bytes = _SKIPPABLE_HEADER_BYTES
        self.eof = False
        self.unused_data = b""

    def steps(self, data: bytes) -> Iterator[bytes]:
        if len(self._header) < _SKIPPABLE_HEADER_BYTES:
            missing = _SKIPPABLE_HEADER_BYTES - len(self._header)
            self._header += data[:missing]
            data = data[missing:]
            if len(self._header) < _SKIPPABLE_HEADER_BYTES:
                return
            self._left_bytes = int.from_bytes(self._header[4:], "little")
        self.eof = len(data) >= self._left_bytes
        self.unused_data = data[self._left_bytes :]
        self._left_bytes -= min(len(data), self._left_bytes)
        yield b""


class _Codec(NamedTuple):
    magic: bytes
    new: Callable[[], _Member]


_CODECS = {
    "gzip": _Codec(GZIP_MAGIC, _GzipMember),
    "zstd": _Codec(ZSTD_MAGIC, lambda: _BufferedMember(ZstdDecompressor())),
    "bzip2": _Codec(BZIP2_MAGIC, lambda: _BufferedMember(bz2.BZ2Decompressor())),
    "xz": _Codec(XZ_MAGIC, _xz),
}
CODECS = ("gzip", "zstd")
"""The codecs that are HTTP content codings."""

_WRONG = (zlib.error, ZstdError, lzma.LZMAError, OSError, ValueError, EOFError)  # bz2 raises OSError and ValueError


def codec_of(head: bytes) -> str | None:
    """Return the codec of a file that begins with `head`; None if it is not compressed."""
    if _is_skippable(head):
        return "zstd"
    if head.startswith(BZIP2_MAGIC) and not _BZIP2_HEAD.match(head):
        return None  # text may begin with these letters
    return next((name for name, codec in _CODECS.items() if head.startswith(codec.magic)), None)


def _is_skippable(head: bytes) -> bool:
    return head[1:4] == _SKIPPABLE_MAGIC and head[0] >> 4 == 5


class Inflater:
    """Inflates a compressed stream in steps of at most 256 KiB. One file may have several members.

    Raises BadInput if the stream is damaged, ends early, is followed by other data, or inflates to more than
    `max_bytes` or (above 16 MiB) to more than MAX_RATIO times its size.
    """

    def __init__(self, codec: str, *, max_bytes: int | None = None) -> None:
        self._codec = codec
        self._magic, self._new = _CODECS[codec]
        self._skips = codec == "zstd"
        self._max_bytes = max_bytes
        self._member: _Member | None = None
        self._rest = b""
        self._ended_members = 0
        self._in_bytes = self._out_bytes = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Inflate the next bytes. Lazy: each step is inflated when the caller asks for it."""
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
            except MemoryError as error:
                raise self._needs_memory() from error
            except _WRONG as error:
                if isinstance(error, lzma.LZMAError) and "emory usage limit" in str(error):
                    raise self._needs_memory() from error
                raise self._wrong("the data or its checksum is damaged, or a part is missing") from error
            data = b""
            if self._member.eof:
                data = self._member.unused_data
                self._member = None
                self._ended_members += 1

    def finish(self) -> None:
        """Check that the stream is complete."""
        if self._member is not None or self._rest.strip(_PADDING):
            raise self._wrong("the stream ends before its end mark: the file is cut off")
        if not self._ended_members:
            raise BadInput("the body is empty: there is nothing to inflate", code="empty-body")

    def _next_member(self, data: bytes) -> bytes:
        if self._ended_members:
            data = data.lstrip(_PADDING)
        if data.startswith(self._magic):
            self._member = self._new()
        elif self._skips and _is_skippable(data):
            self._member = _SkippableFrame()
        elif self._may_begin(data):
            self._rest = data
        elif self._ended_members:
            raise self._wrong(f"other data follows its end: {data[:8]!r}")
        else:
            raise self._wrong(f"it begins with {data[:4]!r}, not with {self._magic!r}")
        return data

    def _may_begin(self, data: bytes) -> bool:
        skippable = self._skips and 0x50 <= data[0] <= 0x5F and _SKIPPABLE_MAGIC.startswith(data[1:]) if data else True
        return self._magic.startswith(data) or skippable

    def _count(self, step: bytes) -> None:
        self._out_bytes += len(step)
        if self._max_bytes is not None and self._out_bytes > self._max_bytes:
            raise BadInput(f"the body inflates to more than {self._max_bytes} bytes", code="inflates-too-much")
        if self._out_bytes > max(_RATIO_FROM_BYTES, MAX_RATIO * self._in_bytes):
            raise BadInput(
                f"{self._in_bytes} bytes of {self._codec} inflate to more than {self._out_bytes} bytes, above the limit of "
                f"{MAX_RATIO} times; send the body without compression",
                code="inflates-too-much",
            )

    def _needs_memory(self) -> BadInput:
        limit = _XZ_MEMORY_BYTES // 1024 // 1024
        return BadInput(
            f"the {self._codec} stream needs more than {limit} MiB of memory to inflate; compress it again with a smaller "
            "dictionary (xz -9 is small enough)",
            code="inflates-too-much",
        )

    def _wrong(self, why: str) -> BadInput:
        return BadInput(f"the {self._codec} stream is invalid near byte {self._in_bytes}: {why}", code="inflate-failed")


class InflatingSplitter:
    """Inflates a body for another splitter, which `make` creates from the first inflated bytes."""

    def __init__(self, inflater: Inflater, make: Callable[[bytes], Splitter]) -> None:
        self._inflater = inflater
        self._make = make
        self._inner: Splitter | None = None

    def feed(self, data: bytes) -> Iterable[Piece]:
        """Inflate and cut the next bytes. Lazy: the next step waits until the caller has taken all pieces of this one."""
        for plain in self._inflater.feed(data):
            if self._inner is None:
                self._inner = self._make(plain)
            yield from self._inner.feed(plain)

    def finish(self) -> Iterable[Piece]:
        """Check that the stream is complete and return the inner splitter's last pieces."""
        self._inflater.finish()
        inner = self._make(b"") if self._inner is None else self._inner
        yield from inner.finish()
