"""Topics over the broker in memory: created once, grown where that is allowed, compared with what they must be."""

from dataclasses import replace

import pytest

from regather.core.errors import BrokerUnavailable
from regather.service.topics_command import Applied, TopicsSettings, apply_topics, check_topics
from regather.topics.layout import Size, Topics, topic_specs
from regather.topics.rules import DAY_MS, VERIFICATION
from regather.transport.memory import MemoryBroker, MemoryTransport

SETTINGS = TopicsSettings(topics_wait_s=0)
TOPICS = Topics()


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


async def test_what_was_applied_is_right_and_is_applied_once(broker: MemoryBroker) -> None:
    transport = MemoryTransport(broker)
    applied = await apply_topics(transport, SETTINGS, Size.COMPOSE)
    assert sorted(applied.created) == sorted(spec.name for spec in topic_specs(TOPICS, Size.COMPOSE))
    assert applied.grown == {}
    assert await apply_topics(transport, SETTINGS, Size.COMPOSE) == Applied([], {})
    assert await check_topics(transport, SETTINGS, Size.COMPOSE) == []


async def test_a_larger_size_lets_shards_grow_and_leaves_what_is_frozen(broker: MemoryBroker) -> None:
    transport = MemoryTransport(broker)
    await apply_topics(transport, SETTINGS, Size.COMPOSE)
    applied = await apply_topics(transport, SETTINGS, Size.PRODUCTION)
    assert applied == Applied([], {"shards.small": 64, "shards.bulk": 64, "shards.retry": 32})
    counts = broker.partition_counts()
    assert (counts["shards.bulk"], counts["job-events"], counts["results"]) == (64, 4, 4)
    wrong = await check_topics(transport, SETTINGS, Size.PRODUCTION)
    assert [(difference.subject, difference.setting) for difference in wrong] == [("job-events", "partitions")]


async def test_a_topic_that_was_lost_comes_back_as_its_sisters_are(broker: MemoryBroker) -> None:
    specs = {spec.name: spec for spec in topic_specs(TOPICS, Size.COMPOSE)}
    events = specs["job-events"]
    for name, spec in specs.items():
        if name == "job-events":
            broker.create(replace(events, config={**events.config, "retention.ms": str(60 * DAY_MS)}))
        elif name != "results":
            broker.create(spec)
    transport = MemoryTransport(broker)
    assert (await apply_topics(transport, SETTINGS, Size.PRODUCTION)).created == ["results"]
    assert broker.partition_counts()["results"] == 4
    assert broker.topic_states()["results"].config["retention.ms"] == str(61 * DAY_MS)


async def test_longer_jobs_are_kept_longer(broker: MemoryBroker) -> None:
    transport = MemoryTransport(broker)
    settings = TopicsSettings(topics_wait_s=0, max_deadline_s=10 * 24 * 3600)
    await apply_topics(transport, settings, Size.EMBEDDED)
    assert broker.topic_states()["job-events"].config["retention.ms"] == str(30 * DAY_MS)
    assert await check_topics(transport, settings, Size.EMBEDDED) == []


async def test_a_broker_that_does_not_verify_is_told(broker: MemoryBroker) -> None:
    transport = MemoryTransport(broker)
    await apply_topics(transport, SETTINGS, Size.EMBEDDED)
    broker.settings[VERIFICATION] = "false"
    (difference,) = await check_topics(transport, SETTINGS, Size.EMBEDDED)
    assert (difference.subject, difference.setting, difference.found) == ("broker 1", VERIFICATION, "false")
    assert difference.command.endswith("--add-config transaction.partition.verification.enable=true")


async def test_no_broker_in_time_is_an_error(broker: MemoryBroker) -> None:
    broker.faults.unavailable = True
    with pytest.raises(BrokerUnavailable):
        await apply_topics(MemoryTransport(broker), SETTINGS, Size.EMBEDDED)


def test_a_bootstrap_that_is_given_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "environment:1")
    assert TopicsSettings().kafka_bootstrap_servers == "environment:1"
    assert TopicsSettings(kafka_bootstrap_servers="given:2").kafka_bootstrap_servers == "given:2"
