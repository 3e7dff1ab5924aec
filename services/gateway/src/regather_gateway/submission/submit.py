"""Submitting a job: the body becomes shards while it arrives; the seal commits it (docs/protocol.md#gateway)."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from regather.core.model import JobId, OffsetRange, Sealed
from regather.core.status import JobStatus
from regather.core.submission import SubmissionState
from regather.service.logs import get_logger
from regather_gateway.submission.cutting import CountedBody, Cutting, ShardRecords
from regather_gateway.submission.job_spec import JobSpec
from regather_gateway.submission.opening import JobKeys, Receipt, digest_text
from regather_gateway.submission.upload import Shards, Upload, UploadFactory

log = get_logger()

_COUNTED = {
    SubmissionState.SEALED: "sealed",
    SubmissionState.REFUSED: "refused",
    SubmissionState.GAVE_WAY: "refused",
    SubmissionState.ABANDONED: "abandoned",
}


@dataclass(slots=True)
class SubmissionCounts:
    """Counts since the start: submissions by end (sealed, replayed, refused, abandoned, unknown), shards, bytes."""

    ended: Counter[str] = field(default_factory=Counter)
    shards: int = 0
    size_bytes: int = 0

    def sealed(self, sealed: Sealed) -> None:
        """Count one sealed submission."""
        self.shards += sealed.shards
        self.size_bytes += sealed.size_bytes


class Submitter:
    """Turns specs and bodies into jobs."""

    def __init__(self, uploads: UploadFactory, keys: JobKeys, cutting: Cutting) -> None:
        self._uploads = uploads
        self._keys = keys
        self._cutting = cutting
        self._under_way: set[JobId] = set()
        self.counts = SubmissionCounts()

    async def replay(self, spec: JobSpec) -> Receipt | None:
        """Return the existing job of the spec's idempotency key, before any byte of the body is read; None if none.

        Raises Problem 409 while another submission with this key is open, 422 if the key belongs to a different job.
        """
        receipt = await self._keys.replay(spec, self._under_way)
        self.counts.ended["replayed"] += receipt is not None
        return receipt

    async def submit(self, spec: JobSpec, body: AsyncIterator[bytes]) -> Receipt:
        """Send the body as shards and seal the job; call replay() first.

        Raises UserError or Problem for a wrong body (the job, if it was opened, then ends as failed), and Problem 503
        if the state is unknown.
        """
        accepted = self._keys.accepted(spec)
        job_id = accepted.owner.job_id
        with self._uploads.new_job(spec, accepted, len(self._under_way)) as upload:
            self._under_way.add(job_id)
            try:
                sealed = await self._run(upload, spec, accepted, CountedBody(body))
            finally:
                self._under_way.discard(job_id)
                self.counts.ended[_COUNTED.get(upload.state, "unknown")] += 1
        self.counts.sealed(sealed)
        log.info("job-sealed", job=sealed.owner.job_id, kind=spec.kind, shards=sealed.shards, bytes=sealed.size_bytes)
        return self._keys.receipt(accepted, sealed)

    async def _run(self, upload: Upload, spec: JobSpec, accepted: JobStatus, body: CountedBody) -> Sealed:
        records = ShardRecords(spec.opened(accepted.owner), spec.timeout_ms)

        async def shards() -> Shards:
            async with contextlib.aclosing(self._cutting.pieces(spec, body)) as runs:
                async for run in runs:
                    yield records.of(run)

        def seal(count: int, ranges: tuple[OffsetRange, ...]) -> Sealed:
            return Sealed(accepted.owner, count, body.size_bytes, digest_text(body.digest), ranges)

        return await upload.run(shards(), seal)
