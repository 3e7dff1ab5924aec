"""The incremental body readers agree with the standard library, however the body is cut into chunks."""

import base64
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regather.core.errors import BadInput
from regather_gateway.bodies.json_body import JsonBody
from regather_gateway.bodies.multipart_body import MultipartBody

SMALL_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELD_NAMES = st.text(min_size=1, max_size=12).filter(lambda name: name not in ("image_data", "payload"))
SEEDS = st.integers(min_value=0, max_value=2**32)


def cut(body: bytes, seed: int) -> list[bytes]:
    """The body in chunks of 0 to 9 bytes, now and then a long one."""
    dice = random.Random(seed)
    chunks, at = [], 0
    while at < len(body):
        size = dice.choice([0, 1, 1, 2, 3, 5, 9, 200])
        chunks.append(body[at : at + size])
        at += size
    return chunks


def read(reader: JsonBody | MultipartBody, chunks: list[bytes]) -> bytes:
    return b"".join([*(reader.feed(chunk) for chunk in chunks), reader.finish()])


def escaped(text: str, dice: random.Random) -> str:
    """A JSON string of `text` in which any character may be written as an escape."""
    written = []
    for character in text:
        if character == "/" and dice.random() < 0.5:
            written.append("\\/")
        elif dice.random() < 0.2:
            units = character.encode("utf-16-be")
            written += [f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2)]
        else:
            written.append(json.dumps(character, ensure_ascii=False)[1:-1])
    return '"' + "".join(written) + '"'


def json_object(fields: dict[str, object], name: str, data: str, dice: random.Random) -> bytes:
    """An object with the data at a random place among the fields, with random white space."""
    members = [f"{json.dumps(key)}{space(dice)}:{space(dice)}{json.dumps(value)}" for key, value in fields.items()]
    members.insert(dice.randint(0, len(members)), f'"{name}"{space(dice)}:{space(dice)}{data}')
    return (space(dice) + "{" + f"{space(dice)},{space(dice)}".join(members) + space(dice) + "}" + space(dice)).encode()


def space(dice: random.Random) -> str:
    return "".join(dice.choices(" \t\r\n", k=dice.choice([0, 0, 0, 1, 3])))


@given(data=st.binary(max_size=400), fields=st.dictionaries(FIELD_NAMES, SMALL_VALUES, max_size=4), seed=SEEDS)
def test_base64_field_and_its_neighbours_survive_any_cut(data: bytes, fields: dict[str, object], seed: int) -> None:
    dice = random.Random(seed)
    lines = base64.b64encode(data).decode()
    wrapped = "".join(letter + dice.choice(["", "", "", "\n", " "]) for letter in lines)
    body = json_object(fields, "image_data", escaped(wrapped, dice), dice)

    reader = JsonBody("image_data", base64=True)

    assert read(reader, cut(body, seed)) == data
    assert reader.fields == {name: value for name, value in json.loads(body).items() if name != "image_data"}


@given(text=st.text(max_size=300), fields=st.dictionaries(FIELD_NAMES, SMALL_VALUES, max_size=3), seed=SEEDS)
def test_text_becomes_its_utf8_bytes(text: str, fields: dict[str, object], seed: int) -> None:
    dice = random.Random(seed)
    body = json_object(fields, "payload", escaped(text, dice), dice)

    reader = JsonBody("payload", base64=False)

    assert read(reader, cut(body, seed)) == text.encode()
    assert reader.fields == fields


@given(elements=st.lists(SMALL_VALUES, max_size=8), seed=SEEDS)
def test_array_becomes_one_line_for_each_element(elements: list[object], seed: int) -> None:
    dice = random.Random(seed)
    body = json_object({"shard_size": 1024}, "payload", json.dumps(elements, indent=dice.choice([None, 2])), dice)

    reader = JsonBody("payload", base64=False)
    lines = read(reader, cut(body, seed)).decode().split("\n")

    assert lines.pop() == ""
    assert [json.loads(line) for line in lines] == elements


