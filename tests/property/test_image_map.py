"""`image.map`: whatever the image, the operator and the cut, the result has the bits of one shard, and each part fits."""

import io
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from regather.core.errors import UserError
from regather.core.sharding import MAX_SHARD_BYTES
from regather.kinds.image.map import ImageMap, MapOptions
from regather.kinds.image.map_geometry import Axis, Geometry, resized
from regather.kinds.image.map_plan import plan_map
from regather.processors.base import HEAD_BYTES, FileSplitter, ShardView, SplitRequest
from regather.processors.registry import parse_options
from regather.processors.splitting.rows import RowLayout

KIND = ImageMap()
DTYPES = ("uint8", "uint16", "int8", "int16", "float32")
METHODS = st.sampled_from(["nearest", "area", "bilinear"])


@st.composite
def operators(draw: st.DrawFn) -> dict[str, Any]:
    edge = {"edge": draw(st.sampled_from(["reflect", "nearest"]))}
    sizes = {"to_width": draw(st.integers(1, 60)), "to_height": draw(st.integers(1, 60))}
    return draw(
        st.sampled_from(
            [
                {"operator": "gaussian", "sigma": draw(st.floats(0.2, 8)), **edge},
                {"operator": "median", "size": draw(st.sampled_from([3, 5, 7])), **edge},
                {"operator": "threshold", "value": draw(st.floats(-300, 300))},
                {"operator": "rescale", "factor": draw(st.floats(-9, 9)), "offset": draw(st.floats(-99, 99))},
                {"operator": "resize", "interpolation": draw(METHODS), **sizes},
                {"operator": "resize", "interpolation": draw(METHODS), "scale": draw(st.floats(0.05, 4))},
            ]
        )
    )


def result(body: bytes, options: MapOptions, request: SplitRequest, chunk: int) -> bytes:
    splitter = KIND.splitter(options, replace(request, head=body[:HEAD_BYTES]))
    assert not isinstance(splitter, FileSplitter)
    pieces = [piece for at in range(0, len(body), chunk) for piece in splitter.feed(body[at : at + chunk])]
    pieces += splitter.finish()
    outputs = [KIND.process(ShardView(piece.payload, piece.meta, seq, 0), options) for seq, piece in enumerate(pieces)]
    return KIND.merge(list(outputs), options) if KIND.merges_outputs(options) else b"".join(outputs)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(DTYPES),
    st.tuples(st.integers(1, 50), st.integers(1, 60), st.integers(1, 4)),
    operators(),
    st.sampled_from(["npy", "tiff", "raw"]),
    st.one_of(st.integers(1024, 20_000).map(SplitRequest), st.integers(1, 9).map(lambda n: SplitRequest(shards=n))),
    st.integers(1, 5000),
    st.integers(0, 2**32 - 1),
)
def test_every_cut_gives_the_bits_of_one_shard(
    dtype: str,
    shape: tuple[int, int, int],
    operator: dict[str, Any],
    output: str,
    request: SplitRequest,
    chunk: int,
    seed: int,
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (*shape, np.dtype(dtype).itemsize), np.uint8).view(dtype)
    file = io.BytesIO()
    np.save(file, image.reshape(shape))
    options = parse_options(KIND, {**operator, "output": output})
    assert isinstance(options, MapOptions)
    whole = result(file.getvalue(), options, SplitRequest(shards=1), 1 << 20)
    try:
        cut = result(file.getvalue(), options, request, chunk)
    except UserError:
        assert request.shards is not None  # only more shards than there are rows can be refused here
        return
    assert cut == whole
    if operator["operator"] != "resize":
        given_shape = {"width": shape[1], "channels": shape[2], "dtype": dtype}
        raw = parse_options(KIND, {**operator, "output": output, **given_shape})
        assert isinstance(raw, MapOptions)
        assert result(image.tobytes(), raw, SplitRequest(request.shard_size_bytes), chunk) == whole


@given(st.integers(1, 5000), st.integers(1, 5000), METHODS)
def test_an_axis_never_runs_backwards_and_stays_inside(source: int, target: int, method: Any) -> None:
    axis = Axis(source, target, method)
    before = 0
    for j in range(min(target, 300)):
        first, last = axis.first(j), axis.last(j)
        assert before <= first <= last < source
        assert last - first < axis.taps
        before = first


@given(
    st.builds(RowLayout, st.integers(1, 20_000), st.integers(1, 4), st.sampled_from(DTYPES), st.integers(1, 3000)),
    st.one_of(
        st.integers(0, 400).map(lambda radius: {"radius": radius}),
        st.tuples(METHODS, st.integers(1, 20_000), st.integers(1, 3000)).map(lambda to: {"to": to}),
    ),
    st.one_of(st.none(), st.integers(1024, MAX_SHARD_BYTES)),
    st.sampled_from([1, 16, 64, 256]),
    st.integers(0, 100_000),
)
def test_a_plan_deals_out_every_row_once_and_all_parts_fit(
    source: RowLayout, how: dict[str, Any], shard_size: int | None, block: int, head_bytes: int
) -> None:
    if "to" in how:
        method, width, height = how["to"]
        try:
            geometry = resized(source, method, scale=None, to_width=width, to_height=height)
        except UserError:
            return
    else:
        geometry = Geometry(source, source, how["radius"])
    try:
        plan = plan_map(geometry, SplitRequest(shard_size), block=block, head_bytes=head_bytes)
    except UserError:
        return
    end = 0
    before = 0
    for first, last in plan.rows():
        assert (first, first % block) == (end, 0)
        low, high = geometry.needed(first, last)
        assert before <= low < high <= (source.height or 0)
        assert (high - low) * source.row_bytes <= MAX_SHARD_BYTES
        assert (last - first) * geometry.target.row_bytes + (0 if first else head_bytes) <= MAX_SHARD_BYTES
        end, before = last, low
    assert end == geometry.target.height
