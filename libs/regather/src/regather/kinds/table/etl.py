"""Kind `table.etl`: extract, transform and load a table, cut by rows.

Input: CSV (RFC 4180), NDJSON or one JSON array, plain or as a gzip or Zstandard file, or Parquet. Every row passes cast,
derive and filter; then either the rows come out in their order (`select`, `output`), or groups with their aggregates in
the order of their first rows. The sharded answer equals the unsharded one byte for byte, sums of floats included.

CSV's columns are texts until they are cast; an empty cell that is cast is null. A row that is none (ragged, no JSON, a
value that does not cast) fails its shard, which names the row, counted from 0 without the header.
"""

import json
from collections.abc import Iterator, Sequence
from functools import partial

from regather.core.errors import BadInput, PermanentError
from regather.kinds.table import EXTRA
from regather.kinds.table.expressions import Expression, parse
from regather.kinds.table.groups import Groups
from regather.kinds.table.options import TableOptions, parse_aggregate
from regather.kinds.table.parquet_file import PARQUET_MAGIC, ParquetSplitter
from regather.kinds.table.rows import (
    TSV,
    Row,
    delimiter_of,
    header_names,
    join_csv,
    read_rows,
    write_csv,
    write_ndjson,
)
from regather.processors.base import DATA_ERRORS, FileSplitter, Processor, ShardRows, ShardView, SplitRequest, Splitter
from regather.processors.splitting.inflate import Inflater, InflatingSplitter, codec_of
from regather.processors.splitting.json_array import JsonArraySplitter
from regather.processors.splitting.row_packer import RowSpan
from regather.processors.splitting.shard_rows import ArrowRows, TextRows
from regather.processors.splitting.text_rows import NDJSON, TextRowSplitter, csv_dialect

_TABS = "text/tab-separated-values"
_FORMATS = {
    "text/csv": "csv",
    _TABS: "csv",
    "application/x-ndjson": "ndjson",
    "application/jsonl": "ndjson",
}
_WHITE_SPACE_AND_BOM = b"\xef\xbb\xbf \t\r\n"


class TableEtl(Processor[TableOptions]):
    """Filter, cast, derive, group and aggregate the rows of CSV, NDJSON or a JSON array; or rows out in order."""

    options_model = TableOptions
    certain = DATA_ERRORS
    extra = EXTRA
    result_examples = ({"aggregate": "n = count()"},)

    def splitter(self, options: TableOptions, request: SplitRequest) -> Splitter | FileSplitter:
        """See Processor."""
        head = request.head or b""
        if options.format == "parquet" or (options.format == "auto" and head.startswith(PARQUET_MAGIC)):
            return ParquetSplitter(request, partial(_check_columns, options=options))
        codec = codec_of(head)
        if codec is None:
            return _plain_splitter(options, request, head)
        plain = SplitRequest(request.shard_size_bytes, request.shards, None, request.content_type)
        inflater = Inflater(codec, max_bytes=request.max_bytes)
        return InflatingSplitter(inflater, partial(_plain_splitter, options, plain))

    def process(self, shard: ShardView, options: TableOptions) -> bytes:
        """See Processor."""
        try:
            span = RowSpan.decode(shard.meta)
        except (ValueError, TypeError) as error:
            raise PermanentError(f"shard {shard.seq} is no part of a table: {error}") from error
        rows = _transformed(read_rows(shard.payload, span, options), options)
        if options.groups:
            return json.dumps(_grouped(rows, options).state()).encode()
        if options.output == "csv":
            return write_csv(rows, _csv_names(shard.payload, span, options))
        return write_ndjson(_selected(rows, options))

    def rows(self, shard: ShardView, options: TableOptions) -> ShardRows:
        """See Processor."""
        span = RowSpan.decode(shard.meta)
        if span.format == "arrow":
            return ArrowRows(shard.payload, span)
        dialect = NDJSON if span.format == NDJSON.format else csv_dialect(delimiter_of(span, options))
        return TextRows(shard.payload, span, dialect)

    def merges_outputs(self, options: TableOptions) -> bool:
        """Groups are merged, and CSV has its header once; NDJSON is joined as it is."""
        return options.groups or options.output == "csv"

    def media_type(self, options: TableOptions) -> str:
        """See Processor."""
        if options.groups:
            return "application/json"
        return "text/csv" if options.output == "csv" else "application/x-ndjson"

    def merge(self, outputs: Sequence[bytes | None], options: TableOptions) -> bytes:
        """See Processor."""
        present = [output for output in outputs if output is not None]
        return _merged_groups(present, options) if options.groups else join_csv(present)


