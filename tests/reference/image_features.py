"""Unsharded reference of `image.features`, written apart from the project: it imports nothing of it.

Where the processor walks bands with halos, this takes the whole image and, for every quantity, the rectangle of the
pixels for which it is defined; a neighbour is the same rectangle, moved. Rectangles are summed in large blocks of rows to
bound memory. Definitions: docstring of the processor's module.

    python image_features.py FILE --width 8192 [--height 8192] [--channels 3] [--dtype uint8] [--skip-bytes 0]

FILE holds raw pixels, or is an NPY file. Prints {"features": ..., "seconds": ...} as one line of JSON.
"""

import argparse
import hashlib
import json
import math
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

try:
    from reference import image_features_float
except ImportError:  # run as a program
    import image_features_float  # type: ignore[import-not-found, no-redef]  # found beside the program alone

RADII = (1, 2, 3)
BLOCK_PIXELS = 1 << 16
SOBEL_X = {(-1, 1): 1, (0, 1): 2, (1, 1): 1, (-1, -1): -1, (0, -1): -2, (1, -1): -1}
SOBEL_Y = {(x, y): weight for (y, x), weight in SOBEL_X.items()}
LAPLACE = {(0, 0): 4, (-1, 0): -1, (1, 0): -1, (0, -1): -1, (0, 1): -1}
Plane = np.ndarray[tuple[int, int], np.dtype[Any]]


