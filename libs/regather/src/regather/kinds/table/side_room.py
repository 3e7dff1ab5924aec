"""How large a side table may be, and how much room it leaves for rows; needs no engine."""

from dataclasses import replace

from regather.core.errors import BadRequest
from regather.core.sharding import MAX_SHARD_BYTES
from regather.processors.base import SplitRequest

SIDE_BYTES = 8 * 1024 * 1024
"""Maximum size of the file, and of what it inflates to."""

SIDE_ROWS = SIDE_BYTES // 2
"""Maximum number of rows in Parquet; no text of SIDE_BYTES has more."""

PARQUET_BYTES = 8 * SIDE_BYTES
"""Maximum size of Parquet's values in Arrow's memory, which equals that of one-digit numbers in a CSV of SIDE_BYTES."""

MIN_ROWS_BYTES = 1024 * 1024
MIN_COPIES_BYTES = 64 * 1024 * 1024
"""All copies of a side table together may take this much, however small the body is."""

MAX_SHARE = 8
"""The side table before a shard's rows is at most this many times as large as the requested size of the rows."""


def fitted(request: SplitRequest, packed_bytes: int, default_bytes: int) -> SplitRequest:
    """Return the request for rows that follow this many bytes; BadRequest if the copies would outweigh the rows.

    If the client asks for no size, a shard has as many bytes of rows as of the side table, if there is room.
    """
    room_bytes = MAX_SHARD_BYTES - packed_bytes
    if request.shards is not None:
        _check_copies(request.shards, packed_bytes, request.size_bytes or 0)
        return request
    if request.shard_size_bytes is None:
        return replace(request, shard_size_bytes=min(room_bytes, max(default_bytes, packed_bytes)))
    if packed_bytes > MAX_SHARE * request.shard_size_bytes:
        least = -(-packed_bytes // MAX_SHARE)
        raise BadRequest(
            f"the side table takes {packed_bytes} bytes in front of each shard's rows, more than {MAX_SHARE} times "
            f"shard_size={request.shard_size_bytes}; ask for at least {least}, or leave it out",
            code="bad-split",
        )
    return replace(request, shard_size_bytes=min(request.shard_size_bytes, room_bytes))


def _check_copies(shards: int, packed_bytes: int, body_bytes: int) -> None:
    most_bytes = max(MIN_COPIES_BYTES, MAX_SHARE * body_bytes)
    if shards * packed_bytes > most_bytes:
        raise BadRequest(
            f"shards={shards}: the side table takes {packed_bytes} bytes in front of each shard's rows, together more than "
            f"{most_bytes}; ask for at most {max(1, most_bytes // packed_bytes)}",
            code="bad-split",
        )
