"""What is known of a table before its first shard is cut: format, columns, types. Each shard carries it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from regather.processors.splitting.row_packer import RowSpan

JSON_BYTES = 6
"""Bytes that JSON adds to a name: quotes, colon, comma."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column, with its type from the sample or from the client.

    `type` is DuckDB's name. `cast`: the client asked for this type, so texts and numbers are converted to it; otherwise
    a value of another kind does not fit. `pattern` is the strptime format of dates or times that are not ISO 8601.
    """

    name: str
    type: str
    cast: bool = False
    pattern: str = ""


@dataclass(frozen=True, slots=True)
class SidePlan:
    """The side table that each shard carries before its rows: its columns there, and its number of rows.

    About `matches` of its rows join a row of the table, and each adds about `row_bytes` to the output.
    """

    columns: tuple[Column, ...]
    rows: int
    matches: int = 1
    row_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """Columns in the order of the body; `format` is the format of a shard's rows (csv, ndjson, arrow, parquet).

    `row_output_bytes` is the most that a row adds to its shard's output beside its values. `ends_in_delimiter`: rows of
    CSV have a delimiter after their last field, and the header does not.
    """

    format: str
    columns: tuple[Column, ...]
    delimiter: str = ","
    row_output_bytes: int = 0
    ends_in_delimiter: bool = False
    side: SidePlan | None = None

    def encode(self) -> bytes:
        """Return the plan as JSON; `ends_in_delimiter` and `side` are left out if they are not set."""
        columns = [[one.name, one.type, int(one.cast), one.pattern] for one in self.columns]
        document: dict[str, object] = {"format": self.format, "columns": columns, "delimiter": self.delimiter}
        document["row_output_bytes"] = self.row_output_bytes
        if self.ends_in_delimiter:
            document["ends_in_delimiter"] = True
        if self.side is not None:
            side = self.side
            document["side"] = [[[one.name, one.type] for one in side.columns], side.rows, side.matches, side.row_bytes]
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, document: bytes) -> "Plan":
        """Parse what encode() wrote; ValueError, KeyError or TypeError for anything else."""
        given = json.loads(document)
        columns = tuple(Column(name, kind, bool(cast), pattern) for name, kind, cast, pattern in given["columns"])
        ends = given.get("ends_in_delimiter", False)
        side = None
        if "side" in given:
            found, rows, matches, row_bytes = given["side"]
            side = SidePlan(tuple(Column(name, kind) for name, kind in found), rows, matches, row_bytes)
        return cls(given["format"], columns, given["delimiter"], given["row_output_bytes"], ends, side)

    def output_bytes(self, rows: int, value_bytes: int) -> int:
        """Return the approximate size of the output for this many rows, whose values have this many bytes."""
        if self.side is None:
            return rows * self.row_output_bytes + value_bytes
        each = rows * (self.row_output_bytes + self.side.row_bytes) + value_bytes
        return each * self.side.matches

    def named(self, names: Iterable[str]) -> tuple[Column, ...]:
        """Return the columns whose names in lower case are in `names`, in their order."""
        wanted = frozenset(names)
        return tuple(column for column in self.columns if column.name.lower() in wanted)


def low_names(columns: Iterable[Column]) -> frozenset[str]:
    """Return the columns' names in lower case."""
    return frozenset(column.name.lower() for column in columns)


class RowUse(NamedTuple):
    """What a job does with a row.

    `names` are the columns that it reads, in lower case; `output_bytes` is the most that it writes per row beside
    values. If the output is groups of a bounded size, `keys` are the columns to group by, and `group_bytes` is what
    each group takes beside them; otherwise `group_bytes` is None. `side_names` are the columns that it reads of the
    side table, and `side_keys` those by which it finds rows; `side_values`: the side table's columns are in the output,
    too.
    """

    names: frozenset[str]
    output_bytes: int = 0
    keys: frozenset[str] = frozenset()
    group_bytes: int | None = None
    side_names: frozenset[str] = frozenset()
    side_keys: frozenset[str] = frozenset()
    side_values: bool = True


@dataclass(frozen=True, slots=True)
class Reading:
    """A plan, what the job does with rows, and the packed side table that shards carry."""

    plan: Plan
    use: RowUse
    packed: bytes = b""

    def encode(self) -> bytes:
        """Return plan and side table as inspect() returns them: JSON, which has no line end, one LF, an Arrow stream."""
        return self.plan.encode() + (b"\n" + self.packed if self.packed else b"")


@dataclass(frozen=True, slots=True)
class TableMeta:
    """A shard's `meta`: which rows it has, and the plan."""

    span: RowSpan
    plan: Plan

    def encode(self) -> bytes:
        """Return both, one per line."""
        return self.span.encode() + b"\n" + self.plan.encode()

    @classmethod
    def decode(cls, meta: bytes) -> "TableMeta":
        """Parse what encode() wrote; ValueError, KeyError or TypeError for anything else."""
        span, _, plan = meta.partition(b"\n")
        return cls(RowSpan.decode(span), Plan.decode(plan))


def bytes_of_names(names: Iterable[str]) -> int:
    """Return how many bytes the names of its columns take in a row of NDJSON."""
    return sum(len(name.encode()) + JSON_BYTES for name in names)
