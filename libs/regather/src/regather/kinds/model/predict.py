"""Kind `model.predict`: runs every row of a table of numbers through an ONNX model, in order.

Theory of operation. The gateway cuts the body by rows (`formats.py`) and has no model. A child loads the model
(`onnx_model.py`, `graph.py`) and reads the shard's rows as the model's inputs (`features.py`, `signature.py`). It runs
made-up rows to find out what the outputs are and whether rows depend on each other (`examination.py`), and decides what
the result has (`outputs.py`). Then it runs the rows in batches that do not depend on the cut (`batches.py`) and writes
the answers (`results.py`). All decisions depend on the model, the options and the body's first row, never on a shard's
own rows. So all shards decide the same, in whatever child they run.
"""

from collections.abc import Sequence

from typing_extensions import override

from regather.core.errors import PermanentError
from regather.core.sharding import MAX_SHARD_BYTES
from regather.kinds.model import EXTRA
from regather.kinds.model.formats import make_splitter
from regather.kinds.model.options import PredictOptions
from regather.kinds.model.picking import rows_of
from regather.kinds.model.results import join_csv, join_npy
from regather.kinds.model.shard_meta import NumberedRows, ShardMeta
from regather.processors.base import DATA_ERRORS, FileSplitter, Processor, ShardRows, ShardView, SplitRequest, Splitter

__all__ = ["ModelPredict", "PredictOptions"]

_MEDIA_TYPES = {"npy": "application/x-npy", "csv": "text/csv", "ndjson": "application/x-ndjson"}


class ModelPredict(Processor[PredictOptions]):
    """Run every row of a table of numbers through an ONNX model."""

    options_model = PredictOptions
    certain = DATA_ERRORS
    extra = EXTRA

    @override
    def splitter(self, options: PredictOptions, request: SplitRequest) -> Splitter | FileSplitter:
        return make_splitter(options, request)

    @override
    def process(self, shard: ShardView, options: PredictOptions) -> bytes:
        from regather.kinds.model.prediction import predicted
        from regather.kinds.model.results import write_csv, write_ndjson, write_npy

        rows = predicted(shard.payload, ShardMeta.decode(shard.meta), options)
        result = {"npy": write_npy, "csv": write_csv, "ndjson": write_ndjson}[options.output](rows)
        if len(result) > MAX_SHARD_BYTES:
            raise PermanentError(
                f"the answers to {len(rows.numbers)} rows have {len(result)} bytes; a shard's may have at most "
                f"{MAX_SHARD_BYTES}: ask for a smaller shard_size, or for output=npy, which is shorter"
            )
        return result

    def rows(self, shard: ShardView, options: PredictOptions) -> ShardRows | None:
        """Return the shard's rows; None with `whole`, because then rows depend on each other and none is bad by itself."""
        return None if options.whole else NumberedRows(rows_of(shard.payload, shard.meta, options), shard.meta)

    def merges_outputs(self, options: PredictOptions) -> bool:
        """Return False for NDJSON, whose outputs are concatenated."""
        return options.output != "ndjson"

    @override
    def media_type(self, options: PredictOptions) -> str:
        return _MEDIA_TYPES[options.output]

    def merge(self, outputs: Sequence[bytes | None], options: PredictOptions) -> bytes:
        """Return one CSV or NPY file, without the rows of shards that failed for good."""
        present = [output for output in outputs if output is not None]
        return join_csv(present) if options.output == "csv" else join_npy(present)
