"""One-line cases: what is right is found by the oracle of the kind.

table("made/my-file", b"a,b\\n1,2\\n", filter="a > 1")              equal to DuckDB
bad_table("made/ragged", b"a,b\\n1\\n", rows={0})                    refused, and the row is named
"""

from collections.abc import Callable
from typing import Any

from accept_kinds.case import Case, Either, Equal, Partial, Refusal, Want, as_oracle_says, refused
from accept_kinds.oracles import OracleRefused
from accept_kinds.oracles.table import TableOracle

Body = bytes | Callable[[], bytes]
_CONTENT = {
    "csv": "text/csv",
    "ndjson": "application/x-ndjson",
    "json": "application/json",
    "parquet": "application/octet-stream",
}


def table_equal(
    body: bytes, options: dict[str, str], table_format: str, side: tuple[bytes, str] | None = None
) -> Equal:
    """What DuckDB says of the table, in the form of the answer that the options ask for."""
    oracle = TableOracle(body, options, table_format, side)
    output = options.get("output") or ("groups" if "aggregate" in options else "ndjson")
    if output == "csv":
        return Equal("csv", (oracle.cells(),), oracle.tolerances)
    rows = oracle.rows()
    if output in ("parquet", "arrow"):
        return Equal(output, ((oracle.types, rows),), oracle.tolerances)
    return Equal(output, (rows,), oracle.tolerances)


def table(
    name: str,
    body: Body,
    *,
    table_format: str = "csv",
    plain: Body | None = None,
    content_type: str | None = None,
    settings: dict[str, Any] | None = None,
    oracle_options: dict[str, str] | None = None,
    **options: str,
) -> Case:
    """An everyday table: must be equal. `plain` is what the oracle reads if it is not the body itself."""
    asked = dict(options)
    seen = {**asked, **(oracle_options or {})}

    def want() -> Want:
        return table_equal(bytes_of(body if plain is None else plain), seen, table_format)

    kind = content_type or _CONTENT[table_format]
    return Case(f"table/{name}", "table.etl", lambda: bytes_of(body), want, asked, kind, **(settings or {}))


def joined_table(
    name: str,
    body: bytes,
    beside: bytes,
    *,
    formats: tuple[str, str] = ("csv", "csv"),
    settings: dict[str, Any] | None = None,
    **options: str,
) -> Case:
    """A table with a side table: must be equal to DuckDB's join of both. A form says nothing of a body's length."""
    asked = dict(options)

    def want() -> Want:
        return table_equal(body, asked, formats[0], (beside, formats[1]))

    shown = {"sizes": ("1024", "65536", "default"), **(settings or {})}
    return Case(f"table/{name}", "table.etl", lambda: body, want, asked, side=lambda: beside, **shown)


def bad_join(name: str, body: bytes, beside: bytes, claim: dict[str, Any], **options: str) -> Case:
    """A side table, or a join, that must be refused before a shard is sent."""
    refusal = Refusal(**{"why": "the suite's own rule", **claim})
    return Case(
        f"table/{name}", "table.etl", lambda: body, lambda: refusal, dict(options), side=lambda: beside, sizes=("4096",)
    )


def bad_table(
    name: str,
    body: Body,
    *,
    rows: set[int] | None = None,
    claim: dict[str, Any] | None = None,
    table_format: str = "csv",
    oracle: Callable[[], object] | None = None,
    settings: dict[str, Any] | None = None,
    content_type: str | None = None,
    **options: str,
) -> Case:
    """A table that must be refused; the oracle (DuckDB on the whole file) has to say that it is bad.

    `claim` holds more fields of the Refusal.
    """
    asked = dict(options)

    def want() -> Want:
        prove = oracle or (lambda: TableOracle(bytes_of(body), asked, table_format).rows())
        return refused(prove, refusal_of(rows, claim))

    kind = content_type or _CONTENT[table_format]
    return Case(f"table/{name}", "table.etl", lambda: bytes_of(body), want, asked, kind, **(settings or {}))


def skipping_table(name: str, body: bytes, good: bytes, rows: set[int], **options: str) -> Case:
    """The same with on_error=skip: exactly `rows` are left out, the rest is what `good` gives."""
    asked = dict(options)

    def want() -> Want:
        return Partial(frozenset(rows), table_equal(good, asked, "csv"))

    return Case(f"table/{name}", "table.etl", lambda: body, want, asked, "text/csv", on_error="skip")


def damaged_table(name: str, body: Body, table_format: str, oracle: Callable[[bytes], Equal], **options: str) -> Case:
    """Damage whose effect the oracle decides: equal to what it still reads, refused where it refuses."""

    def want() -> Want:
        return as_oracle_says(lambda: oracle(bytes_of(body)), "damaged")

    kind = _CONTENT[table_format]
    return Case(f"table/{name}", "table.etl", lambda: bytes_of(body), want, dict(options), kind)


def refusal_of(rows: set[int] | None, claim: dict[str, Any] | None) -> Refusal:
    """A refusal of these rows, with more fields in `claim`."""
    fields = {"why": "DuckDB refuses it", **(claim or {})}
    return Refusal(rows=None if rows is None else frozenset(rows), **fields)


def either(equal: Callable[[], Equal], refusal: Refusal) -> Callable[[], Want]:
    """Equal, or a refusal as stated: for files that programs disagree about."""

    def want() -> Want:
        try:
            return Either(equal(), refusal)
        except OracleRefused:
            return refusal

    return want


def bytes_of(body: Body) -> bytes:
    """The body itself."""
    return body if isinstance(body, bytes) else body()
