"""DICOM files give the pixels that pydicom reads, or those that were encoded, in every transfer syntax that is taken."""

import io
import json
import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from reference.dicom_files import (
    DEEP_12,
    GREY,
    NOISE,
    RGB,
    SECRET,
    SIGNED,
    SMOOTH,
    dicom,
    lossless_jpeg,
    rle,
    without,
    written,
)

from regather.core.errors import BadInput
from regather.kinds.image.dicom_file import is_dicom, open_dicom
from regather.kinds.image.features import ImageFeatures, ImageOptions
from regather.processors.base import HEAD_BYTES, FileSplitter, ShardView, SplitRequest


def decoded(body: bytes, folder: Path, step: int = 7, **options: Any) -> np.ndarray:
    """Return all rows, asked for a few at a time, as (rows, columns) or (rows, columns, channels)."""
    path = folder / "image.dcm"
    path.write_bytes(body)
    source = open_dicom(path, **options)
    try:
        layout = source.layout
        height = layout.height or 0
        rows = b"".join(source.rows(first, min(step, height - first)) for first in range(0, height, step))
    finally:
        source.close()
    pixels = np.frombuffer(rows, np.dtype(layout.dtype).newbyteorder("<")).reshape(height, layout.width, -1)
    return pixels[:, :, 0] if layout.channels == 1 else pixels


def same(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.dtype == wanted.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, wanted)


PLAIN = [
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
]
SAMPLES = {
    "8 bits": (GREY, {}),
    "16 bits": (NOISE, {}),
    "12 of 16 bits, the others dirty": (NOISE, {"stored": 12}),
    "signed": (SIGNED, {}),
    "signed 12 of 16 bits, the others dirty": (NOISE.view(np.int16), {"stored": 12}),
    "32 bits": (NOISE.astype(np.uint32) * 9, {}),
    "rgb": (RGB, {}),
    "rgb in planes": (RGB, {"PlanarConfiguration": 1, "PixelData": RGB.transpose(2, 0, 1).tobytes()}),
    "rgb of 16 bits": (np.stack([NOISE, SMOOTH, DEEP_12], axis=2), {}),
    "ybr": (RGB, {"photometric": "YBR_FULL"}),
    "an odd width": (GREY[:, :39].copy(), {}),
}


