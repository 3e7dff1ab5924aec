"""What a gateway says of a job while it sends its shards: events with their acks, and signs of life in between."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

from regather.core.errors import TransportError
from regather.core.ids import event_partition
from regather.core.model import Event, Identity, Uploading
from regather.core.status import JobStatus
from regather.core.wire.documents import encode_status
from regather.core.wire.events import encode_event
from regather.runtime.logs import get_logger
from regather.transport.base import RecordAddress
from regather_gateway.producing import Line
from regather_gateway.shard_stream import Pace

log = get_logger()
ACCEPTED_KEY = b"accepted:"
"""Put before a job's key in job-status: compaction then never keeps a gateway's word instead of the aggregator's.

A second submission's `accepted`, or one that was long on its way, may stand behind the end of the job.
"""


class JobVoice:
    """Speaks of one job, version and submission. `sent` says how many shards are on their way."""

    def __init__(self, line: Line, owner: Identity, pace: Pace, sent: Callable[[], int]) -> None:
        self._line = line
        self._owner = owner
        self._pace = pace
        self._sent = sent
        self._key = owner.job_id.encode()
        self._partition = event_partition(owner.job_id, line.event_partitions)
        self._heard_ms: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._sign: asyncio.Task[None] | None = None

    @property
    def partition(self) -> int:
        """The job's partition of job-events and job-status."""
        return self._partition

    @property
    def fell_silent(self) -> bool:
        """Whether the log holds nothing of this job for more than twice the time between signs of life.

        Then the aggregator may have closed the job for its silence, before the seal in log order and unknown here.
        """
        times_ms = sorted(self._heard_ms)
        longest_ms = max((later - earlier for earlier, later in pairwise(times_ms)), default=0)
        return longest_ms > 2 * self._pace.sign_of_life_s * 1000

    def heard(self, address: RecordAddress) -> None:
        """One of its events was appended to the log."""
        self._heard_ms.append(address.timestamp_ms)

    async def send(self, event: Event) -> Awaitable[RecordAddress]:
        """Send one event; what resolves at its ack."""
        headers, value = encode_event(event)
        topic = self._line.topics.job_events
        return await self._line.producer.send(
            topic, value=value, key=self._key, headers=headers, partition=self._partition
        )

    async def tell(self, event: Event) -> RecordAddress:
        """Send one event and wait for its ack."""
        async with asyncio.timeout(self._pace.ack_timeout_s):
            address = await (await self.send(event))
        self.heard(address)
        return address

    async def show(self, status: JobStatus) -> Awaitable[RecordAddress]:
        """Send a status for the views of all gateways; what resolves at its ack."""
        headers, value = encode_status(status)
        topic = self._line.topics.job_status
        return await self._line.producer.send(
            topic, value=value, key=ACCEPTED_KEY + self._key, headers=headers, partition=self._partition
        )

    def start_signs(self) -> None:
        """Give signs of life from now on."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._pace.sign_of_life_s, self._start_sign)

    def stop_signs(self) -> None:
        """Give no more signs of life."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start_sign(self) -> None:
        self._sign = asyncio.create_task(self._give_sign(), name="sign-of-life")
        self.start_signs()

    async def _give_sign(self) -> None:
        try:
            await self.tell(Uploading(self._owner, self._sent()))
        except (TransportError, TimeoutError) as error:  # the sender itself meets the same error and answers for it
            log.warning("sign-of-life-failed", job=self._owner.job_id, error=repr(error))
