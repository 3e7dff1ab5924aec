"""A small table that comes with the body is joined to it, over real HTTP and a real Kafka."""

import json

import pytest

from regather_cli.client import Client, Submission

pytestmark = [pytest.mark.kafka, pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

PRODUCTS = b"code,label,price\np0,zero,0.5\np1,one,1.5\np1,uno,1.75\n"
SALES = b"id,product,qty\n" + b"".join(b"%d,p%d,%d\n" % (n, n % 3, n % 5) for n in range(900))


def joined() -> list[dict[str, object]]:
    """The rows of a left join, by loops."""
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
