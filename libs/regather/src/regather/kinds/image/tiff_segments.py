"""The strips or tiles of one TIFF page, read and decoded one row of them after the other.

imagecodecs undoes byte codecs (LZW, deflate, ...) here, so that the length is checked: a strip that decodes to more or
fewer bytes than it must is damaged, whether the codec noticed or not. tifffile decodes codecs that code an image (JPEG,
JPEG 2000, ...), because it implements their rules. libjpeg only warns of damage, and imagecodecs hides its warnings; so
libvips decodes each JPEG strip once more, with every warning fatal.

No decoder can detect other values in uncompressed strips, in PackBits' literals, in LZW, LZMA and Zstandard without a
checksum where the length stays the same, and in JPEG, JPEG 2000, WebP and CCITT where the bits are still valid.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from regather.core.errors import BadInput
from regather.kinds.image.coded_size import coded_size
from regather.kinds.image.limits import is_bomb, too_large
from regather.kinds.image.refusals import damaged, unsupported
from regather.kinds.image.strict_decoders import check_jpeg, inflater

Array = NDArray[Any]
_NONE = 1
_FAX = {2, 3, 4}
_JPEG = {7, 33007, 34892}
_CODECS = {
    1, 2, 3, 4, 5, 7, 8, 22610, 32773, 32946, 33003, 33004, 33005, 33007, 34712, 34887, 34892, 34925, 34926, 34927, 34933,
    34934, 50000, 50001, 50002, 50013, 52546,
}  # fmt: skip
"""TIFF's numbers of the supported codecs; docs/reference/kinds/image.md has their names."""

_PREDICTORS = (1, 2, 3)
_STEP_BYTES = 1024 * 1024
_WHOLE_BITS = {8, 16, 32, 64}


