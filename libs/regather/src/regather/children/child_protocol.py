"""Frames between the supervisor and a child, and the shared cell with the item that the child is executing.

A request is REQUEST, one ITEM row per item, then kind, options and the meta, payload, carry and rows of each item. A
reply frame is REPLY, one ROW per result, then the rows' bytes. The results of one piece of work may come in several
frames; the last one has the flag LAST. All numbers are little-endian. There is no version, because both sides are the
same program on the same machine.
"""

import mmap
import os
import signal
import socket
import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

from regather.children.work import Call, Work, WorkItem, WorkLimits
from regather.core.errors import RegatherError
from regather.core.execution import Done, Failed, NotRun, Result
from regather.core.model import Reason

REQUEST = struct.Struct(
    "<4sBxxxIIIqQdI"
)  # magic, call, bytes of kind and options, items, memory limit, output limit, wall, CPU seconds (0: no limit)
ITEM = struct.Struct("<qIBxxxIQQI")  # seq, attempt, missing, bytes of meta, payload, carry and rows
REPLY = struct.Struct("<4sBxxxIIIQ")  # magic, flags, first item, rows, growth in KiB, bytes of rows and blobs
ROW = struct.Struct("<BBBxIqq")  # what, reason, retryable, bytes, started_ms, duration_us
CELL = struct.Struct("<qq")  # monotonic start in ns, index

MAX_ERROR_BYTES = 4096

LAST = 1  # this frame completes the work
DIRTY = 2  # the child left processes or ran out of memory: replace it
HELLO = 4  # sent once, when the child is ready

CHANNEL_LOST = 213  # exit code of a child that cannot answer any more
STACK_SIGNAL = signal.SIGUSR1  # makes a child write its Python stack to stderr, even while C code holds the GIL

FLUSH_BYTES = 1024 * 1024  # results of this size are sent before the next item begins

_REQUEST_MAGIC = b"rgW1"
_REPLY_MAGIC = b"rgR1"
_CALLS = list(Call)
_REASONS = list(Reason)
_REASON_NUMBERS = {reason: number for number, reason in enumerate(_REASONS)}
_DONE, _FAILED, _NOT_RUN = range(3)
_NO_MEMORY_LIMIT = -1
_NUL = b"\0"
_JOIN_BYTES = 16 * 1024  # blobs below this are joined with their neighbours before they are sent
_JOINED_BYTES = 256 * 1024
_RECEIVE_BYTES = 256 * 1024

Buffer = bytes | memoryview


class BrokenReply(RegatherError):
    """A child sent something that is no reply. `reason` is the failure reason of the guilty item."""

    def __init__(self, message: str, reason: Reason = Reason.CRASHED) -> None:
        super().__init__(message)
        self.reason = reason


