"""Rows as people have them: every cell of the table in docs/reference/kinds/model.md is tried here as it says."""

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from reference import model_predict
from unit.processors import made_models as made
from unit.processors.model_jobs import CSV, JSON, MODELS, NAMES, NDJSON, array, csv, lines, ndjson, npy, parquet, run
from unit.processors.test_model_features import documented

from regather.core.errors import UserError
from regather.kinds.model.onnx_model import MODELS_VARIABLE
from regather.processors.splitting import inflate

Row = Sequence[object]


class Format(NamedTuple):
    """How rows are written, and the options that this needs; `makes` gets rows and the names of their columns."""

    makes: Callable[[Sequence[Row], Sequence[str]], bytes]
    content_type: str = ""
    options: Callable[[int], dict[str, str]] = lambda width: {}


def as_npy(rows: Sequence[Row], names: Sequence[str]) -> bytes:
    return npy(np.array(rows, np.float64))


def as_raw(rows: Sequence[Row], names: Sequence[str]) -> bytes:
    return np.array(rows, "<f8").tobytes()


def as_cells(rows: Sequence[Row]) -> list[list[object]]:
    return [["" if value is None else value for value in row] for row in rows]


def as_parquet(rows: Sequence[Row], names: Sequence[str]) -> bytes:
    return parquet(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))


def as_objects(rows: Sequence[Row], names: Sequence[str]) -> bytes:
    return json.dumps([dict(zip(names, row, strict=True)) for row in rows]).encode()


FORMATS = {
    "NPY": Format(as_npy),
    "raw": Format(as_raw, options=lambda width: {"features": str(width), "dtype": "float64"}),
    "CSV with a header": Format(lambda rows, names: csv(as_cells(rows), names), CSV),
    "CSV without a header": Format(lambda rows, names: csv(as_cells(rows)), CSV, lambda width: {"header": "false"}),
    "NDJSON of objects": Format(ndjson, NDJSON),
    "NDJSON of arrays": Format(lambda rows, names: b"".join(json.dumps(row).encode() + b"\n" for row in rows), NDJSON),
    "JSON array of objects": Format(as_objects, JSON),
    "JSON array of arrays": Format(lambda rows, names: json.dumps([list(row) for row in rows]).encode(), JSON),
    "Parquet": Format(as_parquet),
}
TABLE = {row[0]: row[1:] for row in documented("input")}
ROWS = np.random.default_rng(6).normal(size=(300, 5))
SHUFFLED = ["d", "a", "n", "c", "b"]  # n is the number of a row, and no feature
WORD = {"yes": True, "no": False}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("reg", "two"):
        (tmp_path / f"{name}.onnx").write_bytes((MODELS / f"{name}.onnx").read_bytes())
    (tmp_path / "texts.onnx").write_bytes(made.model(
        [onnx.helper.make_node("Identity", ["x"], ["y"])],
        {"x": (onnx.TensorProto.STRING, ["N", 1])}, {"y": (onnx.TensorProto.STRING, ["N", 1])},
    ))  # fmt: skip
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    return tmp_path


def given(name: str, rows: Sequence[Row], names: Sequence[str], folder: Path, **options: Any) -> bytes:
    how = FORMATS[name]
    chosen = how.options(len(rows[0])) | options
    return run(how.makes(rows, names), how.content_type, folder=folder, shard=2048, **chosen)


def column(name: str, names: Sequence[str], wanted: str) -> str:
    return f"c{names.index(wanted)}" if TABLE[name][0] == "number" else wanted


def wanted(rows: np.ndarray) -> np.ndarray:
    return model_predict.answers(MODELS / "two.onnx", {"x": rows.astype(np.float32)})["p"]


def check(answer: bool, call: Callable[[], bool]) -> None:
    """The cell says whether it is so; what is not so is refused in words."""
    if answer:
        assert call()
    else:
        with pytest.raises(UserError):
            call()


def test_every_row_of_the_page_is_tried() -> None:
    assert TABLE.keys() == FORMATS.keys()


