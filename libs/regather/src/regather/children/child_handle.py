"""The supervisor's side of one child process: its channel, its deadline, its end.

Theory of operation.

The problem: user code in a child may hang, crash, leave the process, fork, close descriptors or write garbage to the
channel. Whatever it does, the supervisor must get exactly one result for each item, blame no item that did not run, end
an overdue item within milliseconds, and have the slot free again at once. It must never wait for the child in order to
do so.

A child goes through these states. A kill leads from any of them to condemned, a death by itself directly to closed:

    forking    the zygote has the request and there is no pid yet
    starting   forked() has set the pid; HELLO must arrive within `start_s`
    idle       child_ready() has offered it to the supervisor
    running    run() has sent a piece of work; back to idle after the frame flagged LAST
    condemned  `ended` is set: it takes no more work, and the supervisor already refills the slot
    closed     exited() has resolved the work's future and released every descriptor

The child writes the executing item and its start to a ProgressCell in shared memory. The supervisor's timer reads the
cell when the item may be overdue, so an item costs no message. While the work waits for the child to read it or to
answer, neither side may go `transfer_s` without moving a byte. An overdue child first gets a signal that makes it print
its stack, and 10 ms later SIGKILL for its whole process group. A death counts when the zygote has reported it or has
ended itself, or 10 s after the kill. Then results that had arrived stay, and verdict.judge() decides what the other
items get.

Who calls what, when. The supervisor passes child_fds() to the zygote and then calls handed_over(). The zygote's reports
lead to forked() and exited(). run() is allowed only between child_ready() and the end. kill_if_running() cancels one
piece of work, and retire() ends an idle child. The handle calls child_started() once, child_ready() after the start and
after each piece of work, and child_ending() once, as early as possible. All calls come from the event loop's thread.

Rejected: the pools that exist as libraries. They share locks between children, or break as a whole when one child dies
(ADR 0002).
"""

import asyncio
import contextlib
import os
import socket
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from regather.children.captured_output import CapturedOutput
from regather.children.child_limits import ChildRules, kill_group
from regather.children.child_protocol import (
    DIRTY,
    HELLO,
    LAST,
    STACK_SIGNAL,
    BrokenReply,
    Buffer,
    ProgressCell,
    Reply,
    ReplyReader,
    encode_work,
)
from regather.children.supervisor_stats import SupervisorStats
from regather.children.verdict import Cause, Death, judge
from regather.children.work import Call, Work
from regather.core.execution import Result
from regather.core.model import Reason

_STACK_S = 0.01  # between the request for a stack and the kill
_ABANDON_S = 10.0  # how long to wait for the report of a killed child's death before giving it up
_MOST_BUFFERS = 512  # below every system's IOV_MAX
_BYTES_A_TURN = 4 * 1024 * 1024  # written before the event loop runs other callbacks
_CHANNEL_BYTES = 1024 * 1024


class ChildEvents(Protocol):
    """Callbacks of a child handle to its supervisor."""

    def child_started(self, child: "ChildHandle") -> None:
        """The child has started; child_ready() follows."""

    def child_ready(self, child: "ChildHandle") -> None:
        """The child can take work: called once after the start, then after each piece of work."""

    def child_ending(self, child: "ChildHandle") -> None:
        """The child will never take work again: called once, as early as possible."""


@dataclass(slots=True)
class _Running:
    """A piece of work in the child; `known` holds the results that arrived."""

    work: Work
    future: "asyncio.Future[list[Result] | None]"
    known: list[Result | None] = field(init=False)

    def __post_init__(self) -> None:
        self.known = [None] * (1 if self.work.call is Call.MERGE else len(self.work.items))


@dataclass(frozen=True, slots=True)
class _Kill:
    """Why a child is killed, and the content of its cell at that moment; `due_s` is the deadline that passed."""

    cause: Cause
    index: int
    start_ns: int
    detail: str = ""
    reason: Reason = Reason.CRASHED
    due_s: float | None = None


