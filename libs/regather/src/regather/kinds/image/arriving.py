"""Cuts image files while they arrive, if their rows are uncompressed and contiguous in the file.

A child reads the file's beginning and makes the plan. The gateway then cuts the rows out of the arriving body, and a
shard's child turns the samples into values. So nothing is spooled, no child reads the file a second time, and shards
are processed before the upload ends.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

from regather.processors.base import Piece, SplitRequest
from regather.processors.splitting.rows import RowLayout, RowSplitter


@dataclass(frozen=True, slots=True)
class ArrivingPlan:
    """The rows begin at `first_byte` of the file. `rule` turns samples into values (SampleRule); empty: no change."""

    first_byte: int
    layout: RowLayout
    rule: bytes

    def encode(self) -> bytes:
        """Return the plan as JSON, which is never empty."""
        document = {"first_byte": self.first_byte, "layout": asdict(self.layout), "rule": self.rule.decode()}
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, plan: bytes) -> "ArrivingPlan":
        """Parse what encode() wrote."""
        document = json.loads(plan)
        return cls(document["first_byte"], RowLayout(**document["layout"]), document["rule"].encode())


class ArrivingSplitter:
    """Cuts the rows into bands with a halo, and skips the bytes before and after the rows.

    A piece's `meta` is its Band and, if there is a rule, a line feed and the rule; see band_and_rule().
    """

    def __init__(self, plan: ArrivingPlan, request: SplitRequest, *, halo: int) -> None:
        layout = plan.layout
        self._rule = plan.rule
        self._rows = RowSplitter(layout, without_length(request), halo=halo, first_byte=plan.first_byte)
        self._before_bytes = plan.first_byte
        self._left_bytes = layout.row_bytes * (layout.height or 0)

    def feed(self, data: bytes) -> Iterable[Piece]:
        """Skip the bytes before the rows, then cut rows; return the bands that are now complete."""
        begin = min(self._before_bytes, len(data))
        self._before_bytes -= begin
        rows = data[begin : begin + self._left_bytes]
        self._left_bytes -= len(rows)
        return self._with_rule(self._rows.feed(rows))

    def finish(self) -> Iterable[Piece]:
        """Return the last bands."""
        return self._with_rule(self._rows.finish())

    def _with_rule(self, pieces: Iterable[Piece]) -> Iterable[Piece]:
        if not self._rule:
            return pieces
        return [replace(piece, meta=piece.meta + b"\n" + self._rule) for piece in pieces]


def band_and_rule(meta: bytes) -> tuple[bytes, bytes]:
    """Return the encoded Band and the rule of a shard; the rule is empty for shards of any other splitter."""
    band, _, rule = meta.partition(b"\n")
    return band, rule


def without_length(request: SplitRequest) -> SplitRequest:
    """Return the request without the body's length, because that is not the length of the pixels."""
    return SplitRequest(request.shard_size_bytes, request.shards)
