"""Errors of the two synchronous endpoints: `{"detail": ..., "code": ...}`; for a 422 `detail` is FastAPI's list."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import ValidationError

from regather.core.errors import TransportError, UserError
from regather.service.logs import get_logger
from regather_gateway.http.problem_responses import json_response, problem_of
from regather_gateway.http.request_body import drain
from regather_gateway.problems import Problem

log = get_logger()
_UNPROCESSABLE = 422
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Unprocessable(Exception):
    """A 422 with FastAPI's list: each entry has `type`, `loc` and `msg`."""

    def __init__(self, code: str, details: Sequence[Mapping[str, object]], **extensions: object) -> None:
        super().__init__(code)
        self.code = code
        self.details = details
        self.extensions = extensions


def unprocessable(code: str, location: tuple[str | int, ...], message: str, **extensions: object) -> Unprocessable:
    """Return a 422 with one detail, in FastAPI's format."""
    return Unprocessable(code, [{"type": code.replace("-", "_"), "loc": location, "msg": message}], **extensions)


def from_validation(error: ValidationError, where: str) -> Unprocessable:
    """Convert pydantic's errors; `where` is `body` or `query`. The first field names the code."""
    details = error.errors(include_url=False)
    field = details[0]["loc"][0] if details[0]["loc"] else where
    code = f"{str(field).replace('_', '-')}-invalid"
    return Unprocessable(
        code, [{"type": detail["type"], "loc": (where, *detail["loc"]), "msg": detail["msg"]} for detail in details]
    )


class SyncRoute(APIRoute):
    """A route that answers errors in the format of the synchronous endpoints."""

    def get_route_handler(self) -> Handler:
        """Wrap the framework's handler: drain the request, then answer the error."""
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            try:
                return await handle(request)
            except (Unprocessable, UserError, Problem, TransportError) as error:
                await drain(request)
                return _answer(request, error)

        return guarded


def _answer(request: Request, error: Exception) -> Response:
    if isinstance(error, UserError):
        error = unprocessable(error.code, ("body",), str(error))
    if isinstance(error, Unprocessable):
        content = {"detail": error.details, "code": error.code, **error.extensions}
        return json_response(content, _UNPROCESSABLE)
    problem = problem_of(error)
    log.info("request-refused", path=request.url.path, status=problem.status, code=problem.code)
    content = {"detail": problem.detail, "code": problem.code, **problem.extensions}
    return json_response(content, problem.status, problem.headers)
