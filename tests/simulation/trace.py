"""A run as people read it: who did what when, with the records that were written and what the services logged."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import structlog

from regather.core.errors import WireError
from regather.core.model import Event, Opened, Outcomes
from regather.testing.simulation.event_loop import current_process
from regather.testing.simulation.history import History, Moment
from regather.testing.simulation.logs import Logs
from regather.topics.layout import Topics
from regather.transport.base import Record, TopicPartition
from regather.wire.control import decode_ended
from regather.wire.documents import decode_final, decode_status
from regather.wire.events import decode_event
from regather.wire.shards import decode_shard


def silence(*, cached: bool = True) -> None:
    """Let services log nothing: a run writes thousands of lines. `cached`: nor will they ever, in this process."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL), cache_logger_on_first_use=cached
    )


def listen(history: History) -> None:
    """Let what services log become part of the history."""

    def note(_logger: Any, level: str, event: dict[str, Any]) -> dict[str, Any]:
        words = [f"{name}={value}" for name, value in event.items() if name not in ("event", "exc_info")]
        history.note(current_process().name, f"log {level}", event["event"], *words)
        raise structlog.DropEvent

    structlog.configure(processors=[note], wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))


def lines(history: History, logs: Logs) -> Iterator[str]:
    """Every moment as a line."""
    for moment in history.moments:
        yield f"{moment.at_s:9.4f}  {moment.process:12} {moment.what:12} {_details(moment, logs)}"


def _details(moment: Moment, logs: Logs) -> str:
    if moment.what == "append":
        topic, partition, offset = moment.details
        tp = TopicPartition(str(topic), int(str(partition)))
        return f"{tp.topic}-{tp.partition}@{offset} {describe(logs.log(tp).entry(int(str(offset))))}"
    return " ".join(map(str, moment.details))


def describe(record: Record | None) -> str:
    """Say in a few words what a record says."""
    if record is None:
        return "(marker)"
    topics = Topics()
    try:
        if record.topic == topics.job_events:
            return _describe_event(decode_event(record.headers, record.value))
        if record.topic == topics.results:
            status = decode_final(record.headers)
            return (
                f"final {status.label} {_short(status.owner)} {status.state} {status.reason or ''} {record.value!r:.80}"
            )
        if record.topic == topics.job_status:
            status, _ = decode_status(record.headers, record.value)
            return f"{status.label} {_short(status.owner)} {status.state} {status.done}+{status.failed}/{status.total}"
        if record.topic == topics.control:
            return f"ended {_short(decode_ended(record.headers, record.value))}"
        if record.topic in (topics.shards_small, topics.shards_bulk, topics.shards_retry, topics.dead_letters):
            shard = decode_shard(record.headers, record.value)
            more = f" after {shard.delay_ms} ms" if shard.delay_ms else ""
            return f"{_short(shard.owner)} #{shard.seq} attempt {shard.attempt} {shard.payload!r}{more}"
    except WireError as error:
        return f"unreadable: {error}"
    return repr(record.value)[:80]


def _describe_event(event: Event) -> str:
    owner = getattr(event, "owner", None)
    who = f" {_short(owner)}" if owner else ""
    if isinstance(event, Outcomes):
        became = [f"#{o.seq} {o.failure.reason if o.failure else 'done'}" for o in event.outcomes]
        return f"outcomes{who} by {event.worker}: {', '.join(became)}"
    if isinstance(event, Opened):
        return f"opened{who} {event.label} {event.kind} {event.on_error} deadline {event.deadline_ms} ms"
    particulars: Mapping[str, object] = {
        name: getattr(event, name) for name in ("shards", "seq", "error") if hasattr(event, name)
    }
    return f"{type(event).__name__.lower()}{who} {' '.join(f'{name}={value}' for name, value in particulars.items())}"


def _short(owner: Any) -> str:
    return f"{owner.job_id[-6:]}/{owner.submission[:4]}/v{owner.version}"
