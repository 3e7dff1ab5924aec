"""Finds the class of each of a model's probabilities in its graph. Pure; reads protobuf messages of `onnx`.

A model names its classes where it makes the label: in a classifier's attributes, or in a list that the index of the
greatest value selects from. So each output is traced back to that point. Attributes of other nodes are ignored:
classifiers inside an ensemble have names of their own, mostly 0, 1, 2, whatever the ensemble calls its classes.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Names = Sequence[str | int]

_LABELS = ("classlabels_strings", "classlabels_int64s", "classlabels_ints")
_PASSED = frozenset({"Cast", "Flatten", "Identity", "Normalizer", "Reshape", "Squeeze", "Unsqueeze", "ZipMap"})
_PICKS = frozenset({"ArrayFeatureExtractor", "Gather"})
_NUMBERS = range(sys.maxsize)
_MOST_STEPS = 100


def names_by_output(graph: Any) -> Mapping[str, Names]:
    """Return the names of the classes, in the order of their probabilities, for each output whose graph has them.

    A label that is the index of the greatest value has the numbers from 0 on, without an end.
    """
    reading = _Reading(graph)
    found = {output.name: reading.names(output.name) for output in graph.output}
    return {name: names for name, names in found.items() if names is not None}


class _Reading:
    """One graph: the node that makes each value, and the values that are stored in the file."""

    def __init__(self, graph: Any) -> None:
        self._made_by = {output: node for node in graph.node for output in node.output if output}
        self._stored = {tensor.name: tensor for tensor in graph.initializer}

    def names(self, value: str, steps: int = 0) -> Names | None:
        """Return the names that this value selects from, or has a number for each of; None if the graph has none."""
        node = self._made_by.get(value)
        if node is None or steps > _MOST_STEPS:
            return None
        own = next(_attribute_names(node), None)
        if own is not None:
            return own
        if node.op_type in _PASSED:
            return self.names(node.input[0], steps + 1)
        if node.op_type == "ArgMax":
            return _NUMBERS if _attribute(node, "axis", 0) in (1, -1) else None
        if node.op_type in _PICKS and not _attribute(node, "axis", 0):
            picked = self.names(node.input[1], steps + 1)
            return self._constant(node.input[0]) if picked is _NUMBERS else None
        if node.op_type == "LabelEncoder":
            return _encoded(node, self.names(node.input[0], steps + 1))
        return None

    def _constant(self, value: str) -> Names | None:
        if value in self._stored:
            return _tensor_names(self._stored[value])
        node = self._made_by.get(value)
        if node is None or node.op_type != "Constant":
            return None
        (attribute,) = node.attribute
        return _tensor_names(attribute.t) if attribute.name == "value" else _listed(attribute)


def _attribute(node: Any, name: str, default: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), default)


def _attribute_names(node: Any) -> Iterator[Names]:
    for attribute in node.attribute:
        if attribute.name in _LABELS and (names := _listed(attribute)):
            yield names


def _listed(attribute: Any) -> Names | None:
    return tuple(text.decode(errors="replace") for text in attribute.strings) or tuple(attribute.ints) or None


def _encoded(node: Any, names: Names | None) -> Names | None:
    """Return an encoder's new names for these labels; None if one has no new name, or has an unsupported type."""
    lists = {attribute.name.split("_")[0]: _listed(attribute) for attribute in node.attribute}
    keys, values = lists.get("keys"), lists.get("values")
    if not keys or not values or len(keys) != len(values) or names is None:
        return None
    new = dict(zip(keys, values, strict=True))
    old = range(len(keys)) if names is _NUMBERS else names
    return tuple(new[name] for name in old) if all(name in new for name in old) else None


def _tensor_names(tensor: Any) -> Names | None:
    import onnx

    wanted = (onnx.TensorProto.STRING, onnx.TensorProto.INT64, onnx.TensorProto.INT32)
    if tensor.data_type not in wanted or tensor.data_location == tensor.EXTERNAL:
        return None
    values = onnx.numpy_helper.to_array(tensor).reshape(-1).tolist()
    return tuple(value.decode(errors="replace") if isinstance(value, bytes) else value for value in values)
