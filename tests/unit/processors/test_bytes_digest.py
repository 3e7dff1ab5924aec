"""`bytes.digest`: parts combine to exactly the checksums of the whole."""

import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regather.kinds.bytes_digest import BytesDigest, adler32_combine, crc32_combine
from regather.processors.base import Options, ShardView

KIND, NONE = BytesDigest(), Options()


def part(payload: bytes) -> bytes:
    return KIND.process(ShardView(payload, b"", 0, 0), NONE)


@given(st.binary(max_size=3_000), st.binary(max_size=3_000))
def test_checksums_of_two_parts_combine(first: bytes, second: bytes) -> None:
    whole = first + second
    assert crc32_combine(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(whole)
    assert adler32_combine(zlib.adler32(first), zlib.adler32(second), len(second)) == zlib.adler32(whole)


@pytest.mark.parametrize("size_bytes", [65_520, 65_521, 65_522, 1 << 20, 10_485_760])
def test_checksums_combine_over_long_parts(size_bytes: int) -> None:
    first, second = b"\xff" * 70_000, b"\xfe" * size_bytes
    whole = first + second
    assert crc32_combine(zlib.crc32(first), zlib.crc32(second), size_bytes) == zlib.crc32(whole)
    assert adler32_combine(zlib.adler32(first), zlib.adler32(second), size_bytes) == zlib.adler32(whole)


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=20))
def test_the_result_does_not_depend_on_the_cut(parts: list[bytes]) -> None:
    cut = KIND.merge([part(payload) for payload in parts], NONE)
    assert cut == KIND.merge([part(b"".join(parts))], NONE)


def test_a_shard_costs_twenty_bytes() -> None:
    assert len(part(bytes(1024))) == 20


def test_with_a_gap_the_sums_go_on_and_the_checksums_of_the_whole_are_null() -> None:
    result = json.loads(KIND.merge([part(b"a\n"), None, None, part(b"b\n\n")], NONE))
    assert result["gaps"] == [[1, 2]]
    assert (result["size_bytes"], result["newlines"]) == (5, 3)
    assert result["crc32"] is None
    assert result["adler32"] is None
