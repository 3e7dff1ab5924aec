"""An executor in virtual time: children take a while, time out, crash, use up memory, and may take their worker along."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from regather.children.row_calls import call_shard
from regather.children.work import Call, Work, WorkItem
from regather.core.errors import UserError
from regather.core.execution import Done, Failed, NotRun, Result
from regather.core.model import Reason
from regather.processors.base import Processor
from simulation.kinds import Row, decode_rows

_FATAL = {"hang": Reason.TIMED_OUT, "crash": Reason.CRASHED, "oom": Reason.OUT_OF_MEMORY}


class Watcher(Protocol):
    """Sees what children do."""

    def began(self, rows: Sequence[Row], payload: bytes, attempt: int) -> None:
        """A child begins with a shard."""

    def deadly(self, payload: bytes) -> None:
        """A shard takes the whole worker along."""

    def deadly_merge(self) -> None:
        """A merge takes the whole aggregator along."""

    def busy(self, duration_s: float) -> None:
        """A slot was in use for so long."""


class SimulatedExecutor:
    """Slots of one process. `lost` is how often a child is lost without anybody's fault."""

    def __init__(
        self,
        processors: Mapping[str, Processor[Any]],
        slots: int,
        chance: random.Random,
        now_ms: Callable[[], int],
        watcher: Watcher,
    ) -> None:
        self._processors = processors
        self._slots = slots
        self._free = asyncio.Semaphore(slots)
        self._chance = chance
        self._now_ms = now_ms
        self._watcher = watcher
        self.lost = 0.0
        self.pace_s = 0.02

    @property
    def slots(self) -> int:
        return self._slots

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(self._processors)

    async def start(self) -> None:
        await asyncio.sleep(self._chance.random() * 0.05)

    async def stop(self, timeout_s: float) -> None:
        await asyncio.sleep(self._chance.random() * 0.05)

    async def run(self, work: Work) -> list[Result]:
        async with self._free:
            if work.call is Call.MERGE:
                return [await self._merge(work)]
            results: list[Result] = []
            for item in work.items:
                result = await self._item(work, item)
                results.append(result)
                if isinstance(result, NotRun) or (isinstance(result, Failed) and result.reason in _FATAL.values()):
                    break  # the child is gone, and what it had not begun is not run
            return results + [NotRun()] * (len(work.items) - len(results))

    async def _item(self, work: Work, item: WorkItem) -> Result:
        started_ms, rows = self._now_ms(), decode_rows(item.payload)
        if work.call in (Call.PROCESS, Call.STEP) and not item.rows:
            self._watcher.began(rows, item.payload, item.attempt)
        duration_s = self._chance.expovariate(1 / self.pace_s) + 0.001
        duration_s += sum(row.argument for row in rows if row.fate == "slow") / 1000
        fatal = next((row for row in rows if row.fate in _FATAL and item.attempt < row.argument), None)
        if fatal is not None and fatal.fate == "hang":
            duration_s = work.limits.wall_s
        await asyncio.sleep(duration_s)
        self._watcher.busy(duration_s)
        if any(row.fate == "deadly" and item.attempt < row.argument for row in rows):
            self._watcher.deadly(item.payload)
            await asyncio.sleep(3600)
        if self._chance.random() < self.lost:
            return NotRun(begun=True)
        duration_us = int(duration_s * 1e6)
        if fatal is not None:
            return Failed(_FATAL[fatal.fate], f"row {fatal.number}", started_ms, duration_us)
        processor = self._processors[work.kind]
        options = processor.options_model.model_validate_json(work.options or b"{}")
        return _attempt(lambda: call_shard(processor, work.call, item, options), started_ms, duration_us)

    async def _merge(self, work: Work) -> Result:
        started_ms, duration_s = self._now_ms(), self._chance.expovariate(1 / self.pace_s)
        await asyncio.sleep(duration_s)
        processor = self._processors[work.kind]
        options = processor.options_model.model_validate_json(work.options or b"{}")
        if getattr(options, "merge", "") == "deadly":
            self._watcher.deadly_merge()
            await asyncio.sleep(3600)
        if self._chance.random() < self.lost:
            return NotRun(begun=True)
        outputs = [None if item.missing else item.payload for item in work.items]
        return _attempt(lambda: processor.merge(outputs, options), started_ms, int(duration_s * 1e6))


def _attempt(call: Callable[[], Any], started_ms: int, duration_us: int) -> Result:
    try:
        return Done(call(), started_ms, duration_us)
    except UserError as error:
        return Failed(Reason.PERMANENT, f"{type(error).__name__}: {error}", started_ms, duration_us, retryable=False)
    except Exception as error:
        return Failed(Reason.RAISED, f"{type(error).__name__}: {error}", started_ms, duration_us)
