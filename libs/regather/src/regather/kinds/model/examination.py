"""Runs a model to find out whether rows depend on each other, and which outputs are probabilities.

**Rows that depend on each other** (a softmax over the wrong axis, a normalisation over the batch) would make an answer
depend on the cut. A batch is run twice; then with copies of one row in place of its second half; then with its first
half in reverse order after copies of one row; then that half alone, in a batch of another size. A row must have the
same answer each time: the same bits where it kept its place, otherwise within a tolerance for the rounding of kernels.
This is done with made-up rows, the same in every child, and with the first real rows that a child gets.

**Probabilities** are the output of ZipMap, or an output whose made-up rows are not negative and add up to 1. If a model
fails for the made-up rows (an index out of range), nothing is known; the job then has to name its outputs.

This cannot find a dependence that shows only on rare rows.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regather.core.errors import PermanentError
from regather.kinds.model.batches import Answers, Found, Inputs, as_answers, each, filled_up, row_count, run_once
from regather.kinds.model.onnx_model import ModelFailed, OnnxModel
from regather.kinds.model.signature import TEXT, Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUM_TOLERANCE: Mapping[str, float] = {"float16": 1e-2, "float32": 1e-3, "float64": 1e-3}
"""How far the sum of a row's probabilities may be from 1."""

_SAME_TOLERANCE = {"float16": 2e-2, "float32": 1e-4, "float64": 1e-9}  # of the output's largest value
_SEED = 20_261_127
_RUNS = "from run to run: its answers are not repeatable; export it for inference"
_OTHERS = (
    "with the other rows of its batch: its answers would depend on how the rows are cut. Export a model that treats each "
    "row alone, or run all rows at once with whole=true"
)


@dataclass(frozen=True, slots=True)
class Examination:
    """`sums_to_one` is a flag for each output of numbers, or None if made-up rows fail; `empty` are answers to no rows."""

    sums_to_one: Mapping[str, bool] | None
    empty: Found


def examine(model: OnnxModel, inputs: Inputs, size: int) -> Examination:
    """Run made-up rows of the same shape as these; once per model, child and shape."""
    key = ("made-up", size, *((name, rows.shape[1:]) for name, rows in inputs.items()))
    found = model.examined.get(key)
    if not isinstance(found, Examination):
        found = model.examined[key] = _examined(model, inputs, size)
    return found


def check_rows_alone(model: OnnxModel, outputs: Sequence[str], inputs: Inputs, size: int) -> None:
    """Raise PermanentError if an answer depends on the batch; tries made-up rows, and the first real ones of this child."""
    size = size if model.batch is not None else max(2, size)  # a row that always runs alone would show nothing
    for what, rows in (("made-up", _made_up(model.inputs, inputs, size)), ("real", inputs)):
        key = ("alone", what, size, tuple(outputs))
        if key in model.examined or not row_count(rows):
            continue
        with suppress(ModelFailed):  # the model may refuse made-up rows; bad real rows fail again and are named then
            _check_alone(model, outputs, each(rows, lambda values: values[:size]), size)
        model.examined[key] = True


def check_repeatable(model: OnnxModel, outputs: Sequence[str], inputs: Inputs, size: int) -> None:
    """Raise PermanentError if made-up rows get other answers the second time; rows that run as a whole need no more."""
    key = ("twice", size, tuple(outputs))
    if key in model.examined or not row_count(inputs):
        return
    rows = _made_up(model.inputs, inputs, size)
    with suppress(ModelFailed):
        every = slice(0, size)
        _compare(run_once(model, outputs, rows), run_once(model, outputs, rows), every, every, exact=True, why=_RUNS)
    model.examined[key] = True


def check_not_random(model: OnnxModel) -> None:
    """Raise PermanentError for a model that draws random numbers: a retried shard would get other answers."""
    if model.random:
        raise PermanentError(
            f"the model draws random numbers ({', '.join(model.random)}): its answers are not repeatable; export it for "
            "inference"
        )


def _examined(model: OnnxModel, inputs: Inputs, size: int) -> Examination:
    names = [tensor.name for tensor in model.outputs if tensor.dtype]
    if not names:  # onnxruntime treats an empty list as all outputs
        return Examination(None, {})
    rows = _made_up(model.inputs, inputs, size)
    try:
        values = model.run(names, rows)
    except ModelFailed:
        return Examination(None, {})
    found: Found = {}
    for name, value in zip(names, values, strict=True):
        try:
            found[name] = as_answers(name, value, size)
        except PermanentError:  # an output without rows matters only to a job that asks for it
            continue
    sums = {name: answers.keys is not None or are_probabilities(answers.values) for name, answers in found.items()}
    return Examination(sums, {name: Answers(answers.values[:0], answers.keys) for name, answers in found.items()})