@given(body=st.binary(max_size=60) | st.text('{}[]":,\\u0d8/ab1 =', max_size=60).map(str.encode), seed=SEEDS)
def test_garbage_gives_bad_input_and_nothing_else_whatever_the_cut(body: bytes, seed: int) -> None:
    def outcome(chunks: list[bytes]) -> object:
        reader = JsonBody("payload", base64=False)
        try:
            return read(reader, chunks), reader.fields
        except BadInput as error:
            return error.code

    whole = outcome([body])

    assert outcome(cut(body, seed)) == whole
    if isinstance(whole, tuple):
        document = json.loads(body)
        assert document.keys() - {"payload"} == whole[1].keys()


@given(data=st.binary(max_size=300), before=st.text(max_size=20), seed=SEEDS)
def test_multipart_file_survives_any_cut(data: bytes, before: str, seed: int) -> None:
    value = before.replace("\r", "").replace("\n", "")
    parts = [
        b'Content-Disposition: form-data; name="shard_size"\r\n\r\n' + value.encode(),
        b'Content-Disposition: form-data; name="image"; filename="a.npy"\r\nContent-Type: application/x-npy\r\n\r\n'
        + data,
    ]
    random.Random(seed).shuffle(parts)
    boundary = b"----a-boundary-that-data-does-not-hold-0123456789"
    body = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + boundary + b"--\r\n"

    reader = MultipartBody(f"multipart/form-data; boundary={boundary.decode()}")

    assert read(reader, cut(body, seed)) == data
    assert reader.fields == {"shard_size": value}
    assert reader.content_type == "application/x-npy"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b'{"image_data": "QUJ"}', "base64-invalid", id="padding missing"),
        pytest.param(b'{"image_data": "QQ==QUJD"}', "base64-invalid", id="text after the padding"),
        pytest.param(b'{"image_data": "QU*D"}', "base64-invalid", id="not in the alphabet"),
        pytest.param(b'{"image_data": ["QUJD"]}', "field-type", id="an array"),
        pytest.param(b'{"image_data": null}', "field-type", id="null"),
        pytest.param(b'{"image_data": "QUJD", "image_data": "QUJD"}', "json-invalid", id="twice"),
        pytest.param(b'{"image_data": "QUJD"', "json-invalid", id="object not closed"),
        pytest.param(b'{"image_data": "QUJD', "json-invalid", id="string not closed"),
        pytest.param(b'{"image_data": "QUJD"} x', "json-invalid", id="text after the object"),
        pytest.param(b'["QUJD"]', "json-invalid", id="no object"),
        pytest.param(b'{"a": NaN, "image_data": "QUJD"}', "json-invalid", id="NaN"),
        pytest.param(b'{"a": ' + b"[" * 60_000 + b"]" * 60_000 + b"}", "field-too-long", id="field too long"),
        pytest.param(b'{"a": ' + b"[" * 30_000 + b"]" * 30_000 + b"}", "json-invalid", id="nested too deep"),
    ],
)
@pytest.mark.parametrize("chunk_bytes", [1, 7, 1 << 20])
def test_wrong_bodies_are_refused(body: bytes, code: str, chunk_bytes: int) -> None:
    chunks = [body[at : at + chunk_bytes] for at in range(0, len(body), chunk_bytes)]

    with pytest.raises(BadInput) as refused:
        read(JsonBody("image_data", base64=True), chunks)

    assert refused.value.code == code


def test_reader_holds_no_more_than_a_chunk_of_the_data() -> None:
    reader = JsonBody("image_data", base64=True)
    reader.feed(b'{"image_data": "')
    chunk = base64.b64encode(bytes(48 * 1024))

    sizes = [len(reader.feed(chunk)) for _ in range(20)]

    assert sizes == [48 * 1024] * 20
