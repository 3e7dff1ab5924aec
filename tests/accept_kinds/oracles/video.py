"""Frames of a whole video by PyAV, one after the other: (frames, height, width) or (..., 3)."""

import io
from typing import Any

import numpy as np

from accept_kinds.oracles import OracleRefused

Frames = np.ndarray[Any, np.dtype[Any]]


def decode(body: bytes, pixels: str = "gray") -> Frames:
    """Grey values as swscale makes them, luma as stored (8-bit YUV), or RGB."""
    import av

    try:
        with av.open(io.BytesIO(body), "r") as container:
            frames = [_pixels(frame, pixels) for frame in container.decode(video=0)]
    except av.error.FFmpegError as error:
        raise OracleRefused(str(error)) from error
    if not frames:
        raise OracleRefused("there is no frame")
    return np.stack(frames)


def _pixels(frame: Any, pixels: str) -> Frames:
    if pixels == "luma":
        plane = frame.planes[0]
        return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
    if pixels == "rgb":
        return np.asarray(frame.to_ndarray(format="rgb24"))
    deep = frame.format.components[0].bits > 8
    return np.asarray(frame.to_ndarray(format="gray16le" if deep else "gray"))
