"""`frames.motion` and `frames.track` sharded equal a loop over the whole video, bit for bit."""

import io

import numpy as np
import pytest
from reference import frames as reference

from regather.core.errors import BadInput, BadRequest, PermanentError
from regather.kinds.video.frames import FrameMotion, FrameOptions, FrameTrack
from regather.processors.base import HEAD_BYTES, Piece, ShardView, SplitRequest

VIDEO = np.random.default_rng(11).integers(0, 256, (90, 12, 17), np.uint8)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def cut(kind: FrameMotion | FrameTrack, body: bytes, options: FrameOptions, request: SplitRequest) -> list[Piece]:
    asked = SplitRequest(request.shard_size_bytes, request.shards, len(body), head=body[:HEAD_BYTES])
    splitter = kind.splitter(options, asked)
    return [*splitter.feed(body), *splitter.finish()]


def motion(body: bytes, request: SplitRequest, options: FrameOptions | None = None) -> bytes:
    kind, wished = FrameMotion(), options or FrameOptions()
    pieces = cut(kind, body, wished, request)
    return b"".join(kind.process(ShardView(p.payload, p.meta, seq, 0), wished) for seq, p in enumerate(pieces))


def track(body: bytes, request: SplitRequest, options: FrameOptions | None = None) -> bytes:
    kind, wished = FrameTrack(), options or FrameOptions()
    found, carry = b"", b""
    for seq, piece in enumerate(cut(kind, body, wished, request)):
        output, carry = kind.step(ShardView(piece.payload, piece.meta, seq, 0), carry, wished)
        found += output
    return found


@pytest.mark.parametrize("seed", range(20))
def test_every_cut_gives_what_the_loop_gives(seed: int) -> None:
    size = int(np.random.default_rng(seed).integers(1024, 9000))
    threshold = seed * 5
    options = FrameOptions(threshold=threshold)
    assert motion(npy(VIDEO), SplitRequest(size), options) == reference.lines(reference.motion(VIDEO, threshold))
    assert track(npy(VIDEO), SplitRequest(size), options) == reference.lines(reference.track(VIDEO, threshold))


def test_raw_frames_and_colour_are_the_same_frames() -> None:
    grey = FrameOptions(width=17, height=12)
    assert motion(VIDEO.tobytes(), SplitRequest(1024), grey) == motion(npy(VIDEO), SplitRequest(shards=7))
    colour = VIDEO.reshape(30, 12, 17, 3)
    assert track(npy(colour), SplitRequest(2048)) == reference.lines(reference.track(colour))
    raw = FrameOptions(width=17, height=12, channels=3)
    assert track(colour.tobytes(), SplitRequest(2048), raw) == track(npy(colour), SplitRequest(2048))


def test_a_lost_halo_or_carry_turns_the_comparison_red() -> None:
    kind, options = FrameTrack(), FrameOptions()
    pieces = cut(kind, npy(VIDEO), options, SplitRequest(2048))
    steps = [kind.step(ShardView(p.payload, p.meta, seq, 0), b"", options)[0] for seq, p in enumerate(pieces)]
    assert b"".join(steps) != reference.lines(reference.track(VIDEO))
    shifted = np.roll(VIDEO, 1, axis=0)
    assert motion(npy(shifted), SplitRequest(2048)) != reference.lines(reference.motion(VIDEO))


@pytest.mark.parametrize(
    ("body", "options", "error", "why"),
    [
        (npy(VIDEO[0]), FrameOptions(), BadInput, r"\(frames, height, width\) is needed"),
        (npy(VIDEO.astype(np.uint32)), FrameOptions(), BadInput, "supported are uint8 and uint16"),
        (b"123", FrameOptions(), BadRequest, "raw frames need"),
        (VIDEO.tobytes()[:-1], FrameOptions(width=17, height=12), BadInput, "89 frames of 204 bytes and 203 bytes"),
        (b"", FrameOptions(width=17, height=12), BadInput, "empty"),
    ],
)
def test_what_are_no_frames_is_refused(body: bytes, options: FrameOptions, error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        motion(body, SplitRequest(1024), options)


def test_a_background_of_another_size_is_refused() -> None:
    (piece,) = cut(FrameTrack(), npy(VIDEO[:2]), FrameOptions(), SplitRequest(1024))
    with pytest.raises(PermanentError, match="background has 3 values"):
        FrameTrack().step(ShardView(piece.payload, piece.meta, 1, 0), bytes(12), FrameOptions())
