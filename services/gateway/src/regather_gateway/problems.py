"""The error that any part may raise to answer a request: a status, a stable code, and a text that says what to do."""

_BROKER_RETRY_S = 2


class Problem(Exception):
    """An error answer. `code` is stable for programs; `detail` says what was wrong and what to do."""

    def __init__(
        self, status: int, code: str, detail: str, *, retry_after_s: int | None = None, **extensions: object
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.extensions = extensions

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        return {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}


def unconfirmed(error: BaseException) -> str:
    """Describe an unconfirmed write; our own time-outs carry no message."""
    return str(error) or "no ack in time"


def broker_unavailable(detail: str, *, code: str = "broker-unavailable", **extensions: object) -> Problem:
    """Return a 503 for a Kafka that does not answer: the client should retry later."""
    return Problem(503, code, detail, retry_after_s=_BROKER_RETRY_S, **extensions)