@pytest.mark.parametrize("name", FORMATS)
class TestFormat:
    def test_all_columns_are_the_model_s(self, name: str, folder: Path) -> None:
        found = array(given(name, ROWS[:, :4].tolist(), NAMES, folder, model="two", output="npy"))
        assert np.abs(found - wanted(ROWS[:, :4])).max() <= 1e-6

    def test_columns_are_chosen_in_the_model_s_order(self, name: str, folder: Path) -> None:
        columns = ",".join(column(name, SHUFFLED, one) for one in NAMES)
        found = array(given(name, ROWS.tolist(), SHUFFLED, folder, model="two", output="npy", columns=columns))
        assert np.abs(found - wanted(ROWS[:, [1, 4, 3, 0]])).max() <= 1e-6

    def test_a_column_that_is_not_there_is_named(self, name: str, folder: Path) -> None:
        with pytest.raises(UserError, match="'gone'"):
            given(name, ROWS.tolist(), SHUFFLED, folder, model="two", columns="gone,a,b,c")

    def test_a_column_is_carried_along(self, name: str, folder: Path) -> None:
        rows = ROWS.copy()
        rows[:, 2] = np.arange(300) + 1000
        chosen = column(name, SHUFFLED, "n")

        def call() -> bool:
            found = lines(given(name, rows.tolist(), SHUFFLED, folder, model="reg", id=chosen))
            want = model_predict.answers(MODELS / "reg.onnx", {"x": rows[:, [0, 1, 3, 4]].astype(np.float32)})["y"]
            close = np.abs(np.array([line["y"] for line in found]) - want[:, 0]).max() <= 1e-6
            return bool(close and [float(line["id"]) for line in found] == rows[:, 2].tolist())

        check(WORD[TABLE[name][1]], call)

    def test_a_missing_value_is_nan_or_a_bad_row(self, name: str, folder: Path) -> None:
        rows: list[list[Any]] = ROWS[:, :4].tolist()
        rows[250][1] = None
        if not WORD[TABLE[name][2]]:
            assert lines(given(name, rows, NAMES, folder, model="reg"))[250]["y"] == "NaN"  # an array has but NaN
            return
        with pytest.raises(UserError, match=r"row 250: column '(b|c1)' has no value here"):
            given(name, rows, NAMES, folder, model="reg")
        found = [line["y"] for line in lines(given(name, rows, NAMES, folder, model="reg", missing="nan"))]
        assert found[250] == "NaN"
        assert found.count("NaN") == 1

    def test_texts_go_to_a_model_of_texts(self, name: str, folder: Path) -> None:
        rows = [[f"text {index}"] for index in range(300)] if WORD[TABLE[name][3]] else ROWS[:, :1].tolist()

        def call() -> bool:
            found = lines(given(name, rows, ["x"], folder, model="texts", outputs="y"))
            return [line["y"] for line in found] == [row[0] for row in rows]

        check(WORD[TABLE[name][3]], call)

    @pytest.mark.parametrize("codec", ["gzip", "zstd"])
    def test_a_compressed_body_is_inflated(self, name: str, codec: str, folder: Path) -> None:
        how = FORMATS[name]
        body = how.makes(ROWS[:, :4].tolist(), NAMES)
        packed = gzip.compress(body) if codec == "gzip" else inflate_free_zstd(body)
        options = how.options(4)

        def call() -> bool:
            found = array(
                run(packed, how.content_type, folder=folder, shard=2048, model="two", output="npy", **options)
            )
            return bool(np.abs(found - wanted(ROWS[:, :4])).max() <= 1e-6)

        check(WORD[TABLE[name][4]], call)

    def test_a_bad_row_is_named(self, name: str, folder: Path) -> None:
        (folder / "half.onnx").write_bytes((MODELS / "half.onnx").read_bytes())
        rows = ROWS[:, :4].tolist()
        rows[217][2] = 70_000.0  # more than float16 has
        assert WORD[TABLE[name][5]]
        with pytest.raises(UserError, match=r"^row 217: column '(c|c2)' is 70000\.0, which the model's float16 cannot"):
            given(name, rows, NAMES, folder, model="half")


