"""All topic names, their partitions and their settings, in one place. Source: docs/protocol.md#topics."""

from dataclasses import dataclass
from enum import StrEnum

from regather.core.sharding import MAX_SHARD_BYTES
from regather.topics.rules import DAY_MS, HOUR_MS, TopicDemand, TopicSpec, least_events_ms

KIB, MIB = 1024, 1024 * 1024
# Every limit derives from the largest shard.
SHARD_RECORD_BYTES = MAX_SHARD_BYTES + MIB
RETRY_RECORD_BYTES = SHARD_RECORD_BYTES + MIB // 2
EVENT_RECORD_BYTES = MAX_SHARD_BYTES + 2 * MIB
LETTER_RECORD_BYTES = MAX_SHARD_BYTES + 2 * MIB
RESULT_RECORD_BYTES = MIB
CONTROL_RECORD_BYTES = 4 * KIB
CHECKPOINT_RECORD_BYTES = EVENT_RECORD_BYTES + 4 * KIB
"""A checkpoint record holds any event of a job, with one more header."""


class Size(StrEnum):
    """The size of an installation; it decides partition counts."""

    EMBEDDED = "embedded"
    COMPOSE = "compose"
    PRODUCTION = "production"


@dataclass(frozen=True, slots=True)
class Topics:
    """The topic names, with an optional prefix for shared clusters."""

    prefix: str = ""

    @property
    def shards_small(self) -> str:
        """The first shards of every job."""
        return f"{self.prefix}shards.small"

    @property
    def shards_bulk(self) -> str:
        """All further shards."""
        return f"{self.prefix}shards.bulk"

    @property
    def shards_retry(self) -> str:
        """Next attempts of shards, and shards that a chain released."""
        return f"{self.prefix}shards.retry"

    @property
    def shards(self) -> tuple[str, str, str]:
        """All topics with shards: what workers read."""
        return (self.shards_small, self.shards_bulk, self.shards_retry)

    @property
    def job_events(self) -> str:
        """What happened to jobs and shards: the aggregator folds it."""
        return f"{self.prefix}job-events"

    @property
    def segments(self) -> str:
        """Pieces of large results."""
        return f"{self.prefix}segments"

    @property
    def checkpoints(self) -> str:
        """Events of long jobs once more, for restarts of the aggregator."""
        return f"{self.prefix}checkpoints"

    @property
    def results(self) -> str:
        """One final per job and version."""
        return f"{self.prefix}results"

    @property
    def job_status(self) -> str:
        """The statuses that the gateways show."""
        return f"{self.prefix}job-status"

    @property
    def dead_letters(self) -> str:
        """Shards and rows that failed for good, with their payload."""
        return f"{self.prefix}dead-letters"

    @property
    def control(self) -> str:
        """Jobs that are over: every worker follows this topic."""
        return f"{self.prefix}control"

    @property
    def workers(self) -> str:
        """Reports of the workers."""
        return f"{self.prefix}workers"

    def group(self, role: str) -> str:
        """The consumer group of a role."""
        return f"{self.prefix}regather.{role}"

    def transactional_id(self, role: str, partition: int) -> str:
        """The transactional id of a role's owner of one partition."""
        return f"{self.prefix}regather.{role}.{partition}"


_PARTITIONS = {  # embedded, compose, production
    "shards": (8, 16, 64),
    "retry": (4, 8, 32),
    "events": (1, 4, 24),
    "letters": (1, 6, 6),
    "one": (1, 1, 1),
}
_FROZEN_ROW = "events"
_GROWING_ROWS = ("shards", "retry")
DEFAULT_LONGEST_JOB_MS = HOUR_MS
"""The gateway's default limit of deadlines."""


@dataclass(frozen=True, slots=True)
class _Keep:
    """How long records are kept: the retention that a topic is created with, the least retention, and its reason."""

    days: int
    least_ms: int = 0
    why: str = ""
    outlives_events: bool = False
    any_size: bool = False


