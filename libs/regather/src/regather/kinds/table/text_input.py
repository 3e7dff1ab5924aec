"""Finds out what text a body holds and how to cut it, by options, media type and first bytes; needs no engine."""

from collections.abc import Callable

from regather.core.errors import BadInput
from regather.kinds.table.options import ReadingOptions
from regather.processors.base import SplitRequest, Splitter
from regather.processors.splitting.inflate import Inflater, InflatingSplitter, codec_of
from regather.processors.splitting.json_array import JsonArraySplitter
from regather.processors.splitting.text_decoder import check_encoding, head_text
from regather.processors.splitting.text_rows import NDJSON, TextRowSplitter, csv_dialect

_TABS = "text/tab-separated-values"
_FORMATS = {
    "text/csv": "csv",
    _TABS: "csv",
    "application/x-ndjson": "ndjson",
    "application/jsonl": "ndjson",
}
OnHeader = Callable[[bytes], None]


def text_splitter(options: ReadingOptions, request: SplitRequest, on_header: OnHeader | None = None) -> Splitter:
    """Return a splitter of text, plain or compressed, that begins with `request.head`; it cuts whole rows.

    `on_header` gets the header of CSV, which is then not part of the shards. BadRequest or BadInput for an impossible
    cut.
    """
    codec = codec_of(request.head or b"")
    if codec is None:
        return _plain(options, request, request.head or b"", on_header)
    plain = SplitRequest(request.shard_size_bytes, request.shards, None, request.content_type)
    inflater = Inflater(codec, max_bytes=request.max_bytes)
    return InflatingSplitter(inflater, lambda head: _plain(options, plain, head, on_header))


def delimiter_of(options: ReadingOptions, request: SplitRequest) -> str:
    """Return the delimiter; the media type of tab-separated values implies it if the option is not set."""
    tabs = request.content_type.lower().startswith(_TABS) and "delimiter" not in options.model_fields_set
    return "\t" if tabs else options.delimiter


def _plain(options: ReadingOptions, request: SplitRequest, head: bytes, on_header: OnHeader | None) -> Splitter:
    table_format = _format(options, request, head)
    if table_format == "ndjson":
        return TextRowSplitter(request, NDJSON._replace(encoding=check_encoding(options.encoding)))
    if table_format == "json":
        return JsonArraySplitter(request, check_encoding(options.encoding))
    dialect = csv_dialect(
        delimiter_of(options, request),
        quote=options.quote or None,
        comment=options.comment or None,
        header=options.header,
        repeat_header=False,
        skip_rows=options.skip_rows,
        encoding=check_encoding(options.encoding),
    )
    return TextRowSplitter(request, dialect, on_header)


def _format(options: ReadingOptions, request: SplitRequest, head: bytes) -> str:
    if options.format == "parquet":
        raise BadInput("the body is not a Parquet file, which begins with PAR1", code="parquet-invalid")
    if options.format != "auto":
        return options.format
    media_type = request.content_type.split(";")[0].strip().lower()
    if media_type in _FORMATS:
        return _FORMATS[media_type]
    text = head_text(head, check_encoding(options.encoding)).lstrip(" \t\r\n")
    return {"[": "json", "{": "ndjson"}.get(text[:1], "csv")
