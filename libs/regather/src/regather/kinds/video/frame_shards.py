"""The `meta` of a shard of frames, for the three ways in which frames travel.

A shard is a run of frames. Most frames fit one. A larger frame is cut into *stripes*, runs of its values; all frames'
first stripes come first, then all second ones. Both kinds process each value independently, so a stripe is analysed
like a small frame, and the figures of all stripes of a frame are added up when the outputs are joined.
"""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from regather.core.errors import BadInput
from regather.core.sharding import DEFAULT_SHARD_BYTES, MAX_SHARD_BYTES
from regather.processors.base import Piece, SplitRequest
from regather.processors.splitting.rows import Band, RowLayout, RowSplitter

_CARRY_BYTES = 8 * 1024 * 1024
"""Largest background that is carried over; this leaves room for the lines beside it."""

_FLOAT_BYTES = 4
_STRIPED_SHARD_BYTES = 4 * 1024 * 1024
_MIN_STRIPE_BYTES = 256 * 1024
_STRIPES_PER_SHARD = 10
_FRAMES_PER_SHARD = 10
MAX_FRAME_VALUES = 3 * 8192 * 8192
"""Largest frame: 8192 x 8192 pixels of three values."""


@dataclass(frozen=True, slots=True)
class Stripe:
    """Values `first` to `first + count - 1` of frames that are cut into `of` stripes; this one is number `index`."""

    first: int
    count: int
    index: int = 0
    of: int = 1


@dataclass(frozen=True, slots=True)
class Clock:
    """When frames are shown: frame n at n / rate, or at pts[n] x time_base; both None if the file has no clock."""

    rate: Fraction | None = None
    time_base: Fraction | None = None

    def encode(self, pts: list[int | None]) -> dict[str, Any]:
        """Return the clock as JSON fields; `pts` are those of the shard's own frames."""
        if self.rate is not None:
            return {"rate": str(self.rate)}
        return {"time_base": str(self.time_base), "pts": pts} if self.time_base is not None else {}


def microseconds(pts: int | None, time_base: Fraction) -> int | None:
    """Return the time of a frame in microseconds, rounded half to even; None if the file has no time for it."""
    return None if pts is None else round(pts * time_base * 1_000_000)


def times_us(document: dict[str, Any], first: int, count: int) -> list[int | None] | None:
    """Parse what Clock.encode() wrote: the times of `count` frames from `first` on; None without a clock."""
    if "rate" in document:
        return [microseconds(number, 1 / Fraction(document["rate"])) for number in range(first, first + count)]
    if "pts" in document:
        base = Fraction(document["time_base"])
        return [microseconds(pts, base) for pts in document["pts"]]
    return None


@dataclass(frozen=True, slots=True)
class FrameLayout:
    """Layout of a frame's values in shards. `levels` names the format whose luma becomes grey (see levels.py)."""

    values: int
    dtype: str
    levels: str = ""
    frames: int | None = None

    @property
    def item_bytes(self) -> int:
        """Size of a value in bytes."""
        return 1 if self.dtype == "uint8" else 2

    def check(self) -> "FrameLayout":
        """Return the layout; BadInput if a frame is too large."""
        if self.values > MAX_FRAME_VALUES:
            raise BadInput(
                f"a frame has {self.values} values; at most {MAX_FRAME_VALUES} (8192 x 8192 x 3) are supported"
            )
        return self


def needs_stripes(layout: FrameLayout, *, carries: bool) -> bool:
    """Whether a frame with a neighbour on either side, or the background made from it, does not fit a record."""
    too_wide = layout.values * layout.item_bytes * 3 > MAX_SHARD_BYTES
    return too_wide or (carries and layout.values * _FLOAT_BYTES > _CARRY_BYTES)


