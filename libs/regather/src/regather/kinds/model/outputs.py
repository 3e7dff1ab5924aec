"""Decides which outputs of a model make the result, and what each one means. Pure.

An output is a probability only if there is proof: it is ZipMap's maps, its made-up rows add up to 1, or the option
`probabilities` names it. It could also be an embedding, so no output is chosen because it is the last one or the only
one of numbers. If the choice is not clear, the job is refused with a list of the outputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from regather.core.errors import PermanentError
from regather.kinds.model.options import ID, ROW, PredictOptions
from regather.kinds.model.signature import TEXT, Tensor

_LABEL_WORDS = ("label", "class")


@dataclass(frozen=True, slots=True)
class Plan:
    """What the model has to compute: `probabilities` and `label` of a classifier, or `values` by their names, unchanged.

    `sums`: every row of the probabilities must add up to 1, because the output was chosen only for that.
    """

    probabilities: str = ""
    label: str = ""
    values: tuple[tuple[str, str], ...] = ()
    sums: bool = False

    @property
    def outputs(self) -> list[str]:
        """Outputs that the model has to compute."""
        return [name for name in (self.probabilities, self.label, *(output for _, output in self.values)) if name]


def plan_outputs(outputs: Sequence[Tensor], sums_to_one: Mapping[str, bool] | None, options: PredictOptions) -> Plan:
    """Return the outputs for the result; PermanentError lists the outputs if the choice is not clear."""
    by_name = {tensor.name: tensor for tensor in outputs}
    for name in (*options.outputs, *([options.probabilities] if options.probabilities else [])):
        if name not in by_name:
            raise PermanentError(f"the model has no output {name!r}; there are {_listed(outputs)}")
        if not by_name[name].dtype:
            raise PermanentError(f"the model's output {name!r} is not numbers, texts, or maps of them")
    if options.outputs:
        return Plan(values=tuple((_checked(name), name) for name in options.outputs))
    label = _label(outputs)
    if options.probabilities:
        return Plan(options.probabilities, _wanted(label, options))
    return _without_options(outputs, sums_to_one, label, options)


def _without_options(
    outputs: Sequence[Tensor], sums_to_one: Mapping[str, bool] | None, label: str, options: PredictOptions
) -> Plan:
    maps = [tensor.name for tensor in outputs if tensor.keys is not None]
    looks = [name for name, sums in (sums_to_one or {}).items() if sums and name not in maps]
    candidates = maps + looks
    if len(candidates) == 1:
        return Plan(candidates[0], _wanted(label, options), sums=candidates[0] in looks)
    numbers = [tensor.name for tensor in outputs if tensor.dtype and tensor.name != label]
    if candidates or (label and numbers and sums_to_one is None):
        raise _unclear(outputs)
    if options.classes or options.all_classes:
        raise PermanentError(f"the model has no probabilities of classes; there are {_listed(outputs)}")
    if label:
        return Plan(label=label)
    if len(numbers) == 1 and sums_to_one is not None:
        return Plan(values=(("y", numbers[0]),))
    raise _unclear(outputs)


def _wanted(label: str, options: PredictOptions) -> str:
    """Return the model's own label if the result shows a class."""
    return "" if options.output == "npy" else label


def _label(outputs: Sequence[Tensor]) -> str:
    """Return the output that is a row's class: one value per row, texts, or whole numbers named label or class."""
    found = [
        tensor.name
        for tensor in outputs
        if tensor.keys is None
        and tensor.shape in ((), (1,))
        and (
            tensor.dtype == TEXT
            or ("int" in tensor.dtype and any(word in tensor.name.lower() for word in _LABEL_WORDS))
        )
    ]
    return found[0] if len(found) == 1 else ""


def _checked(name: str) -> str:
    if name in (ROW, ID):
        raise PermanentError(
            f"the model's output {name!r} has the name of a field of the result; rename it in the model"
        )
    return name


def _unclear(outputs: Sequence[Tensor]) -> PermanentError:
    if not any(tensor.dtype for tensor in outputs):
        return PermanentError(
            f"the model has no output of numbers or texts of a type that NumPy has; there are {_listed(outputs)}: "
            "cast one to float32 in the model"
        )
    return PermanentError(
        f"it is not clear which output is the answer; there are {_listed(outputs)}: name values with the option outputs, "
        "or the output that holds a probability for each class with the option probabilities"
    )


def _listed(outputs: Sequence[Tensor]) -> str:
    return ", ".join(f"{tensor.name} ({_kind(tensor)})" for tensor in outputs)


def _kind(tensor: Tensor) -> str:
    if tensor.keys is not None:
        return "a map of classes to probabilities"
    sides = "x".join("?" if side is None else str(side) for side in tensor.shape)
    return f"{tensor.dtype or 'of no known type'}{f' of {sides}' if sides else ''}"
