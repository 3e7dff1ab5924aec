"""Redrive: runs some shards of an ended job again, as its next version (docs/protocol.md#redrive).

The payloads come from the records of the first version. Of two redrives of one version the first in log order wins; the
other one is refused, and none of its shards is sent.
"""

import contextlib
from dataclasses import replace

from regather.core.errors import OffsetOutOfRange
from regather.core.ids import event_partition
from regather.core.model import JobId
from regather.core.seq_ranges import SeqRanges, count
from regather.core.status import JobStatus
from regather.core.submission import Acked, ClaimRead
from regather.service.logs import get_logger
from regather.transport.base import TopicPartition, Transport
from regather.wire.shards import shard_headers
from regather_gateway.problems import Problem, broker_unavailable
from regather_gateway.submission.aggregator_answer import check_not_closed
from regather_gateway.submission.producer_keeper import ProducerKeeper, ProducerSession
from regather_gateway.submission.redrive_plan import (
    RedrivePlan,
    accepted_again,
    plan_redrive,
    redrive_conflict,
    redrive_too_late,
)
from regather_gateway.submission.redrive_source import JobEventsReader, Payloads
from regather_gateway.submission.submission_events import SubmissionEvents
from regather_gateway.submission.upload import Shards
from regather_gateway.submission.upload_factory import UploadFactory
from regather_gateway.views.status_view import StatusView

log = get_logger()


class RedriveOpening:
    """The event `redriven` claims and opens the next version at once: the first one behind its base counts."""

    def __init__(self, events: SubmissionEvents, reader: JobEventsReader, plan: RedrivePlan) -> None:
        self._events = events
        self._reader = reader
        self._plan = plan
        self.claimed_ms = 0
        """When the claim was appended to the log."""

    async def claim(self) -> ClaimRead:
        """Send `redriven`, and read the job's events up to it."""
        address = await self._events.publish(self._plan.redriven)
        self.claimed_ms = address.timestamp_ms
        await self._reader.read(until=address.offset)
        return ClaimRead(self._reader.history.newest == self._plan.base.version, address.timestamp_ms)

    async def open(self) -> None:
        """Write nothing: the claim has opened the version."""

    async def confirmed(self) -> Acked | None:
        """Wait for nothing: the ack of `redriven` came with the claim."""
        return None

    async def drop(self) -> None:
        """Wait for nothing: open() sent nothing."""

    def gives_way(self) -> Problem:
        """Build the Problem of a redrive that came second."""
        return redrive_conflict(self._plan.owner.job_id, self._plan.owner.version)

    def unknown(self, why: str) -> Problem:
        """Build the Problem of a redrive that may have begun or not."""
        job_id = self._plan.owner.job_id
        detail = f"Kafka did not answer ({why}); get the job: its version shows whether the redrive has begun"
        return broker_unavailable(detail, code="state-unknown", job_id=job_id, status_url=f"/v1/jobs/{job_id}")


class Redriver:
    """Begins further versions of jobs."""

    def __init__(
        self, producers: ProducerKeeper, uploads: UploadFactory, view: StatusView, transport: Transport
    ) -> None:
        self._producers = producers
        self._uploads = uploads
        self._view = view
        self._transport = transport
        self._under_way: set[JobId] = set()
        self.redriven = 0
        """Shards sent again, since the start."""

    async def redrive(self, status: JobStatus, wanted: SeqRanges, timeout_ms: int | None) -> JobStatus:
        """Run the `wanted` shards again, by default all that failed, have bad rows or never ran.

        Returns the next version's status. Raises Problem 409 while the job is open or if another redrive came first,
        410 if records are past their retention, 422 for shards that do not exist, 503 if the state is unknown.
        """
        job_id = status.owner.job_id
        if job_id in self._under_way:
            raise redrive_conflict(job_id, status.owner.version + 1)
        if not status.state.ended:
            raise redrive_conflict(job_id, status.owner.version)
        self._under_way.add(job_id)
        try:
            return await self._redrive(status, wanted, timeout_ms)
        except OffsetOutOfRange as error:
            raise redrive_too_late(job_id, str(error)) from error
        finally:
            self._under_way.discard(job_id)

    async def _redrive(self, status: JobStatus, wanted: SeqRanges, timeout_ms: int | None) -> JobStatus:
        session = self._producers.current()
        tp = TopicPartition(session.topics.job_events, event_partition(status.owner.job_id, session.event_partitions))
        reader = JobEventsReader(self._transport, tp, status)
        try:
            await reader.read()
            plan = plan_redrive(status, reader.history, wanted, timeout_ms)
            return await self._run(session, reader, plan, status)
        finally:
            await reader.close()

    async def _run(
        self, session: ProducerSession, reader: JobEventsReader, plan: RedrivePlan, status: JobStatus
    ) -> JobStatus:
        payloads = Payloads(self._transport, plan)
        await payloads.check()
        events = self._uploads.events(session, plan.owner)
        opening = RedriveOpening(events, reader, plan)
        upload = self._uploads.upload(events, opening, claims=True)
        await upload.run(
            _records(payloads), lambda _shards, _ranges: replace(plan.sealed, owner=plan.owner, shard_ranges=())
        )
        shards_sent = count(plan.redriven.seqs)
        self.redriven += shards_sent
        log.info("job-redriven", job=plan.owner.job_id, version=plan.owner.version, shards=shards_sent)
        truth = self._view.offer(accepted_again(status, plan, opening.claimed_ms))
        check_not_closed(truth)
        return truth


async def _records(payloads: Payloads) -> Shards:
    async with contextlib.aclosing(payloads.wanted()) as shards:
        async for shard in shards:
            yield [(shard.payload, shard_headers(shard))]
