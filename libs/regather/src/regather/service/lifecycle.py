"""The start and end of a process: watched side tasks with names, waiting for events, and stop signals."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Self

from regather.service.logs import get_logger

log = get_logger()


class WatchedTasks:
    """Side tasks by name. If one ends with an error, `failed` is set, and the process has to stop."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.failed = asyncio.Event()
        self.error: BaseException | None = None

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` as a task until it ends or cancel() is called."""
        task = asyncio.create_task(work, name=name)
        self._tasks[name] = task
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task.get_name(), None)
        if task.cancelled() or task.exception() is None:
            return
        self.error = task.exception()
        log.error("side-task-failed", task=task.get_name(), error=repr(self.error), exc_info=self.error)
        self.failed.set()

    async def cancel(self) -> None:
        """Cancel the tasks that still run and wait for their end."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.cancel()


async def first_of(*events: asyncio.Event, timeout_s: float | None = None) -> None:
    """Return once one of the events is set, or after the time limit."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


@contextlib.asynccontextmanager
async def on_stop(callback: Callable[[], None]) -> AsyncIterator[None]:
    """Call `callback` at SIGTERM and SIGINT while the block runs; remove the handlers afterwards."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, callback)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