class Segments:
    """All strips or tiles of a page; the constructor checks their number and place.

    BadInput for a page that lacks necessary tags, or whose strips are not all in the file.
    """

    def __init__(self, page: Any, path: Path) -> None:
        self._page = page
        self._file_bytes = path.stat().st_size
        self._separate, _, self._height, self._width, self._samples = page.shaped
        self._rows = page.tilelength if page.is_tiled else min(page.rowsperstrip, self._height)
        self._columns = page.tilewidth if page.is_tiled else self._width
        self._name = "tile" if page.is_tiled else "strip"
        self._down = -(-self._height // self._rows)
        self._across = -(-self._width // self._columns)
        self._check_size()
        self._places = self._checked_places()
        self._file: BinaryIO = path.open("rb")
        self._inflate = inflater(page.compression)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def bands(self) -> Iterator[Array]:
        """Yield all rows in order: arrays of shape (rows, width, channels), in the machine's byte order."""
        plain = self._page.compression == _NONE and not self._page.is_tiled and self._page.predictor == _NONE
        if plain and self._page.bitspersample in _WHOLE_BITS and self._page.fillorder == 1:
            yield from self._plain_bands()
            return
        for down in range(self._down):
            rows = min(self._rows, self._height - down * self._rows)
            band = np.empty((rows, self._width, self._separate, self._samples), self._page.dtype)
            for plane in range(self._separate):
                for across in range(self._across):
                    left = across * self._columns
                    part = self._decoded((plane * self._down + down) * self._across + across)
                    width = min(self._columns, self._width - left)
                    band[:, left : left + width, plane] = part[:rows, :width]
            yield band.reshape(rows, self._width, -1)

    def _plain_bands(self) -> Iterator[Array]:
        """Read rows from the file directly: a strip may be the whole image, or a single row."""
        dtype = np.dtype(self._page.dtype).newbyteorder(self._page.parent.byteorder)
        row_bytes = self._width * self._samples * dtype.itemsize
        step = max(1, _STEP_BYTES // (row_bytes * self._separate))
        runs = [self._runs(plane, row_bytes) for plane in range(self._separate)]
        for first, in_run in runs[0]:
            for row in range(first, first + in_run, step):
                rows = min(step, first + in_run - row)
                planes = []
                for plane in range(self._separate):
                    number, row_in_strip = divmod(row, self._rows)
                    offset = self._places[plane * self._down + number][0] + row_in_strip * row_bytes
                    data = np.frombuffer(self._read(offset, rows * row_bytes), dtype)
                    planes.append(data.reshape(rows, self._width, self._samples))
                yield np.concatenate(planes, axis=2).astype(self._page.dtype, copy=False)

    def _runs(self, plane: int, row_bytes: int) -> list[tuple[int, int]]:
        """Return first row and number of rows of each range that can be read at once: consecutive strips in the file."""
        runs: list[tuple[int, int]] = []
        end = None
        for number in range(self._down):
            offset = self._places[plane * self._down + number][0]
            rows = min(self._rows, self._height - number * self._rows)
            if offset == end and self._separate == 1:
                runs[-1] = (runs[-1][0], runs[-1][1] + rows)
            else:
                runs.append((number * self._rows, rows))
            end = offset + rows * row_bytes
        return runs

    def _check_size(self) -> None:
        """Refuse tiles that are a bomb: they may have far more pixels than the image."""
        tile_bytes = self._row_bytes() * self._rows
        if is_bomb(tile_bytes, self._file_bytes):
            raise too_large(
                "TIFF", f"its {self._name}s of {self._columns} x {self._rows} pixels are {tile_bytes} bytes"
            )

    def _checked_places(self) -> list[tuple[int, int]]:
        page = self._page
        offsets, sizes = list(page.dataoffsets), list(page.databytecounts)
        wanted = self._separate * self._down * self._across
        for code in (273, 279, 324, 325):
            tag = page.tags.get(code)
            if tag is not None and tag.count != wanted:
                raise damaged("TIFF", f"its size needs {wanted} {self._name}s, but it lists {tag.count}")
        if len(offsets) != wanted or len(sizes) != wanted:
            raise damaged("TIFF", f"its size needs {wanted} {self._name}s, but it lists {len(offsets)}")
        for number, (offset, size) in enumerate(zip(offsets, sizes, strict=True)):
            if not (type(offset) is type(size) is int) or offset < 0 or size < 0:
                raise damaged("TIFF", f"the place of {self._name} {number} is not valid")
            if not offset or not size:
                raise damaged("TIFF", f"{self._name} {number} is not in the file")
            if offset + size > self._file_bytes:
                raise damaged(
                    "TIFF",
                    f"{self._name} {number} ends at byte {offset + size} and the file at {self._file_bytes}; "
                    "it is cut off",
                )
            if page.compression == _NONE:
                self._check_length(number, size)
        return list(zip(offsets, sizes, strict=True))

    def _decoded(self, number: int) -> Array:
        """Return strip or tile `number` as an array of shape (rows, columns, samples)."""
        page = self._page
        offset, size = self._places[number]
        data = self._read(offset, size)
        self._check_coded_size(data, number)
        try:
            if page.compression == _NONE or self._inflate is not None:
                return self._unpacked(self._inflated(data, number), number)
            if page.compression in _JPEG:
                check_jpeg(data, page.jpegtables)
                part = page.decode(data, number, jpegtables=page.jpegtables, jpegheader=page.jpegheader)[0]
            else:
                part = page.decode(data, number)[0]
                if page.compression in _FAX:
                    part = part.astype(np.bool_)  # the decoder returns the numbers 0 and 1
        except (BadInput, MemoryError):
            raise
        except Exception as error:  # each codec has exceptions of its own
            raise damaged("TIFF", f"{self._name} {number} ({codec_name(page)}) is damaged") from error
        return self._checked_part(part, number)

    def _check_coded_size(self, data: bytes, number: int) -> None:
        """Refuse a strip whose header states another size, before it is decoded."""
        size = coded_size(self._page.compression, data)
        if size is None:
            return
        rows, columns = self._left(number)
        if size[0] not in (columns, self._columns) or size[1] not in (rows, self._rows):
            raise damaged(
                "TIFF",
                f"{self._name} {number} ({codec_name(self._page)}) states that it is {size[0]} x {size[1]} pixels, "
                f"not {columns} x {rows}",
            )

    def _left(self, number: int) -> tuple[int, int]:
        """Return how many rows and columns of strip or tile `number` are inside the image."""
        rows = min(self._rows, self._height - number // self._across % self._down * self._rows)
        return rows, min(self._columns, self._width - number % self._across * self._columns)

    def _checked_part(self, part: Array, number: int) -> Array:
        rows, columns = self._left(number)
        found = part.shape
        fits = len(found) == 4 and found[0] == 1 and found[1] >= rows and found[2] >= columns
        if not fits or found[3] != self._samples or part.dtype != self._page.dtype:
            raise damaged(
                "TIFF",
                f"{self._name} {number} ({codec_name(self._page)}) decodes to {part.dtype} of shape {found[1:]}, "
                f"not to {self._page.dtype} of shape {(rows, columns, self._samples)}",
            )
        whole: Array = part[0]
        return whole

    def _inflated(self, data: bytes, number: int) -> bytes:
        page = self._page
        if page.fillorder == 2:  # the TIFF specification's number for reversed bits
            import imagecodecs

            data = bytes(imagecodecs.bitorder_decode(data))
        if self._inflate is not None:
            data = self._inflate(data, self._row_bytes() * self._rows + 1)
        self._check_length(number, len(data))
        return data

    def _check_length(self, number: int, size_bytes: int) -> None:
        """Refuse a wrong length. The last strip may be complete, or end with the image."""
        whole = self._row_bytes() * self._rows
        short = self._row_bytes() * self._left(number)[0]
        if size_bytes in (whole, short if not self._page.is_tiled else whole):
            return
        more = size_bytes > whole
        raise damaged(
            "TIFF",
            f"{self._name} {number} ({codec_name(self._page)}) has {'more than ' if more else ''}"
            f"{whole if more else size_bytes} bytes of pixels, not {short}",
        )

    def _row_bytes(self) -> int:
        """Return the size of one row of a strip or tile; each row begins at a whole byte."""
        bits: int = self._columns * self._samples * self._page.bitspersample
        return -(-bits // 8)

    def _unpacked(self, data: bytes, number: int) -> Array:
        """Undo the packing of bits, the byte order and the predictor."""
        import imagecodecs
        import tifffile

        page = self._page
        run = self._columns * self._samples
        order = page.parent.byteorder
        if page.bitspersample not in _WHOLE_BITS:
            packed = np.dtype(order + page._dtype.char)  # no public name
            values = imagecodecs.packints_decode(data, packed, page.bitspersample, runlen=run)
        else:
            floating = page.predictor == 3  # this predictor reorders the bytes itself
            values = np.frombuffer(data, np.dtype(page.dtype).newbyteorder("=" if floating else order))
        part = values.reshape(-1, self._columns, self._samples).astype(page.dtype)
        if page.predictor == _NONE:
            return part
        undo: Callable[..., Array] = tifffile.TIFF.UNPREDICTORS[page.predictor]
        return np.asarray(undo(part, axis=-2))

    def _read(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(size)


def codec_name(page: Any) -> str:
    """Return the name of a page's compression, or its number if it has none."""
    name = getattr(page.compression, "name", None)
    return f"compression {page.compression}" if name is None else str(name)


def check_codec(page: Any) -> None:
    """Refuse a page whose compression or predictor has no decoder; BadInput names it."""
    if int(page.compression) not in _CODECS:
        raise unsupported("TIFF", f"the codec {codec_name(page)}", "save it with deflate, LZW or Zstandard")
    if page.predictor not in _PREDICTORS:
        raise unsupported("TIFF", f"the predictor {int(page.predictor)}", "save it with predictor 1, 2 or 3")
