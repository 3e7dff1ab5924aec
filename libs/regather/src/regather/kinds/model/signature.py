"""A model's inputs and outputs as plain values, and which columns of a row go to which input. Pure: no engine here."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from regather.core.errors import PermanentError
from regather.kinds.model.options import PredictOptions

TEXT = "text"
"""The type of an input or output that holds texts; all other types have NumPy's names."""

CARRIED = "carried"
"""The type of a column that is copied to the result and never interpreted."""

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output: `batch` rows of `shape` each; None for a length that the model leaves open.

    `keys` is set for ZipMap's sequence of maps: the type of the classes' names (TEXT or int64).
    """

    name: str
    dtype: str
    batch: int | None
    shape: tuple[int | None, ...]
    keys: str | None = None

    @property
    def width(self) -> int | None:
        """Number of values in a row; None if the model leaves that open."""
        return None if None in self.shape else prod(side for side in self.shape if side is not None)

    def row_shape(self, width: int) -> tuple[int, ...]:
        """Return the shape of a row of `width` values; PermanentError if it does not fit."""
        fixed = prod(side for side in self.shape if side is not None)
        open_sides = self.shape.count(None)
        if (not open_sides and width != fixed) or (open_sides and (not fixed or width % fixed or not width)):
            wanted = "x".join("?" if side is None else str(side) for side in self.shape) or "1"
            raise PermanentError(f"rows have {width} values; the model takes {wanted} (its input {self.name!r})")
        if open_sides > 1:
            raise PermanentError(f"the model's input {self.name!r} leaves {open_sides} lengths of a row open, not one")
        return tuple(width // fixed if side is None else side for side in self.shape)


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a body: their names, whether the body names them itself, and which hold lists of values."""

    names: Sequence[str]
    named: bool
    lists: frozenset[int] = frozenset()

    def index(self, name: str) -> int:
        """Return the index of a column; PermanentError if there is none, or more than one."""
        if self.names.count(name) == 1:
            return self.names.index(name)
        what = f"{self.names.count(name)} columns are" if name in self.names else "there is no column"
        shown = ", ".join(self.names[:_SHOWN]) + (", ..." if len(self.names) > _SHOWN else "")
        raise PermanentError(f"{what} named {name!r}; there are {shown or 'none'}")


def columns_by_input(inputs: Sequence[Tensor], columns: Columns, options: PredictOptions) -> dict[str, list[int]]:
    """Return which columns each input gets, in order; PermanentError if that is not clear.

    The option `inputs` decides, or `columns` in the order of the model's inputs, or the inputs' own names; a single
    input gets all columns except `id`.
    """
    if options.inputs:
        return _by_option(inputs, columns, options)
    if options.columns:
        return _in_order(inputs, [columns.index(name) for name in options.columns])
    alone = (
        (1,) if len(inputs) == 1 else (1, None)
    )  # a column named like a single input of open width may be one of many
    by_name = columns.named and all(
        tensor.name in columns.names and (tensor.width in alone or columns.index(tensor.name) in columns.lists)
        for tensor in inputs
    )
    if by_name:
        return {tensor.name: [columns.index(tensor.name)] for tensor in inputs}
    if len(inputs) == 1:
        carried = columns.index(options.id) if options.id else None
        return {inputs[0].name: [index for index in range(len(columns.names)) if index != carried]}
    raise PermanentError(
        f"the model has {len(inputs)} inputs, {_listed(inputs)}; say which columns each one takes with the option "
        f"inputs, e.g. inputs={inputs[0].name}: {', '.join(columns.names[:2])}; {inputs[1].name}: ..."
    )


def _by_option(inputs: Sequence[Tensor], columns: Columns, options: PredictOptions) -> dict[str, list[int]]:
    known = {tensor.name for tensor in inputs}
    if known != set(options.inputs):
        wrong = ", ".join(sorted(known ^ set(options.inputs)))
        raise PermanentError(f"option inputs must name every input and no other ({wrong}); there are {_listed(inputs)}")
    return {name: [columns.index(column) for column in options.inputs[name]] for name in options.inputs}


def _in_order(inputs: Sequence[Tensor], chosen: list[int]) -> dict[str, list[int]]:
    if len(inputs) == 1:
        return {inputs[0].name: chosen}
    widths = [tensor.width for tensor in inputs]
    if None in widths or sum(width or 0 for width in widths) != len(chosen):
        raise PermanentError(f"option columns names {len(chosen)} columns; the model's inputs are {_listed(inputs)}")
    dealt, at = {}, 0
    for tensor, width in zip(inputs, widths, strict=True):
        dealt[tensor.name] = chosen[at : at + (width or 0)]
        at += width or 0
    return dealt


def _listed(tensors: Sequence[Tensor]) -> str:
    return ", ".join(f"{tensor.name} ({'any number' if tensor.width is None else tensor.width})" for tensor in tensors)
