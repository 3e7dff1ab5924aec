"""Decoders of image files on one picture of 8,192 x 8,192 RGB pixels (201 MB): seconds, MiB, and who notices damage.

    python benchmarks/bench_image_decoders.py [--side 8192]

Each decoder reads each file in a process of its own, from the first row to the last one. `ours` is the PixelSource
that image.features uses. Then four bytes within smaller files of the same kinds are changed, 20 times, and it says how
often each decoder refused. The seconds include importing the decoder. Prints one JSON object.
"""

import argparse
import contextlib
import io
import json
import logging
import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

STEP = 256
CODECS: dict[str, dict[str, Any]] = {
    "tiff uncompressed": {"rowsperstrip": 64},
    "tiff deflate": {"compression": "deflate", "rowsperstrip": 64},
    "tiff lzw": {"compression": "lzw", "rowsperstrip": 64},
}


def picture(side: int) -> Any:
    """Slopes with some noise: deflate makes about half of it."""
    y, x = np.mgrid[0:side, 0:side].astype(np.uint16)
    noise = np.random.default_rng(1).integers(0, 8, (side, side), np.uint16)
    return np.stack([(x // 16 + noise) % 256, (y // 16 + noise) % 256, ((x + y) // 32) % 256], axis=-1).astype(np.uint8)


def write_files(folder: Path, side: int, only: str) -> list[str]:
    """Write the files whose name begins with `only`; return their names."""
    import imagecodecs
    import tifffile
    from PIL import Image

    pixels = picture(side)
    small = Image.fromarray(pixels[: side // 2, : side // 2])
    quarter = small.crop((0, 0, side // 4, side // 4))

    def tiff(options: dict[str, Any]) -> Callable[[Path], object]:
        return lambda path: tifffile.imwrite(path, pixels, photometric="rgb", metadata=None, **options)

    writers = {name: tiff(options) for name, options in CODECS.items()}
    writers["jpeg"] = lambda path: small.save(path, "jpeg", quality=90)
    writers["png"] = lambda path: small.save(path, "png", compress_level=1)
    writers["webp"] = lambda path: quarter.save(path, "webp", quality=80, method=0)
    writers["jpeg 2000"] = lambda path: path.write_bytes(imagecodecs.jpeg2k_encode(np.asarray(quarter)))
    chosen = {name: write for name, write in writers.items() if name.startswith(only)}
    for name, write in chosen.items():
        write(folder / name)
    return list(chosen)


def ours(path: Path) -> None:
    from regather.kinds.image.image_file import open_image

    with contextlib.closing(open_image(path)) as source:
        height = source.layout.height or 0
        for first in range(0, height, STEP):
            source.rows(first, min(STEP, height - first))


def whole_by_tifffile(path: Path) -> None:
    import tifffile

    logging.getLogger("tifffile").disabled = True
    tifffile.imread(path, maxworkers=1)


def by_pyvips(path: Path, fail_on: str = "warning") -> None:
    import pyvips

    image = pyvips.Image.new_from_file(str(path), access="sequential", fail_on=fail_on)
    region = pyvips.Region.new(image)
    for first in range(0, image.height, STEP):
        region.fetch(0, first, image.width, min(STEP, image.height - first))


def by_pillow(path: Path) -> None:
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    np.asarray(Image.open(path))


def whole_by_imagecodecs(path: Path) -> None:
    import imagecodecs

    imagecodecs.imread(path)


DECODERS: dict[str, Callable[[Path], None]] = {
    "ours": ours,
    "tifffile": whole_by_tifffile,
    "pyvips": by_pyvips,
    "Pillow": by_pillow,
    "imagecodecs": whole_by_imagecodecs,
}


def measured(decoder: str, path: Path, answer: Any) -> None:
    """Decode once in this process; send seconds of CPU and the MiB that the process grew to."""
    begun_s = time.process_time()
    try:
        DECODERS[decoder](path)
    except Exception as error:  # whatever a decoder says of a damaged file
        answer.send({"refused": type(error).__name__})
        return
    used_s = time.process_time() - begun_s
    status = Path("/proc/self/status").read_text()  # getrusage would tell the parent's peak
    peak_kib = int(status.split("VmHWM:")[1].split()[0])
    answer.send({"cpu_s": round(used_s, 2), "peak_mib": peak_kib // 1024})


def apart(decoder: str, path: Path) -> dict[str, Any]:
    """The measurement from a fresh process."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=measured, args=(decoder, path, there))
    process.start()
    there.close()
    try:
        found: dict[str, Any] = here.recv()
    except EOFError:
        found = {"crashed": process.exitcode}
    process.join()
    return found


def refusals(decoder: str, body: bytes, folder: Path, tries: int) -> int:
    """How many of so many damaged copies the decoder refuses; in this process, as the files are small."""
    choice, path = random.Random(5), folder / "damaged"
    count = 0
    for _ in range(tries):
        damaged = bytearray(body)
        at = choice.randrange(len(body) // 4, 3 * len(body) // 4)
        damaged[at : at + 4] = bytes(choice.randrange(256) for _ in range(4))
        path.write_bytes(damaged)
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                DECODERS[decoder](path)
        except Exception:
            count += 1
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=8192)
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--only", default="", help="files whose name begins so")
    arguments = parser.parse_args()
    report: dict[str, Any] = {"side": arguments.side}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_files(folder, arguments.side, arguments.only)
        for file in files:
            chosen = [d for d in DECODERS if d != "tifffile" or file.startswith("tiff")]
            report[file] = {"file_mib": (folder / file).stat().st_size >> 20}
            report[file] |= {decoder: apart(decoder, folder / file) for decoder in chosen}
        write_files(folder, 256, arguments.only)
        for file in files:
            body = (folder / file).read_bytes()
            for decoder in report[file].keys() - {"file_mib"}:
                refused = refusals(decoder, body, folder, arguments.tries)
                report[file][decoder]["damage_refused"] = f"{refused} of {arguments.tries}"
    print(json.dumps(report))


if __name__ == "__main__":
    main()
