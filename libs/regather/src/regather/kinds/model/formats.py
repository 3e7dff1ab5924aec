"""Detects the format of a body of rows, and makes its splitter. Runs in the gateway: no engine is loaded."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from regather.core.errors import BadInput, BadRequest
from regather.core.sharding import DEFAULT_SHARD_BYTES, MAX_SHARD_BYTES, MIN_SHARD_BYTES
from regather.kinds.model.options import PredictOptions
from regather.kinds.model.parquet_rows import PARQUET_MAGIC, ParquetRows
from regather.kinds.model.shard_meta import TSV, FirstRow, list_widths, with_first_row
from regather.processors.base import FileSplitter, Piece, SplitRequest, Splitter
from regather.processors.splitting.inflate import Inflater, InflatingSplitter, codec_of
from regather.processors.splitting.json_array import JsonArraySplitter
from regather.processors.splitting.npy import MAGIC, NpySplitter, npy_splitter, parse_header, refuse_other_arrays
from regather.processors.splitting.rows import RowLayout, RowSplitter, raw_layout
from regather.processors.splitting.text_decoder import head_text
from regather.processors.splitting.text_rows import NDJSON, Dialect, TextRowSplitter, csv_dialect

_MOST_ROWS = 65_536  # so each row may have a line of 160 bytes in the output
_TABS = "text/tab-separated-values"
_MEDIA_TYPES = {
    "text/csv": "csv",
    _TABS: "csv",
    "application/x-ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "application/json": "json",
}
_Cut = Callable[[SplitRequest], Splitter | FileSplitter]


def make_splitter(options: PredictOptions, request: SplitRequest) -> Splitter | FileSplitter:
    """Return the splitter for a body; BadRequest if its format is unknown or the requested cut is impossible."""
    cut = partial(_splitter, options)
    return _in_one_shard(request, cut) if options.whole else cut(request)


def _splitter(options: PredictOptions, request: SplitRequest) -> Splitter | FileSplitter:
    head = request.head or b""
    if options.format == "parquet" or (options.format == "auto" and head.startswith(PARQUET_MAGIC)):
        return ParquetRows(request)
    codec = codec_of(head)
    if codec is None or _is_raw(options):
        return _plain_splitter(options, request, request.head)
    plain = replace(request, size_bytes=None)
    return InflatingSplitter(Inflater(codec, max_bytes=request.max_bytes), partial(_text_splitter, options, plain))


def _text_splitter(options: PredictOptions, request: SplitRequest, head: bytes) -> Splitter:
    splitter = _plain_splitter(options, request, head)
    if isinstance(splitter, FileSplitter):
        raise BadInput("a compressed array in this order cannot be cut; send the NPY file itself")
    return splitter


def _plain_splitter(options: PredictOptions, request: SplitRequest, head: bytes | None) -> Splitter | FileSplitter:
    if options.format != "raw":
        refuse_other_arrays(head or b"", way_out="format=raw if these are raw rows that only look like one")
    chosen = _format(options, request.content_type, head)
    if chosen == "npy":
        header = parse_header(head) if head else None
        if header is not None and header.fortran:
            return npy_splitter(_with_fewer_rows(request, header.layout), check=_check_table)
        return _NpyRows(request)
    if chosen == "raw":
        if options.features is None:
            raise BadRequest("raw rows need the option 'features' (and dtype, if it is not float32)")
        layout = raw_layout(RowLayout(options.features, 1, options.dtype), request)
        return RowSplitter(layout, _with_fewer_rows(request, layout))
    if chosen == "csv":
        return _csv_splitter(options, request)
    inner = TextRowSplitter(request, NDJSON) if chosen == "ndjson" else JsonArraySplitter(request)
    return _FirstRow(inner, _json_row)


def _is_raw(options: PredictOptions) -> bool:
    return options.format == "raw" or (options.format == "auto" and options.features is not None)


def _format(options: PredictOptions, content_type: str, head: bytes | None) -> str:
    if options.format != "auto":
        return options.format
    if head is None and options.features is None:
        return "npy"  # no byte has arrived yet: any format may come, and this one's splitter refuses no request
    if (head or b"").startswith(MAGIC):
        return "npy"
    media_type = content_type.split(";", maxsplit=1)[0].strip().lower()
    if media_type in _MEDIA_TYPES or options.features is not None:
        return _MEDIA_TYPES.get(media_type, "raw")
    chosen = {"[": "json", "{": "ndjson"}.get(head_text(head or b"").lstrip(" \t\r\n")[:1])
    if chosen is None:
        raise BadRequest(
            "the format of the rows is unknown: send a content type (text/csv, application/x-ndjson), set "
            "option.format, or, for raw rows, set the option 'features' (and dtype, if it is not float32)"
        )
    return chosen


def _csv_splitter(options: PredictOptions, request: SplitRequest) -> Splitter:
    tabs = request.content_type.lower().startswith(_TABS) and "delimiter" not in options.model_fields_set
    delimiter = "\t" if tabs else options.delimiter
    dialect: Dialect = csv_dialect(delimiter, header=options.header)._replace(format=TSV if tabs else "csv")
    if options.header:
        return TextRowSplitter(request, dialect, partial(_check_header, options=options, delimiter=delimiter))
    return _FirstRow(TextRowSplitter(request, dialect), partial(_csv_row, delimiter=delimiter))


def header_names(header: bytes, delimiter: str) -> list[str]:
    """Return the names in a CSV header; BadInput if it is not valid."""
    try:
        rows = list(csv.reader(io.StringIO(header.decode(), newline=""), delimiter=delimiter))
    except (csv.Error, ValueError) as error:
        raise BadInput("the first row is not a CSV header in UTF-8", code="bad-header") from error
    if len(rows) > 1:
        raise BadInput(
            "the header has a line end inside (a lone carriage return?); end each row with LF or CRLF",
            code="bad-header",
        )
    return rows[0] if rows else []


def _check_header(header: bytes, options: PredictOptions, delimiter: str) -> None:
    names = header_names(header, delimiter)
    if "header" not in options.model_fields_set and _is_data(names):
        raise BadInput(
            "the first row has numbers and no names: set header=false if it is data, header=true if it is not",
            code="bad-header",
        )
    asked = [*options.columns, *(name for columns in options.inputs.values() for name in columns)]
    for name in [*asked, *([options.id] if options.id else [])]:
        if names.count(name) != 1:
            what = "there is no column" if name not in names else f"{names.count(name)} columns are named"
            raise BadInput(f"{what} {name!r}; there are {', '.join(names[:20])}", code="no-column")


def _is_data(names: list[str]) -> bool:
    """Whether a header looks like a row of numbers; pandas names columns without names 0, 1, 2, ..., so these do not."""
    named = [name for name in names if name.strip()]
    try:
        numbers = [float(name) for name in named]
    except ValueError:
        return False
    return bool(numbers) and named != [str(index) for index in range(len(named))]


def _check_table(layout: RowLayout) -> None:
    if layout.channels != 1:
        raise BadInput(f"the array has rows of {layout.width} x {layout.channels} values; it must be (rows, features)")


def _json_row(payload: bytes) -> FirstRow | None:
    """Return the keys of the first object, or the length of the first array; None if no line is one."""
    for line in io.BytesIO(payload):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            return FirstRow(names=list(row), lists=list_widths(row))
        if isinstance(row, list):
            named = {f"c{index}": value for index, value in enumerate(row)}
            return FirstRow(width=len(row), lists=list_widths(named))
    return None


def _csv_row(payload: bytes, delimiter: str) -> FirstRow | None:
    """Return how many fields the first row that is not blank has."""
    text = io.TextIOWrapper(io.BytesIO(payload), "utf-8", newline="", errors="replace")
    try:
        return next((FirstRow(width=len(fields)) for fields in csv.reader(text, delimiter=delimiter) if fields), None)
    except csv.Error:
        return None


def _with_fewer_rows(request: SplitRequest, layout: RowLayout) -> SplitRequest:
    """Make smaller shards for short rows, unless a size was requested: a line of the result is longer than such a row."""
    if request.shards is not None or request.shard_size_bytes is not None:
        return request
    size_bytes = min(DEFAULT_SHARD_BYTES, max(MIN_SHARD_BYTES, _MOST_ROWS * layout.row_bytes))
    return replace(request, shard_size_bytes=size_bytes)


class _NpyRows:
    """Creates an NpySplitter as soon as the header has arrived, which says how long a row is."""

    def __init__(self, request: SplitRequest) -> None:
        self._request = request
        self._head = bytearray()
        self._inner: NpySplitter | None = None
        NpySplitter(request)  # may refuse the request

    def feed(self, data: bytes) -> Iterable[Piece]:
        """Parse the header, then cut rows; return the pieces that are now complete."""
        if self._inner is not None:
            return self._inner.feed(data)
        self._head += data
        header = parse_header(self._head)
        if header is None:
            return ()
        self._inner = NpySplitter(_with_fewer_rows(self._request, header.layout), check=_check_table, empty=True)
        return self._inner.feed(bytes(self._head))

    def finish(self) -> Iterable[Piece]:
        """Return the last pieces."""
        if self._inner is None:
            raise BadInput(f"the body ends at byte {len(self._head)}, inside the NPY header")
        return self._inner.finish()


class _FirstRow:
    """Adds a description of the body's first good row to every shard, so that all shards read their rows in one way."""

    def __init__(self, inner: Splitter, look: Callable[[bytes], FirstRow | None]) -> None:
        self._inner = inner
        self._look = look
        self._told: FirstRow | None = None

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Cut the next bytes; return the pieces that are now complete."""
        return map(self._tell, self._inner.feed(data))

    def finish(self) -> Iterator[Piece]:
        """Return the last pieces."""
        return map(self._tell, self._inner.finish())

    def _tell(self, piece: Piece) -> Piece:
        if self._told is None:
            self._told = self._look(piece.payload)
        return with_first_row(piece, self._told or FirstRow())


def _in_one_shard(request: SplitRequest, cut: _Cut) -> Splitter | FileSplitter:
    if request.shards not in (None, 1):
        raise BadRequest(f"whole=true makes one shard, not {request.shards}", code="bad-split")
    inner = cut(replace(request, shard_size_bytes=MAX_SHARD_BYTES, shards=None))
    return _OneShardOfFile(inner) if isinstance(inner, FileSplitter) else _OneShard(inner)


def _only(pieces: list[Piece]) -> list[Piece]:
    if len(pieces) > 1:
        raise BadInput(
            f"whole=true runs all rows as one shard, but they do not fit one: it has at most {MAX_SHARD_BYTES} bytes",
            code="bad-split",
        )
    return pieces


class _OneShard:
    """Passes one shard on; BadInput as soon as there is a second one."""

    def __init__(self, inner: Splitter) -> None:
        self._inner = inner
        self._held: list[Piece] = []

    def feed(self, data: bytes) -> Iterable[Piece]:
        """Cut the next bytes; hold the piece back until the end."""
        self._held = _only([*self._held, *self._inner.feed(data)])
        return ()

    def finish(self) -> Iterable[Piece]:
        """Return the one piece."""
        return _only([*self._held, *self._inner.finish()])


class _OneShardOfFile:
    """Does the same for a body that is cut as a file."""

    def __init__(self, inner: FileSplitter) -> None:
        self._inner = inner

    def cut(self, path: Path) -> Iterator[Piece]:
        """Yield the one piece of the file."""
        pieces: list[Piece] = []
        for piece in self._inner.cut(path):
            pieces = _only([*pieces, piece])
        yield from pieces
