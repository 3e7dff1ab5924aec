"""DICOM files for tests, made with pydicom; codestreams by imagecodecs and by pydicom's own RLE encoder."""

import io
from typing import Any, Literal

import imagecodecs
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import RLELosslessEncoder
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian

SECRET = "MUSTERMANN^ERIKA"
_Y, _X = np.mgrid[:50, :40]
SMOOTH = ((np.sin(_X / 7) + np.cos(_Y / 5) + 2) * 16000).astype(np.uint16)
NOISE = np.random.default_rng(3).integers(0, 65536, (50, 40), np.uint16)
DEEP_12 = SMOOTH >> 4
GREY = (SMOOTH >> 8).astype(np.uint8)
SIGNED = (SMOOTH.astype(np.int32) - 32768).astype(np.int16)
RGB = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=2).copy()


def dicom(
    pixels: np.ndarray,
    syntax: str = ExplicitVRLittleEndian,
    photometric: str | None = None,
    *,
    stored: int | None = None,
    stream: bytes | list[bytes] | None = None,
    **tags: Any,
) -> bytes:
    """Return a file of `pixels` (rows, columns), (frames, rows, columns) or RGB, compressed if `stream` is given."""
    colour = pixels.ndim == 3 and pixels.shape[2] == 3
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = UID(syntax)
    data.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.7")
    data.file_meta.MediaStorageSOPInstanceUID = UID("1.2.826.0.1.3680043.8.498.1")
    data.PatientName = SECRET
    data.Rows, data.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
    data.SamplesPerPixel = 3 if colour else 1
    data.PhotometricInterpretation = photometric or ("RGB" if colour else "MONOCHROME2")
    if colour:
        data.PlanarConfiguration = 0
    data.BitsAllocated = pixels.dtype.itemsize * 8
    data.BitsStored = stored or data.BitsAllocated
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    if stream is None:
        order: Literal[">", "<"] = ">" if syntax == ExplicitVRBigEndian else "<"
        raw = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
        data.PixelData = raw + b"\0" * (len(raw) % 2)
        data["PixelData"].VR = "OW"
    else:
        data.PixelData = encapsulate(stream if isinstance(stream, list) else [stream])
        data["PixelData"].VR = "OB"
    for name, value in tags.items():
        setattr(data, name, value)
    if syntax == ExplicitVRBigEndian and pixels.dtype == np.uint8:
        data.PixelData = np.frombuffer(data.PixelData, ">u2").astype("<u2").tobytes()  # words of two bytes, swapped
    return written(data)


def written(data: Dataset) -> bytes:
    """Return a data set as a file."""
    file = io.BytesIO()
    pydicom.dcmwrite(file, data, enforce_file_format=True)
    return file.getvalue()


def without(body: bytes, *names: str) -> bytes:
    """Return the file without some of its elements."""
    data = pydicom.dcmread(io.BytesIO(body))
    for name in names:
        delattr(data, name)
    return written(data)


def lossless_jpeg(pixels: np.ndarray, bits: int, predictor: int = 1) -> bytes:
    """Return JPEG process 14. A selection value of 1 is the SV1 of its own transfer syntax."""
    unsigned = pixels.view(f"u{pixels.dtype.itemsize}")
    return bytes(imagecodecs.jpeg8_encode(unsigned, lossless=True, predictor=predictor, bitspersample=bits))


def rle(pixels: np.ndarray) -> bytes:
    """Return pydicom's own RLE of a frame."""
    colour = pixels.ndim == 3
    planes: dict[str, Any] = {"planar_configuration": 0} if colour else {}
    return RLELosslessEncoder.encode(
        pixels,
        rows=pixels.shape[0],
        columns=pixels.shape[1],
        number_of_frames=1,
        samples_per_pixel=3 if colour else 1,
        bits_allocated=pixels.dtype.itemsize * 8,
        bits_stored=pixels.dtype.itemsize * 8,
        pixel_representation=int(pixels.dtype.kind == "i"),
        photometric_interpretation="RGB" if colour else "MONOCHROME2",
        **planes,
    )
