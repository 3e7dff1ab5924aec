"""One-line cases of images: `image("made/my-file", body)` must have the features that the independent programs find."""

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
from reference.image_features import image_features

from accept_kinds.case import Case, Either, Equal, Refusal, Want, as_oracle_says
from accept_kinds.expect import Body, bytes_of
from accept_kinds.oracles import OracleRefused
from accept_kinds.oracles.image import pixels

_FREE = ("digest", "gaps")
FLOAT_TOLERANCE = 1e-12
PLAIN_TOLERANCE = 1e-6  # a rescaled value may have been stored as float32


def features(array: np.ndarray[Any, Any]) -> Equal:
    """The features of an image as the answer that is right; for types that the reference does not know, the plain ones."""
    if array.dtype not in (np.uint8, np.uint16):
        return plain_features(array)
    document = {name: value for name, value in image_features(array).items() if name not in _FREE}
    return Equal("document", (_agreed(document),), {"": FLOAT_TOLERANCE})


def plain_features(array: np.ndarray[Any, Any]) -> Equal:
    """Size, and for each channel count, least, greatest, mean and deviation: what no definition leaves open."""
    wide = array.astype(np.float64)
    channels = [
        {
            "count": plane.size,
            "min": Decimal(repr(float(plane.min()))),
            "max": Decimal(repr(float(plane.max()))),
            "mean": Decimal(repr(math.fsum(plane.ravel()) / plane.size)),
            "std": Decimal(repr(float(plane.std()))),
        }
        for plane in np.moveaxis(wide, -1, 0)
    ]
    size = {"width": array.shape[1], "height": array.shape[0], "channels": array.shape[2]}
    return Equal("document", ({**size, "per_channel": channels},), {"": PLAIN_TOLERANCE})


def _agreed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _agreed(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_agreed(part) for part in value]
    if isinstance(value, float):
        return Decimal(repr(value)) if math.isfinite(value) else repr(value)
    return value


def image(
    name: str,
    body: Body,
    *,
    content_type: str = "application/octet-stream",
    array: Callable[[], Any] | None = None,
    settings: dict[str, Any] | None = None,
    says: str = "",
    **options: str,
) -> Case:
    """An image: equal to the features of what the oracle decodes; refused where the oracle refuses it."""

    def want() -> Want:
        page = int(options.get("page", "0"))
        decode = array or (lambda: pixels(bytes_of(body), page))
        return as_oracle_says(lambda: features(decode()), "the independent decoder refuses it", says)

    return Case(
        f"image/{name}", "image.features", lambda: bytes_of(body), want, options, content_type, **(settings or {})
    )


def image_either(
    name: str, body: Body, refusal: Refusal, *, settings: dict[str, Any] | None = None, **options: str
) -> Case:
    """An image in a form that need not be taken: equal, or a refusal as stated."""

    def want() -> Want:
        try:
            return Either(features(pixels(bytes_of(body), int(options.get("page", "0")))), refusal)
        except OracleRefused:
            return refusal

    return Case(f"image/{name}", "image.features", lambda: bytes_of(body), want, options, **(settings or {}))
