"""Runs a job for a synchronous endpoint; the answer is its result in a JSON object, with every digit unchanged.

Theory of operation. Parsing a result and serializing it again would change it: 1e400 becomes infinity, which JSON does
not have; an integer of 5,000 digits cannot be printed; 1.10 becomes 1.1. So this module only checks the result, and
copies its text into the answer. NaN, Infinity and -Infinity, which some writers of JSON emit, become strings of that
name.
"""

import base64
import json
import re
from collections.abc import AsyncIterator

from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from regather.core.model import Reason
from regather.core.status import JobStatus
from regather_gateway.gateway import Gateway
from regather_gateway.http.sync_errors import unprocessable
from regather_gateway.problems import Problem
from regather_gateway.submission.job_spec import SubmitRequest, make_spec

_RETRY_AFTER_S = 2
_DATA_REASONS = frozenset({Reason.PERMANENT, Reason.RETURNED_TOO_MUCH, Reason.RESULT_TOO_LARGE})
_CONSTANT = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|-?Infinity|NaN')


class SyncAnswer(BaseModel):
    """Answer of a synchronous endpoint; a further field holds the result."""

    model_config = ConfigDict(extra="allow")

    job_id: str
    shards: int


async def run_job(gateway: Gateway, asked: SubmitRequest, body: AsyncIterator[bytes]) -> JobStatus:
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


async def answer(gateway: Gateway, status: JobStatus, field: str) -> Response:
    """Answer with the result of a job that has ended, as `field` of a JSON object; raises its failure if it has none."""
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


def answer_json(field: str, content: bytes, media_type: str, *, job_id: str, shards: int) -> bytes:
    """Return the answer's bytes: `{field: result, "job_id": ..., "shards": ...}`.

    The result is embedded by its media type: JSON as it is, NDJSON as an array, other text as a string, other bytes in
    base64. Problem 500 if a result declared as JSON is not valid JSON; 422 if it is nested too deeply to check.
    """
    try:
        result = _result_text(content, media_type)
    except ValueError as error:
        where = f"/v1/jobs/{job_id}/result"
        detail = f"the result is declared as {media_type}, but is not valid ({error}); its bytes are at {where}"
        raise Problem(500, "result-invalid", detail, job_id=job_id) from error
    except RecursionError as error:
        detail = f"the result is nested too deeply for this endpoint; get it at /v1/jobs/{job_id}/result"
        raise Problem(422, "result-too-deep", detail, job_id=job_id) from error
    footer = json.dumps({"job_id": job_id, "shards": shards}, separators=(",", ":"))
    return f'{{"{field}":{result},{footer[1:]}'.encode()


def _result_text(content: bytes, media_type: str) -> str:
    if media_type == "application/json":
        return _checked(content.decode())
    if media_type == "application/x-ndjson":
        lines = content.decode().split("\n")
        return f"[{','.join(_checked(line) for line in lines if line.strip())}]"
    if media_type.startswith("text/"):
        return json.dumps(content.decode(errors="replace"))
    return json.dumps(base64.b64encode(content).decode())


def _checked(text: str) -> str:
    """Return the text of one JSON value, with constants quoted; ValueError if it is not valid JSON."""
    constants: list[str] = []
    # Numbers are skipped, not parsed: int() refuses more than 4,300 digits, and float() turns 1e400 into infinity.
    json.loads(text, parse_int=len, parse_float=len, parse_constant=constants.append)
    return _CONSTANT.sub(_quoted, text) if constants else text


def _quoted(token: re.Match[str]) -> str:
    return token[0] if token[0].startswith('"') else f'"{token[0]}"'
