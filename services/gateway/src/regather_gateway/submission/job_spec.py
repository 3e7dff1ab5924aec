"""A client's request for a job, and its specification: all that can be refused is, before the body's first byte."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from starlette.datastructures import QueryParams

from regather.core.errors import BadRequest
from regather.core.model import Identity, OnError, Opened
from regather.core.sharding import check_shard_size
from regather.processors.base import FileSplitter, Processor, Side, SplitRequest, Splitter
from regather.processors.registry import Registry, options_json, parse_options
from regather_gateway.settings import GatewaySettings

TENANT = ""
"""The only tenant, as long as there is no authentication."""

_OPTION = "option."


@dataclass(frozen=True, slots=True)
class SubmitRequest:
    """A client's request for a job; None means that the client gave no value."""

    kind: str
    options: Mapping[str, object] = field(default_factory=dict)
    shard_size: int | None = None
    shards: int | None = None
    timeout_s: float | None = None
    deadline_s: float | None = None
    on_error: OnError = OnError.FAIL
    max_failed_count: int | None = None
    max_failed_pct: float | None = None
    label: str = ""
    content_type: str = "application/octet-stream"
    size_bytes: int | None = None
    key: str | None = None
    digest: bytes | None = None


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


def make_spec(asked: SubmitRequest, registry: Registry, settings: GatewaySettings) -> JobSpec:
    """Check a request and return its spec; BadRequest says what is wrong."""
    processor = registry.require(asked.kind)
    if asked.shard_size is not None and asked.shards is not None:
        raise BadRequest("shard_size and shards exclude each other; give one of them", code="bad-split")
    if asked.shard_size is not None:
        check_shard_size(asked.shard_size)
    if asked.on_error is OnError.FAIL and (asked.max_failed_count, asked.max_failed_pct) != (None, None):
        raise BadRequest(
            "max_failed_count and max_failed_pct need on_error=skip; with on_error=fail one failed shard ends the job"
        )
    deadline_s = settings.default_deadline_s if asked.deadline_s is None else asked.deadline_s
    if deadline_s > settings.max_deadline_s:
        raise BadRequest(f"deadline_s is {deadline_s:g}, above the limit of {settings.max_deadline_s:g}")
    timeout_s = settings.default_timeout_s if asked.timeout_s is None else asked.timeout_s
    options = parse_options(processor, asked.options)
    spec = JobSpec(
        kind=asked.kind,
        processor=processor,
        options=options,
        options_json=options_json(options),
        split=SplitRequest(
            shard_size_bytes=asked.shard_size,
            shards=asked.shards,
            size_bytes=asked.size_bytes,
            content_type=asked.content_type,
            max_bytes=settings.max_body_bytes,
            max_result_bytes=settings.max_result_bytes,
        ),
        timeout_ms=round(timeout_s * 1000),
        deadline_ms=round(deadline_s * 1000),
        on_error=asked.on_error,
        max_failed=asked.max_failed_count,
        max_failed_pct=asked.max_failed_pct,
        label=asked.label,
        key=asked.key,
        digest=asked.digest,
    )
    spec.splitter()  # refuses options and sizes with which no body can be cut
    return spec


def check_parameters(query: QueryParams, known: frozenset[str]) -> None:
    """Raise BadRequest for an unknown or repeated parameter of a request without options."""
    for name in query:
        if name not in known:
            raise _unknown(name, ", ".join(sorted(known)))
        if len(query.getlist(name)) > 1:
            raise BadRequest(f"{name} is given twice", code="invalid-parameter")


def options_of(query: QueryParams, known: frozenset[str]) -> dict[str, str]:
    """Return the `option.NAME=value` of a query; BadRequest for an unknown parameter or a repeated option."""
    options: dict[str, str] = {}
    for name, value in query.multi_items():
        if not name.startswith(_OPTION):
            if name not in known:
                raise _unknown(name, f"{', '.join(sorted(known))} and option.NAME")
            continue
        option = name.removeprefix(_OPTION)
        if option in options:
            raise BadRequest(f"{name} is given twice", code="bad-option")
        options[option] = value
    return options


def _unknown(name: str, known: str) -> BadRequest:
    return BadRequest(f"unknown parameter {name!r}; known are {known}", code="unknown-parameter")
