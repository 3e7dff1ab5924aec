"""Kinds `frames.motion` and `frames.track`: video as raw frames of 8-bit pixels, answered frame by frame, in order.

`frames.motion` compares each frame with the one before it, which the splitter puts into the shard: shards run in
parallel. `frames.track` keeps a running background b = 0.9 b + 0.1 f (float32, b begins as frame 0), which needs all
frames before: shards run one after the other, each with the background that the one before it carried over. Both
answers equal a loop over the whole video bit for bit.
"""

import json
import zlib
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from regather.core.errors import BadInput, BadRequest, PermanentError
from regather.kinds.video import EXTRA
from regather.processors.base import DATA_ERRORS, FileSplitter, Options, Processor, ShardView, SplitRequest, Splitter
from regather.processors.splitting.npy import MAGIC, npy_splitter, refuse_other_arrays
from regather.processors.splitting.rows import Band, RowLayout, RowSplitter, raw_layout

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KEPT, TAKEN = 0.9, 0.1
"""Weights of the background and of the new frame."""


class FrameOptions(Options):
    """An NPY file of shape (frames, height, width) says its geometry itself; raw frames need width and height."""

    format: Literal["auto", "raw", "npy"] = Field(default="auto", description="auto looks at the first bytes")
    width: int | None = Field(default=None, ge=1, description="pixels in a row")
    height: int | None = Field(default=None, ge=1, description="rows of a frame")
    channels: int = Field(default=1, ge=1, le=4, description="interleaved values of a pixel")
    threshold: int = Field(default=16, ge=0, le=255, description="a larger difference counts as a change")


class FrameMotion(Processor[FrameOptions]):
    """How much each frame differs from the one before it."""

    options_model = FrameOptions
    certain = DATA_ERRORS
    extra = EXTRA
    result_type = "application/x-ndjson"
    merges = False

    def splitter(self, options: FrameOptions, request: SplitRequest) -> Splitter | FileSplitter:
        """See Processor."""
        return _splitter(options, request, halo=1)

    def process(self, shard: ShardView, options: FrameOptions) -> bytes:
        """Return a line for each frame: `motion` = sum of |f - previous f|, `changed` = values above the threshold."""
        import numpy as np

        band, frames = _frames(shard)
        wide = frames.astype(np.int16)
        lines = []
        for at in range(band.top, band.top + band.rows):
            line = {"frame": band.row0 + at - band.top, "motion": None, "changed": None}
            if at > 0:
                difference = np.abs(wide[at] - wide[at - 1])
                line["motion"] = int(difference.sum(dtype=np.int64))
                line["changed"] = int(np.count_nonzero(difference > options.threshold))
            lines.append(json.dumps(line))
        return _joined(lines)


class FrameTrack(Processor[FrameOptions]):
    """What stands out of a running background; each shard needs the one before it."""

    options_model = FrameOptions
    certain = DATA_ERRORS
    extra = EXTRA
    result_type = "application/x-ndjson"
    merges = False
    chained = True

    def splitter(self, options: FrameOptions, request: SplitRequest) -> Splitter | FileSplitter:
        """See Processor."""
        return _splitter(options, request, halo=0)

    def step(self, shard: ShardView, carry: bytes, options: FrameOptions) -> tuple[bytes, bytes]:
        """Return a line for each frame, and the background as float32.

        `foreground` = values that differ from the background by more than the threshold, before it takes the frame in;
        `background_crc32` is of the background after that, so that a difference in one bit shows.
        """
        import numpy as np

        band, frames = _frames(shard)
        background = np.frombuffer(carry, "<f4").copy() if carry else frames[:1].astype(np.float32).reshape(-1)
        if len(frames) and background.size != frames.shape[1]:
            raise PermanentError(f"the background has {background.size} values, a frame {frames.shape[1]}")
        lines = []
        for number, frame in enumerate(frames, band.row0):
            values = frame.astype(np.float32)
            foreground = int(np.count_nonzero(np.abs(values - background) > options.threshold))
            background = np.float32(KEPT) * background + np.float32(TAKEN) * values
            crc = zlib.crc32(background.tobytes())
            lines.append(json.dumps({"frame": number, "foreground": foreground, "background_crc32": crc}))
        return _joined(lines), background.astype("<f4").tobytes()


def _splitter(options: FrameOptions, request: SplitRequest, *, halo: int) -> Splitter | FileSplitter:
    head = request.head or b""
    if options.format == "auto":
        refuse_other_arrays(head)
    npy = options.format == "npy" or (options.format == "auto" and head.startswith(MAGIC))
    unknown = request.head is None and options.format == "auto" and options.width is None
    if npy or unknown:
        return npy_splitter(request, halo=halo, check=_check, frames=True, empty=True)
    if options.width is None or options.height is None:
        raise BadRequest("raw frames need the options 'width' and 'height' (and channels, if there are any)")
    layout = RowLayout(options.width * options.height, options.channels, "uint8")
    return RowSplitter(raw_layout(layout, request), request, halo=halo)


def _check(layout: RowLayout) -> None:
    if layout.dtype != "uint8":
        raise BadInput(f"the frames hold values of type {layout.dtype}; uint8 is taken")


def _frames(shard: ShardView) -> "tuple[Band, NDArray[np.uint8]]":
    """The shard's frames, one a row, its neighbours' among them."""
    import numpy as np

    try:
        band = Band.decode(shard.meta)
        count = band.top + band.rows + band.bottom
        return band, np.frombuffer(shard.payload, np.uint8).reshape(count, band.width * band.channels)
    except (ValueError, TypeError) as error:
        raise PermanentError(f"shard {shard.seq} holds no frames: {error}") from error


def _joined(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
