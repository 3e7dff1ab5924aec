"""Splitters: the pieces are the body, for any body and any way it arrives."""

import contextlib
import io
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from regather.core.errors import BadInput, BadRequest
from regather.core.sharding import MAX_SHARD_BYTES
from regather.processors.base import HEAD_BYTES, Piece, SplitRequest, Splitter
from regather.processors.splitting.byte_queue import ByteQueue
from regather.processors.splitting.bytes import ByteSplitter
from regather.processors.splitting.npy import NpyFileSplitter, NpySplitter, npy_splitter, parse_header
from regather.processors.splitting.rows import Band, RowLayout, RowSplitter, raw_layout

MIB = 1024 * 1024
SEVERAL_KIB = bytes(range(256)) * 60


def split(splitter: Splitter, body: bytes, cuts: list[int] | None = None) -> list[Piece]:
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts or []), len(body)]
    pieces: list[Piece] = []
    for start, end in pairwise(edges):
        pieces += splitter.feed(body[start:end])
    return [*pieces, *splitter.finish()]


def npy_file(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version)
    return file.getvalue()


def header_of(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


cuts = st.lists(st.integers(0, 20_000), max_size=30)
bodies = st.integers(1, len(SEVERAL_KIB)).map(lambda size: SEVERAL_KIB[:size])


@given(bodies, cuts, st.integers(1024, 5_000), st.booleans())
def test_bytes_come_out_as_they_went_in(body: bytes, cuts: list[int], shard_size: int, length_known: bool) -> None:
    request = SplitRequest(shard_size_bytes=shard_size, size_bytes=len(body) if length_known else None)
    pieces = split(ByteSplitter(request), body, cuts)
    assert b"".join(piece.payload for piece in pieces) == body
    assert all(type(piece.payload) is bytes and 0 < len(piece.payload) <= shard_size for piece in pieces)
    assert len(pieces) == 1 or min(len(piece.payload) for piece in pieces) * 2 >= shard_size


@given(bodies, cuts, st.integers(1, 40))
def test_a_number_of_byte_shards_is_kept(body: bytes, cuts: list[int], shards: int) -> None:
    shards = min(shards, len(body))
    pieces = split(ByteSplitter(SplitRequest(shards=shards, size_bytes=len(body))), body, cuts)
    assert b"".join(piece.payload for piece in pieces) == body
    assert len(pieces) == shards


def test_single_bytes_arriving_are_joined_as_well() -> None:
    body = SEVERAL_KIB[:5_000]
    pieces = split(ByteSplitter(SplitRequest(shard_size_bytes=1024)), body, list(range(len(body))))
    assert [len(piece.payload) for piece in pieces] == [1024, 1024, 1024, 1024, 904]
    assert b"".join(piece.payload for piece in pieces) == body


def test_at_most_two_shards_are_held_while_a_body_of_unknown_length_arrives() -> None:
    splitter = ByteSplitter(SplitRequest(shard_size_bytes=MIB))
    sent = received = 0
    for _ in range(200):
        sent += 64 * 1024
        received += sum(len(piece.payload) for piece in splitter.feed(bytes(64 * 1024)))
        assert sent - received < 2 * MIB
    assert received > 10 * MIB


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9_000)), max_size=60))
@example([(True, 2), (True, 5_000), (False, 3)])
@example([(True, 5_000), (True, 2), (False, 4_000), (True, 5_000), (False, 5_000)])
def test_the_queue_gives_the_bytes_in_order(steps: list[tuple[bool, int]]) -> None:
    queue, model, position = ByteQueue(), b"", 0
    for is_append, size in steps:
        if is_append:
            data = SEVERAL_KIB[position : position + size]
            position = (position + 1) % 251
            queue.append(data)
            model += data
        else:
            size = min(size, len(model))
            assert queue.peek(size) == model[:size]
            assert queue.take(size) == model[:size]
            model = model[size:]
        assert len(queue) == len(model)


def test_an_empty_body_is_refused() -> None:
    with pytest.raises(BadInput, match="empty") as caught:
        split(ByteSplitter(SplitRequest()), b"")
    assert caught.value.code == "empty-body"


