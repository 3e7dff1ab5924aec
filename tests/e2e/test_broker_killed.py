"""kill -9 of the broker while every slot publishes: each micro-batch is settled afterwards, and the job ends."""

import pytest

from regather.embedded.embedded_kafka import EmbeddedKafka
from regather.testing.waiting import eventually
from regather_cli.client import ApiError, Client, Submission
from regather_cli.stack import Stack, StackSettings

pytestmark = [pytest.mark.long, pytest.mark.kafka, pytest.mark.e2e, pytest.mark.timeout(300)]
SHARDS, SHARD_BYTES = 3000, 1024
SLOW = Submission("diagnostics", {"do": "sleep", "seconds": "0.01"}, shard_size_bytes=SHARD_BYTES)


@pytest.fixture
def stack_settings() -> StackSettings:
    environment = {"REGATHER_DIAGNOSTICS": "true", "REGATHER_PROGRESS_S": "0.1", "REGATHER_ACK_TIMEOUT_S": "12"}
    return StackSettings(workers=2, worker_slots=4, topic_prefix="killed.", environment=environment)


async def refused(client: Client) -> None:
    """Submit until the gateway gives up, after REGATHER_ACK_TIMEOUT_S: longer than a request may take."""
    with pytest.raises(ApiError, match="Kafka did not confirm"):
        await client.submit(Submission("bytes.digest", {}), b"x")


async def test_no_micro_batch_is_lost_with_the_connection(kafka_and_stack: tuple[EmbeddedKafka, Stack]) -> None:
    kafka, stack = kafka_and_stack
    async with Client(stack.gateway_url) as client:
        for _ in range(1):
            job_id = (await client.submit(SLOW, bytes(SHARDS * SHARD_BYTES)))["job_id"]

            async def midway(job_id: str = job_id) -> bool:
                return int((await client.status(job_id))["shards"]["done"]) > SHARDS * 0.1

            await eventually(midway, timeout_s=60, what="a tenth of the shards")
            kafka.kill()
            await refused(client)
            kafka.start()
            document = await client.wait(job_id, timeout_s=100)
            assert (document["state"], document["shards"]["done"]) == ("succeeded", SHARDS)
