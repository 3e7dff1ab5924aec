"""A queue for bytes that have arrived and are not cut yet. It copies each byte once or twice."""

from collections import deque
from itertools import islice

_SMALL_BYTES = 4_096
_SMALL_CHUNKS = 1_024


class ByteQueue:
    """A first-in, first-out queue of bytes. It joins tiny chunks early, because an object costs more than their bytes."""

    __slots__ = ("_chunks", "_head", "_size_bytes", "_small")

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._head = 0
        """Number of bytes of the first chunk that are consumed already."""
        self._small: list[bytes] = []
        self._size_bytes = 0

    def __len__(self) -> int:
        return self._size_bytes

    def append(self, data: bytes) -> None:
        """Append the next bytes."""
        self._size_bytes += len(data)
        if len(data) >= _SMALL_BYTES:
            self._join_small()
            self._chunks.append(data)
        elif data:
            self._small.append(data)
            if len(self._small) >= _SMALL_CHUNKS:
                self._join_small()

    def peek(self, size_bytes: int) -> bytes:
        """Return the first `size_bytes` bytes without removing them; the queue must hold that many."""
        self._join_small()
        end = self._head + size_bytes
        first = self._chunks[0] if self._chunks else b""
        if end <= len(first):
            return first[self._head : end]
        parts = [memoryview(first)[self._head :]]
        missing = end - len(first)
        for chunk in islice(self._chunks, 1, None):
            parts.append(memoryview(chunk)[:missing])
            missing -= len(chunk)
            if missing <= 0:
                break
        return b"".join(parts)

    def drop(self, size_bytes: int) -> None:
        """Remove the first `size_bytes` bytes; the queue must hold that many."""
        self._join_small()
        self._size_bytes -= size_bytes
        self._head += size_bytes
        while self._chunks and self._head >= len(self._chunks[0]):
            self._head -= len(self._chunks.popleft())

    def take(self, size_bytes: int) -> bytes:
        """Return and remove the first `size_bytes` bytes."""
        taken = self.peek(size_bytes)
        self.drop(size_bytes)
        return taken

    def take_many(self, count: int, size_bytes: int) -> list[bytes]:
        """Return and remove the next `count` pieces of `size_bytes` bytes each, as slices of a chunk where possible."""
        self._join_small()
        taken: list[bytes] = []
        while len(taken) < count:
            first, start = self._chunks[0], self._head
            whole = min((len(first) - start) // size_bytes, count - len(taken))
            if whole:
                end = start + whole * size_bytes
                taken += [first[at : at + size_bytes] for at in range(start, end, size_bytes)]
                self.drop(end - start)
            else:
                taken.append(self.take(size_bytes))
        return taken

    def _join_small(self) -> None:
        if self._small:
            self._chunks.append(b"".join(self._small))
            self._small.clear()
