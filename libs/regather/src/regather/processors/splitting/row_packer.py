"""Packs rows of different lengths into shards of whole rows, each with the header in front if that is wanted."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

from regather.core.errors import BadInput
from regather.core.row_cuts import RowCuts, SizedCuts, check_row_shards, counted_cuts
from regather.core.sharding import DEFAULT_SHARD_BYTES, MAX_SHARD_BYTES, MIN_SHARD_BYTES
from regather.processors.base import Piece, SplitRequest

_SMALL_CHUNKS = 1_024


@dataclass(frozen=True, slots=True)
class RowSpan:
    """A shard's `meta`: its rows are `row0` to `row0 + rows - 1` of the body, counted from 0 without the header.

    The first `header_bytes` of the payload are the header; `format` is the rows' format (csv, ndjson, lines). If rows
    between others are left out, `picked` has the numbers of the remaining rows, as ascending ranges (begin, end).
    """

    row0: int
    rows: int
    header_bytes: int = 0
    format: str = "lines"
    picked: tuple[tuple[int, int], ...] = ()

    def encode(self) -> bytes:
        """Return the span as JSON."""
        fields = asdict(self)
        if not self.picked:
            del fields["picked"]
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, meta: bytes) -> "RowSpan":
        """Parse what encode() wrote; ValueError or TypeError for anything else."""
        fields = json.loads(meta)
        return cls(**fields | {"picked": tuple((begin, end) for begin, end in fields.get("picked", ()))})

    def number(self, index: int) -> int:
        """Return the number, in the whole body, of the row at `index` of the shard; both count from 0."""
        for begin, end in self.picked:
            if index < end - begin:
                return begin + index
            index -= end - begin
        return self.row0 + index

    def pick(self, keep: Sequence[range]) -> "RowSpan":
        """Return the span of some rows: ranges of row0 to row0 + rows - 1, without the gaps that the shard may have."""
        found: list[tuple[int, int]] = []
        for begin, end in self._numbers(keep):
            if found and found[-1][1] == begin:
                begin = found.pop()[0]
            found.append((begin, end))
        picked = tuple(found) if len(found) > 1 else ()
        return replace(self, row0=found[0][0] if found else keep[0].start, rows=sum(map(len, keep)), picked=picked)

    def _numbers(self, keep: Sequence[range]) -> Iterator[tuple[int, int]]:
        """Yield the rows' numbers in the whole body, as ranges."""
        for rows in keep:
            place = self.row0
            for begin, end in self.picked or ((self.row0, self.row0 + self.rows),):
                first, last = max(place, rows.start), min(place + end - begin, rows.stop)
                if first < last:
                    yield begin + first - place, begin + last - place
                place += end - begin


class Rows(NamedTuple):
    """Whole rows, each with one LF at its end.

    `mask` is as long as `data` and has an LF exactly where a row ends. It is `data` itself unless a field contains an
    LF.
    """

    data: bytes
    mask: bytes

    def __bool__(self) -> bool:
        return bool(self.data)


NO_ROWS = Rows(b"", b"")


