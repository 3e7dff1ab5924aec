"""A call of a processor gives bytes, or an error that says what is wrong."""

from typing import Any

import pytest

from regather.children.failure_text import KindMissing
from regather.children.processor_calls import ProcessorCalls
from regather.children.work import Call, Work, WorkItem, WorkLimits
from regather.core.execution import Failed
from regather.processors.base import Options, Processor, ShardView, SplitRequest, Splitter
from regather.processors.registry import Registry
from regather.testing.inline_executor import InlineExecutor


class Talkative(Processor[Options]):
    """Returns what it is told to: a text is no bytes."""

    options_model = Options
    result_type = "text/plain"

    def splitter(self, options: Options, request: SplitRequest) -> Splitter:
        raise NotImplementedError

    def process(self, shard: ShardView, options: Options) -> Any:
        return {b"text": "said", b"bytes": b"said", b"view": memoryview(b"said")}[bytes(shard.payload)]


def work(payload: bytes, kind: str = "talkative") -> Work:
    return Work(Call.PROCESS, kind, b"{}", [WorkItem(0, payload)], WorkLimits())


def call(payload: bytes, kind: str = "talkative") -> bytes:
    asked = work(payload, kind)
    return ProcessorCalls(Registry({"talkative": Talkative()})).run(asked, asked.items[0])


def test_whatever_holds_bytes_becomes_bytes() -> None:
    assert [call(b"bytes"), call(b"view")] == [b"said", b"said"]


def test_anything_else_is_an_error_that_names_call_and_kind() -> None:
    with pytest.raises(TypeError, match=r"process\(\) of kind 'talkative' returned str; it must return bytes"):
        call(b"text")


def test_a_kind_that_is_not_there_is_named() -> None:
    with pytest.raises(KindMissing, match="unknown kind 'other'"):
        call(b"bytes", "other")


async def test_the_executor_without_children_judges_an_output_as_a_child_does() -> None:
    (result,) = await InlineExecutor({"talkative": Talkative()}).run(work(b"text"))
    assert isinstance(result, Failed)
    assert "it must return bytes" in result.error
