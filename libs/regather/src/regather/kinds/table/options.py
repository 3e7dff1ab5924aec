"""Options of `table.etl`. Lists and maps may come as text, because they often stand in a query."""

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from regather.kinds.table.expressions import Expression, ExpressionError, parse
from regather.kinds.table.groups import AGGREGATES
from regather.processors.base import Options

_PARTS = {
    separator: re.compile(rf"""(?:[^{separator}"']|"[^"]*"|'[^']*')+""") for separator in (",", ";")
}  # a separator inside quotes does not separate
_AGGREGATE = re.compile(r"\s*(\w+)\s*\((.*)\)\s*", re.DOTALL)


def _list(value: object) -> object:
    """`a, b` as a list."""
    return [part.strip() for part in _PARTS[","].findall(value)] if isinstance(value, str) else value


def _casts(value: object) -> object:
    """`price:float, qty:int` as a map."""
    return _map(value, ",", ":") if isinstance(value, str) else value


def _assignments(value: object) -> object:
    """`total = price * qty; tax = total * 0.2` as a map."""
    return _map(value, ";", "=") if isinstance(value, str) else value


def _map(text: str, separator: str, between: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for part in filter(str.strip, _PARTS[separator].findall(text)):
        name, found, value = part.partition(between)
        if not found or not name.strip() or not value.strip():
            raise ValueError(f"{part.strip()!r} is not NAME{between}VALUE")
        if name.strip() in pairs:
            raise ValueError(f"{name.strip()!r} is given twice")
        pairs[name.strip()] = value.strip()
    return pairs


CastName = Literal["int", "float", "str", "bool"]
Names = Annotated[tuple[str, ...], BeforeValidator(_list)]
Assignments = Annotated[dict[str, str], BeforeValidator(_assignments)]


class TableOptions(Options):
    """What is done, in this order: cast, derive, filter; then either group and aggregate, or select and write rows."""

    format: Literal["auto", "csv", "ndjson", "json", "parquet"] = Field(
        default="auto", description="of the input; auto looks at content type and first bytes; json is one array"
    )
    delimiter: str = Field(default=",", description="between the fields of CSV; tab may be written \\t")
    header: bool = Field(default=True, description="CSV's first row has the names; else they are c0, c1, ...")
    cast: Annotated[dict[str, CastName], BeforeValidator(_casts)] = Field(
        default={}, description="types of columns: price:float, qty:int; CSV's are texts without; empty becomes null"
    )
    derive: Assignments = Field(default={}, description="new columns: total = price * qty; tax = total * 0.2")
    filter: str = Field(default="", description="rows where this expression is not true are dropped")
    select: Names = Field(default=(), description="columns of the rows that come out: a, b; all by default")
    group_by: Names = Field(default=(), description="columns whose values make the groups: a, b")
    aggregate: Assignments = Field(
        default={}, description=f"per group: revenue = sum(total); n = count(). There are {', '.join(AGGREGATES)}"
    )
    output: Literal["ndjson", "csv"] = Field(default="ndjson", description="how rows are written")

    @field_validator("delimiter")
    @classmethod
    def _tab(cls, value: str) -> str:
        return "\t" if value == "\\t" else value

    @field_validator("filter")
    @classmethod
    def _check_filter(cls, value: str) -> str:
        if value:
            _parsed(value)
        return value

    @field_validator("derive")
    @classmethod
    def _check_derive(cls, value: dict[str, str]) -> dict[str, str]:
        for text in value.values():
            _parsed(text)
        return value

    @field_validator("aggregate")
    @classmethod
    def _check_aggregate(cls, value: dict[str, str]) -> dict[str, str]:
        for text in value.values():
            parse_aggregate(text)
        return value

    @model_validator(mode="after")
    def _check_together(self) -> "TableOptions":
        if self.group_by and not self.aggregate:
            raise ValueError("group_by needs aggregate: what shall be known of each group?")
        if self.aggregate and self.select:
            raise ValueError("select is for rows; with aggregate the columns are group_by's and aggregate's")
        if self.output == "csv" and not (self.header or self.select or self.aggregate):
            raise ValueError("output=csv needs select where the input has no header")
        both = set(self.group_by) & set(self.aggregate)
        if both:
            raise ValueError(f"{sorted(both)} stand in group_by and in aggregate")
        return self

    @property
    def groups(self) -> bool:
        """Whether groups come out, and not rows."""
        return bool(self.aggregate)

    def columns_read(self) -> set[str]:
        """Return the names that the input must have."""
        known = set(self.derive)
        used: set[str] = set(self.cast)
        for text in self.derive.values():
            used |= set(parse(text).columns)
        if self.filter:
            used |= set(parse(self.filter).columns)
        for text in self.aggregate.values():
            _, argument = parse_aggregate(text)
            used |= set(argument.columns) if argument else set()
        return (used | set(self.select) | set(self.group_by)) - known


def parse_aggregate(text: str) -> tuple[str, Expression | None]:
    """Return function and argument of `sum(price * qty)`; ValueError if it is something else."""
    found = _AGGREGATE.fullmatch(text)
    if found is None or found[1] not in AGGREGATES:
        raise ValueError(f"{text!r} is no aggregate; there are {', '.join(f'{name}(...)' for name in AGGREGATES)}")
    if not found[2].strip():
        if found[1] != "count":
            raise ValueError(f"{found[1]}() needs an expression; only count() may have none")
        return found[1], None
    return found[1], _parsed(found[2])


def _parsed(text: str) -> Expression:
    try:
        return parse(text)
    except ExpressionError as error:
        raise ValueError(str(error)) from error
