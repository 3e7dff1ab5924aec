"""What all owners of a process have in common: passed in once, by the composition root."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from regather.core.partition_fold import PartitionFold
from regather.topics.layout import Topics
from regather.transport.base import Transport
from regather_aggregator.assembly import Assembly
from regather_aggregator.readback import OwnOutput
from regather_aggregator.settings import AggregatorSettings


@dataclass(slots=True)
class OwnerCounts:
    """Since the process began, of all its owners.

    Events dropped by why, records lost to retention by topic, finals read back, transactions, restarts.
    """

    dropped: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    finals: int = 0
    transactions: int = 0
    restarts: int = 0
    checkpoints: int = 0


@dataclass(frozen=True, slots=True)
class OwnerDeps:
    """What all owners of a process have in common."""

    transport: Transport
    topics: Topics
    settings: AggregatorSettings
    assembly: Assembly
    output: OwnOutput
    counts: OwnerCounts
    make_fold: Callable[[], PartitionFold]
    merges_alone: asyncio.Lock
