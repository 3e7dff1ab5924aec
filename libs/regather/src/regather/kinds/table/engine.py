"""The one DuckDB of a child process: locked before it runs a client's text; it reads shards from memory files.

Theory of operation ------------------- A child runs one item at a time, so one connection with one thread serves
everything. Its configuration is set once and then locked: no later SQL can reach a file, the network, an extension or
another setting, and dates are in UTC everywhere. DuckDB can read CSV and JSON only from files, so their content is in
an anonymous memory file. The locked database may open only memory files with our names, and the one file that reader()
allows. An allowed path is written as the kernel shows it, because DuckDB compares real paths.

For a small shard, parsing and binding the query costs more than reading the rows. So all shards of a job run the same
SQL text: the memory file stays open for the next content, buffers have few sizes, and the first row's number is a
variable.

`checks.py` checks all text of a client before it reaches this module; the lock is the second line of defence.
"""

import contextlib
import os
import resource
import weakref
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

from regather.core.errors import PermanentError

_SOURCE, _TARGET = "regather-source", "regather-target"
_MAX_MEMORY_BYTES = 4 * 1024**3
_MIN_MEMORY_BYTES = 64 * 1024**2
_MIN_BUFFER_BYTES = 64 * 1024
_KEPT_STATEMENTS = 8
_SHARE = 0.7
"""Share of the memory that a child may still take; Arrow, Python and the result need the rest."""

_SETTINGS = """
    SET timezone = 'UTC';
    SET preserve_insertion_order = true;
    SET arrow_lossless_conversion = true;
    SET python_enable_replacements = false;
    SET autoinstall_known_extensions = false;
    SET autoload_known_extensions = false;
    SET allow_community_extensions = false;
    SET temp_directory = '';
    SET enable_progress_bar = false;
    SET allowed_paths = [{allowed}];
    SET enable_external_access = false;
"""


_MACROS = """
    CREATE MACRO whole(t, v) AS
        CASE WHEN CAST(v AS VARCHAR) = t OR regexp_full_match(t, '\\s*[+-]?[0-9]+\\s*') THEN v END;
    CREATE MACRO whole_cast(t, v) AS
        CASE WHEN CAST(v AS VARCHAR) = t OR regexp_full_match(t, '\\s*[+-]?[0-9]+(\\.0*)?\\s*') THEN v END;
    CREATE MACRO misfit(t, column_is, end_of_sentence) AS
        CASE WHEN t IS NOT NULL
             THEN error(column_is || '''' || left(CAST(t AS VARCHAR), 80) || '''' || end_of_sentence) END;
    CREATE MACRO inside(x) AS
        CASE WHEN abs(x) < 4611686018427387904.0 AND (abs(x) >= 2.117582368135751e-22 OR x = 0)
             THEN CAST(trunc(x) AS BIGINT) END;
    CREATE MACRO next_part(whole_part, x) AS (x - whole_part) * 4611686018427387904.0;
    CREATE MACRO coarse(x) AS CAST(x * 1048576.0 AS BIGINT);
    CREATE MACRO rest_of(coarse_part, x) AS (x * 1048576.0 - coarse_part) * 4503599627370496.0;
    CREATE MACRO fine(x, rest) AS
        CASE WHEN trunc(rest) = rest THEN CAST(rest AS BIGINT)
             WHEN x IS NOT NULL THEN error('a double for the complete query') END;
    CREATE MACRO high_of(c) AS c >> 20;
    CREATE MACRO middle_of(c, f) AS ((c & 1048575) << 42) + (f >> 10);
    CREATE MACRO low_of(f) AS (f & 1023) << 52;
    CREATE MACRO carry(low) AS
        CASE WHEN low >= 0 THEN low // 4611686018427387904
             ELSE -((4611686018427387903 - low) // 4611686018427387904) END;
    CREATE MACRO last_digit(low) AS CAST(low - carry(low) * 4611686018427387904 AS BIGINT);
    CREATE MACRO positive_total(high, middle, low) AS
        coalesce(
            rounded_once(
                TRY_CAST(high + carry(middle + carry(low)) AS BIGINT), last_digit(middle + carry(low)), last_digit(low)
            ),
            CAST(high AS DOUBLE) + CAST(middle AS DOUBLE) * pow(2.0, -62)
        );
    CREATE MACRO exact_total(high, middle, low) AS
        CASE WHEN high + carry(middle + carry(low)) >= 0 THEN positive_total(high, middle, low)
             ELSE -positive_total(-high, -middle, -low) END;
"""
"""Macros for the SQL of a job's query. They keep it short, because parsing is most of the cost of a small shard.

`whole`, `whole_cast` and `misfit` are the rules of `fitting.py`; the macros from `inside` to `low_of` are those of
`aggregates.py`. `exact_total` adds up three integers in units of 1, 2^-62 and 2^-124 and returns a double. It carries
digits until middle and low are in [0, 2^62), then `rounding.py` rounds once. (A sum above 9.2e18 is rounded twice; its
terms have one sign by then.)
"""


class Source(NamedTuple):
    """Content that SQL can read as a file: its path as an SQL literal, and its length."""

    path: str
    size_bytes: int

    @property
    def buffer_bytes(self) -> int:
        """Buffer for all of the content. With its default of 32 MB, DuckDB would fill that much with zeros per shard."""
        return max(_MIN_BUFFER_BYTES, 1 << (self.size_bytes + 1023).bit_length())


