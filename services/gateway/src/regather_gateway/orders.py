"""From what a client wrote to a checked order: everything that can be refused before the first byte of the body is."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.datastructures import QueryParams

from regather.core.errors import BadRequest
from regather.core.model import OnError
from regather.core.sharding import check_shard_size
from regather.processors.base import SplitRequest
from regather.processors.registry import Registry, options_json, parse_options
from regather_gateway.order import JobOrder
from regather_gateway.settings import GatewaySettings

_OPTION = "option."


@dataclass(frozen=True, slots=True)
class Wish:
    """A job as the client asked for it; None means that the client said nothing."""

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


def make_order(wish: Wish, registry: Registry, settings: GatewaySettings) -> JobOrder:
    """Check a wish; BadRequest names what is wrong with it."""
    processor = registry.require(wish.kind)
    if wish.shard_size is not None and wish.shards is not None:
        raise BadRequest("shard_size and shards exclude each other; give one of them", code="bad-split")
    if wish.shard_size is not None:
        check_shard_size(wish.shard_size)
    if wish.on_error is OnError.FAIL and (wish.max_failed_count, wish.max_failed_pct) != (None, None):
        raise BadRequest(
            "max_failed_count and max_failed_pct are for on_error=skip; with fail one dead shard is enough"
        )
    deadline_s = settings.default_deadline_s if wish.deadline_s is None else wish.deadline_s
    if deadline_s > settings.max_deadline_s:
        raise BadRequest(f"deadline_s is {deadline_s:g}, above the limit of {settings.max_deadline_s:g}")
    timeout_s = settings.default_timeout_s if wish.timeout_s is None else wish.timeout_s
    options = parse_options(processor, wish.options)
    order = JobOrder(
        kind=wish.kind,
        processor=processor,
        options=options,
        options_json=options_json(options),
        split=SplitRequest(
            shard_size_bytes=wish.shard_size,
            shards=wish.shards,
            size_bytes=wish.size_bytes,
            content_type=wish.content_type,
            max_bytes=settings.max_body_bytes,
            max_result_bytes=settings.max_result_bytes,
        ),
        timeout_ms=round(timeout_s * 1000),
        deadline_ms=round(deadline_s * 1000),
        on_error=wish.on_error,
        max_failed=wish.max_failed_count,
        max_failed_pct=wish.max_failed_pct,
        label=wish.label,
        key=wish.key,
        digest=wish.digest,
    )
    order.splitter()  # refuses a cut that cannot be
    return order


def check_parameters(query: QueryParams, known: frozenset[str]) -> None:
    """BadRequest for a parameter that nobody knows or that is repeated, where there are no options."""
    for name in query:
        if name not in known:
            raise _unknown(name, ", ".join(sorted(known)))
        if len(query.getlist(name)) > 1:
            raise BadRequest(f"{name} is given twice", code="invalid-parameter")


def options_of(query: QueryParams, known: frozenset[str]) -> dict[str, str]:
    """Return the `option.NAME=value` of a query; BadRequest for a parameter that nobody knows or that is repeated."""
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