def stripes(layout: FrameLayout, request: SplitRequest, *, carries: bool, wide: bool = False) -> list[Stripe]:
    """Return the stripes of a frame: even ones, several of which fit a shard; one stripe if the frame fits whole.

    A stripe is about a tenth of a shard and at least 256 KiB, so that the halo is a fifth of the shard; if `wide`, a
    third.
    """
    if not needs_stripes(layout, carries=carries):
        return [Stripe(0, layout.values)]
    shard_bytes = request.shard_size_bytes or _STRIPED_SHARD_BYTES
    most_values = _CARRY_BYTES // _FLOAT_BYTES
    if not carries:
        most_values = max(_MIN_STRIPE_BYTES, shard_bytes // (3 if wide else _STRIPES_PER_SHARD)) // layout.item_bytes
    return _even(layout.values, -(-layout.values // most_values))


def carried_stripes(layout: FrameLayout) -> list[Stripe]:
    """Return the stripes of a frame that travels coded; only the background that is carried over has a limit."""
    return _even(layout.values, -(-layout.values * _FLOAT_BYTES // _CARRY_BYTES))


def _even(values: int, count: int) -> list[Stripe]:
    edges = [values * at // count for at in range(count + 1)]
    return [Stripe(first, last - first, at, count) for at, (first, last) in enumerate(itertools.pairwise(edges))]


Extra = Callable[[int, int], dict[str, Any]]


def with_extra(pieces: Iterator[Piece], layout: FrameLayout, stripe: Stripe, extra: Extra) -> Iterator[Piece]:
    """Add to each piece's meta its stripe, the levels, and the fields that `extra(first, count)` returns."""
    for piece in pieces:
        band = json.loads(piece.meta)
        more = dict(extra(band["row0"], band["rows"]))
        if stripe.of > 1:
            more["stripe"] = [stripe.first, stripe.count, stripe.index, stripe.of]
        if layout.levels:
            more["levels"] = layout.levels
        yield Piece(piece.payload, json.dumps(band | more, separators=(",", ":")).encode() if more else piece.meta)


def row_splitter(layout: FrameLayout, stripe: Stripe, request: SplitRequest, halo: int, offset: int = 0) -> RowSplitter:
    """Return the splitter for one stripe of all frames; it treats a frame as a row."""
    rows = RowLayout(stripe.count, 1, layout.dtype, layout.frames)
    if stripe.of > 1:
        usual_bytes = _STRIPED_SHARD_BYTES if halo else MAX_SHARD_BYTES  # each shard of a chain carries the background
        request = SplitRequest(request.shard_size_bytes or usual_bytes)
    return RowSplitter(rows, with_usual_size(layout, request), halo=halo, first_byte=offset)


def with_usual_size(layout: FrameLayout, request: SplitRequest) -> SplitRequest:
    """Return the request with a shard size, if it has none: one mebibyte, or ten frames if these are larger.

    Two frames of a shard may be its neighbours', and each shard of a chain carries a background of four bytes per
    value.
    """
    if request.shards is not None or request.shard_size_bytes is not None:
        return request
    frames_bytes = _FRAMES_PER_SHARD * layout.values * layout.item_bytes
    return replace(request, shard_size_bytes=min(MAX_SHARD_BYTES, max(DEFAULT_SHARD_BYTES, frames_bytes)))


@dataclass(frozen=True, slots=True)
class PixelShard:
    """A decoded shard meta: the frames as rows of values, their stripe, levels and times."""

    band: Band
    stripe: Stripe
    levels: str
    times_us: list[int | None] | None

    @classmethod
    def decode(cls, meta: bytes) -> "PixelShard":
        """Parse what with_extra() wrote; ValueError, TypeError or KeyError for anything else."""
        document = json.loads(meta)
        names = ("row0", "rows", "top", "bottom", "width", "channels", "dtype", "height")
        band = Band(**{name: document[name] for name in names})
        values = band.width * band.channels
        stripe = Stripe(*document["stripe"]) if "stripe" in document else Stripe(0, values)
        return cls(band, stripe, document.get("levels", ""), times_us(document, band.row0, band.rows))
