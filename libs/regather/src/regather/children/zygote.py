"""The zygote: a small single-threaded process that has imported every processor and forks children on request.

The supervisor starts `python -m regather.children.zygote CONTROL_FD SUPERVISOR_PID REGISTRY RULES` with a scrubbed
environment. The zygote answers on CONTROL_FD (a SOCK_SEQPACKET socket), reports the end of every child, kills the
processes that a dead child left, and kills all children when the supervisor has ended. User code runs here only while
modules are imported.
"""

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from regather.children import child_limits
from regather.children.child import run_child
from regather.children.child_limits import ChildRules
from regather.processors.registry import Registry

MESSAGE = struct.Struct("<Bqq")  # what, request or pid, pid or status or errno
READY, BROKEN, FORKED, FORK_FAILED, EXITED = range(5)
FORK = struct.Struct("<q")  # request; the message has the descriptors channel, cell, output
FORK_FDS = 3
MAX_TEXT_BYTES = 8192

_SHUTDOWN_S = 5.0
_SHUTDOWN_POLL_S = 0.01


def load_registry(spec: str) -> Registry:
    """Return the registry named by "module:attribute": a mapping of kind to processor, or a function that returns one."""
    module, _, attribute = spec.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    registry = found() if callable(found) else found
    if isinstance(registry, Registry):
        return registry
    if isinstance(registry, Mapping):
        return Registry(registry)
    raise TypeError(f"{spec} is {type(registry).__name__}, not a mapping of kind to processor")


class Zygote:
    """Forks children on request, reaps them, and kills what they leave."""

    def __init__(self, control: socket.socket, supervisor: int, registry: Registry, rules: ChildRules) -> None:
        self._control = control
        self._supervisor = supervisor
        self._registry = registry
        self._rules = rules
        self._children: set[int] = set()
        self._wakeup, self._wakeup_write = _wakeup_pipe()

    def serve(self) -> None:
        """Serve until the supervisor closes the socket or dies, then kill and reap every process."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wakeup, select.POLLIN)
        while os.getppid() == self._supervisor:
            ready = {fd for fd, _ in poll.poll()}
            if self._control.fileno() in ready and not self._serve_request():
                break
            if self._wakeup in ready:
                _drain(self._wakeup)
                self._reap()
        self._kill_everything()

    def _serve_request(self) -> bool:
        """Fork a child; return False if the supervisor has ended."""
        try:
            data, fds, _, _ = socket.recv_fds(self._control, FORK.size, FORK_FDS, socket.MSG_CMSG_CLOEXEC)
        except ConnectionError:
            return False
        if not data:
            return False
        (request,) = FORK.unpack(data)
        try:
            pid = os.fork()
        except OSError as error:
            self._report(FORK_FAILED, request, error.errno or 0)
        else:
            if pid == 0:
                self._become_child(*fds)
            self._children.add(pid)
            self._report(FORKED, request, pid)
        for fd in fds:
            os.close(fd)
        return True

    def _become_child(self, channel_fd: int, cell_fd: int, printed_fd: int) -> None:
        for fd in (self._control.detach(), self._wakeup, self._wakeup_write):
            os.close(fd)
        run_child(socket.socket(fileno=channel_fd), cell_fd, printed_fd, self._registry, self._rules)

    def _reap(self) -> None:
        """Report ended children. Kill each one's group before reaping it, while no other process can have its pid."""
        while (ended := _ended_child()) is not None:
            if ended in self._children:
                child_limits.kill_group(ended)
            _, status = os.waitpid(ended, 0)
            if ended in self._children:
                self._children.remove(ended)
                self._report(EXITED, ended, status)
        self._kill_strays()

    def _kill_strays(self) -> None:
        """Kill the descendants of dead children, whatever their session: the kernel has made us their parent.

        When they die, we become the parent of their own children, and the SIGCHLD leads here again.
        """
        for pid in _children_of(os.getpid()) - self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _kill_everything(self) -> None:
        for pid in self._children:
            child_limits.kill_group(pid)
        end_s = time.monotonic() + _SHUTDOWN_S
        while time.monotonic() < end_s:
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                return
            self._children.clear()
            self._kill_strays()
            select.select([self._wakeup], [], [], _SHUTDOWN_POLL_S)
            _drain(self._wakeup)

    def _report(self, what: int, first: int, second: int) -> None:
        with contextlib.suppress(OSError):  # the supervisor has ended; serve() is about to notice
            self._control.send(MESSAGE.pack(what, first, second))


def _wakeup_pipe() -> tuple[int, int]:
    """Return a pipe through which signals end a poll. Only the supervisor acts on SIGTERM, SIGINT and SIGHUP."""
    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    os.set_blocking(write_fd, False)
    signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    return read_fd, write_fd


def _drain(fd: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(fd, 4096):
            pass


def _ended_child() -> int | None:
    """Return the pid of a child that is dead and not yet reaped, None if there is none."""
    try:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return ended.si_pid if ended is not None else None


def _children_of(parent: int) -> set[int]:
    """Return the pids of the living children of a process, from /proc; empty on a system without it."""
    try:
        return {int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()}
    except OSError:  # the kernel was built without this file
        return {pid for pid in _all_pids() if _parent_of(pid) == parent}


def _all_pids() -> set[int]:
    try:
        return {int(name) for name in os.listdir("/proc") if name.isdigit()}  # noqa: PTH208 - hundreds of entries, often
    except OSError:
        return set()


def _parent_of(pid: int) -> int | None:
    """Return the parent of a living process; None if it has ended or is a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:  # noqa: PTH123 - hundreds of files, often
            state, parent = stat.read().rpartition(b")")[2].split()[:2]
    except OSError:
        return None
    return None if state in b"ZX" else int(parent)


def _prepare(spec: str) -> Registry:
    """Import every processor's module, so that a fork takes milliseconds and shares the memory.

    The children import the engines that they need (numpy, duckdb, pyarrow and so on): ADR 0027 has the figures.
    """
    registry = load_registry(spec)
    if threading.active_count() > 1:
        names = ", ".join(thread.name for thread in threading.enumerate()[1:])
        print(f"a processor's module started threads ({names}); children do not have them", file=sys.stderr)  # noqa: T201 - the zygote's only log
    gc.collect()
    gc.freeze()
    return registry


def _or_report(control: socket.socket, prepare: Callable[[], Registry]) -> Registry:
    """Return what `prepare` returns; if it fails, send the reason to the supervisor and raise."""
    try:
        return prepare()
    except BaseException as error:
        text = f"{type(error).__name__}: {error}".encode("utf-8", "backslashreplace")[:MAX_TEXT_BYTES]
        control.send(MESSAGE.pack(BROKEN, 0, 0) + text)
        raise


def main(arguments: list[str]) -> None:
    """Run the zygote."""
    control_fd, supervisor, spec, rules = arguments
    # While it imports modules, the zygote does not read the control socket. It has no child yet that it must kill.
    child_limits.die_with(int(supervisor))
    control = socket.socket(fileno=int(control_fd))
    child_limits.adopt_orphans()
    registry = _or_report(control, lambda: _prepare(spec))
    zygote = Zygote(control, int(supervisor), registry, ChildRules.from_json(rules))
    child_limits.die_with(int(supervisor), signal.SIGTERM)
    control.send(MESSAGE.pack(READY, os.getpid(), 0) + ",".join(registry).encode()[:MAX_TEXT_BYTES])
    zygote.serve()


if __name__ == "__main__":
    main(sys.argv[1:])
