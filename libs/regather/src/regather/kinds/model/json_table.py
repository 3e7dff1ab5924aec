"""Rows of NDJSON, or of a JSON array cut into lines, as columns of numbers."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regather.core.errors import PermanentError
from regather.kinds.model.arrow_columns import arrow_type, whole_columns
from regather.kinds.model.features import numbers_found
from regather.kinds.model.numbers import Place, Real, bad_row, convert, from_json, missing_value, shown
from regather.kinds.model.options import PredictOptions
from regather.kinds.model.shard_meta import ShardMeta
from regather.kinds.model.signature import CARRIED, TEXT, Columns
from regather.kinds.model.text_table import TextTable, Values

if TYPE_CHECKING:
    from numpy.typing import NDArray


class JsonTable(TextTable):
    """One JSON object per line, with columns by name, or one array per line, with columns c0, c1, and so on."""

    def __init__(self, payload: bytes, meta: ShardMeta, options: PredictOptions) -> None:
        super().__init__(meta, options.missing)
        self._payload = payload
        self._strict = not (options.columns or options.inputs)
        arrays = meta.names is None and meta.width is not None
        names = [f"c{index}" for index in range(meta.width or 0)] if arrays else self._names(options)
        lists = frozenset(index for index, name in enumerate(names) if not arrays and meta.lists.get(name) is not None)
        self.columns = Columns(names, named=not arrays, lists=lists)
        self._arrays = arrays

    def read(self, dtypes: Mapping[int, str]) -> None:
        """Read these columns; PermanentError names the first bad row."""
        names = {self.columns.names[column]: dtype for column, dtype in dtypes.items()}
        found = None
        plain = all(dtype not in (TEXT, CARRIED) and name not in self._meta.lists for name, dtype in names.items())
        if not self._arrays and plain:
            strict = self._all_columns(dtypes)
            found = _arrow_json(self._payload, names, len(self.numbers), self._missing, strict=strict)
        self._values = dict(zip(dtypes, found, strict=True)) if found is not None else self._slow(dtypes)

    def carried(self, column: int) -> list[object]:
        """Return a column's values; a list, an object, or a text that is not valid Unicode makes its row bad."""
        place = Place(self.numbers, self.columns.names[column])
        for index, value in enumerate(self._values[column]):
            if isinstance(value, list | dict):
                raise place.refused(index, f"is {shown(value)}; an id must be a single value")
            _check_unicode(value, index, place)
        return list(self._values[column])

    def _all_columns(self, dtypes: Mapping[int, str]) -> bool:
        """Whether the rows' keys are the model's columns, so that a new key would silently be left out."""
        return self._strict and len(dtypes) == len(self.columns.names)

    def _names(self, options: PredictOptions) -> list[str]:
        if self._meta.names is not None:
            return list(self._meta.names)
        named = [*options.columns, *(name for names in options.inputs.values() for name in names)]
        if named or not len(self.numbers):
            return list(dict.fromkeys([*named, *([options.id] if options.id else [])]))
        row = _parsed(next(filter(bytes.strip, self._payload.split(b"\n")), b""), int(self.numbers[0]))
        if not isinstance(row, _Pairs):
            raise bad_row(int(self.numbers[0]), "it is neither a JSON object nor a JSON array")
        raise PermanentError("the rows have too many keys to use all as columns; name the columns: columns=a,b,c")

    def _column(self, column: int, dtype: str) -> "NDArray[Any]":
        import numpy as np

        values = self._values[column]
        place = Place(self.numbers, self.columns.names[column])
        if isinstance(values, np.ndarray):
            return convert(values, dtype, place)
        if dtype == TEXT:
            return _json_texts(values, place)
        told = self._meta.values_of(place.column)
        if told in (1, None) and not any(isinstance(value, list) for value in values):
            return from_json(values, dtype, self._missing, place)
        flat = _flattened(values, place, told)
        width = len(flat) // len(values)
        repeated = Place(self.numbers.repeat(width), place.column)
        return from_json(flat, dtype, self._missing, repeated).reshape(len(values), width)

    def _slow(self, dtypes: Mapping[int, str]) -> Values:
        lines = self._payload.split(b"\n")
        if not lines[-1]:
            lines.pop()
        kept = [index for index, line in enumerate(lines) if line.strip()]
        self.numbers = numbers_found(self._meta, kept, len(lines))
        values: Values = {column: [] for column in dtypes}
        names = [(column, self.columns.names[column]) for column in dtypes]
        known = frozenset(self.columns.names) if self._all_columns(dtypes) else None
        for number, index in zip(self.numbers.tolist(), kept, strict=True):
            row = _parsed(lines[index], number)
            if self._arrays:
                self._check_array(row, number)
                for column in dtypes:
                    values[column].append(row[column])
            else:
                _check_object(row, number, [name for _, name in names], known)
                for column, name in names:
                    values[column].append(_value(row[0].get(name)))
        return values

    def _check_array(self, row: Any, number: int) -> None:
        wanted = len(self.columns.names)
        if not isinstance(row, list):
            raise bad_row(number, "it is not a JSON array, unlike the body's first row")
        if len(row) != wanted:
            raise bad_row(number, f"it has {len(row)} values; the body's first row has {wanted}")


