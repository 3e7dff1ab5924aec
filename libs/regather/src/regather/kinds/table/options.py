"""Options of `table.etl`. Lists and maps may come as text, because they often stand in a query.

Only what needs no engine is checked here; expressions are checked in a child, against the types of the columns.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from regather.kinds.table.sql_text import partition, split
from regather.processors.base import Options

_TYPE_NAMES = {
    "int": "BIGINT", "integer": "BIGINT", "float": "DOUBLE", "str": "VARCHAR", "string": "VARCHAR", "text": "VARCHAR",
    "bool": "BOOLEAN", "timestamptz": "TIMESTAMP WITH TIME ZONE", "datetime": "TIMESTAMP", "numeric": "DECIMAL",
}  # fmt: skip
_TYPES = frozenset(
    {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "FLOAT",
     "DOUBLE", "VARCHAR", "BOOLEAN", "DATE", "TIME", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS",
     "TIMESTAMP WITH TIME ZONE", "INTERVAL", "UUID", "JSON", "DECIMAL"}
)  # fmt: skip
_DECIMAL = re.compile(r"DECIMAL\s*\(\s*(\d{1,2})\s*(?:,\s*(\d{1,2})\s*)?\)")
_MAX_DIGITS = 38


def _list(value: object) -> object:
    """`a, b` as a list."""
    return [_bare(part) for part in split(value, ",", names=True)] if isinstance(value, str) else value


def _bare(text: str) -> str:
    """A name without the double quotes that SQL writes around it."""
    return text[1:-1].replace('""', '"') if len(text) > 1 and text[0] == text[-1] == '"' else text


def _texts(value: object) -> object:
    """`NA, n/a` as a list of texts; two quotes are the empty text."""
    if not isinstance(value, str):
        return value
    return [part.strip().strip("\"'") for part in value.split(",")]


def _casts(value: object) -> object:
    """`price:float, qty:int` as a map."""
    return _map(value, ",", ":") if isinstance(value, str) else value


def _renames(value: object) -> object:
    """`name: product_name` as a map."""
    return {old: _bare(new) for old, new in _map(value, ",", ":").items()} if isinstance(value, str) else value


def _object(value: object) -> object:
    """A JSON object that came as text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f'{value!r} is no JSON object, such as {{"delimiter": ";"}}: {error}') from error


def _condition(value: object) -> object:
    """A list of columns as the text of one."""
    return ", ".join(_quoted(str(name)) for name in value) if isinstance(value, list | tuple) else value


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _assignments(value: object) -> object:
    """`total = price * qty; tax = total * 0.2` as a map."""
    return _map(value, ";", "=") if isinstance(value, str) else value


