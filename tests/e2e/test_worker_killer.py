"""One shard of 500 kills the whole worker that runs it, each time: it is found and buried, and the 499 spend nothing."""

from types import ModuleType

import pytest
from e2e.kept_alive import kept_alive

from regather.embedded.kafka_broker import Broker
from regather_cli.client import Client, Submission
from regather_cli.dead_letters import read_dead_letters
from regather_cli.stack import Role, Stack, StackSettings

pytestmark = [pytest.mark.long, pytest.mark.kafka, pytest.mark.e2e, pytest.mark.timeout(400)]

SHARDS, GUILTY = 500, 321
ENVIRONMENT = {
    "REGATHER_DIAGNOSTICS": "true",
    "REGATHER_SESSION_TIMEOUT_MS": "6000",
    "REGATHER_RETRY_CAP_MS": "500",
}


async def test_the_shard_that_kills_workers_is_charged_and_nobody_else(
    kafka_broker: Broker, hostile_shards: ModuleType
) -> None:
    does = [{"do": "echo"}] * SHARDS
    does[GUILTY] = {"do": "kill_worker"}
    settings = StackSettings(workers=2, worker_slots=2, topic_prefix="worker-killer.", environment=ENVIRONMENT)
    async with Stack(settings, broker=kafka_broker) as stack, kept_alive(stack, Role.WORKER) as restarted:
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
