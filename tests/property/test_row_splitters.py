"""Splitters of rows of different lengths: rows come out whole and in order, however they arrive and are cut."""

import bz2
import csv
import gzip
import io
import json
import lzma
import zlib
from itertools import pairwise
from typing import Literal

import pytest
from backports import zstd
from hypothesis import example, given
from hypothesis import strategies as st

from regather.core.errors import BadInput, BadRequest
from regather.core.sharding import MAX_SHARD_BYTES
from regather.processors.base import Piece, SplitRequest, Splitter
from regather.processors.splitting.inflate import Inflater, InflatingSplitter, codec_of
from regather.processors.splitting.json_array import MAX_DEPTH, JsonArraySplitter
from regather.processors.splitting.row_packer import RowSpan
from regather.processors.splitting.text_rows import LINES, NDJSON, TextRowSplitter, csv_dialect

pytestmark = pytest.mark.long

MIB = 1024 * 1024
KIB = SplitRequest(1024)
BOM = b"\xef\xbb\xbf"


def split(splitter: Splitter, body: bytes, cuts: list[int] | None = None) -> list[Piece]:
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts or []), len(body)]
    pieces: list[Piece] = []
    for start, end in pairwise(edges):
        pieces += splitter.feed(body[start:end])
    return [*pieces, *splitter.finish()]


def csv_file(rows: list[list[str]], *, delimiter: str = ",", line_end: str = "\r\n") -> bytes:
    out = io.StringIO(newline="")
    # The writer leaves a lone CR bare otherwise.
    quoting: Literal[0, 1] = csv.QUOTE_ALL if line_end == "\n" else csv.QUOTE_MINIMAL
    csv.writer(out, delimiter=delimiter, lineterminator=line_end, quoting=quoting).writerows(rows)
    return out.getvalue().encode()


def parsed(text: bytes, delimiter: str = ",") -> list[list[str]]:
    return list(csv.reader(io.StringIO(text.decode(), newline=""), delimiter=delimiter))


def check_spans(pieces: list[Piece]) -> int:
    """Rows of the whole body, after a check that the shards' numbers follow each other."""
    at = 0
    for piece in pieces:
        span = RowSpan.decode(piece.meta)
        assert span.row0 == at
        at += span.rows
    return at


cuts = st.lists(st.integers(0, 20_000), max_size=30)
cells = st.text(st.sampled_from('ab,;"\n\r é"'), max_size=8)
tables = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=30)
)


@given(st.binary().map(lambda raw: raw.hex().encode().replace(b"0", b"\n")), cuts)
@example(b"\n", [])
@example(b"a" * 5000, [1000, 2000])
def test_lines_come_out_as_they_went_in(text: bytes, cuts: list[int]) -> None:
    if not text:
        return
    pieces = split(TextRowSplitter(KIB, LINES), text, cuts)
    whole = text if text.endswith(b"\n") else text + b"\n"
    assert b"".join(piece.payload for piece in pieces) == whole
    assert all(piece.payload.endswith(b"\n") for piece in pieces)
    assert check_spans(pieces) == whole.count(b"\n")


