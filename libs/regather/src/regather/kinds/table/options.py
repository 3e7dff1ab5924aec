"""Options of `table.etl`. Lists and maps may be given as text, because options are often query parameters.

Only what needs no engine is checked here; a child checks expressions against the columns' types.
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
    """Convert `a, b` to a list."""
    return [_bare(part) for part in split(value, ",", names=True)] if isinstance(value, str) else value


def _bare(text: str) -> str:
    """Return a name without SQL's double quotes around it."""
    return text[1:-1].replace('""', '"') if len(text) > 1 and text[0] == text[-1] == '"' else text


def _texts(value: object) -> object:
    """Convert `NA, n/a` to a list of texts; two quotes are the empty text."""
    if not isinstance(value, str):
        return value
    return [part.strip().strip("\"'") for part in value.split(",")]


def _casts(value: object) -> object:
    """Convert `price:float, qty:int` to a map."""
    return _map(value, ",", ":") if isinstance(value, str) else value


def _renames(value: object) -> object:
    """Convert `name: product_name` to a map."""
    return {old: _bare(new) for old, new in _map(value, ",", ":").items()} if isinstance(value, str) else value


def _object(value: object) -> object:
    """Parse a JSON object that is given as text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f'{value!r} is not a JSON object, such as {{"delimiter": ";"}}: {error}') from error


def _condition(value: object) -> object:
    """Convert a list of columns to one text."""
    return ", ".join(_quoted(str(name)) for name in value) if isinstance(value, list | tuple) else value


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _assignments(value: object) -> object:
    """Convert `total = price * qty; tax = total * 0.2` to a map."""
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
    """Raise ValueError if two columns would have the same name; SQL's names ignore letter case."""
    twice = [name for name, count in Counter(name.lower() for name in names).items() if count > 1]
    if twice:
        raise ValueError(f"{what}: {', '.join(map(repr, twice))} is given twice (letter case does not matter)")


def type_name(text: str) -> str:
    """Return DuckDB's name of a type; ValueError for an unknown type lists all types."""
    upper = " ".join(text.upper().split())
    name = _TYPE_NAMES.get(upper.lower(), upper)
    decimal = _DECIMAL.fullmatch(name.replace("NUMERIC", "DECIMAL"))
    if decimal is not None:
        digits, scale = int(decimal[1]), int(decimal[2] or 0)
        if not 1 <= digits <= _MAX_DIGITS or scale > digits:
            raise ValueError(f"{text!r}: a decimal has 1 to {_MAX_DIGITS} digits, and a scale of at most as many")
        return f"DECIMAL({digits},{scale})"
    if name not in _TYPES:
        known = ", ".join(sorted(_TYPES))
        raise ValueError(f"{text!r} is not a type; supported are int, float, str, bool, decimal(18,2), {known}")
    return "DECIMAL(18,3)" if name == "DECIMAL" else name


Names = Annotated[tuple[str, ...], BeforeValidator(_list)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]
Assignments = Annotated[dict[str, str], BeforeValidator(_assignments)]


class ReadingOptions(Options):
    """How to read a table."""

    format: Literal["auto", "csv", "ndjson", "json", "parquet"] = Field(
        default="auto", description="format of the input; auto: from content type and first bytes; json is one array"
    )
    delimiter: str = Field(default=",", description="separator of CSV's fields; tab may be written \\t")
    quote: str = Field(default='"', max_length=1, description="quote around CSV's fields; empty: none")
    header: bool = Field(default=True, description="CSV's first row has the names; otherwise they are c0, c1, ...")
    skip_rows: int = Field(default=0, ge=0, le=10_000, description="number of lines before the header to skip")
    comment: str = Field(default="", max_length=1, description="rows that begin with this character are skipped")
    encoding: str = Field(default="utf-8", description="encoding of text: utf-8, utf-16, latin-1, cp1252, ...")
    decimal: str = Field(default=".", pattern=r"^[.,]$", description="decimal separator of numbers in CSV")
    nulls: Texts = Field(default=(), description="texts in CSV that mean null: NA, -; by default the empty text")
    cast: Annotated[dict[str, str], BeforeValidator(_casts)] = Field(
        default={}, description="types of columns: price:float, day:date, cost:decimal(18,2); others are sampled"
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
        """Whether the result is groups and not rows."""
        return False

    @property
    def joined(self) -> bool:
        """Whether the result is the concatenation of the shards' outputs."""
        return False


class SideOptions(ReadingOptions):
    """How to read the side table, and what to call its columns."""

    rename: Annotated[dict[str, str], BeforeValidator(_renames)] = Field(
        default={}, description="new names for the side table's columns: name:product_name"
    )


class SidedOptions(ReadingOptions):
    """How to read a table and the side table beside it."""

    side: Annotated[SideOptions, BeforeValidator(_object)] = Field(
        default=SideOptions(), description='how to read the form\'s file `side`: {"delimiter": ";", "cast": "code:str"}'
    )


class TableOptions(SidedOptions):
    """What to do: cast, join, derive, filter; group and aggregate, having; select, distinct, order, limit."""

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
    select: Names = Field(default=(), description="columns of the result: a, b; all by default")
    group_by: Names = Field(default=(), description="columns to group by: a, b")
    aggregate: Assignments = Field(
        default={}, description="per group: revenue = sum(total); n = count(); p90 = quantile(price, 0.9)"
    )
    having: str = Field(default="", description="groups where this SQL expression is not true are dropped")
    order_by: str = Field(default="", description="order of the result: total desc, id")
    limit: int | None = Field(default=None, ge=0, le=2**63 - 1, description="maximum number of rows or groups")
    distinct: bool = Field(default=False, description="keep only the first of equal rows")
    output: Literal["ndjson", "csv", "json", "parquet", "arrow"] | None = Field(
        default=None, description="format of the result; ndjson by default, and one JSON document for groups"
    )

    @model_validator(mode="after")
    def _check_together(self) -> "TableOptions":
        if not self.join and (self.join_how != "left" or self.side != SideOptions()):
            raise ValueError("join_how and side need join, which says what rows match: join=product = code, or join=id")
        if self.group_by and not self.aggregate:
            raise ValueError("group_by needs aggregate, which says what to compute for each group")
        if self.having and not self.aggregate:
            raise ValueError("having is for groups and needs aggregate; use filter for rows")
        if self.aggregate and self.select:
            raise ValueError("select is for rows; with aggregate the columns are group_by's and aggregate's")
        if self.aggregate and self.distinct:
            raise ValueError("distinct is for rows; groups are distinct")
        _check_once("select", self.select)
        _check_once("group_by and aggregate", [*self.group_by, *self.aggregate])
        return self

    @property
    def groups(self) -> bool:
        """Whether the result is groups and not rows."""
        return bool(self.aggregate)

    @property
    def joined(self) -> bool:
        """Whether the result is the concatenation of the shards' outputs: rows of NDJSON in their own order."""
        asks = self.groups or self.distinct or self.order_by or self.limit is not None
        return not asks and self.output in (None, "ndjson")
