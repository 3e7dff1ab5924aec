"""What topics and brokers must be: what is made is right, every deviation is seen, and the printed commands mend it."""

import json
import re
import shlex
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regather.topics.layout import EVENT_RECORD_BYTES, Size, Topics, topic_demands
from regather.topics.rules import (
    BROKER_SETTINGS,
    DAY_MS,
    UNCLEAN_ELECTION,
    VERIFICATION,
    Cluster,
    Difference,
    TopicDemand,
    TopicState,
    differences,
    fitted,
    growth,
)

TOPICS = Topics("p.")
SAFE = dict(zip(BROKER_SETTINGS, ("true", "false", "false", "10080"), strict=True))
FROZEN = [TOPICS.job_events, TOPICS.segments, TOPICS.checkpoints, TOPICS.results, TOPICS.job_status]
GROWING = [TOPICS.shards_small, TOPICS.shards_bulk, TOPICS.shards_retry, TOPICS.dead_letters, TOPICS.control]


def made(demands: list[TopicDemand], brokers: int = 3, size: Size = Size.COMPOSE) -> Cluster:
    """A cluster as apply makes it."""
    sized = topic_demands(TOPICS, size)
    topics = {
        demand.name: TopicState(
            [[1 + (n + copy) % brokers for copy in range(demand.replication)] for n in range(counted.partitions or 0)],
            dict(demand.config),
        )
        for demand, counted in zip(demands, sized, strict=True)
    }
    return Cluster("b:9092", topics, {n + 1: dict(SAFE) for n in range(brokers)}, TOPICS.job_events)


def changed(cluster: Cluster, topic: str, **config: str) -> Cluster:
    """The same, with one topic set otherwise; double underscores stand for dots."""
    state = cluster.topics[topic]
    named = {name.replace("__", "."): value for name, value in config.items()}
    return replace(cluster, topics={**cluster.topics, topic: replace(state, config={**state.config, **named})})


def resized(cluster: Cluster, topic: str, partitions: int) -> Cluster:
    replicas = list(cluster.topics[topic].replicas)
    replicas = [replicas[n % len(replicas)] for n in range(partitions)]
    return replace(cluster, topics={**cluster.topics, topic: replace(cluster.topics[topic], replicas=replicas)})


def found(cluster: Cluster, demands: list[TopicDemand]) -> list[tuple[str, str]]:
    return [(difference.subject, difference.setting) for difference in differences(demands, cluster)]


THREE = topic_demands(TOPICS, Size.COMPOSE, replication=3)
RIGHT = made(THREE)


@pytest.mark.parametrize("size", list(Size))
@pytest.mark.parametrize("replication", [1, 2, 3])
@pytest.mark.parametrize("longest_job_ms", [1_000, DAY_MS, 40 * DAY_MS])
def test_what_apply_makes_is_as_it_must_be(size: Size, replication: int, longest_job_ms: int) -> None:
    demands = topic_demands(TOPICS, size, replication=replication, longest_job_ms=longest_job_ms)
    assert differences(demands, made(demands, size=size)) == []
    unsized = topic_demands(TOPICS, None, replication=replication, longest_job_ms=longest_job_ms)
    assert differences(unsized, made(demands, size=size)) == []


@pytest.mark.parametrize(
    ("topic", "config", "seen"),
    [
        (TOPICS.job_events, {"retention__ms": str(DAY_MS - 1)}, True),
        (TOPICS.job_events, {"retention__ms": str(DAY_MS)}, False),
        (TOPICS.results, {"retention__ms": str(8 * DAY_MS - 1)}, True),
        (TOPICS.segments, {"retention__ms": str(7 * DAY_MS)}, True),
        (TOPICS.checkpoints, {"retention__ms": str(7 * DAY_MS)}, True),
        (TOPICS.checkpoints, {"max__message__bytes": str(EVENT_RECORD_BYTES)}, True),
        (TOPICS.job_status, {"retention__ms": "3600000"}, True),
        (TOPICS.dead_letters, {"retention__ms": str(7 * DAY_MS)}, True),
        (TOPICS.results, {"retention__ms": "-1"}, False),
        (TOPICS.shards_small, {"retention__ms": "3599999"}, True),
        *((topic, {"retention__bytes": "1000000"}, True) for topic in FROZEN[:4]),
        (TOPICS.control, {"retention__bytes": "1000000"}, False),
        *((topic, {"message__timestamp__type": "CreateTime"}, True) for topic in (*FROZEN, *GROWING)),
        (TOPICS.job_events, {"max__message__bytes": "1048588"}, True),
        (TOPICS.job_events, {"max__message__bytes": "99999999"}, False),
        (TOPICS.results, {"cleanup__policy": "compact"}, True),
        (TOPICS.job_status, {"cleanup__policy": "delete"}, True),
        (TOPICS.job_status, {"cleanup__policy": "delete, compact"}, False),
        (TOPICS.results, {"min__insync__replicas": "1"}, True),
        (TOPICS.results, {"min__insync__replicas": "3"}, True),
        (TOPICS.results, {"unclean__leader__election__enable": "true"}, True),
    ],
)
def test_a_setting_that_is_wrong_is_seen(topic: str, config: dict[str, str], seen: bool) -> None:
    (setting,) = (name.replace("__", ".") for name in config)
    assert found(changed(RIGHT, topic, **config), THREE) == ([(topic, setting)] if seen else [])


