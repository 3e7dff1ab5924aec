"""Calls of a processor for one shard or some of its rows, and how row numbers and pieces are packed for a child."""

import json
import struct
from collections.abc import Sequence
from typing import Any

from regather.children.work import Call, WorkItem
from regather.core.execution import pack_step
from regather.processors.base import Options, Piece, Processor, ShardRows, ShardView

_LENGTHS = struct.Struct("<II")  # bytes of meta and payload


def call_shard(processor: Processor[Any], call: Call, item: WorkItem, options: Options) -> object:
    """Run one call for one shard in this process. It should return bytes, but nothing forces a plug-in to."""
    view = ShardView(item.payload, item.meta, item.seq, item.attempt)
    if call is Call.STEP:
        return pack_step(*processor.step(view, item.carry, options))
    if call is Call.ROWS:
        rows = processor.rows(view, options)
        return pack_rows([rows.numbers] if rows else [])
    if call is Call.PICK:
        rows = _require_rows(processor, view, options)
        return pack_pieces([rows.pick([keep]) for keep in unpack_rows(item.rows)])
    if item.rows:
        piece = _require_rows(processor, view, options).pick(unpack_rows(item.rows))
        view = ShardView(piece.payload, piece.meta, item.seq, item.attempt)
    return processor.process(view, options)


def pack_rows(rows: Sequence[range]) -> bytes:
    """Return row numbers as JSON: pairs of the first one and the one behind the last."""
    return json.dumps([(part.start, part.stop) for part in rows]).encode()


def unpack_rows(data: bytes) -> list[range]:
    """Read what pack_rows() wrote."""
    return [range(start, stop) for start, stop in json.loads(data)]


def pack_pieces(pieces: Sequence[Piece]) -> bytes:
    """Return the pieces one after the other, each preceded by its lengths."""
    return b"".join(
        part
        for piece in pieces
        for part in (_LENGTHS.pack(len(piece.meta), len(piece.payload)), piece.meta, piece.payload)
    )


def unpack_pieces(data: bytes) -> list[Piece]:
    """Read what pack_pieces() wrote."""
    pieces, at = [], 0
    while at < len(data):
        meta_bytes, payload_bytes = _LENGTHS.unpack_from(data, at)
        at += _LENGTHS.size
        end = at + meta_bytes + payload_bytes
        pieces.append(Piece(data[at + meta_bytes : end], data[at : at + meta_bytes]))
        at = end
    return pieces


def _require_rows(processor: Processor[Any], view: ShardView, options: Options) -> ShardRows:
    rows = processor.rows(view, options)
    if rows is None:
        raise ValueError(f"shard {view.seq} has no rows")
    return rows
