"""From the client's errors to ours, and a time limit around every call."""

import asyncio
import logging
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast

from aiokafka import errors as client_errors

from regather.core.errors import (
    AccessDenied,
    BrokerUnavailable,
    CommitRejected,
    Fenced,
    OffsetOutOfRange,
    ProducerDead,
    RecordTooLarge,
    TransportError,
)

T = TypeVar("T")
CALL_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0
_CUT_OFF_S = 2.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Time limits of the client's calls. When one has passed, the outcome is unknown and the client is thrown away.

    `ack_s` is above the producer's own limit of a request, after which it fails a record itself, as long as it lives. A
    poll may outlast its own time-out by `poll_slack_s`, for it waits while a rebalance is under way. A consumer to which
    nothing came for `silence_s` is asked whether there is something, and given up if so it stays. A client that has not
    stopped after `stop_s` is cut off. Consumers learn within `metadata_s` that a topic has grown.
    """

    call_s: float = CALL_TIMEOUT_S
    ack_s: float = 15.0
    poll_slack_s: float = 120.0
    silence_s: float = 30.0
    stop_s: float = STOP_TIMEOUT_S
    metadata_s: float = 30.0

    @property
    def request_ms(self) -> int:
        """The client's own limit of one request: below that of a call, for only the client can clean up after it."""
        return int(self.call_s * 1000 * 2 / 3)


_log = logging.getLogger(__name__)
_KINDS: tuple[tuple[type[TransportError], tuple[type[BaseException], ...]], ...] = (
    (Fenced, (client_errors.ProducerFenced, client_errors.InvalidProducerEpoch)),
    (RecordTooLarge, (client_errors.MessageSizeTooLargeError, client_errors.RecordListTooLargeError)),
    (OffsetOutOfRange, (client_errors.OffsetOutOfRangeError,)),
    (
        CommitRejected,
        (
            client_errors.CommitFailedError,
            client_errors.IllegalGenerationError,
            client_errors.UnknownMemberIdError,
            client_errors.RebalanceInProgressError,
            client_errors.IllegalStateError,
        ),
    ),
    (AccessDenied, (client_errors.TopicAuthorizationFailedError, client_errors.ClusterAuthorizationFailedError)),
    (
        ProducerDead,
        (
            client_errors.OutOfOrderSequenceNumber,
            client_errors.IllegalOperation,
            client_errors.ProducerClosed,
            AssertionError,
        ),
    ),
)


def translate(error: BaseException) -> TransportError:
    """Our error for one of the client's. What is not known is an outcome that is not known: BrokerUnavailable."""
    if isinstance(error, TransportError):
        return error
    if isinstance(error, TimeoutError) and not str(error):
        return BrokerUnavailable("Kafka did not answer within the time limit")
    for ours, theirs in _KINDS:
        if isinstance(error, theirs):
            return ours(str(error) or repr(error))
    return BrokerUnavailable(repr(error))


async def limited(call: Awaitable[T], *, timeout_s: float = CALL_TIMEOUT_S) -> T:
    """Await a call of the client within a limit; every error comes out as ours."""
    try:
        async with asyncio.timeout(timeout_s):
            return await call
    except Exception as error:  # the client raises Kafka, OS, assertion and time-out errors alike
        raise translate(error) from error


async def limited_where_it_waits(call: Coroutine[Any, Any, T], *, timeout_s: float) -> T:
    """As limited(), for calls that nearly always have their answer at once: then there is no timer, which costs more."""
    try:
        waits_for = call.send(None)
    except StopIteration as done:
        return cast("T", done.value)
    except Exception as error:
        raise translate(error) from error
    return await limited(_resumed(call, waits_for), timeout_s=timeout_s)


@types.coroutine
def _resumed(call: Coroutine[Any, Any, T], waits_for: Any) -> Generator[Any, Any, T]:
    """Go on with a coroutine that waits already."""
    while True:
        try:
            answer = yield waits_for
        except BaseException as error:
            step = partial(call.throw, error)
        else:
            step = partial(call.send, answer)
        try:
            waits_for = step()
        except StopIteration as done:
            return cast("T", done.value)


async def stopped(
    call: Awaitable[object], *, timeout_s: float = STOP_TIMEOUT_S, cut_off: Callable[[], Awaitable[None]] | None = None
) -> None:
    """Await a client's stop within a limit; what goes wrong is logged, for there is nobody left to tell.

    A client that takes longer is cut off: its tasks would go on for ever, heartbeats and all.
    """
    task = asyncio.ensure_future(call)  # a task of its own, because some clients let their own cancellations out
    await asyncio.wait([task], timeout=timeout_s)
    if not task.done():
        _log.warning("a Kafka client did not stop within %s s and is cut off", timeout_s)
        if cut_off is not None:
            await cut_off()
            await asyncio.wait([task], timeout=_CUT_OFF_S)
    if not task.done():
        task.cancel()
    elif not task.cancelled() and task.exception() is not None:
        _log.warning("a Kafka client did not stop cleanly: %r", task.exception())
