"""Unsharded reference of `image.features` for float32 images, written apart from the project: it imports nothing of it.

The processor extracts exact sums tile by tile; here a sum is one of Python's fractions, over whole mantissas grouped by
their exponent. NaN and infinite values take part in nothing: a mask of finite pixels goes with every figure.
"""

import hashlib
import json
import math
from fractions import Fraction
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
CORNERS = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))


def image_features(image: Array, span: tuple[float, float] | None) -> dict[str, Any]:
    """Return every feature of an image of shape (height, width, channels) of float32."""
    height, width, channels = image.shape
    planes = [np.ascontiguousarray(image[:, :, channel]) for channel in range(channels)]
    found = [channel_features(plane, span) for plane in planes]
    inner = [channel["inner_pixels"] for channel, _ in found]
    energy = sum((slopes["energy"] for _, slopes in found), Fraction(0))
    spreads = [slopes["spread"] for _, slopes in found]
    histogram = np.sum([channel["histogram"] for channel, _ in found], axis=0).tolist()
    document = {
        "width": width,
        "height": height,
        "channels": channels,
        "dtype": "float32",
        "rows": height,
        "inner_pixels": min(inner),
        "per_channel": [channel for channel, _ in found],
        "gradient_energy": float(energy / sum(inner)) if sum(inner) else None,
        "sharpness": math.fsum(spreads) / channels if None not in spreads else None,
        "entropy_bits": entropy(histogram),
        "texture": {
            "orientation": [float(sum((s["octants"][i] for _, s in found), Fraction(0))) for i in range(8)],
            "patterns": [pattern_features(planes, radius) for radius in (1, 2, 3)],
            "pairs": [pair_features(planes, radius, span) for radius in (1, 2, 3)],
        },
        "gaps": [],
    }
    exact = json.dumps(without_floats(document), sort_keys=True, separators=(",", ":"))
    return {**document, "digest": hashlib.sha256(exact.encode()).hexdigest()}


def exact_sum(values: Array) -> Fraction:
    mantissas, exponents = np.frexp(values.astype(np.float64).ravel())
    whole = np.ldexp(mantissas, 53).astype(np.int64)
    total = Fraction(0)
    for exponent in np.unique(exponents).tolist():
        total += sum(whole[exponents == exponent].tolist()) * Fraction(2) ** (exponent - 53)
    return total