def inflate_free_zstd(body: bytes) -> bytes:
    compress = __import__(inflate.ZstdDecompressor.__module__.removeprefix("_"), fromlist=["compress"]).compress
    return bytes(compress(body))


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/csv; charset=utf-8", csv([[1, 2, 3, 4]], NAMES)),
        ("TEXT/CSV", csv([[1, 2, 3, 4]], NAMES)),
        ("text/tab-separated-values", b"a\tb\tc\td\n1\t2\t3\t4\n"),
        ("application/jsonl", b'{"a":1,"b":2,"c":3,"d":4}\n'),
        ("application/x-www-form-urlencoded", b"[[1,2,3,4]]"),
        ("", b' {"a":1,"b":2,"c":3,"d":4}'),
        (CSV, b"\xef\xbb\xbfa,b,c,d\r\n1,2,3,4\r\n\r\n"),
        (CSV, b'"a","b","c","d"\n"1","2","3","4"\n'),
    ],
)
def test_the_format_is_told_by_type_or_first_bytes(content_type: str, body: bytes, folder: Path) -> None:
    want = model_predict.answers(MODELS / "reg.onnx", {"x": np.array([[1, 2, 3, 4]], np.float32)})["y"]
    assert lines(run(body, content_type, model="reg")) == [{"row": 0, "y": pytest.approx(want[0, 0], rel=1e-6)}]


@pytest.mark.parametrize("dtype", ["?", "i1", "u1", "<i2", "<u2", "<f2", "<i4", "<u4", "<f4", "<i8", "<u8", "<f8"])
@pytest.mark.parametrize("form", ["npy", "raw"])
def test_every_type_of_an_array_gives_its_numbers(dtype: str, form: str, folder: Path) -> None:
    rows = np.random.default_rng(1).integers(0, 2, (200, 4)).astype(dtype)
    want = model_predict.answers(MODELS / "reg.onnx", {"x": rows.astype(np.float32)})["y"]
    body, options = (npy(rows), {}) if form == "npy" else (rows.tobytes(), {"features": "4", "dtype": rows.dtype.name})
    assert np.array_equal(array(run(body, model="reg", output="npy", **options)), want)


def test_raw_rows_that_begin_like_a_pickle_are_taken_if_the_client_says_so(folder: Path) -> None:
    rows = np.array([[0x80, 4, 7, 9]], np.uint8)
    options = {"model": "reg", "features": "4", "dtype": "uint8", "output": "npy"}
    with pytest.raises(UserError, match=r"a Python pickle.*\(format=raw if these are raw rows"):
        run(rows.tobytes(), **options)
    want = model_predict.answers(MODELS / "reg.onnx", {"x": rows.astype(np.float32)})["y"]
    assert np.array_equal(array(run(rows.tobytes(), format="raw", **options)), want)


def test_a_body_without_rows_is_an_empty_result(folder: Path) -> None:
    for output, want in (("ndjson", b""), ("csv", b"row,class,p\r\n")):
        assert run(b"a,b,c,d\n", CSV, model="two", output=output) == want
    assert array(run(b"a,b,c,d\n", CSV, model="two", output="npy")).shape == (0, 3)


def test_the_gateway_loads_no_engine() -> None:
    import subprocess
    import sys

    engines = ["numpy", "pyarrow", "onnx", "onnxruntime", "duckdb"]
    code = f"import sys, regather.kinds.model.predict; print([name for name in {engines} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("body", "content_type"), [(b"a,b\n1,\xe9\n", CSV), (b'{"a":"\xe9"}\n', NDJSON), (b'["\xe9"]', JSON)]
)
def test_text_that_is_no_utf_8_is_to_be_converted(body: bytes, content_type: str) -> None:
    """This kind has no option encoding, so it is not what the advice begins with."""
    with pytest.raises(
        UserError, match=r"b'\\xe9' is not valid UTF-8 .*; convert it to UTF-8, or, where the kind has it"
    ):
        run(body, content_type)


def test_an_array_of_single_values_is_refused_with_what_to_save() -> None:
    with pytest.raises(
        UserError, match=r"shape \(3,\); \(rows, columns\), .* each value is a row, save array\.reshape\(-1, 1\)"
    ):
        run(npy(np.ones(3)))
