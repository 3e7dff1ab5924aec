"""Even splits: how many units each shard of a body gets. A unit is a byte or a row; a shard never has a part of one.

With `shards=n`, shard sizes differ by at most one unit. With `shard_size`, no shard exceeds it and the last shard is at
least half of it. If the number of units is known in advance, these shards are even, too.
"""

from collections.abc import Sequence
from typing import Protocol

from regather.core.errors import BadInput, BadRequest

MIN_SHARD_BYTES = 1_024
MAX_SHARD_BYTES = 10_485_760
DEFAULT_SHARD_BYTES = 1_048_576
MAX_ASKED_SHARDS = 100_000
"""The most that `shards=n` may ask for; a `shard_size` may give more."""


class Plan(Protocol):
    """Decides how large the shards of one body are, while its units arrive."""

    def next_run(self, held: int) -> tuple[int, int]:
        """Return (count, units): cut the next `count` shards of `units` units each from the `held` units.

        The plan counts them as cut. Call again until `count` is 0.
        """

    def rest(self, held: int) -> Sequence[int]:
        """Return the sizes of the last shards, once no further unit comes and `held` units are left."""


class EvenPlan:
    """A known number of units in a known number of shards; the first ones get one more if it does not divide evenly."""

    def __init__(self, total: int, shards: int) -> None:
        self._base, self._larger = divmod(total, shards)
        self._smaller = shards - self._larger

    def next_run(self, held: int) -> tuple[int, int]:
        """Return (count, units): the shards with one unit more come first."""
        if self._larger:
            count = min(held // (self._base + 1), self._larger)
            self._larger -= count
            return count, self._base + 1
        count = min(held // self._base, self._smaller)
        self._smaller -= count
        return count, self._base

    def rest(self, held: int) -> Sequence[int]:
        """Return no size if the body has the announced length; else all that is left becomes one shard."""
        return (held,) if held else ()


class HeldBackPlan:
    """An unknown number of units in shards of a given size. It holds back half a shard: the last one is never tiny."""

    def __init__(self, units_per_shard: int) -> None:
        self._units = units_per_shard
        self._half = (units_per_shard + 1) // 2

    def next_run(self, held: int) -> tuple[int, int]:
        """Return (count, units): as many whole shards as leave half a shard held back."""
        return max(0, (held - self._half) // self._units), self._units

    def rest(self, held: int) -> Sequence[int]:
        """Return even sizes for what is left, which is usually less than one and a half shards."""
        shards = -(-held // self._units)
        return [(held + later) // shards for later in reversed(range(shards))]


def check_shard_size(size_bytes: int) -> int:
    """Return the size; raise BadRequest unless it is from MIN_SHARD_BYTES to MAX_SHARD_BYTES."""
    if MIN_SHARD_BYTES <= size_bytes <= MAX_SHARD_BYTES:
        return size_bytes
    raise BadRequest(
        f"shard_size is {size_bytes} bytes; it must be from {MIN_SHARD_BYTES} to {MAX_SHARD_BYTES}",
        code="bad-shard-size",
    )


def check_asked_shards(shards: int) -> None:
    """Raise BadRequest unless the number is from 1 to MAX_ASKED_SHARDS."""
    if not 1 <= shards <= MAX_ASKED_SHARDS:
        raise _bad_split(f"shards is {shards}; it must be from 1 to {MAX_ASKED_SHARDS}")


def units_per_shard(shard_size_bytes: int, unit_bytes: int, *, halo_units: int = 0) -> int:
    """Return how many units fit a shard together with `halo_units` on either side; at least one.

    Raise BadInput if one unit with its halo exceeds MAX_SHARD_BYTES.
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
    """Return a plan for at most `units` units in each shard. If the `total` is known, the shards are even."""
    if total is None:
        return HeldBackPlan(units)
    return EvenPlan(total, max(1, -(-total // units)))


def plan_by_count(shards: int, total: int | None, *, unit_bytes: int = 1, halo_units: int = 0) -> Plan:
    """Return a plan for exactly `shards` even shards; raise BadRequest if there is none."""
    check_asked_shards(shards)
    if total is None:
        raise _bad_split(f"shards={shards} needs the body's length in advance; send Content-Length or use shard_size")
    if shards > total:
        raise _bad_split(f"shards={shards} is more than the {total} {_noun(unit_bytes)} of the body")
    limit = MAX_SHARD_BYTES // unit_bytes - 2 * halo_units
    if limit < 1:
        units_per_shard(MAX_SHARD_BYTES, unit_bytes, halo_units=halo_units)
    if -(-total // shards) > limit:
        raise _bad_split(
            f"shards={shards} would make shards of more than {MAX_SHARD_BYTES} bytes; "
            f"ask for at least {-(-total // limit)}"
        )
    return EvenPlan(total, shards)


def _noun(unit_bytes: int) -> str:
    return "bytes" if unit_bytes == 1 else "rows"


def _bad_split(message: str) -> BadRequest:
    return BadRequest(message, code="bad-split")
