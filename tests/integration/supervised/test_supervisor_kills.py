"""Children that must be killed, that die, and what becomes of the batch around the guilty item."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from regather.children.child_limits import ChildRules
from regather.children.supervisor import Supervisor
from regather.children.work import Call, Work
from regather.core.execution import Done, Failed, NotRun, Result
from regather.core.model import Reason
from regather.testing.waiting import eventually

pytestmark = pytest.mark.long

MakeWork = Callable[..., Work]
StartSupervisor = Callable[..., Awaitable[Supervisor]]
LATE_S = 1.0  # how late a kill may be on a machine that is busy with other things; the median is below 20 ms


def failure(result: Result) -> Failed:
    assert isinstance(result, Failed), result
    return result


async def pid_of_child(supervisor: Supervisor, work: MakeWork) -> int:
    (told,) = await supervisor.run(work("identity"))
    assert isinstance(told, Done)
    return int(json.loads(told.output)["pid"])


@pytest.mark.parametrize(
    "do", ["hold_the_interpreter", "release_the_interpreter", "sleep", "ignore_signals", "stop_oneself"]
)
async def test_whatever_hangs_is_dead_shortly_after_its_deadline(
    supervisor: Supervisor, work: MakeWork, processes: Any, do: str
) -> None:
    child = await pid_of_child(supervisor, work)
    begun_s = time.monotonic()
    (result,) = await supervisor.run(work(do, wall_s=0.2))
    took_s = time.monotonic() - begun_s
    assert failure(result).reason is Reason.TIMED_OUT
    assert 0.2 <= took_s < 0.2 + LATE_S
    assert not processes.lives(child)
    assert supervisor.stats.overdue == 1
    assert isinstance((await supervisor.run(work()))[0], Done)


async def test_cpu_time_is_limited_and_told_apart_from_wall_time(supervisor: Supervisor, work: MakeWork) -> None:
    (result,) = await supervisor.run(work("hold_the_interpreter", wall_s=60, cpu_s=1))
    assert failure(result).reason is Reason.CPU_TIME
    assert "more than 1 s of CPU time" in failure(result).error
    (result,) = await supervisor.run(work("sleep", wall_s=1.5, cpu_s=1))
    assert failure(result).reason is Reason.TIMED_OUT
    results = await supervisor.run(work("burn_a_little", 6, wall_s=60, cpu_s=1))  # the limit is for each item
    assert all(isinstance(result, Done) for result in results)


async def test_a_time_out_tells_where_the_shard_was(supervisor: Supervisor, work: MakeWork) -> None:
    (result,) = await supervisor.run(work("sleep", wall_s=0.2))
    assert "did not end within 0.2 s" in failure(result).error
    assert "in sleep" in failure(result).error
    assert "children/child.py" not in failure(result).error


async def test_an_error_shows_what_its_own_work_printed(supervisor: Supervisor, work: MakeWork) -> None:
    for _ in range(5):  # whether the earlier text is still in the pipe when the next work begins is a matter of luck
        await supervisor.run(work("print_much"))
        (result,) = await supervisor.run(work("print_and_crash"))
        assert "last words of 0" in failure(result).error
        assert "earlier" not in failure(result).error


async def test_only_the_hanging_item_of_a_batch_is_charged(supervisor: Supervisor, work: MakeWork) -> None:
    results = await supervisor.run(work("sleep", 10, only=[3], wall_s=0.2))
    assert failure(results[3]).reason is Reason.TIMED_OUT
    assert all(isinstance(result, Done | NotRun) for result in results[:3])
    assert results[4:] == [NotRun()] * 6
    assert all(isinstance(result, Done) for result in await supervisor.run(work(count=10)))


async def test_the_limit_is_for_each_item_not_for_the_batch(supervisor: Supervisor, work: MakeWork) -> None:
    results = await supervisor.run(work("sleep_a_little", 10, wall_s=0.25))
    assert all(isinstance(result, Done) for result in results)


async def test_what_was_done_before_a_kill_is_not_lost(supervisor: Supervisor, work: MakeWork) -> None:
    slow_then_fatal = Work(
        Call.PROCESS, "fault", b'{"do": "sleep_a_little"}', work(count=6).items, work(wall_s=5).limits
    )  # fmt: skip
    running = asyncio.create_task(supervisor.run(slow_then_fatal))
    (child,) = supervisor._children.values()
    await eventually(lambda: child._running is not None and child._running.known[2] is not None)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    results = await running
    done = [isinstance(result, Done) for result in results]
    assert done[:3] == [True] * 3
    charged = [result for result in results if isinstance(result, Failed)]
    assert len(charged) <= 1


@pytest.mark.parametrize(
    ("do", "reason", "word"),
    [
        ("close_everything", Reason.CRASHED, "closed the channel"),
        ("print_and_crash", Reason.CRASHED, "last words of 4"),
    ],
)
async def test_a_crash_in_a_batch_is_charged_to_its_item(
    supervisor: Supervisor, work: MakeWork, do: str, reason: Reason, word: str
) -> None:
    results = await supervisor.run(work(do, 8, only=[4]))
    assert failure(results[4]).reason is reason
    assert word in failure(results[4]).error
    assert all(isinstance(result, Done | NotRun) for at, result in enumerate(results) if at != 4)
    assert supervisor.stats.deaths == 1
    assert isinstance((await supervisor.run(work()))[0], Done)


async def test_junk_on_the_channel_kills_the_child_and_finds_the_guilty(supervisor: Supervisor, work: MakeWork) -> None:
    results = await supervisor.run(work("write_everywhere", 5, only=[2]))
    assert failure(results[2]).reason is Reason.CRASHED
    assert "no reply" in failure(results[2]).error
    assert [type(result) for at, result in enumerate(results) if at != 2] == [Done] * 4
    assert isinstance((await supervisor.run(work()))[0], Done)


async def test_a_merge_that_hangs_is_killed(supervisor: Supervisor, work: MakeWork) -> None:
    (result,) = await supervisor.run(work("sleep", 3, call=Call.MERGE, wall_s=0.2))
    assert failure(result).reason is Reason.TIMED_OUT
    assert "merge()" in failure(result).error


async def test_a_child_that_does_not_take_its_work_blocks_nobody(started: StartSupervisor, work: MakeWork) -> None:
    supervisor = await started(2, rules=ChildRules(transfer_s=0.3))
    children = {await pid_of_child(supervisor, work)}
    (stopped,) = children
    os.kill(stopped, signal.SIGSTOP)
    big = work(payload=b"x" * 5_000_000)
    stuck, other = await asyncio.gather(supervisor.run(big), supervisor.run(work()))
    assert stuck == [NotRun()]
    assert isinstance(other[0], Done)
    assert isinstance((await supervisor.run(big))[0], Failed)  # more than output_bytes: it did arrive, though


async def test_processes_of_a_killed_item_die_with_it(
    supervisor: Supervisor, work: MakeWork, processes: Any, tmp_path: Path
) -> None:
    running = asyncio.create_task(supervisor.run(work("family", wall_s=3, folder=str(tmp_path))))
    await eventually((tmp_path / "complete").exists, what="the family")
    family = processes.noted(tmp_path)
    assert len(family) == 4
    assert all(map(processes.lives, family))
    (result,) = await running
    assert failure(result).reason is Reason.TIMED_OUT
    await eventually(lambda: not any(map(processes.lives, family)), what="the death of the family")


@pytest.mark.parametrize("do", ["leave_helper", "leave_daemon"])
async def test_a_process_that_was_left_behind_is_killed_after_the_work(
    supervisor: Supervisor, work: MakeWork, processes: Any, tmp_path: Path, do: str
) -> None:
    (result,) = await supervisor.run(work(do, folder=str(tmp_path)))
    assert isinstance(result, Done)
    (helper,) = processes.noted(tmp_path)
    await eventually(lambda: not processes.lives(helper), what="the helper's death")
    assert supervisor.stats.recycled == 1


async def test_two_hundred_kills_lose_no_slot(started: StartSupervisor, work: MakeWork) -> None:
    supervisor = await started(2)
    outcomes = await asyncio.gather(*(supervisor.run(work("sleep", wall_s=0.01)) for _ in range(200)))
    assert [failure(result).reason for (result,) in outcomes] == [Reason.TIMED_OUT] * 200
    both = await asyncio.gather(*(supervisor.run(work("sleep_a_little")) for _ in range(2)))
    assert all(isinstance(result, Done) for (result,) in both)
    await eventually(lambda: supervisor.stats.refills == 200, what="200 refills")
    assert supervisor.stats.overdue == len(supervisor.stats.overrun_ms) == 200


async def test_cancelling_the_caller_kills_its_child_only(
    started: StartSupervisor, work: MakeWork, processes: Any
) -> None:
    supervisor = await started(2)
    pids = [json.loads(result.output)["pid"] for (result,) in await asyncio.gather(
        *(supervisor.run(work("identity")) for _ in range(2))
    ) if isinstance(result, Done)]  # fmt: skip
    hanging = asyncio.create_task(supervisor.run(work("sleep", wall_s=60)))
    await eventually(lambda: supervisor.busy == 1)
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    await eventually(lambda: sum(map(processes.lives, pids)) == 1, what="the death of one of the two")
    both = await asyncio.gather(*(supervisor.run(work()) for _ in range(2)))
    assert all(isinstance(result, Done) for (result,) in both)


async def test_a_caller_that_gives_up_waiting_for_a_slot_loses_none(supervisor: Supervisor, work: MakeWork) -> None:
    busy = asyncio.create_task(supervisor.run(work("sleep", wall_s=0.3)))
    waiting = asyncio.create_task(supervisor.run(work()))
    await eventually(lambda: supervisor.busy == 1)
    waiting.cancel()
    await asyncio.wait([waiting, busy])
    assert waiting.cancelled()
    assert isinstance((await supervisor.run(work()))[0], Done)


async def test_a_caller_cancelled_in_the_moment_it_gets_a_slot_gives_it_back(
    supervisor: Supervisor, work: MakeWork
) -> None:
    async def first() -> None:
        await supervisor.run(work("sleep_a_little"))
        assert not waiting.done()
        waiting.cancel()

    running = asyncio.create_task(first())
    waiting = asyncio.create_task(supervisor.run(work("sleep")))
    await running
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert supervisor.stats.kills == 0
    async with asyncio.timeout(5):
        assert isinstance((await supervisor.run(work()))[0], Done)


async def test_an_idle_child_that_is_killed_from_outside_is_replaced(supervisor: Supervisor, work: MakeWork) -> None:
    os.kill(await pid_of_child(supervisor, work), signal.SIGKILL)
    await eventually(lambda: supervisor.stats.deaths + supervisor.stats.kills == 1, what="the death to be seen")
    assert isinstance((await supervisor.run(work()))[0], Done)
