"""Reads a model's file before any engine runs it: its other files, custom operators, names of the classes.

The `onnx` package reads it, without the weights that are in other files. It also finds operators that draw random
numbers, because their answers are not repeatable.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from regather.core.errors import PermanentError
from regather.kinds.model.class_names import Names, names_by_output

_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
_RANDOM = frozenset({
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class DataRange:
    """A range of another file that holds a weight; `size_bytes` is None for a range to the file's end."""

    location: str
    offset: int
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class Graph:
    """`labels` maps each output whose graph has them to the names of its classes, in the order of the probabilities."""

    ir_version: int
    opset: int
    data: tuple[DataRange, ...]
    custom: tuple[str, ...]
    random: tuple[str, ...]
    labels: Mapping[str, Names]


def read_graph(content: bytes) -> Graph:
    """Read a model's file; PermanentError if it is not an ONNX model."""
    import onnx

    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf has several implementations, each with an error of its own
        raise _no_model() from error
    if not model.HasField("graph"):
        raise _no_model()
    nodes = [*_nodes(model.graph), *(node for function in model.functions for node in _walked(function.node))]
    known = {(function.domain, function.name) for function in model.functions}
    custom = {f"{node.domain}.{node.op_type}" for node in nodes if _is_custom(node, known)}
    return Graph(
        ir_version=model.ir_version,
        opset=max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0),
        data=tuple(_data_ranges(model, nodes)),
        custom=tuple(sorted(custom)),
        random=tuple(sorted({node.op_type for node in nodes if node.op_type in _RANDOM and node.domain in _DOMAINS})),
        labels=names_by_output(model.graph),
    )


def _no_model() -> PermanentError:
    return PermanentError("the model's file is damaged or is not an ONNX model; export it again")


def _is_custom(node: Any, known: set[tuple[str, str]]) -> bool:
    return node.domain not in _DOMAINS and (node.domain, node.op_type) not in known


def _nodes(graph: Any) -> Iterator[Any]:
    yield from _walked(graph.node)


def _walked(nodes: Any) -> Iterator[Any]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _walked(graph.node)


def _graphs(model: Any, nodes: list[Any]) -> Iterator[Any]:
    yield model.graph
    for node in nodes:
        for attribute in node.attribute:
            yield attribute.g
            yield from attribute.graphs


def _data_ranges(model: Any, nodes: list[Any]) -> Iterator[DataRange]:
    tensors = [tensor for graph in _graphs(model, nodes) for tensor in graph.initializer]
    sparse = [tensor for graph in _graphs(model, nodes) for tensor in graph.sparse_initializer]
    for node in nodes:
        for attribute in node.attribute:
            tensors += [attribute.t, *attribute.tensors]
            sparse += [attribute.sparse_tensor, *attribute.sparse_tensors]
    tensors += [part for tensor in sparse for part in (tensor.values, tensor.indices)]
    for tensor in tensors:
        if tensor.data_location == tensor.EXTERNAL:
            yield _data_range({entry.key: entry.value for entry in tensor.external_data})


def _data_range(entries: dict[str, str]) -> DataRange:
    try:
        length = entries.get("length")
        size_bytes = None if length is None else int(length)
        found = DataRange(entries["location"], int(entries.get("offset", "0")), size_bytes)
    except (ValueError, KeyError) as error:
        raise _no_model() from error
    if found.offset < 0 or (found.size_bytes or 0) < 0:
        raise _no_model()
    return found
