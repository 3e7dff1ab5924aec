"""An executor without child processes, for tests and plug-in authors: same results, no isolation, no time limits."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from regather.children.failure_text import explain
from regather.children.file_cut import CutOrder, cut_into_fifo, inspect_head
from regather.children.row_calls import call_shard
from regather.children.work import Call, Work
from regather.core.execution import Done, Failed, Result
from regather.processors.base import Processor


class InlineExecutor:
    """Runs processors in this process, one item after the other."""

    def __init__(self, processors: Mapping[str, Processor[Any]], slots: int = 1) -> None:
        self._processors = processors
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
        processor = self._processors[work.kind]
        options = processor.options_model.model_validate_json(work.options or b"{}")
        if work.call is Call.MERGE:
            outputs = [None if item.missing else item.payload for item in work.items]
            return [_attempt(lambda: processor.merge(outputs, options), processor)]
        if work.call is Call.SPLIT:
            order = CutOrder.decode(work.items[0].payload, work.items[0].carry)
            return [await asyncio.to_thread(_attempt, lambda: cut_into_fifo(processor, options, order), processor)]
        if work.call is Call.INSPECT:
            return [_attempt(lambda: inspect_head(processor, options, work.items[0]), processor)]
        results = []
        for item in work.items:
            self.executions.append((item.seq, item.attempt))
            results.append(_attempt(lambda item=item: call_shard(processor, work.call, item, options), processor))
        return results


def _attempt(call: Any, processor: Processor[Any]) -> Result:
    started_ms = time.time_ns() // 1_000_000
    try:
        return Done(call(), started_ms, 1)
    except Exception as error:
        failure = explain(error, processor)
        return Failed(failure.reason, failure.text, started_ms, 1, failure.retryable, failure.trace)
