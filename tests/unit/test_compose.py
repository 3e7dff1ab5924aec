"""docker-compose.yml: its broker is set up as the tests' brokers are, and its services are locked down."""

import re
from pathlib import Path

import pytest

from regather.embedded.embedded_kafka import shared_settings
from regather.embedded.kafka_jars import JarLock
from regather.service.topics_command import Applied, TopicsSettings, apply_topics
from regather.topics.layout import Size
from regather.transport.memory import MemoryBroker, MemoryTransport
from regather_worker.settings import WorkerSettings

TEXT = (Path(__file__).resolve().parents[2] / "docker-compose.yml").read_text()


def test_the_broker_has_the_settings_that_regather_relies_on() -> None:
    found = dict(re.findall(r"^ +(KAFKA_[A-Z_]+): \"?([^\"\n]*)\"?$", TEXT, re.MULTILINE))
    wanted = {f"KAFKA_{name.replace('.', '_').upper()}": value for name, value in shared_settings().items()}
    assert {name: found.get(name) for name in wanted} == wanted


def test_it_is_the_kafka_that_the_tests_run_on() -> None:
    assert re.findall(r"image: apache/kafka:(\S+)", TEXT) == [JarLock.load().kafka_version]


@pytest.mark.parametrize("line", ["init: true", "read_only: true", "cap_drop: [ALL]", "no-new-privileges:true"])
def test_services_are_locked_down(line: str) -> None:
    assert line in TEXT


def test_workers_have_no_name_of_their_own_and_more_time_to_stop_than_they_take() -> None:
    assert "container_name" not in TEXT
    worker = TEXT[TEXT.index("  shard-worker:") : TEXT.index("  aggregator:")]
    grace = re.search(r"stop_grace_period: (\d+)s", worker)
    assert grace is not None
    assert int(grace[1]) > WorkerSettings(slots=1).drain_s > 15


async def test_missing_topics_are_created_once() -> None:
    transport = MemoryTransport(MemoryBroker())
    applied = await apply_topics(transport, TopicsSettings(), Size.COMPOSE)
    assert {"shards.small", "job-events", "workers"} <= set(applied.created)
    assert await apply_topics(transport, TopicsSettings(), Size.COMPOSE) == Applied([], {})
