"""An asyncio event loop with a virtual clock, which runs several simulated processes side by side.

Each process has its own queue of callbacks, first in first out, as asyncio guarantees within a process. The seed
decides which process runs its next callback. When no process has a callback to run, the clock jumps to the next timer.
A process can be frozen: its callbacks and timers then wait, like those of a process after SIGSTOP.
"""

import asyncio
import contextvars
import heapq
import itertools
import random
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Args = TypeVarTuple("Args")
_MAX_STEPS_AT_ONE_MOMENT = 100_000


class VirtualTimeError(Exception):
    """The simulation cannot go on: it has no callback and no timer, keeps the clock from advancing, or runs too long."""


class _Task(asyncio.Task[Any]):
    """A task whose hash does not depend on its address, so that the order in sets is the same in every run."""

    def __init__(self, number: int, process: "Process", coro: Coroutine[Any, Any, Any], **arguments: Any) -> None:
        self._number = number
        self.process = process
        super().__init__(coro, **arguments)

    def __hash__(self) -> int:
        return self._number


class _Future(asyncio.Future[Any]):
    """A future whose hash does not depend on its address."""

    def __init__(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self._number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


class Process:
    """One simulated operating-system process: whatever is started inside its context belongs to it."""

    def __init__(self, loop: "VirtualLoop", name: str) -> None:
        self.name = name
        self.context = contextvars.copy_context()
        self.context.run(_CURRENT.set, self)
        self.ready: deque[asyncio.Handle] = deque()
        self.frozen = False
        self.listed = False
        self.steps = 0
        self.fuse: int | None = None
        """Number of callbacks after which the loop calls `on_fuse`, once; None: never."""
        self.on_fuse: Callable[[], object] = lambda: None
        self._loop = loop
        self._tasks: list[weakref.ref[asyncio.Task[Any]]] = []
        self._compact_at = 64

    def start(self, work: Coroutine[Any, Any, T], name: str) -> "asyncio.Task[T]":
        """Run a coroutine in this process."""
        return self._loop.create_task(work, name=name, context=self.context)

    def freeze(self) -> None:
        """Run nothing until thaw()."""
        self.frozen = True
        self._loop.unlist(self)

    def thaw(self) -> None:
        """Run again; timers that were due meanwhile fire now."""
        self.frozen = False
        self._loop.list_if_ready(self)

    def cancel_all(self) -> int:
        """Cancel every task of this process; return their number."""
        self.thaw()
        tasks = self.tasks()
        for task in tasks:
            task.cancel()
        return len(tasks)

    def tasks(self) -> list["asyncio.Task[Any]"]:
        """Return the tasks that have not ended."""
        alive = [task for ref in self._tasks if (task := ref()) is not None and not task.done()]
        self._tasks = [weakref.ref(task) for task in alive]
        return alive

    def adopt(self, task: "asyncio.Task[Any]") -> None:
        """Note a task that was started in this process."""
        self._tasks.append(weakref.ref(task))
        if len(self._tasks) >= self._compact_at:
            self._compact_at = max(64, 2 * len(self.tasks()))


_CURRENT: contextvars.ContextVar[Process] = contextvars.ContextVar("process")


def current_process() -> Process:
    """Return the process that is running."""
    return _CURRENT.get()


class VirtualLoop(asyncio.AbstractEventLoop):
    """The event loop of a simulation; it has no sockets, threads or signals."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance.random
        self._now_s = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle, Process]] = []
        self._runnable: list[Process] = []
        self._numbers = itertools.count(1)
        self._running = False
        self.steps = 0
        self._steps_before = 0
        """Number of steps before the clock reached its current time."""
        self.errors: list[tuple[str, str]] = []
        """Process and description of every error that no code handled."""
        self.outside = Process(self, "outside")
        self._current = self.outside

    # The part that services use through asyncio.

    def time(self) -> float:
        """Return the virtual seconds since the beginning."""
        return self._now_s

    def call_soon(
        self, callback: Callable[[*Args], object], *args: *Args, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Queue a callback at the end of its process's queue."""
        if context is None:
            context = contextvars.copy_context()
        process = context.get(_CURRENT, self.outside)
        handle = asyncio.Handle(callback, args, self, context)
        process.ready.append(handle)
        if not process.listed and not process.frozen:
            process.listed = True
            self._runnable.append(process)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Args], object],
        *args: *Args,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Queue a callback after `delay` virtual seconds."""
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Args], object], *args: *Args, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Queue a callback at a virtual time."""
        if context is None:
            context = contextvars.copy_context()
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), timer, context.get(_CURRENT, self.outside)))
        return timer

    def create_future(self) -> "asyncio.Future[Any]":
        """Make a future of this loop."""
        return _Future(next(self._numbers), self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
        **_more: Any,
    ) -> "asyncio.Task[T]":
        """Run a coroutine as a task of the current process, or of the context's."""
        context = contextvars.copy_context() if context is None else context.copy()
        number, process = next(self._numbers), context.get(_CURRENT, self.outside)
        # arg-type: typeshed gives Task a loop, a name and a context of narrower types than this loop's
        task = _Task(number, process, coro, loop=self, name=name or f"task-{number}", context=context)  # type: ignore[arg-type]
        process.adopt(task)
        return task

    # override: typeshed types `args` by TypeVarTuple, which a loop that only passes them on does not need
    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> "asyncio.Future[T]":  # type: ignore[override]
        """Run a function in this thread, up to 5 virtual ms later; `asyncio.to_thread` uses this."""
        done: asyncio.Future[T] = self.create_future()

        def work() -> None:
            if done.cancelled():
                return
            try:
                done.set_result(func(*args))
            except Exception as error:
                done.set_exception(error)

        self.call_later(self._chance() * 0.005, work)
        return done

    def get_debug(self) -> bool:
        """Return False: there is no debug mode."""
        return False

    def is_running(self) -> bool:
        """Return whether run() is running."""
        return self._running

    def is_closed(self) -> bool:
        """Return False: the loop has nothing to close."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Add an unhandled error to `errors`."""
        task, error = context.get("task") or context.get("future"), context.get("exception")
        process = task.process if isinstance(task, _Task) else _CURRENT.get(self.outside)
        self.errors.append((process.name, f"{context.get('message')}: {error!r}"))

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Do nothing: _advance() drops cancelled timers."""

    # The part that simulations use.

    def process(self, name: str) -> Process:
        """Make a process."""
        return Process(self, name)

    def run(self, main: Coroutine[Any, Any, T], *, limit_s: float) -> T:
        """Run until `main`, in the process `outside`, has ended; VirtualTimeError after `limit_s` virtual seconds."""
        task = self.outside.start(main, "main")
        asyncio._set_running_loop(self)
        self._running = True
        try:
            while not task.done():
                if not self._runnable:
                    self._advance(limit_s)
                self._run_moment(task)
        finally:
            self._running = False
            asyncio._set_running_loop(None)
        return task.result()

    def list_if_ready(self, process: Process) -> None:
        """Make a process runnable if it has a callback."""
        if process.ready and not process.listed:
            process.listed = True
            self._runnable.append(process)

    def unlist(self, process: Process) -> None:
        """Make a process not runnable."""
        if process.listed:
            process.listed = False
            self._runnable.remove(process)

    def _run_moment(self, task: "asyncio.Task[Any]") -> None:
        """Run callbacks until none is left at this time."""
        runnable, chance = self._runnable, self._chance
        most = self._steps_before + _MAX_STEPS_AT_ONE_MOMENT
        while runnable and not task.done():
            count = len(runnable)
            at = int(chance() * count) if count > 1 else 0
            process = runnable[at]
            handle = process.ready.popleft()
            if not process.ready:
                process.listed = False
                last = runnable.pop()
                if last is not process:
                    runnable[at] = last
            if not handle._cancelled:
                handle._run()
            process.steps += 1
            self.steps += 1
            if process.fuse is not None and process.steps >= process.fuse:
                process.fuse = None
                process.on_fuse()
            if self.steps > most:
                raise VirtualTimeError(f"{process.name} loops without a pause at {self._now_s:.3f} s: {handle!r}")

    def _advance(self, limit_s: float) -> None:
        """Advance the clock to the next timer, and queue every callback that is due then."""
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        if not timers:
            raise VirtualTimeError("no process has a callback to run, and no timer is set")
        if timers[0][0] > self._now_s:
            self._now_s = timers[0][0]
            self._steps_before = self.steps
        if self._now_s > limit_s:
            raise VirtualTimeError(f"not ended after {limit_s} virtual seconds")
        while timers and timers[0][0] <= self._now_s:
            _, _, timer, process = heapq.heappop(timers)
            if not timer._cancelled:
                process.ready.append(timer)
                if not process.frozen:
                    self.list_if_ready(process)
