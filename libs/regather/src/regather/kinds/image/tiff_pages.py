"""Finds the chosen image of a TIFF file: walks its directories (IFDs), its pages and the reduced sizes of one.

This module walks the chain of directories, because tifffile follows a chain that ends in a long loop forever. tifffile
then reads a page. It leaves out tags that it cannot read and uses their defaults; so a page is refused if it lost a tag
that decides what its pixels are.
"""

import struct
from collections.abc import Iterator
from typing import Any

from regather.core.errors import BadInput
from regather.kinds.image.formats import Choice
from regather.kinds.image.refusals import damaged

_MAX_PAGES = 65_536
_MAX_TAGS = 4096  # tifffile's own limit
_MAX_LEVELS = 64
_SUB_IFDS = 330
_REDUCED = 1
_DECISIVE = {
    256: "ImageWidth", 257: "ImageLength", 258: "BitsPerSample", 259: "Compression", 262: "PhotometricInterpretation",
    266: "FillOrder", 273: "StripOffsets", 274: "Orientation", 277: "SamplesPerPixel", 278: "RowsPerStrip",
    279: "StripByteCounts", 284: "PlanarConfiguration", 292: "T4Options", 317: "Predictor", 320: "ColorMap",
    322: "TileWidth", 323: "TileLength", 324: "TileOffsets", 325: "TileByteCounts", 338: "ExtraSamples",
    339: "SampleFormat", 347: "JPEGTables", 530: "YCbCrSubSampling",
}  # fmt: skip
"""Tags that decide what the pixels are."""


def read_page(file: Any, choice: Choice) -> Any:
    """Return the chosen tifffile.TiffPage; BadInput if it does not exist or cannot be read."""
    offsets = _offsets(file, choice.page)
    page = _page(file, offsets[choice.page], f"page {choice.page}")
    if not choice.level:
        return page
    levels = _sub_levels(file, page) or list(_following_levels(file, page, choice.page))
    if choice.level > len(levels):
        raise BadInput(
            f"there is no level {choice.level} of page {choice.page}; it has {len(levels)} reduced sizes besides "
            "level 0, which is its full size",
            code="image-invalid",
        )
    return levels[choice.level - 1]


def _offsets(file: Any, page: int) -> list[int]:
    """Return where the directories begin, up to that of `page`."""
    offsets: list[int] = []
    for offset in _chain(file):
        offsets.append(offset)
        if len(offsets) > page:
            return offsets
    raise BadInput(f"there is no page {page}; the file has {len(offsets)}, counted from 0", code="image-invalid")


def _chain(file: Any) -> Iterator[int]:
    """Yield where each directory begins; BadInput for a loop, or a chain that leaves the file."""
    seen: set[int] = set()
    tiff, handle = file.tiff, file.filehandle
    handle.seek(tiff.offsetsize if tiff.offsetsize == 8 else 4)  # BigTIFF: after its longer header
    offset = _number(handle, tiff.offsetformat, tiff.offsetsize)
    while offset:
        if offset in seen or len(seen) == _MAX_PAGES:
            raise damaged("TIFF", f"its pages form a loop, or there are more than {_MAX_PAGES}")
        seen.add(offset)
        yield offset
        handle.seek(offset)
        tags = _number(handle, tiff.tagnoformat, tiff.tagnosize)
        handle.seek(offset + tiff.tagnosize + tags * tiff.tagsize)
        offset = _number(handle, tiff.offsetformat, tiff.offsetsize)


def _number(handle: Any, layout: str, size: int) -> int:
    data = handle.read(size)
    if len(data) != size:
        raise damaged("TIFF", "its list of pages leads past the end of the file; it is cut off or damaged")
    number: int = struct.unpack(layout, data)[0]
    return number


def _page(file: Any, offset: int, name: str) -> Any:
    import tifffile

    codes = _codes(file, offset)
    file.filehandle.seek(offset)
    try:
        page = tifffile.TiffPage(file, index=0)
    except Exception as error:  # tifffile raises all kinds of exceptions for a damaged directory
        raise damaged("TIFF", f"the directory of {name} cannot be read") from error
    lost = sorted(code for code in codes & _DECISIVE.keys() if code not in page.tags)
    if lost:
        raise damaged("TIFF", f"the tag {_DECISIVE[lost[0]]} ({lost[0]}) of {name} cannot be read")
    if page.is_ndpi or file.tiff.is_ndpi:
        raise BadInput(
            "the file is a Hamamatsu NDPI, which is not supported; export it as TIFF", code="image-unsupported"
        )
    return page


def _codes(file: Any, offset: int) -> set[int]:
    tiff, handle = file.tiff, file.filehandle
    handle.seek(offset)
    count = min(_number(handle, tiff.tagnoformat, tiff.tagnosize), _MAX_TAGS)
    entries = handle.read(count * tiff.tagsize)
    order = tiff.byteorder + "H"
    return {struct.unpack_from(order, entries, at)[0] for at in range(0, len(entries) - 1, tiff.tagsize)}


def _sub_levels(file: Any, page: Any) -> list[Any]:
    """Return the reduced sizes below a page, as in OME-TIFF."""
    tag = page.tags.get(_SUB_IFDS)
    if tag is None:
        return []
    offsets = tag.value if isinstance(tag.value, tuple) else (tag.value,)
    pages = [_page(file, int(offset), f"level {level}") for level, offset in enumerate(offsets[:_MAX_LEVELS], 1)]
    return [small for small in pages if small.imagewidth < page.imagewidth or small.imagelength < page.imagelength]


def _following_levels(file: Any, page: Any, index: int) -> Iterator[Any]:
    """Yield the reduced sizes that follow a page in the chain: marked as such, or in the order of Aperio's SVS."""
    aperio = page.is_svs
    last = page
    for number, offset in enumerate(_chain(file)):
        if number <= index:
            continue
        if number > index + _MAX_LEVELS:
            return
        small = _page(file, offset, f"page {number}")
        if aperio and number == index + 1 and not small.is_tiled:
            continue  # the thumbnail
        marked = small.is_tiled and not small.subfiletype if aperio else small.subfiletype == _REDUCED
        if not marked or small.imagewidth >= last.imagewidth:
            return
        last = small
        yield small
