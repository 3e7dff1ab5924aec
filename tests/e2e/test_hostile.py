"""The short form of `make hostile-shards`: every fault a shard can have, in one job, beside shards that behave."""

from types import ModuleType

import pytest

from regather.embedded.kafka_broker import Broker
from regather_cli.stack import Stack, StackSettings

pytestmark = [pytest.mark.long, pytest.mark.kafka, pytest.mark.e2e, pytest.mark.timeout(300)]


async def test_hostile_shards_cost_nobody_else_anything(kafka_broker: Broker, hostile_shards: ModuleType) -> None:
    good, bad = 200, 2 * len(hostile_shards.BAD)
    chosen = hostile_shards.shards_of(good, bad, 7)
    settings = StackSettings(
        workers=1, worker_slots=hostile_shards.SLOTS, topic_prefix="hostile.", environment=hostile_shards.ENVIRONMENT
    )
    async with Stack(settings, broker=kafka_broker) as stack:
        found = await hostile_shards.run(stack, chosen)
    assert found["wrong"] == []
    assert (found["good_right"], found["bad_dead_lettered"], found["slots_lost"]) == (good, bad, 0)
