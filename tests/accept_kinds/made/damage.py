"""Damaged tables: what is bad is known by construction, and DuckDB has to say so, too."""

import gzip
import random
from collections.abc import Iterator
from functools import partial
from typing import Any

import imagecodecs

from accept_kinds.case import Case, Either, Equal, Refusal, Want
from accept_kinds.expect import bad_table, either, skipping_table, table, table_equal
from accept_kinds.made import columns
from accept_kinds.oracles import OracleRefused
from accept_kinds.oracles.table import written_csv

ROWS = 500
PLACES = (0, 250, ROWS - 1)


def cases(seed: int) -> Iterator[Case]:
    """Yield them all."""
    yield from _csv_rows(seed)
    yield from _json_rows(seed)
    yield from _arrays()
    yield from _packed(seed)
    yield from _parquet(seed)
    yield from _not_a_table()


def _lines() -> list[bytes]:
    return written_csv(["id", "x", "t"], [[n, n / 4, f"t{n}"] for n in range(ROWS)]).splitlines(keepends=True)


def _csv_rows(seed: int) -> Iterator[Case]:
    damages = {
        "short": b"7,8\n",
        "long": b"7,8,t,9\n",
        "bad-cast": b"7,oops,t\n",
        "not-utf8": b"7,8,caf\xe9\n",
        "text-after-quote": b'7,8,"t"u\n',
    }
    for name, line in damages.items():
        for place in PLACES:
            lines = _lines()
            lines[place + 1] = line
            body = b"".join(lines)
            fast = {"fast": place == 250 and name in ("short", "bad-cast")}
            options: dict[str, Any] = {"cast": "x:float"}
            # DuckDB cannot tell the row of a stray quote: it gives the file up. A refusal may, too, in our own words.
            claim = {"unnamed": True, "never": "sniff"} if name == "text-after-quote" else None
            yield bad_table(f"damage/csv-{name}-{place}", body, rows={place}, claim=claim, settings=fast, **options)
            if place == 250 and name in ("short", "long", "bad-cast"):
                good = b"".join(lines[: place + 1] + lines[place + 2 :])
                yield skipping_table(f"damage/csv-{name}-skipped", body, good, {place}, **options)
    two = _lines()
    two[11], two[412] = b"7,oops,t\n", b"8,oops,t\n"
    good = b"".join(line for at, line in enumerate(two) if at not in (11, 412))
    yield skipping_table(
        "damage/csv-two-rows-skipped",
        b"".join(two),
        good,
        {10, 411},
        cast="x:float",
        group_by="t",
        aggregate="s = sum(x)",
    )
    for place in PLACES:
        lines = _lines()
        lines[place + 1] = b'7,8,"open\n'
        claim = {"why": "a quote is never closed", "says": "quote|row", "unnamed": True}
        yield bad_table(f"damage/csv-open-quote-{place}", b"".join(lines), claim=claim)
    unsampled = b"".join(_lines())
    yield table("damage/csv-mixed-column-is-text", unsampled.replace(b"\n7,1.75,", b"\n7,oops,"))
    _ = seed


