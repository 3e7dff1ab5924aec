"""Each row of the table in docs/reference/kinds/image.md is tried on a file, at several cuts."""

import json
import re
from pathlib import Path

import image_samples
import numpy as np
import pytest
from image_samples import SAMPLES
from reference import image_features

from regather.core.errors import UserError
from regather.kinds.image.features import ImageFeatures, ImageOptions
from regather.processors.base import HEAD_BYTES, FileSplitter, Piece, ShardView, SplitRequest

KIND = ImageFeatures()
PAGE = Path(__file__).parents[3] / "docs/reference/kinds/image.md"


def table() -> dict[tuple[str, str], str]:
    """The first three cells of each row: format and what, and whether it is taken."""
    text = PAGE.read_text().split("### What is taken")[1].split("###")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in text.splitlines() if line.startswith("| ")]
    return {(name, what): taken for name, what, taken in rows[1:]}


TABLE = table()


def cut(body: bytes, folder: Path, options: ImageOptions, shard_size_bytes: int | None) -> list[Piece]:
    path = folder / "image"
    path.write_bytes(body)
    splitter = KIND.splitter(options, SplitRequest(shard_size_bytes, None, len(body), head=body[:HEAD_BYTES]))
    assert isinstance(splitter, FileSplitter)
    return list(splitter.cut(path))


def test_the_table_and_the_samples_have_the_same_rows() -> None:
    assert list(TABLE) == list(SAMPLES)
    assert set(TABLE.values()) == {"yes", "refused"}


@pytest.mark.parametrize("row", TABLE, ids=" ".join)
def test_a_row_of_the_table_is_true(row: tuple[str, str], tmp_path: Path) -> None:
    sample = SAMPLES[row]()
    options = ImageOptions(**sample.options)
    if TABLE[row] == "refused":
        with pytest.raises(UserError, match=sample.why) as caught:
            cut(sample.body, tmp_path, options, 1024)
        assert not re.search("/|Error|0x", str(caught.value))
        return
    assert sample.pixels is not None
    want = image_features.image_features(np.ascontiguousarray(sample.pixels))
    for shard_size_bytes in (1024, 4096, None):
        pieces = cut(sample.body, tmp_path, options, shard_size_bytes)
        outputs = [KIND.process(ShardView(p.payload, p.meta, seq, 0), options) for seq, p in enumerate(pieces)]
        assert json.loads(KIND.merge(outputs, options)) == want


def test_the_sizes_of_a_pyramid_end(tmp_path: Path) -> None:
    for kind in ("ome", "reduced", "svs"):
        body, sizes = image_samples.pyramid(kind)
        assert len({size.shape for size in sizes}) == 3
        with pytest.raises(UserError, match="no level 3 of page 0; it has 2 reduced sizes"):
            cut(body, tmp_path, ImageOptions(level=3), None)
