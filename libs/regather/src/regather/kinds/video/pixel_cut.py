"""Cuts uncompressed frames: raw pixels and y4m while they arrive, large frames and NPY from a file.

A frame that fits a shard is cut while the body arrives. Frames that have to be cut into stripes are not: the first
stripes of all frames come first, so the gateway spools the body to a file, and a child reads it once for each stripe.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from typing_extensions import override

from regather.core.errors import BadInput, BadRequest
from regather.kinds.video import y4m
from regather.kinds.video.frame_shards import Clock, FrameLayout, Stripe, row_splitter, stripes, with_extra
from regather.processors.base import FileSplitter, Piece, SplitRequest, Splitter
from regather.processors.splitting.byte_queue import ByteQueue

_NO_CLOCK = Clock()


@dataclass(frozen=True, slots=True)
class OpenFrames:
    """Where frames are in a body: after `first_byte`, with `frame_bytes` each, and in y4m each after its own header.

    The first `layout.values` values of each frame are analysed.
    """

    layout: FrameLayout
    frame_bytes: int
    first_byte: int = 0
    header: y4m.Y4mHeader | None = None
    clock: Clock = _NO_CLOCK

    @property
    def kept_bytes(self) -> int:
        """Number of bytes of a frame that are analysed."""
        return self.layout.values * self.layout.item_bytes


class RawStream(Splitter):
    """Cuts small raw frames whose bytes are all analysed, many frames at a time."""

    def __init__(self, frames: OpenFrames, request: SplitRequest, *, halo: int) -> None:
        self._frames = frames
        self._rows = row_splitter(frames.layout, Stripe(0, frames.layout.values), request, halo)
        self._received_bytes = 0

    @override
    def feed(self, data: bytes) -> Iterable[Piece]:
        self._received_bytes += len(data)
        return self._rows.feed(data)

    @override
    def finish(self) -> Iterable[Piece]:
        if not self._received_bytes:
            raise BadInput("the body is empty: there are no frames to cut", code="empty-body")
        if self._received_bytes % self._frames.frame_bytes:
            raise wrong_length(self._received_bytes, self._frames)
        return self._rows.finish()


class FrameStream(Splitter):
    """Cuts small frames while the body arrives; holds the current shard and one frame."""

    def __init__(self, frames: OpenFrames, request: SplitRequest, *, halo: int) -> None:
        self._frames = frames
        self._stripe = Stripe(0, frames.layout.values)
        self._rows = row_splitter(frames.layout, self._stripe, request, halo)
        self._queue = ByteQueue()
        self._skip_bytes = frames.first_byte
        self._at = 0
        self._number = 0

    @override
    def feed(self, data: bytes) -> Iterable[Piece]:
        self._queue.append(data)
        return list(with_extra(self._cut(), self._frames.layout, self._stripe, self._extra))

    @override
    def finish(self) -> Iterable[Piece]:
        if len(self._queue):
            raise y4m.truncated(self._number, self._at, self._needs_bytes(), self._at + len(self._queue))
        if not self._number:
            raise _no_frames(self._frames)
        return list(with_extra(iter(self._rows.finish()), self._frames.layout, self._stripe, self._extra))

    def _cut(self) -> Iterator[Piece]:
        if self._skip_bytes and len(self._queue) >= self._skip_bytes:
            self._drop(self._skip_bytes)
            self._skip_bytes = 0
        while not self._skip_bytes and (header := self._header_bytes()) is not None:
            if len(self._queue) < header + self._frames.frame_bytes:
                return
            self._drop(header)
            yield from self._rows.feed(self._queue.peek(self._frames.kept_bytes))
            self._drop(self._frames.frame_bytes)
            self._number += 1

    def _header_bytes(self) -> int | None:
        if not len(self._queue):
            return None
        if self._frames.header is None:
            return 0
        line = self._queue.peek(min(len(self._queue), 1024))
        return y4m.frame_header_bytes(line, self._number, self._at)

    def _needs_bytes(self) -> int:
        return self._frames.frame_bytes + (self._header_bytes() or 0)

    def _drop(self, size_bytes: int) -> None:
        self._queue.drop(size_bytes)
        self._at += size_bytes

    def _extra(self, first: int, count: int) -> dict[str, object]:
        return self._frames.clock.encode([])


class FrameFile(FileSplitter):
    """Cuts the frames of a complete file, stripe after stripe."""

    def __init__(self, frames: OpenFrames, request: SplitRequest, *, halo: int, carries: bool) -> None:
        self._frames = frames
        self._request = request
        self._halo = halo
        self._stripes = stripes(frames.layout, request, carries=carries)
        check_asked(request, self._stripes)

    @override
    def cut(self, path: Path) -> Iterator[Piece]:
        with path.open("rb") as file:
            fd = file.fileno()

            def read(offset: int, size_bytes: int) -> bytes:
                return os.pread(fd, size_bytes, offset)

            offsets = self._offsets(read, path.stat().st_size)
            for stripe in self._stripes:
                yield from self._cut_stripe(read, offsets, stripe)

    def _offsets(self, read: Callable[[int, int], bytes], size_bytes: int) -> Sequence[int]:
        frames = self._frames
        if frames.header is not None:
            offsets: Sequence[int] = list(y4m.frame_offsets(read, size_bytes, frames.header))
        else:
            count, left_over_bytes = divmod(size_bytes - frames.first_byte, frames.frame_bytes)
            if left_over_bytes or frames.layout.frames not in (None, count):
                raise wrong_length(size_bytes, frames)
            offsets = range(frames.first_byte, size_bytes, frames.frame_bytes)
        if not offsets:
            raise _no_frames(frames)
        return offsets

    def _cut_stripe(self, read: Callable[[int, int], bytes], offsets: Sequence[int], stripe: Stripe) -> Iterator[Piece]:
        layout = replace(self._frames.layout, frames=len(offsets))
        rows = row_splitter(layout, stripe, self._request, self._halo, self._frames.first_byte)
        item = layout.item_bytes

        def pieces() -> Iterator[Piece]:
            for offset in offsets:
                yield from rows.feed(read(offset + stripe.first * item, stripe.count * item))
            yield from rows.finish()

        yield from with_extra(pieces(), layout, stripe, lambda first, count: self._frames.clock.encode([]))


def check_asked(request: SplitRequest, cut: Sequence[Stripe]) -> None:
    """Raise BadRequest if a number of shards is requested and frames have to be cut into stripes."""
    if request.shards is not None and len(cut) > 1:
        raise BadRequest(
            f"shards={request.shards} cannot be: frames fit no shard and are cut into {len(cut)} stripes; use shard_size",
            code="bad-split",
        )


def _no_frames(frames: OpenFrames) -> BadInput:
    what = (
        "the body is empty" if not frames.first_byte else f"the body ends after its header of {frames.first_byte} bytes"
    )
    return BadInput(f"{what}: there are no frames to cut", code="empty-body")


def wrong_length(size_bytes: int, frames: OpenFrames) -> BadInput:
    """Return the refusal of a body that is not a whole number of frames."""
    count, left_over_bytes = divmod(size_bytes - frames.first_byte, frames.frame_bytes)
    wanted = "" if frames.layout.frames is None else f", not {frames.layout.frames} frames"
    return BadInput(
        f"the body of {size_bytes} bytes is {count} frames of {frames.frame_bytes} bytes and {left_over_bytes} bytes"
        f"{wanted}; are width, height and pixel_format (or channels) right?"
    )
