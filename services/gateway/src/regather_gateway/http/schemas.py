"""Bodies of requests and answers. Times are milliseconds since 1970 (`_ms`) or RFC 3339 in UTC (`_at`)."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from regather.core.status import JobStatus
from regather_gateway.views.worker_view import SeenWorker


class InputDocument(BaseModel):
    """The job's input, known once the upload has ended."""

    size_bytes: int | None
    digest: str | None = Field(description="sha256: and 64 hexadecimal digits")


class ShardsDocument(BaseModel):
    """Counters of shards.

    `total` is null until the upload has ended. `frontier` is the length of the gap-free prefix of settled shards.
    """

    total: int | None
    done: int
    failed: int
    retries: int
    frontier: int
    gaps: list[tuple[int, int]] = Field(description="failed shards as inclusive ranges")
    bad_rows: int = Field(description="rows left out of shards that are done; listed in `errors`")


class ErrorDocument(BaseModel):
    """A shard that failed for good, or one row of it; `row` counts from 0 in the whole body, null: the whole shard."""

    seq: int
    reason: str
    error: str
    attempts: int
    row: int | None = None


class ResultDocument(BaseModel):
    """Location, size and media type of the result."""

    url: str
    size_bytes: int
    media_type: str


class JobDocument(BaseModel):
    """State of a job at one moment."""

    job_id: str
    version: int
    kind: str
    state: str
    label: str
    on_error: str
    created_at: str
    created_ms: int
    updated_at: str
    deadline_at: str
    input: InputDocument
    shards: ShardsDocument
    progress: float | None = Field(description="fraction of settled shards, 0 to 1; null while the total is unknown")
    errors: list[ErrorDocument]
    reason: str | None
    error: str | None
    result: ResultDocument | None
    warnings: list[str] = Field(default=[], description="why an open job may make no progress")
    links: dict[str, str]


class JobList(BaseModel):
    """A page of jobs, newest first."""

    jobs: list[JobDocument]
    next_cursor: str | None


class AttemptDocument(BaseModel):
    """One failed execution of a shard."""

    attempt: int
    reason: str
    error: str
    worker: str
    started_ms: int
    duration_ms: int


class ShardDocument(BaseModel):
    """One shard. `state` is waiting (no event yet), retrying, done or failed."""

    seq: int
    state: str
    attempts: int = 0
    worker: str | None = None
    started_ms: int | None = None
    duration_us: int | None = None
    input_bytes: int | None = None
    failures: list[AttemptDocument] = []
    bad_rows: list[int] = Field(default=[], description="rows that are missing in the output of a done shard")
    reason: str | None = None
    error: str | None = None


class ShardList(BaseModel):
    """A page of shards in sequence order."""

    job_id: str
    version: int
    total: int | None
    shards: list[ShardDocument]
    next_after: int | None


class ResultTypeDocument(BaseModel):
    """Options that change the media type of the result, and that media type."""

    options: dict[str, Any]
    result_type: str


class KindDocument(BaseModel):
    """A kind of job. `installed` is false if the extra with its engines is not installed; `missing` names it."""

    kind: str
    description: str
    installed: bool
    missing: str | None = None
    result_type: str = Field(description="media type of the result without options")
    result_types: list[ResultTypeDocument] = []
    side_bytes: int = Field(0, description="largest side file (`side` in a form), in bytes; 0: the kind takes none")
    merges: bool = Field(description="false: without options the result is the concatenated outputs of the shards")
    options: dict[str, Any] = Field(description="JSON Schema of the options")


class KindList(BaseModel):
    """All kinds that this gateway offers or lists as not installed."""

    kinds: list[KindDocument]


class WorkerDocument(BaseModel):
    """The latest report of a worker. `state` is live, or stale after ten seconds without a report."""

    worker: str
    state: str
    age_s: float = Field(description="seconds since its last report")
    host: str
    version: str
    kinds: list[str]
    slots: int
    busy: int
    queued: int = Field(description="shards that wait for a slot")
    partitions: int
    rss_bytes: int
    load: float = Field(description="the host's one-minute load average")
    lag_s: float = Field(description="age of the oldest shard that was read and is not acknowledged")


class WorkerList(BaseModel):
    """All workers that reported in the last ten minutes."""

    workers: list[WorkerDocument]


class SyncAnswer(BaseModel):
    """Answer of a synchronous endpoint; a further field holds the result."""

    model_config = ConfigDict(extra="allow")

    job_id: str
    shards: int


def job_document(status: JobStatus, warning: str | None = None) -> JobDocument:
    """Return the client's view of a status; `warning` says why an open job may make no progress."""
    job_url = f"/v1/jobs/{status.owner.job_id}"
    result = status.result
    settled = status.done + status.failed
    return JobDocument(
        job_id=status.owner.job_id,
        version=status.owner.version,
        kind=status.kind,
        state=status.state.value,
        label=status.label,
        on_error=status.on_error.value,
        created_at=rfc3339(status.created_ms),
        created_ms=status.created_ms,
        updated_at=rfc3339(status.updated_ms),
        deadline_at=rfc3339(status.deadline_ms),
        input=InputDocument(size_bytes=status.size_bytes, digest=status.digest or None),
        shards=ShardsDocument(
            total=status.total,
            done=status.done,
            failed=status.failed,
            retries=status.retries,
            frontier=status.frontier,
            gaps=list(status.gaps),
            bad_rows=status.bad_rows,
        ),
        progress=round(settled / status.total, 4) if status.total else None,
        errors=[
            ErrorDocument(
                seq=error.seq, reason=error.reason.value, error=error.error, attempts=error.attempts, row=error.row
            )
            for error in status.errors
        ],
        reason=status.reason.value if status.reason else None,
        error=status.error or None,
        result=ResultDocument(url=f"{job_url}/result", size_bytes=result.size_bytes, media_type=result.media_type)
        if result
        else None,
        warnings=[warning] if warning else [],
        links={"self": job_url, "shards": f"{job_url}/shards", "result": f"{job_url}/result"},
    )


def worker_document(seen: SeenWorker) -> WorkerDocument:
    """Return the client's view of a worker."""
    state = "live" if seen.live else "stale"
    return WorkerDocument(state=state, age_s=round(seen.age_s, 1), **asdict(seen.report))


def rfc3339(time_ms: int) -> str:
    """Format milliseconds since 1970 as RFC 3339 in UTC: 2026-11-24T07:54:00.123Z."""
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
