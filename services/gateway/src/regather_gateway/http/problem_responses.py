"""Answers errors as `application/problem+json` (RFC 9457), those of this service and those of the framework."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from regather.core.errors import TransportError, UserError
from regather.service.logs import get_logger
from regather_gateway.problems import Problem, broker_unavailable

log = get_logger()
MEDIA_TYPE = "application/problem+json"
_RETRYABLE = frozenset({408, 429, 503})
_PASSING_CONFLICTS = frozenset({"submission-open", "not-ready", "closed-meanwhile"})
"""Conflicts that may pass: repeating the request can succeed. Every other conflict is permanent."""


def problem_of(error: Exception) -> Problem:
    """Convert any error that a route may raise to a problem."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, UserError):
        return Problem(422, error.code, str(error))
    if isinstance(error, TransportError):
        return broker_unavailable(str(error))
    if isinstance(error, RequestValidationError):
        return _invalid(error)
    if isinstance(error, ClientDisconnect):
        return Problem(400, "client-gone", "the client disconnected before the end of the upload")
    if isinstance(error, HTTPException):
        phrase = HTTPStatus(error.status_code).phrase
        return Problem(error.status_code, phrase.lower().replace(" ", "-"), str(error.detail))
    return Problem(500, "internal", "the gateway failed unexpectedly; its log has the cause")


def to_response(problem: Problem, instance: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return the problem as the answer to a request at path `instance`."""
    document: dict[str, Any] = {
        "type": f"urn:regather:problem:{problem.code}",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "instance": instance,
        "code": problem.code,
        "retryable": problem.status in _RETRYABLE or problem.code in _PASSING_CONFLICTS,
        **problem.extensions,
    }
    return json_response(document, problem.status, {**(headers or {}), **problem.headers}, MEDIA_TYPE)


def json_response(
    document: object, status: int, headers: Mapping[str, str] | None = None, media_type: str = "application/json"
) -> Response:
    """Return a document as ASCII JSON, which can encode any text, unpaired surrogates included, and so never fails."""
    return Response(json.dumps(document).encode(), status, headers, media_type)


def install(app: FastAPI) -> None:
    """Make the application answer every error as a problem, including the framework's own 404, 405 and 422."""
    for kind in (
        Problem,
        UserError,
        TransportError,
        RequestValidationError,
        HTTPException,
        ClientDisconnect,
        Exception,
    ):
        app.add_exception_handler(kind, _handle)


async def _handle(request: Request, error: Exception) -> Response:
    problem = problem_of(error)
    if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("request-failed", path=request.url.path, status=problem.status, error=repr(error))
    headers = error.headers if isinstance(error, HTTPException) else None
    return to_response(problem, request.url.path, headers)


def _invalid(error: RequestValidationError) -> Problem:
    errors = [
        {"parameter": str(entry["loc"][-1]), "in": str(entry["loc"][0]), "detail": entry["msg"]}
        for entry in error.errors()
    ]
    detail = "; ".join(f"{entry['parameter']}: {entry['detail']}" for entry in errors)
    return Problem(422, "invalid-parameter", detail, errors=errors)
