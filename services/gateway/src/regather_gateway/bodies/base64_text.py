"""Decodes base64 (RFC 4648, section 4) that arrives in pieces of any size."""

import binascii

from regather.core.errors import BadInput

_WHITESPACE = b" \t\r\n"
_QUANTUM = 4


class Base64Decoder:
    """Decodes text that may be cut anywhere. Skips white space, requires padding, refuses any other character."""

    def __init__(self, field: str) -> None:
        self._field = field
        self._rest = b""
        self._padded = False
        self._decoded_chars = 0

    def feed(self, text: bytes) -> bytes:
        """Return the bytes of all groups of four characters that are complete now."""
        text = self._rest + text.translate(None, _WHITESPACE)
        cut = len(text) - len(text) % _QUANTUM
        block, self._rest = text[:cut], text[cut:]
        if self._padded and text:
            raise self._wrong("there is text after the padding")
        if not block:
            return b""
        self._padded = block.endswith(b"=")
        try:
            decoded = binascii.a2b_base64(block, strict_mode=True)
        except binascii.Error as error:
            raise self._wrong(str(error)) from error
        self._decoded_chars += cut
        return decoded

    def finish(self) -> bytes:
        """Check that no group is incomplete."""
        if self._rest:
            raise self._wrong(f"the last group has {len(self._rest)} of {_QUANTUM} characters (padding is required)")
        return b""

    def _wrong(self, why: str) -> BadInput:
        return BadInput(
            f"{self._field} is not valid base64 after character {self._decoded_chars} (white space not counted): {why}",
            code="base64-invalid",
        )
