"""What the supervisor and a child say to each other: length-prefixed frames of packed fields and raw bytes, no pickle.

request  = length u64 | call u8, kind u16, options u32, memory u64, output u64, items u32 | kind | options
           | items x (seq u32, attempt u8, missing u8, meta u32, payload u32) | metas and payloads, item by item
reply    = length u64 | results u32 | results x (failed u8, reason u8, retryable u8, started_ms u64, duration_us u32,
           body u32) | bodies
"""

import struct
from collections.abc import Sequence

from regather.core.model import Reason
from regather.runtime.execution import Call, Done, Failed, NotRun, Result, Work, WorkItem, WorkLimits

LENGTH = struct.Struct(">Q")
MAX_FRAME_BYTES = 4 << 30
_REQUEST = struct.Struct(">BHIQQI")
_ITEM = struct.Struct(">IBBII")
_COUNT = struct.Struct(">I")
_RESULT = struct.Struct(">BBBQII")
_CALLS = tuple(Call)
_REASONS = tuple(Reason)
_MAX_U32 = 0xFFFF_FFFF


class FrameError(ValueError):
    """Bytes that are no frame of this protocol."""


def encode_work(work: Work) -> list[bytes]:
    """The request as buffers, so that large payloads are not copied."""
    kind = work.kind.encode()
    limits = work.limits
    head = _REQUEST.pack(
        _CALLS.index(work.call),
        len(kind),
        len(work.options),
        limits.memory_bytes or 0,
        limits.output_bytes,
        len(work.items),
    )
    table = b"".join([_ITEM.pack(i.seq, i.attempt, i.missing, len(i.meta), len(i.payload)) for i in work.items])
    parts = [head, kind, work.options, table]
    for item in work.items:
        if item.meta:
            parts.append(item.meta)
        parts.append(item.payload)
    return [LENGTH.pack(sum(map(len, parts))), *parts]


def decode_work(frame: memoryview) -> Work:
    """Read a request; FrameError if it is something else."""
    try:
        call, kind_bytes, options_bytes, memory, output, count = _REQUEST.unpack_from(frame)
        at = _REQUEST.size
        kind = bytes(frame[at : at + kind_bytes]).decode()
        at += kind_bytes
        options = bytes(frame[at : at + options_bytes])
        at += options_bytes
        table_end = at + count * _ITEM.size
        rows = list(_ITEM.iter_unpack(frame[at:table_end]))
    except (struct.error, UnicodeDecodeError) as error:
        raise FrameError(f"not a request: {error}") from error
    items, at = [], table_end
    for seq, attempt, missing, meta_bytes, payload_bytes in rows:
        payload_at = at + meta_bytes
        end = payload_at + payload_bytes
        items.append(WorkItem(seq, bytes(frame[payload_at:end]), bytes(frame[at:payload_at]), attempt, bool(missing)))
        at = end
    limits = WorkLimits(memory_bytes=memory or None, output_bytes=output)
    return Work(_CALLS[call], kind, options, items, limits)


def encode_results(results: Sequence[Result]) -> list[bytes]:
    """The reply as buffers."""
    rows, bodies = [], []
    for result in results:
        if isinstance(result, Done):
            body, failed, reason, retryable = result.output, 0, 0, 0
        elif isinstance(result, Failed):
            body, failed = result.error.encode(errors="replace"), 1
            reason, retryable = _REASONS.index(result.reason), int(result.retryable)
        else:
            raise FrameError("a child reports only what ran")
        duration_us = min(result.duration_us, _MAX_U32)
        rows.append(_RESULT.pack(failed, reason, retryable, result.started_ms, duration_us, len(body)))
        bodies.append(body)
    parts = [_COUNT.pack(len(results)), *rows, *bodies]
    return [LENGTH.pack(sum(map(len, parts))), *parts]


def decode_results(frame: bytes, expected: int, limits: WorkLimits) -> list[Result]:
    """Read a reply of `expected` results; FrameError if it is something else."""
    try:
        (count,) = _COUNT.unpack_from(frame)
        if count != expected:
            raise FrameError(f"{count} results for {expected} items")
        table_end = _COUNT.size + count * _RESULT.size
        rows = list(_RESULT.iter_unpack(frame[_COUNT.size : table_end]))
    except struct.error as error:
        raise FrameError(f"not a reply: {error}") from error
    results: list[Result] = []
    at = table_end
    for failed, reason, retryable, started_ms, duration_us, body_bytes in rows:
        body = frame[at : at + body_bytes]
        at += body_bytes
        if len(body) != body_bytes or reason >= len(_REASONS) or (not failed and body_bytes > limits.output_bytes):
            raise FrameError("a reply that does not hold what it announces")
        if failed:
            text = body.decode(errors="replace")
            results.append(Failed(_REASONS[reason], text, started_ms, duration_us, retryable=bool(retryable)))
        else:
            results.append(Done(body, started_ms, duration_us))
    return results


__all__ = ["LENGTH", "FrameError", "NotRun", "decode_results", "decode_work", "encode_results", "encode_work"]
