"""Unsharded reference of `model.predict`, written apart from the project: it imports nothing of it.

    python model_predict.py ROWS.npy MODEL.onnx OUT.npy

Runs the model over all rows at once and writes the probabilities as (rows, classes) float32 to OUT.npy.
Prints {"features": {"rows", "classes": [how often each class is the likeliest]}, "seconds": ...} as one line of JSON.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import onnxruntime


def probabilities(rows: np.ndarray, model: bytes) -> np.ndarray:
    """Return (n, classes) probabilities."""
    session = onnxruntime.InferenceSession(model)
    (found,) = session.run(["probabilities"], {session.get_inputs()[0].name: rows.astype(np.float32)})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    begun_s = time.perf_counter()
    found = probabilities(np.load(arguments.rows), arguments.model.read_bytes())
    np.save(arguments.out, found)
    classes = np.bincount(found.argmax(axis=1), minlength=found.shape[1]).tolist()
    features = {"rows": len(found), "classes": classes}
    print(json.dumps({"features": features, "seconds": round(time.perf_counter() - begun_s, 3)}))


if __name__ == "__main__":
    main()
