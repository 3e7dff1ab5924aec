"""Start, stop, the death of the zygote, the death of the whole process: nobody is left behind."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from regather.children.child_limits import ChildRules
from regather.children.supervisor import Supervisor
from regather.children.work import Work
from regather.children.zygote_link import ChildrenUnavailable
from regather.core.execution import Done, Failed, NotRun
from regather.testing.waiting import eventually

MakeWork = Callable[..., Work]
StartSupervisor = Callable[..., Awaitable[Supervisor]]

HOLDER = """
import asyncio, sys
from regather.children.child_limits import ChildRules
from regather.children.work import Call, Work, WorkItem, WorkLimits
from regather.children.supervisor import Supervisor

async def hold():
    supervisor = Supervisor(2, "supervised_kinds:KINDS", environment={"PYTHONPATH": sys.argv[1]})
    await supervisor.start()
    options = b'{"do": "family", "folder": "%s"}' % sys.argv[2].encode()
    await supervisor.run(Work(Call.PROCESS, "fault", options, [WorkItem(0, b"")], WorkLimits(wall_s=600)))

asyncio.run(hold())
"""


async def zygote_of(supervisor: Supervisor, work: MakeWork) -> int:
    (told,) = await supervisor.run(work("identity"))
    assert isinstance(told, Done)
    return int(json.loads(told.output)["zygote"])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_nobody_survives_the_death_of_the_supervisors_process(
    processes: Any, tmp_path: Path, pythonpath: str, number: signal.Signals
) -> None:
    holder = await asyncio.create_subprocess_exec(sys.executable, "-c", HOLDER, pythonpath, str(tmp_path))
    try:
        await eventually((tmp_path / "complete").exists, what="the family", timeout_s=30)
        below = processes.descendants(holder.pid)
        assert processes.noted(tmp_path) < below
        assert len(below) >= 6
    finally:
        holder.send_signal(number)
        await holder.wait()
    await eventually(lambda: not any(map(processes.lives, below)), what="everybody's death")


async def test_children_do_not_survive_the_death_of_supervisor_and_zygote_at_once(
    processes: Any, tmp_path: Path, pythonpath: str
) -> None:
    holder = await asyncio.create_subprocess_exec(sys.executable, "-c", HOLDER, pythonpath, str(tmp_path))
    await eventually((tmp_path / "complete").exists, what="the family", timeout_s=30)
    below = processes.descendants(holder.pid)
    (zygote,) = [pid for pid in below if processes.parent_of(pid) == holder.pid]
    children = {pid for pid in below if processes.parent_of(pid) == zygote}
    os.kill(zygote, signal.SIGSTOP)  # it must not find the time to clean up
    holder.kill()
    await holder.wait()
    os.kill(zygote, signal.SIGKILL)
    try:
        assert len(children) == 2
        await eventually(lambda: not any(map(processes.lives, children)), what="the children's death")
    finally:
        for pid in filter(processes.lives, below):  # grandchildren: a stated limit
            os.kill(pid, signal.SIGKILL)


async def test_children_that_end_as_they_start_are_told_at_the_start(started: StartSupervisor) -> None:
    with pytest.raises(ChildrenUnavailable, match=r"(?s)as soon as they start.*ValueError"):
        await started(rules=ChildRules(open_files=-2))


async def test_stop_lets_running_work_end(started: StartSupervisor, work: MakeWork, processes: Any) -> None:
    strangers = processes.descendants(os.getpid())  # the shared broker, for one
    supervisor = await started()
    running = asyncio.create_task(supervisor.run(work("sleep_a_little", 5)))
    waiting = asyncio.create_task(supervisor.run(work()))
    await eventually(lambda: supervisor.busy == 1)
    children = processes.descendants(os.getpid()) - strangers
    await supervisor.stop(10)
    assert children
    assert all(isinstance(result, Done) for result in await running)
    assert await waiting == [NotRun()]
    assert await supervisor.run(work(count=3)) == [NotRun()] * 3
    assert not children & processes.descendants(os.getpid())


async def test_stop_kills_what_does_not_end(
    started: StartSupervisor, work: MakeWork, processes: Any, tmp_path: Path
) -> None:
    supervisor = await started()
    running = asyncio.create_task(supervisor.run(work("family", wall_s=600, folder=str(tmp_path))))
    await eventually((tmp_path / "complete").exists, what="the family")
    await supervisor.stop(0.05)
    assert await running == [NotRun()]
    assert not any(map(processes.lives, processes.noted(tmp_path)))


async def test_stop_can_be_called_twice_and_without_start(started: StartSupervisor) -> None:
    supervisor = await started()
    await supervisor.stop(0)
    await supervisor.stop(0)
    await Supervisor(1).stop(0)


async def test_a_lost_zygote_charges_nobody_and_is_started_again(
    started: StartSupervisor, work: MakeWork, processes: Any, tmp_path: Path
) -> None:
    supervisor = await started(2)
    zygote = await zygote_of(supervisor, work)
    running = asyncio.create_task(supervisor.run(work("family", wall_s=60, folder=str(tmp_path))))
    await eventually((tmp_path / "complete").exists, what="the family")
    os.kill(zygote, signal.SIGKILL)
    assert await running == [NotRun(begun=True)]
    both = await asyncio.gather(*(supervisor.run(work("identity")) for _ in range(2)))
    zygotes = {json.loads(result.output)["zygote"] for (result,) in both if isinstance(result, Done)}
    assert len(zygotes) == 1
    assert zygote not in zygotes
    assert supervisor.stats.zygote_restarts == 1
    in_session = [pid for pid in processes.noted(tmp_path) if processes.lives(pid)]
    for pid in in_session:  # what had left its group cannot be found once the zygote is gone: a stated limit
        os.kill(pid, signal.SIGKILL)
    assert len(in_session) <= 2


async def test_user_code_that_kills_the_zygote_stops_nothing_for_long(supervisor: Supervisor, work: MakeWork) -> None:
    (result,) = await supervisor.run(work("kill_zygote", wall_s=60))
    assert isinstance(result, NotRun | Failed)
    assert isinstance((await supervisor.run(work()))[0], Done)


async def test_sigterm_to_everybody_leaves_running_work_alone(
    supervisor: Supervisor, work: MakeWork, processes: Any
) -> None:
    running = asyncio.create_task(supervisor.run(work("sleep_a_little", 10)))
    await eventually(lambda: supervisor.busy == 1)
    child = next(iter(supervisor._children.values())).pid
    assert child is not None
    os.kill(child, signal.SIGTERM)
    assert all(isinstance(result, Done) for result in await running)
    os.kill(await zygote_of(supervisor, work), signal.SIGTERM)
    assert isinstance((await supervisor.run(work()))[0], Done)
    assert supervisor.stats.zygote_restarts == supervisor.stats.deaths == 0
