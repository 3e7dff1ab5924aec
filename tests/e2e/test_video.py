"""Video over the whole chain: decoded in children, large frames in stripes, damage refused or failed once."""

from pathlib import Path

import av
import numpy as np
import pytest
from reference import frames as reference
from reference import video_files

from regather_cli.client import ApiError, Client, Submission

pytestmark = [
    pytest.mark.long,
    pytest.mark.kafka,
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),
]

KINDS = (("frames.motion", reference.motion), ("frames.track", reference.track))


async def answer(client: Client, submission: Submission, body: Path | bytes) -> bytes:
    document = await client.submit(submission, body)
    document = await client.wait(document["job_id"], timeout_s=120)
    assert document["state"] == "succeeded", document
    return await client.result(document["job_id"])


@pytest.mark.parametrize(
    ("name", "encoder"), [("a.mp4", "libx264"), ("a.mkv", "libx265"), ("a.webm", "libvpx-vp9"), ("b.mkv", "ffv1")]
)
async def test_a_video_over_the_chain_equals_the_loop_over_its_frames(
    client: Client, tmp_path: Path, name: str, encoder: str
) -> None:
    path = video_files.encode(tmp_path / name, encoder, "yuv420p")
    frames, times = reference.decoded(path, "gray")
    for kind, expected in KINDS:
        wanted = reference.lines(expected(frames, 16, times))
        assert await answer(client, Submission(kind, {}, shard_size_bytes=1024), path) == wanted


async def test_frames_in_stripes_over_the_chain_equal_the_loop(client: Client, tmp_path: Path) -> None:
    frames = np.random.default_rng(3).integers(0, 256, (3, 1080, 1920, 3), np.uint8)
    np.save(tmp_path / "a.npy", frames)
    for kind, expected in KINDS:
        assert await answer(client, Submission(kind, {}), tmp_path / "a.npy") == reference.lines(expected(frames))


async def test_a_video_that_is_cut_off_is_refused_in_our_words(client: Client, tmp_path: Path) -> None:
    body = video_files.encode(tmp_path / "a.mp4", "libx264", "yuv420p").read_bytes()
    with pytest.raises(ApiError, match="ends at byte") as caught:
        await client.submit(Submission("frames.motion", {}), body[:-100])
    assert caught.value.status == 422


async def test_a_shard_that_is_damaged_fails_once_and_says_where(client: Client, tmp_path: Path) -> None:
    path = video_files.encode(tmp_path / "a.mp4", "libx264", "yuv420p")
    body = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        third = [packet.pos for packet in container.demux(video=0) if packet.size and packet.is_keyframe][2]
    assert third is not None
    inside = third + 60
    body[inside : inside + 100] = b"\xff" * 100
    document = await client.submit(Submission("frames.motion", {}, shard_size_bytes=1024), bytes(body))
    document = await client.wait(document["job_id"], timeout_s=60)
    assert document["state"] == "failed", document
    assert [error["attempts"] for error in document["errors"]] == [1]
    assert "damaged at frame" in document["errors"][0]["error"]
