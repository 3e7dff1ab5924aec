"""Detects jumps of the brokers' clock, which make deadlines pass too early. Source: docs/protocol.md#deadlines."""

MOST_JUMP_MS = 60_000


class ClockJumpDetector:
    """Mutable, without IO. Pass it each append time when the write is confirmed, not when the record is read."""

    def __init__(self) -> None:
        self._ahead_ms: float | None = None
        """The furthest that the log's time was ahead of the local clock; the two clocks need no common zero."""

    def jump_ms(self, append_ms: int, now_ms: float) -> int:
        """Return how far the log's time jumped ahead of `now_ms`, a monotonic clock; 0 for up to a minute.

        A late confirmation makes the log seem to lag. Neither that nor the next confirmation in time counts as a jump.
        """
        before, ahead_ms = self._ahead_ms, append_ms - now_ms
        self._ahead_ms = ahead_ms if before is None else max(before, ahead_ms)
        return int(ahead_ms - before) if before is not None and ahead_ms - before > MOST_JUMP_MS else 0
