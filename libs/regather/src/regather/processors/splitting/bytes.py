"""Cuts a body by its number of bytes alone."""

from collections.abc import Iterable

from regather.core.errors import BadInput
from regather.core.sharding import DEFAULT_SHARD_BYTES, Plan, plan_by_count, plan_by_size, units_per_shard
from regather.processors.base import Piece, SplitRequest
from regather.processors.splitting.byte_queue import ByteQueue


class ByteSplitter:
    """Cuts any bytes into even shards; holds at most one and a half shards and the current chunk.

    The constructor raises BadRequest if the requested cut is impossible. The methods raise BadInput for an empty body
    and for one whose length differs from the announced length.
    """

    def __init__(self, request: SplitRequest) -> None:
        self._queue = ByteQueue()
        self._plan = _plan(request)
        self._expected_bytes = request.size_bytes
        self._received_bytes = 0

    def feed(self, data: bytes) -> Iterable[Piece]:
        """Queue the bytes and return the shards that are now complete."""
        self._received_bytes += len(data)
        if self._expected_bytes is not None and self._received_bytes > self._expected_bytes:
            raise BadInput(
                f"the body is longer than the {self._expected_bytes} bytes that were announced; "
                "announce its true length, or none"
            )
        self._queue.append(data)
        pieces: list[Piece] = []
        while True:
            count, size_bytes = self._plan.next_run(len(self._queue))
            if not count:
                return pieces
            pieces += map(Piece, self._queue.take_many(count, size_bytes))

    def finish(self) -> Iterable[Piece]:
        """Return the last shards."""
        if not self._received_bytes:
            raise BadInput("the body is empty: there is nothing to cut", code="empty-body")
        if self._expected_bytes is not None and self._received_bytes < self._expected_bytes:
            raise BadInput(f"the body ends after {self._received_bytes} bytes; {self._expected_bytes} were announced")
        return [Piece(self._queue.take(size_bytes)) for size_bytes in self._plan.rest(len(self._queue))]


def _plan(request: SplitRequest) -> Plan:
    if request.shards is not None:
        return plan_by_count(request.shards, request.size_bytes)
    size_bytes = DEFAULT_SHARD_BYTES if request.shard_size_bytes is None else request.shard_size_bytes
    return plan_by_size(units_per_shard(size_bytes, unit_bytes=1), request.size_bytes or None)
