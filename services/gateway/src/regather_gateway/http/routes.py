"""The HTTP interface: turns requests into calls and results into answers; it holds no rules of its own."""

import base64
import binascii
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from regather.core.errors import UserError
from regather.core.ids import is_job_id
from regather.core.model import JobId, JobState, OnError
from regather.core.sharding import MAX_ASKED_SHARDS
from regather.core.status import JobStatus
from regather_gateway.bodies.base import BodyReader, RawBody
from regather_gateway.bodies.multipart_body import MultipartBody
from regather_gateway.bodies.side_room import TakeRoom
from regather_gateway.gateway import Gateway, gateway_of
from regather_gateway.http.kind_list import list_of_kinds
from regather_gateway.http.preferences import (
    applied,
    entity_tag,
    idempotency_key,
    matches,
    retry_after_s,
    wished_wait_s,
)
from regather_gateway.http.request_body import RequestBody, announced_digest, content_encoding, drain, input_length
from regather_gateway.http.schemas import (
    JobDocument,
    JobList,
    KindList,
    ShardList,
    WorkerList,
    job_document,
    worker_document,
)
from regather_gateway.http.shard_list import list_shards
from regather_gateway.http.shards_parameter import parse_seqs
from regather_gateway.problems import Problem
from regather_gateway.submission.idempotency import Receipt
from regather_gateway.submission.job_spec import Beside, JobSpec
from regather_gateway.submission.submit_request import SubmitRequest, check_parameters, make_spec, options_of
from regather_gateway.views.job_table import PageKey

router = APIRouter()
Parts = Annotated[Gateway, Depends(gateway_of)]


class JobQuery(BaseModel):
    """Parameters of a submission; `option.NAME=value` sets an option of the kind."""

    kind: str = Field(description="what to run; see /v1/kinds")
    shard_size: int | None = Field(None, description="target size of a shard, 1024 to 10485760 bytes")
    shards: int | None = Field(None, ge=1, le=MAX_ASKED_SHARDS, description="number of even shards, instead of a size")
    timeout_s: float | None = Field(None, ge=0.1, le=3600, description="limit of one execution of a shard")
    deadline_s: float | None = Field(None, ge=1, description="limit of the whole job")
    on_error: OnError = Field(OnError.FAIL, description="fail: a failed shard ends the job; skip: it leaves a gap")
    max_failed_count: int | None = Field(None, ge=0, description="with on_error=skip: more failed shards end the job")
    max_failed_pct: float | None = Field(None, ge=0, le=100, description="the same in per cent of all shards")
    label: str = Field("", max_length=200, description="free text, shown in lists")


class ListQuery(BaseModel):
    """Parameters of the list of jobs."""

    state: JobState | None = None
    kind: str | None = None
    limit: int = Field(50, ge=1, le=500)
    cursor: str | None = Field(None, description="next_cursor of the previous page")


_JOB_PARAMETERS = frozenset(JobQuery.model_fields)
_REDRIVE_PARAMETERS = frozenset({"shards", "timeout_s"})


_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "side": {
                            "type": "string",
                            "format": "binary",
                            "description": "for kinds with `side_bytes`: a small file for every shard; comes first",
                        },
                        "file": {"type": "string", "format": "binary", "description": "the job's input"},
                    },
                }
            },
        },
    }
}


@router.post("/v1/jobs", status_code=202, response_model=JobDocument, openapi_extra=_BODY)
async def submit_job(request: Request, gateway: Parts, query: Annotated[JobQuery, Query()]) -> Response:
    """Submit a job: the body (raw, or one file in a form) is its input."""
    with gateway.admission.enter():
        try:
            receipt = await _submit(request, gateway, query)
        except (UserError, Problem):
            await drain(request)
            raise
        if receipt.replayed:
            await drain(request)
        wait_s = wished_wait_s(request, gateway.settings.max_wait_s)
        status = await _after_wait(gateway, receipt.status, wait_s)
    headers = {"Location": f"/v1/jobs/{status.owner.job_id}", **applied(request, wait_s)}
    if receipt.replayed:
        headers["Idempotent-Replayed"] = "true"
    return _job_response(gateway, status, 200 if status.state.ended else 202, headers)


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
    return _json(page)


