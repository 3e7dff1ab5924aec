"""One shard of 500 kills the whole worker that runs it, each time: it is found and buried, and the 499 spend nothing."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from types import ModuleType

import pytest

from regather.testing.kafka_broker import Broker
from regather.testing.waiting import eventually
from regather_cli.client import Client, Submission
from regather_cli.letters import read_dead_letters
from regather_cli.stack import Role, Stack, StackSettings

pytestmark = [pytest.mark.kafka, pytest.mark.e2e, pytest.mark.timeout(400)]

SHARDS, GUILTY = 500, 321
ENVIRONMENT = {
    "REGATHER_DIAGNOSTICS": "true",
    "REGATHER_SESSION_TIMEOUT_MS": "6000",
    "REGATHER_RETRY_CAP_MS": "500",
}


@contextlib.asynccontextmanager
async def kept_alive(stack: Stack) -> AsyncIterator[list[str]]:
    """Start every worker again that is gone, as compose's restart policy does; the names of those that were."""
    restarted: list[str] = []

    async def watch() -> None:
        while True:
            gone = await eventually(
                lambda: [worker for worker in stack.of(Role.WORKER) if not worker.running],
                timeout_s=math.inf,  # as long as the block lasts
                interval_s=0.05,
                what="the end of a worker",
            )
            for worker in gone:
                restarted.append(worker.name)
                worker.start()

    keeper = asyncio.create_task(watch())
    try:
        yield restarted
    finally:
        keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeper


async def test_the_shard_that_kills_workers_is_charged_and_nobody_else(
    kafka_broker: Broker, hostile_shards: ModuleType
) -> None:
    does = [{"do": "echo"}] * SHARDS
    does[GUILTY] = {"do": "kill_worker"}
    settings = StackSettings(workers=2, worker_slots=2, topic_prefix="worker-killer.", environment=ENVIRONMENT)
    async with Stack(settings, broker=kafka_broker) as stack, kept_alive(stack) as restarted:
        async with Client(stack.gateway_url) as client:
            submission = Submission(
                "diagnostics", {"do": "as_payload_says"}, shard_size_bytes=hostile_shards.SHARD_BYTES, on_error="skip"
            )
            job_id = str((await client.submit(submission, hostile_shards.body_of(does)))["job_id"])
            document = await client.wait(job_id, timeout_s=300)
            shards = await client.shards(job_id)
        letters = await read_dead_letters(stack.broker.bootstrap_servers, stack.topics, job_id)
    assert document["state"] == "partial", document
    assert {shard["seq"]: shard["attempts"] for shard in shards if shard["attempts"] != 1} == {GUILTY: 4}
    assert len(shards) == SHARDS
    (letter,) = letters
    assert (letter.seq, letter.reason) == (GUILTY, "worker-lost")
    assert len(restarted) == 6
