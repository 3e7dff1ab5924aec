"""An executor without child processes, for tests and plug-in authors: same results, no isolation, no time limits."""

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from regather.children.failure_text import explain
from regather.children.processor_calls import ProcessorCalls
from regather.children.work import Call, Work
from regather.core.execution import Done, Failed, Result
from regather.processors.base import Processor
from regather.processors.registry import Registry


class InlineExecutor:
    """Runs processors in this process, one item after the other."""

    def __init__(self, processors: Mapping[str, Processor[Any]], slots: int = 1) -> None:
        self._processors = processors
        self._calls = ProcessorCalls(processors if isinstance(processors, Registry) else Registry(processors))
        self._slots = slots
        self.executions: list[tuple[int, int]] = []
        """(seq, attempt) of every shard that ran."""

    @property
    def slots(self) -> int:
        """Number of works that a worker may run at once."""
        return self._slots

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the kinds that it can run."""
        return tuple(self._processors)

    async def start(self) -> None:
        """Do nothing: there are no children to start."""

    async def stop(self, timeout_s: float) -> None:
        """Do nothing: there are no children to stop."""

    async def run(self, work: Work) -> list[Result]:
        """Run the items in this process; return one result for each."""
        if work.call is Call.MERGE:
            return [self._attempt(work, partial(self._calls.merge, work))]
        calls = [partial(self._calls.run, work, item) for item in work.items]
        if work.call is Call.SPLIT:  # in a thread: it waits for the reader of its FIFO
            return [await asyncio.to_thread(self._attempt, work, call) for call in calls]
        if work.call is not Call.INSPECT:
            self.executions += [(item.seq, item.attempt) for item in work.items]
        return [self._attempt(work, call) for call in calls]

    def _attempt(self, work: Work, call: Callable[[], bytes]) -> Result:
        started_ms = time.time_ns() // 1_000_000
        try:
            return Done(call(), started_ms, 1)
        except Exception as error:
            failure = explain(error, self._processors.get(work.kind))
            return Failed(failure.reason, failure.text, started_ms, 1, failure.retryable, failure.trace)
