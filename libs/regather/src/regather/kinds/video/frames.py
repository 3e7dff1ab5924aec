"""Kinds `frames.motion` and `frames.track`: video, one line of results for each frame, in order.

`frames.motion` compares each frame with the one before it, which the splitter puts into the shard, so shards run in
parallel. `frames.track` keeps a running background b = 0.9 b + 0.1 f (float32; b starts as frame 0), which needs all
earlier frames. So its shards run one after the other, each with the background carried over from the one before. Both
results equal those of a loop over the whole video bit for bit.

Both kinds process each value of a frame independently. So a frame that does not fit a shard is cut into stripes, runs
of its values, and their figures are added up: see `frame_shards.py`. `options.py` decides how a body becomes frames.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import count, islice
from typing import TYPE_CHECKING, TypeVar

from typing_extensions import override

from regather.core.errors import PermanentError
from regather.kinds.video import EXTRA
from regather.kinds.video.frame_shards import PixelShard, Stripe
from regather.kinds.video.joining import joined, line, merge
from regather.kinds.video.levels import to_grey
from regather.kinds.video.operators import Background, Motion, Track, motions
from regather.kinds.video.options import FrameOptions, never_striped, splitter
from regather.kinds.video.packet_shards import META, PacketShard
from regather.processors.base import DATA_ERRORS, FileSplitter, Processor, ShardView, SplitRequest, Splitter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BACKGROUND_VALUE_BYTES = 4
_Found = TypeVar("_Found", Motion, Track)


class _FrameKind(Processor[FrameOptions]):
    """Common base of both kinds: turns runs of frames into lines."""

    options_model = FrameOptions
    certain = DATA_ERRORS
    extra = EXTRA
    result_type = "application/x-ndjson"

    @override
    def splitter(self, options: FrameOptions, request: SplitRequest) -> Splitter | FileSplitter:
        return splitter(options, request, halo=0 if self.chained else 1, carries=self.chained)

    @override
    def merges_outputs(self, options: FrameOptions) -> bool:
        return not never_striped(options)

    @override
    def merge(self, outputs: Sequence[bytes | None], options: FrameOptions) -> bytes:
        return merge(outputs, _BACKGROUND_VALUE_BYTES)


class FrameMotion(_FrameKind):
    """How much each frame differs from the one before it.

    A line for each frame: `motion` = sum of |f - previous f|, `changed` = number of values whose difference exceeds the
    threshold; both null in frame 0.
    """

    @override
    def process(self, shard: ShardView, options: FrameOptions) -> bytes:
        run = _run(shard, options, before=1)
        found = motions(run.frames, has_before=run.first > run.frame, threshold=options.threshold)
        return run.output(found, {"motion": None, "changed": None})


class FrameTrack(_FrameKind):
    """How much each frame differs from a running background; each shard needs the one before it.

    A line for each frame: `foreground` = number of values that differ by more than the threshold from the background
    before this frame is added; `background_crc32` is the CRC-32 of the background after that, so that a single wrong
    bit shows.
    """

    chained = True

    @override
    def step(self, shard: ShardView, carry: bytes, options: FrameOptions) -> tuple[bytes, bytes]:
        import numpy as np

        run = _run(shard, options, before=0)
        carried = b"" if run.stripe.index and not run.first else carry  # each stripe begins with its own background
        background = Background(np.frombuffer(carried, "<f4").astype(np.float32) if carried else None)
        if background.size not in (None, run.stripe.count):
            raise PermanentError(f"the background has {background.size} values, but a frame has {run.stripe.count}")

        found = (background.take(frame, options.threshold) for frame in run.frames)
        return run.output(found, {}), background.encode()


class _Run:
    """The frames of a shard: `frames` begins with number `frame`; lines are made for `first` to `end - 1`."""

    def __init__(
        self,
        frames: "Iterable[NDArray[np.generic]]",
        numbers: tuple[int, int, int],
        stripe: Stripe,
        time_us: Callable[[int], int | None] | None,
    ) -> None:
        self.frames = frames
        self.frame, self.first, self.end = numbers
        self.stripe = stripe
        self._time_us = time_us

    def output(self, found: "Iterator[_Found] | Iterator[_Found | None]", nothing: dict[str, int | None]) -> bytes:
        """Return the lines for the figures of each frame."""
        lines = []
        for number, one in zip(count(self.first), islice(found, self.end - self.first), strict=False):
            time_us = self._time_us(number) if self._time_us else None
            entry = nothing if one is None else asdict(one)
            lines.append(line(number, time_us, clock=self._time_us is not None, found=entry))
        return joined(lines, self.stripe)


def _run(shard: ShardView, options: FrameOptions, *, before: int) -> _Run:
    """Return a shard's frames, beginning up to `before` frames earlier than the first one that needs a line."""
    try:
        if shard.meta == META:
            coded = PacketShard.decode(shard.payload)
            begin = max(coded.frame, coded.first - before)
            numbers = (begin, coded.first, coded.end)
            return _Run(coded.frames(options.pixels or "gray", begin), numbers, coded.stripe, coded.time_us)
        return _pixel_run(shard)
    except (ValueError, TypeError, KeyError) as error:
        raise PermanentError(f"shard {shard.seq} has no valid frames: {error}") from error


def _pixel_run(shard: ShardView) -> _Run:
    import numpy as np

    pixels = PixelShard.decode(shard.meta)
    band = pixels.band
    rows = band.top + band.rows + band.bottom
    values = np.frombuffer(shard.payload, "<u2" if band.dtype == "uint16" else band.dtype)
    if values.size != rows * pixels.stripe.count:
        raise ValueError(f"{values.size} values, not {rows} frames of {pixels.stripe.count}")
    values = values.reshape(rows, pixels.stripe.count)  # an array without frames has one shard without frames
    times = pixels.times_us
    time_us = None if times is None else lambda number: times[number - band.row0]
    numbers = (band.row0 - band.top, band.row0, band.row0 + band.rows)
    return _Run((to_grey(row, pixels.levels) for row in values), numbers, pixels.stripe, time_us)
