"""DICOM by pydicom: one frame, rescaled; MONOCHROME1 without a rescale is inverted, so that a greater value is brighter."""

import io
from typing import Any

import numpy as np

from accept_kinds.oracles import OracleRefused


def dicom_pixels(body: bytes, page: int = 0) -> np.ndarray[Any, np.dtype[Any]]:
    """(rows, columns, channels) of one frame."""
    import pydicom
    from pydicom.pixels.processing import apply_rescale

    data_set = pydicom.dcmread(io.BytesIO(body))
    frames = int(data_set.get("NumberOfFrames", 1))
    if page >= frames:
        raise OracleRefused(f"there are {frames} frames")
    array = data_set.pixel_array
    array = array[page] if frames > 1 else array
    scaled = apply_rescale(array, data_set)
    plain = (float(data_set.get("RescaleSlope", 1)), float(data_set.get("RescaleIntercept", 0))) == (1, 0)
    if plain and data_set.PhotometricInterpretation == "MONOCHROME1":
        bits, signed = data_set.BitsStored, data_set.PixelRepresentation
        ends = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
        scaled = sum(ends) - array.astype(np.int64)
    return scaled if scaled.ndim == 3 else scaled[:, :, None]
