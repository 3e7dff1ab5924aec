"""What a redrive reads of its job's events, and the event `redriven` by which it claims and opens the next version."""

import contextlib

from regather.core.errors import TransportError, WireError
from regather.core.ids import event_partition
from regather.core.redrive import VersionHistory
from regather.core.status import JobStatus
from regather.core.submission import Acked, ClaimRead
from regather.transport.base import Record, TopicPartition, Transport
from regather.transport.log_reader import LogReader
from regather.wire.events import decode_event
from regather.wire.identity import belongs_to
from regather_gateway.problems import Problem, broker_unavailable
from regather_gateway.submission.producing import SubmissionEvents
from regather_gateway.submission.redrive_plan import RedrivePlan, never_sealed, redrive_conflict

_FETCH_BYTES = 16 * 1024 * 1024
_READ_LIMIT_S = 120.0


class JobEvents:
    """Makes readers of single jobs' events; `topic` is job-events."""

    def __init__(self, transport: Transport, topic: str) -> None:
        self._transport = transport
        self._topic = topic

    def reader(self, status: JobStatus, partitions: int) -> "JobEventsReader":
        """Make the reader of one job, which the caller closes; Problem 409 for a job without events."""
        tp = TopicPartition(self._topic, event_partition(status.owner.job_id, partitions))
        return JobEventsReader(self._transport, tp, status)


class JobEventsReader:
    """Folds a job's events into `history`; each read() goes on where the previous one stopped."""

    def __init__(self, transport: Transport, tp: TopicPartition, status: JobStatus) -> None:
        if status.events_offset is None:
            raise never_sealed(status)
        self._reader = LogReader(transport, fetch_max_bytes=_FETCH_BYTES, limit_s=_READ_LIMIT_S)
        self._tp = tp
        self._next = status.events_offset
        self._is_mine = belongs_to(status.owner, any_version=True)
        self.history = VersionHistory(status.owner, keep_outputs=False)

    async def read(self, until: int | None = None) -> None:
        """Fold the events since the last read(), up to but without the offset `until` (None: all)."""

        def fold(record: Record) -> bool:
            if until is not None and record.offset >= until:
                return False
            self._next = record.offset + 1
            if self._is_mine(record.headers):
                with contextlib.suppress(WireError):  # the aggregator folds it too, and counts and logs the error
                    self.history.apply(decode_event(record.headers, record.value))
            return True

        await self._reader.scan(self._tp, self._next, fold)

    async def close(self) -> None:
        """Disconnect."""
        await self._reader.stop()


class RedriveOpening:
    """The event `redriven` claims and opens the next version at once: the first one behind its base counts."""

    def __init__(self, events: SubmissionEvents, reader: JobEventsReader, plan: RedrivePlan) -> None:
        self._events = events
        self._reader = reader
        self._plan = plan
        self.claimed_ms = 0
        """When the claim was appended to the log."""

    async def claim(self) -> ClaimRead:
        """Send `redriven`, and read the job's events up to it; Problem 503 if they cannot be read."""
        address = await self._events.publish(self._plan.redriven)
        self.claimed_ms = address.timestamp_ms
        try:
            await self._reader.read(until=address.offset)
        except TransportError as error:  # a Problem: all acks are there, so the shared producer stays
            raise self.unconfirmed_problem(str(error)) from error
        return ClaimRead(self._reader.history.newest == self._plan.base.version, address.timestamp_ms)

    async def open(self) -> None:
        """Write nothing: the claim has opened the version."""

    async def confirmed(self) -> Acked | None:
        """Wait for nothing: the ack of `redriven` came with the claim."""
        return None

    async def drop(self) -> None:
        """Wait for nothing: open() sent nothing."""

    def second_claim_problem(self) -> Problem:
        """Build the Problem of a redrive that came second."""
        return redrive_conflict(self._plan.owner.job_id, self._plan.owner.version)

    def unconfirmed_problem(self, why: str) -> Problem:
        """Build the Problem of a redrive that may have begun or not."""
        job_id = self._plan.owner.job_id
        detail = f"Kafka did not answer ({why}); get the job: its version shows whether the redrive has begun"
        return broker_unavailable(detail, code="state-unknown", job_id=job_id, status_url=f"/v1/jobs/{job_id}")
