"""Submitting a job: the body becomes shards while it arrives; the seal commits it (docs/protocol.md#gateway)."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.requests import ClientDisconnect

from regather.core.errors import TransportError, UserError
from regather.core.ids import event_partition, keyed_job_id, submission_id, uuid7
from regather.core.model import Abandoned, Cancel, Identity, JobId, JobState, Opened, Reason, Sealed
from regather.core.status import JobStatus
from regather.service.environment import Environment
from regather.service.logs import get_logger
from regather.wire.events import encode_event
from regather_gateway.problems import Problem, broker_unavailable, unconfirmed
from regather_gateway.settings import GatewaySettings
from regather_gateway.submission.claim import Claim
from regather_gateway.submission.cutting import CountedBody, Cutting
from regather_gateway.submission.job_spec import JobSpec
from regather_gateway.submission.producer_keeper import ProducerKeeper, ProducerSession
from regather_gateway.submission.seal_check import AFTER_ANOTHER, FELL_SILENT, check_not_closed, wait_for_aggregator
from regather_gateway.submission.shard_stream import UploadLimits
from regather_gateway.submission.upload import HoldClaim, Upload
from regather_gateway.views.status_view import StatusView

log = get_logger()
TENANT = ""
"""There is one tenant until there is authentication."""

_MIN_WINDOW_BYTES = 1024 * 1024
_ALONE_IN_ACK_TIMEOUTS = 3
"""A job that for so many of them is no more than `accepted` was never opened: its gateway died between two records."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A job that is committed; `replayed` where the idempotency key named one that was there already."""

    status: JobStatus
    replayed: bool = False


@dataclass(slots=True)
class SubmissionCounts:
    """Since the start: submissions by how they ended (sealed, replayed, refused, abandoned, unknown), what was sealed."""

    ended: Counter[str] = field(default_factory=Counter)
    shards: int = 0
    size_bytes: int = 0

    def sealed(self, sealed: Sealed) -> None:
        """One more submission is committed."""
        self.ended["sealed"] += 1
        self.shards += sealed.shards
        self.size_bytes += sealed.size_bytes


