"""Publishes the events of one submission, waits for their acks, and sends a heartbeat between them."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

from regather.core.errors import TransportError
from regather.core.ids import event_partition
from regather.core.model import Event, Identity, Uploading
from regather.core.status import JobStatus
from regather.service.logs import get_logger
from regather.transport.base import RecordAddress
from regather.wire.documents import encode_status
from regather.wire.events import encode_event
from regather_gateway.submission.producer_keeper import ProducerSession
from regather_gateway.submission.shard_stream import UploadLimits

log = get_logger()
ACCEPTED_KEY = b"accepted:"
"""Put before a job's key in job-status: compaction then never keeps a gateway's word instead of the aggregator's.

A second submission's `accepted`, or one that was long on its way, may stand behind the end of the job.
"""


class SubmissionEvents:
    """The events of one job, version and submission. `sent` returns how many shards were sent."""

    def __init__(
        self, session: ProducerSession, owner: Identity, limits: UploadLimits, sent: Callable[[], int]
    ) -> None:
        self._session = session
        self._owner = owner
        self._limits = limits
        self._sent = sent
        self._key = owner.job_id.encode()
        self._partition = event_partition(owner.job_id, session.event_partitions)
        self._acked_ms: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._beating: asyncio.Task[None] | None = None

    @property
    def partition(self) -> int:
        """The job's partition of job-events and job-status."""
        return self._partition

    @property
    def heartbeat_missed(self) -> bool:
        """Whether the log has a gap in this job's events of more than twice the heartbeat's interval.

        The aggregator may then have ended the job, before the seal in log order, and unknown to this gateway.
        """
        times_ms = sorted(self._acked_ms)
        longest_ms = max((later - earlier for earlier, later in pairwise(times_ms)), default=0)
        return longest_ms > 2 * self._limits.heartbeat_s * 1000

    def acked(self, address: RecordAddress) -> None:
        """Note the address of an event that was acked."""
        self._acked_ms.append(address.timestamp_ms)

    async def send(self, event: Event) -> Awaitable[RecordAddress]:
        """Send one event; what resolves at its ack."""
        headers, value = encode_event(event)
        topic = self._session.topics.job_events
        return await self._session.producer.send(
            topic, value=value, key=self._key, headers=headers, partition=self._partition
        )

    async def publish(self, event: Event) -> RecordAddress:
        """Send one event and wait for its ack."""
        async with asyncio.timeout(self._limits.ack_timeout_s):
            address = await (await self.send(event))
        self.acked(address)
        return address

    async def publish_status(self, status: JobStatus) -> Awaitable[RecordAddress]:
        """Send a status for the views of all gateways; what resolves at its ack."""
        headers, value = encode_status(status)
        topic = self._session.topics.job_status
        return await self._session.producer.send(
            topic, value=value, key=ACCEPTED_KEY + self._key, headers=headers, partition=self._partition
        )

    def start_heartbeat(self) -> None:
        """Send heartbeats from now on."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._limits.heartbeat_s, self._beat_later)

    def stop_heartbeat(self) -> None:
        """Send no more heartbeats."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat_later(self) -> None:
        self._beating = asyncio.create_task(self._beat(), name="heartbeat")
        self.start_heartbeat()

    async def _beat(self) -> None:
        try:
            await self.publish(Uploading(self._owner, self._sent()))
        except (TransportError, TimeoutError) as error:  # the sender itself meets the same error and answers for it
            log.warning("heartbeat-failed", job=self._owner.job_id, error=repr(error))
