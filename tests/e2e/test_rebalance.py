"""Busy cores cost nobody his place in the group, and a shard that outlasts rebalances still finishes."""

import asyncio
import time

import httpx2
import pytest

from regather.testing.waiting import eventually
from regather_cli.client import Client, Submission
from regather_cli.stack import Role, Stack

pytestmark = [
    pytest.mark.long,
    pytest.mark.kafka,
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),
]

SESSION_TIMEOUT_S = 6.0  # of the stack that these tests share
LONG_S = 14.0


async def sample(stack: Stack, name: str) -> list[float]:
    """One metric of each worker."""
    return [value for worker in stack.of(Role.WORKER) if worker.running for value in await worker.metric(name)]


async def test_shards_that_hold_every_core_cost_no_membership(stack: Stack) -> None:
    query = {"kind": "diagnostics", "shard_size": "1024", "timeout_s": "120"}
    query |= {"option.do": "busy", "option.seconds": "60"}
    async with httpx2.AsyncClient(base_url=stack.gateway_url, timeout=60) as http:
        answer = await http.post("/v1/jobs", params=query, content=bytes(8 * 1024))
        job_id = answer.raise_for_status().json()["job_id"]

        async def all_busy() -> bool:
            return await sample(stack, "regather_slots_busy") == [1, 1]

        await eventually(all_busy, timeout_s=30, what="busy slots")
        shares = await sample(stack, "regather_partitions")
        end_s = time.monotonic() + 2.5 * SESSION_TIMEOUT_S
        while time.monotonic() < end_s:
            assert await sample(stack, "regather_partitions") == shares
        assert await sample(stack, "regather_slots_busy") == [1, 1]
        (await http.post(f"/v1/jobs/{job_id}:cancel")).raise_for_status()


async def test_a_shard_that_outlasts_rebalances_finishes_where_it_began(stack: Stack, client: Client) -> None:
    began_s = time.monotonic()
    await asyncio.to_thread((await stack.add_worker()).stop, 30.0)
    seconds = max(LONG_S, 3 * (time.monotonic() - began_s))  # longer than a rebalance takes on this machine now
    options = {"do": "sleep", "seconds": f"{seconds:.0f}"}
    submission = Submission("diagnostics", options, shard_size_bytes=1024, timeout_s=2 * seconds)
    job_id = str((await client.submit(submission, bytes(1024)))["job_id"])

    async def running() -> bool:
        return sum(await sample(stack, "regather_slots_busy")) == 1

    await eventually(running, timeout_s=30, what="a busy slot")
    first_join_ms = time.time_ns() // 1_000_000
    joined = await stack.add_worker()  # one rebalance when it joins, and one when it leaves
    assert (await client.status(job_id))["state"] == "running", "the shard was over before the rebalance"
    await asyncio.to_thread(joined.stop, 30.0)  # which may last, if it was given the shard as well
    document = await client.wait(job_id, timeout_s=60 + seconds)
    (shard,) = await client.shards(job_id)
    assert (document["state"], shard["attempts"]) == ("succeeded", 1)
    assert shard["started_ms"] <= first_join_ms, "the execution that counts began anew after a rebalance"
