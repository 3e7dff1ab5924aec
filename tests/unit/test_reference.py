"""The sharded answer equals that of independent code that never cuts; and the comparison notices planted faults."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import bytes_digest, image_features

from regather.kinds.bytes_digest import BytesDigest
from regather.kinds.image.bands import BandCounts
from regather.kinds.image.features import ImageFeatures, ImageOptions
from regather.kinds.image.slopes import NARROW_RANGE
from regather.processors.base import FileSplitter, Options, Piece, Processor, ShardView, SplitRequest
from regather.processors.splitting.rows import Band

FOLDER = Path(__file__).parents[1] / "reference"


Change = Callable[[list[Piece]], list[Piece]]


def sharded(processor: Processor[Any], options: Options, request: SplitRequest, body: bytes, **parts: Change) -> Any:
    """Split, process and merge; `change` may alter the pieces as a broken splitter would."""
    splitter = processor.splitter(options, request)
    assert not isinstance(splitter, FileSplitter)
    pieces = [*splitter.feed(body), *splitter.finish()]
    for change in parts.values():
        pieces = change(pieces)
    views = [ShardView(piece.payload, piece.meta, seq, 0) for seq, piece in enumerate(pieces)]
    return json.loads(processor.merge([processor.process(view, options) for view in views], options))


DTYPES = ["uint8", "uint16", "int8", "int16", "float32"]


def noise(height: int, width: int, channels: int, dtype: str, seed: int = 0, flatness: int = 1) -> np.ndarray:
    random = np.random.default_rng(seed)
    shape = (height, width, channels)
    if dtype == "float32":
        return float_noise(random, shape, flatness)
    limits = np.iinfo(dtype)
    values = random.integers(limits.min, limits.max + 1, shape, dtype)
    flat: np.ndarray = values // np.array(min(flatness, limits.max), dtype)
    return flat


def float_noise(random: np.random.Generator, shape: tuple[int, int, int], flatness: int) -> np.ndarray:
    """Floats of many sizes, some of them the smallest and largest ones, NaN and infinite; fewer if it is flat."""
    values = (random.standard_normal(shape) * 10.0 ** random.integers(-30, 30, shape)).astype(np.float32)
    odd = np.array([np.nan, np.inf, -np.inf, 3.4e38, -3.4e38, 1e-45, -0.0, 0.0], np.float32)
    return np.where(random.random(shape) < 0.2 / flatness, random.choice(odd, shape), values)


def options_for(image: np.ndarray) -> ImageOptions:
    _, width, channels = image.shape
    return ImageOptions.model_validate({"width": width, "channels": channels, "dtype": str(image.dtype)})


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 4) | st.just(16),
    st.sampled_from(DTYPES),
    st.integers(1, 200),
    st.data(),
)
def test_image_features_equal_the_reference_however_the_image_is_cut(
    height: int, width: int, channels: int, dtype: str, flatness: int, data: st.DataObject
) -> None:
    image = noise(height, width, channels, dtype, seed=height * width, flatness=flatness)
    request = data.draw(
        st.builds(SplitRequest, shards=st.integers(1, height), size_bytes=st.just(image.nbytes))
        | st.builds(
            SplitRequest, shard_size_bytes=st.integers(1024, 6000), size_bytes=st.none() | st.just(image.nbytes)
        )
    )
    got = sharded(ImageFeatures(), options_for(image), request, image.tobytes())
    assert got == image_features.image_features(image)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 50, 3), (50, 1, 3), (2, 2, 4), (3, 3, 1), (7, 7, 2), (6, 400, 3), (9, 9, 16)]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_tiny_images_in_bands_of_one_row_equal_the_reference(shape: tuple[int, int, int], dtype: str) -> None:
    image = noise(*shape, dtype)
    request = SplitRequest(shards=shape[0], size_bytes=image.nbytes)
    got = sharded(ImageFeatures(), options_for(image), request, image.tobytes())
    assert got == image_features.image_features(image)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bands_of_many_tiles_equal_the_reference(dtype: str) -> None:
    """1,200 x 500 pixels: several tiles in each band of the processor, several blocks in the reference.

    Floats, whose exact sums take the reference long, have one channel.
    """
    image = noise(500, 1200, 1 if dtype == "float32" else 3, dtype, flatness=3)
    request = SplitRequest(shards=2, size_bytes=image.nbytes)
    got = sharded(ImageFeatures(), options_for(image), request, image.tobytes())
    assert got == image_features.image_features(image)


@pytest.mark.parametrize(
    ("dtype", "lowest", "highest"),
    [
        ("uint16", 0, 4095),  # one level: 12 bits in 16
        ("int16", -1024, 3071),  # two levels: Hounsfield units
        ("uint16", 61_000, 61_000),
        ("uint16", 100, 100 + NARROW_RANGE),  # the largest slopes of 16 bits
        ("uint16", 100, 101 + NARROW_RANGE),
        ("int16", -32_768, 32_767),
        ("uint8", 0, 255),
    ],
)
def test_extremes_of_a_part_of_the_type_equal_the_reference(dtype: str, lowest: int, highest: int) -> None:
    image = np.random.default_rng(3).choice(np.array([lowest, highest], dtype), (300, 700, 1))
    request = SplitRequest(shards=2, size_bytes=image.nbytes)
    got = sharded(ImageFeatures(), options_for(image), request, image.tobytes())
    assert got == image_features.image_features(image)


@pytest.mark.parametrize("span", [(-1.0, 2.5), (0.0, 1e-30)])
def test_floats_are_counted_in_equal_parts_of_a_span(span: tuple[float, float]) -> None:
    image = noise(40, 30, 3, "float32", flatness=5)
    options = options_for(image).model_copy(update={"low": span[0], "high": span[1]})
    got = sharded(ImageFeatures(), options, SplitRequest(2048), image.tobytes())
    assert got == image_features.image_features(image, span)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.1, -0.0, 3.4e38, 1e-45])
def test_an_image_of_one_float_has_figures_that_json_knows(value: float) -> None:
    image = np.full((9, 9, 1), value, np.float32)
    got = sharded(ImageFeatures(), options_for(image), SplitRequest(shards=3, size_bytes=image.nbytes), image.tobytes())
    json.dumps(got, allow_nan=False)
    assert got == image_features.image_features(image)
    assert got["per_channel"][0]["count"] == (81 if np.isfinite(value) else 0)


def test_sums_of_floats_are_exact_where_adding_in_order_is_not() -> None:
    image = np.array([1e30, 1.0, -1e30, 2.5] * 25, np.float32).reshape(20, 5, 1)
    assert float(image.astype(np.float64).sum()) != 87.5
    got = sharded(ImageFeatures(), options_for(image), SplitRequest(shards=5, size_bytes=400), image.tobytes())
    assert got["per_channel"][0]["sum"] == 87.5


@given(st.binary(min_size=1, max_size=9_000), st.integers(1, 50))
def test_bytes_digest_equals_the_reference_however_the_body_is_cut(body: bytes, shards: int) -> None:
    request = SplitRequest(shards=min(shards, len(body)), size_bytes=len(body))
    assert sharded(BytesDigest(), Options(), request, body) == bytes_digest.bytes_digest(body)


def test_the_references_run_from_the_command_line(tmp_path: Path) -> None:
    image = noise(20, 30, 3, "uint16")
    file, array_file = tmp_path / "image.raw", tmp_path / "image.npy"
    file.write_bytes(b"skipped" + image.tobytes())
    np.save(array_file, image)
    geometry = ["--width", "30", "--dtype", "uint16", "--height", "20", "--skip-bytes", "7"]
    want = image_features.image_features(image)
    assert run_alone("image_features", file, *geometry)["features"] == want
    assert run_alone("image_features", array_file)["features"] == want
    digest = run_alone("bytes_digest", file, "--skip-bytes", "7")
    assert digest["features"] == bytes_digest.bytes_digest(image.tobytes())
    assert digest["seconds"] >= 0


def run_alone(name: str, *arguments: object) -> dict[str, Any]:
    command = [sys.executable, str(FOLDER / f"{name}.py"), *map(str, arguments)]
    document = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize("name", ["image_features", "bytes_digest"])
def test_the_references_import_nothing_of_the_project(name: str) -> None:
    code = f"import sys; sys.argv = ['x', '--help']; sys.path.insert(0, {str(FOLDER)!r}); import {name}; "
    code += "print([module for module in sys.modules if module.startswith('regather')])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert ended.stdout.strip() == b"[]"


# ------------------------------------------------------------------------------------------------ planted faults

IMAGE = noise(48, 20, 3, "uint8")
REQUEST = SplitRequest(shards=4, size_bytes=IMAGE.nbytes)
WANT = image_features.image_features(IMAGE)
ROW_BYTES = IMAGE[0].nbytes


def rebanded(pieces: Iterable[Piece], change: Callable[[Band, bytes], tuple[Band, bytes]]) -> list[Piece]:
    changed = [change(Band.decode(piece.meta), piece.payload) for piece in pieces]
    return [Piece(payload, band.encode()) for band, payload in changed]


def without_lower_halo(pieces: list[Piece]) -> list[Piece]:
    def change(band: Band, payload: bytes) -> tuple[Band, bytes]:
        return replace(band, bottom=0), payload[: (band.top + band.rows) * ROW_BYTES]

    return rebanded(pieces, change)


def halo_one_row_short(pieces: list[Piece]) -> list[Piece]:
    def change(band: Band, payload: bytes) -> tuple[Band, bytes]:
        return (replace(band, top=band.top - 1), payload[ROW_BYTES:]) if band.top else (band, payload)

    return rebanded(pieces, change)


def halo_off_by_one_row(pieces: list[Piece]) -> list[Piece]:
    """The upper halo comes from one row too far up."""

    def change(band: Band, payload: bytes) -> tuple[Band, bytes]:
        if not band.top:
            return band, payload
        first = (band.row0 - band.top - 1) * ROW_BYTES
        halo = IMAGE.tobytes()[first : first + band.top * ROW_BYTES]
        return band, halo + payload[band.top * ROW_BYTES :]

    return rebanded(pieces, change)


def halo_counted_as_own_row(pieces: list[Piece]) -> list[Piece]:
    """Each band says that it begins one row further up in its payload, and ends there."""

    def change(band: Band, payload: bytes) -> tuple[Band, bytes]:
        return (replace(band, top=band.top - 1, bottom=band.bottom + 1), payload) if band.top else (band, payload)

    return rebanded(pieces, change)


def rows_upside_down(pieces: list[Piece]) -> list[Piece]:
    def change(band: Band, payload: bytes) -> tuple[Band, bytes]:
        rows = [payload[at : at + ROW_BYTES] for at in range(0, len(payload), ROW_BYTES)]
        return replace(band, top=band.bottom, bottom=band.top), b"".join(reversed(rows))

    return rebanded(pieces, change)


def two_rows_swapped(pieces: list[Piece]) -> list[Piece]:
    def change(band: Band, payload: bytes) -> tuple[Band, bytes]:
        at = band.top * ROW_BYTES
        first, second = payload[at : at + ROW_BYTES], payload[at + ROW_BYTES : at + 2 * ROW_BYTES]
        return band, payload[:at] + second + first + payload[at + 2 * ROW_BYTES :]

    return rebanded(pieces, change)


def two_bands_swapped(pieces: list[Piece]) -> list[Piece]:
    """The payloads change places, each under the other's meta."""
    first, second = pieces[1], pieces[2]
    return [pieces[0], Piece(second.payload, first.meta), Piece(first.payload, second.meta), pieces[3]]


