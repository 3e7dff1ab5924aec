"""The footer of a Parquet file: where the bytes of each row group's columns are, and new footers for some of them.

Field numbers are those of https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift. This
module raises NoSlices for everything that it does not fully understand (encryption, columns in other files, offsets
outside of the file). Such a file is decoded instead of cut at its row groups.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from regather.kinds.table.parquet.compact import BINARY, I32, I64, LIST, STRUCT, Struct, decode, encode
from regather.kinds.table.parquet.pages import check_pages, dictionary_page

MAGIC = b"PAR1"
_TAIL_BYTES = 8
_MOST_FOOTER_BYTES = 16 * 1024 * 1024

_SCHEMA, _ROWS, _GROUPS, _ORDERS, _ENCRYPTION = 2, 3, 4, 7, 8  # of FileMetaData
_REPETITION, _NAME, _CHILDREN = 3, 4, 5  # of SchemaElement
_REPEATED = 2
_COLUMNS, _GROUP_BYTES, _GROUP_ROWS = 1, 2, 3  # of RowGroup
_FILE, _CHUNK_OFFSET, _META, _CRYPTO, _ENCRYPTED = 1, 2, 3, 8, 9  # of ColumnChunk
_VALUES, _SIZE, _DATA, _INDEX_PAGE, _DICTIONARY, _PAGES = 5, 7, 9, 10, 11, 13  # of ColumnMetaData
_LEFT_OUT = frozenset({12, 14, 15, 16, 17})  # of ColumnMetaData, too: statistics, Bloom filters
_PAGE_TYPE, _PAGE_ENCODING = 1, 2  # of PageEncodingStats
_DICTIONARY_PAGE = 2
_BY_DICTIONARY = (2, 8)  # PLAIN_DICTIONARY, RLE_DICTIONARY


class NoSlices(Exception):
    """The file is not a Parquet file, or cannot be cut at its row groups."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One column of one row group: its bytes, and its number of values, nulls included.

    `by_dictionary`: all its values are in its dictionary.
    """

    begin: int
    size_bytes: int
    values: int
    by_dictionary: bool
    struct: Struct


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A row group; `chunks` are in the order of the schema's leaves."""

    rows: int
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """A column of the table: the schema's elements that describe it, and its leaves."""

    name: str
    elements: range
    leaves: range
    repeated: bool

    @property
    def nested(self) -> bool:
        """Whether its values are lists, objects or maps."""
        return len(self.elements) > 1 or self.repeated


class Footer:
    """A file's footer; NoSlices for a footer that is not fully understood."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            self._struct = decode(_read(file))[0]
            self.fields = _fields(self._struct)
            end = file.seek(0, os.SEEK_END) - _TAIL_BYTES
            self.groups = tuple(_group(group, end) for group in _items(self._struct, _GROUPS, STRUCT))
            self._check(end)
        except (ValueError, KeyError, IndexError, TypeError, UnicodeDecodeError) as error:
            raise NoSlices(str(error)) from error

    @property
    def _leaves(self) -> int:
        return sum(len(field.leaves) for field in self.fields)

    @property
    def rows(self) -> int:
        """Number of rows of the whole file."""
        return sum(group.rows for group in self.groups)

    def check(self, file: BinaryIO, groups: Sequence[RowGroup], fields: Sequence[Field]) -> None:
        """Raise NoSlices if the pages of these columns are not where the footer says."""
        for field in fields:
            for group in groups:
                for leaf in field.leaves:
                    chunk = group.chunks[leaf]
                    if not field.nested and chunk.values != group.rows:
                        raise NoSlices("a column does not have as many values as its row group has rows")
                    _check_pages(file, chunk)

    def slice(self, file: BinaryIO, groups: Sequence[RowGroup], fields: Sequence[Field]) -> bytes:
        """Return a Parquet file of only these row groups and columns; nothing is decoded."""
        content = bytearray(MAGIC)
        leaves = [leaf for field in fields for leaf in field.leaves]
        written = []
        for group in groups:
            columns = [_moved(group.chunks[leaf], file, content) for leaf in leaves]
            sizes = sum(group.chunks[leaf].size_bytes for leaf in leaves)
            written.append(
                {_COLUMNS: (LIST, (STRUCT, columns)), _GROUP_BYTES: (I64, sizes), _GROUP_ROWS: (I64, group.rows)}
            )
        footer = encode(self._of(written, sum(group.rows for group in groups), fields, leaves))
        return _file(content, footer)

    def _of(self, groups: list[Struct], rows: int, fields: Sequence[Field], leaves: Sequence[int]) -> Struct:
        elements = _items(self._struct, _SCHEMA, STRUCT)
        root = elements[0] | {_CHILDREN: (I32, len(fields))}
        kept = [root, *(elements[index] for field in fields for index in field.elements)]
        struct = self._struct | {
            _SCHEMA: (LIST, (STRUCT, kept)),
            _ROWS: (I64, rows),
            _GROUPS: (LIST, (STRUCT, groups)),
        }
        if _ORDERS in struct:
            orders = _items(struct, _ORDERS, STRUCT)
            struct[_ORDERS] = LIST, (STRUCT, [orders[leaf] for leaf in leaves])
        return struct

    def _check(self, end: int) -> None:
        leaves = self._leaves
        if _ENCRYPTION in self._struct or any(len(group.chunks) != leaves for group in self.groups):
            raise NoSlices("the file is encrypted, or a row group lacks columns")
        if _ORDERS in self._struct and len(_items(self._struct, _ORDERS, STRUCT)) != leaves:
            raise NoSlices("the orders of values are not those of the columns")
        if self._struct[_ROWS][1] != self.rows:
            raise NoSlices("the row groups do not have as many rows as the file says")


def alone(file: BinaryIO) -> bytes:
    """Return a Parquet file that has only this file's footer, so that DuckDB can judge it."""
    return _file(bytearray(MAGIC), _read(file))


