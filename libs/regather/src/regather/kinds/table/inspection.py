"""Makes the plan of a text body from its first rows; runs in a child."""

from regather.core.errors import BadInput
from regather.kinds.table.engine import Engine
from regather.kinds.table.options import ReadingOptions
from regather.kinds.table.plan import Plan
from regather.kinds.table.reading import Dialect
from regather.kinds.table.sampling import sampled_csv, sampled_ndjson
from regather.kinds.table.text_input import delimiter_of, text_splitter
from regather.processors.base import SplitRequest
from regather.processors.splitting.row_packer import RowSpan

_SAMPLE_SHARD_BYTES = 16 * 1024


def plan_of(engine: Engine, head: bytes, options: ReadingOptions, request: SplitRequest, *, whole: bool) -> Plan:
    """Return the plan of a body that begins with `head`; `whole`: nothing follows the head.

    The head goes through the same splitter that will cut the body, so both find the same rows.
    """
    headers: list[bytes] = []
    sample = SplitRequest(_SAMPLE_SHARD_BYTES, content_type=request.content_type, head=request.head)
    splitter = text_splitter(options, sample, headers.append)
    pieces = [*splitter.feed(head), *(splitter.finish() if whole else ())]
    if not pieces:
        why = f"the first row is longer than {len(head)} bytes, so no types can be sampled"
        raise BadInput(why, code="row-too-large")
    spans = [RowSpan.decode(piece.meta) for piece in pieces]
    rows = b"".join(piece.payload[span.header_bytes :] for piece, span in zip(pieces, spans, strict=True))
    if spans[0].format == "ndjson":
        return sampled_ndjson(engine, rows, options, whole=whole)
    dialect = Dialect(delimiter_of(options, request), options.quote, options.nulls or ("",), options.decimal)
    return sampled_csv(engine, b"".join(headers), rows, dialect, options, whole=whole)
