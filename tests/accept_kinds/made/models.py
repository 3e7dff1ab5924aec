"""Rows for models: the built-in one and those of the given folder, from NPY, raw, CSV, NDJSON, Parquet; and bad rows."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from accept_kinds.case import Case, Either, Equal, Refusal, Want
from accept_kinds.made.columns import as_parquet
from accept_kinds.oracles.model import matrix, run
from accept_kinds.oracles.table import written_csv

ROWS = 700
FEW = ("1024", "65536", "one")
Array = np.ndarray[Any, np.dtype[Any]]
TOLERANCE = 1e-6


def cases(seed: int, folder: Path, digits: Path) -> Iterator[Case]:
    """Yield them all; those of the given models only if they are in `folder`."""
    yield from _digits(seed, digits)
    if (folder / "reg.onnx").is_file():
        yield from _given(seed, folder)


def case(
    name: str,
    body: bytes,
    want: Callable[[], Want],
    content_type: str = "application/octet-stream",
    settings: dict[str, Any] | None = None,
    **options: str,
) -> Case:
    """One run of `model.predict`."""
    return Case(
        f"model/{name}", "model.predict", lambda: body, want, options, content_type, **(settings or {"sizes": FEW})
    )


def probabilities(model: Path, rows: Any, output: str = "", tolerance: float = TOLERANCE) -> Callable[[], Equal]:
    """The whole matrix of an output (the last one if it has no name) as NPY."""

    def want() -> Equal:
        found = run(model, rows)
        return Equal("npy", (matrix(found[output] if output else list(found.values())[-1]),), {"": tolerance})

    return want


def npy(array: Array) -> bytes:
    """An NPY file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def floats(seed: int, rows: int = ROWS, features: int = 4) -> Array:
    """Rows of float32 that text holds exactly."""
    return (np.random.default_rng(seed).integers(-800, 800, (rows, features)) / 64).astype(np.float32)


def _digits(seed: int, digits: Path) -> Iterator[Case]:
    rows = np.random.default_rng(seed).integers(0, 17, (ROWS, 64)).astype(np.uint8)
    want = probabilities(digits, rows)
    fast = {"sizes": FEW, "fast": True}
    yield case("digits/npy", npy(rows), want, output="npy", settings=fast)
    for dtype in ("uint16", "int32", "float32", "float64"):
        yield case(f"digits/npy-{dtype}", npy(rows.astype(dtype)), want, output="npy")
    yield case("digits/npy-fortran", npy(np.asfortranarray(rows)), want, output="npy")
    yield case("digits/npy-big-endian", npy(rows.astype(">f4")), want, output="npy")
    yield case("digits/raw", rows.tobytes(), want, output="npy", features="64", dtype="uint8")
    names = [f"p{number}" for number in range(64)]
    table = written_csv(names, rows.tolist())
    yield case("digits/csv", table, want, "text/csv", output="npy", settings=fast)
    yield case("digits/csv-crlf", table.replace(b"\n", b"\r\n"), want, "text/csv", output="npy")
    yield case("digits/csv-blank-line", table.replace(b"\n", b"\n\n", 3) + b"\n", want, "text/csv", output="npy")
    lines = "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows.tolist()).encode()
    yield case("digits/ndjson", lines, want, "application/x-ndjson", output="npy")
    columns = pa.table({name: rows[:, at] for at, name in enumerate(names)})
    yield case("digits/parquet", as_parquet(columns, row_group_size=99), want, output="npy")
    found: Any = want().values[0]
    likeliest = [{"class": int(row.argmax()), "p": float(row.max())} for row in found]
    yield case("digits/likeliest", npy(rows), lambda: Equal("lines", (likeliest,), {"": 1e-5}), settings=fast)
    bad = table.splitlines(keepends=True)
    bad[301] = bad[301].replace(b",", b",oops", 1)
    refusal = Refusal("row 300 has a text", frozenset({300}))
    yield case("digits/csv-bad-row", b"".join(bad), lambda: refusal, "text/csv", output="npy", settings=fast)
    short = table.splitlines(keepends=True)
    short[301] = b"1,2,3\n"
    yield case("digits/csv-short-row", b"".join(short), lambda: refusal, "text/csv", output="npy")
    narrow = Refusal("the model takes 64 values", says="64")
    yield case("digits/too-few-values", npy(rows[:, :63]), lambda: narrow, output="npy")
    yield case("digits/cut-off", npy(rows)[:-100], lambda: Refusal("fewer rows than the header says"), output="npy")
    no_model = Refusal("there is no such model", says="nope")
    yield case("digits/unknown-model", npy(rows), lambda: no_model, output="npy", model="nope")


def _given(seed: int, folder: Path) -> Iterator[Case]:
    rows = floats(seed)
    body = npy(rows)
    for name, output, tolerance in (
        ("double", "p", TOLERANCE), ("half", "p", 1e-3), ("ext", "p", TOLERANCE), ("batch1", "p", TOLERANCE),
        ("batch5", "p", TOLERANCE), ("sk_default", "output_probability", TOLERANCE),
        ("sk_labels", "probabilities", TOLERANCE), ("reg", "y", TOLERANCE),
        ("sk_labels_zip", "output_probability", TOLERANCE),
    ):  # fmt: skip
        want = probabilities(folder / f"{name}.onnx", rows, output, tolerance)
        settings = {"sizes": FEW, "fast": name in ("sk_default", "batch5")}
        yield case(f"given/{name}", body, want, model=name, output="npy", settings=settings)
    two = folder / "two.onnx"
    yield case("given/two", body, probabilities(two, rows, "p"), model="two", output="npy", outputs="p")
    yield case("given/two-embedding", body, probabilities(two, rows, "emb"), model="two", output="npy", outputs="emb")
    labels = run(folder / "sk_labels.onnx", rows)["label"].tolist()
    named = Equal("lines", ([{"class": label} for label in labels],))
    yield case("given/sk_labels-names", body, lambda: named, model="sk_labels")
    whole = probabilities(folder / "axis0.onnx", rows, "p")
    batch = Refusal("its rows depend on each other", says="batch|depend|whole|rows")
    settings = {"sizes": ("1024", "65536", "default", "one"), "fast": True}
    yield case("given/axis0", body, lambda: Either(whole(), batch), model="axis0", output="npy", settings=settings)
    both = floats(seed, features=6)
    table = written_csv(list("abcdef"), both.tolist())
    feeds = {"x": both[:, :3], "b": both[:, 3:]}
    want = probabilities(folder / "twoin.onnx", feeds, "p")
    yield case("given/twoin", table, want, "text/csv", model="twoin", output="npy", inputs="x: a, b, c; b: d, e, f")
    chosen = written_csv(["id", "d", "c", "b", "a"], [[n, *row[::-1]] for n, row in enumerate(rows.tolist())])
    picked = probabilities(folder / "double.onnx", rows, "p")
    yield case("given/columns", chosen, picked, "text/csv", model="double", output="npy", columns="a, b, c, d")
    best = run(folder / "double.onnx", rows)["p"]
    carried = [{"id": n, "class": int(row.argmax())} for n, row in enumerate(best)]
    as_texts = [{**row, "id": str(row["id"])} for row in carried]  # an id of CSV may stay the text that it is there
    want_ids = Equal("lines", (carried, as_texts))
    yield case("given/id", chosen, lambda: want_ids, "text/csv", model="double", columns="a, b, c, d", id="id")
