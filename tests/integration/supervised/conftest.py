"""Supervisors with real children, and eyes for processes."""

import contextlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from regather.children.child_limits import ChildRules
from regather.children.supervisor import Supervisor
from regather.children.work import Call, Work, WorkItem, WorkLimits
from regather_cli.process_table import descendants

FOLDER = Path(__file__).parent
KINDS = "supervised_kinds:KINDS"
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join([str(FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])])}

MakeWork = Callable[..., Work]


def make_work(
    do: str = "echo", count: int = 1, *, wall_s: float = 10.0, call: Call = Call.PROCESS, kind: str = "fault",
    payload: bytes = b"payload", cpu_s: int | None = None, memory_bytes: int | None = None,
    output_bytes: int = 1_000_000, **options: object,
) -> Work:  # fmt: skip
    """A batch of `count` items for a kind of supervised_kinds."""
    items = [WorkItem(seq, b"%s-%d" % (payload, seq)) for seq in range(count)]
    limits = WorkLimits(wall_s=wall_s, memory_bytes=memory_bytes, output_bytes=output_bytes, cpu_s=cpu_s)
    return Work(call, kind, json.dumps({"do": do, **options}).encode(), items, limits)


@pytest.fixture
def work() -> MakeWork:
    return make_work


StartSupervisor = Callable[..., Awaitable[Supervisor]]


@pytest.fixture
async def started() -> AsyncIterator[StartSupervisor]:
    """Start supervisors; they are stopped after the test, and none of their processes may be left."""
    supervisors: list[Supervisor] = []
    before = descendants(os.getpid())

    async def start(slots: int = 1, *, registry: str = KINDS, rules: ChildRules | None = None) -> Supervisor:
        supervisor = Supervisor(slots, registry, rules=rules, environment=ENVIRONMENT)
        supervisors.append(supervisor)
        await supervisor.start()
        return supervisor

    yield start
    for supervisor in supervisors:
        await supervisor.stop(0)
    assert descendants(os.getpid()) <= before


@pytest.fixture
async def supervisor(started: StartSupervisor) -> Supervisor:
    """One slot."""
    return await started()


def parent_of(pid: int) -> int | None:
    """Parent of a process that lives; zombies are dead."""
    with contextlib.suppress(OSError):
        state, parent = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[:2]
        return None if state in b"ZX" else int(parent)
    return None


def lives(pid: int) -> bool:
    return parent_of(pid) is not None


class Processes:
    """What tests ask about processes; handed out by a fixture, because test files cannot import each other."""

    parent_of = staticmethod(parent_of)
    lives = staticmethod(lives)
    descendants = staticmethod(descendants)

    @staticmethod
    def noted(folder: Path) -> set[int]:
        """Pids that a fault wrote down."""
        return {int(path.name.removeprefix("pid-")) for path in folder.glob("pid-*")}


@pytest.fixture
def processes() -> type[Processes]:
    return Processes


@pytest.fixture
def pythonpath() -> str:
    """Where children find the tests' kinds."""
    return ENVIRONMENT["PYTHONPATH"]
