"""A form with a side file: what is refused leaves nothing behind; what is taken stands in front of each shard's rows."""

from collections.abc import AsyncIterator
from typing import Any

import pyarrow as pa
import pytest

from regather.core.model import Abandoned
from regather.kinds.table.side_room import SIDE_BYTES

JOIN = {"kind": "table.etl", "option.join": "product = code"}
SQL = {"kind": "table.sql", "option.map": "select id, label from shard join side on product = code"}
SIDE = b"code,label\np0,zero\np1,one\n"
ROWS = b"id,product\n" + b"".join(b"%d,p%d\n" % (n, n % 3) for n in range(900))
LARGE = b"id,product\n" + b"1,p1\n" * 500_000
BOUNDARY = "b"


def part(name: str, content: bytes, file_name: str | None = "x.csv") -> bytes:
    file = "" if file_name is None else f'; filename="{file_name}"'
    head = f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="{name}"{file}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


async def chunks(body: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(body), 65_536):
        yield body[at : at + 65_536]


async def post(gateway: Any, query: dict[str, str], *parts: bytes) -> Any:
    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    return await gateway.client.post("/v1/jobs", params=query, content=chunks(form(*parts)), headers=headers)


@pytest.mark.parametrize("query", [JOIN, SQL], ids=lambda query: query["kind"])
async def test_each_shard_carries_the_side_table_in_front_of_its_rows(gateway: Any, query: dict[str, str]) -> None:
    answer = await post(gateway, query | {"shard_size": "1024"}, part("side", SIDE), part("file", ROWS))
    assert answer.status_code == 202, answer.text
    shards = await gateway.shards()
    assert len(shards) > 5
    rows: list[bytes] = []
    for shard in shards:
        payload = pa.BufferReader(shard.value)
        side = pa.ipc.open_stream(payload).read_all()
        assert side.to_pylist() == [{"code": "p0", "label": "zero"}, {"code": "p1", "label": "one"}]
        rows += payload.read().splitlines(keepends=True)
    assert sorted(rows) == sorted(ROWS.splitlines(keepends=True)[1:])
    assert answer.json()["input"]["size_bytes"] == len(ROWS)


REFUSED = [
    pytest.param(JOIN, [part("file", ROWS), part("side", SIDE)], "multipart-invalid", "send it first", id="behind"),
    pytest.param(
        JOIN, [part("side", SIDE), part("side", SIDE), part("file", ROWS)], "multipart-invalid", "two files", id="two"
    ),
    pytest.param(
        JOIN,
        [part("side", SIDE), part("a", ROWS), part("b", ROWS)],
        "multipart-invalid",
        "more than one file",
        id="third",
    ),
    pytest.param(JOIN, [part("side", SIDE)], "multipart-invalid", "beside `side`", id="no body"),
    pytest.param(JOIN, [part("side", b""), part("file", ROWS)], "empty-body", "the file `side` is empty", id="empty"),
    pytest.param(
        JOIN, [part("side", SIDE, None), part("file", ROWS)], "multipart-invalid", "no file name", id="no file name"
    ),
    pytest.param(
        JOIN,
        [part("side", b"code,label\n" + b"x" * SIDE_BYTES), part("file", ROWS)],
        "side-too-large",
        f"longer than {SIDE_BYTES} bytes",
        id="too large",
    ),
    pytest.param(JOIN, [part("file", ROWS)], "side-missing", "join needs a side table", id="none"),
    pytest.param(SQL, [part("file", ROWS)], "side-missing", "map reads the table `side`", id="none for SQL"),
    pytest.param(
        {"kind": "table.etl"},
        [part("side", SIDE), part("file", ROWS)],
        "bad-option",
        "join must say which of its rows match",
        id="no join",
    ),
    pytest.param(
        {"kind": "table.sql", "option.map": "select id from shard"},
        [part("side", SIDE), part("file", ROWS)],
        "bad-option",
        "map does not read it",
        id="not read",
    ),
    pytest.param(
        {"kind": "bytes.digest"},
        [part("file", ROWS), part("side", SIDE)],
        "multipart-invalid",
        "takes no side file",
        id="a kind without",
    ),
    pytest.param(
        JOIN, [part("side", SIDE + b"p2\n"), part("file", ROWS)], "side-invalid", "the side table, row 2", id="bad row"
    ),
    pytest.param(
        JOIN, [part("side", b"PAR1 and no more"), part("file", ROWS)], "parquet-invalid", "the side table", id="damaged"
    ),
    pytest.param(
        JOIN | {"option.join": "id = code"},
        [part("side", SIDE), part("file", ROWS)],
        "bad-option",
        '"id" is BIGINT and "code" is VARCHAR',
        id="types",
    ),
]


@pytest.mark.parametrize(("query", "parts", "code", "says"), REFUSED)
async def test_what_is_wrong_is_refused_with_its_cause_and_leaves_nothing_behind(
    gateway: Any, query: dict[str, str], parts: list[bytes], code: str, says: str
) -> None:
    answer = await post(gateway, query, *parts)
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    assert says in answer.json()["detail"]
    assert await gateway.published() == 0


async def test_a_side_file_behind_a_body_that_was_sent_already_ends_the_job(gateway: Any) -> None:
    query = {"kind": "table.etl", "option.filter": "id = 1", "shard_size": "65536"}
    answer = await post(gateway, query, part("file", LARGE), part("side", SIDE))
    assert (answer.status_code, answer.json()["code"]) == (422, "multipart-invalid")
    assert [event for event in await gateway.events() if isinstance(event, Abandoned)]


async def test_side_files_of_all_uploads_have_room_together(start_gateway: Any) -> None:
    async with start_gateway(all_sides_bytes=8 * 1024 * 1024) as gateway:
        large = b"code,label\n" + b"p0,x\n" * 1_000_000
        with gateway.app.state.gateway.side_room.enter() as take:
            take(8 * 1024 * 1024 - len(large) + 1)
            answer = await post(gateway, JOIN, part("side", large), part("file", ROWS))
            assert (answer.status_code, answer.json()["code"]) == (503, "busy")
            assert "REGATHER_ALL_SIDES_BYTES" in answer.json()["detail"]
        for _ in range(3):  # what is refused or done gives its room back
            answer = await post(gateway, JOIN | {"option.join_how": "anti"}, part("side", large), part("file", ROWS))
            assert answer.status_code == 202, answer.text


async def test_copies_of_a_side_table_that_outweigh_the_rows_are_refused(gateway: Any) -> None:
    side = b"code,label\n" + b"".join(
        b"p%d,%064x\n" % (n, n * 0x9E3779B97F4A7C15F39CC0605CEDC834**7) for n in range(3000)
    )
    answer = await post(gateway, JOIN | {"shard_size": "1024"}, part("side", side), part("file", ROWS))
    assert (answer.status_code, answer.json()["code"]) == (422, "bad-split")
    least = int(answer.json()["detail"].split("at least ")[1].split(",")[0])
    answer = await post(gateway, JOIN | {"shard_size": str(least)}, part("side", side), part("file", ROWS))
    assert answer.status_code == 202, answer.text


async def test_the_list_of_kinds_and_the_interface_say_who_takes_one(gateway: Any) -> None:
    kinds = {one["kind"]: one["side_bytes"] for one in (await gateway.client.get("/v1/kinds")).json()["kinds"]}
    assert (kinds["table.etl"], kinds["table.sql"], kinds["bytes.digest"]) == (SIDE_BYTES, SIDE_BYTES, 0)
    document = (await gateway.client.get("/openapi.json")).json()
    body = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]
    assert set(body["multipart/form-data"]["schema"]["properties"]) == {"side", "file"}
