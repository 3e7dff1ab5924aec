"""A small table that comes with the body is joined to it, over real HTTP and a real Kafka."""

import asyncio
import io
import json
import re
import sys
import textwrap
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from regather_cli.client import Client, Submission
from regather_cli.dead_letters import read_dead_letters
from regather_cli.stack import Stack

pytestmark = [
    pytest.mark.long,
    pytest.mark.kafka,
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(120),
]

PRODUCTS = b"code,label,price\np0,zero,0.5\np1,one,1.5\np1,uno,1.75\n"
SALES = b"id,product,qty\n" + b"".join(b"%d,p%d,%d\n" % (n, n % 3, n % 5) for n in range(900))


def joined() -> list[dict[str, object]]:
    """The rows of a left join, by loops."""
    labels: dict[str, list[tuple[str | None, float | None]]]
    labels = {"p0": [("zero", 0.5)], "p1": [("one", 1.5), ("uno", 1.75)], "p2": [(None, None)]}
    return [
        {
            "id": n,
            "product": f"p{n % 3}",
            "qty": n % 5,
            "label": label,
            "total": None if price is None else price * (n % 5),
        }
        for n in range(900)
        for label, price in labels[f"p{n % 3}"]
    ]


@pytest.mark.parametrize("shard_size_bytes", [1024, None])
async def test_a_left_join_over_the_whole_chain(client: Client, shard_size_bytes: int | None) -> None:
    options = {"join": "product = code", "derive": "total = price * qty", "select": "id, product, qty, label, total"}
    document = await client.submit(Submission("table.etl", options, shard_size_bytes), SALES, PRODUCTS)
    document = await client.wait(document["job_id"], timeout_s=60)
    assert document["state"] == "succeeded", document
    assert (document["shards"]["total"] > 5) == (shard_size_bytes is not None)
    rows = [json.loads(line) for line in (await client.result(document["job_id"])).splitlines()]
    assert rows == joined()


async def test_a_bad_row_is_found_its_dead_letter_has_the_side_table_and_a_redrive_needs_no_upload(
    stack: Stack, client: Client
) -> None:
    options = {"join": "product = code", "join_how": "inner", "select": "id, label, qty", "cast": "qty:int"}
    rows = SALES.replace(b"\n77,p2,2\n", b"\n77,p1,many\n").replace(b"\n130,p1,0\n", b"\n130,p1,1e9x\n")
    document = await client.submit(Submission("table.etl", options, 1024, on_error="skip"), rows, PRODUCTS)
    document = await client.wait(document["job_id"], timeout_s=60)
    assert document["state"] == "partial", document
    assert sorted(error["row"] for error in document["errors"]) == [77, 130]
    assert len(await client.result(document["job_id"])) > 1000
    letters = await read_dead_letters(stack.broker.bootstrap_servers, stack.topics, document["job_id"])
    sides = [pa.ipc.open_stream(letter.payload).read_all().to_pydict() for letter in letters]
    assert [letter.row for letter in letters] == [77, 130]
    assert sides == [{"code": ["p0", "p1", "p1"], "label": ["zero", "one", "uno"]}] * 2
    before = await client.result(document["job_id"])
    await client.redrive(document["job_id"])
    again = await client.wait(document["job_id"], timeout_s=60, version=2)
    assert (again["state"], await client.result(document["job_id"])) == ("partial", before)


async def test_sql_reads_the_side_table_beside_parquet(client: Client) -> None:
    file = io.BytesIO()
    pq.write_table(pa.table({"id": range(900), "product": [f"p{n % 3}" for n in range(900)]}), file)
    query = "select label, count(*) as n from shard join side on product = code group by label"
    reduce = "select label, sum(n)::bigint as n from parts group by label order by label"
    submission = Submission("table.sql", {"map": query, "reduce": reduce}, 1024)
    document = await client.submit(submission, file.getvalue(), PRODUCTS)
    document = await client.wait(document["job_id"], timeout_s=60)
    assert document["state"] == "succeeded", document
    rows = [json.loads(line) for line in (await client.result(document["job_id"])).splitlines()]
    assert rows == [{"label": label, "n": 300} for label in ("one", "uno", "zero")]


async def test_the_example_of_the_reference_with_curl(stack: Stack, tmp_path: Path) -> None:
    """As it stands in docs/reference/kinds/table.md, with this stack's address."""
    page = (Path(__file__).resolve().parents[2] / "docs/reference/kinds/table.md").read_text()
    section = page.split("## A side table")[1].split("## `table.etl`")[0]
    blocks = re.findall(r"(?:^    .*\n)+", section, re.MULTILINE)
    script = textwrap.dedent(blocks[0]).replace("http://127.0.0.1:8080", stack.gateway_url)
    curl = await asyncio.create_subprocess_exec("bash", "-c", script, cwd=tmp_path, stdout=asyncio.subprocess.PIPE)
    document = json.loads((await curl.communicate())[0])
    assert document["state"] == "succeeded", document
    async with Client(stack.gateway_url) as client:
        assert (await client.result(document["job_id"])).decode() == textwrap.dedent(blocks[1])


async def test_the_command_line_sends_a_side_file(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "sales.csv").write_bytes(SALES)
    (tmp_path / "products.csv").write_bytes(PRODUCTS)
    command = "submit sales.csv --side products.csv --kind table.etl --wait --option join_how=anti --option select=id"
    program = Path(sys.executable).with_name("regather")
    arguments = [*command.split(), "--option", "join=product = code", "--url", stack.gateway_url]
    running = await asyncio.create_subprocess_exec(program, *arguments, cwd=tmp_path, stdout=asyncio.subprocess.PIPE)
    rows = (await running.communicate())[0].splitlines()
    assert running.returncode == 0
    assert [json.loads(row)["id"] for row in rows] == list(range(2, 900, 3))