@given(tables, cuts, st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_every_shard_of_csv_is_csv_with_the_header(
    table: list[list[str]], cuts: list[int], delimiter: str, line_end: str, bom: bool
) -> None:
    table = [[f"name{index}" for index in range(len(table[0]))], *table * 9]
    body = (BOM if bom else b"") + csv_file(table, delimiter=delimiter, line_end=line_end)
    pieces = split(TextRowSplitter(KIB, csv_dialect(delimiter)), body, cuts)
    rows: list[list[str]] = []
    for piece in pieces:
        header, *more = parsed(piece.payload, delimiter)
        assert header == table[0]
        rows += more
    assert rows == table[1:]
    assert check_spans(pieces) == len(table) - 1


@given(st.lists(st.integers(0, 300), min_size=20, max_size=200), st.integers(1024, 4000), cuts)
def test_no_shard_of_short_rows_is_above_its_size_and_none_is_tiny(
    lengths: list[int], size: int, cuts: list[int]
) -> None:
    body = b"".join(b"x" * length + b"\n" for length in lengths)
    sizes = [len(piece.payload) for piece in split(TextRowSplitter(SplitRequest(size), LINES), body, cuts)]
    assert max(sizes) <= size
    assert len(sizes) == 1 or min(sizes) >= size // 2 - 301


@given(st.lists(st.integers(0, 30), min_size=60, max_size=300), st.integers(1, 20), cuts)
def test_a_number_of_shards_of_rows_is_kept(lengths: list[int], shards: int, cuts: list[int]) -> None:
    body = b"".join(b"x" * length + b"\n" for length in lengths)
    if len(body) < shards * 62:
        return
    pieces = split(TextRowSplitter(SplitRequest(shards=shards, size_bytes=len(body)), LINES), body, cuts)
    assert len(pieces) == shards
    assert b"".join(piece.payload for piece in pieces) == body
    assert all(abs(len(piece.payload) - len(body) / shards) <= 32 for piece in pieces)


def test_a_row_that_reaches_over_a_whole_share_is_refused() -> None:
    body = b"a\n" + b"x" * 1000 + b"\nb\n"
    with pytest.raises(BadInput, match="ask for fewer shards"):
        split(TextRowSplitter(SplitRequest(shards=5, size_bytes=len(body))), body)


@pytest.mark.parametrize("shards", [0, 100_001])
def test_a_number_of_shards_out_of_range_is_refused(shards: int) -> None:
    with pytest.raises(BadRequest, match="from 1 to 100000"):
        TextRowSplitter(SplitRequest(shards=shards, size_bytes=10))


def test_a_number_of_shards_needs_the_length() -> None:
    with pytest.raises(BadRequest, match="in advance"):
        TextRowSplitter(SplitRequest(shards=3))
    with pytest.raises(BadRequest, match="in advance"):
        JsonArraySplitter(SplitRequest(shards=3, size_bytes=100))


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=60), cuts)
def test_one_shard_needs_no_length(lengths: list[int], cuts: list[int]) -> None:
    body = b"".join(b"x" * length + b"\n" for length in lengths)
    (piece,) = split(TextRowSplitter(SplitRequest(shards=1), LINES), body, cuts)
    assert piece.payload == body


def test_one_shard_is_refused_as_soon_as_the_rows_do_not_fit_it() -> None:
    splitter = TextRowSplitter(SplitRequest(shards=1), LINES)
    rows = (b"x" * 1023 + b"\n") * 1024
    for _ in range(10):
        assert list(splitter.feed(rows)) == []
    with pytest.raises(BadInput, match="10485760 bytes that fit one shard"):
        list(splitter.feed(rows))


def test_quotes_inside_a_field_are_no_quotes() -> None:
    body = b'name,size\nscreen,27"\n"two\nlines",5" x 3"\n'
    assert check_spans(split(TextRowSplitter(KIB, csv_dialect()), body, [10, 20, 25])) == 2


