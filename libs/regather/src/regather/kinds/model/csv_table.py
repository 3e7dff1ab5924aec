"""Rows of CSV as columns of numbers."""

import csv
import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from regather.core.sharding import MAX_SHARD_BYTES
from regather.kinds.model.arrow_columns import arrow_type, whole_columns
from regather.kinds.model.features import numbers_found
from regather.kinds.model.formats import header_names
from regather.kinds.model.numbers import Place, bad_row, convert, from_texts
from regather.kinds.model.options import PredictOptions
from regather.kinds.model.shard_meta import ShardMeta, delimiter_of
from regather.kinds.model.signature import TEXT, Columns
from regather.kinds.model.text_table import TextTable, Values
from regather.processors.splitting.row_packer import RowSpan

if TYPE_CHECKING:
    from numpy.typing import NDArray


class CsvTable(TextTable):
    """Fields of CSV. Without a header the columns are c0, c1, and so on, as many as the body's first row has."""

    def __init__(self, payload: bytes, meta: ShardMeta, options: PredictOptions) -> None:
        super().__init__(meta, options.missing)
        assert isinstance(meta.where, RowSpan)
        self._body = payload[meta.where.header_bytes :]
        self._delimiter = delimiter_of(meta.where, options)
        header = payload[: meta.where.header_bytes]
        names = header_names(header, self._delimiter) if header else self._names_without_header()
        self.columns = Columns(names, named=bool(header))

    def read(self, dtypes: Mapping[int, str]) -> None:
        """Read these columns; PermanentError names the first bad row."""
        found = _arrow_csv(self._body, len(self.columns.names), dtypes, self._delimiter, self._missing)
        if found is None or any(len(values) != len(self.numbers) for values in found.values()):
            found = self._slow(dtypes)
        self._values = found

    def carried(self, column: int) -> list[object]:
        """Return a column's texts."""
        return list(self._values[column])

    def _column(self, column: int, dtype: str) -> "NDArray[Any]":
        import numpy as np

        values = self._values[column]
        place = Place(self.numbers, self.columns.names[column] or f"c{column}")
        if dtype == TEXT:
            return np.array(values, dtype=object)
        return (
            convert(values, dtype, place)
            if isinstance(values, np.ndarray)
            else from_texts(values, dtype, self._missing, place)
        )

    def _slow(self, dtypes: Mapping[int, str]) -> Values:
        lines = self._rows()
        kept = [index for index, row in enumerate(lines) if row]  # a blank line is not a row
        self.numbers = numbers_found(self._meta, kept, len(lines))
        rows = [lines[index] for index in kept]
        wanted = len(self.columns.names)
        for number, row in zip(self.numbers.tolist(), rows, strict=True):
            if len(row) != wanted:
                raise bad_row(number, f"it has {len(row)} values; there are {wanted} columns")
        return {column: [row[column] for row in rows] for column in dtypes}

    def _rows(self) -> list[list[str]]:
        csv.field_size_limit(MAX_SHARD_BYTES)
        rows: list[list[str]] = []
        try:
            text = self._body.decode()
            for row in csv.reader(io.StringIO(text, newline=""), delimiter=self._delimiter, strict=True):
                rows.append(row)  # noqa: PERF402 - the rows before an error count
        except (csv.Error, ValueError) as error:
            number = self.numbers[min(len(rows), len(self.numbers) - 1)]
            raise bad_row(int(number), "it is not valid CSV: a quote or a line end is where none may be") from error
        return rows

    def _names_without_header(self) -> list[str]:
        width = self._meta.width
        if width is None:
            width = next((len(row) for row in self._rows() if row), 0)
        return [f"c{index}" for index in range(width)]


def _arrow_csv(body: bytes, width: int, dtypes: Mapping[int, str], delimiter: str, missing: str) -> Values | None:
    """Return columns as Arrow reads them; None if Arrow refuses, or is more lenient than our rules."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    whole = any(arrow_type(dtype) in (pa.int64(), pa.uint64()) for dtype in dtypes.values())
    if not body or (whole and (b"x" in body or b"X" in body)) or not _quotes_are_strict(body, delimiter):
        return None  # Arrow reads 0x1F as a number; here it is not a whole number
    names = [str(index) for index in range(width)]
    types = {str(column): arrow_type(dtype) for column, dtype in dtypes.items()}
    try:
        table = arrow_csv.read_csv(
            pa.py_buffer(body),
            arrow_csv.ReadOptions(use_threads=False, block_size=len(body) + 1, column_names=names),
            arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            arrow_csv.ConvertOptions(column_types=types, include_columns=list(types), null_values=[""]),
        )
    except pa.ArrowException:
        return None
    found = whole_columns(table, list(types), missing)
    return None if found is None else dict(zip(dtypes, found, strict=True))


def _quotes_are_strict(body: bytes, delimiter: str) -> bool:
    """Whether every quote is where RFC 4180 allows it; Arrow also reads `"1"2` as a value."""
    if b'"' not in body:
        return True
    d = re.escape(delimiter.encode())
    field = rb'(?:"(?:[^"]++|"")*+"|[^"%b\r\n]*+)' % d
    return re.fullmatch(rb"(?:%b(?:%b|\r?\n|\r|\Z))*+" % (field, d), body) is not None
