"""How a decoder's refusal is said: in our words, with the format and the place, never in the library's.

A library's message may name a path of the server, or come from the file of another client.
"""

from regather.core.errors import BadInput


def damaged(name: str, what: str) -> BadInput:
    """Return the refusal of a file of the format `name` that cannot be decoded because of `what`."""
    return BadInput(f"the {name} file cannot be decoded: {what}", code="image-invalid")


def unsupported(name: str, what: str, remedy: str) -> BadInput:
    """Return the refusal of a sound file of the format `name` that has `what`; `remedy` is what helps."""
    return BadInput(f"the {name} file has {what}, which is not taken; {remedy}", code="image-unsupported")
