"""`diagnostics` does what it is told, to the shards and attempts it is told, and nothing to the others."""

import json
import signal
import subprocess
import sys
import time

import pytest

from regather.core.errors import BadInput, BadRequest, PermanentError
from regather.kinds.diagnostics import EXIT_CODE, Diagnostics, DiagnosticsOptions, Fault
from regather.processors.base import ShardView, SplitRequest
from regather.processors.registry import parse_options

KIND = Diagnostics()


def shard(seq: int = 0, attempt: int = 0) -> ShardView:
    return ShardView(b"12345", b"", seq, attempt)


MEMORY_LIMIT_BYTES = 512 * 1024 * 1024


def run_alone(**options: object) -> subprocess.CompletedProcess[bytes]:
    """Run one shard in a process of its own, whose memory is limited: a fault must not reach beyond the test."""
    code = (
        "import sys, json, resource\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({MEMORY_LIMIT_BYTES}, {MEMORY_LIMIT_BYTES}))\n"
        "from regather.processors.base import ShardView\n"
        "from regather.kinds.diagnostics import Diagnostics, DiagnosticsOptions\n"
        "options = DiagnosticsOptions(**json.loads(sys.argv[1]))\n"
        "output = Diagnostics().process(ShardView(b'12345', b'', 0, 0), options)\n"
        "print('returned', len(output), type(output).__name__)\n"
    )
    command = [sys.executable, "-c", code, json.dumps(options)]
    return subprocess.run(command, capture_output=True, timeout=60, check=False)


def test_without_a_fault_a_shard_answers_with_what_it_is() -> None:
    output = KIND.process(shard(seq=3, attempt=1), DiagnosticsOptions())
    assert json.loads(output) == {"seq": 3, "attempt": 1, "size_bytes": 5}


def test_only_the_chosen_shards_misbehave() -> None:
    options = DiagnosticsOptions(do="raise", only="1, 3")
    assert json.loads(KIND.process(shard(seq=2), options))["seq"] == 2
    with pytest.raises(RuntimeError, match="shard 3 was asked to raise"):
        KIND.process(shard(seq=3), options)


def test_misbehaving_can_end_with_an_attempt() -> None:
    options = DiagnosticsOptions(do="raise", attempts_below=2)
    for attempt in (0, 1):
        with pytest.raises(RuntimeError):
            KIND.process(shard(attempt=attempt), options)
    assert json.loads(KIND.process(shard(attempt=2), options))["attempt"] == 2


def test_a_permanent_failure_is_one_that_is_not_retried() -> None:
    with pytest.raises(PermanentError, match="shard 0"):
        KIND.process(shard(), DiagnosticsOptions(do="permanent"))


@pytest.mark.parametrize("do", ["sleep", "busy", "hang_once"])
def test_waiting_lasts_as_long_as_asked(do: Fault) -> None:
    options = DiagnosticsOptions(do=do, seconds=0.2)
    begun_s = time.perf_counter()
    KIND.process(shard(), options)
    assert time.perf_counter() - begun_s > 0.05


def test_hanging_once_spares_the_second_attempt() -> None:
    assert DiagnosticsOptions(do="hang_once").hits(0, 0)
    assert not DiagnosticsOptions(do="hang_once").hits(0, 1)


def test_a_segmentation_fault_kills_the_process() -> None:
    assert run_alone(do="segfault").returncode == -signal.SIGSEGV


def test_an_exit_ends_the_process_without_a_word() -> None:
    ended = run_alone(do="exit")
    assert (ended.returncode, ended.stdout) == (EXIT_CODE, b"")


def test_a_flood_writes_what_was_asked() -> None:
    ended = run_alone(do="flood", size_bytes=1_000_000)
    assert 950_000 < len(ended.stdout) < 1_050_000


def test_allocating_touches_the_memory() -> None:
    assert run_alone(do="allocate", size_bytes=40_000_000).stdout.startswith(b"returned")
    ended = run_alone(do="allocate", size_bytes=2 * MEMORY_LIMIT_BYTES)
    assert b"MemoryError" in ended.stderr
    assert ended.stdout == b""


def test_more_memory_than_any_limit_is_refused() -> None:
    with pytest.raises(BadRequest, match="option 'size_bytes'"):
        parse_options(KIND, {"do": "allocate", "size_bytes": str(1 << 40)})


@pytest.mark.parametrize("do", ["orphan", "fork"])
def test_a_shard_can_have_a_child_of_its_own(do: str) -> None:
    assert run_alone(do=do, seconds=0).stdout.count(b"returned") == 1


def test_returns_can_be_huge_or_no_bytes_at_all() -> None:
    assert run_alone(do="return_huge", size_bytes=5_000_000).stdout == b"returned 5000000 bytes\n"
    assert run_alone(do="return_wrong").stdout == b"returned 8 str\n"


@pytest.mark.parametrize("only", ["1,", "x", "1-3", "-1"])
def test_a_wrong_list_of_shards_is_refused(only: str) -> None:
    with pytest.raises(BadRequest, match="option 'only'"):
        parse_options(KIND, {"only": only})


@pytest.mark.parametrize(("only", "text"), [(3, "3"), ([1, 2], "1,2"), ("", ""), (" 4 , 5", " 4 , 5")])
def test_a_list_of_shards_can_be_a_text_a_number_or_a_list(only: object, text: str) -> None:
    assert parse_options(KIND, {"only": only}) == DiagnosticsOptions(only=text)


def test_the_result_counts_shards_bytes_and_attempts_and_names_the_gaps() -> None:
    outputs = [KIND.process(shard(seq, attempt=1), DiagnosticsOptions()) for seq in range(4)]
    result = json.loads(KIND.merge([outputs[0], None, None, outputs[3]], DiagnosticsOptions()))
    assert result == {"shards": 4, "gaps": [[1, 2]], "size_bytes": 10, "attempts": 4}


def test_the_body_is_cut_by_bytes() -> None:
    splitter = KIND.splitter(DiagnosticsOptions(), SplitRequest(shards=3, size_bytes=10))
    pieces = [*splitter.feed(b"0123456789"), *splitter.finish()]
    assert [piece.payload for piece in pieces] == [b"0123", b"456", b"789"]
    with pytest.raises(BadInput):
        list(KIND.splitter(DiagnosticsOptions(), SplitRequest()).finish())