@pytest.mark.parametrize(("announced", "why"), [(999, "longer than the 999"), (1001, "ends after 1000 bytes; 1001")])
def test_a_body_of_another_length_than_announced_is_refused(announced: int, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        split(ByteSplitter(SplitRequest(size_bytes=announced)), bytes(1000), [100, 500])


def test_a_cut_that_cannot_be_is_refused_before_the_body_arrives() -> None:
    with pytest.raises(BadRequest, match="needs the body's length"):
        ByteSplitter(SplitRequest(shards=4))
    with pytest.raises(BadRequest, match="1024 to 10485760"):
        ByteSplitter(SplitRequest(shard_size_bytes=1023))
    with pytest.raises(BadRequest, match="more than the 3 rows"):
        RowSplitter(RowLayout(2, 1, "uint8", 3), SplitRequest(shards=4))


def check_bands(pieces: list[Piece], body: bytes, row_bytes: int, halo: int, height: int) -> None:
    """Own rows join to the body, and every halo row is the neighbour's row."""
    row0 = 0
    for piece in pieces:
        band = Band.decode(piece.meta)
        assert band.row0 == row0
        assert band.top == min(halo, row0)
        assert band.bottom == min(halo, height - row0 - band.rows)
        end = row0 + band.rows
        assert piece.payload == body[(row0 - band.top) * row_bytes : (end + band.bottom) * row_bytes]
        row0 = end
    assert row0 == height


@given(
    st.integers(1, 300), st.integers(1, 90), st.integers(0, 3), st.booleans(), cuts, st.sampled_from([1024, 1300, 4000])
)
def test_bands_carry_whole_rows_and_their_neighbours(
    row_bytes: int, height: int, halo: int, height_known: bool, cuts: list[int], shard_size: int
) -> None:
    body = (SEVERAL_KIB * 2)[: row_bytes * height]
    layout = RowLayout(row_bytes, 1, "uint8", height if height_known else None)
    pieces = split(RowSplitter(layout, SplitRequest(shard_size_bytes=shard_size), halo=halo), body, cuts)
    check_bands(pieces, body, row_bytes, halo, height)
    rows = [Band.decode(piece.meta).rows for piece in pieces]
    fit = max(1, shard_size // row_bytes - 2 * halo)
    assert max(rows) <= fit
    assert len(rows) == 1 or 2 * min(rows) >= fit


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 3), cuts)
def test_a_number_of_bands_is_kept_and_even(height: int, shards: int, halo: int, cuts: list[int]) -> None:
    shards = min(shards, height)
    body = SEVERAL_KIB[: 50 * height]
    layout = raw_layout(RowLayout(25, 1, "uint16"), SplitRequest(size_bytes=len(body)))
    pieces = split(RowSplitter(layout, SplitRequest(shards=shards), halo=halo), body, cuts)
    check_bands(pieces, body, 50, halo, height)
    rows = [Band.decode(piece.meta).rows for piece in pieces]
    assert len(rows) == shards
    assert max(rows) - min(rows) <= 1


def test_a_row_larger_than_the_shard_size_makes_shards_of_one_row() -> None:
    body = SEVERAL_KIB[: 3 * 5_000]
    pieces = split(RowSplitter(RowLayout(5_000, 1, "uint8"), SplitRequest(shard_size_bytes=1024)), body)
    assert [piece.payload for piece in pieces] == [body[:5000], body[5000:10000], body[10000:]]


