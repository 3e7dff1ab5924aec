"""The even-split law: how many units each shard gets. A unit (a byte, a row) is never cut.

With `shards=n` the sizes differ by at most one unit. With a shard size no shard is above it and the last one is not
under half of it; where the number of units is known beforehand, the shards are even as well.
"""

from collections.abc import Sequence
from typing import Protocol

from regather.core.errors import BadInput, BadRequest

MIN_SHARD_BYTES = 1_024
MAX_SHARD_BYTES = 10_485_760
DEFAULT_SHARD_BYTES = 1_048_576
MAX_ASKED_SHARDS = 100_000
"""Most shards that can be asked for by number; a shard size of at least MIN_SHARD_BYTES may give more."""


class Plan(Protocol):
    """How the units of one body are dealt out while they arrive."""

    def next_run(self, held: int) -> tuple[int, int]:
        """Return (count, units): the next `count` shards have `units` units each and can be cut from `held` units.

        They count as cut from then on; ask again until `count` is 0.
        """

    def rest(self, held: int) -> Sequence[int]:
        """Return the sizes of the last shards: no further unit comes, and `held` are left."""


class EvenPlan:
    """A known number of units in a known number of shards; the first ones have one more where it does not divide."""

    def __init__(self, total: int, shards: int) -> None:
        self._base, self._larger = divmod(total, shards)
        self._smaller = shards - self._larger

    def next_run(self, held: int) -> tuple[int, int]:
        """See Plan."""
        if self._larger:
            count = min(held // (self._base + 1), self._larger)
            self._larger -= count
            return count, self._base + 1
        count = min(held // self._base, self._smaller)
        self._smaller -= count
        return count, self._base

    def rest(self, held: int) -> Sequence[int]:
        """See Plan. Nothing is left when the body has the announced length; else what came is one shard."""
        return (held,) if held else ()


class HeldBackPlan:
    """An unknown number of units in shards of a given size; half a shard is held back, so the end is never tiny."""

    def __init__(self, units_per_shard: int) -> None:
        self._units = units_per_shard
        self._half = (units_per_shard + 1) // 2

    def next_run(self, held: int) -> tuple[int, int]:
        """See Plan."""
        return max(0, (held - self._half) // self._units), self._units

    def rest(self, held: int) -> Sequence[int]:
        """See Plan. What is left, with one and a half shards the usual most, becomes even shards."""
        shards = -(-held // self._units)
        return [(held + later) // shards for later in reversed(range(shards))]


def check_shard_size(size_bytes: int) -> int:
    """Return the size; BadRequest outside of MIN_SHARD_BYTES to MAX_SHARD_BYTES."""
    if MIN_SHARD_BYTES <= size_bytes <= MAX_SHARD_BYTES:
        return size_bytes
    raise BadRequest(
        f"shard_size is {size_bytes} bytes; it must be from {MIN_SHARD_BYTES} to {MAX_SHARD_BYTES}",
        code="bad-shard-size",
    )


def check_asked_shards(shards: int) -> None:
    """BadRequest outside of 1 to MAX_ASKED_SHARDS."""
    if not 1 <= shards <= MAX_ASKED_SHARDS:
        raise _bad_split(f"shards is {shards}; it must be from 1 to {MAX_ASKED_SHARDS}")


def units_per_shard(shard_size_bytes: int, unit_bytes: int, *, halo_units: int = 0) -> int:
    """Return how many units fit a shard together with `halo_units` on either side; at least one.

    BadInput where even one unit with its halo is above MAX_SHARD_BYTES.
    """
    check_shard_size(shard_size_bytes)
    least_bytes = unit_bytes * (1 + 2 * halo_units)
    if least_bytes > MAX_SHARD_BYTES:
        halo = f" ({least_bytes} with its {halo_units} neighbours on either side)" if halo_units else ""
        raise BadInput(
            f"one row has {unit_bytes} bytes{halo}; a row is never cut, and a shard has at most {MAX_SHARD_BYTES} bytes"
        )
    return max(1, shard_size_bytes // unit_bytes - 2 * halo_units)


def plan_by_size(units: int, total: int | None) -> Plan:
    """Return the plan for at most `units` units a shard; even shards where the `total` is known."""
    if total is None:
        return HeldBackPlan(units)
    return EvenPlan(total, max(1, -(-total // units)))


def plan_by_count(shards: int, total: int | None, *, unit_bytes: int = 1, halo_units: int = 0) -> Plan:
    """Return the plan for exactly `shards` even shards; BadRequest names why there is none."""
    check_asked_shards(shards)
    if total is None:
        raise _bad_split(f"shards={shards} needs the body's length beforehand; send Content-Length or use shard_size")
    if shards > total:
        raise _bad_split(f"shards={shards} is more than the {total} {_noun(unit_bytes)} of the body")
    limit = MAX_SHARD_BYTES // unit_bytes - 2 * halo_units
    if limit < 1:
        units_per_shard(MAX_SHARD_BYTES, unit_bytes, halo_units=halo_units)
    if -(-total // shards) > limit:
        raise _bad_split(
            f"shards={shards} would give shards above the limit of {MAX_SHARD_BYTES} bytes; "
            f"ask for at least {-(-total // limit)}"
        )
    return EvenPlan(total, shards)


def _noun(unit_bytes: int) -> str:
    return "bytes" if unit_bytes == 1 else "rows"


def _bad_split(message: str) -> BadRequest:
    return BadRequest(message, code="bad-split")
