"""Tables of every type in every format, encoding, compression and dialect: all are everyday, so all are equal."""

import bz2
import codecs
import gzip
import lzma
from collections.abc import Iterator
from typing import Any

import imagecodecs
import pyarrow as pa

from accept_kinds.case import Case, Either, Refusal, Want
from accept_kinds.expect import bad_table, table, table_equal
from accept_kinds.made import columns
from accept_kinds.oracles.table import written_csv

ROWS = 300
GROUPS: dict[str, Any] = {
    "group_by": "text",
    "aggregate": "n = count(); k = count(double); s = sum(double); lo = min(int); m = mean(int)",
}
FEW = ("1024", "default")


def cases(seed: int) -> Iterator[Case]:
    """Yield them all."""
    yield from _types(seed)
    yield from _parquet_types(seed)
    yield from _parquet_files(seed)
    yield from _dialects(seed)
    yield from _row_ends(seed)
    yield from _encodings(seed)
    yield from _compressions(seed)
    yield from _headers()
    yield from _sizes(seed)


def _types(seed: int) -> Iterator[Case]:
    for name in columns.COLUMNS:
        made = columns.table_of((name,), ROWS, seed)
        fast = {"fast": name in ("hard_text", "bigint", "nulls")}
        if name not in columns.IN_TEXT:
            yield table(f"types/csv-{name}", columns.as_csv(made), settings=fast)
        yield table(f"types/ndjson-{name}", columns.as_ndjson(made), table_format="ndjson", settings=fast)
        yield table(f"types/json-{name}", columns.as_json(made, 1), table_format="json")
        parquet = columns.as_parquet(made, row_group_size=70)
        yield table(f"types/parquet-{name}", parquet, table_format="parquet", settings=fast)


def _parquet_types(seed: int) -> Iterator[Case]:
    for name in columns.PARQUET_ONLY:
        made = columns.table_of((name,), ROWS, seed)
        yield table(f"types/parquet-{name}", columns.as_parquet(made), table_format="parquet", settings={"sizes": FEW})
    for name in (*columns.COLUMNS, *columns.PARQUET_ONLY):
        made = columns.table_of((name, "text"), ROWS, seed)
        counted: dict[str, Any] = {"group_by": "text", "aggregate": f'n = count("{name}"); all_rows = count()'}
        body = columns.as_parquet(made, row_group_size=70)
        yield table(f"types/parquet-groups-{name}", body, table_format="parquet", settings={"sizes": FEW}, **counted)


def _parquet_files(seed: int) -> Iterator[Case]:
    made = columns.table_of(("int", "text", "double", "nulls", "hard_text"), 2000, seed)
    few = {"sizes": FEW}
    for codec in ("none", "snappy", "gzip", "brotli", "lz4", "zstd"):
        body = columns.as_parquet(made, compression=codec)
        yield table(f"parquet/codec-{codec}", body, table_format="parquet", settings={"fast": codec == "brotli", **few})
        groups = columns.as_parquet(made, compression=codec, row_group_size=500)
        yield table(f"parquet/groups-{codec}", groups, table_format="parquet", settings=few, **GROUPS)
    variants: dict[str, dict[str, Any]] = {
        "pages-v2": {"data_page_version": "2.0"},
        "no-dictionary": {"use_dictionary": False},
        "small-groups": {"row_group_size": 13},
        "delta": {"use_dictionary": False, "column_encoding": {"id": "DELTA_BINARY_PACKED"}},
        "byte-stream-split": {"use_dictionary": ["text"], "use_byte_stream_split": ["double"]},
        "no-statistics": {"write_statistics": False},
        "version-1": {"version": "1.0"},
        "checksums": {"write_page_checksum": True},
    }
    for name, settings in variants.items():
        body = columns.as_parquet(made, **settings)
        yield table(f"parquet/{name}", body, table_format="parquet", settings=few)
        yield table(f"parquet/groups-{name}", body, table_format="parquet", settings=few, **GROUPS)
    names = pa.table([pa.array(range(50)), pa.array(range(50))], names=["Ünit price", "select"])
    spaces: dict[str, Any] = {"derive": 'total = "Ünit price" * "select"', "select": '"Ünit price", total'}
    yield table("parquet/names", columns.as_parquet(names), table_format="parquet", **spaces)


