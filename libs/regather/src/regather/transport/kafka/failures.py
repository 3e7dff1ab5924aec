"""From the client's errors to ours, and a time limit around every call."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import TypeVar

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
    (ProducerDead, (client_errors.OutOfOrderSequenceNumber, client_errors.IllegalOperation, AssertionError)),
)


def translate(error: BaseException) -> TransportError:
    """Our error for one of the client's. What is not known is an outcome that is not known: BrokerUnavailable."""
    if isinstance(error, TransportError):
        return error
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


async def stopped(call: Awaitable[object]) -> None:
    """Await a client's stop within a limit; what goes wrong is logged, for there is nobody left to tell."""
    task = asyncio.ensure_future(call)  # a task of its own, because some clients let their own cancellations out
    await asyncio.wait([task], timeout=STOP_TIMEOUT_S)
    if not task.done():
        task.cancel()
        _log.warning("a Kafka client did not stop within %s s", STOP_TIMEOUT_S)
    elif not task.cancelled() and task.exception() is not None:
        _log.warning("a Kafka client did not stop cleanly: %r", task.exception())
