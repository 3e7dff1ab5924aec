"""Records that were read and are not acknowledged yet, by partition and assignment."""

from collections import deque
from dataclasses import dataclass, field

from regather.core.crash_attribution import CrashTracker
from regather.core.model import Identity, Reason, Shard
from regather.core.watermark import Watermark
from regather.transport.base import Record, TopicPartition
from regather_worker.row_search import RowSearch


@dataclass(slots=True, eq=False)
class InFlight:
    """One partition from its assignment to its revocation. Acknowledging a record of a `revoked` one does no harm.

    `began` is the offset that was committed when it was assigned.
    """

    tp: TopicPartition
    watermark: Watermark
    crash_tracker: CrashTracker
    began: int = 0
    open_bytes: int = 0
    paused: bool = False
    revoked: bool = False
    _arrivals: deque[tuple[int, int]] = field(default_factory=deque)
    """Offset and time of arrival of records, the oldest open one first."""

    def took(self, record: Record) -> None:
        """A record is open from now on."""
        self.open_bytes += len(record.value or b"")
        self._arrivals.append((record.offset, record.timestamp_ms))

    def oldest_ms(self) -> int | None:
        """When the oldest open record arrived at the broker, None without any."""
        low, _ = self.watermark.committable()
        while self._arrivals and self._arrivals[0][0] < low:
            self._arrivals.popleft()
        return self._arrivals[0][1] if self._arrivals else None


@dataclass(slots=True, eq=False)
class Delivery:
    """One delivery of a shard: the record, and the partition that it came from."""

    in_flight: InFlight
    record: Record

    def ack(self) -> None:
        """Acknowledge the record: commits may pass it."""
        self.in_flight.watermark.settle(self.record.offset)
        self.in_flight.crash_tracker.settle(self.record.offset)
        self.in_flight.open_bytes -= len(self.record.value or b"")


ShardKey = tuple[Identity, int, int]

_WATCHED_TOGETHER = 8
"""So many watched shards share a micro-batch at most: if it takes the worker along, each of them runs alone next."""

_ALONE_AFTER = frozenset({Reason.WORKER_LOST, Reason.OUT_OF_MEMORY})


@dataclass(slots=True, eq=False)
class QueuedShard:
    """A shard with its deliveries: more than one if it was delivered again while it ran here."""

    shard: Shard
    deliveries: list[Delivery] = field(default_factory=list)
    unbatched: bool = False
    """True once it shared a micro-batch with a shard that ended the child: it shares none again."""

    lost: int = 0
    """How often its child was lost without its being the one that ran."""

    search: RowSearch | None = None
    """It failed for good, and its bad rows are looked for."""

    @property
    def key(self) -> ShardKey:
        """Owner, sequence number and attempt: the same execution, however often it is delivered."""
        return (self.shard.owner, self.shard.seq, self.shard.attempt)

    @property
    def wanted(self) -> bool:
        """False once every partition it came from was taken away: the next owner has it."""
        return any(not delivery.in_flight.revoked for delivery in self.deliveries)

    @property
    def watched(self) -> bool:
        """Whether a commit has to name it before it begins."""
        return any(delivery.in_flight.crash_tracker.is_watched(delivery.record.offset) for delivery in self.deliveries)

    @property
    def exclusive(self) -> bool:
        """Whether its worker has to run nothing else meanwhile: it may take everything along, or all memory."""
        if self.search is not None and self.search.exclusive:
            return True
        history = self.shard.history
        if history and history[-1].reason in _ALONE_AFTER:
            return True
        return any(delivery.in_flight.crash_tracker.is_suspect(delivery.record.offset) for delivery in self.deliveries)

    @property
    def sort(self) -> object:
        """Shards of one sort take about the same time."""
        return (self.shard.kind, self.shard.options)

    @property
    def group(self) -> object:
        """Shards of one group may share a micro-batch."""
        shard = self.shard
        batch = (shard.owner, shard.kind, shard.options, shard.timeout_ms)
        if self.unbatched or self.search or shard.chained:
            return (*batch, shard.seq)
        return (*batch, "watched", shard.seq // _WATCHED_TOGETHER) if self.watched else batch

    def ack(self) -> None:
        """Acknowledge every delivery."""
        for delivery in self.deliveries:
            delivery.ack()