def test_a_row_larger_than_the_largest_shard_is_refused_with_both_sizes() -> None:
    with pytest.raises(BadInput, match=r"10485764 bytes.*at most 10485760"):
        RowSplitter(RowLayout(MAX_SHARD_BYTES // 4 + 1, 2, "uint16", 4), SplitRequest())


@pytest.mark.parametrize(
    ("height", "size", "why"),
    [
        (None, 105, r"ends at byte 105, 5 bytes into row 10 of 10 bytes"),
        (9, 100, r"9 rows of 10 bytes end at byte 90, but the body goes on"),
        (11, 100, r"11 rows of 10 bytes end at byte 110, but the body ends at byte 100"),
        (None, 0, r"empty"),
    ],
)
def test_rows_that_do_not_add_up_are_refused(height: int | None, size: int, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        split(RowSplitter(RowLayout(10, 1, "uint8", height), SplitRequest()), bytes(size), [33])


@pytest.mark.parametrize("height", [None, 9])
def test_an_announced_length_that_is_no_such_number_of_rows_is_refused(height: int | None) -> None:
    with pytest.raises(BadInput, match=r"105 bytes is 10 rows and 5 bytes, not (whole|9) rows"):
        raw_layout(RowLayout(10, 1, "uint8", height), SplitRequest(size_bytes=105))


@given(
    st.integers(1, 40),
    st.integers(1, 20),
    st.integers(1, 4) | st.none(),
    st.sampled_from(["|u1", "<u2", "<f4", "<i8", "|b1", ">u2", ">f4", ">f8", ">f2"]),
    st.sampled_from([(1, 0), (2, 0), (3, 0)]),
    st.booleans(),
    cuts,
)
def test_npy_rows_come_out_as_numpy_wrote_them(
    height: int,
    width: int,
    channels: int | None,
    descr: str,
    version: tuple[int, int],
    length_known: bool,
    cuts: list[int],
) -> None:
    shape = (height, width) if channels is None else (height, width, channels)
    array = np.arange(np.prod(shape)).reshape(shape).astype(descr)
    file = npy_file(array, version)
    request = SplitRequest(shard_size_bytes=1024, size_bytes=len(file) if length_known else None)
    pieces = split(NpySplitter(request, halo=1), file, cuts)
    little = array.astype(array.dtype.newbyteorder("<"))
    check_bands(pieces, little.tobytes(), array[0].nbytes, 1, height)
    band = Band.decode(pieces[0].meta)
    assert (band.width, band.channels, band.height) == (width, channels or 1, height)
    assert np.dtype(band.dtype) == little.dtype


@given(
    st.lists(st.integers(1, 12), min_size=2, max_size=4),
    st.sampled_from(["|u1", "<u2", ">u2", "<f4", ">f8"]),
    st.integers(0, 2),
)
def test_fortran_order_is_turned_into_rows(shape: list[int], descr: str, halo: int) -> None:
    frames = len(shape) == 4
    array = np.asfortranarray(np.arange(np.prod(shape)).reshape(shape).astype(descr))
    file = npy_file(array)
    request = SplitRequest(shard_size_bytes=1024, head=file[:HEAD_BYTES], size_bytes=len(file))
    splitter = npy_splitter(request, halo=halo, frames=frames)
    if array.flags.c_contiguous:  # both orders are the same: nothing has to wait for the whole file
        assert isinstance(splitter, NpySplitter)
        pieces = split(splitter, file, [7])
    else:
        assert isinstance(splitter, NpyFileSplitter)
        pieces = cut_file(splitter, file)
    little = array.astype(array.dtype.newbyteorder("<"))
    check_bands(pieces, little.tobytes("C"), array[0].nbytes, halo, shape[0])


def cut_file(splitter: NpyFileSplitter, file: bytes) -> list[Piece]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "body.npy")
        path.write_bytes(file)
        return list(splitter.cut(path))


@pytest.mark.parametrize("change", [b"", b"xx"])
def test_a_fortran_file_of_the_wrong_length_is_refused(change: bytes) -> None:
    file = npy_file(np.asfortranarray(np.zeros((30, 10))))
    splitter = npy_splitter(SplitRequest(head=file[:HEAD_BYTES]))
    assert isinstance(splitter, NpyFileSplitter)
    with pytest.raises(BadInput, match=r"but the body has \d+: (it was cut off|something follows)"):
        cut_file(splitter, file + change if change else file[:-3])


@pytest.mark.parametrize(
    ("descr", "dtype", "big"),
    [
        ("<u1", "uint8", False),
        ("|u1", "uint8", False),
        (">u1", "uint8", False),
        ("<i1", "int8", False),
        ("=u2", "uint16", False),
        ("|b1", "bool", False),
        ("<b1", "bool", False),
        ("?", "bool", False),
        ("f4", "float32", False),
        ("float32", "float32", False),
        (">f8", "float64", True),
    ],
)
def test_other_ways_to_write_a_type_are_understood(descr: str, dtype: str, big: bool) -> None:
    header = parse_header(header_of(f"{{'descr': '{descr}', 'fortran_order': False, 'shape': (61L, 43L, 3L), }}"))
    assert header is not None
    assert (header.layout.dtype, header.big_endian, header.shape) == (dtype, big, (61, 43, 3))
    assert np.dtype(descr).newbyteorder("<").name == header.layout.dtype


def test_an_array_of_no_rows_is_one_shard_of_no_rows_where_the_kind_says_so() -> None:
    file = npy_file(np.zeros((0, 5), np.float32))
    (piece,) = split(NpySplitter(SplitRequest(), empty=True), file, [3, 7])
    assert piece.payload == b""
    assert Band.decode(piece.meta) == Band(0, 0, 0, 0, 5, 1, "float32", 0)
    with pytest.raises(BadInput, match="something follows the array"):
        split(NpySplitter(SplitRequest(), empty=True), file + b"x", [3, 7])


@pytest.mark.parametrize(
    ("head", "what"),
    [(b"PK\x03\x04\x14", r"\.npz archive"), (b"\x80\x04\x95", "Python pickle"), (b"\x89HDF\r\n\x1a\n", "HDF5")],
)
def test_other_files_of_arrays_are_named(head: bytes, what: str) -> None:
    with pytest.raises(BadInput, match=what):
        parse_header(head + bytes(100))


def lying_header(extra: int) -> bytes:
    file = bytearray(npy_file(np.ones((3, 4), np.uint8)))
    file[8:10] = (int.from_bytes(file[8:10], "little") + extra).to_bytes(2, "little")
    return bytes(file)


@pytest.mark.parametrize("extra", [-100, -80, -1, 1, 5, 12])
def test_a_header_whose_length_lies_is_refused(extra: int) -> None:
    with pytest.raises(BadInput):
        split(NpySplitter(SplitRequest()), lying_header(extra), [3, 7])


@given(st.integers(0, 10_000), cuts)
def test_an_npy_file_that_is_cut_short_anywhere_is_refused(size: int, cuts: list[int]) -> None:
    file = npy_file(np.zeros((30, 10, 3), np.uint8))
    size %= len(file)
    with pytest.raises(BadInput, match=rf"ends at byte {size}\b"):
        split(NpySplitter(SplitRequest()), file[:size], cuts)


def test_an_npy_file_that_goes_on_after_its_rows_is_refused() -> None:
    file = npy_file(np.zeros((30, 10, 3), np.uint8))
    with pytest.raises(BadInput, match=rf"end at byte {len(file)}, but the body goes on"):
        split(NpySplitter(SplitRequest()), file + b"x")
    with pytest.raises(BadInput, match=rf"make {len(file)} bytes, but the body has {len(file) + 1}"):
        split(NpySplitter(SplitRequest(size_bytes=len(file) + 1)), file + b"x")


@pytest.mark.parametrize(
    ("file", "why"),
    [
        (b"\x89PNG\r\n\x1a\n", "byte 0: not an NPY file"),
        (b"\x93NUMPY\x04\x00\x10\x00", r"byte 6: NPY version 4\.0"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "byte 8: an NPY header of 4294967295 bytes"),
        (header_of("{'descr': '|u1', "), "byte 10: the NPY header is not a Python literal"),
        (header_of("__import__('os').getpid()"), "byte 10: the NPY header is not a Python literal"),
        (header_of("(" * 9_000), "byte 10: the NPY header is not a Python literal"),
        (header_of("[1]"), "byte 10: the NPY header must name"),
        (header_of("{'descr': '|u1', 'fortran_order': False}"), "byte 10: the NPY header must name"),
        (npy_file(np.asfortranarray(np.zeros((3, 4)))), "Fortran order, and its header of 128 bytes is too long"),
        (npy_file(np.array([["a", None]], object)), "byte 10: .*Python objects"),
        (npy_file(np.zeros((3, 4), [("a", "u1"), ("b", "u1")])), "byte 10: the array is structured .*'a'.*'b'"),
        (npy_file(np.zeros((3, 4), "<c8")), "byte 10: the array holds complex numbers"),
        (npy_file(np.zeros((3, 4), "<U3")), "byte 10: the array holds strings"),
        (npy_file(np.zeros((3, 4), "<M8[ns]")), "byte 10: the array holds dates"),
        (npy_file(np.zeros((3, 4), "<f16")), "byte 10: values of type '<f16'; supported are"),
        (header_of("{'descr': '|u1', 'fortran_order': 1, 'shape': (3, 3)}"), "byte 10: fortran_order is 1"),
        (header_of("{'descr': 5, 'fortran_order': False, 'shape': (3, 3)}"), "byte 10: descr is 5"),
        (header_of("{'descr': '|u1', 'fortran_order': False, 'shape': (0x1" + "0" * 9000 + ", 3)}"), "byte 10: shape"),
        (header_of(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({2**62}, {2**62})}}"), "more values than any"),
        (npy_file(np.zeros((5, 0))), "its rows have no values"),
        (npy_file(np.zeros(5)), r"byte 10: shape \(5,\)"),
        (npy_file(np.zeros((2, 2, 2, 2))), r"byte 10: shape \(2, 2, 2, 2\)"),
        (npy_file(np.zeros((0, 5))), r"the array has no rows: its shape is \(0, 5\)"),
        (header_of("{'descr': '|u1', 'fortran_order': False, 'shape': (True, 3)}"), "byte 10: shape"),
        (header_of("{'descr': '|u1', 'fortran_order': False, 'shape': (3, -3)}"), "byte 10: shape"),
    ],
)
def test_npy_headers_that_are_not_understood_are_refused_with_the_offset(file: bytes, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        split(NpySplitter(SplitRequest()), file, [3, 7])


def test_a_kind_can_refuse_an_array_before_anything_is_cut() -> None:
    def refuse(layout: RowLayout) -> None:
        raise BadInput(f"not {layout.dtype}")

    with pytest.raises(BadInput, match="not float32"):
        split(NpySplitter(SplitRequest(), check=refuse), npy_file(np.zeros((3, 4), np.float32)))


@given(st.binary(max_size=40) | st.binary(max_size=40).map(lambda tail: b"\x93NUMPY\x01\x00\x10\x00" + tail))
def test_any_bytes_give_a_header_or_bad_input(head: bytes) -> None:
    with contextlib.suppress(BadInput):  # any other error would fail the test
        header = parse_header(head)
        assert header is None or header.size_bytes <= len(head)
