"""Divides the rows of a result among shards, so that both the input and the output of each shard fit a record.

Shards own even numbers of rows of the result, in whole blocks of `block` rows (the height of a tile). The shard size is
a target for the rows of the image that a shard gets, including its neighbours' rows. For an operator with a large
radius, a shard owns at least `radius` rows, because otherwise nearly all traffic would be neighbours' rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from regather.core.errors import BadInput, BadRequest
from regather.core.sharding import DEFAULT_SHARD_BYTES, MAX_SHARD_BYTES, check_asked_shards, check_shard_size
from regather.kinds.image.map_geometry import Geometry
from regather.processors.base import SplitRequest

MAX_OUTPUT_BYTES = MAX_SHARD_BYTES
MAX_RESULT_BYTES = 1024**3
"""The largest result of one job that an aggregator can be configured for."""

_LARGE_SHARD_BYTES = 8 * 1024 * 1024
_OWN_PER_RADIUS = 8
_HEAD_BYTES = 4096
_STEPS = 1 << 31
"""Values times the pixels on a line that each needs: about three seconds of one core."""


@dataclass(frozen=True, slots=True)
class MapPlan:
    """`shards` shards of blocks of `block` rows each, for a result of `height` rows."""

    height: int
    block: int
    shards: int

    def rows(self) -> Iterator[tuple[int, int]]:
        """Yield the first and the end row of each shard's part of the result."""
        blocks = -(-self.height // self.block)
        base, larger = divmod(blocks, self.shards)
        end = 0
        for index in range(self.shards):
            first, end = end, end + (base + (index < larger)) * self.block
            yield first, min(end, self.height)


def plan_map(
    geometry: Geometry, request: SplitRequest, *, block: int = 1, block_bytes: int | None = None, head_bytes: int = 0
) -> MapPlan:
    """Return the plan; BadInput with the numbers if one block is too large for a shard or for its output.

    `block_bytes` is the size of a block of the result as output (default: its rows), `head_bytes` the size of what
    precedes the first block.
    """
    height = geometry.target.height or 0
    block_bytes = block * geometry.target.row_bytes if block_bytes is None else block_bytes
    blocks = -(-height // block)
    if blocks * block_bytes + head_bytes > MAX_RESULT_BYTES:
        raise BadInput(
            f"the result of {geometry.target.width} x {height} pixels has {blocks * block_bytes + head_bytes} bytes; "
            f"at most {MAX_RESULT_BYTES}",
        )
    if request.max_result_bytes is not None and blocks * block_bytes > request.max_result_bytes:
        raise BadInput(
            f"the result of {geometry.target.width} x {height} pixels has at least {blocks * block_bytes} bytes, but may "
            f"have at most {request.max_result_bytes} (REGATHER_MAX_RESULT_BYTES): ask for a smaller one, or cut the "
            "image into several"
        )
    most = _most_blocks(geometry, block, block_bytes, head_bytes)
    if request.shards is not None:
        return MapPlan(height, block, _asked(request.shards, blocks, most, block))
    wanted = _wanted_blocks(geometry, block, shard_bytes(geometry, request, block))
    return MapPlan(height, block, -(-blocks // min(most, wanted, _quick_blocks(geometry, block))))


def shard_bytes(geometry: Geometry, request: SplitRequest, block: int = 1) -> int:
    """Return how many bytes of the image a shard may get, at least the shard size that the client asked for."""
    row_bytes = geometry.source.row_bytes
    least = row_bytes * geometry.most_needed(max(geometry.radius, block))
    if request.shard_size_bytes is not None:
        return min(MAX_SHARD_BYTES - _HEAD_BYTES, max(check_shard_size(request.shard_size_bytes), least))
    good = min(_LARGE_SHARD_BYTES, row_bytes * geometry.most_needed(_OWN_PER_RADIUS * geometry.radius))
    return min(MAX_SHARD_BYTES - _HEAD_BYTES, max(DEFAULT_SHARD_BYTES, good, least))


def _most_blocks(geometry: Geometry, block: int, block_bytes: int, head_bytes: int) -> int:
    """Return how many blocks fit a shard and its output; BadInput for none, or for far more neighbours than own rows."""
    row_bytes = geometry.source.row_bytes
    if geometry.most_needed(block) * row_bytes > MAX_SHARD_BYTES:
        raise BadInput(
            f"{_rows(block)} of the result needs up to {geometry.most_needed(block)} rows of {row_bytes} bytes; "
            f"a shard has at most {MAX_SHARD_BYTES} bytes: ask for less at once, or cut the image into narrower ones"
        )
    if block_bytes + head_bytes > MAX_OUTPUT_BYTES:
        raise BadInput(
            f"{_rows(block)} of the result has {block_bytes} bytes and {head_bytes} before the first; the output of a "
            f"shard has at most {MAX_OUTPUT_BYTES}: ask for a smaller result"
        )
    fits = (MAX_OUTPUT_BYTES - head_bytes) // block_bytes
    fits = min(fits, _wanted_blocks(geometry, block, MAX_SHARD_BYTES))
    if 2 * fits * block < min(geometry.radius, geometry.target.height or 0):
        raise BadInput(
            f"with rows of {row_bytes} bytes a shard could own only {fits * block}, but needs {geometry.radius} of its "
            "neighbours' on either side; ask for a smaller radius, or cut the image into narrower ones"
        )
    return fits


def _quick_blocks(geometry: Geometry, block: int) -> int:
    """Return how many blocks take a few seconds to compute, but at least as many as the radius needs."""
    row_steps = geometry.target.width * geometry.target.channels * (2 * geometry.radius + 1)
    return max(1, -(-geometry.radius // block), _STEPS // (row_steps * block))


def _rows(block: int) -> str:
    return "one row" if block == 1 else f"one row of tiles ({block} rows)"


def _wanted_blocks(geometry: Geometry, block: int, size_bytes: int) -> int:
    """Return the largest number of blocks whose image rows are within `size_bytes`; at least one."""
    rows = size_bytes // geometry.source.row_bytes
    low, high = 1, max(1, -(-(geometry.target.height or 1) // block))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if geometry.most_needed(middle * block) <= rows else (low, middle - 1)
    return low


def _asked(shards: int, blocks: int, most: int, block: int) -> int:
    check_asked_shards(shards)
    what = "rows" if block == 1 else f"rows of tiles ({block} rows each)"
    if shards > blocks:
        raise BadRequest(f"shards={shards} is more than the {blocks} {what} of the result", code="bad-split")
    if -(-blocks // shards) > most:
        raise BadRequest(
            f"shards={shards} would give shards above the limit of {MAX_SHARD_BYTES} bytes; "
            f"ask for at least {-(-blocks // most)}",
            code="bad-split",
        )
    return shards