def _dialects(seed: int) -> Iterator[Case]:
    made = columns.table_of(("int", "hard_text", "double"), ROWS, seed)
    for name, delimiter, given in (("semicolon", ";", ";"), ("tab", "\t", "\\t"), ("pipe", "|", "|")):
        body = columns.as_csv(made, delimiter=delimiter)
        yield table(f"csv/delimiter-{name}", body, delimiter=given, settings={"fast": name == "semicolon"})
    yield table(
        "csv/tab-by-type",
        columns.as_csv(made, delimiter="\t"),
        content_type="text/tab-separated-values",
        oracle_options={"delimiter": "\t"},
    )
    yield table("csv/single-quotes", columns.as_csv(made, quotechar="'"), quote="'")
    yield table("csv/all-quoted", columns.as_csv(made, quoting=1))
    plain = columns.table_of(("int", "text", "double"), ROWS, seed)
    body = columns.as_csv(plain)
    yield table("csv/no-header", body.partition(b"\n")[2], header="false")
    yield table("csv/skip-rows", b"made by a machine\nin two lines, of prose\n" + body, skip_rows="2")
    with_comments = body.replace(b"\n7,", b"\n# a comment, with a comma\n7,").replace(b"\n200,", b"\n#200\n200,")
    yield table("csv/comment", with_comments, comment="#")
    rows = [[n, ["NA", "-", "", "5"][n % 4], f"t{n}"] for n in range(ROWS)]
    yield table("csv/nulls", written_csv(["id", "x", "t"], rows), nulls="NA, -")
    comma = written_csv(["id", "x"], [[n, f"{n},5"] for n in range(ROWS)], delimiter=";")
    yield table("csv/decimal-comma", comma, delimiter=";", decimal=",", aggregate="s = sum(x)", settings={"fast": True})
    yield table(
        "csv/cast-kept-as-text",
        columns.as_csv(columns.table_of(("leading_zeros",), ROWS, seed)),
        cast="leading_zeros:str",
    )
    casts = "int:float, double:str, text:str"
    yield table("csv/casts", body, cast=casts)
    money = written_csv(["id", "price"], [[n, f"{n / 100:.2f}"] for n in range(1000)])
    yield table(
        "csv/cast-decimal",
        money,
        cast="price:decimal(18,2)",
        aggregate="s = sum(price); m = max(price); lo = min(price)",
    )
    yield table(
        "csv/cast-date",
        b"d,n\n" + b"2024-02-29,1\n" * 200,
        cast="d:date",
        derive="next = d + 1",
        aggregate="m = max(next)",
    )


def _row_ends(seed: int) -> Iterator[Case]:
    made = columns.table_of(("int", "text"), ROWS, seed)
    quoted = columns.table_of(("hard_text", "int"), ROWS, seed)
    for name, end in (("lf", "\n"), ("crlf", "\r\n"), ("cr", "\r")):
        body = columns.as_csv(made, lineterminator=end)
        yield table(f"csv/{name}", body, settings={"fast": name == "cr"})
        yield table(f"csv/{name}-no-last", body[: -len(end)])
        yield table(
            f"csv/{name}-blank-lines", body.replace(f"{end}1".encode(), f"{end}{end}1".encode()) + end.encode() * 3
        )
    yield table("csv/crlf-quoted-breaks", columns.as_csv(quoted, lineterminator="\r\n"))
    yield table("csv/single-column", b"x\n" + b"".join(b"%d\n" % n for n in range(500)))
    yield table("csv/single-column-blank-lines", b"x\n1\n\n2\n\n\n3\n" * 1 + b"4\n" * 400, cast="x:int")


def _encodings(seed: int) -> Iterator[Case]:
    rows = [[n, "café señor"] for n in range(ROWS)]
    body = written_csv(["id", "t"], rows)
    yield table("csv/bom", codecs.BOM_UTF8 + body, plain=body, settings={"fast": True})
    yield table(
        "csv/latin-1", body.decode().encode("latin-1"), plain=body, encoding="latin-1", oracle_options={"encoding": ""}
    )
    yield table("csv/utf-16-le", b"\xff\xfe" + body.decode().encode("utf-16-le"), plain=body, encoding="utf-16")
    yield table(
        "csv/cp1252",
        written_csv(["id", "t"], [[n, "5 €"] for n in range(ROWS)]).decode().encode("cp1252"),
        plain=written_csv(["id", "t"], [[n, "5 €"] for n in range(ROWS)]),
        encoding="cp1252",
    )
    yield table(
        "ndjson/bom", codecs.BOM_UTF8 + b'{"a":1}\n{"a":2}\n', plain=b'{"a":1}\n{"a":2}\n', table_format="ndjson"
    )


