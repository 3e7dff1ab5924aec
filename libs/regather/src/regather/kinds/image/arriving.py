"""Image files that are cut while they arrive: uncompressed rows that stand one after the other somewhere in the file.

A child looks at the file's beginning and makes the plan. The gateway then cuts the rows out of the body as they come, and a
shard's child turns its samples into values. So nothing is spooled, no child reads the file a second time, and shards are
processed before the upload ends.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

from regather.processors.base import Piece, SplitRequest
from regather.processors.splitting.rows import RowLayout, RowSplitter


@dataclass(frozen=True, slots=True)
class ArrivingPlan:
    """The rows begin at `first_byte` of the file. `rule` says what becomes of a sample (SampleRule), empty for nothing."""

    first_byte: int
    layout: RowLayout
    rule: bytes

    def encode(self) -> bytes:
        """As JSON, never empty."""
        document = {"first_byte": self.first_byte, "layout": asdict(self.layout), "rule": self.rule.decode()}
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, plan: bytes) -> "ArrivingPlan":
        """Read what encode() wrote."""
        document = json.loads(plan)
        return cls(document["first_byte"], RowLayout(**document["layout"]), document["rule"].encode())


class ArrivingSplitter:
    """Bands of whole rows with a halo; what stands before and behind the rows is passed over.

    A piece's `meta` is its Band and, behind a line feed, the rule, if there is one: see band_and_rule().
    """

    def __init__(self, plan: ArrivingPlan, request: SplitRequest, *, halo: int) -> None:
        layout = plan.layout
        self._rule = plan.rule
        self._rows = RowSplitter(layout, without_length(request), halo=halo, first_byte=plan.first_byte)
        self._before_bytes = plan.first_byte
        self._left_bytes = layout.row_bytes * (layout.height or 0)

    def feed(self, data: bytes) -> Iterable[Piece]:
        """See Splitter."""
        begin = min(self._before_bytes, len(data))
        self._before_bytes -= begin
        rows = data[begin : begin + self._left_bytes]
        self._left_bytes -= len(rows)
        return self._with_rule(self._rows.feed(rows))

    def finish(self) -> Iterable[Piece]:
        """See Splitter."""
        return self._with_rule(self._rows.finish())

    def _with_rule(self, pieces: Iterable[Piece]) -> Iterable[Piece]:
        if not self._rule:
            return pieces
        return [replace(piece, meta=piece.meta + b"\n" + self._rule) for piece in pieces]


def band_and_rule(meta: bytes) -> tuple[bytes, bytes]:
    """Return the encoded Band and the rule of a shard; no rule for shards of any other splitter."""
    band, _, rule = meta.partition(b"\n")
    return band, rule


def without_length(request: SplitRequest) -> SplitRequest:
    """Return what the client asked of the cut alone: the body's length is not that of the pixels."""
    return SplitRequest(request.shard_size_bytes, request.shards)
