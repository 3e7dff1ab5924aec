"""The gateway's producer: whoever had the one before takes nobody else's along."""

import asyncio

from regather.runtime.host import Host
from regather.testing.waiting import eventually
from regather.transport.memory import MemoryBroker, MemoryTransport
from regather.transport.topics import Size, Topics, topic_specs
from regather_gateway.producing import Producers


async def test_a_producer_that_was_replaced_takes_its_successor_not_along() -> None:
    transport = MemoryTransport(MemoryBroker())
    await transport.create_topics(topic_specs(Topics(), Size.EMBEDDED))
    producers = Producers(transport, Topics(), Host())
    running = asyncio.create_task(producers.run())
    try:
        await eventually(lambda: producers.ready, what="the first producer")
        first = producers.current()
        producers.discard(first)
        await eventually(lambda: producers.ready, what="the second producer")
        second = producers.current()
        producers.discard(first)  # a slow upload that had begun with it fails only now
        for _ in range(5):
            await asyncio.sleep(0)
        assert producers.current() is second
        assert not second.producer.dead
    finally:
        running.cancel()
        await asyncio.wait([running])
