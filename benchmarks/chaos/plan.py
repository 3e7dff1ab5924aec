"""The nemesis' plan: from a seed to what is struck, when, and how. Pure."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Sorts of faults."""

    WORKER_KILL = "worker-kill"
    GATEWAY_KILL = "gateway-kill"
    AGGREGATOR_KILL = "aggregator-kill"
    WORKER_ZOMBIE = "worker-zombie"
    GATEWAY_ZOMBIE = "gateway-zombie"
    AGGREGATOR_ZOMBIE = "aggregator-zombie"
    BROKER_KILL = "broker-kill"
    BROKER_PAUSE = "broker-pause"
    ROLLING_RESTART = "rolling-restart"
    TRANSACTION_COORDINATOR_KILL = "transaction-coordinator-kill"
    GROUP_COORDINATOR_KILL = "group-coordinator-kill"
    DISK_FULL = "disk-full"
    REBALANCE_STORM = "rebalance-storm"
    POISON = "poison"
    CANCEL = "cancel"
    PROXY = "proxy"
    REDRIVE = "redrive"


BROKER_KINDS = frozenset(
    {
        Kind.BROKER_KILL,
        Kind.BROKER_PAUSE,
        Kind.ROLLING_RESTART,
        Kind.TRANSACTION_COORDINATOR_KILL,
        Kind.GROUP_COORDINATOR_KILL,
        Kind.DISK_FULL,
    }
)
"""At most one of these at a time: two of three brokers away is an outage, in which nothing is promised to go on."""

SHARES: Mapping[Kind, int] = {
    Kind.WORKER_KILL: 14,
    Kind.GATEWAY_KILL: 9,
    Kind.AGGREGATOR_KILL: 13,
    Kind.WORKER_ZOMBIE: 6,
    Kind.GATEWAY_ZOMBIE: 3,
    Kind.AGGREGATOR_ZOMBIE: 7,
    Kind.BROKER_KILL: 6,
    Kind.BROKER_PAUSE: 4,
    Kind.ROLLING_RESTART: 2,
    Kind.TRANSACTION_COORDINATOR_KILL: 5,
    Kind.GROUP_COORDINATOR_KILL: 4,
    Kind.DISK_FULL: 3,
    Kind.REBALANCE_STORM: 4,
    Kind.POISON: 10,
    Kind.CANCEL: 10,
    Kind.PROXY: 8,
    Kind.REDRIVE: 6,
}
"""How often each sort comes, in relation to the others."""

BROKER_GAP_S = 24.0
"""Between the beginnings of two faults of brokers: one has to be back and in sync before the next goes."""

FIRST_S = 4.0
_JITTER = 0.8
_ALTERNATIVES = 4


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """One fault: `at_s` after the workload began; `pick` in [0, 1) chooses among the victims that there are by then.

    `vigour` in [0, 1) decides how long and how hard. Where `kind` finds no victim, the next one that does comes first;
    where no kind of the plan that is left does, one of `otherwise` is struck.
    """

    number: int
    at_s: float
    kind: Kind
    pick: float
    vigour: float
    otherwise: tuple[Kind, ...]

    def __str__(self) -> str:
        others = ", ".join(self.otherwise)
        return f"{self.number:3d} {self.at_s:6.1f} s  {self.kind}  (pick {self.pick:.2f}, or {others})"


def make_plan(seed: int, count: int, *, kinds: Sequence[Kind], every_s: float) -> list[PlannedFault]:
    """Deal `count` faults of these kinds, one every `every_s` seconds on average.

    Every kind comes if there are as many faults as kinds, and beyond that in its share; broker faults lie at least
    BROKER_GAP_S apart where there is room for it.
    """
    draw = random.Random(f"chaos plan {seed}")
    times_s = [FIRST_S + every_s * (number + _JITTER * (draw.random() - 0.5)) for number in range(count)]
    dealt = _deal(draw, count, kinds)
    spread = _spread(draw, dealt, times_s)
    others = [kind for kind in kinds if kind not in BROKER_KINDS] or list(kinds)
    return [
        PlannedFault(
            number,
            round(at_s, 1),
            kind,
            round(draw.random(), 3),
            round(draw.random(), 3),
            tuple(draw.sample(others, min(_ALTERNATIVES, len(others)))),
        )
        for number, (at_s, kind) in enumerate(zip(times_s, spread, strict=True), 1)
    ]


def _deal(draw: random.Random, count: int, kinds: Sequence[Kind]) -> list[Kind]:
    """One of each, then by shares, with remainders drawn."""
    if count < len(kinds):
        return draw.sample(list(kinds), count)
    total = sum(SHARES[kind] for kind in kinds)
    left = count - len(kinds)
    dealt = list(kinds)
    for kind in kinds:
        dealt += [kind] * max(0, round(SHARES[kind] * count / total) - 1)
    while len(dealt) < count:
        dealt += draw.choices(list(kinds), [SHARES[kind] for kind in kinds])
    return dealt[: len(kinds)] + draw.sample(dealt[len(kinds) :], left)


def _spread(draw: random.Random, dealt: Sequence[Kind], times_s: Sequence[float]) -> list[Kind]:
    """Put the broker faults far enough apart, the others where there is room, both in an order that is drawn."""
    brokers = [kind for kind in dealt if kind in BROKER_KINDS]
    others = [kind for kind in dealt if kind not in BROKER_KINDS]
    draw.shuffle(brokers)
    draw.shuffle(others)
    slots = set(_slots(draw, len(brokers), times_s))
    return [brokers.pop() if number in slots else others.pop() for number in range(len(times_s))]


def _slots(draw: random.Random, wanted: int, times_s: Sequence[float]) -> list[int]:
    """Choose `wanted` numbers of times that lie apart, spread over all of them."""
    if not wanted:
        return []
    step = len(times_s) / wanted
    chosen: list[int] = []
    for number in range(wanted):
        earliest = chosen[-1] + 1 if chosen else 0
        latest = len(times_s) - (wanted - number)
        if chosen:
            apart = next(
                (n for n in range(earliest, latest + 1) if times_s[n] - times_s[chosen[-1]] >= BROKER_GAP_S), latest
            )
            earliest = min(max(earliest, apart), latest)
        drawn = int(number * step + draw.random() * step)
        chosen.append(min(max(earliest, drawn), latest))
    return chosen
