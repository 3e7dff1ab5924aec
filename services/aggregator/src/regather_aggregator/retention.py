"""Warns before retention deletes the events of open jobs, which the next restart could then not fold again."""

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
"""Warn in this last fraction of the retention. Kafka deletes whole segments, so no record lives shorter than that."""


class HasJobs(Protocol):
    """The part of a partition's owner that the watch uses."""

    def jobs_older_than(self, age_ms: int) -> int:
        """Return the number of open jobs that were opened more than `age_ms` ago, by log time."""


class RetentionWatch:
    """Reads the retention of job-events and counts the open jobs of all owners that come close to it."""

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
        """Number of open jobs whose first event is deleted soon; 0 while the retention is unknown or unlimited."""
        if self._retention_ms == FOREVER:
            return 0
        age_ms = int(self._retention_ms * (1 - _MARGIN))
        return sum(owner.jobs_older_than(age_ms) for owner in self._owners())

    async def run(self) -> None:
        """Check every `every_s` seconds until cancelled."""
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
        """Read the topic's retention; keep the last known value if no broker answers."""
        try:
            state = (await self._transport.topic_states([self._topic])).get(self._topic)
        except TransportError as error:
            log.warning("retention-unknown", topic=self._topic, error=str(error))
            return
        if state is not None:
            self._retention_ms = int(state.config.get("retention.ms", FOREVER))
