"""The log's time beside one's own: where it jumps ahead, deadlines pass too early. Source: docs/protocol.md#deadlines."""

MOST_JUMP_MS = 60_000


class ClockJumpDetector:
    """Mutable, without IO. Give it append times as they are confirmed, not as they are read."""

    def __init__(self) -> None:
        self._ahead_ms: float | None = None
        """The furthest that the log's time was ahead of one's own; where zero is does not matter."""

    def jump_ms(self, append_ms: int, now_ms: float) -> int:
        """How far the log's time has jumped ahead of `now_ms`, a clock that is never set; 0 for up to a minute.

        A confirmation that is late makes the log seem to lag behind, which is no jump; nor is the next one in time.
        """
        before, ahead_ms = self._ahead_ms, append_ms - now_ms
        self._ahead_ms = ahead_ms if before is None else max(before, ahead_ms)
        return int(ahead_ms - before) if before is not None and ahead_ms - before > MOST_JUMP_MS else 0
