# /// script
# requires-python = ">=3.11"
# dependencies = ["onnxruntime", "scikit-learn==1.9.1", "skl2onnx==1.20.0"]
# ///
"""Train a small classifier on scikit-learn's digits and export it as the model that `model.predict` has built in.

    uv run scripts/export_digits_model.py

Writes digits.onnx (rows of 64 floats, 0 to 16, in; label and ten probabilities out) and digits.json (its SHA-256, what
it takes and gives, its accuracy on the part of the digits that it was not trained on).
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnxruntime
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDER = Path(__file__).resolve().parents[1] / "libs/regather/src/regather/kinds/model/models"
FEATURES = 64


def main() -> None:
    images, labels = load_digits(return_X_y=True)
    images, unseen, labels, truth = train_test_split(images, labels, test_size=0.25, random_state=0, stratify=labels)
    model = make_pipeline(StandardScaler(), MLPClassifier((96,), random_state=0, max_iter=400)).fit(images, labels)
    exported = convert_sklearn(
        model, "digits", [("rows", FloatTensorType([None, FEATURES]))], options={"zipmap": False}, target_opset=17
    ).SerializeToString()

    session = onnxruntime.InferenceSession(exported)
    found, probabilities = session.run(None, {"rows": unseen.astype(np.float32)})
    assert np.abs(probabilities - model.predict_proba(unseen)).max() < 1e-4

    (FOLDER / "digits.onnx").write_bytes(exported)
    about = {
        "sha256": hashlib.sha256(exported).hexdigest(),
        "size_bytes": len(exported),
        "features": FEATURES,
        "classes": [int(label) for label in np.unique(labels)],
        "unseen_accuracy": round(float((found == truth).mean()), 4),
        "unseen_rows": len(truth),
    }
    (FOLDER / "digits.json").write_text(json.dumps(about, indent=2) + "\n")
    print(json.dumps(about))


if __name__ == "__main__":
    main()
