"""Shards that are row groups as they lie in the file.

Theory of operation
-------------------
Decoding a Parquet file to cut it, writing its rows as Arrow and reading these again costs many times what DuckDB takes to
read the file itself. A row group's columns lie in one piece each, so a shard can be a small Parquet file of its own: the
bytes of the columns that the job reads, for some row groups in a row, under a footer that says so. The cut copies bytes
and decodes nothing; the shard's child reads what DuckDB reads best.

A row group may hold a million rows in few bytes, so what comes out of a shard must be bounded by something else than its
bytes: groups are not more than the product of their columns' dictionaries. Where that is not known, or rows come out, or
row groups are too large for a record, the file is decoded (`parquet_file.py`).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from regather.kinds.table.parquet.footer import Field, Footer, NoSlices, RowGroup, dictionary_of
from regather.kinds.table.plan import RowUse

_SHARD_BYTES = 4 * 1024 * 1024
"""Row groups are put together up to here."""

_MOST_BYTES = 8 * 1024 * 1024
_MOST_ROWS = 1 << 20  # a state may hold eight bytes of each, and has to fit a record of 10 MiB
_OUTPUT_BYTES = 8 * 1024 * 1024
_ROW_NUMBER = "file_row_number"
"""DuckDB's own column; `reading.py` asks for it."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A shard: its first row's number, how many rows it has, and its content."""

    row0: int
    rows: int
    content: bytes


def slices(path: Path, names: Sequence[str], use: RowUse) -> Iterator[Slice]:
    """Yield a file as shards; `names` are its columns as DuckDB calls them.

    NoSlices, before the first, for a file that must be decoded.
    """
    with path.open("rb") as file:
        footer = Footer(file)
        if [field.name for field in footer.fields] != list(names):
            raise NoSlices("DuckDB calls the columns by other names")
        wanted = [field for field in footer.fields if field.name.lower() in use.names]
        if any(field.name.lower() == _ROW_NUMBER for field in wanted):
            raise NoSlices("a column has the name by which a shard's reader numbers rows")
        if use.group_bytes is None or not wanted or not footer.rows:
            raise NoSlices("rows come out, or there are none")
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
    """Of a row group or several: `keys` are number and bytes of the values in each key's dictionaries, None if unknown."""

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
        """At most so many bytes come out."""
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
    """Yield which row groups make a shard each; NoSlices if one is too large for that."""
    if not all(size.fits(_MOST_BYTES, group_bytes) for size in sizes):
        raise NoSlices("a row group is too large for a shard, or what comes out of it may be")
    begin, held = 0, sizes[0]
    for index, size in enumerate(sizes[1:], 1):
        if (held + size).fits(_SHARD_BYTES, group_bytes):
            held += size
        else:
            yield range(begin, index)
            begin, held = index, size
    yield range(begin, len(sizes))
