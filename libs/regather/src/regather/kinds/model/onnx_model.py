"""ONNX models of `model.predict`: found by name, checked by digest, loaded once per child."""

import hashlib
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regather.core.errors import PermanentError

MODELS_VARIABLE = "REGATHER_MODELS_DIR"
"""A folder of models, NAME.onnx, on the workers; they come before the built-in ones."""

_BUILT_IN = Path(__file__).parent / "models"
_SESSIONS_KEPT = 4


def find_model(name: str) -> Path:
    """Return the file of a model; PermanentError that lists the models there are."""
    folders = [Path(folder) for folder in (os.environ.get(MODELS_VARIABLE), _BUILT_IN) if folder]
    for folder in folders:
        path = folder / f"{name}.onnx"
        if path.is_file():
            return path
    names = sorted({path.stem for folder in folders for path in folder.glob("*.onnx")})
    raise PermanentError(f"there is no model {name!r} on this worker; there are {', '.join(names) or 'none'}")


class OnnxModel:
    """A classifier: rows in, probabilities out.

    `probabilities()` takes (n, features) values and gives (n, classes) float32. The model's first input must take a
    matrix of float32, and one of its outputs must be a float matrix of the same number of rows.
    """

    def __init__(self, content: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # a child has one core; the worker has many
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime has a class for each of its status codes and no common base
            raise PermanentError(f"the model cannot be loaded: {error}") from error
        self._input = self._session.get_inputs()[0]
        self._output = next(
            (output.name for output in reversed(self._session.get_outputs()) if output.type == "tensor(float)"), None
        )
        if self._output is None:
            raise PermanentError("the model gives no probabilities: none of its outputs is a matrix of floats")

    @property
    def features(self) -> int | None:
        """How many values a row has; None where the model takes any number."""
        width: Any = self._input.shape[-1]
        return width if isinstance(width, int) else None

    def probabilities(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the model; PermanentError for rows that it does not take."""
        if self.features is not None and rows.shape[1] != self.features:
            raise PermanentError(f"rows have {rows.shape[1]} values; the model takes {self.features}")
        try:
            (found,) = self._session.run([self._output], {self._input.name: rows})
        except Exception as error:  # see __init__
            raise PermanentError(f"the model failed: {error}") from error
        result: NDArray[np.float32] = np.ascontiguousarray(found, np.float32)
        if result.ndim != 2 or len(result) != len(rows):
            raise PermanentError(f"the model gave {result.shape} values for {len(rows)} rows; a row each is expected")
        return result


def load_model(name: str, sha256: str = "") -> OnnxModel:
    """Return a model; PermanentError if it is not there, is another one than `sha256` says, or cannot be loaded."""
    path = find_model(name)
    return _loaded(path, path.stat().st_mtime_ns, sha256.lower())


@lru_cache(maxsize=_SESSIONS_KEPT)
def _loaded(path: Path, _modified_ns: int, sha256: str) -> OnnxModel:
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if sha256 and found != sha256:
        raise PermanentError(f"model {path.stem!r} of this worker has the SHA-256 {found}, not {sha256}")
    return OnnxModel(content)
