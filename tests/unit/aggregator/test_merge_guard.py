"""Turns of merges after a death: one at a time, none before its mark is committed, and nobody waits for an ended job."""

import asyncio

from regather.core.ids import uuid7
from regather.core.job_events import Assembled, JobBroken
from regather.core.merge_attempts import MergeAttempts
from regather.core.model import Identity, OnError, Opened, Reason, SubmissionId
from regather.core.reassembly import JobFold
from regather.testing.waiting import eventually
from regather_aggregator.merge_guard import MergeGuard


def job(number: int) -> JobFold:
    owner = Identity(uuid7(number, bytes(10)), SubmissionId("00" * 8))
    return JobFold(Opened(owner, "bytes.digest", b"{}", "", 1000, OnError.FAIL), offset=number, opened_ms=0)


class Merges:
    """Merges that last until they are told to end."""

    def __init__(self) -> None:
        self.running: list[JobFold] = []
        self.may_end = asyncio.Event()

    async def assemble(self, job: JobFold) -> Assembled | JobBroken:
        self.running.append(job)
        await self.may_end.wait()
        self.running.remove(job)
        return Assembled(b"", "")


def turns(merges: Merges, alone: asyncio.Lock, *, suspects_below: int = 100) -> MergeGuard:
    made = MergeGuard(merges.assemble, alone)
    made.begun = MergeAttempts({}, suspects_below=suspects_below)
    return made


def commit(owner: MergeGuard, *, clean_shutdown: bool = False) -> None:
    owner.committed(
        owner.begun.clean_shutdown() if clean_shutdown else owner.begun.marks(), clean_shutdown=clean_shutdown
    )


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_merge_begins_before_the_flag_of_the_owner_before_is_gone() -> None:
    merges = Merges()
    owner = turns(merges, asyncio.Lock(), suspects_below=0)
    taking = asyncio.create_task(owner.assemble(job(1)))
    await settle()
    assert (merges.running, owner.waits_for_commit) == ([], True)
    commit(owner, clean_shutdown=True)
    await settle()
    assert merges.running == []
    commit(owner)
    merges.may_end.set()
    assert await taking == Assembled(b"", "")
    assert not owner.waits_for_commit


async def test_no_merge_begins_while_the_flag_of_a_revocation_is_the_last_commit() -> None:
    merges = Merges()
    owner = turns(merges, asyncio.Lock(), suspects_below=0)
    commit(owner)
    commit(owner, clean_shutdown=True)
    assert owner.waits_for_commit
    taking = asyncio.create_task(owner.assemble(job(1)))
    await settle()
    assert merges.running == []
    commit(owner)
    merges.may_end.set()
    assert await taking == Assembled(b"", "")


async def test_suspects_of_all_partitions_merge_one_at_a_time_each_behind_its_mark() -> None:
    merges, alone = Merges(), asyncio.Lock()
    one, other = turns(merges, alone), turns(merges, alone)
    first, second, stranger = job(1), job(2), job(200)
    for owner in (one, other):
        commit(owner)
    taking = [asyncio.create_task(one.assemble(first)), asyncio.create_task(other.assemble(second))]
    taking.append(asyncio.create_task(other.assemble(stranger)))
    await eventually(lambda: merges.running == [stranger], what="the merge of a job that came after the death")
    assert (one.waits_for_commit, other.waits_for_commit) == (True, False)
    commit(one, clean_shutdown=True)
    await settle()
    assert merges.running == [stranger]
    commit(one)
    await eventually(lambda: merges.running == [stranger, first], what="the merge behind its mark")
    assert (one.begun.marks(), other.begun.marks()) == ({(first.owner.job_id, 1): 1}, {})
    merges.may_end.set()
    await eventually(lambda: other.waits_for_commit, what="the second one's turn")
    commit(other)
    await asyncio.gather(*taking)
    assert (one.begun.marks(), other.begun.marks()) == ({}, {})


async def test_a_job_that_ends_while_its_merge_waits_for_its_mark_keeps_nobody_waiting() -> None:
    merges = Merges()
    owner, cancelled = turns(merges, asyncio.Lock()), job(1)
    merges.may_end.set()
    commit(owner)
    taking = asyncio.create_task(owner.assemble(cancelled))
    await eventually(lambda: owner.begun.marks() != {}, what="the mark")
    owner.begun.ended(cancelled.owner)  # its final was read back
    commit(owner)
    await taking
    following = asyncio.create_task(owner.assemble(job(2)))
    await eventually(lambda: owner.begun.marks() != {}, what="the next one's mark")
    commit(owner)
    assert await following == Assembled(b"", "")


async def test_a_merge_that_was_marked_too_often_does_not_begin() -> None:
    merges, guilty = Merges(), job(1)
    owner = MergeGuard(merges.assemble, asyncio.Lock())
    owner.begun = MergeAttempts({(guilty.owner.job_id, 1): 3})
    told = await owner.assemble(guilty)
    assert isinstance(told, JobBroken)
    assert told.reason is Reason.INTERNAL
    assert "its merge began 3 times" in told.error
