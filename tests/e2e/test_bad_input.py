"""Every bad input of the table is answered as it says, and leaves nothing behind: no open job, no file, no process."""

import asyncio
import os
import socket
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
import pytest_asyncio
from e2e.bad_inputs import CASES, Case

from regather.embedded.kafka_broker import Broker
from regather.testing.waiting import eventually
from regather_cli.stack import Stack, StackSettings

pytestmark = [pytest.mark.kafka, pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


class World:
    """A stack with a spool folder of its own, and what must be true after each case."""

    def __init__(self, stack: Stack, client: httpx2.AsyncClient, spool: Path) -> None:
        self.stack = stack
        self.client = client
        self.spool = spool
        self.processes = self.count_processes()

    def count_processes(self) -> int:
        return len(self.stack.leftover_pids())

    async def nothing_remains(self) -> None:
        async def no_open_job() -> bool:
            jobs = (await self.client.get("/v1/jobs", params={"limit": "20"})).json()["jobs"]
            return all(job["state"] in ("succeeded", "partial", "failed", "expired") for job in jobs)

        await eventually(no_open_job, what="the end of every job")
        assert [path for path in self.spool.rglob("*") if path.is_file() and path.name != "lock"] == []
        await eventually(lambda: self.count_processes() == self.processes, what="the usual number of processes")
        assert (await self.client.get("/readyz")).status_code == 200


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(kafka_broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    spool = tmp_path_factory.mktemp("spool")
    settings = StackSettings(
        workers=1,
        worker_slots=1,
        topic_prefix=f"bad-{uuid.uuid4().hex[:8]}.",
        environment={"REGATHER_SPOOL_DIR": str(spool), "REGATHER_HEARTBEAT_TIMEOUT_S": "2", "REGATHER_TICK_S": "0.5"},
    )
    async with (
        Stack(settings, broker=kafka_broker) as stack,
        httpx2.AsyncClient(base_url=stack.gateway_url, timeout=60) as client,
    ):
        yield World(stack, client, spool)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_bad_input_is_answered_as_the_table_says(world: World, case: Case) -> None:
    path = case.path or f"/v1/jobs?{case.query}"
    headers = {"content-type": "application/octet-stream", "prefer": "wait=20", **case.headers}
    response = await world.client.post(path, content=case.body, headers=headers)
    document: dict[str, Any] = response.json()
    if case.fails:
        assert (document.get("state"), document.get("reason")) == ("failed", "shard-failed"), document
        assert case.fails in document["error"]
    else:
        assert (response.status_code, document.get("code")) == (case.status, case.code), document
        assert "Traceback" not in response.text
        assert len(str(document["detail"])) > 10
    await world.nothing_remains()


async def test_the_table_is_large_and_its_names_are_unique() -> None:
    assert len(CASES) >= 80
    assert len({case.name for case in CASES}) == len(CASES)


def talk(url: str, request: bytes) -> bytes:
    """Send bytes as they stand and read what comes until the server closes, or for two seconds."""
    parts = urlsplit(url)
    with socket.create_connection((str(parts.hostname), int(parts.port or 80)), timeout=2) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while chunk := connection.recv(65536):
                answer += chunk
        except TimeoutError:
            pass
        return answer


HEAD = b"POST /v1/jobs?kind=bytes.digest&shard_size=1024 HTTP/1.1\r\nHost: x\r\n"
LYING = [
    pytest.param(HEAD + b"Content-Length: 5000\r\n\r\n" + b"x" * 4000, b"", id="shorter than announced"),
    pytest.param(HEAD + b"Content-Length: abc\r\n\r\nxyz", b"400", id="length that is no number"),
    pytest.param(HEAD + b"Content-Length: -5\r\n\r\nxyz", b"400", id="negative length"),
    pytest.param(HEAD + b"Content-Length: 3\r\n\r\nxyz" + b"junk" * 9, b"400", id="longer than announced"),
    pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nxyz", b"400", id="chunk that is none"),
    pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1000\r\n" + b"x" * 99, b"", id="chunk cut off"),
    pytest.param(b"POST /v1/jobs HTTP/9.9\r\n\r\n", b"400", id="unknown version"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400", id="TLS"),
]


@pytest.mark.parametrize(("request_bytes", "status"), LYING)
async def test_a_lying_request_leaves_nothing_behind(world: World, request_bytes: bytes, status: bytes) -> None:
    answer = await asyncio.to_thread(talk, world.stack.gateway_url, request_bytes)
    assert status in answer
    await world.nothing_remains()


async def test_a_client_that_goes_away_while_a_file_is_spooled_leaves_no_file(world: World) -> None:
    request = b"POST /v1/jobs?kind=image.features HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n"
    await asyncio.to_thread(talk, world.stack.gateway_url, request + b"\x89PNG\r\n\x1a\n" + os.urandom(3_000_000))
    await eventually(
        lambda: not [path for path in world.spool.rglob("*") if path.is_file() and path.name != "lock"],
        what="the spool file's end",
    )
    await world.nothing_remains()
