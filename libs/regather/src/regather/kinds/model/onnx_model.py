"""ONNX models of `model.predict`: found by name, checked by digest, loaded once per child.

onnxruntime's messages name files of the server, so they never reach a user. Errors here say what is wrong with the
model, and what to do.
"""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regather.core.errors import PermanentError
from regather.kinds.model.graph import DataRange, Graph, read_graph
from regather.kinds.model.signature import TEXT, Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODELS_VARIABLE = "REGATHER_MODELS_DIR"
"""Folder of models, NAME.onnx, on the workers; these have priority over the built-in ones."""

_BUILT_IN = Path(__file__).parent / "models"
_SESSIONS_KEPT = 4
_BLOCK_BYTES = 1024 * 1024
_LOG_NOTHING = 4
_DTYPES = {
    "float": "float32", "double": "float64", "float16": "float16", "bool": "bool", "string": TEXT,
    "int8": "int8", "int16": "int16", "int32": "int32", "int64": "int64",
    "uint8": "uint8", "uint16": "uint16", "uint32": "uint32", "uint64": "uint64",
}  # fmt: skip
_TENSOR = re.compile(r"tensor\((\w+)\)")
_ZIPMAP = re.compile(r"seq\(map\((string|int64),tensor\((\w+)\)\)\)")
_ASKED_BYTES = re.compile(r"Failed to allocate memory for requested buffer of size (\d+)")
_ADDRESSABLE_BYTES = 1 << 47
_FAILED_NODE = re.compile(r"while running (\w+) node")


class ModelFailed(PermanentError):
    """A run of the model failed; it always fails with the same rows."""


def find_model(name: str) -> Path:
    """Return the file of a model; PermanentError lists the existing models."""
    folders = [Path(folder) for folder in (os.environ.get(MODELS_VARIABLE), _BUILT_IN) if folder]
    for folder in folders:
        path = folder / f"{name}.onnx"
        if path.is_file():
            return path
    names = sorted({path.stem for folder in folders for path in folder.glob("*.onnx")})
    raise PermanentError(f"there is no model {name!r} on this worker; available are {', '.join(names) or 'none'}")


class OnnxModel:
    """A loaded model: `inputs` and `outputs` are its tensors, `labels` the names of its classes by output.

    `batch` is the number of rows that each run must have, None if any number is allowed.
    """

    def __init__(self, session: Any, graph: Graph) -> None:
        self._session = session
        self.inputs = tuple(_input(found) for found in session.get_inputs())
        self.outputs = tuple(_output(found) for found in session.get_outputs())
        self.labels = graph.labels
        self.random = graph.random
        batches = {tensor.batch for tensor in self.inputs} - {None}
        if not self.inputs or len(batches) > 1:
            raise PermanentError("the model has no input of rows, or inputs of different numbers of rows")
        self.batch = batches.pop() if batches else None
        self.examined: dict[object, object] = {}
        """Results of running it, for `examination.py`."""

    def run(self, outputs: Sequence[str], inputs: "Mapping[str, NDArray[Any]]") -> list[Any]:
        """Run the model once; ModelFailed without onnxruntime's message, MemoryError if there is too little memory."""
        try:
            found: list[Any] = self._session.run(list(outputs), dict(inputs))
        except Exception as error:  # onnxruntime has a class for each of its status codes, and no common base class
            raise _explained(error) from error
        return found


def load_model(name: str, sha256: str = "") -> OnnxModel:
    """Return a model; PermanentError if it does not exist, has another digest than `sha256`, or cannot be loaded.

    If a model's weights are in other files, the digest is that of its file followed by theirs, in order of their names:
    `cat NAME.onnx NAME.onnx.data | sha256sum`.
    """
    path = find_model(name)
    try:
        graph = _graph(path, _stamp(path))
        files = [path, *_data_files(path, graph)]
        return _loaded(path, tuple(_stamp(file) for file in files), tuple(files), sha256.lower())
    except OSError as error:
        raise PermanentError(f"the files of model {name!r} cannot be read: {error.strerror}") from error


_Stamp = tuple[int, int]


def _stamp(path: Path) -> _Stamp:
    about = path.stat()
    return about.st_mtime_ns, about.st_size


@lru_cache(maxsize=_SESSIONS_KEPT)
def _graph(path: Path, _changed: _Stamp) -> Graph:
    return read_graph(path.read_bytes())


