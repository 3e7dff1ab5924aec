"""The metadata of a commit on a shard partition, as a small JSON document: crash attribution, and settled offsets.

Kafka accepts 4,096 bytes. Offsets are relative to the committed one, and defaults are left out.
"""

import base64
import binascii
import zlib
from bisect import bisect_left
from collections.abc import Iterable
from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from regather.core.crash_attribution import Attribution
from regather.core.errors import WireError
from regather.wire.fields import JsonReader, Milliseconds, to_json

MAX_METADATA_BYTES = 3_900
_MAX_BITS = 24_000

_Distance = Annotated[int, Field(ge=0, le=2**31 - 1)]


class _Document(TypedDict):
    farewell: bool
    worker: NotRequired[str]
    watched: NotRequired[_Distance]
    suspects: NotRequired[frozenset[_Distance]]
    running: NotRequired[frozenset[_Distance]]
    alone_since_ms: NotRequired[Milliseconds | None]
    settled: NotRequired[str]


_read = JsonReader[_Document](_Document)


def encode_commit(offset: int, attribution: Attribution, settled: Iterable[int]) -> str:
    """Return the metadata of a commit of `offset`. It leaves out settled offsets that do not fit."""
    document: dict[str, Any] = {"farewell": attribution.clean_shutdown}
    if attribution.worker:
        document["worker"] = attribution.worker[:200]
    if attribution.watched_below > offset:
        document["watched"] = attribution.watched_below - offset
    for name, offsets in (("suspects", attribution.suspects), ("running", attribution.running)):
        if offsets:
            document[name] = [named - offset for named in sorted(offsets)]
    if attribution.alone_since_ms is not None:
        document["alone_since_ms"] = attribution.alone_since_ms
    room = MAX_METADATA_BYTES - len(_compact(document)) - len(',"settled":""')
    bitmap = _encode_bitmap(offset, sorted(settled), room)
    return _compact(document | {"settled": bitmap} if bitmap else document)


def decode_commit(offset: int, metadata: str) -> tuple[Attribution, set[int]]:
    """Read what encode_commit() wrote. Anything else counts as empty metadata, and settled shards run again."""
    if not metadata:
        return Attribution(), set()
    try:
        document = _read(metadata, "the metadata of a commit")
        settled = _decode_bitmap(offset, document.get("settled", ""))
    except (WireError, binascii.Error, zlib.error, ValueError):
        return Attribution(), set()
    attribution = Attribution(
        document.get("worker", ""),
        document["farewell"],
        offset + document["watched"] if "watched" in document else 0,
        frozenset(offset + named for named in document.get("suspects", ())),
        frozenset(offset + named for named in document.get("running", ())),
        document.get("alone_since_ms"),
    )
    return attribution, settled


def _compact(document: dict[str, Any]) -> str:
    return to_json(document).decode()


def _encode_bitmap(offset: int, ordered: list[int], room_bytes: int) -> str:
    """Return the settled offsets above `offset` as a compressed bitmap in Base64, cut if it needs more room."""
    bits = _MAX_BITS
    while True:
        within = ordered[: bisect_left(ordered, offset + bits)]
        if not within:
            return ""
        bitmap = bytearray((within[-1] - offset) // 8 + 1)
        for number in within:
            bitmap[(number - offset) // 8] |= 1 << (number - offset) % 8
        text = base64.b64encode(zlib.compress(bytes(bitmap), 6)).decode()
        if len(text) <= room_bytes:
            return text
        bits //= 2


def _decode_bitmap(offset: int, text: str) -> set[int]:
    if not text:
        return set()
    bitmap = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), _MAX_BITS // 8 + 1)
    return {offset + at * 8 + bit for at, byte in enumerate(bitmap) for bit in range(8) if byte >> bit & 1}
