"""What the adapter does where the client leaves a record's future alone for ever."""

import asyncio
from typing import Any

import pytest

from regather.core.errors import ProducerDead
from regather.transport.kafka.failures import Limits
from regather.transport.kafka.producer import KafkaProducer


class SilentClient:
    """A client whose sender has died: it takes records, and nobody resolves their futures."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def send(self, *_args: Any, **_named: Any) -> "asyncio.Future[Any]":
        return asyncio.get_running_loop().create_future()


async def started(*, ack_s: float = 60.0) -> KafkaProducer:
    client: Any = SilentClient
    producer = KafkaProducer(client, max_record_bytes=1000, limits=Limits(ack_s=ack_s))
    await producer.start()
    return producer


async def test_whoever_waits_for_an_ack_hears_of_the_stop() -> None:
    producer = await started()
    acks = [asyncio.ensure_future(await producer.send("t", value=b"x")) for _ in range(3)]
    await asyncio.wait(acks, timeout=0.05)
    assert not any(ack.done() for ack in acks)
    await producer.stop()
    async with asyncio.timeout(5):
        for ack in acks:
            with pytest.raises(ProducerDead, match="never acked"):
                await ack


async def test_an_ack_that_does_not_come_makes_the_producer_dead() -> None:
    producer = await started(ack_s=0.05)
    async with asyncio.timeout(5):
        with pytest.raises(ProducerDead, match="never acked"):
            await (await producer.send("t", value=b"x"))
    assert producer.dead
