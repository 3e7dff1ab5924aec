"""Which offsets of a partition may be committed: only those below which everything is settled.

What is settled above the watermark goes along with the commit, so that the next owner repeats little.
"""

from collections.abc import Iterable


class Watermark:
    """Offsets delivered and settled of one partition and one assignment. Offsets may have gaps."""

    def __init__(self, next_offset: int = 0, settled: Iterable[int] = ()) -> None:
        self._next = next_offset
        self._open: dict[int, None] = {}
        self._settled: set[int] = set()
        self._skip = set(settled)

    def deliver(self, offset: int) -> bool:
        """Take note of a delivered record; False if an earlier owner settled it already, or it was delivered before."""
        if offset < self._next:
            return False
        self._next = offset + 1
        if offset in self._skip:
            self._skip.discard(offset)
            if self._open:
                self._settled.add(offset)
            return False
        self._open[offset] = None
        return True

    def settle(self, offset: int) -> None:
        """One delivered record is settled; repeats are harmless."""
        if offset in self._open:
            del self._open[offset]
            self._settled.add(offset)

    @property
    def open_count(self) -> int:
        """Delivered and not settled."""
        return len(self._open)

    def committable(self) -> tuple[int, set[int]]:
        """Offset to commit, and what is settled above it."""
        offset = next(iter(self._open), self._next)
        self._settled = {settled for settled in self._settled if settled > offset}
        self._skip = {settled for settled in self._skip if settled >= offset}  # one in a gap is never delivered
        return offset, self._settled | self._skip
