"""Kind `model.predict`: every row of a table of numbers through an ONNX classifier, in order.

Input: an NPY array (rows, features), raw rows (option `features`) or CSV of numbers. Output: NDJSON with the likeliest
class and its probability for each row, or an NPY array of float32 with the probabilities of all classes. The sharded
answer equals the unsharded one within 1e-6: a model adds up floats in an order that depends on the batch.
"""

import csv
import io
import json
import struct
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from regather.core.errors import BadInput, BadRequest, PermanentError
from regather.kinds.model import EXTRA
from regather.processors.base import (
    DATA_ERRORS,
    FileSplitter,
    Options,
    Processor,
    ShardRows,
    ShardView,
    SplitRequest,
    Splitter,
)
from regather.processors.splitting.npy import MAGIC, npy_splitter, refuse_other_arrays
from regather.processors.splitting.row_packer import RowSpan
from regather.processors.splitting.rows import Band, RowLayout, RowSplitter, raw_layout
from regather.processors.splitting.shard_rows import BandRows, TextRows
from regather.processors.splitting.text_rows import TextRowSplitter, csv_dialect

_COUNT = struct.Struct("<II")  # rows, classes
_CSV_TYPES = frozenset({"text/csv"})
_BATCH_ROWS = 4096


class PredictOptions(Options):
    """The model and the shape of the rows."""

    model: str = Field(default="digits", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the model")
    model_sha256: str = Field(
        default="", pattern=r"^([0-9a-fA-F]{64})?$", description="the model's digest; another one fails the job"
    )
    format: Literal["auto", "npy", "raw", "csv"] = Field(
        default="auto", description="of the input; auto looks at content type and first bytes, then takes raw"
    )
    features: int | None = Field(default=None, ge=1, le=1_000_000, description="values in a raw row")
    dtype: Literal["float32", "float64", "uint8", "int8", "uint16", "int16", "int32", "int64"] = Field(
        default="float32", description="type of a raw value, little-endian"
    )
    header: bool = Field(default=True, description="CSV's first row has names and is no data")
    output: Literal["ndjson", "npy"] = Field(
        default="ndjson", description="class and probability of each row, or the probabilities of all classes"
    )


class ModelPredict(Processor[PredictOptions]):
    """Run every row of a table of numbers through an ONNX classifier."""

    options_model = PredictOptions
    certain = DATA_ERRORS
    extra = EXTRA

    def splitter(self, options: PredictOptions, request: SplitRequest) -> Splitter | FileSplitter:
        """See Processor."""
        head = request.head or b""
        chosen = options.format
        if chosen == "auto":
            refuse_other_arrays(head)
            media_type = request.content_type.split(";")[0].strip().lower()
            chosen = "npy" if head.startswith(MAGIC) else "csv" if media_type in _CSV_TYPES else "raw"
        if chosen == "npy" or (request.head is None and options.features is None and chosen == "raw"):
            return npy_splitter(request, check=_check_table, empty=True)
        if chosen == "csv":
            return TextRowSplitter(request, csv_dialect(header=options.header))
        if options.features is None:
            raise BadRequest("raw rows need the option 'features' (and dtype, if it is not float32)")
        layout = RowLayout(options.features, 1, options.dtype)
        return RowSplitter(raw_layout(layout, request), request)

    def process(self, shard: ShardView, options: PredictOptions) -> bytes:
        """See Processor."""
        import numpy as np

        from regather.kinds.model.onnx_model import load_model

        model = load_model(options.model, options.model_sha256)
        rows = np.ascontiguousarray(_rows_of(shard), np.float32)
        parts = [model.probabilities(rows[at : at + _BATCH_ROWS]) for at in range(0, len(rows), _BATCH_ROWS)]
        probabilities = np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)
        if options.output == "npy":
            return _COUNT.pack(*probabilities.shape) + probabilities.astype("<f4").tobytes()
        if not parts:
            return b""
        labels, best = probabilities.argmax(axis=1), probabilities.max(axis=1, initial=0)
        lines = [f'{{"class":{label},"p":{p:.7g}}}\n' for label, p in zip(labels.tolist(), best.tolist(), strict=True)]
        return "".join(lines).encode()

    def rows(self, shard: ShardView, options: PredictOptions) -> ShardRows:
        """See Processor."""
        if "format" in json.loads(shard.meta):
            return TextRows(shard.payload, RowSpan.decode(shard.meta), csv_dialect())
        return BandRows(shard.payload, Band.decode(shard.meta))

    def merges_outputs(self, options: PredictOptions) -> bool:
        """See Processor."""
        return options.output == "npy"

    def media_type(self, options: PredictOptions) -> str:
        """See Processor."""
        return "application/x-npy" if options.output == "npy" else "application/x-ndjson"

    def merge(self, outputs: Sequence[bytes | None], options: PredictOptions) -> bytes:
        """Return one NPY array. The rows of a shard that failed for good are left out."""
        present = [output for output in outputs if output is not None]
        shapes = [_COUNT.unpack_from(output) for output in present]
        classes = max((width for _, width in shapes), default=0)
        header = _npy_header(sum(rows for rows, _ in shapes), classes)
        return header + b"".join(output[_COUNT.size :] for output in present)


def _check_table(layout: RowLayout) -> None:
    if layout.channels != 1:
        raise BadInput(f"the array has rows of {layout.width} x {layout.channels} values; it must be (rows, features)")


def _rows_of(shard: ShardView) -> object:
    import numpy as np

    try:
        meta = json.loads(shard.meta)
        if "format" in meta:
            return _csv_rows(shard.payload, RowSpan(**meta))
        band = Band(**meta)
        values = np.frombuffer(shard.payload, np.dtype(band.dtype).newbyteorder("<"))
        return values.reshape(band.rows, band.width * band.channels)
    except (ValueError, TypeError, KeyError) as error:
        raise PermanentError(f"shard {shard.seq} holds no rows of numbers: {error}") from error


def _csv_rows(payload: bytes, span: RowSpan) -> list[list[float]]:
    text = payload[span.header_bytes :].decode()
    rows: list[list[float]] = []
    for index, fields in enumerate(csv.reader(io.StringIO(text, newline=""))):
        try:
            rows.append([float(field) for field in fields])
        except ValueError as error:
            raise PermanentError(f"row {span.row0 + index}: {error}") from error
        if len(rows[-1]) != len(rows[0]):
            found, first = len(rows[-1]), len(rows[0])
            raise PermanentError(f"row {span.row0 + index} has {found} values; row {span.row0} has {first}")
    return rows


def _npy_header(rows: int, classes: int) -> bytes:
    """Version 1.0 of the format (NumPy Enhancement Proposal 1), padded to a multiple of 64 bytes."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {classes}), }}"
    padding = -(len(MAGIC) + 4 + len(text) + 1) % 64
    return MAGIC + b"\x01\x00" + struct.pack("<H", len(text) + padding + 1) + text.encode() + b" " * padding + b"\n"
