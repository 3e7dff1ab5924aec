"""`model.predict` sharded equals the model over all rows at once, within the stated tolerance."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference import model_predict

from regather.core.errors import BadInput, BadRequest, PermanentError
from regather.kinds.model import onnx_model
from regather.kinds.model.predict import ModelPredict, PredictOptions
from regather.processors.base import HEAD_BYTES, FileSplitter, ShardView, SplitRequest

KIND = ModelPredict()
MODEL = Path(onnx_model.__file__).parent / "models" / "digits.onnx"
ABOUT = json.loads(MODEL.with_suffix(".json").read_text())
ROWS = np.random.default_rng(3).integers(0, 17, (5000, 64)).astype(np.uint8)
TOLERANCE = 1e-6


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def outputs_of(body: bytes, options: PredictOptions, request: SplitRequest) -> list[bytes]:
    asked = SplitRequest(
        request.shard_size_bytes, request.shards, len(body), request.content_type, head=body[:HEAD_BYTES]
    )
    splitter = KIND.splitter(options, asked)
    assert not isinstance(splitter, FileSplitter)
    pieces = [*splitter.feed(body), *splitter.finish()]
    return [KIND.process(ShardView(p.payload, p.meta, seq, 0), options) for seq, p in enumerate(pieces)]


def probabilities_of(body: bytes, request: SplitRequest, **options: Any) -> np.ndarray:
    wished = PredictOptions.model_validate({"output": "npy", **options})
    found = np.load(io.BytesIO(KIND.merge(outputs_of(body, wished, request), wished)))
    assert found.dtype == np.float32
    return found


@pytest.mark.parametrize("seed", range(20))
def test_probabilities_equal_the_reference_at_random_shard_sizes(seed: int) -> None:
    size = int(np.random.default_rng(seed).integers(1024, 100_000))
    found = probabilities_of(npy(ROWS), SplitRequest(size))
    want = model_predict.probabilities(ROWS, MODEL.read_bytes())
    assert found.shape == want.shape
    assert np.abs(found - want).max() <= TOLERANCE


def test_rows_out_of_order_turn_the_comparison_red() -> None:
    want = model_predict.probabilities(ROWS[::-1], MODEL.read_bytes())
    assert np.abs(probabilities_of(npy(ROWS), SplitRequest(9000)) - want).max() > 0.5


def test_raw_rows_and_csv_say_the_same_as_an_array() -> None:
    want = probabilities_of(npy(ROWS), SplitRequest(9000))
    raw = probabilities_of(ROWS.tobytes(), SplitRequest(9000), features=64, dtype="uint8")
    names = ",".join(f"p{index}" for index in range(64)) + "\n"
    text = (names + "\n".join(",".join(map(str, row)) for row in ROWS) + "\n").encode()
    table = probabilities_of(text, SplitRequest(9000, content_type="text/csv"))
    assert np.abs(raw - want).max() <= TOLERANCE
    assert np.abs(table - want).max() <= TOLERANCE


def test_lines_name_the_likeliest_class_and_its_probability() -> None:
    body = npy(ROWS)
    lines = [json.loads(line) for line in b"".join(outputs_of(body, PredictOptions(), SplitRequest(9000))).splitlines()]
    want = model_predict.probabilities(ROWS, MODEL.read_bytes())
    assert [line["class"] for line in lines] == want.argmax(axis=1).tolist()
    assert np.abs(np.array([line["p"] for line in lines]) - want.max(axis=1)).max() <= TOLERANCE


def test_the_model_is_the_one_that_its_description_names() -> None:
    assert MODEL.stat().st_size == ABOUT["size_bytes"] <= 1_000_000
    assert ABOUT["unseen_accuracy"] > 0.95
    assert len(probabilities_of(npy(ROWS), SplitRequest(90_000), model_sha256=ABOUT["sha256"])) == 5000
    with pytest.raises(PermanentError, match=f"has the SHA-256 {ABOUT['sha256']}, not 00"):
        probabilities_of(npy(ROWS), SplitRequest(90_000), model_sha256="0" * 64)


def test_a_folder_of_models_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.onnx").write_bytes(MODEL.read_bytes())
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    monkeypatch.setenv(onnx_model.MODELS_VARIABLE, str(tmp_path))
    assert len(probabilities_of(npy(ROWS), SplitRequest(90_000), model="mine")) == 5000
    with pytest.raises(PermanentError, match="damaged or is not an ONNX model"):
        probabilities_of(npy(ROWS), SplitRequest(90_000), model="broken")
    with pytest.raises(PermanentError, match="available are broken, digits, mine"):
        probabilities_of(npy(ROWS), SplitRequest(90_000), model="other")


@pytest.mark.parametrize(
    ("body", "options", "error", "why"),
    [
        (npy(ROWS[:, :63]), {}, PermanentError, "rows have 63 values; the model takes 64"),
        (npy(ROWS.reshape(5000, 32, 2)), {}, BadInput, r"rows of 32 x 2 values"),
        (b"1,2\n3,x\n", {"format": "csv", "header": False}, PermanentError, "row 1: column 'c1' is 'x', which is no"),
        (
            b"1,2\n3\n",
            {"format": "csv", "header": False},
            PermanentError,
            "row 1: it has 1 values; there are 2 columns",
        ),
        (b"123", {"features": 64}, BadInput, "0 rows and 3 bytes"),
        (b"123", {"format": "raw"}, BadRequest, "raw rows need the option 'features'"),
        (b"123", {}, BadRequest, "the format of the rows is unknown"),
    ],
)
def test_rows_that_the_model_does_not_take_are_refused(
    body: bytes, options: dict[str, Any], error: type[Exception], why: str
) -> None:
    with pytest.raises(error, match=why):
        probabilities_of(body, SplitRequest(9000), **options)


def test_a_shard_that_failed_leaves_its_rows_out() -> None:
    options = PredictOptions(output="npy")
    outputs: list[bytes | None] = [*outputs_of(npy(ROWS), options, SplitRequest(90_000))]
    gone = len(np.load(io.BytesIO(KIND.merge(outputs[1:2], options))))
    outputs[1] = None
    assert np.load(io.BytesIO(KIND.merge(outputs, options))).shape == (5000 - gone, 10)
