"""The demo's image: 8,192 x 8,192 RGB pixels, 201 MB, the same bytes on every machine, raw and as PNG."""

import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from regather.processors.base import FileSplitter, Piece, ShardView, SplitRequest, Splitter
from regather.processors.registry import all_kinds, parse_options
from regather_cli.client import Submission
from regather_cli.demo.reference import digest_of, independent_answer
from regather_cli.demo.verified import Check, VerifiedJob, shown_seconds

WIDTH, HEIGHT, CHANNELS = 8192, 8192, 3
_SEED = 20_260_101
_BAND_ROWS = 256
_CHUNK_BYTES = 256 * 1024
SIZE_BYTES = WIDTH * HEIGHT * CHANNELS
KIND = "image.features"
OPTIONS = {"width": str(WIDTH), "height": str(HEIGHT), "channels": str(CHANNELS)}
SHARD_BYTES = 4 * 1024 * 1024


def write_raw(path: Path) -> None:
    """Write the raw image: rows of interleaved uint8 RGB, no header. Takes about a second."""
    with path.open("wb") as file:
        for first_row in range(0, HEIGHT, _BAND_ROWS):
            file.write(_band(first_row).tobytes())


def write_png(raw: Path, path: Path) -> None:
    """Write the same pixels as a PNG without compression, so that the file is about as large as the raw image."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packer = zlib.compressobj(0)
    with raw.open("rb") as pixels, path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        file.write(chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)))
        while row := pixels.read(WIDTH * CHANNELS):
            if packed := packer.compress(b"\0" + row):
                file.write(chunk(b"IDAT", packed))
        file.write(chunk(b"IDAT", packer.flush()) + chunk(b"IEND", b""))


async def jobs(folder: Path) -> list[VerifiedJob]:
    """Return the raw job and the PNG job; both must give the result of the independent program on the raw pixels."""
    raw, png = folder / "image.raw", folder / "image.png"
    write_raw(raw)
    write_png(raw, png)
    options = [word for name, value in OPTIONS.items() for word in (f"--{name}", value)]
    answer = await independent_answer("image_features", raw, *options)
    serial_s = serial_seconds(raw)
    check = Check(digest_of(answer.features))
    note = f"{WIDTH} x {HEIGHT} x {CHANNELS}, {SIZE_BYTES / 1e6:.0f} MB; {shown_seconds(answer, serial_s)}"
    return [
        VerifiedJob("image", Submission(KIND, OPTIONS, SHARD_BYTES), raw, check, note, answer.seconds, serial_s),
        VerifiedJob("png", Submission(KIND, {}, SHARD_BYTES), png, check, "the same pixels as a PNG file"),
    ]


def serial_seconds(raw: Path) -> float:
    """Return the seconds that the same splitter, kind and merge take in this process, one shard after the other."""
    processor = all_kinds().require(KIND)
    options = parse_options(processor, OPTIONS)
    started = time.perf_counter()
    splitter = processor.splitter(options, SplitRequest(SHARD_BYTES, size_bytes=SIZE_BYTES))
    assert not isinstance(splitter, FileSplitter)
    outputs: list[bytes | None] = []
    for piece in _pieces(splitter, raw):
        outputs.append(processor.process(ShardView(piece.payload, piece.meta, len(outputs), 0), options))
    processor.merge(outputs, options)
    return time.perf_counter() - started


def _pieces(splitter: Splitter, raw: Path) -> Iterator[Piece]:
    with raw.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield from splitter.feed(chunk)
    yield from splitter.finish()


def _band(first_row: int) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """Return rows of a slow gradient with texture and noise; integers give the same bytes on every machine."""
    rows = np.arange(first_row, first_row + _BAND_ROWS, dtype=np.uint16)[:, None]
    columns = np.arange(WIDTH, dtype=np.uint16)[None, :]
    gradient = (rows // 64 + columns // 64).astype(np.uint8)
    texture = ((rows ^ columns) & 31).astype(np.uint8)
    # PCG64's raw words are the same in every version of numpy; its distributions need not be.
    words = np.random.PCG64([_SEED, first_row]).random_raw(_BAND_ROWS * WIDTH * CHANNELS // 8)
    noise = words.astype("<u8").view(np.uint8).reshape(_BAND_ROWS, WIDTH, CHANNELS) & 15
    band: np.ndarray[tuple[int, int, int], np.dtype[np.uint8]] = (gradient // 2 + texture)[:, :, None] + noise
    return band
