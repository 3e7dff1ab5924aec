"""What comes back from children that behave, or fail without dying."""

import asyncio
import json
import os
import platform
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from regather.children.child_limits import ChildRules
from regather.children.supervisor import Supervisor
from regather.children.work import Call, Work, WorkItem, WorkLimits
from regather.children.zygote_link import ChildrenUnavailable
from regather.core.execution import Done, Failed, NotRun, Result
from regather.core.model import Reason

pytestmark = pytest.mark.long

MakeWork = Callable[..., Work]
StartSupervisor = Callable[..., Awaitable[Supervisor]]


def diagnostics(do: str, *, limits: WorkLimits | None = None, **options: object) -> Work:
    document = json.dumps({"do": do, **options}).encode()
    return Work(Call.PROCESS, "diagnostics", document, [WorkItem(0, b"abc")], limits or WorkLimits())


def failure(results: list[Result]) -> Failed:
    (failed,) = results
    assert isinstance(failed, Failed)
    return failed


async def test_results_come_in_the_order_of_the_items(supervisor: Supervisor, work: MakeWork) -> None:
    results = await supervisor.run(work(count=200))
    assert [result.output for result in results if isinstance(result, Done)] == [b"payload-%d" % n for n in range(200)]


async def test_large_payloads_and_outputs_pass_whole(supervisor: Supervisor) -> None:
    payloads = [os.urandom(size) for size in (3_000_000, 1, 300_000, 0, 10_485_760)]
    items = [WorkItem(seq, payload) for seq, payload in enumerate(payloads)]
    results = await supervisor.run(Work(Call.PROCESS, "fault", b"{}", items, WorkLimits()))
    assert [result.output for result in results if isinstance(result, Done)] == payloads


async def test_more_work_than_slots_waits_and_all_of_it_is_done(started: StartSupervisor, work: MakeWork) -> None:
    supervisor = await started(2)
    results = await asyncio.gather(*(supervisor.run(work(payload=b"%d" % n)) for n in range(50)))
    assert [result[0].output for result in results if isinstance(result[0], Done)] == [b"%d-0" % n for n in range(50)]
    assert supervisor.slots == 2
    assert supervisor.busy == 0


async def test_work_without_items_gives_no_results(supervisor: Supervisor, work: MakeWork) -> None:
    assert await supervisor.run(work(count=0)) == []


async def test_merge_sees_gaps_as_none_and_gives_one_result(supervisor: Supervisor) -> None:
    items = [WorkItem(0, b"a"), WorkItem(1, b"", missing=True), WorkItem(2, b"")]
    (merged,) = await supervisor.run(Work(Call.MERGE, "fault", b"{}", items, WorkLimits()))
    assert isinstance(merged, Done)
    assert json.loads(merged.output) == ["a", None, ""]


async def test_an_exception_fails_its_item_only_and_tells_where(started: StartSupervisor) -> None:
    supervisor = await started(registry="regather.processors.registry:all_kinds")
    items = [WorkItem(seq, b"abc") for seq in range(3)]
    options = b'{"do": "raise", "only": "1"}'
    results = await supervisor.run(Work(Call.PROCESS, "diagnostics", options, items, WorkLimits()))
    assert [type(result) for result in results] == [Done, Failed, Done]
    failed = results[1]
    assert isinstance(failed, Failed)
    assert failed.reason is Reason.RAISED
    assert failed.error == "RuntimeError: shard 1 was asked to raise, attempt 0"
    assert "  regather/kinds/diagnostics.py:" in failed.trace
    assert "children/child.py" not in failed.trace
    assert failed.retryable
    assert failed.started_ms > 1_600_000_000_000


@pytest.mark.parametrize(
    ("do", "options", "reason", "retryable", "word"),
    [
        ("permanent", {}, Reason.PERMANENT, False, "asked to fail for good"),
        ("exit", {}, Reason.EXITED, True, "exit code 7"),
        ("segfault", {}, Reason.CRASHED, True, "SIGSEGV"),
        ("return_wrong", {}, Reason.RAISED, True, "returned str; it must return bytes"),
        ("return_huge", {"size_bytes": 20_000_000}, Reason.RETURNED_TOO_MUCH, False, "20000000 bytes"),
        ("no such thing", {}, Reason.PERMANENT, False, "option 'do'"),
    ],
)
async def test_faults_of_the_diagnostics_kind(
    started: StartSupervisor, do: str, options: dict[str, Any], reason: Reason, retryable: bool, word: str
) -> None:
    supervisor = await started(registry="regather.processors.registry:all_kinds")
    failed = failure(await supervisor.run(diagnostics(do, **options)))
    assert failed.reason is reason
    assert failed.retryable is retryable
    assert word in failed.error
    (after,) = await supervisor.run(diagnostics("echo"))
    assert isinstance(after, Done)