def test_a_header_alone_is_one_shard() -> None:
    (piece,) = split(TextRowSplitter(KIB, csv_dialect()), b"a,b")
    assert (piece.payload, RowSpan.decode(piece.meta).rows) == (b"a,b\n", 0)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "empty"),
        (BOM, "empty"),
        (b'a,b\n1,"open\n', "row 0, which begins at byte 4.*not closed"),
        (b"a\nb\nc\xff\n", "row 1, byte 5 of the body.*not valid UTF-8"),
        (BOM + b"a\nb\xe9\n", "row 0, byte 6 of the body"),
        (b"x" * 70_000 + b"\na\n", "header has 70001 bytes"),
    ],
)
def test_wrong_text_is_refused_with_row_and_byte(body: bytes, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        split(TextRowSplitter(KIB, csv_dialect()), body)


@pytest.mark.parametrize("delimiter", ["", "ab", '"', "\n", "é"])
def test_a_delimiter_that_cannot_be_is_refused(delimiter: str) -> None:
    with pytest.raises(BadRequest, match="one ASCII character"):
        csv_dialect(delimiter)


def test_a_row_larger_than_any_shard_is_refused_long_before_it_ends() -> None:
    splitter = TextRowSplitter(SplitRequest(MIB), LINES)
    with pytest.raises(BadInput, match=r"row 1, which begins at byte 2 .*10485760"):
        split_forever(splitter, b"a\n", b"x" * MIB)
    array = JsonArraySplitter(SplitRequest(MIB))
    with pytest.raises(BadInput, match="element 1 of the array"):
        split_forever(array, b'[1,"', b"x" * MIB)


def split_forever(splitter: Splitter, first: bytes, more: bytes) -> None:
    list(splitter.feed(first))
    for _ in range(40):
        list(splitter.feed(more))


def test_a_row_larger_than_a_shard_is_a_shard() -> None:
    body = b"a\n" + b"x" * 5000 + b"\nb\n"
    sizes = [len(piece.payload) for piece in split(TextRowSplitter(KIB, LINES), body)]
    assert sizes == [2, 5001, 2]


def test_a_row_and_its_header_must_fit_a_shard_together() -> None:
    body = b"h" * 60_000 + b"\n" + b"x" * (MAX_SHARD_BYTES - 10) + b"\n"
    with pytest.raises(BadInput, match="row 0 has 10485751 bytes and a header of 60001"):
        split(TextRowSplitter(SplitRequest(MIB), csv_dialect()), body)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(st.lists(values, max_size=40), cuts, st.sampled_from([None, 0, 2]), st.booleans())
def test_elements_of_an_array_become_lines(
    rows: list[object], cuts: list[int], indent: int | None, plain_ascii: bool
) -> None:
    body = json.dumps(rows, indent=indent, ensure_ascii=plain_ascii).encode()
    pieces = split(JsonArraySplitter(KIB), body, cuts)
    lines = b"".join(piece.payload for piece in pieces).split(b"\n")
    assert [json.loads(line) for line in lines[:-1]] == rows
    assert check_spans(pieces) == len(rows)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "there is no JSON array"),
        (b'{"a": 1}', "begins with"),
        (b"[1, 2", "element 1 of the array, byte 5 of the body: the body ends here, but the array is not closed"),
        (b'[1, {"a": [2}', "element 1 of the array, byte 13.*not closed"),
        (b"[1, 2] 3", "byte 7 of the body: after the end of the array follows b'3'"),
        (b"[1,, 2]", "element 1 of the array, byte 3.*no element between two commas"),
        (b"[,1]", "element 0 of the array, byte 1.*begins with a comma"),
        (b'[{"a":1},{"a":2},]', "element 2 of the array, byte 17.*closed after a comma"),
        (b'[{"a":1} {"a":2}]', "element 0 of the array, byte 9.*comma or the array's end is missing before b'{"),
        (b'[1, "a" "b"]', "element 1 of the array, byte 8.*missing before"),
        (b'["a": 1]', "element 0 of the array, byte 4.*missing before b': 1]'"),
        (b"[1}]", "element 0 of the array, byte 2.*missing before"),
        (b"[}]", "element 0.*found '}' where an element should begin"),
        (BOM + b"[1,]", "element 1 of the array, byte 6.*closed after a comma"),
        (
            b"[" + b"[" * MAX_DEPTH + b"[" + b"]" * (MAX_DEPTH + 2),
            f"element 0.*byte {MAX_DEPTH + 1} .*deeper than {MAX_DEPTH}",
        ),
        (b'[1, "\xff"]', "element 1 of the array, byte 5 of the body.*not valid UTF-8"),
        (b'[1, {"a": "b\nc"}]', "element 1 of the array, byte 12.*there is a line end inside a string"),
        (b'[1, "\\\n"]', "element 1 of the array.*not closed"),
        (b'[1, "b', "element 1 of the array.*not closed"),
        (b"PK\x03\x04" + bytes(60), "not text but a ZIP archive"),
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_what_is_no_array_is_refused(body: bytes, why: str, size: int) -> None:
    with pytest.raises(BadInput, match=why):
        split(JsonArraySplitter(KIB), body, [*range(0, len(body), size)])


def test_an_element_may_be_as_deep_as_the_limit() -> None:
    body = b"[" + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"]"
    assert len(split(JsonArraySplitter(KIB), body)) == 1


def pack_zstd(data: bytes) -> bytes:
    return zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1})


packers = [
    pytest.param("gzip", gzip.compress, id="gzip"),
    pytest.param("zstd", pack_zstd, id="zstd"),
    pytest.param("bzip2", bz2.compress, id="bzip2"),
    pytest.param("xz", lzma.compress, id="xz"),
]


@pytest.mark.parametrize(("codec", "pack"), packers)
@given(parts=st.lists(st.binary(max_size=5000), min_size=1, max_size=3), cuts=cuts)
def test_inflated_bytes_are_the_plain_ones(codec: str, pack: type, parts: list[bytes], cuts: list[int]) -> None:
    body = b"".join(pack(part) for part in parts)
    inflater = Inflater(codec)
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    plain = b"".join(step for start, end in pairwise(edges) for step in inflater.feed(body[start:end]))
    inflater.finish()
    assert plain == b"".join(parts)
    assert codec_of(body[:64]) == codec