def are_probabilities(values: "NDArray[Any]") -> bool:
    """Whether rows of at least two values are not negative and add up to 1; rows with NaN or infinity are ignored."""
    import numpy as np

    if values.ndim != 2 or values.shape[1] < 2 or values.dtype.kind != "f":
        return False
    finite = values[np.isfinite(values).all(axis=1)].astype(np.float64)
    tolerance = SUM_TOLERANCE[values.dtype.name]
    return bool(len(finite) and (finite >= -tolerance).all() and (abs(finite.sum(axis=1) - 1) <= tolerance).all())


def _made_up(tensors: Sequence[Tensor], inputs: Inputs, size: int) -> Inputs:
    import numpy as np

    draw = np.random.default_rng(_SEED)
    return {tensor.name: _drawn(draw, tensor.dtype, (size, *inputs[tensor.name].shape[1:])) for tensor in tensors}


def _drawn(draw: Any, dtype: str, shape: tuple[int, ...]) -> "NDArray[Any]":
    """Return small values, most of which any model accepts: reals around 0 of several scales, whole numbers 0 and 1."""
    import numpy as np

    if dtype == TEXT:
        return np.full(shape, "", dtype=object)
    if not dtype.startswith("float"):
        found: NDArray[Any] = draw.integers(0, 2, shape).astype(dtype)
        return found
    scale = np.resize([1.0, 0.1, 10.0], shape[0]).reshape(-1, *(1 for _ in shape[1:]))
    reals: NDArray[Any] = (draw.standard_normal(shape) * scale).astype(dtype)
    return reals


def _check_alone(model: OnnxModel, outputs: Sequence[str], rows: Inputs, size: int) -> None:
    count = row_count(rows)
    half = -(-count // 2)
    batch = filled_up(rows, size)
    first = run_once(model, outputs, batch)
    again = run_once(model, outputs, batch)
    _compare(first, again, slice(0, count), slice(0, count), exact=True, why=_RUNS)
    if size == 1:
        return
    alone = each(batch, lambda values: _without_others(values, half))
    _compare(first, run_once(model, outputs, alone), slice(0, half), slice(0, half), exact=True, why=_OTHERS)
    turned = each(batch, lambda values: _turned(values, half))
    _compare(first, run_once(model, outputs, turned), slice(0, half), slice(-1, -half - 1, -1))
    if model.batch is None:
        fewer = each(rows, lambda values: values[:half])
        _compare(first, run_once(model, outputs, fewer), slice(0, half), slice(0, half))


def _without_others(values: "NDArray[Any]", half: int) -> "NDArray[Any]":
    """Return the first rows at their places, and copies of row 0 for all others, as after a cut right after them."""
    found = values.copy()
    found[half:] = values[0]
    return found


def _turned(values: "NDArray[Any]", half: int) -> "NDArray[Any]":
    """Return a batch of copies of row 0 with the first rows, reversed, at its end."""
    found = values.copy()
    found[:] = values[0]
    found[len(values) - half :] = values[:half][::-1]
    return found


def _compare(one: Found, other: Found, here: slice, there: slice, *, exact: bool = False, why: str = _OTHERS) -> None:
    for name, answers in one.items():
        mine, theirs = answers.values, other[name].values
        if mine.shape[1:] != theirs.shape[1:] or not _same(mine[here], theirs[there], exact=exact):
            raise PermanentError(f"the model's output {name!r} changes for a row {why}")


def _same(mine: "NDArray[Any]", theirs: "NDArray[Any]", *, exact: bool) -> bool:
    import numpy as np

    if mine.dtype.kind != "f":
        return bool((mine == theirs).all())
    if exact:
        return bool(np.array_equal(mine, theirs, equal_nan=True))
    tolerance = _SAME_TOLERANCE[mine.dtype.name]
    mine, theirs = mine.astype(np.float64), theirs.astype(np.float64)
    finite = mine[np.isfinite(mine)]
    largest = float(abs(finite).max()) if finite.size else 0.0
    return bool(np.allclose(mine, theirs, rtol=0, atol=tolerance * largest, equal_nan=True))
