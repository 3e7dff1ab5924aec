"""What the text splitter does with bodies as people have them: encodings, comments, blank lines, other formats, damage."""

import io
import zipfile

import pytest

from regather.core.errors import BadInput, BadRequest
from regather.processors.base import SplitRequest
from regather.processors.splitting.magic import describe
from regather.processors.splitting.row_grammar import Dialect
from regather.processors.splitting.row_packer import RowSpan
from regather.processors.splitting.text_decoder import check_encoding
from regather.processors.splitting.text_rows import LINES, NDJSON, TextRowSplitter, csv_dialect

CSV = csv_dialect(repeat_header=False)


def rows_of(body: bytes, dialect: Dialect = CSV) -> tuple[bytes, int]:
    """Payload and number of rows of a body of one shard, fed byte by byte."""
    splitter = TextRowSplitter(SplitRequest(), dialect)
    pieces = [piece for at in range(len(body)) for piece in splitter.feed(body[at : at + 1])]
    (piece,) = [*pieces, *splitter.finish()]
    return piece.payload, RowSpan.decode(piece.meta).rows


@pytest.mark.parametrize(
    ("body", "payload", "rows"),
    [
        pytest.param(b"a,b\r1,2\n3,4\n", b"1,2\n3,4\n", 2, id="a header that ends in CR"),
        pytest.param(b"a,b\r1,2\r3,4\r", b"1,2\n3,4\n", 2, id="CR only"),
        pytest.param(b"a,b\r\r\n1,2\r\r\n3,4\r\r\n", b"1,2\n3,4\n", 2, id="CR CR LF"),
        pytest.param(b'a,b\r\n1,"x\r\ny\rz"\r\n', b'1,"x\r\ny\rz"\n', 1, id="line ends inside of quotes stay"),
        pytest.param(b"\n\n a,b\n\n1,2\n\n\n3,4\n\n", b"1,2\n3,4\n", 2, id="empty lines are no rows"),
        pytest.param(b"a\n\n1\n\n", b"\n1\n\n", 3, id="but in one column"),
        pytest.param(b'"a,b"\n\n1\n', b"\n1\n", 2, id="whose name holds the delimiter"),
        pytest.param(b"a,b", b"", 0, id="a header without a line end"),
        pytest.param(b"a,b\n", b"", 0, id="a header alone"),
        pytest.param(b"a,b\n1,2", b"1,2\n", 1, id="a last row without a line end"),
        pytest.param(b'a,b\n5" x 3",2\n', b'5" x 3",2\n', 1, id="a quote inside of a field is data"),
        pytest.param(b'a,b\n "x\ny",2\n', b' "x\ny",2\n', 1, id="a quote behind a space opens a field"),
        pytest.param(
            b"\xef\xbb\xbfa,b\n\xef\xbb\xbf1,2\n", b"\xef\xbb\xbf1,2\n", 1, id="one byte order mark is left out"
        ),
        pytest.param("a,b\né,漢\n".encode("utf-16"), "é,漢\n".encode(), 1, id="UTF-16 by its byte order mark"),
        pytest.param("a,b\né,😀\n".encode("utf-16-be"), None, 0, id="UTF-16 without one"),
    ],
)
def test_rows_of_csv(body: bytes, payload: bytes | None, rows: int) -> None:
    if payload is None:
        with pytest.raises(BadInput, match=r"byte 0 of the body: a NUL byte.*encoding=utf-16"):
            rows_of(body)
    else:
        assert rows_of(body) == (payload, rows)


def test_a_line_end_of_two_bytes_is_one_wherever_rows_are_looked_for_in_pieces() -> None:
    splitter = TextRowSplitter(SplitRequest(), csv_dialect(repeat_header=False))
    pieces = [*splitter.feed(b"a\r\n" + b'"\n"\r\n' * 10_000), *splitter.finish()]
    assert [RowSpan.decode(piece.meta).rows for piece in pieces] == [10_000]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf8", "é漢😀"), ("UTF-16", "é漢😀"), ("utf-16-be", "é漢😀"), ("utf_32", "é漢😀"),
        ("latin-1", "éÿ"), ("cp1252", "é€"),
        ("gb18030", "é漢😀"), ("shift_jis", "漢ソ表"), ("euc-kr", "한글"), ("big5", "漢功許"),
        ("koi8-r", "Ж"), ("gbk", "漢"),
    ],
)  # fmt: skip
def test_an_encoding_that_is_named(encoding: str, text: str) -> None:
    codec = check_encoding(encoding)
    body = f'a,b\r\n"{text}\r\n",{text}\r\n'.encode(codec)
    assert rows_of(body, csv_dialect(encoding=codec, repeat_header=False)) == (f'"{text}\r\n",{text}\n'.encode(), 1)


@pytest.mark.parametrize(
    "encoding", ["", "utf-7", "hz", "iso2022_jp", "punycode", "idna", "rot13", "cp037", "base64", "\0", "x" * 999]
)
def test_an_encoding_that_is_not_supported(encoding: str) -> None:
    with pytest.raises(BadRequest, match="is not supported"):
        check_encoding(encoding)


