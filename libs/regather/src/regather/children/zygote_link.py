"""The supervisor's side of its zygote: starts it, requests forks, receives its reports."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Protocol

from regather.children.child_limits import ChildRules
from regather.children.zygote import (
    BROKEN,
    EXITED,
    FORK,
    FORK_FAILED,
    FORKED,
    MAX_TEXT_BYTES,
    MESSAGE,
    READY,
)
from regather.core.errors import RegatherError

_INHERITED = (
    "PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR",
    "REGATHER_MODELS_DIR",
)  # fmt: skip
_THREAD_COUNTS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "BLIS_NUM_THREADS",
)  # fmt: skip


class ChildrenUnavailable(RegatherError):
    """The zygote or its children do not start. The message says why."""


class ZygoteEvents(Protocol):
    """Callbacks of a zygote link to its supervisor."""

    def forked(self, request: int, pid: int) -> None:
        """The zygote forked the child of this request."""

    def fork_failed(self, request: int, error: str) -> None:
        """The zygote could not fork the child of this request."""

    def child_exited(self, pid: int, status: int) -> None:
        """The zygote reaped a child, after it had killed the child's group."""

    def zygote_lost(self, link: "ZygoteLink") -> None:
        """The zygote ended, and every child with it."""


def scrubbed_environment(extra: Mapping[str, str], environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of children: paths of programs and modules, the locale, one thread each, and `extra`."""
    kept = {name: environment[name] for name in _INHERITED if name in environment}
    return {"PYTHONUNBUFFERED": "1", "MALLOC_ARENA_MAX": "2", **dict.fromkeys(_THREAD_COUNTS, "1"), **kept, **extra}


class ZygoteLink:
    """One zygote process, from start to end. `ready` resolves to its kinds, or raises ChildrenUnavailable."""

    def __init__(self, loop: asyncio.AbstractEventLoop, events: ZygoteEvents) -> None:
        self.alive = False
        self.ready: asyncio.Future[str] = loop.create_future()
        self._loop = loop
        self._events = events
        self._control, self._child_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, registry: str, rules: ChildRules, environment: Mapping[str, str]) -> None:
        """Start the process. Call it in the event loop's thread: the zygote dies with the thread that started it."""
        control_fd = self._child_control.fileno()
        arguments = [str(control_fd), str(os.getpid()), registry, rules.to_json()]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "regather.children.zygote", *arguments],
            env=dict(environment),
            pass_fds=[control_fd],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._child_control.close()
        self.alive = True
        self._loop.add_reader(self._control, self._readable)

    def fork(self, request: int, fds: Sequence[int]) -> None:
        """Request a child; forked() or fork_failed() follows."""
        try:
            socket.send_fds(self._control, [FORK.pack(request)], fds)
        except OSError as error:
            self._loop.call_soon(self._events.fork_failed, request, str(error))

    async def stop(self, timeout_s: float) -> None:
        """Close the control socket: the zygote kills every child and ends. Kill it if that takes too long."""
        process, self._process = self._process, None
        self._hang_up()
        if process is not None:
            await asyncio.to_thread(_end, process, timeout_s)

    def _readable(self) -> None:
        try:
            while self.alive:
                message = self._control.recv(MESSAGE.size + MAX_TEXT_BYTES)
                if not message:
                    self._lost()
                    return
                what, first, second = MESSAGE.unpack_from(message)
                self._dispatch(what, first, second, message[MESSAGE.size :].decode("utf-8", "replace"))
        except BlockingIOError:
            pass
        except OSError:
            self._lost()

    def _dispatch(self, what: int, first: int, second: int, text: str) -> None:
        if what == FORKED:
            self._events.forked(first, second)
        elif what == EXITED:
            self._events.child_exited(first, second)
        elif what == FORK_FAILED:
            self._events.fork_failed(first, os.strerror(second))
        elif what == READY and not self.ready.done():
            self.ready.set_result(text)
        elif what == BROKEN and not self.ready.done():
            self.ready.set_exception(ChildrenUnavailable(f"the processors cannot be loaded: {text}"))

    def _lost(self) -> None:
        self._hang_up()
        if not self.ready.done():
            self.ready.set_exception(ChildrenUnavailable("the zygote ended while it was starting; stderr says why"))
        elif self.ready.exception() is None:
            self._events.zygote_lost(self)

    def _hang_up(self) -> None:
        if self.alive:
            self.alive = False
            self._loop.remove_reader(self._control)
        self._control.close()
        self._child_control.close()


def _end(process: "subprocess.Popen[bytes]", timeout_s: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout_s)
    process.kill()
    process.wait()
