"""The judge itself: a product that is slightly wrong, silent, or says something untrue must be caught."""

import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from accept_kinds.case import Case, Either, Equal, OracleDisagrees, Partial, Refusal, refused
from accept_kinds.compare import difference, parse_json
from accept_kinds.expect import table, table_equal
from accept_kinds.judge import EQUAL, REFUSED, SILENT, WRONG, Answer, judge, retried_though_certain
from accept_kinds.oracles import OracleRefused
from accept_kinds.run import Findings, run

BODY = b"g,x,n\n" + b"".join(b"%s,%d.1,%d\n" % (b"ab"[at % 2 : at % 2 + 1], at, 2**53 + at) for at in range(50))
GROUPS: dict[str, Any] = {"group_by": "g", "aggregate": "s = sum(x); n = count(); big = max(n)"}


def done(result: bytes, state: str = "succeeded", **more: Any) -> Answer:
    return Answer(200, {"state": state, "errors": [], **more}, result)


def failed(error: str, reason: str = "permanent", row: int | None = None) -> Answer:
    entry = {"seq": 0, "row": row, "reason": reason, "error": error}
    return Answer(200, {"state": "failed", "reason": "shard-failed", "error": error, "errors": [entry]})


def grouped(body: bytes = BODY) -> list[dict[str, Any]]:
    """A product of its own: the groups by plain Python."""
    lines = [line.split(",") for line in body.decode().splitlines()[1:]]
    keys = list(dict.fromkeys(line[0] for line in lines))
    return [
        {
            "g": key,
            "s": sum(float(line[1]) for line in lines if line[0] == key),
            "n": sum(line[0] == key for line in lines),
            "big": max(int(line[2]) for line in lines if line[0] == key),
        }
        for key in keys
    ]


def answer_of(groups: list[dict[str, Any]]) -> Answer:
    return done(json.dumps({"groups": groups}).encode())


def test_a_right_answer_is_equal() -> None:
    assert judge(table_equal(BODY, GROUPS, "csv"), answer_of(grouped())).word == EQUAL


def changed(**change: Any) -> list[dict[str, Any]]:
    groups = grouped()
    groups[1] |= change
    return groups


MUTANTS = {
    "a sum off by 1e-9": lambda: changed(s=grouped()[1]["s"] * (1 + 1e-9)),
    "a count off by one": lambda: changed(n=26),
    "a big number as a double": lambda: changed(big=float(grouped()[1]["big"] - 1)),
    "a big number off by one": lambda: changed(big=grouped()[1]["big"] - 1),
    "a number as a text": lambda: changed(n="25"),
    "a number as true": lambda: changed(n=True),
    "a sum that is null": lambda: changed(s=None),
    "groups in another order": lambda: grouped()[::-1],
    "a group twice": lambda: [*grouped(), grouped()[0]],
    "a group missing": lambda: grouped()[:1],
    "a column more": lambda: changed(extra=1),
    "columns in another order": lambda: [dict(reversed(group.items())) for group in grouped()],
    "a row counted twice at a cut": lambda: grouped(BODY + BODY.splitlines(keepends=True)[1]),
    "a row lost at a cut": lambda: grouped(BODY[: -len(BODY.splitlines(keepends=True)[-1])]),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_slightly_wrong_answer_is_wrong(name: str) -> None:
    verdict = judge(table_equal(BODY, GROUPS, "csv"), answer_of(MUTANTS[name]()))
    assert verdict.word == WRONG, name
    assert verdict.got


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ('{"x": "NaN"}', True),
        ('{"x": NaN}', True),
        ('{"x": null}', False),
        ('{"x": "nan"}', False),
        ('{"x": 0}', False),
    ],
)
def test_nan_is_a_text_and_no_null(text: str, good: bool) -> None:
    want = Equal("ndjson", ([{"x": "NaN"}],))
    assert (difference(want, text.encode()) is None) is good


def test_decimals_and_doubles_are_exact_without_a_tolerance() -> None:
    want = Equal("ndjson", ([parse_json('{"x": 0.1}')],))
    assert difference(want, b'{"x": 0.10}') is None
    assert difference(want, b'{"x": 0.10000000000000001}') is None
    assert difference(want, b'{"x": 0.1000000000000001}') is not None
    long = Equal("ndjson", ([parse_json('{"x": 12345678901234567890.1234}')],))
    assert difference(long, b'{"x": 12345678901234567890.12340}') is None
    assert difference(long, b'{"x": 12345678901234567000.0}') is not None


