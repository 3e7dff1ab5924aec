"""The supervisor: gives work to children, kills what overruns its deadline, and refills the slot at once.

One child per slot and one socket per child, no lock between children. Which item is running, and since when, stands in
memory shared with the child, so that a deadline, a crash or an exit is charged to the guilty item alone; all others of
its micro-batch come back as NotRun.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass, field

from regather.core.model import Reason
from regather.runtime.child import CELL_BYTES, NOT_BEGUN, Cell
from regather.runtime.child_protocol import LENGTH, MAX_FRAME_BYTES, FrameError, decode_results, encode_work
from regather.runtime.execution import Call, Failed, NotRun, Result, Work
from regather.runtime.logs import get_logger

log = get_logger()
DEFAULT_REGISTRY = "regather.processors.registry:all_kinds"
_START_S = 60.0
_SPAWN_S = 20.0
_EXIT_S = 5.0
_RECEIVE_BYTES = 1 << 18
_SOCKET_BUFFER_BYTES = 1 << 20
_GRACE_S = 0.001
_ENVIRONMENT = ("PATH", "PYTHONPATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV")
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(slots=True)
class Statistics:
    """Counters since the start; times of the last 1,000 kills and refills."""

    kills: int = 0
    crashes: int = 0
    refills: int = 0
    overrun_ms: deque[float] = field(default_factory=lambda: deque(maxlen=1000))
    refill_ms: deque[float] = field(default_factory=lambda: deque(maxlen=1000))


@dataclass(slots=True, eq=False)
class _Child:
    pid: int
    connection: socket.socket
    cell: Cell
    exited: asyncio.Future[int]
    served: int = 0
    deadline: asyncio.TimerHandle | None = None
    timed_out: bool = False

    def close(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
        self.connection.close()
        self.cell.close()


class Supervisor:
    """Implements Executor. `registry` is `module:attribute` of the kinds that the children load."""

    def __init__(self, slots: int, registry: str = DEFAULT_REGISTRY, *, items_per_child: int = 100_000) -> None:
        self._slots = slots
        self._registry = registry
        self._items_per_child = items_per_child
        self._zygote: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._idle: asyncio.Queue[_Child] = asyncio.Queue()
        self._children: dict[int, _Child] = {}
        self._spawning: dict[bytes, asyncio.Future[int]] = {}
        self._refills: set[asyncio.Task[None]] = set()
        self._running = 0
        self._quiet = asyncio.Event()
        self._stopping = False
        self._token = 0
        self.stats = Statistics()

    @property
    def slots(self) -> int:
        """How many pieces of work can run at once."""
        return self._slots

    async def start(self) -> None:
        """Start the zygote and one child per slot; RuntimeError if the kinds cannot be loaded."""
        await self._start_zygote()
        for _ in range(self._slots):
            self._idle.put_nowait(await self._spawn())

    async def stop(self, timeout_s: float) -> None:
        """Let running work end within the limit, then kill what is left."""
        self._stopping = True
        if self._running:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._quiet.wait()
            except TimeoutError:
                log.warning("children-killed-at-stop", running=self._running)
        for task in list(self._refills):
            task.cancel()
        self._end_zygote()
        for child in list(self._children.values()):
            child.close()
        self._children.clear()

    async def run(self, work: Work) -> list[Result]:
        """Run one piece of work in a free slot; waits for one."""
        expected = 1 if work.call is Call.MERGE else len(work.items)
        child = await self._idle.get()
        self._running += 1
        self._quiet.clear()
        alive = False
        try:
            results, alive = await self._converse(child, work, expected)
        finally:
            self._running -= 1
            if not self._running:
                self._quiet.set()
            if alive and not self._stopping and child.served < self._items_per_child:
                self._idle.put_nowait(child)
            else:
                self._replace(child)
        return results

    async def _converse(self, child: _Child, work: Work, expected: int) -> tuple[list[Result], bool]:
        child.served += expected
        child.timed_out = False
        child.cell.mark(NOT_BEGUN)
        wall_s = work.limits.wall_s
        self._watch(child, wall_s, wall_s)
        try:
            frame = await _exchange(child.connection, encode_work(work))
            if frame is not None:
                return decode_results(frame, expected, work.limits), True
        except (OSError, FrameError) as error:
            log.warning("child-reply-unusable", pid=child.pid, error=repr(error))
        finally:
            if child.deadline is not None:
                child.deadline.cancel()
        self._kill(child.pid)
        return await self._post_mortem(child, work, expected), False

    def _watch(self, child: _Child, wall_s: float, delay_s: float) -> None:
        loop = asyncio.get_running_loop()
        child.deadline = loop.call_later(max(delay_s, _GRACE_S), self._check_deadline, child, wall_s)

    def _check_deadline(self, child: _Child, wall_s: float) -> None:
        _, start_ns = child.cell.read()
        over_s = (time.monotonic_ns() - start_ns) / 1e9 - wall_s
        if over_s < 0:
            self._watch(child, wall_s, -over_s)
            return
        child.timed_out = True
        self.stats.kills += 1
        self._kill(child.pid)
        child.exited.add_done_callback(lambda _: self.stats.overrun_ms.append(self._overrun_ms(start_ns, wall_s)))

    @staticmethod
    def _overrun_ms(start_ns: int, wall_s: float) -> float:
        return (time.monotonic_ns() - start_ns) / 1e6 - wall_s * 1e3

    async def _post_mortem(self, child: _Child, work: Work, expected: int) -> list[Result]:
        index, start_ns = child.cell.read()
        try:
            async with asyncio.timeout(_EXIT_S):
                status = await asyncio.shield(child.exited)
        except (TimeoutError, RuntimeError):  # the zygote itself is gone: nobody's fault
            return [NotRun()] * expected
        results: list[Result] = [NotRun()] * expected
        if child.timed_out and index == NOT_BEGUN:
            index = 0  # it never read its work within the whole time limit
        if index > NOT_BEGUN:
            guilty = min(index, expected - 1) if index < len(work.items) or expected == 1 else None
            if guilty is not None:
                results[guilty] = self._verdict(child, work, status, start_ns)
        elif child.served <= expected:
            results[0] = self._verdict(child, work, status, start_ns)
        return results

    def _verdict(self, child: _Child, work: Work, status: int, start_ns: int) -> Failed:
        duration_us = (time.monotonic_ns() - start_ns) // 1000
        started_ms = time.time_ns() // 1_000_000 - duration_us // 1000
        if child.timed_out:
            text = f"killed at its time limit of {work.limits.wall_s:g} s"
            return Failed(Reason.TIMED_OUT, text, started_ms, duration_us)
        self.stats.crashes += 1
        if os.WIFEXITED(status):
            text = f"the child ended itself with exit code {os.WEXITSTATUS(status)}"
            return Failed(Reason.EXITED, text, started_ms, duration_us)
        number = os.WTERMSIG(status)
        text = f"the child was killed by {signal.Signals(number).name}"
        return Failed(Reason.CRASHED, text, started_ms, duration_us)

    def _replace(self, child: _Child) -> None:
        self._kill(child.pid)
        if self._stopping:
            return
        task = asyncio.create_task(self._refill(child), name="refill")
        self._refills.add(task)
        task.add_done_callback(self._refills.discard)

    async def _refill(self, dead: _Child) -> None:
        began = time.monotonic()
        while True:
            try:
                if self._zygote is None or self._zygote.poll() is not None:
                    await self._restart_zygote()
                fresh = await self._spawn()
                break
            except (OSError, TimeoutError, RuntimeError) as error:
                log.error("refill-failed", error=repr(error))
                await asyncio.sleep(0.2)
        self.stats.refills += 1
        self.stats.refill_ms.append((time.monotonic() - began) * 1e3)
        self._children.pop(dead.pid, None)
        dead.close()
        self._idle.put_nowait(fresh)

    async def _spawn(self) -> _Child:
        assert self._control is not None
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES)
        loop = asyncio.get_running_loop()
        with tempfile.TemporaryFile() as memory:
            memory.truncate(CELL_BYTES)
            self._token += 1
            token = str(self._token).encode()
            self._spawning[token] = spawned = loop.create_future()
            try:
                socket.send_fds(self._control, [b"S" + token], [theirs.fileno(), memory.fileno()])
                async with asyncio.timeout(_SPAWN_S):
                    pid = await spawned
            except BaseException:
                ours.close()
                raise
            finally:
                theirs.close()
                self._spawning.pop(token, None)
            child = _Child(pid, ours, Cell(memory.fileno()), loop.create_future())
        self._children[pid] = child
        return child

    def _kill(self, pid: int) -> None:
        if self._control is not None and pid in self._children and not self._children[pid].exited.done():
            try:
                self._control.send(b"K%d" % pid)
            except OSError as error:
                log.warning("zygote-unreachable", error=repr(error))

    async def _start_zygote(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | _ONE_THREAD
        arguments = [str(theirs.fileno()), self._registry, str(os.getpid())]
        self._zygote = subprocess.Popen(  # noqa: ASYNC220 - it returns at once; the wait is below
            [sys.executable, "-m", "regather.runtime.zygote", *arguments],
            pass_fds=[theirs.fileno()],
            env=environment,
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._control = ours
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_START_S):
                hello = await loop.sock_recv(ours, 64)
        except TimeoutError:
            hello = b""
        if hello != b"r":
            self._end_zygote()
            raise RuntimeError(f"the kinds of {self._registry} could not be loaded; the log above says why")
        loop.add_reader(ours.fileno(), self._hear, ours)

    async def _restart_zygote(self) -> None:
        log.error("zygote-died", exit=self._zygote.poll() if self._zygote else None)
        self._end_zygote()
        await self._start_zygote()

    def _end_zygote(self) -> None:
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._control.close()
            self._control = None
        if self._zygote is not None:
            try:
                self._zygote.wait(_EXIT_S)
            except subprocess.TimeoutExpired:
                self._zygote.kill()
                self._zygote.wait()
        for child in self._children.values():
            if not child.exited.done():
                child.exited.set_exception(RuntimeError("the zygote is gone"))
                child.exited.exception()  # seen: nobody has to wait for it

    def _hear(self, control: socket.socket) -> None:
        try:
            message = control.recv(64)
        except OSError:
            message = b""
        if not message:
            asyncio.get_running_loop().remove_reader(control.fileno())
            return
        first, number = message[1:].split()
        if message[:1] == b"s":
            spawned = self._spawning.get(first)
            if spawned is not None and not spawned.done():
                spawned.set_result(int(number))
        else:
            child = self._children.get(int(first))
            if child is not None and not child.exited.done():
                child.exited.set_result(int(number))


async def _exchange(connection: socket.socket, request: list[bytes]) -> bytes | None:
    """Send a request and receive its reply; None if the child closed its end."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connection, b"".join(request))
    received = await loop.sock_recv(connection, _RECEIVE_BYTES)
    if len(received) < LENGTH.size:
        return None
    (total,) = LENGTH.unpack_from(received)
    if total > MAX_FRAME_BYTES:
        raise FrameError(f"a reply of {total} bytes")
    if len(received) == LENGTH.size + total:
        return received[LENGTH.size :]
    buffer = bytearray(received[LENGTH.size :])
    while len(buffer) < total:
        received = await loop.sock_recv(connection, _RECEIVE_BYTES)
        if not received:
            return None
        buffer += received
    return bytes(buffer)
