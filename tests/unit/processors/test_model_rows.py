"""Values and rows that a model cannot take are named, found by the search for bad rows, and never wrapped or dropped."""

import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.processors import made_models as made
from unit.processors.model_jobs import (
    CSV,
    KIND,
    MODELS,
    NAMES,
    NDJSON,
    csv,
    cut,
    lines,
    ndjson,
    npy,
    parquet,
    run,
    run_pieces,
)

from regather.core.errors import BadInput, PermanentError, UserError
from regather.kinds.model.numbers import Place, convert, from_texts
from regather.kinds.model.onnx_model import MODELS_VARIABLE
from regather.kinds.model.predict import PredictOptions
from regather.processors.base import ShardView, SplitRequest

FLOATS, WHOLE = ("float16", "float32", "float64"), ("int8", "uint8", "int16", "uint16", "int32", "int64", "uint64")
ONE = Place(np.zeros(1, np.int64), "a")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for path in MODELS.glob("*.onnx"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for name, kind in (("int64", onnx.TensorProto.INT64), ("uint8", onnx.TensorProto.UINT8),
                       ("uint64", onnx.TensorProto.UINT64), ("bool", onnx.TensorProto.BOOL)):  # fmt: skip
        (tmp_path / f"{name}.onnx").write_bytes(made.identity(kind))
    (tmp_path / "texts.onnx").write_bytes(made.identity(onnx.TensorProto.STRING))
    (tmp_path / "words.onnx").write_bytes(made.embedding())
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    return tmp_path


GOOD = ["1,2,3,4"] * 9
NEW_KEY = "which the body's first row lacks; choose columns with columns="
LARGE = "1" + "0" * 399


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("1,x,3,4", "row 7: column 'b' is 'x', which is not a number"),
        ("1,,3,4", "row 7: column 'b' has no value here (missing=nan would give the model NaN)"),
        ('1,"",3,4', "row 7: column 'b' has no value here (missing=nan would give the model NaN)"),
        ("1,2,3", "row 7: it has 3 values; there are 4 columns"),
        ("1,2,3,4,5", "row 7: it has 5 values; there are 4 columns"),
        (",", "row 7: it has 2 values; there are 4 columns"),
        ("1,1_0,3,4", "row 7: column 'b' is '1_0', which is not a number"),
        ("1,0x10,3,4", "row 7: column 'b' is '0x10', which is not a number"),
        ("1,nan(1),3,4", "row 7: column 'b' is 'nan(1)', which is not a number"),
        ("1,true,3,4", "row 7: column 'b' is 'true', which is not a number"),
        ("1,1e400,3,4", "row 7: column 'b' is '1e400', which is too large for a float"),
        ("1,1e39,3,4", "row 7: column 'b' is 1e+39, which the model's float32 cannot hold"),
        ("1,\u0663,3,4", "row 7: column 'b' is '\u0663', which is not a number"),
        ("1,NA,3,4", "row 7: column 'b' is 'NA', which is not a number"),
        ('1,"1"2,3,4', "row 7: it is not valid CSV: a quote or a line end is where none may be"),
    ],
)
def test_a_bad_row_of_csv_is_named(row: str, why: str) -> None:
    body = "\n".join(["a,b,c,d", *GOOD[:7], row, *GOOD]).encode()
    with pytest.raises(PermanentError) as error:
        run(body, CSV, model="reg")
    assert str(error.value) == why


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ('{"a":1,"b":"x","c":3,"d":4}', "row 7: column 'b' is 'x', which is not a number"),
        ('{"a":1,"b":"2","c":3,"d":4}', "row 7: column 'b' is '2', which is not a number"),
        ('{"a":1,"b":null,"c":3,"d":4}', "row 7: column 'b' has no value here (missing=nan would give the model NaN)"),
        ('{"a":1,"c":3,"d":4}', "row 7: column 'b' has no value here (missing=nan would give the model NaN)"),
        ('{"a":1,"b":2,"c":3,"d":4,"e":5}', f"row 7: it has the key 'e', {NEW_KEY}"),
        ('{"a":1,"b":2,"b":2,"c":3,"d":4}', "row 7: it has the key 'b' twice"),
        ('{"a":1,"b":{"x":1},"c":3,"d":4}', "row 7: column 'b' is {'x': 1}, which is not a number"),
        ('{"a":1,"b":1e999,"c":3,"d":4}', "row 7: column 'b' is too large for a float"),
        (f'{{"a":1,"b":{LARGE},"c":3,"d":4}}', f"row 7: column 'b' is {LARGE[:40]}..., which float32 cannot hold"),
        ('{"a":1,"b":[1,2],"c":3,"d":4}', "row 7: column 'b' has 2 values; that of the body's first row has 1"),
        ("[1,2,3,4]", "row 7: it is not a JSON object"),
        ("17", "row 7: it is not a JSON object"),
        ('{"a":1,"b":NaN,"c":3,"d":4}', "row 7: it is not valid JSON: '{\"a\":1,\"b\":NaN,\"c\":3,\"d\":4}'"),
        ('{"a":1,"b":2,"c":3,"d":4', "row 7: it is not valid JSON: '{\"a\":1,\"b\":2,\"c\":3,\"d\":4'"),
    ],
)  # fmt: skip
def test_a_bad_row_of_ndjson_is_named(row: str, why: str) -> None:
    good = '{"d":4,"c":3,"b":2,"a":1}'
    body = "\n".join(['{"a":1,"b":2,"c":3,"d":4}', *[good] * 6, row, *[good] * 4]).encode()
    with pytest.raises(PermanentError) as error:
        run(body, NDJSON, model="reg")
    assert str(error.value) == why


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"1,2,3,4\n5,6,7,8\n", "the first row has numbers and no names: set header=false"),
        (b",1.5,2,3,4\n0,5,6,7,8\n", "the first row has numbers and no names: set header=false"),
    ],
)
def test_a_header_that_is_none_is_refused_at_the_cut(body: bytes, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        run(body, CSV, model="reg")


def test_rows_of_csv_end_with_cr_alone_too() -> None:
    body = b"a,b,c,d\n1,2,3,4\n5,6,7,8\n"
    for end in (b"\r", b"\r\n"):
        assert run(body.replace(b"\n", end), CSV, model="reg") == run(body, CSV, model="reg")


def test_a_header_of_numbers_is_one_where_it_is_said_or_as_pandas_writes_it() -> None:
    want = lines(run(b"5,6,7,8\n", CSV, model="reg", header="false"))
    assert lines(run(b"9,9,9,9\n5,6,7,8\n", CSV, model="reg", header="true")) == want
    assert lines(run(b"0,1,2,3\n5,6,7,8\n", CSV, model="reg")) == want


@pytest.mark.parametrize(
    ("line", "options", "why"),
    [
        (
            b'{"x":"\\ud800","y":"b"}',
            {"model": "texts", "columns": "x,y"},
            "row 0: column 'x' is .*, which has half of",
        ),
        (b'{"a":1,"b":2,"i":"\\ud800"}', {"model": "int64", "id": "i"}, "row 0: column 'i' is .*, which has half of"),
        (
            b'{"a":1,"b":2,"i":[1]}',
            {"model": "int64", "id": "i"},
            r"row 0: column 'i' is \[1\]; an id must be a single value",
        ),
        (b"[1,2", {"model": "int64"}, r"row 0: it is not valid JSON: '\[1,2'"),
        (b"7", {"model": "int64"}, "row 0: it is neither a JSON object nor a JSON array"),
        (b'{"a":1}', {"model": "int64", "columns": "a,b"}, "there is no column named 'b'; there are a"),
        (
            b'{"a":1,"b":"' + b"x" * 99 + b'"}',
            {"model": "int64"},
            "row 0: column 'b' is 'x{39}..., which is not a number$",
        ),
    ],
)
def test_what_else_a_line_of_json_may_be_is_refused(line: bytes, options: dict[str, str], why: str) -> None:
    with pytest.raises(PermanentError, match=f"^{why}"):
        run(line + b"\n", NDJSON, outputs="y", **options)


def test_more_keys_than_a_shard_can_be_told_are_named_by_an_option() -> None:
    body = b"{" + b",".join(b'"%b%d": 1' % (b"k" * 20, number) for number in range(2000)) + b"}\n"
    with pytest.raises(PermanentError, match="too many keys"):
        run(body, NDJSON, model="int64", outputs="y")
    found = run(body, NDJSON, model="int64", outputs="y", columns=f"{'k' * 20}7,{'k' * 20}1999")
    assert lines(found) == [{"row": 0, "y": [1, 1]}]


def test_keys_of_any_order_are_the_same_columns() -> None:
    rows = [{"a": 1, "b": 2, "c": 3, "d": 4}, {"d": 4, "b": 2, "a": 1, "c": 3}]
    found = lines(run(b"".join(str(row).replace("'", '"').encode() + b"\n" for row in rows), NDJSON, model="reg"))
    assert found[0]["y"] == found[1]["y"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_blank_line_is_no_row(end: str) -> None:
    body = end.join(["a,b,c,d", "1,2,3,4", "", "5,6,7,8", "", ""]).encode()
    found = lines(run(body, CSV, model="reg"))
    want = lines(run(csv([[1, 2, 3, 4], [5, 6, 7, 8]], NAMES), CSV, model="reg"))
    assert [line["y"] for line in found] == [line["y"] for line in want]
    text = end.join(['{"a":1,"b":2,"c":3,"d":4}', "", '{"a":5,"b":6,"c":7,"d":8}', ""]).encode()
    assert [line["y"] for line in lines(run(text, NDJSON, model="reg"))] == [line["y"] for line in want]


def test_a_row_is_where_the_cut_has_it_or_the_shard_is_refused() -> None:
    body = b"a,b,c,d\n1,2,3,4\n1,2,3\r4,5,6,7,8\n1,2,3,4\n"
    with pytest.raises(UserError):
        run(body, CSV, model="reg")


@pytest.mark.parametrize(
    ("model", "row", "why"),
    [
        ("int64", ["1.5", "2"], "column 'c0' is '1.5', which is not a whole number that the model can hold"),
        ("int64", ["nan", "2"], "column 'c0' is nan, which the model's int64 cannot hold"),
        ("int64", [2**63, 2], f"column 'c0' is {2**63}, which the model's int64 cannot hold"),
        ("int64", ["1e99", 2], "column 'c0' is '1e99', which is not a whole number that the model can hold"),
        ("int64", ["9007199254740993.5", 2], "column 'c0' is '9007199254740993.5', which is not a whole number"),
        ("uint8", [256, 2], "column 'c0' is 256, which the model's uint8 cannot hold"),
        ("uint8", [-1, 2], "column 'c0' is -1, which the model's uint8 cannot hold"),
        ("uint64", [-1, 2], "column 'c0' is -1, which the model's uint64 cannot hold"),
        ("bool", [2, 1], "column 'c0' is 2, which the model's bool cannot hold"),
        ("int64", ["0x1F", 2], "column 'c0' is '0x1F', which is not a number"),
    ],
)
def test_a_number_that_the_model_s_type_has_not_is_refused(model: str, row: list[object], why: str) -> None:
    with pytest.raises(PermanentError) as error:
        run(csv([[1, 1], row]), CSV, model=model, header="false", outputs="y")
    assert str(error.value).startswith(f"row 1: {why}")


@pytest.mark.parametrize(
    ("model", "row", "want"),
    [
        ("int64", ["3.0", "1e3"], [3, 1000]),
        ("int64", [2**63 - 1, -(2**63)], [2**63 - 1, -(2**63)]),
        ("int64", ["9007199254740993.0", "+5"], [9007199254740993, 5]),
        ("uint64", [2**64 - 1, 0], [2**64 - 1, 0]),
        ("uint8", [255, " 7"], [255, 7]),
        ("bool", [1, 0], [True, False]),
    ],
)
def test_a_whole_number_is_exact(model: str, row: list[object], want: list[object]) -> None:
    assert lines(run(csv([row]), CSV, model=model, header="false", outputs="y")) == [{"row": 0, "y": want}]


@pytest.mark.parametrize(("dtype", "value"), [("<i8", -1), ("<f8", 0.5), ("<f8", 256.0), ("<i2", 300), ("<f8", np.nan)])
def test_an_array_is_never_wrapped(dtype: str, value: float) -> None:
    rows = np.ones((9, 2), dtype)
    rows[5, 1] = value
    with pytest.raises(PermanentError, match=r"^row 5: column 'c1' is .*, which the model's uint8 cannot hold"):
        run(npy(rows), model="uint8", outputs="y")


@given(st.sampled_from(WHOLE + FLOATS), st.sampled_from((*WHOLE, "bool", *FLOATS)), st.data())
@settings(max_examples=300)
def test_a_conversion_is_exact_or_refused(source: str, target: str, data: st.DataObject) -> None:
    info: Any = np.finfo(source) if source.startswith("f") else np.iinfo(source)
    if source.startswith("f"):
        value = data.draw(st.floats(width=info.bits, allow_nan=False, allow_infinity=False))
    else:
        value = data.draw(
            st.integers(int(info.min), int(info.max)) | st.sampled_from([0, 1, int(info.max), int(info.min)])
        )
    values = np.array([value], source)
    exact = Fraction(values[0].item())
    try:
        found = convert(values, target, ONE)[0].item()
    except PermanentError:
        assert not _fits(exact, target)
        return
    if target.startswith("f"):
        with np.errstate(over="ignore"):  # beyond the largest number stands infinity
            near = [float(np.nextafter(np.array(found, target), np.array(end, target))) for end in (-np.inf, np.inf)]
        assert all(abs(Fraction(found) - exact) <= abs(Fraction(one) - exact) for one in near if np.isfinite(one))
    else:
        assert Fraction(found) == exact


def _fits(exact: Fraction, target: str) -> bool:
    if target.startswith("f"):
        return abs(exact) <= Fraction(float(np.finfo(target).max))
    low, high = (0, 1) if target == "bool" else (int(np.iinfo(target).min), int(np.iinfo(target).max))
    return exact.denominator == 1 and low <= exact <= high


@given(st.sampled_from(WHOLE), st.integers(-(2**70), 2**70), st.sampled_from(["", ".0", "e0", ".000"]))
def test_text_of_a_whole_number_is_exact_or_refused(target: str, value: int, tail: str) -> None:
    try:
        found = from_texts([f"{value}{tail}"], target, "error", ONE)[0]
    except PermanentError:
        assert not _fits(Fraction(value), target)
        return
    assert int(found) == value


@pytest.mark.parametrize("form", ["ndjson", "parquet"])
@pytest.mark.parametrize(("text", "want"), [
    ("9007199254740993.0", 9007199254740993), ("9007199254740992.5", None), ("-9223372036854775807.0", -(2**63) + 1),
    ("9223372036854775808.0", None), ("123456789012345678.0", 123456789012345678), ("0.5", None),
])  # fmt: skip
def test_a_whole_number_with_a_point_is_exact_or_refused(form: str, text: str, want: int | None, folder: Path) -> None:
    if form == "parquet":
        numbers = pa.array([Decimal("1.0"), Decimal(text)], pa.decimal128(24, 1))
        body, kind = parquet({"a": numbers, "b": numbers}), ""
    else:
        body, kind = f'{{"a":1.0,"b":1.0}}\n{{"a":{text},"b":{text}}}\n'.encode(), NDJSON
    if want is None:
        with pytest.raises(PermanentError, match=r"^row 1: column 'a' is '?-?[0-9.]+'?, which .* hold"):
            run(body, kind, folder=folder, model="int64", outputs="y")
    else:
        assert lines(run(body, kind, folder=folder, model="int64", outputs="y"))[1]["y"] == [want, want]


def test_memory_that_no_machine_has_is_refused_for_good(folder: Path) -> None:
    """Its rows say how much: 10^15 floats, and a row that asks for one is good."""
    nodes = [
        made.helper.make_node("Reshape", ["x", "flat"], ["shape"]),
        made.helper.make_node("ReduceMax", ["shape"], ["most"], keepdims=1),
        made.helper.make_node("ConstantOfShape", ["most"], ["c"]),
        made.helper.make_node("ReduceMax", ["c"], ["zero"], keepdims=0),
        made.helper.make_node("Cast", ["x"], ["f"], to=made.FLOAT),
        made.helper.make_node("Add", ["f", "zero"], ["y"]),
    ]
    outputs: dict[str, tuple[int, made.Sides | None]] = {"y": (made.FLOAT, ["N", 1])}
    content = made.model(nodes, {"x": (onnx.TensorProto.INT64, ["N", 1])}, outputs, {"flat": np.array([-1])})
    (folder / "greedy.onnx").write_bytes(content)
    rows = np.array([[1], [1], [10**15], [1]])
    with pytest.raises(
        PermanentError, match=r"^row 2: the model asks for 4000000000000000 bytes at once, which no machine"
    ):
        run(npy(rows), model="greedy", outputs="y")


def sums(folder: Path, width: int | str) -> None:
    """y is the sum of a row of the input x."""
    node = made.helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)
    content = made.model([node], {"x": (made.FLOAT, ["N", width])}, {"y": (made.FLOAT, ["N"])}, {"axes": np.array([1])})
    (folder / "sums.onnx").write_bytes(content)


@pytest.mark.parametrize("width", [2, "F"])
@pytest.mark.parametrize("form", ["csv", "ndjson", "parquet"])
def test_a_column_of_the_input_s_name_is_one_of_several_where_it_holds_no_lists(
    form: str, width: int | str, folder: Path
) -> None:
    sums(folder, width)
    rows = [[1, 10], [2, 20]]
    bodies = {"csv": csv(rows, "xy"), "ndjson": ndjson(rows, "xy"), "parquet": parquet({"x": [1, 2], "y": [10, 20]})}
    found = run(bodies[form], {"csv": CSV, "ndjson": NDJSON}.get(form, ""), folder=folder, model="sums")
    assert [line["y"] for line in lines(found)] == [11, 22]
    if form == "ndjson":
        lists = b'{"x":[1,10],"y":5}\n{"x":[2,20],"y":5}\n'
        assert [line["y"] for line in lines(run(lists, NDJSON, model="sums"))] == [11, 22]


@pytest.mark.parametrize("form", ["objects", "arrays", "parquet"])
@pytest.mark.parametrize("other", [[1.0, 2.0, 3.0], [1.0], 1.0])
def test_lists_are_as_long_as_in_the_body_s_first_row(form: str, other: Any, folder: Path) -> None:
    """A model of rows of any length takes both, so a cut between them must not hide that they differ."""
    sums(folder, "F")
    values, options = [[1.0, 2.0]] * 400 + [other] * 400, PredictOptions(model="sums")
    if form == "parquet":
        values = [value if isinstance(value, list) else [value] for value in values]
        body, request = parquet({"x": values}), SplitRequest(4096)
    else:
        body = b"".join(json.dumps({"x": one} if form == "objects" else [one]).encode() + b"\n" for one in values)
        request = SplitRequest(1024, content_type=NDJSON)
    pieces = cut(body, options, request, folder)
    assert len(pieces) > 2
    with pytest.raises(
        PermanentError, match=r"^row \d+: column '(x|c0)' has [13] values; that of the body's first row has 2"
    ):
        run_pieces(pieces[-1:], options)
    assert [line["y"] for line in lines(run_pieces(pieces[:1], options))][:2] == [3, 3]


@pytest.mark.parametrize("rows", [40, 4000])
def test_a_missing_value_changes_no_other_one(rows: int, folder: Path) -> None:
    """Rounded twice, by way of float64, this number would become the float32 below it: in a null's shard alone."""
    content = made.unary("Identity", ("N", 1))
    (folder / "same.onnx").write_bytes(content)
    number = 2**53 + 2**29 + 1
    body = parquet({"x": pa.array([number, None, *[number] * rows], pa.int64())})
    want = np.array([number], np.int64).astype(np.float32)[0]
    found = lines(run(body, shard=1024, folder=folder, model="same", missing="nan"))
    assert {np.float32(line["y"]) for line in found if line["row"] != 1} == {want}
    assert found[1]["y"] == "NaN"


def test_a_missing_value_is_refused_where_the_model_has_no_nan(folder: Path) -> None:
    body = parquet({"a": pa.array([1, None], pa.int64()), "b": pa.array([1, 1], pa.int64())})
    with pytest.raises(PermanentError, match=r"^row 1: column 'a' has no value here, and the model's int64 has no NaN"):
        run(body, folder=folder, model="int64", outputs="y", missing="nan")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_text_of_a_real_is_the_nearest_float(value: float) -> None:
    assert from_texts([repr(value)], "float64", "error", ONE)[0] == value


@pytest.mark.parametrize("form", ["csv", "ndjson", "npy", "parquet"])
@pytest.mark.parametrize("output", ["ndjson", "csv", "npy"])
def test_the_search_for_bad_rows_leaves_out_these_alone_and_keeps_numbers(form: str, output: str, folder: Path) -> None:
    rows: Any = np.random.default_rng(1).integers(0, 5, (100, 2))
    rows[[13, 14, 70]] = 5  # no such word
    makes = {"csv": csv, "npy": npy, "ndjson": lambda rows: ndjson(rows.tolist(), "ab"),
             "parquet": lambda rows: parquet({"a": rows[:, 0], "b": rows[:, 1]})}  # fmt: skip
    options = PredictOptions(model="words", header=False, output=output)
    body, kind = makes[form](rows), {"csv": CSV, "ndjson": NDJSON}.get(form, "")
    (piece,) = cut(body, options, SplitRequest(1_000_000, content_type=kind), folder)
    with pytest.raises(PermanentError, match=r"^row 13: the model failed in its operator Gather$"):
        run_pieces([piece], options)
    shard = KIND.rows(ShardView(piece.payload, piece.meta, 0, 0), options)
    assert shard is not None
    assert shard.numbers == range(100)
    good = [range(13), range(15, 70), range(71, 100)]
    found = run_pieces([shard.pick(good)], options)
    rows[[13, 14, 70]] = 0
    whole = run_pieces(cut(makes[form](rows), options, SplitRequest(1_000_000, content_type=kind), folder), options)
    if output == "npy":
        assert found[-24 * 97 :] == np.load(_file(whole))[[*good[0], *good[1], *good[2]]].tobytes()
    else:
        header = 1 if output == "csv" else 0
        kept = whole.splitlines()
        assert found.splitlines()[header:] == [kept[row + header] for part in good for row in part]
    for bad in (13, 70):
        with pytest.raises(PermanentError, match=f"^row {bad}: "):
            run_pieces([shard.pick([range(bad, bad + 1)])], options)


def _file(content: bytes) -> Any:
    import io

    return io.BytesIO(content)


def test_what_is_carried_is_text_where_json_has_no_such_type(folder: Path) -> None:
    carried = {
        "2020-01-02": pa.array([18263], pa.date32()),
        "1.50": pa.array(["1.50"]).cast(pa.decimal128(5, 2)),
        "00ff": pa.array([b"\0\xff"]),
        "12:00:00.000000": pa.array([43200], pa.time32("s")),
    }
    for want, values in carried.items():
        table = parquet({"id": values, "a": [1], "b": [2]})
        assert lines(run(table, model="int64", outputs="y", id="id", folder=folder))[0]["id"] == want
    with pytest.raises(PermanentError, match=r"column 'id' holds list<.*; it cannot be used as id"):
        run(parquet({"id": [[1]], "a": [1], "b": [2]}), model="int64", outputs="y", id="id", folder=folder)


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"a": pa.array(["1"] * 9), "b": [1] * 9}, "column 'a' holds string, not numbers"),
        ({"a": pa.array([1] * 9, pa.timestamp("ns")), "b": [1] * 9}, r"column 'a' holds timestamp\[ns\], not numbers"),
        ({"a": [[1, 2]] * 4 + [[1]] * 5, "b": [1] * 9}, "row 4: column 'a' is a list of 1; the first one has 2"),
        ({"a": [[[1]]] * 4 + [[[1], [2]]] * 5, "b": [1] * 9}, "row 4: column 'a' is a list of 2; the first one has 1"),
        ({"a": [1] * 4 + [None] * 5, "b": [1] * 9}, "row 4: column 'a' has no value here"),
        ({"a": pa.array([1.5] * 9), "b": [1] * 9}, "row 0: column 'a' is 1.5, which the model's int64 cannot hold"),
        ({"a": [1] * 9, "b": [1] * 9, "c": [1] * 9}, "rows have 3 values; the model takes 2"),
    ],
)
def test_a_column_of_parquet_that_is_no_feature_is_refused(columns: dict[str, Any], why: str, folder: Path) -> None:
    with pytest.raises(PermanentError, match=why):
        run(parquet(columns), model="int64", outputs="y", folder=folder)


