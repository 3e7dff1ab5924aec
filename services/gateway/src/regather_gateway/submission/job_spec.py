"""The specification of one job: the client's request, checked."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

from regather.core.model import Identity, OnError, Opened
from regather.processors.base import FileSplitter, Processor, Side, SplitRequest, Splitter

TENANT = ""
"""The only tenant, as long as there is no authentication."""


@dataclass(frozen=True, slots=True)
class Beside:
    """The other content of a form: the side file, if there was one, and the body's media type."""

    side: Side | None
    content_type: str


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A checked request: from now on only the body can be refused."""

    kind: str
    processor: Processor[Any]
    options: Any
    options_json: bytes
    split: SplitRequest
    timeout_ms: int
    deadline_ms: int
    on_error: OnError = OnError.FAIL
    max_failed: int | None = None
    max_failed_pct: float | None = None
    label: str = ""
    key: str | None = None
    digest: bytes | None = None
    """SHA-256 that the client announced for the whole input."""
    beside: Callable[[], Beside] | None = None
    """For forms: returns the content before the body, once the body's first bytes have been read."""

    def begun(self) -> Self:
        """Return the spec with the side file; call it once the body's first bytes have been read."""
        found = self.beside() if self.beside else None
        if found is None or found.side is None:
            return self
        return replace(self, split=replace(self.split, side=found.side, content_type=found.content_type))

    def splitter(self, head: bytes | None = None) -> Splitter | FileSplitter:
        """Return a new splitter for a body that begins with `head`; without `head` only to check the spec.

        Raises BadRequest or BadInput.
        """
        return self.processor.splitter(self.options, replace(self.split, head=head))

    def opened(self, owner: Identity) -> Opened:
        """Return the event that opens this job as `owner`."""
        return Opened(
            owner,
            kind=self.kind,
            options=self.options_json,
            tenant=TENANT,
            deadline_ms=self.deadline_ms,
            on_error=self.on_error,
            label=self.label,
            chained=self.processor.chained,
            max_failed=self.max_failed,
            max_failed_pct=self.max_failed_pct,
        )
