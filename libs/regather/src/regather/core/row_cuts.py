"""The even-split law for rows of different lengths: which row ends the next shard. A row is never cut.

With a shard size no shard is above it, except one row that is longer by itself, and the last one is about half of it or
more. With `shards=n` each shard ends at the first row end at or behind its share of the bytes.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Protocol

from regather.core.errors import BadInput, BadRequest
from regather.core.sharding import MAX_SHARD_BYTES, check_asked_shards, check_shard_size


class RowCuts(Protocol):
    """Positions are bytes since the first row's beginning; `ends` are those of complete rows, ascending."""

    def next_cut(self, ends: Sequence[int], first: int, begin: int, *, complete: bool) -> int | None:
        """Return the index in `ends` of the next shard's last row, or None until more rows are there.

        The shard begins at byte `begin` with the row `first`, and `first < len(ends)`. `complete`: no row follows.
        """


class SizedCuts:
    """Shards of a given size; half a shard is held back, so that the end is never tiny."""

    def __init__(self, shard_size_bytes: int) -> None:
        self._size = check_shard_size(shard_size_bytes)

    def next_cut(self, ends: Sequence[int], first: int, begin: int, *, complete: bool) -> int | None:
        """See RowCuts."""
        held = ends[-1] - begin
        if held >= self._size + self._size // 2:
            return max(first, bisect_right(ends, begin + self._size) - 1)
        if not complete:
            return None
        if held <= self._size:
            return len(ends) - 1
        middle = bisect_left(ends, begin + (held + 1) // 2)
        fits = ends[middle] - begin <= self._size
        return middle if fits else max(first, middle - 1)


class CountedCuts:
    """A known number of bytes in a known number of shards."""

    def __init__(self, shards: int, total_bytes: int) -> None:
        self._shards = shards
        self._total = total_bytes
        self._cut = 0

    def next_cut(self, ends: Sequence[int], first: int, begin: int, *, complete: bool) -> int | None:
        """See RowCuts; BadInput where one row is longer than a shard's share, so that a shard would be empty."""
        target = self._total * (self._cut + 1) // self._shards
        if target <= begin:
            raise BadInput(
                f"shards={self._shards} cannot be: one row reaches over the share of shard {self._cut}; "
                "ask for fewer shards, or for a shard_size",
                code="bad-split",
            )
        index = bisect_left(ends, target)
        if index == len(ends):
            if not complete:
                return None
            index -= 1
        self._cut += 1
        return index


def check_row_shards(shards: int, total_bytes: int | None) -> int:
    """Return the length of a body that can be cut into so many shards; BadRequest names why it cannot."""
    check_asked_shards(shards)
    if total_bytes is None:
        raise BadRequest(
            f"shards={shards} needs the length of the rows beforehand, which is not known here; use shard_size",
            code="bad-split",
        )
    if total_bytes > shards * MAX_SHARD_BYTES:
        raise BadRequest(
            f"shards={shards} would give shards above the limit of {MAX_SHARD_BYTES} bytes; "
            f"ask for at least {-(-total_bytes // MAX_SHARD_BYTES)}",
            code="bad-split",
        )
    return total_bytes
