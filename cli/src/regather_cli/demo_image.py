"""The demo's input: 8,192 x 8,192 RGB pixels, 201 MB, the same bytes on every machine."""

from pathlib import Path

import numpy as np

WIDTH, HEIGHT, CHANNELS = 8192, 8192, 3
_SEED = 20_260_101
_BAND_ROWS = 256
SIZE_BYTES = WIDTH * HEIGHT * CHANNELS
KIND = "image.features"
OPTIONS = {"width": str(WIDTH), "height": str(HEIGHT), "channels": str(CHANNELS)}
SHARD_BYTES = 4 * 1024 * 1024


def write_demo_image(path: Path) -> None:
    """Write the raw image: rows of interleaved uint8 RGB, no header. Takes about a second."""
    with path.open("wb") as file:
        for first_row in range(0, HEIGHT, _BAND_ROWS):
            file.write(_band(first_row).tobytes())


def _band(first_row: int) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """Rows of a slow gradient with texture and noise on it; integer arithmetic only, so every machine agrees."""
    rows = np.arange(first_row, first_row + _BAND_ROWS, dtype=np.uint16)[:, None]
    columns = np.arange(WIDTH, dtype=np.uint16)[None, :]
    gradient = (rows // 64 + columns // 64).astype(np.uint8)
    texture = ((rows ^ columns) & 31).astype(np.uint8)
    # PCG64's raw words are the same in every version of numpy; its distributions need not be.
    words = np.random.PCG64([_SEED, first_row]).random_raw(_BAND_ROWS * WIDTH * CHANNELS // 8)
    noise = words.astype("<u8").view(np.uint8).reshape(_BAND_ROWS, WIDTH, CHANNELS) & 15
    band: np.ndarray[tuple[int, int, int], np.dtype[np.uint8]] = (gradient // 2 + texture)[:, :, None] + noise
    return band
