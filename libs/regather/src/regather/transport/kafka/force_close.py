"""Force-closes a client that does not stop by itself (ADR 0015).

The client's own stop() waits for answers that never come. Cancelling it would leave its tasks running: a sender that
sends again when the broker is back, a member that sends heartbeats for partitions that nobody reads. There is no
documented way to end these tasks, so this module uses the client's private attributes. A test checks that no task is
left.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import ProducerClosed

_ROUNDS, _ROUND_S = 5, 0.2


async def end_fetches(client: AIOKafkaConsumer) -> None:
    """End the fetch task before stop(), which could wait for ever: right after an assignment it ignores a cancel."""
    if client._fetcher is not None:
        await _end([client._fetcher._fetch_task])


async def force_close_producer(client: AIOKafkaProducer) -> None:
    """End the sender and fail every waiting record; stop() then closes the connections."""
    await _end([client._sender.sender_task])
    client._message_accumulator.fail_all(ProducerClosed())


async def force_close_consumer(client: AIOKafkaConsumer) -> None:
    """End the tasks that keep the membership and fetch, and close the connections."""
    coordinator: Any = client._coordinator
    names = ("_coordination_task", "_heartbeat_task", "_commit_refresh_task", "_reset_committed_task")
    await _end([getattr(coordinator, name, None) for name in names])
    if client._fetcher is not None:
        await client._fetcher.close()
    await client._client.close()


async def _end(tasks: "Iterable[asyncio.Task[Any] | None]") -> None:
    """Cancel the tasks until they have ended: some of them swallow the first cancellation."""
    left = {task for task in tasks if task is not None and not task.done()}
    for _ in range(_ROUNDS):
        for task in left:
            task.cancel()
        if left:
            _, left = await asyncio.wait(left, timeout=_ROUND_S)
