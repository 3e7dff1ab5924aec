"""Options that hold SQL are cut where DuckDB's tokenizer sees a separator, and nowhere else."""

import json
from itertools import pairwise

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regather.kinds.table.etl import TableEtl
from regather.kinds.table.sql_text import masked, partition, split
from regather.testing.run_kind import run

PIECES = st.sampled_from(
    ["a", "e", "E'", "e'", "'", '"', "''", '""', "\\", "\\'", ";", "; ", "=", "$$", "$x$", "1", " ", "\n", "--", "/*",
     "*/", "x'", "case", "+"]
)  # fmt: skip


def separators(text: str) -> list[int] | None:
    """Where DuckDB has a semicolon; None for what it cannot read to its end."""
    unit = text.encode()
    tokens = [*((at, str(kind)) for at, kind in duckdb.tokenize(text)), (len(unit), "end")]
    for (at, kind), (end, _) in pairwise(tokens):
        token = unit[at:end].strip()
        if kind.endswith("string_const") and not closed(token.decode()):
            return None
    return [at for at, kind in tokens if kind.endswith("operator") and unit[at : at + 1] == b";"]


def closed(token: str) -> bool:
    try:
        duckdb.execute(f"SELECT {token}").fetchall()
    except duckdb.Error:
        return token[:1] in "xXbB"
    return True


@settings(max_examples=500, deadline=None)
@given(st.lists(PIECES, max_size=14).map("".join))
def test_semicolons_are_those_of_duckdb(text: str) -> None:
    expected = separators(text)
    try:
        mask = masked(text)
    except ValueError:
        return
    if expected is not None:
        assert [at for at, character in enumerate(mask) if character == ";"] == expected


BODY = b'a,"x=y","p;q"\n1,2,3\n'


@pytest.mark.parametrize(
    ("derive", "row"),
    [
        ("t = $$a;b=c$$; u = 2", {"t": "a;b=c", "u": 2}),
        ("t = $x$ $$;$$ $x$; u = a", {"t": " $$;$$ ", "u": 1}),
        (r"t = e'it\'s; ok'; u = 2", {"t": "it's; ok", "u": 2}),
        (r"t = E'a\\'; u = 'b;'", {"t": "a\\", "u": "b;"}),
        (r"t = 'a\'; u = 2", {"t": "a\\", "u": 2}),
        ('"n=m" = a + 1; u = "x=y" + 1', {"n=m": 2, "u": 3}),
        ('"n;m" = "p;q"', {"n;m": 3}),
        ("t = a -- one; two = 3\n; u = 2 /* ; /* = */ ; */", {"t": 1, "u": 2}),
        ("/* first */ t = a; -- no more", {"t": 1}),
        ("t = a = 1; u = 'x=1'", {"t": True, "u": "x=1"}),
        ("t = ((a + (1)) * (2)); u = '('; v = 2", {"t": 4, "u": "(", "v": 2}),
    ],
)
def test_what_is_quoted_separates_nothing(derive: str, row: dict[str, object]) -> None:
    found = json.loads(run(TableEtl(), BODY, {"derive": derive, "select": ", ".join(f'"{name}"' for name in row)}))
    assert found == row


@pytest.mark.parametrize(
    "text", ["t = 'a", 't = "a', "t = $$ a; u = 1", "t = $x$ $$ $y$", "t = 1 /* /* */", "t = e'a\\'"]
)
def test_what_is_not_closed_is_refused_at_once(text: str) -> None:
    with pytest.raises(ValueError, match="not closed"):
        split(text, ";")
    with pytest.raises(ValueError, match="not closed"):
        split(text + "$a$/*" * 200_000, ";")
    assert partition("a", "=") == ("a", "", "")


def test_names_that_look_like_comments_are_names() -> None:
    assert split('a--b, c/*d, $$e, "f, g", h(1, 2)', ",", names=True) == ["a--b", "c/*d", "$$e", '"f, g"', "h(1, 2)"]
    assert json.loads(run(TableEtl(), b"a--b,c/*d\n1,2\n", {"select": "c/*d, a--b"})) == {"c/*d": 2, "a--b": 1}
