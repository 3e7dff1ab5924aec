"""A redrive on the log: what it writes when Kafka, the log or the gateway fails half-way, and what follows for its key."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from regather.core.job_events import Assembled, InheritedLoaded
from regather.core.model import Abandoned, Failure, JobState, Opened, Outcome, Outcomes, Reason, Redriven, Sealed, Tick
from regather.core.partition_fold import FoldPolicy, PartitionFold
from regather.core.reassembly import Assemble, EmitFinal, LoadInherited
from regather.core.redrive import VersionHistory
from regather.testing.waiting import eventually
from regather.transport.base import Record, TopicPartition
from regather.transport.memory import MemoryBroker
from regather.wire.events import decode_event

KEY = {"Idempotency-Key": "k"}
SHARDS = 4


@pytest.fixture
async def gateway(start_gateway: Any) -> AsyncIterator[Any]:
    """A gateway that does not wait long for acks that never come."""
    async with start_gateway(ack_timeout_s=0.3) as harness:
        yield harness


async def aggregate(gateway: Any) -> None:
    """Fold job-events as the aggregator does, and publish the status of each version that ends."""
    fold, history = PartitionFold(FoldPolicy()), None
    for record in await gateway.records(gateway.topics.job_events):
        event = decode_event(record.headers, record.value)
        assert not isinstance(event, Tick)
        history = history or VersionHistory(event.owner, keep_outputs=True)
        todo = fold.handle(event, offset=record.offset, append_ms=record.timestamp_ms)
        while todo:
            instruction = todo.pop(0)
            if isinstance(instruction, Assemble):
                todo += fold.advance(instruction.job, Assembled(b"{}", "application/json"))
            elif isinstance(instruction, LoadInherited):
                todo += fold.advance(instruction.job, InheritedLoaded(dict(history.outcomes), history.sealed))
            elif isinstance(instruction, EmitFinal):
                status = instruction.job.status()
                await gateway.publish(status)
                await gateway.seen(
                    status.owner.job_id,
                    lambda document, ended=status: (
                        (document["version"], document["state"]) == (ended.owner.version, ended.state)
                    ),
                )
        history.apply(event)


async def partial_job(gateway: Any) -> str:
    """Submit a job with a key; shards 2 and 3 fail for good, so it ends as partial."""
    answer = await gateway.client.post(
        "/v1/jobs?kind=bytes.digest&shard_size=1024&on_error=skip", content=bytes(SHARDS * 1024), headers=KEY
    )
    assert answer.status_code == 202, answer.text
    owner = (await gateway.events())[0].owner
    failure = Failure(Reason.RAISED, "ValueError: no", (), None)
    done = [Outcome(seq, 1, 1024, 1, 1, b"out", failure=failure if seq > 1 else None) for seq in range(SHARDS)]
    await gateway.append_event(Outcomes(owner, "worker-1", done))
    await aggregate(gateway)
    return str(owner.job_id)


def of_event(name: str) -> Callable[[Record], bool]:
    return lambda record: ("event", name.encode()) in record.headers


def is_shard(record: Record) -> bool:
    return record.topic.startswith("shards.")


def reached_by(reached: asyncio.Event, condition: Callable[[Record], bool]) -> Callable[[Record], bool]:
    """The same condition; sets `reached` once it holds."""

    def holds(record: Record) -> bool:
        found = condition(record)
        if found:
            reached.set()
        return found

    return holds


async def second_version(gateway: Any) -> list[type]:
    """The events of the job's second version, in log order."""
    return [type(event) for event in await gateway.events() if event.owner.version == 2]


@pytest.mark.parametrize(
    ("unconfirmed", "written"),
    [
        (of_event("redriven"), [Redriven]),
        (is_shard, [Redriven]),
        (of_event("sealed"), [Redriven, Sealed]),
    ],
    ids=["claim", "shard", "seal"],
)
async def test_after_a_record_without_an_ack_a_redrive_writes_nothing_more_and_discards_its_producer(
    gateway: Any, broker: MemoryBroker, unconfirmed: Callable[[Record], bool], written: list[type]
) -> None:
    job_id = await partial_job(gateway)
    producer = gateway.app.state.gateway.producers.current().producer
    broker.faults.withholds_ack = unconfirmed

    answer = await gateway.client.post(f"/v1/jobs/{job_id}:redrive")

    assert (answer.status_code, answer.json()["code"]) == (503, "state-unknown")
    await eventually(lambda: producer.dead, what="the end of the producer that confirmed nothing")
    assert await second_version(gateway) == written


@pytest.mark.parametrize("at", ["shards", "seal"])
async def test_a_redrive_that_is_broken_off_abandons_its_version_at_once(
    gateway: Any, broker: MemoryBroker, at: str
) -> None:
    job_id = await partial_job(gateway)
    status = gateway.app.state.gateway.view.get(job_id)
    reached = asyncio.Event()
    broker.faults.withholds_ack = reached_by(reached, of_event("sealed") if at == "seal" else is_shard)
    redrive = asyncio.create_task(gateway.app.state.gateway.redriver.redrive(status, (), None))
    await asyncio.wait_for(reached.wait(), 10)
    redrive.cancel()
    await asyncio.wait([redrive])

    async def abandoned() -> bool:
        return (await second_version(gateway))[-1] is Abandoned

    await eventually(abandoned, what="the event that ends the version")


