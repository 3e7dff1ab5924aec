"""Frames survive the trip whatever they hold; what is no frame is refused."""

import io
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regather.children.child_protocol import (
    LAST,
    MAX_ERROR_BYTES,
    REPLY,
    BrokenReply,
    ProgressCell,
    Reply,
    ReplyReader,
    cut_text,
    encode_reply,
    encode_work,
    read_work,
)
from regather.children.work import Call, Work, WorkItem, WorkLimits
from regather.core.execution import Done, Failed, NotRun, Result
from regather.core.model import Reason

blobs = st.one_of(st.binary(max_size=40), st.integers(0, 40_000).map(lambda size: b"x" * size))
items = st.builds(
    WorkItem,
    seq=st.integers(0, 2**62),
    payload=blobs,
    meta=st.binary(max_size=20),
    attempt=st.integers(0, 3),
    missing=st.booleans(),
    carry=st.binary(max_size=20),
    rows=st.binary(max_size=20),
)
limits = st.builds(
    WorkLimits,
    wall_s=st.floats(0.001, 86_400),
    memory_bytes=st.none() | st.integers(0, 2**40),
    output_bytes=st.integers(0, 2**32),
)
works = st.builds(
    Work,
    call=st.sampled_from(Call),
    kind=st.text(max_size=20),
    options=st.binary(max_size=40),
    items=st.lists(items, max_size=20),
    limits=limits,
)
times = st.integers(0, 2**62)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50)
results = st.one_of(
    st.builds(Done, blobs, times, times),
    st.builds(Failed, st.sampled_from(Reason), texts, times, times, st.booleans(), texts),
    st.just(NotRun()),
)
TEN = Work(Call.PROCESS, "k", b"", [WorkItem(seq, b"") for seq in range(10)], WorkLimits(output_bytes=50_000))


@given(works)
def test_a_work_arrives_as_it_was_sent(work: Work) -> None:
    cell = ProgressCell.create()
    try:
        assert read_work(io.BytesIO(b"".join(encode_work(work))), cell) == work
        assert cell.read()[0] == ProgressCell.READING
    finally:
        cell.close()


@given(works)
def test_a_cut_off_head_is_no_work(work: Work) -> None:
    cell = ProgressCell.create()
    frame = b"".join(encode_work(work))
    try:
        assert read_work(io.BytesIO(frame[:10]), cell) is None
        assert read_work(io.BytesIO(b"no request" + frame), cell) is None
    finally:
        cell.close()


def test_many_small_items_are_one_write_and_large_ones_are_not_copied() -> None:
    large = b"x" * 1_000_000
    small = [WorkItem(seq, b"y" * 1024) for seq in range(64)]
    assert len(encode_work(Work(Call.PROCESS, "k", b"", small, WorkLimits()))) == 1
    assert any(
        buffer is large for buffer in encode_work(Work(Call.PROCESS, "k", b"", [WorkItem(0, large)], WorkLimits()))
    )


def replies_after(stream: bytes, *, chunk_bytes: int, work: Work = TEN) -> list[Reply]:
    """Read a stream that arrives in chunks."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        reader = ReplyReader(ours)
        reader.expect(work)
        read = []
        for at in range(0, len(stream), chunk_bytes):
            theirs.sendall(stream[at : at + chunk_bytes])
            read += reader.read()
        return read


@given(st.lists(results, max_size=10), st.integers(0, 10), st.integers(0, 1000), st.integers(1000, 60_000))
def test_results_arrive_in_frames_however_the_stream_is_cut(
    sent: list[Result], cut: int, growth_kib: int, chunk_bytes: int
) -> None:
    first, second = sent[:cut], sent[cut:]
    stream = b"".join(
        encode_reply(0, first, flags=0) + encode_reply(len(first), second, flags=LAST, growth_kib=growth_kib)
    )
    assert replies_after(stream, chunk_bytes=chunk_bytes) == [
        Reply(0, 0, first, 0),
        Reply(LAST, len(first), second, growth_kib * 1024),
    ]


def test_a_nul_in_an_error_is_escaped_and_does_not_end_it() -> None:
    stream = b"".join(encode_reply(0, [Failed(Reason.RAISED, "a\0b", 1, 2, False, "c\0d")], flags=LAST))
    (reply,) = replies_after(stream, chunk_bytes=1000)
    assert reply.results == [Failed(Reason.RAISED, "a\\x00b", 1, 2, False, "c\\x00d")]


def test_a_large_reply_arrives_in_pieces() -> None:
    work = Work(Call.MERGE, "k", b"", [], WorkLimits(output_bytes=5_000_000))
    output = os.urandom(5_000_000)
    stream = b"".join(encode_reply(0, [Done(output, 1, 2)], flags=LAST))
    (reply,) = replies_after(stream, chunk_bytes=100_000, work=work)
    assert reply.results == [Done(output, 1, 2)]


@given(st.binary(min_size=REPLY.size, max_size=200))
def test_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(BrokenReply, match="no reply"):
        replies_after(garbage, chunk_bytes=1000)


def test_results_for_items_that_were_not_sent_are_refused() -> None:
    with pytest.raises(BrokenReply, match="no reply"):
        replies_after(b"".join(encode_reply(5, [NotRun()] * 6, flags=LAST)), chunk_bytes=1000)


def test_a_reply_that_announces_too_much_is_refused_before_it_is_read() -> None:
    head = bytearray(encode_reply(0, [Done(b"", 0, 0)], flags=LAST)[0])
    REPLY.pack_into(head, 0, *REPLY.unpack_from(head)[:-1], 10**12)
    with pytest.raises(BrokenReply) as refused:
        replies_after(bytes(head), chunk_bytes=1000)
    assert refused.value.reason is Reason.RETURNED_TOO_MUCH


def test_rows_whose_lengths_do_not_add_up_are_refused() -> None:
    frame = bytearray(b"".join(encode_reply(0, [Done(b"abc", 0, 0)], flags=LAST)))
    fields = REPLY.unpack_from(frame)
    REPLY.pack_into(frame, 0, *fields[:-1], fields[-1] + 2)
    with pytest.raises(BrokenReply, match="add up"):
        replies_after(bytes(frame) + b"xx", chunk_bytes=1000)


def test_the_end_of_the_stream_is_told() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.setblocking(False)
        theirs.close()
        with pytest.raises(EOFError):
            ReplyReader(ours).read()


@given(st.text(), st.integers(0, 50))
def test_texts_are_cut_in_bytes_never_inside_a_character(text: str, limit_bytes: int) -> None:
    cut = cut_text(text, limit_bytes)
    assert len(cut.encode()) <= limit_bytes
    assert text.encode("utf-8", "backslashreplace").decode().startswith(cut)


def test_an_error_is_at_most_four_kibibytes_and_may_hold_lone_surrogates() -> None:
    (reply,) = replies_after(
        b"".join(encode_reply(0, [Failed(Reason.RAISED, "\ud800" + "é" * 9000, 1, 2)], flags=LAST)), chunk_bytes=60_000
    )
    (failed,) = reply.results
    assert isinstance(failed, Failed)
    assert failed.error.startswith("\\ud800é")
    assert MAX_ERROR_BYTES - 2 < len(failed.error.encode()) <= MAX_ERROR_BYTES
