"""A job that has ended runs what it lacks again, as its next version, and keeps what it has."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import numpy as np
import pytest

from regather_cli.client import Client, Submission
from regather_cli.stack import Role, Stack

pytestmark = [
    pytest.mark.long,
    pytest.mark.kafka,
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),
]

CountFinals = Callable[[], Awaitable[Counter[tuple[str, int]]]]
SLOW = {"do": "sleep", "seconds": "0.6", "only": "3,5"}
"""Shards that need more time than the first version gives them."""


async def redriven(stack: Stack, job_id: str, **query: str) -> httpx2.Response:
    async with httpx2.AsyncClient(base_url=stack.gateway_url, timeout=60) as http:
        return await http.post(f"/v1/jobs/{job_id}:redrive", params=query)


async def ended(client: Client, submission: Submission, body: bytes) -> dict[str, Any]:
    job_id = (await client.submit(submission, body))["job_id"]
    return await client.wait(job_id, timeout_s=60)


async def again(stack: Stack, client: Client, job_id: str, **query: str) -> dict[str, Any]:
    answer = await redriven(stack, job_id, **query)
    assert answer.status_code in (200, 202), answer.text
    return await client.wait(job_id, timeout_s=60, version=answer.json()["version"])


async def test_dead_shards_run_again_and_the_others_stay(
    stack: Stack, client: Client, count_finals: CountFinals
) -> None:
    first = await ended(client, Submission("diagnostics", SLOW, 1024, on_error="skip", timeout_s=0.2), bytes(8 * 1024))
    assert (first["state"], first["shards"]["gaps"]) == ("partial", [[3, 3], [5, 5]])
    gateway = stack.of(Role.GATEWAY)[0]
    (before,) = await gateway.metric("regather_redriven_shards_total")
    second = await again(stack, client, first["job_id"], timeout_s="20")
    assert await gateway.metric("regather_redriven_shards_total") == [before + 2]
    assert (second["version"], second["state"], second["created_ms"]) == (2, "succeeded", first["created_ms"])
    assert (second["shards"]["done"], second["shards"]["gaps"], second["errors"]) == (8, [], [])
    assert json.loads(await client.result(first["job_id"]))["size_bytes"] == 8 * 1024
    shards = await client.shards(first["job_id"])
    assert [(shard["state"], shard["attempts"]) for shard in shards] == [("done", 1)] * 8
    assert {version: n for (job, version), n in (await count_finals()).items() if job == first["job_id"]} == {
        1: 1,
        2: 1,
    }


async def test_a_job_that_failed_fast_goes_on(stack: Stack, client: Client) -> None:
    submission = Submission("diagnostics", SLOW, 1024, timeout_s=0.2)
    first = await ended(client, submission, bytes(100 * 1024))
    assert (first["state"], first["reason"]) == ("failed", "shard-failed")
    second = await again(stack, client, first["job_id"], timeout_s="20")
    assert (second["version"], second["state"], second["shards"]["done"]) == (2, "succeeded", 100)
    assert json.loads(await client.result(first["job_id"]))["shards"] == 100


async def test_what_fails_again_is_named_again_and_may_be_redriven_once_more(stack: Stack, client: Client) -> None:
    first = await ended(client, Submission("diagnostics", SLOW, 1024, on_error="skip", timeout_s=0.2), bytes(8 * 1024))
    second = await again(stack, client, first["job_id"], shards="5")
    assert (second["version"], second["state"], second["shards"]["gaps"]) == (2, "partial", [[3, 3], [5, 5]])
    third = await again(stack, client, first["job_id"], shards="5", timeout_s="20")
    assert (third["version"], third["state"], third["shards"]["gaps"]) == (3, "partial", [[3, 3]])
    fourth = await again(stack, client, first["job_id"], timeout_s="20")
    assert (fourth["version"], fourth["state"], fourth["shards"]["gaps"]) == (4, "succeeded", [])
    nothing = await redriven(stack, first["job_id"])
    assert (nothing.status_code, nothing.json()["code"]) == (409, "nothing-to-redrive")


async def test_a_chain_goes_on_from_its_first_dead_shard(stack: Stack, client: Client) -> None:
    frames = np.random.default_rng(5).integers(0, 255, (120, 16, 16), np.uint8)
    options = {"width": "16", "height": "16"}
    whole = await ended(client, Submission("frames.track", options, 4096), frames.tobytes())
    expected = await client.result(whole["job_id"])
    again_whole = await again(stack, client, whole["job_id"], shards="3")
    assert (again_whole["version"], again_whole["state"]) == (2, "succeeded")
    assert await client.result(whole["job_id"]) == expected


async def cancelled(stack: Stack, client: Client) -> str:
    """Submit twenty slow shards and cancel them; the job's id once it has ended."""
    submission = Submission("diagnostics", {"do": "sleep", "seconds": "0.3"}, 1024)
    job_id: str = (await client.submit(submission, bytes(20 * 1024)))["job_id"]
    refused = await redriven(stack, job_id)
    assert (refused.status_code, refused.json()["code"]) == (409, "redrive-conflict")
    async with httpx2.AsyncClient(base_url=stack.gateway_url, timeout=60) as http:
        (await http.post(f"/v1/jobs/{job_id}:cancel")).raise_for_status()
    assert (await client.wait(job_id, timeout_s=60))["state"] == "cancelled"
    return job_id


@pytest.mark.parametrize("named", [{}, {"shards": "0"}], ids=["all", "some-named"])
async def test_a_cancelled_job_goes_on_with_all_that_never_ran(
    stack: Stack, client: Client, named: dict[str, str]
) -> None:
    second = await again(stack, client, await cancelled(stack, client), **named)
    assert (second["version"], second["state"], second["shards"]["done"]) == (2, "succeeded", 20)


async def test_of_two_redrives_at_once_one_is_refused(stack: Stack, client: Client, count_finals: CountFinals) -> None:
    first = await ended(client, Submission("diagnostics", SLOW, 1024, on_error="skip", timeout_s=0.2), bytes(8 * 1024))
    path = f"/v1/jobs/{first['job_id']}:redrive"
    async with httpx2.AsyncClient(timeout=60) as http:
        gateways = [service.url for service in stack.of(Role.GATEWAY)]
        answers = await asyncio.gather(*[http.post(url + path, params={"timeout_s": "20"}) for url in gateways * 2])
    assert sorted(answer.status_code for answer in answers) == [202, 409, 409, 409]
    second = await client.wait(first["job_id"], timeout_s=60, version=2)
    assert (second["version"], second["state"]) == (2, "succeeded")
    assert {version: n for (job, version), n in (await count_finals()).items() if job == first["job_id"]} == {
        1: 1,
        2: 1,
    }


@pytest.mark.parametrize("text", ["8", "3-1", "x", "-", "0-99999999"])
async def test_shards_that_are_not_there_are_refused(stack: Stack, client: Client, text: str) -> None:
    done = await ended(client, Submission("bytes.digest", {}, 1024), bytes(8 * 1024))
    answer = await redriven(stack, done["job_id"], shards=text)
    assert answer.status_code == 422
    assert (await client.status(done["job_id"]))["version"] == 1
