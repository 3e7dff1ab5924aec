"""Rows of a result: the model's answers as fields, written as NDJSON, CSV or one NPY array.

JSON has no NaN and no infinity: they are written as the strings "NaN", "Infinity" and "-Infinity", in CSV without the
quotes. An NPY array keeps them. Reals are written with the fewest digits that give the same value again.
"""

import csv
import io
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from regather.core.errors import PermanentError
from regather.kinds.model.batches import Found
from regather.kinds.model.class_names import Names
from regather.kinds.model.examination import SUM_TOLERANCE
from regather.kinds.model.numbers import bad_row, shown
from regather.kinds.model.options import ID, ROW, PredictOptions
from regather.kinds.model.outputs import Plan
from regather.processors.splitting.npy import MAGIC

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_HEADER_BYTES = struct.Struct("<I")
_P, _CLASS, _ALL = "p", "class", "probabilities"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of each row: `values` are (rows, ...); with `keys`, a row's values are an object with these names."""

    name: str
    values: "NDArray[Any]"
    keys: tuple[str | int, ...] | None = None

    @property
    def single(self) -> bool:
        """Whether a row has a single value, not a list."""
        return self.keys is None and self.values.size == len(self.values) and self.values.shape[1:] in ((), (1,))


@dataclass(frozen=True, slots=True)
class Rows:
    """A shard's answers: `array` is the content of NPY; `fields` follow the row's number in NDJSON or CSV."""

    numbers: "NDArray[np.int64]"
    ids: list[object] | None
    fields: Sequence[Field]
    array: "NDArray[Any]"


def as_rows(
    plan: Plan, found: Found, labels: Mapping[str, Names], numbers: "NDArray[np.int64]", ids: list[object] | None,
    options: PredictOptions,
) -> Rows:  # fmt: skip
    """Return the answers as rows; PermanentError if probabilities are wrong, or the classes' names do not fit them."""
    if plan.probabilities:
        return _classified(plan, found, labels, numbers, ids, options)
    if plan.label:
        classes = found[plan.label].values.reshape(len(numbers))
        return Rows(numbers, ids, [Field(_CLASS, classes)], classes)
    fields = [Field(name, found[output].values, found[output].keys) for name, output in plan.values]
    return Rows(numbers, ids, fields, fields[0].values)


def _classified(
    plan: Plan, found: Found, labels: Mapping[str, Names], numbers: "NDArray[np.int64]", ids: list[object] | None,
    options: PredictOptions,
) -> Rows:  # fmt: skip
    import numpy as np

    answers = found[plan.probabilities]
    values = answers.values
    if values.ndim != 2 or values.dtype.kind != "f" or (len(values) and values.shape[1] < 2):
        raise PermanentError(
            f"the model's output {plan.probabilities!r} has rows of the shape {values.shape[1:]}, not a probability for "
            "each of at least two classes; ask for its values with the option outputs"
        )
    if plan.sums:
        _check_sums(values, numbers, plan.probabilities)
    told = answers.keys or _told(labels, plan.label, values.shape[1])
    names = _class_names(told, options, values.shape[1], len(values))
    best: NDArray[np.int64] = values.argmax(axis=1) if len(values) else np.zeros(0, np.int64)
    if plan.label:
        classes = found[plan.label].values.reshape(len(numbers))
        _to_places(best, classes, told, options.classes, numbers)
    if not plan.label or options.classes:
        classes = np.array(names, dtype=object)[best]
    fields = [Field(_CLASS, classes), Field(_P, np.take_along_axis(values, best[:, None], axis=1)[:, 0])]
    if options.all_classes:
        fields.append(Field(_ALL, values, names))
    return Rows(numbers, ids, fields, values)


def _check_sums(values: "NDArray[Any]", numbers: "NDArray[np.int64]", output: str) -> None:
    """Check that an output chosen because made-up rows added up to 1 always does; NaN and infinity are let through."""
    import numpy as np

    tolerance = SUM_TOLERANCE[values.dtype.name]
    sums, least = values.sum(axis=1, dtype=np.float64), values.min(axis=1, initial=0)
    wrong = np.isfinite(sums) & ((abs(sums - 1) > tolerance) | (least < -tolerance))
    if wrong.any():
        index = int(np.argmax(wrong))
        what = f"has a value of {least[index]:.6g}" if least[index] < -tolerance else f"adds up to {sums[index]:.6g}"
        raise bad_row(
            int(numbers[index]),
            f"the model's output {output!r} {what}, so it is not a probability; name it with the option "
            "probabilities, or ask for its values with the option outputs",
        )


