"""Opens the job of a submission: claims a job with a key, then sends `opened` and the status `accepted`."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

from regather.core.errors import TransportError
from regather.core.model import Identity, JobId, Opened
from regather.core.status import JobStatus
from regather.core.submission import Acked, ClaimRead
from regather.transport.base import RecordAddress
from regather_gateway.problems import Problem, broker_unavailable
from regather_gateway.submission.shard_stream import UploadLimits
from regather_gateway.submission.submission_events import SubmissionEvents

ReadPast = Callable[[int], Awaitable[None]]
"""Called with an offset of the job's partition of job-status; returns once the view has read past it."""


class JobOpening:
    """Opens a new job."""

    def __init__(self, events: SubmissionEvents, opened: Opened, accepted: JobStatus, limits: UploadLimits) -> None:
        self._events = events
        self._opened = opened
        self._accepted = accepted
        self._limits = limits
        self._opened_ack: asyncio.Future[RecordAddress] | None = None
        self._status_ack: Awaitable[RecordAddress] | None = None

    async def claim(self) -> ClaimRead:
        """Claim nothing: no other submission knows the id of a job without a key."""
        return ClaimRead(first=True)

    async def open(self) -> None:
        """Send `opened` and `accepted`; TimeoutError if `opened` must be acked before the shards and is not in time."""
        opened_ack = await self._send_opened()
        self._status_ack = await self._events.publish_status(self._accepted)
        await self._wait_for(opened_ack)

    async def confirmed(self) -> Acked | None:
        """Wait until `opened` and `accepted` are acked; return when `opened` was appended."""
        opened = None if self._opened_ack is None else Acked((await self._opened_ack).timestamp_ms)
        if self._status_ack is not None:
            await self._status_ack
        self._opened_ack = self._status_ack = None
        return opened

    async def drop(self) -> None:
        """Wait for the acks that are still missing, and ignore their errors."""
        for ack in (self._opened_ack, self._status_ack):
            if ack is not None:
                with contextlib.suppress(TransportError):
                    await ack

    def gives_way(self) -> Problem:
        """Build the Problem of a submission whose key another submission is using."""
        return still_open(self._events.owner.job_id)

    def unknown(self, why: str) -> Problem:
        """Build the Problem of an upload that may have been committed or not."""
        job_id = self._events.owner.job_id
        detail = f"Kafka did not confirm the job ({why}); its state is unknown: poll status_url, or repeat"
        return broker_unavailable(detail, code="state-unknown", job_id=job_id, status_url=f"/v1/jobs/{job_id}")

    async def _send_opened(self) -> "asyncio.Future[RecordAddress]":
        self._opened_ack = asyncio.ensure_future(await self._events.send(self._opened))
        return self._opened_ack

    async def _wait_for(self, opened_ack: "asyncio.Future[RecordAddress]") -> None:
        if not self._limits.opened_before_shards:
            return
        await asyncio.wait([opened_ack], timeout=self._limits.ack_timeout_s)
        if not opened_ack.done():
            raise TimeoutError
        opened_ack.result()


class KeyedOpening(JobOpening):
    """Opens the job that an idempotency key names, if this submission claims the version first.

    `seen` lists the owners of the job's statuses that were read since before the claim. The claim is the status
    `accepted`, acked before `opened` is sent: every submission that opens a version has claimed it before, and only the
    first claim goes on. Without it, a client could get 202 for a submission whose `opened` came second; and if the
    gateway of the first submission died, the job would end as not sealed.
    """

    def __init__(
        self,
        events: SubmissionEvents,
        opened: Opened,
        accepted: JobStatus,
        limits: UploadLimits,
        *,
        read_past: ReadPast,
        seen: Sequence[Identity],
    ) -> None:
        super().__init__(events, opened, accepted, limits)
        self._read_past = read_past
        self._seen = seen

    async def claim(self) -> ClaimRead:
        """Send `accepted` as the claim; TimeoutError without an ack, BrokerUnavailable if the view does not read it."""
        async with asyncio.timeout(self._limits.ack_timeout_s):
            address = await (await self._events.publish_status(self._accepted))
        await self._read_past(address.offset)
        mine = self._events.owner
        return ClaimRead(first=next((seen for seen in self._seen if seen.version >= mine.version), mine) == mine)

    async def open(self) -> None:
        """Send `opened`; the claim has already published the status."""
        await self._wait_for(await self._send_opened())


def still_open(job_id: JobId) -> Problem:
    """Build the Problem 409 of a key whose submission has not ended."""
    detail = "another submission with this idempotency key is still open; repeat the request when it has ended"
    return Problem(409, "submission-open", detail, retry_after_s=2, job_id=job_id)
