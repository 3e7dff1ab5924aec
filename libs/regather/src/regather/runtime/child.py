"""The child: runs user code, one micro-batch after the other, until it is killed or its pipe closes."""

import importlib
import io
import mmap
import os
import resource
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from regather.core.errors import PermanentError
from regather.core.model import Reason
from regather.processors.base import Processor, ShardView
from regather.runtime.child_protocol import LENGTH, decode_work, encode_results
from regather.runtime.execution import Call, Done, Failed, Result, Work

CELL_BYTES = 64
NOT_BEGUN = -1
_CELL_START = struct.Struct("=q")
_MAX_ERROR_BYTES = 4096
_MAX_PRINTED_CHARS = 8192
_RECEIVE_BYTES = 1 << 20

Kinds = Mapping[str, Processor[Any]]


class Cell:
    """Shared memory that tells the supervisor which item runs, and since when (monotonic ns, the same clock for both).

    The start is written before the index and read after it, so that a reader in between only sees a fresher start.
    """

    def __init__(self, fd: int) -> None:
        self._memory = mmap.mmap(fd, CELL_BYTES)

    def mark(self, index: int) -> None:
        """Item `index` begins now."""
        _CELL_START.pack_into(self._memory, 0, time.monotonic_ns())
        _CELL_START.pack_into(self._memory, 8, index)

    def read(self) -> tuple[int, int]:
        """Index of the running item (NOT_BEGUN before the first) and its start."""
        (index,) = _CELL_START.unpack_from(self._memory, 8)
        (start_ns,) = _CELL_START.unpack_from(self._memory, 0)
        return index, start_ns

    def close(self) -> None:
        """Release the memory."""
        self._memory.close()


class CappedText(io.TextIOBase):
    """What user code prints: kept up to a cap, for the error's text; the rest is dropped."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._left = _MAX_PRINTED_CHARS

    def write(self, text: str) -> int:
        """Keep what fits."""
        if self._left > 0:
            self._parts.append(text[: self._left])
            self._left -= len(self._parts[-1])
        return len(text)

    def take(self) -> str:
        """Return what was printed and begin anew."""
        text, self._parts, self._left = "".join(self._parts), [], _MAX_PRINTED_CHARS
        return text


def load_kinds(registry: str) -> Kinds:
    """Kinds from `module:attribute`, a mapping or a function that returns one."""
    module, _, attribute = registry.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    kinds: Kinds = found() if callable(found) else found
    return kinds


def serve(connection: socket.socket, cell: Cell, kinds: Kinds) -> None:
    """Answer requests until the supervisor closes the connection."""
    printed = CappedText()
    sys.stdout = sys.stderr = printed
    options = OptionsCache(kinds)
    while True:
        frame = _receive_frame(connection)
        if frame is None:
            return
        work = decode_work(frame)
        results = _run(work, kinds, options, cell, printed)
        cell.mark(len(work.items))
        connection.sendall(b"".join(encode_results(results)))


class OptionsCache:
    """Options models by kind and bytes: a job's options are validated once in a child."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        self._found: dict[tuple[str, bytes], Any] = {}

    def get(self, kind: str, document: bytes) -> Any:
        """Return the validated options."""
        key = (kind, document)
        if key not in self._found:
            if len(self._found) > 256:
                self._found.clear()
            self._found[key] = self._kinds[kind].options_model.model_validate_json(document or b"{}")
        return self._found[key]


def _run(work: Work, kinds: Kinds, options: OptionsCache, cell: Cell, printed: CappedText) -> list[Result]:
    processor = kinds.get(work.kind)
    calls: list[Callable[[], bytes]]
    if processor is None:
        known = ", ".join(sorted(kinds))
        text = f"kind {work.kind!r} is not installed on this worker; it has {known}"
        return [Failed(Reason.PERMANENT, text, _now_ms(), 0, retryable=False) for _ in work.items]
    if work.call is Call.MERGE:
        outputs = [None if item.missing else item.payload for item in work.items]
        calls = [lambda: processor.merge(outputs, options.get(work.kind, work.options))]
    else:
        views = [ShardView(item.payload, item.meta, item.seq, item.attempt) for item in work.items]
        calls = [
            lambda view=view: processor.process(view, options.get(work.kind, work.options))  # type: ignore[misc] # bound default
            for view in views
        ]
    results = []
    for index, call in enumerate(calls):
        cell.mark(index)
        results.append(_run_one(call, work, printed))
    return results


def _run_one(call: Callable[[], bytes], work: Work, printed: CappedText) -> Result:
    started_ms, began_ns = _now_ms(), time.monotonic_ns()

    def failed(reason: Reason, text: str, *, retryable: bool = True) -> Failed:
        duration_us = (time.monotonic_ns() - began_ns) // 1000
        said = printed.take()
        whole = f"{text}\n--- printed:\n{said}" if said else text
        return Failed(reason, whole[:_MAX_ERROR_BYTES], started_ms, duration_us, retryable=retryable)

    try:
        with _memory_limit(work.limits.memory_bytes):
            output = call()
    except PermanentError as error:
        return failed(Reason.PERMANENT, str(error), retryable=False)
    except MemoryError:
        return failed(Reason.OUT_OF_MEMORY, f"out of memory (limit {work.limits.memory_bytes} bytes)")
    except Exception as error:
        return failed(Reason.RAISED, describe(error))
    if not isinstance(output, bytes):
        return failed(Reason.RAISED, f"TypeError: the processor returned {type(output).__name__}, not bytes")
    if len(output) > work.limits.output_bytes:
        limit = work.limits.output_bytes
        return failed(Reason.RETURNED_TOO_MUCH, f"returned {len(output)} bytes, the limit is {limit}")
    return Done(output, started_ms, (time.monotonic_ns() - began_ns) // 1000)


def describe(error: BaseException) -> str:
    """Type and message, then the last lines of the traceback."""
    head = f"{type(error).__name__}: {error}"
    lines = "".join(traceback.format_tb(error.__traceback__)[-3:])
    return f"{head}\n{lines}".rstrip()


class _memory_limit:  # noqa: N801 - reads as a statement where it is used
    def __init__(self, limit_bytes: int | None) -> None:
        self._limit_bytes = limit_bytes

    def __enter__(self) -> None:
        if self._limit_bytes:
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: PTH123 - hot path
            resource.setrlimit(resource.RLIMIT_AS, (used + self._limit_bytes, resource.RLIM_INFINITY))

    def __exit__(self, *_error: object) -> None:
        if self._limit_bytes:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _receive_frame(connection: socket.socket) -> memoryview | None:
    head = _receive_exactly(connection, LENGTH.size)
    if head is None:
        return None
    return _receive_exactly(connection, LENGTH.unpack(head)[0])


def _receive_exactly(connection: socket.socket, count: int) -> memoryview | None:
    buffer = bytearray(count)
    view, at = memoryview(buffer), 0
    while at < count:
        got = connection.recv_into(view[at:], min(count - at, _RECEIVE_BYTES))
        if not got:
            return None
        at += got
    return view


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def silence_descriptors() -> None:
    """Point standard input, output and error at nothing; Python's own prints are captured above them."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
