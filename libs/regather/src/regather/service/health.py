"""The HTTP port that every service has: /livez, /readyz, /metrics and /version, served until the service stops."""

import asyncio
import contextlib
import json
import os
import platform
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from regather import __version__
from regather.service.metrics import ReadSamples, no_samples, registry_of
from regather.service.settings import ServiceSettings

GRACEFUL_S = 1


@dataclass(frozen=True, slots=True)
class Probes:
    """A service's name, a function that returns why it is not ready (None: it is), and its own metrics."""

    service: str
    not_ready_because: Callable[[], str | None]
    samples: ReadSamples = no_samples


def probes_router(probes: Probes) -> APIRouter:
    """Return the routes of the probes, for a service's own application."""
    router = APIRouter(include_in_schema=False)
    registry = registry_of(probes.samples)

    @router.get("/livez")
    async def livez() -> dict[str, str]:
        return {"status": "alive"}

    @router.get("/readyz")
    async def readyz() -> JSONResponse:
        reason = probes.not_ready_because()
        if reason is None:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready", "reason": reason}, status_code=503)

    @router.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @router.get("/version")
    async def version() -> dict[str, str]:
        return {"service": probes.service, "version": __version__, "python": platform.python_version()}

    return router


def probes_app(probes: Probes) -> FastAPI:
    """Return an application with only the probes, for services without an HTTP interface of their own."""
    app = FastAPI(title=f"regather {probes.service}", openapi_url=None, docs_url=None, redoc_url=None)
    app.include_router(probes_router(probes))
    return app


async def serve(app: FastAPI, settings: ServiceSettings, stop: asyncio.Event, *, graceful_s: int = GRACEFUL_S) -> None:
    """Serve `app` until `stop` is set, without signal handlers. Raise OSError if the address cannot be bound."""
    with _bound(settings.http_host, settings.http_port) as listener:
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=graceful_s)
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]), name="uvicorn")
        try:
            _write_address(settings.ready_file, listener)
            stopping = asyncio.create_task(stop.wait(), name="stop")
            await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
        finally:
            server.should_exit = True
            try:
                await asyncio.shield(serving)
            except asyncio.CancelledError:  # finish the application's shutdown first: interrupted, it would be an error
                await serving
                raise


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the service has its own handlers


@contextlib.contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    # Name the protocol: asyncio sets TCP_NODELAY only if it is named, and without that each answer waits 40 ms.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise OSError(
                error.errno, f"cannot listen on {host}:{port} ({error.strerror}); set REGATHER_HTTP_PORT"
            ) from error
        yield listener


def _write_address(ready_file: str, listener: socket.socket) -> None:
    if not ready_file:
        return
    host, port = listener.getsockname()[:2]
    address = {"url": f"http://{host}:{port}", "host": host, "port": port, "pid": os.getpid()}
    partial = Path(f"{ready_file}.partial")
    partial.write_text(json.dumps(address))
    partial.replace(ready_file)
