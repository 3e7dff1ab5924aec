"""Rows of this package's shards, some of which can be picked. A bad row is cut out, never parsed.

Rows keep their numbers in the whole body. If a shard already has gaps, `numbers` counts without the gaps; the shard
picked from it has the true numbers (`RowSpan.picked`).
"""

from collections.abc import Sequence
from dataclasses import replace

from regather.processors.base import Piece
from regather.processors.splitting.row_grammar import Dialect, RowGrammar
from regather.processors.splitting.row_packer import RowSpan
from regather.processors.splitting.rows import ITEM_BYTES, Band


class TextRows:
    """Rows of a shard from TextRowSplitter or JsonArraySplitter. ValueError if payload and span disagree."""

    def __init__(self, payload: bytes, span: RowSpan, dialect: Dialect) -> None:
        self._payload = payload
        self._span = span
        self._ends = _row_ends(payload, span.header_bytes, dialect)
        if len(self._ends) - 1 != span.rows or self._ends[-1] != len(payload):
            raise ValueError(f"{len(self._ends) - 1} rows were found; there should be {span.rows}")

    @property
    def numbers(self) -> range:
        """Consecutive numbers, from the span's first row."""
        return range(self._span.row0, self._span.row0 + self._span.rows)

    def pick(self, keep: Sequence[range]) -> Piece:
        """Return a shard of the header and these rows."""
        row0, ends = self._span.row0, self._ends
        parts = [self._payload[ends[rows.start - row0] : ends[rows.stop - row0]] for rows in keep]
        return Piece(b"".join([self._payload[: ends[0]], *parts]), self._span.pick(keep).encode())


class BandRows:
    """Rows of a RowSplitter's shard that has no halo. ValueError if payload and band disagree."""

    def __init__(self, payload: bytes, band: Band) -> None:
        self._payload = payload
        self._band = band
        self._row_bytes = band.width * band.channels * ITEM_BYTES[band.dtype]
        if band.top or band.bottom or len(payload) != band.rows * self._row_bytes:
            raise ValueError(f"{len(payload)} bytes are not {band.rows} rows of {self._row_bytes} bytes")

    @property
    def numbers(self) -> range:
        """Numbers of the band's rows in the whole body."""
        return range(self._band.row0, self._band.row0 + self._band.rows)

    def pick(self, keep: Sequence[range]) -> Piece:
        """Return these rows as a band that begins at the first of them."""
        row0, size = self._band.row0, self._row_bytes
        parts = [self._payload[(rows.start - row0) * size : (rows.stop - row0) * size] for rows in keep]
        band = replace(self._band, row0=keep[0].start, rows=sum(map(len, keep)))
        return Piece(b"".join(parts), band.encode())


class ArrowRows:
    """Rows of a ParquetSplitter's shard, an Arrow stream."""

    def __init__(self, payload: bytes, span: RowSpan) -> None:
        import pyarrow as pa

        self._before = payload[: span.header_bytes]
        self._table = pa.ipc.open_stream(payload[span.header_bytes :]).read_all()
        self._span = span

    @property
    def numbers(self) -> range:
        """Consecutive numbers, from the span's first row."""
        return range(self._span.row0, self._span.row0 + self._span.rows)

    def pick(self, keep: Sequence[range]) -> Piece:
        """Return these rows as a new Arrow stream, after the same header bytes."""
        import pyarrow as pa

        picked = pa.concat_tables([self._table.slice(rows.start - self._span.row0, len(rows)) for rows in keep])
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, picked.schema) as stream:
            stream.write_table(picked.combine_chunks())
        return Piece(self._before + sink.getvalue().to_pybytes(), self._span.pick(keep).encode())


def _row_ends(payload: bytes, header_bytes: int, dialect: Dialect) -> list[int]:
    """Return where the header and each row end; the splitter has ended each row with an LF and dropped everything else."""
    grammar = RowGrammar(dialect._replace(comment=None, keep_empty_rows=True, blank_rows=True, cr_ends_rows=False))
    rows, _ = grammar.rows(payload[header_bytes:])
    ends = [header_bytes]
    for row in rows.mask.split(b"\n")[:-1]:
        ends.append(ends[-1] + len(row) + 1)
    return ends
