"""The demo's table: 1,000,000 sales as CSV, grouped by region."""

import random
from pathlib import Path

from regather_cli.client import Submission
from regather_cli.demo.reference import digest_of, independent_answer
from regather_cli.demo.verified import Check, VerifiedJob, shown_seconds

ROWS = 1_000_000
SHARD_BYTES = 1024 * 1024
OPTIONS = {
    "cast": "id:str, price:float, qty:int",
    "derive": "total = price * qty",
    "filter": "qty > 0",
    "group_by": "region",
    "aggregate": "revenue = sum(total); orders = count(); first_id = first(id); last_id = last(id); "
    "least = min(price); greatest = max(price); mean_price = mean(price)",
}
_SEED = 20_260_102
_REGIONS = ("EU", "US", '"Asia, Pacific"', "Africa")
_NOTES = ("", '"says ""hello"""', "plain", '"two\r\nlines"')


def write_sales(path: Path) -> None:
    """Write the table; regions and notes have commas, quotes and line ends. Takes about two seconds."""
    draw = random.Random(_SEED).randrange  # noqa: S311 - the same rows on every machine
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write("id,region,price,qty,note\r\n")
        for number in range(ROWS):
            bits = draw(1 << 30)
            price = f"{bits % 99_991 / 100:.2f}" if bits % 50 else ""
            file.write(f"{number},{_REGIONS[bits >> 28]},{price},{bits >> 20 & 7},{_NOTES[bits >> 26 & 3]}\r\n")


async def jobs(folder: Path) -> list[VerifiedJob]:
    """Return the one job."""
    path = folder / "sales.csv"
    write_sales(path)
    answer = await independent_answer("table_etl", path)
    check = Check(digest_of({"groups": answer.features["groups"]}))
    note = f"{ROWS:,} rows of CSV, {path.stat().st_size / 1e6:.0f} MB; {shown_seconds(answer)}"
    submission = Submission("table.etl", OPTIONS, SHARD_BYTES)
    return [VerifiedJob("table", submission, path, check, note, answer.seconds)]