def test_sums_of_doubles_are_doubles_in_every_output() -> None:
    body = b"g,x\na,0.1\na,0.2\na,1e17\na,-1e17\n"
    options = {"group_by": "g", "aggregate": "s = sum(x)", "output": "csv"}
    assert difference(table_equal(body, options, "csv"), b"g,s\na,0.30000000000000004\n") is None
    assert difference(table_equal(body, options, "csv"), b"g,s\na,0.3001\n") is not None


def test_a_tolerance_is_for_numbers_of_any_length() -> None:
    want = Equal("ndjson", ([parse_json('{"x": 71421816194784056.0}')],), {"x": 1e-9})
    assert difference(want, b'{"x": 71421816194784030.0}') is None
    assert difference(want, b'{"x": 71421816999999999.0}') is not None


def test_csv_cells_are_numbers_or_texts() -> None:
    want = Equal("csv", ((["a", "b"], [["1.50", None], ["true", "x"]]),))
    assert difference(want, b"a,b\r\n1.5,\r\nTrue,x\r\n") is None
    assert difference(want, b"a,b\r\n1.5,\r\ntrue,y\r\n") is not None
    assert difference(want, b"1.5,\r\ntrue,x\r\n") is not None


def test_arrow_answers_have_the_right_types_too() -> None:
    want = table_equal(b"a\n1\n2\n", {"output": "arrow"}, "csv")

    def written(kind: pa.DataType) -> bytes:
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, pa.schema([("a", kind)])) as stream:
            stream.write_table(pa.table({"a": pa.array([1, 2], kind)}))
        return sink.getvalue()

    assert difference(want, written(pa.int64())) is None
    assert "types" in str(difference(want, written(pa.int32())))


def test_arrays_are_compared_by_shape_type_and_value() -> None:
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)

    def saved(other: Any) -> bytes:
        file = io.BytesIO()
        np.save(file, other)
        return file.getvalue()

    want = Equal("npy", (array,))
    other = array.copy()
    other[2, 1] += 1
    assert difference(want, saved(array)) is None
    assert "at (2, 1)" in str(difference(want, saved(other)))
    assert difference(want, saved(array.astype(np.uint16))) is not None
    assert difference(want, saved(array.T)) is not None


BAD = Refusal("row 7 has a text", frozenset({7}))


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (done(b"{}"), SILENT),
        (done(b"{}", "partial"), SILENT),
        (failed("row 7: 'oops' is no number"), REFUSED),
        (failed("'oops' is no number", row=7), REFUSED),
        (failed("row 8: 'oops' is no number"), WRONG),
        (failed("row 7 has 3 values; row 0 has 5"), REFUSED),
        (failed("row 0 has 5 values; row 7 has 3"), WRONG),
        (failed("'oops' is no number"), WRONG),
        (failed("row 7: oops", "raised"), WRONG),
        (failed("row 7: oops", "merge-failed"), WRONG),
        (failed("row 7: oops", "timed-out"), WRONG),
        (failed('row 7: Traceback (most recent call last): File "x.py"'), WRONG),
        (failed("row 7 of /tmp/spool/abc: oops"), WRONG),
        (Answer(422, {"title": "bad", "detail": "row 7: oops"}), REFUSED),
        (Answer(422, {"title": "no", "detail": "row 7: unknown kind 'table.sql'"}), WRONG),
        (Answer(422, {"title": "no", "detail": "row 7: option 'quote' is unknown"}), WRONG),
        (Answer(404, {"title": "not found", "detail": "row 7"}), WRONG),
        (Answer(429, {"title": "too many", "detail": "row 7"}), WRONG),
        (Answer(500, {"title": "internal", "detail": "row 7: oops"}), WRONG),
        (Answer(503, {"title": "busy"}), WRONG),
        (Answer(200, {"state": "expired", "reason": "deadline", "error": "row 7"}), WRONG),
    ],
)
def test_a_refusal_must_be_one_and_name_the_row(answer: Answer, word: str) -> None:
    assert judge(BAD, answer).word == word


