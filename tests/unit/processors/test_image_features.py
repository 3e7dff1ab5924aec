"""`image.features`: which bodies it takes, what it refuses, what it says where there is nothing to count."""

import io
import json
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest

from regather.core.errors import PermanentError, UserError
from regather.core.sharding import MAX_SHARD_BYTES
from regather.kinds.image.bands import RADII, BandCounts, count_band
from regather.kinds.image.features import HALO_ROWS, ImageFeatures, ImageOptions
from regather.kinds.image.formats import FORMATS, format_of, not_an_image
from regather.processors.base import HEAD_BYTES, Piece, ShardView, SplitRequest
from regather.processors.splitting.rows import Band

KIND = ImageFeatures()
IMAGE = np.random.default_rng(5).integers(0, 256, (40, 30, 3), np.uint8)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def cut(body: bytes, options: ImageOptions, request: SplitRequest | None = None) -> list[Piece]:
    request = replace(request or SplitRequest(shard_size_bytes=1024), head=body[:HEAD_BYTES])
    splitter = KIND.splitter(options, request)
    pieces: list[Piece] = []
    for at in range(0, len(body), 5):
        pieces += splitter.feed(body[at : at + 5])
    return [*pieces, *splitter.finish()]


def outputs(pieces: list[Piece]) -> list[bytes | None]:
    return [KIND.process(ShardView(p.payload, p.meta, seq, 0), ImageOptions()) for seq, p in enumerate(pieces)]


def merged(parts: list[bytes | None]) -> dict[str, Any]:
    return json.loads(KIND.merge(parts, ImageOptions()))


def test_the_halo_suffices_for_every_radius() -> None:
    assert max(RADII) == HALO_ROWS


def test_raw_pixels_and_an_npy_file_of_them_give_the_same_answer() -> None:
    raw = merged(outputs(cut(IMAGE.tobytes(), ImageOptions(width=30))))
    for options, request in [
        (ImageOptions(), SplitRequest(shard_size_bytes=1024)),
        (ImageOptions(format="npy"), SplitRequest(shards=7)),
        (ImageOptions(width=30, channels=3), SplitRequest(content_type="application/x-npy; version=1")),
    ]:
        assert merged(outputs(cut(npy(IMAGE), options, request))) == raw
    assert (raw["width"], raw["height"], raw["channels"], raw["rows"]) == (30, 40, 3, 40)


def test_a_grey_array_without_an_axis_for_channels_has_one() -> None:
    assert merged(outputs(cut(npy(IMAGE[:, :, 0]), ImageOptions())))["channels"] == 1


def test_a_body_shorter_than_any_magic_number_is_raw() -> None:
    result = merged(outputs(cut(b"\1\2\3", ImageOptions(width=1))))
    assert (result["height"], result["per_channel"][2]["sum"]) == (1, 3)


@pytest.mark.parametrize(
    ("body", "options", "why"),
    [
        (IMAGE.tobytes(), ImageOptions(), "a raw image needs the option 'width'"),
        (IMAGE.tobytes(), ImageOptions(width=31), r"bytes into row 38 of 93 bytes"),
        (IMAGE.tobytes(), ImageOptions(width=30, height=41), "41 rows"),
        (IMAGE.tobytes(), ImageOptions(format="npy"), "byte 0: not an NPY file"),
        (b"GIF89a and more", ImageOptions(width=3), "a GIF file, which is not supported"),
        (npy(IMAGE), ImageOptions(width=31), "option width is 31, but the file says 30"),
        (npy(IMAGE), ImageOptions(channels=1), "option channels is 1, but the file says 3"),
        (npy(IMAGE), ImageOptions(dtype="uint16"), "option dtype is uint16, but the file says uint8"),
        (npy(IMAGE.astype(np.float64)), ImageOptions(), "3 channels of float64; .* 1 to 16 of uint8, uint16, int8"),
        (npy(np.zeros((3, 3, 17), np.uint8)), ImageOptions(), "17 channels of uint8"),
        (b"", ImageOptions(width=3), "empty"),
    ],
)
def test_bodies_that_are_no_such_image_are_refused(body: bytes, options: ImageOptions, why: str) -> None:
    with pytest.raises(UserError, match=why):
        cut(body, options)


def test_raw_pixels_that_look_like_a_file_are_taken_if_the_client_says_so() -> None:
    assert len(cut(b"\x89PNG" * 3, ImageOptions(format="raw", width=4))) == 1


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_raw_pixels_that_begin_like_a_pickle_are_taken_if_the_client_says_so(protocol: int) -> None:
    body = bytes([0x80, protocol, 7, 9])
    with pytest.raises(UserError, match=r"a Python pickle.*\(format=raw if these are raw pixels"):
        cut(body, ImageOptions(width=2, channels=1))
    assert len(cut(body, ImageOptions(width=2, channels=1, format="raw"))) == 1


def test_an_image_of_one_row_has_values_but_no_slopes() -> None:
    result = merged(outputs(cut(bytes(range(30)), ImageOptions(width=10))))
    assert result["inner_pixels"] == 0
    assert result["gradient_energy"] is None
    assert result["sharpness"] is None
    assert result["texture"]["patterns"][0]["entropy_bits"] is None
    assert sum(map(sum, result["texture"]["pairs"][0]["counts"])) == 27
    assert result["per_channel"][0]["mean"] == 13.5


