"""Small videos for tests, made by PyAV's encoders; imports nothing of Regather."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

WIDTH, HEIGHT = 64, 48
SUFFIX = {"mp4": "mp4", "mov": "mov", "matroska": "mkv", "webm": "webm", "avi": "avi", "nut": "nut"}


def pictures(count: int, width: int = WIDTH, height: int = HEIGHT) -> list[np.ndarray]:
    """Return frames of RGB: coloured blocks that move, with a little noise."""
    random = np.random.default_rng(5)
    blocks = random.integers(0, 255, (-(-height // 8), -(-width // 8), 3), np.uint8).repeat(8, 0).repeat(8, 1)
    blocks = blocks[:height, :width]
    noise = random.integers(0, 6, (count, height, width, 3), np.uint8)
    return [np.roll(blocks, (at * 3, at * 5), (0, 1)) // 2 + 40 + noise[at] for at in range(count)]


def encode(
    path: Path,
    encoder: str,
    pixel_format: str,
    container: str | None = None,
    *,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    frames: int = 20,
    times: Sequence[int] | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    prepare: Callable[[Any], None] | None = None,
) -> Path:
    """Write a video of this encoder; `times` are time stamps in milliseconds. Returns the path."""
    import av

    with av.open(str(path), "w", format=container, options=container_options or {}) as output:
        stream = output.add_stream(encoder, rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = *size, pixel_format
        stream.options = {**_QUICK.get(encoder, {}), **(options or {})}
        stream.codec_context.thread_count = 1
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if prepare is not None:
            prepare(stream)
        for at, picture in enumerate(pictures(frames, *size)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = at if times is None else times[at]
            frame.time_base = Fraction(1, 25) if times is None else Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


_QUICK = {
    "libx264": {"g": "6", "bf": "2", "preset": "veryfast"},
    "libx264rgb": {"g": "6", "preset": "veryfast"},
    "libx265": {"g": "6", "x265-params": "log-level=none", "preset": "ultrafast"},
    "libvpx": {"g": "6", "deadline": "realtime", "crf": "30"},
    "libvpx-vp9": {"g": "6", "deadline": "realtime", "cpu-used": "8", "crf": "30"},
    "libsvtav1": {"preset": "12"},
    "mpeg4": {"g": "6", "bf": "2"},
    "mpeg2video": {"g": "6", "bf": "2"},
}


def y4m(
    path: Path, colours: str, raw_frames: Sequence[bytes], *, size: tuple[int, int], rest: str = "F30000:1001 Ip A1:1"
) -> Path:
    """Write a y4m file of these frames; every third frame header has parameters."""
    colour = f" C{colours}" if colours else ""
    head = f"YUV4MPEG2 W{size[0]} H{size[1]} {rest}{colour}\n".encode()
    lines = [b"FRAME Ip XNOTE=1\n" if at % 3 == 2 else b"FRAME\n" for at in range(len(raw_frames))]
    path.write_bytes(head + b"".join(line + frame for line, frame in zip(lines, raw_frames, strict=True)))
    return path


def stored(path: Path, frames: Sequence[np.ndarray], pixel_format: str) -> list[bytes]:
    """Return the bytes of frames of RGB in another pixel format, all planes, without padding."""
    import av

    found = []
    for picture in frames:
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixel_format, threads=1)
        item = 2 if frame.format.components[0].bits > 8 else 1
        planes: list[bytes] = []
        for plane in frame.planes:
            rows = np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, plane.line_size)
            together = 2 if pixel_format == "nv12" and planes else 1  # U and V in turns
            planes.append(rows[:, : plane.width * item * together].tobytes())
        found.append(b"".join(planes))
    return found
