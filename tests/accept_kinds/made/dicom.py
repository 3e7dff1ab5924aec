"""DICOM files of every photometric interpretation, depth, sign, rescale and transfer syntax; and damage."""

import io
import zlib
from collections.abc import Iterator
from functools import partial
from typing import Any, Literal

import imagecodecs
import numpy as np

from accept_kinds.case import Case, Equal, Refusal, Want, as_oracle_says
from accept_kinds.images import plain_features
from accept_kinds.made.images import scene
from accept_kinds.oracles.image import pixels

FEW = ("1024", "65536", "one")
IMPLICIT, EXPLICIT, DEFLATED, BIG = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
)
RLE, JPEG, JPEG_LS, JPEG_2000 = (f"1.2.840.10008.1.2.{end}" for end in ("5", "4.50", "4.80", "4.90"))
Array = np.ndarray[Any, np.dtype[Any]]


def cases(seed: int) -> Iterator[Case]:
    """Yield them all."""
    yield from _plain(seed)
    yield from _compressed(seed)
    yield from _damage(seed)


def written(array: Array, syntax: str = EXPLICIT, stored_bits: int | None = None, **elements: Any) -> bytes:
    """A DICOM file of one or more frames; `elements` are set on the data set."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.7")
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["accept"])
    found = Dataset()
    found.file_meta = meta
    found.SOPClassUID, found.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    bits = array.dtype.itemsize * 8
    colour = array.shape[-1] == 3
    found.Rows, found.Columns = array.shape[-3:-1] if colour else array.shape[-2:]
    found.SamplesPerPixel = 3 if colour else 1
    found.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        found.PlanarConfiguration = 0
    found.BitsAllocated, found.BitsStored = bits, stored_bits or bits
    found.HighBit = found.BitsStored - 1
    found.PixelRepresentation = int(array.dtype.kind == "i")
    if array.ndim - colour == 3:
        found.NumberOfFrames = len(array)
    found.PatientName = "Nobody^Secret"
    content = elements.pop("content", None)
    for name, value in elements.items():
        setattr(found, name, value)
    order: Literal[">", "<"] = ">" if syntax == BIG else "<"
    found.PixelData = content if content is not None else array.astype(array.dtype.newbyteorder(order)).tobytes()
    found["PixelData"].VR = "OB" if content is not None or bits == 8 else "OW"
    found["PixelData"].is_undefined_length = content is not None
    file = io.BytesIO()
    found.save_as(file, enforce_file_format=True)
    return file.getvalue()


def encapsulated(*frames: bytes | bytearray) -> bytes:
    """Encoded frames as DICOM holds them."""
    from pydicom.encaps import encapsulate

    return bytes(encapsulate([bytes(frame) for frame in frames]))


def grey(seed: int, dtype: str, bits: int = 0) -> Array:
    """One plane; with `bits` only so many of them are used."""
    plane = scene(seed, dtype, 1)[:, :, 0]
    return plane >> (plane.dtype.itemsize * 8 - bits) if bits else plane


def _case(name: str, body: Any, settings: dict[str, Any] | None = None, **options: str) -> Case:
    """Sizes and plain figures: which of the other figures a rescaled image has, no independent program says."""

    def want() -> Want:
        return as_oracle_says(
            lambda: plain_features(pixels(body(), int(options.get("page", "0")))), "pydicom refuses it"
        )

    return Case(
        f"dicom/{name}", "image.features", body, want, options, "application/dicom", **(settings or {"sizes": FEW})
    )


def _plain(seed: int) -> Iterator[Case]:
    files: dict[str, Any] = {
        "uint8": partial(written, grey(seed, "uint8")),
        "uint16": partial(written, grey(seed, "uint16")),
        "12-bits": partial(written, grey(seed, "uint16", 12), stored_bits=12),
        "int16": partial(written, grey(seed, "int16")),
        "ct": partial(written, grey(seed, "uint16", 12), stored_bits=12, RescaleSlope="1", RescaleIntercept="-1024"),
        "fraction": partial(written, grey(seed, "int16", 12), RescaleSlope="0.5", RescaleIntercept="10.25"),
        "monochrome1": partial(
            written, grey(seed, "uint16", 12), stored_bits=12, PhotometricInterpretation="MONOCHROME1"
        ),
        "monochrome1-rescaled": partial(
            written,
            grey(seed, "uint16", 12),
            stored_bits=12,
            PhotometricInterpretation="MONOCHROME1",
            RescaleSlope="2",
            RescaleIntercept="-5",
        ),
        "rgb": partial(written, scene(seed)),
        "implicit": partial(written, grey(seed, "uint16"), IMPLICIT),
        "big-endian": partial(written, grey(seed, "uint16"), BIG),
        "deflated": partial(written, grey(seed, "uint16"), DEFLATED),
    }
    for name, body in files.items():
        yield _case(name, body, {"sizes": FEW, "fast": name in ("ct", "monochrome1")})
    planes = np.ascontiguousarray(np.moveaxis(scene(seed), -1, 0))
    content = planes.tobytes()
    yield _case("planar", partial(_planar, seed, content))
    frames = np.stack([grey(seed + number, "uint16") for number in range(4)])
    for page in ("0", "3"):
        yield _case(f"frames-page-{page}", partial(written, frames), page=page)
    yield _case("no-such-frame", partial(written, frames), page="4")


def _planar(seed: int, content: bytes) -> bytes:
    plain = written(scene(seed), PlanarConfiguration=1)
    at = plain.rindex(scene(seed).tobytes())
    return plain[:at] + content + plain[at + len(content) :]


def _lossless(name: str, array: Array, body: Any, sizes: tuple[str, ...] = FEW) -> Case:
    """A lossless file: the pixels are those that were encoded."""
    shaped = array if array.ndim == 3 else array[:, :, None]

    def want() -> Equal:
        return plain_features(shaped)

    return Case(f"dicom/{name}", "image.features", body, want, {}, "application/dicom", sizes=sizes)


def _compressed(seed: int) -> Iterator[Case]:
    deep, shallow = grey(seed, "uint16", 12), grey(seed, "uint8")
    for name, syntax, encode in (("jpeg-ls", JPEG_LS, imagecodecs.jpegls_encode), ("jpeg-2000", JPEG_2000, _jpeg_2000)):
        yield _lossless(
            f"{name}-uint8", shallow, partial(written, shallow, syntax, content=encapsulated(encode(shallow)))
        )
        packed = partial(written, deep, syntax, 12, content=encapsulated(encode(deep)))
        yield _lossless(f"{name}-12-bits", deep, packed)
    for name, array in (("uint8", shallow), ("12-bits", deep), ("rgb", scene(seed))):
        yield _lossless(f"rle-{name}", array, partial(_rle, array))
    lossy = imagecodecs.jpeg8_encode(shallow, level=95)
    decoded = imagecodecs.jpeg8_decode(lossy)
    yield _lossless("jpeg-baseline", decoded, partial(written, shallow, JPEG, content=encapsulated(lossy)))


def _jpeg_2000(array: Array) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(array, level=0, codecformat="j2k", reversible=True))


def _rle(array: Array) -> bytes:
    import pydicom

    data_set = pydicom.dcmread(io.BytesIO(written(array)))
    data_set.compress(RLE, encoding_plugin="pydicom", generate_instance_uid=False)
    file = io.BytesIO()
    data_set.save_as(file)
    return file.getvalue()


def _damage(seed: int) -> Iterator[Case]:
    few = {"sizes": ("4096", "default")}
    body = written(grey(seed, "uint16"))
    yield _bad("cut-off", body[:-3000], "less pixel data than rows and columns say", {**few, "fast": True})
    yield _bad("head-only", body[:200], "the data set is cut off", few)
    packed = _rle(grey(seed, "uint8"))
    yield _bad("rle-cut-off", packed[: len(packed) // 2], "the RLE frame is cut off", few)
    without = body.replace(b"\x28\x00\x10\x00US", b"\x28\x00\x0f\x00US")
    yield _bad("no-rows", without, "Rows is missing", few)
    squeezed = zlib.compress(body)
    yield _bad("zlib", squeezed, "a zlib stream is no DICOM file", few)
    jpeg = written(grey(seed, "uint8"), JPEG, content=encapsulated(imagecodecs.jpeg8_encode(grey(seed, "uint8"))[:400]))
    yield _bad("jpeg-cut-off", jpeg, "the JPEG frame is cut off", few)
    video = written(grey(seed, "uint8"), "1.2.840.10008.1.2.4.102", content=encapsulated(b"\0\0\0\1" * 50))
    yield _bad("mpeg-4", video, "MPEG-4 in DICOM is no image", few)


def _bad(name: str, body: bytes, why: str, settings: dict[str, Any]) -> Case:
    refusal = Refusal(why, never="Nobody|Secret|needs the option")
    return Case(
        f"dicom/damage-{name}", "image.features", lambda: body, lambda: refusal, {}, "application/dicom", **settings
    )
