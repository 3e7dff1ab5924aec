"""The short form of `make hostile-shards`: every fault a shard can have, in one job, beside shards that behave."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from regather.testing.kafka_broker import Broker
from regather_cli.stack import Stack, StackSettings

pytestmark = [pytest.mark.kafka, pytest.mark.e2e, pytest.mark.timeout(300)]


def hostile(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("hostile_shards", root / "benchmarks" / "hostile_shards.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_hostile_shards_cost_nobody_else_anything(kafka_broker: Broker, repository_root: Path) -> None:
    program = hostile(repository_root)
    chosen = program.shards_of(200, 2 * len(program.BAD), 7)
    settings = StackSettings(
        workers=1, worker_slots=program.SLOTS, topic_prefix="hostile.", environment=program.ENVIRONMENT
    )
    async with Stack(settings, broker=kafka_broker) as stack:
        found = await program.run(stack, chosen)
    assert found["wrong"] == []
    assert (found["good_right"], found["bad_dead_lettered"], found["slots_lost"]) == (200, 2 * len(program.BAD), 0)
