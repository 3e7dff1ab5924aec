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
    """One partition, from its assignment until it is `revoked`; acknowledging a record after that is harmless.

    `began` is the committed offset at the assignment.
    """

    tp: TopicPartition
    watermark: Watermark
    crash_tracker: CrashTracker
    began: int = 0
    open_bytes: int = 0
    paused: bool = False
    revoked: bool = False
    newer_at: int | None = None
    """Offset of the first record of a later release: nothing from there on is delivered, nor acknowledged."""

    _arrivals: deque[tuple[int, int]] = field(default_factory=deque)
    """Offset and broker timestamp (ms) of each record read, in offset order; oldest_ms() drops settled ones."""

    def deliver(self, record: Record) -> bool:
        """Count a record as open; return False if it is settled already, was delivered before, or is behind a newer one."""
        if self.newer_at is not None or not self.watermark.deliver(record.offset):
            return False
        self.open_bytes += len(record.value or b"")
        self._arrivals.append((record.offset, record.timestamp_ms))
        return True

    def ack(self, record: Record) -> None:
        """Acknowledge a record, so that later commits may go past it. Repeats are harmless."""
        if self.watermark.ack(record.offset):
            self.open_bytes -= len(record.value or b"")
            self.crash_tracker.ack(record.offset)

    def is_full(self, most_records: int, most_bytes: int) -> bool:
        """Whether the partition must be paused: from the limit on, until half of it is left; a pause drops a buffer."""
        if self.paused:
            return self.watermark.open_count > most_records // 2 or self.open_bytes > most_bytes // 2
        return self.watermark.open_count >= most_records or self.open_bytes >= most_bytes

    def oldest_ms(self) -> int | None:
        """Return the broker timestamp of the oldest open record (ms since 1970); None without one."""
        low, _ = self.watermark.committable()
        while self._arrivals and self._arrivals[0][0] < low:
            self._arrivals.popleft()
        return self._arrivals[0][1] if self._arrivals else None


@dataclass(slots=True, eq=False)
class Delivery:
    """One delivery of a shard: the record and the partition that it was read from."""

    in_flight: InFlight
    record: Record

    def ack(self) -> None:
        """Acknowledge the record, so that later commits may go past it. Repeats are harmless."""
        self.in_flight.ack(self.record)


ShardKey = tuple[Identity, int, int]

_WATCHED_TOGETHER = 8
"""The most watched shards in one micro-batch: if it crashes the worker, each of them runs alone next."""

_ALONE_AFTER = frozenset({Reason.WORKER_LOST, Reason.OUT_OF_MEMORY})


@dataclass(slots=True, eq=False)
class QueuedShard:
    """A shard with its deliveries: more than one if it was delivered again while it ran here."""

    shard: Shard
    deliveries: list[Delivery] = field(default_factory=list)
    unbatched: bool = False
    """True after a micro-batch ended without a result for it: it does not share one again."""

    lost: int = 0
    """How often a child was lost while it ran this shard, for another reason."""

    search: RowSearch | None = None
    """The search for its bad rows, once the whole shard has failed for good."""

    @property
    def key(self) -> ShardKey:
        """Owner, sequence number and attempt: the same execution, however often it is delivered."""
        return (self.shard.owner, self.shard.seq, self.shard.attempt)

    @property
    def wanted(self) -> bool:
        """False once every partition that it came from is revoked: the next owner runs it."""
        return any(not delivery.in_flight.revoked for delivery in self.deliveries)

    @property
    def watched(self) -> bool:
        """Whether a commit must name this shard as running before it begins."""
        return any(delivery.in_flight.crash_tracker.is_watched(delivery.record.offset) for delivery in self.deliveries)

    @property
    def exclusive(self) -> bool:
        """Whether the worker must run nothing else meanwhile: this shard may crash it, or use up its memory."""
        if self.search is not None and self.search.exclusive:
            return True
        history = self.shard.history
        if history and history[-1].reason in _ALONE_AFTER:
            return True
        return any(delivery.in_flight.crash_tracker.is_suspect(delivery.record.offset) for delivery in self.deliveries)

    @property
    def sort(self) -> object:
        """Key of the batch sizer: shards with the same kind and options take about the same time."""
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
