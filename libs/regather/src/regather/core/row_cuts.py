"""Even splits for rows of different lengths: which row ends the next shard. A row is never cut.

With `shard_size`, no shard exceeds it unless a single row does, and the last shard is at least about half that size.
With `shards=n`, each shard ends at the first row end at or behind its share of the body's bytes.

The rules need no list of all row ends. They ask for the row end before or behind a byte, so the caller searches for row
ends only near the places where a cut may be.
"""

from collections import deque
from typing import Protocol

from regather.core.errors import BadInput, BadRequest
from regather.core.sharding import MAX_SHARD_BYTES, check_asked_shards, check_shard_size


class RowEnds(Protocol):
    """The ends of the complete rows that wait for a cut. Positions are in bytes from the beginning of the first row.

    A row's end is the position behind its line end.
    """

    @property
    def end(self) -> int:
        """The end of the last complete row; the beginning of the rows if no row is complete."""

    def last_at_or_before(self, position: int) -> int | None:
        """Return the last row end at or before `position`, None if no row that waits ends there."""

    def first_at_or_behind(self, position: int) -> int | None:
        """Return the first row end at or behind `position`, None if no row that waits ends there."""


class RowCuts(Protocol):
    """Decides where shards end."""

    @property
    def share_end_byte(self) -> int | None:
        """The byte of the body at which to call end_share() next; None if shares do not matter (any more)."""

    def end_share(self, position: int) -> None:
        """End a share at the first row end at or behind `position`; the body has arrived up to `share_end_byte`.

        Raise BadInput if the previous share ends there, too.
        """

    def next_cut(self, ends: RowEnds, begin: int, *, complete: bool) -> int | None:
        """Return where the shard that begins at `begin` ends, or None if that takes more rows.

        At least one row waits. `complete`: no row follows.
        """

    def finish(self, shards: int) -> None:
        """Check the number of shards, once all rows are cut."""


class SizedCuts:
    """Shards of a given size. Half a shard is held back, so that the last one is never tiny."""

    share_end_byte = None

    def __init__(self, shard_size_bytes: int) -> None:
        self._size = check_shard_size(shard_size_bytes)

    def end_share(self, position: int) -> None:
        """Do nothing: shares do not matter."""

    def next_cut(self, ends: RowEnds, begin: int, *, complete: bool) -> int | None:
        """Return the last row end within the size. Split the last rows in their middle if they exceed the size."""
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
        """Accept any number."""

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
        """The byte at which the next share ends; None for the last one, which ends with the body."""
        share = self._shares + 1
        return None if share >= self._shards else self._first_byte + self._total * share // self._shards

    def end_share(self, position: int) -> None:
        """Cut at the first row end at or behind `position`; raise BadInput if the previous share is cut there, too."""
        if self._marks and self._marks[-1] == position:
            raise self._empty_share()
        self._shares += 1
        self._marks.append(position)

    def next_cut(self, ends: RowEnds, begin: int, *, complete: bool) -> int | None:
        """Return the next cut; raise BadInput if one row is longer than a share, so that a shard would be empty."""
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
        """Raise BadInput if there are fewer shards than asked for."""
        if shards < self._shards:
            raise self._empty_share()

    def _empty_share(self) -> BadInput:
        return BadInput(
            f"shards={self._shards} is not possible: one row is longer than the share of shard {self._cut}; "
            "ask for fewer shards, or use shard_size",
            code="bad-split",
        )


class WholeCuts:
    """One shard of all rows, for a body of unknown length."""

    share_end_byte = None

    def end_share(self, position: int) -> None:
        """Do nothing: there is one share."""

    def next_cut(self, ends: RowEnds, begin: int, *, complete: bool) -> int | None:
        """Return the end of all rows; raise BadInput as soon as they do not fit one shard."""
        if ends.end - begin > MAX_SHARD_BYTES:
            raise BadInput(
                f"shards=1 is not possible: the rows have more than the {MAX_SHARD_BYTES} bytes that fit one shard; "
                "use shard_size",
                code="bad-split",
            )
        return ends.end if complete else None

    def finish(self, shards: int) -> None:
        """Do nothing: there is one shard, or no row."""


def counted_cuts(shards: int, first_byte: int, total_bytes: int | None) -> RowCuts:
    """Return the cuts of so many shards; raise BadRequest if a body of `total_bytes` (None: unknown) has none."""
    check_row_shards(shards, total_bytes)
    return WholeCuts() if total_bytes is None else CountedCuts(shards, first_byte, total_bytes)


def check_row_shards(shards: int, total_bytes: int | None) -> None:
    """Raise BadRequest if a body of this length cannot be cut into this many shards. One shard needs no length."""
    check_asked_shards(shards)
    if total_bytes is None:
        if shards == 1:
            return
        raise BadRequest(
            f"shards={shards} needs the length of the rows in advance, which is not known here; use shard_size",
            code="bad-split",
        )
    if total_bytes > shards * MAX_SHARD_BYTES:
        raise BadRequest(
            f"shards={shards} would make shards of more than {MAX_SHARD_BYTES} bytes; "
            f"ask for at least {-(-total_bytes // MAX_SHARD_BYTES)}",
            code="bad-split",
        )
