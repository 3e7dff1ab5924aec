"""Outputs in files, on a disk that has no room."""

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from regather_aggregator.spill import SpillSpace


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file of this process may have more than 2,000 bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_outputs_are_dropped_where_the_disk_has_no_room_for_them(tmp_path: Path, full_disk: None) -> None:
    space = SpillSpace(str(tmp_path), memory_bytes=0, disk_bytes=1024**2)
    outputs = space.outputs()
    outputs[0] = bytes(5_000)  # its end is in the file's buffer, which has no room to go to
    outputs.clear()
    assert (len(outputs), space.used_disk_bytes) == (0, 0)
