"""Files cut in real children: pieces in order, refusals with their code, and children that die over a file."""

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from image_samples import SAMPLES

from regather.children.file_cut import FileCutter
from regather.children.supervisor import Supervisor
from regather.children.work import WorkLimits
from regather.core.errors import BadInput
from regather.processors.base import Piece, SplitRequest
from regather.processors.splitting.rows import Band
from regather.testing.waiting import eventually

StartSupervisor = Callable[..., Awaitable[Supervisor]]


async def cut(
    supervisor: Supervisor, folder: Path, body: bytes, options: bytes = b"{}", *, wall_s: float = 20.0
) -> list[Piece]:
    path = folder / "body"
    path.write_bytes(body)
    cutter = FileCutter(supervisor, WorkLimits(wall_s=wall_s))
    return [piece async for piece in cutter.pieces("cut", options, SplitRequest(1024), path)]


async def test_pieces_arrive_in_order_and_whole(supervisor: Supervisor, tmp_path: Path) -> None:
    body = os.urandom(3_000_000)
    pieces = await cut(supervisor, tmp_path, body, b'{"size": 700001}')
    assert b"".join(piece.payload for piece in pieces) == body
    assert [piece.meta for piece in pieces] == [b"0", b"1", b"2", b"3", b"4"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["body"]


async def test_a_refusal_keeps_its_code_and_the_child(supervisor: Supervisor, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such thing") as refusal:
        await cut(supervisor, tmp_path, b"x" * 5000, b'{"do": "refuse"}')
    assert refusal.value.code == "odd-file"
    assert len(await cut(supervisor, tmp_path, b"x" * 5000)) == 5
    assert supervisor.stats.deaths == supervisor.stats.kills == 0


async def test_a_refusal_names_no_folder_of_the_spool(supervisor: Supervisor, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as refusal:
        await cut(supervisor, tmp_path, b"x" * 5000, b'{"do": "path"}')
    assert str(refusal.value) == "the body is no picture"


@pytest.mark.parametrize(
    ("do", "why"),
    [("crash", "crashed"), ("hang", "timed-out"), ("raise", "raised: ZeroDivisionError"), ("exit", "exited")],
)
async def test_a_file_that_breaks_its_child_is_refused(
    supervisor: Supervisor, tmp_path: Path, do: str, why: str
) -> None:
    with pytest.raises(BadInput, match=why):
        await cut(supervisor, tmp_path, b"x" * 5000, b'{"do": "%s"}' % do.encode(), wall_s=0.5)
    assert [entry.name for entry in tmp_path.iterdir()] == ["body"]
    assert len(await cut(supervisor, tmp_path, b"x" * 5000)) == 5


async def test_a_reader_that_stops_holds_the_cutter_and_a_cancel_kills_it(
    supervisor: Supervisor, tmp_path: Path, processes: Any
) -> None:
    path = tmp_path / "body"
    path.write_bytes(bytes(50_000_000))
    cutter = FileCutter(supervisor, WorkLimits(wall_s=60))
    pieces = cutter.pieces("cut", b'{"size": 1000000}', SplitRequest(1024), path)
    await anext(pieces)
    child = next(iter(supervisor._children.values())).pid
    assert supervisor.busy == 1
    await pieces.aclose()
    await eventually(lambda: not processes.lives(child), what="the child's end")
    assert [entry.name for entry in tmp_path.iterdir()] == ["body"]
    assert len(await cut(supervisor, tmp_path, b"x" * 5000)) == 5


async def test_every_image_format_is_cut_in_one_child_after_the_other(started: StartSupervisor, tmp_path: Path) -> None:
    """The decoders fit the memory that the gateway gives a cut, and none of them leaves anything for the next file."""
    supervisor = await started(registry="regather.processors.registry:all_kinds")
    cutter = FileCutter(supervisor, WorkLimits(wall_s=60, memory_bytes=4 << 30))
    path = tmp_path / "image"
    for row, sample in ((row, make()) for row, make in SAMPLES.items()):
        if row[0] in ("GIF", "BMP", "JPEG XL", "HEIC, AVIF"):
            continue  # refused by their first bytes, in the gateway
        path.write_bytes(sample.body)
        options = json.dumps(sample.options).encode()
        pieces = cutter.pieces("image.features", options, SplitRequest(4096), path)
        if sample.pixels is None:
            with pytest.raises(BadInput, match=sample.why):
                [piece async for piece in pieces]
        else:
            bands = [Band.decode(piece.meta) async for piece in pieces]
            assert (bands[-1].row0 + bands[-1].rows, bands[0].width) == sample.pixels.shape[:2]
    assert supervisor.stats.deaths == supervisor.stats.kills == 0