def _map(text: str, separator: str, between: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for part in split(text, separator, names=between == ":"):
        name, found, value = part.rpartition(between) if between == ":" else partition(part, between)
        name = _bare(name.strip())
        if not found or not name or not value.strip():
            raise ValueError(f"{part!r} is not NAME{between}VALUE")
        if name in pairs:
            raise ValueError(f"{name!r} is given twice")
        pairs[name] = value.strip()
    return pairs


def _check_once(what: str, names: Iterable[str]) -> None:
    """ValueError where two columns would have one name; SQL's names do not tell letter case apart."""
    twice = [name for name, count in Counter(name.lower() for name in names).items() if count > 1]
    if twice:
        raise ValueError(f"{what}: {', '.join(map(repr, twice))} is given twice (letter case does not matter)")


def type_name(text: str) -> str:
    """Return DuckDB's name of a type; ValueError that lists the types there are."""
    upper = " ".join(text.upper().split())
    name = _TYPE_NAMES.get(upper.lower(), upper)
    decimal = _DECIMAL.fullmatch(name.replace("NUMERIC", "DECIMAL"))
    if decimal is not None:
        digits, scale = int(decimal[1]), int(decimal[2] or 0)
        if not 1 <= digits <= _MAX_DIGITS or scale > digits:
            raise ValueError(f"{text!r}: a decimal has 1 to {_MAX_DIGITS} digits, and no more of them after the point")
        return f"DECIMAL({digits},{scale})"
    if name not in _TYPES:
        known = ", ".join(sorted(_TYPES))
        raise ValueError(f"{text!r} is no type; there are int, float, str, bool, decimal(18,2), {known}")
    return "DECIMAL(18,3)" if name == "DECIMAL" else name


Names = Annotated[tuple[str, ...], BeforeValidator(_list)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]
Assignments = Annotated[dict[str, str], BeforeValidator(_assignments)]


class ReadingOptions(Options):
    """How a table is read."""

    format: Literal["auto", "csv", "ndjson", "json", "parquet"] = Field(
        default="auto", description="of the input; auto looks at content type and first bytes; json is one array"
    )
    delimiter: str = Field(default=",", description="between the fields of CSV; tab may be written \\t")
    quote: str = Field(default='"', max_length=1, description="around fields of CSV; empty: there is none")
    header: bool = Field(default=True, description="CSV's first row has the names; else they are c0, c1, ...")
    skip_rows: int = Field(default=0, ge=0, le=10_000, description="lines before the header that are no rows")
    comment: str = Field(default="", max_length=1, description="a row that begins with this character is left out")
    encoding: str = Field(default="utf-8", description="of text: utf-8, utf-16, latin-1, cp1252, ...")
    decimal: str = Field(default=".", pattern=r"^[.,]$", description="what stands before a number's fraction in CSV")
    nulls: Texts = Field(default=(), description="texts of CSV that are null: NA, -; the empty text by default")
    cast: Annotated[dict[str, str], BeforeValidator(_casts)] = Field(
        default={}, description="types of columns: price:float, day:date, cost:decimal(18,2); else a sample tells"
    )

    @field_validator("delimiter")
    @classmethod
    def _tab(cls, value: str) -> str:
        return "\t" if value == "\\t" else value

    @field_validator("cast")
    @classmethod
    def _types(cls, value: dict[str, str]) -> dict[str, str]:
        return {name: type_name(kind) for name, kind in value.items()}

    @property
    def groups(self) -> bool:
        """Whether groups come out, and not rows."""
        return False

    @property
    def joined(self) -> bool:
        """Whether the result is the shards' outputs one after the other."""
        return False


class SideOptions(ReadingOptions):
    """How the side table is read, and what its columns are called."""

    rename: Annotated[dict[str, str], BeforeValidator(_renames)] = Field(
        default={}, description="other names for the side table's columns: name:product_name"
    )


class SidedOptions(ReadingOptions):
    """How a table and the side table beside it are read."""

    side: Annotated[SideOptions, BeforeValidator(_object)] = Field(
        default=SideOptions(), description='of the form\'s file `side`: {"delimiter": ";", "cast": "code:str"}'
    )


class TableOptions(SidedOptions):
    """What is done: cast, join, derive, filter; group and aggregate, having; select, distinct, order, limit."""

    join: Annotated[str, BeforeValidator(_condition)] = Field(
        default="",
        description="which rows of the form's file `side` match: product = code; or columns of both: id, day",
    )
    join_how: Literal["left", "inner", "semi", "anti"] = Field(
        default="left",
        description="left keeps rows without a match; inner drops them; semi keeps rows with a match, anti those without",
    )
    derive: Assignments = Field(default={}, description="new columns: total = price * qty; tax = total * 0.2")
    filter: str = Field(default="", description="rows where this SQL expression is not true are dropped")
    select: Names = Field(default=(), description="columns that come out: a, b; all by default")
    group_by: Names = Field(default=(), description="columns whose values make the groups: a, b")
    aggregate: Assignments = Field(
        default={}, description="per group: revenue = sum(total); n = count(); p90 = quantile(price, 0.9)"
    )
    having: str = Field(default="", description="groups where this SQL expression is not true are dropped")
    order_by: str = Field(default="", description="what comes out is sorted: total desc, id")
    limit: int | None = Field(default=None, ge=0, le=2**63 - 1, description="so many rows or groups come out at most")
    distinct: bool = Field(default=False, description="of equal rows only the first one comes out")
    output: Literal["ndjson", "csv", "json", "parquet", "arrow"] | None = Field(
        default=None, description="ndjson by default; without it groups come out as one JSON document"
    )

    @model_validator(mode="after")
    def _check_together(self) -> "TableOptions":
        if not self.join and (self.join_how != "left" or self.side != SideOptions()):
            raise ValueError("join_how and side need join: which rows match? join=product = code, or join=id")
        if self.group_by and not self.aggregate:
            raise ValueError("group_by needs aggregate: what shall be known of each group?")
        if self.having and not self.aggregate:
            raise ValueError("having is for groups; filter is for rows")
        if self.aggregate and self.select:
            raise ValueError("select is for rows; with aggregate the columns are group_by's and aggregate's")
        if self.aggregate and self.distinct:
            raise ValueError("distinct is for rows; groups are distinct")
        _check_once("select", self.select)
        _check_once("group_by and aggregate", [*self.group_by, *self.aggregate])
        return self

    @property
    def groups(self) -> bool:
        """Whether groups come out, and not rows."""
        return bool(self.aggregate)

    @property
    def joined(self) -> bool:
        """Whether the result is the shards' outputs one after the other: rows of NDJSON in their own order."""
        asks = self.groups or self.distinct or self.order_by or self.limit is not None
        return not asks and self.output in (None, "ndjson")
