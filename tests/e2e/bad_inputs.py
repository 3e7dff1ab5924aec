"""The table of bad inputs: what is sent, what is answered, what remains. Used by test_bad_input.py.

A case is answered at once with a status and a code; or the body is good enough to become a job, which then fails for good
and says why (`fails`). Nothing else remains: no open job, no spool file, no process.
"""

import base64
import gzip
import hashlib
import io
import json
import struct
import sys
import zlib
from typing import Any, NamedTuple

import image_samples
import numpy as np
import tifffile
from PIL import Image

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 1024 * 1024
RANDOM = np.random.default_rng(1)
RGB = RANDOM.integers(0, 256, (40, 30, 3), np.uint8)


class Case(NamedTuple):
    """`query` follows `/v1/jobs?`, unless `path` is given; `code` is the problem's code."""

    name: str
    query: str
    body: bytes
    status: int = 422
    code: str = ""
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed
    fails: str = ""
    path: str = ""


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npy_of_header(text: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + data


def image(kind: str, pixels: np.ndarray = RGB) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def tiff(pixels: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def png_of(width: int, height: int, data: bytes) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def form(*parts: bytes, end: bytes = b"--b--\r\n") -> bytes:
    return b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + end


FILE_PART = b'Content-Disposition: form-data; name="f"; filename="x"\r\n\r\nabc'
FORM = {"content-type": "multipart/form-data; boundary=b"}
CSV = {"content-type": "text/csv"}
NDJSON = {"content-type": "application/x-ndjson"}
JSON = {"content-type": "application/json"}
ZEROS = bytes(40 * MIB)
GOOD_CSV = b"a,b\n1,2\n3,4\n"
LOOP = bytearray(tiff(RGB, photometric="rgb"))
LOOP[-4:] = b"\xff" * 4
DIGEST, IMAGE, TABLE, MODEL, MOTION = (
    f"kind={name}" for name in ("bytes.digest", "image.features", "table.etl", "model.predict", "frames.motion")
)
RAW = f"{IMAGE}&option.format=raw"
WRONG_DIGEST = f"sha-256=:{base64.b64encode(hashlib.sha256(b'other').digest()).decode()}:"

REQUESTS = [
    Case("empty body", DIGEST, b"", code="empty-body"),
    Case("no kind", "", b"x", code="invalid-parameter"),
    Case("unknown kind", "kind=nope", b"x", code="unknown-kind"),
    Case("unknown option", f"{DIGEST}&option.colour=red", b"x", code="bad-option"),
    Case("unknown parameter", f"{DIGEST}&colour=red", b"x", code="unknown-parameter"),
    Case("option given twice", f"{IMAGE}&option.width=1&option.width=2", b"x", code="bad-option"),
    Case("shard_size 0", f"{DIGEST}&shard_size=0", b"x", code="bad-shard-size"),
    Case("shard_size 1023", f"{DIGEST}&shard_size=1023", b"x", code="bad-shard-size"),
    Case("shard_size 10485761", f"{DIGEST}&shard_size=10485761", b"x", code="bad-shard-size"),
    Case("shard_size -1", f"{DIGEST}&shard_size=-1", b"x", code="bad-shard-size"),
    Case("shard_size abc", f"{DIGEST}&shard_size=abc", b"x", code="invalid-parameter"),
    Case("shard_size and shards", f"{DIGEST}&shard_size=2048&shards=2", b"x" * 99, code="bad-split"),
    Case("shards 0", f"{DIGEST}&shards=0", b"x", code="invalid-parameter"),
    Case("shards above the bytes", f"{DIGEST}&shards=9", b"x" * 8, code="bad-split"),
    Case("timeout_s too short", f"{DIGEST}&timeout_s=0.01", b"x", code="invalid-parameter"),
    Case("deadline_s too long", f"{DIGEST}&deadline_s=99999", b"x", code="bad-request"),
    Case("on_error unknown", f"{DIGEST}&on_error=ignore", b"x", code="invalid-parameter"),
    Case("label too long", f"{DIGEST}&label={'x' * 201}", b"x", code="invalid-parameter"),
    Case("digest differs", DIGEST, b"x", 400, "content-digest-differs", {"content-digest": WRONG_DIGEST}),
    Case("digest unreadable", DIGEST, b"x", 400, "content-digest-invalid", {"content-digest": "sha-256=:?:"}),
    Case("key with a space", DIGEST, b"x", 400, "idempotency-key-invalid", {"idempotency-key": "a b"}),
    Case("unknown encoding", DIGEST, b"x", 415, "content-encoding", {"content-encoding": "br"}),
    Case("no gzip", DIGEST, b"plain", 422, "inflate-failed", {"content-encoding": "gzip"}),
    Case("gzip cut off", DIGEST, gzip.compress(b"x" * 99)[:-1], 422, "inflate-failed", {"content-encoding": "gzip"}),
    Case("gzip with a tail", DIGEST, gzip.compress(b"x") + b"?", 422, "inflate-failed", {"content-encoding": "gzip"}),
    Case("gzip bomb", DIGEST, gzip.compress(ZEROS), 422, "inflates-too-much", {"content-encoding": "gzip"}),
    Case("no zstd", DIGEST, b"plain", 422, "inflate-failed", {"content-encoding": "zstd"}),
    Case("zstd cut off", DIGEST, zstd.compress(b"x" * 99)[:-1], 422, "inflate-failed", {"content-encoding": "zstd"}),
    Case("zstd bomb", DIGEST, zstd.compress(ZEROS), 422, "inflates-too-much", {"content-encoding": "zstd"}),
    Case("gzip of nothing", DIGEST, gzip.compress(b""), 422, "empty-body", {"content-encoding": "gzip"}),
    Case(
        "form without a boundary",
        DIGEST,
        b"x",
        code="multipart-invalid",
        headers={"content-type": "multipart/form-data"},
    ),
    Case("form without a file", DIGEST, form(), code="multipart-invalid", headers=FORM),
    Case("form with two files", DIGEST, form(FILE_PART, FILE_PART), code="multipart-invalid", headers=FORM),
    Case("form cut off", DIGEST, form(FILE_PART, end=b""), code="multipart-invalid", headers=FORM),
    Case("form of garbage", DIGEST, b"\0\1\2\3" * 9, code="multipart-invalid", headers=FORM),
]

JOIN = "kind=table.etl&option.join=a=k"
SIDE_PART, ROWS_PART = (
    b'Content-Disposition: form-data; name="%b"; filename="x"\r\n\r\n%b' % part
    for part in ((b"side", b"k,v\n1,2\n"), (b"f", GOOD_CSV))
)
SIDE_BOMB = gzip.compress(b"k,v\n" + b"1,2\n" * (3 * MIB))
SIDES = [
    Case("side file behind the body", JOIN, form(ROWS_PART, SIDE_PART), code="multipart-invalid", headers=FORM),
    Case("two side files", JOIN, form(SIDE_PART, SIDE_PART, ROWS_PART), code="multipart-invalid", headers=FORM),
    Case("side file alone", JOIN, form(SIDE_PART), code="multipart-invalid", headers=FORM),
    Case("side file for a kind without", DIGEST, form(SIDE_PART, ROWS_PART), code="multipart-invalid", headers=FORM),
    Case("side file empty", JOIN, form(SIDE_PART[:-8], ROWS_PART), code="empty-body", headers=FORM),
    Case("side file of 9 MiB", JOIN, form(SIDE_PART + bytes(9 * MIB), ROWS_PART), code="side-too-large", headers=FORM),
    Case("side file bomb", JOIN, form(SIDE_PART[:-8] + SIDE_BOMB, ROWS_PART), 422, "inflates-too-much", FORM),
    Case("side row too short", JOIN, form(SIDE_PART + b"3\n", ROWS_PART), code="side-invalid", headers=FORM),
    Case("side file not there", JOIN, GOOD_CSV, code="side-missing"),
    Case("side file not joined", "kind=table.etl", form(SIDE_PART, ROWS_PART), code="bad-option", headers=FORM),
    Case("side key of another type", JOIN, form(SIDE_PART + b"x,1\n", ROWS_PART), code="bad-option", headers=FORM),
]

IMAGES = [
    Case("raw without width", RAW, b"x" * 9, code="bad-request"),
    Case("raw of unknown width", IMAGE, b"x" * 9, code="bad-request"),
    Case("width 0", f"{RAW}&option.width=0", b"x", code="bad-option"),
    Case("width abc", f"{RAW}&option.width=abc", b"x", code="bad-option"),
    Case("channels 17", f"{RAW}&option.width=1&option.channels=17", b"x", code="bad-option"),
    Case("unknown dtype", f"{RAW}&option.width=1&option.dtype=complex64", b"x", code="bad-option"),
    Case("half a row", f"{RAW}&option.width=10", b"x" * 45, code="bad-input"),
    Case("too few rows", f"{RAW}&option.width=10&option.height=3", b"x" * 60, code="bad-input"),
    Case("a row above any shard", f"{RAW}&option.width=9000000", b"x" * 99, code="bad-input"),
    Case("npy cut off in its header", IMAGE, npy(RGB)[:40], code="bad-input"),
    Case("npy cut off in its rows", IMAGE, npy(RGB)[:-100], code="bad-input"),
    Case("npy with a tail", IMAGE, npy(RGB) + b"xx", code="bad-input"),
    Case(
        "npy of objects",
        IMAGE,
        npy_of_header("{'descr': '|O', 'fortran_order': False, 'shape': (2, 2)}\n"),
        code="bad-input",
    ),
    Case("npy in Fortran order that is cut off", IMAGE, npy(np.asfortranarray(RGB[:, :, 0]))[:-3], code="bad-input"),
    Case("npy in Fortran order with more behind", IMAGE, npy(np.asfortranarray(RGB)) + b"more", code="bad-input"),
    Case("npy in Fortran order of complex", IMAGE, npy(np.asfortranarray(RGB.astype(np.complex64))), code="bad-input"),
    Case("npy big-endian that is cut off", IMAGE, npy(RGB[:, :, 0].astype(">u2"))[:-1], code="bad-input"),
    Case("npy of structures", IMAGE, npy(np.zeros((4, 4), [("a", "u1"), ("b", "u1")])), code="bad-input"),
    Case("npz", IMAGE, b"PK\x03\x04" + bytes(200), code="bad-input"),
    Case("pickle", "kind=model.predict&option.features=4", b"\x80\x04\x95" + bytes(200), code="bad-input"),
    Case("npy of one dimension", IMAGE, npy(RGB.ravel()), code="bad-input"),
    Case("npy without rows", IMAGE, npy(RGB[:0]), code="bad-input"),
    Case("npy of doubles", IMAGE, npy(RGB.astype(np.float64)), code="bad-input"),
    Case("npy of seventeen channels", IMAGE, npy(np.zeros((4, 4, 17), np.uint8)), code="bad-input"),
    Case("npy header that is code", IMAGE, npy_of_header("__import__('os').abort()\n"), code="bad-input"),
    Case("npy header of 60 KiB", IMAGE, npy_of_header(" " * 60_000), code="bad-input"),
    Case("npy header of brackets", IMAGE, npy_of_header("(" * 9_000), code="bad-input"),
    Case("npy that denies its options", f"{IMAGE}&option.width=31", npy(RGB), code="bad-input"),
    Case("png cut off", IMAGE, image("png")[:-500], code="image-invalid"),
    Case("png of a header", IMAGE, image("png")[:33], code="image-invalid"),
    Case("png damaged", IMAGE, image("png")[:60] + bytes(99) + image("png")[159:], code="image-invalid"),
    Case("png of garbage", IMAGE, b"\x89PNG\r\n\x1a\n" + bytes(range(200)), code="image-invalid"),
    Case("png without pixels", IMAGE, png_of(0, 0, b""), code="image-invalid"),
    Case("png bomb", IMAGE, png_of(20_000, 20_000, zlib.compress(bytes(20_001) * 99, 9)), code="inflates-too-much"),
    Case("png with a false width", f"{IMAGE}&option.width=31", image("png"), code="bad-input"),
    Case("tiff cut off", IMAGE, tiff(RGB, photometric="rgb")[:-1000], code="image-invalid"),
    Case("tiff of a header", IMAGE, b"II*\0\x08\0\0\0", code="image-invalid"),
    Case("tiff of garbage", IMAGE, b"MM\0*" + bytes(range(250)), code="image-invalid"),
    Case("tiff of doubles", IMAGE, tiff(RGB.astype(np.float64), photometric="rgb"), code="bad-input"),
    Case("tiff of an unknown codec", IMAGE, image_samples.grey_tiff(t259=32909), code="image-unsupported"),
    Case("tiff without that level", f"{IMAGE}&option.level=1", tiff(RGB, photometric="rgb"), code="image-invalid"),
    Case("tiff without that page", f"{IMAGE}&option.page=3", tiff(RGB, photometric="rgb"), code="image-invalid"),
    Case("jpeg cut off", IMAGE, image("jpeg")[:-500], code="image-invalid"),
    Case("webp cut off", IMAGE, image("webp")[:-100], code="image-invalid"),
    Case("gif", IMAGE, image("gif"), code="bad-input"),
    Case("gif with a width", f"{IMAGE}&option.width=1&option.channels=1", image("gif"), code="bad-input"),
    Case("zip", f"{IMAGE}&option.width=1&option.channels=1", b"PK\x03\x04" + bytes(300), code="bad-input"),
]

TABLES = [
    Case("csv of nothing", TABLE, b"", code="empty-body", headers=CSV),
    Case("csv of a byte order mark", TABLE, b"\xef\xbb\xbf", code="empty-body", headers=CSV),
    Case("csv with an open quote", TABLE, b'a\n"1\n2\n', code="quote-open", headers=CSV),
    Case("csv in UTF-16 cut off", TABLE, "a,b\n1,2\n".encode("utf-16")[:-1], code="not-utf8", headers=CSV),
    Case("csv in Latin-1", TABLE, "a\nMüller\n".encode("latin-1"), code="not-utf8", headers=CSV),
    Case("csv with a huge header", TABLE, b"x" * 70_000 + b"\n1\n", code="header-too-large", headers=CSV),
    Case("csv without the column", f"{TABLE}&option.select=c", GOOD_CSV, code="no-column", headers=CSV),
    Case("csv row above any shard", TABLE, b"a\n" + b"x" * (11 * MIB), code="row-too-large", headers=CSV),
    Case(
        "csv row of another width", TABLE, b"a,b\n1,2\n3\n", headers=CSV, fails="row 1: Expected Number of Columns: 2"
    ),
    Case("csv field with a tail", TABLE, b'a\n"1"x\n', headers=CSV, code="csv-invalid"),
    Case(
        "csv value that is no number",
        f"{TABLE}&option.cast=a:int",
        b"a\n1\nx\n",
        headers=CSV,
        fails="row 1: column \"a\" is 'x'",
    ),
    Case(
        "csv product above 64 bits",
        f"{TABLE}&option.cast=a:int&option.derive=b=a*9223372036854775807",
        b"a\n3\n",
        headers=CSV,
        fails="row 0: Out of Range Error: Overflow",
    ),
    Case("gzip csv cut off", TABLE, gzip.compress(GOOD_CSV)[:-2], code="inflate-failed"),
    Case("gzip csv bomb", TABLE, gzip.compress(b"a\n" + b"0\n" * 20 * MIB), code="inflates-too-much"),
    Case("filter that is no expression", f"{TABLE}&option.filter=a%20%2B", GOOD_CSV, code="bad-option"),
    Case("filter with an attribute", f"{TABLE}&option.filter=a.__class__", GOOD_CSV, code="bad-option"),
    Case("filter with a call", f"{TABLE}&option.filter=eval(a)", GOOD_CSV, code="bad-option"),
    Case("filter with a power", f"{TABLE}&option.filter=9**9**9", GOOD_CSV, code="bad-option"),
    Case("filter of brackets", f"{TABLE}&option.filter={'(' * 900}", GOOD_CSV, code="bad-option"),
    Case("filter too long", f"{TABLE}&option.filter={'a%2B' * 400}a", GOOD_CSV, code="bad-option"),
    Case("unknown aggregate", f"{TABLE}&option.aggregate=n=nope(a)", GOOD_CSV, code="bad-option"),
    Case("groups without aggregate", f"{TABLE}&option.group_by=a", GOOD_CSV, code="bad-option"),
    Case("unknown cast", f"{TABLE}&option.cast=a:datum", GOOD_CSV, code="bad-option"),
    Case("long delimiter", f"{TABLE}&option.delimiter=ab", GOOD_CSV, code="bad-request"),
    Case(
        "shards that rows cannot give",
        f"{TABLE}&shards=5",
        b"a\n" + b"x" * 999 + b"\ny\n",
        code="bad-split",
        headers=CSV,
    ),
    Case("ndjson line that is none", TABLE, b'{"a": 1}\n{"a" 2}\n', headers=NDJSON, fails="row 1: Malformed JSON"),
    Case("ndjson of a list", TABLE, b"[1]\n", headers=NDJSON, code="json-invalid"),
    Case("ndjson with a word", TABLE, b'{"a": nope}\n', headers=NDJSON, code="json-invalid"),
    Case(
        "ndjson depth bomb",
        TABLE,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"\n",
        headers=NDJSON,
        code="json-invalid",
    ),
    Case("json array not closed", TABLE, b'[{"a": 1}', code="json-invalid"),
    Case("json array with a tail", TABLE, b'[{"a": 1}] x', code="json-invalid"),
    Case("json array depth bomb", TABLE, b"[" * 100_000, code="json-invalid"),
    Case("json array of numbers", TABLE, b"[1, 2]", code="json-invalid"),
    Case("parquet of its magic", TABLE, b"PAR1", code="parquet-invalid"),
    Case("parquet of garbage", TABLE, b"PAR1" + bytes(range(256)) * 9 + b"PAR1", code="parquet-invalid"),
    Case("csv that is said to be parquet", f"{TABLE}&option.format=parquet", GOOD_CSV, code="parquet-invalid"),
    Case("json object as an array", f"{TABLE}&option.format=json", b'{"a": 1}', code="json-invalid"),
]

NUMBERS = [
    Case(
        "model of another digest",
        f"{MODEL}&option.model_sha256={'0' * 64}",
        npy(np.zeros((2, 64), np.uint8)),
        fails="has the SHA-256",
    ),
    Case(
        "model that is not there",
        f"{MODEL}&option.model=other",
        npy(np.zeros((2, 64), np.uint8)),
        fails="no model 'other'",
    ),
    Case(
        "model outside of its folder", f"{MODEL}&option.model=../x", npy(np.zeros((2, 64), np.uint8)), code="bad-option"
    ),
    Case("digest that is none", f"{MODEL}&option.model_sha256=abc", b"x", code="bad-option"),
    Case("rows of another width", MODEL, npy(np.zeros((2, 63), np.uint8)), fails="rows have 63 values"),
    Case("rows of three dimensions", MODEL, npy(np.zeros((2, 8, 8), np.uint8)), code="bad-input"),
    Case("raw rows without features", f"{MODEL}&option.format=raw", b"x" * 64, code="bad-request"),
    Case("half a raw row", f"{MODEL}&option.features=64&option.dtype=uint8", b"x" * 96, code="bad-input"),
    Case("csv rows with text", f"{MODEL}&option.header=false", b"1,2\nx,3\n", headers=CSV, fails="row 1"),
    Case("frames of two dimensions", MOTION, npy(RGB[:, :, 0]), code="bad-input"),
    Case("frames of 32 bits", MOTION, npy(RGB.astype(np.uint32)), code="bad-input"),
    Case(
        "a zip archive as raw frames",
        f"{MOTION}&option.width=1&option.height=1",
        b"PK\x03\x04" + bytes(96),
        code="not-frames",
    ),
    Case("raw frames without geometry", MOTION, b"x" * 99, code="bad-request"),
    Case("half a frame", f"{MOTION}&option.width=10&option.height=10", b"x" * 150, code="bad-input"),
    Case("threshold 65536", f"{MOTION}&option.threshold=65536", npy(RGB), code="bad-option"),
]


def payload(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


DOORS = [
    Case("synchronous without JSON", "", b"{", code="json-invalid", headers=JSON, path="/process-data"),
    Case("synchronous without payload", "", b"{}", code="missing", headers=JSON, path="/process-data"),
    Case("synchronous with a number", "", payload(payload=3), code="field-type", headers=JSON, path="/process-data"),
    Case(
        "synchronous, shard_size 1023",
        "",
        payload(payload="x", shard_size=1023),
        code="shard-size-invalid",
        headers=JSON,
        path="/process-data",
    ),
    Case(
        "synchronous, unknown kind",
        "",
        payload(payload="x", kind="nope"),
        code="unknown-kind",
        headers=JSON,
        path="/process-data",
    ),
    Case(
        "synchronous, payload twice",
        "",
        b'{"payload": "a", "payload": "b"}',
        code="json-invalid",
        headers=JSON,
        path="/process-data",
    ),
    Case(
        "synchronous, half a surrogate",
        "",
        b'{"payload": "\\ud800"}',
        code="json-invalid",
        headers=JSON,
        path="/process-data",
    ),
    Case("synchronous, empty payload", "", payload(payload=""), code="empty-body", headers=JSON, path="/process-data"),
    Case(
        "synchronous, bad base64",
        "",
        payload(image_data="@@@@"),
        code="base64-invalid",
        headers=JSON,
        path="/analyze-image",
    ),
    Case(
        "synchronous, no image",
        "",
        payload(image_data=base64.b64encode(b"text").decode()),
        code="bad-request",
        headers=JSON,
        path="/analyze-image",
    ),
    Case(
        "synchronous, cut-off png",
        "",
        payload(image_data=base64.b64encode(image("png")[:-500]).decode()),
        code="image-invalid",
        headers=JSON,
        path="/analyze-image",
    ),
    Case(
        "synchronous, another type", "", b"x", 415, "content-type", {"content-type": "text/html"}, path="/analyze-image"
    ),
]

CASES = [*REQUESTS, *SIDES, *IMAGES, *TABLES, *NUMBERS, *DOORS]
