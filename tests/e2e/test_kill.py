"""kill -9 of each service while 20 to 80 % of a job's shards are settled: one right result, every time."""

import asyncio
import os
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest

from regather.core.ids import keyed_job_id
from regather.testing.waiting import eventually
from regather_cli.client import ApiError, Client, Submission, has_ended
from regather_cli.stack import Role, Stack

pytestmark = [
    pytest.mark.long,
    pytest.mark.kafka,
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(900),
]

ROUNDS = int(os.environ.get("KILL_ROUNDS", "1"))
SHARDS, SHARD_BYTES = 300, 1024
SLOW = {"do": "sleep", "seconds": "0.02"}
CountFinals = Callable[[], Awaitable[Counter[tuple[str, int]]]]


def body() -> bytes:
    return os.urandom(SHARDS * SHARD_BYTES)


async def begin(client: Client, data: bytes) -> str:
    submission = Submission("diagnostics", SLOW, shard_size_bytes=SHARD_BYTES)
    return str((await client.submit(submission, data))["job_id"])


async def midway(client: Client, job_id: str) -> int:
    """Wait until 20 to 80 % of the shards are settled; how many."""

    async def settled() -> int:
        try:
            shards = (await client.status(job_id))["shards"]
        except ApiError as error:
            if error.status == httpx2.codes.NOT_FOUND:
                return 0  # it is not known yet
            raise
        done = int(shards["done"])
        return done if done >= SHARDS * 0.2 else 0

    done = await eventually(settled, timeout_s=60, what="a fifth of the shards")
    assert SHARDS * 0.2 <= done <= SHARDS * 0.8, f"{done} of {SHARDS} shards were settled at the kill"
    return done


async def ends_right(client: Client, job_id: str, data: bytes) -> None:
    document = await client.wait(job_id, timeout_s=120)
    assert document["state"] == "succeeded", document
    assert document["shards"]["done"] == document["shards"]["total"] == SHARDS
    shards = await client.shards(job_id)
    assert [shard["seq"] for shard in shards] == list(range(SHARDS))
    assert sum(shard["input_bytes"] for shard in shards) == len(data)


async def one_final_each(count_finals: CountFinals, job_ids: list[str]) -> None:
    found = await count_finals()
    assert {job_id: found[job_id, 1] for job_id in job_ids} == dict.fromkeys(job_ids, 1)
    assert max(found.values()) == 1


@pytest.mark.parametrize("role", [Role.WORKER, Role.AGGREGATOR], ids=lambda role: role.word)
async def test_a_killed_service_costs_neither_the_job_nor_its_result(
    stack: Stack, client: Client, role: Role, count_finals: CountFinals
) -> None:
    job_ids = []
    for number in range(ROUNDS):
        data = body()
        job_id = await begin(client, data)
        await midway(client, job_id)
        victims = stack.of(role) if role is Role.AGGREGATOR else [stack.of(role)[number % 2]]
        for victim in victims:  # one of the aggregators owns the only partition: kill both
            stack.kill(victim)
        await asyncio.gather(*(stack.restart(victim) for victim in victims))
        await ends_right(client, job_id, data)
        job_ids.append(job_id)
    await one_final_each(count_finals, job_ids)


async def test_an_upload_whose_gateway_is_killed_fails_visibly_and_completes_by_the_clients_repeat(
    stack: Stack, count_finals: CountFinals
) -> None:
    for _ in range(ROUNDS):
        key, data = uuid.uuid4().hex, body()
        victim, other = stack.of(Role.GATEWAY)
        async with Client(other.url) as survivor:
            with pytest.raises(httpx2.TransportError):
                await _upload(victim.url, key, _until_killed(stack, survivor, str(keyed_job_id("", key)), data))
            await stack.restart(victim)
            document = await _repeat(other.url, key, data)
            await ends_right(survivor, document["job_id"], data)
    found = await count_finals()
    assert max(found.values()) == 1


async def _until_killed(stack: Stack, survivor: Client, job_id: str, data: bytes) -> AsyncIterator[bytes]:
    """Four fifths of the body; then, once a fifth of all shards is settled, the gateway's death; never the end.

    The gateway keeps the last chunk that it has until another one comes, so not all of this is shards at once.
    """
    yield data[: len(data) * 4 // 5]
    await midway(survivor, job_id)
    stack.kill(stack.of(Role.GATEWAY)[0])
    while True:
        yield data[-SHARD_BYTES:]


async def _upload(url: str, key: str, content: AsyncIterator[bytes] | bytes) -> httpx2.Response:
    options = {f"option.{name}": value for name, value in SLOW.items()}
    params = {"kind": "diagnostics", "shard_size": str(SHARD_BYTES), **options}
    async with httpx2.AsyncClient(base_url=url, timeout=60) as http:
        return await http.post("/v1/jobs", params=params, content=content, headers={"Idempotency-Key": key})


async def _repeat(url: str, key: str, data: bytes) -> dict[str, Any]:
    """Repeat as a client would: 409 says that the first submission is still open, until its silence has closed it."""

    async def accepted() -> dict[str, Any] | None:
        answer = await _upload(url, key, data)
        assert answer.status_code in (200, 202, 409), answer.text
        return None if answer.status_code == 409 else answer.json()

    document: dict[str, Any] | None = await eventually(accepted, timeout_s=60, what="the repeat's acceptance")
    assert document is not None
    assert not has_ended(document) or document["state"] == "succeeded"
    return document
