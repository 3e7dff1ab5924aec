"""Limits for the pixels of a file: a decompression bomb is refused before its pixels are decoded."""

from regather.core.errors import BadInput
from regather.processors.base import Options
from regather.processors.splitting.inflate import MAX_RATIO
from regather.processors.splitting.rows import RowLayout

_FREE_BYTES = 64 * 1024 * 1024  # an image up to this size does no harm, however small its file is


def is_bomb(size_bytes: int, file_bytes: int) -> bool:
    """Whether this many bytes of pixels from a file of that size exceed the limit."""
    return size_bytes > max(_FREE_BYTES, MAX_RATIO * file_bytes)


def too_large(name: str, what: str) -> BadInput:
    """Return the refusal of a file that would need too much memory because of `what`."""
    return BadInput(f"the {name} file inflates too much: {what}; send the pixels raw", code="inflates-too-much")


def check_size(layout: RowLayout, file_bytes: int, max_bytes: int | None) -> None:
    """Refuse an image that is a bomb, or has more than `max_bytes` of pixels; BadInput."""
    height = layout.height or 0
    size_bytes = layout.row_bytes * height
    if is_bomb(size_bytes, file_bytes):
        raise BadInput(
            f"{layout.width} x {height} x {layout.channels} pixels out of {file_bytes} bytes are {size_bytes}, "
            f"above the limit of {MAX_RATIO} times; send them raw",
            code="inflates-too-much",
        )
    if max_bytes is not None and size_bytes > max_bytes:
        raise BadInput(f"the image has {size_bytes} bytes of pixels; at most {max_bytes}", code="inflates-too-much")


def check_options_agree(options: Options, layout: RowLayout) -> None:
    """Raise BadInput if the client set width, height, channels or dtype, and the file has another value."""
    for name in options.model_fields_set & {"width", "height", "channels", "dtype"}:
        asked, found = getattr(options, name), getattr(layout, name)
        if asked is not None and asked != found:
            raise BadInput(f"option {name} is {asked}, but the file says {found}")
