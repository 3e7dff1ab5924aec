"""The words between those who have work and the supervisor that runs it in killable children."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from regather.core.execution import Result


class Call(StrEnum):
    """Which method of the processor a child is to run."""

    PROCESS = "process"
    MERGE = "merge"
    SPLIT = "split"
    INSPECT = "inspect"
    STEP = "step"
    ROWS = "rows"
    PICK = "pick"


@dataclass(frozen=True, slots=True)
class WorkLimits:
    """Limits of one item: wall seconds, bytes of memory above the idle child (None: none), bytes returned, CPU seconds.

    CPU time counts what the child itself uses, in whole seconds, rounded up; None: no limit.
    """

    wall_s: float = 15.0
    memory_bytes: int | None = None
    output_bytes: int = 10 * 1024 * 1024
    cpu_s: int | None = None


class WorkItem(NamedTuple):
    """One shard for Call.PROCESS; for Call.MERGE each item is one output in order, `missing` where a shard failed.

    For Call.SPLIT there is one item: the order to cut a file. For Call.INSPECT there is one: the body's head, and the
    request of the cut as `meta`; both have the side file as `carry`. For Call.STEP `carry` is that of the shard
    before, and the output is what pack_step() makes of output and carry. `rows` (as row_calls packs them) are the rows to
    keep for Call.PROCESS, all if it is empty; for Call.PICK each of them becomes a piece of its own.
    """

    seq: int
    payload: bytes
    meta: bytes = b""
    attempt: int = 0
    missing: bool = False
    carry: bytes = b""
    rows: bytes = b""


@dataclass(frozen=True, slots=True)
class Work:
    """A micro-batch for one child: items of one kind and one set of options, run one after the other.

    PROCESS, STEP, SPLIT, INSPECT, ROWS and PICK give one result per item; MERGE gives exactly one result for all of them.
    """

    call: Call
    kind: str
    options: bytes
    items: Sequence[WorkItem]
    limits: WorkLimits


class Executor(Protocol):
    """Runs work in children that can be killed."""

    async def start(self) -> None:
        """Start the children; must be called before any Kafka client exists in this process."""

    async def stop(self, timeout_s: float) -> None:
        """Let running work end within the limit, then kill what is left. No process remains."""

    @property
    def slots(self) -> int:
        """How many pieces of work can run at once."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """What the children can run; known once start() has returned."""

    async def run(self, work: Work) -> list[Result]:
        """Run one piece of work in a free slot (waits for one). Never raises for what user code does."""
