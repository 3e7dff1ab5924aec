"""The even-split law for rows of different lengths: which row ends the next shard. A row is never cut.

With a shard size no shard exceeds it, unless a single row does, and the last shard is at least about half that size. With
`shards=n` each shard ends at the first row end at or behind its share of the body's bytes.

The rules never see a list of all row ends: they ask for the one before or behind a byte, so rows are looked at only near
the places where a cut may be.
"""

from collections import deque
from typing import Protocol

from regather.core.errors import BadInput, BadRequest
from regather.core.sharding import MAX_SHARD_BYTES, check_asked_shards, check_shard_size


class RowEnds(Protocol):
    """Where the complete rows end that wait for a cut; positions are bytes of the rows since the first one's beginning.

    A row's end is the position behind its line end.
    """

    @property
    def end(self) -> int:
        """Where the last complete row ends; where the rows begin if there is none."""

    def last_at_or_before(self, position: int) -> int | None:
        """Return the last row end at or before `position`, None if no row that waits ends there."""

    def first_at_or_behind(self, position: int) -> int | None:
        """Return the first row end at or behind `position`, None if no row that waits ends there."""


class RowCuts(Protocol):
    """Says where shards end."""

    @property
    def share_end_byte(self) -> int | None:
        """The byte of the body at which end_share() must be called next; None if shares do not matter (any more)."""

    def end_share(self, position: int) -> None:
        """The body has arrived up to `share_end_byte`; the share ends at the first row end at or behind `position`.

        BadInput where the share before it ends there, too.
        """

    def next_cut(self, ends: RowEnds, begin: int, *, complete: bool) -> int | None:
        """Return where the shard that begins at `begin` ends, or None until more rows are there.

        At least one row waits. `complete`: no row follows.
        """

    def finish(self, shards: int) -> None:
        """All rows are cut, into so many shards."""


class SizedCuts:
    """Shards of a given size; half a shard is held back, so that the end is never tiny."""

    share_end_byte = None

    def __init__(self, shard_size_bytes: int) -> None:
        self._size = check_shard_size(shard_size_bytes)

    def end_share(self, position: int) -> None:
        """Shares do not matter."""

    def next_cut(self, ends: RowEnds, begin: int, *, complete: bool) -> int | None:
        """Return the last row end within the size, or of the last rows the one in their middle."""
        held = ends.end - begin
        if held >= self._size + self._size // 2:
            return self._whole_rows(ends, begin, begin + self._size)
        if not complete:
            return None
        if held <= self._size:
            return ends.end
        half = begin + (held + 1) // 2
        middle = ends.first_at_or_behind(half)
        if middle is not None and middle - begin <= self._size:
            return middle
        return self._whole_rows(ends, begin, half - 1)

    def finish(self, shards: int) -> None:
        """Any number is right."""

    def _whole_rows(self, ends: RowEnds, begin: int, limit: int) -> int | None:
        last = ends.last_at_or_before(limit)
        return last if last is not None and last > begin else ends.first_at_or_behind(begin + 1)


class CountedCuts:
    """A known number of bytes in a known number of shards. The rows begin at `first_byte` of the body."""

    def __init__(self, shards: int, first_byte: int, total_bytes: int) -> None:
        self._shards = shards
        self._first_byte = first_byte
        self._total = max(1, total_bytes - first_byte)
        self._shares = 0
        self._cut = 0
        self._marks: deque[int] = deque()

    @property
    def share_end_byte(self) -> int | None:
        """Where the next share ends; the last one ends with the body."""
        share = self._shares + 1
        return None if share >= self._shards else self._first_byte + self._total * share // self._shards

    def end_share(self, position: int) -> None:
        """Cut at the first row end at or behind `position`; BadInput if the share before is cut there."""
        if self._marks and self._marks[-1] == position:
            raise self._empty_share()
        self._shares += 1
        self._marks.append(position)

    def next_cut(self, ends: RowEnds, begin: int, *, complete: bool) -> int | None:
        """BadInput where one row is longer than a shard's share, so that a shard would be empty."""
        if not self._marks:
            return ends.end if complete else None
        if self._marks[0] <= begin:
            raise self._empty_share()
        cut = ends.first_at_or_behind(self._marks[0])
        if cut is None:
            if not complete:
                return None
            cut = ends.end
        self._marks.popleft()
        self._cut += 1
        return cut

    def finish(self, shards: int) -> None:
        """BadInput if there are fewer shards than asked for."""
        if shards < self._shards:
            raise self._empty_share()

    def _empty_share(self) -> BadInput:
        return BadInput(
            f"shards={self._shards} cannot be: one row reaches over the share of shard {self._cut}; "
            "ask for fewer shards, or for a shard_size",
            code="bad-split",
        )


class WholeCuts:
    """One shard of all rows, however many bytes come."""

    share_end_byte = None

    def end_share(self, position: int) -> None:
        """There is one share."""

    def next_cut(self, ends: RowEnds, begin: int, *, complete: bool) -> int | None:
        """BadInput as soon as the rows do not fit one shard."""
        if ends.end - begin > MAX_SHARD_BYTES:
            raise BadInput(
                f"shards=1 cannot be: the rows have more than the {MAX_SHARD_BYTES} bytes that fit one shard; "
                "ask for a shard_size",
                code="bad-split",
            )
        return ends.end if complete else None

    def finish(self, shards: int) -> None:
        """There is one shard, or no row."""


def counted_cuts(shards: int, first_byte: int, total_bytes: int | None) -> RowCuts:
    """The cuts of so many shards; BadRequest names why a body of `total_bytes` (None: not known) cannot have them."""
    check_row_shards(shards, total_bytes)
    return WholeCuts() if total_bytes is None else CountedCuts(shards, first_byte, total_bytes)


def check_row_shards(shards: int, total_bytes: int | None) -> None:
    """BadRequest names why a body of this length cannot be cut into so many shards. One shard needs no length."""
    check_asked_shards(shards)
    if total_bytes is None:
        if shards == 1:
            return
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
