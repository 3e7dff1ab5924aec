"""How much memory the side files of all uploads together may take."""

import contextlib
from collections.abc import Callable, Iterator

from regather_gateway.problems import Problem

_RETRY_AFTER_S = 2
TakeRoom = Callable[[int], None]


class SideRoom:
    """Bytes that are free for side files. A side file is held, whole or packed, as long as its upload goes on."""

    def __init__(self, max_bytes: int) -> None:
        self._free_bytes = max_bytes

    @contextlib.contextmanager
    def enter(self) -> Iterator[TakeRoom]:
        """Inside the block the yielded function takes room for more bytes of one upload; Problem 503 if there is none."""
        taken_bytes = 0

        def take(size_bytes: int) -> None:
            nonlocal taken_bytes
            if size_bytes > self._free_bytes:
                detail = "the side files of other uploads take all the room there is (REGATHER_ALL_SIDES_BYTES)"
                raise Problem(503, "busy", detail, retry_after_s=_RETRY_AFTER_S)
            self._free_bytes -= size_bytes
            taken_bytes += size_bytes

        try:
            yield take
        finally:
            self._free_bytes += taken_bytes