class Rectangle:
    """The pixels (y, x) of a plane for which all of the given offsets stay inside of it."""

    def __init__(self, plane: Plane, offsets: list[tuple[int, int]]) -> None:
        height, width = plane.shape
        self.plane = plane
        self.top = max(0, *(-dy for dy, _ in offsets))
        self.bottom = min(height, *(height - dy for dy, _ in offsets))
        self.left = max(0, *(-dx for _, dx in offsets))
        self.right = min(width, *(width - dx for _, dx in offsets))

    def blocks(self) -> Iterator[tuple[int, int]]:
        """First and last row + 1 of blocks that are small enough to work on."""
        step = max(1, BLOCK_PIXELS // self.plane.shape[1])
        if self.right > self.left:
            for top in range(self.top, self.bottom, step):
                yield top, min(top + step, self.bottom)

    def moved(self, block: tuple[int, int], offset: tuple[int, int]) -> Plane:
        """The block of the rectangle, as seen from `offset` further down and right."""
        (top, bottom), (dy, dx) = block, offset
        return self.plane[top + dy : bottom + dy, self.left + dx : self.right + dx]

    def filtered(self, block: tuple[int, int], kernel: dict[tuple[int, int], int]) -> Plane:
        """Correlate the block with a kernel."""
        result = np.zeros((block[1] - block[0], self.right - self.left), np.int32)
        for offset, weight in kernel.items():
            result += weight * self.moved(block, offset).astype(np.int32)
        return result


def image_features(image: np.ndarray[Any, Any], span: tuple[float, float] | None = None) -> dict[str, Any]:
    """Return every feature of an image of shape (height, width, channels): 8 or 16 bits with or without sign, float32.

    `span` are the values that the histogram of a float32 image goes from and to.
    """
    if image.dtype == np.float32:
        return image_features_float.image_features(image, span)
    height, width, channels = image.shape
    planes = [np.ascontiguousarray(image[:, :, channel]) for channel in range(channels)]
    slopes = [slope_sums(plane) for plane in planes]
    inner = max(0, height - 2) * max(0, width - 2)
    per_channel = [channel_features(plane, slope, inner) for plane, slope in zip(planes, slopes, strict=True)]
    energy = sum(slope["energy_x"] + slope["energy_y"] for slope in slopes)
    histogram = np.sum([channel["histogram"] for channel in per_channel], axis=0)
    document: dict[str, Any] = {
        "width": width,
        "height": height,
        "channels": channels,
        "dtype": str(image.dtype),
        "rows": height,
        "inner_pixels": inner,
        "per_channel": per_channel,
        "gradient_energy": ratio(energy, inner * channels),
        "sharpness": math.fsum(part["sharpness"] for part in per_channel) / channels if inner else None,
        "entropy_bits": entropy(histogram.tolist()),
        "texture": {
            "orientation": [sum(slope["orientation"][octant] for slope in slopes) for octant in range(8)],
            "patterns": [pattern_features(planes, radius) for radius in RADII],
            "pairs": [pair_features(planes, radius) for radius in RADII],
        },
        "gaps": [],
    }
    exact = json.dumps(exact_part(document), sort_keys=True, separators=(",", ":"))
    return {**document, "digest": hashlib.sha256(exact.encode()).hexdigest()}


def channel_features(plane: Plane, slopes: dict[str, Any], inner: int) -> dict[str, Any]:
    rows = plane.sum(axis=1, dtype=np.int64)
    columns = plane.sum(axis=0, dtype=np.int64)
    total = sum(rows.tolist())
    squares = sum(int((row.astype(np.int64) ** 2).sum()) for row in plane)
    x_moment = sum(x * column for x, column in enumerate(columns.tolist()))
    y_moment = sum(y * row for y, row in enumerate(rows.tolist()))
    histogram = np.bincount(share_of_range(plane, 256).ravel(), minlength=256).tolist()
    return {
        "sum": total,
        "sum_of_squares": squares,
        "min": int(plane.min()),
        "max": int(plane.max()),
        "x_moment": x_moment,
        "y_moment": y_moment,
        "energy_x": slopes["energy_x"],
        "energy_y": slopes["energy_y"],
        "laplacian_sum": slopes["laplacian_sum"],
        "laplacian_sum_of_squares": slopes["laplacian_sum_of_squares"],
        "count": plane.size,
        "mean": ratio(total, plane.size),
        "std": math.sqrt(variance(total, squares, plane.size) or 0.0),
        "centroid": [ratio(x_moment, total), ratio(y_moment, total)],
        "gradient_energy": ratio(slopes["energy_x"] + slopes["energy_y"], inner),
        "sharpness": variance(slopes["laplacian_sum"], slopes["laplacian_sum_of_squares"], inner),
        "entropy_bits": entropy(histogram),
        "histogram": histogram,
    }


def share_of_range(plane: Plane, parts: int) -> Plane:
    """In which of so many equal parts of its type's range each value lies."""
    limits = np.iinfo(plane.dtype)
    return (plane.astype(np.int32) - limits.min) // ((limits.max - limits.min + 1) // parts)


def slope_sums(plane: Plane) -> dict[str, Any]:
    area = Rectangle(plane, [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)])
    sums: dict[str, Any] = dict.fromkeys(("energy_x", "energy_y", "laplacian_sum", "laplacian_sum_of_squares"), 0)
    sums["orientation"] = [0] * 8
    for block in area.blocks():
        gx, gy, laplacian = (area.filtered(block, kernel) for kernel in (SOBEL_X, SOBEL_Y, LAPLACE))
        sums["energy_x"] += squared(gx)
        sums["energy_y"] += squared(gy)
        sums["laplacian_sum"] += int(laplacian.sum())
        sums["laplacian_sum_of_squares"] += squared(laplacian)
        length = abs(gx) + abs(gy)
        halves = [(~is_one, is_one) for is_one in (gx < 0, gy < 0, abs(gy) > abs(gx))]
        for octant in range(8):
            chosen = halves[0][octant & 1] & halves[1][octant >> 1 & 1] & halves[2][octant >> 2]
            sums["orientation"][octant] += int((length * chosen).sum())
    return sums


def squared(values: Plane) -> int:
    return int((values.astype(np.int64) ** 2).sum())


def ring(radius: int) -> list[tuple[int, int]]:
    """The eight neighbours clockwise from the upper left: corners and middles of a square's sides, by angle."""
    angles = [math.radians(45 * step - 135) for step in range(8)]
    return [(radius * round(math.sin(angle) * 1.4), radius * round(math.cos(angle) * 1.4)) for angle in angles]


def pattern_features(planes: list[Plane], radius: int) -> dict[str, Any]:
    offsets = ring(radius)
    histogram = np.zeros(256, np.int64)
    for plane in planes:
        area = Rectangle(plane, offsets)
        for block in area.blocks():
            centre = area.moved(block, (0, 0))
            code = np.zeros(centre.shape, np.uint8)
            for offset in reversed(offsets):  # by Horner's rule, from the highest bit down
                code += code
                code += area.moved(block, offset) >= centre
            histogram += np.bincount(code.ravel(), minlength=256)
    uniform = [code for code in range(256) if changes(f"{code:08b}") <= 2]
    return {
        "radius": radius,
        "uniform": ratio(int(histogram[uniform].sum()), int(histogram.sum())),
        "entropy_bits": entropy(histogram.tolist()),
        "histogram": histogram.tolist(),
    }


