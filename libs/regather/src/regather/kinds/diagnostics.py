"""Kind `diagnostics`: fails on request, to test how the services react. Off unless the operator enables it."""

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from typing_extensions import override

from regather.core.errors import PermanentError
from regather.core.seq_ranges import ranges
from regather.processors.base import Options, Processor, ShardRows, ShardView, SplitRequest, Splitter
from regather.processors.splitting.bytes import ByteSplitter
from regather.processors.splitting.row_packer import RowSpan
from regather.processors.splitting.shard_rows import TextRows
from regather.processors.splitting.text_rows import LINES, TextRowSplitter

EXIT_CODE = 7
_FLOOD_LINE = "flood " * 170 + "\n"
_PAGE_BYTES = 16 * 1024 * 1024
_MAX_SIZE_BYTES = 8 * 1024**3
"""More than any sensible memory limit of a child, and still a limit where none is set."""

_TRIAL_LENGTH = 200_000
_MOST_DESCRIPTORS = 4096

Fault = Literal[
    "echo", "sleep", "hang_once", "busy", "raise", "permanent", "exit", "segfault",
    "allocate", "fork", "orphan", "flood", "return_huge", "return_wrong", "deaf", "closed",
    "kill_worker", "as_payload_says", "as_rows_say",
]  # fmt: skip


class DiagnosticsOptions(Options):
    """Shards in `only` (empty: all) do `do` while their attempt is below `attempts_below` (None: always)."""

    do: Fault = Field(default="echo", description="the fault")
    seconds: float = Field(
        default=60.0, ge=0, le=86_400, description="duration of sleep, hang_once, busy, fork, orphan and deaf"
    )
    size_bytes: int = Field(
        default=64 * 1024 * 1024, ge=0, le=_MAX_SIZE_BYTES, description="size for allocate, flood and return_huge"
    )
    only: str = Field(default="", pattern=r"^\s*(\d+\s*(,\s*\d+\s*)*)?$", description="shards with the fault: 0,3,17")
    attempts_below: int | None = Field(default=None, ge=0, description="fail only while the attempt is below this")
    merge: Literal["sum", "kill_aggregator"] = Field(default="sum", description="what the merge does")

    @field_validator("only", mode="before")
    @classmethod
    def _as_text(cls, only: object) -> object:
        """Accept a bare number or a JSON list as well as a text."""
        if isinstance(only, list):
            return ",".join(str(seq) for seq in only)
        return str(only) if isinstance(only, int) else only

    def hits(self, seq: int, attempt: int) -> bool:
        """Whether this attempt of this shard fails on purpose."""
        below = 1 if self.do == "hang_once" else self.attempts_below
        if below is not None and attempt >= below:
            return False
        chosen = {int(number) for number in self.only.split(",") if number.strip()}
        return not chosen or seq in chosen


class Diagnostics(Processor[DiagnosticsOptions]):
    """Fails as the options ask, to test how the services react.

    Other shards return a small JSON document. Result: {"shards", "gaps", "size_bytes", "attempts"}.

    `gaps` are ranges of shards that failed for good; `attempts` is the total number of attempts of the other shards.
    """

    options_model = DiagnosticsOptions

    @override
    def splitter(self, options: DiagnosticsOptions, request: SplitRequest) -> Splitter:
        return TextRowSplitter(request) if options.do == "as_rows_say" else ByteSplitter(request)

    @override
    def process(self, shard: ShardView, options: DiagnosticsOptions) -> bytes:
        if options.hits(shard.seq, shard.attempt):
            output = _misbehave(options, shard)
            if output is not None:
                return output
        echo = {"seq": shard.seq, "attempt": shard.attempt, "size_bytes": len(shard.payload)}
        return json.dumps(echo).encode()

    @override
    def rows(self, shard: ShardView, options: DiagnosticsOptions) -> ShardRows | None:
        if options.do != "as_rows_say":
            return None
        return TextRows(shard.payload, RowSpan.decode(shard.meta), LINES)

    @override
    def merge(self, outputs: Sequence[bytes | None], options: DiagnosticsOptions) -> bytes:
        if options.merge == "kill_aggregator":
            _kill_service()
        echoes = [json.loads(output) for output in outputs if output is not None]
        result = {
            "shards": len(outputs),
            "gaps": ranges(seq for seq, output in enumerate(outputs) if output is None),
            "size_bytes": sum(echo["size_bytes"] for echo in echoes),
            "attempts": sum(echo["attempt"] + 1 for echo in echoes),
        }
        return json.dumps(result).encode()


def _misbehave(options: DiagnosticsOptions, shard: ShardView) -> bytes | None:
    if options.do == "as_payload_says":
        options = _said_by(shard.payload, options)
    if options.do in _HANGS:  # a killed child's last output becomes part of the attempt's error
        sys.stdout.write(f"pid {os.getpid()} hangs from {time.monotonic():.6f}\n")
        sys.stdout.flush()
    return _FAULTS[options.do](options, shard)