def channel_features(plane: Array, span: tuple[float, float] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    finite = np.isfinite(plane)
    values = plane[finite].astype(np.float64)
    y, x = np.nonzero(finite)
    total, squares = exact_sum(values), exact_sum(values**2)
    x_moment, y_moment = exact_sum(values * x), exact_sum(values * y)
    slopes = slope_sums(plane, finite)
    count, inner = len(values), slopes["inner"]
    spread = squares / count - (total / count) ** 2 if count else None
    histogram = np.bincount(bins_of(plane[finite], span), minlength=256).tolist()
    channel = {
        "sum": float(total),
        "sum_of_squares": float(squares),
        "x_moment": float(x_moment),
        "y_moment": float(y_moment),
        "energy_x": float(slopes["energy_x"]),
        "energy_y": float(slopes["energy_y"]),
        "laplacian_sum": float(slopes["laplacian"]),
        "laplacian_sum_of_squares": float(slopes["laplacian_squares"]),
        "min": float(values.min()) + 0.0 if count else None,
        "max": float(values.max()) + 0.0 if count else None,
        "count": count,
        "nan_pixels": int(np.isnan(plane).sum()),
        "inf_pixels": int(np.isinf(plane).sum()),
        "inner_pixels": inner,
        "mean": float(total / count) if count else None,
        "std": None if spread is None else math.sqrt(float(spread)),
        "centroid": [float(x_moment / total), float(y_moment / total)] if total else [None, None],
        "gradient_energy": float(slopes["energy"] / inner) if inner else None,
        "sharpness": slopes["spread"],
        "entropy_bits": entropy(histogram),
        "histogram": histogram,
    }
    return channel, slopes


def bins_of(values: Array, span: tuple[float, float] | None) -> Array:
    if span is not None:
        low, high = span
        return np.clip(np.floor((values.astype(np.float64) - low) / (high - low) * 256), 0, 255).astype(np.int64)
    bits = (values + np.float32(0)).view(np.int32).astype(np.int64)
    ordered = np.where(bits < 0, -(bits + 2**31) - 1, bits) + 2**31  # negative values count down from zero
    return ordered // 2**24


def slope_sums(plane: Array, finite: Array) -> dict[str, Any]:
    height, width = plane.shape
    clean = np.where(finite, plane, 0).astype(np.float64)

    def moved(array: Array, dy: int, dx: int) -> Array:
        return array[1 + dy : max(1, height - 1) + dy, 1 + dx : max(1, width - 1) + dx]

    empty = height < 3 or width < 3
    kept = np.zeros((0, 0), bool) if empty else np.ones((height - 2, width - 2), bool)
    gx = gy = laplacian = np.zeros(0)
    if not empty:
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                kept &= moved(finite, dy, dx)
        at = {(dy, dx): moved(clean, dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)}
        side = {dx: (at[-1, dx] + 2 * at[0, dx]) + at[1, dx] for dx in (-1, 1)}
        drop = {dx: at[1, dx] - at[-1, dx] for dx in (-1, 0, 1)}
        gx = (side[1] - side[-1])[kept]
        gy = ((drop[-1] + 2 * drop[0]) + drop[1])[kept]
        cross = ((at[-1, 0] + at[1, 0]) + at[0, -1]) + at[0, 1]
        laplacian = (4 * at[0, 0] - cross)[kept]
    inner = int(kept.sum())
    length, octant = abs(gx) + abs(gy), (gx < 0) + 2 * (gy < 0) + 4 * (abs(gy) > abs(gx))
    energy_x, energy_y = exact_sum(gx**2), exact_sum(gy**2)
    total, squares = exact_sum(laplacian), exact_sum(laplacian**2)
    return {
        "inner": inner,
        "energy_x": energy_x,
        "energy_y": energy_y,
        "energy": energy_x + energy_y,
        "laplacian": total,
        "laplacian_squares": squares,
        "spread": float(max(Fraction(0), squares / inner - (total / inner) ** 2)) if inner else None,
        "octants": [exact_sum(length[octant == index]) for index in range(8)],
    }


def pattern_features(planes: list[Array], radius: int) -> dict[str, Any]:
    histogram = np.zeros(256, np.int64)
    for plane in planes:
        height, width = plane.shape
        if height <= 2 * radius or width <= 2 * radius:
            continue
        centre = plane[radius:-radius, radius:-radius]
        code, kept = np.zeros(centre.shape, np.int64), np.isfinite(centre)
        for bit, (dy, dx) in enumerate(CORNERS):
            other = plane[radius * (1 + dy) :, radius * (1 + dx) :][: centre.shape[0], : centre.shape[1]]
            kept &= np.isfinite(other)
            code += (other >= centre).astype(np.int64) << bit
        histogram += np.bincount(code[kept], minlength=256)
    counts = histogram.tolist()
    smooth = [
        n for code, n in enumerate(counts) if sum(code >> i & 1 != code >> (i + 1) % 8 & 1 for i in range(8)) <= 2
    ]
    return {
        "radius": radius,
        "uniform": sum(smooth) / sum(counts) if sum(counts) else None,
        "entropy_bits": entropy(counts),
        "histogram": counts,
    }


def pair_features(planes: list[Array], radius: int, span: tuple[float, float] | None) -> dict[str, Any]:
    table = np.zeros((16, 16), np.int64)
    for plane in planes:
        height, width = plane.shape
        for dy, dx in ((0, radius), (radius, radius), (radius, 0), (radius, -radius)):
            if height <= dy or width <= abs(dx):
                continue
            first = plane[: height - dy, max(0, -dx) : width - max(0, dx)]
            second = plane[dy:, max(0, dx) : width - max(0, -dx)]
            kept = np.isfinite(first) & np.isfinite(second)
            np.add.at(table, (bins_of(first[kept], span) // 16, bins_of(second[kept], span) // 16), 1)
    counts = table.tolist()
    cells = [(i, j, counts[i][j]) for i in range(16) for j in range(16)]
    total = sum(n for _, _, n in cells)
    return {
        "radius": radius,
        "contrast": mean_of(cells, total, lambda i, j: Fraction((i - j) ** 2)),
        "homogeneity": mean_of(cells, total, lambda i, j: Fraction(1, 1 + abs(i - j))),
        "uniformity": float(Fraction(sum(n * n for _, _, n in cells), total * total)) if total else None,
        "correlation": correlation(cells, total),
        "entropy_bits": entropy([n for _, _, n in cells]),
        "counts": counts,
    }


def mean_of(cells: list[tuple[int, int, int]], total: int, weight: Any) -> float | None:
    return float(sum((n * weight(i, j) for i, j, n in cells), Fraction(0)) / total) if total else None


def correlation(cells: list[tuple[int, int, int]], total: int) -> float | None:
    sums = [sum(cell[side] * cell[2] for cell in cells) for side in (0, 1)]
    spreads = [total * sum(c[side] ** 2 * c[2] for c in cells) - sums[side] ** 2 for side in (0, 1)]
    common = total * sum(i * j * n for i, j, n in cells) - sums[0] * sums[1]
    return common / (math.sqrt(spreads[0]) * math.sqrt(spreads[1])) if all(spreads) else None


def entropy(counts: list[int]) -> float | None:
    total = sum(counts)
    return math.fsum(n / total * math.log2(total / n) for n in counts if n) if total else None


def without_floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_floats(part) for name, part in value.items() if type(part) is not float}
    if isinstance(value, list):
        return [without_floats(part) for part in value if type(part) is not float]
    return value
