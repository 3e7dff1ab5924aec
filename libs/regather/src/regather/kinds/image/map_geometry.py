"""The size of an `image.map` result, and the rows of the image that each row of the result is computed from.

Theory. A shard owns rows of the result, never rows of the image: it gets all rows of the image that its own rows are
computed from. So every operator is one function from a row of the result to a range of rows of the image that never
runs backwards. The cut follows from this function (map_plan), and no pixel is computed by two shards.

Resizing maps n pixels of an axis to m, in whole numbers only: n and m are divided by their greatest common divisor, and
every pixel j of the result is a sum of pixels i of the image with whole weights that add up to `total`:

- nearest:  i = floor((2j + 1) n / 2m), weight 1, total 1: the pixel that contains the middle of j.
- area:     pixel i covers [i m, (i + 1) m), pixel j covers [j n, (j + 1) n); the weight is their overlap, total n.
- bilinear: with t = (2j + 1) n - m, i = floor(t / 2m) has the weight 2m - (t mod 2m) and i + 1 has t mod 2m, total 2m;
  pixels outside of the image are the outermost ones. It uses two pixels, however much smaller the result is.

Both axes together: the sum over rows of the sums over columns, divided by the product of the totals.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from regather.core.errors import BadInput
from regather.processors.splitting.rows import RowLayout

_MAX_TAPS = 1026
"""This still allows a reduction to a thousandth of the size."""

Method = Literal["nearest", "area", "bilinear"]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a resize: `source` pixels become `target` ones; `n` and `m` are these numbers in lowest terms."""

    source: int
    target: int
    method: Method

    @property
    def n(self) -> int:
        """Number of image pixels for m pixels of the result."""
        return self.source // math.gcd(self.source, self.target)

    @property
    def m(self) -> int:
        """Number of result pixels for n pixels of the image."""
        return self.target // math.gcd(self.source, self.target)

    @property
    def total(self) -> int:
        """Sum of the weights of one pixel of the result."""
        return {"nearest": 1, "area": self.n, "bilinear": 2 * self.m}[self.method]

    @property
    def taps(self) -> int:
        """Largest number of image pixels for one pixel of the result."""
        return {"nearest": 1, "area": -(-self.n // self.m) + 1, "bilinear": 2}[self.method]

    def first(self, j: int) -> int:
        """Return the first pixel of the image that pixel j of the result is computed from."""
        if self.method == "nearest":
            return (2 * j + 1) * self.n // (2 * self.m)
        if self.method == "area":
            return j * self.n // self.m
        return max(0, ((2 * j + 1) * self.n - self.m) // (2 * self.m))

    def last(self, j: int) -> int:
        """Return the last pixel of the image that pixel j of the result is computed from."""
        if self.method == "nearest":
            return self.first(j)
        if self.method == "area":
            return -(-(j + 1) * self.n // self.m) - 1
        return min(self.source - 1, ((2 * j + 1) * self.n - self.m) // (2 * self.m) + 1)


@dataclass(frozen=True, slots=True)
class Geometry:
    """The image, the result, and what a row of the result needs: `radius` rows around it, or a resize of `rows`."""

    source: RowLayout
    target: RowLayout
    radius: int = 0
    rows: Axis | None = None
    columns: Axis | None = None

    def needed(self, first: int, end: int) -> tuple[int, int]:
        """Return the rows of the image (first, end) that rows `first` to `end - 1` of the result are computed from."""
        if self.rows is not None:
            return self.rows.first(first), self.rows.last(end - 1) + 1
        height = self.source.height or end
        return max(0, first - self.radius), min(height, end + self.radius)

    def most_needed(self, rows: int) -> int:
        """Return the largest number of image rows that this many rows of the result can need."""
        if self.rows is None:
            return min(self.source.height or rows + 2 * self.radius, rows + 2 * self.radius)
        return min(self.rows.source, -(-rows * self.rows.n // self.rows.m) + 2)


def resized(
    source: RowLayout, method: Method, *, scale: float | None, to_width: int | None, to_height: int | None
) -> Geometry:
    """Return the geometry of a resize: by `scale`, or to a width or a height or both; one alone keeps the proportions.

    A size is rounded half up and at least 1. The image's height must be known.
    """
    height = source.height or 0
    factor = Fraction(str(scale)) if scale is not None else None
    if factor is None and to_width is not None:
        factor = Fraction(to_width, source.width)
    elif factor is None and to_height is not None:
        factor = Fraction(to_height, height)
    width = to_width or _scaled(source.width, factor)
    rows = to_height or _scaled(height, factor)
    target = RowLayout(width, source.channels, source.dtype, rows)
    across, down = Axis(source.width, width, method), Axis(height, rows, method)
    taps = max(across.taps, down.taps)
    if taps > _MAX_TAPS:
        raise BadInput(
            f"{source.width} x {height} to {width} x {rows} pixels: one pixel would need {taps} in a row; at most "
            f"{_MAX_TAPS} are allowed: do it in two steps"
        )
    if across.total * down.total >= 2**44:
        raise BadInput(
            f"{source.width} x {height} to {width} x {rows} pixels is not a ratio that can be computed exactly; "
            "choose a rounder one"
        )
    return Geometry(source, target, rows=down, columns=across)


def _scaled(size: int, factor: Fraction | None) -> int:
    return max(1, math.floor(size * (factor or 1) + Fraction(1, 2)))