@pytest.mark.parametrize("syntax", PLAIN, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("name", SAMPLES)
def test_uncompressed_samples_are_those_of_pydicom(name: str, syntax: str, tmp_path: Path) -> None:
    pixels, options = SAMPLES[name]
    body = dicom(pixels, syntax, **options)
    wanted = pydicom.dcmread(io.BytesIO(body)).pixel_array
    same(decoded(body, tmp_path, values="stored"), wanted)


COMPRESSED = {
    "jpeg": (uid.JPEGBaseline8Bit, GREY, 8, imagecodecs.jpeg8_encode(GREY, level=90), {}),
    "jpeg extended of 8 bits": (uid.JPEGExtended12Bit, GREY, 8, imagecodecs.jpeg8_encode(GREY, level=90), {}),
    "jpeg ybr": (uid.JPEGBaseline8Bit, RGB, 8, imagecodecs.jpeg8_encode(RGB, level=90), {"photometric": "YBR_FULL"}),
    "jpeg ybr 422": (uid.JPEGBaseline8Bit, RGB, 8, imagecodecs.jpeg8_encode(RGB, level=90, subsampling="422"),
                     {"photometric": "YBR_FULL_422"}),
    "jpeg rgb": (uid.JPEGBaseline8Bit, RGB, 8,
                 imagecodecs.jpeg8_encode(RGB, level=90, colorspace="RGB", outcolorspace="RGB"), {}),
    "rle": (uid.RLELossless, GREY, 8, rle(GREY), {}),
    "rle 16 bits": (uid.RLELossless, NOISE, 16, rle(NOISE), {}),
    "rle signed": (uid.RLELossless, SIGNED, 16, rle(SIGNED), {}),
    "rle rgb": (uid.RLELossless, RGB, 8, rle(RGB), {}),
    "jpeg 2000": (uid.JPEG2000Lossless, SMOOTH, 16, imagecodecs.jpeg2k_encode(SMOOTH, level=0, codecformat="J2K"), {}),
    "jpeg 2000 lossy": (uid.JPEG2000, GREY, 8, imagecodecs.jpeg2k_encode(GREY, level=40, codecformat="J2K"), {}),
    "jpeg 2000 rgb": (uid.JPEG2000Lossless, RGB, 8, imagecodecs.jpeg2k_encode(RGB, level=0, codecformat="J2K"),
                      {"photometric": "YBR_RCT"}),
}  # fmt: skip


ICT = imagecodecs.jpeg2k_encode(RGB, level=40, codecformat="J2K", reversible=False)
COMPRESSED["jpeg 2000 ict"] = (uid.JPEG2000, RGB, 8, ICT, {"photometric": "YBR_ICT"})


@pytest.mark.parametrize("name", COMPRESSED)
def test_compressed_samples_are_those_of_pydicom(name: str, tmp_path: Path) -> None:
    syntax, pixels, stored, stream, options = COMPRESSED[name]
    body = dicom(pixels, syntax, stream=bytes(stream), stored=stored, **options)
    same(decoded(body, tmp_path, values="stored"), pydicom.dcmread(io.BytesIO(body)).pixel_array)


@pytest.mark.parametrize(
    ("pixels", "bits"), [(GREY, 8), (DEEP_12, 12), (SMOOTH, 16), (NOISE, 16), (SIGNED, 16), (RGB, 8)], ids=str
)
@pytest.mark.parametrize("syntax", [uid.JPEGLosslessSV1, uid.JPEGLossless, uid.JPEGLSLossless, uid.HTJ2KLossless])
def test_what_pydicom_cannot_decode_here_is_what_was_encoded(
    pixels: np.ndarray, bits: int, syntax: str, tmp_path: Path
) -> None:
    unsigned = pixels.view(f"u{pixels.dtype.itemsize}")
    encode = {
        uid.JPEGLosslessSV1: lambda: lossless_jpeg(pixels, bits),
        uid.JPEGLossless: lambda: lossless_jpeg(pixels, bits, predictor=6),
        uid.JPEGLSLossless: lambda: imagecodecs.jpegls_encode(unsigned),
        uid.HTJ2KLossless: lambda: imagecodecs.htj2k_encode(unsigned),
    }
    same(decoded(dicom(pixels, syntax, stream=bytes(encode[syntax]()), stored=bits), tmp_path), pixels)


def test_jpeg_of_12_bits_is_what_its_decoder_gives(tmp_path: Path) -> None:
    stream = bytes(imagecodecs.jpeg8_encode(DEEP_12, level=95, bitspersample=12))
    found = decoded(dicom(DEEP_12, uid.JPEGExtended12Bit, stream=stream, stored=12), tmp_path)
    same(found, imagecodecs.jpeg8_decode(stream))
    assert np.abs(found.astype(int) - DEEP_12).max() < 20


@pytest.mark.parametrize("syntax", [uid.HTJ2KLosslessRPCL, uid.HTJ2K])
def test_the_other_names_of_high_throughput_jpeg_2000_are_known(syntax: str, tmp_path: Path) -> None:
    same(decoded(dicom(NOISE, syntax, stream=bytes(imagecodecs.htj2k_encode(NOISE))), tmp_path), NOISE)


def test_an_extended_offset_table_says_where_frames_are(tmp_path: Path) -> None:
    frames = np.stack([SMOOTH, NOISE])
    data, offsets, lengths = pydicom.encaps.encapsulate_extended([rle(frame) for frame in frames])
    tables = {"ExtendedOffsetTable": offsets, "ExtendedOffsetTableLengths": lengths}
    body = dicom(frames, uid.RLELossless, stream=[b"12"], NumberOfFrames=2, PixelData=data, **tables)
    same(decoded(body, tmp_path, page=1), NOISE)
    with pytest.raises(BadInput, match="extended offset table points outside of the file"):
        decoded(body.replace(lengths, b"\xff" * 7 + b"\0" + lengths[8:]), tmp_path, page=0)


def test_near_lossless_jpeg_ls_stays_within_its_error(tmp_path: Path) -> None:
    stream = bytes(imagecodecs.jpegls_encode(GREY, level=2))
    found = decoded(dicom(GREY, uid.JPEGLSNearLossless, stream=stream), tmp_path)
    assert 0 < np.abs(found.astype(int) - GREY).max() <= 2


def test_a_signed_jpeg_2000_of_12_bits_keeps_its_sign(tmp_path: Path) -> None:
    pixels = SIGNED >> 4
    stream = bytes(imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="J2K", bitspersample=12))
    same(decoded(dicom(pixels, uid.JPEG2000Lossless, stream=stream, stored=12), tmp_path), pixels)


