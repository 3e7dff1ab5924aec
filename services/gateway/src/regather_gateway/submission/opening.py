"""Which job a submission belongs to, a new one or that of its idempotency key, and how it claims and opens that job."""

import asyncio
from collections.abc import Awaitable, Callable, Container, Sequence
from dataclasses import dataclass, replace

from regather.core.errors import TransportError
from regather.core.ids import keyed_job_id, submission_id, uuid7
from regather.core.model import Identity, JobId, JobState, Opened, Reason, Sealed
from regather.core.status import JobStatus
from regather.core.submission import Acked, ClaimRead
from regather.service.environment import Environment
from regather.transport.base import RecordAddress
from regather_gateway.problems import Problem, broker_unavailable
from regather_gateway.settings import GatewaySettings
from regather_gateway.submission.job_spec import TENANT, JobSpec
from regather_gateway.submission.producing import SubmissionEvents, UploadLimits
from regather_gateway.views.status_view import StatusView

ReadPast = Callable[[int], Awaitable[None]]
"""Called with an offset of the job's partition of job-status; returns once the view has read past it."""

_ALONE_IN_ACK_TIMEOUTS = 3
"""A job that stays `accepted` for this many ack time-outs was never opened: its gateway died between two records."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A committed job; `replayed` is true if the idempotency key belongs to an existing job."""

    status: JobStatus
    replayed: bool = False


class JobKeys:
    """Finds the job of a key in the view, and chooses the ids of new jobs."""

    def __init__(self, settings: GatewaySettings, view: StatusView, environment: Environment) -> None:
        self._settings = settings
        self._view = view
        self._environment = environment

    async def replay(self, spec: JobSpec, under_way: Container[JobId]) -> Receipt | None:
        """Return the existing job of the spec's key; None if there is none, or if it may begin again.

        Raises Problem 409 while another submission with this key is open, here (`under_way`) or at another gateway, and
        422 if the key belongs to a different job.
        """
        if spec.key is None:
            return None
        job_id = keyed_job_id(TENANT, spec.key)
        if job_id in under_way:
            raise still_open(job_id)
        status = await self._view.find(job_id)
        if status is None or self._may_begin_again(status):
            return None
        if status.kind != spec.kind:
            raise Problem(422, "idempotency-key-reused", f"the key belongs to a {status.kind} job", job_id=job_id)
        if status.uploading:
            raise still_open(job_id)
        if spec.digest and status.digest and status.digest != digest_text(spec.digest):
            raise Problem(422, "idempotency-key-reused", "the key names a job with another body", job_id=job_id)
        return Receipt(status, replayed=True)

    def accepted(self, spec: JobSpec) -> JobStatus:
        """Return the first status of the spec's job, with a new submission id."""
        now_ms = self._environment.now_ms()
        randomness = self._environment.random_bytes(18)
        job_id = uuid7(now_ms, randomness) if spec.key is None else keyed_job_id(TENANT, spec.key)
        return JobStatus(
            owner=Identity(job_id, submission_id(randomness[10:]), self._version(job_id)),
            state=JobState.ACCEPTED,
            kind=spec.kind,
            tenant=TENANT,
            label=spec.label,
            on_error=spec.on_error,
            created_ms=now_ms,
            updated_ms=now_ms,
            deadline_ms=now_ms + spec.deadline_ms,
        )

    def receipt(self, accepted: JobStatus, sealed: Sealed) -> Receipt:
        """Return the receipt after the seal; Problem 409 if the job was closed before the seal."""
        owner = accepted.owner
        mine = replace(accepted, total=sealed.shards, size_bytes=sealed.size_bytes, digest=sealed.digest)
        truth = self._view.offer(mine)
        check_not_closed(truth)
        if truth.owner == owner or truth.state is JobState.ACCEPTED:
            return Receipt(truth)
        if truth.uploading:
            raise still_open(owner.job_id)
        return Receipt(truth, replayed=True)

    def _version(self, job_id: JobId) -> int:
        known = self._view.get(job_id)
        if known is None:
            return 1
        return known.owner.version + (1 if known.state.ended else 0)

    def _may_begin_again(self, status: JobStatus) -> bool:
        if status.state.ended:
            return status.never_uploaded
        alone_ms = self._environment.now_ms() - status.created_ms
        dead_ms = _ALONE_IN_ACK_TIMEOUTS * self._settings.ack_timeout_s * 1000
        return status.state is JobState.ACCEPTED and status.total is None and alone_ms > dead_ms


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
        acks = [asyncio.ensure_future(ack) for ack in (self._opened_ack, self._status_ack) if ack is not None]
        await asyncio.gather(*acks, return_exceptions=True)  # a time-out in confirmed() has cancelled one of them

    def second_claim_problem(self) -> Problem:
        """Build the Problem of a submission whose key another submission is using."""
        return still_open(self._events.owner.job_id)

    def unconfirmed_problem(self, why: str) -> Problem:
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
        """Send `accepted` as the claim; TimeoutError without an ack, Problem 503 if the view does not read it."""
        async with asyncio.timeout(self._limits.ack_timeout_s):
            address = await (await self._events.publish_status(self._accepted))
        try:
            await self._read_past(address.offset)
        except TransportError as error:  # a Problem: all acks are there, so the shared producer stays
            detail = f"the claim of the idempotency key is written, but {error}; nothing runs: repeat the request"
            raise broker_unavailable(detail, job_id=self._events.owner.job_id) from error
        mine = self._events.owner
        return ClaimRead(first=next((seen for seen in self._seen if seen.version >= mine.version), mine) == mine)

    async def open(self) -> None:
        """Send `opened`; the claim has already published the status."""
        await self._wait_for(await self._send_opened())


def check_not_closed(status: JobStatus) -> None:
    """Raise Problem 409 for a job that was closed because the heartbeats of its upload or redrive were missed."""
    if status.reason is Reason.NOT_SEALED:
        what, again = ("redrive", "redrive") if status.redriven else ("upload", "submit")
        detail = f"the job was closed while its {what} still ran ({status.error}); {again} it again"
        raise Problem(409, "closed-meanwhile", detail, job_id=status.owner.job_id)


def still_open(job_id: JobId) -> Problem:
    """Build the Problem 409 of a key whose submission has not ended."""
    detail = "another submission with this idempotency key is still open; repeat the request when it has ended"
    return Problem(409, "submission-open", detail, retry_after_s=2, job_id=job_id)


def digest_text(digest: bytes) -> str:
    """Return a SHA-256 in the format of the job's document: `sha256:` and 64 hexadecimal digits."""
    return f"sha256:{digest.hex()}"
