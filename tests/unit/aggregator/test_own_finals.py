"""Which finals a partition remembers, and what forgetting an old one leaves."""

import asyncio

from unit.aggregator.world import job, opened

from regather.core.partition_fold import FoldPolicy, PartitionFold
from regather_aggregator.emission_queue import EmissionQueue
from regather_aggregator.own_finals import OwnFinals

DAY_MS = 24 * 3600 * 1000


def test_forgetting_an_old_version_keeps_the_final_of_a_newer_one() -> None:
    first = job()
    second = first._replace(version=2)
    fold, finals = PartitionFold(FoldPolicy(heartbeat_timeout_ms=60_000)), OwnFinals()
    for offset, (owner, append_ms) in enumerate([(first, 0), (second, DAY_MS)]):
        fold.final_seen(owner.job_id, owner.version, reopenable=False, submission=owner.submission)
        finals.add(owner, offset, append_ms)
    fold.forget(finals.forget_old(DAY_MS + 3 * 3600 * 1000))
    assert len(finals) == 1
    assert fold.handle(opened(second), offset=2, append_ms=0) == []
    assert (fold.open_jobs, fold.dropped["already-done"]) == (0, 1)
    fold.forget(finals.forget_old(3 * DAY_MS))
    fold.handle(opened(second), offset=3, append_ms=0)
    assert fold.open_jobs == 1


async def test_a_wake_between_two_waits_is_not_lost() -> None:
    queue = EmissionQueue()
    queue.wake()
    async with asyncio.timeout(5):
        await queue.wait(3600)
    woken = asyncio.create_task(queue.wait(3600))
    await asyncio.wait([woken], timeout=0)
    assert not woken.done()
    queue.wake()
    async with asyncio.timeout(5):
        await woken
