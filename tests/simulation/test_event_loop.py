"""The virtual loop: time jumps, each process keeps its order, a frozen one waits, a stuck simulation says so."""

import asyncio
import random

import pytest

from regather.testing.simulation.event_loop import VirtualLoop, VirtualTimeError, current_process


def loop_of(seed: int = 0) -> VirtualLoop:
    return VirtualLoop(random.Random(seed))  # type: ignore[abstract]  # typeshed has every method of AbstractEventLoop abstract


def test_a_long_sleep_takes_no_time() -> None:
    loop = loop_of()

    async def main() -> float:
        await asyncio.sleep(86_400)
        return asyncio.get_running_loop().time()

    assert loop.run(main(), limit_s=100_000) == 86_400


def test_callbacks_of_one_process_keep_their_order_and_those_of_two_do_not() -> None:
    orders = set()
    for seed in range(20):
        loop = loop_of(seed)
        seen: list[str] = []

        async def main(loop: VirtualLoop = loop, seen: list[str] = seen) -> None:
            one, two = loop.process("one"), loop.process("two")
            for process in (one, two):
                for number in range(3):
                    loop.call_soon(seen.append, f"{process.name}{number}", context=process.context)
            await asyncio.sleep(1)

        loop.run(main(), limit_s=10)
        assert [name for name in seen if name.startswith("one")] == ["one0", "one1", "one2"]
        assert [name for name in seen if name.startswith("two")] == ["two0", "two1", "two2"]
        orders.add(tuple(seen))
    assert len(orders) > 5


def test_what_a_task_starts_belongs_to_its_process() -> None:
    loop = loop_of()

    async def child() -> str:
        await asyncio.sleep(1)
        return current_process().name

    async def parent() -> str:
        return await asyncio.create_task(child())

    async def main() -> str:
        return await loop.process("p").start(parent(), "parent")

    assert loop.run(main(), limit_s=10) == "p"


def test_a_frozen_process_runs_nothing_and_its_timers_fire_when_it_goes_on() -> None:
    loop = loop_of()
    woke_s: list[float] = []

    async def sleeper() -> None:
        await asyncio.sleep(1)
        woke_s.append(loop.time())

    async def main() -> None:
        process = loop.process("p")
        task = process.start(sleeper(), "sleeper")
        await asyncio.sleep(0.5)
        process.freeze()
        await asyncio.sleep(9.5)
        process.thaw()
        await task

    loop.run(main(), limit_s=100)
    assert woke_s == [10.0]


def test_a_fuse_burns_between_two_steps_of_its_process() -> None:
    loop, steps = loop_of(), []

    async def worker() -> None:
        while True:
            steps.append(1)
            await asyncio.sleep(0.1)

    async def main() -> None:
        process = loop.process("p")
        process.on_fuse = process.cancel_all
        task = process.start(worker(), "worker")
        await asyncio.sleep(1)
        process.fuse = process.steps + 6
        await asyncio.wait([task])
        assert process.tasks() == []

    loop.run(main(), limit_s=100)
    assert 11 < len(steps) < 16


def test_work_of_a_thread_runs_here() -> None:
    loop = loop_of()

    async def main() -> int:
        return await asyncio.to_thread(lambda: 41 + 1)

    assert loop.run(main(), limit_s=10) == 42


def test_a_simulation_in_which_nothing_can_happen_any_more_says_so() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(VirtualTimeError, match="no process has a callback to run"):
        loop_of().run(main(), limit_s=10)


def test_a_loop_that_spins_is_found() -> None:
    async def main() -> None:
        while True:  # noqa: ASYNC110 - that it goes on is the point
            await asyncio.sleep(0)

    with pytest.raises(VirtualTimeError, match="loops without a pause"):
        loop_of().run(main(), limit_s=10)


def test_a_run_that_takes_too_long_ends() -> None:
    async def main() -> None:
        while True:  # noqa: ASYNC110 - that it goes on is the point
            await asyncio.sleep(1)

    with pytest.raises(VirtualTimeError, match="not ended after 50"):
        loop_of().run(main(), limit_s=50)