def _file(content: bytearray, footer: bytes) -> bytes:
    content += footer + len(footer).to_bytes(4, "little") + MAGIC
    return bytes(content)


def dictionary_of(file: BinaryIO, chunk: Chunk) -> tuple[int, int]:
    """Return number and size in bytes of the values in a chunk's dictionary; NoSlices if it has none."""
    try:
        return dictionary_page(file, chunk.begin)
    except (ValueError, KeyError, TypeError) as error:
        raise NoSlices(str(error)) from error


def _check_pages(file: BinaryIO, chunk: Chunk) -> None:
    try:
        check_pages(file, chunk.begin, chunk.size_bytes, chunk.values)
    except (ValueError, KeyError, TypeError) as error:
        raise NoSlices(str(error)) from error


def _read(file: BinaryIO) -> bytes:
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - _TAIL_BYTES))
    tail = file.read(_TAIL_BYTES)
    size = int.from_bytes(tail[:4], "little")
    if tail[4:] != MAGIC or size > min(_MOST_FOOTER_BYTES, end - _TAIL_BYTES):
        raise NoSlices("there is no footer, or a very long one")
    file.seek(end - _TAIL_BYTES - size)
    return file.read(size)


def _items(struct: Struct, number: int, kind: int) -> list[Any]:
    found, (of, items) = struct[number]
    if (found, of) != (LIST, kind) and items:
        raise NoSlices(f"field {number} is not a list of type {kind}")
    return list(items)


def _fields(struct: Struct) -> tuple[Field, ...]:
    elements = _items(struct, _SCHEMA, STRUCT)
    fields: list[Field] = []
    at, leaf = 1, 0
    for _ in range(elements[0][_CHILDREN][1]):
        end, leaves = _subtree(elements, at)
        kind, name = elements[at][_NAME]
        if kind != BINARY:
            raise NoSlices("a column's name is not text")
        repeated = elements[at].get(_REPETITION, (I32, 0))[1] == _REPEATED
        fields.append(Field(name.decode(), range(at, end), range(leaf, leaf + leaves), repeated))
        at, leaf = end, leaf + leaves
    if at != len(elements):
        raise NoSlices("the schema is not a tree")
    return tuple(fields)


def _subtree(elements: Sequence[Struct], at: int) -> tuple[int, int]:
    """Return where the subtree that begins with this element ends, and its number of leaves."""
    open_elements, leaves = 1, 0
    while open_elements:
        children = elements[at].get(_CHILDREN, (I32, 0))[1]
        open_elements += children - 1
        leaves += not children
        at += 1
    return at, leaves


def _group(group: Struct, end: int) -> RowGroup:
    chunks = tuple(_chunk(chunk, end) for chunk in _items(group, _COLUMNS, STRUCT))
    return RowGroup(group[_GROUP_ROWS][1], chunks)


def _chunk(struct: Struct, end: int) -> Chunk:
    if struct.keys() & {_FILE, _CRYPTO, _ENCRYPTED}:
        raise NoSlices("a column is encrypted, or is in another file")
    kind, meta = struct[_META]
    if kind != STRUCT:
        raise NoSlices(f"the description of a column has the type {kind}")
    begin, data, size_bytes = _begin(meta), meta[_DATA][1], meta[_SIZE][1]
    if begin < len(MAGIC) or size_bytes <= 0 or begin + size_bytes > end:
        raise NoSlices("a column is outside of the file")
    if not begin <= data < begin + size_bytes:
        raise NoSlices("a column's first page is outside of the column")
    return Chunk(begin, size_bytes, meta[_VALUES][1], _by_dictionary(meta), struct)


def _begin(meta: Struct) -> int:
    """Return where readers begin; some writers store 0 for a dictionary that does not exist."""
    kind, dictionary = meta.get(_DICTIONARY, (I64, 0))
    if kind != I64:
        raise NoSlices("the offset of a dictionary has an unexpected type, so readers ignore it")
    data: int = meta[_DATA][1]
    return int(dictionary) if dictionary > 0 else data


def _by_dictionary(meta: Struct) -> bool:
    if _PAGES not in meta or _DICTIONARY not in meta:
        return False
    pages = _items(meta, _PAGES, STRUCT)
    return bool(pages) and all(
        page[_PAGE_TYPE][1] == _DICTIONARY_PAGE or page[_PAGE_ENCODING][1] in _BY_DICTIONARY for page in pages
    )


def _moved(chunk: Chunk, file: BinaryIO, content: bytearray) -> Struct:
    """Copy a chunk to the end of `content` and return its entry for the new footer.

    Statistics are dropped. Writers leave NaN out of minimum and maximum, and DuckDB infers from these that a comparison
    is true for every row.
    """
    shift = len(content) - chunk.begin
    file.seek(chunk.begin)
    content += file.read(chunk.size_bytes)
    meta = {number: entry for number, entry in chunk.struct[_META][1].items() if number not in _LEFT_OUT}
    for number in (_DATA, _INDEX_PAGE, _DICTIONARY):
        if number in meta and meta[number][1] > 0:
            meta[number] = I64, meta[number][1] + shift
    return {_CHUNK_OFFSET: (I64, 0), _META: (STRUCT, meta)}
