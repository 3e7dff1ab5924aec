"""Redrive: runs some shards of an ended job again, as its next version (docs/protocol.md#redrive).

The payloads come from the records of the first version. Of two redrives of one version the first in log order wins; the
other one is refused, and none of its shards is sent. An `Upload` sends a redrive as it sends a new job.
"""

from regather.core.errors import OffsetOutOfRange
from regather.core.model import JobId
from regather.core.seq_ranges import SeqRanges, count
from regather.core.status import JobStatus
from regather.service.logs import get_logger
from regather_gateway.submission.opening import check_not_closed
from regather_gateway.submission.producing import ProducerKeeper
from regather_gateway.submission.redrive_events import JobEvents, JobEventsReader, RedriveOpening
from regather_gateway.submission.redrive_payloads import Payloads
from regather_gateway.submission.redrive_plan import (
    RedrivePlan,
    accepted_again,
    plan_redrive,
    redrive_conflict,
    redrive_too_late,
)
from regather_gateway.submission.upload import UploadFactory
from regather_gateway.views.status_view import StatusView

log = get_logger()


class Redriver:
    """Begins further versions of jobs."""

    def __init__(
        self,
        producers: ProducerKeeper,
        uploads: UploadFactory,
        view: StatusView,
        events: JobEvents,
        payloads: Payloads,
    ) -> None:
        self._producers = producers
        self._uploads = uploads
        self._view = view
        self._events = events
        self._payloads = payloads
        self._under_way: set[JobId] = set()
        self.redriven = 0
        """Shards sent again, since the start."""

    async def redrive(self, status: JobStatus, wanted: SeqRanges, timeout_ms: int | None) -> JobStatus:
        """Run the `wanted` shards again, by default all that failed, have bad rows or never ran.

        Returns the next version's status. Raises Problem 409 while the job is open or if another redrive came first,
        410 if records are past their retention, 422 for shards that do not exist, 503 if the state is unknown, and
        BrokerUnavailable if records cannot be read.
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
        reader = self._events.reader(status, self._producers.current().event_partitions)
        try:
            await reader.read()
            plan = plan_redrive(status, reader.history, wanted, timeout_ms)
            return await self._run(reader, plan, status)
        finally:
            await reader.close()

    async def _run(self, reader: JobEventsReader, plan: RedrivePlan, status: JobStatus) -> JobStatus:
        await self._payloads.check(plan)
        events = self._uploads.events(self._producers.current(), plan.owner)
        opening = RedriveOpening(events, reader, plan)
        upload = self._uploads.upload(events, opening, claims=True)
        await upload.run(self._payloads.records(plan), lambda _shards, _ranges: plan.seal)
        shards_sent = count(plan.redriven.seqs)
        self.redriven += shards_sent
        log.info("job-redriven", job=plan.owner.job_id, version=plan.owner.version, shards=shards_sent)
        truth = self._view.offer(accepted_again(status, plan, opening.claimed_ms))
        check_not_closed(truth)
        return truth
