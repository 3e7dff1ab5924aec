"""The required settings of topics and brokers, and how a cluster differs from them (docs/protocol.md#topics).

Pure: the cluster's state goes in, differences come out, each with the reason and the command that fixes it.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice

HOUR_MS = 3600 * 1000
DAY_MS = 24 * HOUR_MS
FOREVER = -1
LEAST_EVENTS_MS = DAY_MS
"""job-events are kept for three times the longest job, but at least for this long."""

VERIFICATION = "transaction.partition.verification.enable"
UNCLEAN_ELECTION = "unclean.leader.election.enable"
_APPEND_TIME = "LogAppendTime"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic to create: name, partitions, largest record and Kafka topic settings."""

    name: str
    partitions: int
    max_record_bytes: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic of the cluster: the brokers that hold each partition, and every setting in force."""

    replicas: Sequence[Sequence[int]]
    config: Mapping[str, str]

    @property
    def partitions(self) -> int:
        """The number of partitions."""
        return len(self.replicas)

    @property
    def replication(self) -> int:
        """The number of copies of the partition that has the fewest."""
        return min((len(brokers) for brokers in self.replicas), default=0)


BrokerSettings = Mapping[int, Mapping[str, str]]
"""Settings in force, by the broker's id. A setting that a broker does not have or does not return is absent."""


@dataclass(frozen=True, slots=True)
class TopicDemand:
    """The required settings of a topic.

    `partitions` None: any number. A frozen topic always has as many partitions as job-events, as do all its `sisters`.
    A topic that `grows` has at least `partitions`. Any other topic is created with `partitions`, and may differ later.
    `keep_ms` is the least retention and `keep_why` the reason for it; with `outlives_events` it is also at least a day
    longer than that of job-events. With `any_size`, no limit in bytes may shorten the retention. `config` is what the
    topic is created with.
    """

    name: str
    partitions: int | None
    replication: int
    config: Mapping[str, str]
    grows: bool = False
    frozen: bool = False
    sisters: Sequence[str] = ()
    keep_ms: int = 0
    keep_why: str = ""
    outlives_events: bool = False
    any_size: bool = False


@dataclass(frozen=True, slots=True)
class Difference:
    """One setting that is not as required: where, which, why it matters, and the shell command that fixes it."""

    subject: str
    setting: str
    found: str
    wanted: str
    why: str
    command: str


@dataclass(frozen=True, slots=True)
class Cluster:
    """The state of a cluster, and its address. `events` is the name of the topic job-events."""

    bootstrap_servers: str
    topics: Mapping[str, TopicState]
    brokers: BrokerSettings
    events: str

    @property
    def events_ms(self) -> int:
        """The retention of job-events in milliseconds; FOREVER for no limit, 0 while the topic is missing."""
        return _kept_ms(self.topics.get(self.events))


def least_events_ms(longest_job_ms: int) -> int:
    """Return the least retention of job-events."""
    return max(LEAST_EVENTS_MS, 3 * longest_job_ms)


def unverified(brokers: BrokerSettings) -> list[int]:
    """Return the brokers whose setting says that they do not verify that a partition belongs to an open transaction."""
    return sorted(number for number, settings in brokers.items() if settings.get(VERIFICATION, "").lower() == "false")


def differences(demands: Sequence[TopicDemand], cluster: Cluster) -> list[Difference]:
    """Return every difference from the required settings: brokers first, then topics in the order of `demands`."""
    found = list(_of_brokers(cluster))
    for demand in demands:
        state = cluster.topics.get(demand.name)
        if state is None:
            found.append(_missing(demand, cluster))
            continue
        for rule in _TOPIC_RULES:
            found += rule(demand, state, cluster)
    return found