class ChildHandle:
    """One child process from fork to end. It runs one piece of work at a time."""

    def __init__(
        self,
        request: int,
        loop: asyncio.AbstractEventLoop,
        events: ChildEvents,
        rules: ChildRules,
        stats: SupervisorStats,
    ) -> None:
        self.request = request
        self.pid: int | None = None
        self.greeted = False
        self.items_run = 0
        self.growth_bytes = 0
        self.dirty = False
        self.ended = False
        """True once the child takes no more work: it is killed, or its death was reported."""
        self._loop = loop
        self._events = events
        self._rules = rules
        self._stats = stats
        self._channel, self._child_channel = _channel_pair()
        self._cell = ProgressCell.create()
        self._printed = CapturedOutput(loop)
        self._reader = ReplyReader(self._channel)
        self._unsent: deque[Buffer] = deque()
        self._deadline = loop.call_later(rules.start_s, self.kill)
        self._last_step: asyncio.TimerHandle | None = None
        self._moved_s = loop.time()
        self._running: _Running | None = None
        self._kill: _Kill | None = None
        self._closed = False
        loop.add_reader(self._channel, self._readable)

    @property
    def work(self) -> "asyncio.Future[list[Result] | None] | None":
        """The future of the present work, None without any."""
        return self._running.future if self._running is not None else None

    @property
    def printed(self) -> str:
        """The end of what the child printed."""
        self._printed.drain()
        return self._printed.text()

    def child_fds(self) -> list[int]:
        """Return the descriptors to pass to the child: channel, cell, output."""
        return [self._child_channel.fileno(), self._cell.fd, self._printed.write_fd]

    def handed_over(self) -> None:
        """Close our copies of the descriptors that only the child needs."""
        self._child_channel.close()
        os.close(self._printed.write_fd)

    def forked(self, pid: int) -> None:
        """Set the pid, once the zygote has forked the child; kill it if it was condemned before."""
        self.pid = pid
        if self._kill is not None:
            kill_group(pid)

    def run(self, work: Work) -> "asyncio.Future[list[Result] | None]":
        """Begin a piece of work. The future resolves to its results, or to None if its items have to be run alone."""
        assert self._running is None
        assert not self.ended
        self._running = running = _Running(work, self._loop.create_future())
        self._printed.forget()
        self._cell.mark(ProgressCell.WAITING, 0)
        self._reader.expect(work)
        self._unsent.extend(encode_work(work))
        self._moved_s = self._loop.time()
        first_check_s = min(work.limits.wall_s, self._rules.transfer_s)
        self._deadline = self._loop.call_at(self._moved_s + first_check_s, self._check_deadline)
        self._write()
        return running.future

    def kill(self, cause: Cause = Cause.LOST, detail: str = "", reason: Reason = Reason.CRASHED) -> None:
        """Kill the child's whole process group now. The work's future resolves when the death is confirmed."""
        if self._kill is None and not self._closed:
            self._stats.kills += 1
            self._condemn(_Kill(cause, *self._cell.read(), detail, reason))
            self._kill_now()

    def kill_if_running(self, future: "asyncio.Future[list[Result] | None]") -> None:
        """Kill the child if this is the future of its present work."""
        if self._running is not None and self._running.future is future:
            self.kill()

    def retire(self) -> None:
        """End the child between two pieces of work."""
        if self._kill is None and not self._closed:
            self._condemn(_Kill(Cause.LOST, ProgressCell.WAITING, 0))
            self._kill_now()

    def exited(self, status: int | None) -> None:
        """Resolve the work of a dead child and release its resources. `status` None: its wait status is unknown."""
        if self._closed:
            return
        self._drain_channel()
        self._closed = True
        if self._kill is None:
            self._stats.deaths += 1
        elif self._kill.due_s is not None:
            self._stats.overrun_ms.append((time.monotonic() - self._kill.due_s) * 1000)
        self._end()
        self._printed.close()
        self._resolve(status)
        self._give_back()

    # Sending and receiving.

    def _write(self) -> None:
        budget_bytes = _BYTES_A_TURN
        try:
            while self._unsent and budget_bytes > 0:
                count = min(len(self._unsent), _MOST_BUFFERS)
                sent_bytes = self._channel.sendmsg([self._unsent[at] for at in range(count)])
                self._moved_s = self._loop.time()
                budget_bytes -= sent_bytes
                _drop(self._unsent, sent_bytes)
        except BlockingIOError:
            pass
        except OSError:  # it is dead or has closed its end; the zygote's report or the deadline decides which
            self._unsent.clear()
        if self._unsent:
            self._loop.add_writer(self._channel, self._write)
        else:
            self._loop.remove_writer(self._channel)

    def _readable(self) -> None:
        try:
            replies = self._reader.read()
        except EOFError:
            self._loop.remove_reader(self._channel)
            if self._running is None:  # if work runs, the zygote's report or the deadline says more about its end
                self.kill()
            return
        except BrokenReply as error:
            self._loop.remove_reader(self._channel)
            self.kill(Cause.BAD_REPLY, str(error), error.reason)
            return
        self._moved_s = self._loop.time()
        for reply in replies:
            self._receive(reply)

    def _receive(self, reply: Reply) -> None:
        if reply.flags & HELLO and not self.greeted:
            self.greeted = True
            self._deadline.cancel()
            self._events.child_started(self)
            self._tell_ready()
        elif self._running is None:
            self.kill()
        else:
            self._accept_results(self._running, reply)

    def _accept_results(self, running: _Running, reply: Reply) -> None:
        running.known[reply.first : reply.first + len(reply.results)] = reply.results
        if not reply.flags & LAST:
            return
        results = [result for result in running.known if result is not None]
        if len(results) < len(running.known):
            self.kill(Cause.BAD_REPLY, "left out results")
            return
        self.items_run += len(running.work.items)
        self.growth_bytes = reply.growth_bytes
        self.dirty = bool(reply.flags & DIRTY)
        self._finish(results)
        self._tell_ready()

    def _tell_ready(self) -> None:
        if not self.ended and not self._closed:
            self._events.child_ready(self)

    def _drain_channel(self) -> None:
        """Accept the results that a dead child had sent before its death."""
        with contextlib.suppress(EOFError, BrokenReply):
            for reply in self._reader.read():
                if self._running is not None:
                    self._accept_results(self._running, reply)

    # Deadline and end.

    def _check_deadline(self) -> None:
        """Kill the child if the executing item is overdue or no byte moves; else check again when that may be so."""
        running = self._running
        if running is None or self.ended:
            return
        index, start_ns = self._cell.read()
        if index >= 0:
            due_s = start_ns / 1e9 + running.work.limits.wall_s
        else:
            due_s = self._moved_s + self._rules.transfer_s
        now_s = time.monotonic()
        if now_s < due_s:
            self._deadline = self._loop.call_at(min(due_s, now_s + self._rules.transfer_s), self._check_deadline)
        elif index >= 0:
            self._end_overdue(_Kill(Cause.OVERDUE, index, start_ns, due_s=due_s))
        else:
            self.kill(Cause.STUCK)

    def _end_overdue(self, kill: _Kill) -> None:
        """Make the child print the stack where it hangs, then kill it, whatever it does in between."""
        self._stats.kills += 1
        self._stats.overdue += 1
        self._condemn(kill)
        self._printed.drain()
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, STACK_SIGNAL)
        self._last_step = self._loop.call_later(_STACK_S, self._kill_now)

    def _condemn(self, kill: _Kill) -> None:
        self._kill = kill
        self._end()

    def _kill_now(self) -> None:
        if self._closed:
            return
        if self.pid is not None:
            kill_group(self.pid)
        self._last_step = self._loop.call_later(_ABANDON_S, self.exited, None)

    def _end(self) -> None:
        if not self.ended:
            self.ended = True
            self._events.child_ending(self)

    def _resolve(self, status: int | None) -> None:
        running = self._running
        if running is not None:
            self._finish(judge(running.work, running.known, self._death(status)))

    def _death(self, status: int | None) -> Death:
        kill = self._kill or _Kill(Cause.ITSELF if status is not None else Cause.LOST, *self._cell.read())
        duration_ns = time.monotonic_ns() - kill.start_ns if kill.start_ns else 0
        started_ms = (time.time_ns() - duration_ns) // 1_000_000
        return Death(
            kill.cause, kill.index, started_ms, duration_ns // 1000, status, kill.detail, kill.reason,
            self._printed.text(),
        )  # fmt: skip

    def _finish(self, results: list[Result] | None) -> None:
        running, self._running = self._running, None
        self._deadline.cancel()
        if running is not None and not running.future.done():
            running.future.set_result(results)

    def _give_back(self) -> None:
        self._deadline.cancel()
        if self._last_step is not None:
            self._last_step.cancel()
        self._loop.remove_reader(self._channel)
        self._loop.remove_writer(self._channel)
        self._channel.close()
        self._cell.close()


def _channel_pair() -> tuple[socket.socket, socket.socket]:
    """Return the supervisor's end and the child's end. The system may grant smaller buffers than asked for."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _CHANNEL_BYTES)
    return ours, theirs


def _drop(buffers: deque[Buffer], sent_bytes: int) -> None:
    """Remove the bytes that were sent from the front of the buffers."""
    while sent_bytes:
        first = buffers[0]
        if sent_bytes < len(first):
            buffers[0] = memoryview(first)[sent_bytes:]
            return
        sent_bytes -= len(first)
        buffers.popleft()
