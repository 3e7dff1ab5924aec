"""A multipart/form-data body (RFC 7578) with one file, read while it arrives."""

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from regather.core.errors import BadInput
from regather_gateway.bodies.base import MAX_FIELD_BYTES

_MAX_FIELDS = 32
_MAX_HEADER_BYTES = 8 * 1024


class MultipartBody:
    """The one part with a file name is the input; all other parts are small fields of text."""

    def __init__(self, content_type: str) -> None:
        _, parameters = parse_options_header(content_type)
        boundary = parameters.get(b"boundary")
        if not boundary:
            raise BadInput("the content type multipart/form-data names no boundary", code="multipart-invalid")
        self.fields: dict[str, object] = {}
        self.content_type: str | None = None
        self._file_seen = False
        self._in_file = False
        self._ended = False
        self._found: list[bytes] = []
        self._header = (bytearray(), bytearray())
        self._headers: dict[bytes, bytes] = {}
        self._field = ""
        self._text = bytearray()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes of the request; the bytes of the file among them."""
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise BadInput(f"the multipart body is wrong: {error}", code="multipart-invalid") from error
        found, self._found = self._found, []
        return found[0] if len(found) == 1 else b"".join(found)

    def finish(self) -> bytes:
        """Check that the last boundary was seen and that there was a file."""
        if not self._ended:
            raise BadInput("the multipart body ends before its last boundary", code="multipart-invalid")
        if not self._file_seen:
            raise BadInput("the multipart body has no part with a file name", code="multipart-invalid")
        return b""

    def _on_part_begin(self) -> None:
        self._headers = {}
        self._text = bytearray()
        self._header = (bytearray(), bytearray())

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._extend_header(0, data[start:end])

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._extend_header(1, data[start:end])

    def _extend_header(self, side: int, data: bytes) -> None:
        self._header[side].extend(data)
        if len(self._header[side]) > _MAX_HEADER_BYTES:
            raise BadInput(f"a part's header is longer than {_MAX_HEADER_BYTES} bytes", code="multipart-invalid")

    def _on_header_end(self) -> None:
        name, value = self._header
        self._headers[bytes(name).lower()] = bytes(value)
        self._header = (bytearray(), bytearray())

    def _on_headers_finished(self) -> None:
        _, disposition = parse_options_header(self._headers.get(b"content-disposition"))
        self._in_file = b"filename" in disposition
        if not self._in_file:
            self._begin_field(disposition.get(b"name", b"").decode(errors="replace"))
            return
        if self._file_seen:
            raise BadInput("the multipart body has more than one file; submit each as a job", code="multipart-invalid")
        self._file_seen = True
        self.content_type = self._headers.get(b"content-type", b"application/octet-stream").decode("latin-1")

    def _begin_field(self, name: str) -> None:
        if len(self.fields) == _MAX_FIELDS:
            raise BadInput(f"the multipart body has more than {_MAX_FIELDS} fields", code="multipart-invalid")
        self._field = name

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._found.append(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > MAX_FIELD_BYTES:
            raise BadInput(f"field {self._field!r} is longer than {MAX_FIELD_BYTES} bytes", code="field-too-long")

    def _on_part_end(self) -> None:
        if not self._in_file:
            self.fields[self._field] = self._text.decode(errors="replace")

    def _on_end(self) -> None:
        self._ended = True
