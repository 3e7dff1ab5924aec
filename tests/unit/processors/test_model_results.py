"""What comes out: fields, texts for what JSON has not, one header, one array."""

import csv as reader
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from unit.processors import made_models as made
from unit.processors.model_jobs import CSV, KIND, MODELS, NAMES, ROWS, array, csv, cut, lines, npy, run

from regather.core.errors import BadRequest, PermanentError
from regather.kinds.model.onnx_model import MODELS_VARIABLE
from regather.kinds.model.predict import PredictOptions
from regather.kinds.model.results import Field, Rows, join_csv, join_npy, write_csv, write_ndjson, write_npy
from regather.processors.base import ShardView, SplitRequest
from regather.processors.registry import parse_options

BODY = csv(ROWS.tolist(), NAMES)
SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4)
TYPES = st.sampled_from(["float16", "float32", "float64", "int8", "uint64", "int64", "bool"])
VALUES = TYPES.flatmap(lambda dtype: arrays.arrays(dtype, SHAPES))


@pytest.fixture(autouse=True, scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path: Path = tmp_path_factory.mktemp("models")
    for model in MODELS.glob("*.onnx*"):
        (path / model.name).write_bytes(model.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MODELS_VARIABLE, str(path))
        yield path


def plain(value: Any) -> Any:
    """What a value of JSON says as a float."""
    if isinstance(value, list):
        return [plain(one) for one in value]
    return float(value) if isinstance(value, str) else value


@given(VALUES)
def test_ndjson_says_exactly_the_values(values: np.ndarray) -> None:
    found = lines(write_ndjson(Rows(np.arange(len(values)) + 7, None, [Field("y", values)], values)))
    assert [line["row"] for line in found] == list(range(7, 7 + len(values)))
    got = np.array([plain(line["y"]) for line in found], dtype=object).astype(values.dtype).reshape(values.shape)
    assert np.array_equal(got, values, equal_nan=values.dtype.kind == "f")
    depth = 0 if values.ndim == 1 or values.shape[1:] == (1,) else values.ndim - 1
    assert np.array(found[0]["y"], dtype=object).ndim == depth


@given(VALUES)
def test_csv_says_exactly_the_values(values: np.ndarray) -> None:
    text = join_csv([write_csv(Rows(np.arange(len(values)), None, [Field("y", values)], values))] * 2).decode()
    table = list(reader.reader(io.StringIO(text, newline="")))
    assert len(table) == 1 + 2 * len(values)
    flat = values.reshape(len(values), -1)
    words = {"true": 1, "false": 0}
    number = float if values.dtype.kind == "f" else int
    got = np.array([[words[cell] if cell in words else number(cell) for cell in row[1:]] for row in table[1:]], object)
    want = np.concatenate([flat, flat])
    assert np.array_equal(got.astype(values.dtype), want, equal_nan=values.dtype.kind == "f")


@given(VALUES, st.integers(1, 4))
def test_an_array_is_put_together_again(values: np.ndarray, parts: int) -> None:
    cuts = np.array_split(values, min(parts, len(values)))
    joined = join_npy([write_npy(Rows(np.arange(len(part)), None, [], part)) for part in cuts])
    found = np.load(io.BytesIO(joined))
    assert found.dtype == values.dtype
    assert np.array_equal(found, values, equal_nan=values.dtype.kind == "f")


@given(
    st.lists(st.text(), min_size=1, max_size=5), st.lists(st.one_of(st.none(), st.text(), st.integers()), min_size=5)
)
def test_names_and_ids_of_any_letters_stay(classes: list[str], ids: list[object]) -> None:
    names = np.array([classes[index % len(classes)] for index in range(5)], dtype=object)
    rows = Rows(np.arange(5), ids[:5], [Field("class", names)], names)
    assert [(line["id"], line["class"]) for line in lines_of(write_ndjson(rows))] == list(
        zip(ids[:5], names.tolist(), strict=True)
    )


def lines_of(result: bytes) -> list[Any]:
    return [json.loads(line) for line in result.split(b"\n") if line]


def test_rows_of_different_shapes_are_no_array() -> None:
    one, other = (write_npy(Rows(np.arange(2), None, [], np.zeros((2, width)))) for width in (3, 4))
    with pytest.raises(PermanentError, match="rows of different shapes"):
        join_npy([one, other])


def test_a_shard_that_failed_leaves_its_rows_out_of_csv() -> None:
    options = PredictOptions(model="reg", output="csv")
    pieces = cut(BODY, options, SplitRequest(4096, content_type=CSV), Path())
    outputs: list[bytes | None] = [
        KIND.process(ShardView(p.payload, p.meta, seq, 0), options) for seq, p in enumerate(pieces)
    ]
    whole = KIND.merge(outputs, options).splitlines()
    outputs[1] = None
    some = KIND.merge(outputs, options).splitlines()
    assert some[0] == b"row,y"
    assert set(some) < set(whole)
    assert KIND.merge([None], options) == b""


def test_classes_have_the_names_that_the_option_gives() -> None:
    found = lines(run(BODY, CSV, model="two", classes="low, mid, high", all_classes="true"))
    assert {line["class"] for line in found} <= {"low", "mid", "high"}
    assert list(found[0]["probabilities"]) == ["low", "mid", "high"]
    with pytest.raises(PermanentError, match="names 2 classes; the model has 3"):
        run(BODY, CSV, model="two", classes="low,mid")


def test_csv_has_a_column_for_each_class() -> None:
    table = run(BODY, CSV, model="sk_labels_zip", all_classes="true", output="csv").splitlines()
    assert table[0] == b"row,class,p,p_ham,p_spam"


def test_an_output_of_maps_comes_out_as_objects() -> None:
    found = lines(run(BODY, CSV, model="sk_default", outputs="output_probability,output_label"))
    assert all(list(line["output_probability"]) == ["7", "17"] for line in found)


def test_labels_alone_are_classes(folder: Path) -> None:
    (folder / "label.onnx").write_bytes(made.model(
        [made.helper.make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0)],
        {"x": (made.FLOAT, ["N", 4])}, {"label": (made.TensorProto.INT64, ["N"])},
    ))  # fmt: skip
    found = lines(run(BODY, CSV, model="label"))
    assert found[:2] == [{"row": row, "class": int(ROWS[row].argmax())} for row in range(2)]


