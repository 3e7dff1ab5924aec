"""`image.map`: every operator on every type gives what the unsharded reference gives, at every cut; what it refuses."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from reference import image_map
from reference.dicom_files import SIGNED, dicom

from regather.core.errors import BadInput, BadRequest, PermanentError, UserError
from regather.core.sharding import MAX_SHARD_BYTES
from regather.kinds.image.map import ImageMap, MapOptions
from regather.processors.base import HEAD_BYTES, FileSplitter, Piece, ShardView, SplitRequest
from regather.processors.registry import parse_options

KIND = ImageMap()
RANDOM = np.random.default_rng(8)
IMAGES = {
    "uint8": RANDOM.integers(0, 256, (29, 23, 3), np.uint8),
    "uint16": RANDOM.integers(0, 65536, (29, 23, 1), np.uint16),
    "int16": RANDOM.integers(-32768, 32768, (29, 23, 2)).astype(np.int16),
    "int8": RANDOM.integers(-128, 128, (29, 23, 2)).astype(np.int8),
    "float32": RANDOM.normal(0, 1000, (29, 23, 4)).astype(np.float32),
}
REQUESTS = [SplitRequest(1024), SplitRequest(4096), SplitRequest(shards=7), SplitRequest()]


def options_of(**given: Any) -> MapOptions:
    options = parse_options(KIND, given)
    assert isinstance(options, MapOptions)
    return options


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def cut(body: bytes, options: MapOptions, request: SplitRequest, folder: Path | None = None) -> list[Piece]:
    splitter = KIND.splitter(options, replace(request, head=body[:HEAD_BYTES]))
    if isinstance(splitter, FileSplitter):
        assert folder is not None
        path = folder / "image"
        path.write_bytes(body)
        return list(splitter.cut(path))
    pieces: list[Piece] = []
    for at in range(0, len(body), 997):
        pieces += splitter.feed(body[at : at + 997])
    return [*pieces, *splitter.finish()]


def mapped(body: bytes, options: MapOptions, request: SplitRequest, folder: Path | None = None) -> bytes:
    """Return the result as the aggregator makes it."""
    pieces = cut(body, options, request, folder)
    assert all(len(piece.payload) <= MAX_SHARD_BYTES for piece in pieces)
    outputs: list[bytes] = []
    for seq, piece in enumerate(pieces):
        outputs.append(KIND.process(ShardView(piece.payload, piece.meta, seq, 0), options))
    return KIND.merge(list(outputs), options) if KIND.merges_outputs(options) else b"".join(outputs)


def loaded(result: bytes) -> np.ndarray:
    array: np.ndarray = np.load(io.BytesIO(result), allow_pickle=False)
    return array.reshape(*array.shape[:2], -1)


def same(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


def close(found: np.ndarray, wanted: np.ndarray) -> None:
    """Within the stated tolerance of values that were not rounded."""
    if found.dtype.kind == "f":
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-4)
    else:
        np.testing.assert_allclose(found, wanted, rtol=0, atol=0.501)


def resized(image: np.ndarray, to: dict[str, Any], interpolation: str) -> np.ndarray:
    rows, columns = image_map.size_of(image, to.get("scale"), to.get("to_width"), to.get("to_height"))
    return image_map.resize(image, rows, columns, interpolation)


SIZES: dict[str, dict[str, Any]] = {
    "half": {"scale": 0.5},
    "thrice": {"scale": 3},
    "odd": {"scale": 0.37},
    "to a width": {"to_width": 50},
    "to a height": {"to_height": 13},
    "to a size": {"to_width": 11, "to_height": 90},
    "to one": {"to_width": 1, "to_height": 1},
}
EXACT: dict[str, tuple[dict[str, Any], Any]] = {
    "median 3": ({"operator": "median"}, lambda image: image_map.median(image, 3, "reflect")),
    "median 5": (
        {"operator": "median", "size": 5, "edge": "nearest"},
        lambda image: image_map.median(image, 5, "nearest"),
    ),
    "median 9": ({"operator": "median", "size": 9}, lambda image: image_map.median(image, 9, "reflect")),
    "threshold": ({"operator": "threshold", "value": 99.5}, lambda image: image_map.threshold(image, 99.5)),
    "rescale": (
        {"operator": "rescale", "factor": 1.37, "offset": -20},
        lambda image: image_map.rescale(image, 1.37, -20),
    ),
    **{
        f"{how} {name}": (
            {"operator": "resize", "interpolation": how, **to},
            lambda image, how=how, to=to: resized(image, to, how),
        )
        for how in ("nearest", "area", "bilinear")
        for name, to in SIZES.items()
    },
}


@pytest.mark.parametrize("dtype", IMAGES)
@pytest.mark.parametrize("name", EXACT)
def test_exact_operators_give_the_reference_at_every_cut(name: str, dtype: str) -> None:
    given, reference = EXACT[name]
    image, options = IMAGES[dtype], options_of(**given)
    wanted = reference(image)
    whole = mapped(npy(image), options, SplitRequest(shards=1))
    (close if dtype == "float32" else same)(loaded(whole), wanted)
    for request in REQUESTS:
        rows = len(wanted)
        if request.shards is None or request.shards <= rows:
            assert mapped(npy(image), options, request) == whole


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int8", "int16"])
def test_invert_turns_whole_numbers_around(dtype: str) -> None:
    image = IMAGES[dtype]
    for request in REQUESTS:
        same(loaded(mapped(npy(image), options_of(operator="invert"), request)), image_map.invert(image))


@pytest.mark.parametrize("dtype", IMAGES)
@pytest.mark.parametrize("edge", ["reflect", "nearest"])
@pytest.mark.parametrize("sigma", [0.5, 2.0, 6.0])
def test_gaussian_is_within_its_tolerance_and_the_same_at_every_cut(dtype: str, edge: str, sigma: float) -> None:
    image, options = IMAGES[dtype], options_of(operator="gaussian", sigma=sigma, edge=edge)
    whole = mapped(npy(image), options, SplitRequest(shards=1))
    close(loaded(whole), image_map.gaussian(image, sigma, edge))
    for request in REQUESTS:
        assert mapped(npy(image), options, request) == whole


@pytest.mark.parametrize("dtype", IMAGES)
def test_raw_pixels_without_a_height_are_merged_to_the_same_result(dtype: str) -> None:
    image = IMAGES[dtype]
    shape = {"width": 23, "channels": image.shape[2], "dtype": dtype}
    for given in ({"operator": "gaussian", "sigma": 1.5}, {"operator": "threshold", "value": 3}):
        for output in ("npy", "tiff", "raw"):
            want = mapped(npy(image), options_of(**given, output=output), SplitRequest())
            raw = options_of(**given, **shape, output=output)
            assert KIND.merges_outputs(raw) == (output != "raw")
            assert mapped(image.tobytes(), raw, SplitRequest(1024)) == want
            assert mapped(image.tobytes(), raw, SplitRequest(shards=5, size_bytes=image.nbytes)) == want
            known = options_of(**given, **shape, height=29, output=output)
            assert not KIND.merges_outputs(known)
            assert mapped(image.tobytes(), known, SplitRequest(1024)) == want


@pytest.mark.parametrize("shape", [(61, 37, 3), (300, 520, 3), (40, 5000, 1), (700, 16, 4), (5, 5, 2), (33, 300, 16)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int8", "int16", "float32"])
def test_a_tiff_holds_what_the_npy_holds(shape: tuple[int, int, int], dtype: str) -> None:
    image = RANDOM.integers(0, 100, shape).astype(dtype)
    body = npy(image)
    want = loaded(mapped(body, options_of(operator="rescale", offset=1), SplitRequest()))
    for request in (SplitRequest(1024), SplitRequest(50_000), SplitRequest(shards=1)):
        result = mapped(body, options_of(operator="rescale", offset=1, output="tiff"), request)
        with tifffile.TiffFile(io.BytesIO(result)) as file:
            page = file.pages[0]
            assert page.is_tiled
            assert page.dataoffsets == tuple(sorted(page.dataoffsets))
            same(page.asarray().reshape(shape), want)


def test_a_dicom_file_gives_rescaled_or_stored_values(tmp_path: Path) -> None:
    body = dicom(SIGNED, RescaleSlope="2", RescaleIntercept="0")
    options = options_of(operator="rescale")
    same(loaded(mapped(body, options, SplitRequest(1024), tmp_path))[:, :, 0], SIGNED.astype(np.float32) * 2)
    stored = options_of(operator="rescale", values="stored")
    same(loaded(mapped(body, stored, SplitRequest(1024), tmp_path))[:, :, 0], SIGNED)


def test_a_dicom_file_without_a_preamble_is_told_by_its_media_type(tmp_path: Path) -> None:
    request = SplitRequest(content_type="application/dicom")
    result = mapped(dicom(SIGNED)[132:], options_of(operator="rescale"), request, tmp_path)
    same(loaded(result)[:, :, 0], SIGNED)
    forced = options_of(operator="rescale", format="dicom")
    assert mapped(dicom(SIGNED)[132:], forced, SplitRequest(), tmp_path) == result


def test_32_bits_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="1 channels of int32"):
        cut(dicom(SIGNED.astype(np.int32)), options_of(operator="median"), SplitRequest(), tmp_path)


def test_a_tiff_file_is_taken(tmp_path: Path) -> None:
    file = io.BytesIO()
    tifffile.imwrite(file, IMAGES["uint16"][:, :, 0])
    result = mapped(file.getvalue(), options_of(operator="median"), SplitRequest(1024), tmp_path)
    same(loaded(result), image_map.median(IMAGES["uint16"], 3, "reflect"))


@pytest.mark.parametrize("operator", ["gaussian", "median"])
@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf, -0.0, 3.4e38])
def test_strange_floats_give_the_same_bits_at_every_cut(operator: str, strange: float) -> None:
    image = IMAGES["float32"].copy()
    image[::7, ::5, 0] = strange
    image[3::9, 2::4, 1] = -strange
    options = options_of(operator=operator, **({"sigma": 1.0} if operator == "gaussian" else {"size": 5}))
    whole = mapped(npy(image), options, SplitRequest(shards=1))
    for request in REQUESTS:
        assert mapped(npy(image), options, request) == whole
    if operator == "median":
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(loaded(whole), image_map.median(image, 5, "reflect"))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 40, 1), (40, 1, 1), (2, 3, 1)])
def test_an_image_smaller_than_the_neighbourhood_is_reflected_again_and_again(shape: tuple[int, int, int]) -> None:
    image = RANDOM.integers(0, 65536, shape).astype(np.uint16)
    for edge in ("reflect", "nearest"):
        blurred = mapped(npy(image), options_of(operator="gaussian", sigma=3, edge=edge), SplitRequest(1024))
        close(loaded(blurred), image_map.gaussian(image, 3, edge))
        middle = mapped(npy(image), options_of(operator="median", size=9, edge=edge), SplitRequest(1024))
        same(loaded(middle), image_map.median(image, 9, edge))


def test_shards_of_a_larger_result_are_cut_by_what_they_give_back() -> None:
    image = RANDOM.integers(0, 256, (20, 20_000, 3), np.uint8)
    options = options_of(operator="resize", scale=12, interpolation="nearest")
    pieces = cut(npy(image), options, SplitRequest(MAX_SHARD_BYTES))
    sizes = [len(KIND.process(ShardView(p.payload, p.meta, seq, 0), options)) for seq, p in enumerate(pieces[:3])]
    assert len(pieces) > 15
    assert max(sizes) <= MAX_SHARD_BYTES


@pytest.mark.parametrize(
    ("given", "shape", "why"),
    [
        pytest.param({"operator": "resize", "scale": 64}, (400, 4000, 1), "bytes; at most 1073741824", id="huge"),
        pytest.param({"operator": "resize", "scale": 60}, (1, 200_000, 1), "at most 10485760.*smaller", id="one row"),
        pytest.param({"operator": "resize", "to_height": 1}, (600, 30_000, 1), "needs up to 600 rows", id="all in one"),
        pytest.param({"operator": "resize", "to_width": 1}, (2, 2000, 1), "need 2001 in a row; at most 1026", id="taps"),
        pytest.param({"operator": "gaussian", "sigma": 100}, (900, 20_000, 1), "needs up to 801 rows", id="halo"),
        pytest.param({"operator": "gaussian", "sigma": 100}, (900, 12_500, 1), "could own .* needs 400", id="traffic"),
        pytest.param({"operator": "median", "output": "tiff"}, (2, 700_000, 1), r"row of tiles .16 rows", id="tiles"),
    ],
)  # fmt: skip
def test_what_cannot_fit_is_refused_with_the_numbers(given: dict[str, Any], shape: tuple[int, ...], why: str) -> None:
    with pytest.raises(UserError, match=why):
        cut(npy(np.zeros(shape, np.uint8)), options_of(**given), SplitRequest())


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "operator"),
        ({"operator": "gaussian"}, "needs the option sigma"),
        ({"operator": "gaussian", "sigma": "nan"}, "sigma"),
        ({"operator": "gaussian", "sigma": 0}, "sigma"),
        ({"operator": "threshold"}, "needs the option value"),
        ({"operator": "median", "size": 4}, "size"),
        ({"operator": "median", "sigma": 2}, "operator median has no option sigma"),
        ({"operator": "resize"}, "either scale, or to_width"),
        ({"operator": "resize", "scale": 2, "to_width": 3}, "either scale, or to_width"),
        ({"operator": "invert", "format": "gif"}, "format"),
    ],
)
def test_options_that_make_no_sense_are_refused(given: dict[str, Any], why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        options_of(**given)


@pytest.mark.parametrize(
    ("body", "given", "why"),
    [
        pytest.param(npy(np.zeros((5, 5), np.float64)), {"operator": "median"}, "1 channels of float64", id="float64"),
        pytest.param(npy(np.zeros((5, 5), np.float32)), {"operator": "invert"}, "whole numbers", id="invert floats"),
        pytest.param(npy(np.zeros((5, 5, 17), np.uint8)), {"operator": "median"}, "17 channels", id="channels"),
        pytest.param(npy(np.zeros((5, 5), np.uint8)), {"operator": "median", "width": 6}, "width is 6", id="width"),
        pytest.param(npy(np.zeros((50, 50), np.uint8))[:-9], {"operator": "median"}, "the body ends at byte", id="short"),
        pytest.param(npy(np.zeros((50, 50), np.uint8)) + b"1", {"operator": "median"}, "goes on after", id="long"),
        pytest.param(npy(np.zeros((50, 50), np.uint8))[:50], {"operator": "median"}, "inside the NPY header", id="head"),
        pytest.param(b"", {"operator": "median", "width": 5}, "empty", id="empty"),
        pytest.param(b"nothing", {"operator": "median"}, "not an image file of a known format", id="no image"),
        pytest.param(b"\0\0\0\x18ftypisom" + bytes(60), {"operator": "median", "width": 5}, "MP4", id="mp4"),
        pytest.param(bytes(75), {"operator": "median", "width": 5, "format": "png"}, "like a PNG", id="no png"),
        pytest.param(bytes(75), {"operator": "median", "width": 5, "page": 1}, "page and level", id="page of raw"),
        pytest.param(b"123456789", {"operator": "median", "width": 5}, "into row", id="no whole rows"),
        pytest.param(b"123", {"operator": "resize", "scale": 2, "width": 1}, "needs the image's height", id="height"),
    ],
)  # fmt: skip
def test_bodies_that_are_not_taken_are_refused(body: bytes, given: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError, match=why):
        cut(body, options_of(**given), SplitRequest())


def test_a_result_without_some_of_its_rows_is_refused() -> None:
    assert not KIND.gaps
    with pytest.raises(PermanentError, match="2 of 4 shards failed, the first one is 1"):
        KIND.merge([b"a", None, b"b", None], options_of(operator="median"))


def test_a_shard_that_is_no_band_fails_for_good() -> None:
    options = options_of(operator="median")
    (piece,) = cut(npy(IMAGES["uint8"]), options, SplitRequest(shards=1))
    for payload, meta in ((piece.payload[:-111], piece.meta), (piece.payload, b"{}"), (piece.payload, b"")):
        with pytest.raises(PermanentError, match="shard 3 is not a band"):
            KIND.process(ShardView(payload, meta, 3, 0), options)


def test_shards_that_cannot_be_are_refused() -> None:
    with pytest.raises(BadRequest, match="more than the 29 rows of the result"):
        cut(npy(IMAGES["uint8"]), options_of(operator="median"), SplitRequest(shards=30))
    with pytest.raises(BadRequest, match="rows of tiles"):
        cut(npy(IMAGES["uint8"]), options_of(operator="median", output="tiff"), SplitRequest(shards=2))
    with pytest.raises(BadInput, match=r"ask for less at once|smaller"):
        cut(npy(np.zeros((2, 11_000_000), np.uint8)), options_of(operator="threshold", value=1), SplitRequest())


def test_media_types_follow_the_output() -> None:
    types = {output: KIND.media_type(options_of(operator="median", output=output)) for output in ("npy", "tiff", "raw")}
    assert types == {"npy": "application/x-npy", "tiff": "image/tiff", "raw": "application/octet-stream"}


@pytest.mark.parametrize(
    ("asked", "result_bytes"),
    [
        ({"operator": "invert"}, 29 * 23 * 3),
        ({"operator": "invert", "output": "raw"}, 29 * 23 * 3),
        ({"operator": "invert", "output": "tiff"}, 256 * 32 * 3),
        ({"operator": "resize", "scale": 2}, 4 * 29 * 23 * 3),
    ],
)
@pytest.mark.parametrize("form", ["npy", "raw", "tiff"])
def test_a_result_that_is_sure_to_be_too_large_is_refused_before_the_cut(
    asked: dict[str, Any], result_bytes: int, form: str, tmp_path: Path
) -> None:
    image = IMAGES["uint8"]
    file = io.BytesIO()
    tifffile.imwrite(file, image)
    body = {"npy": npy(image), "raw": image.tobytes(), "tiff": file.getvalue()}[form]
    options = options_of(**asked, **({"width": 23, "height": 29} if form == "raw" else {}))
    allowed, refused = (
        SplitRequest(size_bytes=len(body), max_result_bytes=limit) for limit in (result_bytes, result_bytes - 1)
    )
    assert cut(body, options, allowed, tmp_path)
    with pytest.raises(BadInput, match=rf"has at least {result_bytes} bytes, but may have at most {result_bytes - 1} "):
        cut(body, options, refused, tmp_path)


def test_raw_pixels_whose_result_is_too_large_are_refused_before_a_byte_has_come() -> None:
    request = SplitRequest(size_bytes=3 * 23 * 29, max_result_bytes=2000)
    with pytest.raises(BadInput, match="REGATHER_MAX_RESULT_BYTES"):
        KIND.splitter(options_of(operator="invert", format="raw", width=23), request)