def _compressions(seed: int) -> Iterator[Case]:
    made = columns.table_of(("int", "text", "double"), 3000, seed)
    for form, body in (
        ("csv", columns.as_csv(made)),
        ("ndjson", columns.as_ndjson(made)),
        ("json", columns.as_json(made)),
    ):
        half = len(body) // 2
        packed = {
            "gzip": gzip.compress(body, mtime=0),
            "gzip-members": gzip.compress(body[:half], mtime=0) + gzip.compress(body[half:], mtime=0),
            "zstd": bytes(imagecodecs.zstd_encode(body)),
            "zstd-frames": bytes(imagecodecs.zstd_encode(body[:half]) + imagecodecs.zstd_encode(body[half:])),
        }
        for name, content in packed.items():
            fast = {"fast": (name, form) == ("zstd-frames", "csv")}
            yield table(
                f"packed/{form}-{name}",
                content,
                plain=body,
                table_format=form,
                content_type="application/octet-stream",
                format=form,
                settings=fast,
            )
    body = columns.as_csv(made)
    for name, content, says in (
        ("bz2", bz2.compress(body), "bz2|bzip2"),
        ("xz", lzma.compress(body), "xz|lzma"),
        ("zip", _zip(body), "zip|archive|xlsx|excel"),
        ("7z", b"7z\xbc\xaf\x27\x1c" + body, "7z|7-zip|archive"),
    ):
        refusal = Refusal(f"a {name} file is no table by itself", says=says, never="codec")
        plain = body if name in ("bz2", "xz") else None
        yield packed_or_refused(f"packed/{name}", content, plain, refusal, {"fast": name == "xz"})


def packed_or_refused(
    name: str, content: bytes, plain: bytes | None, refusal: Refusal, settings: dict[str, Any]
) -> Case:
    """A compression that need not be taken: equal to the plain table, or refused by its name. None: always refused."""

    def want() -> Want:
        return refusal if plain is None else Either(table_equal(plain, {}, "csv"), refusal)

    return Case(f"table/{name}", "table.etl", lambda: content, want, {}, "application/octet-stream", **settings)


def _zip(body: bytes) -> bytes:
    import io
    import zipfile

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", body)
    return file.getvalue()


def _headers() -> Iterator[Case]:
    yield table("csv/header-only", b"a,b\n", settings={"fast": True})
    yield table("csv/header-only-count", b"a,b\n", aggregate="n = count(); s = max(a)")
    yield table("csv/header-without-end", b"a,b")
    yield table("csv/duplicate-names", b"a,a,b\n" + b"1,2,3\n" * 200)
    yield table("csv/empty-name", b"a,,b\n" + b"1,2,3\n" * 200)
    yield table(
        "csv/names-with-spaces",
        b"unit price,qty\n" + b"2.5,3\n" * 200,
        derive='total = "unit price" * qty',
        group_by='"unit price"',
        aggregate="s = sum(total)",
    )
    yield table("csv/quoted-names", b'"a ""x""","b,c"\n' + b"1,2\n" * 200)
    yield table(
        "csv/case-of-names", b"Region,AMOUNT\n" + b"EU,2\nUS,3\n" * 200, group_by="region", aggregate="s = sum(amount)"
    )


def _sizes(seed: int) -> Iterator[Case]:
    wide = columns.table_of(("int",), 40, seed)
    for number in range(120):
        wide = wide.append_column(f"a_rather_long_question_of_a_survey_number_{number}", wide["int"])
    yield table("csv/wide", columns.as_csv(wide))
    long_names = b",".join(b"how_often_do_you_use_the_following_service_%03d" % n for n in range(60))
    long_rows = b"".join(b",".join(b"%d" % (n % 7) for n in range(at, at + 60)) + b"\n" for at in range(8500))
    yield table("csv/long-names-above-10-MiB-out", long_names + b"\n" + long_rows, settings={"sizes": ("default",)})
    many = columns.table_of(("int", "text"), 60_000, seed)
    groups: dict[str, Any] = {"group_by": "id", "aggregate": "n = count(); s = sum(int)"}
    yield table("csv/60000-groups", columns.as_csv(many), **groups, settings={"sizes": ("65536", "default")})
    late = b"id,x\n" + b"".join(b"%d,%d\n" % (n, n) for n in range(120_000))
    changed = late + b"120000,oops\n"
    claim = {"why": "the type of x is sampled from the first MiB, and row 120000 does not fit it"}
    drift: dict[str, Any] = {"rows": {120_000}, "claim": claim, "settings": {"sizes": ("65536", "default")}}
    yield bad_table("csv/late-text", changed, oracle=lambda: _rejects(changed), aggregate="n = count(x)", **drift)
    yield table(
        "csv/late-text-cast",
        changed,
        cast="x:str",
        aggregate="n = count(x); m = max(x)",
        settings={"sizes": ("65536", "default")},
    )


def _rejects(body: bytes) -> object:
    from accept_kinds.oracles import OracleRefused
    from accept_kinds.oracles.table import rejected_rows

    found = rejected_rows(body, {"cast": "x:int"})
    if found == {120_000}:
        raise OracleRefused("row 120000")
    return found
