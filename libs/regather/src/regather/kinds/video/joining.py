"""Lines of a shard, and how the lines of stripes are combined into those of whole frames. Pure."""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from regather.kinds.video.frame_shards import Stripe

_STRIPE = "stripe"
_POLYNOMIAL = 0xEDB88320


def line(frame: int, time_us: int | None, *, clock: bool, found: dict[str, int | None]) -> str:
    """Return a frame's line: its number, its time if the file has a clock, and its figures."""
    timed = {"time_s": None if time_us is None else time_us / 1_000_000} if clock else {}
    return json.dumps({"frame": frame} | timed | found)


def joined(lines: Sequence[str], stripe: Stripe) -> bytes:
    """Return a shard's output: its lines, after a line that describes the stripe if frames are cut into stripes."""
    head = [json.dumps({_STRIPE: [stripe.first, stripe.count, stripe.index, stripe.of]})] if stripe.of > 1 else []
    return "".join(f"{text}\n" for text in [*head, *lines]).encode()


def merge(outputs: Sequence[bytes | None], value_bytes: int) -> bytes:
    """Return a job's lines. A frame with a missing stripe has no line.

    `value_bytes` is the size of one value in the data that a `..._crc32` covers.
    """
    there = [output for output in outputs if output]
    if not any(output.startswith(b'{"stripe"') for output in there):
        return b"".join(there)
    frames: dict[int, list[tuple[Stripe, dict[str, Any]]]] = {}
    for output in there:
        head, *lines = output.decode().splitlines()
        stripe = Stripe(*json.loads(head)[_STRIPE])
        for text in lines:
            found = json.loads(text)
            frames.setdefault(found["frame"], []).append((stripe, found))
    whole = (_whole(frames[number], value_bytes) for number in sorted(frames))
    return "".join(f"{json.dumps(found)}\n" for found in whole if found is not None).encode()


def _whole(parts: list[tuple[Stripe, dict[str, Any]]], value_bytes: int) -> dict[str, Any] | None:
    parts = sorted(parts, key=lambda part: part[0].index)
    if len(parts) != parts[0][0].of:
        return None
    total = dict(parts[0][1])
    for stripe, found in parts[1:]:
        for name, value in found.items():
            if name.endswith("_crc32"):
                total[name] = crc32_of_both(total[name], value, stripe.count * value_bytes)
            elif name not in ("frame", "time_s") and value is not None:
                total[name] += value
    return total


def crc32_of_both(first: int, second: int, second_bytes: int) -> int:
    """Return the CRC-32 of two consecutive runs of bytes from their own CRC-32s, like zlib's crc32_combine()."""
    shifted = 0
    for bit, column in enumerate(_zeros(second_bytes)):
        if first >> bit & 1:
            shifted ^= column
    return shifted ^ second


@lru_cache(maxsize=256)
def _zeros(size_bytes: int) -> tuple[int, ...]:
    """Return how this many zero bytes change each bit of a CRC-32: the columns of a matrix over GF(2)."""
    one_bit = (_POLYNOMIAL, *(1 << bit for bit in range(31)))
    power = one_bit
    for _ in range(3):  # one byte
        power = _times(power, power)
    result = tuple(1 << bit for bit in range(32))
    while size_bytes:
        if size_bytes & 1:
            result = _times(power, result)
        power = _times(power, power)
        size_bytes >>= 1
    return result


def _times(left: Sequence[int], right: Sequence[int]) -> tuple[int, ...]:
    return tuple(_apply(left, column) for column in right)


def _apply(matrix: Sequence[int], vector: int) -> int:
    result = 0
    for bit, column in enumerate(matrix):
        if vector >> bit & 1:
            result ^= column
    return result
