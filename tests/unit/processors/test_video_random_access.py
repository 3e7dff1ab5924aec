"""Where coded video may be cut: groups of any order of packets, and what a packet says of itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regather.kinds.video.random_access import CodedFrame, Uncuttable, groups, rules_of

AVCC = b"\x01\x64\x00\x0a\xff\xe1\x00\x04\x67\x64\x00\x0a\x01\x00\x02\x68\xee"
HVCC = b"\x01" + bytes(20) + b"\x03" + b"\x00"


def nal(*bodies: bytes) -> bytes:
    return b"".join(len(body).to_bytes(4, "big") + body for body in bodies)


@st.composite
def coded_videos(draw: st.DrawFn) -> tuple[list[CodedFrame], list[int]]:
    """Packets in the order of a file, in groups that may be open; and how many packets lead each group's first."""
    coded: list[CodedFrame] = []
    leads = []
    shown = 0
    for number in range(draw(st.integers(1, 6))):
        leading = draw(st.integers(0, 3)) if number else 0
        trailing = draw(st.integers(0, 5))
        order = list(range(shown, shown + leading + 1 + trailing))
        own = [order[leading], *order[:leading], *draw(st.permutations(order[leading + 1 :]))]
        for at, pts in enumerate(own):
            coded.append(CodedFrame(pts, True, draw(st.integers(1, 99)), at == 0))
        leads.append(leading)
        shown += len(order)
    return coded, leads


@given(coded_videos())
def test_groups_stand_by_themselves_and_show_every_frame_once(video: tuple[list[CodedFrame], list[int]]) -> None:
    coded, leads = video
    found = groups(coded)
    assert [group.leading for group in found] == leads
    shown = 0
    for group, following in zip(found, [*found[1:], None], strict=True):
        own = [coded[group.first], *coded[group.first + 1 + group.leading : group.end]]
        if following is not None:
            own += coded[following.first + 1 : following.first + 1 + following.leading]
        numbers = sorted(frame.pts for frame in own)
        assert numbers == list(range(group.frame, group.frame + group.frames))
        assert numbers[0] == coded[group.first].pts == shown
        assert group.size_bytes == sum(frame.size_bytes for frame in own)
        shown += group.frames
    assert shown == len(coded)


@given(coded_videos(), st.data())
def test_a_frame_that_is_shown_on_the_wrong_side_of_a_keyframe_forbids_the_cut(
    video: tuple[list[CodedFrame], list[int]], data: st.DataObject
) -> None:
    coded, _ = video
    moved = data.draw(st.permutations(range(1, len(coded))))
    shuffled = [
        coded[0],
        *(CodedFrame(coded[at].pts, True, 1, frame.fresh) for at, frame in zip(moved, coded[1:], strict=True)),
    ]
    shown = 0
    for group in groups(shuffled):
        assert shuffled[group.first].pts == group.frame == shown
        shown += group.frames
    assert shown == len(coded)


@pytest.mark.parametrize(
    "coded",
    [
        [],
        [CodedFrame(0, True, 1, False)],
        [CodedFrame(1, True, 1, True), CodedFrame(0, True, 1, False)],
        [CodedFrame(0, True, 1, True), CodedFrame(0, True, 1, False)],
    ],
)
def test_what_does_not_begin_with_a_picture_of_its_own_is_not_cut(coded: list[CodedFrame]) -> None:
    with pytest.raises(Uncuttable):
        groups(coded)


def test_hidden_frames_are_not_counted() -> None:
    coded = [CodedFrame(at, at > 1, 1, at % 3 == 0) for at in range(9)]
    assert [(group.frame, group.frames) for group in groups(coded)] == [(0, 1), (1, 3), (4, 3)]


@pytest.mark.parametrize(
    ("packet", "fresh"),
    [
        (nal(b"\x65\x88"), True),
        (nal(b"\x06\x05", b"\x65\x88", b"\x65\x99"), True),
        (nal(b"\x67\x64\x00\x0a", b"\x68\xee", b"\x65\x88"), True),
        (nal(b"\x41\x9a"), False),
        (nal(b"\x65\x88", b"\x41\x9a"), False),
        (nal(b"\x06\x05"), False),
    ],
)
def test_an_idr_picture_of_h264_is_a_fresh_begin(packet: bytes, fresh: bool) -> None:
    assert rules_of("h264", AVCC)(packet) is fresh


@pytest.mark.parametrize(
    ("kind", "fresh"), [(19, True), (20, True), (21, True), (1, False), (0, False), (8, False), (9, False)]
)
def test_idr_and_cra_pictures_of_hevc_are_fresh_begins(kind: int, fresh: bool) -> None:
    assert rules_of("hevc", HVCC)(nal(bytes((kind << 1, 1)))) is fresh


@pytest.mark.parametrize(
    ("codec", "extradata", "packet"),
    [
        ("h264", AVCC, nal(b"\x67\x64\x00\x0b", b"\x65\x88")),
        ("h264", AVCC, b"\0\0\0\x09\x65\x88"),
        ("h264", AVCC, b"\0\0\0\0\x65"),
        ("hevc", HVCC, nal(bytes((16 << 1, 1)))),
        ("hevc", HVCC, nal(bytes((33 << 1, 1, 7)))),
        ("vp9", b"", b"\x00\x00"),
    ],
)
def test_a_stream_that_is_not_what_its_header_says_is_not_cut(codec: str, extradata: bytes, packet: bytes) -> None:
    with pytest.raises(Uncuttable):
        rules_of(codec, extradata)(packet)


@pytest.mark.parametrize(
    ("codec", "extradata"), [("h264", b"\0\0\0\1\x67"), ("hevc", b""), ("mpeg4", b""), ("vp8", b"")]
)
def test_other_codecs_and_forms_have_no_rule(codec: str, extradata: bytes) -> None:
    with pytest.raises(Uncuttable):
        rules_of(codec, extradata)


@pytest.mark.parametrize(
    ("first", "fresh"),
    [(0b10000000, True), (0b10000100, False), (0b10001000, False), (0b10110000, True), (0b10110010, False)],
)
def test_a_key_frame_of_vp9_is_a_fresh_begin(first: int, fresh: bool) -> None:
    assert rules_of("vp9", b"")(bytes((first, 0))) is fresh
