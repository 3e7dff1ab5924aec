"""The two synchronous endpoints: a client sends the data and gets the result in one request."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, ValidationError

from regather.core.model import Reason
from regather.core.sharding import DEFAULT_SHARD_BYTES, MAX_SHARD_BYTES, MIN_SHARD_BYTES
from regather.core.status import JobStatus
from regather_gateway.bodies.base import BodyReader, RawBody
from regather_gateway.bodies.json_body import JsonBody
from regather_gateway.bodies.multipart_body import MultipartBody
from regather_gateway.bodies.spool import Spool
from regather_gateway.gateway import Gateway
from regather_gateway.http.request_body import RequestBody, input_length
from regather_gateway.http.routes import Parts
from regather_gateway.http.schemas import SyncAnswer
from regather_gateway.http.sync_answer import answer_json
from regather_gateway.http.sync_errors import SyncRoute, from_validation, unprocessable
from regather_gateway.problems import Problem
from regather_gateway.submission.submit_request import SubmitRequest, make_spec

router = APIRouter(route_class=SyncRoute)
_RETRY_AFTER_S = 2
_DATA_REASONS = frozenset({Reason.PERMANENT, Reason.RETURNED_TOO_MUCH, Reason.RESULT_TOO_LARGE})
_RAW_TYPES = ("image/", "application/octet-stream", "application/x-npy")


class SyncFields(BaseModel):
    """Fields that both endpoints take besides the data."""

    shard_size: int = Field(DEFAULT_SHARD_BYTES, ge=MIN_SHARD_BYTES, le=MAX_SHARD_BYTES)
    options: dict[str, Any] = {}


class ProcessFields(SyncFields):
    """Fields of /process-data."""

    kind: str = "bytes.digest"


class ImageFields(SyncFields):
    """Fields of /analyze-image; the kind's options may be given as fields of their own or in `options`."""

    width: int | None = Field(None, ge=1)
    height: int | None = Field(None, ge=1)
    channels: int | None = Field(None, ge=1)
    dtype: str | None = None
    format: str | None = None
    page: int | None = Field(None, ge=0)
    level: int | None = Field(None, ge=0)
    low: float | None = None
    high: float | None = None


FieldsT = TypeVar("FieldsT", bound=SyncFields)


@router.post("/process-data", response_model=SyncAnswer)
async def process_data(request: Request, gateway: Parts) -> Response:
    """Process `payload` (text, or an array whose elements become lines) and return the result."""
    with gateway.admission.enter(), _spool(gateway) as spool:
        reader = JsonBody("payload", base64=False)
        await _fill(spool, request, gateway, reader)
        if not reader.data_seen:
            raise unprocessable("missing", ("body", "payload"), "Field required")
        fields = _check(ProcessFields, reader.fields, "body")
        asked = SubmitRequest(
            kind=fields.kind, options=fields.options, shard_size=fields.shard_size, size_bytes=spool.size_bytes
        )
        status = await _run(gateway, asked, spool.chunks())
        return await _answer(gateway, status, "result")


@router.post("/analyze-image", response_model=SyncAnswer)
async def analyze_image(request: Request, gateway: Parts) -> Response:
    """Analyse an image, sent as a raw body, as one file in a form, or as base64 in a JSON object."""
    content_type = request.headers.get("content-type", "application/octet-stream").lower()
    with gateway.admission.enter(), _spool(gateway) as spool:
        if content_type.startswith(_RAW_TYPES):
            status = await _analyze_raw(request, gateway, content_type)
        else:
            reader = _field_reader(content_type)
            await _fill(spool, request, gateway, reader)
            if isinstance(reader, JsonBody) and not reader.data_seen:
                raise unprocessable("missing", ("body", "image_data"), "Field required")
            fields = _check(ImageFields, reader.fields, "body")
            asked = _image_request(fields, reader.content_type, spool.size_bytes)
            status = await _run(gateway, asked, spool.chunks())
        return await _answer(gateway, status, "analysis")


