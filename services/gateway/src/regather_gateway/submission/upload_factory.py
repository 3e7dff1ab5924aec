"""Makes uploads: wires the upload of one submission: its rules, its records, and the way it opens its job."""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from functools import partial
from typing import Any

from regather.core.model import Identity
from regather.core.status import JobStatus
from regather.core.submission import Submission
from regather_gateway.settings import GatewaySettings
from regather_gateway.submission.aggregator_answer import aggregator_answered
from regather_gateway.submission.job_spec import JobSpec
from regather_gateway.submission.opening import JobOpening, KeyedOpening
from regather_gateway.submission.producer_keeper import ProducerKeeper, ProducerSession
from regather_gateway.submission.shard_stream import ShardStream, UploadLimits
from regather_gateway.submission.submission_events import SubmissionEvents
from regather_gateway.submission.upload import Opening, Upload
from regather_gateway.views.status_view import StatusView

_MIN_WINDOW_BYTES = 1024 * 1024


class UploadFactory:
    """Creates uploads on the gateway's one producer."""

    def __init__(self, settings: GatewaySettings, producers: ProducerKeeper, view: StatusView) -> None:
        self._settings = settings
        self._producers = producers
        self._view = view
        self._endings: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        """Wait for the last records of submissions that have failed."""
        await asyncio.gather(*self._endings, return_exceptions=True)

    @contextlib.contextmanager
    def new_job(self, spec: JobSpec, accepted: JobStatus, others: int) -> Iterator[Upload]:
        """Yield the upload of a new job, which shares `all_windows_bytes` with `others` running uploads.

        Raises BrokerUnavailable while there is no producer.
        """
        opened, owner = spec.opened(accepted.owner), accepted.owner
        limits = self._limits(others)
        if spec.key is None:
            events = self.events(self._producers.current(), owner)
            yield self.upload(events, JobOpening(events, opened, accepted, limits), limits=limits)
            return
        known = self._view.get(owner.job_id)
        before = known is not None and known.owner.version == owner.version
        read_past = partial(self._view.read_past, owner.job_id, timeout_s=limits.ack_timeout_s)
        with self._view.watching(owner.job_id) as seen:
            events = self.events(self._producers.current(), owner)
            opening = KeyedOpening(events, opened, accepted, limits, read_past=read_past, seen=seen)
            yield self.upload(events, opening, claims=True, opened_before=before, limits=limits)

    def events(self, session: ProducerSession, owner: Identity) -> SubmissionEvents:
        """Make the events of one submission."""
        settings = self._settings
        timeout_s, heartbeat_s = settings.ack_timeout_s, settings.heartbeat_s
        return SubmissionEvents(session, owner, ack_timeout_s=timeout_s, heartbeat_s=heartbeat_s)

    def upload(
        self,
        events: SubmissionEvents,
        opening: Opening,
        *,
        claims: bool = False,
        opened_before: bool = False,
        limits: UploadLimits | None = None,
    ) -> Upload:
        """Make an upload.

        `claims`: it claims its version before it opens it, and gives way to an earlier claim. `opened_before`: an
        earlier submission, whose gateway has stopped, may have opened the same version, so the seal is in doubt. Without
        `limits` it has those of an upload that runs alone.
        """
        limits = limits or self._limits(0)
        heartbeat_ms = round(self._settings.heartbeat_s * 1000)
        return Upload(
            Submission(heartbeat_ms=heartbeat_ms, claims=claims, opened_before=opened_before),
            ShardStream(events.session, limits),
            events,
            opening,
            limits.ack_timeout_s,
            aggregator_answered=partial(aggregator_answered, self._view, events.owner, limits.ack_timeout_s),
            discard_producer=partial(self._producers.discard, events.session),
            run_later=self._run_later,
        )

    def _run_later(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run the end of a submission, which its cancelled request does not wait for."""
        task = asyncio.create_task(work, name="end-of-submission")
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)
        return task

    def _limits(self, others: int) -> UploadLimits:
        settings = self._settings
        share = settings.all_windows_bytes // (others + 1)
        return UploadLimits(
            window_bytes=min(settings.window_bytes, max(_MIN_WINDOW_BYTES, share)),
            window_records=settings.window_records,
            ack_timeout_s=settings.ack_timeout_s,
            opened_before_shards=settings.opened_before_shards,
        )
