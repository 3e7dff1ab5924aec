"""The files that are measured, made once into a folder: sales as CSV and Parquet, a DICOM image."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

REGIONS, PRODUCTS = 10, 100
STEP_ROWS = 1_000_000


def sales(rows: int, first: int = 0) -> pa.Table:
    """id, region, product, price, qty: 25 bytes a row as CSV, 1,000 groups of region and product."""
    draw = np.random.default_rng(first)
    return pa.table(
        {
            "id": np.arange(first, first + rows),
            "region": pa.array([f"r{number}" for number in range(REGIONS)]).take(
                pa.array(draw.integers(0, REGIONS, rows))
            ),
            "product": pa.array([f"p{number:02d}" for number in range(PRODUCTS)]).take(
                pa.array(draw.integers(0, PRODUCTS, rows))
            ),
            "price": draw.integers(100, 99_999, rows) / 100,
            "qty": draw.integers(0, 10, rows),
        }
    )


def csv_file(path: Path, rows: int) -> Path:
    """CSV, written a million rows at a time."""
    if not path.exists():
        settings = pa.csv.WriteOptions(quoting_style="needed")
        with pa.csv.CSVWriter(path, sales(1).schema, write_options=settings) as writer:
            for first in range(0, rows, STEP_ROWS):
                writer.write_table(sales(min(STEP_ROWS, rows - first), first))
    return path


def parquet_file(path: Path, rows: int) -> Path:
    """Parquet with row groups of a million rows."""
    if not path.exists():
        with pq.ParquetWriter(path, sales(1).schema) as writer:
            for first in range(0, rows, STEP_ROWS):
                writer.write_table(sales(min(STEP_ROWS, rows - first), first))
    return path


def dicom_file(path: Path, rows: int = 10_240, columns: int = 10_240) -> Path:
    """One uncompressed frame of 16 bits, 200 MiB at the default size."""
    if path.exists():
        return path
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.7")
    meta.MediaStorageSOPInstanceUID = UID("1.2.3.4")
    found: Any = Dataset()
    found.file_meta = meta
    found.SOPClassUID, found.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    found.Rows, found.Columns, found.SamplesPerPixel = rows, columns, 1
    found.PhotometricInterpretation = "MONOCHROME2"
    found.BitsAllocated, found.BitsStored, found.HighBit, found.PixelRepresentation = 16, 12, 11, 0
    y, x = np.ogrid[0:rows, 0:columns]
    noise = np.random.default_rng(1).integers(0, 256, (rows, columns), dtype=np.uint16)
    found.PixelData = ((y + x) % 3840 + noise).astype("<u2").tobytes()
    found.save_as(path, enforce_file_format=True)
    return path


def npy_file(path: Path, rows: int, columns: int, dicom: Path) -> Path:
    """The pixels of a file of dicom_file() as NPY."""
    if not path.exists():
        np.save(path, _pixels(dicom, rows, columns))
    return path


def tiff_file(path: Path, rows: int, columns: int, dicom: Path) -> Path:
    """The pixels of a file of dicom_file() as TIFF, uncompressed, in strips of 64 rows."""
    import tifffile

    if not path.exists():
        tifffile.imwrite(path, _pixels(dicom, rows, columns), rowsperstrip=64)
    return path


def _pixels(dicom: Path, rows: int, columns: int) -> Any:
    return np.frombuffer(dicom.read_bytes()[-2 * rows * columns :], "<u2").reshape(rows, columns)