def test_the_results_must_outlive_events_that_are_kept_longer_than_needed() -> None:
    longer = changed(RIGHT, TOPICS.job_events, retention__ms=str(30 * DAY_MS))
    outlived = [TOPICS.segments, TOPICS.checkpoints, TOPICS.results, TOPICS.job_status, TOPICS.dead_letters]
    assert found(longer, THREE) == [(topic, "retention.ms") for topic in outlived]
    for_ever = changed(RIGHT, TOPICS.job_events, retention__ms="-1")
    assert {difference.wanted for difference in differences(THREE, for_ever)} == {"-1 (for ever)"}


def test_events_are_kept_for_three_times_the_longest_job() -> None:
    demands = topic_demands(TOPICS, Size.COMPOSE, replication=3, longest_job_ms=3 * DAY_MS)
    names = {subject for subject, _ in found(RIGHT, demands)}
    assert names == set(FROZEN)


@pytest.mark.parametrize("topic", FROZEN[1:])
@pytest.mark.parametrize("partitions", [3, 5])
def test_frozen_topics_have_as_many_partitions_as_each_other(topic: str, partitions: int) -> None:
    unsized = topic_demands(TOPICS, None, replication=3)
    assert found(resized(RIGHT, topic, partitions), unsized) == [(topic, "partitions")]


def test_a_size_asks_for_counts_and_more_shard_partitions_are_no_fault() -> None:
    assert found(resized(RIGHT, TOPICS.shards_bulk, 99), THREE) == []
    assert found(resized(RIGHT, TOPICS.shards_bulk, 15), THREE) == [(TOPICS.shards_bulk, "partitions")]
    production = topic_demands(TOPICS, Size.PRODUCTION, replication=3)
    assert (TOPICS.job_events, "partitions") in found(RIGHT, production)


def test_too_few_copies_are_seen_and_so_is_a_topic_that_is_missing() -> None:
    single = made(topic_demands(TOPICS, Size.COMPOSE, replication=1))
    assert found(single, THREE).count((TOPICS.results, "replication")) == 1
    missing = replace(RIGHT, topics={name: at for name, at in RIGHT.topics.items() if name != TOPICS.segments})
    assert found(missing, THREE) == [(TOPICS.segments, "topic")]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        (VERIFICATION, "false"),
        (UNCLEAN_ELECTION, "true"),
        ("auto.create.topics.enable", "true"),
        ("offsets.retention.minutes", "10079"),
    ],
)
def test_a_broker_that_is_set_wrong_is_named(setting: str, value: str) -> None:
    brokers = {**RIGHT.brokers, 2: SAFE | {setting: value}}
    assert found(replace(RIGHT, brokers=brokers), THREE) == [("broker 2", setting)]


def test_what_a_broker_does_not_tell_is_no_fault() -> None:
    assert found(replace(RIGHT, brokers={1: {}, 2: {}, 3: {}}), THREE) == []


def test_unclean_elections_that_all_brokers_allow_are_told_once() -> None:
    wild = replace(RIGHT, brokers={n: SAFE | {UNCLEAN_ELECTION: "true"} for n in (1, 2, 3)})
    for topic in RIGHT.topics:
        wild = changed(wild, topic, unclean__leader__election__enable="true")
    assert found(wild, THREE) == [("brokers 1, 2, 3", UNCLEAN_ELECTION)]


