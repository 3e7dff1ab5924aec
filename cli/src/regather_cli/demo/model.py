"""The demo's predictions: 1,000,000 rows of 64 values through the built-in classifier of handwritten digits."""

import io
from pathlib import Path

import numpy as np

from regather.kinds.model.onnx_model import find_model
from regather_cli.client import Submission
from regather_cli.demo.reference import independent_answer
from regather_cli.demo.verified import Check, VerifiedJob, bytes_digest, shown_seconds

ROWS, FEATURES = 1_000_000, 64
SHARD_BYTES = 4 * 1024 * 1024
TOLERANCE = 1e-6
_SEED = 20_260_103


async def jobs(folder: Path) -> list[VerifiedJob]:
    """Return the one job. Its digest is that of the likeliest classes, if every probability is right to 1e-6."""
    path, out = folder / "rows.npy", folder / "probabilities.npy"
    words = np.random.PCG64(_SEED).random_raw(ROWS * FEATURES // 8)
    np.save(path, (words.astype("<u8").view(np.uint8) % 17).reshape(ROWS, FEATURES))
    answer = await independent_answer("model_predict", path, str(find_model("digits")), str(out), keep=False)
    wanted = np.load(out)

    def digest(result: bytes) -> str:
        found = np.load(io.BytesIO(result))
        if found.shape != wanted.shape or np.abs(found - wanted).max() > TOLERANCE:
            return "more than 1e-6 off"
        return _classes_digest(wanted)

    note = f"{ROWS:,} rows of {FEATURES} values; {shown_seconds(answer)}"
    submission = Submission("model.predict", {"output": "npy"}, SHARD_BYTES)
    return [VerifiedJob("model", submission, path, Check(_classes_digest(wanted), digest), note, answer.seconds)]


def _classes_digest(probabilities: "np.ndarray[tuple[int, int], np.dtype[np.float32]]") -> str:
    return bytes_digest(probabilities.argmax(axis=1).astype(np.uint8).tobytes())
