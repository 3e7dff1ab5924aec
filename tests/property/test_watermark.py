"""The watermark never passes an open offset, and a successor repeats what was open and nothing else."""

import random

from hypothesis import given
from hypothesis import strategies as st

from regather.core.crash_attribution import MAX_NAMED, Attribution
from regather.core.watermark import Watermark
from regather.wire.commits import MAX_METADATA_BYTES, decode_commit, encode_commit

offsets = st.sets(st.integers(0, 400), min_size=1, max_size=60).map(sorted)


@given(offsets, st.data())
def test_a_commit_never_passes_an_open_offset(delivered: list[int], data: st.DataObject) -> None:
    watermark = Watermark()
    for offset in delivered:
        assert watermark.deliver(offset)
    settled = data.draw(st.lists(st.sampled_from(delivered), unique=True))
    for offset in data.draw(st.permutations(settled * 2)):
        watermark.ack(offset)
    still_open = sorted(set(delivered) - set(settled))
    committed, _ = watermark.committable()
    assert committed == (still_open[0] if still_open else delivered[-1] + 1)
    assert watermark.open_count == len(still_open)


@given(offsets, st.data())
def test_a_successor_repeats_exactly_what_was_open(delivered: list[int], data: st.DataObject) -> None:
    watermark = Watermark()
    for offset in delivered:
        watermark.deliver(offset)
    settled = set(data.draw(st.lists(st.sampled_from(delivered), unique=True)))
    for offset in settled:
        watermark.ack(offset)
    committed, above = watermark.committable()
    successor = Watermark(committed, above)
    again = [offset for offset in delivered if offset >= committed and successor.deliver(offset)]
    assert again == [offset for offset in delivered if offset not in settled]


@given(offsets, st.data())
def test_two_takeovers_in_a_row_forget_nothing(delivered: list[int], data: st.DataObject) -> None:
    first = Watermark()
    for offset in delivered:
        first.deliver(offset)
    settled = set(data.draw(st.lists(st.sampled_from(delivered), unique=True)))
    for offset in settled:
        first.ack(offset)
    second = Watermark(*first.committable())
    read = data.draw(st.integers(0, len(delivered)))
    for offset in [offset for offset in delivered if offset >= second.committable()[0]][:read]:
        second.deliver(offset)
    committed, above = second.committable()
    third = Watermark(committed, above)
    again = {offset for offset in delivered if offset >= committed and third.deliver(offset)}
    assert again == set(delivered) - settled


def test_a_record_delivered_twice_is_taken_once() -> None:
    watermark = Watermark(10)
    assert not watermark.deliver(9)
    assert watermark.deliver(10)
    assert not watermark.deliver(10)
    assert watermark.committable()[0] == 10


named = st.frozensets(st.integers(5, 23_000), max_size=MAX_NAMED)
handovers = st.builds(
    Attribution,
    st.text("abc-123", max_size=30),
    st.booleans(),
    st.one_of(st.just(0), st.integers(6, 100_000)),
    named,
    named,
    st.one_of(st.none(), st.integers(0, 2**42)),
)


@given(handovers, st.sets(st.integers(6, 23_000), max_size=100))
def test_a_handover_and_what_is_settled_survive_the_metadata(attribution: Attribution, above: set[int]) -> None:
    text = encode_commit(5, attribution, above)
    assert len(text) <= MAX_METADATA_BYTES
    found, settled = decode_commit(5, text)
    assert found == attribution
    assert settled <= above
    assert len(text) > MAX_METADATA_BYTES - 1500 or settled == above


def test_metadata_stays_within_kafkas_limit_by_naming_less() -> None:
    chosen = random.Random(7)
    above = {offset for offset in range(1, 24_000) if chosen.random() < 0.5}
    text = encode_commit(0, Attribution("w" * 300, False, 10**9, frozenset(range(MAX_NAMED))), above)
    assert len(text) <= MAX_METADATA_BYTES
    _, settled = decode_commit(0, text)
    assert settled
    assert settled <= above


def test_metadata_of_somebody_else_says_nothing() -> None:
    for text in (
        "",
        '{"results_from": 3}',
        "AAAA",
        "[]",
        '{"farewell":false,"settled":"AAAA"}',
        '{"farewell":1,"running":3}',
    ):
        assert decode_commit(0, text) == (Attribution(), set())


def test_an_offset_that_was_settled_and_lies_in_a_gap_is_not_named_below_the_watermark() -> None:
    """Markers of transactions have offsets of their own, and no record of theirs ever comes."""
    watermark = Watermark(0, {1, 2, 6})
    assert watermark.deliver(0)
    assert watermark.deliver(4)
    watermark.ack(0)
    assert watermark.committable() == (4, {6})
    watermark.ack(4)
    assert watermark.committable() == (5, {6})