class Engine:
    """A locked DuckDB. Methods raise DuckDB's exceptions; `failures.py` words them."""

    def __init__(self, memory_bytes: int, *paths: str) -> None:
        import duckdb

        self._connection = cast("Any", duckdb.connect(":memory:", config={"threads": 1, "async_threads": 0}))
        memory_files = [f"/memfd:{name} (deleted)" for name in (_SOURCE, _TARGET)]
        allowed = ", ".join(literal(path) for path in (*memory_files, *paths))
        self._connection.execute(_SETTINGS.format(allowed=allowed))
        digits = ["BIGINT"] * 3
        self._connection.create_function(
            "rounded_once", _rounded_once, digits, "DOUBLE", type="arrow", null_handling="special"
        )
        self._connection.execute(_MACROS)
        self._connection.execute(f"SET memory_limit = '{memory_bytes}B'; SET lock_configuration = true")
        self._bound = lru_cache(_KEPT_STATEMENTS)(self._connection.sql)
        self._sources: list[int] = []
        weakref.finalize(self, _close_all, self._sources)

    def run(self, sql: str, parameters: list[object] | None = None) -> list[tuple[Any, ...]]:
        """Run one statement and return all its rows."""
        cursor = self._connection.execute(sql, parameters) if parameters else self._connection.execute(sql)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows

    def table(self, sql: str) -> Any:
        """Run one SELECT and return its rows as a pyarrow Table."""
        return self._connection.sql(sql).to_arrow_table()

    def table_again(self, sql: str) -> Any:
        """Do as table(), but bind a SELECT that many shards run only once. Its data may change, its columns may not."""
        return self._bound(sql).to_arrow_table()

    def let(self, variable: str, number: int) -> None:
        """Set the number that `getvariable('variable')` returns in SQL."""
        self._connection.execute(f"SET VARIABLE {variable} = {number}")

    def batches(self, sql: str, rows: int) -> Any:
        """Run one SELECT and return a pyarrow RecordBatchReader with this many rows per batch."""
        return self._connection.sql(sql).to_arrow_reader(rows)

    def describe(self, sql: str) -> list[tuple[str, str]]:
        """Return name and type of each column of a SELECT, without running it."""
        return [(row[0], row[1]) for row in self.run(f"DESCRIBE {sql}")]

    @contextlib.contextmanager
    def arrow(self, name: str, table: Any) -> Iterator[None]:
        """Make a pyarrow Table readable under this name inside the block."""
        self._connection.register(name, table)
        try:
            yield
        finally:
            self._connection.unregister(name)

    @contextlib.contextmanager
    def source(self, content: bytes) -> Iterator["Source"]:
        """Make the content readable as a file inside the block."""
        fd = self._sources.pop() if self._sources else os.memfd_create(_SOURCE)
        try:
            _write(fd, content)
            yield Source(literal(_path(fd)), len(content))
        finally:
            os.ftruncate(fd, 0)
            self._sources.append(fd)

    def write(self, sql: str, how: str) -> bytes:
        """Return the bytes that `COPY (sql) TO ... (how)` writes."""
        with _memory_file(_TARGET) as fd:
            self._connection.execute(f"COPY ({sql}) TO '{_path(fd)}' ({how}, USE_TMP_FILE false)")
            return os.pread(fd, os.fstat(fd).st_size, 0)


def _rounded_once(high: Any, middle: Any, low: Any) -> Any:
    from regather.kinds.table.rounding import rounded_once

    return rounded_once(high, middle, low)


def engine() -> Engine:
    """Return this process's engine, with a memory limit below what the process may still take."""
    return _engine(_memory_bytes())


def reader(path: Path) -> Engine:
    """Return an engine that may also read this file."""
    return Engine(_memory_bytes(), str(path))


def forget_engine() -> None:
    """Make the next engine() create a new one: after an internal error of DuckDB the old one refuses everything."""
    _engine.cache_clear()


@lru_cache(maxsize=1)
def _engine(memory_bytes: int) -> Engine:
    return Engine(memory_bytes)


def _memory_bytes() -> int:
    """Return the memory limit, rounded to a power of two so that shards with one limit share an engine."""
    ceiling = resource.getrlimit(resource.RLIMIT_AS)[0]
    if ceiling == resource.RLIM_INFINITY:
        return _MAX_MEMORY_BYTES
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - a few bytes of the kernel's
        taken = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    free = max(_MIN_MEMORY_BYTES, int((ceiling - taken) * _SHARE))
    return int(min(_MAX_MEMORY_BYTES, 1 << (free.bit_length() - 1)))


@contextlib.contextmanager
def _memory_file(name: str) -> Iterator[int]:
    fd = os.memfd_create(name)
    try:
        yield fd
    finally:
        os.close(fd)


def _path(fd: int) -> str:
    return f"/proc/self/fd/{fd}"


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _write(fd: int, content: bytes) -> None:
    view, at = memoryview(content), 0
    while at < len(view):
        try:
            at += os.pwrite(fd, view[at:], at)
        except OSError as error:
            raise PermanentError(f"the shard of {len(content)} bytes exceeds this worker's file size limit") from error


def quoted(name: str) -> str:
    """Return a name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"