@pytest.mark.parametrize(("codec", "pack"), packers)
def test_a_stream_that_is_cut_off_or_changed_is_refused(codec: str, pack: type) -> None:
    body = pack(bytes(range(256)) * 100)
    wrong = body[:-9] + bytes([body[-9] ^ 255]) + body[-8:]
    for bad, why in (
        (body[:-1], "cut off"),
        (body + b"tail", "other data follows its end"),
        (b"plain text", "begins with"),
    ):
        with pytest.raises(BadInput, match=why):
            inflate(Inflater(codec), bad)
    with pytest.raises(BadInput, match="invalid near byte"):
        inflate(Inflater(codec), wrong)
    with pytest.raises(BadInput, match="empty"):
        inflate(Inflater(codec), b"")


def inflate(inflater: Inflater, body: bytes) -> int:
    size_bytes = sum(map(len, inflater.feed(body)))
    inflater.finish()
    return size_bytes


@pytest.mark.parametrize(("codec", "pack"), packers)
def test_a_bomb_is_refused_after_16_mib_and_no_step_is_large(codec: str, pack: type) -> None:
    bomb = pack(bytes(100 * MIB))
    inflater = Inflater(codec)
    size_bytes = largest = 0

    def take_all() -> None:
        nonlocal size_bytes, largest
        for step in inflater.feed(bomb):
            size_bytes += len(step)
            largest = max(largest, len(step))

    with pytest.raises(BadInput, match="above the limit of 250 times"):
        take_all()
    assert size_bytes <= max(16 * MIB, 250 * len(bomb))
    assert largest <= 256 * 1024


def test_a_limit_of_plain_bytes_holds() -> None:
    with pytest.raises(BadInput, match="more than 1000 bytes"):
        inflate(Inflater("gzip", max_bytes=1000), gzip.compress(bytes(1001)))
    assert inflate(Inflater("gzip", max_bytes=1000), gzip.compress(bytes(1000))) == 1000


def test_gzip_padding_is_no_data() -> None:
    assert inflate(Inflater("gzip"), gzip.compress(b"abc") + bytes(512)) == 3


def skippable(data: bytes) -> bytes:
    return b"\x5a\x2a\x4d\x18" + len(data).to_bytes(4, "little") + data


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=4), st.lists(st.integers(0, 200), max_size=30))
def test_skippable_frames_of_zstandard_hold_nothing(parts: list[bytes], cuts: list[int]) -> None:
    body = b"".join(skippable(part) + zstd.compress(part) + skippable(b"") for part in parts)
    inflater = Inflater("zstd")
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    assert b"".join(step for start, end in pairwise(edges) for step in inflater.feed(body[start:end])) == b"".join(
        parts
    )
    inflater.finish()
    assert codec_of(body) == "zstd"
    with pytest.raises(BadInput, match="cut off"):
        inflate(Inflater("zstd"), body + skippable(b"abc")[:-1])


def test_xz_that_needs_much_memory_is_refused_and_what_xz_makes_is_not() -> None:
    large = [{"id": lzma.FILTER_LZMA2, "dict_size": 128 * MIB}]
    with pytest.raises(BadInput, match="more than 80 MiB of memory"):
        inflate(Inflater("xz"), lzma.compress(b"abc", filters=large))
    assert inflate(Inflater("xz"), lzma.compress(b"abc", preset=9) + bytes(8) + lzma.compress(b"d")) == 4


@pytest.mark.parametrize(("codec", "pack"), packers)
@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_no_damage_is_a_crash(codec: str, pack: type, at: int, bit: int) -> None:
    whole = bytes(range(256)) * 8
    body = bytearray(pack(whole))
    body[at % len(body)] ^= 1 << bit
    inflater = Inflater(codec)
    try:
        plain = b"".join(inflater.feed(bytes(body)))
        inflater.finish()
    except BadInput:
        return
    assert plain == whole  # gzip's header holds a time, which means nothing


def test_a_text_that_begins_like_bzip2_is_a_text() -> None:
    assert codec_of(b"BZh,name\n") is None


@given(tables, cuts)
def test_compressed_rows_are_cut_as_the_plain_ones(table: list[list[str]], cuts: list[int]) -> None:
    body = csv_file([["h"] * len(table[0]), *table * 9])
    packed = zlib.compressobj(wbits=31)
    gz = packed.compress(body) + packed.flush()
    inflating = InflatingSplitter(Inflater("gzip"), lambda _head: TextRowSplitter(KIB, csv_dialect()))
    assert split(inflating, gz, cuts) == split(TextRowSplitter(KIB, csv_dialect()), body)


def test_ndjson_is_lines() -> None:
    body = b'{"a": 1}\n{"a": 2}\n'
    (piece,) = split(TextRowSplitter(KIB, NDJSON), body)
    assert (piece.payload, RowSpan.decode(piece.meta)) == (body, RowSpan(0, 2, 0, "ndjson"))