def fitted(demand: TopicDemand, topics: Mapping[str, TopicState], events: str) -> TopicDemand:
    """Return the settings to create a topic with, such that it fits the partitions and retention of existing topics."""
    sisters = [topics[name] for name in (events, *demand.sisters) if name in topics]
    partitions = sisters[0].partitions if demand.frozen and sisters else demand.partitions
    wanted = _least_ms(demand, _kept_ms(topics.get(events)))
    made_with = _number(demand.config["retention.ms"])
    kept_ms = wanted if FOREVER in (wanted, made_with) else max(wanted, made_with)
    return replace(demand, partitions=partitions, config={**demand.config, "retention.ms": str(kept_ms)})


def growth(demands: Sequence[TopicDemand], topics: Mapping[str, TopicState]) -> dict[str, int]:
    """Return the required number of partitions of each topic that may grow and has fewer."""
    return {
        demand.name: demand.partitions
        for demand in demands
        if demand.grows
        and demand.partitions is not None
        and demand.name in topics
        and topics[demand.name].partitions < demand.partitions
    }


def _missing(demand: TopicDemand, cluster: Cluster) -> Difference:
    new = fitted(demand, cluster.topics, cluster.events)
    config = " ".join(f"--config {name}={value}" for name, value in new.config.items())
    command = (
        f"{_topics_tool(cluster)} --create --topic {new.name} --partitions {new.partitions or 1} "
        f"--replication-factor {new.replication} {config}"
    )
    why = "Regather does not create topics while it runs"
    return Difference(demand.name, "topic", "missing", "there", why, command)


def _partitions(demand: TopicDemand, state: TopicState, cluster: Cluster) -> Iterator[Difference]:
    count = state.partitions
    if demand.frozen:
        yield from _frozen_partitions(demand, state, cluster)
    elif demand.grows and demand.partitions is not None and count < demand.partitions:
        why = "fewer partitions than asked for: no more workers than partitions can read it at once"
        grow = f"{_topics_tool(cluster)} --alter --topic {demand.name} --partitions {demand.partitions}"
        yield Difference(demand.name, "partitions", str(count), f"at least {demand.partitions}", why, grow)


def _frozen_partitions(demand: TopicDemand, state: TopicState, cluster: Cluster) -> Iterator[Difference]:
    name, count = demand.name, state.partitions
    if name == cluster.events:
        if demand.partitions is not None and count != demand.partitions:
            why = "a job's partition follows from this number: if it changes, later events of a job go to another one"
            command = (
                "no command changes it: ask for the size that there is, or begin a new installation: "
                "regather topics apply --prefix NEW. --size SIZE"
            )
            yield Difference(name, "partitions", str(count), str(demand.partitions), why, command)
        return
    events = cluster.topics.get(cluster.events)
    if events is None or count == events.partitions:
        return
    why = f"a job has the same partition number in {name} as in {cluster.events}"
    command = f"{_topics_tool(cluster)} --alter --topic {name} --partitions {events.partitions}"
    if count > events.partitions:
        create = _missing(demand, cluster).command
        delete = f"{_topics_tool(cluster)} --delete --topic {name}"
        command = f"{delete} && {create}  # only if its records are no longer needed: Kafka cannot remove partitions"
    yield Difference(name, "partitions", str(count), f"{events.partitions}, as {cluster.events}", why, command)


def _replication(demand: TopicDemand, state: TopicState, cluster: Cluster) -> Iterator[Difference]:
    wanted = demand.replication
    if state.replication >= wanted:
        return
    why = f"losing {state.replication} broker{'s' if state.replication > 1 else ''} would lose records"
    found = str(state.replication)
    if len(cluster.brokers) < wanted:
        command = f"start {wanted - len(cluster.brokers)} more brokers; then this check prints the command"
        yield Difference(demand.name, "replication", found, str(wanted), why, command)
        return
    plan = {"version": 1, "partitions": list(_reassigned(demand.name, state, sorted(cluster.brokers), wanted))}
    text = json.dumps(plan, separators=(",", ":"))
    command = (
        f"echo '{text}' > /tmp/{demand.name}.json && kafka-reassign-partitions.sh --bootstrap-server "
        f"{cluster.bootstrap_servers} --reassignment-json-file /tmp/{demand.name}.json --execute"
    )
    yield Difference(demand.name, "replication", found, str(wanted), why, command)


