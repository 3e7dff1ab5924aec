"""The audit's reading, over the broker in memory: both logs side by side, segments, what retention took, one job alone."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from e2e.forged_job import BREAKAGES, ForgedJob

from regather.core.errors import BrokerUnavailable
from regather.core.model import Tick
from regather.topics.layout import Size, Topics
from regather.transport.base import TopicPartition
from regather.transport.memory import MemoryBroker, MemoryTransport
from regather_cli.audit import AuditOptions, audit, joins

TOPICS = Topics()
CLEAN = {"audit": "clean", "jobs": 1, "finals": 1, "versions_checked": 1, "shards": 4, "open": 0, "inconclusive": {}}


class World:
    def __init__(self) -> None:
        self.now_ms = 1_000_000
        self.broker = MemoryBroker(lambda: self.now_ms)
        self.transport = MemoryTransport(self.broker)

    def job(self, number: int = 1) -> ForgedJob:
        return ForgedJob(self.transport, TOPICS, number)

    async def audit(self, **options: Any) -> dict[str, Any]:
        return await audit(self.transport, TOPICS, AuditOptions(**options))

    def forget(self, topic: str, before: int) -> None:
        self.broker.delete_records(TopicPartition(topic, 0), before)


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    found = World()
    await found.job().create()
    yield found


def counts(document: dict[str, Any]) -> dict[str, Any]:
    return {name: document[name] for name in CLEAN}


@pytest.mark.parametrize("in_segments", [False, True])
async def test_a_job_that_is_right_is_clean(world: World, in_segments: bool) -> None:
    job = world.job()
    job.in_segments = in_segments
    await job.write()
    assert counts(await world.audit()) == CLEAN


async def test_nothing_at_all_is_clean(world: World) -> None:
    document = await world.audit()
    assert (document["audit"], document["finals"]) == ("clean", 0)


async def test_a_final_whose_time_is_before_that_of_its_events_is_judged_when_they_were_read(world: World) -> None:
    job = world.job()
    await job.tell(*[Tick()] * 600)  # more than are read at once
    await job.open()
    letter = await job.bury()
    await job.settle(letter)
    world.now_ms -= 900_000
    await job.end(letter)
    assert counts(await world.audit()) == CLEAN


async def test_one_job_alone(world: World) -> None:
    await world.job(1).write()
    await BREAKAGES["a wrong byte"][0](world.job(2))
    assert counts(await world.audit(job=world.job(1).owner.job_id)) == CLEAN
    document = await world.audit(job=world.job(2).owner.job_id)
    assert (document["audit"], document["wrong"], document["finals"]) == ("violations", 1, 1)
    assert [entry["job"] for entry in document["violations"]] == [world.job(2).owner.job_id]
    assert (await world.audit())["versions_checked"] == 2


async def test_jobs_of_every_partition() -> None:
    world = World()
    await world.job().create(Size.COMPOSE)
    jobs = [
        ForgedJob(world.transport, TOPICS, number, partitions=4, in_segments=number % 2 == 0) for number in range(9)
    ]
    for job in jobs:
        await job.write()
    assert {len(world.broker.log(TopicPartition(TOPICS.results, n)).read(0, None)[0]) > 0 for n in range(4)} == {True}
    assert (await world.audit())["versions_checked"] == 9
    for job in jobs:
        assert counts(await world.audit(job=job.owner.job_id)) == CLEAN


async def test_partition_counts_that_differ_are_refused(world: World) -> None:
    await world.transport.grow_topic(TOPICS.segments, 2)
    with pytest.raises(BrokerUnavailable, match="partition counts differ"):
        await world.audit()


async def test_a_version_whose_elder_was_deleted_could_not_be_told(world: World) -> None:
    job = world.job()
    await job.send(TOPICS.results, [], b"the final of version 1")
    job.version = 2
    await job.write()
    world.forget(TOPICS.results, 1)
    document = await world.audit()
    assert (document["audit"], document["inconclusive"]) == ("inconclusive", {"opened_gone": 1})


async def test_violations_are_counted_in_full_and_listed_up_to_a_limit(world: World) -> None:
    for number in range(1, 6):
        await BREAKAGES["a wrong byte"][0](world.job(number))
    document = await world.audit(limit=2)
    assert (document["wrong"], len(document["violations"])) == (5, 2)


async def test_what_retention_took_could_not_be_told(world: World) -> None:
    job = world.job()
    job.in_segments = True
    await job.write()
    world.forget(TOPICS.segments, 1)
    assert counts(await world.audit()) == CLEAN | {"audit": "inconclusive", "inconclusive": {"segment_gone": 1}}
    world.forget(TOPICS.dead_letters, 1)
    document = await world.audit()
    assert document["inconclusive"] == {"segment_gone": 1, "letter_gone": 1}
    world.forget(TOPICS.job_events, 1)
    document = await world.audit()
    assert (document["audit"], document["inconclusive"]) == ("inconclusive", {"opened_gone": 1})


async def test_a_job_that_may_still_end_is_open_until_its_grace_is_over(world: World) -> None:
    job = world.job()
    job.deadline_ms = 5_000
    await BREAKAGES["no final"][0](job)
    world.now_ms += 14_999
    await world.job(2).write()
    assert (await world.audit(grace_s=10))["open"] == 0
    assert (await world.audit(grace_s=10))["inconclusive"] == {"log_time": 1}  # this machine's clock is far ahead
    world.now_ms += 1
    await world.job(3).write()
    document = await world.audit(grace_s=10)
    assert (document["unfinished"], document["inconclusive"]) == (1, {})


async def test_topics_that_are_missing_are_named() -> None:
    with pytest.raises(BrokerUnavailable, match=r"topics are missing: results, segments, job-events, dead-letters"):
        await audit(MemoryTransport(MemoryBroker()), TOPICS, AuditOptions())


def test_kinds_say_whether_their_outputs_are_joined() -> None:
    assert joins("frames.motion", b'{"height":480,"width":640}') is True
    assert joins("frames.motion", b'{"height":2160,"width":3840}') is False
    assert joins("frames.motion", b"{}") is False
    assert joins("bytes.digest", b"{}") is False
    assert joins("table.etl", b'{"group_by":"a","aggregate":"n=count()"}') is False
    assert joins("table.etl", b'{"select":"a"}') is True
    assert joins("no.such.kind", b"{}") is None
    assert joins("bytes.digest", b'{"option":"of another version"}') is None