def test_ybr_422_uncompressed_gives_both_pixels_one_colour(tmp_path: Path) -> None:
    pairs = np.random.default_rng(4).integers(0, 256, (50, 20, 4), np.uint8)
    body = dicom(np.zeros((50, 40, 3), np.uint8), photometric="YBR_FULL_422", PixelData=pairs.tobytes())
    same(decoded(body, tmp_path), pydicom.dcmread(io.BytesIO(body)).pixel_array)


@pytest.mark.parametrize("page", [0, 1, 2])
@pytest.mark.parametrize("kind", ["plain", "rle", "fragments", "offsets"])
def test_each_frame_can_be_chosen(kind: str, page: int, tmp_path: Path) -> None:
    frames = np.stack([SMOOTH, NOISE, DEEP_12])
    if kind == "plain":
        body = dicom(frames, NumberOfFrames=3)
    elif kind == "rle":
        body = dicom(frames, uid.RLELossless, stream=[rle(frame) for frame in frames], NumberOfFrames=3)
    else:
        streams = [bytes(imagecodecs.jpeg2k_encode(frame, level=0, codecformat="J2K")) for frame in frames]
        data = pydicom.encaps.encapsulate(streams, fragments_per_frame=2, has_bot=kind == "offsets")
        body = dicom(frames, uid.JPEG2000Lossless, stream=streams, NumberOfFrames=3, PixelData=data)
    same(decoded(body, tmp_path, page=page), frames[page])


def test_a_frame_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no frame 3; the file has 3, counted from 0"):
        decoded(dicom(np.stack([SMOOTH] * 3), NumberOfFrames=3), tmp_path, page=3)


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        pytest.param(dicom(DEEP_12, stored=12, RescaleSlope="1", RescaleIntercept="-1024"),
                     DEEP_12.astype(np.int16) - 1024, id="ct"),
        pytest.param(dicom(GREY, RescaleSlope="2", RescaleIntercept="-5"), GREY.astype(np.int16) * 2 - 5, id="8 bits"),
        pytest.param(dicom(NOISE, RescaleSlope="1", RescaleIntercept="-1024"),
                     NOISE.astype(np.float32) - 1024, id="whole numbers that fit no 16 bits"),
        pytest.param(dicom(NOISE, RescaleSlope="0.1", RescaleIntercept="-3e1"),
                     (NOISE * 0.1 - 30).astype(np.float32), id="fractions"),
        pytest.param(dicom(NOISE.astype(np.uint32), RescaleSlope="0.1"), NOISE * 0.1 + 0, id="fractions of 32 bits"),
        pytest.param(dicom(GREY.view(np.int8)), GREY.view(np.int8), id="signed 8 bits"),
        pytest.param(dicom(DEEP_12, photometric="MONOCHROME1", stored=12), 4095 - DEEP_12, id="monochrome1"),
        pytest.param(dicom(SIGNED, photometric="MONOCHROME1"), -1 - SIGNED, id="monochrome1 signed"),
        pytest.param(dicom(DEEP_12, photometric="MONOCHROME1", stored=12, RescaleIntercept="-1024", RescaleSlope="1"),
                     DEEP_12.astype(np.int16) - 1024, id="monochrome1 with a unit keeps it"),
        pytest.param(dicom(DEEP_12 << 4, stored=12, HighBit=15), DEEP_12, id="samples at the upper end"),
        pytest.param(dicom((SIGNED >> 4) << 2, stored=12, HighBit=13), SIGNED >> 4, id="signed samples in the middle"),
    ],
)  # fmt: skip
def test_values_are_rescaled_as_the_file_says(body: bytes, wanted: np.ndarray, tmp_path: Path) -> None:
    same(decoded(body, tmp_path), wanted)