@pytest.mark.parametrize(
    "values",
    [
        pa.array([3] * 9, pa.decimal128(5, 0)),
        pa.array([3] * 9, pa.uint8()),
        pa.array([3.0] * 9, pa.float16()),
        pa.array([3] * 9).dictionary_encode(),
    ],
)
def test_numbers_of_parquet_s_other_types_are_numbers(values: pa.Array, folder: Path) -> None:
    table = parquet({"when": pa.array([1] * 9, pa.timestamp("ns")), "a": values, "b": pa.array([True] * 9)})
    found = lines(run(table, model="int64", outputs="y", columns="a,b", id="when", folder=folder))
    assert found[8] == {"row": 8, "id": "1970-01-01T00:00:00.000000001", "y": [3, 1]}


def test_columns_of_one_name_are_refused_where_they_are_asked_for() -> None:
    with pytest.raises(BadInput, match="2 columns are named 'a'"):
        run(csv([[1, 2]], ["a", "a"]), CSV, model="int64", columns="a,a", outputs="y")


def test_a_table_with_its_index_says_so_and_runs_with_columns() -> None:
    body = csv([[0, 1, 2, 3, 4]], ["", *NAMES])
    with pytest.raises(PermanentError, match="rows have 5 values; the model takes 4"):
        run(body, CSV, model="reg")
    assert len(lines(run(body, CSV, model="reg", columns="a,b,c,d", id=""))) == 1
