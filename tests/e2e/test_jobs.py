"""Whole jobs over real HTTP and real Kafka, compared with independent programs; bad input that leaves nothing behind."""

import asyncio
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import numpy as np
import pytest

from regather.testing.waiting import eventually
from regather_cli.client import Client, Submission, has_ended
from regather_cli.dead_letters import read_dead_letters
from regather_cli.stack import Stack

pytestmark = [pytest.mark.kafka, pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

SHARD_BYTES = 64 * 1024
Reference = Callable[..., dict[str, Any]]


def image(height: int = 700, width: int = 301, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (height, width, channels), np.uint8)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


async def result_of(client: Client, submission: Submission, body: bytes) -> tuple[dict[str, Any], Any]:
    document = await client.submit(submission, body)
    document = await client.wait(document["job_id"], timeout_s=60)
    assert document["state"] == "succeeded", document
    return document, json.loads(await client.result(document["job_id"]))


@pytest.mark.parametrize("form", ["raw", "npy"])
async def test_an_image_has_the_features_that_an_independent_program_finds(
    client: Client, reference: Reference, tmp_path: Path, form: str
) -> None:
    pixels = image()
    body = npy(pixels) if form == "npy" else pixels.tobytes()
    options = {} if form == "npy" else {"width": "301"}
    (tmp_path / "image").write_bytes(body)

    document, result = await result_of(client, Submission("image.features", options, SHARD_BYTES), body)

    assert document["shards"]["total"] > 8
    arguments = [] if form == "npy" else ["--width", "301"]
    assert result == reference("image_features", tmp_path / "image", *arguments)["features"]


async def test_a_body_of_bytes_has_the_digest_that_an_independent_program_finds(
    client: Client, reference: Reference, tmp_path: Path
) -> None:
    body = np.random.default_rng(1).bytes(1_000_003)
    (tmp_path / "body").write_bytes(body)

    document, result = await result_of(client, Submission("bytes.digest", {}, 1024), body)

    assert document["shards"] == {**document["shards"], "done": 977, "total": 977, "frontier": 977, "gaps": []}
    expected = reference("bytes_digest", tmp_path / "body")["features"]
    assert {name: result[name] for name in expected} == expected


async def test_a_poisoned_shard_runs_four_times_and_leaves_a_named_gap_and_one_dead_letter(
    stack: Stack, client: Client
) -> None:
    submission = Submission("diagnostics", {"do": "raise", "only": "3"}, 1024, on_error="skip")

    document = await client.submit(submission, bytes(8 * 1024))
    document = await client.wait(document["job_id"], timeout_s=60)

    assert (document["state"], document["shards"]["gaps"]) == ("partial", [[3, 3]])
    assert [error["attempts"] for error in document["errors"]] == [4]
    shards = await client.shards(document["job_id"])
    assert [failure["attempt"] for failure in shards[3]["failures"]] == [0, 1, 2, 3]
    letters = await read_dead_letters(stack.broker.bootstrap_servers, stack.topics, document["job_id"])
    assert [letter.seq for letter in letters] == [3]


async def test_both_doors_answer_in_one_request(stack: Stack) -> None:
    async with httpx2.AsyncClient(base_url=stack.gateway_url, timeout=60) as http:
        answer = await http.post("/process-data", json={"payload": ["a", "b"], "shard_size": 1024})
        assert answer.status_code == 200, answer.text
        assert answer.json()["result"]["size_bytes"] == len(b'"a"\n"b"\n')
        headers = {"content-type": "application/x-npy"}
        answer = await http.post("/analyze-image", content=npy(image(40)), headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.json()["analysis"]["height"] == 40


class Sent:
    """A request written byte by byte, because a client library would not send what is wrong."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url)

    async def __call__(self, body: bytes, length: int | str, query: str, *, stay: bool = True) -> int | None:
        reader, writer = await asyncio.open_connection(self._address.hostname, self._address.port)
        try:
            head = f"POST /v1/jobs?{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
            if not stay:
                return None
            writer.write_eof()
            status = await asyncio.wait_for(reader.readline(), 30)
            return int(status.split()[1]) if status else None
        finally:
            writer.close()


async def no_open_job(client: Client, stack: Stack) -> None:
    async with httpx2.AsyncClient(base_url=stack.gateway_url) as http:

        async def all_ended() -> bool:
            jobs = (await http.get("/v1/jobs?limit=500")).json()["jobs"]
            return all(has_ended(job) for job in jobs)

        await eventually(all_ended, timeout_s=30, what="the end of every job")
    _, result = await result_of(client, Submission("bytes.digest", {}, 1024), b"still alive")
    assert result["size_bytes"] == len(b"still alive")


async def test_bodies_that_are_cut_off_leave_no_open_job(stack: Stack, client: Client) -> None:
    send = Sent(stack.gateway_url)
    whole = npy(image())
    query = f"kind=image.features&shard_size={SHARD_BYTES}"
    bytes_query = "kind=bytes.digest&shard_size=1024"

    assert await send(whole[: len(whole) // 2], len(whole) // 2, query) == 422  # the NPY says more rows
    assert await send(whole + b"more", len(whole) + 4, query) == 422
    assert await send(b"x" * 100_000, 200_000, bytes_query) in (
        None,
        400,
    )  # ends early: perhaps nobody reads the answer
    assert await send(b"x" * 500_000, 10_000_000, bytes_query, stay=False) is None  # the client is gone
    assert await send(b"x", "many", bytes_query) == 400

    await no_open_job(client, stack)


async def test_requests_that_are_wrong_are_refused_with_a_reason_and_leave_no_job(stack: Stack, client: Client) -> None:
    cases = [
        ("/v1/jobs?kind=bytes.digest", b"", 422, "empty-body"),
        ("/v1/jobs?kind=no.such", b"x", 422, "unknown-kind"),
        ("/v1/jobs?kind=bytes.digest&option.colour=red", b"x", 422, "bad-option"),
        *(
            (f"/v1/jobs?kind=bytes.digest&shard_size={size}", b"x", 422, "bad-shard-size")
            for size in (0, 1023, 10485761)
        ),
        ("/v1/jobs?kind=bytes.digest&shard_size=abc", b"x", 422, "invalid-parameter"),
        ("/process-data", b'{"payload": "x", "shard_size": 1023}', 422, "shard-size-invalid"),
        ("/process-data", b'{"payload": "x"', 422, "json-invalid"),
        ("/analyze-image", b'{"image_data": "!!!!"}', 422, "base64-invalid"),
        ("/analyze-image", b"{}", 422, "missing"),
    ]
    async with httpx2.AsyncClient(base_url=stack.gateway_url, timeout=30) as http:
        before = len((await http.get("/v1/jobs?limit=500")).json()["jobs"])
        for path, body, status, code in cases:
            answer = await http.post(path, content=body, headers={"content-type": "application/json"})
            assert (answer.status_code, answer.json()["code"]) == (status, code), path
            assert answer.json()["detail"]
        assert len((await http.get("/v1/jobs?limit=500")).json()["jobs"]) == before
    await no_open_job(client, stack)
