"""A merge that takes its whole aggregator along, each time: its job ends, and the others of the partition succeed."""

import asyncio

import pytest
from e2e.kept_alive import kept_alive

from regather.core.merge_attempts import MOST_BEGUN
from regather.embedded.kafka_broker import Broker
from regather_cli.client import Client, Submission
from regather_cli.stack import Role, Stack, StackSettings

pytestmark = [pytest.mark.long, pytest.mark.kafka, pytest.mark.e2e, pytest.mark.timeout(300)]

ENVIRONMENT = {"REGATHER_DIAGNOSTICS": "true", "REGATHER_SESSION_TIMEOUT_MS": "6000"}


async def test_the_merge_that_kills_aggregators_ends_its_job_and_no_other(kafka_broker: Broker) -> None:
    settings = StackSettings(topic_prefix="aggregator-killer.", environment=ENVIRONMENT)
    async with (
        Stack(settings, broker=kafka_broker) as stack,
        kept_alive(stack, Role.AGGREGATOR) as restarted,
        Client(stack.gateway_url) as client,
    ):
        kinds: tuple[dict[str, str], ...] = ({"merge": "kill_aggregator"}, {}, {})
        jobs = [
            str((await client.submit(Submission("diagnostics", options, shard_size_bytes=1024), bytes(4096)))["job_id"])
            for options in kinds
        ]
        guilty, *others = await asyncio.gather(*(client.wait(job, timeout_s=200) for job in jobs))
    assert (guilty["state"], guilty["reason"]) == ("failed", "internal"), guilty
    assert f"its merge began {MOST_BEGUN} times" in guilty["error"]
    assert len(guilty["error"].encode()) < 4096
    assert [other["state"] for other in others] == ["succeeded", "succeeded"]
    assert len(restarted) == 1 + MOST_BEGUN  # of the first death nobody knows which merge it was