@lru_cache(maxsize=_SESSIONS_KEPT)
def _loaded(path: Path, _changed: tuple[_Stamp, ...], files: tuple[Path, ...], sha256: str) -> OnnxModel:
    content = path.read_bytes()
    found = _digest(content, files[1:])
    if sha256 and found != sha256:
        raise PermanentError(f"model {path.stem!r} of this worker has the SHA-256 {found}, not {sha256}")
    graph = read_graph(content)
    if graph.custom:
        raise PermanentError(
            f"model {path.stem!r} has operators that no worker has: {', '.join(graph.custom[:5])}; export it without them"
        )
    return OnnxModel(_session(path if len(files) > 1 else content, path.stem, graph), graph)


def _digest(content: bytes, data: Sequence[Path]) -> str:
    digest = hashlib.sha256(content)
    for path in data:
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()


def _data_files(path: Path, graph: Graph) -> list[Path]:
    """Return the other files of a model, by name; PermanentError if one is not beside it, or is too short."""
    files = {location: _data_file(path, location) for location in sorted({part.location for part in graph.data})}
    for part in graph.data:
        _check_range(part, files[part.location].stat().st_size)
    return list(files.values())


def _data_file(path: Path, location: str) -> Path:
    folder = path.parent.resolve()
    try:
        found = (folder / location).resolve()
        inside = found.is_relative_to(folder) and not Path(location).is_absolute()
        there = inside and found.is_file()
    except (ValueError, OSError):  # the name has a NUL or is too long, or a loop of links
        inside = there = False
    if not inside:
        raise PermanentError(
            f"model {path.stem!r} has weights outside of its folder, in {Path(location).name!r}: copy them beside it"
        )
    if not there:
        raise PermanentError(
            f"model {path.stem!r} has weights in {location!r}, which is not beside it; copy it there, too"
        )
    return found


def _check_range(part: DataRange, size_bytes: int) -> None:
    end = part.offset + (part.size_bytes or 0)
    if end > size_bytes:
        raise PermanentError(
            f"the model's file {part.location!r} has {size_bytes} bytes; {end} are needed: it is cut off, or the wrong file"
        )


def _session(model: Path | bytes, name: str, graph: Graph) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # a child has one core; the worker has many
    options.log_severity_level = _LOG_NOTHING
    try:
        content = model if isinstance(model, bytes) else str(model)
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # see OnnxModel.run
        text = str(error)
        if _no_memory(text):
            raise MemoryError(f"there is not enough memory to load the model {name!r}") from error
        if "opset" in text or "IR version" in text or "NOT_IMPLEMENTED" in text:
            why = (
                f"it needs ONNX opset {graph.opset} and IR version {graph.ir_version}, which onnxruntime "
                f"{onnxruntime.__version__} of this worker does not run in full; export it for another opset"
            )
        else:
            why = (
                "its file is damaged, or its parts do not fit together; check it with onnx.checker and export it again"
            )
        raise PermanentError(f"the model {name!r} cannot be loaded: {why}") from error


def _no_memory(text: str) -> bool:
    return "bad_alloc" in text or "Failed to allocate memory" in text


def _explained(error: Exception) -> Exception:
    text = str(error)
    asked = _ASKED_BYTES.search(text)
    if asked is not None and int(asked[1]) >= _ADDRESSABLE_BYTES:
        return ModelFailed(f"the model asks for {asked[1]} bytes at once, which no machine has")
    if _no_memory(text):
        return MemoryError("there is not enough memory to run the model on so many rows at once (option batch_rows)")
    node = _FAILED_NODE.search(text)
    return ModelFailed(f"the model failed{f' in its operator {node[1]}' if node else ''}")


def _input(found: Any) -> Tensor:
    match = _TENSOR.fullmatch(found.type)
    if match is None or match[1] not in _DTYPES:
        raise PermanentError(
            f"the model's input {found.name!r} is {found.type}; it must be a tensor of numbers or texts"
        )
    if not found.shape:
        raise PermanentError(f"the model's input {found.name!r} has no rows: its shape is () or unknown")
    batch, *shape = (_length(side) for side in found.shape)
    return Tensor(found.name, _DTYPES[match[1]], batch, tuple(shape))


def _output(found: Any) -> Tensor:
    zipmap = _ZIPMAP.fullmatch(found.type)
    if zipmap is not None and zipmap[2] in _DTYPES:
        return Tensor(found.name, _DTYPES[zipmap[2]], None, (None,), TEXT if zipmap[1] == "string" else "int64")
    match = _TENSOR.fullmatch(found.type)
    dtype = _DTYPES.get(match[1], "") if match else ""
    batch, *shape = [_length(side) for side in found.shape] or [None, None]
    return Tensor(found.name, dtype, batch, tuple(shape))


def _length(side: object) -> int | None:
    return side if isinstance(side, int) and side > 0 else None
