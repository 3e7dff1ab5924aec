"""The simulated broker without faults keeps the contract that memory and Kafka keep: the same cases, in virtual time."""

import inspect
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from contract import test_groups, test_producing, test_reading, test_transactions

from regather.testing.contract import World
from regather.testing.simulation.broker import Broker
from regather.testing.simulation.event_loop import VirtualLoop
from regather.testing.simulation.history import History
from regather.testing.simulation.network import FaultProfile, Network
from regather.testing.simulation.transport import SimulatedTransport
from regather.transport.base import TopicPartition
from simulation.installation import EPOCH_MS


def cases() -> Iterator[Any]:
    """Every case that asks for nothing but a world, with its parameters."""
    for module in (test_groups, test_producing, test_reading, test_transactions):
        for name, function in vars(module).items():
            if not name.startswith("test_"):
                continue
            marks = [mark for mark in getattr(function, "pytestmark", []) if mark.name == "parametrize"]
            if set(inspect.signature(function).parameters) - {"world"} - {mark.args[0] for mark in marks}:
                continue
            for arguments in _arguments(marks):
                yield pytest.param(function, arguments, id=f"{name}{list(arguments.values()) or ''}")


def _arguments(marks: list[Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{}]
    for mark in marks:
        found = [{**arguments, mark.args[0]: value} for arguments in found for value in mark.args[1]]
    return found


@pytest.mark.parametrize(("case", "arguments"), list(cases()))
def test_contract(case: Callable[..., Any], arguments: dict[str, Any]) -> None:
    chance = random.Random(1)
    loop = VirtualLoop(chance)  # type: ignore[abstract]  # typeshed has every method of AbstractEventLoop abstract
    history = History(loop.time)
    network = Network(loop, chance, history, FaultProfile())
    broker = Broker(network, chance, history, lambda: EPOCH_MS + int(loop.time() * 1000))

    async def delete(tp: TopicPartition, before: int) -> None:
        broker.logs.log(tp).delete_before(before)

    async def main() -> None:
        world = World(SimulatedTransport(broker, loop.outside), delete)
        try:
            await case(world, **arguments)
        finally:
            await world.stop()

    loop.run(main(), limit_s=1000)