async def _analyze_raw(request: Request, gateway: Gateway, content_type: str) -> JobStatus:
    """Cut the image while it arrives, which is possible because every option is in the query."""
    fields = _check(ImageFields, dict(request.query_params), "query")
    asked = _image_request(fields, content_type, input_length(request))
    return await _run(gateway, asked, _request_body(request, gateway, RawBody()).chunks())


def _field_reader(content_type: str) -> BodyReader:
    if content_type.startswith("multipart/form-data"):
        return MultipartBody(content_type)
    if content_type.startswith("application/json"):
        return JsonBody("image_data", base64=True)
    accepted = "application/json, multipart/form-data, image/*, application/octet-stream, application/x-npy"
    raise Problem(415, "content-type", f"Content-Type {content_type!r} is not one of {accepted}")


def _image_request(fields: ImageFields, content_type: str | None, size_bytes: int | None) -> SubmitRequest:
    named = fields.model_dump(exclude={"shard_size", "options"}, exclude_none=True)
    return SubmitRequest(
        kind="image.features",
        options={**fields.options, **named},
        shard_size=fields.shard_size,
        content_type=content_type or "application/octet-stream",
        size_bytes=size_bytes,
    )


def _spool(gateway: Gateway) -> Spool:
    return Spool(max_bytes=gateway.settings.max_spool_bytes, directory=gateway.settings.spool_dir)


def _request_body(request: Request, gateway: Gateway, reader: BodyReader) -> RequestBody:
    settings = gateway.settings
    return RequestBody(request, reader, max_bytes=settings.max_body_bytes, idle_timeout_s=settings.body_idle_timeout_s)


async def _fill(spool: Spool, request: Request, gateway: Gateway, reader: BodyReader) -> None:
    async for data in _request_body(request, gateway, reader).chunks():
        await spool.write(data)


def _check(model: type[FieldsT], fields: Mapping[str, object], where: str) -> FieldsT:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise from_validation(error, where) from error


async def _run(gateway: Gateway, asked: SubmitRequest, body: AsyncIterator[bytes]) -> JobStatus:
    """Submit a job and wait for its end; after the time limit Problem 503, with the job's status_url."""
    spec = make_spec(asked, gateway.registry, gateway.settings)
    owner = (await gateway.submitter.submit(spec, body)).status.owner
    limit_s = gateway.settings.sync_wait_s
    await gateway.view.wait_ended(owner.job_id, owner.version, limit_s)
    status = gateway.view.get(owner.job_id)
    if status is None or not status.state.ended:
        raise Problem(
            503,
            "wait-limit",
            f"the job was accepted and still runs after {limit_s:g} s, the limit of this endpoint; poll status_url",
            retry_after_s=_RETRY_AFTER_S,
            job_id=owner.job_id,
            status_url=_url(owner.job_id),
        )
    return status


async def _answer(gateway: Gateway, status: JobStatus, field: str) -> Response:
    if status.result is None:
        raise _failure(status)
    content, media_type = await gateway.results.read(status), status.result.media_type
    body = answer_json(field, content, media_type, job_id=status.owner.job_id, shards=status.total or 0)
    return Response(body, media_type="application/json")


def _failure(status: JobStatus) -> Exception:
    """Return a 422 if the data or the size of its result is the reason, a 500 for any other failure."""
    job_id = status.owner.job_id
    why = status.error or f"the job {status.state}"
    if status.reason in _DATA_REASONS or any(error.reason in _DATA_REASONS for error in status.errors):
        return unprocessable("bad-data", ("body",), why, job_id=job_id, status_url=_url(job_id))
    return Problem(500, "job-failed", why, reason=status.reason, job_id=job_id, status_url=_url(job_id))


def _url(job_id: str) -> str:
    return f"/v1/jobs/{job_id}"
