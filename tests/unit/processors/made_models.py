"""Small models for tests, made with onnx.helper. Each takes rows of float32 `x` unless it says otherwise."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WEIGHTS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
FLOAT = TensorProto.FLOAT
Sides = Sequence[int | str | None]


def model(
    nodes: Sequence[Any],
    inputs: dict[str, tuple[int, Sides]],
    outputs: dict[str, tuple[int, Sides | None]],
    weights: dict[str, np.ndarray] | None = None,
    *,
    opsets: Sequence[tuple[str, int]] = (("", 17),),
) -> bytes:
    graph = helper.make_graph(
        list(nodes),
        "made",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
        [numpy_helper.from_array(values, name) for name, values in (weights or {}).items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid(*opset) for opset in opsets])
    made.ir_version = 8
    return bytes(made.SerializeToString())


def softmax(inputs: int = FLOAT, batch: int | str = "N", width: int | str = 4, *extra: Any) -> bytes:
    """x -> p, probabilities of three classes."""
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=FLOAT),
        helper.make_node("MatMul", ["f", "W"], ["l"]),
        helper.make_node("Softmax", ["l"], ["p"], axis=1),
    ]
    return model([*nodes, *extra], {"x": (inputs, [batch, width])}, {"p": (FLOAT, [batch, 3])}, {"W": WEIGHTS})


def unary(op: str, rows: Sides = ("N", 4), out: Sides | None = None, **attributes: Any) -> bytes:
    """x -> y by one operator."""
    node = helper.make_node(op, ["x"], ["y"], **attributes)
    return model([node], {"x": (FLOAT, rows)}, {"y": (FLOAT, rows if out is None else out)})


def ambiguous() -> bytes:
    """x -> p and q, both of which look like probabilities."""
    nodes = [helper.make_node("Softmax", ["x"], [name], axis=1) for name in ("p", "q")]
    return model(nodes, {"x": (FLOAT, ["N", 4])}, {"p": (FLOAT, ["N", 4]), "q": (FLOAT, ["N", 4])})


def two_numbers() -> bytes:
    """x -> a and b, neither of which is a probability."""
    nodes = [helper.make_node("Identity", ["x"], ["a"]), helper.make_node("Neg", ["x"], ["b"])]
    return model(nodes, {"x": (FLOAT, ["N", 4])}, {"a": (FLOAT, ["N", 4]), "b": (FLOAT, ["N", 4])})


def by_columns() -> bytes:
    """age (float32), rooms (int64), city (texts), one value a row each -> y = age + rooms, and the city again."""
    nodes = [
        helper.make_node("Cast", ["rooms"], ["r"], to=FLOAT),
        helper.make_node("Add", ["age", "r"], ["y"]),
        helper.make_node("Identity", ["city"], ["c"]),
    ]
    inputs: dict[str, tuple[int, Sides]] = {
        "age": (FLOAT, ["N", 1]),
        "rooms": (TensorProto.INT64, ["N", 1]),
        "city": (TensorProto.STRING, ["N", 1]),
    }
    return model(nodes, inputs, {"y": (FLOAT, ["N", 1]), "c": (TensorProto.STRING, ["N", 1])})


def identity(kind: int) -> bytes:
    """x -> y, the same values, of any type."""
    node = helper.make_node("Identity", ["x"], ["y"])
    return model([node], {"x": (kind, ["N", 2])}, {"y": (kind, ["N", 2])})


def embedding() -> bytes:
    """Numbers of words, 0 to 4 -> y, the rows of a table; others fail."""
    node = helper.make_node("Gather", ["W", "x"], ["y"], axis=0)
    return model([node], {"x": (TensorProto.INT64, ["N", 2])}, {"y": (FLOAT, ["N", 2, 3])},
                 {"W": np.arange(15, dtype=np.float32).reshape(5, 3)})  # fmt: skip


def by_batch() -> bytes:
    """x -> y, which is x less the mean of the batch."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "m"], ["y"]),
    ]
    return model(nodes, {"x": (FLOAT, ["N", 4])}, {"y": (FLOAT, ["N", 4])})


def counting() -> bytes:
    """x, ones -> y, how many rows of the batch stand in front of each."""
    node = helper.make_node("CumSum", ["x", "A"], ["y"], exclusive=1)
    return model([node], {"x": (FLOAT, ["N", 4])}, {"y": (FLOAT, ["N", 4])}, {"A": np.array(0, np.int64)})


def random() -> bytes:
    """x -> y, noise."""
    return unary("RandomNormalLike")


def custom() -> bytes:
    """An operator that no runtime has."""
    node = helper.make_node("Sell", ["x"], ["y"], domain="com.acme")
    return model([node], {"x": (FLOAT, ["N", 4])}, {"y": (FLOAT, ["N", 4])}, opsets=[("", 17), ("com.acme", 1)])


def one_number_in_all() -> bytes:
    """x -> y, one value for all rows."""
    return unary("ReduceSum", out=[], keepdims=0)


def external(location: str, *, length: int = 48) -> bytes:
    """A softmax whose weights stand in another file."""
    made = onnx.load_model_from_string(softmax())
    (tensor,) = made.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(length))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return bytes(made.SerializeToString())


def of_opset(version: int, ir_version: int = 8) -> bytes:
    made = onnx.load_model_from_string(softmax())
    made.opset_import[0].version = version
    made.ir_version = ir_version
    return bytes(made.SerializeToString())


def renamed(output: str) -> bytes:
    node = helper.make_node("Neg", ["x"], [output])
    return model([node], {"x": (FLOAT, ["N", 4])}, {output: (FLOAT, ["N", 4])})
