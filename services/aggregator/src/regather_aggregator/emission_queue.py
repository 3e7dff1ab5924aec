"""The queue for the next transaction of a partition: finals, and shards that a chain releases."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable

from regather.core.model import JobId
from regather.core.reassembly import JobFold
from regather_aggregator.emission import MAX_TRANSACTION_BYTES
from regather_aggregator.planned_records import Encoded, PlannedFinal, PlannedRelease


class EmissionQueue:
    """Filled by the fold, emptied by the emission loop."""

    def __init__(self) -> None:
        self._finals: deque[PlannedFinal] = deque()
        self._releases: dict[JobId, PlannedRelease] = {}
        self._wake = asyncio.Event()

    def add_final(self, plan: PlannedFinal) -> None:
        """Queue a final."""
        self._finals.append(plan)
        self._wake.set()

    def add_release(self, release: PlannedRelease) -> None:
        """Queue a release; it replaces an earlier one of the same job, whose shard has run already."""
        self._releases[release.job.owner.job_id] = release
        self._wake.set()

    def wake(self) -> None:
        """End the wait() that is under way, or else the next one."""
        self._wake.set()

    async def wait(self, limit_s: float) -> None:
        """Return once something is queued, on wake(), or after `limit_s` seconds."""
        if not (self._finals or self._releases):
            with contextlib.suppress(TimeoutError):  # time for a progress report
                async with asyncio.timeout(limit_s):
                    await self._wake.wait()
        self._wake.clear()

    def pop_finals(self) -> list[PlannedFinal]:
        """Remove and return as many finals as fill a transaction; segments do not count: they are written before."""
        taken: list[PlannedFinal] = []
        size_bytes = 0
        while self._finals and size_bytes < MAX_TRANSACTION_BYTES:
            taken.append(self._finals.popleft())
            size_bytes += taken[-1].size_bytes
        return taken

    def pop_releases(self, is_open: Callable[[JobFold], bool]) -> list[Encoded]:
        """Remove all releases; return the records of those jobs that are still open."""
        releases, self._releases = self._releases, {}
        return [release.record for release in releases.values() if is_open(release.job)]
