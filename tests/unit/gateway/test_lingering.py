"""An answer that comes before the end of its request arrives, over real HTTP."""

import asyncio
import contextlib
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
import requests
from fastapi import FastAPI, Request

from regather.service.health import serve
from regather_gateway.http.problem_responses import json_response
from regather_gateway.http.request_body import Lingering, drain

MIB = 1024 * 1024


def refusing() -> FastAPI:
    app = FastAPI()
    app.add_middleware(Lingering)

    @app.post("/early")
    async def early(request: Request) -> Any:
        await drain(request)
        return json_response({"detail": "early"}, 422)

    @app.post("/late")
    async def late(request: Request) -> Any:
        async for _ in request.stream():
            break
        return json_response({"detail": "late"}, 413)

    @app.post("/unread")
    async def unread(number: int) -> Any:
        return number

    return app


def with_http_client(url: str, path: str, size_bytes: int, headers: dict[str, str]) -> int:
    """It sends everything before it looks for an answer."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
    connection.request("POST", path, body=bytes(size_bytes), headers=headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def with_chunks(url: str, path: str, size_bytes: int, headers: dict[str, str]) -> int:
    def chunks() -> Iterator[bytes]:
        for _ in range(size_bytes // MIB):
            yield bytes(MIB)

    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
    connection.request("POST", path, body=chunks(), headers=headers, encode_chunked=True)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def with_requests(url: str, path: str, size_bytes: int, headers: dict[str, str]) -> int:
    return requests.post(url + path, data=bytes(size_bytes), headers=headers, timeout=20).status_code


def with_httpx(url: str, path: str, size_bytes: int, headers: dict[str, str]) -> int:
    status: int = httpx2.post(url + path, content=bytes(size_bytes), headers=headers, timeout=20).status_code
    return status


async def listening(ready_file: Path) -> str:
    """The address, as soon as connections are taken there; the file is written a moment before."""
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(OSError):
                address = json.loads(ready_file.read_text())
                _, writer = await asyncio.open_connection(address["host"], address["port"])
                writer.close()
                return str(address["url"])
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("send", [with_http_client, with_chunks, with_requests, with_httpx])
async def test_a_client_that_still_sends_gets_its_refusal(send: Any, tmp_path: Path) -> None:
    stop = asyncio.Event()
    settings: Any = SimpleNamespace(http_host="127.0.0.1", http_port=0, ready_file=str(tmp_path / "ready"))
    serving = asyncio.create_task(serve(refusing(), settings, stop))
    try:
        url = await listening(tmp_path / "ready")
        for path, status in (("/early", 422), ("/late", 413), ("/unread", 422)):
            for headers in ({"Connection": "close"}, {}):
                for size_bytes in (MIB, 32 * MIB):
                    assert await asyncio.to_thread(send, url, path, size_bytes, headers) == status
    finally:
        stop.set()
        await serving
