"""Trap 38: records that retention took before they were read are an alarm, in the log and as a metric."""

from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka import TopicPartition as ClientPartition
from structlog.testing import capture_logs

from regather.testing.contract import World
from regather.testing.waiting import eventually
from regather.transport.base import Committed, TopicPartition
from regather_aggregator.app import Aggregator
from regather_worker.app import Worker

pytestmark = pytest.mark.kafka


async def test_trap_38_the_client_goes_on_at_the_beginning_and_says_nothing(
    direct: World, raw: Any, names: Iterator[str]
) -> None:
    topic, group = await direct.topic(), next(names)
    tp = ClientPartition(topic, 0)
    await direct.write(topic, *[b"%d" % n for n in range(6)])
    member = await direct.member(group, topic)
    await eventually(lambda: member.owned, what="the share")
    await member.consumer.commit({TopicPartition(*tp): Committed(1, "")})
    await member.leave()
    await direct.delete_records(TopicPartition(*tp), 4)
    consumer = await raw.consumer(group_id=group)
    consumer.subscribe([topic])
    assert (await consumer.getone()).value == b"4"


def lost(service: Worker | Aggregator) -> dict[str | None, float]:
    return {s.label: s.value for s in service.samples() if s.name == "regather_records_lost_total" and s.value}


def alarms(logs: list[Any]) -> list[tuple[int | None, int]]:
    return [(line["committed"], line["lost"]) for line in logs if line["event"] == "records-lost-to-retention"]


@pytest.mark.parametrize("had_committed", [True, False])
async def test_trap_38_a_worker_that_finds_shards_gone_says_so(
    installation: Any, direct: World, had_committed: bool
) -> None:
    tp = TopicPartition(installation.topics.shards_small, 0)
    if had_committed:
        worker = await installation.worker(direct.transport)
        await installation.shards(3)
        await eventually(lambda: worker.not_ready_because is None and worker_settled(worker, 3), what="three shards")
        assert lost(worker) == {}
        await installation.stop()
    else:
        await installation.shards(3)
    await installation.shards(5, first=3)
    await direct.delete_records(tp, 5)
    with capture_logs() as logs:
        worker = await installation.worker(direct.transport)
        await eventually(lambda: worker_settled(worker, 3), what="what is left")
    expected = (3, 2) if had_committed else (None, 5)
    assert alarms(logs) == [expected]
    assert lost(worker) == {tp.topic: expected[1]}


def worker_settled(worker: Worker, count: int) -> bool:
    return {s.label: s.value for s in worker.samples() if s.name == "regather_shards_settled_total"}.get(
        "done"
    ) == count


@pytest.mark.parametrize("topic", ["job_events", "results"])
async def test_trap_38_an_aggregator_that_finds_its_records_gone_says_so(
    installation: Any, direct: World, topic: str
) -> None:
    aggregator = await installation.aggregator(direct.transport)
    await installation.job(1)
    await installation.ended(1)
    tp = TopicPartition(getattr(installation.topics, topic), 0)

    async def committed() -> int:
        """Where the group stands, of events or of finals."""
        found = (await aggregator.events._consumer.committed([events]))[events]
        return found.offset if found else 0

    events = TopicPartition(installation.topics.job_events, 0)
    await eventually(committed, what="a commit")
    stood = await committed() if topic == "job_events" else 0
    await installation.stop()
    await installation.tell(*[installation.opened(number) for number in range(2, 6)])
    await direct.delete_records(tp, stood + 2 if topic == "job_events" else 1)
    with capture_logs() as logs:
        aggregator = await installation.aggregator(direct.transport)
        await eventually(lambda: aggregator.not_ready_because is None, what="a ready aggregator")
    expected = (stood, 2) if topic == "job_events" else (0, 1)
    assert alarms(logs) == [expected]
    assert lost(aggregator) == {tp.topic: expected[1]}
