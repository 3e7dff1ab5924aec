"""Regather: scatter one heavy job over Kafka, process its shards in killable children, regather one ordered result.

What a plug-in needs is here; every other module may change with any version. `regather.testing` has what its tests need.
"""

from regather.core.errors import BadInput, BadRequest, PermanentError, RegatherError
from regather.processors.base import (
    FileSplitter,
    Options,
    Piece,
    Processor,
    ShardView,
    Side,
    SplitRequest,
    Splitter,
)
from regather.processors.splitting.bytes import ByteSplitter
from regather.processors.splitting.text_rows import LINES, NDJSON, TextRowSplitter, csv_dialect

__version__ = "0.1.0"
__all__ = [
    "LINES",
    "NDJSON",
    "BadInput",
    "BadRequest",
    "ByteSplitter",
    "FileSplitter",
    "Options",
    "PermanentError",
    "Piece",
    "Processor",
    "RegatherError",
    "ShardView",
    "Side",
    "SplitRequest",
    "Splitter",
    "TextRowSplitter",
    "__version__",
    "csv_dialect",
]
