"""Submitting a job: `POST /v1/jobs`, from the request to its answer.

The way of a job: a JobQuery becomes a JobSpec (`job_spec.py`), and `Submitter` (`submit.py`) finds the job of its key or
begins a new one (`opening.py`). The body (`request_body.py`) is cut into shards while it arrives (`cutting.py`), and
`Upload` (`upload.py`) sends them to Kafka (`producing.py`) and seals the job. `job_answers.py` shows it to the client.
"""

import re
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from regather.core.errors import UserError
from regather.core.model import OnError
from regather.core.sharding import MAX_ASKED_SHARDS
from regather_gateway.admission import ReserveRoom
from regather_gateway.bodies.base import BodyReader
from regather_gateway.bodies.multipart_body import MultipartBody
from regather_gateway.gateway import Gateway, Parts
from regather_gateway.http.job_answers import JobDocument, after_wait, applied, job_response, wished_wait_s
from regather_gateway.http.request_body import (
    RawBody,
    RequestBody,
    announced_digest,
    content_encoding,
    drain,
    input_length,
)
from regather_gateway.problems import Problem
from regather_gateway.submission.job_spec import Beside, JobSpec, SubmitRequest, make_spec, options_of
from regather_gateway.submission.opening import Receipt

router = APIRouter()
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


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


_JOB_PARAMETERS = frozenset(JobQuery.model_fields)
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
        status = await after_wait(gateway, receipt.status, wait_s)
    headers = {"Location": f"/v1/jobs/{status.owner.job_id}", **applied(request, wait_s)}
    if receipt.replayed:
        headers["Idempotent-Replayed"] = "true"
    return job_response(gateway, status, 200 if status.state.ended else 202, headers)


async def _submit(request: Request, gateway: Gateway, query: JobQuery) -> Receipt:
    settings = gateway.settings
    with gateway.side_room.enter() as reserve_room:
        reader = _body_reader(request, gateway.registry.require(query.kind).side_bytes, reserve_room)
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
        return replace(spec, beside=lambda: Beside(reader.pop_side(), reader.content_type or octets))
    return spec


def _body_reader(request: Request, side_bytes: int, reserve_room: ReserveRoom) -> BodyReader:
    content_type = request.headers.get("content-type", "")
    if content_type.lower().startswith("multipart/form-data"):
        return MultipartBody(content_type, side_bytes=side_bytes, reserve_room=reserve_room)
    return RawBody()


def idempotency_key(request: Request) -> str | None:
    """Return the key without the quotes of the draft standard; Problem 400 if it is not 1 to 255 visible characters."""
    header = request.headers.get("idempotency-key")
    if header is None:
        return None
    key = header.strip().removeprefix('"').removesuffix('"')
    if not _KEY.fullmatch(key):
        raise Problem(400, "idempotency-key-invalid", "Idempotency-Key must have 1 to 255 visible ASCII characters")
    return key