def test_a_single_colour_has_no_spread() -> None:
    result = merged(outputs(cut(bytes(5 * 5), ImageOptions(width=5, channels=1))))
    assert result["per_channel"][0]["centroid"] == [None, None]
    assert (result["entropy_bits"], result["sharpness"], result["gradient_energy"]) == (0.0, 0.0, 0.0)
    assert result["texture"]["pairs"][0]["correlation"] is None
    assert result["texture"]["pairs"][0]["uniformity"] == 1.0


def test_a_known_ramp_has_the_slopes_of_its_formula() -> None:
    ramp = np.tile(np.arange(0, 60, 3, dtype=np.uint8), (10, 1))
    channel = merged(outputs(cut(ramp.tobytes(), ImageOptions(width=20, channels=1))))["per_channel"][0]
    assert channel["energy_x"] == (8 * 3) ** 2 * 18 * 8
    assert channel["energy_y"] == channel["laplacian_sum_of_squares"] == 0


def test_with_a_gap_the_result_covers_the_rows_there_are() -> None:
    pieces = cut(IMAGE.tobytes(), ImageOptions(width=30), SplitRequest(shards=4, size_bytes=IMAGE.nbytes))
    parts = outputs(pieces)
    parts[1] = None
    result = merged(parts)
    assert (result["rows"], result["height"], result["gaps"]) == (30, 40, [[1, 1]])
    assert result["per_channel"][0]["sum"] == int(np.delete(IMAGE, slice(10, 20), axis=0)[:, :, 0].sum())


def test_the_height_is_unknown_if_it_was_not_announced_and_the_last_band_is_missing() -> None:
    parts = outputs(cut(IMAGE.tobytes(), ImageOptions(width=30)))
    assert merged(parts)["height"] == 40
    assert merged([*parts[:-1], None])["height"] is None
    assert merged([None, *parts[1:]])["height"] == 40


@pytest.mark.parametrize("order", [[1, 0, 2, 3], [0, 1, 1, 2, 3], [1, 2, 3], [0, 1, 3], [0, None, 1, 2, 3]])
def test_bands_that_do_not_follow_each_other_are_refused(order: list[int | None]) -> None:
    parts = outputs(cut(IMAGE.tobytes(), ImageOptions(width=30), SplitRequest(shards=4, size_bytes=IMAGE.nbytes)))
    with pytest.raises(ValueError, match="does not follow"):
        merged([None if index is None else parts[index] for index in order])


def test_bands_of_different_images_are_refused() -> None:
    (wide,) = outputs(cut(bytes(30), ImageOptions(width=10)))
    (narrow,) = outputs([Piece(bytes(15), Band(1, 1, 0, 0, 5, 3, "uint8", None).encode())])
    with pytest.raises(ValueError, match="does not follow"):
        merged([wide, narrow])


def test_a_result_without_any_band_is_an_error() -> None:
    with pytest.raises(ValueError, match="not one band"):
        merged([None, None])


@pytest.mark.parametrize(
    ("payload", "meta"),
    [
        (bytes(29), Band(0, 1, 0, 0, 10, 3, "uint8", 1).encode()),
        (bytes(30), b"{}"),
        (bytes(30), b"no JSON"),
        (bytes(30), b""),
        (bytes(30), Band(0, 1, 0, 0, 10, 3, "complex", 1).encode()),
    ],
)
def test_a_shard_that_is_no_band_fails_for_good(payload: bytes, meta: bytes) -> None:
    with pytest.raises(PermanentError, match="shard 7 is not a band"):
        KIND.process(ShardView(payload, meta, 7, 0), ImageOptions())


def test_counts_of_the_largest_band_go_round() -> None:
    """All values in one bin at the largest payload: nothing may overflow on the wire."""
    width = 1024
    rows = MAX_SHARD_BYTES // (2 * width)
    band = Band(1 << 40, rows, 0, 0, width, 1, "uint16", None)
    counts = count_band(b"\xff\xff" * (rows * width), band)
    again = BandCounts.decode(counts.encode())
    assert again.sums.tolist() == counts.sums.tolist()
    assert again.histogram.tolist() == counts.histogram.tolist()
    assert again.pairs.tolist() == counts.pairs.tolist()
    assert again.histogram[0, 255] == rows * width
    assert again.sums[0, 1] == rows * width * 65535**2
    assert again.band.row0 == 1 << 40
    with pytest.raises(ValueError, match="not the counts of a band"):
        BandCounts.decode(b"something else")


def test_every_format_with_a_decoder_can_be_named_and_begins_like_no_other() -> None:
    named = get_args(ImageOptions.model_fields["format"].annotation)
    assert {known.option for known in FORMATS} == set(named) - {"auto", "raw", "npy"}
    heads = [
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"RIFF\0\0\0\0WEBP",
        b"MM\0+",
        b"\xff\x4f\xff\x51",
        bytes(128) + b"DICM",
    ]
    assert [format_of(head) for head in heads] == list(FORMATS)
    assert not any(not_an_image(head) for head in heads)
