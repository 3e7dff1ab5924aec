"""The operators of `image.map` on one shard's rows; a pixel of the result has the same bits in every shard.

Every value is computed from its own pixels by the same operations in the same order. Sums add whole arrays tap by tap,
never along an array, so neither the shard nor the tile of a pixel changes a rounding. Tiles keep the intermediate
values in a core's cache. Pixels outside exist only at the image's true edges: `reflect` mirrors the image and repeats
the outermost pixel (d c b a | a b c d | d c b a), `nearest` repeats the outermost pixel (a a a a | a b c d | d d d d).

- gaussian: weights exp(-x^2 / 2 sigma^2) for |x| <= radius = floor(4 sigma + 1/2), divided by their sum; down the columns
  first, then along the rows; in float32 for uint8 and in float64 for all others; whole numbers are rounded half to even.
- median: the middle one of size x size values; NaN if one of them is NaN; 0 never has a sign. The algorithm drops the
  lowest and the highest value that it holds, adds the next value, and repeats this until one is left, with minima and
  maxima of arrays.
- resize: weights as in map_geometry, in whole numbers, rounded half up; in float64 for float32.
"""

import math
from collections.abc import Iterator
from typing import Any, Literal

from regather.kinds.image.map_geometry import Axis, Geometry

Edge = Literal["reflect", "nearest"]
_TILE_ROWS = 32
_TILE_VALUES = 4096
_MEDIAN_VALUES = 1 << 15
_RESIZE_VALUES = 1 << 16


def gaussian_radius(sigma: float) -> int:
    """Return the radius of a gaussian in pixels, as scipy.ndimage with its default `truncate` of 4."""
    return math.floor(4 * sigma + 0.5)


def outside(index: int, size: int, edge: Edge) -> int:
    """Return the pixel of an axis of `size` pixels that is used for pixel `index`, which may be outside."""
    if edge == "nearest":
        return min(max(index, 0), size - 1)
    index %= 2 * size
    return index if index < size else 2 * size - 1 - index


def rows_around(pixels: Any, row0: int, first: int, end: int, *, height: int, radius: int, edge: Edge) -> Any:
    """Return rows `first - radius` to `end + radius - 1` of the image; `pixels` are its rows from `row0` on."""
    rows = [outside(row, height, edge) - row0 for row in range(first - radius, end + radius)]
    inside = rows == list(range(rows[0], rows[0] + len(rows)))
    return pixels[rows[0] : rows[-1] + 1] if inside else pixels[rows]


def columns_around(pixels: Any, radius: int, edge: Edge) -> Any:
    """Return the same rows with `radius` more columns on either side; `pixels` are (rows, columns, channels)."""
    import numpy as np

    width = pixels.shape[1]
    left = [outside(column, width, edge) for column in range(-radius, 0)]
    right = [outside(column, width, edge) for column in range(width, width + radius)]
    return np.concatenate([pixels[:, left], pixels, pixels[:, right]], axis=1)


