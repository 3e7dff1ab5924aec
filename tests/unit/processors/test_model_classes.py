"""Which class a row has and which probability is that class's, for the ways in which models name their classes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from unit.processors import made_models as made
from unit.processors.model_jobs import lines, npy, run

from regather.core.errors import PermanentError
from regather.kinds.model.onnx_model import MODELS_VARIABLE

INT64, STRING = TensorProto.INT64, TensorProto.STRING
ROWS = np.random.default_rng(8).normal(size=(300, 3)).astype(np.float32)
P = np.exp(ROWS.astype(np.float64)) / np.exp(ROWS.astype(np.float64)).sum(axis=1, keepdims=True)
GREATEST = P.argmax(axis=1)
ML = (("", 17), ("ai.onnx.ml", 3))
node = helper.make_node
SOFTMAX = node("Softmax", ["x"], ["p"], axis=1)
GREATEST_PLACE = node("ArgMax", ["p"], ["place"], axis=1, keepdims=0)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    return tmp_path


def classifier(folder: Path, *nodes: Any, kind: int = INT64, rows: made.Sides = ("N",), **weights: np.ndarray) -> None:
    outputs: dict[str, tuple[int, made.Sides | None]] = {"label": (kind, rows), "p": (made.FLOAT, ["N", 3])}
    content = made.model([SOFTMAX, *nodes], {"x": (made.FLOAT, ["N", 3])}, outputs, weights, opsets=ML)
    (folder / "made.onnx").write_bytes(content)


def answers(**options: Any) -> list[dict[str, Any]]:
    return lines(run(npy(ROWS), model="made", all_classes="true", **options))


def check(found: list[dict[str, Any]], names: list[Any], places: np.ndarray = GREATEST) -> None:
    """Every row has the class at its place, and the probabilities of all classes by their names."""
    assert [line["class"] for line in found] == [names[place] for place in places]
    assert [line["p"] for line in found] == pytest.approx(np.take_along_axis(P, places[:, None], 1)[:, 0])
    assert [list(line["probabilities"]) for line in found] == [[str(name) for name in names]] * len(ROWS)
    assert np.array([list(line["probabilities"].values()) for line in found]) == pytest.approx(P)


def inner_classifier() -> Any:
    """As ensembles hold it: its classes are numbers of the ensemble's, and its answer is not the model's."""
    return node(
        "LinearClassifier", ["x"], ["i", "ip"], domain="ai.onnx.ml", classlabels_ints=[0, 1, 2],
        coefficients=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0], intercepts=[0.0, 0.0, 0.0],
    )  # fmt: skip


def pick() -> Any:
    return node("ArrayFeatureExtractor", ["names", "place"], ["a"], domain="ai.onnx.ml")


@pytest.mark.parametrize("names", [[1, 2, 3], [2, 0, 1], [10, 20, 30]])
def test_an_ensemble_s_classes_are_those_that_its_label_picks(folder: Path, names: list[int]) -> None:
    flat = node("Reshape", ["a", "flat"], ["label"])
    weights: dict[str, Any] = {"names": np.array([names], np.int64), "flat": np.array([-1])}
    classifier(folder, inner_classifier(), GREATEST_PLACE, pick(), flat, **weights)
    check(answers(), names)


def test_an_ensemble_s_classes_may_be_texts(folder: Path) -> None:
    flat = node("Reshape", ["a", "flat"], ["label"])
    names = np.array(["no", "may", "yes"], object)
    classifier(folder, inner_classifier(), GREATEST_PLACE, pick(), flat, kind=STRING, names=names, flat=np.array([-1]))
    check(answers(), list(names))


def test_a_label_of_another_shape_still_tells_the_names(folder: Path) -> None:
    classifier(
        folder, GREATEST_PLACE, node("Identity", ["a"], ["label"]), pick(), rows=(1, "N"), names=np.array([4, 2, 7])
    )
    check(answers(), [4, 2, 7])


def test_a_gathered_label_tells_the_names(folder: Path) -> None:
    classifier(folder, GREATEST_PLACE, node("Gather", ["names", "place"], ["label"]), names=np.array([1, 2, 3]))
    check(answers(), [1, 2, 3])


def test_an_encoded_label_tells_the_names(folder: Path) -> None:
    encoder = node(
        "LabelEncoder", ["place"], ["label"], domain="ai.onnx.ml",
        keys_int64s=[2, 1, 0], values_strings=["yes", "may", "no"],
    )  # fmt: skip
    classifier(folder, GREATEST_PLACE, encoder, kind=STRING)
    check(answers(), ["no", "may", "yes"])


def test_a_label_that_is_the_place_itself_has_numbers_from_0(folder: Path) -> None:
    classifier(folder, node("ArgMax", ["p"], ["label"], axis=1, keepdims=0))
    check(answers(), [0, 1, 2])


def test_a_label_of_unknown_names_is_never_taken_for_a_place(folder: Path) -> None:
    """Classes 1 to 3 by a sum: class 1 is that of probability 0, and nothing in the file says so."""
    classifier(folder, GREATEST_PLACE, node("Add", ["place", "one"], ["label"]), one=np.array([1]))
    with pytest.raises(PermanentError, match=r"^row 0: the model's label is \d, and its file does not say which"):
        answers()
    check(answers(classes="1,2,3"), ["1", "2", "3"])


def test_names_of_the_option_follow_the_model_s_own_label(folder: Path) -> None:
    """As a support vector machine does it: the label need not be the greatest probability's."""
    classifier(
        folder, node("Neg", ["p"], ["n"]), node("ArgMax", ["n"], ["place"], axis=1, keepdims=0), pick(),
        node("Reshape", ["a", "flat"], ["label"]), names=np.array([[5, 6, 7]]), flat=np.array([-1]),
    )  # fmt: skip
    check(answers(), [5, 6, 7], P.argmin(axis=1))
    check(answers(classes="a,b,c"), ["a", "b", "c"], P.argmin(axis=1))
