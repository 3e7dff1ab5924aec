"""An alarm before retention takes the events of jobs that are open: the next restart could not fold them again."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from regather.core.errors import TransportError
from regather.service.logs import get_logger
from regather.topics.rules import FOREVER, HOUR_MS
from regather.transport.base import Transport

log = get_logger()
_EVERY_S = 60.0
_MARGIN = 0.1
"""So much of the retention before its end; deleting goes by whole segments, so records live longer, never shorter."""


class HasJobs(Protocol):
    """The owner of a partition, as the watch sees it."""

    def jobs_older_than(self, age_ms: int) -> int:
        """Open jobs that were opened longer ago, by the log's own time."""


class RetentionWatch:
    """Knows the retention of job-events and asks the owners for jobs that come near to it."""

    def __init__(
        self, transport: Transport, topic: str, owners: Callable[[], Iterable[HasJobs]], *, every_s: float = _EVERY_S
    ) -> None:
        self._transport = transport
        self._topic = topic
        self._owners = owners
        self._every_s = every_s
        self._retention_ms = FOREVER

    @property
    def jobs_near(self) -> int:
        """Open jobs of which the first event is deleted soon; 0 while the retention is not known."""
        if self._retention_ms == FOREVER:
            return 0
        age_ms = int(self._retention_ms * (1 - _MARGIN))
        return sum(owner.jobs_older_than(age_ms) for owner in self._owners())

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look()
            if self.jobs_near:
                log.error(
                    "jobs-near-retention",
                    jobs=self.jobs_near,
                    retention_h=round(self._retention_ms / HOUR_MS, 2),
                    advice=f"raise retention.ms of {self._topic}; `regather topics check` prints the command",
                )
            await asyncio.sleep(self._every_s)

    async def look(self) -> None:
        """Ask for the retention; without an answer what was known last stands."""
        try:
            state = (await self._transport.topic_states([self._topic])).get(self._topic)
        except TransportError as error:
            log.warning("retention-unknown", topic=self._topic, error=str(error))
            return
        if state is not None:
            self._retention_ms = int(state.config.get("retention.ms", FOREVER))