class _Pairs(tuple[dict[str, Any], frozenset[str]]):
    """A JSON object, and those of its keys that occur twice."""

    __slots__ = ()


def _value(value: Any) -> Any:
    return value[0] if isinstance(value, _Pairs) else value


def _pairs(pairs: list[tuple[str, Any]]) -> _Pairs:
    found = dict(pairs)
    names = [name for name, _ in pairs]
    twice = frozenset(name for name in names if names.count(name) > 1) if len(found) < len(pairs) else frozenset()
    return _Pairs((found, twice))


def _parsed(line: bytes, number: int) -> Any:
    try:
        return json.loads(line, object_pairs_hook=_pairs, parse_constant=_no_constant, parse_float=Real)
    except (ValueError, RecursionError) as error:
        raise bad_row(number, f"it is not valid JSON: {shown(line.decode(errors='replace'))}") from error


def _check_object(row: Any, number: int, names: Sequence[str], known: frozenset[str] | None) -> None:
    if not isinstance(row, _Pairs):
        raise bad_row(number, "it is not a JSON object")
    found, twice = row
    for name in names:
        if name in twice:
            raise bad_row(number, f"it has the key {name!r} twice")
    more = sorted(found.keys() - known) if known is not None else []
    if more:
        raise bad_row(
            number, f"it has the key {shown(more[0])}, which the body's first row lacks; choose columns with columns="
        )


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not allowed")


def _json_texts(values: Sequence[object], place: Place) -> "NDArray[Any]":
    import numpy as np

    for index, value in enumerate(values):
        if not isinstance(value, str):
            raise place.refused(index, f"is {shown(value)}; the model needs texts here")
        _check_unicode(value, index, place)
    return np.array(values, dtype=object)


def _check_unicode(value: object, index: int, place: Place) -> None:
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise place.refused(index, f"is {shown(value)}, which has half of a surrogate pair") from error


def _flattened(values: Sequence[object], place: Place, told: int | None) -> list[object]:
    """Flatten lists of lists; each row must have as many values as the body's first row, or as the first row here."""
    flat: list[object] = []
    width = told
    for index, value in enumerate(values):
        if value is None:
            raise missing_value(index, place)
        before = len(flat)
        _flatten(value, flat)
        width = len(flat) if width is None else width
        if len(flat) - before != width:
            first = f"that of row {place.numbers[0]}" if told is None else "that of the body's first row"
            raise place.refused(index, f"has {len(flat) - before} values; {first} has {width}")
    return flat


def _flatten(value: object, into: list[object]) -> None:
    if isinstance(value, list):
        for part in value:
            _flatten(part, into)
    else:
        into.append(value)


def _arrow_json(payload: bytes, names: Mapping[str, str], rows: int, missing: str, *, strict: bool) -> list[Any] | None:
    """Return columns as Arrow reads them. Arrow takes every object for a row, so each object must be one line."""
    import pyarrow as pa
    from pyarrow import json as arrow_json

    begins = payload.startswith(b"{") + payload.count(b"\n{")
    ends = payload.count(b"}\n") + payload.count(b"}\r\n")
    if not rows or begins != rows or ends != rows or b"NaN" in payload or b"Inf" in payload:
        return None
    try:
        table = arrow_json.read_json(
            pa.py_buffer(payload),
            arrow_json.ReadOptions(use_threads=False, block_size=len(payload) + 1),
            arrow_json.ParseOptions(
                explicit_schema=pa.schema([(name, arrow_type(dtype)) for name, dtype in names.items()]),
                unexpected_field_behavior="error" if strict else "ignore",
            ),
        )
    except (pa.ArrowException, UnicodeEncodeError):  # UnicodeEncodeError: a key with half of a surrogate pair
        return None
    return whole_columns(table, list(names), missing) if table.num_rows == rows else None
