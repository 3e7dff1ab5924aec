import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from regather_cli.client import ApiError, Client, Submission, WaitTimeout


def _gateway(handler: Callable[[httpx2.Request], Any]) -> Client:
    return Client("http://gateway", httpx2.MockTransport(handler))


async def test_a_file_is_sent_with_its_length_and_every_parameter(tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"x" * 3_000_000)
    seen: list[httpx2.Request] = []

    async def handler(request: httpx2.Request) -> httpx2.Response:
        assert len(await request.aread()) == 3_000_000
        seen.append(request)
        return httpx2.Response(202, json={"job_id": "j"})

    submission = Submission("image.features", {"width": "4"}, shard_size_bytes=4096, on_error="skip")
    async with _gateway(handler) as client:
        assert await client.submit(submission, body) == {"job_id": "j"}
    (request,) = seen
    assert dict(request.url.params) == {
        "kind": "image.features",
        "shard_size": "4096",
        "on_error": "skip",
        "option.width": "4",
    }
    assert request.headers["content-length"] == "3000000"
    assert "transfer-encoding" not in request.headers


async def test_a_side_file_goes_ahead_of_the_body_in_a_form(tmp_path: Path) -> None:
    body = tmp_path / "sales.csv"
    body.write_bytes(b"x" * 3_000_000)
    seen: list[tuple[httpx2.Request, bytes]] = []

    async def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append((request, await request.aread()))
        return httpx2.Response(202, json={"job_id": "j"})

    async with _gateway(handler) as client:
        assert await client.submit(Submission("table.etl", {"join": "id"}), body, b"id,name\n") == {"job_id": "j"}
    ((request, content),) = seen
    assert request.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert dict(request.url.params) == {"kind": "table.etl", "option.join": "id"}
    side, file = content.index(b'name="side"'), content.index(b'name="file"; filename="sales.csv"')
    assert side < content.index(b"id,name\n") < file
    assert content.count(b"x" * 3_000_000) == 1


async def test_a_problem_is_told_in_the_gateways_own_words() -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(422, json={"title": "Unprocessable", "detail": "kind nonsense is not offered"})

    async with _gateway(handler) as client:
        with pytest.raises(ApiError, match="Unprocessable: kind nonsense is not offered") as caught:
            await client.submit(Submission("nonsense", {}), b"")
    assert caught.value.status == 422


async def test_no_gateway_is_told_with_what_to_do() -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    async with _gateway(handler) as client:
        with pytest.raises(ApiError, match=r"no answer from http://gateway.*regather up"):
            await client.status("j")


async def test_wait_does_not_take_the_end_of_the_version_before_for_that_of_a_redrive() -> None:
    documents = iter([(1, "partial"), (2, "running"), (2, "succeeded")])

    def handler(request: httpx2.Request) -> httpx2.Response:
        version, state = next(documents)
        return httpx2.Response(200, json={"job_id": "j", "version": version, "state": state})

    async with _gateway(handler) as client:
        document = await client.wait("j", timeout_s=5, every_s=0, version=2)
    assert (document["version"], document["state"]) == (2, "succeeded")


async def test_wait_shows_every_document_and_returns_the_last() -> None:
    states = iter(["splitting", "running", "succeeded"])

    def handler(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={"job_id": "j", "state": next(states)})

    shown: list[str] = []
    async with _gateway(handler) as client:
        document = await client.wait("j", timeout_s=5, on_progress=lambda d: shown.append(d["state"]), every_s=0)
    assert shown == ["splitting", "running", "succeeded"]
    assert document["state"] == "succeeded"


async def test_wait_gives_up_with_the_last_document() -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=json.dumps({"job_id": "j", "state": "running"}))

    async with _gateway(handler) as client:
        with pytest.raises(WaitTimeout, match="job j is still running"):
            await client.wait("j", timeout_s=0, every_s=0)
