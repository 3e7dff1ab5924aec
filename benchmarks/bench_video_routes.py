"""Packets or pixels: bytes that travel and CPU that each side takes for one video, without Kafka.

    .venv/bin/python benchmarks/bench_video_routes.py CLIP.mp4

Cuts the file both ways and runs `frames.motion` on every shard, in this process. Prints one JSON object a way.
"""

import json
import sys
import time
from pathlib import Path

from regather.kinds.video.frames import FrameMotion
from regather.kinds.video.options import FrameOptions
from regather.processors.base import HEAD_BYTES, FileSplitter, ShardView, SplitRequest


def measure(path: Path, cut_at: str) -> dict[str, object]:
    kind, options = FrameMotion(), FrameOptions.model_validate({"cut_at": cut_at})
    head = path.read_bytes()[:HEAD_BYTES]
    splitter = kind.splitter(options, SplitRequest(size_bytes=path.stat().st_size, head=head))
    assert isinstance(splitter, FileSplitter)
    shards, size_bytes, worked_s = 0, 0, 0.0
    outputs: list[bytes | None] = []
    begun_s = time.process_time()
    for piece in splitter.cut(path):
        called_s = time.process_time()
        outputs.append(kind.process(ShardView(piece.payload, piece.meta, shards, 0), options))
        worked_s += time.process_time() - called_s
        shards += 1
        size_bytes += len(piece.payload)
    frames = kind.merge(outputs, options).count(b"\n")
    cut_s = time.process_time() - begun_s - worked_s
    return {
        "cut_at": cut_at,
        "frames": frames,
        "shards": shards,
        "bytes_per_frame": size_bytes // frames,
        "cut_ms_per_frame": round(cut_s * 1000 / frames, 2),
        "work_ms_per_frame": round(worked_s * 1000 / frames, 2),
    }


if __name__ == "__main__":
    for way in ("keyframes", "frames"):
        print(json.dumps(measure(Path(sys.argv[1]), way)))
