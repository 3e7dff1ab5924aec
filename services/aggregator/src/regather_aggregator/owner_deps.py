"""Dependencies and counters that all owners of a process share; the composition root creates them."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from regather.core.partition_fold import PartitionFold
from regather.topics.layout import Topics
from regather.transport.base import Transport
from regather_aggregator.assembly import Assembly
from regather_aggregator.inherited_outcomes import InheritedOutcomes
from regather_aggregator.readback import OutputReaders
from regather_aggregator.settings import AggregatorSettings


@dataclass(slots=True)
class OwnerCounts:
    """Counts of all owners since the start of the process.

    Events dropped by reason, records lost to retention by topic, finals read back, transactions, restarts of an
    ownership and checkpoints written.
    """

    dropped: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    finals: int = 0
    transactions: int = 0
    restarts: int = 0
    checkpoints: int = 0


@dataclass(frozen=True, slots=True)
class OwnerDeps:
    """The dependencies that all owners of a process share."""

    transport: Transport
    topics: Topics
    settings: AggregatorSettings
    assembly: Assembly
    inherited: InheritedOutcomes
    output_readers: OutputReaders
    counts: OwnerCounts
    make_fold: Callable[[], PartitionFold]
    merges_alone: asyncio.Lock
