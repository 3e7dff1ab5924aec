"""Trap 16: a limit round every call of the client, without a timer where the answer is there at once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka.errors import MessageSizeTooLargeError

from regather.core.errors import BrokerUnavailable, RecordTooLarge
from regather.transport.kafka.failures import limited, limited_where_it_waits

Limit = Callable[..., Awaitable[Any]]


@pytest.fixture(params=[limited, limited_where_it_waits])
def limit(request: pytest.FixtureRequest) -> Limit:
    found: Limit = request.param
    return found


async def answer(pauses: int, *, then: Exception | None = None) -> int:
    for _ in range(pauses):
        await asyncio.sleep(0)
    if then is not None:
        raise then
    return pauses


async def never(heard: list[str]) -> None:
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        heard.append("cancelled")
        raise


@pytest.mark.parametrize("pauses", [0, 1, 5])
async def test_trap_16_an_answer_comes_through(limit: Limit, pauses: int) -> None:
    assert await limit(answer(pauses), timeout_s=5) == pauses


@pytest.mark.parametrize("pauses", [0, 2])
async def test_trap_16_an_error_comes_out_as_ours(limit: Limit, pauses: int) -> None:
    with pytest.raises(RecordTooLarge):
        await limit(answer(pauses, then=MessageSizeTooLargeError()), timeout_s=5)


async def test_trap_16_what_waits_too_long_is_cancelled_and_unknown(limit: Limit) -> None:
    heard: list[str] = []
    with pytest.raises(BrokerUnavailable, match="time limit"):
        async with asyncio.timeout(5):
            await limit(never(heard), timeout_s=0.01)
    assert heard == ["cancelled"]


async def test_trap_16_a_cancellation_is_passed_on(limit: Limit) -> None:
    heard: list[str] = []

    async def call() -> None:
        await limit(never(heard), timeout_s=5)

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert heard == ["cancelled"]


async def test_trap_16_an_answer_at_once_costs_no_timer() -> None:
    loop: Any = asyncio.get_running_loop()
    timers: list[object] = []
    call_at = loop.call_at

    def counted(*args: Any, **named: Any) -> Any:
        timers.append(args)
        return call_at(*args, **named)

    loop.call_at = counted
    assert await limited_where_it_waits(answer(0), timeout_s=5) == 0
    assert timers == []
    assert await limited_where_it_waits(answer(1), timeout_s=5) == 1
    assert len(timers) == 1
