"""Turns the pieces of a body into shard records: payload and headers, numbered in order."""

from collections.abc import Iterable, Iterator

from regather.core.errors import BadInput
from regather.core.model import OnError, Opened
from regather.processors.base import Piece
from regather.topics.layout import SHARD_RECORD_BYTES
from regather.transport.base import Headers
from regather.wire.shards import ShardEncoder

MAX_PIECE_BYTES = SHARD_RECORD_BYTES - 64 * 1024
"""Largest payload of a shard, including the halo of its neighbours: a record less 64 KiB for headers."""


class ShardRecords:
    """Makes the records of one job's shards; `timeout_ms` is the execution limit of each."""

    def __init__(self, opened: Opened, timeout_ms: int) -> None:
        skip = opened.on_error is OnError.SKIP
        owner, kind, options = opened.owner, opened.kind, opened.options
        self._headers = ShardEncoder(owner, kind, options, timeout_ms, chained=opened.chained, skip=skip).headers
        self._seq = 0

    def of(self, pieces: Iterable[Piece]) -> Iterator[tuple[bytes, Headers]]:
        """Yield payload and headers of each piece; raises BadInput for one that is too large for a record."""
        for piece in pieces:
            if len(piece.payload) > MAX_PIECE_BYTES:
                raise BadInput(_too_large(self._seq, len(piece.payload)), code="shard-too-large")
            headers = self._headers(self._seq, piece.meta)
            self._seq += 1
            yield piece.payload, headers


def _too_large(seq: int, size_bytes: int) -> str:
    return (
        f"shard {seq} would have {size_bytes} bytes, above the limit of {MAX_PIECE_BYTES}: ask for a smaller "
        "shard_size; if one row is that long, the input cannot be processed"
    )
