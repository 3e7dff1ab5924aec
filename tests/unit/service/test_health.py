"""The HTTP server of a service."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from regather.service.health import serve
from regather.service.settings import ServiceSettings
from regather.testing.waiting import eventually


async def test_a_server_that_is_cancelled_while_it_stops_lets_its_application_end(tmp_path: Path) -> None:
    seen: list[str] = []
    may_end = asyncio.Event()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        seen.append("begun")
        yield
        seen.append("ending")
        await may_end.wait()
        seen.append("ended")

    ready, stop = tmp_path / "ready", asyncio.Event()
    settings = ServiceSettings(http_port=0, ready_file=str(ready))
    serving = asyncio.create_task(serve(FastAPI(lifespan=lifespan), settings, stop))
    await eventually(lambda: ready.exists() and seen, what="the server")
    stop.set()
    await eventually(lambda: "ending" in seen, what="the application's end")
    serving.cancel()
    await asyncio.wait([serving], timeout=0.05)
    assert not serving.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert seen == ["begun", "ending", "ended"]