def _as_rows_say(options: DiagnosticsOptions, shard: ShardView) -> None:
    """Do what each line asks for, as _said_by() reads it."""
    for line in shard.payload.splitlines():
        _misbehave(_said_by(line, options), shard)


def _said_by(payload: bytes, options: DiagnosticsOptions) -> DiagnosticsOptions:
    """Return the options that the payload's first line gives as JSON, so that one job can have all kinds of fault."""
    said = json.loads(payload.partition(b"\n")[0])
    return DiagnosticsOptions.model_validate(options.model_dump(exclude={"do", "only"}) | said)


def _echo(options: DiagnosticsOptions, shard: ShardView) -> None:
    """Do nothing: process() then returns its usual output."""


def _sleep(options: DiagnosticsOptions, shard: ShardView) -> None:
    time.sleep(options.seconds)


def _busy(options: DiagnosticsOptions, shard: ShardView) -> None:
    """Stay in one call into C that holds the interpreter's lock, so that no signal handler can run."""
    begun_s = time.perf_counter()
    sum(range(_TRIAL_LENGTH))
    trial_s = time.perf_counter() - begun_s
    sum(range(int(_TRIAL_LENGTH * options.seconds / trial_s)))


def _raise(options: DiagnosticsOptions, shard: ShardView) -> None:
    raise RuntimeError(f"shard {shard.seq} was asked to raise, attempt {shard.attempt}")


def _permanent(options: DiagnosticsOptions, shard: ShardView) -> None:
    raise PermanentError(f"shard {shard.seq} was asked to fail for good")


def _exit(options: DiagnosticsOptions, shard: ShardView) -> None:
    os._exit(EXIT_CODE)


def _segfault(options: DiagnosticsOptions, shard: ShardView) -> None:
    ctypes.string_at(0)


def _allocate(options: DiagnosticsOptions, shard: ShardView) -> None:
    """Allocate `size_bytes` of memory, write to every page and keep all of it until the last page is there."""
    held = [
        bytearray(b"\1") * min(_PAGE_BYTES, options.size_bytes - begun_bytes)
        for begun_bytes in range(0, options.size_bytes, _PAGE_BYTES)
    ]
    held.clear()


def _fork(options: DiagnosticsOptions, shard: ShardView) -> None:
    """Start a child process and hang along with it: a kill must end both."""
    _orphan(options, shard)
    time.sleep(options.seconds)


def _orphan(options: DiagnosticsOptions, shard: ShardView) -> None:
    """Leave a sleeping child process behind and return."""
    if os.fork() == 0:
        time.sleep(options.seconds)
        os._exit(0)


def _flood(options: DiagnosticsOptions, shard: ShardView) -> None:
    for _ in range(options.size_bytes // len(_FLOOD_LINE)):
        sys.stdout.write(_FLOOD_LINE)
    sys.stdout.flush()


def _deaf(options: DiagnosticsOptions, shard: ShardView) -> None:
    """Sleep and ignore every signal that can be ignored."""
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    time.sleep(options.seconds)


def _closed(options: DiagnosticsOptions, shard: ShardView) -> None:
    """Close every descriptor, including the channel to the supervisor."""
    os.closerange(3, _MOST_DESCRIPTORS)


def _kill_worker(options: DiagnosticsOptions, shard: ShardView) -> None:
    """Kill the worker itself, not only this child."""
    _kill_service()


def _kill_service() -> None:
    """Kill the service, which is the parent of this child's parent, as the kernel's out-of-memory killer might."""
    zygote = Path(f"/proc/{os.getppid()}/stat").read_text()
    os.kill(int(zygote.rpartition(")")[2].split()[1]), signal.SIGKILL)


def _return_huge(options: DiagnosticsOptions, shard: ShardView) -> bytes:
    return bytes(options.size_bytes)


def _return_wrong(options: DiagnosticsOptions, shard: ShardView) -> bytes:
    """Return a str instead of bytes, as a careless plug-in might."""
    return "no bytes"  # type: ignore[return-value] # this is the fault


_HANGS = frozenset({"sleep", "hang_once", "busy", "fork", "deaf"})
_FAULTS: dict[Fault, Callable[[DiagnosticsOptions, ShardView], bytes | None]] = {
    "echo": _echo,
    "sleep": _sleep,
    "hang_once": _sleep,
    "busy": _busy,
    "raise": _raise,
    "permanent": _permanent,
    "exit": _exit,
    "segfault": _segfault,
    "allocate": _allocate,
    "fork": _fork,
    "orphan": _orphan,
    "flood": _flood,
    "return_huge": _return_huge,
    "return_wrong": _return_wrong,
    "deaf": _deaf,
    "closed": _closed,
    "kill_worker": _kill_worker,
    "as_rows_say": _as_rows_say,
}