class ProgressCell:
    """Shared memory of one child: the index of the executing item and its start. The child writes it, without a lock.

    The start comes before the index, so that a reader in between sees an item younger than it is, never older.
    """

    WAITING = -1
    READING = -2
    ANSWERING = -3

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._memory = mmap.mmap(fd, mmap.PAGESIZE)

    @classmethod
    def create(cls) -> "ProgressCell":
        """Make the shared memory. Its file has no name and disappears with the last process that uses it."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("regather-cell")
        else:
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        os.ftruncate(fd, mmap.PAGESIZE)
        cell = cls(fd)
        cell.mark(cls.WAITING, 0)
        return cell

    def mark(self, index: int, start_ns: int) -> None:
        """Write that this item begins, or that none is executing (one of the negative constants)."""
        CELL.pack_into(self._memory, 0, start_ns, index)

    def read(self) -> tuple[int, int]:
        """Return (index, start in ns of the monotonic clock)."""
        start_ns, index = CELL.unpack_from(self._memory, 0)
        return index, start_ns

    def close(self) -> None:
        """Release the memory."""
        self._memory.close()
        os.close(self.fd)


def encode_work(work: Work) -> list[Buffer]:
    """Return the request frame as few buffers; large payloads are not copied."""
    kind, options, limits = work.kind.encode(), work.options, work.limits
    memory = _NO_MEMORY_LIMIT if limits.memory_bytes is None else limits.memory_bytes
    head = REQUEST.pack(
        _REQUEST_MAGIC, _CALLS.index(work.call), len(kind), len(options), len(work.items), memory, limits.output_bytes,
        limits.wall_s, limits.cpu_s or 0,
    )  # fmt: skip
    rows = [
        ITEM.pack(
            item.seq, item.attempt, item.missing, len(item.meta), len(item.payload), len(item.carry), len(item.rows)
        )
        for item in work.items
    ]
    blobs = [head, *rows, kind, options]
    for item in work.items:
        blobs += (item.meta, item.payload) if item.meta else (item.payload,)
        if item.carry or item.rows:
            blobs += (item.carry, item.rows)
    return _joined(blobs)


def read_work(stream: BinaryIO, cell: ProgressCell) -> Work | None:
    """Wait in a child for the next request; return None at the end of the stream."""
    head = stream.read(REQUEST.size)
    if len(head) < REQUEST.size:
        return None
    cell.mark(ProgressCell.READING, 0)
    magic, call, kind_bytes, options_bytes, count, memory, output_bytes, wall_s, cpu_s = REQUEST.unpack(head)
    if magic != _REQUEST_MAGIC:
        return None
    rows = list(ITEM.iter_unpack(stream.read(ITEM.size * count)))
    kind, options = stream.read(kind_bytes).decode(), stream.read(options_bytes)
    items = [
        WorkItem(
            seq,
            meta=stream.read(meta_bytes),
            payload=stream.read(size),
            attempt=attempt,
            missing=bool(missing),
            carry=stream.read(carry_bytes) if carry_bytes else b"",
            rows=stream.read(rows_bytes) if rows_bytes else b"",
        )
        for seq, attempt, missing, meta_bytes, size, carry_bytes, rows_bytes in rows
    ]
    limits = WorkLimits(wall_s, None if memory == _NO_MEMORY_LIMIT else memory, output_bytes, cpu_s or None)
    return Work(_CALLS[call], kind, options, items, limits)


def encode_reply(first: int, results: Sequence[Result], *, flags: int, growth_kib: int = 0) -> list[Buffer]:
    """Return one reply frame for the items from `first` on."""
    rows, blobs = [], []
    for result in results:
        row, blob = _encode_result(result)
        rows.append(row)
        blobs.append(blob)
    size = ROW.size * len(rows) + sum(map(len, blobs))
    return _joined([REPLY.pack(_REPLY_MAGIC, flags, first, len(rows), growth_kib, size), *rows, *blobs])


def _encode_result(result: Result) -> tuple[bytes, bytes]:
    if isinstance(result, Done):
        row = ROW.pack(_DONE, 0, 0, len(result.output), result.started_ms, result.duration_us)
        return row, result.output
    if isinstance(result, Failed):
        error = _encode_texts(result)
        reason = _REASON_NUMBERS[result.reason]
        row = ROW.pack(_FAILED, reason, result.retryable, len(error), result.started_ms, result.duration_us)
        return row, error
    return ROW.pack(_NOT_RUN, 0, 0, 0, 0, 0), b""


def _encode_texts(failed: Failed) -> bytes:
    """Return error and trace, with a NUL between them and none inside; together at most MAX_ERROR_BYTES."""
    error = cut_text(failed.error.replace("\0", "\\x00")).encode()
    trace = cut_text(failed.trace.replace("\0", "\\x00"), max(0, MAX_ERROR_BYTES - len(error) - len(_NUL))).encode()
    return error + _NUL + trace if trace else error


def cut_text(text: str, limit_bytes: int = MAX_ERROR_BYTES) -> str:
    """Return the beginning of the text that fits `limit_bytes` of UTF-8; what UTF-8 cannot encode is escaped."""
    return text.encode("utf-8", "backslashreplace")[:limit_bytes].decode("utf-8", "ignore")


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply frame: results of the items from `first` on; the child's memory grew by `growth_bytes` at its peak."""

    flags: int
    first: int
    results: list[Result]
    growth_bytes: int


