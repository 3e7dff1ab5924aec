"""Kafka's framing, as far as a proxy needs it: the length of a frame, its request, and the reply that belongs to it."""

import asyncio
import struct
from dataclasses import dataclass

API_KEYS = {
    "Produce": 0, "Fetch": 1, "ListOffsets": 2, "Metadata": 3, "OffsetCommit": 8, "OffsetFetch": 9,
    "FindCoordinator": 10, "JoinGroup": 11, "Heartbeat": 12, "LeaveGroup": 13, "SyncGroup": 14, "DescribeGroups": 15,
    "ListGroups": 16, "SaslHandshake": 17, "ApiVersions": 18, "CreateTopics": 19, "DeleteTopics": 20,
    "DeleteRecords": 21, "InitProducerId": 22, "OffsetForLeaderEpoch": 23, "AddPartitionsToTxn": 24,
    "AddOffsetsToTxn": 25, "EndTxn": 26, "TxnOffsetCommit": 28, "DescribeConfigs": 32, "AlterConfigs": 33,
    "SaslAuthenticate": 36, "CreatePartitions": 37, "DeleteGroups": 42,
}  # fmt: skip
"""API keys by the names of Kafka's protocol guide."""

_NAMES = {key: name for name, key in API_KEYS.items()}
_LENGTH = struct.Struct(">i")
_REQUEST = struct.Struct(">hhih")  # api key, its version, correlation id, length of the client id
_REPLY = struct.Struct(">i")  # correlation id
_PIECE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """The header of a request; it also identifies the reply to this request."""

    api: str
    version: int
    correlation_id: int
    client_id: str


class Frame:
    """One frame in transit: its head has been read, the rest is still in the stream."""

    __slots__ = ("_left_bytes", "_reader", "_whole", "head", "size_bytes")

    def __init__(self, head: bytes, rest_bytes: int, reader: asyncio.StreamReader) -> None:
        self.head = head
        self.size_bytes = len(head) + rest_bytes
        self._left_bytes = rest_bytes
        self._reader = reader
        self._whole: bytearray | None = None

    async def load(self) -> bytearray:
        """Read the rest and return the whole frame; forward() sends it with the caller's changes."""
        if self._whole is None:
            self._whole = bytearray(self.head) + await self._reader.readexactly(self._left_bytes)
            self._left_bytes = 0
        return self._whole

    async def forward(self, writer: asyncio.StreamWriter) -> None:
        """Forward the frame, a large one in pieces as they arrive."""
        writer.write(self.head if self._whole is None else self._whole)
        while self._left_bytes:
            writer.write(await self._next_piece())
            await writer.drain()
        await writer.drain()

    async def discard(self) -> None:
        """Read the rest of the frame and drop it."""
        while self._left_bytes:
            await self._next_piece()

    async def _next_piece(self) -> bytes:
        piece = await self._reader.read(min(self._left_bytes, _PIECE_BYTES))
        if not piece:
            raise asyncio.IncompleteReadError(b"", self._left_bytes)
        self._left_bytes -= len(piece)
        return piece


async def read_request(reader: asyncio.StreamReader) -> tuple[Request, Frame]:
    """Read the head of the next request; IncompleteReadError at the end of the stream, ValueError if not Kafka's."""
    head = await reader.readexactly(_LENGTH.size + _REQUEST.size)
    (size,) = _LENGTH.unpack_from(head)
    key, version, correlation_id, client_bytes = _REQUEST.unpack_from(head, _LENGTH.size)
    client_bytes = max(0, client_bytes)  # -1: null
    rest_bytes = size - _REQUEST.size - client_bytes
    if rest_bytes < 0:
        raise ValueError(f"a frame of {size} bytes cannot hold a Kafka request")
    name = await reader.readexactly(client_bytes)
    request = Request(_NAMES.get(key, str(key)), version, correlation_id, name.decode("utf-8", "replace"))
    return request, Frame(head + name, rest_bytes, reader)


async def read_reply(reader: asyncio.StreamReader) -> tuple[int, Frame]:
    """Read the head of the next reply and return its correlation id; raises the errors of read_request()."""
    head = await reader.readexactly(_LENGTH.size + _REPLY.size)
    (size,) = _LENGTH.unpack_from(head)
    (correlation_id,) = _REPLY.unpack_from(head, _LENGTH.size)
    if size < _REPLY.size:
        raise ValueError(f"a frame of {size} bytes cannot hold a Kafka reply")
    return correlation_id, Frame(head, size - _REPLY.size, reader)