class RowPacker:
    """Packs rows, added in order, into shards; holds at most one and a half shards and the rows just added.

    Call `begin()` first, then `add()`, `end_share()` at each `share_end_byte`, and `finish()` last. BadInput for a row
    that fits no shard.
    """

    def __init__(self, request: SplitRequest, row_format: str) -> None:
        self._request = request
        self._format = row_format
        self._header = b""
        self._cuts: RowCuts | None = None
        self._held = _HeldRows()
        self._next_row = 0
        self._shards = 0
        if request.shards is not None:
            check_row_shards(request.shards, request.size_bytes)

    def begin(self, header: bytes = b"", *, first_byte: int = 0) -> None:
        """Start packing. `header` goes in front of each shard; the rows begin at byte `first_byte` of the body."""
        request = self._request
        self._header = header
        if request.shards is not None:
            self._cuts = counted_cuts(request.shards, first_byte, request.size_bytes)
        else:
            size_bytes = DEFAULT_SHARD_BYTES if request.shard_size_bytes is None else request.shard_size_bytes
            self._cuts = SizedCuts(max(MIN_SHARD_BYTES, size_bytes - len(header)))

    @property
    def share_end_byte(self) -> int | None:
        """The byte of the body at which end_share() must be called next; None if no more calls are needed."""
        return None if self._cuts is None else self._cuts.share_end_byte

    @property
    def rows(self) -> int:
        """Number of rows added so far."""
        return self._next_row + self._held.count()

    def add(self, rows: Rows) -> list[Piece]:
        """Add whole rows; return the shards that are now complete."""
        self._held.append(rows)
        return self._cut_all(complete=False)

    def end_share(self, *, at_row_end: bool) -> list[Piece]:
        """End a share and return the shards that are now complete.

        Call it when all rows that are complete at `share_end_byte` have been added, and no others. `at_row_end`: no
        part of another row comes before that byte.
        """
        assert self._cuts is not None
        self._cuts.end_share(self._held.end + (0 if at_row_end else 1))
        return self._cut_all(complete=False)

    def finish(self) -> list[Piece]:
        """Return the last shards. If no row was added, that is one shard of zero rows."""
        assert self._cuts is not None
        pieces = self._cut_all(complete=True)
        if self._shards == 0:
            return [self._piece(self._header, 0)]
        self._cuts.finish(self._shards)
        return pieces

    def _cut_all(self, *, complete: bool) -> list[Piece]:
        assert self._cuts is not None
        pieces: list[Piece] = []
        while self._held.end > self._held.begin:
            cut = self._cuts.next_cut(self._held, self._held.begin, complete=complete)
            if cut is None:
                break
            pieces.append(self._cut(cut))
        return pieces

    def _cut(self, end: int) -> Piece:
        size_bytes = end - self._held.begin
        rows = self._held.count(end)
        if size_bytes + len(self._header) > MAX_SHARD_BYTES:
            raise self._too_large(size_bytes, rows)
        payload = self._held.take(end)
        piece = self._piece(self._header + payload if self._header else payload, rows)
        self._next_row += rows
        return piece

    def _piece(self, payload: bytes, rows: int) -> Piece:
        self._shards += 1
        return Piece(payload, RowSpan(self._next_row, rows, len(self._header), self._format).encode())

    def _too_large(self, size_bytes: int, rows: int) -> BadInput:
        header = f" and a header of {len(self._header)}" if self._header else ""
        what = f"row {self._next_row} has" if rows == 1 else f"rows from {self._next_row} on have"
        return BadInput(
            f"{what} {size_bytes} bytes{header}; a row is never cut, and a shard has at most {MAX_SHARD_BYTES} bytes",
            code="row-too-large",
        )


class _HeldRows:
    """Rows that wait for a cut; implements RowEnds. Joins them only to find a cut, so a byte is copied about twice."""

    def __init__(self) -> None:
        self._joined = NO_ROWS
        self._taken = 0
        """Number of bytes of `_joined` that are taken already."""
        self._chunks: list[Rows] = []
        self._small: list[Rows] = []
        self.begin = 0
        self.end = 0

    def append(self, rows: Rows) -> None:
        if not rows:
            return
        self.end += len(rows.data)
        self._small.append(rows)
        if len(self._small) >= _SMALL_CHUNKS:  # an object costs more than the bytes of a small chunk
            self._chunks.append(join_rows(self._small))
            self._small = []

    def last_at_or_before(self, position: int) -> int | None:
        found = self._mask().rfind(b"\n", self._taken, max(self._taken, self._at(position)))
        return None if found < 0 else found + 1 - self._taken + self.begin

    def first_at_or_behind(self, position: int) -> int | None:
        found = self._mask().find(b"\n", max(self._taken, self._at(position) - 1))
        return None if found < 0 else found + 1 - self._taken + self.begin

    def count(self, end: int | None = None) -> int:
        return self._mask().count(b"\n", self._taken, self._at(self.end if end is None else end))

    def take(self, end: int) -> bytes:
        self._mask()
        at = self._at(end)
        taken = self._joined.data[self._taken : at]
        self._taken = at
        self.begin = end
        return taken

    def _at(self, position: int) -> int:
        return position - self.begin + self._taken

    def _mask(self) -> bytes:
        """Join the waiting rows; return the mask of all of them."""
        if self._small or self._chunks:
            data, mask = self._joined
            left = data[self._taken :]
            rest = Rows(left, left if mask is data else mask[self._taken :])
            self._joined = join_rows([rest, *self._chunks, *self._small] if left else [*self._chunks, *self._small])
            self._taken = 0
            self._chunks, self._small = [], []
        return self._joined.mask


def join_rows(parts: list[Rows]) -> Rows:
    """Return consecutive rows as one; there must be at least one part."""
    if len(parts) == 1:
        return parts[0]
    data = b"".join([part.data for part in parts])
    if all(part.mask is part.data for part in parts):
        return Rows(data, data)
    return Rows(data, b"".join([part.mask for part in parts]))
