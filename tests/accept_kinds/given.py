"""What is right for each file of the issue that this suite came from: file -> options -> oracle, or refusal with why.

The files themselves are not in the repository; their folder is found by ACCEPT_KINDS_CASES.
"""

import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from accept_kinds.case import Case, Either, Equal, Refusal, Want
from accept_kinds.expect import bad_table, bytes_of, either, refusal_of, table, table_equal
from accept_kinds.images import image, image_either

CR_HEADER = {"why": "two kinds of row ends in one file, as DuckDB says", "says": "row end|line end|CR|newline|carriage"}
NULL_FILTERS = (
    "r != 'EU'", "not (r = 'EU')", "x > 3 or y > 3", "y > 3 or x > 3", "x > 3 and y > 3", "not (x > 3)",
    "x in (1, null)",
    "x not in (5)", "r in ('EU', 'US')", "r not in ('EU')", "x = null", "x is null", "x is not null and y is null",
    "coalesce(x * y, 0) = 0", "x between 1 and 4", "not (x between 1 and 4)", "case when x > 3 then true else false end",
    "r like 'E%'", "(x > 3) is not true", "x is distinct from y",
)  # fmt: skip
NULL_DERIVES = (
    "coalesce(x * y, 0)", "x + y", "case when r = 'EU' then x when x > 3 then y end", "r || '!'", "x = y", "not (x > 3)",
    "coalesce(r, 'none')", "nullif(x, 5)", "greatest(x, y)", "x > 3 and y > 3", "x > 3 or y > 3", "concat(r, x)",
)  # fmt: skip
TIME_FILES = (
    "E3_date-10000", "E3_dur-ns", "E3_ns-sub-us", "E3_ns-tz", "E3_ns-whole-us", "E3_time-ns", "E3_year-0",
    "E4_map_str-bytes",
    "E4_map_str-date", "E4_map_str-dec",
)  # fmt: skip


def cases(folder: Path) -> Iterator[Case]:
    """Yield the cases of every file in `folder`/files; none if it is not there."""
    if not (folder / "files").is_dir():
        return
    here = _Folder(folder / "files")
    for part in (_csv, _row_ends, _json, _nulls, _parquet, _large_parquet, _orders):
        yield from part(here)
    yield from _images(here)


def files_without_a_case(folder: Path) -> list[str]:
    """The files in `folder`/files that no case is about; each must get its expectation here."""
    names = [case.name.split("/")[-1] for case in cases(folder)]
    files = sorted((folder / "files").glob("*")) if (folder / "files").is_dir() else []
    return [path.name for path in files if not any(name.startswith(path.name.split(".")[0]) for name in names)]