@pytest.mark.parametrize(
    ("body", "encoding", "where"),
    [
        (b"a\nb\nc\x81\n", "cp1252", r"row 1, byte 5 of the body: b'\\x81' is not valid cp1252"),
        ("a\nb\n".encode("utf-16-le") + b"\0\xd8c\0", "utf-16-le", "row 1, byte 8 of the body"),
        ("a\nb\nc".encode("utf-16-le") + b"\0", "utf-16-le", "row 1, byte 10 of the body"),
        (b"a\r\r\nb\r\r\n\xed\xa0\x80\r\n", "utf-8", "row 3, byte 8 of the body"),
        (b"a\nb\nc\0\n", "utf-8", "row 1, byte 5 of the body: a NUL byte"),
        ("a,b\nc,漢\0".encode("gbk"), "gbk", "row 0, byte 8 of the body: a NUL byte"),
        ('a,b\nc,漢\n\n"漢\nx'.encode("gbk"), "gbk", "row 1, which begins at byte 10 of the body: a quote is opened"),
    ],
)
def test_what_is_no_text_is_refused_with_row_and_byte_of_the_body(body: bytes, encoding: str, where: str) -> None:
    with pytest.raises(BadInput, match=where):
        rows_of(body, csv_dialect(encoding=encoding))


def test_comments_and_lines_before_the_header() -> None:
    body = b'"made by\nx\r#c\ra;b\n#1;"2\n3;4 #no\n"#";5\n'
    dialect = csv_dialect(";", comment="#", skip_rows=2, repeat_header=False)
    assert rows_of(body, dialect) == (b'3;4 #no\n"#";5\n', 2)
    with pytest.raises(BadInput, match="no more than the skip_rows=9 lines"):
        rows_of(body, csv_dialect(skip_rows=9))


def test_another_quote_or_none() -> None:
    assert rows_of(b"a,b\n'x\ny',\"2\n", csv_dialect(quote="'", repeat_header=False)) == (b"'x\ny',\"2\n", 1)
    assert rows_of(b'a,b\n"x\ny",2\n', csv_dialect(quote=None, repeat_header=False)) == (b'"x\ny",2\n', 2)


@pytest.mark.parametrize(
    "wrong", [{"quote": ","}, {"comment": '"'}, {"comment": "ab"}, {"quote": "é"}, {"skip_rows": -1}]
)
def test_options_that_cannot_be(wrong: dict[str, str]) -> None:
    with pytest.raises(BadRequest):
        csv_dialect(**wrong)  # type: ignore[arg-type]


def test_the_header_is_checked_as_utf8_with_one_line_end_and_stands_in_each_shard_only_if_wanted() -> None:
    seen: list[bytes] = []
    for repeat in (True, False):
        splitter = TextRowSplitter(
            SplitRequest(1024), csv_dialect(repeat_header=repeat, encoding="cp1252"), seen.append
        )
        pieces = [*splitter.feed(b"\xe4,b\r" + b"1,2\r" * 2000), *splitter.finish()]
        assert len(pieces) > 5
        assert all(piece.payload.startswith("ä,b\n".encode()) is repeat for piece in pieces)
    assert seen == ["ä,b\n".encode()] * 2


@pytest.mark.parametrize(
    ("body", "payload", "rows"),
    [
        (b"", b"", 0),
        (b"\xef\xbb\xbf\r\n \t\n", b"", 0),
        (b'\xef\xbb\xbf{"a":1}\r\n\r\n \n{"a":\r2}', b'{"a":1}\n{"a":\r2}\n', 2),
        (b'{"a":"x\ry"}\n', b'{"a":"x\ry"}\n', 1),
    ],
)
def test_ndjson(body: bytes, payload: bytes, rows: int) -> None:
    assert rows_of(body, NDJSON) == (payload, rows)


@pytest.mark.parametrize(
    ("body", "dialect"), [(b"", CSV), (b"\n\r\n", CSV), (b"#\n", csv_dialect(comment="#")), (b"", LINES)]
)
def test_nothing_is_refused(body: bytes, dialect: Dialect) -> None:
    with pytest.raises(BadInput, match="the body is empty"):
        rows_of(body, dialect)


def zipped(name: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, "application/vnd.oasis.opendocument.spreadsheet")
    return out.getvalue()


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (zipped("sales.csv"), "a ZIP archive: unpack it"), (zipped("[Content_Types].xml"), "an Excel workbook"),
        (zipped("xl/workbook.xml"), "an Excel workbook"), (zipped("mimetype"), "an OpenDocument spreadsheet"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(60), "an old Excel workbook"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "a 7z archive"),
        (b"Rar!\x1a\x07\x01\0", "a RAR archive"), (b"\x04\x22\x4d\x18", "an LZ4 file"), (b"PAR1\x15\x04", "a Parquet file"),
        (b"%PDF-1.7\n", "a PDF document"), (b"\n<!DOCTYPE html>\n", "an HTML page"), (b"<html lang=en>", "an HTML page"),
        (b"BZh91AY&SY", "a bzip2 file"), (b"\xfd7zXZ\0", "an xz file"), (b"\x1f\x8b\x08", "a gzip file"),
    ],
)  # fmt: skip
def test_other_formats_are_refused_by_name(head: bytes, name: str) -> None:
    assert (describe(head[:64]) or "").startswith(name)
    with pytest.raises(BadInput, match=f"this is not text but {name}"):
        rows_of(head)


@pytest.mark.parametrize(
    "head", [b"", b"PAR1,PAR2\n1,2\n", b"BZh,x\n", b"PK,name\n", b"a<html>\n", b"Rar!,x", b'[{"a":1}]']
)
def test_a_text_that_begins_like_another_format_is_a_text(head: bytes) -> None:
    assert describe(head) is None
