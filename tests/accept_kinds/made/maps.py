"""Kind `image.map`: operators that give pixels back, against numpy on the whole image; a blur may round otherwise."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from accept_kinds.case import Case, Equal, Refusal
from accept_kinds.made.dicom import grey, written
from accept_kinds.made.images import npy, saved, scene, tiff

FEW = ("1024", "65536", "one")
Array = np.ndarray[Any, np.dtype[Any]]


def cases(seed: int) -> Iterator[Case]:
    """Yield them all."""
    rgb, deep = scene(seed), scene(seed, "uint16", 1)
    for name, array in (("uint8-3", rgb), ("uint16-1", deep), ("int16-1", scene(seed, "int16", 1))):
        for size in ("3", "7"):
            want = median(array, int(size))
            yield _case(f"median-{size}-{name}", npy(array), want, operator="median", size=size)
        yield _case(f"threshold-{name}", npy(array), threshold(array, 100), operator="threshold", value="100")
        yield _case(f"gaussian-{name}", npy(array), gaussian(array, 1.5), 1.0, operator="gaussian", sigma="1.5")
    yield _case("median-nearest", npy(rgb), median(rgb, 5, "edge"), operator="median", size="5", edge="nearest")
    yield _case("invert", npy(rgb), 255 - rgb, operator="invert")
    yield _case("median-png", saved(rgb, "png"), median(rgb, 3), operator="median", fast=True)
    yield _case("median-tiff-lzw", tiff(rgb, compression="lzw", rowsperstrip=9), median(rgb, 3), operator="median")
    yield _case("tiff-out", npy(deep), median(deep, 3), operator="median", output="tiff", fast=True)
    yield _case("raw-out", npy(deep), median(deep, 3), operator="median", output="raw")
    plane = grey(seed, "uint16", 12)
    dicom = written(plane, stored_bits=12)
    yield _case("median-dicom", dicom, median(plane[:, :, None], 3), operator="median")
    even = scene(seed, "uint8", 3, 120, 96)
    halves = even.reshape(60, 2, 48, 2, 3).astype(np.int64).sum(axis=(1, 3))
    yield _case("resize-half", npy(even), ((2 * halves + 4) // 8).astype(np.uint8), operator="resize", scale="0.5")
    twice = even.repeat(2, axis=0).repeat(2, axis=1)
    yield _case("resize-twice", npy(even), twice, operator="resize", scale="2", interpolation="nearest")
    refusals = {
        "no-operator": {},
        "unknown-operator": {"operator": "nope"},
        "no-sigma": {"operator": "gaussian"},
        "strange-option": {"operator": "invert", "sigma": "2"},
    }
    for name, options in refusals.items():
        yield _refused(name, npy(rgb), "the options are wrong", **options)
    yield _refused("cut-off", saved(rgb, "png")[:-4000], "the PNG is cut off", operator="median")
    yield _refused("text", b"hello, world\n" * 400, "a text is no image", operator="median")


def median(array: Array, size: int, pad: str = "symmetric") -> Array:
    """The median of a square window; outside, the image is mirrored with its edge, or its edge is repeated."""
    radius = size // 2
    sides = ((radius, radius), (radius, radius), (0, 0))
    padded: Callable[..., Array] = np.pad
    windows = np.lib.stride_tricks.sliding_window_view(padded(array, sides, mode=pad), (size, size), axis=(0, 1))
    found: Array = np.median(windows, axis=(-2, -1)).astype(array.dtype)
    return found


def threshold(array: Array, value: int) -> Array:
    """255 where the pixel is above."""
    return np.where(array > value, 255, 0).astype(np.uint8)


def gaussian(array: Array, sigma: float) -> Array:
    """A separable blur that looks 4 sigma far, mirrored outside, rounded."""
    radius = int(4 * sigma + 0.5)
    weights = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    values = np.pad(array.astype(np.float64), ((radius, radius), (radius, radius), (0, 0)), mode="symmetric")
    down = sum(weight * values[at : at + array.shape[0]] for at, weight in enumerate(weights))
    across = sum(weight * down[:, at : at + array.shape[1]] for at, weight in enumerate(weights))
    found: Array = np.round(across).astype(array.dtype)
    return found


def _case(name: str, body: bytes, want: Array, tolerance: float = 0.0, fast: bool = False, **options: str) -> Case:
    output = options.get("output", "npy")
    right = want[:, :, 0] if want.shape[2] == 1 else want
    value: Any = np.ascontiguousarray(want).tobytes() if output == "raw" else right
    compare = {"npy": "npy", "tiff": "tiff", "raw": "bytes"}[output]
    equal = Equal(compare, (value,), {"": tolerance})
    return Case(f"map/{name}", "image.map", lambda: body, lambda: equal, options, sizes=FEW, fast=fast)


def _refused(name: str, body: bytes, why: str, **options: str) -> Case:
    refusal = Refusal(why)
    return Case(f"map/refused-{name}", "image.map", lambda: body, lambda: refusal, options, sizes=("4096",))
