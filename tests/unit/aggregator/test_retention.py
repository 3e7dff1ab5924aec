"""The alarm before retention takes the events of open jobs."""

import asyncio
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from regather.testing.waiting import eventually
from regather.topics.rules import TopicSpec
from regather.transport.memory import MemoryBroker, MemoryTransport
from regather_aggregator.retention import RetentionWatch


class Owner:
    """Has one open job of a certain age."""

    def __init__(self, age_ms: int) -> None:
        self.age_ms = age_ms

    def jobs_older_than(self, age_ms: int) -> int:
        return int(self.age_ms > age_ms)


@contextmanager
def running(broker: MemoryBroker, *owners: Owner) -> Iterator[tuple[RetentionWatch, list[MutableMapping[str, Any]]]]:
    watch = RetentionWatch(MemoryTransport(broker), "job-events", lambda: owners, every_s=0.001)
    with capture_logs() as logs:
        task = asyncio.create_task(watch.run())
        yield watch, logs
        task.cancel()


def broker_keeping(retention_ms: str) -> MemoryBroker:
    broker = MemoryBroker()
    broker.create(TopicSpec("job-events", 1, 100, {"retention.ms": retention_ms}))
    return broker


async def test_jobs_that_have_lived_through_nine_tenths_of_it_are_counted_and_told() -> None:
    with running(broker_keeping("10000"), Owner(9_001), Owner(9_000), Owner(20_000)) as (watch, logs):
        await eventually(lambda: logs, what="the alarm")
        assert watch.jobs_near == 2
    assert (logs[0]["event"], logs[0]["jobs"], logs[0]["log_level"]) == ("jobs-near-retention", 2, "error")


async def test_what_was_known_last_counts_while_no_broker_answers() -> None:
    broker = broker_keeping("10000")
    with running(broker, Owner(9_500)) as (watch, logs):
        await eventually(lambda: logs, what="the alarm")
        broker.faults.unavailable = True
        await eventually(lambda: any(entry["event"] == "retention-unknown" for entry in logs), what="a look in vain")
        assert watch.jobs_near == 1


@pytest.mark.parametrize("config", [{}, {"retention.ms": "-1"}, None], ids=["not said", "for ever", "no topic"])
async def test_without_a_retention_nothing_is_near_its_end(config: dict[str, str] | None) -> None:
    broker = MemoryBroker()
    if config is not None:
        broker.create(TopicSpec("job-events", 1, 100, config))
    with running(broker, Owner(10**12)) as (watch, logs):
        for _ in range(2):
            await watch.look()
        assert (watch.jobs_near, logs) == (0, [])
