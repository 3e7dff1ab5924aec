"""The answer has the same bits at any cut, because every row runs at its place in a batch of one size."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference import model_predict
from unit.processors import made_models as made
from unit.processors.model_jobs import CSV, KIND, MODELS, NAMES, array, csv, cut, lines, npy, run, run_pieces

from regather.core.errors import BadInput, BadRequest, PermanentError
from regather.kinds.model.batches import batch_rows, run_batches
from regather.kinds.model.onnx_model import MODELS_VARIABLE, _loaded, find_model, load_model
from regather.kinds.model.predict import PredictOptions
from regather.processors.base import SplitRequest

DIGITS = np.random.default_rng(3).integers(0, 17, (2111, 64)).astype(np.uint8)
ROWS = np.random.default_rng(4).normal(size=(2111, 4))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for path in MODELS.glob("*.onnx*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(("model", "output", "tolerance"), [
    ("digits", "probabilities", 1e-6), ("double", "p", 1e-12), ("half", "p", 1e-3),
    ("sk_default", "output_probability", 1e-6), ("sk_labels", "probabilities", 1e-6),
    ("batch5", "p", 1e-6), ("batch1", "p", 1e-6), ("two", "p", 1e-6),
])  # fmt: skip
def test_the_same_bits_at_any_cut(model: str, output: str, tolerance: float, folder: Path) -> None:
    rows = DIGITS if model == "digits" else ROWS
    options = PredictOptions(model=model, output="npy")
    found = {
        run_pieces(cut(npy(rows), options, request, folder), options)
        for request in (SplitRequest(1024), SplitRequest(5000), SplitRequest(1_000_000),
                        *(SplitRequest(shards=shards) for shards in (1, 2, 3, 7, 11, 50)))
    }  # fmt: skip
    assert len(found) == 1
    path = find_model(model)
    name, dtype = _first_input(path)
    want = model_predict.answers(path, {name: rows.astype(dtype)})[output]
    assert np.abs(array(found.pop()).astype(float) - want).max() <= tolerance


def _first_input(path: Path) -> tuple[str, str]:
    import onnxruntime

    found = onnxruntime.InferenceSession(str(path)).get_inputs()[0]
    return found.name, {"tensor(float)": "f4", "tensor(double)": "f8", "tensor(float16)": "f2"}[found.type]


def test_batches_of_what_a_shard_has_would_give_other_bits() -> None:
    """Seen on this machine for float64; where kernels do not differ there is nothing to keep apart, and both are equal."""
    model = load_model("double")
    alone = np.concatenate([model.run(["p"], {"x": ROWS[at : at + 7]})[0] for at in range(0, len(ROWS), 7)])
    (whole,) = model.run(["p"], {"x": ROWS})
    assert np.abs(alone - whole).max() <= 1e-12
    inputs = {"x": ROWS}
    ours = run_batches(model, ["p"], inputs, np.arange(len(ROWS)), batch_rows(inputs, None, None))["p"].values
    part = run_batches(model, ["p"], {"x": ROWS[5:12]}, np.arange(5, 12), 256)["p"].values
    assert np.array_equal(part, ours[5:12])


def test_rows_with_gaps_run_at_their_places() -> None:
    numbers = np.array([3, 255, 256, 1000, 1001, 5000])
    rows = {"x": np.arange(24, dtype=np.float32).reshape(6, 4)}
    found = run_batches(load_model("two"), ["emb"], rows, numbers, 256)["emb"].values
    assert np.array_equal(found, rows["x"])


@pytest.mark.parametrize("numbers", [[0, 1, 2], [5, 6, 7], [7, 8, 9, 10, 11, 12, 13, 14, 15, 16], [3, 9, 10, 40]])
def test_a_row_stands_at_its_number_modulo_the_batch(numbers: list[int], folder: Path) -> None:
    """The model counts the rows of its batch: it tells where each one stood."""
    (folder / "made.onnx").write_bytes(made.counting())
    rows = {"x": np.ones((len(numbers), 4), np.float32)}
    found = run_batches(load_model("made"), ["y"], rows, np.array(numbers), 8)["y"].values
    assert found[:, 0].tolist() == [number % 8 for number in numbers]


@pytest.mark.parametrize("numbers", [[3, 4], [1, 7], [9, 30]])
def test_empty_places_have_copies_of_a_real_row(numbers: list[int], folder: Path) -> None:
    """The model subtracts the mean of its batch, which is that of the rows only where no other value stands in it."""
    (folder / "made.onnx").write_bytes(made.by_batch())
    rows = {"x": np.full((2, 4), 7, np.float32)}
    assert not run_batches(load_model("made"), ["y"], rows, np.array(numbers), 8)["y"].values.any()


@pytest.mark.parametrize(("width", "want"), [(1, 256), (64, 256), (65, 128), (4096, 4), (20_000, 1)])
def test_a_batch_has_about_64_kib(width: int, want: int) -> None:
    assert batch_rows({"x": np.zeros((3, width), np.float32)}, None, None) == want


@pytest.mark.parametrize("rows", [1, 4, 5, 6, 9, 10, 503])
def test_the_last_batch_of_a_fixed_size_is_filled_and_nothing_of_it_comes_out(rows: int, folder: Path) -> None:
    want = model_predict.answers(folder / "batch5.onnx", {"x": ROWS[:rows].astype(np.float32)})["p"]
    found = array(run(npy(ROWS[:rows]), model="batch5", output="npy"))
    assert found.shape == (rows, 3)
    assert np.abs(found - want).max() <= 1e-6


def test_a_fixed_batch_is_not_asked_for_another() -> None:
    with pytest.raises(PermanentError, match="the model takes 5 rows at a time; batch_rows is 4"):
        run(npy(ROWS), model="batch5", batch_rows=4)


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_a_model_that_depends_on_its_batch_is_refused_at_any_batch(batch: int, folder: Path) -> None:
    for rows in (ROWS[:1], ROWS[:2], ROWS, np.ones((50, 4))):
        _loaded.cache_clear()  # as a child that has not seen the model
        with pytest.raises(PermanentError, match="changes for a row with the other rows of its batch"):
            run(npy(rows), model="axis0", batch_rows=batch)


def test_a_fixed_batch_whose_rows_depend_on_each_other_is_refused(folder: Path) -> None:
    (folder / "made.onnx").write_bytes(made.unary("Softmax", (5, 4), axis=0))
    with pytest.raises(PermanentError, match="changes for a row"):
        run(npy(ROWS), model="made", outputs="y")


def whole(body: bytes, request: SplitRequest, folder: Path, *, size: bool = True) -> np.ndarray:
    options = PredictOptions(model="axis0", whole=True, output="npy")
    pieces = cut(body, options, request, folder, size=size)
    assert len(pieces) == 1
    return array(run_pieces(pieces, options))


@pytest.mark.parametrize("size", [True, False])
def test_a_run_of_the_whole_is_one_shard_whatever_was_asked(size: bool, folder: Path) -> None:
    want = model_predict.answers(folder / "axis0.onnx", {"x": ROWS.astype(np.float32)})["p"]
    for request in (SplitRequest(1024), SplitRequest(), SplitRequest(shards=1)):
        assert np.array_equal(whole(npy(ROWS), request, folder, size=size), want)
    text = csv(ROWS.tolist(), NAMES)
    assert np.array_equal(whole(text, SplitRequest(1024, content_type=CSV), folder, size=size), want)


def test_a_run_of_the_whole_that_fits_no_shard_is_refused(folder: Path) -> None:
    with pytest.raises(BadRequest, match="makes one shard, not 2"):
        whole(npy(ROWS), SplitRequest(shards=2), folder)
    large = np.zeros((330_000, 4))
    for size in (True, False):
        with pytest.raises(BadInput, match="but they do not fit one"):
            whole(npy(large), SplitRequest(), folder, size=size)


def test_a_dependence_that_is_smaller_than_rounding_is_refused(folder: Path) -> None:
    """A hundred-thousandth of the batch's mean is added: the tolerance for kernels lets it pass, a cut does not."""
    nodes = [
        made.helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
        made.helper.make_node("Mul", ["mean", "share"], ["part"]),
        made.helper.make_node("Add", ["x", "part"], ["y"]),
    ]
    outputs: dict[str, tuple[int, made.Sides | None]] = {"y": (made.FLOAT, ["N", 4])}
    content = made.model(nodes, {"x": (made.FLOAT, ["N", 4])}, outputs, {"share": np.array(1e-5, np.float32)})
    (folder / "little.onnx").write_bytes(content)
    with pytest.raises(PermanentError, match=r"'y' changes for a row with the other rows of its batch"):
        run(npy(ROWS), model="little")


