"""Odd variants of a record: what another program, another version, or a broken disk may have written in its place.

`odd()` changes one record a little, so that it stays almost right: that finds more than random bytes. It needs no
knowledge of a record's meaning: it changes headers as headers, JSON as JSON, and everything else as bytes.
"""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

Headers = Sequence[tuple[str, bytes | None]]
Content = tuple[Headers, bytes | None]

DEEP = b"[" * 200_000
LARGE = bytes(2_200_000)
HUGE = int("9" * 4_000)
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.0, 1.5, 2**31, 2**32, 2**53 + 1, 2**63, 2**64, 10**12, HUGE, float("inf"), float("nan"),
    "", "0", "1", "x" * 70_000, "\ud800", "\0", "../../etc", [], {}, [None], [[]], {"x": 1}, [1, 2, 3, 4, 5], "2026-11-28",
)  # fmt: skip
ODD_BYTES = (
    b"", b"\0", b"\xff", b"\xff" * 27, b"null", b"0", b"{}", b"[]", b'"x"', b"{", b"NaN", b"1e999", b"\xef\xbb\xbf{}",
    b'{"a":1,"a":2}', LARGE, DEEP, b'{"a":' * 100_000, b"9" * 5_000, b'"\\ud800"', "é".encode("latin-1"), bytes(range(256)),
)  # fmt: skip
ODD_NAMES = ("rg", "event", "kind", "options", "meta", "history", "source", "chained", "skip", "document", "checkpoint",
             "result", "state", "segment", "seq", "row", "content-type", "", "x" * 300, "é", "traceparent")  # fmt: skip


def odd(content: Content, chance: random.Random) -> Content:
    """Return a changed copy of the record's headers and value. It may, by accident, be a right record, too."""
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        content = chance.choice(_CHANGES)(content, chance)
    return content


def _odd_header(content: Content, chance: random.Random) -> Content:
    headers, value = list(content[0]), content[1]
    if not headers:
        return headers, value
    at = chance.randrange(len(headers))
    name, old = headers[at]
    headers[at] = (name, _odd_bytes(old or b"", chance))
    return headers, value


def _no_value(content: Content, chance: random.Random) -> Content:
    headers = [(name, None if chance.random() < 0.5 else value) for name, value in content[0]]
    return headers, content[1]


def _dropped_header(content: Content, chance: random.Random) -> Content:
    headers = list(content[0])
    if headers:
        headers.pop(chance.randrange(len(headers)))
    return headers, content[1]


def _added_header(content: Content, chance: random.Random) -> Content:
    added = (chance.choice(ODD_NAMES), chance.choice((None, *ODD_BYTES)))
    headers = list(content[0])
    headers.insert(chance.randint(0, len(headers)), added)
    return headers, content[1]


def _odd_value(content: Content, chance: random.Random) -> Content:
    return content[0], _odd_bytes(content[1] or b"", chance)


def _no_record_value(content: Content, _chance: random.Random) -> Content:
    return content[0], None


def _odd_bytes(data: bytes, chance: random.Random) -> bytes:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return chance.choice(_BYTES)(data, chance)
    changed = _odd_json(document, chance) if chance.random() < 0.8 else None
    return chance.choice(_BYTES)(data, chance) if changed is None else json.dumps(changed).encode()


def _odd_json(document: Any, chance: random.Random) -> Any:
    """Return the document with one of its values, at any depth, changed, dropped or added."""
    if isinstance(document, dict) and document and chance.random() < 0.9:
        name = chance.choice(list(document))
        if chance.random() < 0.1:
            return {kept: value for kept, value in document.items() if kept != name}
        if chance.random() < 0.05:
            return document | {"unknown": chance.choice(ODD_VALUES)}
        return document | {name: _odd_json(document[name], chance)}
    if isinstance(document, list) and document and chance.random() < 0.8:
        at = chance.randrange(len(document))
        return [*document[:at], _odd_json(document[at], chance), *document[at + 1 :]]
    return chance.choice(ODD_VALUES)


def _replaced(_data: bytes, chance: random.Random) -> bytes:
    return chance.choice(ODD_BYTES)


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randint(0, len(data))]


def _longer(data: bytes, chance: random.Random) -> bytes:
    return data + chance.choice(ODD_BYTES)


def _flipped(data: bytes, chance: random.Random) -> bytes:
    if not data:
        return b"\0"
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 4))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _inflated(data: bytes, chance: random.Random) -> bytes:
    """Write the largest number of 1, 2, 4 or 8 bytes somewhere: where a length or a count may stand."""
    width = chance.choice((1, 2, 4, 8))
    at = chance.randint(0, max(0, len(data) - width))
    return data[:at] + b"\xff" * width + data[at + width :]


def _random(_data: bytes, chance: random.Random) -> bytes:
    return chance.randbytes(chance.randint(0, 200))


_BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _replaced, _cut, _longer, _flipped, _flipped, _inflated, _random,
)  # fmt: skip
_CHANGES: tuple[Callable[[Content, random.Random], Content], ...] = (
    _odd_header, _odd_header, _odd_header, _no_value, _dropped_header, _added_header, _odd_value, _odd_value,
    _odd_value, _no_record_value,
)  # fmt: skip