def test_what_only_looked_like_probabilities_is_refused_by_its_row(folder: Path) -> None:
    """Softmax of small numbers; above 1,000 the row is doubled."""
    nodes = [
        made.helper.make_node("Softmax", ["x"], ["s"], axis=1),
        made.helper.make_node("ReduceMax", ["x"], ["m"], axes=[1], keepdims=1),
        made.helper.make_node("Greater", ["m", "T"], ["g"]),
        made.helper.make_node("Cast", ["g"], ["c"], to=made.FLOAT),
        made.helper.make_node("Mul", ["s", "c"], ["e"]),
        made.helper.make_node("Add", ["s", "e"], ["p"]),
    ]
    (folder / "lies.onnx").write_bytes(made.model(
        nodes, {"x": (made.FLOAT, ["N", 4])}, {"p": (made.FLOAT, ["N", 4])}, {"T": np.array([1000], np.float32)}
    ))  # fmt: skip
    rows = np.ones((9, 4))
    assert len(lines(run(npy(rows), model="lies"))) == 9
    rows[6, 1] = 2000
    with pytest.raises(
        PermanentError, match=r"^row 6: the model's output 'p' adds up to 2, so it is not a probability"
    ):
        run(npy(rows), model="lies")
    assert len(lines(run(npy(rows), model="lies", probabilities="p"))) == 9


def test_values_that_add_up_to_1_are_no_probabilities_where_one_is_negative(folder: Path) -> None:
    """1 - x and x: with 0 and 1, which made-up whole numbers are, they look like probabilities."""
    nodes = [
        made.helper.make_node("Cast", ["x"], ["f"], to=made.FLOAT),
        made.helper.make_node("Sub", ["one", "f"], ["g"]),
        made.helper.make_node("Concat", ["g", "f"], ["p"], axis=1),
    ]
    (folder / "whole.onnx").write_bytes(made.model(
        nodes, {"x": (made.TensorProto.INT64, ["N", 1])}, {"p": (made.FLOAT, ["N", 2])}, {"one": np.ones(1, np.float32)}
    ))  # fmt: skip
    rows = np.array([[0], [1], [1]])
    assert [line["class"] for line in lines(run(npy(rows), model="whole"))] == [0, 1, 1]
    rows[2] = 5
    with pytest.raises(
        PermanentError, match=r"^row 2: the model's output 'p' has a value of -4, so it is not a probability"
    ):
        run(npy(rows), model="whole")
    assert lines(run(npy(rows), model="whole", outputs="p"))[2]["p"] == [-4, 5]


