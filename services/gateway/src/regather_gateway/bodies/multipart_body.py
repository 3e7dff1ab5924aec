"""Reads a multipart/form-data body (RFC 7578) while it arrives: one file, optionally after a small side file."""

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from regather.core.errors import BadInput
from regather.processors.base import Side
from regather_gateway.admission import ReserveRoom
from regather_gateway.bodies.base import MAX_FIELD_BYTES

_MAX_FIELDS = 32
_MAX_HEADER_BYTES = 8 * 1024


_SIDE = "side"
_OCTETS = b"application/octet-stream"


class MultipartBody:
    """Reads the part with a file name as the input, and all other parts as small text fields.

    With `side_bytes` the form may also have a part `side` with a file name, of at most that many bytes. It must come
    first: the input is cut while it arrives, and the splitter needs the whole side file for that.
    """

    def __init__(
        self, content_type: str, *, side_bytes: int = 0, reserve_room: ReserveRoom = lambda size_bytes: None
    ) -> None:
        _, parameters = parse_options_header(content_type)
        boundary = parameters.get(b"boundary")
        if not boundary:
            raise BadInput("Content-Type multipart/form-data has no boundary parameter", code="multipart-invalid")
        self.fields: dict[str, object] = {}
        self.content_type: str | None = None
        self._side_bytes = side_bytes
        self._reserve_room = reserve_room
        self._side: bytearray | None = None
        self._side_type = ""
        self._file_seen = False
        self._in_file = self._in_side = False
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

    def pop_side(self) -> Side | None:
        """Return the side file and release its memory; None without one. It is whole once feed() has returned input."""
        if self._side is None:
            return None
        side, self._side = Side(bytes(self._side), self._side_type), bytearray()
        return side

    def feed(self, chunk: bytes) -> bytes:
        """Read the next bytes of the request; return the bytes of the input file among them."""
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise BadInput(f"the multipart body is malformed: {error}", code="multipart-invalid") from error
        found, self._found = self._found, []
        return found[0] if len(found) == 1 else b"".join(found)

    def finish(self) -> bytes:
        """Check that the body has its last boundary and an input file."""
        if not self._ended:
            raise BadInput("the multipart body ends before its last boundary", code="multipart-invalid")
        if not self._file_seen:
            more = " beside `side`" if self._side is not None else ""
            raise BadInput(f"the multipart body has no part with a file name{more}", code="multipart-invalid")
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
        name = disposition.get(b"name", b"").decode(errors="replace")
        is_file = b"filename" in disposition
        self._in_side = is_file and name == _SIDE and self._side_bytes > 0
        self._in_file = is_file and not self._in_side
        if not is_file:
            self._begin_field(name)
        elif self._in_side:
            self._begin_side()
        else:
            self._begin_file(name)

    def _begin_file(self, name: str) -> None:
        if self._file_seen:
            why = "submit each as a job"
            if name == _SIDE:
                why = "this kind takes no side file"
            elif self._side_bytes:
                why = "a side file must be called `side` and come first"
            raise BadInput(f"the multipart body has more than one file; {why}", code="multipart-invalid")
        self._file_seen = True
        self.content_type = self._headers.get(b"content-type", _OCTETS).decode("latin-1")

    def _begin_side(self) -> None:
        if self._side is not None:
            raise BadInput("the multipart body has two files called `side`", code="multipart-invalid")
        if self._file_seen:
            raise BadInput(
                "the file `side` comes after the input file; send it first, because the input is cut while it arrives",
                code="multipart-invalid",
            )
        self._side = bytearray()
        self._side_type = self._headers.get(b"content-type", _OCTETS).decode("latin-1")

    def _begin_field(self, name: str) -> None:
        if len(self.fields) == _MAX_FIELDS:
            raise BadInput(f"the multipart body has more than {_MAX_FIELDS} fields", code="multipart-invalid")
        if name == _SIDE and self._side_bytes:
            raise BadInput("the part `side` has no file name; send it as a file", code="multipart-invalid")
        self._field = name

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._found.append(data[start:end])
            return
        if self._in_side and self._side is not None:
            self._extend_side(self._side, data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > MAX_FIELD_BYTES:
            raise BadInput(f"field {self._field!r} is longer than {MAX_FIELD_BYTES} bytes", code="field-too-long")

    def _on_part_end(self) -> None:
        if self._in_side:
            self._check_side()
        elif not self._in_file:
            self.fields[self._field] = self._text.decode(errors="replace")

    def _extend_side(self, side: bytearray, data: bytes) -> None:
        if len(side) + len(data) > self._side_bytes:
            raise BadInput(
                f"the file `side` is longer than {self._side_bytes} bytes, the limit of this kind",
                code="side-too-large",
            )
        self._reserve_room(len(data))
        side += data

    def _check_side(self) -> None:
        if not self._side:
            raise BadInput("the file `side` is empty", code="empty-body")

    def _on_end(self) -> None:
        self._ended = True
