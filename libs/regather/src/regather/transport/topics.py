"""All topic names, their partitions and their settings, in one place. Source: the delivery protocol, section 2."""

from dataclasses import dataclass
from enum import StrEnum

from regather.transport.base import TopicSpec

KIB, MIB = 1024, 1024 * 1024
MAX_PAYLOAD_BYTES = 10 * MIB
"""Largest shard; every other limit derives from it."""

SHARD_RECORD_BYTES = MAX_PAYLOAD_BYTES + MIB
RETRY_RECORD_BYTES = SHARD_RECORD_BYTES + MIB // 2
EVENT_RECORD_BYTES = MAX_PAYLOAD_BYTES + 2 * MIB
LETTER_RECORD_BYTES = MAX_PAYLOAD_BYTES + 2 * MIB
RESULT_RECORD_BYTES = MIB
CONTROL_RECORD_BYTES = 4 * KIB
_DAY_MS = 24 * 3600 * 1000


class Size(StrEnum):
    """How big an installation is; decides partition counts."""

    EMBEDDED = "embedded"
    COMPOSE = "compose"
    PRODUCTION = "production"


@dataclass(frozen=True, slots=True)
class Topics:
    """The names, with an optional prefix for clusters that are shared."""

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
        """Shards that wait for their next attempt."""
        return f"{self.prefix}shards.retry"

    @property
    def job_events(self) -> str:
        """Opened, sealed, outcomes: what the aggregator folds."""
        return f"{self.prefix}job-events"

    @property
    def segments(self) -> str:
        """Pieces of ordered results."""
        return f"{self.prefix}segments"

    @property
    def results(self) -> str:
        """One final per job and version."""
        return f"{self.prefix}results"

    @property
    def job_status(self) -> str:
        """What the gateways show."""
        return f"{self.prefix}job-status"

    @property
    def dead_letters(self) -> str:
        """Shards that failed for good, with their payload."""
        return f"{self.prefix}dead-letters"

    @property
    def control(self) -> str:
        """Decisions that reach every worker."""
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


def topic_specs(topics: Topics, size: Size, *, replication: int = 1) -> list[TopicSpec]:
    """Every topic of an installation, ready for create_topics()."""
    column = list(Size).index(size)

    def spec(name: str, row: str, max_record_bytes: int, policy: str, retention_days: int) -> TopicSpec:
        config = {
            "cleanup.policy": policy,
            "max.message.bytes": str(max_record_bytes),
            "message.timestamp.type": "LogAppendTime",
            "retention.bytes": "-1",
            "retention.ms": str(retention_days * _DAY_MS),
            "min.insync.replicas": str(max(1, replication - 1)),
        }
        return TopicSpec(name, _PARTITIONS[row][column], max_record_bytes, config)

    return [
        spec(topics.shards_small, "shards", SHARD_RECORD_BYTES, "delete", 7),
        spec(topics.shards_bulk, "shards", SHARD_RECORD_BYTES, "delete", 7),
        spec(topics.shards_retry, "retry", RETRY_RECORD_BYTES, "delete", 7),
        spec(topics.job_events, "events", EVENT_RECORD_BYTES, "delete", 7),
        spec(topics.segments, "events", RETRY_RECORD_BYTES, "delete", 8),
        spec(topics.results, "events", RESULT_RECORD_BYTES, "delete", 8),
        spec(topics.job_status, "events", RESULT_RECORD_BYTES, "compact,delete", 8),
        spec(topics.dead_letters, "letters", LETTER_RECORD_BYTES, "delete", 30),
        spec(topics.control, "one", CONTROL_RECORD_BYTES, "compact,delete", 8),
        spec(topics.workers, "one", CONTROL_RECORD_BYTES, "compact,delete", 8),
    ]
