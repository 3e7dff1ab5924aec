"""The gateway's producer: whoever had the one before takes nobody else's along."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from regather.service.environment import Environment
from regather.testing.waiting import eventually
from regather.topics.layout import Size, Topics, topic_specs
from regather.transport.memory import MemoryBroker, MemoryTransport
from regather_gateway.submission.producing import ProducerKeeper


@contextlib.asynccontextmanager
async def running_producers() -> AsyncGenerator[ProducerKeeper]:
    transport = MemoryTransport(MemoryBroker())
    await transport.create_topics(topic_specs(Topics(), Size.EMBEDDED))
    producers = ProducerKeeper(transport, Topics(), Environment())
    running = asyncio.create_task(producers.run())
    try:
        await eventually(lambda: producers.ready, what="the first producer")
        yield producers
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_a_producer_that_was_replaced_takes_its_successor_not_along() -> None:
    async with running_producers() as producers:
        first = producers.current()
        producers.discard(first)
        await eventually(lambda: producers.ready, what="the second producer")
        second = producers.current()
        producers.discard(first)  # a slow upload that had begun with it fails only now
        for _ in range(5):
            await asyncio.sleep(0)
        assert producers.current() is second
        assert not second.producer.dead


async def test_a_producer_that_nobody_discards_is_replaced_when_it_is_dead() -> None:
    async with running_producers() as producers:
        await producers.current().producer.stop()  # as one that died of a record nobody needs any more
        assert not producers.ready
        await eventually(lambda: producers.ready, what="a new producer, though nobody asked for one")
