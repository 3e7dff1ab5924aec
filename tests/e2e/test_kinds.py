"""Every kind over the whole chain equals its independent computation at random shard sizes (KINDS_ROUNDS of them)."""

import csv
import io
import json
import os
import random
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from reference import bytes_digest, frames, image_features, image_map, model_predict, table_etl
from reference.dicom_files import NOISE, dicom

from regather.kinds.model.onnx_model import find_model
from regather_cli.client import Client, Submission

pytestmark = [
    pytest.mark.long,
    pytest.mark.kafka,
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(600),
]

ROUNDS = int(os.environ.get("KINDS_ROUNDS", "3"))
DRAW = random.Random(os.environ.get("KINDS_SEED", "1"))
RANDOM = np.random.default_rng(1)
PIXELS = RANDOM.integers(0, 256, (300, 200, 3), np.uint8)
NUMBERS = RANDOM.integers(0, 17, (20_000, 64)).astype(np.uint8)
VIDEO = RANDOM.integers(0, 256, (60, 40, 50), np.uint8)
CASTS = {"cast": "id:str, price:float, qty:int", "derive": "total = price * qty"}
GROUPS = CASTS | {
    "filter": "qty > 0",
    "group_by": "region",
    "aggregate": "revenue = sum(total); orders = count(); first_id = first(id); last_id = last(id); "
    "least = min(price); greatest = max(price); mean_price = mean(price)",
}
ROWS = CASTS | {"filter": "total > 500", "select": "id, region, total", "output": "csv"}


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def sales(rows: int) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(["id", "region", "price", "qty", "note"])
    for number in range(rows):
        price = DRAW.choice([repr(DRAW.random() * 1e3), repr(DRAW.random() * 1e-9), "1e17", "-1e17", ""])
        region, note = DRAW.choice(["EU", "Asia, Pacific", "a\nb"]), DRAW.choice(["", 'says "hi"', "é\r\n"])
        writer.writerow([number, region, price, DRAW.choice(["0", "1", "7", ""]), note])
    return out.getvalue().encode()


SALES = sales(5000)
TABLE = table_etl.read_table(SALES.decode())
BYTES = RANDOM.integers(0, 256, 300_000).astype(np.uint8).tobytes()
PROBABILITIES = model_predict.probabilities(NUMBERS, find_model("digits").read_bytes())


def as_json(result: bytes) -> Any:
    return json.loads(result)


def near(result: bytes) -> bool:
    return bool(np.abs(np.load(io.BytesIO(result)) - PROBABILITIES).max() <= 1e-6)


def tiff_pixels(result: bytes) -> Any:
    return tifffile.imread(io.BytesIO(result)).tolist()


def npy_pixels(result: bytes) -> Any:
    return np.load(io.BytesIO(result)).tolist()


IMAGE = image_features.image_features(PIXELS)
KINDS = [
    ("bytes.digest", {}, BYTES, as_json, bytes_digest.bytes_digest(BYTES)),
    ("image.features", {"width": "200"}, PIXELS.tobytes(), as_json, IMAGE),
    ("image.features", {}, png(PIXELS), as_json, IMAGE),
    ("image.map", {"operator": "median"}, npy(PIXELS), npy_pixels, image_map.median(PIXELS, 3, "reflect").tolist()),
    ("image.map", {"operator": "invert", "width": "200"}, PIXELS.tobytes(), npy_pixels, (255 - PIXELS).tolist()),
    (
        "image.map",
        {"operator": "threshold", "value": "9000", "output": "tiff"},
        dicom(NOISE),
        tiff_pixels,
        np.where(NOISE > 9000, 255, 0).tolist(),
    ),
    ("table.etl", GROUPS, SALES, as_json, {"groups": table_etl.revenue_by_region(TABLE)}),
    ("table.etl", ROWS, SALES, bytes.decode, table_etl.large_orders(TABLE)),
    ("model.predict", {"output": "npy"}, npy(NUMBERS), near, True),
    ("model.predict", {"output": "npy"}, npy(np.asfortranarray(NUMBERS.astype(">f4"))), near, True),
    ("model.predict", {"output": "npy"}, npy(NUMBERS.astype(">i2")), near, True),
    ("model.predict", {}, npy(NUMBERS[:0]), bytes, b""),
    ("frames.track", {}, npy(VIDEO[:0]), bytes, b""),
    ("frames.motion", {}, npy(np.asfortranarray(VIDEO)), bytes, frames.lines(frames.motion(VIDEO))),
    ("frames.motion", {}, npy(VIDEO), bytes, frames.lines(frames.motion(VIDEO))),
    ("frames.track", {}, npy(VIDEO), bytes, frames.lines(frames.track(VIDEO))),
]


@pytest.mark.parametrize(("kind", "options", "body", "read", "want"), KINDS, ids=lambda value: str(value)[:16])
async def test_a_kind_over_the_chain_equals_its_reference(
    client: Client, kind: str, options: dict[str, str], body: bytes, read: Any, want: Any
) -> None:
    for _ in range(ROUNDS):
        shard_bytes = int(1024 * 2 ** (DRAW.random() * 9))
        document = await client.submit(Submission(kind, options, shard_size_bytes=shard_bytes), body)
        document = await client.wait(document["job_id"], timeout_s=60)
        assert document["state"] == "succeeded", document
        assert read(await client.result(document["job_id"])) == want, f"at shards of {shard_bytes} bytes"