FAULTS = [
    without_lower_halo,
    halo_one_row_short,
    halo_off_by_one_row,
    halo_counted_as_own_row,
    rows_upside_down,
    two_rows_swapped,
    two_bands_swapped,
]


def test_the_image_of_the_planted_faults_is_right_without_them() -> None:
    assert sharded(ImageFeatures(), options_for(IMAGE), REQUEST, IMAGE.tobytes()) == WANT


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_planted_in_the_splitter_turns_the_comparison_red(fault: Change) -> None:
    got = sharded(ImageFeatures(), options_for(IMAGE), REQUEST, IMAGE.tobytes(), change=fault)
    assert got != WANT
    assert got["digest"] != WANT["digest"]


class BrokenCounts(ImageFeatures):
    """Alters the counts of each band as a mistake in the processor would."""

    def __init__(self, change: Callable[[BandCounts], BandCounts]) -> None:
        self._change = change

    def process(self, shard: ShardView, options: ImageOptions) -> bytes:
        return self._change(BandCounts.decode(super().process(shard, options))).encode()


def moved_by_one_bin(counts: BandCounts) -> BandCounts:
    return replace(counts, histogram=np.roll(counts.histogram, 1, axis=1))


def last_bin_lost(counts: BandCounts) -> BandCounts:
    histogram = counts.histogram.copy()
    histogram[:, 254] += histogram[:, 255]
    histogram[:, 255] = 0
    return replace(counts, histogram=histogram)


