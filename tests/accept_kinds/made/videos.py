"""Videos as NPY, raw frames, y4m, MP4 and Matroska for both kinds of frames; bodies that are no frames; and damage."""

import io
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from reference import frames as reference

from accept_kinds.case import Case, Equal, Refusal, Want, as_oracle_says
from accept_kinds.made.images import scene
from accept_kinds.oracles.video import decode

COUNT, HEIGHT, WIDTH = 30, 48, 64
FEW = ("4096", "default", "one")
Frames = np.ndarray[Any, np.dtype[Any]]
KINDS: dict[str, Callable[[Frames], Any]] = {"motion": reference.motion, "track": reference.track}


def cases(seed: int) -> Iterator[Case]:
    """Yield them all."""
    grey = video(seed)[:, :, :, 0]
    for kind in KINDS:
        yield _both(kind, "npy", npy(grey), lambda: grey, settings={"sizes": FEW, "fast": True})
        yield _both(kind, "npy-rgb", npy(video(seed)), lambda: video(seed))
        yield _both(kind, "npy-uint16", npy(grey.astype(np.uint16) * 257), lambda: grey.astype(np.uint16) * 257)
        raw: dict[str, Any] = {"width": str(WIDTH), "height": str(HEIGHT)}
        yield _both(kind, "raw", grey.tobytes(), lambda: grey, **raw)
        yield _both(kind, "raw-rgb", video(seed).tobytes(), lambda: video(seed), **raw, channels="3")
        for form, codec in (("mp4", "libx264"), ("matroska", "libx264"), ("matroska", "ffv1"), ("mp4", "mpeg4")):
            body = encoded(seed, form, codec)
            for pixels in ("gray", "luma") if codec == "libx264" else ("gray",):
                given = {} if pixels == "gray" else {"pixels": pixels}
                name = f"{form}-{codec}-{pixels}"
                settings = {"sizes": FEW, "fast": name == "mp4-libx264-gray"}
                yield _both(kind, name, body, partial(decode, body, pixels), settings=settings, **given)
        yield _both(kind, "y4m", y4m(grey), lambda: decode(y4m(grey)))
    yield from _large(seed)
    yield from _no_frames(seed)


def video(seed: int, count: int = COUNT) -> Frames:
    """A scene that moves: RGB of 8 bits."""
    wide = scene(seed, "uint8", 3, HEIGHT, WIDTH + count)
    return np.stack([wide[:, at : at + WIDTH] for at in range(count)])


def npy(array: Frames) -> bytes:
    """An NPY file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def encoded(seed: int, form: str, codec: str, keyframes: int = 7) -> bytes:
    """The scene by FFmpeg."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = keyframes
        stream.codec_context.thread_count = 1
        for picture in video(seed):
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return file.getvalue()


def y4m(grey: Frames) -> bytes:
    """Frames of one plane."""
    head = f"YUV4MPEG2 W{grey.shape[2]} H{grey.shape[1]} F25:1 Ip A1:1 Cmono\n".encode()
    return head + b"".join(b"FRAME\n" + frame.tobytes() for frame in grey)


def _both(
    kind: str,
    name: str,
    body: bytes,
    frames: Callable[[], Frames],
    settings: dict[str, Any] | None = None,
    **options: str,
) -> Case:
    def want() -> Want:
        return as_oracle_says(lambda: Equal("lines", (KINDS[kind](frames()),)), "PyAV refuses it")

    asked = {"sizes": FEW} if settings is None else settings
    return Case(f"video/{kind}-{name}", f"frames.{kind}", lambda: body, want, options, **asked)


def _large(seed: int) -> Iterator[Case]:
    """Frames of 1080p in RGB, above the limit of a shard's carry as float32."""
    large = np.random.default_rng(seed).integers(0, 256, (3, 1080, 1920, 3)).astype(np.uint8)
    for kind in KINDS:
        yield _both(kind, "1080p-rgb", npy(large), lambda: large, settings={"sizes": ("default",)})


def _no_frames(seed: int) -> Iterator[Case]:
    raw = {"width": str(WIDTH), "height": "1"}
    bodies = {
        "mp4": encoded(seed, "mp4", "libx264"),
        "y4m": y4m(video(seed)[:, :, :, 0]),
        "npz": _npz(seed),
        "png": b"\x89PNG\r\n\x1a\n" + bytes(WIDTH * 20),
    }
    for name in ("npz", "png"):
        body = bodies[name] + bytes(-len(bodies[name]) % WIDTH)  # of a length that divides
        yield _bad(f"{name}-as-raw", body, f"{name} is no raw video", raw, True)
    yield _bad(
        "odd-length",
        video(seed).tobytes()[:-7],
        "the last frame is not whole",
        {"width": str(WIDTH), "height": str(HEIGHT), "channels": "3"},
    )
    yield _bad("npy-cut-off", npy(video(seed))[:-900], "fewer frames than the header says", {}, True)
    for form in ("mp4", "matroska"):
        body = encoded(seed, form, "libx264")
        yield _bad(f"{form}-cut-off", body[: len(body) // 2], "the file is cut off", {})
    cut = bodies["y4m"][:-500]
    yield _bad("y4m-cut-off", cut, "the last frame is not whole", {})


def _npz(seed: int) -> bytes:
    file = io.BytesIO()
    np.savez(file, frames=video(seed))
    return file.getvalue()


def _bad(name: str, body: bytes, why: str, options: dict[str, str], fast: bool = False) -> Case:
    refusal = Refusal(why)
    return Case(f"video/bad-{name}", "frames.motion", lambda: body, lambda: refusal, options, sizes=FEW, fast=fast)
