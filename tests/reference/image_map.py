"""Unsharded reference of `image.map`, written apart from the project: it imports nothing of it.

Where the processor sums tap by tap over tiles in whole numbers, this takes the definitions at their word: windows of a
padded image, pixels repeated until both grids agree, fractions. Slow, for small images of shape (height, width, channels).
"""

import math
from fractions import Fraction
from typing import Any, Literal

import numpy as np

PAD: dict[str, Literal["symmetric", "edge"]] = {"reflect": "symmetric", "nearest": "edge"}
Image = np.ndarray[Any, Any]


def padded(image: Image, radius: int, edge: str) -> Image:
    sides = ((radius, radius), (radius, radius), (0, 0))
    return np.pad(image, sides, PAD[edge])


def gaussian(image: Image, sigma: float, edge: str) -> Image:
    """Return the blurred values in float64, not rounded."""
    radius = int(4 * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-(offsets**2) / (2 * sigma**2))
    kernel = np.outer(weights, weights) / weights.sum() ** 2
    windows = np.lib.stride_tricks.sliding_window_view(
        padded(image.astype(np.float64), radius, edge), kernel.shape, axis=(0, 1)
    )
    found: Image = np.einsum("yxcij,ij->yxc", windows, kernel)
    return found


def median(image: Image, size: int, edge: str) -> Image:
    windows = np.lib.stride_tricks.sliding_window_view(padded(image, size // 2, edge), (size, size), axis=(0, 1))
    found: Image = np.median(windows, axis=(-2, -1)).astype(image.dtype)
    return found


def threshold(image: Image, value: float) -> Image:
    return np.where(image > value, 255, 0).astype(np.uint8)


def invert(image: Image) -> Image:
    limits = np.iinfo(image.dtype)
    return (int(limits.min) + int(limits.max) - image.astype(np.int64)).astype(image.dtype)


def rescale(image: Image, factor: float, offset: float) -> Image:
    values = factor * image.astype(np.float64) + offset
    if image.dtype.kind == "f":
        return values.astype(image.dtype)
    limits = np.iinfo(image.dtype)
    return np.round(values).clip(limits.min, limits.max).astype(image.dtype)


def size_of(image: Image, scale: float | None, width: int | None, height: int | None) -> tuple[int, int]:
    """Rows and columns of a resized image."""
    rows, columns = image.shape[:2]
    if scale is not None:
        across = down = Fraction(str(scale))
    elif width is None:
        across = down = Fraction(height or 0, rows)
    else:
        across = Fraction(width, columns)
        down = across if height is None else Fraction(height, rows)
    halves = (math.floor(rows * down + Fraction(1, 2)), math.floor(columns * across + Fraction(1, 2)))
    return max(1, halves[0]), max(1, halves[1])


def resize(image: Image, rows: int, columns: int, interpolation: str) -> Image:
    if interpolation == "nearest":
        picked = [
            [middle(j, size, wanted) for j in range(wanted)]
            for size, wanted in zip(image.shape, (rows, columns), strict=False)
        ]
        return image[picked[0]][:, picked[1]]
    whole = image.astype(np.float64) if image.dtype.kind == "f" else image.astype(np.int64)
    if interpolation == "area":
        fine = whole.repeat(rows, axis=0).repeat(columns, axis=1)
        blocks = fine.reshape(rows, image.shape[0], columns, image.shape[1], image.shape[2])
        return rounded(blocks.sum(axis=(1, 3)), image.shape[0] * image.shape[1], image.dtype)
    down = [between(j, image.shape[0], rows) for j in range(rows)]
    across = [between(j, image.shape[1], columns) for j in range(columns)]
    total = np.zeros((rows, columns, image.shape[2]), whole.dtype)
    for y in range(rows):
        for x in range(columns):
            for i, row_part in down[y]:
                for k, column_part in across[x]:
                    total[y, x] += whole[i, k] * (4 * rows * columns * row_part * column_part).numerator
    return rounded(total, 4 * rows * columns, image.dtype)


def middle(j: int, size: int, wanted: int) -> int:
    """The pixel that the middle of pixel j of the result falls into."""
    return math.floor((j + Fraction(1, 2)) * Fraction(size, wanted))


def between(j: int, size: int, wanted: int) -> list[tuple[int, Fraction]]:
    """The two pixels around the middle of pixel j of the result, with their parts."""
    at = (j + Fraction(1, 2)) * Fraction(size, wanted) - Fraction(1, 2)
    low = math.floor(at)
    return [(min(max(low, 0), size - 1), 1 - (at - low)), (min(max(low + 1, 0), size - 1), at - low)]


def rounded(total: Image, divisor: int, dtype: Any) -> Image:
    if dtype.kind == "f":
        return (total / divisor).astype(dtype)
    halves = np.vectorize(lambda value: math.floor(Fraction(int(value), divisor) + Fraction(1, 2)), otypes=[object])
    found: Image = halves(total).astype(dtype)
    return found