@pytest.mark.parametrize("whole", ["true", "false"])
def test_dropout_as_in_training_is_refused_as_random(whole: str, folder: Path) -> None:
    nodes = [made.helper.make_node("Dropout", ["x", "share", "training"], ["y"], seed=3)]
    weights = {"share": np.array(0.5, np.float32), "training": np.array(True)}
    outputs: dict[str, tuple[int, made.Sides | None]] = {"y": (made.FLOAT, ["N", 4])}
    content = made.model(nodes, {"x": (made.FLOAT, ["N", 4])}, outputs, weights)
    (folder / "drops.onnx").write_bytes(content)
    with pytest.raises(PermanentError, match=r"'y' changes for a row from run to run: .*; export it for inference"):
        run(npy(ROWS), model="drops", whole=whole)


def test_a_run_of_the_whole_has_no_rows_that_are_bad_by_themselves(folder: Path) -> None:
    from regather.processors.base import ShardView

    options = PredictOptions(model="axis0", whole=True)
    (piece,) = cut(npy(ROWS), options, SplitRequest(), folder)
    assert KIND.rows(ShardView(piece.payload, piece.meta, 0, 0), options) is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.4e38])
def test_what_is_no_number_comes_out_as_it_is(value: float, folder: Path) -> None:
    (folder / "made.onnx").write_bytes(made.unary("Identity"))
    rows = np.ones((9, 4), np.float32)
    rows[4, 1] = value
    options: dict[str, Any] = {"model": "made", "outputs": "y"}
    assert np.array_equal(array(run(npy(rows), output="npy", **options)), rows, equal_nan=True)
    text = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(str(value))
    (found,) = [line["y"] for line in lines(run(npy(rows), **options)) if line["row"] == 4]
    assert found == [1, text or pytest.approx(value, rel=1e-6), 1, 1]
    table = run(npy(rows), output="csv", **options).splitlines()
    assert table[0] == b"row,y_0,y_1,y_2,y_3"
    assert table[5].split(b",")[2] == (text or "3.4e+38").encode()
