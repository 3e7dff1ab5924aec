"""The view of all jobs, in virtual time over the memory broker."""

import asyncio
import contextlib
import random

from regather.core.model import JobId
from regather.testing.simulation.event_loop import VirtualLoop
from regather.testing.waiting import eventually
from regather.topics.rules import TopicSpec
from regather.transport.memory import MemoryBroker, MemoryTransport
from regather_gateway.views.status_view import JobTable, StatusView

TOPIC = "job-status"
UNKNOWN = JobId("01a213da-5d73-7db9-ba01-915d67659584")


async def seconds_to_know_that_a_job_is_unknown() -> float:
    """How long find() takes where the log ends with the marker of a transaction that was committed during a poll."""
    transport = MemoryTransport(MemoryBroker())
    await transport.create_topics([TopicSpec(TOPIC, 1, 1_000, {})])
    view = StatusView(transport, TOPIC, JobTable(max_ended=10, max_inline_bytes=0))
    following = asyncio.create_task(view.run())
    producer = transport.transactional_producer("t", max_record_bytes=1_000)
    await producer.start()
    await producer.begin()
    await (await producer.send(TOPIC, value=b"", key=b"k", headers=[], partition=0))
    await asyncio.sleep(0.5)  # virtual: the view follows, and polls
    await producer.commit()
    await eventually(lambda: view.unreadable, what="the record")
    begun_s = asyncio.get_running_loop().time()
    assert await view.find(UNKNOWN) is None
    took_s = asyncio.get_running_loop().time() - begun_s
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following
    return took_s


def test_an_unknown_job_is_known_to_be_unknown_before_the_poll_ends() -> None:
    loop = VirtualLoop(random.Random(1))  # type: ignore[abstract]  # typeshed has every method of AbstractEventLoop abstract
    assert loop.run(seconds_to_know_that_a_job_is_unknown(), limit_s=60) == 0
