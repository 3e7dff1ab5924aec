"""Shards that need the one before them: in order, over two workers, and over the death of the one that runs."""

import asyncio
import io
from collections import Counter
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
from reference import frames as reference

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

VIDEO = np.random.default_rng(5).integers(0, 256, (400, 40, 50), np.uint8)
SHARD_BYTES = 8_000
SHARDS = 100
TRACK = Submission("frames.track", {}, shard_size_bytes=SHARD_BYTES)
CountFinals = Callable[[], Awaitable[Counter[tuple[str, int]]]]


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, VIDEO)
    return file.getvalue()


async def settled(client: Client, job_id: str) -> int:
    return int((await client.status(job_id))["shards"]["done"])


async def test_a_chain_equals_the_loop_and_others_run_beside_it(client: Client) -> None:
    job_id = str((await client.submit(TRACK, npy()))["job_id"])
    beside = await client.submit(Submission("bytes.digest", {}, shard_size_bytes=1024), bytes(50_000))
    document = await client.wait(beside["job_id"], timeout_s=60)
    assert document["state"] == "succeeded"
    assert await settled(client, job_id) < SHARDS
    document = await client.wait(job_id, timeout_s=120)
    assert document["state"] == "succeeded", document
    assert document["shards"]["total"] == SHARDS
    assert await client.result(job_id) == reference.lines(reference.track(VIDEO))
    shards = await client.shards(job_id)
    assert {shard["attempts"] for shard in shards} == {1}
    assert len({shard["worker"] for shard in shards}) == 2


@pytest.mark.parametrize("role", [Role.WORKER, Role.AGGREGATOR], ids=lambda role: role.word)
async def test_a_chain_survives_kill_9_in_its_middle(
    stack: Stack, client: Client, role: Role, count_finals: CountFinals
) -> None:
    job_id = str((await client.submit(TRACK, npy()))["job_id"])

    async def midway() -> bool:
        return await settled(client, job_id) >= SHARDS * 0.2

    await eventually(midway, timeout_s=60, what="a fifth of the chain")
    assert await settled(client, job_id) <= SHARDS * 0.8
    victims = stack.of(role)
    for victim in victims:
        stack.kill(victim)
    await asyncio.gather(*(stack.restart(victim) for victim in victims))
    document = await client.wait(job_id, timeout_s=120)
    assert document["state"] == "succeeded", document
    assert await client.result(job_id) == reference.lines(reference.track(VIDEO))
    assert (await count_finals())[job_id, 1] == 1