def _told(labels: Mapping[str, Names], label: str, width: int) -> tuple[str | int, ...]:
    """Return the graph's names for the columns: those of the label, or the only ones without a label; empty if unknown."""
    found = {tuple(names[:width]) for output, names in labels.items() if label in ("", output)}
    fitting = {names for names in found if len(names) == width}
    return fitting.pop() if len(fitting) == 1 else ()


def _class_names(told: tuple[str | int, ...], options: PredictOptions, width: int, rows: int) -> tuple[str | int, ...]:
    """Return the columns' names: the option's, or else the model's, or else their numbers."""
    if options.classes:
        if len(options.classes) != width and rows:
            raise PermanentError(f"option classes names {len(options.classes)} classes; the model has {width}")
        return options.classes
    return told or tuple(range(width))


def _to_places(
    best: "NDArray[np.int64]", labels: "NDArray[Any]", told: tuple[str | int, ...], classes: Sequence[str],
    numbers: "NDArray[np.int64]",
) -> None:  # fmt: skip
    """Set `best` to the place of each row's own label among the probabilities, by the names in the model's graph.

    Without such names a label must be one of the option `classes`, or the place of the greatest probability itself.
    """
    place_of = {name: place for place, name in enumerate(told or classes)}
    known = labels.tolist() if told else [str(label) for label in labels.tolist()]
    for index, label in enumerate(known):
        place = place_of.get(label)
        if place is not None:
            best[index] = place
        elif not classes and (told or str(best[index]) != label):
            raise bad_row(
                int(numbers[index]),
                f"the model's label is {shown(labels[index : index + 1].tolist()[0])}, and its file does not say which "
                "probability is of that class; name the classes in the order of their probabilities with the option "
                "classes, or ask for both outputs with the option outputs",
            )


def write_ndjson(rows: Rows) -> bytes:
    """Return one object per line: row, id if there is one, and the fields."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not len(rows.numbers):
        return b""
    parts: list[Any] = [f'{{"{ROW}":', _texts(rows.numbers)]
    if rows.ids is not None:
        parts += [f',"{ID}":', pa.array([_json(value) for value in rows.ids], pa.large_string())]
    for field in rows.fields:
        parts += [f",{_json(field.name)}:", *_json_parts(field)]
    lines = pc.binary_join_element_wise(*_merged([*parts, "}\n"]), pa.scalar("", pa.large_string()))
    return "".join(lines.to_pylist()).encode()


def write_csv(rows: Rows) -> bytes:
    """Return RFC 4180 for join_csv(): the header's length, the header, the rows. A list takes several columns."""
    names, columns = [ROW], [rows.numbers.tolist()]
    if rows.ids is not None:
        names.append(ID)
        columns.append([_cell(value) for value in rows.ids])
    for field in rows.fields:
        flat = field.values.reshape(len(rows.numbers), _width(field))
        names += _csv_names(field)
        columns += [_csv_texts(flat[:, index]) for index in range(flat.shape[1])]
    header, body = io.StringIO(newline=""), io.StringIO(newline="")
    csv.writer(header).writerow(names)
    csv.writer(body).writerows(zip(*columns, strict=True))
    first = header.getvalue().encode()
    return _HEADER_BYTES.pack(len(first)) + first + body.getvalue().encode()


def join_csv(outputs: Sequence[bytes]) -> bytes:
    """Return one file of outputs of write_csv(): the header once, then all rows."""
    return _joined(outputs, "columns")


def write_npy(rows: Rows) -> bytes:
    """Return the array for join_npy(): the length of its description, the description, the values in C order."""
    array = rows.array
    if array.dtype.kind not in "fiub":
        raise PermanentError("output=npy holds numbers, but this answer is texts; ask for ndjson or csv")
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    about = json.dumps([little.dtype.str, list(array.shape[1:])]).encode()
    return _HEADER_BYTES.pack(len(about)) + about + little.tobytes()


def join_npy(outputs: Sequence[bytes]) -> bytes:
    """Return one NPY file (version 1.0, NumPy Enhancement Proposal 1) of outputs of write_npy()."""
    if not outputs:
        return _npy_header("<f4", (0, 0))
    first = outputs[0]
    begin = _HEADER_BYTES.size + _HEADER_BYTES.unpack_from(first)[0]
    joined = _joined(outputs, "shapes")[begin - _HEADER_BYTES.size :]
    dtype, shape = json.loads(first[_HEADER_BYTES.size : begin])
    row_bytes = int(dtype[2:])
    for side in shape:
        row_bytes *= side
    rows = len(joined) // row_bytes if row_bytes else 0
    return _npy_header(dtype, (rows, *shape)) + joined