def test_a_refusal_must_give_the_true_cause() -> None:
    want = Refusal("a comma too many", says="comma", never="not closed")
    assert judge(want, Answer(422, {"detail": "a comma at byte 9"})).word == REFUSED
    assert judge(want, Answer(422, {"detail": "byte 9 is wrong"})).word == WRONG
    assert judge(want, Answer(422, {"detail": "the array is not closed: comma"})).word == WRONG


def test_an_everyday_file_that_is_refused_is_wrong() -> None:
    want = table_equal(BODY, GROUPS, "csv")
    assert judge(want, Answer(422, {"detail": "no"})).word == WRONG
    assert judge(want, failed("row 7: no")).word == WRONG
    assert judge(want, done(b"", "partial")).word == WRONG


def test_either_takes_the_right_value_or_the_right_refusal_only() -> None:
    want = Either(Equal("bytes", (b"right",)), Refusal("codec", says="LERC"))
    assert judge(want, done(b"right")).word == EQUAL
    assert judge(want, done(b"wrong")).word == WRONG
    assert judge(want, Answer(422, {"detail": "LERC is not taken"})).word == REFUSED
    assert judge(want, Answer(422, {"detail": "damaged"})).word == WRONG


def test_skipped_rows_must_be_exactly_the_bad_ones() -> None:
    want = Partial(frozenset({3, 9}), Equal("bytes", (b"rest",)))

    def skipped(*rows: int, result: bytes = b"rest", state: str = "partial") -> Answer:
        return Answer(200, {"state": state, "errors": [{"seq": 0, "row": row} for row in rows]}, result)

    assert judge(want, skipped(3, 9)).word == EQUAL
    assert judge(want, skipped(3)).word == WRONG
    assert judge(want, skipped(3, 9, 10)).word == WRONG
    assert judge(want, skipped(3, 9, result=b"other")).word == WRONG
    assert judge(want, skipped(state="succeeded")).word == SILENT


def test_what_is_certain_must_not_be_tried_again() -> None:
    def shard(attempts: int, *failures: tuple[str, str]) -> Answer:
        told = [{"reason": reason, "error": error} for reason, error in failures]
        return Answer(200, {}, None, [{"seq": 4, "attempts": attempts, "failures": told}])

    assert not retried_though_certain(shard(1, ("permanent", "bad")))
    assert not retried_though_certain(shard(2, ("crashed", "signal 9")))
    assert not retried_though_certain(shard(2, ("raised", "once")))
    assert not retried_though_certain(shard(3, ("raised", "once"), ("raised", "else")))
    assert retried_though_certain(shard(2, ("permanent", "bad"), ("permanent", "bad")))
    assert retried_though_certain(shard(4, ("returned-too-much", "12 MiB")))
    assert retried_though_certain(shard(4, *[("raised", "TypeError: x")] * 4))


def test_a_refusal_needs_an_oracle_that_refuses() -> None:
    def refuses() -> object:
        raise OracleRefused("bad")

    assert refused(refuses, BAD) is BAD
    with pytest.raises(OracleDisagrees, match="reads a file"):
        refused(lambda: 1, BAD)


class Wrong:
    """A product that adds the first row once per shard when it is cut small."""

    async def ask(self, case: Case, body: bytes, size: str) -> Answer:
        lines = body.splitlines(keepends=True)
        return answer_of(grouped(body + lines[1] * (size == "1024")))


async def test_a_run_counts_and_tells_how_to_replay() -> None:
    cases = [table("mine", BODY, settings=None, **GROUPS)]
    findings = await run(cases, ("1024", "default"), Wrong())
    document = findings.document()
    assert (document["cases"], document["equal"], document["wrong"], document["ok"]) == (2, 1, 1, False)
    assert document["failures"][0]["replay"] == "make accept-kinds ONLY=table/mine SIZES=1024"
    assert (await run(cases, ("default",), Wrong())).ok


async def test_an_oracle_that_disagrees_fails_the_run() -> None:
    def never() -> Refusal:
        return refused(lambda: 1, BAD)

    findings = await run([Case("table/x", "table.etl", lambda: b"", never)], ("default",), Wrong())
    assert not findings.ok
    assert "reads a file" in findings.doubtful[0]["error"]


def test_nothing_judged_is_no_success() -> None:
    assert not Findings().ok
