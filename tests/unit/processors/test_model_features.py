"""Models as people have them: every row of the table in docs/reference/kinds/model.md is a case here."""

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from reference import model_predict
from unit.processors import made_models as made
from unit.processors.model_jobs import CSV, MODELS, NAMES, ROWS, array, csv, lines, npy, parquet, run

from regather.core.errors import PermanentError
from regather.kinds.model.onnx_model import MODELS_VARIABLE

PAGE = Path(__file__).parents[3] / "docs/reference/kinds/model.md"
BODY = csv(ROWS.tolist(), NAMES)
ROWS32 = ROWS.astype(np.float32)


def documented(heading: str) -> list[list[str]]:
    """The rows of the table whose first cell is this."""
    text = PAGE.read_text()
    (table,) = re.findall(rf"^\| {re.escape(heading)} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for path in MODELS.glob("*.onnx*"):
        shutil.copy(path, tmp_path)
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    return tmp_path


def check_classes(folder: Path, model: str, output: str, label: str, rows: np.ndarray = ROWS32) -> None:
    want = model_predict.answers(folder / f"{model}.onnx", {_input(folder, model): rows})
    names = want.get(f"{output}.classes", np.array(["ham", "spam"])).tolist()
    found = lines(run(BODY, CSV, model=model, all_classes="true"))
    assert [line["row"] for line in found] == list(range(503))
    assert [line["class"] for line in found] == want[label].tolist()
    got = np.array([[line["probabilities"][str(name)] for name in names] for line in found])
    assert np.abs(got - want[output]).max() <= 1e-6
    assert [line["p"] for line in found] == [line["probabilities"][str(line["class"])] for line in found]


def _input(folder: Path, model: str) -> str:
    return str(onnx.load(folder / f"{model}.onnx", load_external_data=False).graph.input[0].name)


def check_matrix(folder: Path, model: str, rows: np.ndarray = ROWS32, tolerance: float = 1e-6) -> None:
    want = model_predict.answers(folder / f"{model}.onnx", {"x": rows})["p"]
    found = array(run(BODY, CSV, model=model, output="npy"))
    assert found.dtype == want.dtype
    assert np.abs(found.astype(float) - want).max() <= tolerance
    classes = [line["class"] for line in lines(run(BODY, CSV, model=model))]
    assert classes == found.argmax(axis=1).tolist()


def check_whole_numbers(folder: Path) -> None:
    (folder / "made.onnx").write_bytes(made.softmax(onnx.TensorProto.INT64))
    rows = np.random.default_rng(1).integers(-9, 9, (300, 4))
    want = model_predict.answers(folder / "made.onnx", {"x": rows})["p"]
    assert np.abs(array(run(npy(rows), model="made", output="npy")) - want).max() <= 1e-6
    assert np.abs(array(run(csv(rows.tolist(), NAMES), CSV, model="made", output="npy")) - want).max() <= 1e-6
    with pytest.raises(PermanentError, match=r"^row 0: column 'a' is '0\.5', which is not a whole number"):
        run(csv([[0.5, 1, 2, 3]], NAMES), CSV, model="made")


def check_texts(folder: Path) -> None:
    (folder / "made.onnx").write_bytes(made.by_columns())
    body = csv([[1.5, 2, "Bern"], [3, 4, "Zürich"]], ["age", "rooms", "city"])
    want = [{"row": 0, "y": 3.5, "c": "Bern"}, {"row": 1, "y": 7, "c": "Zürich"}]
    assert lines(run(body, CSV, model="made", outputs="y,c")) == want
    table = parquet({"city": ["Bern", "Zürich"], "rooms": [2, 4], "age": [1.5, 3.0]})
    assert lines(run(table, model="made", outputs="y,c", folder=folder)) == want


def check_external(folder: Path) -> None:
    check_matrix(folder, "ext")
    both = b"".join((folder / name).read_bytes() for name in ("ext.onnx", "ext.onnx.data"))
    run(BODY, CSV, model="ext", model_sha256=hashlib.sha256(both).hexdigest())
    with pytest.raises(PermanentError, match="has the SHA-256"):
        run(BODY, CSV, model="ext", model_sha256=hashlib.sha256((folder / "ext.onnx").read_bytes()).hexdigest())


def check_outside(folder: Path) -> None:
    inner = folder / "inner"
    inner.mkdir()
    (folder / "secret.bin").write_bytes(bytes(48))
    (inner / "link.bin").symlink_to(folder / "secret.bin")
    for location in ("../secret.bin", str(folder / "secret.bin"), "link.bin", "a/../../secret.bin"):
        (inner / "made.onnx").write_bytes(made.external(location))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(MODELS_VARIABLE, str(inner))
            refuse("made", "has weights outside of its folder")


def check_missing_weights(folder: Path) -> None:
    (folder / "made.onnx").write_bytes(made.external("gone.bin"))
    refuse("made", r"has weights in 'gone\.bin', which is not beside it")
    (folder / "gone.bin").write_bytes(bytes(47))
    refuse("made", r"'gone\.bin' has 47 bytes; 48 are needed")


def check_two_inputs(folder: Path) -> None:
    rows = np.random.default_rng(2).normal(size=(300, 6)).astype(np.float32)
    want = model_predict.answers(folder / "twoin.onnx", {"x": rows[:, :3], "b": rows[:, 3:]})["p"]
    body = csv(rows.tolist(), list("uvwxyz"))
    options: dict[str, Any] = {"model": "twoin", "output": "npy", "outputs": "p"}
    assert np.array_equal(array(run(body, CSV, inputs="x: u,v,w; b: x,y,z", **options)), want)
    assert np.array_equal(array(run(body, CSV, columns="u,v,w,x,y,z", **options)), want)
    assert np.array_equal(array(run(npy(rows), inputs="b: c3,c4,c5; x: c0,c1,c2", **options)), want)
    table = parquet({"b": rows[:, 3:].tolist(), "x": rows[:, :3].tolist()})
    assert np.array_equal(array(run(table, folder=folder, **options)), want)


def check_embedding(folder: Path) -> None:
    check_matrix(folder, "two")
    want = model_predict.answers(folder / "two.onnx", {"x": ROWS32})
    found = lines(run(BODY, CSV, model="two", outputs="emb,p"))
    assert list(found[0]) == ["row", "emb", "p"]
    for name in ("emb", "p"):
        assert np.abs(np.array([line[name] for line in found]) - want[name]).max() <= 1e-6


def check_ambiguous(folder: Path) -> None:
    (folder / "made.onnx").write_bytes(made.ambiguous())
    refuse("made", r"not clear which output is the answer; there are p \(float32 of 4\), q \(float32 of 4\)")
    assert len(lines(run(BODY, CSV, model="made", probabilities="q"))) == 503


def check_two_numbers(folder: Path) -> None:
    (folder / "made.onnx").write_bytes(made.two_numbers())
    refuse("made", r"there are a \(float32 of 4\), b \(float32 of 4\)")
    assert lines(run(BODY, CSV, model="made", outputs="b"))[0]["b"] == pytest.approx((-ROWS[0]).tolist(), rel=1e-6)


def check_regression(folder: Path) -> None:
    want = model_predict.answers(folder / "reg.onnx", {"x": ROWS32})["y"][:, 0]
    found = lines(run(BODY, CSV, model="reg"))
    assert list(found[0]) == ["row", "y"]
    assert np.abs(np.array([line["y"] for line in found]) - want).max() <= 1e-6


def check_dimensions(folder: Path) -> None:
    (folder / "made.onnx").write_bytes(made.unary("Identity", ["N", 2, "M"]))
    rows = np.arange(16, dtype=np.float32).reshape(2, 8)
    assert lines(run(npy(rows), model="made")) == [{"row": i, "y": rows[i].reshape(2, 4).tolist()} for i in range(2)]


def check_dependent(folder: Path) -> None:
    refuse("axis0", "'p' changes for a row with the other rows of its batch")
    want = model_predict.answers(folder / "axis0.onnx", {"x": ROWS32})["p"]
    assert np.array_equal(array(run(BODY, CSV, model="axis0", whole="true", output="npy")), want)
    (folder / "made.onnx").write_bytes(made.by_batch())
    refuse("made", "changes for a row")


def check_random(folder: Path) -> None:
    (folder / "made.onnx").write_bytes(made.random())
    refuse("made", r"draws random numbers \(RandomNormalLike\)")


def check_custom(folder: Path) -> None:
    (folder / "made.onnx").write_bytes(made.custom())
    refuse("made", r"operators that no worker has: com\.acme\.Sell")


def check_opset(folder: Path) -> None:
    (folder / "made.onnx").write_bytes(made.of_opset(999))
    refuse("made", "needs ONNX opset 999 and IR version 8")
    (folder / "made.onnx").write_bytes(made.of_opset(17, ir_version=99))
    refuse("made", "needs ONNX opset 17 and IR version 99")


def check_one_number(folder: Path) -> None:
    (folder / "made.onnx").write_bytes(made.one_number_in_all())
    refuse("made", r"'y' has the shape \(\)|not clear which output", outputs="y")


def check_damaged(folder: Path) -> None:
    whole = made.softmax()
    for content in (b"", b"no model", whole[: len(whole) // 2], bytes(200), whole.replace(b"MatMul", b"MatMal")):
        (folder / "made.onnx").write_bytes(content)
        refuse("made", "damaged|do not fit together")


def refuse(model: str, why: str, **options: Any) -> None:
    with pytest.raises(PermanentError, match=why) as error:
        run(BODY, CSV, model=model, **options)
    assert "onnxruntime_src" not in str(error.value)
    assert not re.search(r"(^|[\s'\"(])/\w", str(error.value)), "a path of the server"
    assert "Traceback" not in str(error.value)


RUN, REFUSED = "run", "refused"
CASES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "ZipMap and whole numbers as classes": (
        RUN, lambda folder: check_classes(folder, "sk_default", "output_probability", "output_label")),
    "ZipMap and texts as classes": (
        RUN, lambda folder: check_classes(folder, "sk_labels_zip", "output_probability", "output_label")),
    "labels beside a matrix of probabilities": (
        RUN, lambda folder: check_classes(folder, "sk_labels", "probabilities", "label")),
    "a fixed batch of 1": (RUN, lambda folder: check_matrix(folder, "batch1")),
    "a fixed batch of 5": (RUN, lambda folder: check_matrix(folder, "batch5")),
    "float16": (RUN, lambda folder: check_matrix(folder, "half", ROWS.astype(np.float16), 1e-3)),
    "float64": (RUN, lambda folder: check_matrix(folder, "double", ROWS, 1e-15)),
    "whole numbers as inputs": (RUN, check_whole_numbers),
    "texts as inputs": (RUN, check_texts),
    "weights in another file": (RUN, check_external),
    "weights outside of its folder": (REFUSED, check_outside),
    "weights that are missing or cut off": (REFUSED, check_missing_weights),
    "several inputs": (RUN, check_two_inputs),
    "several inputs and no word about them": (
        REFUSED, lambda folder: refuse("twoin", r"the model has 2 inputs, x \(3\), b \(3\)")),
    "probabilities and an embedding": (RUN, check_embedding),
    "two outputs that may be probabilities": (REFUSED, check_ambiguous),
    "two outputs of numbers, none a probability": (REFUSED, check_two_numbers),
    "one output of numbers": (RUN, check_regression),
    "rows of several dimensions": (RUN, check_dimensions),
    "answers that depend on the other rows": (REFUSED, check_dependent),
    "random numbers": (REFUSED, check_random),
    "operators of its own": (REFUSED, check_custom),
    "an opset that the runtime has not got": (REFUSED, check_opset),
    "one value for all rows": (REFUSED, check_one_number),
    "a damaged file": (REFUSED, check_damaged),
}  # fmt: skip


def test_every_row_of_the_page_is_a_case() -> None:
    assert {row[0]: row[1] for row in documented("a model with")} == {name: word for name, (word, _) in CASES.items()}


@pytest.mark.parametrize("name", CASES)
def test_a_model_with(name: str, folder: Path) -> None:
    CASES[name][1](folder)
