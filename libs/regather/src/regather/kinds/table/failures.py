"""What DuckDB's errors mean: a wrong request, a bad row, too little memory, or a fault of the engine.

A message is about the statement that was just run, so it cannot contain another client's text. It is cut to its first
line, without paths and without hints for interactive users.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

from regather.core.errors import BadRequest, PermanentError

_PREFIX = re.compile(r"^(?:[A-Z][A-Za-z]+ )*Error: ")
_CSV_LINE = re.compile(r"CSV Error on Line: (\d+)")
_JSON_FILE = re.compile(r' in file "[^"]*"')
_PLACE = re.compile(r",? ?(?:at byte \d+ )?in line \d+:?")
_PATH = re.compile(r"""(?i:\bfile )?['"]?(?<![\w.])/[^\s'"]+['"]?""")
_SETTING = re.compile(r"""(?:(?:,? or|\.? *Use) "?SET [a-z_]+|\. Try auto-detecting).*$""")  # not open to clients
_SQL_LINE = re.compile(r"LINE \d+: ")
_SHOWN_SQL = 30
_MAX_TEXT = 300


def said(error: BaseException) -> str:
    """Return the first line of DuckDB's message, without locations that only DuckDB knows."""
    lines = [line.rstrip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    first = _PREFIX.sub("", lines[0].strip())
    if _CSV_LINE.search(first):
        details = [line for line in lines[1:] if not line.startswith("Original Line")]
        first = details[0].strip() if details else "it does not look like the other rows"
    first = _SETTING.sub("", first) + _place_of(lines)
    text = _PATH.sub(" the file", _PLACE.sub("", _JSON_FILE.sub("", first))).strip().removesuffix(".")
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 3] + "..."


def _place_of(lines: Sequence[str]) -> str:
    """Return where the SQL is wrong, which DuckDB marks with a caret below the line."""
    for line, mark in pairwise(lines):
        begin = _SQL_LINE.match(line)
        if begin and set(mark) <= {" ", "^", "~"}:
            at = max(mark.find("^"), begin.end())
            return f", at {line[at : at + _SHOWN_SQL]!r}"
    return ""


def binding_error(error: Exception, what: str) -> Exception:
    """Return a BadRequest if names or types of the request do not fit together; other errors unchanged."""
    import duckdb

    if not isinstance(error, duckdb.ProgrammingError | duckdb.NotSupportedError | duckdb.DataError | duckdb.Error):
        return error
    return BadRequest(f"{what}: {said(error)}", code="bad-option")


def is_of_data(error: BaseException) -> bool:
    """Whether the data is at fault, so that the same shard would fail again in the same way."""
    import duckdb

    if isinstance(error, duckdb.InternalException | duckdb.FatalException | duckdb.OutOfMemoryException):
        return False
    return isinstance(error, duckdb.Error)


def row_error(row: int, error: BaseException) -> PermanentError:
    """Return the error of one row."""
    return PermanentError(f"row {row}: {said(error)}")
