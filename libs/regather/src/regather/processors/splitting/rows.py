"""Cuts rows of equal size: a shard has whole rows, and its neighbours' rows on either side (the halo)."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from regather.core.errors import BadInput
from regather.core.sharding import DEFAULT_SHARD_BYTES, Plan, plan_by_count, plan_by_size, units_per_shard
from regather.processors.base import Piece, SplitRequest
from regather.processors.splitting.byte_queue import ByteQueue

ITEM_BYTES = {
    "bool": 1, "int8": 1, "uint8": 1,
    "int16": 2, "uint16": 2, "float16": 2,
    "int32": 4, "uint32": 4, "float32": 4,
    "int64": 8, "uint64": 8, "float64": 8,
}  # fmt: skip
"""Size of one value in bytes; all types are little-endian."""

_MOST_DEFAULT_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RowLayout:
    """Layout of a row: `width` pixels of `channels` interleaved values. `height` is None while it is unknown."""

    width: int
    channels: int
    dtype: str
    height: int | None = None

    @property
    def row_bytes(self) -> int:
        """Size of one row in bytes."""
        return self.width * self.channels * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, slots=True)
class Band:
    """A shard's `meta`: rows `row0` to `row0 + rows - 1`, with `top` halo rows above them and `bottom` below."""

    row0: int
    rows: int
    top: int
    bottom: int
    width: int
    channels: int
    dtype: str
    height: int | None

    def encode(self) -> bytes:
        """Return the band as JSON."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def decode(cls, meta: bytes) -> "Band":
        """Parse what encode() wrote; ValueError or TypeError for anything else."""
        return cls(**json.loads(meta))


class RowSplitter:
    """Cuts a body into even bands of whole rows; holds at most one and a half shards, the halo and the current chunk.

    `first_byte` is where the rows begin in the body (after a header), for error messages. The constructor raises
    BadRequest or BadInput if the requested cut is impossible. The methods raise BadInput if the body is not a whole
    number of rows or does not have `layout.height` of them.
    """

    def __init__(self, layout: RowLayout, request: SplitRequest, *, halo: int = 0, first_byte: int = 0) -> None:
        self._layout = layout
        self._row_bytes = layout.row_bytes
        self._halo = halo
        self._first_byte = first_byte
        self._plan = _plan(layout, request, halo)
        self._queue = ByteQueue()
        self._received_bytes = 0
        self._row0 = 0
        self._kept = 0
        """Number of rows at the front of the queue that are cut already and stay as the next band's upper halo."""

    def feed(self, data: bytes) -> Iterable[Piece]:
        """Queue the bytes and return the bands that are now complete."""
        self._received_bytes += len(data)
        if self._layout.height is not None and self._received_bytes > self._row_bytes * self._layout.height:
            raise BadInput(f"{self._expectation()}, but the body goes on after that")
        self._queue.append(data)
        pieces: list[Piece] = []
        while True:
            count, rows = self._plan.next_run(self._rows_to_cut())
            if not count:
                return pieces
            pieces += [self._cut(rows) for _ in range(count)]

    def finish(self) -> Iterable[Piece]:
        """Return the last bands."""
        rows, left_over_bytes = divmod(self._received_bytes, self._row_bytes)
        end = self._first_byte + self._received_bytes
        if self._layout.height is not None and rows < self._layout.height:
            raise BadInput(f"{self._expectation()}, but the body ends at byte {end}")
        if left_over_bytes:
            raise BadInput(
                f"the body ends at byte {end}, {left_over_bytes} bytes into row {rows} of {self._row_bytes} bytes; "
                "are width, channels and dtype right?"
            )
        if not rows:
            raise BadInput("the body is empty: there are no rows to cut", code="empty-body")
        return [self._cut(rows) for rows in self._plan.rest(len(self._queue) // self._row_bytes - self._kept)]

    def _rows_to_cut(self) -> int:
        held = len(self._queue) // self._row_bytes - self._kept
        whole = self._layout.height is not None and self._row0 + held == self._layout.height
        return held if whole else max(0, held - self._halo)

    def _cut(self, rows: int) -> Piece:
        layout = self._layout
        held = len(self._queue) // self._row_bytes
        top, bottom = self._kept, min(self._halo, held - self._kept - rows)
        payload = self._queue.peek((top + rows + bottom) * self._row_bytes)
        band = Band(self._row0, rows, top, bottom, layout.width, layout.channels, layout.dtype, layout.height)
        self._row0 += rows
        self._kept = min(self._halo, top + rows)
        self._queue.drop((top + rows - self._kept) * self._row_bytes)
        return Piece(payload, band.encode())

    def _expectation(self) -> str:
        height = self._layout.height or 0
        end = self._first_byte + height * self._row_bytes
        return f"{height} rows of {self._row_bytes} bytes end at byte {end}"


def raw_layout(layout: RowLayout, request: SplitRequest) -> RowLayout:
    """Return the layout of a body without a header, its height from the announced length; BadInput if they disagree."""
    if request.size_bytes is None:
        return layout
    rows, left_over_bytes = divmod(request.size_bytes, layout.row_bytes)
    if left_over_bytes or layout.height not in (None, rows):
        wanted = "whole" if layout.height is None else str(layout.height)
        raise BadInput(
            f"the body of {request.size_bytes} bytes is {rows} rows and {left_over_bytes} bytes, not {wanted} rows "
            f"({layout.width} x {layout.channels} {layout.dtype}, {layout.row_bytes} bytes each)"
        )
    return RowLayout(layout.width, layout.channels, layout.dtype, rows)


def _default_bytes(layout: RowLayout, halo: int) -> int:
    """Return the default shard size: up to 4 MiB for long rows, so that the halo is about a sixteenth of the shard."""
    halo_bytes = 2 * halo * layout.row_bytes
    return max(DEFAULT_SHARD_BYTES, min(_MOST_DEFAULT_BYTES, 16 * halo_bytes))


def _plan(layout: RowLayout, request: SplitRequest, halo: int) -> Plan:
    total = layout.height or None
    if request.shards is not None:
        return plan_by_count(request.shards, total, unit_bytes=layout.row_bytes, halo_units=halo)
    size_bytes = _default_bytes(layout, halo) if request.shard_size_bytes is None else request.shard_size_bytes
    return plan_by_size(units_per_shard(size_bytes, layout.row_bytes, halo_units=halo), total)
