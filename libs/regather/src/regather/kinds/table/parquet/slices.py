"""Cuts a Parquet file into shards that are row groups, copied as they are.

Theory of operation ------------------- Decoding a Parquet file, writing its rows as Arrow and reading them again costs
many times what DuckDB needs to read the file itself. Each column of a row group is one contiguous piece, so a shard can
be a small Parquet file of its own: the bytes of the columns that the job reads, for some consecutive row groups, with a
footer that describes them. The cut copies bytes and decodes nothing, and the shard's child reads the format that DuckDB
reads best.

A row group may hold a million rows in few bytes, so the size of a shard does not bound its output. The dictionaries do:
there are at most as many groups as the product of the key columns' dictionary sizes. If that is unknown, if rows come
out, or if row groups are too large for a record, the file is decoded (`parquet_file.py`).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from regather.kinds.table.parquet.footer import Field, Footer, NoSlices, RowGroup, dictionary_of
from regather.kinds.table.plan import RowUse

_SHARD_BYTES = 4 * 1024 * 1024
"""Row groups are combined up to this size."""

_MOST_BYTES = 8 * 1024 * 1024
_MOST_ROWS = 1 << 20  # a state may take eight bytes per row, and must fit a record of 10 MiB
_OUTPUT_BYTES = 8 * 1024 * 1024
_ROW_NUMBER = "file_row_number"
"""DuckDB's own column for the row number; `reading.py` reads it."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A shard: its first row's number, its number of rows, and its content."""

    row0: int
    rows: int
    content: bytes


def slices(path: Path, names: Sequence[str], use: RowUse) -> Iterator[Slice]:
    """Yield a file as shards; `names` are its columns' names in DuckDB.

    Raises NoSlices, before the first shard, for a file that must be decoded.
    """
    with path.open("rb") as file:
        footer = Footer(file)
        if [field.name for field in footer.fields] != list(names):
            raise NoSlices("DuckDB has other names for the columns")
        wanted = [field for field in footer.fields if field.name.lower() in use.names]
        if any(field.name.lower() == _ROW_NUMBER for field in wanted):
            raise NoSlices("a column has the name that a shard's reader uses for row numbers")
        if use.group_bytes is None or not wanted or not footer.rows:
            raise NoSlices("the output is rows, or there are none")
        keys = [field for field in wanted if field.name.lower() in use.keys]
        groups = [group for group in footer.groups if group.rows]
        sizes = [_Size.of(group, wanted, _dictionaries(file, group, keys)) for group in groups]
        cut = list(_packed(sizes, use.group_bytes))
        footer.check(file, groups, wanted)
        row0 = 0
        for part in cut:
            chosen = groups[part.start : part.stop]
            rows = sum(group.rows for group in chosen)
            yield Slice(row0, rows, footer.slice(file, chosen, wanted))
            row0 += rows


@dataclass(frozen=True, slots=True)
class _Size:
    """Size of one or more row groups: `keys` has number and bytes of the values in each key's dictionary, or is None."""

    rows: int
    size_bytes: int
    keys: tuple[tuple[int, int], ...] | None

    @classmethod
    def of(cls, group: RowGroup, wanted: Sequence[Field], keys: tuple[tuple[int, int], ...] | None) -> "_Size":
        size_bytes = sum(group.chunks[leaf].size_bytes for field in wanted for leaf in field.leaves)
        return cls(group.rows, size_bytes, keys)

    def __add__(self, other: "_Size") -> "_Size":
        keys = None
        if self.keys is not None and other.keys is not None:
            keys = tuple((a + c, b + d) for (a, b), (c, d) in zip(self.keys, other.keys, strict=True))
        return _Size(self.rows + other.rows, self.size_bytes + other.size_bytes, keys)

    def output_bytes(self, group_bytes: int) -> float:
        """Return the maximum size of the output."""
        if self.keys is None:
            return math.inf if self.rows else 0
        groups = min(self.rows, math.prod(values + 1 for values, _ in self.keys))  # null is a group, too
        return groups * (group_bytes + sum(taken / max(1, values) for values, taken in self.keys))

    def fits(self, most_bytes: int, group_bytes: int) -> bool:
        return (
            self.size_bytes <= most_bytes
            and self.rows <= _MOST_ROWS
            and self.output_bytes(group_bytes) <= _OUTPUT_BYTES
        )


def _dictionaries(file: BinaryIO, group: RowGroup, keys: Sequence[Field]) -> tuple[tuple[int, int], ...] | None:
    chunks = [group.chunks[leaf] for field in keys for leaf in field.leaves]
    if any(field.nested for field in keys) or not all(chunk.by_dictionary for chunk in chunks):
        return None
    return tuple(dictionary_of(file, chunk) for chunk in chunks)


def _packed(sizes: Sequence[_Size], group_bytes: int) -> Iterator[range]:
    """Yield the row groups of each shard; NoSlices if one is too large for a shard."""
    if not all(size.fits(_MOST_BYTES, group_bytes) for size in sizes):
        raise NoSlices("a row group is too large for a shard, or its output may be")
    begin, held = 0, sizes[0]
    for index, size in enumerate(sizes[1:], 1):
        if (held + size).fits(_SHARD_BYTES, group_bytes):
            held += size
        else:
            yield range(begin, index)
            begin, held = index, size
    yield range(begin, len(sizes))