class ReplyReader:
    """Reads reply frames from a non-blocking socket, and refuses a frame that is larger than the work allows."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._pending = bytearray()
        self._filled = 0  # bytes of _pending that have arrived, if it was made as large as its frame
        self._limit_bytes = 0
        self._items = 0

    def expect(self, work: Work) -> None:
        """Set the limits of the reply to this work."""
        self._items = 1 if work.call is Call.MERGE else len(work.items)
        rows_bytes = self._items * (ROW.size + MAX_ERROR_BYTES)
        self._limit_bytes = FLUSH_BYTES + work.limits.output_bytes + rows_bytes

    def read(self) -> list[Reply]:
        """Return the frames that are complete now; raise EOFError at the end, BrokenReply for anything else."""
        replies: list[Reply] = []
        try:
            while True:
                self._receive()
                while (reply := self._next_frame()) is not None:
                    replies.append(reply)
                if not self._filled and not self._pending:
                    break
        except BlockingIOError:
            pass
        except ConnectionError as error:
            raise EOFError(str(error)) from error
        return replies

    def _receive(self) -> None:
        if self._filled:
            received = self._channel.recv_into(memoryview(self._pending)[self._filled :])
            self._filled += received
        else:
            data = self._channel.recv(_RECEIVE_BYTES)
            received = len(data)
            self._pending += data
        if not received:
            raise EOFError("the child closed its end")

    def _next_frame(self) -> Reply | None:
        if len(self._pending) < REPLY.size:
            return None
        magic, flags, first, count, growth_kib, size = REPLY.unpack_from(self._pending)
        self._check(magic, first, count, size)
        end = REPLY.size + size
        arrived = self._filled or len(self._pending)
        if arrived < end:
            self._make_room(end)
            return None
        reply = Reply(flags, first, decode_rows(memoryview(self._pending)[REPLY.size : end], count), growth_kib * 1024)
        self._pending = self._pending[end:]
        self._filled = 0
        return reply

    def _make_room(self, frame_bytes: int) -> None:
        """Make a buffer as large as the frame, so that the rest of a large frame arrives in place."""
        if not self._filled and frame_bytes > _RECEIVE_BYTES:
            frame = bytearray(frame_bytes)
            self._filled = len(self._pending)
            frame[: self._filled] = self._pending
            self._pending = frame

    def _check(self, magic: bytes, first: int, count: int, size: int) -> None:
        if magic != _REPLY_MAGIC or first + count > self._items or size < count * ROW.size:
            raise BrokenReply("wrote bytes to the supervisor's channel that are no reply")
        if size > self._limit_bytes:
            raise BrokenReply(f"announced a reply of {size} bytes", Reason.RETURNED_TOO_MUCH)


def decode_rows(body: memoryview, count: int) -> list[Result]:
    """Return the results of a reply frame's rows and blobs; raise BrokenReply if they do not match."""
    blobs = body[count * ROW.size :]
    results: list[Result] = []
    at = 0
    for what, reason, retryable, size, started_ms, duration_us in ROW.iter_unpack(body[: count * ROW.size]):
        blob = bytes(blobs[at : at + size])
        at += size
        if what == _DONE:
            results.append(Done(blob, started_ms, duration_us))
        elif what == _FAILED and reason < len(_REASONS):
            error, _, trace = blob.decode("utf-8", "replace").partition("\0")
            results.append(Failed(_REASONS[reason], error, started_ms, duration_us, bool(retryable), trace))
        elif what == _NOT_RUN:
            results.append(NotRun())
        else:
            raise BrokenReply("sent a reply with an unknown kind of result")
    if at != len(blobs):
        raise BrokenReply("sent a reply whose lengths do not add up")
    return results


def alone(work: Work, index: int) -> Work:
    """Return the work of one item of a batch."""
    return replace(work, items=[work.items[index]])


def _joined(blobs: Sequence[bytes]) -> list[Buffer]:
    """Join runs of small blobs, so that a batch takes one write. Large blobs are not copied."""
    buffers: list[Buffer] = []
    run: list[bytes] = []
    run_bytes = 0
    for blob in blobs:
        if len(blob) >= _JOIN_BYTES or run_bytes >= _JOINED_BYTES:
            buffers.append(b"".join(run))
            run, run_bytes = [], 0
        if len(blob) >= _JOIN_BYTES:
            buffers.append(blob)
        else:
            run.append(blob)
            run_bytes += len(blob)
    buffers.append(b"".join(run))
    return [buffer for buffer in buffers if buffer]