async def test_a_redrive_whose_records_cannot_be_read_costs_no_other_upload_its_producer(
    gateway: Any, broker: MemoryBroker
) -> None:
    job_id = await partial_job(gateway)
    producer = gateway.app.state.gateway.producers.current().producer
    broker.faults.unavailable = True

    answer = await gateway.client.post(f"/v1/jobs/{job_id}:redrive")

    broker.faults.unavailable = False
    assert (answer.status_code, answer.json()["code"]) == (503, "broker-unavailable")
    assert gateway.app.state.gateway.producers.current().producer is producer
    assert await second_version(gateway) == []


async def test_a_redrive_whose_claim_is_not_read_back_costs_no_other_upload_its_producer(
    gateway: Any, broker: MemoryBroker
) -> None:
    job_id = await partial_job(gateway)
    producer = gateway.app.state.gateway.producers.current().producer

    def cut_off(record: Record) -> bool:
        broker.faults.unavailable = of_event("redriven")(record)
        return False

    broker.faults.withholds_ack = cut_off

    answer = await gateway.client.post(f"/v1/jobs/{job_id}:redrive")

    broker.faults.unavailable = False
    assert (answer.status_code, answer.json()["code"]) == (503, "state-unknown")
    assert gateway.app.state.gateway.producers.current().producer is producer
    assert await second_version(gateway) == [Redriven]


async def test_a_redrive_whose_payloads_expire_meanwhile_abandons_its_version(
    gateway: Any, broker: MemoryBroker
) -> None:
    job_id = await partial_job(gateway)
    shards = await gateway.shards()

    def expires(record: Record) -> bool:
        for shard in shards if of_event("redriven")(record) else ():
            broker.delete_records(TopicPartition(shard.topic, shard.partition), shard.offset + 1)
        return False

    broker.faults.withholds_ack = expires
    answer = await gateway.client.post(f"/v1/jobs/{job_id}:redrive")

    assert (answer.status_code, answer.json()["code"]) == (410, "redrive-too-late")
    assert await second_version(gateway) == [Redriven, Abandoned]


async def abandoned_redrive(gateway: Any, broker: MemoryBroker) -> str:
    """A job whose first version has a result, and whose redrive was given up before its seal."""
    job_id = await partial_job(gateway)
    status = gateway.app.state.gateway.view.get(job_id)
    reached = asyncio.Event()
    broker.faults.withholds_ack = reached_by(reached, is_shard)
    redrive = asyncio.create_task(gateway.app.state.gateway.redriver.redrive(status, (), None))
    await asyncio.wait_for(reached.wait(), 10)
    redrive.cancel()
    await asyncio.wait([redrive])
    broker.faults.withholds_ack = lambda _record: False
    await eventually(lambda: _abandoned(gateway), what="the event that ends the version")
    await aggregate(gateway)
    return job_id


async def _abandoned(gateway: Any) -> bool:
    return any(isinstance(event, Abandoned) for event in await gateway.events())


async def test_a_key_whose_redrive_was_abandoned_does_not_run_its_job_from_the_start(
    gateway: Any, broker: MemoryBroker
) -> None:
    job_id = await abandoned_redrive(gateway, broker)

    again = await gateway.client.post("/v1/jobs?kind=bytes.digest", content=bytes(SHARDS * 1024), headers=KEY)

    assert (again.status_code, again.headers.get("idempotent-replayed")) == (200, "true")
    assert (again.json()["job_id"], again.json()["version"], again.json()["reason"]) == (job_id, 2, "not-sealed")
    assert len([event for event in await gateway.events() if isinstance(event, Opened)]) == 1


async def test_a_key_whose_job_is_being_redriven_names_that_job(gateway: Any) -> None:
    job_id = await partial_job(gateway)
    ended = gateway.app.state.gateway.view.get(job_id)
    begun = replace(ended, owner=ended.owner._replace(version=2), state=JobState.SPLITTING, total=None, redriven=True)
    await gateway.publish(begun)
    await gateway.seen(job_id, lambda document: document["version"] == 2)

    again = await gateway.client.post("/v1/jobs?kind=bytes.digest", content=bytes(SHARDS * 1024), headers=KEY)

    assert (again.status_code, again.headers.get("idempotent-replayed")) == (202, "true")
    assert (again.json()["job_id"], again.json()["version"]) == (job_id, 2)


async def test_a_job_whose_redrive_was_abandoned_can_be_redriven_again(gateway: Any, broker: MemoryBroker) -> None:
    job_id = await abandoned_redrive(gateway, broker)

    answer = await gateway.client.post(f"/v1/jobs/{job_id}:redrive")

    assert (answer.status_code, answer.json()["version"]) == (202, 3)
    assert [event.seqs for event in await gateway.events() if isinstance(event, Redriven)] == [((2, 3),)] * 2
