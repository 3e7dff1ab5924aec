"""DICOM files that are cut while they arrive give what they give as files; others, and damaged ones, are cut as files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import uid
from reference.dicom_files import DEEP_12, GREY, NOISE, RGB, SIGNED, SMOOTH, dicom, without

from regather.core.errors import BadInput, PermanentError
from regather.kinds.image.features import ImageFeatures, ImageOptions
from regather.processors.base import (
    HEAD_BYTES,
    ArrivingFileSplitter,
    FileSplitter,
    Piece,
    ShardView,
    SplitRequest,
    Splitter,
)

KIND = ImageFeatures()
FRAMES = np.stack([NOISE, SMOOTH, NOISE[::-1]])
HOUNSFIELD = {"RescaleSlope": "1", "RescaleIntercept": "-1024"}
DAMAGED = {
    "cut off in its pixels": lambda body: body[:-2],
    "cut off before them": lambda body: body[:300],
    "a length that lies": lambda body: body.replace(b"\xe0\x7f\x10\0OW\0\0\xa0\x0f", b"\xe0\x7f\x10\0OW\0\0\xa2\x0f"),
}


def request(body: bytes, **asked: Any) -> SplitRequest:
    return SplitRequest(size_bytes=len(body), head=body[:HEAD_BYTES], **asked)


def plan(body: bytes, options: ImageOptions) -> bytes:
    return KIND.inspect(body[: 64 * 1024], options, request(body))


def arriving(body: bytes, options: ImageOptions, step: int = 997) -> list[Piece]:
    planned = KIND.splitter(options, request(body, shard_size_bytes=1024, plan=plan(body, options)))
    assert not isinstance(planned, FileSplitter)
    splitter: Splitter = planned
    fed = [piece for at in range(0, len(body), step) for piece in splitter.feed(body[at : at + step])]
    return [*fed, *splitter.finish()]


def as_file(body: bytes, options: ImageOptions, folder: Path) -> list[Piece]:
    path = folder / "image"
    path.write_bytes(body)
    splitter = KIND.splitter(options, request(body, shard_size_bytes=1024))
    assert isinstance(splitter, FileSplitter)
    return list(splitter.cut(path))


def answer(pieces: list[Piece], options: ImageOptions) -> Any:
    views = [ShardView(piece.payload, piece.meta, seq, 0) for seq, piece in enumerate(pieces)]
    return json.loads(KIND.merge([KIND.process(view, options) for view in views], options))


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian], ids=lambda uid: uid.name)
@pytest.mark.parametrize(
    ("pixels", "tags", "options"),
    [
        (GREY, {}, {}),
        (NOISE, {}, {}),
        (NOISE, {"stored": 12}, {}),
        (NOISE.view(np.int16), {"stored": 12}, {}),
        (SIGNED, {}, {}),
        (RGB, {}, {}),
        (np.stack([NOISE, SMOOTH, DEEP_12], axis=2), {}, {}),
        (DEEP_12, {"stored": 12, **HOUNSFIELD}, {}),
        (DEEP_12, {"stored": 12, **HOUNSFIELD}, {"values": "stored"}),
        (DEEP_12, {"stored": 12, "photometric": "MONOCHROME1"}, {}),
        (FRAMES, {"NumberOfFrames": 3}, {"page": 1}),
        (FRAMES, {"NumberOfFrames": 3}, {"page": 2}),
        (GREY[:, :39].copy(), {}, {}),
    ],
)
def test_a_file_cut_while_it_arrives_gives_what_it_gives_as_a_file(
    pixels: np.ndarray, tags: dict[str, Any], options: dict[str, Any], syntax: str, tmp_path: Path
) -> None:
    body, chosen = dicom(pixels, syntax, **tags), ImageOptions(**options)
    pieces = arriving(body, chosen)
    assert len(pieces) > 1
    assert answer(pieces, chosen) == answer(as_file(body, chosen, tmp_path), chosen)


@pytest.mark.parametrize(
    "body",
    [
        dicom(NOISE, uid.ExplicitVRBigEndian),
        dicom(NOISE, uid.DeflatedExplicitVRLittleEndian),
        dicom(RGB, PlanarConfiguration=1, PixelData=RGB.transpose(2, 0, 1).tobytes()),
        dicom(RGB, photometric="YBR_FULL"),
        dicom(DEEP_12, stored=12, RescaleSlope="0.5", RescaleIntercept="0"),
        dicom(NOISE, ICCProfile=bytes(70_000)),
        without(dicom(NOISE), "Rows"),
        *(damage(dicom(NOISE)) for damage in DAMAGED.values()),
    ],
)
def test_what_the_beginning_does_not_show_to_be_rows_is_cut_as_a_file(body: bytes) -> None:
    assert plan(body, ImageOptions()) == b""


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_refused(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    body = damage(dicom(NOISE))
    assert body != dicom(NOISE)
    with pytest.raises(BadInput, match=r"damaged|cut off|pixel data says"):
        as_file(body, ImageOptions(), tmp_path)


def test_a_body_that_ends_before_its_announced_length_is_refused() -> None:
    body = dicom(NOISE)
    splitter = KIND.splitter(ImageOptions(), request(body, plan=plan(body, ImageOptions())))
    assert not isinstance(splitter, FileSplitter)
    list(splitter.feed(body[:-100]))
    with pytest.raises(BadInput, match="50 rows of 80 bytes end at byte"):
        list(splitter.finish())


def test_a_length_that_nobody_announced_or_a_small_file_is_not_worth_a_look() -> None:
    head = dicom(NOISE)[:HEAD_BYTES]
    for size_bytes, wanted in [(None, 0), (100_000, 0), (4 * 1024 * 1024, 64 * 1024)]:
        splitter = KIND.splitter(ImageOptions(), SplitRequest(size_bytes=size_bytes, head=head))
        assert isinstance(splitter, ArrivingFileSplitter)
        assert splitter.inspect_bytes == wanted
    assert KIND.inspect(dicom(NOISE), ImageOptions(), SplitRequest()) == b""


def test_a_file_that_is_not_what_the_options_say_is_refused_before_it_has_arrived() -> None:
    with pytest.raises(BadInput, match="option width is 41, but the file says 40"):
        plan(dicom(NOISE), ImageOptions(width=41))


@pytest.mark.parametrize("rule", [b"{}", b"no JSON", b'{"dtype":"uint8"}'])
def test_a_shard_with_a_rule_that_nobody_wrote_fails_for_good(rule: bytes) -> None:
    piece = arriving(dicom(NOISE, stored=12), ImageOptions())[0]
    meta = piece.meta.split(b"\n")[0] + b"\n" + rule
    with pytest.raises(PermanentError, match="not a band"):
        KIND.process(ShardView(piece.payload, meta, 0, 0), ImageOptions())
