"""What is known of a table before its first shard is cut: format, columns, types. It travels with each shard."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from regather.processors.splitting.row_packer import RowSpan

JSON_BYTES = 6
"""Quotes, colon, comma of a name."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column as the sample or the client has it.

    `type` is DuckDB's name. `cast`: the client asked for this type, so texts and numbers are converted to it; else a value
    of another kind does not fit. `pattern` is how dates or times look, as strptime has it, where they are not ISO 8601.
    """

    name: str
    type: str
    cast: bool = False
    pattern: str = ""


@dataclass(frozen=True, slots=True)
class SidePlan:
    """The side table as it travels in front of each shard's rows: its columns there, and how many rows it has.

    About `matches` of them join a row of the table, and each adds about `row_bytes` to what comes out.
    """

    columns: tuple[Column, ...]
    rows: int
    matches: int = 1
    row_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """Columns in the order of the body; `format` is what the rows of a shard are (csv, ndjson, arrow, parquet).

    `row_output_bytes` is what a row takes of its shard's output beside its values, at most. `ends_in_delimiter`: rows of
    CSV have a delimiter behind their last field, which the header has not.
    """

    format: str
    columns: tuple[Column, ...]
    delimiter: str = ","
    row_output_bytes: int = 0
    ends_in_delimiter: bool = False
    side: SidePlan | None = None

    def encode(self) -> bytes:
        """Return the plan as JSON, without what is usual."""
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
        """Read what encode() wrote; ValueError, KeyError or TypeError for anything else."""
        given = json.loads(document)
        columns = tuple(Column(name, kind, bool(cast), pattern) for name, kind, cast, pattern in given["columns"])
        ends = given.get("ends_in_delimiter", False)
        side = None
        if "side" in given:
            found, rows, matches, row_bytes = given["side"]
            side = SidePlan(tuple(Column(name, kind) for name, kind in found), rows, matches, row_bytes)
        return cls(given["format"], columns, given["delimiter"], given["row_output_bytes"], ends, side)

    def output_bytes(self, rows: int, value_bytes: int) -> int:
        """Return about how much comes out of so many rows whose values take so many bytes."""
        if self.side is None:
            return rows * self.row_output_bytes + value_bytes
        each = rows * (self.row_output_bytes + self.side.row_bytes) + value_bytes
        return each * self.side.matches

    def named(self, names: Iterable[str]) -> tuple[Column, ...]:
        """Return the columns with one of these names in lower case, in their order."""
        wanted = frozenset(names)
        return tuple(column for column in self.columns if column.name.lower() in wanted)


def low_names(columns: Iterable[Column]) -> frozenset[str]:
    """Return the columns' names in lower case."""
    return frozenset(column.name.lower() for column in columns)


class RowUse(NamedTuple):
    """What a job does with a row.

    `names` are the columns that it reads, in lower case; `output_bytes` is what it writes of a row beside values, at most.
    Where groups of a bounded size come out, `keys` are the columns that make them, and `group_bytes` is what each takes
    beside these; else it is None. Of the side table it reads `side_names` and finds rows by `side_keys`; `side_values`
    says that its columns come out beside the table's.
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
    """A plan, what the job does with rows, and the side table as its shards carry it."""

    plan: Plan
    use: RowUse
    packed: bytes = b""

    def encode(self) -> bytes:
        """Return plan and side table as inspect() gives them: JSON, which has no line end, one LF, an Arrow stream."""
        return self.plan.encode() + (b"\n" + self.packed if self.packed else b"")


@dataclass(frozen=True, slots=True)
class TableMeta:
    """A shard's `meta`: which rows it has, and the plan."""

    span: RowSpan
    plan: Plan

    def encode(self) -> bytes:
        """Return both, one line each."""
        return self.span.encode() + b"\n" + self.plan.encode()

    @classmethod
    def decode(cls, meta: bytes) -> "TableMeta":
        """Read what encode() wrote; ValueError, KeyError or TypeError for anything else."""
        span, _, plan = meta.partition(b"\n")
        return cls(RowSpan.decode(span), Plan.decode(plan))


def bytes_of_names(names: Iterable[str]) -> int:
    """Return how much of a row in NDJSON the names of its columns take."""
    return sum(len(name.encode()) + JSON_BYTES for name in names)