def _reassigned(name: str, state: TopicState, brokers: Sequence[int], wanted: int) -> Iterator[dict[str, object]]:
    """Yield each partition with its present brokers first; the missing copies go to the other brokers in turn."""
    for number, has in enumerate(state.replicas):
        turn = islice(cycle(brokers), number % len(brokers), number % len(brokers) + len(brokers))
        more = [broker for broker in turn if broker not in has]
        yield {"topic": name, "partition": number, "replicas": [*has, *more[: max(0, wanted - len(has))]]}


def _in_sync(demand: TopicDemand, state: TopicState, cluster: Cluster) -> Iterator[Difference]:
    copies = max(demand.replication, state.replication)
    wanted, found = max(1, copies - 1), _number(state.config.get("min.insync.replicas", "1"))
    if found < wanted:
        why = f"a record is acknowledged when {found} of {copies} brokers have it, and is lost if they are"
    elif found > wanted:
        why = f"with {copies} copies, losing one broker blocks every write"
    else:
        return
    difference = _setting(demand, "min.insync.replicas", str(found), str(wanted), why, cluster)
    later = "  # after the copies have been added" if state.replication < wanted else ""
    yield replace(difference, command=difference.command + later)


def _time_type(demand: TopicDemand, state: TopicState, cluster: Cluster) -> Iterator[Difference]:
    found = state.config.get("message.timestamp.type", "")
    if found != _APPEND_TIME:
        why = "deadlines, heartbeat time-outs and retention follow the brokers' clock, not those of many senders"
        yield _setting(demand, "message.timestamp.type", found, _APPEND_TIME, why, cluster)


def _record_size(demand: TopicDemand, state: TopicState, cluster: Cluster) -> Iterator[Difference]:
    wanted = demand.config["max.message.bytes"]
    found = state.config.get("max.message.bytes", "")
    if _number(found) < _number(wanted):
        why = "brokers refuse larger records, and a job that needs one cannot end as it should"
        yield _setting(demand, "max.message.bytes", found, f"at least {wanted}", why, cluster, value=wanted)


def _policy(demand: TopicDemand, state: TopicState, cluster: Cluster) -> Iterator[Difference]:
    wanted = demand.config["cleanup.policy"]
    found = state.config.get("cleanup.policy", "")
    if set(found.replace(" ", "").split(",")) != set(wanted.split(",")):
        why = (
            "its records share keys: compaction would keep only the last one of each job"
            if "compact" not in wanted
            else "only the newest record of a key matters: without compaction every start reads all records, "
            "without deletion they are kept for ever"
        )
        yield _setting(demand, "cleanup.policy", found, wanted, why, cluster, value=f"[{wanted}]")


def _unclean_election(demand: TopicDemand, state: TopicState, cluster: Cluster) -> Iterator[Difference]:
    told_of_brokers = any(settings.get(UNCLEAN_ELECTION, "false") != "false" for settings in cluster.brokers.values())
    found = state.config.get(UNCLEAN_ELECTION, "false")
    if found != "false" and not told_of_brokers:
        yield _setting(demand, UNCLEAN_ELECTION, found, "false", _WHY_CLEAN, cluster)


def _retention(demand: TopicDemand, state: TopicState, cluster: Cluster) -> Iterator[Difference]:
    found = state.config.get("retention.ms", "")
    wanted, why = _least_ms(demand, cluster.events_ms), demand.keep_why
    if demand.outlives_events:
        why = f"{why}; they must be kept a day longer than {cluster.events}"
    kept_ms = _number(found)
    if kept_ms != FOREVER and (wanted == FOREVER or kept_ms < wanted):
        asked = "-1 (for ever)" if wanted == FOREVER else f"at least {wanted} ({_days(wanted)})"
        yield _setting(demand, "retention.ms", f"{found} ({_days(kept_ms)})", asked, why, cluster, value=str(wanted))


def _least_ms(demand: TopicDemand, events_ms: int) -> int:
    if not demand.outlives_events:
        return demand.keep_ms
    return FOREVER if events_ms == FOREVER else max(demand.keep_ms, events_ms + DAY_MS)