def _json_rows(seed: int) -> Iterator[Case]:
    lines = columns.as_ndjson(columns.table_of(("int", "text"), ROWS, seed)).splitlines(keepends=True)
    damages = {
        "cut": lines[0][: len(lines[0]) // 2] + b"\n",
        "array": b"[1,2]\n",
        "number": b"5\n",
        "two-values": b'{"id":1} {"id":2}x\n',
        "not-utf8": b'{"id":1,"text":"caf\xe9"}\n',
        "single-quotes": b"{'id':1}\n",
    }
    for name, line in damages.items():
        for place in (0, 250):
            bad = [*lines[:place], line, *lines[place + 1 :]]
            # DuckDB takes a file of lines that are no objects for one column of JSON; here each line is a row's object.
            proof = None if name not in ("array", "number", "not-utf8") else _by_rule
            claim = {"why": f"line {place} is no JSON object"}
            settings = {"fast": name == "cut" and place == 250}
            yield bad_table(
                f"damage/ndjson-{name}-{place}", b"".join(bad), rows={place}, claim=claim, table_format="ndjson",
                oracle=proof, settings=settings, format="ndjson",
            )  # fmt: skip
    nan = b"".join([*lines[:250], b'{"id":1,"int":nan}\n', *lines[251:]])
    want = either(lambda: table_equal(nan, {}, "ndjson"), Refusal("JSON has no nan", frozenset({250})))
    options = {"format": "ndjson"}
    yield Case("table/damage/ndjson-bare-nan", "table.etl", lambda: nan, want, options, "application/x-ndjson")
    last = b"".join(lines)[:-20]
    yield bad_table("damage/ndjson-cut-off", last, rows={ROWS - 1}, table_format="ndjson", settings={"fast": True})


def _by_rule() -> object:
    raise OracleRefused("RFC 8259: this line is no JSON object")


def _arrays() -> Iterator[Case]:
    rows = [b'{"a":%d,"b":"t"}' % n for n in range(ROWS)]
    whole = b"[" + b",".join(rows) + b"]"
    faults = {
        "cut-off": whole[:-30],
        "no-end": whole[:-1],
        "text-after": whole + b"x",
        "second-array": whole + whole,
        "missing-comma": whole.replace(b"},{", b"} {", 1),
        "double-comma": whole.replace(b"},{", b"},,{", 1),
        "trailing-comma": whole[:-1] + b",]",
        "wrong-bracket": whole[:-1] + b"}",
        "open-text": whole.replace(b'"b":"t"}]', b'"b":"t}]'),
    }
    for name, body in faults.items():
        cut_off = name in ("cut-off", "no-end", "open-text")
        claim = {"why": f"the array has a fault: {name}", "never": "" if cut_off else "not closed"}
        rule = _by_rule if name in ("no-end", "cut-off", "text-after", "second-array") else None
        fast = {"fast": name == "double-comma"}
        yield bad_table(f"damage/json-{name}", body, claim=claim, table_format="json", oracle=rule, settings=fast)
    deep = b'[{"a":' + b"[" * 3000 + b"]" * 3000 + b"}]"
    claim = {"why": "3,000 levels are too deep", "says": "deep|nest|depth|level", "never": "not closed"}
    yield bad_table("damage/json-deep", deep, claim=claim, table_format="json", oracle=_by_rule)
    for name, body in (("no-object", b"[1,2,3]"), ("number", b"5"), ("text", b'"abc"')):
        claim = {"why": "its elements are no objects"}
        yield bad_table(f"damage/json-{name}", body, claim=claim, table_format="json", oracle=_by_rule, format="json")


def _packed(seed: int) -> Iterator[Case]:
    body = columns.as_csv(columns.table_of(("int", "text"), 3000, seed))
    for form, packed in (("gzip", gzip.compress(body, mtime=0)), ("zstd", bytes(imagecodecs.zstd_encode(body)))):
        faults = {"cut-off": packed[:-50], "head-only": packed[:12], "flipped": _flipped_to_no_avail(form, packed)}
        if form == "gzip":
            faults["checksum"] = packed[:-8] + bytes([packed[-8] ^ 0xFF]) + packed[-7:]
        for name, content in faults.items():
            words = f"{form}|zst|inflate|compress|cut off|checksum|damaged"
            claim = {"why": f"the {form} file is damaged: {name}", "says": words}
            proof = partial(_unpacked, form, content)
            settings = {"fast": name == "cut-off"}
            yield bad_table(f"damage/{form}-{name}", content, claim=claim, oracle=proof, settings=settings)
        claim = {"why": f"there is something else after the {form} data"}
        yield bad_table(f"damage/{form}-garbage-after", packed + b"garbage!", claim=claim, oracle=_by_rule)


def _flipped_to_no_avail(form: str, packed: bytes) -> bytes:
    """The file with one bit flipped where the independent decoder sees it."""
    for at in range(len(packed) // 2, len(packed)):
        flipped = packed[:at] + bytes([packed[at] ^ 0x10]) + packed[at + 1 :]
        try:
            _unpacked(form, flipped)
        except OracleRefused:
            return flipped
    raise ValueError(f"no flipped bit damages the {form} file")


def _unpacked(form: str, content: bytes) -> object:
    try:
        return gzip.decompress(content) if form == "gzip" else imagecodecs.zstd_decode(content)
    except Exception as error:  # each library has its own
        raise OracleRefused(str(error)) from error


def _parquet(seed: int) -> Iterator[Case]:
    made = columns.table_of(("int", "text", "double"), 2000, seed)
    body = columns.as_parquet(made, row_group_size=500, compression="zstd", write_page_checksum=True)
    faults = {
        "cut-off": body[:-200],
        "no-footer": body[: len(body) // 2],
        "head-only": body[:4],
        "magic-at-end": body[:-4] + b"XXXX",
        "footer-length": body[:-8] + b"\xff\xff\xff\x7f" + body[-4:],
    }
    for name, content in faults.items():
        claim = {"why": f"the Parquet file is damaged: {name}", "says": "parquet"}
        yield bad_table(
            f"damage/parquet-{name}", content, claim=claim, table_format="parquet", settings={"fast": name == "cut-off"}
        )
    yield _flipped("damage/parquet-footer-zeros", body[:-100] + bytes(92) + body[-8:])
    draw = random.Random(f"flips {seed}")
    for number in range(6):
        flipped = bytearray(body)
        flipped[draw.randrange(4, len(body) * 3 // 4)] ^= 1 << draw.randrange(8)
        yield _flipped(f"damage/parquet-flip-{number}", bytes(flipped))


def _flipped(name: str, body: bytes) -> Case:
    """A flipped bit in the pages: refused, or equal to what DuckDB reads, if it reads anything."""

    def want() -> Want:
        refusal = Refusal("a bit of the file was flipped", says="parquet|page|checksum")
        try:
            found: Equal = table_equal(body, {}, "parquet")
        except OracleRefused:
            return refusal
        return Either(found, refusal)

    return Case(f"table/{name}", "table.etl", lambda: body, want, {}, sizes=("4096", "default"))


def _not_a_table() -> Iterator[Case]:
    bodies = {
        "png": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8,
        "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + bytes(range(256)) * 8,
        "zeros": bytes(5000),
        "random": random.Random(5).randbytes(5000),
        "latin-1-unasked": b"id,t\n" + b"1,caf\xe9\n" * 300,
    }
    text = "id,t\n" + "1,é\n" * 300
    marked = text.encode("utf-16")
    seen = either(
        lambda: table_equal(text.encode(), {}, "csv"), Refusal("it is no UTF-8 text", says="utf", never="codec")
    )
    yield Case("table/damage/utf-16-unasked", "table.etl", lambda: marked, seen, {"format": "csv"}, "text/csv")
    for name, body in bodies.items():
        claim = {"why": f"{name} is no UTF-8 text", "never": "codec"}
        yield bad_table(f"damage/no-table-{name}", body, claim=claim, oracle=_by_rule, format="csv")