async def test_memory_above_the_limit_is_told_from_other_errors(started: StartSupervisor, work: MakeWork) -> None:
    supervisor = await started()
    results = await supervisor.run(work("grow", 3, only=[1], memory_bytes=50_000_000))
    assert isinstance(results[0], Done)
    assert isinstance(results[1], Failed)
    assert results[1].reason is Reason.OUT_OF_MEMORY
    assert results[2] == NotRun()
    assert supervisor.stats.recycled == 1
    (without_limit,) = await supervisor.run(work("grow"))
    assert isinstance(without_limit, Done)


async def test_a_flood_of_prints_neither_blocks_nor_shows(
    started: StartSupervisor, capfd: pytest.CaptureFixture[str]
) -> None:
    supervisor = await started(registry="regather.processors.registry:all_kinds")
    (flooded,) = await supervisor.run(diagnostics("flood", size_bytes=50_000_000))
    assert isinstance(flooded, Done)
    assert "flood" not in "".join(capfd.readouterr())


async def test_sys_exit_fails_the_item_and_the_child_lives_on(supervisor: Supervisor, work: MakeWork) -> None:
    results = await supervisor.run(work("exit_politely", 2, only=[0]))
    assert isinstance(results[0], Failed)
    assert results[0].reason is Reason.EXITED
    assert "sys.exit('enough')" in results[0].error
    assert isinstance(results[1], Done)
    assert supervisor.stats.deaths == 0


async def test_an_exception_that_cannot_be_printed_is_named(supervisor: Supervisor, work: MakeWork) -> None:
    assert failure(await supervisor.run(work("raise_unprintable"))).error.split("\n")[0] == "Unprintable"


async def test_an_exception_without_a_class_is_named(supervisor: Supervisor, work: MakeWork) -> None:
    assert failure(await supervisor.run(work("raise_faceless"))).error == "Faceless"
    assert supervisor.stats.deaths == 0


async def test_too_large_an_output_says_what_to_do_and_too_large_a_merge_does_not_speak_of_shards(
    supervisor: Supervisor, work: MakeWork
) -> None:
    shard = failure(await supervisor.run(work(payload=b"x" * 2000, output_bytes=1000)))
    assert shard.error.startswith("returned 2002 bytes; at most 1000 are allowed: ask for a smaller shard_size")
    merge = failure(await supervisor.run(work(payload=b"x" * 2000, output_bytes=1000, call=Call.MERGE)))
    assert merge.error == "returned 2006 bytes; at most 1000 are allowed"
    assert (shard.retryable, merge.retryable) == (False, False)


async def test_a_plug_in_s_error_has_its_frames_by_package_and_no_folder(
    supervisor: Supervisor, work: MakeWork
) -> None:
    failed = failure(await supervisor.run(work("raise_with_path")))
    summary, *frames = failed.error.split("\n")
    assert summary == "FileNotFoundError: [Errno 2] No such file or directory: 'model.onnx'"
    assert frames[0].startswith("  supervised_kinds.py:")
    assert frames[1].endswith(" in raise_with_path")
    assert frames[-1].startswith("  pathlib.py:")
    assert "/" not in failed.error
    assert failed.retryable


@pytest.mark.parametrize("do", ["raise_evil", "raise_evil_on_purpose"])
async def test_no_message_breaks_the_line_obeys_or_grows(supervisor: Supervisor, work: MakeWork, do: str) -> None:
    failed = failure(await supervisor.run(work(do)))
    summary = failed.error.split("\n")[0]
    assert "two lines" in summary
    assert "\\x1b[2J" in summary
    assert "\\ud800" in summary
    assert summary.isprintable()
    assert len(failed.error.encode()) <= 4096


