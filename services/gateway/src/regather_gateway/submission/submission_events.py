"""Publishes the events of one submission, waits for their acks, and sends a heartbeat between them."""

import asyncio
from collections.abc import Awaitable, Callable

from regather.core.errors import TransportError
from regather.core.ids import event_partition
from regather.core.model import Event, Identity, Uploading
from regather.core.status import JobStatus
from regather.service.logs import get_logger
from regather.transport.base import RecordAddress
from regather.wire.documents import encode_status
from regather.wire.events import encode_event
from regather_gateway.submission.producer_keeper import ProducerSession

log = get_logger()
ACCEPTED_KEY = b"accepted:"
"""Put before a job's key in job-status, so that compaction never keeps a gateway's status instead of the aggregator's.

A second submission's `accepted`, or a delayed one, may come after the end of the job in the log.
"""


class SubmissionEvents:
    """Sends the events of one job, version and submission, and a heartbeat every `heartbeat_s`."""

    def __init__(self, session: ProducerSession, owner: Identity, *, ack_timeout_s: float, heartbeat_s: float) -> None:
        self._ack_timeout_s = ack_timeout_s
        self._heartbeat_s = heartbeat_s
        self._key = owner.job_id.encode()
        self._partition = event_partition(owner.job_id, session.event_partitions)
        self._timer: asyncio.TimerHandle | None = None
        self._beating: asyncio.Task[None] | None = None
        self.session = session
        self.owner = owner

    async def send(self, event: Event) -> Awaitable[RecordAddress]:
        """Send one event; return an awaitable of its ack."""
        headers, value = encode_event(event)
        topic = self.session.topics.job_events
        return await self.session.producer.send(
            topic, value=value, key=self._key, headers=headers, partition=self._partition
        )

    async def publish(self, event: Event) -> RecordAddress:
        """Send one event and wait for its ack."""
        async with asyncio.timeout(self._ack_timeout_s):
            return await (await self.send(event))

    async def publish_status(self, status: JobStatus) -> Awaitable[RecordAddress]:
        """Send a status for the views of all gateways; return an awaitable of its ack."""
        headers, value = encode_status(status)
        topic = self.session.topics.job_status
        return await self.session.producer.send(
            topic, value=value, key=ACCEPTED_KEY + self._key, headers=headers, partition=self._partition
        )

    def start_heartbeat(self, sent: Callable[[], int], on_ack: Callable[[int], object]) -> None:
        """Send heartbeats from now on; `sent` returns the number of shards sent, `on_ack` gets each log time in ms."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._heartbeat_s, self._beat_later, sent, on_ack)

    def stop_heartbeat(self) -> None:
        """Send no more heartbeats."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat_later(self, sent: Callable[[], int], on_ack: Callable[[int], object]) -> None:
        self._beating = asyncio.create_task(self._beat(sent(), on_ack), name="heartbeat")
        self.start_heartbeat(sent, on_ack)

    async def _beat(self, shards: int, on_ack: Callable[[int], object]) -> None:
        try:
            on_ack((await self.publish(Uploading(self.owner, shards))).timestamp_ms)
        except (TransportError, TimeoutError) as error:  # the upload itself gets the same error and handles it
            log.warning("heartbeat-failed", job=self.owner.job_id, error=repr(error))
