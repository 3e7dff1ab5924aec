"""What DuckDB says of a whole table: the options of the table kinds written as SQL of its own, in one thread.

The file is read at once into one table with a row number; derive, filter, groups, order and limit are one statement
each. Sums and means of doubles are computed anew with math.fsum, from the list of the values.
"""

import csv
import io
import json
import math
import re
import tempfile
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb

from accept_kinds.oracles import OracleRefused

Row = dict[str, Any]
SUM_TOLERANCE, SPREAD_TOLERANCE = 1e-12, 1e-9
_CASTS = {"int": "BIGINT", "float": "DOUBLE", "str": "VARCHAR", "bool": "BOOLEAN"}
_AGGREGATE = re.compile(r"\s*(\w+)\s*\((.*)\)\s*", re.DOTALL)
_NUMBER = "__row"
_FLOATS = ("DOUBLE", "FLOAT")


class TableOracle:
    """One table with the options of one job. OracleRefused where DuckDB refuses the file or an expression."""

    def __init__(
        self, body: bytes, options: Mapping[str, str], table_format: str, side: tuple[bytes, str] | None = None
    ) -> None:
        self.options = dict(options)
        self.tolerances: dict[str, float] = {}
        self._db = duckdb.connect(config={"threads": 1})
        self._db.execute("set timezone = 'UTC'")
        self._sums: dict[str, str] = {}
        try:
            self._read(body, table_format)
            self._table = "source" if side is None else self._joined(*side)
            self._answer = self._transformed()
        except duckdb.Error as error:
            raise OracleRefused(str(error).splitlines()[0]) from error

    @property
    def types(self) -> dict[str, str]:
        """DuckDB's type of each column of the answer."""
        types = dict(zip(self._answer.columns, map(str, self._answer.types), strict=True))
        return types | dict.fromkeys(self._sums, "DOUBLE")

    def rows(self) -> list[Row]:
        """The answer's rows in order, as the JSON that is agreed: exact numbers, NaN and infinities as texts."""
        try:
            return [self._finished(row) for row in json_rows(self._db, self._answer)]
        except duckdb.Error as error:
            raise OracleRefused(str(error).splitlines()[0]) from error

    def cells(self) -> tuple[list[str], list[list[str | None]]]:
        """The answer as texts: names and rows."""
        names = list(self._answer.columns)
        columns = ", ".join(f"cast({quoted(name)} as varchar)" for name in names)
        rows = [list(row) for row in self._db.sql(f"select {columns} from answer").fetchall()]
        for name in self._sums:
            for row, finished in zip(rows, self.rows(), strict=True):
                row[names.index(name)] = None if finished[name] is None else str(finished[name])
        return names, rows

    def _read(self, body: bytes, table_format: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"table.{table_format}"
            path.write_bytes(body)
            source = self._source(path, table_format)
            self._db.execute(f"create table source as select *, 0::bigint as {_NUMBER} from {source}")
        self._db.execute(f"update source set {_NUMBER} = rowid")
        if table_format == "csv" and self.options.get("header") == "false":
            for number, name in enumerate(self._db.table("source").columns[:-1]):  # c0, c1, ..., as the reference says
                self._db.execute(f"alter table source rename column {quoted(name)} to c{number}")
        if table_format != "csv":
            for name, kind in self._casts().items():
                self._db.execute(f"alter table source alter {quoted(name)} set data type {kind}")

    def _source(self, path: Path, table_format: str) -> str:
        where = text_literal(str(path))
        if table_format == "parquet":
            return f"read_parquet({where})"
        if table_format in ("json", "ndjson"):
            kind = "array" if table_format == "json" else "newline_delimited"
            return f"read_json({where}, format = '{kind}', sample_size = -1, maximum_object_size = 100000000)"
        options = self.options
        given = {
            "header": options.get("header", "true"),
            "delim": text_literal(options.get("delimiter", ",").replace("\\t", "\t")),
            "sample_size": "-1",
            "quote": text_literal(options.get("quote", '"')),
            "escape": text_literal(options.get("quote", '"')),
            "skip": options.get("skip_rows", "0"),
            "comment": text_literal(options.get("comment", "")),
            "decimal_separator": _maybe(options.get("decimal")),
        }
        if "nulls" in options:
            nulls = ", ".join(text_literal(part) for part in split(options["nulls"], ","))
            given["nullstr"] = f"[{nulls}]"
        casts = self._casts()
        if casts:
            given["types"] = "{" + ", ".join(f"{text_literal(n)}: {text_literal(k)}" for n, k in casts.items()) + "}"
        return f"read_csv({where}, " + ", ".join(f"{name} = {value}" for name, value in given.items() if value) + ")"

    def _joined(self, side: bytes, side_format: str) -> str:
        """Join the side table, read by DuckDB with options of its own; number the rows by the numbers of both."""
        whole = TableOracle(side, json.loads(self.options.get("side", "{}")), side_format)
        self._db.register("loaded", whole._db.sql("select * from source").to_arrow_table())
        self._db.execute(f"create table beside as select * rename ({_NUMBER} as __beside) from loaded")
        condition, how = self.options["join"], self.options.get("join_how", "left")
        keys = [] if re.search(r"[=<>]| between ", condition) else split(condition, ",")
        on = f"using ({', '.join(keys)})" if keys else f"on ({condition})"
        one_row = how in ("semi", "anti")
        order = _NUMBER if one_row else f"{_NUMBER}, __beside"
        left_out = _NUMBER if one_row else f"{_NUMBER}, __beside"
        # `shard` and `side` are the names that a condition may use
        tables = f"(select * from source) as shard {how} join (select * from beside) as side {on}"
        self._db.execute(
            f"create table joined as select * exclude ({left_out}), row_number() over (order by {order}) as {_NUMBER} "
            f"from {tables}"
        )
        return "joined"

    def _casts(self) -> dict[str, str]:
        pairs = dict(pair(part, ":") for part in split(self.options.get("cast", ""), ","))
        return {name: _CASTS.get(kind, kind) for name, kind in pairs.items()}

    def _transformed(self) -> Any:
        table = self._table
        for number, part in enumerate(split(self.options.get("derive", ""), ";")):
            name, expression = pair(part, "=")
            known = [column.lower() for column in self._db.table(table).columns]
            stars = (
                f"* replace (({expression}) as {quoted(name)})"
                if name.lower() in known
                else f"*, ({expression}) as {quoted(name)}"
            )
            self._db.execute(f"create table derived{number} as select {stars} from {table}")
            table = f"derived{number}"
        if self.options.get("filter"):
            self._db.execute(f"create table kept as select * from {table} where {self.options['filter']}")
            table = "kept"
        select = self._groups(table) if self.options.get("aggregate") else self._rows(table)
        self._db.execute(f"create table answer as {select}")
        return self._db.table("answer")

    def _rows(self, table: str) -> str:
        names = self._names("select")
        if self.options.get("distinct", "false") == "true":
            shown = ", ".join(names) or f"* exclude ({_NUMBER})"
            columns = names or [quoted(name) for name in self._db.table(table).columns if name != _NUMBER]
            grouped = ", ".join(columns)
            order = self.options.get("order_by") or f"min({_NUMBER})"
            return (
                f"select {shown if names else grouped} from {table} group by {grouped} order by {order}{self._limit()}"
            )
        shown = ", ".join(names) or f"* exclude ({_NUMBER})"
        order = ", ".join(filter(None, [self.options.get("order_by"), _NUMBER]))
        return f"select {shown} from {table} order by {order}{self._limit()}"

    def _groups(self, table: str) -> str:
        keys = self._names("group_by")
        shown = list(keys)
        for part in split(self.options["aggregate"], ";"):
            name, call = pair(part, "=")
            shown.append(f"{self._aggregate(name, call, table)} as {quoted(name)}")
        grouped = f" group by {', '.join(keys)}" if keys else ""
        having = f" having {self.options['having']}" if self.options.get("having") else ""
        order = ", ".join(filter(None, [self.options.get("order_by"), f"min({_NUMBER})"]))
        return f"select {', '.join(shown)} from {table}{grouped}{having} order by {order}{self._limit()}"

    def _aggregate(self, name: str, call: str, table: str) -> str:
        found = _AGGREGATE.fullmatch(call)
        assert found is not None, call
        function, argument = found[1].lower(), found[2].strip()
        if function == "count" and not argument:
            return "count(*)"
        if function in ("first", "last") and " order by " not in argument.lower():
            return f"{function}({argument} order by {_NUMBER})"
        if function in ("sum", "mean", "avg") and self._is_double(argument, table):
            self.tolerances[name] = SUM_TOLERANCE
            if not self.options.get("having") and not self.options.get("order_by"):
                self._sums[name] = function
                return f"list({argument} order by {_NUMBER}) filter (({argument}) is not null)"
        if function in ("mean", "avg"):
            self.tolerances[name] = SUM_TOLERANCE
        if function.startswith(("stddev", "var", "quantile_cont", "median")):
            self.tolerances[name] = SPREAD_TOLERANCE
        return f"{function}({argument})"

    def _is_double(self, argument: str, table: str) -> bool:
        if argument.lower().startswith("distinct "):
            return False
        return str(self._db.sql(f"select {argument} as x from {table}").types[0]) in _FLOATS

    def _names(self, option: str) -> list[str]:
        return [part if part.startswith('"') else quoted(part) for part in split(self.options.get(option, ""), ",")]

    def _limit(self) -> str:
        return f" limit {self.options['limit']}" if self.options.get("limit") else ""

    def _finished(self, row: Row) -> Row:
        for name, function in self._sums.items():
            values = row[name]
            row[name] = None if not values else double(exact_sum(values) if function == "sum" else mean(values))
        return row


def query(statement: str, tables: Mapping[str, tuple[bytes, str]], parts: str = "") -> list[Row]:
    """Rows of one SQL statement over whole files, {name: (body, format)}, and over `parts`, another statement's rows."""
    db = duckdb.connect(config={"threads": 1})
    try:
        for name, (body, table_format) in tables.items():
            whole = TableOracle(body, {}, table_format)
            db.register("loaded", whole._answer.to_arrow_table())
            db.execute(f"create table {name} as select * from loaded")
        if parts:
            db.execute(f"create table parts as {parts}")
        return json_rows(db, db.sql(statement))
    except duckdb.Error as error:
        raise OracleRefused(str(error).splitlines()[0]) from error


def json_rows(db: Any, relation: Any) -> list[Row]:
    """A relation's rows as DuckDB's to_json writes them, numbers kept exact."""
    parts = ", ".join(f"to_json({quoted(name)})" for name in relation.columns)
    names = relation.columns
    texts = relation.project(parts).fetchall()
    return [
        dict(zip(names, [None if text is None else exact_json(text) for text in row], strict=True)) for row in texts
    ]


def exact_json(text: str) -> Any:
    """A JSON value with int and Decimal; bare NaN and infinities become texts."""
    return json.loads(text, parse_float=Decimal, parse_constant=str)


def rows_of_arrow(table: Any) -> tuple[dict[str, str], list[Row]]:
    """DuckDB's types and rows of an Arrow table."""
    db = duckdb.connect(config={"threads": 1})
    db.execute("set timezone = 'UTC'")
    relation = db.from_arrow(table)
    return dict(zip(relation.columns, map(str, relation.types), strict=True)), json_rows(db, relation)


def exact_sum(values: Sequence[Any]) -> float:
    """The sum as if computed without rounding and rounded once; IEEE's rules for NaN and infinities."""
    floats = [float(value) for value in values]
    special = [value for value in floats if not math.isfinite(value)]
    if special:
        return sum(special)
    try:
        return math.fsum(floats)
    except OverflowError:
        total = sum(map(Fraction, floats))
        try:
            return float(total)
        except OverflowError:
            return math.inf if total > 0 else -math.inf


def mean(values: Sequence[Any]) -> float:
    """The exact sum, divided by the count."""
    floats = [float(value) for value in values]
    total = exact_sum(floats)
    return total / len(floats) if not math.isfinite(total) else float(sum(map(Fraction, floats)) / len(floats))


def double(value: float) -> Any:
    """A double as agreed in JSON."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return Decimal(repr(value))


def rejected_rows(body: bytes, options: Mapping[str, str]) -> set[int]:
    """Numbers of the rows that DuckDB rejects, from 0 without the header; needs one line a row."""
    oracle = object.__new__(TableOracle)
    oracle.options = dict(options)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        path.write_bytes(body)
        db = duckdb.connect(config={"threads": 1})
        source = oracle._source(path, "csv")
        db.sql(f"select * from {source[:-1]}, store_rejects = true)").fetchall()
        return {line - 2 for (line,) in db.sql("select distinct line from reject_errors").fetchall()}


def written_csv(names: Sequence[str], rows: Sequence[Sequence[Any]], **dialect: Any) -> bytes:
    """CSV by the standard library."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, **{"lineterminator": "\n", **dialect})
    writer.writerows([names, *rows])
    return out.getvalue().encode()


def split(text: str, separator: str) -> list[str]:
    """Parts of a list that do not lie inside quotes or brackets, stripped, empty ones left out."""
    parts, depth, quote, begin = [], 0, "", 0
    for at, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == separator and depth == 0:
            parts.append(text[begin:at])
            begin = at + 1
    return [part.strip() for part in [*parts, text[begin:]] if part.strip()]


def pair(text: str, between: str) -> tuple[str, str]:
    """Name and value of one assignment; the name may stand in double quotes."""
    name, _, value = text.partition(between)
    name = name.strip()
    return (name[1:-1].replace('""', '"') if name.startswith('"') else name), value.strip()


def quoted(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def text_literal(text: str) -> str:
    """A text in SQL."""
    return "'" + text.replace("'", "''") + "'"


def _maybe(text: str | None) -> str | None:
    return None if text is None else text_literal(text)
