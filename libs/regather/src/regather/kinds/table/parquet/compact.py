"""Thrift's compact protocol, the encoding of a Parquet footer: converts bytes to plain values and back.

Each value is encoded with its type. So a footer can be read, changed in a few places and written again without a list
of all possible fields, and fields of later Parquet versions are kept. Specification:
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from typing import Any

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)

Struct = dict[int, tuple[int, Any]]
"""Maps a field number to type and value: int, bool, bytes (BINARY, and DOUBLE as its eight bytes), List or Struct."""

List = tuple[int, list[Any]]
"""Type of the elements, and the elements."""

_MOST_DEPTH = 32
_LONG_LIST = 15
_DOUBLE_BYTES = 8


def decode(data: bytes, at: int = 0) -> tuple[Struct, int]:
    """Return the struct that begins at `at`, and where it ends; ValueError if there is none."""
    reader = _Reader(data, at)
    try:
        return reader.struct(0), reader.at
    except IndexError as error:
        raise ValueError("the struct is cut off") from error


def encode(struct: Struct) -> bytes:
    """Return the bytes that decode() reads."""
    out = bytearray()
    _write_struct(out, struct)
    return bytes(out)


class _Reader:
    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self.at = at

    def struct(self, depth: int) -> Struct:
        if depth > _MOST_DEPTH:
            raise ValueError("structs are nested too deeply")
        fields: Struct = {}
        number = 0
        while header := self._byte():
            number = number + (header >> 4) if header >> 4 else self._zigzag()
            kind = header & 15
            fields[number] = kind, (kind == TRUE) if kind in (TRUE, FALSE) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (TRUE, FALSE, BYTE):  # an element of a list
            return self._byte()
        if kind in (I16, I32, I64):
            return self._zigzag()
        if kind in (DOUBLE, BINARY):
            return self._bytes(_DOUBLE_BYTES if kind == DOUBLE else self._varint())
        if kind in (LIST, SET):
            return self._list(depth)
        if kind == STRUCT:
            return self.struct(depth + 1)
        raise ValueError(f"a value has the type {kind}, which Parquet does not use")

    def _list(self, depth: int) -> List:
        header = self._byte()
        count = header >> 4 if header >> 4 != _LONG_LIST else self._varint()
        if count > len(self._data) - self.at:
            raise ValueError("a list is longer than the rest of the data")
        return header & 15, [self._value(header & 15, depth) for _ in range(count)]

    def _byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def _bytes(self, count: int) -> bytes:
        begin, self.at = self.at, self.at + count
        if self.at > len(self._data):
            raise ValueError("a binary value is longer than the rest of the data")
        return self._data[begin : self.at]

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 128:
            value |= (byte & 127) << shift
            shift += 7
        return value | byte << shift

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)


def _write_struct(out: bytearray, struct: Struct) -> None:
    before = 0
    for number, (kind, value) in sorted(struct.items()):
        step = number - before
        kind = (TRUE if value else FALSE) if kind in (TRUE, FALSE) else kind
        out.append((step << 4 if 0 < step < 16 else 0) | kind)
        if not 0 < step < 16:
            _write_zigzag(out, number)
        if kind not in (TRUE, FALSE):
            _write_value(out, kind, value)
        before = number
    out.append(0)


def _write_value(out: bytearray, kind: int, value: Any) -> None:
    if kind in (TRUE, FALSE, BYTE):
        out.append(value)
    elif kind in (I16, I32, I64):
        _write_zigzag(out, value)
    elif kind == DOUBLE:
        out += value
    elif kind == BINARY:
        _write_varint(out, len(value))
        out += value
    elif kind == STRUCT:
        _write_struct(out, value)
    else:
        _write_list(out, *value)


def _write_list(out: bytearray, kind: int, values: list[Any]) -> None:
    out.append(min(len(values), _LONG_LIST) << 4 | kind)
    if len(values) >= _LONG_LIST:
        _write_varint(out, len(values))
    for value in values:
        _write_value(out, kind, value)


def _write_zigzag(out: bytearray, value: int) -> None:
    _write_varint(out, value << 1 if value >= 0 else ~(value << 1))


def _write_varint(out: bytearray, value: int) -> None:
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
