"""What one execution of an item in a child came to."""

from dataclasses import dataclass
from typing import NamedTuple

from regather.core.model import Reason


class Done(NamedTuple):
    """An item that returned."""

    output: bytes
    started_ms: int
    duration_us: int


@dataclass(frozen=True, slots=True)
class Failed:
    """An item that failed while it ran; `retryable` is False where another attempt must fail, too.

    `error` is at most 4 KiB and made for clients: no folder of this server, no source. `trace` is for the log alone: the
    frames of a built-in kind, empty for plug-ins, whose frames stand in `error`.
    """

    reason: Reason
    error: str
    started_ms: int
    duration_us: int
    retryable: bool = True
    trace: str = ""


@dataclass(frozen=True, slots=True)
class NotRun:
    """An item that was not the one executing when its child died: it spends no attempt."""


Result = Done | Failed | NotRun
