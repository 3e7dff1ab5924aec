"""Jobs that exist: their list, one job's document, and the requests to cancel it and to redrive it."""

import base64
import binascii
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from regather.core.model import JobState
from regather.core.status import JobStatus
from regather_gateway.gateway import Parts
from regather_gateway.http.job_answers import (
    JobDocument,
    after_wait,
    applied,
    awaited_job,
    entity_tag,
    existing_job,
    job_document,
    job_response,
    json_response,
    matches,
    wished_wait_s,
)
from regather_gateway.http.shards_parameter import parse_seqs
from regather_gateway.problems import Problem
from regather_gateway.submission.job_spec import check_parameters
from regather_gateway.views.status_view import PageKey

router = APIRouter()
_REDRIVE_PARAMETERS = frozenset({"shards", "timeout_s"})


class ListQuery(BaseModel):
    """Parameters of the list of jobs."""

    state: JobState | None = None
    kind: str | None = None
    limit: int = Field(50, ge=1, le=500)
    cursor: str | None = Field(None, description="next_cursor of the previous page")


class JobList(BaseModel):
    """A page of jobs, newest first."""

    jobs: list[JobDocument]
    next_cursor: str | None


@router.get("/v1/jobs", response_model=JobList)
async def list_jobs(gateway: Parts, query: Annotated[ListQuery, Query()]) -> Response:
    """List the jobs that this gateway keeps, newest first."""
    found: list[JobStatus] = []
    before = _parse_cursor(query.cursor) if query.cursor else None
    last: PageKey | None = None
    for entry in gateway.view.table.newest_first(before):
        status = entry.status
        if (query.state and status.state is not query.state) or (query.kind and status.kind != query.kind):
            continue
        if len(found) == query.limit:
            break
        found.append(status)
        last = entry.key
    else:
        last = None
    page = JobList(jobs=[job_document(status) for status in found], next_cursor=_cursor(last) if last else None)
    return json_response(page)


@router.get("/v1/jobs/{job_id}", response_model=JobDocument)
async def get_job(request: Request, gateway: Parts, job_id: str) -> Response:
    """Return the job's document; `Prefer: wait=N` waits for the end of the job."""
    status, headers = await awaited_job(request, gateway, job_id)
    tag = entity_tag(status)
    if matches(request, tag):
        return Response(status_code=304, headers={"ETag": tag, "Cache-Control": "no-cache", **headers})
    return job_response(gateway, status, 200, headers)


@router.post("/v1/jobs/{job_id}:cancel", status_code=202, response_model=JobDocument)
async def cancel_job(request: Request, gateway: Parts, job_id: str) -> Response:
    """Cancel the job: kill its running shards and drop the waiting ones. `Prefer: wait=N` waits for its end."""
    status = await existing_job(gateway, job_id)
    if status.state.ended and status.state is not JobState.CANCELLED:
        raise Problem(409, "already-ended", f"the job has {status.state}; there is nothing to cancel", job_id=job_id)
    if not status.state.ended:
        await gateway.canceller.cancel(status.owner)
    wait_s = wished_wait_s(request, gateway.settings.max_wait_s)
    status = await after_wait(gateway, status, wait_s)
    return job_response(gateway, status, 200 if status.state.ended else 202, applied(request, wait_s))


@router.post("/v1/jobs/{job_id}:redrive", status_code=202, response_model=JobDocument)
async def redrive_job(
    request: Request,
    gateway: Parts,
    job_id: str,
    shards: Annotated[str, Query(description="such as 3,5-9; default: all that failed or have bad rows")] = "",
    timeout_s: Annotated[float | None, Query(ge=0.1, le=3600, description="new limit of one execution")] = None,
) -> Response:
    """Run shards of an ended job again, as its next version. `Prefer: wait=N` waits for the end of that version."""
    check_parameters(request.query_params, _REDRIVE_PARAMETERS)
    seqs = parse_seqs(shards)
    status = await existing_job(gateway, job_id)
    with gateway.admission.enter():
        timeout_ms = None if timeout_s is None else round(timeout_s * 1000)
        status = await gateway.redriver.redrive(status, seqs, timeout_ms)
        wait_s = wished_wait_s(request, gateway.settings.max_wait_s)
        status = await after_wait(gateway, status, wait_s)
    headers = {"Location": f"/v1/jobs/{status.owner.job_id}", **applied(request, wait_s)}
    return job_response(gateway, status, 200 if status.state.ended else 202, headers)


def _cursor(key: PageKey) -> str:
    return base64.urlsafe_b64encode(f"{key.created_ms}:{key.job_id}".encode()).decode().rstrip("=")


def _parse_cursor(cursor: str) -> PageKey:
    try:
        created_ms, job_id = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().split(":")
        return PageKey(int(created_ms), job_id)
    except (binascii.Error, ValueError) as error:
        raise Problem(422, "bad-cursor", "cursor is not valid; use next_cursor of the previous page") from error