def _kept_ms(state: TopicState | None) -> int:
    return _number(state.config.get("retention.ms", "")) if state else 0


def _retention_bytes(demand: TopicDemand, state: TopicState, cluster: Cluster) -> Iterator[Difference]:
    found = state.config.get("retention.bytes", "-1")
    if demand.any_size and found != "-1":
        why = "under load, brokers would delete records long before they are as old as retention.ms"
        yield _setting(demand, "retention.bytes", found, "-1", why, cluster)


Rule = Callable[[TopicDemand, TopicState, Cluster], Iterator[Difference]]
_TOPIC_RULES: tuple[Rule, ...] = (
    _replication,
    _partitions,  # after the replication: a new partition gets as many copies as the first one has
    _in_sync,
    _policy,
    _retention,
    _retention_bytes,
    _time_type,
    _record_size,
    _unclean_election,
)


@dataclass(frozen=True, slots=True)
class _BrokerRule:
    setting: str
    wanted: str
    right: Callable[[str], bool]
    why: str
    dynamic: bool
    """Whether it can be changed while the broker runs."""


_WHY_CLEAN = "a broker that missed records could become leader, and acknowledged records would be lost"
_BROKER_RULES = (
    _BrokerRule(
        VERIFICATION,
        "true",
        lambda value: value != "false",
        "a late request of an aggregator that died could leave a transaction open for ever, and read_committed readers "
        "would never get a final behind it",
        dynamic=True,
    ),
    _BrokerRule(UNCLEAN_ELECTION, "false", lambda value: value == "false", _WHY_CLEAN, dynamic=True),
    _BrokerRule(
        "auto.create.topics.enable",
        "false",
        lambda value: value == "false",
        "a client that asks for a topic before it exists would create it, with the broker's default settings",
        dynamic=False,
    ),
    _BrokerRule(
        "offsets.retention.minutes",
        "10080",
        lambda value: _number(value) >= 7 * 24 * 60,
        "after a stop of that length, Kafka deletes the groups' offsets, and they read everything again",
        dynamic=False,
    ),
)
BROKER_SETTINGS = tuple(rule.setting for rule in _BROKER_RULES)
"""The broker settings that are checked."""


def _of_brokers(cluster: Cluster) -> Iterator[Difference]:
    for rule in _BROKER_RULES:
        wrong = {
            number: settings[rule.setting].lower()
            for number, settings in sorted(cluster.brokers.items())
            if rule.setting in settings and not rule.right(settings[rule.setting].lower())
        }
        if not wrong:
            continue
        brokers = f"broker{'s' if len(wrong) > 1 else ''} {', '.join(map(str, wrong))}"
        setting = f"{rule.setting}={rule.wanted}"
        command = (
            f"kafka-configs.sh --bootstrap-server {cluster.bootstrap_servers} --entity-type brokers --entity-default "
            f"--alter --add-config {setting}"
            if rule.dynamic
            else f"echo '{setting}' >> server.properties  # of {brokers}; then restart them one by one"
        )
        found = ", ".join(sorted(set(wrong.values())))
        yield Difference(brokers, rule.setting, found, rule.wanted, rule.why, command)


def _setting(
    demand: TopicDemand, name: str, found: str, wanted: str, why: str, cluster: Cluster, *, value: str | None = None
) -> Difference:
    command = (
        f"kafka-configs.sh --bootstrap-server {cluster.bootstrap_servers} --entity-type topics "
        f"--entity-name {demand.name} --alter --add-config '{name}={value or wanted}'"
    )
    return Difference(demand.name, name, found, wanted, why, command)


def _topics_tool(cluster: Cluster) -> str:
    return f"kafka-topics.sh --bootstrap-server {cluster.bootstrap_servers}"


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return 0


def _days(milliseconds: int) -> str:
    days, hours = milliseconds / DAY_MS, milliseconds / HOUR_MS
    return f"{days:g} d" if days >= 1 else f"{hours:.3g} h"
