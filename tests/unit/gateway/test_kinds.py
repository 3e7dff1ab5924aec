"""GET /v1/kinds says which media type a result has, with and without the options that change it."""

from typing import Any

import pytest

from regather.processors.base import Options, Processor, ShardView, SplitRequest, Splitter
from regather.processors.registry import Registry, all_kinds, parse_options
from regather_gateway.http.kinds import list_of_kinds

REQUIRED = {"table.sql": {"map": "SELECT 1 FROM shard"}, "image.map": {"operator": "invert"}}


async def test_kinds_are_listed_with_the_media_types_of_their_results(gateway: Any) -> None:
    listed = {entry["kind"]: entry for entry in (await gateway.client.get("/v1/kinds")).json()["kinds"]}

    assert all(entry["installed"] and entry["missing"] is None for entry in listed.values())
    assert listed["bytes.digest"]["result_type"] == "application/json"
    assert listed["bytes.digest"]["result_types"] == []
    assert listed["table.etl"]["result_type"] == "application/x-ndjson"
    assert {"options": {"output": "csv"}, "result_type": "text/csv"} in listed["table.etl"]["result_types"]
    assert {"options": {"output": "npy"}, "result_type": "application/x-npy"} in listed["model.predict"]["result_types"]
    assert all("See " not in entry["description"] and entry["description"] for entry in listed.values())


@pytest.mark.parametrize("kind", sorted(all_kinds()))
def test_what_the_list_says_is_what_a_job_with_these_options_gives(kind: str) -> None:
    processor = all_kinds()[kind]
    (entry,) = list_of_kinds(Registry({kind: processor})).kinds

    plain = REQUIRED.get(kind, {})
    assert entry.result_type == processor.media_type(parse_options(processor, plain))
    for found in entry.result_types:
        assert processor.media_type(parse_options(processor, {**plain, **found.options})) == found.result_type


class NeedyOptions(Options):
    level: int


class Needy(Processor[NeedyOptions]):
    """Needs an option."""

    options_model = NeedyOptions
    result_type = "text/plain"

    def splitter(self, options: NeedyOptions, request: SplitRequest) -> Splitter:
        raise NotImplementedError

    def process(self, shard: ShardView, options: NeedyOptions) -> bytes:
        raise NotImplementedError


class Broken(Needy):
    """Breaks over its media type."""

    options_model = Options  # type: ignore[assignment]  # wider than that of Needy

    def media_type(self, options: Options) -> str:
        raise RuntimeError


def test_a_kind_that_needs_options_or_breaks_is_listed_with_what_its_class_says() -> None:
    listed = list_of_kinds(Registry({"needy": Needy(), "broken": Broken()})).kinds

    assert [(entry.kind, entry.result_type, entry.merges) for entry in listed] == [
        ("broken", "text/plain", True),
        ("needy", "text/plain", True),
    ]