class Submitter:
    """Turns orders and bodies into jobs."""

    def __init__(
        self,
        settings: GatewaySettings,
        producers: ProducerKeeper,
        view: StatusView,
        cutting: Cutting,
        environment: Environment,
    ) -> None:
        self._settings = settings
        self._producers = producers
        self._view = view
        self._cutting = cutting
        self._environment = environment
        self._under_way: set[JobId] = set()
        self._endings: set[asyncio.Task[None]] = set()
        self.counts = SubmissionCounts()

    async def replay(self, spec: JobSpec) -> Receipt | None:
        """Return the job that the spec's idempotency key names already, before any byte of the body is read.

        Raises Problem 409 while another submission of it is open, 422 where the key stands for another job.
        """
        if spec.key is None:
            return None
        job_id = keyed_job_id(TENANT, spec.key)
        if job_id in self._under_way:
            raise _still_open(job_id)
        status = await self._view.find(job_id)
        if status is None or self._may_begin_again(status):
            return None
        if status.kind != spec.kind:
            raise Problem(422, "idempotency-key-reused", f"the key names a job of kind {status.kind}", job_id=job_id)
        if status.total is None and not status.state.ended:
            raise _still_open(job_id)
        if spec.digest and status.digest and status.digest != digest_text(spec.digest):
            raise Problem(422, "idempotency-key-reused", "the key names a job with another body", job_id=job_id)
        self.counts.ended["replayed"] += 1
        return Receipt(status, replayed=True)

    async def submit(self, spec: JobSpec, body: AsyncIterator[bytes]) -> Receipt:
        """Send the body as shards and seal the job; the caller has asked replay() before.

        Raises UserError or Problem for a wrong body (then the job, if it was opened, ends as failed), Problem 503 where
        the state is unknown.
        """
        accepted = self._accepted(spec)
        if spec.key is None:
            return await self._submit(spec, body, accepted)
        job_id, timeout_s = accepted.owner.job_id, self._settings.ack_timeout_s
        known = self._view.get(job_id)
        doubt = AFTER_ANOTHER if known is not None and known.owner.version == accepted.owner.version else ""
        with self._view.watching(job_id) as seen:
            claim = Claim(self._view, accepted.owner, seen, timeout_s, lambda: _still_open(job_id))
            return await self._submit(spec, body, accepted, claim.hold, doubt)

    async def _submit(
        self,
        spec: JobSpec,
        body: AsyncIterator[bytes],
        accepted: JobStatus,
        hold_claim: HoldClaim | None = None,
        doubt: str = "",
    ) -> Receipt:
        session = self._producers.current()
        upload = Upload(
            session,
            _opened(spec, accepted.owner),
            accepted,
            timeout_ms=spec.timeout_ms,
            limits=self._limits(),
            hold_claim=hold_claim,
        )
        self._under_way.add(accepted.owner.job_id)
        try:
            sealed = await _transfer(upload, self._cutting, spec, CountedBody(body))
        except (TransportError, TimeoutError) as error:
            raise self._unknown(session, upload, accepted.owner.job_id, error) from error
        except BaseException as error:
            await self._give_up(upload, accepted.owner, error)
            raise
        finally:
            self._under_way.discard(accepted.owner.job_id)
        doubt = FELL_SILENT if upload.heartbeat_missed else doubt
        if doubt:
            await self._wait_for_word(accepted.owner, doubt)
        self.counts.sealed(sealed)
        log.info("job-sealed", job=sealed.owner.job_id, kind=spec.kind, shards=sealed.shards, bytes=sealed.size_bytes)
        return self._receipt(accepted, sealed)

    async def cancel(self, owner: Identity) -> None:
        """Ask for the end of a job; the aggregator decides in the order of the log. Problem 503 without an ack in time."""
        session = self._producers.current()
        headers, value = encode_event(Cancel(owner))
        partition = event_partition(owner.job_id, session.event_partitions)
        topic, key = session.topics.job_events, owner.job_id.encode()
        try:
            async with asyncio.timeout(self._settings.ack_timeout_s):
                await (await session.producer.send(topic, value=value, key=key, headers=headers, partition=partition))
        except (TransportError, TimeoutError) as error:
            self._producers.discard(session)
            why = unconfirmed(error)
            raise broker_unavailable(f"Kafka did not confirm the cancellation ({why}); repeat it") from error
        log.info("job-cancelled", job=owner.job_id)

    async def stop(self) -> None:
        """Wait for the last words about submissions that were given up."""
        await asyncio.gather(*self._endings, return_exceptions=True)

    def _accepted(self, spec: JobSpec) -> JobStatus:
        now_ms = self._environment.now_ms()
        randomness = self._environment.random_bytes(18)
        version = 1
        if spec.key is None:
            job_id = uuid7(now_ms, randomness)
        else:
            job_id = keyed_job_id(TENANT, spec.key)
            known = self._view.get(job_id)
            if known is not None:
                version = known.owner.version + (1 if known.state.ended else 0)
        return JobStatus(
            owner=Identity(job_id, submission_id(randomness[10:]), version),
            state=JobState.ACCEPTED,
            kind=spec.kind,
            tenant=TENANT,
            label=spec.label,
            on_error=spec.on_error,
            created_ms=now_ms,
            updated_ms=now_ms,
            deadline_ms=now_ms + spec.deadline_ms,
        )

    def _limits(self) -> UploadLimits:
        settings = self._settings
        share = settings.all_windows_bytes // (len(self._under_way) + 1)
        return UploadLimits(
            window_bytes=min(settings.window_bytes, max(_MIN_WINDOW_BYTES, share)),
            window_records=settings.window_records,
            ack_timeout_s=settings.ack_timeout_s,
            heartbeat_s=settings.heartbeat_s,
            opened_before_shards=settings.opened_before_shards,
        )

    def _unknown(self, session: ProducerSession, upload: Upload, job_id: JobId, error: Exception) -> Problem:
        self.counts.ended["unknown"] += 1
        self._producers.discard(session)
        self._later(upload.drop())
        log.warning("submission-unknown", job=job_id, error=repr(error))
        return broker_unavailable(
            f"Kafka did not confirm the job ({unconfirmed(error)}); its state is unknown: ask for it, or repeat",
            code="state-unknown",
            job_id=job_id,
            status_url=f"/v1/jobs/{job_id}",
        )

    def _may_begin_again(self, status: JobStatus) -> bool:
        if status.state.ended:
            return status.state is JobState.FAILED and status.reason is Reason.NOT_SEALED
        alone_ms = self._environment.now_ms() - status.created_ms
        dead_ms = _ALONE_IN_ACK_TIMEOUTS * self._settings.ack_timeout_s * 1000
        return status.state is JobState.ACCEPTED and status.total is None and alone_ms > dead_ms

    async def _wait_for_word(self, owner: Identity, doubt: str) -> None:
        log.warning("seal-in-doubt", job=owner.job_id, why=doubt)
        try:
            await wait_for_aggregator(self._view, owner, self._settings.ack_timeout_s, doubt)
        except Problem:
            self.counts.ended["unknown"] += 1
            raise

    async def _give_up(self, upload: Upload, owner: Identity, error: BaseException) -> None:
        self.counts.ended["abandoned" if upload.begun else "refused"] += 1
        if not upload.begun:
            upload.stop_heartbeat()
            return
        ending = self._later(_abandon(upload, Abandoned(owner, _why(error))))
        if not isinstance(error, asyncio.CancelledError):
            await asyncio.shield(ending)

    def _later(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work, name="end-of-submission")
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)
        return task

    def _receipt(self, accepted: JobStatus, sealed: Sealed) -> Receipt:
        owner = accepted.owner
        mine = replace(accepted, total=sealed.shards, size_bytes=sealed.size_bytes, digest=sealed.digest)
        truth = self._view.offer(mine)
        check_not_closed(truth)
        if truth.owner != owner and truth.state is not JobState.ACCEPTED:
            if truth.total is None and not truth.state.ended:
                raise _still_open(owner.job_id)
            return Receipt(truth, replayed=True)
        return Receipt(truth)


