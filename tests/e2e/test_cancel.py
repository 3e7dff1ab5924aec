"""A job that is over costs nothing any more: cancelled, failed or expired, its shards are killed and dropped at once."""

import time
from typing import Any

import httpx2
import pytest

from regather.testing.waiting import eventually
from regather_cli.client import Client, Submission
from regather_cli.stack import Role, Stack

pytestmark = [pytest.mark.kafka, pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

SHARDS = 200
LATE_S = 3.0  # the median is below 0.2 s; a machine that is busy with other things may be late


async def busy(stack: Stack) -> float:
    """Slots in use, of all workers."""
    return sum([sum(await worker.metric("regather_slots_busy")) for worker in stack.of(Role.WORKER)])


async def begin(stack: Stack, http: httpx2.AsyncClient, **parameters: str) -> str:
    """A job whose shards would hold every core for a minute each; its id once both slots are taken."""
    query = {
        "kind": "diagnostics",
        "shard_size": "1024",
        "option.do": "busy",
        "option.seconds": "60",
        "timeout_s": "120",
    }
    response = await http.post("/v1/jobs", params=query | parameters, content=bytes(SHARDS * 1024))
    job_id = str(response.raise_for_status().json()["job_id"])

    async def all_busy() -> bool:
        return await busy(stack) == 2

    await eventually(all_busy, timeout_s=30, what="both slots busy")
    return job_id


async def idle_s(stack: Stack) -> float:
    """Seconds until no slot is in use."""
    begun_s = time.monotonic()

    async def none_busy() -> bool:
        return await busy(stack) == 0

    await eventually(none_busy, timeout_s=20, what="idle slots")
    return time.monotonic() - begun_s


async def works(client: Client) -> None:
    document = await client.submit(Submission("bytes.digest", {}, shard_size_bytes=1024), bytes(9000))
    assert (await client.wait(document["job_id"], timeout_s=30))["state"] == "succeeded"


@pytest.fixture
async def http(stack: Stack) -> Any:
    async with httpx2.AsyncClient(base_url=stack.gateway_url, timeout=40) as connected:
        yield connected


async def test_a_cancelled_job_frees_its_slots(stack: Stack, client: Client, http: httpx2.AsyncClient) -> None:
    job_id = await begin(stack, http)
    answer = await http.post(f"/v1/jobs/{job_id}:cancel", headers={"prefer": "wait=10"})
    took_s = await idle_s(stack)
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert took_s < LATE_S
    await works(client)
    again = await http.post(f"/v1/jobs/{job_id}:cancel")
    assert (again.status_code, again.json()["state"]) == (200, "cancelled")
    result = await http.get(f"/v1/jobs/{job_id}/result")
    assert (result.status_code, result.json()["code"]) == (410, "no-result")


async def test_an_expired_job_frees_its_slots(stack: Stack, client: Client, http: httpx2.AsyncClient) -> None:
    job_id = await begin(stack, http, deadline_s="3")
    document = await client.wait(job_id, timeout_s=30)
    assert document["state"] == "expired"
    assert await idle_s(stack) < LATE_S
    await works(client)


async def test_one_dead_shard_frees_the_slots_of_its_whole_job(
    stack: Stack, client: Client, http: httpx2.AsyncClient
) -> None:
    """Every shard times out; the first that has spent its four attempts ends the job, and with it all the others."""
    query = {
        "kind": "diagnostics",
        "shard_size": "1024",
        "option.do": "sleep",
        "option.seconds": "60",
        "timeout_s": "0.5",
    }
    response = await http.post("/v1/jobs", params=query, content=bytes(10 * 1024))
    document = await client.wait(response.json()["job_id"], timeout_s=60)
    assert (document["state"], document["reason"]) == ("failed", "shard-failed")
    assert await idle_s(stack) < LATE_S
    await works(client)


async def test_what_has_ended_cannot_be_cancelled(client: Client, http: httpx2.AsyncClient) -> None:
    document = await client.submit(Submission("bytes.digest", {}), b"abc")
    await client.wait(document["job_id"], timeout_s=30)
    answer = await http.post(f"/v1/jobs/{document['job_id']}:cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "already-ended")
    unknown = await http.post("/v1/jobs/00000000-0000-7000-8000-000000000000:cancel")
    assert unknown.status_code == 404


async def test_a_budget_of_failed_shards_ends_the_job(client: Client, http: httpx2.AsyncClient) -> None:
    query = {"kind": "diagnostics", "shard_size": "1024", "option.do": "permanent", "on_error": "skip"}
    body = bytes(20 * 1024)
    few = await http.post("/v1/jobs", params={**query, "option.only": "3", "max_failed_count": "1"}, content=body)
    assert (await client.wait(few.json()["job_id"], timeout_s=30))["state"] == "partial"
    many = await http.post("/v1/jobs", params={**query, "option.only": "3,4", "max_failed_count": "1"}, content=body)
    document = await client.wait(many.json()["job_id"], timeout_s=30)
    assert (document["state"], document["reason"]) == ("failed", "too-many-failed")
    share = await http.post("/v1/jobs", params={**query, "option.only": "3,4", "max_failed_pct": "5"}, content=body)
    assert (await client.wait(share.json()["job_id"], timeout_s=30))["reason"] == "too-many-failed"
    wrong = await http.post("/v1/jobs", params={**query, "on_error": "fail", "max_failed_count": "1"}, content=body)
    assert wrong.status_code == 422
