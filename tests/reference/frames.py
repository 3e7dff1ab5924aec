"""Unsharded reference of `frames.motion` and `frames.track`, written apart from the project: it imports nothing of it.

    python frames.py FRAMES.npy|CLIP.mp4 [--threshold 16] [--pixels gray|gray16le|rgb24|rgb48le]

Walks over the whole video, one frame after the other; PyAV decodes what is no NPY file. Prints {"features":
{"motion_sha256", "track_sha256"}, "seconds"} as one line of JSON; the digests are of the lines that both kinds give.
"""

import argparse
import hashlib
import json
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

Times = Sequence[float | None]


def motion(frames: np.ndarray, threshold: int = 16, times: Times | None = None) -> list[dict[str, Any]]:
    """Return one entry for each frame; frames are (n, ...) of uint8 or uint16. With `times` each entry has its own."""
    found: list[dict[str, Any]] = [_entry(0, times) | {"motion": None, "changed": None}]
    for number in range(1, len(frames)):
        before, now = frames[number - 1].astype(int), frames[number].astype(int)
        difference = np.abs(now - before)
        figures = {"motion": int(difference.sum()), "changed": int((difference > threshold).sum())}
        found.append(_entry(number, times) | figures)
    return found


def track(frames: np.ndarray, threshold: int = 16, times: Times | None = None) -> list[dict[str, Any]]:
    """Return one entry for each frame; the background is 0.9 b + 0.1 f in float32."""
    background = frames[0].ravel().astype(np.float32)
    found = []
    for number, frame in enumerate(frames):
        values = frame.ravel().astype(np.float32)
        foreground = int((np.abs(values - background) > threshold).sum())
        background = background * np.float32(0.9) + values * np.float32(0.1)
        crc = zlib.crc32(background.tobytes())
        found.append(_entry(number, times) | {"foreground": foreground, "background_crc32": crc})
    return found


def _entry(number: int, times: Times | None) -> dict[str, Any]:
    return {"frame": number} if times is None else {"frame": number, "time_s": times[number]}


def lines(entries: list[dict[str, Any]]) -> bytes:
    """Return the entries as NDJSON."""
    return "".join(json.dumps(entry) + "\n" for entry in entries).encode()


def decoded(path: Path, pixels: str | None = "gray") -> tuple[np.ndarray, list[float | None]]:
    """Return what PyAV decodes of a whole file, and when each frame is shown; None: the first plane as it is stored.

    One thread converts: with PyAV's default, several, frames of more than 8 bits differ from run to run (av 18.1).
    """
    import av

    frames, times = [], []
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"
        for frame in container.decode(video=0):
            assert frame.time_base is not None
            frames.append(_luma(frame) if pixels is None else frame.to_ndarray(format=pixels, threads=1))
            times.append(None if frame.pts is None else round(frame.pts * frame.time_base * 1_000_000) / 1_000_000)
    return np.stack(frames), times


def _luma(frame: Any) -> np.ndarray:
    plane = frame.planes[0]
    item = 2 if frame.format.components[0].bits > 8 else 1
    return np.frombuffer(plane, f"<u{item}").reshape(plane.height, -1)[:, : frame.width].copy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames", type=Path)
    parser.add_argument("--threshold", type=int, default=16)
    parser.add_argument("--pixels", default="gray")
    arguments = parser.parse_args()
    begun_s = time.perf_counter()
    if arguments.frames.suffix == ".npy":
        frames, times = np.load(arguments.frames), None
    else:
        frames, times = decoded(arguments.frames, arguments.pixels)
    found = {
        "motion_sha256": hashlib.sha256(lines(motion(frames, arguments.threshold, times))).hexdigest(),
        "track_sha256": hashlib.sha256(lines(track(frames, arguments.threshold, times))).hexdigest(),
    }
    print(json.dumps({"features": found, "seconds": round(time.perf_counter() - begun_s, 3)}))


if __name__ == "__main__":
    main()