def changes(bits: str) -> int:
    return sum(here != there for here, there in zip(bits, bits[1:] + bits[0], strict=True))


def pair_features(planes: list[Plane], radius: int) -> dict[str, Any]:
    table = np.zeros((16, 16), np.int64)
    for plane in planes:
        levels = share_of_range(plane, 16)
        for offset in ((0, radius), (radius, radius), (radius, 0), (radius, -radius)):
            area = Rectangle(levels, [offset])
            for block in area.blocks():
                cells = 16 * area.moved(block, (0, 0)).astype(np.int32) + area.moved(block, offset)
                table += np.bincount(cells.ravel(), minlength=256).reshape(16, 16)
    counts = table.tolist()
    total = int(table.sum())
    cells_of = [(i, j, counts[i][j]) for i in range(16) for j in range(16)]
    near = sum((Fraction(n, 1 + abs(i - j)) for i, j, n in cells_of), Fraction(0))
    return {
        "radius": radius,
        "contrast": ratio(sum((i - j) ** 2 * n for i, j, n in cells_of), total),
        "homogeneity": float(near / total) if total else None,
        "uniformity": ratio(sum(n**2 for _, _, n in cells_of), total**2),
        "correlation": correlation(cells_of, total),
        "entropy_bits": entropy([n for _, _, n in cells_of]),
        "counts": counts,
    }


def correlation(cells: list[tuple[int, int, int]], total: int) -> float | None:
    sum_i, sum_j = (sum(cell[side] * cell[2] for cell in cells) for side in (0, 1))
    spread_i, spread_j = (
        total * sum(cell[side] ** 2 * cell[2] for cell in cells) - whole**2 for side, whole in ((0, sum_i), (1, sum_j))
    )
    common = total * sum(i * j * n for i, j, n in cells) - sum_i * sum_j
    return common / (math.sqrt(spread_i) * math.sqrt(spread_j)) if spread_i and spread_j else None


def ratio(part: int, whole: int) -> float | None:
    return float(Fraction(part, whole)) if whole else None


def variance(total: int, squares: int, count: int) -> float | None:
    return float(Fraction(squares, count) - Fraction(total, count) ** 2) if count else None


def entropy(counts: list[int]) -> float | None:
    total = sum(counts)
    return math.fsum(n / total * math.log2(total / n) for n in counts if n) if total else None


def exact_part(value: Any) -> Any:
    """The value without its floats."""
    if isinstance(value, dict):
        return {name: exact_part(part) for name, part in value.items() if type(part) is not float}
    if isinstance(value, list):
        return [exact_part(part) for part in value if type(part) is not float]
    return value


def read_image(path: Path, arguments: argparse.Namespace) -> np.ndarray[Any, Any]:
    with path.open("rb") as file:
        if file.read(6) == b"\x93NUMPY":
            array: np.ndarray[Any, Any] = np.load(path, mmap_mode="r", allow_pickle=False)
            return array.reshape(*array.shape[:2], -1)
    values = np.memmap(path, np.dtype(arguments.dtype).newbyteorder("<"), "r", offset=arguments.skip_bytes)
    image: np.ndarray[Any, Any] = values.reshape(-1, arguments.width, arguments.channels)
    if arguments.height not in (None, len(image)):
        raise SystemExit(f"{path} holds {len(image)} rows, not {arguments.height}")
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--width", type=int)
    parser.add_argument("--height", type=int)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--dtype", choices=("uint8", "uint16", "int8", "int16", "float32"), default="uint8")
    parser.add_argument("--skip-bytes", type=int, default=0)
    arguments = parser.parse_args()
    begun_s = time.perf_counter()
    features = image_features(read_image(arguments.file, arguments))
    print(json.dumps({"features": features, "seconds": round(time.perf_counter() - begun_s, 3)}))


if __name__ == "__main__":
    main()
