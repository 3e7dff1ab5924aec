"""Plans the records of a transaction: finals, statuses and releases, encoded and small enough for their topics.

A record above its topic's limit would fail its whole transaction, again in every epoch. So nothing is queued that does
not fit: a status loses its list of errors, one of an open job its gaps as well; a final that is still too large becomes a
minimal `failed: internal`, and a release ends its job. Source: docs/protocol.md#barrier.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from regather.core.job_events import JobBroken
from regather.core.model import Identity, JobState, Reason
from regather.core.reassembly import EmitFinal, JobFold, Release
from regather.core.status import JobStatus, ResultAddress
from regather.topics.layout import RESULT_RECORD_BYTES, RETRY_RECORD_BYTES
from regather.wire.documents import encode_final, encode_status
from regather.wire.shards import released_record

WHOLE_RESULT_BYTES = 768 * 1024
"""A larger result is not part of the final: it is written to segments of this size, and the final points at them."""

_RECORD_OVERHEAD_BYTES = 4 * 1024
_SEGMENT_ENTRY_BYTES = 32
"""Offset and length of one segment in the document of a final, which are known only once the segment is written."""

_TEXT_CHARS = 1_000
_ERRORS_KEPT = (100, 10, 0)

Encoded = tuple[list[tuple[str, bytes]], bytes]


@dataclass(frozen=True, slots=True)
class PlannedFinal:
    """A final and its status; the final is encoded and fits into a record."""

    status: JobStatus
    final: Encoded
    result: bytes
    media_type: str

    @property
    def segmented(self) -> bool:
        """Whether the result is too large for the final and goes to the segments topic."""
        return len(self.result) > WHOLE_RESULT_BYTES

    @property
    def size_bytes(self) -> int:
        """Bytes of the final's headers and value."""
        return record_bytes(self.final)


@dataclass(frozen=True, slots=True)
class PlannedStatus:
    """An encoded status, which fits into a record."""

    owner: Identity
    record: Encoded


@dataclass(frozen=True, slots=True)
class PlannedRelease:
    """The encoded next shard of a chain, which fits into a record."""

    job: JobFold
    record: Encoded


def record_bytes(encoded: Encoded) -> int:
    """Return the bytes of a record's headers and value."""
    headers, value = encoded
    return len(value) + sum(len(name) + len(content) for name, content in headers)


def encoded_final(status: JobStatus, result: bytes, media_type: str) -> Encoded:
    """Return the final as a record, without a result that is too large for it."""
    return encode_final(status, result if len(result) <= WHOLE_RESULT_BYTES else b"", media_type)


def plan_final(instruction: EmitFinal, partition: int) -> PlannedFinal:
    """Encode a final; one too large for a record becomes a minimal `failed: internal`."""
    job, result, media_type = instruction.job, instruction.result, instruction.media_type
    address = None
    if job.state in (JobState.SUCCEEDED, JobState.PARTIAL):
        address = ResultAddress(partition, None, len(result), media_type)
    room_bytes = _SEGMENT_ENTRY_BYTES * (len(result) // WHOLE_RESULT_BYTES + 1)

    def size_bytes(status: JobStatus) -> int:
        return record_bytes(encoded_final(status, result, media_type)) + room_bytes

    whole = job.status(address)
    fitting = _first_fitting(_fewer_errors(whole), size_bytes)
    if fitting is None:
        error = f"the final would have {size_bytes(whole)} bytes, above the limit of {RESULT_RECORD_BYTES}"
        return minimal_final(job, error)
    return PlannedFinal(fitting, encoded_final(fitting, result, media_type), result, media_type)


def minimal_final(job: JobFold, error: str) -> PlannedFinal:
    """Return the final `failed: internal` of a job whose own final cannot be written. It takes nothing of any length."""
    failed = replace(_minimal(job), state=JobState.FAILED, reason=Reason.INTERNAL, error=error[:_TEXT_CHARS])
    return PlannedFinal(failed, encode_final(failed, b"", ""), b"", "")


def plan_progress(job: JobFold) -> PlannedStatus:
    """Encode the status of an open job; one too large for a record loses its errors, then its gaps, then its texts."""

    def shorter() -> Iterator[JobStatus]:
        whole = job.status()
        yield from _fewer_errors(whole)
        yield replace(whole, errors=(), gaps=())
        yield _minimal(job)

    fitting = _first_fitting(shorter(), lambda status: record_bytes(encode_status(status)))
    assert fitting is not None
    return PlannedStatus(job.owner, encode_status(fitting))


def plan_release(release: Release) -> PlannedRelease | JobBroken:
    """Encode the next shard of a chain; JobBroken if no record of `shards.retry` can hold it."""
    planned = PlannedRelease(release.job, released_record(release.shard))
    most_bytes = RETRY_RECORD_BYTES - _RECORD_OVERHEAD_BYTES
    size_bytes = record_bytes(planned.record)
    if size_bytes <= most_bytes:
        return planned
    text = f"shard {release.shard.seq} with its carry has {size_bytes} bytes; a released shard may have {most_bytes}"
    return JobBroken(Reason.INTERNAL, text)


def _first_fitting(statuses: Iterator[JobStatus], size_bytes: Callable[[JobStatus], int]) -> JobStatus | None:
    most_bytes = RESULT_RECORD_BYTES - _RECORD_OVERHEAD_BYTES
    return next((status for status in statuses if size_bytes(status) <= most_bytes), None)


def _fewer_errors(status: JobStatus) -> Iterator[JobStatus]:
    """Yield the status with all of its errors, then with fewer: they are a sample, and the counts stay."""
    return (replace(status, errors=status.errors[:most]) for most in _ERRORS_KEPT)


def _minimal(job: JobFold) -> JobStatus:
    """Return the job's status without any list, and with texts of a bounded length."""
    opened, sealed, shards = job.opened, job.sealed, job.shards
    return JobStatus(
        owner=job.owner,
        state=job.state,
        kind=opened.kind[:_TEXT_CHARS],
        tenant=opened.tenant[:_TEXT_CHARS],
        on_error=opened.on_error,
        created_ms=job.redriven.created_ms if job.redriven else job.opened_ms,
        updated_ms=job.updated_ms,
        deadline_ms=job.opened_ms + opened.deadline_ms,
        total=sealed.shards if sealed else None,
        done=shards.done,
        failed=shards.failed,
        retries=job.retries,
        frontier=shards.frontier,
        bad_rows=shards.bad_rows,
        size_bytes=sealed.size_bytes if sealed else None,
        events_offset=job.redriven.origin if job.redriven else job.first_offset,
        redriven=job.redriven is not None,
    )
