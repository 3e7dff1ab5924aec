"""Captures what a child prints: drains it so that the child never blocks for long, keeps the end for error messages."""

import asyncio
import fcntl
import os
from contextlib import suppress

_PIPE_BYTES = 1024 * 1024
_TAIL_BYTES = 2048
_READ_BYTES = 256 * 1024
_EAGER_BYTES = (
    256 * 1024
)  # printed during one piece of work; beyond it the pipe is drained at intervals, so that a flood costs little
_INTERVAL_S = 0.002


class CapturedOutput:
    """The reading end of the pipe behind a child's stdout and stderr. The owner closes `write_fd` after the fork."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._read_fd, self.write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        with suppress(OSError, AttributeError):  # optional: the user may have no pipe pages left; not on macOS
            fcntl.fcntl(self.write_fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._tail = b""
        self._work_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._open = True
        loop.add_reader(self._read_fd, self._readable)

    def forget(self) -> None:
        """Drop what was printed so far: it belongs to an earlier piece of work."""
        self.drain()
        self._tail = b""
        self._work_bytes = 0

    def text(self) -> str:
        """Return the end of what was printed since forget(), beginning with a whole line or at least a whole word."""
        tail = self._tail
        if len(tail) == _TAIL_BYTES:  # cut off: without_paths() would not recognize half a path
            tail = tail.partition(b"\n" if b"\n" in tail[:-1] else b" ")[2]
        return tail.decode("utf-8", "replace").strip("\r\n")

    def drain(self) -> None:
        """Read what is in the pipe now, at most about twice what it can hold."""
        for _ in range(2 * _PIPE_BYTES // _READ_BYTES):
            if not self._read():
                break

    def close(self) -> None:
        """Read the rest and close the pipe."""
        if self._open:
            self.drain()
            self._stop()
            os.close(self._read_fd)

    def _readable(self) -> None:
        self._read()
        if self._open and self._work_bytes > _EAGER_BYTES:
            self._loop.remove_reader(self._read_fd)
            self._timer = self._loop.call_later(_INTERVAL_S, self._resume)

    def _resume(self) -> None:
        self.drain()
        if self._open:
            self._loop.add_reader(self._read_fd, self._readable)

    def _read(self) -> bool:
        try:
            data = os.read(self._read_fd, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._stop()
            return False
        self._work_bytes += len(data)
        self._tail = (self._tail + data[-_TAIL_BYTES:])[-_TAIL_BYTES:]
        return True

    def _stop(self) -> None:
        self._loop.remove_reader(self._read_fd)
        if self._timer is not None:
            self._timer.cancel()