class Tools:
    """Kafka's command-line tools over a model of a cluster, as far as the printed commands use them."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def run(self, command: str) -> None:
        parts = shlex.split(command, comments=True)
        if parts[0] == "kafka-configs.sh":
            self._configure(parts)
        elif parts[0] == "kafka-topics.sh":
            self._topic(parts)
        else:
            self._reassign(command)

    def _configure(self, parts: list[str]) -> None:
        name, _, value = parts[parts.index("--add-config") + 1].partition("=")
        value = value.strip("[]")
        if "--entity-default" in parts:
            brokers = {number: {**settings, name: value} for number, settings in self.cluster.brokers.items()}
            self.cluster = replace(self.cluster, brokers=brokers)
            return
        topic = parts[parts.index("--entity-name") + 1]
        self.cluster = changed(self.cluster, topic, **{name: value})

    def _topic(self, parts: list[str]) -> None:
        topic, count = parts[parts.index("--topic") + 1], int(parts[parts.index("--partitions") + 1])
        if "--alter" in parts:
            assert count > self.cluster.topics[topic].partitions
            self.cluster = resized(self.cluster, topic, count)
            return
        assert topic not in self.cluster.topics
        pairs = [parts[at + 1] for at, part in enumerate(parts) if part == "--config"]
        copies = int(parts[parts.index("--replication-factor") + 1])
        state = TopicState([list(range(1, copies + 1))] * count, dict(pair.split("=", 1) for pair in pairs))
        self.cluster = replace(self.cluster, topics={**self.cluster.topics, topic: state})

    def _reassign(self, command: str) -> None:
        plan = json.loads(re.findall(r"'(\{.*\})'", command)[0])
        for entry in plan["partitions"]:
            state = self.cluster.topics[entry["topic"]]
            kept = state.replicas[entry["partition"]]
            assert entry["replicas"][: len(kept)] == kept
            assert len(set(entry["replicas"])) == len(entry["replicas"])
            replicas = [
                entry["replicas"] if number == entry["partition"] else has for number, has in enumerate(state.replicas)
            ]
            topics = {**self.cluster.topics, entry["topic"]: replace(state, replicas=replicas)}
            self.cluster = replace(self.cluster, topics=topics)


SETTINGS = {
    "retention.ms": st.sampled_from(["-1", "1000", str(DAY_MS), str(20 * DAY_MS)]),
    "retention.bytes": st.sampled_from(["-1", "5"]),
    "cleanup.policy": st.sampled_from(["delete", "compact", "compact,delete"]),
    "max.message.bytes": st.sampled_from(["1000", "1048588", "99999999"]),
    "message.timestamp.type": st.sampled_from(["CreateTime", "LogAppendTime"]),
    "min.insync.replicas": st.sampled_from(["1", "2", "3"]),
    UNCLEAN_ELECTION: st.sampled_from(["true", "false"]),
}


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    copies = draw(st.integers(1, 3))
    cluster = made(topic_demands(TOPICS, Size.EMBEDDED, replication=copies), size=Size.EMBEDDED)
    for topic in draw(st.lists(st.sampled_from(sorted(cluster.topics)), max_size=5)):
        cluster = changed(cluster, topic, **draw(st.fixed_dictionaries({}, optional=SETTINGS)))
    gone = draw(st.sets(st.sampled_from([name for name in sorted(cluster.topics) if name != TOPICS.job_events])))
    topics = {name: state for name, state in cluster.topics.items() if name not in gone}
    brokers = {n: SAFE | {VERIFICATION: draw(st.sampled_from(["true", "false"]))} for n in (1, 2, 3)}
    cluster = replace(cluster, topics=topics, brokers=brokers)
    shards = TOPICS.shards_bulk
    return resized(cluster, shards, draw(st.integers(1, 9))) if shards in topics else cluster


def mendable(difference: Difference) -> bool:
    return difference.command.startswith("kafka-") or "kafka-reassign-partitions.sh" in difference.command


@given(clusters())
def test_the_commands_that_are_printed_mend_everything(cluster: Cluster) -> None:
    demands = topic_demands(TOPICS, Size.EMBEDDED, replication=3)
    first = differences(demands, cluster)
    assert all(mendable(difference) for difference in first)
    assert all(difference.why for difference in first)
    tools = Tools(cluster)
    for difference in first:
        tools.run(difference.command)
    assert differences(demands, tools.cluster) == []


def test_frozen_topics_never_grow_and_a_lost_one_comes_back_with_the_count_of_the_others() -> None:
    production = topic_demands(TOPICS, Size.PRODUCTION, replication=3)
    assert growth(production, RIGHT.topics) == {
        TOPICS.shards_small: 64,
        TOPICS.shards_bulk: 64,
        TOPICS.shards_retry: 32,
    }
    without_events = {name: state for name, state in RIGHT.topics.items() if name != TOPICS.job_events}
    events = next(demand for demand in production if demand.name == TOPICS.job_events)
    assert fitted(events, without_events, TOPICS.job_events).partitions == 4
    assert fitted(events, {}, TOPICS.job_events) == events