def test_stored_values_are_neither_rescaled_nor_inverted(tmp_path: Path) -> None:
    body = dicom(DEEP_12, photometric="MONOCHROME1", stored=12, RescaleSlope="3", RescaleIntercept="-1024")
    same(decoded(body, tmp_path, values="stored"), DEEP_12)


@pytest.mark.parametrize("page", [0, 1])
def test_a_frame_of_an_enhanced_file_has_its_own_rescale(page: int, tmp_path: Path) -> None:
    groups = []
    for intercept in ("-1024", "-100"):
        transformation = Dataset()
        transformation.RescaleSlope, transformation.RescaleIntercept = "2", intercept
        group = Dataset()
        group.PixelValueTransformationSequence = [transformation]
        groups.append(group)
    pixels = SIGNED >> 4
    body = dicom(np.stack([pixels, pixels]), stored=12, NumberOfFrames=2, PerFrameFunctionalGroupsSequence=groups)
    same(decoded(body, tmp_path, page=page), pixels * 2 - np.int16((1024, 100)[page]))


@pytest.mark.parametrize("entry_bits", [8, 16])
@pytest.mark.parametrize("entries", [200, 256])
def test_a_palette_is_resolved(entry_bits: int, entries: int, tmp_path: Path) -> None:
    tables = np.random.default_rng(5).integers(0, 1 << entry_bits, (3, entries)).astype(f"u{entry_bits // 8}")
    tags: dict[str, Any] = {}
    for name, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        tags[f"{name}PaletteColorLookupTableDescriptor"] = [entries, 10, entry_bits]
        tags[f"{name}PaletteColorLookupTableData"] = table.tobytes()
    body = dicom(GREY, photometric="PALETTE COLOR", **tags)
    index = np.clip(GREY.astype(int) - 10, 0, entries - 1)
    same(decoded(body, tmp_path), np.stack([table[index] for table in tables], axis=2))


def test_float_pixels_are_taken_as_they_are(tmp_path: Path) -> None:
    pixels = (NOISE * 0.37).astype(np.float32)
    data = pydicom.dcmread(io.BytesIO(dicom(NOISE)))
    for name in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(data, name)
    data.BitsAllocated, data.FloatPixelData = 32, pixels.tobytes()
    same(decoded(written(data), tmp_path), pixels)


@pytest.mark.parametrize("start", [132, "data set"])
def test_a_file_without_its_preamble_is_read(start: int | str, tmp_path: Path) -> None:
    body = dicom(NOISE, uid.ImplicitVRLittleEndian if start == "data set" else uid.ExplicitVRLittleEndian)
    assert is_dicom(body[:132])
    bare = body[body.index(b"\x10\0\x10\0") if start == "data set" else 132 :]
    assert not is_dicom(bare[:132])
    same(decoded(bare, tmp_path), NOISE)


def test_double_float_pixels_are_told_to_be_float64(tmp_path: Path) -> None:
    data = pydicom.dcmread(io.BytesIO(dicom(NOISE)))
    del data.PixelData
    data.BitsAllocated, data.DoubleFloatPixelData = 64, (NOISE / 3).tobytes()
    same(decoded(written(data), tmp_path), NOISE / 3)


def test_a_file_is_read_strip_by_strip_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.dcm"
    path.write_bytes(dicom(np.tile(NOISE, (1, 100))))
    source = open_dicom(path)
    same(np.frombuffer(source.rows(49, 1), np.uint16), np.tile(NOISE[49], 100))
    source.close()


def with_table(frames: int, *offsets: int) -> bytes:
    """A file of two compressed frames that says `frames`, with a Basic Offset Table of these offsets."""
    streams = [bytes(imagecodecs.jpeg2k_encode(part, level=0, codecformat="J2K")) for part in (NOISE, SMOOTH)]
    table = struct.pack(f"<HHI{len(offsets)}I", 0xFFFE, 0xE000, 4 * len(offsets), *offsets)
    sound = dicom(np.stack([NOISE, SMOOTH]), uid.JPEG2000Lossless, stream=streams, NumberOfFrames=frames)
    data = pydicom.dcmread(io.BytesIO(sound))
    data.PixelData = table + encapsulate(streams, has_bot=False)[8:]
    return written(data)


