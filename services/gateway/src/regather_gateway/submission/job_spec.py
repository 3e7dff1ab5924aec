"""One job as it will be run: what the client asked for, checked."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

from regather.core.model import Identity, OnError, Opened
from regather.processors.base import FileSplitter, Processor, Side, SplitRequest, Splitter

TENANT = ""
"""There is one tenant until there is authentication."""


@dataclass(frozen=True, slots=True)
class Beside:
    """What came with the body in a form: the side file, if there was one, and the body's own media type."""

    side: Side | None
    content_type: str


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What the client asked for, checked: after this only the body can be refused."""

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
    """For forms of kinds that take a side file: what stood before the body, known when the body's first bytes are."""

    def begun(self) -> Self:
        """Return the spec as it is once the body's first bytes are here."""
        found = self.beside() if self.beside else None
        if found is None or found.side is None:
            return self
        return replace(self, split=replace(self.split, side=found.side, content_type=found.content_type))

    def splitter(self, head: bytes | None = None) -> Splitter | FileSplitter:
        """Make a fresh splitter for a body that begins so; without, to check the spec. BadRequest, BadInput."""
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
