"""The two synchronous endpoints: a client sends the data and gets the result in one request."""

from collections.abc import Mapping
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, ValidationError

from regather.core.sharding import DEFAULT_SHARD_BYTES, MAX_SHARD_BYTES, MIN_SHARD_BYTES
from regather.core.status import JobStatus
from regather_gateway.bodies.base import BodyReader
from regather_gateway.bodies.json_body import JsonBody
from regather_gateway.bodies.multipart_body import MultipartBody
from regather_gateway.bodies.spool import Spool
from regather_gateway.gateway import Gateway, Parts
from regather_gateway.http.request_body import RawBody, RequestBody, input_length
from regather_gateway.http.sync_answer import SyncAnswer, answer, run_job
from regather_gateway.http.sync_errors import SyncRoute, from_validation, unprocessable
from regather_gateway.problems import Problem
from regather_gateway.submission.job_spec import SubmitRequest

router = APIRouter(route_class=SyncRoute)
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
        status = await run_job(gateway, asked, spool.chunks())
        return await answer(gateway, status, "result")


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
            status = await run_job(gateway, asked, spool.chunks())
        return await answer(gateway, status, "analysis")


async def _analyze_raw(request: Request, gateway: Gateway, content_type: str) -> JobStatus:
    """Cut the image while it arrives, which is possible because every option is in the query."""
    fields = _check(ImageFields, dict(request.query_params), "query")
    asked = _image_request(fields, content_type, input_length(request))
    return await run_job(gateway, asked, _request_body(request, gateway, RawBody()).chunks())


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