def _check_columns(names: Sequence[str], options: TableOptions) -> None:
    missing = sorted(options.columns_read() - set(names))
    if missing:
        shown = ", ".join(names[:20])
        raise BadInput(f"there is no column {', '.join(map(repr, missing))}; there are {shown}", code="no-column")


def _plain_splitter(options: TableOptions, request: SplitRequest, head: bytes) -> Splitter:
    table_format = _format(options, request, head)
    if table_format == "ndjson":
        return TextRowSplitter(request, NDJSON)
    if table_format == "json":
        return JsonArraySplitter(request)
    tabs = request.content_type.lower().startswith(_TABS) and "delimiter" not in options.model_fields_set
    delimiter = "\t" if tabs else options.delimiter
    dialect = csv_dialect(delimiter, header=options.header)._replace(format=TSV if tabs else "csv")
    return TextRowSplitter(request, dialect, partial(_check_header, delimiter=delimiter, options=options))


def _format(options: TableOptions, request: SplitRequest, head: bytes) -> str:
    if options.format != "auto":
        return options.format
    media_type = request.content_type.split(";")[0].strip().lower()
    if media_type in _FORMATS:
        return _FORMATS[media_type]
    text = head.lstrip(_WHITE_SPACE_AND_BOM)
    return {b"[": "json", b"{": "ndjson"}.get(text[:1], "csv")


def _check_header(header: bytes, delimiter: str, options: TableOptions) -> None:
    try:
        names = header_names(header.decode(), delimiter)
    except ValueError as error:
        raise BadInput(f"the first row is no header: {error}", code="bad-header") from error
    _check_columns(names, options)


def _transformed(rows: Iterator[tuple[int, Row]], options: TableOptions) -> Iterator[tuple[int, Row]]:
    derived = [(name, parse(text)) for name, text in options.derive.items()]
    condition = parse(options.filter) if options.filter else None
    for number, row in rows:
        for name, expression in derived:
            row[name] = _value(expression, row, number, f"derive {name}")
        if condition is None or _value(condition, row, number, "filter"):
            yield number, row


def _value(expression: Expression, row: Row, number: int, what: str) -> object:
    try:
        return expression.evaluate(row)
    except (ValueError, TypeError, ArithmeticError, AttributeError) as error:
        raise PermanentError(f"row {number}: {what} = {expression.text}: {type(error).__name__}: {error}") from error


def _grouped(rows: Iterator[tuple[int, Row]], options: TableOptions) -> Groups:
    parsed = [parse_aggregate(text) for text in options.aggregate.values()]
    groups = Groups([function for function, _ in parsed])
    arguments = [argument for _, argument in parsed]
    names = options.group_by
    for number, row in rows:
        aggregates = groups.of(tuple([row.get(name) for name in names]))
        for aggregate, argument in zip(aggregates, arguments, strict=True):
            value = True if argument is None else _value(argument, row, number, "aggregate")
            if value is None:
                continue
            try:
                aggregate.add(value)
            except TypeError as error:
                raise PermanentError(f"row {number}: aggregate: {error}") from error
    return groups


def _merged_groups(outputs: Sequence[bytes], options: TableOptions) -> bytes:
    groups = Groups([parse_aggregate(text)[0] for text in options.aggregate.values()])
    for output in outputs:
        groups.merge(json.loads(output))
    names = [*options.group_by, *options.aggregate]
    rows = [dict(zip(names, [*key, *figures], strict=True)) for key, figures in groups.results()]
    return json.dumps({"groups": rows}, ensure_ascii=False, allow_nan=False).encode()


def _selected(rows: Iterator[tuple[int, Row]], options: TableOptions) -> Iterator[tuple[int, Row]]:
    if not options.select:
        return rows
    return ((number, {name: row.get(name) for name in options.select}) for number, row in rows)


def _csv_names(payload: bytes, span: RowSpan, options: TableOptions) -> list[str]:
    if options.select:
        return list(options.select)
    if not span.header_bytes:
        raise PermanentError("output=csv needs select where the input has no header")
    names = header_names(payload[: span.header_bytes].decode(), delimiter_of(span, options))
    return [*names, *(name for name in options.derive if name not in names)]
