"""Counts how often bytes and 16-bit numbers occur, over many arrays.

numpy.bincount takes about 2 ns per number, whatever its width, so bytes are counted in pairs, as 16-bit numbers. A
table of 65,536 counts is 512 KiB, so arrays wait until there are enough of them to be worth a pass over it.
"""

import numpy as np
from numpy.typing import NDArray

BYTES, WORDS = 1 << 8, 1 << 16
Counts = NDArray[np.int64]

_BATCH_BYTES = 1024 * 1024
_PAIRED_FROM = 128 * 1024
"""With fewer bytes, the table of 65,536 counts costs more than it saves."""


class _Waiting:
    """Arrays that are not counted yet; the caller must not change them any more."""

    def __init__(self) -> None:
        self._arrays: list[NDArray[np.unsignedinteger]] = []
        self._size_bytes = 0

    def add(self, array: NDArray[np.unsignedinteger]) -> bool:
        """Add an array; return whether there are enough to count."""
        self._arrays.append(array.reshape(-1))
        self._size_bytes += array.nbytes
        return self._size_bytes >= _BATCH_BYTES

    def take(self) -> NDArray[np.unsignedinteger] | None:
        """Return all arrays as one, None if there are none."""
        arrays, self._arrays, self._size_bytes = self._arrays, [], 0
        if not arrays:
            return None
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


class WordTally:
    """Counts 16-bit numbers."""

    def __init__(self) -> None:
        self._waiting = _Waiting()
        self._counts: Counts = np.zeros(WORDS, np.int64)

    def add(self, words: NDArray[np.uint16]) -> None:
        """Count an array of any shape."""
        if self._waiting.add(words):
            self._count()

    def counts(self) -> Counts:
        """Return how often each number occurred: 65,536 counts."""
        self._count()
        return self._counts

    def _count(self) -> None:
        words = self._waiting.take()
        if words is not None:
            self._counts += np.bincount(words, minlength=WORDS)


class ByteTally:
    """Counts bytes, most of them in pairs."""

    def __init__(self) -> None:
        self._waiting = _Waiting()
        self._counts: Counts = np.zeros(BYTES, np.int64)

    def add(self, codes: NDArray[np.uint8]) -> None:
        """Count an array of any shape."""
        if self._waiting.add(codes):
            self._count()

    def add_many(self, code: int, times: int) -> None:
        """Count one byte that occurs `times` times."""
        self._counts[code] += times

    def counts(self) -> Counts:
        """Return how often each byte occurred: 256 counts."""
        self._count()
        return self._counts

    def _count(self) -> None:
        codes = self._waiting.take()
        if codes is None:
            return
        if codes.size < _PAIRED_FROM:
            self._counts += np.bincount(codes, minlength=BYTES)
            return
        even = codes.size & ~1
        two = np.bincount(codes[:even].view(np.uint16), minlength=WORDS).reshape(BYTES, BYTES)
        self._counts += two.sum(axis=0) + two.sum(axis=1)
        self._counts[codes[even:]] += 1