def _joined(outputs: Sequence[bytes], what: str) -> bytes:
    if not outputs:
        return b""
    begin = _HEADER_BYTES.size + _HEADER_BYTES.unpack_from(outputs[0])[0]
    head = outputs[0][:begin]
    if any(output[:begin] != head for output in outputs):
        raise PermanentError(f"the model gave rows of different {what} in different shards; a result can have only one")
    return head[_HEADER_BYTES.size :] + b"".join(output[begin:] for output in outputs)


def _npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """Return an NPY header, padded to a multiple of 64 bytes."""
    sides = f"({shape[0]},)" if len(shape) == 1 else f"({', '.join(map(str, shape))})"
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {sides}, }}"
    padding = -(len(MAGIC) + 4 + len(text) + 1) % 64
    return MAGIC + b"\x01\x00" + struct.pack("<H", len(text) + padding + 1) + text.encode() + b" " * padding + b"\n"


def _json_parts(field: Field) -> list[Any]:
    """Return texts and columns of texts which, side by side, are the field's JSON."""
    values = field.values
    if field.single:
        return [_texts(values.reshape(len(values)))]
    flat = values.reshape(len(values), _width(field))
    columns = [_texts(flat[:, index]) for index in range(flat.shape[1])]
    if field.keys is not None:
        named = [(f"{',' if index else ''}{_json(str(key))}:", columns[index]) for index, key in enumerate(field.keys)]
        return ["{", *(part for pair in named for part in pair), "}"]
    parts: list[Any] = []
    for between, column in zip(_brackets(values.shape[1:]), columns, strict=True):
        parts += [between, column]
    return [*parts, "]" * (values.ndim - 1)] if parts else [_empty(values.shape[1:])]


def _brackets(shape: tuple[int, ...]) -> list[str]:
    """Return what precedes each value of a nested list of this shape."""
    found = []
    for place in product(*map(range, shape)):
        opened = 0
        while opened < len(place) and place[len(place) - 1 - opened] == 0:
            opened += 1
        closed = "" if opened == len(place) else "]" * opened + ","
        found.append(closed + "[" * opened)
    return found


def _empty(shape: tuple[int, ...]) -> str:
    """Return the list of a row that has no value."""
    return json.dumps(_nothing(shape), separators=(",", ":"))


def _nothing(shape: tuple[int, ...]) -> list[Any]:
    return [_nothing(shape[1:]) for _ in range(shape[0])] if len(shape) > 1 else []


def _width(field: Field) -> int:
    width = 1
    for side in field.values.shape[1:]:
        width *= side
    return width


def _texts(values: "NDArray[Any]") -> Any:
    """Return a column of JSON values as Arrow texts."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if values.dtype.kind in "OUS":
        known = {value: _json(value) for value in set(values.tolist())}
        return pa.array([known[value] for value in values.tolist()], pa.large_string())
    values = np.ascontiguousarray(values.astype(np.float32) if values.dtype == np.float16 else values)
    texts = pa.array(values).cast(pa.large_string())
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        texts = pc.if_else(pa.array(np.isnan(values)), '"NaN"', texts)
        texts = pc.if_else(pa.array(np.isposinf(values)), '"Infinity"', texts)
        texts = pc.if_else(pa.array(np.isneginf(values)), '"-Infinity"', texts)
    return texts


def _merged(parts: Sequence[Any]) -> list[Any]:
    """Return the parts for Arrow, with neighbouring texts joined, so that there are fewer columns to join."""
    import pyarrow as pa

    merged: list[Any] = []
    for part in parts:
        if isinstance(part, str) and merged and isinstance(merged[-1], str):
            merged[-1] += part
        else:
            merged.append(part)
    return [pa.scalar(part, pa.large_string()) if isinstance(part, str) else part for part in merged]


def _json(value: object) -> str:
    return json.dumps(_finite(value), ensure_ascii=False)


def _finite(value: object) -> object:
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return "NaN" if isinstance(value, float) and value != value else value


def _csv_names(field: Field) -> list[str]:
    if field.single:
        return [field.name]
    keys = field.keys if field.keys is not None else range(_width(field))
    return [f"{_P if field.name == _ALL else field.name}_{key}" for key in keys]


def _csv_texts(values: "NDArray[Any]") -> list[Any]:
    if values.dtype.kind in "OUS":
        return [_cell(value) for value in values.tolist()]
    return [text.strip('"') for text in _texts(values).to_pylist()]


def _cell(value: object) -> object:
    value = _finite(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
