"""Cuts a body of text into shards: with the plan that an inspection made, and the side table if the job has one."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise

from regather.core.errors import BadInput
from regather.core.sharding import DEFAULT_SHARD_BYTES
from regather.kinds.table.options import ReadingOptions
from regather.kinds.table.plan import Plan, TableMeta
from regather.kinds.table.shard_rows import behind, rows_of
from regather.kinds.table.side_room import fitted
from regather.kinds.table.text_input import text_splitter
from regather.processors.base import Piece, SplitRequest, Splitter
from regather.processors.splitting.row_packer import RowSpan

_OUTPUT_BYTES = 8 * 1024 * 1024  # below the 10 MiB of a record, because values may grow when written as JSON


def planned_text(options: ReadingOptions, request: SplitRequest, *, values: bool) -> Splitter:
    """Return a splitter of whole rows, whose pieces carry `request.plan` if there is one.

    `values` is as in PlannedSplitter. BadRequest or BadInput for an impossible cut.
    """
    side_bytes = len(request.plan.partition(b"\n")[2])
    rows = fitted(request, side_bytes, DEFAULT_SHARD_BYTES) if side_bytes else request
    splitter = text_splitter(options, replace(rows, plan=b""))
    return PlannedSplitter(splitter, request, options, values=values) if request.plan else splitter


class PlannedSplitter:
    """A splitter of text whose pieces carry the plan, and whose outputs fit a record.

    Column names and states of groups make an output larger than its shard. A piece whose output may be too large is cut
    again at row ends; BadInput if the client asked for an exact number of shards. `values`: the output has the shard's
    own values, beside what the plan adds per row.
    """

    def __init__(self, inner: Splitter, request: SplitRequest, options: ReadingOptions, *, values: bool = True) -> None:
        self._inner = inner
        self._options = options
        plan, _, self._side = request.plan.partition(b"\n")
        self._plan = Plan.decode(plan)
        self._encoded = b"\n" + self._plan.encode()
        self._shards = request.shards
        self._values = int(values)

    def feed(self, data: bytes) -> Iterable[Piece]:
        """Cut the next bytes; return the pieces that are now complete."""
        return self._planned(self._inner.feed(data))

    def finish(self) -> Iterable[Piece]:
        """Return the last pieces."""
        return self._planned(self._inner.finish())

    def _planned(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        for piece in pieces:
            span = RowSpan.decode(piece.meta)
            output_bytes = self._plan.output_bytes(span.rows, self._values * len(piece.payload))
            parts = min(span.rows, -(-output_bytes // _OUTPUT_BYTES))
            if parts > 1:
                for part in self._parts(piece, span, parts):
                    yield behind(self._side, part)
            else:
                yield behind(self._side, Piece(piece.payload, piece.meta + self._encoded))

    def _parts(self, piece: Piece, span: RowSpan, parts: int) -> Iterator[Piece]:
        if self._shards is not None:
            raise BadInput(
                f"shards={self._shards}: the output of a shard with {span.rows} rows may not fit a record; ask for at "
                f"least {self._shards * parts}, or leave it out",
                code="bad-split",
            )
        rows = rows_of(piece.payload, TableMeta(span, self._plan), self._options)
        edges = [span.row0 + span.rows * part // parts for part in range(parts + 1)]
        yield from (rows.pick([range(first, end)]) for first, end in pairwise(edges))
