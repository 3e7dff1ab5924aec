"""Traps 27 and 40: workers that pause by hysteresis, and children that share nothing with the Kafka clients."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from regather.children.supervisor import Supervisor
from regather.children.work import Work
from regather.core.execution import Result
from regather.embedded.embedded_kafka import EmbeddedKafka
from regather.processors.registry import all_kinds
from regather.testing.contract import World
from regather.testing.inline_executor import InlineExecutor
from regather.testing.waiting import eventually
from regather.transport.base import TopicPartition
from regather_cli.process_table import descendants

pytestmark = pytest.mark.kafka


class OneByOne(InlineExecutor):
    """Runs a piece of work each time it is let."""

    def __init__(self) -> None:
        super().__init__(all_kinds())
        self.permits = asyncio.Semaphore(0)

    async def run(self, work: Work) -> list[Result]:
        await self.permits.acquire()
        return await super().run(work)

    def let(self, count: int) -> None:
        for _ in range(count):
            self.permits.release()


async def test_trap_27_a_full_partition_is_paused_until_half_of_it_is_done(
    installation: Any, direct: World, watch: Any
) -> None:
    watched, executor = watch(direct.transport), OneByOne()
    worker = await installation.worker(watched, executor, max_open_records=20)
    await eventually(lambda: worker.not_ready_because is None, what="a ready worker")
    tp = TopicPartition(installation.topics.shards_small, 0)

    async def opens(count: int) -> None:
        await eventually(lambda: open_records(worker) == count, what=f"{count} open shards")
        polls = watched.polls
        await eventually(lambda: watched.polls > polls + 1, what="another poll")

    await installation.shards(20)
    await opens(20)
    assert watched.paused == {tp}
    executor.let(9)
    await opens(11)
    assert watched.paused == {tp}
    executor.let(1)
    await opens(10)
    assert watched.paused == set()
    executor.let(10)


def open_records(worker: Any) -> float:
    return next(sample.value for sample in worker.samples() if sample.name == "regather_records_open")


class NotesItsStart(InlineExecutor):
    """Children that take a while to start."""

    def __init__(self, notes: list[str]) -> None:
        super().__init__(all_kinds())
        self._notes = notes

    async def start(self) -> None:
        await asyncio.sleep(0)
        self._notes.append("children")


@pytest.mark.parametrize("service", ["worker", "aggregator"])
async def test_trap_40_children_are_there_before_the_first_kafka_client(
    installation: Any, direct: World, watch: Any, service: str
) -> None:
    watched = watch(direct.transport)
    start: Callable[..., Awaitable[Any]] = getattr(installation, service)
    running = await start(watched, NotesItsStart(watched.made))
    await eventually(lambda: running.not_ready_because is None, what="a ready service")
    assert watched.made[0] == "children"
    assert "consumer" in watched.made


def sockets_of(pid: int) -> set[str]:
    """Inodes of the sockets that a process holds."""
    found = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(fd.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            found.add(target.removeprefix("socket:[").rstrip("]"))
    return found


def connections_to(port: int) -> set[str]:
    """Inodes of the TCP connections of this machine that lead to a port."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    columns = [line.split() for line in lines]
    return {column[9] for column in columns if column[2].endswith(f":{port:04X}")}


async def test_trap_40_no_child_holds_a_connection_of_its_service_even_if_it_is_forked_later(
    direct: World, kafka: EmbeddedKafka
) -> None:
    topic = await direct.topic()
    await direct.write(topic, b"x")
    to_broker = connections_to(int(kafka.bootstrap_servers.rpartition(":")[2]))
    assert sockets_of(os.getpid()) & to_broker
    strangers = descendants(os.getpid())
    supervisor = Supervisor(2)
    await supervisor.start()
    try:
        children = descendants(os.getpid()) - strangers
        assert len(children) >= 3  # the zygote and its children
        assert {pid for pid in children if sockets_of(pid) & to_broker} == set()
    finally:
        await supervisor.stop(0)
