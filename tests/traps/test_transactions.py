"""Traps 1, 2, 24: what a transaction of this client does not promise, and the fence that we put in its place."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiokafka import TopicPartition as ClientPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from regather.testing.contract import World
from regather.testing.fault_proxy import FaultProxy, Rule
from regather.testing.waiting import eventually
from regather.transport.base import TopicPartition, Transport
from regather.transport.kafka import Limits

pytestmark = pytest.mark.kafka


async def test_trap_1_the_client_commits_a_transaction_of_which_a_record_failed(
    direct: World, raw: Any, names: Iterator[str]
) -> None:
    topic = await direct.topic(max_record_bytes=100_000)
    producer = await raw.producer(transactional_id=next(names))
    await producer.begin_transaction()
    await producer.send_and_wait(topic, b"small", partition=0)
    failed = await producer.send(topic, b"x" * 150_000, partition=0)
    await producer.commit_transaction()
    with pytest.raises(MessageSizeTooLargeError):
        await failed
    records = await direct.read(await direct.reader(TopicPartition(topic, 0)), 1)
    assert [record.value for record in records] == [b"small"]


async def test_trap_2_the_broker_takes_offsets_of_a_group_from_a_transaction_of_nobody_in_it(
    direct: World, raw: Any, names: Iterator[str]
) -> None:
    topic, group = await direct.topic(), next(names)
    tp = TopicPartition(topic, 0)
    member = await direct.member(group, topic)
    await eventually(lambda: member.owned, what="an owner")
    stranger = await raw.producer(transactional_id=next(names))
    await stranger.begin_transaction()
    await stranger.send_offsets_to_transaction({ClientPartition(topic, 0): 77}, group)
    await stranger.commit_transaction()

    async def moved() -> bool:
        committed = (await member.consumer.committed([tp]))[tp]
        return committed is not None and committed.offset == 77

    await eventually(moved, what="the stranger's offset")
    assert member.owned == {tp}


@pytest.mark.parametrize("arrives", ["while the heir is at its fence", "after the heir has emitted"])
async def test_trap_2_a_zombie_whose_commit_is_late_adds_no_second_final(
    installation: Any, proxied_transport: Callable[..., Transport], fault_proxy: FaultProxy, arrives: str
) -> None:
    zombie, heir = [proxied_transport(name, Limits()) for name in ("zombie", "heir")]
    old = await installation.aggregator(zombie)
    await eventually(lambda: old.not_ready_because is None, what="the first owner")
    commit = fault_proxy.arm(Rule("EndTxn", "request", "hold", client_id="zombie"))
    await installation.job(1)
    await eventually(lambda: commit.fired, what="the commit on its way")
    silence = fault_proxy.arm(Rule("Heartbeat", "request", "hold", client_id="zombie"))
    fence = fault_proxy.arm(Rule("InitProducerId", "request", "hold", client_id="heir", count=1))
    new = await installation.aggregator(heir)
    await eventually(lambda: fence.fired, timeout_s=20, what="the heir at its fence")
    if arrives.startswith("while"):
        commit.release()
        await installation.ended(1)
    fence.release()
    await eventually(lambda: new.not_ready_because is None, what="the second owner")
    await installation.ended(1)
    commit.release()
    silence.release()
    await installation.job(2)
    await installation.ended(1, 2)
    assert await installation.finals() == {1: 1, 2: 1}


async def test_trap_24_no_transaction_of_ours_may_stay_open_for_longer_than_twenty_seconds(
    direct: World, raw: Any, names: Iterator[str]
) -> None:
    """The broker of these tests allows no more: it refuses the client's own time-out of a minute."""
    with pytest.raises(KafkaError, match="InvalidTransactionTimeout"):
        await raw.producer(transactional_id=next(names), transaction_timeout_ms=60_000)
    producer = await direct.transactional(next(names))
    await producer.begin()
    await producer.commit()
