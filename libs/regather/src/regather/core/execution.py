"""The result of one execution of an item in a child process."""

import struct
from dataclasses import dataclass
from typing import NamedTuple

from regather.core.model import Reason

_OUTPUT_BYTES = struct.Struct(">I")


class Done(NamedTuple):
    """An item that returned."""

    output: bytes
    started_ms: int
    duration_us: int


@dataclass(frozen=True, slots=True)
class Failed:
    """An item that failed while it ran; `retryable` is False if every other attempt would fail, too.

    `error` has at most 4 KiB and is safe to show to clients: no folder of this server, no source code. `trace` is for
    the log only: the frames of a built-in kind. It is empty for plug-ins, whose frames are part of `error`.
    """

    reason: Reason
    error: str
    started_ms: int
    duration_us: int
    retryable: bool = True
    trace: str = ""


@dataclass(frozen=True, slots=True)
class NotRun:
    """An item that is not to blame for the loss of its child: it spends no attempt.

    `begun` is True if a child was executing it, and was lost for another reason.
    """

    begun: bool = False


Result = Done | Failed | NotRun


def pack_step(output: bytes, carry: bytes) -> bytes:
    """Return the output and the carry of one step of a chain as one value."""
    return _OUTPUT_BYTES.pack(len(output)) + output + carry


def unpack_step(packed: bytes) -> tuple[bytes, bytes]:
    """Read what pack_step() wrote."""
    end = _OUTPUT_BYTES.size + _OUTPUT_BYTES.unpack_from(packed)[0]
    if end > len(packed):
        raise ValueError(f"an output up to byte {end} does not fit into {len(packed)} bytes")
    return packed[_OUTPUT_BYTES.size : end], packed[end:]
