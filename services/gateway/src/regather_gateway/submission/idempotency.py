"""Decides which job a submission belongs to: a new one, or an existing one with the same idempotency key."""

from collections.abc import Container
from dataclasses import dataclass, replace

from regather.core.ids import keyed_job_id, submission_id, uuid7
from regather.core.model import Identity, JobId, JobState, Sealed
from regather.core.status import JobStatus
from regather.service.environment import Environment
from regather_gateway.problems import Problem
from regather_gateway.settings import GatewaySettings
from regather_gateway.submission.aggregator_answer import check_not_closed
from regather_gateway.submission.job_spec import TENANT, JobSpec
from regather_gateway.submission.opening import still_open
from regather_gateway.views.status_view import StatusView

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


def digest_text(digest: bytes) -> str:
    """Return a SHA-256 in the format of the job's document: `sha256:` and 64 hexadecimal digits."""
    return f"sha256:{digest.hex()}"
