"""The demo's video: a bright square moving over noise, processed frame by frame and against a running background."""

from pathlib import Path

import numpy as np

from regather_cli.client import Submission
from regather_cli.demo.reference import independent_answer
from regather_cli.demo.verified import Check, VerifiedJob, bytes_digest, shown_seconds

FRAMES, HEIGHT, WIDTH = 300, 120, 160
SQUARE = 24
SHARD_BYTES = 256 * 1024
_SEED = 20_260_104


async def jobs(folder: Path) -> list[VerifiedJob]:
    """Return one job whose shards run in parallel, and one in which each shard needs the one before it."""
    path = folder / "frames.npy"
    np.save(path, _video())
    answer = await independent_answer("frames", path)
    note = f"{FRAMES} frames of {WIDTH} x {HEIGHT}; {shown_seconds(answer)}"
    return [
        VerifiedJob(name, Submission(f"frames.{name}", {}, SHARD_BYTES), path, check, text, answer.seconds)
        for name, check, text in (
            ("motion", Check(f"sha256:{answer.features['motion_sha256']}", bytes_digest), note),
            (
                "track",
                Check(f"sha256:{answer.features['track_sha256']}", bytes_digest),
                "each shard needs the one before",
            ),
        )
    ]


def _video() -> "np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]":
    words = np.random.PCG64(_SEED).random_raw(FRAMES * HEIGHT * WIDTH // 8)
    noise = words.astype("<u8").view(np.uint8)
    noise &= 15
    frames = noise.reshape(FRAMES, HEIGHT, WIDTH)
    for number, frame in enumerate(frames):
        top, left = number * 2 % (HEIGHT - SQUARE), number * 3 % (WIDTH - SQUARE)
        frame[top : top + SQUARE, left : left + SQUARE] += 200
    return frames
