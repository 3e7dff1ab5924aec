"""The computations of both kinds on a run of frames, value by value. Sums and counts are exact integers."""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KEPT, TAKEN = 0.9, 0.1
"""Weights of the background and of the new frame."""

_EXACT_VALUES = 1 << 24
"""The sum of this many 8-bit differences is below 2^32."""


@dataclass(frozen=True, slots=True)
class Motion:
    """Difference of a frame from the one before it: the sum of |f - previous f|, and how many exceed the threshold."""

    motion: int
    changed: int


@dataclass(frozen=True, slots=True)
class Track:
    """How many values differ from the background by more than the threshold, and the CRC-32 of the next background."""

    foreground: int
    background_crc32: int


def compare(before: "NDArray[np.generic]", now: "NDArray[np.generic]", threshold: int) -> Motion:
    """Return the differences of two frames of the same unsigned type."""
    import numpy as np

    difference = np.maximum(before, now)
    difference -= np.minimum(before, now)
    if difference.dtype.itemsize == 1:
        parts = range(0, difference.size, _EXACT_VALUES)
        total = sum(int(difference[at : at + _EXACT_VALUES].sum(dtype=np.uint32)) for at in parts)
    else:
        total = int(difference.sum(dtype=np.uint64))
    # No value exceeds a threshold above the type's maximum; NumPy compares with it correctly.
    return Motion(total, int(np.count_nonzero(difference > threshold)))


class Background:
    """The running background b = 0.9 b + 0.1 f in float32; it starts as the first frame."""

    def __init__(self, values: "NDArray[np.float32] | None" = None) -> None:
        self._values = values

    @property
    def size(self) -> int | None:
        """Number of values, None before the first frame."""
        return None if self._values is None else self._values.size

    def take(self, frame: "NDArray[np.generic]", threshold: int) -> Track:
        """Compare a frame with the background, then add the frame to the background."""
        import numpy as np

        values = frame.astype(np.float32)
        if self._values is None:
            self._values = values.copy()
        background = self._values
        away = values - background
        np.abs(away, out=away)
        foreground = int(np.count_nonzero(away > threshold))
        background *= np.float32(KEPT)
        values *= np.float32(TAKEN)
        background += values
        return Track(foreground, zlib.crc32(background.data))

    def encode(self) -> bytes:
        """Return the background as float32, little-endian."""
        return b"" if self._values is None else self._values.astype("<f4", copy=False).tobytes()


def motions(frames: Iterable["NDArray[np.generic]"], *, has_before: bool, threshold: int) -> Iterator[Motion | None]:
    """Yield how each frame differs from the one before it, None for the very first frame.

    With `has_before`, the first of `frames` only precedes the first requested frame.
    """
    before = None
    for frame in frames:
        if before is not None:
            yield compare(before, frame, threshold)
        elif not has_before:
            yield None
        before = frame
