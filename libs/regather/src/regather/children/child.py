"""A child process, forked by the zygote: runs the items of each piece of work in turn and answers on its channel."""

import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import BinaryIO

from regather.children import child_limits
from regather.children.child_limits import ChildRules
from regather.children.child_protocol import (
    CHANNEL_LOST,
    DIRTY,
    FLUSH_BYTES,
    HELLO,
    LAST,
    Buffer,
    ProgressCell,
    encode_reply,
    read_work,
)
from regather.children.child_setup import prepare
from regather.children.failure_text import FailureText, explain, too_much
from regather.children.processor_calls import ProcessorCalls
from regather.children.work import Call, Work
from regather.core.execution import Done, Failed, NotRun, Result
from regather.core.model import Reason
from regather.processors.registry import Registry

_FLUSH_AFTER_NS = 20_000_000  # results this old are sent before the next item begins, so that a kill loses few
_BATCH_BYTES = 64 * 1024 * 1024  # outputs of one batch; the items beyond are not run
_READ_AHEAD_BYTES = 256 * 1024


def run_child(channel: socket.socket, cell_fd: int, printed_fd: int, registry: Registry, rules: ChildRules) -> None:
    """Prepare the freshly forked process and serve until the supervisor closes the channel. Never returns."""
    try:
        prepare(printed_fd, rules)
        _Child(channel, ProgressCell(cell_fd), registry).serve()
    except BaseException:  # nothing may propagate into the zygote's own frames
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(1)


class _Child:
    """The child's loop, with one method for each level: work, item, attempt."""

    def __init__(self, channel: socket.socket, cell: ProgressCell, registry: Registry) -> None:
        self._channel = channel
        self._channel_inode = os.fstat(channel.fileno()).st_ino
        self._cell = cell
        self._registry = registry
        self._calls = ProcessorCalls(registry)
        self._idle_bytes = child_limits.peak_bytes()
        self._out_of_memory = False

    def serve(self) -> None:
        """Run work and answer it until the channel ends."""
        stream: BinaryIO = open(self._channel.fileno(), "rb", _READ_AHEAD_BYTES, closefd=False)  # noqa: SIM115 - by number
        self._send(encode_reply(0, [], flags=HELLO))
        while (work := read_work(stream, self._cell)) is not None:
            if work.call is Call.MERGE:
                self._answer(0, [self._attempt(0, partial(self._calls.merge, work), work)])
            else:
                self._process(work)

    def _process(self, work: Work) -> None:
        """Run the items in order. After a lack of memory or too many bytes of output, the rest of them are NotRun."""
        unsent = _Unsent()
        last = len(work.items) - 1
        for index, item in enumerate(work.items):
            unsent.add(self._attempt(index, partial(self._calls.run, work, item), work))
            if self._out_of_memory or unsent.batch_bytes > _BATCH_BYTES:
                unsent.results += [NotRun()] * (last - index)
                break
            if index < last and unsent.due:
                self._send(encode_reply(unsent.first, unsent.results, flags=0))
                unsent.sent()
        self._answer(unsent.first, unsent.results)

    def _attempt(self, index: int, call: Callable[[], bytes], work: Work) -> Result:
        """Run user code once, after marking its start for the supervisor; return how it ended."""
        started_ms = time.time_ns() // 1_000_000
        start_ns = time.monotonic_ns()
        self._cell.mark(index, start_ns)
        output = b""
        failure: FailureText | None = None
        try:
            limits = work.limits
            with child_limits.memory_limit(limits.memory_bytes), child_limits.cpu_limit(limits.cpu_s):
                output = call()
        except BaseException as error:  # SystemExit of user code must not end the batch either
            failure = explain(error, self._registry.get(work.kind))
        self._out_of_memory |= failure is not None and failure.reason is Reason.OUT_OF_MEMORY
        self._check_channel()
        duration_us = (time.monotonic_ns() - start_ns) // 1000
        if failure is None and len(output) > work.limits.output_bytes:
            failure = too_much(len(output), work)
        if failure is None:
            return Done(output, started_ms, duration_us)
        return Failed(failure.reason, failure.text, started_ms, duration_us, failure.retryable, failure.trace)

    def _check_channel(self) -> None:
        """Exit now if user code closed the channel: the cell still names the item that did it."""
        try:
            intact = os.fstat(self._channel.fileno()).st_ino == self._channel_inode
        except OSError:
            intact = False
        if not intact:
            os._exit(CHANNEL_LOST)

    def _answer(self, first: int, results: Sequence[Result]) -> None:
        self._cell.mark(ProgressCell.ANSWERING, 0)
        dirty = DIRTY if self._out_of_memory or _left_processes() else 0
        growth_kib = max(0, child_limits.peak_bytes() - self._idle_bytes) // 1024
        frame = encode_reply(first, results, flags=LAST | dirty, growth_kib=min(growth_kib, 0xFFFFFFFF))
        self._send(frame)
        self._cell.mark(ProgressCell.WAITING, 0)

    def _send(self, buffers: Sequence[Buffer]) -> None:
        try:
            for buffer in buffers:
                self._channel.sendall(buffer)
        except OSError:
            os._exit(CHANNEL_LOST)


class _Unsent:
    """Results of a batch that are not sent yet. `batch_bytes` also counts those that were sent."""

    def __init__(self) -> None:
        self.first = 0
        self.results: list[Result] = []
        self.batch_bytes = 0
        self._bytes = 0
        self._since_ns = time.monotonic_ns()

    def sent(self) -> None:
        """Forget the results, which were sent."""
        self.first += len(self.results)
        self.results = []
        self._bytes = 0
        self._since_ns = time.monotonic_ns()

    def add(self, result: Result) -> None:
        """Keep one more result."""
        size_bytes = len(result.output) if isinstance(result, Done) else 0
        self.results.append(result)
        self._bytes += size_bytes
        self.batch_bytes += size_bytes

    @property
    def due(self) -> bool:
        """Whether the results are large or old enough to be sent before the next item begins."""
        return self._bytes >= FLUSH_BYTES or time.monotonic_ns() - self._since_ns > _FLUSH_AFTER_NS


def _left_processes() -> bool:
    """Whether user code left processes of its own, running or dead."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
