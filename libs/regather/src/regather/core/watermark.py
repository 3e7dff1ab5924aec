"""The watermark of a partition: the offset that may be committed, because every record below it is settled.

A commit also names the offsets that are settled above the watermark, so that the next owner repeats little.
"""

from collections.abc import Iterable


class Watermark:
    """The delivered and settled offsets of one partition, during one assignment. Offsets may have gaps."""

    def __init__(self, next_offset: int = 0, settled: Iterable[int] = ()) -> None:
        self._next = next_offset
        self._open: dict[int, None] = {}
        self._settled: set[int] = set()
        self._skip = set(settled)

    def deliver(self, offset: int) -> bool:
        """Note a delivered record; return False if an earlier owner has settled it, or if it was delivered before."""
        if offset < self._next:
            return False
        if offset > self._next:  # records in a gap are never delivered
            self._skip = {settled for settled in self._skip if settled >= offset}
        self._next = offset + 1
        if offset in self._skip:
            self._skip.discard(offset)
            if self._open:
                self._settled.add(offset)
            return False
        self._open[offset] = None
        return True

    def ack(self, offset: int) -> bool:
        """Note that a delivered record is settled; return False if it was not open, because it was settled before."""
        if offset not in self._open:
            return False
        del self._open[offset]
        self._settled.add(offset)
        return True

    @property
    def open_count(self) -> int:
        """How many records are delivered and not settled."""
        return len(self._open)

    def committable(self) -> tuple[int, set[int]]:
        """Return the offset to commit, and the offsets that are settled above it."""
        offset = next(iter(self._open), self._next)
        self._settled = {settled for settled in self._settled if settled > offset}
        return offset, self._settled | self._skip