FIRST_STREAM = bytes(imagecodecs.jpeg2k_encode(NOISE, level=0, codecformat="J2K"))
SECOND = 8 + len(FIRST_STREAM) + len(FIRST_STREAM) % 2


@pytest.mark.parametrize("offsets", [(), (0, SECOND)])
@pytest.mark.parametrize("page", [0, 1])
def test_a_sound_offset_table_leads_to_each_frame(offsets: tuple[int, ...], page: int, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(with_table(2, *offsets))
    source = open_dicom(path, page=page)
    assert source.rows(0, 50) == (NOISE, SMOOTH)[page].tobytes()
    source.close()


@pytest.mark.parametrize(
    ("frames", "offsets", "why"),
    [
        (2, (0, 0), "Basic Offset Table"), (2, (SECOND, 0), "Basic Offset Table"), (2, (0, 4), "Basic Offset Table"),
        (1, (0, SECOND), "Basic Offset Table"), (2, (0,), "Basic Offset Table"), (3, (), "3 frames but has 2 fragments"),
    ],
)  # fmt: skip
def test_an_offset_table_that_lies_is_refused(frames: int, offsets: tuple[int, ...], why: str, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(with_table(frames, *offsets))
    for page in range(frames):
        source = open_dicom(path, page=page)
        with pytest.raises(BadInput, match=why):
            source.rows(0, 1)
        source.close()


@pytest.mark.parametrize(("frames", "offsets"), [(2, (SECOND, 0)), (2, (0, 0)), (1, (0, SECOND)), (2, (0,))])
def test_an_extended_offset_table_that_lies_is_refused(frames: int, offsets: tuple[int, ...], tmp_path: Path) -> None:
    data = pydicom.dcmread(io.BytesIO(with_table(frames)))
    data.ExtendedOffsetTable = struct.pack(f"<{len(offsets)}Q", *offsets)
    data.ExtendedOffsetTableLengths = struct.pack(f"<{len(offsets)}Q", *[4] * len(offsets))
    path = tmp_path / "image"
    path.write_bytes(written(data))
    source = open_dicom(path)
    with pytest.raises(BadInput, match="extended offset table does not lead to"):
        source.rows(0, 1)
    source.close()


TRUNCATED = dicom(NOISE)[:-101]
STREAM = bytes(imagecodecs.jpeg8_encode(GREY, level=90))
LOSSLESS = lossless_jpeg(NOISE, 16)
JPEG_LS = bytes(imagecodecs.jpegls_encode(NOISE))
J2K = bytes(imagecodecs.jpeg2k_encode(NOISE, level=0, codecformat="J2K"))
ENCRYPTED = without(dicom(NOISE, EncryptedAttributesSequence=[Dataset()]), "PixelData")
UNKNOWN = dicom(GREY, "1.2.840.10008.1.2.4.64", stream=bytes(64)).replace(b".10008.1.2.4.64", b".99998.1.2.4.64")
ELSEWHERE = without(dicom(NOISE, PixelDataProviderURL="http://127.0.0.1/x"), "PixelData")
SEGMENTED = dicom(NOISE, photometric="PALETTE COLOR", SegmentedRedPaletteColorLookupTableData=b"\0\1\0\1")
ROWS_LIE = "51 rows and 40 columns are 4080 bytes, but its pixel data says 4000"
LOSSLESS_SHORT = LOSSLESS[:-300] + LOSSLESS[-2:]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        pytest.param(TRUNCATED, "pixel data ends at byte .* and the file at .*; it is cut off", id="cut off"),
        pytest.param(dicom(NOISE)[:300], "data element ends at byte|break off|no pixel data|damaged", id="head cut off"),
        pytest.param(without(dicom(NOISE), "PixelData"), "has no pixel data", id="no pixel data"),
        pytest.param(ENCRYPTED, "encrypted", id="encrypted"),
        pytest.param(without(dicom(NOISE), "Rows"), r"Rows \(0028,0010\) is missing", id="no rows"),
        pytest.param(without(dicom(NOISE), "BitsAllocated"), r"BitsAllocated \(0028,0100\) is missing", id="no bits"),
        pytest.param(without(dicom(NOISE), "SamplesPerPixel"), "SamplesPerPixel.* is missing", id="no samples"),
        pytest.param(without(dicom(NOISE), "BitsStored"), "BitsStored.* is missing", id="no bits stored"),
        pytest.param(without(dicom(NOISE), "PixelRepresentation"), "PixelRepresentation.* is missing", id="no sign"),
        pytest.param(without(dicom(RGB), "PlanarConfiguration"), "PlanarConfiguration.* is missing", id="no planes"),
        pytest.param(dicom(NOISE, PixelRepresentation=2), "is 2; it must be 0 or 1", id="sign 2"),
        pytest.param(without(dicom(NOISE), "PhotometricInterpretation"), "PhotometricInterpretation", id="no colours"),
        pytest.param(dicom(NOISE, Rows=51), ROWS_LIE, id="rows"),
        pytest.param(dicom(NOISE, Rows=49), "3920 bytes, but its pixel data says 4000", id="one row left out"),
        pytest.param(dicom(RGB, Rows=49), "5880 bytes, but its pixel data says 6000", id="one colour row left out"),
        pytest.param(dicom(NOISE, Columns=39), "but its pixel data says 4000", id="columns lie"),
        pytest.param(dicom(NOISE, Rows=0), "0 rows", id="zero rows"),
        pytest.param(dicom(NOISE, NumberOfFrames=2), "2 frames", id="frames lie"),
        pytest.param(dicom(NOISE, BitsStored=17), "17 bits stored", id="too many bits"),
        pytest.param(dicom(NOISE, BitsAllocated=24), "24 bits allocated", id="24 bits"),
        pytest.param(dicom(GREY, photometric="HSV", SamplesPerPixel=3, PlanarConfiguration=0), "HSV", id="hsv"),
        *[pytest.param(dicom(RGB, photometric=name), name, id=name)
          for name in ("ARGB", "CMYK", "YBR_PARTIAL_422", "YBR_PARTIAL_420")],
        pytest.param(dicom(GREY, BitsAllocated=1, BitsStored=1, HighBit=0), "1 bits allocated", id="1 bit"),
        pytest.param(dicom(NOISE, photometric="PALETTE COLOR"), "PaletteColor.*is missing", id="no palette"),
        pytest.param(SEGMENTED, "palette is segmented", id="segmented palette"),
        pytest.param(dicom(NOISE, ModalityLUTSequence=[Dataset()]), "ask for values=stored", id="modality table"),
        pytest.param(dicom(NOISE, RescaleSlope="0", RescaleIntercept="1"), "RescaleSlope.*is 0", id="slope 0"),
        pytest.param(ELSEWHERE, "its pixels are elsewhere", id="elsewhere"),
        pytest.param(dicom(RGB, photometric="MONOCHROME2"), "MONOCHROME2 has 1 samples", id="grey of 3 samples"),
        pytest.param(dicom(GREY, photometric=SECRET[:10]), "not one that DICOM defines", id="unknown colours"),
        pytest.param(dicom(GREY, "1.2.840.10008.1.2.4.102", stream=b"\0" * 64), r"4\.102 \(MPEG-4.*video", id="video"),
        pytest.param(dicom(GREY, "1.2.840.10008.1.2.4.94", stream=b"\0" * 64), r"4\.94 \(JPIP", id="jpip"),
        pytest.param(UNKNOWN, r"99998\.1\.2\.4\.64 \(not defined by DICOM\)", id="unknown"),
        pytest.param(dicom(GREY, uid.JPEGBaseline8Bit, stream=STREAM[:-300]), "has no end", id="jpeg cut off"),
        pytest.param(dicom(GREY, uid.JPEGBaseline8Bit, stream=STREAM[:-200] + STREAM[-2:]), "damaged", id="jpeg short"),
        pytest.param(dicom(GREY[:40], uid.JPEGBaseline8Bit, stream=STREAM), "40 rows.*JPEG data 50", id="jpeg other size"),
        pytest.param(dicom(NOISE, uid.JPEGLosslessSV1, stream=LOSSLESS[:-300]), "has no end", id="lossless cut off"),
        pytest.param(dicom(NOISE, uid.JPEGLosslessSV1, stream=LOSSLESS_SHORT), "damaged", id="lossless short"),
        pytest.param(dicom(NOISE, uid.JPEGLSLossless, stream=JPEG_LS[:-300]), "has no end", id="jpeg-ls cut off"),
        pytest.param(dicom(NOISE, uid.JPEGLSLossless, stream=JPEG_LS[:-300] + JPEG_LS[-2:]), "damaged", id="jpeg-ls short"),
        pytest.param(dicom(NOISE, uid.JPEG2000Lossless, stream=J2K[:-300]), "damaged", id="jpeg 2000 cut off"),
        pytest.param(dicom(NOISE, uid.RLELossless, stream=rle(NOISE)[:-300]), "damaged|values", id="rle cut off"),
        pytest.param(dicom(NOISE, uid.RLELossless, stream=rle(NOISE)[64:]), "RLE head", id="rle without a head"),
        pytest.param(dicom(GREY, uid.JPEGBaseline8Bit, stream=STREAM)[:-100], "cut off", id="fragment cut off"),
        pytest.param(b"\0" * 200, "not a DICOM file", id="zeros"),
        pytest.param(dicom(NOISE)[:140], "TransferSyntaxUID|damaged", id="meta cut off"),
    ],
)  # fmt: skip
def test_what_is_no_sound_image_is_refused_without_patient_data(body: bytes, why: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=why) as caught:
        decoded(body, tmp_path)
    assert SECRET[:10] not in f"{caught.value!r} {caught.value.__cause__!r}"
    assert str(tmp_path) not in str(caught.value)


