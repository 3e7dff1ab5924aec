"""The memory limit for the side files of all uploads together."""

import contextlib
from collections.abc import Callable, Iterator

from regather_gateway.problems import Problem

_RETRY_AFTER_S = 2
TakeRoom = Callable[[int], None]


class SideRoom:
    """Counts the bytes free for side files. A side file stays in memory, plain or packed, during its upload."""

    def __init__(self, max_bytes: int) -> None:
        self._free_bytes = max_bytes

    @contextlib.contextmanager
    def enter(self) -> Iterator[TakeRoom]:
        """Yield a function that reserves bytes for one upload until the block ends; Problem 503 if too few are free."""
        taken_bytes = 0

        def take(size_bytes: int) -> None:
            nonlocal taken_bytes
            if size_bytes > self._free_bytes:
                detail = "the side files of running uploads use all memory for them (REGATHER_ALL_SIDES_BYTES); retry"
                raise Problem(503, "busy", detail, retry_after_s=_RETRY_AFTER_S)
            self._free_bytes -= size_bytes
            taken_bytes += size_bytes

        try:
            yield take
        finally:
            self._free_bytes += taken_bytes
