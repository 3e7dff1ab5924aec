"""Words a decoder's refusal: our own text, with the format and the place, never the library's message.

A library's message may contain a path of the server, or be about the file of another client.
"""

from regather.core.errors import BadInput


def damaged(name: str, what: str) -> BadInput:
    """Return the refusal of a file of the format `name` that cannot be decoded because of `what`."""
    return BadInput(f"the {name} file cannot be decoded: {what}", code="image-invalid")


def unsupported(name: str, what: str, remedy: str) -> BadInput:
    """Return the refusal of an undamaged file of the format `name` that has `what`; `remedy` says what to do."""
    return BadInput(f"the {name} file has {what}, which is not supported; {remedy}", code="image-unsupported")