@router.get("/v1/jobs/{job_id}", response_model=JobDocument)
async def get_job(request: Request, gateway: Parts, job_id: str) -> Response:
    """Return the job's document; `Prefer: wait=N` waits for the end of the job."""
    status, headers = await _found(request, gateway, job_id)
    tag = entity_tag(status)
    if matches(request, tag):
        return Response(status_code=304, headers={"ETag": tag, "Cache-Control": "no-cache", **headers})
    return _job_response(gateway, status, 200, headers)


@router.post("/v1/jobs/{job_id}:cancel", status_code=202, response_model=JobDocument)
async def cancel_job(request: Request, gateway: Parts, job_id: str) -> Response:
    """Cancel the job: kill its running shards and drop the waiting ones. `Prefer: wait=N` waits for its end."""
    status = await _existing(gateway, job_id)
    if status.state.ended and status.state is not JobState.CANCELLED:
        raise Problem(409, "already-ended", f"the job has {status.state}; there is nothing to cancel", job_id=job_id)
    if not status.state.ended:
        await gateway.canceller.cancel(status.owner)
    wait_s = wished_wait_s(request, gateway.settings.max_wait_s)
    status = await _after_wait(gateway, status, wait_s)
    return _job_response(gateway, status, 200 if status.state.ended else 202, applied(request, wait_s))


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
    status = await _existing(gateway, job_id)
    with gateway.admission.enter():
        timeout_ms = None if timeout_s is None else round(timeout_s * 1000)
        status = await gateway.redriver.redrive(status, seqs, timeout_ms)
        wait_s = wished_wait_s(request, gateway.settings.max_wait_s)
        status = await _after_wait(gateway, status, wait_s)
    headers = {"Location": f"/v1/jobs/{status.owner.job_id}", **applied(request, wait_s)}
    return _job_response(gateway, status, 200 if status.state.ended else 202, headers)


@router.get("/v1/jobs/{job_id}/result")
async def get_result(request: Request, gateway: Parts, job_id: str) -> Response:
    """Return the result's bytes; `Prefer: wait=N` waits for the end of the job."""
    status, headers = await _found(request, gateway, job_id)
    result = await gateway.results.open(status)
    tag = f'"{result.digest.hex()[:32]}"'
    headers |= {
        "ETag": tag,
        "Cache-Control": "no-cache",
        "Repr-Digest": f"sha-256=:{base64.b64encode(result.digest).decode()}:",
        "X-Content-Type-Options": "nosniff",
    }
    if matches(request, tag):
        return Response(status_code=304, headers=headers)
    headers["Content-Type"] = result.media_type
    if result.content is not None:
        return Response(result.content, headers=headers)
    return StreamingResponse(result.parts, headers={**headers, "Content-Length": str(result.size_bytes)})


@router.get("/v1/jobs/{job_id}/shards", response_model=ShardList)
async def get_shards(
    request: Request,
    gateway: Parts,
    job_id: str,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
    after: Annotated[int, Query(ge=-1, description="next_after of the previous page")] = -1,
) -> Response:
    """List the job's shards with their states, in sequence order, read from the log on demand."""
    status, _ = await _found(request, gateway, job_id)
    partitions = gateway.producers.current().event_partitions
    window = range(after + 1, after + 1 + limit)
    topic = gateway.settings.topics.job_events
    page = await list_shards(gateway.events, topic, partitions, status, window)
    link = f'</v1/jobs/{job_id}/shards?limit={limit}&after={page.next_after}>; rel="next"'
    return _json(page, {"Link": link} if page.next_after is not None else {})


@router.get("/v1/workers", response_model=WorkerList)
async def list_workers(gateway: Parts) -> WorkerList:
    """List the known workers, each with its latest report."""
    return WorkerList(workers=[worker_document(seen) for seen in gateway.workers.workers()])


@router.get("/v1/kinds", response_model=KindList)
async def list_kinds(gateway: Parts) -> KindList:
    """List all kinds of jobs, with the media types of their results and the JSON Schema of their options."""
    return list_of_kinds(gateway.registry)