async def _transfer(upload: Upload, cutting: Cutting, spec: JobSpec, body: CountedBody) -> Sealed:
    async with contextlib.aclosing(cutting.pieces(spec, body)) as runs:
        async for run in runs:
            await upload.send(run)
    await upload.settle()
    digest = digest_text(body.digest)
    sealed = Sealed(upload.owner, upload.shards, body.size_bytes, digest, upload.shard_ranges)
    await upload.publish(sealed)
    return sealed


async def _abandon(upload: Upload, abandoned: Abandoned) -> None:
    log.info("job-abandoned", job=abandoned.owner.job_id, error=abandoned.error)
    try:
        await upload.publish(abandoned)
    except (TransportError, TimeoutError) as error:  # the aggregator closes the job after a minute of silence
        log.warning("abandon-failed", job=abandoned.owner.job_id, error=repr(error))
    await upload.drop()


def digest_text(digest: bytes) -> str:
    """A SHA-256 as it stands in the job's document: `sha256:` and 64 hexadecimal digits."""
    return f"sha256:{digest.hex()}"


def _opened(spec: JobSpec, owner: Identity) -> Opened:
    return Opened(
        owner,
        kind=spec.kind,
        options=spec.options_json,
        tenant=TENANT,
        deadline_ms=spec.deadline_ms,
        on_error=spec.on_error,
        label=spec.label,
        chained=spec.processor.chained,
        max_failed=spec.max_failed,
        max_failed_pct=spec.max_failed_pct,
    )


def _still_open(job_id: JobId) -> Problem:
    detail = "another submission with this idempotency key is under way; repeat the request when it has ended"
    return Problem(409, "submission-open", detail, retry_after_s=2, job_id=job_id)


def _why(error: BaseException) -> str:
    if isinstance(error, ClientDisconnect):
        return "the client went away before the upload had ended"
    if isinstance(error, asyncio.CancelledError):
        return "the gateway stopped before the upload had ended"
    if isinstance(error, UserError | Problem):
        return str(error)
    return f"the gateway failed while it cut the body: {error!r}"
