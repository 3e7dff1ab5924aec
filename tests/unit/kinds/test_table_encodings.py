"""What a text is, and what it says, whatever its encoding."""

import json

import pytest

from regather.core.errors import BadInput
from regather.kinds.table.etl import TableEtl
from regather.testing.run_kind import run

TEXTS = [
    '{"a":1,"b":"é"}\n{"a":2,"b":"ü"}\n',
    '[{"a":1,"b":"é"},\n {"a":2,"b":"ü"}]',
    '  [{"a":1,"b":"é"},{"a":2,"b":"ü"}]',
    "a,b\n1,é\n2,ü\n",
]
MARKED = {"utf-8-sig": "utf-8-sig", "utf-16": "utf-16", "utf-32": "utf-32"}
PLAIN = {
    "utf-16-le": "utf-16",
    "utf-16-be": "utf-16-be",
    "utf-32-be": "utf-32-be",
    "cp1252": "cp1252",
    "utf-8": "utf-8",
}
ROWS = [{"a": 1, "b": "é"}, {"a": 2, "b": "ü"}]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("codec", [*MARKED, *PLAIN])
def test_the_format_is_known_whatever_the_encoding(text: str, codec: str) -> None:
    body = text.encode(codec)
    asked = [{"encoding": {**MARKED, **PLAIN}[codec]}, *([{}] if codec in MARKED or codec == "utf-8" else [])]
    for options in asked:
        assert [json.loads(line) for line in run(TableEtl(), body, options).splitlines()] == ROWS


@pytest.mark.parametrize("text", TEXTS)
def test_utf_16_without_a_mark_is_refused_with_what_to_do(text: str) -> None:
    for codec in ("utf-16-le", "utf-16-be"):
        with pytest.raises(BadInput, match="encoding=utf-16"):
            run(TableEtl(), text.encode(codec))
