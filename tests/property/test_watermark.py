"""The watermark never passes an open offset, and a successor repeats what was open and nothing else."""

import random

from hypothesis import given
from hypothesis import strategies as st

from regather.core.watermark import MAX_METADATA_BYTES, Watermark, decode_settled, encode_settled

offsets = st.sets(st.integers(0, 400), min_size=1, max_size=60).map(sorted)


@given(offsets, st.data())
def test_a_commit_never_passes_an_open_offset(delivered: list[int], data: st.DataObject) -> None:
    watermark = Watermark()
    for offset in delivered:
        assert watermark.deliver(offset)
    settled = data.draw(st.lists(st.sampled_from(delivered), unique=True))
    for offset in data.draw(st.permutations(settled * 2)):
        watermark.settle(offset)
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
        watermark.settle(offset)
    committed, metadata = watermark.committable()
    successor = Watermark(committed, metadata)
    again = [offset for offset in delivered if offset >= committed and successor.deliver(offset)]
    assert again == [offset for offset in delivered if offset not in settled]


@given(offsets, st.data())
def test_two_takeovers_in_a_row_forget_nothing(delivered: list[int], data: st.DataObject) -> None:
    first = Watermark()
    for offset in delivered:
        first.deliver(offset)
    settled = set(data.draw(st.lists(st.sampled_from(delivered), unique=True)))
    for offset in settled:
        first.settle(offset)
    second = Watermark(*first.committable())
    read = data.draw(st.integers(0, len(delivered)))
    for offset in [offset for offset in delivered if offset >= second.committable()[0]][:read]:
        second.deliver(offset)
    committed, metadata = second.committable()
    third = Watermark(committed, metadata)
    again = {offset for offset in delivered if offset >= committed and third.deliver(offset)}
    assert again == set(delivered) - settled


def test_a_record_delivered_twice_is_taken_once() -> None:
    watermark = Watermark(10)
    assert not watermark.deliver(9)
    assert watermark.deliver(10)
    assert not watermark.deliver(10)
    assert watermark.committable()[0] == 10


@given(st.sets(st.integers(1, 23_000), max_size=200))
def test_settled_offsets_survive_the_metadata(above: set[int]) -> None:
    assert decode_settled(5, encode_settled(5, {5 + offset for offset in above})) == {5 + offset for offset in above}


def test_metadata_stays_within_kafkas_limit_by_naming_less() -> None:
    chosen = random.Random(7)
    above = {offset for offset in range(1, 24_000) if chosen.random() < 0.5}
    text = encode_settled(0, above)
    assert len(text) <= MAX_METADATA_BYTES
    named = decode_settled(0, text)
    assert named
    assert named <= above


def test_metadata_of_somebody_else_names_nothing() -> None:
    assert decode_settled(0, '{"results_from": 3}') == set()
    assert decode_settled(0, "AAAA") == set()