@dataclass(frozen=True, slots=True)
class _Row:
    """How one topic is created."""

    name: str
    partitions: str
    max_record_bytes: int
    keep: _Keep
    policy: str = "delete"


def _rows(topics: Topics, longest_job_ms: int) -> list[_Row]:
    events_ms = least_events_ms(longest_job_ms)
    shards = _Keep(7, longest_job_ms, "a shard may wait as long as the longest job lasts", any_size=True)
    events = _Keep(7, events_ms, "a restart folds the events of every open job again", any_size=True)
    own = "a restart learns from them which jobs are done"
    output = _Keep(8, events_ms + DAY_MS, own, outlives_events=True, any_size=True)
    saved = _Keep(8, events_ms + DAY_MS, "a restart goes on from them", outlives_events=True, any_size=True)
    status = _Keep(8, events_ms + DAY_MS, "gateways answer for jobs from them", outlives_events=True)
    letters = _Keep(30, events_ms + DAY_MS, "finals name dead letters", outlives_events=True)
    news, both = _Keep(8), "compact,delete"
    return [
        _Row(topics.shards_small, "shards", SHARD_RECORD_BYTES, shards),
        _Row(topics.shards_bulk, "shards", SHARD_RECORD_BYTES, shards),
        _Row(topics.shards_retry, "retry", RETRY_RECORD_BYTES, shards),
        _Row(topics.job_events, _FROZEN_ROW, EVENT_RECORD_BYTES, events),
        _Row(topics.segments, _FROZEN_ROW, RESULT_RECORD_BYTES, output),
        _Row(topics.checkpoints, _FROZEN_ROW, CHECKPOINT_RECORD_BYTES, saved),
        _Row(topics.results, _FROZEN_ROW, RESULT_RECORD_BYTES, output),
        _Row(topics.job_status, _FROZEN_ROW, RESULT_RECORD_BYTES, status, both),
        _Row(topics.dead_letters, "letters", LETTER_RECORD_BYTES, letters),
        _Row(topics.control, "one", CONTROL_RECORD_BYTES, news, both),
        _Row(topics.workers, "one", CONTROL_RECORD_BYTES, news, both),
    ]


def topic_demands(
    topics: Topics, size: Size | None, *, replication: int = 1, longest_job_ms: int = DEFAULT_LONGEST_JOB_MS
) -> list[TopicDemand]:
    """Return the requirements of every topic of an installation.

    Without a size, partition counts are only compared with each other.
    """
    column = None if size is None else list(Size).index(size)
    rows = _rows(topics, longest_job_ms)
    frozen = tuple(row.name for row in rows if row.partitions == _FROZEN_ROW)
    return [
        TopicDemand(
            row.name,
            None if column is None else _PARTITIONS[row.partitions][column],
            replication,
            _config(row, replication),
            grows=row.partitions in _GROWING_ROWS,
            frozen=row.name in frozen,
            sisters=frozen if row.name in frozen else (),
            keep_ms=row.keep.least_ms,
            keep_why=row.keep.why,
            outlives_events=row.keep.outlives_events,
            any_size=row.keep.any_size,
        )
        for row in rows
    ]


def topic_spec(demand: TopicDemand) -> TopicSpec:
    """Return the same topic, ready for create_topics()."""
    return TopicSpec(demand.name, demand.partitions or 1, int(demand.config["max.message.bytes"]), demand.config)


def topic_specs(topics: Topics, size: Size, *, replication: int = 1) -> list[TopicSpec]:
    """Return every topic of a new installation, ready for create_topics()."""
    return [topic_spec(demand) for demand in topic_demands(topics, size, replication=replication)]


def _config(row: _Row, replication: int) -> dict[str, str]:
    return {
        "cleanup.policy": row.policy,
        "max.message.bytes": str(row.max_record_bytes),
        "message.timestamp.type": "LogAppendTime",
        "retention.bytes": "-1",
        "retention.ms": str(max(row.keep.days * DAY_MS, row.keep.least_ms)),
        "min.insync.replicas": str(max(1, replication - 1)),
    }
