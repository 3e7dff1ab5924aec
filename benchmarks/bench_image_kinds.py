"""What cutting a DICOM file of 200 MB takes, what `image.features` counts in how long, and what each operator of
`image.map` takes, in one process, without Kafka.

    PYTHONPATH=tests .venv/bin/python benchmarks/bench_image_kinds.py

Prints one JSON object: {"cut": {name: {"mb_per_s", "seconds", "cpu_s"}}, "bands": {name: nanoseconds
for each value, the least of 20 runs of one band}, "operators": {name: {"cpu_s_per_200_mb",
"bytes_sent_ratio"}}}. An operator runs on six shards of an image of 25 MB, and its CPU is scaled to 200 MB.
"""

import io
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from reference.dicom_files import dicom

from regather.kinds.image.bands import count_band
from regather.kinds.image.map import ImageMap, MapOptions
from regather.processors.base import HEAD_BYTES, FileSplitter, Piece, ShardView, SplitRequest
from regather.processors.registry import parse_options
from regather.processors.splitting.rows import Band
from regather.service.memory_tuning import CHILD_KEEPS_BYTES, keep_freed_memory

KIND = ImageMap()
MB = 1_000_000
SIDE = 10_000
SHAPE = (1024, 8192, 3)
OPERATORS: dict[str, dict[str, Any]] = {
    "gaussian sigma 2": {"operator": "gaussian", "sigma": 2},
    "gaussian sigma 10": {"operator": "gaussian", "sigma": 10},
    "median 3": {"operator": "median", "size": 3},
    "median 5": {"operator": "median", "size": 5},
    "median 9": {"operator": "median", "size": 9},
    "threshold": {"operator": "threshold", "value": 100},
    "rescale": {"operator": "rescale", "factor": 1.1},
    "resize 0.5 area": {"operator": "resize", "scale": 0.5},
    "resize 0.1 area": {"operator": "resize", "scale": 0.1},
    "resize 2 nearest": {"operator": "resize", "scale": 2, "interpolation": "nearest"},
    "resize 2 bilinear": {"operator": "resize", "scale": 2, "interpolation": "bilinear"},
}


def options_of(given: dict[str, Any]) -> MapOptions:
    options = parse_options(KIND, given)
    assert isinstance(options, MapOptions)
    return options


def write_file(path: Path, **tags: Any) -> None:
    rows = np.random.default_rng(1).integers(0, 4096, (SIDE, SIDE), np.uint16)
    path.write_bytes(dicom(rows, **tags))


def cut(path: Path) -> dict[str, float]:
    head = path.open("rb").read(HEAD_BYTES)
    request = SplitRequest(head=head, size_bytes=path.stat().st_size)
    begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
    splitter = KIND.splitter(options_of({"operator": "threshold", "value": 1}), request)
    assert isinstance(splitter, FileSplitter)
    sent = sum(len(piece.payload) for piece in splitter.cut(path))
    seconds, cpu_s = time.perf_counter() - begun_s, time.process_time() - begun_cpu_s
    return {"mb_per_s": round(sent / MB / seconds), "seconds": round(seconds, 2), "cpu_s": round(cpu_s, 2)}


def band(image: np.ndarray) -> float:
    rows, width, channels = image.shape
    shape = Band(3, rows - 6, 3, 3, width, channels, str(image.dtype), None)
    payload, taken_s = image.tobytes(), []
    for _ in range(20):
        begun_s = time.process_time()
        count_band(payload, shape)
        taken_s.append(time.process_time() - begun_s)
    return round(min(taken_s) / (image.size - 6 * width * channels) * 1e9, 1)


def bands() -> dict[str, float]:
    random = np.random.default_rng(1)
    y, x = np.ogrid[0:51, 0:10_240]
    grey = ((y + x) % 3840 + random.integers(0, 256, (51, 10_240)))[:, :, None]
    return {
        "12 bits in uint16": band(grey.astype(np.uint16)),
        "Hounsfield units in int16": band((grey - 1024).astype(np.int16)),
        "noise in uint16": band(random.integers(0, 65_536, (51, 10_240, 1), np.uint16)),
        "noise in uint16, 64 KiB": band(random.integers(0, 65_536, (38, 1024, 1), np.uint16)),
        "RGB, smooth": band(np.repeat((grey[:, :6_826] // 16).astype(np.uint8), 3, axis=2)),
        "RGB, noise": band(random.integers(0, 256, (51, 6_826, 3), np.uint8)),
    }


def operator(given: dict[str, Any], image: np.ndarray) -> dict[str, float]:
    file = io.BytesIO()
    np.save(file, image)
    body, options = file.getvalue(), options_of(given)
    splitter = KIND.splitter(options, SplitRequest(head=body[:HEAD_BYTES]))
    assert not isinstance(splitter, FileSplitter)
    pieces: list[Piece] = [*splitter.feed(body), *splitter.finish()]
    some = pieces[:6]
    begun_s = time.process_time()
    for seq, piece in enumerate(some):
        KIND.process(ShardView(piece.payload, piece.meta, seq, 0), options)
    cpu_s = (time.process_time() - begun_s) / len(some) * len(pieces)
    sent = sum(len(piece.payload) for piece in pieces)
    return {
        "cpu_s_per_200_mb": round(cpu_s * 200 * MB / image.nbytes, 2),
        "bytes_sent_ratio": round(sent / image.nbytes, 2),
    }


def main() -> None:
    keep_freed_memory(CHILD_KEEPS_BYTES)
    found: dict[str, Any] = {}
    files = {"16 bits": {}, "12 bits, rescaled": {"stored": 12, "RescaleSlope": "1", "RescaleIntercept": "-1024"}}
    with tempfile.TemporaryDirectory() as folder:
        for name, tags in files.items():
            write_file(Path(folder) / name, **tags)
        found["cut"] = {name: cut(Path(folder) / name) for name in files}
    found["bands"] = bands()
    image = np.random.default_rng(2).integers(0, 256, SHAPE, np.uint8)
    found["operators"] = {name: operator(given, image) for name, given in OPERATORS.items()}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
