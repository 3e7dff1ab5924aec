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
    found: list[np.ndarray] = session.run(["probabilities"], {session.get_inputs()[0].name: rows.astype(np.float32)})
    (answer,) = found
    return answer


def answers(model: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return every output of a model for all rows at once, or in the batches that it demands.

    Maps of classes to probabilities become a matrix; `NAME.classes` has the classes in its order.
    """
    session = onnxruntime.InferenceSession(str(model))
    batch = session.get_inputs()[0].shape[0]
    rows = len(next(iter(inputs.values())))
    step = batch if isinstance(batch, int) else rows
    parts = [_run(session, {name: values[at : at + step] for name, values in inputs.items()}, step)
             for at in range(0, rows, step)]  # fmt: skip
    return {
        name: parts[0][name] if name.endswith(".classes") else np.concatenate([part[name] for part in parts])[:rows]
        for name in parts[0]
    }


def _run(session: onnxruntime.InferenceSession, inputs: dict[str, np.ndarray], step: int) -> dict[str, np.ndarray]:
    whole = {name: np.concatenate([rows, rows[-1:].repeat(step - len(rows), axis=0)]) for name, rows in inputs.items()}
    found = {}
    for output, value in zip(session.get_outputs(), session.run(None, whole), strict=True):
        if isinstance(value, list):
            found[f"{output.name}.classes"] = np.array(list(value[0]))
            value = np.array([list(entry.values()) for entry in value])
        found[output.name] = value
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