async def _submit(request: Request, gateway: Gateway, query: JobQuery) -> Receipt:
    settings = gateway.settings
    with gateway.side_room.enter() as take_room:
        reader = _body_reader(request, gateway.registry.require(query.kind).side_bytes, take_room)
        spec = _spec(request, gateway, query, reader)
        body = RequestBody(
            request, reader, max_bytes=settings.max_body_bytes, idle_timeout_s=settings.body_idle_timeout_s
        )
        return await gateway.submitter.replay(spec) or await gateway.submitter.submit(spec, body.chunks())


def _spec(request: Request, gateway: Gateway, query: JobQuery, reader: BodyReader) -> JobSpec:
    raw = isinstance(reader, RawBody)
    plain = raw and content_encoding(request) is None  # otherwise length and digest do not describe the job's input
    asked = SubmitRequest(
        **query.model_dump(),
        options=options_of(request.query_params, _JOB_PARAMETERS),
        content_type=(request.headers.get("content-type") if raw else None) or "application/octet-stream",
        size_bytes=input_length(request) if raw else None,
        key=idempotency_key(request),
        digest=announced_digest(request) if plain else None,
    )
    spec = make_spec(asked, gateway.registry, gateway.settings)
    if isinstance(reader, MultipartBody):
        octets = asked.content_type
        return replace(spec, beside=lambda: Beside(reader.take_side(), reader.content_type or octets))
    return spec


def _body_reader(request: Request, side_bytes: int, take_room: TakeRoom) -> BodyReader:
    content_type = request.headers.get("content-type", "")
    if content_type.lower().startswith("multipart/form-data"):
        return MultipartBody(content_type, side_bytes=side_bytes, take_room=take_room)
    return RawBody()


async def _after_wait(gateway: Gateway, status: JobStatus, wait_s: float | None) -> JobStatus:
    owner = status.owner
    if wait_s is not None:
        await gateway.view.wait_ended(owner.job_id, owner.version, wait_s)
    return gateway.view.get(owner.job_id) or status


async def _found(request: Request, gateway: Gateway, text: str) -> tuple[JobStatus, dict[str, str]]:
    status = await _existing(gateway, text)
    wait_s = wished_wait_s(request, gateway.settings.max_wait_s)
    if status.state.ended or wait_s is None:
        return status, applied(request, wait_s)
    if gateway.admission.full:  # a wait is only a preference: answer at once, without Preference-Applied
        return status, {}
    with gateway.admission.enter():
        return await _after_wait(gateway, status, wait_s), applied(request, wait_s)


async def _existing(gateway: Gateway, text: str) -> JobStatus:
    job_id = JobId(text.lower())
    status = await gateway.view.find(job_id) if is_job_id(job_id) else None
    if status is None:
        detail = f"job {job_id} does not exist, or it ended so long ago that the gateway no longer keeps it"
        raise Problem(404, "unknown-job", detail, job_id=job_id)
    return status


def _job_response(gateway: Gateway, status: JobStatus, code: int, headers: dict[str, str]) -> Response:
    headers = {"ETag": entity_tag(status), "Cache-Control": "no-cache", **headers}
    if status.state.ended:
        return _json(job_document(status), headers, code)
    headers["Retry-After"] = str(retry_after_s(status))
    return _json(job_document(status, gateway.workers.why_nobody_works(status.kind)), headers, code)


def _json(document: BaseModel, headers: dict[str, str] | None = None, code: int = 200) -> Response:
    return Response(document.model_dump_json(), status_code=code, headers=headers, media_type="application/json")


def _cursor(key: PageKey) -> str:
    return base64.urlsafe_b64encode(f"{key.created_ms}:{key.job_id}".encode()).decode().rstrip("=")


def _parse_cursor(cursor: str) -> PageKey:
    try:
        created_ms, job_id = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().split(":")
        return PageKey(int(created_ms), job_id)
    except (binascii.Error, ValueError) as error:
        raise Problem(422, "bad-cursor", "cursor is not valid; use next_cursor of the previous page") from error
