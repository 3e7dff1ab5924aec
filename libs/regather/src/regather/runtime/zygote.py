"""The zygote: imports everything once, then forks a child in milliseconds whenever the supervisor asks.

It is started before any Kafka client exists, is single-threaded, and has no credentials in its environment. It dies with
the supervisor's process, and every child dies with it; grandchildren are killed with their child's process group, and
those that left the group are found because orphans of this tree become the zygote's own children (subreaper).

Messages, one per datagram: `S<token>` with two descriptors spawns, `K<pid>` kills a child's group; back come
`s<token> <pid>` and `x<pid> <status>`.
"""

import contextlib
import ctypes
import os
import resource
import select
import signal
import socket
import sys
from pathlib import Path

from regather.runtime.child import Cell, Kinds, load_kinds, serve, silence_descriptors

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_MESSAGE_BYTES = 64


def die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the parent dies (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Zygote:
    """Forks, kills and reaps children on request."""

    def __init__(self, control: socket.socket, kinds: Kinds) -> None:
        self._control = control
        self._kinds = kinds
        self._children: set[int] = set()

    def run(self) -> None:
        """Serve until the supervisor goes away; then kill every child's group."""
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        try:
            while True:
                readable = select.select([self._control.fileno(), wake_read], [], [])[0]
                if wake_read in readable:
                    os.read(wake_read, 4096)
                self._reap()
                if self._control.fileno() in readable and not self._obey():
                    return
        finally:
            for pid in self._children:
                _kill_group(pid)

    def _obey(self) -> bool:
        message, fds, _, _ = socket.recv_fds(self._control, _MESSAGE_BYTES, 2)
        if not message:
            return False
        if message[:1] == b"S":
            self._spawn(message[1:], fds)
        elif int(message[1:]) in self._children:
            _kill_group(int(message[1:]))
        return True

    def _spawn(self, token: bytes, fds: list[int]) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_child(fds, parent)
        for fd in fds:
            os.close(fd)
        self._children.add(pid)
        self._control.send(b"s%s %d" % (token, pid))

    def _become_child(self, fds: list[int], parent: int) -> None:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            die_with_parent()
            if os.getppid() != parent:
                os._exit(1)
            self._control.close()
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            silence_descriptors()
            serve(socket.socket(fileno=fds[0]), Cell(fds[1]), self._kinds)
        finally:
            os._exit(0)

    def _reap(self) -> None:
        while self._children or _own_children():
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            pid = found.si_pid
            known = pid in self._children
            if known:  # still a zombie, so its group's number cannot belong to anybody else
                _kill_group(pid)
            _, status = os.waitpid(pid, 0)
            if known:
                self._children.discard(pid)
                self._kill_strangers()
                self._control.send(b"x%d %d" % (pid, status))

    def _kill_strangers(self) -> None:
        for pid in _own_children() - self._children:
            os.kill(pid, signal.SIGKILL)


def _own_children() -> set[int]:
    try:
        return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}
    except OSError:
        return set()


def _kill_group(pid: int) -> None:
    """Kill a child that was not reaped yet, with its group; the child alone before it has made its own session."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)


def main(control_fd: int, registry: str, supervisor_pid: int) -> None:
    """Entry of the zygote's process."""
    die_with_parent()
    if os.getppid() != supervisor_pid:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    control = socket.socket(fileno=control_fd)
    kinds = load_kinds(registry)
    control.send(b"r")
    Zygote(control, kinds).run()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