def gaussian(pixels: Any, sigma: float, edge: Edge) -> Any:
    """Return the blurred rows; `pixels` are (rows + 2 radius, columns, channels)."""
    import numpy as np

    work = np.dtype(np.float32 if pixels.dtype == np.uint8 else np.float64)
    weights = [work.type(weight) for weight in _gaussian_weights(sigma)]
    radius = len(weights) - 1
    _, width, channels = pixels.shape
    height, values = pixels.shape[0] - 2 * radius, width * channels
    flat = pixels.reshape(len(pixels), values)
    result = np.empty((height, values), pixels.dtype)
    for rows in _steps(height, max(_TILE_ROWS, _TILE_ROWS * _TILE_VALUES // values)):
        middle = np.empty((len(rows), values), work)
        for columns in _steps(values, _TILE_VALUES):
            tile = flat[rows.start : rows.stop + 2 * radius, columns.start : columns.stop].astype(work)
            middle[:, columns.start : columns.stop] = _weighted(tile, weights, 1)
        if width <= 2 * radius:
            narrow = _weighted_columns(middle.reshape(len(rows), width, channels), weights, edge)
            result[rows.start : rows.stop] = _as_type(narrow, pixels.dtype).reshape(len(rows), values)
            continue
        wide = columns_around(middle.reshape(len(rows), width, channels), radius, edge).reshape(len(rows), -1)
        for columns in _steps(values, _TILE_VALUES):
            tile = wide[:, columns.start : columns.stop + 2 * radius * channels]
            blurred = _weighted(tile.T, weights, channels).T
            result[rows.start : rows.stop, columns.start : columns.stop] = _as_type(blurred, pixels.dtype)
    return result.reshape(height, width, channels)


def _weighted_columns(tile: Any, weights: list[Any], edge: Edge) -> Any:
    """Return the same as _weighted(), for an image that is narrower than the window."""
    import numpy as np

    width = tile.shape[1]
    total = tile * weights[0]
    for index, weight in enumerate(weights[1:], 1):
        near = [outside(column - index, width, edge) for column in range(width)]
        far = [outside(column + index, width, edge) for column in range(width)]
        pair = tile.take(near, axis=1) + tile.take(far, axis=1)
        np.add(total, pair * weight, out=total)
    return total


def _gaussian_weights(sigma: float) -> list[float]:
    """Return the weights of the centre, of its neighbours, and so on."""
    exponents = [math.exp(-0.5 * (offset / sigma) ** 2) for offset in range(gaussian_radius(sigma) + 1)]
    total = math.fsum([exponents[0], *exponents[1:], *exponents[1:]])
    return [weight / total for weight in exponents]


def _weighted(tile: Any, weights: list[Any], step: int) -> Any:
    """Return sums of weighted pairs: rows at k * `step` on either side, for each row that has all of them."""
    import numpy as np

    reach = (len(weights) - 1) * step
    length = len(tile) - 2 * reach
    total = tile[reach : reach + length] * weights[0]
    pair = np.empty_like(total)
    for index, weight in enumerate(weights[1:], 1):
        near, far = reach - index * step, reach + index * step
        np.add(tile[near : near + length], tile[far : far + length], out=pair)
        np.multiply(pair, weight, out=pair)
        np.add(total, pair, out=total)
    return total


def _as_type(values: Any, dtype: Any) -> Any:
    """Return values as `dtype`, rounded if it has only whole numbers; weights may add up to slightly more than 1."""
    import numpy as np

    if dtype.kind == "f":
        return one_nan(values.astype(dtype))
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)


def one_nan(values: Any) -> Any:
    """Give all NaN the same bits."""
    import numpy as np

    values[np.isnan(values)] = np.nan
    return values


def median(padded: Any, size: int) -> Any:
    """Return the middle value of each window; `padded` is (rows + size - 1, columns + size - 1, channels)."""
    import numpy as np

    channels, radius = padded.shape[2], size // 2
    height, width = padded.shape[0] - 2 * radius, (padded.shape[1] - 2 * radius) * channels
    flat = padded.reshape(len(padded), -1)
    result = np.empty((height, width), padded.dtype)
    for columns in _steps(width, _MEDIAN_VALUES):
        for rows in _steps(height, max(1, _MEDIAN_VALUES // len(columns))):
            tile = flat[rows.start : rows.stop + 2 * radius, columns.start : columns.stop + 2 * radius * channels]
            result[rows.start : rows.stop, columns.start : columns.stop] = _medians(tile, size, channels)
    return result.reshape(height, -1, channels)


def _medians(tile: Any, size: int, step: int) -> Any:
    import numpy as np

    height, width = tile.shape[0] - size + 1, tile.shape[1] - (size - 1) * step
    windows = [tile[y : y + height, x * step : x * step + width] for y in range(size) for x in range(size)]
    if tile.dtype.kind != "f":
        return _middle(windows)
    zero = tile.dtype.type(0)
    unknown = np.isnan(tile)
    if not unknown.any():
        return _middle(windows) + zero
    found = _middle([np.where(np.isnan(window), zero, window) for window in windows]) + zero
    return np.where(_any_of(unknown, size, step, height, width), tile.dtype.type(np.nan), found)


def _any_of(flags: Any, size: int, step: int, height: int, width: int) -> Any:
    import numpy as np

    found = np.zeros((height, width), bool)
    for y in range(size):
        for x in range(size):
            found |= flags[y : y + height, x * step : x * step + width]
    return found


def _middle(windows: list[Any]) -> Any:
    """Return the median of an odd number of arrays, value by value."""
    held = len(windows) // 2 + 2
    kept = [window.copy() for window in windows[:held]]
    for window in windows[held:]:
        _least_first(kept)
        _greatest_last(kept)
        kept = [*kept[1:-1], window.copy()]
    while len(kept) > 1:
        _least_first(kept)
        _greatest_last(kept)
        kept = kept[1:-1]
    return kept[0]


def _least_first(kept: list[Any]) -> None:
    for index in range(1, len(kept)):
        kept[0], kept[index] = _in_order(kept[0], kept[index])


def _greatest_last(kept: list[Any]) -> None:
    for index in range(1, len(kept) - 1):
        kept[index], kept[-1] = _in_order(kept[index], kept[-1])


def _in_order(one: Any, other: Any) -> tuple[Any, Any]:
    import numpy as np

    low = np.minimum(one, other)
    return low, np.maximum(one, other, out=other)


def threshold(pixels: Any, value: float) -> Any:
    """Return 255 where a value is above `value`, else 0, as uint8."""
    import numpy as np

    return (pixels > np.float64(value)).astype(np.uint8) * np.uint8(255)


def invert(pixels: Any) -> Any:
    """Return lowest + highest value of the type - value."""
    import numpy as np

    return np.invert(pixels)


def rescale(pixels: Any, factor: float, offset: float) -> Any:
    """Return factor * value + offset, computed in float64; whole numbers are rounded half to even and clipped."""
    import numpy as np

    return _as_type(pixels.astype(np.float64) * factor + offset, pixels.dtype)


def resize(pixels: Any, row0: int, first: int, end: int, geometry: Geometry) -> Any:
    """Return rows `first` to `end - 1` of the result; `pixels` begin with row `row0` of the image."""
    import numpy as np

    down, across = geometry.rows, geometry.columns
    if down is None or across is None:
        raise ValueError("a resize has two axes")
    rows = list(_taps(down, first, end, row0))
    columns = list(_taps(across, 0, across.target, 0))
    if down.method == "nearest":
        return pixels.take(rows[0][0], axis=0).take(columns[0][0], axis=1)
    divisor = down.total * across.total
    work = _work_type(pixels.dtype, divisor)
    result = np.empty((end - first, across.target, pixels.shape[2]), pixels.dtype)
    step = max(1, _RESIZE_VALUES // (pixels.shape[2] * max(len(pixels), end - first)))
    for part in _steps(across.target, step):
        near = [(index[part.start : part.stop], weights[part.start : part.stop]) for index, weights in columns]
        wide = sum(_times(pixels.take(index, axis=1), weights.astype(work)[None, :, None]) for index, weights in near)
        total = sum(_times(wide[index], weights.astype(work)[:, None, None]) for index, weights in rows)
        result[:, part.start : part.stop] = _divided(total, divisor, pixels.dtype)
    return result


def _divided(total: Any, divisor: int, dtype: Any) -> Any:
    if dtype.kind == "f":
        return one_nan((total / total.dtype.type(divisor)).astype(dtype))
    return ((2 * total + divisor) // (2 * divisor)).astype(dtype)


def _times(values: Any, weights: Any) -> Any:
    """Return the products; a value with weight 0 gives 0, even an infinity or NaN."""
    import numpy as np

    products = values * weights
    return np.where(weights == 0, 0, products) if products.dtype.kind == "f" else products


def _work_type(dtype: Any, total: int) -> Any:
    import numpy as np

    if dtype.kind == "f":
        return np.dtype(np.float64)
    return np.dtype(np.int32 if 2 * total * 65536 + total < 2**31 else np.int64)


def _taps(axis: Axis, first: int, end: int, origin: int) -> Iterator[tuple[Any, Any]]:
    """Yield for each tap the pixels of the image (counted from `origin`) and their weights, for pixels of the result."""
    import numpy as np

    n, m = axis.n, axis.m
    j = np.arange(first, end, dtype=np.int64)
    if axis.method == "nearest":
        yield (2 * j + 1) * n // (2 * m) - origin, np.ones_like(j)
    elif axis.method == "bilinear":
        i, rest = np.divmod((2 * j + 1) * n - m, 2 * m)
        for index, weight in ((i, 2 * m - rest), (i + 1, rest)):
            yield np.clip(index, 0, axis.source - 1) - origin, weight
    else:
        for tap in range(axis.taps):
            i = j * n // m + tap
            weight = np.minimum((i + 1) * m, (j + 1) * n) - np.maximum(i * m, j * n)
            last = -(-(j + 1) * n // m) - 1
            yield np.minimum(i, last) - origin, np.maximum(weight, 0)


def _steps(size: int, step: int) -> Iterator[range]:
    return (range(first, min(first + step, size)) for first in range(0, size, step))
