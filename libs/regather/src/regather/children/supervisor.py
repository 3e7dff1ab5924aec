"""Runs user code in children that can be killed: one child per slot, forked by a zygote, replaced when it dies.

Linux only. It guarantees that an item that exceeds its wall limit is killed a few milliseconds later, with its whole
process group and whatever it does; that the slot is free again at once; and that nothing that a child started outlives
the child or this process, however they end. It does not protect from malicious code: children run as the same user.
"""

import asyncio
import itertools
import logging
import sys
import time
from collections import deque
from collections.abc import Mapping

from regather.children.child_handle import ChildHandle
from regather.children.child_limits import ChildRules, kill_group
from regather.children.child_protocol import alone
from regather.children.supervisor_stats import SupervisorStats
from regather.children.work import Call, Work
from regather.children.zygote_link import ChildrenUnavailable, ZygoteLink, scrubbed_environment
from regather.core.execution import NotRun, Result

ALL_KINDS = "regather.processors.registry:all_kinds"

_MAX_FAILED_STARTS = 3
_FIRST_BACKOFF_S = 0.1
_MAX_BACKOFF_S = 5.0
_ZYGOTE_END_S = 6.0

log = logging.getLogger(__name__)


class Supervisor:
    """An Executor. To stop work in progress, cancel the task that is in run(): this kills its child.

    `registry` is "module:attribute" and names a mapping of kind to Processor, or a function that returns one. The
    zygote and its children import it, so their environment must suffice for that: PATH, PYTHONPATH, the locale, the
    other names of zygote_link._INHERITED, and `environment`. They get no other variable of this process.
    """

    def __init__(
        self,
        slots: int,
        registry: str = ALL_KINDS,
        *,
        rules: ChildRules | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.stats = SupervisorStats()
        self._slots = slots
        self._registry = registry
        self._rules = rules or ChildRules()
        self._environment = scrubbed_environment(environment or {})
        self._link: ZygoteLink | None = None
        self._children: dict[int, ChildHandle] = {}  # by request
        self._by_pid: dict[int, ChildHandle] = {}
        self._idle: list[ChildHandle] = []
        self._waiters: deque[asyncio.Future[ChildHandle | None]] = deque()
        self._lost_at_s: deque[float] = deque()  # when the slots that have no ready child lost theirs
        self._requests = 0
        self._failed_starts = 0
        self._kinds: tuple[str, ...] = ()
        self._last_trouble = "no child became ready"
        self._stopping = False
        self._full: asyncio.Event = asyncio.Event()
        self._restart: asyncio.Task[None] | None = None

    @property
    def slots(self) -> int:
        """How many pieces of work can run at once."""
        return self._slots

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that the children can run; known once start() has returned."""
        return self._kinds

    @property
    def busy(self) -> int:
        """How many pieces of work run now."""
        return sum(child.work is not None for child in self._children.values())

    async def start(self) -> None:
        """Start the zygote and one child per slot; raise ChildrenUnavailable if they do not become ready."""
        if sys.platform != "linux":
            raise ChildrenUnavailable(f"killable children need Linux, this is {sys.platform}")
        try:
            async with asyncio.timeout(self._rules.start_s):
                await self._start_zygote()
                await self._full.wait()
        except TimeoutError:
            await self.stop(0)
            raise ChildrenUnavailable(f"not ready within {self._rules.start_s:g} s: {self._last_trouble}") from None
        except ChildrenUnavailable:
            await self.stop(0)
            raise
        if self._failed_starts:
            await self.stop(0)
            raise ChildrenUnavailable(f"children exit as soon as they start: {self._last_trouble}")

    async def stop(self, timeout_s: float) -> None:
        """Let running work end within the limit, then kill the rest. No child process remains."""
        self._stopping = True
        if self._restart is not None:
            self._restart.cancel()
            await asyncio.wait([self._restart])
        while self._waiters:
            _resolve(self._waiters.popleft(), None)
        running = [child.work for child in self._children.values() if child.work is not None]
        if running:
            await asyncio.wait(running, timeout=timeout_s)
        for child in self._children.values():
            child.retire()
        if self._link is not None:
            await self._link.stop(_ZYGOTE_END_S)
        self._forget_children()

    async def run(self, work: Work) -> list[Result]:
        """Wait for a free slot and run one piece of work in it. Never raises because of user code.

        An item whose result was lost with its child is NotRun. All items are NotRun if all children were lost at once,
        or if stop() was called; it is `begun` if its child was executing it. If a batch ends its child and the guilty
        item cannot be told, this runs each item alone.
        """
        if work.call is Call.PROCESS and not work.items:
            return []
        results = await self._run_once(work)
        if results is not None:
            return results
        return [(await self.run(alone(work, index)))[0] for index in range(len(work.items))]

    async def _run_once(self, work: Work) -> list[Result] | None:
        child = await self._free_child()
        if child is None:
            return [NotRun()] * (1 if work.call is Call.MERGE else len(work.items))
        future = child.run(work)
        try:
            return await future
        except asyncio.CancelledError:
            child.kill_if_running(future)
            raise

    async def _free_child(self) -> ChildHandle | None:
        """Wait for a child that can take work; None when stopping."""
        while not self._stopping:
            child = self._idle.pop() if self._idle else await self._next_child()
            if child is None or not child.ended:
                return child
        return None

    async def _next_child(self) -> ChildHandle | None:
        waiter: asyncio.Future[ChildHandle | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            child = None if waiter.cancelled() else waiter.result()
            if child is not None:
                self._offer(child)
            raise

    def _offer(self, child: ChildHandle) -> None:
        while self._waiters:
            if _resolve(self._waiters.popleft(), child):
                return
        self._idle.append(child)

    # Callbacks of the children (ChildEvents).

    def child_started(self, child: ChildHandle) -> None:
        """Note that a slot has a started child again."""
        self._failed_starts = 0
        if self._lost_at_s:
            self.stats.refills += 1
            self.stats.refill_ms.append((time.monotonic() - self._lost_at_s.popleft()) * 1000)
        if sum(known.greeted for known in self._children.values()) >= self._slots:
            self._full.set()

    def child_ready(self, child: ChildHandle) -> None:
        """Offer the child to waiting work, or retire it if it is dirty or worn out."""
        if child.dirty or self._worn_out(child):
            self.stats.recycled += 1
            child.retire()
        else:
            self._offer(child)

    def child_ending(self, child: ChildHandle) -> None:
        """Start a successor. After a child that never became ready, wait first, each time longer."""
        if child in self._idle:
            self._idle.remove(child)
        if self._stopping or self._link is None or not self._link.alive:
            return
        if child.greeted:
            self._lost_at_s.append(time.monotonic())
            self._spawn()
        else:
            self._start_failed(child.printed or "a child ended before it was ready")

    def _worn_out(self, child: ChildHandle) -> bool:
        return (
            child.items_run >= self._rules.recycle_after_items or child.growth_bytes > self._rules.recycle_growth_bytes
        )

    # Starting children.

    def _spawn(self) -> None:
        if self._stopping or self._link is None or not self._link.alive:
            return
        self._requests += 1
        try:
            child = ChildHandle(self._requests, asyncio.get_running_loop(), self, self._rules, self.stats)
        except OSError as error:
            self._start_failed(str(error))
            return
        self._children[child.request] = child
        self._link.fork(child.request, child.child_fds())
        child.handed_over()

    def _start_failed(self, trouble: str) -> None:
        """Start a child again after a delay that grows with each failure; start() gives up after a few failures."""
        self._failed_starts += 1
        self._last_trouble = trouble
        log.error("a child could not be started (%d in a row): %s", self._failed_starts, trouble)
        if self._failed_starts >= _MAX_FAILED_STARTS:
            self._full.set()
        asyncio.get_running_loop().call_later(_backoff_s(self._failed_starts), self._spawn)

    async def _start_zygote(self) -> None:
        self._link = link = ZygoteLink(asyncio.get_running_loop(), self)
        link.start(self._registry, self._rules, self._environment)
        async with asyncio.timeout(self._rules.start_s):
            kinds = await link.ready
        self._kinds = tuple(filter(None, kinds.split(",")))
        log.info("the children can run the kinds %s", kinds or "(none)")
        for _ in range(self._slots):
            self._spawn()

    async def _start_again(self, lost: ZygoteLink) -> None:
        await lost.stop(0)
        for failures in itertools.count(1):
            try:
                await self._start_zygote()
            except (ChildrenUnavailable, OSError, TimeoutError) as error:
                log.error("the zygote could not be started (%d in a row): %s", failures, error)
                assert self._link is not None
                await self._link.stop(0)
                await asyncio.sleep(_backoff_s(failures))
            else:
                return

    def _forget_children(self) -> None:
        """Kill the groups of all children and resolve their work: they are dead, or die with their zygote."""
        for child in list(self._children.values()):
            if child.pid is not None:
                kill_group(child.pid)
            child.exited(None)
        self._children.clear()
        self._by_pid.clear()
        self._idle.clear()

    # Callbacks of the zygote link (ZygoteEvents).

    def forked(self, request: int, pid: int) -> None:
        """Note the pid of the child of this request."""
        child = self._children[request]
        self._by_pid[pid] = child
        child.forked(pid)

    def fork_failed(self, request: int, error: str) -> None:
        """Drop the child of this request; its end makes the supervisor try again."""
        child = self._children.pop(request, None)
        if child is not None:
            log.error("the zygote could not fork a child: %s", error)
            child.exited(None)

    def child_exited(self, pid: int, status: int) -> None:
        """Confirm the death of a child."""
        child = self._by_pid.pop(pid)
        del self._children[child.request]
        child.exited(status)

    def zygote_lost(self, link: ZygoteLink) -> None:
        """Resolve the work of all children as lost, and start a new zygote."""
        if self._stopping or self._link is not link:
            return
        log.error("the zygote ended, and all children with it: starting a new one")
        self.stats.zygote_restarts += 1
        self._forget_children()
        self._lost_at_s = deque([time.monotonic()] * self._slots)
        self._restart = asyncio.get_running_loop().create_task(self._start_again(link), name="zygote-restart")


def _resolve(future: "asyncio.Future[ChildHandle | None]", child: ChildHandle | None) -> bool:
    if future.done():
        return False
    future.set_result(child)
    return True


def _backoff_s(failures: int) -> float:
    return min(_MAX_BACKOFF_S, _FIRST_BACKOFF_S * 2.0 ** (failures - 1))
