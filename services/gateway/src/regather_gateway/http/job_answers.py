"""Answers about one job: finds it, waits for it as the client prefers, and shows it as a document with an ETag.

Headers: Prefer (RFC 7240), If-None-Match (RFC 9110), Retry-After. Times in documents are milliseconds since 1970
(`_ms`) or RFC 3339 in UTC (`_at`).
"""

import re
from datetime import UTC, datetime

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from regather.core.ids import is_job_id
from regather.core.model import JobId
from regather.core.status import JobStatus
from regather_gateway.gateway import Gateway
from regather_gateway.problems import Problem

_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,6})\"?\s*(?=$|[,;])", re.IGNORECASE)
_ASYNC = re.compile(r"(?:^|[,;])\s*respond-async\s*(?=$|[,;])", re.IGNORECASE)
_MAX_RETRY_S = 30


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


async def after_wait(gateway: Gateway, status: JobStatus, wait_s: float | None) -> JobStatus:
    """Wait for the end of this version of the job, at most `wait_s` seconds; return the newest status."""
    owner = status.owner
    if wait_s is not None:
        await gateway.view.wait_ended(owner.job_id, owner.version, wait_s)
    return gateway.view.get(owner.job_id) or status


async def awaited_job(request: Request, gateway: Gateway, text: str) -> tuple[JobStatus, dict[str, str]]:
    """Find a job and wait for its end as the client prefers; return its status and the headers that say so."""
    status = await existing_job(gateway, text)
    wait_s = wished_wait_s(request, gateway.settings.max_wait_s)
    if status.state.ended or wait_s is None:
        return status, applied(request, wait_s)
    if gateway.admission.full:  # a wait is only a preference: answer at once, without Preference-Applied
        return status, {}
    with gateway.admission.enter():
        return await after_wait(gateway, status, wait_s), applied(request, wait_s)


async def existing_job(gateway: Gateway, text: str) -> JobStatus:
    """Return the status of the job with this id; Problem 404 for an unknown one."""
    job_id = JobId(text.lower())
    status = await gateway.view.find(job_id) if is_job_id(job_id) else None
    if status is None:
        detail = f"job {job_id} does not exist, or it ended so long ago that the gateway no longer keeps it"
        raise Problem(404, "unknown-job", detail, job_id=job_id)
    return status


def job_response(gateway: Gateway, status: JobStatus, code: int, headers: dict[str, str]) -> Response:
    """Return the job's document with its ETag, and while the job is open with Retry-After."""
    headers = {"ETag": entity_tag(status), "Cache-Control": "no-cache", **headers}
    if status.state.ended:
        return json_response(job_document(status), headers, code)
    headers["Retry-After"] = str(retry_after_s(status))
    return json_response(job_document(status, gateway.workers.why_nobody_works(status.kind)), headers, code)


def json_response(document: BaseModel, headers: dict[str, str] | None = None, code: int = 200) -> Response:
    """Return any document as JSON."""
    return Response(document.model_dump_json(), status_code=code, headers=headers, media_type="application/json")


def wished_wait_s(request: Request, cap_s: float) -> float | None:
    """Return the seconds of `Prefer: wait=N`, at most `cap_s`; None without this preference."""
    header = ",".join(request.headers.getlist("prefer"))
    found = _WAIT.search(header)
    return min(float(found[1]), cap_s) if found else None


def applied(request: Request, waited_s: float | None) -> dict[str, str]:
    """Return the header that says which preference was applied."""
    if waited_s is not None:
        return {"Preference-Applied": f"wait={waited_s:g}"}
    if _ASYNC.search(",".join(request.headers.getlist("prefer"))):
        return {"Preference-Applied": "respond-async"}
    return {}


def entity_tag(status: JobStatus) -> str:
    """Return the ETag of a job's document, which changes with its version, state and counters."""
    counters = (status.total, status.done, status.failed, status.retries, status.frontier)
    return f'"{status.owner.version}.{status.state.rank}.' + ".".join(map(str, counters)) + '"'


def matches(request: Request, tag: str) -> bool:
    """Whether If-None-Match names this tag."""
    header = request.headers.get("if-none-match")
    if header is None:
        return False
    tags = [entry.strip().removeprefix("W/") for entry in header.split(",")]
    return tag in tags or "*" in tags


def retry_after_s(status: JobStatus) -> int:
    """Return when to ask again: the estimated rest of the running time at the rate so far, 1 to 30 seconds."""
    settled = status.done + status.failed
    if not status.total or not settled:
        return 1
    elapsed_s = max(0, status.updated_ms - status.created_ms) / 1000
    return max(1, min(_MAX_RETRY_S, round(elapsed_s * (status.total - settled) / settled)))


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


def rfc3339(time_ms: int) -> str:
    """Format milliseconds since 1970 as RFC 3339 in UTC: 2026-11-24T07:54:00.123Z."""
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
