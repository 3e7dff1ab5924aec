"""Unsharded reference of `frames.motion` and `frames.track`, written apart from the project: it imports nothing of it.

    python frames.py FRAMES.npy [--threshold 16]

Walks over the whole video, one frame after the other. Prints {"features": {"motion_sha256", "track_sha256"}, "seconds"}
as one line of JSON; the digests are of the lines that both kinds give.
"""

import argparse
import hashlib
import json
import time
import zlib
from pathlib import Path

import numpy as np


def motion(frames: np.ndarray, threshold: int = 16) -> list[dict[str, int | None]]:
    """Return one entry for each frame; frames are (n, ...) of uint8."""
    found: list[dict[str, int | None]] = [{"frame": 0, "motion": None, "changed": None}]
    for number in range(1, len(frames)):
        before, now = frames[number - 1].astype(int), frames[number].astype(int)
        difference = np.abs(now - before)
        found.append({"frame": number, "motion": int(difference.sum()), "changed": int((difference > threshold).sum())})
    return found


def track(frames: np.ndarray, threshold: int = 16) -> list[dict[str, int]]:
    """Return one entry for each frame; the background is 0.9 b + 0.1 f in float32."""
    background = frames[0].ravel().astype(np.float32)
    found = []
    for number, frame in enumerate(frames):
        values = frame.ravel().astype(np.float32)
        foreground = int((np.abs(values - background) > threshold).sum())
        background = background * np.float32(0.9) + values * np.float32(0.1)
        crc = zlib.crc32(background.tobytes())
        found.append({"frame": number, "foreground": foreground, "background_crc32": crc})
    return found


def lines(entries: list[dict[str, int | None]] | list[dict[str, int]]) -> bytes:
    """Return the entries as NDJSON."""
    return "".join(json.dumps(entry) + "\n" for entry in entries).encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames", type=Path)
    parser.add_argument("--threshold", type=int, default=16)
    arguments = parser.parse_args()
    begun_s = time.perf_counter()
    frames = np.load(arguments.frames)
    found = {
        "motion_sha256": hashlib.sha256(lines(motion(frames, arguments.threshold))).hexdigest(),
        "track_sha256": hashlib.sha256(lines(track(frames, arguments.threshold))).hexdigest(),
    }
    print(json.dumps({"features": found, "seconds": round(time.perf_counter() - begun_s, 3)}))


if __name__ == "__main__":
    main()
