"""What onnxruntime says of all rows at once: every output by name."""

from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
_TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
}


def run(model: Path, rows: Array | dict[str, Array]) -> dict[str, Any]:
    """Outputs by name. A fixed batch is filled with copies of the last row, whose answers are dropped."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(model), options)
    wanted = session.get_inputs()
    given = rows if isinstance(rows, dict) else {wanted[0].name: rows}
    feeds = {found.name: given[found.name].astype(_TYPES[found.type]) for found in wanted}
    batch = wanted[0].shape[0]
    names = [output.name for output in session.get_outputs()]
    if not isinstance(batch, int):
        return dict(zip(names, session.run(names, feeds), strict=True))
    count = len(next(iter(feeds.values())))
    parts = []
    for at in range(0, count, batch):
        part = {name: _filled(values[at : at + batch], batch) for name, values in feeds.items()}
        parts.append(session.run(names, part))
    return {name: np.concatenate([part[at] for part in parts])[:count] for at, name in enumerate(names)}


def _filled(values: Array, batch: int) -> Array:
    return (
        np.concatenate([values, np.repeat(values[-1:], batch - len(values), axis=0)]) if len(values) < batch else values
    )


def matrix(found: Any) -> Array:
    """An output as an array of its own type; a ZipMap's maps in the order of their classes, as float32."""
    if isinstance(found, list):
        return np.array([[row[name] for name in sorted(row)] for row in found], np.float32)
    return np.asarray(found)
