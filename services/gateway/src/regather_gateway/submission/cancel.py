"""Cancels a job: the gateway writes a `cancel` event, and the aggregator decides in log order whether it counts."""

import asyncio

from regather.core.errors import TransportError
from regather.core.ids import event_partition
from regather.core.model import Cancel, Identity
from regather.service.logs import get_logger
from regather.wire.events import encode_event
from regather_gateway.problems import broker_unavailable, unconfirmed
from regather_gateway.submission.producer_keeper import ProducerKeeper

log = get_logger()


class Canceller:
    """Writes `cancel` events and waits up to `ack_timeout_s` for each ack."""

    def __init__(self, producers: ProducerKeeper, ack_timeout_s: float) -> None:
        self._producers = producers
        self._ack_timeout_s = ack_timeout_s

    async def cancel(self, owner: Identity) -> None:
        """Write the `cancel` event of a job; Problem 503 without an ack in time."""
        session = self._producers.current()
        headers, value = encode_event(Cancel(owner))
        partition = event_partition(owner.job_id, session.event_partitions)
        topic, key = session.topics.job_events, owner.job_id.encode()
        try:
            async with asyncio.timeout(self._ack_timeout_s):
                await (await session.producer.send(topic, value=value, key=key, headers=headers, partition=partition))
        except (TransportError, TimeoutError) as error:
            self._producers.discard(session)
            why = unconfirmed(error)
            raise broker_unavailable(f"Kafka did not confirm the cancellation ({why}); repeat it") from error
        log.info("job-cancelled", job=owner.job_id)
