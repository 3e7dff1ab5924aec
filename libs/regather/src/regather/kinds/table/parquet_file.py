"""Cutting Parquet files by rows, row group after row group, into Arrow streams; runs in a killable child.

pyarrow is imported when a file is cut, not before: the parent of the children must stay free of its threads.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from regather.core.errors import BadInput
from regather.core.sharding import DEFAULT_SHARD_BYTES, MAX_SHARD_BYTES, plan_by_count, units_per_shard
from regather.processors.base import Piece, SplitRequest
from regather.processors.splitting.row_packer import RowSpan

PARQUET_MAGIC = b"PAR1"
_BATCH_BYTES = 4 * 1024 * 1024


class ParquetSplitter:
    """Whole rows in even shards, each an Arrow IPC stream. `check_columns` may refuse the names of the columns.

    BadInput for what is no Parquet, is cut off, has no rows, or has rows that fit no shard.
    """

    def __init__(self, request: SplitRequest, check_columns: Callable[[Sequence[str]], None] | None = None) -> None:
        self._request = request
        self._check_columns = check_columns

    def cut(self, path: Path) -> Iterator[Piece]:
        """See FileSplitter."""
        import pyarrow

        try:
            yield from self._cut(path)
        except (pyarrow.ArrowException, OSError) as error:
            raise BadInput(f"the Parquet file cannot be read: {error}", code="parquet-invalid") from error

    def _cut(self, path: Path) -> Iterator[Piece]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        with pq.ParquetFile(path, pre_buffer=False) as file:
            rows = file.metadata.num_rows
            if self._check_columns is not None:
                self._check_columns(file.schema_arrow.names)
            if not rows:
                raise BadInput("the file has no rows: there is nothing to cut", code="empty-body")
            row_bytes = max(1, self._plain_bytes(file) // rows)
            sizes = self._sizes(rows, row_bytes)
            batch_rows = max(1, _BATCH_BYTES // row_bytes)
            held = pa.Table.from_batches([], file.schema_arrow)
            first = 0
            for batch in file.iter_batches(batch_rows, use_threads=False):
                held = pa.concat_tables([held, pa.Table.from_batches([batch], file.schema_arrow)])
                while sizes and held.num_rows >= sizes[-1]:
                    count = sizes.pop()
                    yield _piece(held.slice(0, count), first)
                    held = held.slice(count)
                    first += count

    def _plain_bytes(self, file: Any) -> int:
        """Bytes of all columns, uncompressed; BadInput above what a body may inflate to."""
        groups = (file.metadata.row_group(number) for number in range(file.num_row_groups))
        size_bytes = sum(int(group.total_byte_size) for group in groups)
        limit = self._request.max_bytes
        if limit is not None and size_bytes > limit:
            raise BadInput(f"the file has {size_bytes} bytes of values; at most {limit}", code="inflates-too-much")
        return size_bytes

    def _sizes(self, rows: int, row_bytes: int) -> list[int]:
        """How many rows each shard has, the last one first; sizes differ by one row at most."""
        request = self._request
        if request.shards is not None:
            plan_by_count(request.shards, rows, unit_bytes=row_bytes)
            shards = request.shards
        else:
            size_bytes = DEFAULT_SHARD_BYTES if request.shard_size_bytes is None else request.shard_size_bytes
            shards = -(-rows // units_per_shard(size_bytes, row_bytes))
        return [(rows + later) // shards for later in range(shards)]


def _piece(table: Any, first: int) -> Piece:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table.combine_chunks())
    payload = sink.getvalue().to_pybytes()
    if len(payload) > MAX_SHARD_BYTES:
        raise BadInput(
            f"rows from {first} on have {len(payload)} bytes as a shard of {table.num_rows}; at most {MAX_SHARD_BYTES}: "
            "ask for a smaller shard_size",
            code="row-too-large",
        )
    return Piece(payload, RowSpan(first, table.num_rows, 0, "arrow").encode())