async def test_what_a_kind_calls_certain_is_permanent_and_memory_never_is(
    supervisor: Supervisor, work: MakeWork
) -> None:
    failed = failure(await supervisor.run(work("confuse", kind="certain")))
    assert (failed.reason, failed.retryable) == (Reason.PERMANENT, False)
    assert failed.error.startswith("TypeError: ")
    hungry = failure(await supervisor.run(work("grow", kind="certain", memory_bytes=50_000_000)))
    assert (hungry.reason, hungry.retryable) == (Reason.OUT_OF_MEMORY, True)
    asked = failure(await supervisor.run(work("raise_with_path", kind="certain")))
    assert (asked.reason, asked.retryable) == (Reason.RAISED, True)


async def test_a_crash_shows_no_folder_of_the_server(supervisor: Supervisor, work: MakeWork) -> None:
    failed = failure(await supervisor.run(work("crash_below")))
    assert 'supervised_kinds.py", line' in failed.error
    assert "reading body.tif" in failed.error
    assert 'File "/' not in failed.error


async def test_an_unknown_kind_names_the_kinds_there_are(supervisor: Supervisor, work: MakeWork) -> None:
    failed = failure(await supervisor.run(work(kind="fautl")))
    assert failed.reason is Reason.INTERNAL
    assert "unknown kind 'fautl'; installed are certain, cut, fault" in failed.error


async def test_outputs_that_fill_a_batch_are_sent_as_they_come(supervisor: Supervisor) -> None:
    items = [WorkItem(seq, bytes([seq]) * 900_000) for seq in range(30)]
    results = await supervisor.run(Work(Call.PROCESS, "fault", b"{}", items, WorkLimits(output_bytes=900_000)))
    assert [result.output[:1] for result in results if isinstance(result, Done)] == [bytes([seq]) for seq in range(30)]


async def test_children_know_no_secret_and_have_sessions_of_their_own(started: StartSupervisor, work: MakeWork) -> None:
    supervisor = await started(2)
    (told,) = await supervisor.run(work("environment"))
    assert isinstance(told, Done)
    assert "KAFKA" not in told.output.decode()
    assert {"OMP_NUM_THREADS", "PYTHONPATH"} <= json.loads(told.output).keys()
    assert "HOME" not in json.loads(told.output)
    both = await asyncio.gather(*(supervisor.run(work("identity")) for _ in range(2)))
    told_by = [json.loads(result.output) for (result,) in both if isinstance(result, Done)]
    assert all(one["pid"] == one["group"] == one["session"] for one in told_by)
    assert told_by[0]["zygote"] == told_by[1]["zygote"] != os.getpid()


async def test_a_child_is_replaced_after_so_many_items(started: StartSupervisor, work: MakeWork) -> None:
    supervisor = await started(rules=ChildRules(recycle_after_items=10))
    for _ in range(9):
        await supervisor.run(work(count=5))
    assert supervisor.stats.recycled >= 4
    assert supervisor.stats.kills == supervisor.stats.deaths == 0


async def test_a_child_that_grew_is_replaced(started: StartSupervisor, work: MakeWork) -> None:
    supervisor = await started(rules=ChildRules(recycle_growth_bytes=100_000_000))
    await supervisor.run(work())
    assert supervisor.stats.recycled == 0
    await supervisor.run(work("grow"))
    await supervisor.run(work())
    assert supervisor.stats.recycled == 1


@pytest.mark.parametrize(
    ("registry", "word"),
    [
        ("no_such_module:KINDS", "No module named 'no_such_module'"),
        ("supervised_kinds:NOTHING", "has no attribute 'NOTHING'"),
        ("supervised_kinds:FOREVER_S", "not a mapping of kind to processor"),
    ],
)
async def test_a_registry_that_cannot_be_loaded_is_told_at_the_start(
    started: StartSupervisor, registry: str, word: str
) -> None:
    with pytest.raises(ChildrenUnavailable, match=word):
        await started(registry=registry)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep freed memory")
async def test_a_child_keeps_what_a_shard_freed_for_the_next_one(supervisor: Supervisor, work: MakeWork) -> None:
    results = await supervisor.run(work("count_faults", 4))
    first, *others = [int(result.output) for result in results if isinstance(result, Done)]
    assert first > 4000
    assert len(others) == 3
    assert max(others) < 400
