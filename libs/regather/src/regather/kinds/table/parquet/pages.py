"""Checks that the pages of a column chunk have the bytes and the values that the footer says.

A reader of the whole file follows the pages and uses neither number, and some writers stored wrong sizes: Parquet's C++
library of 2016 left a dictionary's header out (PARQUET-816). If a chunk were cut by such a size, bytes of another
column would follow and be read as values.
"""

from typing import BinaryIO

from regather.kinds.table.parquet.compact import Struct, decode

_HEADER_BYTES, _MOST_HEADER_BYTES = 256, 64 * 1024
_TYPE, _PAGE_BYTES, _DICTIONARY, _VALUES = 1, 3, 7, 1
_DICTIONARY_PAGE = 2
_OF_VALUES = {0: 5, 3: 8}  # DATA_PAGE, DATA_PAGE_V2: the field with their own header


def page_header(file: BinaryIO, at: int) -> tuple[Struct, int]:
    """Return the header of the page that begins at `at`, and where it ends; ValueError if there is none."""
    file.seek(at)
    data = file.read(_HEADER_BYTES)
    try:
        header, size = decode(data)
    except ValueError:
        header, size = decode(data + file.read(_MOST_HEADER_BYTES))
    return header, at + size


def dictionary_page(file: BinaryIO, at: int) -> tuple[int, int]:
    """Return the number of values of the dictionary page at `at`, and their size in bytes without compression.

    ValueError, KeyError or TypeError if the page is not a dictionary.
    """
    header, _ = page_header(file, at)
    if header[_TYPE][1] != _DICTIONARY_PAGE:
        raise ValueError("a chunk's first page is not a dictionary")
    return header[_DICTIONARY][1][_VALUES][1], header[2][1]


def check_pages(file: BinaryIO, begin: int, size_bytes: int, values: int) -> None:
    """Raise ValueError, KeyError or TypeError unless the pages from `begin` on have this many bytes and values."""
    at, end, found = begin, begin + size_bytes, 0
    while at < end:
        header, body = page_header(file, at)
        at = body + max(0, header[_PAGE_BYTES][1])
        own = _OF_VALUES.get(header[_TYPE][1])
        found += header[own][1][_VALUES][1] if own else 0
    if at != end or found != values:
        raise ValueError("a column's pages have other bytes or values than the footer says")