def test_nothing_of_a_patient_is_logged_or_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    body = bytearray(dicom(NOISE, RescaleSlope="1", RescaleIntercept="-1024"))
    at = body.index(b"-1024")
    body[at : at + 5] = SECRET[:5].encode()
    with pytest.raises(BadInput, match=r"RescaleIntercept \(0028,1052\) is not a decimal number"):
        decoded(bytes(body), tmp_path)
    assert not caplog.records
    assert not recwarn.list


def test_a_deflated_bomb_is_refused(tmp_path: Path) -> None:
    body = dicom(np.zeros((9000, 9000), np.uint16), uid.DeflatedExplicitVRLittleEndian)
    with pytest.raises(BadInput, match="inflates too much"):
        decoded(body, tmp_path)


def test_a_codestream_that_says_another_size_is_not_decoded(tmp_path: Path) -> None:
    stream = bytearray(STREAM)
    at = stream.index(b"\xff\xc0")
    stream[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    with pytest.raises(BadInput, match="JPEG data 65535, 65535"):
        decoded(dicom(GREY, uid.JPEGBaseline8Bit, stream=bytes(stream)), tmp_path)


@pytest.mark.parametrize("body", [dicom(DEEP_12, stored=12, RescaleSlope="1", RescaleIntercept="-1024"), dicom(RGB)])
@pytest.mark.parametrize("bare", [False, True])
def test_image_features_takes_dicom_files(body: bytes, bare: bool, tmp_path: Path) -> None:
    kind, options = ImageFeatures(), ImageOptions()
    wanted = decoded(body, tmp_path)
    path = tmp_path / "image"
    path.write_bytes(body[132:] if bare else body)
    request = SplitRequest(1024, head=path.read_bytes()[:HEAD_BYTES], content_type="application/dicom" if bare else "")
    splitter = kind.splitter(options, request)
    assert isinstance(splitter, FileSplitter)
    pieces = list(splitter.cut(path))
    outputs = [kind.process(ShardView(piece.payload, piece.meta, seq, 0), options) for seq, piece in enumerate(pieces)]
    channels = json.loads(kind.merge(outputs, options))["per_channel"]
    planes = wanted.reshape(50, 40, -1).astype(np.int64)
    assert [channel["sum"] for channel in channels] == planes.sum(axis=(0, 1)).tolist()
    assert [channel["min"] for channel in channels] == planes.min(axis=(0, 1)).tolist()
