"""What a fault is, and what all of them work with."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from chaos.ledger import Ledger
from chaos.monitor import Monitor
from chaos.plan import PlannedFault
from chaos.workload import Workload
from regather.embedded.cluster_view import ClusterView
from regather.embedded.embedded_cluster import EmbeddedCluster
from regather.testing.fault_proxy import FaultProxy
from regather_cli.stack import Stack
from regather_cli.supervision import Supervision

T = TypeVar("T")


@dataclass(slots=True)
class Context:
    """The system under test, and who is being struck at the moment (`struck`, by the services' names)."""

    stack: Stack
    cluster: EmbeddedCluster
    view: ClusterView
    monitor: Monitor
    supervision: Supervision
    workload: Workload
    ledger: Ledger
    session_s: float
    proxy: FaultProxy | None = None
    struck: set[str] = field(default_factory=set)
    brokers: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True)
class Victim:
    """Who is struck, and what it had to do just before: why the fault counts."""

    name: str
    had: str


class Fault(Protocol):
    """One sort of fault."""

    @property
    def executions(self) -> int:
        """How many more executions of one shard it may cause."""

    async def victim(self, context: Context, planned: PlannedFault) -> Victim | None:
        """Somebody with work; None where there is nobody, and then another sort is chosen."""

    async def strike(self, context: Context, planned: PlannedFault, victim: Victim) -> str:
        """Strike, and heal; what it did, or "" if it found nothing to do."""


def picked(choices: Sequence[T], pick: float) -> T | None:
    """The one that `pick` in [0, 1) means, None of none."""
    return choices[int(pick * len(choices))] if choices else None