class _Folder:
    """The files by name; each is read when it is needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str) -> Callable[[], bytes]:
        return (self.folder / name).read_bytes


def _csv(file: _Folder) -> Iterator[Case]:
    fast = {"fast": True}
    yield table("given/A10b_pandas_index", file("A10b_pandas_index.csv"), settings=fast)
    yield table("given/A10b_pandas_index-select", file("A10b_pandas_index.csv"), select="column0, y")
    spread = "lo = min(temp); hi = max(temp); n = count(); c = count(temp); s = sum(temp); m = mean(temp)"
    yield table(
        "given/A12c_sensor_NaN", file("A12c_sensor_NaN.csv"), group_by="sensor", aggregate=spread, settings=fast
    )
    calm: dict[str, Any] = {"filter": "not isnan(temp)", "group_by": "sensor", "aggregate": spread}
    yield table("given/A12c_sensor_without_NaN", file("A12c_sensor_NaN.csv"), **calm)
    first = "lo = min(x); hi = max(x); s = sum(x); n = count()"
    yield table("given/A12d_NaN_first_of_shard", file("A12d_NaN_first_of_shard.csv"), group_by="g", aggregate=first)
    for name in ("1e400", "NaN", "inf-inf"):
        figures = "s = sum(x); m = mean(x); lo = min(x); hi = max(x); n = count(x)"
        yield table(
            f"given/A13_sum_{name}", file(f"A13_sum_{name}.csv"), cast="x:float", aggregate=figures, settings=fast
        )
    # DuckDB takes a column of inf and -inf for dates, which cannot be added; everybody else takes it for doubles.
    infinite = Either(Equal("groups", ([{"s": "NaN"}],)), Refusal("a sum of dates"))
    options = {"aggregate": "s = sum(x)"}
    body = file("A13_sum_inf-inf.csv")
    yield Case("table/given/A13_sum_inf-inf-uncast", "table.etl", body, lambda: infinite, options, "text/csv")
    overflow = file("A13_sum_overflow.csv")
    yield Case(
        "table/given/A13_sum_overflow",
        "table.etl",
        overflow,
        lambda: Equal("groups", ([{"s": 10**308, "n": 3}], [{"s": "Infinity", "n": 3}]), {"s": 1e-12}),
        {"aggregate": "s = sum(x); n = count()"},
        "text/csv",
    )
    county: dict[str, Any] = {"group_by": "county", "aggregate": "n = count(); s = sum(price)"}
    yield table("given/A14_group_by_NaN", file("A14_group_by_NaN.csv"), **county, settings=fast)
    survey = file("A18_survey_long_headers.csv")
    yield bad_table("given/A18_survey_long_headers", survey, rows={2471}, settings=fast)
    yield table("given/A18_survey_without_its_end", lambda: survey().rpartition(b"\n")[0])
    packed = file("B4c_pzstd.csv.zst")
    yield table("given/B4c_pzstd", packed, plain=lambda: _unzstd(packed()), settings=fast)


def _unzstd(body: bytes) -> bytes:
    """Every frame of a Zstandard file, skippable ones left out, by imagecodecs."""
    import struct

    import imagecodecs

    at, parts = 0, []
    while at < len(body):
        magic, size = struct.unpack_from("<II", body, at)
        if magic & 0xFFFFFFF0 == 0x184D2A50:
            at += 8 + size
            continue
        end = body.find(b"\x28\xb5\x2f\xfd", at + 4)
        while True:  # a frame may hold the next one's magic by chance
            part = body[at : end if end >= 0 else len(body)]
            skippable = [part.find(struct.pack("<I", 0x184D2A50 + kind)) for kind in range(16)]
            cut = min((found for found in skippable if found > 0), default=len(part))
            try:
                parts.append(imagecodecs.zstd_decode(part[:cut]))
            except imagecodecs.ZstdError:
                if end < 0:
                    raise
                end = body.find(b"\x28\xb5\x2f\xfd", end + 4)
                continue
            at += cut
            break
    return b"".join(parts)


def _row_ends(file: _Folder) -> Iterator[Case]:
    yield table("given/A3_cr_only_300", file("A3_cr_only_300.csv"), settings={"fast": True})
    yield table("given/A3_cr_only_20000", file("A3_cr_only_20000.csv"), aggregate="n = count(); s = sum(age)")
    for name, column in (("A2_header_ends_in_CR", "region"), ("A2d_header_CR_60000", "region")):
        body = file(f"{name}.csv")
        options = {"group_by": column, "aggregate": "n = count(); s = sum(amount)"}
        want = either(partial(_by_pandas, body), refusal_of(None, CR_HEADER))
        fast = name.startswith("A2_")
        yield Case(f"table/given/{name}", "table.etl", body, want, options, "text/csv", fast=fast)
    crcrlf = {"why": "row 500 has 'oops' where v is a number", "unnamed": True}
    yield bad_table(
        "given/A4b_crcrlf_bad_row_500", file("A4b_crcrlf_bad_row_500.csv"), rows={500}, claim=crcrlf, cast="v:int"
    )


def _by_pandas(body: Callable[[], bytes]) -> Equal:
    """Rows and sum of amount by region, where DuckDB does not take the file: pandas ends a row at a lone CR, too."""
    import pandas as pd

    table = pd.read_csv(io.BytesIO(body()))
    groups = table.groupby("region", sort=False).amount.agg(["count", "sum"])
    rows = [{"region": name, "n": int(row["count"]), "s": row["sum"].item()} for name, row in groups.iterrows()]
    return Equal("groups", (rows,), {"s": 1e-12})


def _json(file: _Folder) -> Iterator[Case]:
    for name in ("empty-element", "missing-comma", "trailing-comma"):
        claim = {
            "why": "the array has a fault that DuckDB names, too",
            "never": "not closed",
            "says": "comma|element|byte|value",
        }
        yield bad_table(
            f"given/C2_{name}", file(f"C2_{name}.json"), claim=claim, table_format="json", settings={"fast": True}
        )
    body = file("C2_object-comma.json")
    loose = refusal_of(None, {"why": "strict JSON has no comma before }", "never": "not closed"})
    want = either(lambda: table_equal(body(), {}, "json"), loose)
    yield Case("table/given/C2_object-comma", "table.etl", body, want, {}, "application/json")
    surrogate = file("C4_lone_surrogate.ndjson")
    yield bad_table("given/C4_lone_surrogate", surrogate, rows={1}, table_format="ndjson", settings={"fast": True})
    mixed: dict[str, Any] = {"group_by": "k", "aggregate": "n = count()"}
    yield table(
        "given/C6_true_vs_1", file("C6_true_vs_1.ndjson"), table_format="ndjson", **mixed, settings={"fast": True}
    )


def _nulls(file: _Folder) -> Iterator[Case]:
    body = file("D_nulls.ndjson")
    for number, text in enumerate(NULL_FILTERS):
        yield table(f"given/D_nulls-filter-{number}", body, table_format="ndjson", filter=text, settings=_few(number))
    for number, text in enumerate(NULL_DERIVES):
        yield table(
            f"given/D_nulls-derive-{number}", body, table_format="ndjson", derive=f"z = {text}", settings=_few(number)
        )
    figures = (
        "n = count(); cx = count(x); s = sum(x); m = mean(y); lo = min(x); hi = max(y); d = count(distinct y); "
        "f = first(x); l = last(y)"
    )
    yield table("given/D_nulls-groups", body, table_format="ndjson", group_by="r", aggregate=figures)


def _few(number: int) -> dict[str, Any]:
    """Many small variations need not be tried at every size; the first of them goes into the short form."""
    return {"sizes": ("1024", "default"), "fast": number == 0}


def _parquet(file: _Folder) -> Iterator[Case]:
    for name in TIME_FILES:
        body = file(f"{name}.parquet")
        yield table(f"given/{name}", body, table_format="parquet", settings={"fast": name == "E3_ns-tz"})
        yield table(f"given/{name}-unused", body, table_format="parquet", aggregate="s = sum(k)", settings=_few(1))
    nanoseconds: dict[str, Any] = {"group_by": "g", "aggregate": "v = sum(v); first_t = min(t)"}
    yield table("given/E3b_pandas_ns", file("E3b_pandas_ns.parquet"), table_format="parquet", **nanoseconds)
    yield table("given/E5_dup", file("E5_dup.parquet"), table_format="parquet", settings={"fast": True})
    yield table("given/E7b_list_of_category", file("E7b_list_of_category.parquet"), table_format="parquet")
    decimal: dict[str, Any] = {
        "group_by": "g",
        "aggregate": "s = sum(p); hi = max(p); lo = min(p); n = count(); m = mean(p)",
    }
    yield table(
        "given/E8_decimal", file("E8_decimal.parquet"), table_format="parquet", **decimal, settings={"fast": True}
    )
    yield table("given/E8_decimal-rows", file("E8_decimal.parquet"), table_format="parquet", filter="p > 9.5")
    figures: dict[str, Any] = {"group_by": "g", "aggregate": "s = sum(x); lo = min(x); hi = max(x); m = mean(x)"}
    yield table("given/E10_nan", file("E10_nan.parquet"), table_format="parquet", **figures)
    empty = file("E2_no_rows.parquet")
    yield table("given/E2_no_rows", empty, table_format="parquet", settings={"fast": True})
    yield table("given/E2_no_rows-count", empty, table_format="parquet", aggregate="n = count(); s = sum(a)")
    for name, text, kind in (("array", b"[]", "json"), ("ndjson", b"\n", "ndjson")):
        yield Case(
            f"table/given/E2_empty_{name}-count",
            "table.etl",
            partial(bytes_of, text),
            _one_zero,
            {"aggregate": "n = count()", "format": kind},
        )
        yield Case(
            f"table/given/E2_empty_{name}",
            "table.etl",
            partial(bytes_of, text),
            lambda: Equal("ndjson", ([],)),
            {"format": kind},
        )


def _one_zero() -> Want:
    return Equal("groups", ([{"n": 0}],))


def _large_parquet(file: _Folder) -> Iterator[Case]:
    low = file("E6_low_cardinality.parquet")
    large = {"sizes": ("65536", "default")}  # 1,000,000 rows are more than 100,000 shards of 1,024 bytes
    options: dict[str, Any] = {"group_by": "status", "aggregate": "n = count(); urls = count(distinct url)"}
    yield table(
        "given/E6_low_cardinality",
        low,
        table_format="parquet",
        **options,
        settings=large,
    )
    for rows in (250000, 600000):
        events = file(f"E6c_events_{rows}.parquet")
        groups: dict[str, Any] = {"group_by": "event, country", "aggregate": "n = count(); s = sum(v)"}
        yield table(f"given/E6c_events_{rows}", events, table_format="parquet", **groups, settings=large)
    # Above 10 MiB of NDJSON: more than one shard may return, from a cut that the product chose itself.
    events = file("E6c_events_250000.parquet")
    yield table("given/E6c_events_250000-rows", events, table_format="parquet", settings=large)


def _orders(file: _Folder) -> Iterator[Case]:
    body = file("ETL_orders.csv")
    yield table("given/ETL_orders", body, settings={"fast": True})
    yield bad_table("given/ETL_orders-text-plus-number", body, derive="x = customer + order_id")
    work: dict[str, dict[str, Any]] = {
        "numbers": {"derive": "x = qty + order_id; y = amount * qty", "select": "order_id, x, y"},
        "clean": {
            "derive": "mail = lower(trim(email)); middle = regexp_extract(sku, '([0-9]+)', 1)::int",
            "select": "mail, middle",
        },
        "months": {
            "derive": "m = date_trunc('month', ordered_at)",
            "group_by": "m, region",
            "aggregate": "s = sum(amount); n = count()",
        },
        "top": {"group_by": "customer", "aggregate": "s = sum(amount * qty); n = count()", "having": "n > 10"},
        "sorted": {"order_by": "amount desc, order_id", "limit": "25", "select": "order_id, amount"},
        "regions": {"select": "region", "distinct": "true"},
        "spread": {
            "group_by": "region",
            "aggregate": "md = median(amount); q = quantile(amount, 0.9); sd = stddev(qty); v = var_pop(amount)",
        },
    }
    for name, options in work.items():
        settings = {"sizes": ("4096", "one"), "fast": name == "months"}
        yield table(f"given/ETL_orders-{name}", body, **options, settings=settings)
    for output in ("csv", "json", "parquet", "arrow"):
        yield table(
            f"given/ETL_orders-as-{output}",
            body,
            output=output,
            filter="qty > 3",
            settings={"sizes": ("4096", "default")},
        )


def _images(file: _Folder) -> Iterator[Case]:
    for path in sorted(file.folder.glob("N_*.npy")):
        yield image(f"given/{path.stem}", file(path.name), settings={"fast": True})
    codecs = {
        "T_comp_22610": "22610|JPEG.?XR", "T_comp_33003": "33003|JPEG.?2000", "T_comp_33005": "33005|JPEG.?2000",
        "T_comp_34712": "34712|JPEG.?2000", "T_comp_jpegxr": "34934|JPEG.?XR", "T_comp_png": "34933|PNG",
        "T_jpeg2000_g16": "34712|JPEG.?2000", "T_lerc": "34887|LERC", "T_lzma": "34925|LZMA",
        "T_zstd_rgb8": "50000|ZSTD|Zstandard",
    }  # fmt: skip
    for name, says in codecs.items():
        fast = {"fast": name in ("T_zstd_rgb8", "T_comp_png")}
        yield image_either(
            f"given/{name}", file(f"{name}.tif"), Refusal("the codec is not taken", says=says), settings=fast
        )
    for path in sorted(file.folder.glob("TD_*.tif")):
        yield image(f"given/{path.stem}", file(path.name), settings={"fast": "ff-in" in path.name})
