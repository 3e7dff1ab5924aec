"""Packing rows of different lengths into shards: whole rows, the header in front of each, nothing that is no UTF-8."""

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from regather.core.errors import BadInput
from regather.core.row_cuts import CountedCuts, RowCuts, SizedCuts, check_row_shards
from regather.core.sharding import DEFAULT_SHARD_BYTES, MAX_SHARD_BYTES, MIN_SHARD_BYTES
from regather.processors.base import Piece, SplitRequest
from regather.processors.splitting.byte_queue import ByteQueue


@dataclass(frozen=True, slots=True)
class RowSpan:
    """A shard's `meta`: its rows are `row0` to `row0 + rows - 1` of the body, counted from 0 without the header.

    `header_bytes` of the payload are the header; `format` is what the rows are (csv, ndjson, lines).
    """

    row0: int
    rows: int
    header_bytes: int = 0
    format: str = "lines"

    def encode(self) -> bytes:
        """As JSON."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def decode(cls, meta: bytes) -> "RowSpan":
        """Read what encode() wrote; ValueError or TypeError for anything else."""
        return cls(**json.loads(meta))


class RowPacker:
    """Takes rows in order and gives shards; holds at most one and a half of them and the rows at hand.

    `begin()` first, then `add()` and `finish()`. BadInput for a row that fits no shard and for bytes that are no UTF-8.
    """

    def __init__(self, request: SplitRequest, row_format: str) -> None:
        self._request = request
        self._format = row_format
        self._header = b""
        self._cuts: RowCuts | None = None
        self._queue = ByteQueue()
        self._ends: list[int] = []
        self._next_row = 0
        self._begin = 0
        self._end = 0
        self._before_bytes = 0
        if request.shards is not None:
            check_row_shards(request.shards, request.size_bytes)

    def begin(self, header: bytes = b"", *, before_bytes: int = 0) -> None:
        """Say what stands before the rows: `header` goes in front of each shard, `before_bytes` in all are no rows."""
        request = self._request
        self._header = header
        self._before_bytes = before_bytes
        if request.shards is not None:
            total = check_row_shards(request.shards, request.size_bytes)
            self._cuts = CountedCuts(request.shards, max(1, total - before_bytes))
        else:
            size_bytes = DEFAULT_SHARD_BYTES if request.shard_size_bytes is None else request.shard_size_bytes
            self._cuts = SizedCuts(max(MIN_SHARD_BYTES, size_bytes - len(header)))

    def add(self, rows: bytes, ends: Sequence[int]) -> list[Piece]:
        """Take whole rows, which end at these positions of `rows`; the shards that are complete now."""
        self._queue.append(rows)
        base = self._end
        self._ends += [base + end for end in ends]
        self._end += len(rows)
        return self._cut_all(complete=False)

    def finish(self) -> list[Piece]:
        """No row follows. Without any row there is one shard, of the header alone; BadInput without that, too."""
        pieces = self._cut_all(complete=True)
        if self._next_row == 0:
            if not self._header:
                raise BadInput("the body is empty: there are no rows to cut", code="empty-body")
            pieces = [self._piece(self._header, 0)]
        return pieces

    def _cut_all(self, *, complete: bool) -> list[Piece]:
        assert self._cuts is not None
        pieces: list[Piece] = []
        first = 0
        while first < len(self._ends):
            last = self._cuts.next_cut(self._ends, first, self._begin, complete=complete)
            if last is None:
                break
            pieces.append(self._cut(first, last))
            first = last + 1
        del self._ends[:first]
        return pieces

    def _cut(self, first: int, last: int) -> Piece:
        size_bytes = self._ends[last] - self._begin
        if size_bytes + len(self._header) > MAX_SHARD_BYTES:
            raise self._too_large(size_bytes, last - first + 1)
        payload = self._queue.take(size_bytes)
        self._check_utf8(payload, first)
        piece = self._piece(self._header + payload if self._header else payload, last - first + 1)
        self._begin = self._ends[last]
        self._next_row += last - first + 1
        return piece

    def _piece(self, payload: bytes, rows: int) -> Piece:
        return Piece(payload, RowSpan(self._next_row, rows, len(self._header), self._format).encode())

    def _check_utf8(self, payload: bytes, first: int) -> None:
        try:
            payload.decode()
        except UnicodeDecodeError as error:
            at = self._begin + error.start
            row = self._next_row + bisect_right(self._ends, at, first) - first
            raise BadInput(
                f"row {row}, byte {self._before_bytes + at} of the body: {payload[error.start : error.start + 1]!r} is "
                f"no UTF-8 ({error.reason}); convert the file to UTF-8",
                code="not-utf8",
            ) from error

    def _too_large(self, size_bytes: int, rows: int) -> BadInput:
        header = f" and a header of {len(self._header)}" if self._header else ""
        what = f"row {self._next_row} has" if rows == 1 else f"rows from {self._next_row} on have"
        return BadInput(
            f"{what} {size_bytes} bytes{header}; a row is never cut, and a shard has at most {MAX_SHARD_BYTES} bytes",
            code="row-too-large",
        )
