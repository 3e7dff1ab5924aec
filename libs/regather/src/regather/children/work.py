"""The interface between callers that have work and the supervisor that runs it in killable children."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from regather.core.execution import Result


class Call(StrEnum):
    """The method of the processor that a child has to run."""

    PROCESS = "process"
    MERGE = "merge"
    SPLIT = "split"
    INSPECT = "inspect"
    STEP = "step"
    ROWS = "rows"
    PICK = "pick"


@dataclass(frozen=True, slots=True)
class WorkLimits:
    """Limits of one item: wall seconds, bytes of memory above the idle child, bytes returned, CPU seconds.

    None is no limit. CPU time is that of the child itself, without its own children, in whole seconds, rounded up.
    """

    wall_s: float = 15.0
    memory_bytes: int | None = None
    output_bytes: int = 10 * 1024 * 1024
    cpu_s: int | None = None


class WorkItem(NamedTuple):
    """One item of work. What it holds depends on the call.

    PROCESS: one shard. `rows` (packed by row_calls) are the rows to keep; empty: all of them.
    PICK, ROWS: one shard. For PICK each range of `rows` becomes a piece of its own.
    STEP: one shard and the `carry` of the shard before. Its result is pack_step() of output and carry.
    MERGE: one output; the items are in order. `missing` is set in place of a shard that failed.
    SPLIT: the only item, which is the order to cut a file. `carry` is the side file.
    INSPECT: the only item, which is the body's head, with the request of the cut as `meta`. `carry` is the side file.
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
    """A micro-batch for one child: items of one kind with the same options, run one after the other.

    MERGE gives exactly one result for all items. Every other call gives one result for each item.
    """

    call: Call
    kind: str
    options: bytes
    items: Sequence[WorkItem]
    limits: WorkLimits


class Executor(Protocol):
    """Runs work in children that can be killed."""

    async def start(self) -> None:
        """Start the children. Call it before any Kafka client exists in this process."""

    async def stop(self, timeout_s: float) -> None:
        """Let running work end within the limit, then kill the rest. No child process remains."""

    @property
    def slots(self) -> int:
        """How many pieces of work can run at once."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that the children can run; known once start() has returned."""

    async def run(self, work: Work) -> list[Result]:
        """Wait for a free slot and run one piece of work in it. Never raises because of user code."""