def test_probabilities_that_are_nan_are_texts(folder: Path) -> None:
    rows = np.ones((3, 4))
    rows[1, 1] = np.nan
    found = lines(run(npy(rows), model="two"))
    assert [line["p"] for line in found][1] == "NaN"
    assert np.isnan(array(run(npy(rows), model="two", output="npy"))[1]).all()


@pytest.mark.parametrize("form", ["npy", "raw"])
def test_rows_of_few_bytes_make_results_that_fit_at_the_default_size(form: str) -> None:
    rows = np.ones((300_000, 4), np.uint8)
    options = PredictOptions(model="two", **({} if form == "npy" else {"features": 4, "dtype": "uint8"}))
    pieces = cut(npy(rows) if form == "npy" else rows.tobytes(), options, SplitRequest(), Path())
    assert len(pieces) == 5
    assert max(len(KIND.process(ShardView(p.payload, p.meta, 0, 0), options)) for p in pieces) < 3_000_000
    wide = cut(npy(np.ones((300_000, 64), np.uint8)), PredictOptions(), SplitRequest(), Path())
    assert len(wide) == -(-300_000 * 64 // (1024 * 1024 // 64 * 64))


def test_a_result_that_is_too_large_is_refused_once_and_for_all() -> None:
    options = PredictOptions(model="two", outputs=("p", "emb"))
    (piece,) = cut(
        npy(np.random.default_rng(1).random((150_000, 4), np.float32)), options, SplitRequest(10_000_000), Path()
    )
    with pytest.raises(PermanentError, match=r"the answers to 150000 rows have \d{8} bytes; .* a smaller shard_size"):
        KIND.process(ShardView(piece.payload, piece.meta, 0, 0), options)


@pytest.mark.parametrize("kind", [made.TensorProto.BFLOAT16, made.TensorProto.FLOAT8E4M3FN])
@pytest.mark.parametrize("options", [{}, {"probabilities": "y"}, {"outputs": "y"}])
def test_an_output_of_a_type_that_numpy_has_not_is_refused(kind: int, options: dict[str, str], folder: Path) -> None:
    cast = made.helper.make_node("Cast", ["x"], ["y"], to=kind)
    outputs: dict[str, tuple[int, made.Sides | None]] = {"y": (kind, ["N", 4])}
    content = made.model([cast], {"x": (made.FLOAT, ["N", 4])}, outputs, opsets=[("", 19)])
    (folder / "odd.onnx").write_bytes(content)
    with pytest.raises(
        PermanentError,
        match=r"^the model('s output 'y' is not numbers, texts, or maps of them|.* cast one to float32 in the model)",
    ):
        run(BODY, CSV, model="odd", **options)


def test_an_output_with_a_field_s_name_is_refused(folder: Path) -> None:
    (folder / "row.onnx").write_bytes(made.renamed("row"))
    with pytest.raises(PermanentError, match="has the name of a field of the result"):
        run(BODY, CSV, model="row", outputs="row")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"columns": "a", "inputs": "x: a"}, "inputs alone says which column goes where"),
        ({"outputs": "p", "classes": "a"}, "are for classes"),
        ({"outputs": "p,q", "output": "npy"}, "output=npy writes one array"),
        ({"output": "npy", "id": "a"}, "has no place for the column 'id'"),
        ({"whole": "true", "batch_rows": "3"}, "batch_rows cannot be set"),
        ({"outputs": "p,p"}, "outputs has the same name twice"),
        ({"inputs": "x"}, "'x' is not INPUT: COLUMN"),
        ({"inputs": "x: a; x: b"}, "input 'x' is given twice"),
        ({"columns": "a,,b"}, "has an empty name"),
        ({"model": "../x"}, "option 'model'"),
        ({"batch_rows": "0"}, "option 'batch_rows'"),
        ({"format": "xlsx"}, "option 'format'"),
    ],
)
def test_options_that_contradict_are_refused_at_submit(options: dict[str, str], why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        parse_options(KIND, options)