def one_pattern_miscounted(counts: BandCounts) -> BandCounts:
    patterns = counts.patterns.copy()
    patterns[0, 255] += 1
    return replace(counts, patterns=patterns)


def pairs_transposed(counts: BandCounts) -> BandCounts:
    return replace(counts, pairs=counts.pairs.transpose(0, 2, 1))


def channels_swapped(counts: BandCounts) -> BandCounts:
    return replace(counts, sums=counts.sums[::-1], histogram=counts.histogram[::-1])


def row_number_off_by_one(counts: BandCounts) -> BandCounts:
    sums = counts.sums.copy()
    sums[:, 5] += sums[:, 0]
    return replace(counts, sums=sums)


BROKEN_COUNTS = [
    moved_by_one_bin,
    last_bin_lost,
    one_pattern_miscounted,
    pairs_transposed,
    channels_swapped,
    row_number_off_by_one,
]


@pytest.mark.parametrize("change", BROKEN_COUNTS, ids=lambda change: change.__name__)
def test_a_fault_planted_in_the_counts_turns_the_comparison_red(change: Callable[[BandCounts], BandCounts]) -> None:
    got = sharded(BrokenCounts(change), options_for(IMAGE), REQUEST, IMAGE.tobytes())
    assert got != WANT
    assert got["digest"] != WANT["digest"]


def test_swapped_shards_of_bytes_turn_the_comparison_red() -> None:
    body = IMAGE.tobytes()
    request = SplitRequest(shards=4, size_bytes=len(body))
    want = bytes_digest.bytes_digest(body)
    got = sharded(BytesDigest(), Options(), request, body, change=lambda pieces: [pieces[1], pieces[0], *pieces[2:]])
    assert got["size_bytes"] == want["size_bytes"]
    assert got["crc32"] != want["crc32"]
    assert got["digest"] != want["digest"]
