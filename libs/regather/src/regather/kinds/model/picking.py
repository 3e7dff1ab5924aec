"""A shard's rows, so that some can be picked; their values are not interpreted."""

import json
from collections.abc import Iterable

from regather.kinds.model.options import PredictOptions
from regather.kinds.model.shard_meta import delimiter_of
from regather.processors.base import ShardRows
from regather.processors.splitting.row_packer import RowSpan
from regather.processors.splitting.rows import Band
from regather.processors.splitting.shard_rows import ArrowRows, BandRows, TextRows
from regather.processors.splitting.text_rows import NDJSON, csv_dialect


def rows_of(payload: bytes, meta: bytes, options: PredictOptions) -> ShardRows:
    """Return a shard's rows, without interpreting their values. ValueError if payload and meta disagree."""
    if "format" not in json.loads(meta):
        return BandRows(payload, Band.decode(_splitters_word(meta, Band.__slots__)))
    span = RowSpan.decode(_splitters_word(meta, RowSpan.__slots__))
    if span.format == "arrow":
        return ArrowRows(payload, span)
    return TextRows(payload, span, NDJSON if span.format == "ndjson" else csv_dialect(delimiter_of(span, options)))


def _splitters_word(meta: bytes, fields: Iterable[str]) -> bytes:
    found = json.loads(meta)
    return json.dumps({name: found[name] for name in fields if name in found}).encode()
