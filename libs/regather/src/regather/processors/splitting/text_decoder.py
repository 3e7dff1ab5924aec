"""Decodes text of any supported encoding to UTF-8 while it arrives; refuses bytes that are not text and says where.

A byte order mark overrides the encoding option and is dropped. NUL is refused: text does not contain it, and UTF-16
without a byte order mark is full of it.
"""

import codecs

from regather.core.errors import BadRequest
from regather.processors.splitting.magic import describe

UTF8 = "utf-8"
_HEAD_BYTES = 64
_BOMS = (  # UTF-32's little-endian mark begins with UTF-16's
    (b"\xef\xbb\xbf", UTF8),
    (b"\xff\xfe\0\0", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
# In these, each byte or pair of bytes means the same at any position, and LF and CR are the same as in ASCII.
_STATELESS = """
ascii utf-8 utf-16-le utf-16-be utf-32-le utf-32-be
iso8859-1 iso8859-2 iso8859-3 iso8859-4 iso8859-5 iso8859-6 iso8859-7 iso8859-8 iso8859-9 iso8859-10 iso8859-11
iso8859-13 iso8859-14 iso8859-15 iso8859-16
cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 cp437 cp720 cp737 cp775 cp850 cp852 cp855 cp857
cp858 cp860 cp861 cp862 cp863 cp864 cp865 cp866 cp869 cp874 cp1125 koi8-r koi8-u koi8-t kz1048 mac-roman
mac-cyrillic mac-greek mac-iceland mac-latin2 mac-turkish tis-620
gb2312 gbk gb18030 big5 cp950 shift_jis cp932 euc_jp euc_kr cp949 johab
"""
_NATIVE = {"utf-16": "utf-16-le", "utf-32": "utf-32-le", "utf-8-sig": UTF8}  # unless a byte order mark says otherwise


def check_encoding(name: str) -> str:
    """Return the codec name of an encoding, given by any of its names; BadRequest if it is not supported."""
    try:
        codec = codecs.lookup(name.strip()).name
    except (LookupError, ValueError, UnicodeError):
        codec = ""
    codec = _NATIVE.get(codec, codec)
    if codec not in _CODECS:
        raise BadRequest(
            f"encoding is {name[:40]!r}, which is not supported; among those supported are utf-8, utf-16, latin-1, "
            "cp1252, gb18030, shift_jis, euc-kr and big5",
            code="bad-encoding",
        )
    return codec


_CODECS = frozenset(codecs.lookup(name).name for name in _STATELESS.split())


def head_text(head: bytes, encoding: str = UTF8) -> str:
    """Return the text at a body's beginning, as far as it can be decoded; `encoding` comes from check_encoding()."""
    codec, head = _by_mark(head) or (encoding, head)
    return head.decode(codec, "ignore")


def _by_mark(head: bytes) -> tuple[str, bytes] | None:
    """Return the encoding that a byte order mark gives, and what follows the mark; None without a mark."""
    return next(((codec, head[len(mark) :]) for mark, codec in _BOMS if head.startswith(mark)), None)


class NotText(Exception):
    """A byte that is not text. `before` is the text between the text returned last and this byte, as UTF-8."""

    def __init__(self, before: bytes, byte: int, why: str, code: str = "not-utf8") -> None:
        super().__init__(why)
        self.before = before
        self.byte = byte
        self.why = why
        self.code = code


_ADVICE = "convert it to UTF-8, or, where the kind has it (table.etl, table.sql), set the option encoding"


class TextDecoder:
    """Decodes a body to UTF-8 without a byte order mark and without NUL. Raises NotText."""

    def __init__(self, encoding: str = UTF8) -> None:
        self._codec = encoding
        self._waiting = b""
        """The body's head until the encoding is known; then the bytes of an incomplete character."""
        self._decided = False
        self._fed_bytes = 0

    def feed(self, data: bytes) -> bytes:
        """Decode the next bytes of the body; return the text that is now complete."""
        self._fed_bytes += len(data)
        if not self._decided:
            data = self._waiting + data
            self._waiting = b""
            if len(data) < _HEAD_BYTES:
                self._waiting = data
                return b""
        return self._decode(data, final=False)

    def finish(self) -> bytes:
        """Return the last text."""
        return self._decode(b"", final=True)

    def byte_of(self, tail: bytes) -> int:
        """Return the byte of the body at which `tail` begins, the end of the text returned so far."""
        behind = self._fed_bytes - len(self._waiting)
        if self._codec == UTF8:
            return behind - len(tail)
        return behind - len(tail.decode().encode(self._codec))

    def positions(self, tail: bytes) -> "Positions":
        """Return a map from bytes of the body to positions in `tail`, the end of the text returned so far."""
        return Positions(tail, self._codec, self.byte_of(tail), self._fed_bytes - len(self._waiting))

    def _decode(self, data: bytes, *, final: bool) -> bytes:
        if self._waiting:
            data = self._waiting + data
            self._waiting = b""
        if not self._decided and data:
            data = self._decide(data)
        if self._codec == UTF8:
            return self._utf8(data, final=final)
        return self._other(data, final=final)

    def _decide(self, head: bytes) -> bytes:
        """Determine the encoding from the body's beginning; return what follows its byte order mark."""
        self._decided = True
        self._codec, head = _by_mark(head) or (self._codec, head)
        found = describe(head)
        if found is not None:
            raise NotText(b"", 0, f"this is not text but {found}", "not-text")
        return head

    def _utf8(self, data: bytes, *, final: bool) -> bytes:
        nul = data.find(b"\0")
        text = data if nul < 0 else data[:nul]
        if not text.isascii():
            try:
                _, whole = codecs.utf_8_decode(text, "strict", final or nul >= 0)
            except UnicodeDecodeError as error:
                raise self._not_text(data, error) from error
            if whole < len(text):
                self._waiting = text[whole:]
                text = text[:whole]
        if nul >= 0:
            raise self._nul(text, len(data) - nul)
        return text

    def _other(self, data: bytes, *, final: bool) -> bytes:
        decoder = codecs.getincrementaldecoder(self._codec)("strict")
        try:
            text = decoder.decode(data, final)
        except UnicodeDecodeError as error:
            raise self._not_text(data, error) from error
        waiting = decoder.getstate()[0]
        self._waiting = waiting
        nul = text.find("\0")
        if nul >= 0:
            raise self._nul(text[:nul].encode(), len(text[nul:].encode(self._codec)))
        return text.encode()

    def _nul(self, before: bytes, left_bytes: int) -> NotText:
        byte = self._fed_bytes - len(self._waiting) - left_bytes
        why = f"a NUL byte, which no text has; if the body is UTF-16, {_ADVICE}=utf-16"
        return NotText(before, byte, why, "nul-byte")

    def _not_text(self, data: bytes, error: UnicodeDecodeError) -> NotText:
        byte = self._fed_bytes - len(data) + error.start
        wrong = data[error.start : error.start + 1]
        name = "UTF-8" if self._codec == UTF8 else self._codec
        before = data[: error.start].decode(self._codec).encode()
        return NotText(before, byte, f"{wrong!r} is not valid {name} ({error.reason}); {_ADVICE}")


class Positions:
    """Maps bytes of the body to positions in the text decoded from it; must be asked in ascending order."""

    def __init__(self, text: bytes, codec: str, first_byte: int, end_byte: int) -> None:
        self._codec = codec
        self._first_byte = first_byte
        self._end_byte = end_byte
        self._body = b"" if codec == UTF8 else text.decode().encode(codec)
        self._body_at = self._text_at = 0

    def of(self, byte: int) -> tuple[int, bool] | None:
        """Return how much of the text is complete before this byte of the body, and whether nothing else precedes the byte.

        None if the text ends before this byte.
        """
        if byte > self._end_byte:
            return None
        at = byte - self._first_byte
        if self._codec == UTF8:
            return at, True
        part = self._body[self._body_at : at].decode(self._codec, "ignore")
        self._body_at += len(part.encode(self._codec))
        self._text_at += len(part.encode())
        return self._text_at, self._body_at == at
