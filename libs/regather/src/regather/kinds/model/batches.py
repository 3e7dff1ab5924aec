"""Runs rows through a model in batches that do not depend on the cut.

The last bits of a row's answer may depend on how many rows run with it: kernels process a remainder of rows with other
instructions (seen with float64 at 1, 3, 5, 7, 17 and 31 rows, and with a linear classifier at 1 row). So every run has
the same number of rows, and row r of the body is always at place r modulo that number. A place without a row is filled
with a copy of a real row, whose answer is dropped. So it does not matter where a shard begins and ends.

A model with a fixed batch runs in the same way. `examination.py` finds out whether a row's answer depends on the values
of the other rows, not only on their number.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regather.core.errors import PermanentError
from regather.kinds.model.onnx_model import ModelFailed, OnnxModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BATCH_BYTES = 64 * 1024
_MOST_ROWS = 256

Inputs = Mapping[str, "NDArray[Any]"]
Found = dict[str, "Answers"]


class Answers:
    """One output for some rows: `values` are (rows, ...); `keys` are ZipMap's names for the columns."""

    def __init__(self, values: "NDArray[Any]", keys: tuple[str | int, ...] | None = None) -> None:
        self.values = values
        self.keys = keys


def batch_rows(inputs: Inputs, fixed: int | None, asked: int | None) -> int:
    """Return the number of rows of each run: a power of two that keeps the inputs near 64 KiB, whatever the shard is."""
    if fixed is not None:
        if asked not in (None, fixed):
            raise PermanentError(f"the model takes {fixed} rows at a time; batch_rows is {asked}")
        return fixed
    if asked is not None:
        return asked
    row_bytes = sum(rows[:1].nbytes if len(rows) else rows.dtype.itemsize for rows in inputs.values())
    most = max(1, min(_MOST_ROWS, _BATCH_BYTES // max(1, row_bytes)))
    return 1 << (most.bit_length() - 1)


def run_whole(model: OnnxModel, outputs: Sequence[str], inputs: Inputs) -> Found:
    """Run all rows at once; PermanentError if the model has a fixed batch of another length."""
    rows = row_count(inputs)
    if model.batch not in (None, rows):
        raise PermanentError(f"whole=true runs all {rows} rows at once; the model takes {model.batch}")
    return run_once(model, outputs, inputs)


def run_batches(
    model: OnnxModel, outputs: Sequence[str], inputs: Inputs, numbers: "NDArray[np.int64]", size: int
) -> Found:
    """Run rows in batches of `size`, each row at its place; PermanentError names a row for which the model fails."""
    import numpy as np

    batches, batch_of = np.unique(numbers // size, return_inverse=True)  # numbers ascend
    places = batch_of * size + numbers % size
    filled = {name: _filled(rows, places, len(batches) * size) for name, rows in inputs.items()}
    parts: list[Found] = []
    for batch in range(len(batches)):
        rows = {name: values[batch * size : (batch + 1) * size] for name, values in filled.items()}
        try:
            parts.append(run_once(model, outputs, rows))
        except ModelFailed as error:
            mine = np.flatnonzero(batch_of == batch)
            raise _blamed(model, outputs, inputs, mine, numbers, size) or error from error
    return {name: _joined([part[name] for part in parts], places, name) for name in outputs}


def run_once(model: OnnxModel, outputs: Sequence[str], inputs: Inputs) -> Found:
    """Run rows as one batch; PermanentError for an output that does not have a row for each row."""
    rows = row_count(inputs)
    return {
        name: as_answers(name, value, rows) for name, value in zip(outputs, model.run(outputs, inputs), strict=True)
    }


def row_count(inputs: Inputs) -> int:
    """Return the number of rows of the inputs."""
    return len(next(iter(inputs.values())))


def filled_up(inputs: Inputs, size: int) -> Inputs:
    """Return the rows as a batch of `size`; copies of the first row fill it up."""
    import numpy as np

    return {name: _filled(rows[:size], np.arange(min(len(rows), size)), size) for name, rows in inputs.items()}


def each(inputs: Inputs, change: "Callable[[NDArray[Any]], NDArray[Any]]") -> Inputs:
    """Return the inputs, each changed by `change`."""
    return {name: change(rows) for name, rows in inputs.items()}


def _filled(rows: "NDArray[Any]", places: "NDArray[np.int64]", size: int) -> "NDArray[Any]":
    import numpy as np

    first, count = int(places[0]), len(rows)
    together = int(places[-1]) - first == count - 1  # places ascend
    if together and count == size:
        return np.ascontiguousarray(rows)
    found = np.empty((size, *rows.shape[1:]), rows.dtype)
    if together:
        found[:first], found[first : first + count], found[first + count :] = rows[0], rows, rows[0]
    else:
        found[:] = rows[0]
        found[places] = rows
    return found


def _blamed(
    model: OnnxModel, outputs: Sequence[str], inputs: Inputs, mine: Any, numbers: Any, size: int
) -> PermanentError | None:
    """Return an error that names the first row for which the model fails even alone; None if there is none."""
    for index in mine.tolist():
        try:
            run_once(model, outputs, filled_up({name: rows[index : index + 1] for name, rows in inputs.items()}, size))
        except ModelFailed as error:
            return PermanentError(f"row {int(numbers[index])}: {error}")
    return None


def as_answers(name: str, value: Any, rows: int) -> Answers:
    """Return one output of one run; PermanentError if it does not have a row for each row."""
    import numpy as np

    if isinstance(value, list):
        return _of_maps(name, value, rows)
    values = np.asarray(value)
    if not values.ndim or len(values) != rows:
        raise PermanentError(
            f"the model's output {name!r} has the shape {values.shape} for {rows} rows; it must have a row for each row"
        )
    return Answers(values)


def _of_maps(name: str, maps: list[Any], rows: int) -> Answers:
    import numpy as np

    if len(maps) != rows or not all(isinstance(entry, dict) for entry in maps):
        raise PermanentError(f"the model's output {name!r} is a sequence of {len(maps)} entries for {rows} rows")
    keys = tuple(maps[0])
    return Answers(np.array([[entry[key] for key in keys] for entry in maps], np.float32), keys)


def _joined(parts: list[Answers], places: Any, name: str) -> Answers:
    import numpy as np

    if len({part.values.shape[1:] for part in parts}) > 1 or len({part.keys for part in parts}) > 1:
        raise PermanentError(f"the model's output {name!r} has rows of different shapes; the rows of a result need one")
    values = np.concatenate([part.values for part in parts])
    first, last = int(places[0]), int(places[-1]) + 1
    return Answers(values[first:last] if last - first == len(places) else values[places], parts[0].keys)
