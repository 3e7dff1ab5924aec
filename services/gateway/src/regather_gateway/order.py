"""A checked order for one job."""

from dataclasses import dataclass, replace
from typing import Any

from regather.core.model import OnError
from regather.processors.base import FileSplitter, Processor, SplitRequest, Splitter


@dataclass(frozen=True, slots=True)
class JobOrder:
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

    def splitter(self, head: bytes | None = None) -> Splitter | FileSplitter:
        """Make a fresh splitter for a body that begins so; without, to check the order. BadRequest, BadInput."""
        return self.processor.splitter(self.options, replace(self.split, head=head))
